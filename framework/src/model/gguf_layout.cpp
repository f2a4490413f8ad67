#include <ATen/ops/cat.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "checkpoint_layout.h"
#include "file_bytes.h"
#include "kvlab/core/error.h"
#include "weight_reader.h"

namespace kvlab {

namespace {

using model_file::in_quotes;

std::string where(const GgufFile& file) { return "[model.gguf.config] " + file.path() + ": "; }

int64_t required_integer(const GgufFile& file, const char* key) {
  const auto value = file.integer(key);
  KVLAB_CHECK(value.has_value(), where(file), "key '", key, "' is missing");
  return *value;
}

// A key of the architecture that this reader does not know may change the arithmetic.
void refuse_unknown_keys(const GgufFile& file) {
  static const std::set<std::string, std::less<>> known = {
      "llama.block_count", "llama.context_length", "llama.embedding_length",
      "llama.feed_forward_length", "llama.attention.head_count", "llama.attention.head_count_kv",
      "llama.attention.layer_norm_rms_epsilon", "llama.attention.key_length",
      "llama.attention.value_length", "llama.rope.freq_base", "llama.rope.dimension_count",
      "llama.rope.scaling.type", "llama.vocab_size", "llama.tensor_data_layout"};
  const std::string scaling = file.text("llama.rope.scaling.type").value_or("absent");
  for (const std::string& key : file.keys()) {
    if (!key.starts_with("llama.")) continue;
    const bool rope_scaling = key.starts_with("llama.rope.scal");
    // The numbers of a scaling that is switched off mean nothing.
    if (rope_scaling && scaling == "none") continue;
    KVLAB_CHECK(!rope_scaling, where(file), "RoPE scaling changes the arithmetic and is not "
                "implemented, key ", in_quotes(key), " with scaling type ", in_quotes(scaling));
    KVLAB_CHECK(known.contains(key), where(file), "key ", in_quotes(key),
                " is not known and may change the arithmetic");
  }
}

// Names go into reports, so one that is not printable gives way to the file's.
std::string read_name(const GgufFile& file) {
  const std::string name = file.text("general.name").value_or("");
  const bool printable = std::all_of(name.begin(), name.end(),
                                     [](char c) { return c >= 0x20 && c < 0x7f; });
  if (!name.empty() && printable) return name;
  return std::filesystem::path(file.path()).stem().string();
}

int64_t read_vocabulary(const GgufFile& file) {
  const auto tokens = file.texts("tokenizer.ggml.tokens");
  const auto size = file.integer("llama.vocab_size");
  KVLAB_CHECK(tokens || size, where(file),
              "the vocabulary has neither tokenizer.ggml.tokens nor llama.vocab_size");
  const int64_t count = tokens ? static_cast<int64_t>(tokens->size()) : *size;
  KVLAB_CHECK_EQ(size.value_or(count), count, where(file),
                 "llama.vocab_size against the number of tokenizer.ggml.tokens");
  return count;
}

// The rows of each head are stored as interleaved pairs (0, D/2, 1, D/2+1, ...); rotate-half order
// has the first halves of all pairs, then the second halves.
at::Tensor to_rotate_half(const at::Tensor& weight, int64_t heads, int64_t head_dim) {
  const int64_t inputs = weight.size(1);
  return weight.view({heads, head_dim / 2, 2, inputs})
      .transpose(1, 2)
      .reshape({heads * head_dim, inputs});
}

std::vector<int32_t> special_tokens(const GgufFile& file, size_t vocabulary) {
  constexpr int64_t kControl = 3, kUserDefined = 4, kLastType = 6;
  std::vector<int32_t> special;
  const auto types = file.integers("tokenizer.ggml.token_type");
  if (!types) return special;
  KVLAB_CHECK_EQ(types->size(), vocabulary, where(file),
                 "the number of tokenizer.ggml.token_type against that of tokens");
  for (size_t i = 0; i < types->size(); ++i) {
    const int64_t type = (*types)[i];
    KVLAB_CHECK(type >= 1 && type <= kLastType, where(file), "token ", i, " has the unknown type ",
                type);
    if (type == kControl || type == kUserDefined) special.push_back(static_cast<int32_t>(i));
  }
  return special;
}

PreTokenizer read_pre_tokenizer(const GgufFile& file) {
  const auto name = file.text("tokenizer.ggml.pre");
  KVLAB_CHECK(name.has_value(), where(file),
              "tokenizer.ggml.pre is missing, so how text is cut is not known");
  if (*name == "smollm") return PreTokenizer::smollm;
  KVLAB_CHECK(*name == "gpt-2", where(file), "tokenizer.ggml.pre ", in_quotes(*name),
              " is not implemented; known: smollm, gpt-2");
  return PreTokenizer::gpt2;
}

}  // namespace

ModelConfig read_gguf_config(const GgufFile& file) {
  const auto architecture = file.text("general.architecture");
  KVLAB_CHECK(architecture.has_value(), where(file), "general.architecture is missing");
  KVLAB_CHECK(*architecture == "llama", where(file), "general.architecture ",
              in_quotes(*architecture), " is not implemented; known: llama");
  refuse_unknown_keys(file);
  ModelConfig config;
  config.name = read_name(file);
  config.vocabulary = read_vocabulary(file);
  config.context = required_integer(file, "llama.context_length");
  config.d_model = required_integer(file, "llama.embedding_length");
  config.layers = required_integer(file, "llama.block_count");
  config.n_heads = required_integer(file, "llama.attention.head_count");
  config.n_kv_heads = file.integer("llama.attention.head_count_kv").value_or(config.n_heads);
  const auto key_length = file.integer("llama.attention.key_length");
  KVLAB_CHECK(key_length || (config.n_heads > 0 && config.d_model % config.n_heads == 0),
              where(file), "embedding_length must be a multiple of head_count, got ",
              config.d_model, " and ", config.n_heads);
  config.head_dim = key_length ? *key_length : config.d_model / config.n_heads;
  KVLAB_CHECK_EQ(file.integer("llama.attention.value_length").value_or(config.head_dim),
                 config.head_dim, where(file), "llama.attention.value_length");
  KVLAB_CHECK_EQ(file.integer("llama.rope.dimension_count").value_or(config.head_dim),
                 config.head_dim, where(file),
                 "llama.rope.dimension_count, of which only the whole head is implemented");
  config.d_mlp = required_integer(file, "llama.feed_forward_length");
  config.norm = NormType::rmsnorm;
  const auto epsilon = file.number("llama.attention.layer_norm_rms_epsilon");
  KVLAB_CHECK(epsilon.has_value(), where(file),
              "key 'llama.attention.layer_norm_rms_epsilon' is missing");
  config.norm_epsilon = *epsilon;
  config.mlp = MlpType::swiglu;
  config.qkv_bias = config.output_bias = config.mlp_bias = false;
  config.tied_head = !file.contains("output.weight");
  const double theta = file.number("llama.rope.freq_base").value_or(10000.0);
  KVLAB_CHECK(theta > 0, where(file), "llama.rope.freq_base must be positive, got ", theta);
  config.position.type = "rope";
  config.position.options["theta"] = RawOption{number_text(theta), nullptr, ""};
  if (const auto stop = file.integer("tokenizer.ggml.eos_token_id")) {
    KVLAB_CHECK_LT(*stop, config.vocabulary, where(file), "tokenizer.ggml.eos_token_id");
    config.stop_tokens.push_back(static_cast<int32_t>(*stop));
  }
  config.validate();
  return config;
}

DecoderWeights read_gguf_weights(const GgufFile& file, const ModelConfig& config) {
  const int64_t d = config.d_model;
  const int64_t query_rows = config.n_heads * config.head_dim;
  const int64_t key_rows = config.n_kv_heads * config.head_dim;
  KVLAB_CHECK(!file.contains("rope_freqs.weight"), where(file),
              "tensor 'rope_freqs.weight' scales RoPE, which is not implemented");
  WeightReader reader({file.path(), file.names(),
                       [&](const std::string& name) { return file.info(name).shape; },
                       [&](const std::string& name) { return file.tensor(name); }});
  DecoderWeights weights;
  weights.token_embedding = reader.take("token_embd.weight", {config.vocabulary, d});
  for (int64_t i = 0; i < config.layers; ++i) {
    const std::string prefix = "blk." + std::to_string(i) + ".";
    const auto take = [&](const char* name, const std::vector<int64_t>& shape) {
      return reader.take(prefix + name + ".weight", shape);
    };
    LayerWeights layer;
    layer.attention_norm = take("attn_norm", {d});
    layer.qkv = at::cat(
        {to_rotate_half(take("attn_q", {query_rows, d}), config.n_heads, config.head_dim),
         to_rotate_half(take("attn_k", {key_rows, d}), config.n_kv_heads, config.head_dim),
         take("attn_v", {key_rows, d})});
    layer.output = take("attn_output", {d, query_rows});
    layer.mlp_norm = take("ffn_norm", {d});
    layer.up = at::cat({take("ffn_gate", {config.d_mlp, d}), take("ffn_up", {config.d_mlp, d})});
    layer.down = take("ffn_down", {d, config.d_mlp});
    weights.layers.push_back(std::move(layer));
  }
  weights.final_norm = reader.take("output_norm.weight", {d});
  weights.head = config.tied_head ? weights.token_embedding
                                  : reader.take("output.weight", {config.vocabulary, d});
  reader.finish();
  weights.validate(config);
  return weights;
}

std::optional<TokenizerData> read_gguf_tokenizer(const GgufFile& file) {
  const auto model = file.text("tokenizer.ggml.model");
  auto tokens = file.texts("tokenizer.ggml.tokens");
  if (!model && !tokens) return std::nullopt;
  KVLAB_CHECK(model.has_value(), where(file), "tokenizer.ggml.model is missing");
  if (*model == "none" || *model == "no_vocab") return std::nullopt;
  KVLAB_CHECK(*model == "gpt2", where(file), "tokenizer.ggml.model ", in_quotes(*model),
              " is not implemented; known: gpt2");
  KVLAB_CHECK(tokens.has_value(), where(file), "tokenizer.ggml.tokens is missing");
  const auto merges = file.texts("tokenizer.ggml.merges");
  KVLAB_CHECK(merges.has_value(), where(file), "tokenizer.ggml.merges is missing");
  TokenizerData data;
  data.pre_tokenizer = read_pre_tokenizer(file);
  data.special = special_tokens(file, tokens->size());
  data.tokens = std::move(*tokens);
  data.merges.reserve(merges->size());
  for (const std::string& merge : *merges) {
    const size_t space = merge.find(' ');
    KVLAB_CHECK(space != std::string::npos && space > 0 && space + 1 < merge.size() &&
                    merge.find(' ', space + 1) == std::string::npos,
                where(file), "a merge is two tokens with one space between, got ",
                in_quotes(merge));
    data.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  return data;
}

}  // namespace kvlab
