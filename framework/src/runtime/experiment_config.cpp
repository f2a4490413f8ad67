#include "kvlab/runtime/experiment_config.h"

#include <algorithm>
#include <charconv>
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

NormType parse_norm(const std::string& text) {
  return text == "layernorm" ? NormType::layernorm : NormType::rmsnorm;
}

MlpType parse_mlp(const std::string& text) {
  if (text == "gelu_tanh") return MlpType::gelu_tanh;
  return text == "gelu_erf" ? MlpType::gelu_erf : MlpType::swiglu;
}

const char* name_of(NormType type) {
  return type == NormType::layernorm ? "layernorm" : "rmsnorm";
}

const char* name_of(MlpType type) {
  if (type == MlpType::gelu_tanh) return "gelu_tanh";
  return type == MlpType::gelu_erf ? "gelu_erf" : "swiglu";
}

// Numbers are compared by value: 10000 and 10000.0 are the same base of rope.
std::string plain_number(const std::string& text) {
  double value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool number = error == std::errc{} && stop == text.data() + text.size();
  return number ? detail::concat(value) : text;
}

// Reads `shape:`. With `complete`, sizes must be stated; otherwise only what stands there is read.
class ShapeReader {
 public:
  ShapeReader(ConfigReader reader, bool complete)
      : reader_(std::move(reader)), complete_(complete) {}

  ModelConfig read() {
    ModelConfig shape;
    size("vocabulary", shape.vocabulary);
    size("context", shape.context);
    size("d_model", shape.d_model);
    size("layers", shape.layers);
    size("n_heads", shape.n_heads);
    size("n_kv_heads", shape.n_kv_heads);
    size("d_mlp", shape.d_mlp);
    read_head_dim(shape);
    read_kinds(shape);
    shape.norm_epsilon = reader_.number_or("norm_epsilon", shape.norm_epsilon, {0, 1, true, true});
    shape.qkv_bias = reader_.boolean_or("qkv_bias", shape.qkv_bias);
    shape.output_bias = reader_.boolean_or("output_bias", shape.output_bias);
    shape.mlp_bias = reader_.boolean_or("mlp_bias", shape.mlp_bias);
    shape.tied_head = reader_.boolean_or("tied_head", shape.tied_head);
    shape.window = reader_.integer_or("window", 0, {0, kLargestSize});
    read_position(shape);
    read_stop_tokens(shape);
    check_groups(shape);
    return shape;
  }

  std::set<std::string> stated() const {
    std::set<std::string> keys;
    for (const auto& [key, value] : reader_.node().entries()) keys.insert(key);
    return keys;
  }

 private:
  void size(const char* key, int64_t& value) {
    const IntegerRange range{1, kLargestSize};
    value = complete_ ? reader_.integer(key, range) : reader_.integer_or(key, 0, range);
  }

  void read_head_dim(ModelConfig& shape) {
    const std::optional<int64_t> given = reader_.optional_integer("head_dim", {1, kLargestSize});
    if (given) {
      shape.head_dim = *given;
    } else if (shape.d_model > 0 && shape.n_heads > 0) {
      if (shape.d_model % shape.n_heads != 0) {
        reader_.fail("d_model",
                     detail::concat("d_model must be a multiple of n_heads where head_dim is not "
                                    "given, got ", shape.d_model, " and ", shape.n_heads,
                                    "; add head_dim"));
      }
      shape.head_dim = shape.d_model / shape.n_heads;
    }
  }

  void read_kinds(ModelConfig& shape) {
    const auto read = [&](const char* key, const std::vector<std::string>& choices) {
      return complete_ ? std::optional(reader_.choice(key, choices))
                       : reader_.optional_choice(key, choices);
    };
    if (const auto norm = read("norm", {"layernorm", "rmsnorm"})) shape.norm = parse_norm(*norm);
    if (const auto mlp = read("mlp", {"gelu_tanh", "gelu_erf", "swiglu"})) {
      shape.mlp = parse_mlp(*mlp);
    }
  }

  void read_position(ModelConfig& shape) {
    if (complete_ || reader_.has("position")) shape.position = reader_.component("position");
    if (shape.position.type == "rope" && shape.head_dim % 2 != 0) {
      reader_.fail("position", detail::concat("rope turns pairs of values, so head_dim must be "
                                              "even, got ", shape.head_dim));
    }
  }

  void read_stop_tokens(ModelConfig& shape) {
    const std::optional<ConfigNode> node = reader_.optional_value("stop_tokens");
    if (!node || (node->is_list() && node->items().empty())) return;
    const int64_t largest = std::numeric_limits<int32_t>::max();
    const std::vector<int64_t> tokens = reader_.integers("stop_tokens", {0, largest});
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (shape.vocabulary > 0 && tokens[i] >= shape.vocabulary) {
        fail_at(node->items()[i], detail::concat("a stop token must lie inside the vocabulary of ",
                                                 shape.vocabulary, " tokens, got ", tokens[i]));
      }
      shape.stop_tokens.push_back(static_cast<int32_t>(tokens[i]));
    }
  }

  void check_groups(const ModelConfig& shape) {
    if (shape.n_heads == 0 || shape.n_kv_heads == 0) return;
    if (shape.n_kv_heads > shape.n_heads || shape.n_heads % shape.n_kv_heads != 0) {
      reader_.fail("n_kv_heads", detail::concat("n_kv_heads must divide n_heads, got ",
                                                shape.n_kv_heads, " and ", shape.n_heads));
    }
  }

  ConfigReader reader_;
  bool complete_;
};

ModelSource read_model_source(ConfigReader model) {
  note_part(model, "model");
  ModelSource result;
  result.where = model.node().where();
  result.name = model.text("name");
  ConfigReader source = model.child("source");
  const std::string type = source.choice("type", {"random", "gguf", "huggingface"});
  if (type == "random") {
    result.type = ModelSourceType::random;
    result.seed = static_cast<uint64_t>(source.integer("seed", {0, kLargest}));
    if (source.has("path")) {
      source.fail("path", "random weights have no path; delete it, or choose gguf or huggingface");
    }
  } else {
    result.type = type == "gguf" ? ModelSourceType::gguf : ModelSourceType::huggingface;
    if (source.has("seed")) {
      source.fail("seed", detail::concat("weights read from a file have no seed, got type ",
                                         type, "; delete it"));
    }
    result.path = source.data_path("path");
  }
  result.tokenizer = model.optional_data_path("tokenizer");
  const bool complete = result.type == ModelSourceType::random;
  if (!model.has("shape") && complete) {
    fail_at(model.node(), "random weights have no file to take their shape from; add shape:");
  }
  if (model.has("shape")) {
    ShapeReader shape(model.child("shape"), complete);
    result.shape = shape.read();
    result.stated = shape.stated();
  }
  result.shape.name = result.name;
  model.finish();
  return result;
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
  config.measure = read_measure(reader, "measure", defaults, {"aa", "planted_slowdown"});
  config.isolation = parse_isolation(reader);
  config.limits = parse_limits(reader);
  if (reader.has("limits")) need_isolation(reader, config.isolation);
  return config;
}

ModelSource parse_model(ConfigReader& reader, const std::string& key) {
  return read_model_source(reader.child(key));
}

std::vector<ModelSource> parse_models(ConfigReader& reader, const std::string& key) {
  std::vector<ModelSource> models;
  for (const ConfigReader& child : reader.children(key)) {
    models.push_back(read_model_source(child));
    for (size_t i = 0; i + 1 < models.size(); ++i) {
      if (models[i].name == models.back().name) {
        child.fail("name", detail::concat("model names are unique, got '", models[i].name,
                                          "' twice; rename one"));
      }
    }
  }
  return models;
}

ModelSource load_model_source(const std::string& path, const std::vector<std::string>& overrides) {
  return read_model_source(ConfigReader(load_config_file(path, overrides)));
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
  return read_measure(reader, key, {}, {"aa", "planted_slowdown"});
}

void check_stated_shape(const ModelSource& source, const ModelConfig& found) {
  const ModelConfig& said = source.shape;
  const auto check = [&](const char* key, const auto& left, const auto& right) {
    if (!source.stated.contains(key) || left == right) return;
    throw UserError(detail::concat(source.where, ": shape.", key, ": the config of model '",
                                   source.name, "' says ", left, ", the checkpoint ", right,
                                   "; correct the config, or check that this is the model meant"));
  };
  const auto yes = [](bool value) { return std::string(value ? "true" : "false"); };
  check("vocabulary", said.vocabulary, found.vocabulary);
  check("context", said.context, found.context);
  check("d_model", said.d_model, found.d_model);
  check("layers", said.layers, found.layers);
  check("n_heads", said.n_heads, found.n_heads);
  check("n_kv_heads", said.n_kv_heads, found.n_kv_heads);
  check("head_dim", said.head_dim, found.head_dim);
  check("d_mlp", said.d_mlp, found.d_mlp);
  check("norm", std::string(name_of(said.norm)), std::string(name_of(found.norm)));
  // GGUF stores it as a 32-bit float.
  check("norm_epsilon", static_cast<float>(said.norm_epsilon),
        static_cast<float>(found.norm_epsilon));
  check("mlp", std::string(name_of(said.mlp)), std::string(name_of(found.mlp)));
  check("qkv_bias", yes(said.qkv_bias), yes(found.qkv_bias));
  check("output_bias", yes(said.output_bias), yes(found.output_bias));
  check("mlp_bias", yes(said.mlp_bias), yes(found.mlp_bias));
  check("tied_head", yes(said.tied_head), yes(found.tied_head));
  check("window", said.window, found.window);
  check("position", said.position.type, found.position.type);
  for (const auto& [name, option] : said.position.options) {
    const auto other = found.position.options.find(name);
    if (other == found.position.options.end()) continue;
    check("position", detail::concat(name, " ", plain_number(option.text)),
          detail::concat(name, " ", plain_number(other->second.text)));
  }
  const auto list = [](const std::vector<int32_t>& tokens) {
    std::string text = "[";
    for (const int32_t token : tokens) {
      text += (text.size() == 1 ? "" : ", ") + std::to_string(token);
    }
    return text + "]";
  };
  check("stop_tokens", list(said.stop_tokens), list(found.stop_tokens));
}

}  // namespace kvlab
