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
  std::vector<std::string> plugins;
  CLI::Option* fit_option = nullptr;
  bool json = false;
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

  /// 2 * B * L * G * T * D * bytes. Throws UserError where that does not fit 64 bits.
  int64_t formula(int64_t batch, int64_t length) const {
    int64_t bytes = 2 * element_bytes();
    for (const int64_t factor :
         {batch, model_.layers, model_.n_kv_heads, length, model_.head_dim}) {
      KVLAB_CHECK(!__builtin_mul_overflow(bytes, factor, &bytes), "[command_line.memory] ", batch,
                  " row(s) of ", length, " tokens are more bytes than can be counted");
    }
    return bytes;
  }

  /// Of the cache alone, every row filled to `length`; nothing where its own capacity ends before.
  std::optional<MemoryUsage> usage(int64_t batch, int64_t length) const {
    (void)formula(batch, length);
    try {
      return filled_usage(registry_, options_.cache, shape(batch, length), length);
    } catch (const CapacityError&) {
      return {};
    }
  }

  CacheTraits traits(int64_t batch, int64_t length) const {
    return registry_.cache_traits(options_.cache, shape(batch, length));
  }

  /// Of all parameters in this element type.
  int64_t weights_bytes() const { return model_.parameters() * element_bytes(); }

 private:
  int64_t element_bytes() const {
    return static_cast<int64_t>(c10::elementSize(options_.cache_dtype));
  }

  CacheShape shape(int64_t batch, int64_t length) const {
    SessionOptions options = options_;
    options.rows = batch;
    options.max_length = length;
    CacheShape shape = session_shape(model_, options);
    shape.validate();
    return shape;
  }

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
  const auto fits = [&](int64_t batch, int64_t length) {
    const std::optional<MemoryUsage> usage = estimator.usage(batch, length);
    return usage && usage->peak_total <= bytes;
  };
  Fit fit;
  fit.longest = largest(kLongest, [&](int64_t length) { return fits(1, length); });
  for (const int64_t length : lengths) {
    fit.batches.emplace_back(
        length, largest(kLargestBatch, [&](int64_t batch) { return fits(batch, length); }));
  }
  return fit;
}

// "a, b" of the parts that are there.
std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ", ") + part;
  return text;
}

std::string not_held_note(int64_t batch, int64_t length) {
  const std::string rows = batch == 1 ? "" : count_cell(batch).text + " rows of ";
  return "does not hold " + rows + count_cell(length).text + " tokens";
}

// "27.0 GB", in powers of ten.
std::string size_text(int64_t bytes) {
  const auto size = static_cast<double>(bytes);
  if (size >= 1e9) return number_cell(size / 1e9, 1).text + " GB";
  if (size >= 1e6) return number_cell(size / 1e6, 1).text + " MB";
  return number_cell(size / 1e3, 1).text + " kB";
}

class MemoryTable {
 public:
  explicit MemoryTable(const ModelConfig& model) : context_(model.context) {
    table_.columns = {{"cache", "cache"},
                      {"dtype", "dtype"},
                      {"batch", "batch"},
                      {"length", "length", "tokens"},
                      {"formula", "formula", "bytes"},
                      {"reserved", "reserved", "bytes"},
                      {"peak", "peak", "bytes"},
                      {"note", "note"}};
  }

  void add(const Estimator& estimator, int64_t batch, int64_t length) {
    const int64_t formula = estimator.formula(batch, length);
    const std::optional<MemoryUsage> usage = estimator.usage(batch, length);
    const CacheTraits traits = estimator.traits(batch, length);
    const bool hypothetical = length > context_;
    rows_.push_back({{"cache", estimator.cache()},
                     {"dtype", estimator.dtype()},
                     {"batch", batch},
                     {"length", length},
                     {"formula", formula},
                     {"reserved", usage ? Json(usage->reserved()) : Json(nullptr)},
                     {"peak", usage ? Json(usage->peak_total) : Json(nullptr)},
                     {"holds", usage.has_value()},
                     {"exact", traits.exact},
                     {"keeps_nothing", traits.keeps_nothing},
                     {"hypothetical", hypothetical}});
    std::vector<std::string> notes;
    if (!usage) notes.push_back(not_held_note(batch, length));
    if (!traits.exact) notes.emplace_back("approximate");
    if (traits.keeps_nothing) notes.emplace_back("recomputes");
    if (hypothetical) notes.emplace_back("hypothetical");
    table_.rows.push_back({text_cell(estimator.cache()), text_cell(estimator.dtype()),
                           count_cell(batch), count_cell(length), count_cell(formula),
                           usage ? count_cell(usage->reserved()) : empty_cell(),
                           usage ? count_cell(usage->peak_total) : empty_cell(),
                           text_cell(joined(notes))});
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
          {"weights_bytes", estimator.weights_bytes()},
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
            << count_cell(bytes).text << " bytes for K and V alone; the weights take "
            << size_text(estimator.weights_bytes()) << " more in " << estimator.dtype()
            << "\n  longest text of one row: " << limited(fit.longest, kLongest) << " tokens";
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
  const Registry registry = open_registry(arguments.plugins);
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
      "formula is 2 * batch * layers * kv_heads * length * head_dim * bytes, whatever the cache "
      "is;\n"
      "reserved and peak are the cache's own estimate after a prefill of all but one token and "
      "one\n"
      "decode step. Notes: a cache that recomputes keeps nothing, an approximate one changes the\n"
      "model's answer, and lengths beyond the model's context are hypothetical. --fit is about K "
      "and\n"
      "V alone: it says beside them what the weights take. No weights are loaded.");
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
  arguments->fit_option = command->add_option(
      "--fit", arguments->fit,
      "Also say what fits these bytes, K and V alone without the weights, e.g. 8GB or 512MiB");
  add_plugin_option(*command, arguments->plugins);
  command->add_flag("--json", arguments->json, "Print one line of JSON");
  command->callback([arguments, &invocation] {
    invocation.run = [arguments] { return run_memory(*arguments); };
  });
}

}  // namespace kvlab
