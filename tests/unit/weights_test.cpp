// Shapes, bytes and seeded initialisation of a decoder's weights.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "kvlab/core/error.h"
#include "kvlab/model/weights.h"

namespace kvlab {
namespace {

ModelConfig gpt2_shape() {
  ModelConfig config;
  config.vocabulary = 50;
  config.context = 12;
  config.d_model = 16;
  config.layers = 2;
  config.n_heads = 4;
  config.n_kv_heads = 4;
  config.head_dim = 4;
  config.d_mlp = 64;
  config.position.type = "learned";
  return config;
}

ModelConfig llama_shape() {
  ModelConfig config = gpt2_shape();
  config.n_kv_heads = 2;
  config.d_mlp = 40;
  config.norm = NormType::rmsnorm;
  config.mlp = MlpType::swiglu;
  config.qkv_bias = config.output_bias = config.mlp_bias = false;
  config.tied_head = false;
  config.position.type = "rope";
  return config;
}

std::string refusal(const std::function<void()>& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  return "nothing was refused";
}

// Every code times its scale lies within half a scale of the weight; bf16 scales add 2^-8 of it.
void expect_close_codes(const at::Tensor& exact, const at::Tensor& codes,
                        const at::Tensor& scales) {
  ASSERT_EQ(codes.scalar_type(), at::kChar);
  const at::Tensor scale = scales.to(at::kFloat);
  const int64_t columns = exact.size(1);
  const float* wanted = exact.const_data_ptr<float>();
  const int8_t* code = codes.const_data_ptr<int8_t>();
  for (int64_t i = 0; i < exact.numel(); ++i) {
    const int64_t row = i / columns, group = i % columns / 32;
    const float step = scale.const_data_ptr<float>()[row * scale.size(1) + group];
    const float tolerance = 0.5F * step + std::abs(wanted[i]) / 256;
    ASSERT_NEAR(wanted[i], static_cast<float>(code[i]) * step, tolerance) << "weight " << i;
  }
}

TEST(Weights, ValidConfigsPassAndEveryImpossibleValueIsNamed) {
  EXPECT_NO_THROW(gpt2_shape().validate());
  EXPECT_NO_THROW(llama_shape().validate());
  struct Case {
    const char* message;
    std::function<void(ModelConfig&)> change;
  };
  const std::vector<Case> cases = {
      {"vocabulary: got 0, wanted at least 1", [](ModelConfig& c) { c.vocabulary = 0; }},
      {"context: got -1, wanted at least 1", [](ModelConfig& c) { c.context = -1; }},
      {"d_model: got 0", [](ModelConfig& c) { c.d_model = 0; }},
      {"layers: got 0", [](ModelConfig& c) { c.layers = 0; }},
      {"layers: got 2000, wanted at most", [](ModelConfig& c) { c.layers = 2000; }},
      {"n_heads: got 0", [](ModelConfig& c) { c.n_heads = 0; }},
      {"n_kv_heads: got 0", [](ModelConfig& c) { c.n_kv_heads = 0; }},
      {"head_dim: got 0", [](ModelConfig& c) { c.head_dim = 0; }},
      {"d_mlp: got 0", [](ModelConfig& c) { c.d_mlp = 0; }},
      {"vocabulary: got 1099511627776, wanted at most",
       [](ModelConfig& c) { c.vocabulary = int64_t{1} << 40; }},
      {"n_heads * head_dim: got", [](ModelConfig& c) { c.head_dim = int64_t{1} << 24; }},
      {"n_kv_heads: got 8, wanted at most 4", [](ModelConfig& c) { c.n_kv_heads = 8; }},
      {"multiple of n_kv_heads, got 4 and 3", [](ModelConfig& c) { c.n_kv_heads = 3; }},
      {"norm_epsilon must be a positive number, got 0", [](ModelConfig& c) { c.norm_epsilon = 0; }},
      {"window: got -1", [](ModelConfig& c) { c.window = -1; }},
      {"position names no encoding", [](ModelConfig& c) { c.position.type = ""; }},
      {"head_dim must be even, got 5",
       [](ModelConfig& c) {
         c.position.type = "rope";
         c.head_dim = 5;
       }},
      {"stop token 50 is outside the vocabulary of 50",
       [](ModelConfig& c) { c.stop_tokens = {50}; }},
      {"stop token -1 is outside", [](ModelConfig& c) { c.stop_tokens = {-1}; }},
  };
  for (const Case& item : cases) {
    ModelConfig config = gpt2_shape();
    item.change(config);
    const std::string message = refusal([&] { config.validate(); });
    EXPECT_NE(message.find(item.message), std::string::npos)
        << message << "; wanted " << item.message;
  }
}

TEST(Weights, CountsTheParametersOfKnownModels) {
  ModelConfig gpt2 = gpt2_shape();
  gpt2.vocabulary = 50257;
  gpt2.context = 1024;
  gpt2.d_model = 768;
  gpt2.layers = 12;
  gpt2.n_heads = gpt2.n_kv_heads = 12;
  gpt2.head_dim = 64;
  gpt2.d_mlp = 3072;
  EXPECT_EQ(gpt2.parameters(), 124'439'808);
  ModelConfig smollm = llama_shape();
  smollm.vocabulary = 49152;
  smollm.d_model = 576;
  smollm.layers = 30;
  smollm.n_heads = 9;
  smollm.n_kv_heads = 3;
  smollm.head_dim = 64;
  smollm.d_mlp = 1536;
  smollm.tied_head = true;
  EXPECT_EQ(smollm.parameters(), 134'515'008);
}

TEST(Weights, BytesOfRandomWeightsAreFourPerParameter) {
  for (const ModelConfig& config : {gpt2_shape(), llama_shape()}) {
    const DecoderWeights weights = random_weights(config, 1);
    EXPECT_NO_THROW(weights.validate(config));
    EXPECT_EQ(weights.bytes(), 4 * config.parameters());
  }
}

TEST(Weights, CastKeepsTiesAndHalvesBytes) {
  const ModelConfig config = gpt2_shape();
  DecoderWeights weights = random_weights(config, 1);
  ASSERT_TRUE(weights.head.is_same(weights.token_embedding));
  weights.cast(at::kBFloat16);
  EXPECT_TRUE(weights.head.is_same(weights.token_embedding));
  EXPECT_EQ(weights.layers[1].qkv_bias.scalar_type(), at::kBFloat16);
  EXPECT_EQ(weights.bytes(), 2 * config.parameters());
  EXPECT_NO_THROW(weights.validate(config));
}

TEST(Weights, Int8CodesStayWithinHalfAStepOfWhatTheyWereRoundedFrom) {
  for (const ModelConfig& config : {gpt2_shape(), llama_shape()}) {
    const DecoderWeights exact = random_weights(config, 1);
    DecoderWeights weights = random_weights(config, 1);
    weights.cast(at::kChar);
    EXPECT_NO_THROW(weights.validate(config));
    EXPECT_EQ(weights.type(), at::kChar);
    expect_close_codes(exact.layers[1].qkv, weights.layers[1].qkv, weights.layers[1].qkv_scales);
    expect_close_codes(exact.layers[0].down, weights.layers[0].down,
                       weights.layers[0].down_scales);
    expect_close_codes(exact.head, weights.head, weights.head_scales);
    EXPECT_TRUE(at::equal(exact.final_norm, weights.final_norm));
    EXPECT_EQ(weights.head.is_same(weights.token_embedding), config.tied_head);
    EXPECT_EQ(weights.head_scales.is_same(weights.token_embedding_scales), config.tied_head);
  }
}

TEST(Weights, Int8CodesOfBf16WeightsAreThoseOfTheSameNumbers) {
  DecoderWeights rounded = random_weights(gpt2_shape(), 1);
  rounded.cast(at::kBFloat16);
  DecoderWeights from_floats = rounded;
  from_floats.cast(at::kFloat);
  from_floats.cast(at::kChar);
  rounded.cast(at::kChar);
  EXPECT_TRUE(at::equal(rounded.layers[0].up, from_floats.layers[0].up));
  EXPECT_TRUE(at::equal(rounded.layers[0].up_scales, from_floats.layers[0].up_scales));
  EXPECT_EQ(rounded.layers[0].up_bias.scalar_type(), at::kFloat);
}

TEST(Weights, BytesOfCodesCountTheirScales) {
  const ModelConfig config = gpt2_shape();
  DecoderWeights weights = random_weights(config, 1);
  weights.cast(at::kChar);
  // Columns 16 make one group, 64 two.
  const int64_t codes = 2 * (48 * 16 + 16 * 16 + 64 * 16 + 16 * 64);
  const int64_t scales = 2 * 2 * (48 + 16 + 64 + 16 * 2);
  const int64_t head = 50 * 16 + 2 * 50;
  EXPECT_EQ(weights.streamed_bytes(), codes + scales + head);
  const int64_t matrices = 2 * (48 * 16 + 16 * 16 + 64 * 16 + 16 * 64) + 50 * 16;
  EXPECT_EQ(weights.bytes(), codes + scales + head + 4 * (config.parameters() - matrices));
}

TEST(Weights, StreamedBytesCountAnUntiedEmbeddingNotAtAll) {
  const ModelConfig config = llama_shape();
  const DecoderWeights weights = random_weights(config, 1);
  const int64_t small = 16 * (2 * config.layers + 1);  // norms
  EXPECT_EQ(weights.streamed_bytes(), 4 * (config.parameters() - 50 * 16 - small));
}

TEST(Weights, CodesAreNotCastBack) {
  DecoderWeights weights = random_weights(gpt2_shape(), 1);
  weights.cast(at::kChar);
  EXPECT_EQ(refusal([&] { weights.cast(at::kFloat); }),
            "[model.weights] int8 codes cannot be cast to Float: what they were rounded from is "
            "gone. Load the model again");
  const at::Tensor codes = weights.head;
  weights.cast(at::kChar);
  EXPECT_TRUE(weights.head.is_same(codes));
}

TEST(Weights, WeightsThatAreNotFiniteHaveNoCodes) {
  DecoderWeights weights = random_weights(gpt2_shape(), 1);
  weights.layers[1].down.mutable_data_ptr<float>()[70] = std::nanf("");
  EXPECT_EQ(refusal([&] { weights.cast(at::kChar); }),
            "[model.weights] layer 1 down holds NaN or infinity, which int8 codes cannot say. Check "
            "the checkpoint");
}

TEST(Weights, HugePagesKeepValuesShapesAndTies) {
  ModelConfig config = gpt2_shape();
  config.vocabulary = 40'000;  // 2.4 MiB; the other tensors stay where they are
  const DecoderWeights before = random_weights(config, 1);
  DecoderWeights weights = before;
  weights.use_huge_pages();
  EXPECT_NO_THROW(weights.validate(config));
  EXPECT_TRUE(weights.head.is_same(weights.token_embedding));
  EXPECT_FALSE(weights.head.is_same(before.head));
  EXPECT_TRUE(at::equal(weights.head, before.head));
  const auto address = reinterpret_cast<uintptr_t>(weights.head.const_data_ptr());
  EXPECT_EQ(address % (uintptr_t{1} << 21), 0u);
  EXPECT_TRUE(weights.layers[0].up.is_same(before.layers[0].up));
}

TEST(Weights, ValidateNamesWhatDoesNotFitInt8Codes) {
  const ModelConfig config = gpt2_shape();
  const auto message = [&](const std::function<void(DecoderWeights&)>& change) {
    DecoderWeights weights = random_weights(config, 1);
    weights.cast(at::kChar);
    change(weights);
    return refusal([&] { weights.validate(config); });
  };
  EXPECT_EQ(message([](DecoderWeights& w) { w.layers[1].down_scales.reset(); }),
            "[model.weights] layer 1 down_scales is missing, wanted shape [16, 2]");
  EXPECT_EQ(message([](DecoderWeights& w) {
              w.layers[0].up_scales = w.layers[0].up_scales.to(at::kFloat);
            }),
            "[model.weights] layer 0 up_scales is Float where the token embedding is Char, wanted "
            "BFloat16");
  EXPECT_EQ(message([](DecoderWeights& w) {
              w.layers[0].qkv_bias = w.layers[0].qkv_bias.to(at::kBFloat16);
            }),
            "[model.weights] layer 0 qkv_bias is BFloat16 where the token embedding is Char, wanted "
            "Float");
  EXPECT_NE(message([](DecoderWeights& w) { w.head_scales = w.head_scales.clone(); })
                .find("ties them"),
            std::string::npos);
  DecoderWeights plain = random_weights(config, 1);
  plain.layers[0].qkv_scales = at::empty({48, 1}, at::kBFloat16);
  EXPECT_EQ(refusal([&] { plain.validate(config); }),
            "[model.weights] layer 0 qkv_scales is there, but only int8 codes have scales");
  DecoderWeights doubles = random_weights(config, 1);
  doubles.cast(at::kDouble);
  EXPECT_EQ(refusal([&] { doubles.validate(config); }),
            "[model.weights] token_embedding is Double, wanted Float, BFloat16 or Char (int8 "
            "codes)");
}

TEST(Weights, ValidateNamesTheTensorThatDoesNotFit) {
  const ModelConfig config = gpt2_shape();
  const auto message = [&](const std::function<void(DecoderWeights&)>& change) {
    DecoderWeights weights = random_weights(config, 1);
    change(weights);
    return refusal([&] { weights.validate(config); });
  };
  EXPECT_EQ(message([](DecoderWeights& w) {
              w.layers[1].up = at::empty({3, 16});
            }),
            "[model.weights] layer 1 up has shape [3, 16], wanted [64, 16]");
  EXPECT_EQ(message([](DecoderWeights& w) { w.layers[0].qkv_bias = at::Tensor(); }),
            "[model.weights] layer 0 qkv_bias is missing, wanted shape [48]");
  EXPECT_EQ(message([](DecoderWeights& w) { w.layers.pop_back(); }),
            "[model.weights] layers: got 1, wanted exactly 2");
  EXPECT_EQ(message([](DecoderWeights& w) { w.position_table = at::Tensor(); }),
            "[model.weights] position_table is missing, wanted shape [12, 16]");
  EXPECT_NE(message([](DecoderWeights& w) { w.head = w.head.clone(); }).find("ties them"),
            std::string::npos);
  EXPECT_NE(message([](DecoderWeights& w) {
              w.final_norm = w.final_norm.to(at::kBFloat16);
            }).find("final_norm is BFloat16 where the token embedding is Float, wanted Float"),
            std::string::npos);
  EXPECT_NE(message([](DecoderWeights& w) {
              w.layers[0].down = at::empty({64, 16}).t();
            }).find("layer 0 down is not contiguous"),
            std::string::npos);
  DecoderWeights weights = random_weights(config, 1);
  ModelConfig rope = config;
  rope.position.type = "rope";
  EXPECT_EQ(refusal([&] { weights.validate(rope); }),
            "[model.weights] position_table is there, but the model's shape has none");
}

TEST(Weights, SameSeedSameWeightsAndAnotherSeedOthers) {
  const DecoderWeights a = random_weights(llama_shape(), 5);
  const DecoderWeights b = random_weights(llama_shape(), 5);
  const DecoderWeights c = random_weights(llama_shape(), 6);
  EXPECT_TRUE(at::equal(a.head, b.head));
  EXPECT_FALSE(at::equal(a.head, c.head));
}

TEST(Weights, RandomWeightsLeaveTheGlobalGeneratorAlone) {
  const auto& global = at::detail::getDefaultCPUGenerator();
  const at::Tensor before = global.get_state();
  random_weights(gpt2_shape(), 5);
  EXPECT_TRUE(at::equal(before, global.get_state()));
}

// Values of LibTorch's own embedding and linear modules, built in the documented order after
// manual_seed(123). The normal draws may differ in the last bit between instruction sets.
TEST(Weights, RandomWeightsAreThoseOfLibTorchModules) {
  ModelConfig config = llama_shape();
  config.position.type = "learned";
  config.output_bias = config.mlp_bias = true;
  const DecoderWeights weights = random_weights(config, 123);
  weights.validate(config);
  const auto expect_value = [](const char* name, const at::Tensor& tensor, int64_t index,
                               float wanted) {
    ASSERT_LT(index, tensor.numel());
    EXPECT_NEAR(tensor.const_data_ptr<float>()[index], wanted, 2e-6F) << name << " at " << index;
  };
  expect_value("token_embedding", weights.token_embedding, 0, 0.337370187F);
  expect_value("token_embedding", weights.token_embedding, 799, 0.0174714718F);
  expect_value("position_table", weights.position_table, 0, 1.3715024F);
  expect_value("position_table", weights.position_table, 191, -0.612140536F);
  const LayerWeights& first = weights.layers[0];
  expect_value("q", first.qkv, 0, 0.2372621F);
  expect_value("q", first.qkv, 255, -0.116008133F);
  expect_value("k", first.qkv, 256, -0.0322860479F);
  expect_value("k", first.qkv, 383, 0.186855316F);
  expect_value("v", first.qkv, 384, 0.186429948F);
  expect_value("v", first.qkv, 511, 0.0132088661F);
  expect_value("output", first.output, 0, 0.0899937749F);
  expect_value("output_bias", first.output_bias, 15, 0.0962927938F);
  expect_value("gate", first.up, 0, 0.118924916F);
  expect_value("gate bias", first.up_bias, 0, 0.00710204244F);
  expect_value("up", first.up, 640, -0.176689446F);
  expect_value("up bias", first.up_bias, 40, 0.161370039F);
  expect_value("down", first.down, 0, -0.128852308F);
  expect_value("down_bias", first.down_bias, 15, 0.135181487F);
  const LayerWeights& second = weights.layers[1];
  expect_value("second q", second.qkv, 0, 0.0114938319F);
  expect_value("second down_bias", second.down_bias, 0, -0.0891141966F);
  expect_value("head", weights.head, 0, -0.159024894F);
  expect_value("head", weights.head, 799, 0.131904066F);
  EXPECT_EQ(first.attention_norm.const_data_ptr<float>()[3], 1.0F);
}

}  // namespace
}  // namespace kvlab
