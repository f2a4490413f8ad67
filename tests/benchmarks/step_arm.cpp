#include "tests/benchmarks/step_arm.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <stdexcept>

namespace kvlab::benchmarks {

namespace {

Model random_model(const std::string& name, const ModelConfig& shape) {
  ModelSource source;
  source.name = name;
  source.seed = 5;
  source.shape = shape;
  source.shape.name = name;
  return load_model(source, at::kFloat, at::kFloat);
}

ModelConfig llama_shape() {
  ModelConfig shape;
  shape.context = 2048;
  shape.norm = NormType::rmsnorm;
  shape.mlp = MlpType::swiglu;
  shape.qkv_bias = shape.output_bias = shape.mlp_bias = false;
  shape.position = {"rope", {}, ""};
  return shape;
}

SessionOptions options_of(int64_t depth, int64_t row_tokens) {
  SessionOptions options;
  options.cache = {"preallocated", {}, ""};
  options.attention = {"fused", {}, ""};
  options.row_tokens = row_tokens;
  options.max_length = depth + 1;
  return options;
}

}  // namespace

Model tiny_model() {
  ModelConfig shape = llama_shape();
  shape.vocabulary = 256;
  shape.d_model = 128;
  shape.layers = 12;
  shape.n_heads = shape.n_kv_heads = 4;
  shape.head_dim = 32;
  shape.d_mlp = 512;
  return random_model("tiny", shape);
}

Model fifth_of_smollm2() {
  ModelConfig shape = llama_shape();
  shape.vocabulary = 9830;
  shape.d_model = 576;
  shape.layers = 6;
  shape.n_heads = 9;
  shape.n_kv_heads = 3;
  shape.head_dim = 64;
  shape.d_mlp = 1536;
  return random_model("fifth_of_smollm2", shape);
}

StepArm::StepArm(const Model& model, const Registry& registry, int64_t depth, int64_t row_tokens)
    : session_(model, registry, options_of(depth, row_tokens)) {
  for (int64_t i = 0; i <= depth; ++i) {
    text_.push_back(static_cast<int32_t>(i * 37 % model.config().vocabulary));
  }
  RowFeed prompt;
  prompt.text = text_;
  prompt.end = depth;
  session_.step({&prompt, 1}, [](int, int64_t, std::span<const float>) {});
}

double StepArm::run() {
  RowFeed feed;
  feed.text = text_;
  feed.end = static_cast<int64_t>(text_.size());
  feed.phase = Phase::decode;
  const auto start = std::chrono::steady_clock::now();
  session_.step({&feed, 1}, [this](int, int64_t, std::span<const float> logits) {
    logits_.assign(logits.begin(), logits.end());
  });
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  session_.cache().truncate(0, feed.end - 1);
  return seconds.count();
}

double StepArm::cache_share(int steps) {
  StepProfile profile;
  session_.profile_into(&profile);
  for (int i = 0; i < steps; ++i) run();
  session_.profile_into(nullptr);
  return static_cast<double>(profile.cache_ns) / static_cast<double>(profile.total_ns());
}

void check_equal_logits(StepArm& first, StepArm& second) {
  first.run();
  second.run();
  double largest = 0, worst = 0;
  for (size_t i = 0; i < first.logits().size(); ++i) {
    largest = std::max<double>(largest, std::abs(first.logits()[i]));
    const double error = std::abs(first.logits()[i] - second.logits()[i]);
    if (!(error <= worst)) worst = error;  // takes NaN as well
  }
  if (first.logits().size() == second.logits().size() && worst <= 1e-5 * largest) return;
  throw std::runtime_error("two ways to compute a step differ: error " + std::to_string(worst) +
                           " where the largest logit is " + std::to_string(largest));
}

}  // namespace kvlab::benchmarks
