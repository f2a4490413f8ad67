#include "kvlab/runtime/verdict_words.h"

#include <cctype>

namespace kvlab {

namespace {

struct Word {
  std::string_view text;
  VerdictTone tone;
};

constexpr Word kWords[] = {{"faster", VerdictTone::better},
                           {"slower", VerdictTone::worse},
                           {"not distinguishable", VerdictTone::neutral},
                           {"refused", VerdictTone::refused}};

bool ends_word(std::string_view text, std::size_t place) {
  return place >= text.size() || std::isalnum(static_cast<unsigned char>(text[place])) == 0;
}

}  // namespace

std::vector<VerdictPlace> verdict_places(std::string_view text) {
  std::vector<VerdictPlace> places;
  for (std::size_t begin = 0; begin < text.size();) {
    for (const Word& word : kWords) {
      if (text.substr(begin, word.text.size()) == word.text &&
          ends_word(text, begin + word.text.size()))
        places.push_back({begin, word.text.size(), word.tone});
    }
    const std::size_t colon = text.find(": ", begin);
    if (colon == std::string_view::npos) break;
    begin = colon + 2;
  }
  return places;
}

}  // namespace kvlab
