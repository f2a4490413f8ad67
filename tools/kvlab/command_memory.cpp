#include "command_memory.h"

#include <algorithm>
#include <iostream>
#include <memory>
#include <optional>

#include "exit_code.h"
#include "json_output.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/report_terminal.h"
#include "kvlab/runtime/session.h"
#include "model_argument.h"
#include "number_list.h"

namespace kvlab {

namespace {

constexpr int64_t kLongest = 1 << 30;
constexpr int64_t kLargestBatch = 1 << 16;

struct MemoryArguments {
  std::string model, lengths, batches = "1", fit;
  std::vector<std::string> dtypes = {"f32"};
  std::vector<std::string> caches = {"preallocated"};
  CLI::Option* fit_option = nullptr;
  bool json = false;
};

struct Estimate {
  int64_t payload = 0, reserved = 0, peak = 0;
};

// One cache and element type over one model's shape.
class Estimator {
 public:
  Estimator(const Registry& registry, const ModelConfig& model, std::string cache,
            const std::string& dtype)
      : registry_(registry), model_(model), cache_(std::move(cache)), dtype_(dtype) {
    options_.cache = parse_component_spec(cache_);
    options_.cache_dtype = parse_dtype(dtype);
    resolve_options(registry.cache(options_.cache.type, "--cache").info, options_.cache, "cache");
  }

  const std::string& cache() const { return cache_; }
  const std::string& dtype() const { return dtype_; }

  /// After a prefill of all but one token of every row and one decode step, so that what only grows
  /// or copies while decoding is in the peak.
  Estimate at(int64_t batch, int64_t length) const {
    SessionOptions options = options_;
    options.rows = batch;
    options.max_length = length;
    const CacheShape shape = session_shape(model_, options);
    shape.validate();
    const int64_t prompt = std::max<int64_t>(length - 1, 1);
    const std::vector<int64_t> prompts(static_cast<size_t>(batch), prompt);
    const MemoryUsage usage = registry_.estimate_cache(
        options.cache, shape, StepSequence::prefill_then_decode(prompts, length > 1 ? 2 : 1, 0));
    return {payload(batch, length), usage.reserved(), usage.peak_total};
  }

  // 2 * B * L * G * T * D * bytes.
  int64_t payload(int64_t batch, int64_t length) const {
    int64_t bytes = 2 * static_cast<int64_t>(c10::elementSize(options_.cache_dtype));
    for (const int64_t factor :
         {batch, model_.layers, model_.n_kv_heads, length, model_.head_dim}) {
      KVLAB_CHECK(!__builtin_mul_overflow(bytes, factor, &bytes), "[command_line.memory] ", batch,
                  " row(s) of ", length, " tokens are more bytes than can be counted");
    }
    return bytes;
  }

 private:
  const Registry& registry_;
  const ModelConfig& model_;
  std::string cache_, dtype_;
  SessionOptions options_;
};

// Largest value from 1 to `most` for which `fits` holds, 0 for none. `fits` must not become true
// again once it is false. Doubles first, so that nothing far beyond the answer is asked.
template <typename Fits>
int64_t largest(int64_t most, Fits&& fits) {
  if (!fits(1)) return 0;
  int64_t low = 1;
  while (low < most && fits(std::min(most, 2 * low))) low = std::min(most, 2 * low);
  int64_t high = std::min(most, 2 * low);
  while (low + 1 < high) {
    const int64_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low;
}

struct Fit {
  int64_t longest = 0;                               // for one row; kLongest means: at least
  std::vector<std::pair<int64_t, int64_t>> batches;  // length, largest batch
};

Fit find_fit(const Estimator& estimator, int64_t bytes, const std::vector<int64_t>& lengths) {
  Fit fit;
  fit.longest =
      largest(kLongest, [&](int64_t length) { return estimator.at(1, length).peak <= bytes; });
  for (const int64_t length : lengths) {
    fit.batches.emplace_back(length, largest(kLargestBatch, [&](int64_t batch) {
                               return estimator.at(batch, length).peak <= bytes;
                             }));
  }
  return fit;
}

class MemoryTable {
 public:
  explicit MemoryTable(const ModelConfig& model) : context_(model.context) {
    table_.columns = {{"cache", "cache"},
                      {"dtype", "dtype"},
                      {"batch", "batch"},
                      {"length", "length", "tokens"},
                      {"payload", "payload", "bytes"},
                      {"reserved", "reserved", "bytes"},
                      {"peak", "peak", "bytes"},
                      {"note", "note"}};
  }

  void add(const Estimator& estimator, int64_t batch, int64_t length) {
    const Estimate estimate = estimator.at(batch, length);
    const bool hypothetical = length > context_;
    rows_.push_back({{"cache", estimator.cache()},
                     {"dtype", estimator.dtype()},
                     {"batch", batch},
                     {"length", length},
                     {"payload", estimate.payload},
                     {"reserved", estimate.reserved},
                     {"peak", estimate.peak},
                     {"hypothetical", hypothetical}});
    table_.rows.push_back({text_cell(estimator.cache()), text_cell(estimator.dtype()),
                           count_cell(batch), count_cell(length), count_cell(estimate.payload),
                           count_cell(estimate.reserved), count_cell(estimate.peak),
                           text_cell(hypothetical ? "hypothetical" : "")});
  }

  const Json& rows() const { return rows_; }
  std::string text() const { return terminal_table(table_); }

 private:
  int64_t context_;
  ReportTable table_;
  Json rows_ = Json::array();
};

Json fit_json(const Estimator& estimator, const Fit& fit, int64_t bytes, int64_t context) {
  Json batches = Json::array();
  for (const auto& [length, batch] : fit.batches) {
    batches.push_back(
        {{"length", length}, {"largest_batch", batch}, {"hypothetical", length > context}});
  }
  return {{"cache", estimator.cache()},
          {"dtype", estimator.dtype()},
          {"bytes", bytes},
          {"longest_length", fit.longest},
          {"hypothetical", fit.longest > context},
          {"batches", batches}};
}

void print_fit(const Estimator& estimator, const Fit& fit, int64_t bytes, int64_t context) {
  const auto limited = [](int64_t value, int64_t most) {
    return (value == most ? "at least " : "") + count_cell(value).text;
  };
  std::cout << "\n"
            << estimator.cache() << ", " << estimator.dtype() << ", within "
            << count_cell(bytes).text
            << " bytes:\n  longest text of one row: " << limited(fit.longest, kLongest)
            << " tokens";
  if (fit.longest > context) {
    std::cout << " (hypothetical: the model's context is " << count_cell(context).text << ")";
  }
  std::cout << "\n";
  for (const auto& [length, batch] : fit.batches) {
    std::cout << "  largest batch of " << count_cell(length).text
              << " tokens per row: " << limited(batch, kLargestBatch)
              << (length > context ? " (hypothetical)" : "") << "\n";
  }
}

int run_memory(const MemoryArguments& arguments) {
  std::optional<int64_t> bytes;
  if (arguments.fit_option->count() > 0) bytes = parse_bytes(arguments.fit, "--fit");
  std::vector<int64_t> lengths = parse_number_list(arguments.lengths, "--length", 1, kLongest);
  const std::vector<int64_t> batches =
      parse_number_list(arguments.batches, "--batch", 1, kLargestBatch);
  KVLAB_CHECK(!batches.empty(), "[command_line.--batch] there is no number");
  const Registry registry = builtin_registry();
  const ModelConfig model = find_model_shape(arguments.model);
  if (lengths.empty()) lengths = {model.context};

  MemoryTable table(model);
  std::vector<Estimator> estimators;
  for (const std::string& cache : arguments.caches) {
    for (const std::string& dtype : arguments.dtypes) {
      const Estimator& estimator = estimators.emplace_back(registry, model, cache, dtype);
      for (const int64_t batch : batches) {
        for (const int64_t length : lengths) table.add(estimator, batch, length);
      }
    }
  }
  if (!arguments.json) std::cout << table.text();
  Json fits = Json::array();
  for (const Estimator& estimator : estimators) {
    if (!bytes) break;
    const Fit fit = find_fit(estimator, *bytes, lengths);
    fits.push_back(fit_json(estimator, fit, *bytes, model.context));
    if (!arguments.json) print_fit(estimator, fit, *bytes, model.context);
  }
  if (!arguments.json) return kExitOk;
  Json document = {{"model", model.name}, {"context", model.context}, {"rows", table.rows()}};
  if (bytes) document["fit"] = fits;
  print_json(document);
  return kExitOk;
}

}  // namespace

void add_memory_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command =
      app.add_subcommand("memory", "Bytes that caches take for a model's shape, before any run.");
  command->footer(
      "payload is the formula 2 * batch * layers * kv_heads * length * head_dim * bytes; reserved\n"
      "and peak are the cache's own estimate after a prefill of all but one token and one decode\n"
      "step. No weights are loaded. Lengths beyond the model's context are hypothetical.");
  const auto arguments = std::make_shared<MemoryArguments>();
  command
      ->add_option("--model", arguments->model,
                   "As for generate; a Hugging Face config.json will do, too")
      ->required();
  command->add_option("--length", arguments->lengths,
                      "Tokens per row, e.g. 512,2048; default: the model's context");
  command->add_option("--batch", arguments->batches, "Rows, e.g. 1,8")->capture_default_str();
  command->add_option("--dtype", arguments->dtypes, "f32 or bf16, or both: f32,bf16")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--cache", arguments->caches, "A cache and its options; may be repeated")
      ->allow_extra_args(false)
      ->capture_default_str();
  arguments->fit_option = command->add_option("--fit", arguments->fit,
                                              "Also say what fits these bytes, e.g. 8GB or 512MiB");
  command->add_flag("--json", arguments->json, "Print one line of JSON");
  command->callback([arguments, &invocation] {
    invocation.run = [arguments] { return run_memory(*arguments); };
  });
}

}  // namespace kvlab
