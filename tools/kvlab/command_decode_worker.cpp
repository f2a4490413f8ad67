#include "command_decode_worker.h"

#include <iostream>
#include <memory>
#include <optional>

#include "decode_worker.h"
#include "exit_code.h"
#include "kvlab/runtime/process.h"
#include "model_argument.h"
#include "model_options.h"

namespace kvlab {

namespace {

constexpr int kMostThreads = 1024;
constexpr int64_t kMostRowTokens = 4096;

struct DecodeWorkerArguments {
  std::string model;
  std::string weights = "f32", activations = "f32";
  std::string cache = "preallocated", cache_dtype = "f32";
  std::string attention = "fused";
  int64_t row_tokens = 0;
  int threads = 0;
  std::vector<std::string> plugins;

  SessionOptions settings() const;
};

SessionOptions DecodeWorkerArguments::settings() const {
  SessionOptions options;
  options.cache = parse_component_spec(cache);
  options.cache_dtype = parse_dtype(cache_dtype);
  options.attention = parse_component_spec(attention);
  options.row_tokens = row_tokens;
  return options;
}

Json description(const DecodeWorkerArguments& arguments, const Model& model) {
  return {{"ready", true},
          {"engine", "kvlab " KVLAB_VERSION},
          {"model", model.name},
          {"vocabulary", model.config().vocabulary},
          {"context", model.config().context},
          {"weights", arguments.weights},
          {"cache_dtype", arguments.cache_dtype},
          {"attention", arguments.attention},
          {"threads", arguments.threads}};
}

int run_decode_worker(const DecodeWorkerArguments& arguments) {
  const Registry registry = open_registry(arguments.plugins);
  const SessionOptions settings = arguments.settings();
  registry.cache_options(settings.cache);
  registry.attention_options(settings.attention);
  set_threads(arguments.threads);
  const Model model = load_model(find_model(arguments.model), parse_weight_type(arguments.weights),
                                 parse_dtype(arguments.activations));
  DecodeWorker worker(model, registry, settings);
  print_json(description(arguments, model));
  for (std::string line; std::getline(std::cin, line);) {
    try {
      const std::optional<Json> answer = worker.answer(line);
      if (!answer) break;
      print_json(*answer);
    } catch (const std::exception& error) {
      // The other side decides what a failed request means.
      print_json({{"error", error.what()}});
    }
  }
  return kExitOk;
}

}  // namespace

void add_decode_worker_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command =
      app.add_subcommand("decode-worker", "Answer timing requests about one model, line by line.");
  command->group("");  // started by programs, not by people
  const auto arguments = std::make_shared<DecodeWorkerArguments>();
  arguments->threads = hardware_threads();
  command->add_option("model", arguments->model, "As --model of `kvlab generate`")->required();
  command->add_option("--weights", arguments->weights, "f32, bf16 or int8")->capture_default_str();
  command->add_option("--activations", arguments->activations, "f32 or bf16")
      ->capture_default_str();
  command
      ->add_option("--cache", arguments->cache,
                   "The cache where a request names none, e.g. paged:block_size=64")
      ->capture_default_str();
  command->add_option("--cache-dtype", arguments->cache_dtype, "f32 or bf16")
      ->capture_default_str();
  command->add_option("--attention", arguments->attention, "See kvlab list attention")
      ->capture_default_str();
  command
      ->add_option("--row-tokens", arguments->row_tokens,
                   "Most tokens of a step that the row kernels take; 0 = as measured on this "
                   "machine, -1 = none")
      ->check(CLI::Range(int64_t{-1}, kMostRowTokens))
      ->capture_default_str();
  command->add_option("--threads", arguments->threads, "Threads of kernels and products")
      ->check(CLI::Range(1, kMostThreads))
      ->capture_default_str();
  add_plugin_option(*command, arguments->plugins);
  command->callback([arguments, &invocation] {
    invocation.run = [arguments] { return run_decode_worker(*arguments); };
  });
}

}  // namespace kvlab
