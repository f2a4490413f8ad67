#include "quality_config.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "kvlab/core/error.h"
#include "kvlab/runtime/arms.h"
#include "kvlab/runtime/model.h"
#include "kvlab/runtime/prompt.h"

namespace kvlab::experiments::quality_kind {

namespace {

constexpr int64_t kMostDocuments = 4096;

// First tokens of `count` of the text's slots of `length` tokens each, in ascending order: slots do
// not overlap, so no token is counted twice.
std::vector<int64_t> drawn_offsets(int64_t count, int64_t length, int64_t text, uint64_t seed) {
  std::vector<int64_t> slots(static_cast<size_t>(text / length));
  std::iota(slots.begin(), slots.end(), int64_t{0});
  std::mt19937_64 stream(seed);
  // The standard library's shuffle differs between implementations; this does not.
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    std::swap(slots[i], slots[i + stream() % (slots.size() - i)]);
  }
  slots.resize(static_cast<size_t>(count));
  std::sort(slots.begin(), slots.end());
  for (int64_t& slot : slots) slot *= length;
  return slots;
}

std::vector<PositionBucket> make_buckets(int64_t first, int64_t predictions) {
  std::vector<PositionBucket> buckets;
  for (int64_t begin = 0, end = first; begin < predictions; begin = end, end *= 2) {
    buckets.push_back({begin, std::min(end, predictions)});
  }
  return buckets;
}

std::string text_origin(const ConfigReader& workload) {
  const ConfigNode* text = workload.node().find("text");
  for (const char* key : {"file", "jsonl", "random"}) {
    const ConfigNode* given = text->find(key);
    if (given == nullptr) continue;
    return (std::string(key) == "random" ? "random tokens, seed " : "") + given->text();
  }
  return "given in the config";
}

void place_documents(ConfigReader& workload, const std::vector<int32_t>& text,
                     QualityConfig& config) {
  const auto count = workload.integer_or("documents", 16, {2, kMostDocuments});
  const int64_t length = config.document_tokens;
  const bool even = workload.has("stride") || workload.has("offset");
  const auto seed = workload.optional_integer("seed", {0, std::numeric_limits<int64_t>::max()});
  // No defaults of the schema: beside seed both are refused, and the stride follows from the text.
  const int64_t offset = workload.optional_integer("offset", {0, int64_t{1} << 40}).value_or(0);
  const int64_t room = config.text_tokens - offset;
  const int64_t stride =
      workload.optional_integer("stride", {length, int64_t{1} << 40})
          .value_or(std::max(length, room / count));
  if (seed) config.seed = static_cast<uint64_t>(*seed);
  if (seed && even) {
    workload.fail("seed",
                  "seed draws the documents' places, offset and stride give them; keep one");
  }
  const int64_t needed = seed ? count * length : offset + (count - 1) * stride + length;
  if (needed > config.text_tokens) {
    workload.fail("documents",
                  detail::concat(count, " documents of ", length, " tokens need a text of ", needed,
                                 " tokens, this one has ", config.text_tokens,
                                 "; take fewer or shorter ones"));
  }
  std::vector<int64_t> offsets;
  if (seed) {
    offsets = drawn_offsets(count, length, config.text_tokens, config.seed);
    config.placement = detail::concat("drawn without overlap, seed ", config.seed);
  } else {
    for (int64_t i = 0; i < count; ++i) offsets.push_back(offset + i * stride);
    config.placement = detail::concat("every ", stride, " tokens from token ", offset);
  }
  for (const int64_t first : offsets) {
    const auto begin = text.begin() + first;
    config.documents.push_back({first, std::vector<int32_t>(begin, begin + length)});
  }
}

}  // namespace

std::string PositionBucket::name() const { return detail::concat(begin, "-", end - 1); }

size_t QualityConfig::control_index() const {
  for (size_t i = 0; i < arms.size(); ++i) {
    if (arms[i].name == control) return i;
  }
  KVLAB_INVARIANT(false, "[experiments.quality] no arm '", control, "'");
  return 0;
}

QualityConfig read_quality(ExperimentConfig& config, const Registry& registry) {
  QualityConfig read;
  ConfigReader& reader = config.reader;
  read.model = parse_model(reader);
  read.arms = parse_arms(reader);
  read.control = parse_control(reader, read.arms);
  read.runtime = parse_runtime(reader);
  if (read.arms.size() < 2)
    reader.fail("arms", "one arm is the control; add one to compare with it");

  ConfigReader workload = reader.child("workload");
  const ModelConfig shape = model_shape(read.model);
  const auto tokenizer = load_tokenizer(read.model);
  const PromptSpec spec(workload.child("text"));
  const std::vector<int32_t> text =
      spec.tokens({read.model.name, tokenizer.get(), shape.vocabulary});
  read.text = text_origin(workload);
  read.text_tokens = static_cast<int64_t>(text.size());
  read.document_tokens = workload.integer_or("document_tokens", 512, {2, int64_t{1} << 24});
  if (read.document_tokens > shape.context) {
    workload.fail("document_tokens",
                  detail::concat("a document of ", read.document_tokens,
                                 " tokens does not fit the context of ", shape.context,
                                 " of model '", read.model.name, "'"));
  }
  place_documents(workload, text, read);
  const int64_t first = workload.integer_or("first_bucket", 64, {1, int64_t{1} << 24});
  read.buckets = make_buckets(first, read.document_tokens - 1);
  workload.finish();
  check_arms(reader, read.arms, read.runtime, read.model, registry, 1, read.document_tokens);
  return read;
}

}  // namespace kvlab::experiments::quality_kind
