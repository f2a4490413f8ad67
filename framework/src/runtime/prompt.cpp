#include "kvlab/runtime/prompt.h"

#include <fstream>
#include <random>
#include <sstream>

#include "kvlab/core/error.h"

namespace kvlab {

PromptSpec parse_prompt(ConfigReader& reader, const std::string& key) {
  ConfigReader prompt = reader.child(key);
  PromptSpec spec;
  spec.where = prompt.node().where();
  int given = 0;
  if (const auto text = prompt.optional_text("text")) {
    spec.text = text;
    ++given;
  }
  if (prompt.has("ids")) {
    for (const int64_t id : prompt.integers_or("ids", {}, {0, INT32_MAX})) {
      spec.ids.push_back(static_cast<int32_t>(id));
    }
    ++given;
  }
  if (const auto path = prompt.optional_data_path("file")) {
    std::ifstream file(*path, std::ios::binary);
    std::ostringstream content;
    content << file.rdbuf();
    spec.text = content.str();
    ++given;
  }
  if (const auto seed = prompt.optional_integer("random", {0})) {
    spec.random_seed = static_cast<uint64_t>(*seed);
    ++given;
  }
  if (given != 1) reader.fail(key, "wants exactly one of text, ids, file and random");
  return spec;
}

std::vector<int32_t> PromptSpec::tokens(const Model& model, int64_t length, int64_t offset) const {
  const int64_t vocabulary = model.config().vocabulary;
  if (random_seed) {
    KVLAB_CHECK_GE(length, 1, where, ": prompt.random: a random prompt needs prompt_tokens");
    std::mt19937_64 stream(*random_seed + static_cast<uint64_t>(offset));
    std::vector<int32_t> random;
    for (int64_t i = 0; i < length; ++i) {
      random.push_back(static_cast<int32_t>(stream() % static_cast<uint64_t>(vocabulary)));
    }
    return random;
  }
  std::vector<int32_t> all = ids;
  if (text) {
    KVLAB_CHECK(model.tokenizer != nullptr, where, ": prompt.text: model '", model.name,
                "' has no tokenizer; give ids, or name a tokenizer in the model's YAML");
    all = model.tokenizer->encode(*text);
  }
  KVLAB_CHECK(!all.empty(), where, ": prompt: it has no tokens; give at least one");
  for (const int32_t id : all) {
    KVLAB_CHECK(id < vocabulary, where, ": prompt: token ", id, " is outside the vocabulary of ",
                vocabulary);
  }
  if (length == 0) return all;
  std::vector<int32_t> cut;
  for (int64_t i = 0; i < length; ++i) {
    cut.push_back(all[static_cast<size_t>(offset + i) % all.size()]);
  }
  return cut;
}

}  // namespace kvlab
