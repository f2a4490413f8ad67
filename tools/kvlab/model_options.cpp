#include "model_options.h"

#include <thread>

#include "command.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/process.h"
#include "kvlab/runtime/row_crossover.h"
#include "model_argument.h"

namespace kvlab {

namespace {

constexpr int64_t kLongest = 1'000'000'000;
constexpr int kMostThreads = 1024;

}  // namespace

int hardware_threads() {
  const unsigned count = std::thread::hardware_concurrency();
  return count == 0 ? 1 : static_cast<int>(count);
}

void add_model_options(CLI::App& app, ModelOptions& options) {
  options.threads = hardware_threads();
  app.add_option("--model", options.model,
                 "A Hugging Face folder, a .gguf file, a model YAML, or its name in configs/models")
      ->required();
  app.add_option("--cache", options.cache, "A cache and its options, e.g. paged:block_size=16")
      ->capture_default_str();
  app.add_option("--attention", options.attention,
                 "An attention and its options; see kvlab list attention")
      ->capture_default_str();
  app.add_option("--dtype", options.dtype, "f32 or bf16: weights, activations and cache")
      ->capture_default_str();
  app.add_option("--weights", options.weights, "f32, bf16 or int8; default: as --dtype")
      ->check([](const std::string& text) {
        return std::string(text.empty() ? "is empty; give f32, bf16 or int8, or leave it out" : "");
      });
  app.add_option("--row-tokens", options.row_tokens,
                 "Most tokens of a step that the row kernels take; 0 = as measured on this machine, "
                 "-1 = none")
      ->check(CLI::Range(int64_t{-1}, kMostRowTokens))
      ->capture_default_str();
  app.add_option("--chunk", options.chunk, "Tokens per prefill step; 0 = all at once")
      ->check(CLI::Range(int64_t{0}, kLongest))
      ->capture_default_str();
  app.add_option("--max-length", options.max_length,
                 "Longest text the cache is made for, in tokens; 0 = what this run needs")
      ->check(CLI::Range(int64_t{0}, kLongest))
      ->capture_default_str();
  app.add_option("--threads", options.threads, "Threads of kernels and products; default: all there are")
      ->check(CLI::Range(1, kMostThreads))
      ->capture_default_str();
  add_plugin_option(app, options.plugins);
  app.add_flag("--json", options.json, "Print one line of JSON");
}

Model open_model(const ModelOptions& options, const Registry& registry) {
  const at::ScalarType dtype = parse_dtype(options.dtype);
  const ComponentSpec cache = parse_component_spec(options.cache);
  resolve_options(registry.cache(cache.type, "--cache").info, cache, "cache");
  const ComponentSpec attention = parse_component_spec(options.attention);
  resolve_options(registry.attention(attention.type, "--attention").info, attention, "attention");
  const at::ScalarType weights =
      options.weights.empty() ? dtype : parse_weight_type(options.weights);
  set_threads(options.threads);
  return load_model(find_model(options.model), weights, dtype);
}

SessionOptions session_options(const ModelOptions& options, const ModelConfig& model,
                               int64_t length) {
  KVLAB_CHECK_LE(options.max_length, model.context,
                 "[command_line.--max-length] length in tokens (the model's context)");
  SessionOptions session;
  session.cache = parse_component_spec(options.cache);
  session.attention = parse_component_spec(options.attention);
  session.cache_dtype = parse_dtype(options.dtype);
  session.row_tokens = options.row_tokens;
  session.max_length = options.max_length > 0 ? options.max_length : length;
  session.chunk = options.chunk;
  return session;
}

}  // namespace kvlab
