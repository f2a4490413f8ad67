#include "kvlab/runtime/experiment_config.h"

#include <algorithm>
#include <limits>
#include <thread>

#include "kvlab/core/byte_size.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/arm_trials.h"
#include "kvlab/runtime/config_schema.h"
#include "kvlab/runtime/row_crossover.h"

namespace kvlab {

namespace {

constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();
constexpr int64_t kLargestSize = int64_t{1} << 31;  // of one dimension; products stay in 64 bits
constexpr double kMostSeconds = 1e6;
const std::vector<std::string> kDtypes = {"f32", "bf16"};
const std::vector<std::string> kWeightTypes = {"f32", "bf16", "int8"};
constexpr int64_t kLibraryProductsOnly = -1;

// A child reader, or one over an empty map where the key is absent: then defaults apply.
ConfigReader child_or_empty(ConfigReader& reader, const std::string& key) {
  std::optional<ConfigReader> child = reader.optional_child(key);
  return child ? *child : ConfigReader(ConfigNode());
}

uint64_t read_seed(ConfigReader& reader, uint64_t fallback) {
  return static_cast<uint64_t>(
      reader.integer_or("seed", static_cast<int64_t>(fallback), {0, kLargest}));
}

// A plain number counts bytes; a text may have a unit.
int64_t read_bytes(ConfigReader& reader, const char* key) {
  const ConfigNode node = reader.value(key);
  const auto bytes = node.is_scalar() ? parse_byte_size(node.text()) : std::nullopt;
  if (!bytes) {
    fail_at(node, detail::concat("wanted a size like 2GB, 512MiB or 1000000 (bytes), got ",
                                 node.description()));
  }
  return *bytes;
}

// Limits are kept by the system, which knows processes and no arms.
void need_isolation(ConfigReader& reader, Isolation isolation) {
  if (isolation == Isolation::process) return;
  reader.fail("limits", "limits are kept only for arms in processes of their own; add isolation: "
                        "process at the top, or delete the key");
}

// int8 is a type of weights; of activations there is none, and int8 caches are plugins.
void refuse_int8(ConfigReader& reader, const char* key, const char* advice) {
  const std::optional<ConfigNode> node = reader.optional_value(key);
  if (node && node->is_scalar() && node->text() == "int8") reader.fail(key, advice);
}

// `others` are keys that somebody else reads.
MeasureConfig read_measure(ConfigReader& reader, const std::string& key, MeasureConfig config,
                           const std::vector<const char*>& others) {
  ConfigReader child = child_or_empty(reader, key);
  if (others.empty()) note_part(child, "measure");
  config.repeats = static_cast<int>(child.integer_or("repeats", config.repeats, {1, 1000}));
  config.warmup = static_cast<int>(child.integer_or("warmup", config.warmup, {0, 1000}));
  config.interleave = child.boolean_or("interleave", config.interleave);
  config.seed = read_seed(child, config.seed);
  for (const char* other : others) (void)child.has(other);
  child.finish();
  return config;
}

}  // namespace

at::ScalarType parse_dtype(const std::string& text) {
  if (text == "f32") return at::kFloat;
  if (text == "bf16") return at::kBFloat16;
  throw UserError(detail::concat("[runtime.dtype] '", text, "' is no element type here.",
                                 suggestion(text, kDtypes)));
}

at::ScalarType parse_weight_type(const std::string& text) {
  if (text == "int8") return at::kChar;
  if (text == "f32" || text == "bf16") return parse_dtype(text);
  throw UserError(detail::concat("[runtime.weights] '", text, "' is no type of weights here.",
                                 suggestion(text, kWeightTypes)));
}

std::string dtype_name(at::ScalarType type) {
  if (type == at::kFloat) return "f32";
  if (type == at::kChar) return "int8";
  KVLAB_INVARIANT(type == at::kBFloat16, "[runtime.dtype] type has no name in configs");
  return "bf16";
}

namespace {

std::vector<std::string> read_plugins(ConfigReader& reader) {
  const std::optional<ConfigNode> list = reader.optional_value("plugins");
  if (!list) return {};
  if (!list->is_list() || list->items().empty()) {
    fail_at(*list, detail::concat("wanted a list of plugin libraries, [my_cache.so], got ",
                                  list->description()));
  }
  std::vector<std::string> files;
  for (const ConfigNode& item : list->items()) {
    if (!item.is_scalar() || item.text().empty()) {
      fail_at(item, detail::concat("wanted the path of a plugin library, got ",
                                   item.description()));
    }
    std::string file = resolve_path(item);
    if (std::find(files.begin(), files.end(), file) != files.end()) {
      fail_at(item, detail::concat("the library '", item.text(),
                                   "' is named twice; delete one of them"));
    }
    files.push_back(std::move(file));
  }
  return files;
}

}  // namespace

ExperimentConfig parse_experiment(const ConfigNode& root) {
  ConfigReader reader(root);
  const std::string schema = reader.text("schema");
  if (schema != "kvlab/1") {
    reader.fail("schema", detail::concat("this version reads schema kvlab/1, got '", schema, "'"));
  }
  const std::string kind = reader.text("experiment");
  const std::string question = reader.text("question");
  const std::string title = reader.optional_text("title").value_or(question);
  const std::optional<std::string> metric = reader.optional_text("primary_metric");
  const std::vector<std::string> plugins = read_plugins(reader);
  return {schema, kind, question, title, metric, plugins, root, reader};
}

ComparisonConfig parse_comparison(ConfigReader& reader) {
  ComparisonConfig config;
  config.model = parse_model(reader);
  config.arms = parse_arms(reader);
  config.control = parse_control(reader, config.arms);
  config.runtime = parse_runtime(reader);
  MeasureConfig defaults;
  defaults.repeats = kComparedRepeats;
  config.measure = read_measure(reader, "measure", defaults, {"aa", "planted_slowdown", "trace"});
  config.isolation = parse_isolation(reader);
  config.limits = parse_limits(reader);
  if (reader.has("limits")) need_isolation(reader, config.isolation);
  return config;
}

Isolation parse_isolation(ConfigReader& reader, const std::string& key) {
  const bool process = reader.choice_or(key, "none", {"none", "process"}) == "process";
  return process ? Isolation::process : Isolation::none;
}

ArmLimits parse_limits(ConfigReader& reader, const std::string& key) {
  std::optional<ConfigReader> child = reader.optional_child(key);
  if (!child) return {};
  note_part(*child, "limits");
  ArmLimits limits;
  if (child->has("seconds")) limits.seconds = child->number("seconds", {0, kMostSeconds, true});
  if (child->has("memory")) limits.memory_bytes = read_bytes(*child, "memory");
  child->finish();
  if (!limits.seconds && !limits.memory_bytes) {
    reader.fail(key, "wanted seconds, memory or both, got neither; delete the key");
  }
  return limits;
}

std::vector<ArmConfig> parse_arms(ConfigReader& reader, const std::string& key) {
  const Isolation isolation = parse_isolation(reader);
  std::vector<ArmConfig> arms;
  for (ConfigReader& child : reader.children(key)) {
    note_part(child, "arm");
    ArmConfig arm;
    arm.where = child.node().where();
    arm.name = child.text("name");
    for (const char c : arm.name) {
      const bool fits = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                        (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
      if (!fits) {
        child.fail("name", detail::concat("an arm's name holds letters, digits, '_', '.' and '-', "
                                          "got '", arm.name, "'"));
      }
    }
    for (const ArmConfig& earlier : arms) {
      if (earlier.name == arm.name) {
        child.fail("name", detail::concat("arm names are unique, got '", arm.name,
                                          "' twice; rename one"));
      }
    }
    arm.cache = child.component("cache");
    arm.attention = child.optional_component("attention");
    if (const auto dtype = child.optional_choice("cache_dtype", kDtypes)) {
      arm.cache_dtype = parse_dtype(*dtype);
    }
    arm.position = child.optional_component("position");
    if (child.has("limits")) {
      arm.limits = parse_limits(child);
      need_isolation(child, isolation);
    }
    child.finish();
    arms.push_back(std::move(arm));
  }
  return arms;
}

std::string parse_control(ConfigReader& reader, const std::vector<ArmConfig>& arms) {
  const std::string control = reader.text("control");
  std::vector<std::string> names;
  for (const ArmConfig& arm : arms) names.push_back(arm.name);
  if (std::find(names.begin(), names.end(), control) == names.end()) {
    reader.fail("control", detail::concat("the control must name an arm, got '", control, "'.",
                                          suggestion(control, names)));
  }
  return control;
}

RuntimeConfig parse_runtime(ConfigReader& reader, const std::string& key) {
  ConfigReader child = child_or_empty(reader, key);
  note_part(child, "runtime");
  RuntimeConfig config;
  const unsigned hardware = std::thread::hardware_concurrency();
  // Defaults that depend on the machine or on other keys are no defaults of the schema.
  const std::optional<int64_t> threads = child.optional_integer("threads", {1, 1024});
  config.threads = static_cast<int>(threads.value_or(hardware == 0 ? 1 : hardware));
  refuse_int8(child, "dtype", "int8 is a type of weights alone; write weights: int8, and f32 or "
                              "bf16 here for activations and cache");
  refuse_int8(child, "cache_dtype", "a cache that keeps codes is a cache of its own; choose one as "
                                    "the arm's cache, and f32 or bf16 here");
  const std::string dtype = child.choice_or("dtype", "f32", kDtypes);
  config.activations = parse_dtype(dtype);
  config.weights =
      parse_weight_type(child.optional_choice("weights", kWeightTypes).value_or(dtype));
  config.cache = parse_dtype(child.optional_choice("cache_dtype", kDtypes).value_or(dtype));
  config.attention = child.component_or("attention", config.attention);
  config.row_tokens = child.integer_or("row_tokens", 0, {kLibraryProductsOnly, kMostRowTokens});
  config.chunk = child.integer_or("chunk", 0, {0, kLargestSize});
  if (child.choice_or("overflow", "error", {"stop", "error"}) == "stop") {
    config.overflow = OverflowPolicy::stop;
  }
  config.memory_limit = child.optional_integer("memory_limit", {1, kLargest});
  child.finish();
  return config;
}

SamplerConfig parse_sampler(ConfigReader& reader, const std::string& key) {
  ConfigReader child = child_or_empty(reader, key);
  note_part(child, "sampler");
  SamplerConfig config;
  const bool present = reader.has(key);
  if (!present || child.choice("type", {"greedy", "sample"}) == "greedy") {
    for (const char* option : {"temperature", "top_k", "top_p", "seed"}) {
      if (child.has(option)) {
        child.fail(option, "greedy sampling always takes the likeliest token and has no options; "
                           "delete the key, or write type: sample");
      }
    }
    child.finish();
    return config;
  }
  config.type = SamplerType::sample;
  config.temperature = child.number_or("temperature", 1.0, {0.0, 100.0, true});
  config.top_k = child.integer_or("top_k", 0, {0, kLargestSize});
  config.top_p = child.number_or("top_p", 1.0, {0.0, 1.0, true});
  config.seed = read_seed(child, 0);
  child.finish();
  return config;
}

MeasureConfig parse_measure(ConfigReader& reader, const std::string& key) {
  return read_measure(reader, key, {}, {});
}

MeasureConfig parse_measure_of_trials(ConfigReader& reader, const std::string& key) {
  return read_measure(reader, key, {}, {"aa", "planted_slowdown", "trace"});
}

}  // namespace kvlab
