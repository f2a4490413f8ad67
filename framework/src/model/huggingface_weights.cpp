#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "checkpoint_layout.h"
#include "file_bytes.h"
#include "kvlab/core/error.h"
#include "strict_json.h"
#include "weight_reader.h"

namespace kvlab {

namespace {

namespace fs = std::filesystem;
using model_file::in_quotes;

// The safetensors files of one folder, seen as one set of tensors.
class ShardedSafetensors {
 public:
  explicit ShardedSafetensors(const fs::path& folder) : folder_(folder.string()) {
    const fs::path single = folder / "model.safetensors";
    const fs::path index = folder / "model.safetensors.index.json";
    if (fs::exists(single)) {
      const SafetensorsFile& file = open(single);
      for (const std::string& name : file.names()) places_.emplace(name, &file);
    } else if (fs::exists(index)) {
      read_index(folder, index);
    } else {
      refuse_other_files(folder);
    }
  }

  WeightReader::Source source() const {
    WeightReader::Source source;
    source.path = folder_;
    for (const auto& [name, unused] : places_) source.names.push_back(name);
    source.shape = [this](const std::string& name) { return places_.at(name)->entry(name).shape; };
    source.load = [this](const std::string& name) { return places_.at(name)->tensor(name); };
    return source;
  }

 private:
  const SafetensorsFile& open(const fs::path& path) {
    files_.push_back(std::make_unique<SafetensorsFile>(path.string()));
    return *files_.back();
  }

  void read_index(const fs::path& folder, const fs::path& index) {
    const std::string where = "[model.checkpoint] " + index.string() + ": ";
    const nlohmann::json object = model_file::read_object(index.string(), "model.checkpoint");
    const auto map = object.find("weight_map");
    KVLAB_CHECK(map != object.end() && map->is_object() && !map->empty(), where,
                "weight_map must be an object that names the file of every tensor");
    std::map<std::string, const SafetensorsFile*> shards;
    for (const auto& [name, value] : map->items()) {
      KVLAB_CHECK(value.is_string(), where, "weight_map names no file for tensor ",
                  in_quotes(name));
      const auto shard = value.get<std::string>();
      KVLAB_CHECK(shard.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos, where,
                  "a shard is a file in the same folder, got ", in_quotes(shard));
      KVLAB_CHECK(shard.ends_with(".safetensors"), where, "a shard is a .safetensors file, got ",
                  in_quotes(shard));
      const auto [place, fresh] = shards.emplace(shard, nullptr);
      if (fresh) place->second = &open(folder / shard);
      KVLAB_CHECK(place->second->contains(name), where, "tensor ", in_quotes(name),
                  " is not in its shard ", in_quotes(shard));
      places_.emplace(name, place->second);
    }
    for (const auto& [shard, file] : shards) {
      for (const std::string& name : file->names()) {
        const auto place = places_.find(name);
        KVLAB_CHECK(place != places_.end(), where, "tensor ", in_quotes(name), " of shard ",
                    in_quotes(shard), " is not in weight_map");
        KVLAB_CHECK(place->second == file, where, "tensor ", in_quotes(name),
                    " is in two shards, one of them ", in_quotes(shard));
      }
    }
  }

  [[noreturn]] void refuse_other_files(const fs::path& folder) const {
    for (const char* name :
         {"pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "consolidated.00.pth"}) {
      KVLAB_CHECK(!fs::exists(folder / name), "[model.checkpoint] ", folder.string(),
                  " holds its weights as ", name,
                  ", a pickle, which may run code when it is read and is never opened; convert it "
                  "to safetensors");
    }
    throw MissingError(detail::concat("[model.checkpoint] ", folder.string(),
                                      " has neither model.safetensors nor "
                                      "model.safetensors.index.json"));
  }

  std::string folder_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, const SafetensorsFile*> places_;
};

// A tied head may be stored once more. It must be the embedding then.
void set_head(WeightReader& reader, const ModelConfig& config, DecoderWeights& weights) {
  constexpr const char* kHead = "lm_head.weight";
  if (config.tied_head && !reader.contains(kHead)) {
    weights.head = weights.token_embedding;
    return;
  }
  const at::Tensor head = reader.take(kHead, {config.vocabulary, config.d_model});
  if (config.tied_head) {
    KVLAB_CHECK(at::equal(head, weights.token_embedding), "[model.checkpoint] ", kHead,
                " differs from the token embedding, but tie_word_embeddings says they are one");
    weights.head = weights.token_embedding;
  } else {
    weights.head = head;
  }
}

DecoderWeights read_gpt2(WeightReader& reader, const ModelConfig& config) {
  const int64_t d = config.d_model;
  const int64_t m = config.d_mlp;
  const std::string root = reader.contains("transformer.wte.weight") ? "transformer." : "";
  DecoderWeights weights;
  weights.token_embedding = reader.take(root + "wte.weight", {config.vocabulary, d});
  weights.position_table = reader.take(root + "wpe.weight", {config.context, d});
  // GPT-2 keeps linear weights as [in, out].
  const auto transposed = [&](const std::string& name, int64_t in, int64_t out) {
    return reader.take(name, {in, out}).t().contiguous();
  };
  for (int64_t i = 0; i < config.layers; ++i) {
    const std::string prefix = root + "h." + std::to_string(i) + ".";
    LayerWeights layer;
    layer.attention_norm = reader.take(prefix + "ln_1.weight", {d});
    layer.attention_norm_bias = reader.take(prefix + "ln_1.bias", {d});
    layer.qkv = transposed(prefix + "attn.c_attn.weight", d, 3 * d);
    layer.qkv_bias = reader.take(prefix + "attn.c_attn.bias", {3 * d});
    layer.output = transposed(prefix + "attn.c_proj.weight", d, d);
    layer.output_bias = reader.take(prefix + "attn.c_proj.bias", {d});
    layer.mlp_norm = reader.take(prefix + "ln_2.weight", {d});
    layer.mlp_norm_bias = reader.take(prefix + "ln_2.bias", {d});
    layer.up = transposed(prefix + "mlp.c_fc.weight", d, m);
    layer.up_bias = reader.take(prefix + "mlp.c_fc.bias", {m});
    layer.down = transposed(prefix + "mlp.c_proj.weight", m, d);
    layer.down_bias = reader.take(prefix + "mlp.c_proj.bias", {d});
    // Causal masks that older files store with the weights.
    reader.ignore(prefix + "attn.bias");
    reader.ignore(prefix + "attn.masked_bias");
    weights.layers.push_back(std::move(layer));
  }
  weights.final_norm = reader.take(root + "ln_f.weight", {d});
  weights.final_norm_bias = reader.take(root + "ln_f.bias", {d});
  set_head(reader, config, weights);
  return weights;
}

DecoderWeights read_llama(WeightReader& reader, const ModelConfig& config) {
  const int64_t d = config.d_model;
  const int64_t query_rows = config.n_heads * config.head_dim;
  const int64_t key_rows = config.n_kv_heads * config.head_dim;
  DecoderWeights weights;
  weights.token_embedding = reader.take("model.embed_tokens.weight", {config.vocabulary, d});
  for (int64_t i = 0; i < config.layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    const std::string attention = prefix + "self_attn.";
    const std::string mlp = prefix + "mlp.";
    LayerWeights layer;
    layer.attention_norm = reader.take(prefix + "input_layernorm.weight", {d});
    layer.qkv = at::cat({reader.take(attention + "q_proj.weight", {query_rows, d}),
                         reader.take(attention + "k_proj.weight", {key_rows, d}),
                         reader.take(attention + "v_proj.weight", {key_rows, d})});
    layer.output = reader.take(attention + "o_proj.weight", {d, query_rows});
    layer.mlp_norm = reader.take(prefix + "post_attention_layernorm.weight", {d});
    layer.up = at::cat({reader.take(mlp + "gate_proj.weight", {config.d_mlp, d}),
                        reader.take(mlp + "up_proj.weight", {config.d_mlp, d})});
    layer.down = reader.take(mlp + "down_proj.weight", {d, config.d_mlp});
    if (config.qkv_bias) {
      layer.qkv_bias = at::cat({reader.take(attention + "q_proj.bias", {query_rows}),
                                reader.take(attention + "k_proj.bias", {key_rows}),
                                reader.take(attention + "v_proj.bias", {key_rows})});
    }
    if (config.output_bias) layer.output_bias = reader.take(attention + "o_proj.bias", {d});
    if (config.mlp_bias) {
      layer.up_bias = at::cat({reader.take(mlp + "gate_proj.bias", {config.d_mlp}),
                               reader.take(mlp + "up_proj.bias", {config.d_mlp})});
      layer.down_bias = reader.take(mlp + "down_proj.bias", {d});
    }
    // The angles follow from rope_theta.
    reader.ignore(attention + "rotary_emb.inv_freq");
    weights.layers.push_back(std::move(layer));
  }
  reader.ignore("model.rotary_emb.inv_freq");
  weights.final_norm = reader.take("model.norm.weight", {d});
  set_head(reader, config, weights);
  return weights;
}

// A file may keep its norms in another type than its matrices. The decoder has one type.
void unify_types(DecoderWeights& weights) {
  bool bfloat16 = true;
  const auto look = [&](const at::Tensor& tensor) {
    if (tensor.defined() && tensor.scalar_type() != at::kBFloat16) bfloat16 = false;
  };
  for (const at::Tensor* tensor : {&weights.token_embedding, &weights.position_table,
                                   &weights.final_norm, &weights.final_norm_bias, &weights.head}) {
    look(*tensor);
  }
  for (const LayerWeights& layer : weights.layers) {
    for (const at::Tensor* tensor :
         {&layer.attention_norm, &layer.attention_norm_bias, &layer.qkv, &layer.qkv_bias,
          &layer.output, &layer.output_bias, &layer.mlp_norm, &layer.mlp_norm_bias, &layer.up,
          &layer.up_bias, &layer.down, &layer.down_bias}) {
      look(*tensor);
    }
  }
  weights.cast(bfloat16 ? at::kBFloat16 : at::kFloat);
}

}  // namespace

DecoderWeights read_huggingface_weights(const std::filesystem::path& folder,
                                        const HuggingFaceModel& model) {
  const ShardedSafetensors files(folder);
  WeightReader reader(files.source());
  DecoderWeights weights = model.family == HuggingFaceFamily::gpt2
                               ? read_gpt2(reader, model.config)
                               : read_llama(reader, model.config);
  reader.finish();
  unify_types(weights);
  weights.validate(model.config);
  return weights;
}

}  // namespace kvlab
