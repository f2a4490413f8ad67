#include "kvlab/runtime/experiment_config.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "kvlab/core/error.h"

namespace {

using namespace kvlab;

template <typename Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

ConfigReader reader_of(const std::string& text) {
  return ConfigReader(parse_config_text(text, "f.yaml"));
}

const char kModel[] =
    "model:\n"
    "  name: tiny\n"
    "  source: {type: random, seed: 3}\n"
    "  shape:\n"
    "    {vocabulary: 256, context: 64, d_model: 24, layers: 2, n_heads: 4, n_kv_heads: 2,\n"
    "     d_mlp: 32, norm: rmsnorm, norm_epsilon: 1e-6, mlp: swiglu, qkv_bias: false,\n"
    "     output_bias: false, mlp_bias: false, tied_head: false, window: 16,\n"
    "     position: {type: rope, theta: 10000}, stop_tokens: [0, 255]}\n";

// The example of the design, with a model that needs no file.
const char kExample[] =
    "schema: kvlab/1\n"
    "experiment: generation_benchmark\n"
    "question: From which output length on does a cache pay, and which cache?\n"
    "workload: {prompt: {text: \"Once upon a time\"}, new_tokens: [16, 64, 256], batch: 1,\n"
    "  sampler: {type: greedy}}\n"
    "arms:\n"
    "  - {name: none,         cache: {type: none}}\n"
    "  - {name: concat,       cache: {type: concat}}\n"
    "  - {name: paged64,      cache: {type: paged, block_size: 64}}\n"
    "control: none\n"
    "runtime: {threads: 2, dtype: f32, attention: {type: eager}}\n"
    "measure: {repeats: 5, warmup: 1, interleave: true, seed: 7}\n";

TEST(ExperimentConfig, ParsesTheExampleToExactValues) {
  ExperimentConfig experiment =
      parse_experiment(parse_config_text(std::string(kExample) + kModel, "f.yaml"));
  EXPECT_EQ(experiment.schema, "kvlab/1");
  EXPECT_EQ(experiment.kind, "generation_benchmark");
  EXPECT_EQ(experiment.question,
            "From which output length on does a cache pay, and which cache?");
  EXPECT_EQ(experiment.title, experiment.question);
  EXPECT_EQ(experiment.primary_metric, std::nullopt);
  const ComparisonConfig config = parse_comparison(experiment.reader);
  ASSERT_EQ(config.arms.size(), 3u);
  EXPECT_EQ(config.arms[2].name, "paged64");
  EXPECT_EQ(to_string(config.arms[2].cache), "paged:block_size=64");
  EXPECT_FALSE(config.arms[2].attention.has_value());
  EXPECT_EQ(config.arms[2].where, "f.yaml:9:5");
  EXPECT_EQ(config.control, "none");
  EXPECT_EQ(config.runtime.threads, 2);
  EXPECT_EQ(config.runtime.activations, at::kFloat);
  EXPECT_EQ(config.runtime.attention.type, "eager");
  EXPECT_EQ(config.measure.repeats, 5);
  EXPECT_EQ(config.measure.warmup, 1);
  EXPECT_TRUE(config.measure.interleave);
  EXPECT_EQ(config.measure.seed, 7u);

  // The kind's own keys are still open: forgetting them is an error, reading them is enough.
  EXPECT_NE(message_of([&] { experiment.reader.finish(); }).find("'workload' is not known here"),
            std::string::npos);
  ConfigReader workload = experiment.reader.child("workload");
  EXPECT_EQ(workload.child("prompt").text("text"), "Once upon a time");
  EXPECT_EQ(workload.integers("new_tokens"), (std::vector<int64_t>{16, 64, 256}));
  EXPECT_EQ(workload.integer("batch"), 1);
  EXPECT_EQ(parse_sampler(workload).type, SamplerType::greedy);
  experiment.reader.finish();
}

TEST(ExperimentConfig, ParsesAModelOfRandomWeightsToExactValues) {
  ConfigReader reader = reader_of(kModel);
  const ModelSource model = parse_model(reader);
  EXPECT_EQ(model.name, "tiny");
  EXPECT_EQ(model.type, ModelSourceType::random);
  EXPECT_EQ(model.seed, 3u);
  EXPECT_EQ(model.path, "");
  EXPECT_EQ(model.tokenizer, std::nullopt);
  const ModelConfig& shape = model.shape;
  EXPECT_EQ(shape.name, "tiny");
  EXPECT_EQ(shape.vocabulary, 256);
  EXPECT_EQ(shape.context, 64);
  EXPECT_EQ(shape.d_model, 24);
  EXPECT_EQ(shape.layers, 2);
  EXPECT_EQ(shape.n_heads, 4);
  EXPECT_EQ(shape.n_kv_heads, 2);
  EXPECT_EQ(shape.head_dim, 6);
  EXPECT_EQ(shape.d_mlp, 32);
  EXPECT_EQ(shape.norm, NormType::rmsnorm);
  EXPECT_EQ(shape.norm_epsilon, 1e-6);
  EXPECT_EQ(shape.mlp, MlpType::swiglu);
  EXPECT_FALSE(shape.qkv_bias);
  EXPECT_FALSE(shape.output_bias);
  EXPECT_FALSE(shape.mlp_bias);
  EXPECT_FALSE(shape.tied_head);
  EXPECT_EQ(shape.window, 16);
  EXPECT_EQ(to_string(shape.position), "rope:theta=10000");
  EXPECT_EQ(shape.stop_tokens, (std::vector<int32_t>{0, 255}));
}

TEST(ExperimentConfig, ChecksTheStatedShapeOfACheckpointOnly) {
  // This very test file stands in for a checkpoint: only its existence is checked here.
  ConfigReader reader = reader_of(
      "model:\n  name: m\n  source: {type: gguf, path: " KVLAB_SOURCE_DIR
      "/tests/unit/experiment_config_test.cpp}\n"
      "  shape: {layers: 30, norm: rmsnorm, position: {type: rope, theta: 100000}}\n");
  const ModelSource model = parse_model(reader);
  EXPECT_EQ(model.type, ModelSourceType::gguf);
  EXPECT_EQ(model.stated, (std::set<std::string>{"layers", "norm", "position"}));
  ModelConfig found;
  found.layers = 30;
  found.n_heads = 9;
  found.norm = NormType::rmsnorm;
  found.position = parse_component_spec("rope:theta=100000.0");
  check_stated_shape(model, found);
  found.position = parse_component_spec("rope:theta=10000");
  EXPECT_EQ(message_of([&] { check_stated_shape(model, found); }),
            "f.yaml:2:3: shape.position: the config of model 'm' says theta 100000, the checkpoint "
            "theta 10000; correct the config, or check that this is the model meant");
  found.layers = 12;
  EXPECT_EQ(message_of([&] { check_stated_shape(model, found); }),
            "f.yaml:2:3: shape.layers: the config of model 'm' says 30, the checkpoint 12; correct "
            "the config, or check that this is the model meant");
}

TEST(ExperimentConfig, ModelListsNeedDistinctNames) {
  const std::string one = "{name: a, source: {type: random, seed: 1}, shape: {vocabulary: 8, "
                          "context: 8, d_model: 8, layers: 1, n_heads: 2, n_kv_heads: 1, d_mlp: 8, "
                          "norm: layernorm, mlp: gelu_tanh, position: learned}}";
  ConfigReader reader = reader_of("models: [" + one + ", " + one + "]\n");
  EXPECT_NE(message_of([&] { parse_models(reader); }).find("model names are unique, got 'a' twice"),
            std::string::npos);
  ConfigReader single = reader_of("models: [" + one + "]\n");
  EXPECT_EQ(parse_models(single).size(), 1u);
}

TEST(ExperimentConfig, DtypeSetsAllThreeAndSingleKeysOverrideIt) {
  ConfigReader reader = reader_of(
      "runtime: {dtype: bf16, weights: f32, chunk: 128, overflow: stop, memory_limit: 1000,\n"
      "  attention: sdpa}\n");
  const RuntimeConfig runtime = parse_runtime(reader);
  EXPECT_EQ(runtime.activations, at::kBFloat16);
  EXPECT_EQ(runtime.weights, at::kFloat);
  EXPECT_EQ(runtime.cache, at::kBFloat16);
  EXPECT_EQ(runtime.chunk, 128);
  EXPECT_EQ(runtime.overflow, OverflowPolicy::stop);
  EXPECT_EQ(runtime.memory_limit, 1000);
  EXPECT_EQ(runtime.attention.type, "sdpa");
}

TEST(ExperimentConfig, WeightsMayBeInt8WhileTheRestKeepsItsDtype) {
  ConfigReader reader = reader_of("runtime: {dtype: bf16, weights: int8}\n");
  const RuntimeConfig runtime = parse_runtime(reader);
  EXPECT_EQ(runtime.weights, at::kChar);
  EXPECT_EQ(runtime.activations, at::kBFloat16);
  EXPECT_EQ(runtime.cache, at::kBFloat16);
}

TEST(ExperimentConfig, RowTokensReachFromTheLibraryAloneToAllOfAStep) {
  const auto read = [](const std::string& text) {
    ConfigReader reader = reader_of("runtime: {row_tokens: " + text + "}\n");
    return parse_runtime(reader).row_tokens;
  };
  EXPECT_EQ(read("-1"), -1);
  EXPECT_EQ(read("0"), 0);
  EXPECT_EQ(read("4096"), 4096);
  EXPECT_EQ(message_of([&] { read("4097"); }),
            "f.yaml:1:23: runtime.row_tokens: wanted a whole number from -1 to 4096, got 4097");
  EXPECT_EQ(message_of([&] { read("many"); }),
            "f.yaml:1:23: runtime.row_tokens: wanted a whole number, got 'many'");
}

TEST(ExperimentConfig, AbsentPartsHaveTheirDefaults) {
  ConfigReader reader = reader_of("schema: kvlab/1\n");
  const RuntimeConfig runtime = parse_runtime(reader);
  EXPECT_EQ(runtime.threads, static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  EXPECT_EQ(runtime.weights, at::kFloat);
  EXPECT_EQ(runtime.cache, at::kFloat);
  EXPECT_EQ(runtime.attention.type, "fused");
  EXPECT_EQ(runtime.row_tokens, 0);
  EXPECT_EQ(runtime.chunk, 0);
  EXPECT_EQ(runtime.overflow, OverflowPolicy::error);
  EXPECT_EQ(runtime.memory_limit, std::nullopt);
  EXPECT_EQ(parse_sampler(reader).type, SamplerType::greedy);
  EXPECT_EQ(parse_measure(reader).repeats, 5);
}

TEST(ExperimentConfig, ParsesSamplersAndArmsToExactValues) {
  ConfigReader reader = reader_of(
      "sampler: {type: sample, temperature: 0.7, top_k: 40, top_p: 0.9, seed: 11}\n"
      "arms:\n  - {name: a.b-c_1, cache: paged, attention: {type: fused}, cache_dtype: bf16,\n"
      "     position: none}\n");
  const SamplerConfig sampler = parse_sampler(reader);
  EXPECT_EQ(sampler.type, SamplerType::sample);
  EXPECT_EQ(sampler.temperature, 0.7);
  EXPECT_EQ(sampler.top_k, 40);
  EXPECT_EQ(sampler.top_p, 0.9);
  EXPECT_EQ(sampler.seed, 11u);
  const std::vector<ArmConfig> arms = parse_arms(reader);
  ASSERT_EQ(arms.size(), 1u);
  EXPECT_EQ(arms[0].attention->type, "fused");
  EXPECT_EQ(arms[0].cache_dtype, at::kBFloat16);
  EXPECT_EQ(arms[0].position->type, "none");
}

TEST(ExperimentConfig, ResolvedTextParsesToTheSameExperiment) {
  const ConfigNode root = parse_config_text(std::string(kExample) + kModel, "f.yaml");
  const std::string text = to_yaml(root);
  ExperimentConfig again = parse_experiment(parse_config_text(text, "g.yaml"));
  const ComparisonConfig config = parse_comparison(again.reader);
  EXPECT_EQ(config.arms.size(), 3u);
  EXPECT_EQ(config.model.shape.norm_epsilon, 1e-6);
  EXPECT_EQ(to_yaml(again.root), text);
}

std::string isolated(const std::string& limits) {
  return std::string(kExample) + kModel + "isolation: process\nlimits: " + limits + "\n";
}

TEST(ExperimentConfig, ParsesIsolationAndLimitsToExactValues) {
  std::string text = isolated("{seconds: 1.5, memory: 2GB}");
  const std::string arm = "{name: concat,       cache: {type: concat}";
  text.insert(text.find(arm) + arm.size(), ", limits: {memory: 1000000}");
  const ConfigNode root = parse_config_text(text, "f.yaml");
  // The text that a run leaves behind says the same.
  for (const ConfigNode& node : {root, parse_config_text(to_yaml(root), "g.yaml")}) {
    ExperimentConfig experiment = parse_experiment(node);
    const ComparisonConfig config = parse_comparison(experiment.reader);
    EXPECT_EQ(config.isolation, Isolation::process);
    EXPECT_EQ(config.limits.seconds, 1.5);
    EXPECT_EQ(config.limits.memory_bytes, 2000000000);
    ASSERT_TRUE(config.arms[1].limits.has_value());
    EXPECT_EQ(config.arms[1].limits->seconds, std::nullopt);
    EXPECT_EQ(config.arms[1].limits->memory_bytes, 1000000);
    EXPECT_FALSE(config.arms[0].limits.has_value());
  }
}

TEST(ExperimentConfig, ArmsShareOneProcessWithoutLimitsUnlessAsked) {
  ExperimentConfig experiment =
      parse_experiment(parse_config_text(std::string(kExample) + kModel, "f.yaml"));
  const ComparisonConfig config = parse_comparison(experiment.reader);
  EXPECT_EQ(config.isolation, Isolation::none);
  EXPECT_FALSE(config.limits.seconds.has_value());
  EXPECT_FALSE(config.limits.memory_bytes.has_value());
}

TEST(ExperimentConfig, LimitsOfAnArmNeedAProcessOfItsOwn) {
  ConfigReader reader =
      reader_of("arms:\n  - {name: a, cache: none, limits: {seconds: 60}}\n");
  EXPECT_EQ(message_of([&] { parse_arms(reader); }),
            "f.yaml:2:36: arms.0.limits: limits are kept only for arms in processes of their own; "
            "add isolation: process at the top, or delete the key");
}

TEST(ExperimentConfig, NamesOfElementTypesRoundTrip) {
  EXPECT_EQ(dtype_name(parse_dtype("f32")), "f32");
  EXPECT_EQ(dtype_name(parse_dtype("bf16")), "bf16");
  EXPECT_EQ(message_of([] { parse_dtype("fp16"); }),
            "[runtime.dtype] 'fp16' is no element type here. Did you mean 'bf16'? Known: f32, "
            "bf16.");
  for (const char* name : {"f32", "bf16", "int8"}) {
    EXPECT_EQ(dtype_name(parse_weight_type(name)), name);
  }
  EXPECT_EQ(message_of([] { parse_dtype("int8"); }),
            "[runtime.dtype] 'int8' is no element type here. Known: f32, bf16.");
  EXPECT_EQ(message_of([] { parse_weight_type("int4"); }),
            "[runtime.weights] 'int4' is no type of weights here. Did you mean 'int8'? Known: f32, "
            "bf16, int8.");
}

}  // namespace
