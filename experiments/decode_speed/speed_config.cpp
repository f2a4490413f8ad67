#include "speed_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "kvlab/core/error.h"
#include "kvlab/runtime/arms.h"
#include "kvlab/runtime/memory_floor.h"
#include "kvlab/runtime/prompt.h"

namespace kvlab::experiments::decode_speed_kind {

namespace {

constexpr int64_t kMostTokens = int64_t{1} << 31;
constexpr double kMostSeconds = 1e6;

std::vector<Precision> read_precisions(ConfigReader& cases) {
  const std::vector<std::string> activations = {"f32", "bf16"};
  std::vector<Precision> precisions;
  for (ConfigReader& entry : cases.children("precisions")) {
    Precision precision;
    precision.weights = parse_weight_type(entry.choice("weights", {"f32", "bf16", "int8"}));
    precision.cache = parse_dtype(entry.choice("cache", {"f32", "bf16"}));
    precision.activations = parse_dtype(entry.choice_or("activations", "f32", activations));
    entry.finish();
    if (std::find(precisions.begin(), precisions.end(), precision) != precisions.end()) {
      cases.fail("precisions", "'" + precision.label() + "' stands there twice; delete one");
    }
    precisions.push_back(precision);
  }
  return precisions;
}

// Element types belong to the cases here, and so do rows and lengths.
void refuse_what_cases_say(const ConfigReader& reader, const SpeedConfig& read) {
  if (const ConfigNode* runtime = reader.node().find("runtime")) {
    for (const char* key : {"dtype", "weights", "cache_dtype"}) {
      if (runtime->is_map() && runtime->find(key) != nullptr) {
        fail_at(*runtime->find(key),
                fmt::format("{} is set by cases.precisions; delete it here", key));
      }
    }
  }
  for (const ArmConfig& arm : read.arms) {
    if (arm.cache_dtype) {
      reader.fail("arms", "arm '" + arm.name +
                              "': the cache's element type is set by "
                              "cases.precisions; delete cache_dtype");
    }
    if (arm.position) {
      reader.fail("arms", "arm '" + arm.name +
                              "': all arms run the same model here; delete "
                              "position");
    }
  }
}

// An arm that the config gives the control's parts under another name. A planted slowdown is a
// difference.
std::optional<size_t> arm_like_control(const SpeedConfig& read) {
  const ArmConfig& control = read.arms[read.control];
  const auto attention = [&](const ArmConfig& arm) {
    return to_string(arm.attention.value_or(read.runtime.attention));
  };
  for (size_t arm = 0; arm < read.arms.size(); ++arm) {
    const ArmConfig& one = read.arms[arm];
    if (arm != read.control && to_string(one.cache) == to_string(control.cache) &&
        attention(one) == attention(control) && planted_slowdown(read.trials, one.name) <= 1) {
      return arm;
    }
  }
  return std::nullopt;
}

// The control is measured twice, unless the config does that already or says not to.
void read_trials(ConfigReader& reader, const std::string& control, SpeedConfig& read) {
  ComparisonConfig comparison;
  comparison.arms = read.arms;
  comparison.control = control;
  read.trials = parse_arm_trials(reader, comparison);
  refuse_trace(reader, read.trials);
  if (!read.trials.aa) return;
  read.again = arm_like_control(read);
  if (read.again) return;
  add_second_control(reader, comparison);
  read.arms = comparison.arms;
  read.again = read.arms.size() - 1;
}

void refuse_arm_after_arm(ConfigReader& reader, const SpeedConfig& read) {
  if (read.measure.interleave) return;
  reader.child("measure").fail(
      "interleave",
      "every figure here is a ratio inside a block, of the arms and of the bandwidth beside them: "
      "blocks hold all arms; delete this key");
}

// Equality, and the ratios, are to an answer that is the model's own.
void refuse_approximate_control(const ConfigReader& reader, const SpeedConfig& read,
                                const SpeedModel& model, const Registry& registry) {
  const ArmConfig& control = read.arms[read.control];
  for (const Precision& precision : read.precisions) {
    const SessionOptions options =
        read.session_options(model, control, precision, static_cast<int64_t>(model.texts.size()));
    const CacheShape shape = session_shape(model_shape(model.source), options);
    if (registry.cache_traits(control.cache, shape).exact) continue;
    reader.fail("control",
                fmt::format("'{}' is approximate with model '{}' ({}): the logits of exact arms "
                            "cannot be compared with it; name an exact arm",
                            control.name, model.source.name, precision.label()));
  }
}

void refuse_prompt_that_fits_nowhere(const ConfigReader& cases, const SpeedConfig& read) {
  int64_t longest = 0;
  for (const SpeedModel& model : read.models) longest = std::max(longest, model.context);
  if (read.prefill <= longest) return;
  cases.fail("prefill", fmt::format("a prompt of {} fits no model: the longest context is {}",
                                    read.prefill, longest));
}

SpeedModel read_model(const ConfigReader& reader, const ModelSource& source,
                      const PromptSpec& prompt, const SpeedConfig& read) {
  SpeedModel model;
  model.source = source;
  const ModelConfig shape = model_shape(source);
  model.context = shape.context;
  for (const int64_t depth : read.depths) {
    (read.length_at(depth) <= shape.context ? model.depths : model.too_deep).push_back(depth);
  }
  if (model.depths.empty()) {
    reader.fail(
        "cases",
        fmt::format("no depth fits model '{}': {} needs a context of {}, it has {}", source.name,
                    read.depths.front(), read.length_at(read.depths.front()), shape.context));
  }
  const auto tokenizer = load_tokenizer(source);
  const int64_t rows = *std::max_element(read.batches.begin(), read.batches.end());
  for (int64_t row = 0; row < rows; ++row) {
    model.texts.push_back(
        prompt.tokens({source.name, tokenizer.get(), shape.vocabulary}, read.longest(model), row));
  }
  return model;
}

}  // namespace

std::string Precision::label() const {
  std::string text = fmt::format("{} weights, {} cache", dtype_name(weights), dtype_name(cache));
  if (activations != at::kFloat) text += fmt::format(", {} activations", dtype_name(activations));
  return text;
}

std::string Precision::id() const {
  std::string text = fmt::format("w_{}_c_{}", dtype_name(weights), dtype_name(cache));
  if (activations != at::kFloat) text += fmt::format("_a_{}", dtype_name(activations));
  return text;
}

int64_t SpeedConfig::length_at(int64_t depth) const {
  return depth + std::max(measure.warmup + tokens, gate_tokens);
}

bool SpeedConfig::times_prompt(const SpeedModel& model) const {
  return prefill > 0 && prefill <= model.context;
}

int64_t SpeedConfig::longest(const SpeedModel& model) const {
  const int64_t prompt = times_prompt(model) ? prefill : 0;
  return std::max(length_at(model.depths.back()), prompt);
}

SessionOptions SpeedConfig::session_options(const SpeedModel& model, const ArmConfig& arm,
                                            const Precision& precision, int64_t batch) const {
  SessionOptions options = arm_session_options(runtime, arm, batch, longest(model));
  options.cache_dtype = precision.cache;
  options.arena.prefault = true;
  return options;
}

SpeedConfig read_speed_config(ExperimentConfig& config, const Registry& registry) {
  ConfigReader& reader = config.reader;
  SpeedConfig read;
  if (reader.has("model") && reader.has("models")) {
    reader.fail("model", "one of model and models is enough; delete one");
  }
  const std::vector<ModelSource> sources =
      reader.has("model") ? std::vector<ModelSource>{parse_model(reader)} : parse_models(reader);
  read.arms = parse_arms(reader);
  const std::string control = parse_control(reader, read.arms);
  while (read.arms[read.control].name != control) ++read.control;
  read.runtime = parse_runtime(reader);
  read.measure = parse_measure_of_trials(reader);
  read_trials(reader, control, read);
  refuse_arm_after_arm(reader, read);
  refuse_what_cases_say(reader, read);

  ConfigReader cases = reader.child("cases");
  read.precisions = read_precisions(cases);
  read.batches = cases.integers_or("batch", {1}, {1, 4096});
  read.depths = cases.integers("depths", {0, kMostTokens});
  std::sort(read.depths.begin(), read.depths.end());
  read.prefill = cases.integer_or("prefill", 0, {0, kMostTokens});
  read.tokens = cases.integer_or("tokens", read.tokens, {1, kMostTokens});
  read.gate_tokens = cases.integer_or("gate_tokens", read.gate_tokens, {1, 65536});
  read.most_seconds = cases.number_or("most_seconds", read.most_seconds, {0, kMostSeconds, true});
  read.probe_bytes = parse_probe_bytes(cases);
  const PromptSpec prompt(cases.child("prompt"));
  for (const ModelSource& source : sources) {
    const SpeedModel model = read_model(reader, source, prompt, read);
    for (const Precision& precision : read.precisions) {
      RuntimeConfig runtime = read.runtime;
      runtime.cache = precision.cache;
      check_arms(reader, read.arms, runtime, source, registry,
                 static_cast<int64_t>(model.texts.size()), read.longest(model));
    }
    refuse_approximate_control(reader, read, model, registry);
    read.models.push_back(model);
  }
  refuse_prompt_that_fits_nowhere(cases, read);
  return read;
}

}  // namespace kvlab::experiments::decode_speed_kind
