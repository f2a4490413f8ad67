#include "kvlab/runtime/terminal_colour.h"

#include <unistd.h>

#include <cstdlib>
#include <string_view>

#include "kvlab/runtime/verdict_words.h"

namespace kvlab {

namespace {

std::string_view setting(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view() : std::string_view(value);
}

const char* colour_of(VerdictTone tone) {
  switch (tone) {
    case VerdictTone::better: return "\x1b[32m";
    case VerdictTone::worse: return "\x1b[31m";
    case VerdictTone::refused: return "\x1b[33m";
    case VerdictTone::neutral: break;
  }
  return "\x1b[1m";
}

}  // namespace

bool wants_colour(int descriptor) {
  const std::string_view terminal = setting("TERM");
  return isatty(descriptor) == 1 && setting("NO_COLOR").empty() && !terminal.empty() &&
         terminal != "dumb";
}

std::string coloured_verdicts(const std::string& text) {
  std::string coloured;
  std::size_t place = 0;
  for (const VerdictPlace& verdict : verdict_places(text)) {
    coloured += text.substr(place, verdict.begin - place) + colour_of(verdict.tone) +
                text.substr(verdict.begin, verdict.length) + "\x1b[0m";
    place = verdict.begin + verdict.length;
  }
  return coloured + text.substr(place);
}

}  // namespace kvlab
