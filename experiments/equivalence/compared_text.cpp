#include "compared_text.h"

#include <fstream>
#include <limits>
#include <random>
#include <sstream>

#include "kvlab/core/error.h"

namespace kvlab::experiments::equivalence_kind {

ComparedText::ComparedText(ConfigReader reader) : reader_(std::move(reader)) {
  int kinds = 0;
  for (const char* kind : {"random", "text", "file"}) {
    if (!reader_.has(kind)) continue;
    kind_ = kind;
    ++kinds;
  }
  if (kinds != 1) {
    fail_at(reader_.node(),
            detail::concat("a text is one of random, text or file, got ", kinds, " of them"));
  }
  const IntegerRange most{1, int64_t{1} << 24};
  if (kind_ == "random") {
    random_seed_ =
        static_cast<uint64_t>(reader_.integer("random", {0, std::numeric_limits<int64_t>::max()}));
    tokens_ = reader_.integer("tokens", most);
  } else {
    tokens_ = reader_.integer_or("tokens", 0, most);
    if (kind_ == "text") {
      text_ = reader_.text("text");
    } else {
      std::ifstream file(reader_.data_path("file"), std::ios::binary);
      std::ostringstream content;
      content << file.rdbuf();
      text_ = content.str();
    }
  }
  reader_.finish();
}

std::vector<int32_t> ComparedText::tokens_for(const std::string& model, const Tokenizer* tokenizer,
                                              int64_t vocabulary) const {
  std::vector<int32_t> tokens;
  if (random_seed_) {
    std::mt19937_64 random(*random_seed_);
    for (int64_t i = 0; i < tokens_; ++i) {
      tokens.push_back(static_cast<int32_t>(random() % static_cast<uint64_t>(vocabulary)));
    }
    return tokens;
  }
  if (tokenizer == nullptr) {
    reader_.fail(kind_, "model '" + model +
                            "' has no tokenizer; give it one, or write "
                            "{random: SEED, tokens: N}");
  }
  tokens = tokenizer->encode(text_);
  if (static_cast<int64_t>(tokens.size()) < std::max<int64_t>(tokens_, 1)) {
    reader_.fail(tokens_ > 0 ? "tokens" : kind_,
                 detail::concat("the text has ", tokens.size(), " tokens for model '", model,
                                "', wanted at least ", std::max<int64_t>(tokens_, 1)));
  }
  if (tokens_ > 0) tokens.resize(static_cast<size_t>(tokens_));
  for (const int32_t token : tokens) {
    if (token >= vocabulary) {
      reader_.fail(
          kind_, detail::concat("the tokenizer gives token ", token, ", outside the vocabulary of ",
                                vocabulary, " of model '", model, "'"));
    }
  }
  return tokens;
}

}  // namespace kvlab::experiments::equivalence_kind
