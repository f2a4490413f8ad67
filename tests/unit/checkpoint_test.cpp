// Whole models: Hugging Face folders and GGUF files, their shapes, layouts and refusals.
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <map>

#include "../fixtures/model_file_writer.h"
#include "kvlab/core/error.h"
#include "kvlab/model/checkpoint.h"
#include "kvlab/model/tensor_file.h"

namespace kvlab {
namespace {

namespace fs = std::filesystem;
using testing::GgufWriter;
using testing::raw;
using testing::raw_floats;
using testing::read_bytes;
using testing::SafetensorsWriter;
using testing::TemporaryFolder;

const fs::path kGolden = fs::path(KVLAB_SOURCE_DIR) / "tests" / "golden";

std::string refusal(const std::function<void()>& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  return "nothing was refused";
}

void expect_mentions(const std::string& message, const std::string& part) {
  EXPECT_NE(message.find(part), std::string::npos) << message << "; wanted " << part;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  if (at == std::string::npos) throw std::runtime_error("no '" + from + "' in the text");
  return text.replace(at, from.size(), to);
}

std::string float_bytes(const at::Tensor& tensor) {
  const at::Tensor dense = tensor.contiguous();
  return {static_cast<const char*>(dense.const_data_ptr()), dense.nbytes()};
}

// Tensors of a model by name, to write them again in another way.
using Tensors = std::map<std::string, at::Tensor>;

Tensors golden_tensors(const char* model) {
  const SafetensorsFile file((kGolden / model / "model.safetensors").string());
  Tensors tensors;
  for (const std::string& name : file.names()) tensors[name] = file.tensor(name);
  return tensors;
}

std::string written(const Tensors& tensors, at::ScalarType type = at::kFloat) {
  SafetensorsWriter writer;
  for (const auto& [name, tensor] : tensors) {
    writer.add(name, type == at::kBFloat16 ? "BF16" : "F32", tensor.sizes().vec(),
               float_bytes(tensor.to(type)));
  }
  return writer.bytes();
}

std::string golden_config(const char* model) { return read_bytes(kGolden / model / "config.json"); }

TEST(Checkpoint, ReadsGpt2WithTransposedLinearLayers) {
  const Checkpoint checkpoint = read_checkpoint((kGolden / "gpt2_tiny").string());
  const ModelConfig& config = checkpoint.config;
  EXPECT_EQ(config.name, "gpt2_tiny");
  EXPECT_EQ(config.vocabulary, 199);
  EXPECT_EQ(config.context, 128);
  EXPECT_EQ(config.d_model, 48);
  EXPECT_EQ(config.layers, 3);
  EXPECT_EQ(config.n_heads, 6);
  EXPECT_EQ(config.n_kv_heads, 6);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.d_mlp, 192);
  EXPECT_EQ(config.norm, NormType::layernorm);
  EXPECT_EQ(config.mlp, MlpType::gelu_tanh);
  EXPECT_EQ(config.position.type, "learned");
  EXPECT_TRUE(config.qkv_bias && config.output_bias && config.mlp_bias && config.tied_head);
  EXPECT_TRUE(config.stop_tokens.empty());  // 50256 is outside this vocabulary
  EXPECT_FALSE(checkpoint.tokenizer.has_value());
  EXPECT_NO_THROW(checkpoint.weights.validate(config));
  EXPECT_TRUE(checkpoint.weights.head.is_same(checkpoint.weights.token_embedding));
  EXPECT_EQ(checkpoint.weights.bytes(), 4 * config.parameters());
  const Tensors stored = golden_tensors("gpt2_tiny");
  const LayerWeights& layer = checkpoint.weights.layers[1];
  EXPECT_TRUE(at::equal(layer.qkv, stored.at("transformer.h.1.attn.c_attn.weight").t()));
  EXPECT_TRUE(at::equal(layer.output, stored.at("transformer.h.1.attn.c_proj.weight").t()));
  EXPECT_TRUE(at::equal(layer.up, stored.at("transformer.h.1.mlp.c_fc.weight").t()));
  EXPECT_TRUE(at::equal(layer.down, stored.at("transformer.h.1.mlp.c_proj.weight").t()));
}

TEST(Checkpoint, ReadsLlamaWithGroupedHeadsAndAFreeHead) {
  const Checkpoint checkpoint = read_checkpoint((kGolden / "llama_gqa_tiny").string());
  const ModelConfig& config = checkpoint.config;
  EXPECT_EQ(config.vocabulary, 211);
  EXPECT_EQ(config.context, 256);
  EXPECT_EQ(config.layers, 3);
  EXPECT_EQ(config.n_heads, 6);
  EXPECT_EQ(config.n_kv_heads, 2);
  EXPECT_EQ(config.head_dim, 10);
  EXPECT_EQ(config.d_mlp, 112);
  EXPECT_EQ(config.norm, NormType::rmsnorm);
  EXPECT_EQ(config.norm_epsilon, 1e-5);
  EXPECT_EQ(config.mlp, MlpType::swiglu);
  EXPECT_FALSE(config.qkv_bias || config.output_bias || config.mlp_bias || config.tied_head);
  EXPECT_EQ(to_string(config.position), "rope:theta=10000");
  EXPECT_EQ(config.stop_tokens, std::vector<int32_t>{2});
  EXPECT_EQ(config.window, 0);
  EXPECT_NO_THROW(checkpoint.weights.validate(config));
  const Tensors stored = golden_tensors("llama_gqa_tiny");
  const std::string prefix = "model.layers.2.";
  const LayerWeights& layer = checkpoint.weights.layers[2];
  EXPECT_TRUE(at::equal(layer.qkv, at::cat({stored.at(prefix + "self_attn.q_proj.weight"),
                                            stored.at(prefix + "self_attn.k_proj.weight"),
                                            stored.at(prefix + "self_attn.v_proj.weight")})));
  EXPECT_TRUE(at::equal(layer.up, at::cat({stored.at(prefix + "mlp.gate_proj.weight"),
                                           stored.at(prefix + "mlp.up_proj.weight")})));
  EXPECT_TRUE(at::equal(checkpoint.weights.head, stored.at("lm_head.weight")));
}

TEST(Checkpoint, ReadsLlamaWithOneKvHeadAndATiedHead) {
  const Checkpoint checkpoint = read_checkpoint((kGolden / "llama_mqa_tied_tiny").string());
  EXPECT_EQ(checkpoint.config.n_kv_heads, 1);
  EXPECT_EQ(to_string(checkpoint.config.position), "rope:theta=100000");
  EXPECT_EQ(checkpoint.weights.head.const_data_ptr(),
            checkpoint.weights.token_embedding.const_data_ptr());
  EXPECT_EQ(checkpoint.weights.bytes(), 4 * checkpoint.config.parameters());
}

TEST(Checkpoint, ConfigIsReadFromAFolderOrItsFile) {
  const fs::path folder = kGolden / "llama_gqa_tiny";
  EXPECT_EQ(read_model_config(folder.string()).d_model, 60);
  EXPECT_EQ(read_model_config((folder / "config.json").string()).name, "llama_gqa_tiny");
}

TEST(Checkpoint, Gpt2NamesMayLackThePrefixAndCarryMasks) {
  const TemporaryFolder folder;
  Tensors bare;
  for (const auto& [name, tensor] : golden_tensors("gpt2_tiny")) {
    bare[name.starts_with("transformer.") ? name.substr(12) : name] = tensor;
  }
  bare["h.0.attn.bias"] = at::arange(4, at::kFloat);
  bare["h.0.attn.masked_bias"] = at::arange(1, at::kFloat);
  folder.write("config.json", golden_config("gpt2_tiny"));
  folder.write("model.safetensors", written(bare));
  const Checkpoint checkpoint = read_checkpoint(folder.path().string());
  const Checkpoint original = read_checkpoint((kGolden / "gpt2_tiny").string());
  EXPECT_TRUE(at::equal(checkpoint.weights.layers[2].qkv, original.weights.layers[2].qkv));
  bare["h.3.ln_1.weight"] = at::arange(48, at::kFloat);
  folder.write("model.safetensors", written(bare));
  expect_mentions(refusal([&] { read_checkpoint(folder.path().string()); }),
                  "tensor 'h.3.ln_1.weight' belongs to no part of the model; 1 such tensors");
}

TEST(Checkpoint, TiedHeadStoredAgainMustBeTheEmbedding) {
  const TemporaryFolder folder;
  Tensors tensors = golden_tensors("gpt2_tiny");
  folder.write("config.json", golden_config("gpt2_tiny"));
  tensors["lm_head.weight"] = tensors.at("transformer.wte.weight");
  folder.write("model.safetensors", written(tensors));
  const Checkpoint checkpoint = read_checkpoint(folder.path().string());
  EXPECT_TRUE(checkpoint.weights.head.is_same(checkpoint.weights.token_embedding));
  tensors["lm_head.weight"] = tensors.at("transformer.wte.weight").neg();
  folder.write("model.safetensors", written(tensors));
  expect_mentions(refusal([&] { read_checkpoint(folder.path().string()); }),
                  "lm_head.weight differs from the token embedding");
}

TEST(Checkpoint, KeepsBfloat16AndWidensAMixture) {
  const TemporaryFolder folder;
  Tensors tensors = golden_tensors("llama_mqa_tied_tiny");
  folder.write("config.json", golden_config("llama_mqa_tied_tiny"));
  folder.write("model.safetensors", written(tensors, at::kBFloat16));
  const Checkpoint brain = read_checkpoint(folder.path().string());
  EXPECT_EQ(brain.weights.layers[0].qkv.scalar_type(), at::kBFloat16);
  EXPECT_EQ(brain.weights.bytes(), 2 * brain.config.parameters());
  EXPECT_TRUE(brain.weights.head.is_same(brain.weights.token_embedding));
  SafetensorsWriter mixed;
  for (const auto& [name, tensor] : tensors) {
    const bool norm = name.find("norm") != std::string::npos;
    mixed.add(name, norm ? "F32" : "BF16", tensor.sizes().vec(),
              float_bytes(norm ? tensor : tensor.to(at::kBFloat16)));
  }
  folder.write("model.safetensors", mixed.bytes());
  const Checkpoint wide = read_checkpoint(folder.path().string());
  EXPECT_EQ(wide.weights.layers[0].qkv.scalar_type(), at::kFloat);
  EXPECT_EQ(wide.weights.bytes(), 4 * wide.config.parameters());
}

TEST(Checkpoint, ReadsBiasesOfLlamaLayers) {
  const TemporaryFolder folder;
  Tensors tensors = golden_tensors("llama_gqa_tiny");
  const std::map<std::string, int64_t> sizes = {{"self_attn.q_proj", 60}, {"self_attn.k_proj", 20},
                                                {"self_attn.v_proj", 20}, {"self_attn.o_proj", 60},
                                                {"mlp.gate_proj", 112},   {"mlp.up_proj", 112},
                                                {"mlp.down_proj", 60}};
  for (int layer = 0; layer < 3; ++layer) {
    for (const auto& [name, size] : sizes) {
      tensors["model.layers." + std::to_string(layer) + "." + name + ".bias"] =
          at::arange(size, at::kFloat);
    }
    tensors["model.layers." + std::to_string(layer) + ".self_attn.rotary_emb.inv_freq"] =
        at::arange(5, at::kFloat);
  }
  std::string config = golden_config("llama_gqa_tiny");
  config = replaced(config, "\"attention_bias\": false", "\"attention_bias\": true");
  config = replaced(config, "\"mlp_bias\": false", "\"mlp_bias\": true");
  folder.write("config.json", config);
  folder.write("model.safetensors", written(tensors));
  const Checkpoint checkpoint = read_checkpoint(folder.path().string());
  EXPECT_EQ(checkpoint.weights.layers[1].qkv_bias.sizes(), at::IntArrayRef{100});
  EXPECT_EQ(checkpoint.weights.layers[1].up_bias.const_data_ptr<float>()[113], 1.0F);
}

class ShardedFolder {
 public:
  ShardedFolder() {
    folder.write("config.json", golden_config("gpt2_tiny"));
    Tensors first, second;
    for (const auto& [name, tensor] : golden_tensors("gpt2_tiny")) {
      (name.find(".h.1.") != std::string::npos ? first : second)[name] = tensor;
    }
    folder.write("a.safetensors", written(first));
    folder.write("b.safetensors", written(second));
    for (const auto& [name, unused] : first) map[name] = "a.safetensors";
    for (const auto& [name, unused] : second) map[name] = "b.safetensors";
  }
  std::string read() {
    std::string text;
    for (const auto& [name, file] : map) {
      text += (text.empty() ? "" : ",") + ("\"" + name + "\":\"" + file + "\"");
    }
    folder.write("model.safetensors.index.json",
                 "{\"metadata\":{\"total_size\":1},\"weight_map\":{" + text + "}}");
    return refusal([&] { checkpoint = read_checkpoint(folder.path().string()); });
  }
  TemporaryFolder folder;
  std::map<std::string, std::string> map;
  Checkpoint checkpoint;
};

TEST(Checkpoint, ReadsAShardedFolder) {
  ShardedFolder sharded;
  ASSERT_EQ(sharded.read(), "nothing was refused");
  const Checkpoint whole = read_checkpoint((kGolden / "gpt2_tiny").string());
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(at::equal(sharded.checkpoint.weights.layers[i].down, whole.weights.layers[i].down));
  }
}

TEST(Checkpoint, RefusesAnIndexThatDoesNotFitItsShards) {
  const std::string name = "transformer.h.1.ln_1.bias";
  for (const char* file : {"../a.safetensors", "/etc/a.safetensors", "x\\\\a.safetensors"}) {
    ShardedFolder sharded;
    sharded.map[name] = file;
    expect_mentions(sharded.read(), "a shard is a file in the same folder");
  }
  ShardedFolder other;
  other.map[name] = "a.bin";
  expect_mentions(other.read(), "a shard is a .safetensors file, got 'a.bin'");
  ShardedFolder absent;
  absent.map[name] = "c.safetensors";
  expect_mentions(absent.read(), "no such file");
  ShardedFolder wrong;
  wrong.map[name] = "b.safetensors";
  expect_mentions(wrong.read(), "is not in its shard 'b.safetensors'");
  ShardedFolder unlisted;
  unlisted.map.erase(name);
  expect_mentions(unlisted.read(), "'" + name + "' of shard 'a.safetensors' is not in weight_map");
  ShardedFolder twice;
  Tensors all = golden_tensors("gpt2_tiny");
  twice.folder.write("b.safetensors", written(all));
  expect_mentions(twice.read(), "is in two shards, one of them 'b.safetensors'");
  ShardedFolder empty;
  empty.map.clear();
  expect_mentions(empty.read(), "weight_map must be an object");
}

TEST(Checkpoint, RefusesWeightsThatDoNotFitTheConfig) {
  const TemporaryFolder folder;
  folder.write("config.json", replaced(golden_config("llama_gqa_tiny"),
                                       "\"intermediate_size\": 112", "\"intermediate_size\": 96"));
  Tensors tensors = golden_tensors("llama_gqa_tiny");
  folder.write("model.safetensors", written(tensors));
  expect_mentions(refusal([&] { read_checkpoint(folder.path().string()); }),
                  "has shape [112, 60], but the config asks for [96, 60]");
  folder.write("config.json", golden_config("llama_gqa_tiny"));
  tensors.erase("model.layers.1.self_attn.k_proj.weight");
  folder.write("model.safetensors", written(tensors));
  expect_mentions(refusal([&] { read_checkpoint(folder.path().string()); }),
                  "has no tensor 'model.layers.1.self_attn.k_proj.weight'");
}

TEST(Checkpoint, RefusesConfigKeysThatChangeTheArithmetic) {
  const TemporaryFolder folder;
  const auto message = [&](const char* model, const std::string& from, const std::string& to) {
    const std::string file = folder.write("config.json", replaced(golden_config(model), from, to));
    return refusal([&] { read_model_config(file); });
  };
  const char* gpt2 = "gpt2_tiny";
  const char* llama = "llama_gqa_tiny";
  const std::string open = "{";
  expect_mentions(message(gpt2, "\"scale_attn_by_inverse_layer_idx\": false",
                          "\"scale_attn_by_inverse_layer_idx\": true"),
                  "scale_attn_by_inverse_layer_idx: true changes the arithmetic");
  expect_mentions(
      message(gpt2, "\"reorder_and_upcast_attn\": false", "\"reorder_and_upcast_attn\": true"),
      "reorder_and_upcast_attn");
  expect_mentions(message(gpt2, "\"add_cross_attention\": false", "\"add_cross_attention\": true"),
                  "add_cross_attention");
  expect_mentions(message(gpt2, "\"scale_attn_weights\": true", "\"scale_attn_weights\": false"),
                  "scale_attn_weights: false changes the arithmetic");
  expect_mentions(message(gpt2, "gelu_new", "relu"), "activation_function 'relu'");
  expect_mentions(message(gpt2, "\"gpt2\"", "\"opt\""), "known: gpt2, llama, mistral");
  expect_mentions(message(gpt2, "\"n_head\": 6", "\"n_head\": 5"), "multiple of n_head");
  expect_mentions(message(gpt2, "\"n_head\": 6", "\"n_head\": 0"), "multiple of n_head");
  expect_mentions(message(gpt2, "\"n_head\": 6,", ""), "key 'n_head' is missing");
  expect_mentions(message(gpt2, "\"n_head\": 6", "\"n_head\": 6.0"), "must be a whole number");
  expect_mentions(message(gpt2, "\"n_head\": 6", "\"n_head\": -6"), "must be a whole number");
  expect_mentions(message(gpt2, "\"n_head\": 6", "\"n_head\": 6, \"n_head\": 6"), "stands twice");
  expect_mentions(message(gpt2, "\"n_embd\": 48", "\"n_embd\": 4611686018427387904"), "n_embd");
  expect_mentions(message(gpt2, "\"eos_token_id\": 50256", "\"eos_token_id\": -1"), "token id");
  expect_mentions(message(llama, open, "{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2},"),
                  "rope_scaling: type 'linear' changes the arithmetic");
  expect_mentions(message(llama, "\"rope_type\": \"default\"", "\"rope_type\": \"llama3\""),
                  "rope_parameters: rope_type 'llama3' changes the arithmetic");
  expect_mentions(message(llama, open, "{\"partial_rotary_factor\": 0.5,"),
                  "partial_rotary_factor");
  expect_mentions(message(llama, open, "{\"rope_theta\": 5.0,"), "rope_theta has two values");
  expect_mentions(message(llama, "\"pretraining_tp\": 1", "\"pretraining_tp\": 2"),
                  "pretraining_tp");
  expect_mentions(message(llama, "silu", "gelu"), "hidden_act 'gelu'");
  expect_mentions(message(llama, "\"head_dim\": 10", "\"head_dim\": 9"), "head_dim must be even");
  expect_mentions(message(llama, open, "{\"quantization_config\": {\"bits\": 4},"),
                  "quantization_config");
  expect_mentions(message(llama, "\"llama\"", "\"mistral\""), "key 'sliding_window' is missing");
  expect_mentions(message(llama, open, "{\"layer_types\": [\"full_attention\", \"chunked\"],"),
                  "layer_types");
}

TEST(Checkpoint, ReadsVariantsOfAConfig) {
  const TemporaryFolder folder;
  const auto config = [&](const char* model, const std::string& from, const std::string& to) {
    return read_model_config(folder.write("config.json", replaced(golden_config(model), from, to)));
  };
  const char* llama = "llama_gqa_tiny";
  EXPECT_EQ(config("gpt2_tiny", "gelu_new", "gelu").mlp, MlpType::gelu_erf);
  EXPECT_EQ(config("gpt2_tiny", "gelu_new", "gelu_pytorch_tanh").mlp, MlpType::gelu_tanh);
  EXPECT_EQ(config("gpt2_tiny", "\"n_inner\": null", "\"n_inner\": 100").d_mlp, 100);
  EXPECT_EQ(config(llama, "\"eos_token_id\": 2", "\"eos_token_id\": [2, 7, 900]").stop_tokens,
            (std::vector<int32_t>{2, 7}));
  EXPECT_EQ(config(llama, "\"head_dim\": 10,", "").head_dim, 10);
  EXPECT_EQ(config(llama, "\"num_key_value_heads\": 2,", "").n_kv_heads, 6);
  EXPECT_EQ(config(llama, "\"llama\"", "\"mistral\", \"sliding_window\": 32").window, 32);
  EXPECT_EQ(config(llama, "\"llama\"", "\"mistral\", \"sliding_window\": null").window, 0);
  EXPECT_EQ(config(llama, "{", "{\"sliding_window\": 32, \"use_sliding_window\": false,").window,
            0);
  EXPECT_EQ(to_string(config(llama, "\"rope_theta\": 10000.0,", "").position), "rope:theta=10000");
  EXPECT_EQ(to_string(config(llama, "\"rope_theta\": 10000.0", "\"rope_theta\": 12345.5").position),
            "rope:theta=12345.5");
}

TEST(Checkpoint, RefusesPickleMissingAndForeignPaths) {
  const TemporaryFolder folder;
  const std::string path = folder.path().string();
  EXPECT_THROW(read_checkpoint(path + "/none"), MissingError);
  EXPECT_THROW(read_checkpoint(path), MissingError);  // no config.json
  folder.write("config.json", golden_config("gpt2_tiny"));
  EXPECT_THROW(read_checkpoint(path), MissingError);  // no weights
  const std::string pickle = folder.write("pytorch_model.bin", std::string("PK\x03\x04rest", 8));
  expect_mentions(refusal([&] { read_checkpoint(path); }), "convert it to safetensors");
  expect_mentions(refusal([&] { read_checkpoint(pickle); }), "convert it to safetensors");
  const std::string tensors = (kGolden / "gpt2_tiny" / "model.safetensors").string();
  expect_mentions(refusal([&] { read_checkpoint(tensors); }), "give the folder");
  expect_mentions(refusal([&] { read_checkpoint(path + "/config.json"); }), "give the folder");
  const std::string text = folder.write("x.txt", "hello");
  expect_mentions(refusal([&] { read_checkpoint(text); }), "neither a folder with config.json nor");
}

// A llama model in GGUF whose K and Q rows are numbered, so that their order can be seen.
class TinyGguf {
 public:
  static constexpr uint64_t kWidth = 8, kHidden = 12, kVocabulary = 5;

  TinyGguf() {
    writer.text("general.architecture", "llama")
        .text("general.name", "tiny")
        .u32("llama.block_count", 1)
        .u32("llama.context_length", 16)
        .u32("llama.embedding_length", kWidth)
        .u32("llama.feed_forward_length", kHidden)
        .u32("llama.attention.head_count", 2)
        .u32("llama.attention.head_count_kv", 1)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5F)
        .f32("llama.rope.freq_base", 100000.0F)
        .u32("tokenizer.ggml.eos_token_id", 4);
  }
  TinyGguf& vocabulary() {
    writer.text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "gpt-2")
        .texts("tokenizer.ggml.tokens", {"a", "b", "ab", "<u>", "<eos>"})
        .texts("tokenizer.ggml.merges", {"a b"})
        .i32s("tokenizer.ggml.token_type", {1, 1, 1, 4, 3});
    return *this;
  }
  TinyGguf& tensors() {
    tensor("token_embd", {kWidth, kVocabulary});
    tensor("blk.0.attn_norm", {kWidth});
    tensor("blk.0.attn_q", {kWidth, 8});
    tensor("blk.0.attn_k", {kWidth, 4});
    tensor("blk.0.attn_v", {kWidth, 4});
    tensor("blk.0.attn_output", {8, kWidth});
    tensor("blk.0.ffn_norm", {kWidth});
    tensor("blk.0.ffn_gate", {kWidth, kHidden});
    tensor("blk.0.ffn_up", {kWidth, kHidden});
    tensor("blk.0.ffn_down", {kHidden, kWidth});
    tensor("output_norm", {kWidth});
    return *this;
  }
  // Every element is the number of its row.
  TinyGguf& tensor(const std::string& name, const std::vector<uint64_t>& sizes) {
    std::vector<float> values;
    for (uint64_t row = 0; row < (sizes.size() > 1 ? sizes[1] : 1); ++row) {
      values.insert(values.end(), sizes[0], static_cast<float>(row));
    }
    writer.tensor(name + ".weight", sizes, 0, raw_floats(values));
    return *this;
  }
  std::string read() {
    const std::string path = folder.write("tiny.gguf", writer.bytes());
    return refusal([&] { checkpoint = read_checkpoint(path); });
  }
  GgufWriter writer;
  TemporaryFolder folder;
  Checkpoint checkpoint;
};

TEST(Checkpoint, ReadsGgufAndRestoresTheRotateHalfOrder) {
  TinyGguf tiny;
  ASSERT_EQ(tiny.vocabulary().tensors().read(), "nothing was refused");
  const Checkpoint& checkpoint = tiny.checkpoint;
  EXPECT_EQ(checkpoint.config.name, "tiny");
  EXPECT_EQ(checkpoint.config.vocabulary, 5);
  EXPECT_EQ(checkpoint.config.head_dim, 4);
  EXPECT_EQ(checkpoint.config.stop_tokens, std::vector<int32_t>{4});
  EXPECT_TRUE(checkpoint.config.tied_head);
  EXPECT_EQ(to_string(checkpoint.config.position), "rope:theta=100000");
  const LayerWeights& layer = checkpoint.weights.layers[0];
  const at::Tensor first = layer.qkv.select(1, 0).contiguous();
  const float* rows = first.const_data_ptr<float>();
  // Two query heads and one key head of four rows: even rows first. Values stay as they are.
  EXPECT_EQ(std::vector<float>(rows, rows + 16),
            (std::vector<float>{0, 2, 1, 3, 4, 6, 5, 7, 0, 2, 1, 3, 0, 1, 2, 3}));
  EXPECT_EQ(layer.up.sizes(), (at::IntArrayRef{24, 8}));
  ASSERT_TRUE(checkpoint.tokenizer.has_value());
  EXPECT_EQ(checkpoint.tokenizer->tokens.size(), 5U);
  EXPECT_EQ(checkpoint.tokenizer->special, (std::vector<int32_t>{3, 4}));
  EXPECT_EQ(checkpoint.tokenizer->merges.at(0), (std::pair<std::string, std::string>("a", "b")));
  EXPECT_EQ(checkpoint.tokenizer->pre_tokenizer, PreTokenizer::gpt2);
}

TEST(Checkpoint, GgufMayHaveAFreeHeadAndNoTokenizer) {
  TinyGguf tiny;
  tiny.writer.u32("llama.vocab_size", 5);
  ASSERT_EQ(tiny.tensors().tensor("output", {8, 5}).read(), "nothing was refused");
  EXPECT_FALSE(tiny.checkpoint.config.tied_head);
  EXPECT_FALSE(tiny.checkpoint.tokenizer.has_value());
}

TEST(Checkpoint, RefusesGgufThatIsNotImplementedOrContradictsItself) {
  const auto message = [](const std::function<void(TinyGguf&)>& change) {
    TinyGguf tiny;
    change(tiny);
    return tiny.vocabulary().tensors().read();
  };
  expect_mentions(message([](TinyGguf& t) { t.writer.text("llama.rope.scaling.type", "yarn"); }),
                  "RoPE scaling changes the arithmetic");
  expect_mentions(message([](TinyGguf& t) { t.writer.f32("llama.rope.scaling.factor", 2); }),
                  "key 'llama.rope.scaling.factor' with scaling type 'absent'");
  EXPECT_EQ(message([](TinyGguf& t) { t.writer.text("llama.rope.scaling.type", "none"); }),
            "nothing was refused");
  expect_mentions(message([](TinyGguf& t) { t.writer.u32("llama.expert_count", 8); }),
                  "key 'llama.expert_count' is not known");
  expect_mentions(message([](TinyGguf& t) { t.writer.u32("llama.rope.dimension_count", 2); }),
                  "llama.rope.dimension_count, of which only the whole head is implemented: got 2");
  expect_mentions(message([](TinyGguf& t) { t.writer.u32("llama.vocab_size", 6); }),
                  "llama.vocab_size against the number of tokenizer.ggml.tokens: got 6");
  expect_mentions(message([](TinyGguf& t) { t.tensor("rope_freqs", {2}); }), "scales RoPE");
  expect_mentions(message([](TinyGguf& t) { t.tensor("blk.0.attn_q_norm", {4}); }),
                  "'blk.0.attn_q_norm.weight' belongs to no part of the model");
  TinyGguf no_tensor;
  expect_mentions(no_tensor.vocabulary().tensor("token_embd", {8, 5}).read(),
                  "has no tensor 'blk.0.attn_norm.weight'");
  TinyGguf no_vocabulary;
  expect_mentions(no_vocabulary.tensors().read(), "neither tokenizer.ggml.tokens nor");
  TinyGguf other;
  other.writer = GgufWriter().text("general.architecture", "qwen2");
  expect_mentions(other.read(), "general.architecture 'qwen2' is not implemented; known: llama");
}

TEST(Checkpoint, RefusesGgufTokenizersOfOtherKinds) {
  const auto message = [](const std::string& model, const std::string& pre,
                          const std::string& merge, int32_t type) {
    TinyGguf tiny;
    tiny.writer.text("tokenizer.ggml.model", model)
        .text("tokenizer.ggml.pre", pre)
        .texts("tokenizer.ggml.tokens", {"a", "b", "c", "d", "e"})
        .texts("tokenizer.ggml.merges", {merge})
        .i32s("tokenizer.ggml.token_type", {1, 1, 1, 1, type});
    return tiny.tensors().read();
  };
  EXPECT_EQ(message("gpt2", "smollm", "a b", 6), "nothing was refused");
  expect_mentions(message("llama", "smollm", "a b", 1),
                  "tokenizer.ggml.model 'llama' is not implemented; known: gpt2");
  expect_mentions(message("gpt2", "llama-bpe", "a b", 1),
                  "tokenizer.ggml.pre 'llama-bpe' is not implemented; known: smollm, gpt-2");
  for (const char* merge : {"ab", " b", "a ", "a b c", ""}) {
    expect_mentions(message("gpt2", "smollm", merge, 1), "a merge is two tokens");
  }
  expect_mentions(message("gpt2", "smollm", "a b", 7), "token 4 has the unknown type 7");
}

TEST(Checkpoint, ReadsSmolLm2) {
  const fs::path file = fs::path(KVLAB_SOURCE_DIR) / ".deps" / "models" / "smollm2-135m" /
                        "SmolLM2-135M-Instruct.Q4_1.gguf";
  ASSERT_TRUE(fs::exists(file)) << file << " is missing: run tools/setup";
  const Checkpoint checkpoint = read_checkpoint(file.string());
  const ModelConfig& config = checkpoint.config;
  EXPECT_EQ(config.layers, 30);
  EXPECT_EQ(config.n_heads, 9);
  EXPECT_EQ(config.n_kv_heads, 3);
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_EQ(config.d_model, 576);
  EXPECT_EQ(config.d_mlp, 1536);
  EXPECT_EQ(config.vocabulary, 49152);
  EXPECT_EQ(config.context, 8192);
  EXPECT_EQ(to_string(config.position), "rope:theta=100000");
  EXPECT_EQ(config.stop_tokens, std::vector<int32_t>{2});
  EXPECT_TRUE(config.tied_head);
  EXPECT_EQ(checkpoint.weights.bytes(), 4 * 134'515'008);
  ASSERT_TRUE(checkpoint.tokenizer.has_value());
  EXPECT_EQ(checkpoint.tokenizer->tokens.size(), 49152U);
  EXPECT_EQ(checkpoint.tokenizer->merges.size(), 48900U);
  EXPECT_EQ(checkpoint.tokenizer->special.size(), 17U);
  EXPECT_EQ(checkpoint.tokenizer->pre_tokenizer, PreTokenizer::smollm);
  EXPECT_EQ(read_model_config(file.string()).head_dim, 64);
  EXPECT_EQ(read_checkpoint_tokenizer(file.string())->tokens.at(2), "<|im_end|>");
}

}  // namespace
}  // namespace kvlab
