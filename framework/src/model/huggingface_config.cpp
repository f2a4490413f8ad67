#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "checkpoint_layout.h"
#include "file_bytes.h"
#include "kvlab/core/error.h"
#include "strict_json.h"

namespace kvlab {

namespace {

using model_file::in_quotes;
using nlohmann::json;

// Typed access to the keys of a config.json. A null counts as absent, as it does for its writer.
class ConfigReader {
 public:
  ConfigReader(const json& object, std::string where) : object_(object), where_(std::move(where)) {}

  const json* find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  // True also for a key that says null.
  bool has(const char* key) const { return object_.contains(key); }

  std::optional<int64_t> optional_integer(const char* key) const {
    const json* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (value->is_number_unsigned() &&
        value->get<uint64_t>() <= uint64_t{std::numeric_limits<int64_t>::max()}) {
      return value->get<int64_t>();
    }
    wrong(key, *value, "a whole number that is not negative");
  }

  int64_t integer(const char* key) const {
    const auto value = optional_integer(key);
    KVLAB_CHECK(value.has_value(), where_, "key '", key, "' is missing");
    return *value;
  }

  std::optional<double> optional_number(const char* key) const {
    const json* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_number() || !std::isfinite(value->get<double>())) {
      wrong(key, *value, "a finite number");
    }
    return value->get<double>();
  }

  double number(const char* key) const {
    const auto value = optional_number(key);
    KVLAB_CHECK(value.has_value(), where_, "key '", key, "' is missing");
    return *value;
  }

  bool flag(const char* key, bool absent) const {
    const json* value = find(key);
    if (value == nullptr) return absent;
    if (!value->is_boolean()) wrong(key, *value, "true or false");
    return value->get<bool>();
  }

  std::string text(const char* key, const char* absent) const {
    const json* value = find(key);
    if (value == nullptr) return absent;
    if (!value->is_string()) wrong(key, *value, "text");
    return value->get<std::string>();
  }

  // Refuses a key that changes the arithmetic, unless it has the one value that is implemented.
  void only(const char* key, bool implemented) const {
    KVLAB_CHECK(flag(key, implemented) == implemented, where_, key, ": ",
                implemented ? "false" : "true", " changes the arithmetic and is not implemented");
  }

  void absent(const char* key) const {
    KVLAB_CHECK(find(key) == nullptr, where_, key,
                " changes the arithmetic and is not implemented");
  }

  [[noreturn]] void wrong(const char* key, const json& value, const char* wanted) const {
    std::string got = value.dump(-1, ' ', true, json::error_handler_t::replace);
    detail::throw_user(
        detail::concat(where_, "key '", key, "' must be ", wanted, ", got ", in_quotes(got)));
  }

  const std::string& where() const { return where_; }

 private:
  const json& object_;
  std::string where_;
};

std::vector<int32_t> read_stop_tokens(const ConfigReader& reader, int64_t vocabulary) {
  std::vector<int32_t> tokens;
  const json* value = reader.find("eos_token_id");
  if (value == nullptr) return tokens;
  const json list = value->is_array() ? *value : json::array({*value});
  for (const json& item : list) {
    if (!item.is_number_unsigned()) {
      reader.wrong("eos_token_id", *value, "a token id or a list of token ids");
    }
    // Small models often keep the id of a larger vocabulary. Such a token can never come out.
    const auto token = item.get<uint64_t>();
    if (token < static_cast<uint64_t>(vocabulary)) tokens.push_back(static_cast<int32_t>(token));
  }
  return tokens;
}

void set_position(ModelConfig& config, const char* type) {
  config.position = ComponentSpec{};
  config.position.type = type;
}

ModelConfig read_gpt2(const ConfigReader& reader) {
  reader.only("scale_attn_weights", true);
  reader.only("scale_attn_by_inverse_layer_idx", false);
  reader.only("reorder_and_upcast_attn", false);
  reader.only("add_cross_attention", false);
  ModelConfig config;
  config.vocabulary = reader.integer("vocab_size");
  config.context = reader.integer("n_positions");
  config.d_model = reader.integer("n_embd");
  config.layers = reader.integer("n_layer");
  config.n_heads = reader.integer("n_head");
  config.n_kv_heads = config.n_heads;
  KVLAB_CHECK(config.n_heads > 0 && config.d_model % config.n_heads == 0, reader.where(),
              "n_embd must be a multiple of n_head, got ", config.d_model, " and ", config.n_heads);
  config.head_dim = config.d_model / config.n_heads;
  const auto inner = reader.optional_integer("n_inner");
  constexpr int64_t kLargestWidth = int64_t{1} << 24;
  KVLAB_CHECK_LE(config.d_model, kLargestWidth, reader.where(), "n_embd");
  config.d_mlp = inner ? *inner : 4 * config.d_model;
  config.norm = NormType::layernorm;
  config.norm_epsilon = reader.optional_number("layer_norm_epsilon").value_or(1e-5);
  const std::string activation = reader.text("activation_function", "gelu_new");
  if (activation == "gelu_new" || activation == "gelu_pytorch_tanh") {
    config.mlp = MlpType::gelu_tanh;
  } else if (activation == "gelu") {
    config.mlp = MlpType::gelu_erf;
  } else {
    detail::throw_user(detail::concat(reader.where(), "activation_function ", in_quotes(activation),
                                      " is not implemented; known: gelu_new, gelu_pytorch_tanh, "
                                      "gelu"));
  }
  config.qkv_bias = config.output_bias = config.mlp_bias = true;
  config.tied_head = reader.flag("tie_word_embeddings", true);
  set_position(config, "learned");
  return config;
}

// The base of the rotation angles, which older files keep at the top and newer ones in an object
// that may also ask for scaling.
double read_rope_theta(const ConfigReader& reader) {
  std::optional<double> theta = reader.optional_number("rope_theta");
  KVLAB_CHECK_EQ(reader.optional_number("partial_rotary_factor").value_or(1.0), 1.0, reader.where(),
                 "partial_rotary_factor changes the arithmetic");
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const json* value = reader.find(key);
    if (value == nullptr) continue;
    if (!value->is_object()) reader.wrong(key, *value, "an object");
    const ConfigReader inner(*value, reader.where() + key + ": ");
    for (const char* type_key : {"rope_type", "type"}) {
      const std::string type = inner.text(type_key, "default");
      KVLAB_CHECK(type == "default", inner.where(), type_key, " ", in_quotes(type),
                  " changes the arithmetic and is not implemented; known: default");
    }
    KVLAB_CHECK_EQ(inner.optional_number("partial_rotary_factor").value_or(1.0), 1.0, inner.where(),
                   "partial_rotary_factor changes the arithmetic");
    const auto inner_theta = inner.optional_number("rope_theta");
    KVLAB_CHECK(!theta || !inner_theta || *theta == *inner_theta, reader.where(),
                "rope_theta has two values, ", theta.value_or(0), " and ", inner_theta.value_or(0));
    if (inner_theta) theta = inner_theta;
  }
  const double value = theta.value_or(10000.0);
  KVLAB_CHECK(value > 0, reader.where(), "rope_theta must be positive, got ", value);
  return value;
}

int64_t read_window(const ConfigReader& reader) {
  const auto window = reader.optional_integer("sliding_window");
  if (!window || !reader.flag("use_sliding_window", true)) return 0;
  KVLAB_CHECK_GE(*window, 1, reader.where(), "sliding_window");
  return *window;
}

// Newer files say it per layer; one kind for all layers is what the model has.
void check_layer_types(const ConfigReader& reader, int64_t window) {
  const json* types = reader.find("layer_types");
  if (types == nullptr) return;
  const char* wanted = window > 0 ? "sliding_attention" : "full_attention";
  if (!types->is_array()) reader.wrong("layer_types", *types, "a list");
  for (const json& type : *types) {
    if (type != wanted) reader.wrong("layer_types", *types, "the same for all layers");
  }
}

ModelConfig read_llama(const ConfigReader& reader, const std::string& model_type) {
  const std::string activation = reader.text("hidden_act", "silu");
  KVLAB_CHECK(activation == "silu", reader.where(), "hidden_act ", in_quotes(activation),
              " is not implemented; known: silu");
  KVLAB_CHECK_EQ(reader.optional_integer("pretraining_tp").value_or(1), 1, reader.where(),
                 "pretraining_tp changes the arithmetic");
  if (model_type == "mistral") {
    // Where mistral leaves these out it does not mean what llama means.
    reader.integer("num_key_value_heads");
    KVLAB_CHECK(reader.has("sliding_window"), reader.where(),
                "key 'sliding_window' is missing; write null for none");
    reader.only("attention_bias", false);
    reader.only("mlp_bias", false);
  }
  ModelConfig config;
  config.vocabulary = reader.integer("vocab_size");
  config.context = reader.integer("max_position_embeddings");
  config.d_model = reader.integer("hidden_size");
  config.layers = reader.integer("num_hidden_layers");
  config.n_heads = reader.integer("num_attention_heads");
  config.n_kv_heads = reader.optional_integer("num_key_value_heads").value_or(config.n_heads);
  const auto head_dim = reader.optional_integer("head_dim");
  KVLAB_CHECK(head_dim || (config.n_heads > 0 && config.d_model % config.n_heads == 0),
              reader.where(), "hidden_size must be a multiple of num_attention_heads, got ",
              config.d_model, " and ", config.n_heads);
  config.head_dim = head_dim ? *head_dim : config.d_model / config.n_heads;
  config.d_mlp = reader.integer("intermediate_size");
  config.norm = NormType::rmsnorm;
  config.norm_epsilon = reader.number("rms_norm_eps");
  config.mlp = MlpType::swiglu;
  config.qkv_bias = config.output_bias = reader.flag("attention_bias", false);
  config.mlp_bias = reader.flag("mlp_bias", false);
  config.tied_head = reader.flag("tie_word_embeddings", false);
  config.window = read_window(reader);
  check_layer_types(reader, config.window);
  set_position(config, "rope");
  config.position.options["theta"] = RawOption{number_text(read_rope_theta(reader)), nullptr, ""};
  return config;
}

}  // namespace

std::string number_text(double value) {
  char buffer[400];
  // Whole numbers without an exponent: 100000, not 1e+05.
  const bool whole = std::nearbyint(value) == value && std::abs(value) < 1e15;
  const auto result =
      whole ? std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::fixed)
            : std::to_chars(buffer, buffer + sizeof(buffer), value);
  return {buffer, result.ptr};
}

HuggingFaceModel read_huggingface_config(const std::filesystem::path& config_file) {
  constexpr const char* kOperation = "model.config.read";
  const json object = model_file::read_object(config_file.string(), kOperation);
  const ConfigReader reader(object,
                            detail::concat("[", kOperation, "] ", config_file.string(), ": "));
  reader.absent("quantization_config");
  const std::string type = reader.text("model_type", "");
  HuggingFaceModel model;
  if (type == "gpt2") {
    model.family = HuggingFaceFamily::gpt2;
    model.config = read_gpt2(reader);
  } else if (type == "llama" || type == "mistral") {
    model.family = HuggingFaceFamily::llama;
    model.config = read_llama(reader, type);
  } else {
    detail::throw_user(detail::concat(reader.where(), "model_type ", in_quotes(type),
                                      " is not implemented; known: gpt2, llama, mistral"));
  }
  const auto folder = std::filesystem::absolute(config_file).parent_path();
  model.config.name = folder.filename().string();
  model.config.stop_tokens = read_stop_tokens(reader, model.config.vocabulary);
  model.config.validate();
  return model;
}

}  // namespace kvlab
