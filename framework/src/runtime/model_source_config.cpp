// The model of an experiment: where its weights are, and its shape.
#include <charconv>
#include <limits>

#include "kvlab/core/error.h"
#include "kvlab/runtime/config_schema.h"
#include "kvlab/runtime/experiment_config.h"

namespace kvlab {

namespace {

constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();
constexpr int64_t kLargestSize = int64_t{1} << 31;  // of one dimension; products stay in 64 bits

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

}  // namespace

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
