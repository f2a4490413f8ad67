#include "memory_table_experiment.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "cache_measurement.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/figures.h"
#include "kvlab/runtime/model.h"
#include "kvlab/runtime/process.h"

namespace kvlab::experiments::memory_table_kind {

namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kLongest = int64_t{1} << 31;
constexpr double kMegabyte = 1e6;

// f16 is for arithmetic and storage alone: published tables count in two-byte elements.
at::ScalarType element_type(const std::string& dtype) {
  return dtype == "f16" ? at::kHalf : parse_dtype(dtype);
}

std::string megabytes(int64_t bytes) {
  return fmt::format("{:.1f} MB", static_cast<double>(bytes) / kMegabyte);
}

std::string window_text(const PayloadShape& shape) {
  if (shape.window == 0) return "none";
  return fmt::format("{} in {} of {} layers", shape.window, shape.windowed_layers, shape.layers);
}

Metric byte_metric(const std::string& arm, const char* name, int64_t bytes, int64_t length) {
  const double none = std::numeric_limits<double>::quiet_NaN();
  return {arm,
          name,
          static_cast<double>(bytes),
          "bytes",
          1,
          none,
          none,
          BetterDirection::lower,
          {{"length", std::to_string(length)}}};
}

}  // namespace

MemoryTableExperiment::MemoryTableExperiment(ExperimentConfig& config, const Registry& registry) {
  ConfigReader& reader = config.reader;
  std::vector<ModelConfig> models;
  for (const ModelSource& source : parse_models(reader)) {
    models.push_back(model_shape(source));
    models.back().name = source.name;
  }
  lengths_ = reader.integers("lengths", {1, kLongest});
  const std::vector<std::string> dtypes = reader.texts_or("dtypes", {"f16"});
  for (const std::string& dtype : dtypes) {
    if (dtype != "f32" && dtype != "bf16" && dtype != "f16") {
      reader.fail("dtypes", "an element type is f32, bf16 or f16, got '" + dtype + "'");
    }
  }
  const std::vector<int64_t> kv_heads = reader.integers_or("kv_heads", {}, {1, kLongest});
  for (const ModelConfig& model : models) {
    for (const int64_t heads : kv_heads) {
      if (model.n_heads % heads != 0) {
        reader.fail("kv_heads", detail::concat("kv_heads must divide the ", model.n_heads,
                                               " heads of model '", model.name, "', got ", heads));
      }
    }
  }
  std::vector<Window> windows = {Window{}};
  if (reader.has("window_layers")) {
    for (ConfigReader& child : reader.children("window_layers")) {
      const Window window{child.integer("window", {1, kLongest}),
                          child.integer("layers", {1, kLongest})};
      for (const ModelConfig& model : models) {
        if (window.layers > model.layers) {
          child.fail("layers", detail::concat("model '", model.name, "' has ", model.layers,
                                              " layers, got ", window.layers));
        }
      }
      child.finish();
      windows.push_back(window);
    }
  }
  make_variants(models, dtypes, kv_heads, reader.integers_or("batch", {1}, {1, kLongest}), windows);
  if (reader.has("caches")) caches_ = reader.components("caches");
  room_for_context_ = reader.choice_or("room", "length", {"length", "context"}) == "context";
  if (auto measure = reader.optional_child("measure")) {
    measure_bytes_ = measure->integer("max_bytes", {1, std::numeric_limits<int64_t>::max()});
    measure->finish();
    if (caches_.empty()) reader.fail("measure", "there is nothing to measure; add caches:");
  }
  check_caches(reader, registry);
}

void MemoryTableExperiment::make_variants(const std::vector<ModelConfig>& models,
                                          const std::vector<std::string>& dtypes,
                                          const std::vector<int64_t>& kv_heads,
                                          const std::vector<int64_t>& batches,
                                          const std::vector<Window>& windows) {
  for (const ModelConfig& model : models) {
    const std::vector<int64_t> heads =
        kv_heads.empty() ? std::vector<int64_t>{model.n_kv_heads} : kv_heads;
    for (const std::string& dtype : dtypes) {
      for (const int64_t batch : batches) {
        for (const int64_t head_count : heads) {
          for (const Window& window : windows) {
            Variant variant;
            variant.model = model.name;
            variant.dtype = dtype;
            variant.type = element_type(dtype);
            variant.query_heads = model.n_heads;
            variant.context = model.context;
            variant.model_window = model.window;
            variant.payload = {batch,
                               model.layers,
                               head_count,
                               model.head_dim,
                               static_cast<int64_t>(c10::elementSize(variant.type)),
                               window.window,
                               window.layers};
            variant.label = model.name;
            if (heads.size() > 1) variant.label += fmt::format(", {} KV heads", head_count);
            if (dtypes.size() > 1) variant.label += ", " + dtype;
            if (batches.size() > 1) variant.label += fmt::format(", batch {}", batch);
            if (window.window > 0) {
              variant.label +=
                  fmt::format(", window {} in {} layers", window.window, window.layers);
            }
            variants_.push_back(std::move(variant));
          }
        }
      }
    }
  }
}

void MemoryTableExperiment::check_caches(const ConfigReader& reader,
                                         const Registry& registry) const {
  std::set<std::string> reasons;
  for (const ComponentSpec& cache : caches_) {
    resolve_options(registry.cache(cache.type, cache.where).info, cache, "cache");
    for (const Variant& variant : variants_) {
      try {
        const CacheShape shape = cache_shape(variant, lengths_.front());
        shape.validate();
        registry.cache_traits(cache, shape);
      } catch (const UserError& error) {
        reasons.insert("\n  - " + cache.where + ": model '" + variant.model + "': " + error.what());
      }
    }
  }
  if (reasons.empty()) return;
  std::string list;
  for (const std::string& reason : reasons) list += reason;
  reader.fail("caches", "not every cache fits every model:" + list);
}

CacheShape MemoryTableExperiment::cache_shape(const Variant& variant, int64_t length) const {
  CacheShape shape;
  shape.layers = variant.payload.layers;
  shape.query_heads = variant.query_heads;
  shape.kv_heads = variant.payload.kv_heads;
  shape.rows = variant.payload.batch;
  shape.key_dim = shape.value_dim = variant.payload.head_dim;
  shape.max_length = room_for_context_ ? std::max(variant.context, length) : length;
  shape.max_step_tokens = std::min(kFillStep, shape.max_length);
  shape.window = variant.model_window;
  // Caches hold f32 and bf16; f16 elements take the same bytes as bf16 ones.
  shape.dtype = variant.type == at::kHalf ? at::kBFloat16 : variant.type;
  return shape;
}

ReportSection MemoryTableExperiment::payload_section(RunContext& context,
                                                     ExperimentResult& outcome) const {
  ReportSection section;
  section.title = "Payload by formula";
  section.paragraphs = {
      "bytes = `2 * batch * layers * kv_heads * length * head_dim * bytes per element`: keys and "
      "values, nothing else. A layer with a window counts at most that many tokens.",
      "MB are 1,000,000 bytes."};
  ReportTable rounded{"payload", "Payload", {}, {}, ""};
  // Columns that say the same in every line would only push the bytes out of sight.
  const bool batches = std::any_of(variants_.begin(), variants_.end(), [](const Variant& variant) {
    return variant.payload.batch != 1;
  });
  const bool windows = std::any_of(variants_.begin(), variants_.end(), [](const Variant& variant) {
    return variant.payload.window != 0;
  });
  rounded.columns = {{"model", "Model", "", {}},       {"layers", "Layers", "", {}},
                     {"heads", "Heads", "", {}},       {"kv_heads", "KV heads", "", {}},
                     {"head_dim", "Head dim", "", {}}, {"dtype", "Element", "", {}}};
  if (batches) rounded.columns.push_back({"batch", "Batch", "", {}});
  if (windows) rounded.columns.push_back({"window", "Window", "", {}});
  rounded.columns.push_back({"token", "Per token", "bytes", BetterDirection::lower});
  ReportTable exact = rounded;
  exact.id = "payload_bytes";
  exact.title = "The same, to the byte";
  bool hypothetical = false;
  for (const int64_t length : lengths_) {
    const std::string heading = fmt::format("{} tokens", length);
    rounded.columns.push_back(
        {fmt::format("mb_{}", length), heading, "MB", BetterDirection::lower});
    exact.columns.push_back(
        {fmt::format("bytes_{}", length), heading, "bytes", BetterDirection::lower});
  }
  std::vector<LineSeries> series;
  std::vector<Bar> bars;
  for (const Variant& variant : variants_) {
    const PayloadShape& shape = variant.payload;
    std::vector<ReportCell> row = {text_cell(variant.model),        count_cell(shape.layers),
                                   count_cell(variant.query_heads), count_cell(shape.kv_heads),
                                   count_cell(shape.head_dim),      text_cell(variant.dtype)};
    if (batches) row.push_back(count_cell(shape.batch));
    if (windows) row.push_back(text_cell(window_text(shape)));
    row.push_back(count_cell(payload_per_token(shape)));
    std::vector<ReportCell> exact_row = row;
    LineSeries line{variant.label, {}, shape.window > 0, true};
    for (const int64_t length : lengths_) {
      const int64_t bytes = payload_formula(shape, length);
      const bool beyond = length > variant.context;
      const CellEmphasis emphasis = beyond ? CellEmphasis::muted : CellEmphasis::normal;
      hypothetical = hypothetical || beyond;
      ReportCell cell = number_cell(static_cast<double>(bytes) / kMegabyte, 1, emphasis);
      ReportCell exact_cell = count_cell(bytes, emphasis);
      if (beyond) {
        cell.text += " *";
        exact_cell.text += " *";
      }
      row.push_back(cell);
      exact_row.push_back(exact_cell);
      line.points.push_back(
          {static_cast<double>(length), static_cast<double>(bytes) / kMegabyte, {}, {}});
      bars.push_back({variant.label, static_cast<double>(bytes) / kMegabyte, {}, {}, ""});
      outcome.metrics.push_back(byte_metric(variant.label, "payload", bytes, length));
      const Json sample = {
          {"case", "payload"},          {"arm", variant.label},
          {"model", variant.model},     {"dtype", variant.dtype},
          {"kv_heads", shape.kv_heads}, {"batch", shape.batch},
          {"window", shape.window},     {"windowed_layers", shape.windowed_layers},
          {"length", length},           {"bytes_per_token", payload_per_token(shape)},
          {"payload", bytes},           {"hypothetical", beyond}};
      context.folder.add_sample(sample.dump());
    }
    rounded.rows.push_back(std::move(row));
    exact.rows.push_back(std::move(exact_row));
    series.push_back(std::move(line));
    std::string remark;
    if (shape.window > 0) remark += ", the former before a window is full";
    if (lengths_.back() > variant.context) remark += ", beyond the context and so hypothetical";
    outcome.report.conclusions.push_back(
        fmt::format("{}: {} bytes per token, {} at {} tokens{}.", variant.label,
                    count_cell(shape.batch * payload_per_token(shape)).text,
                    megabytes(payload_formula(shape, lengths_.back())), lengths_.back(), remark));
    context.log << "formula: " << outcome.report.conclusions.back() << "\n";
  }
  if (hypothetical) {
    rounded.note = exact.note =
        "* hypothetical: longer than the model's context, so the model cannot hold such a text.";
  }
  section.tables = {rounded, exact};
  const FigureText text{"payload_against_length", "Payload against length",
                        "By formula, on logarithmic axes; every doubling of the text doubles the "
                        "bytes, except in layers whose window is full (dashed)."};
  if (lengths_.size() > 1) {
    section.figures.push_back(line_chart(text, {"Length [tokens]", true, 2, false},
                                         {"Payload [MB]", true, 10, false}, series));
  } else {
    section.figures.push_back(bar_chart(
        {"payload_bars", fmt::format("Payload at {} tokens", lengths_.front()), "By formula."},
        {"Payload [MB]", false, 10, true}, bars));
  }
  return section;
}

std::vector<ReportCell> MemoryTableExperiment::cache_row(RunContext& context,
                                                         const Variant& variant, int64_t length,
                                                         const ComponentSpec& cache,
                                                         ExperimentResult& outcome,
                                                         Tally& tally) const {
  const CacheShape shape = cache_shape(variant, length);
  const CacheTraits traits = context.registry.cache_traits(cache, shape);
  const MemoryUsage estimate =
      context.registry.estimate_cache(cache, shape, fill_sequence(shape, length, traits));
  const int64_t formula = payload_formula(variant.payload, length);
  const double ratio = static_cast<double>(estimate.reserved()) / static_cast<double>(formula);
  std::vector<ReportCell> row = {text_cell(variant.label),
                                 text_cell(to_string(cache)),
                                 count_cell(length),
                                 count_cell(formula),
                                 count_cell(estimate.reserved()),
                                 number_cell(ratio, 3),
                                 count_cell(estimate.peak_total)};
  Json sample = {{"case", "cache"},
                 {"arm", to_string(cache)},
                 {"model", variant.label},
                 {"length", length},
                 {"payload", formula},
                 {"reserved_estimate", estimate.reserved()},
                 {"peak_estimate", estimate.peak_total}};
  const std::string arm = variant.label + ", " + to_string(cache);
  outcome.metrics.push_back(byte_metric(arm, "reserved", estimate.reserved(), length));

  const bool fits =
      measure_bytes_ && formula <= *measure_bytes_ && estimate.peak_total <= *measure_bytes_;
  if (!fits) {
    row.insert(row.end(),
               {empty_cell(), empty_cell(), text_cell("not measured", CellEmphasis::muted)});
    context.folder.add_sample(sample.dump());
    return row;
  }
  const CacheMeasurement measured = measure_cache(context.registry, cache, shape, length);
  PayloadShape stored = variant.payload;
  stored.kv_heads = measured.stored_heads;
  std::string fault;
  // What an approximate or bounded cache keeps is its own affair; an exact one keeps everything.
  const bool keeps_all = traits.exact && !traits.bounded && !traits.keeps_nothing;
  const int64_t wanted = traits.keeps_nothing ? 0 : payload_formula(stored, length);
  if ((keeps_all || traits.keeps_nothing) && measured.payload != wanted) {
    fault =
        fmt::format("{} tokens: payload measured {}, formula {}", length, measured.payload, wanted);
  } else if (measured.usage != estimate) {
    fault = fmt::format("{} tokens: reserved measured {} (peak {}), estimate {} (peak {})", length,
                        measured.usage.reserved(), measured.usage.peak_total, estimate.reserved(),
                        estimate.peak_total);
  }
  ++tally.measured;
  const auto add_point = [&](const char* what, int64_t predicted, int64_t found) {
    tally.points.push_back({to_string(cache),
                            fmt::format("{}, {} tokens, {}", variant.label, length, what),
                            static_cast<double>(predicted) / kMegabyte,
                            static_cast<double>(found) / kMegabyte});
  };
  add_point("reserved", estimate.reserved(), measured.usage.reserved());
  add_point("peak", estimate.peak_total, measured.usage.peak_total);
  if (tally.first_fault.empty()) tally.first_fault = fault;
  row.push_back(count_cell(measured.payload));
  row.push_back(count_cell(measured.usage.reserved()));
  row.push_back(fault.empty() ? text_cell("equal") : text_cell("differs", CellEmphasis::warning));
  sample["payload_measured"] = measured.payload;
  sample["reserved_measured"] = measured.usage.reserved();
  sample["peak_measured"] = measured.usage.peak_total;
  sample["equal"] = fault.empty();
  context.folder.add_sample(sample.dump());
  outcome.metrics.push_back(byte_metric(arm, "payload_measured", measured.payload, length));
  outcome.metrics.push_back(
      byte_metric(arm, "reserved_measured", measured.usage.reserved(), length));
  return row;
}

ReportSection MemoryTableExperiment::cache_section(RunContext& context,
                                                   ExperimentResult& outcome) const {
  ReportSection section;
  section.title = "Caches: estimated and measured";
  section.paragraphs = {fmt::format(
      "Reserved is storage and metadata as each cache's own estimate says it, for a text "
      "fed in steps of {} tokens with room for {}. Measured: the cache is built through "
      "the registry without any model, zeros are appended in every layer, the arena "
      "counts reserved and peak, and the payload is counted from what the cache hands "
      "out. Caches hold f32 and bf16: f16 elements are stored as bf16 ones, which take the same "
      "bytes. Layers with a window have no line here: these caches keep every token.",
      kFillStep, room_for_context_ ? "the model's whole context" : "exactly that length")};
  if (measure_bytes_) {
    section.paragraphs.push_back(
        fmt::format("Measured up to {} per cache.", megabytes(*measure_bytes_)));
  }
  ReportTable table{"caches", "Bytes per cache", {}, {}, ""};
  table.columns = {{"model", "Model", "", {}},
                   {"cache", "Cache", "", {}},
                   {"length", "Length", "tokens", {}},
                   {"payload", "Payload, formula", "bytes", {}},
                   {"reserved", "Reserved, estimate", "bytes", BetterDirection::lower},
                   {"ratio", "Reserved / payload", "", BetterDirection::lower},
                   {"peak", "Peak, estimate", "bytes", BetterDirection::lower},
                   {"payload_measured", "Payload, measured", "bytes", {}},
                   {"reserved_measured", "Reserved, measured", "bytes", {}},
                   {"equal", "Measured against estimate", "", {}}};
  std::vector<PredictedPoint> points;
  const auto measured =
      std::count_if(variants_.begin(), variants_.end(),
                    [](const Variant& variant) { return variant.payload.window == 0; });
  context.begin_progress(measured * static_cast<int64_t>(caches_.size() * lengths_.size()));
  for (const Variant& variant : variants_) {
    if (variant.payload.window > 0) continue;
    for (const ComponentSpec& cache : caches_) {
      Tally tally;
      const std::string arm = variant.label + ", " + to_string(cache);
      for (const int64_t length : lengths_) {
        if (interrupted()) break;
        context.advance_progress();
        try {
          table.rows.push_back(cache_row(context, variant, length, cache, outcome, tally));
        } catch (const UserError& error) {
          outcome.report.failures.push_back(
              {fmt::format("{}, {} tokens", arm, length), error.what()});
          outcome.passed = false;
        }
      }
      if (tally.measured == 0) continue;
      points.insert(points.end(), tally.points.begin(), tally.points.end());
      const bool equal = tally.first_fault.empty();
      outcome.report.checks.push_back(
          {arm, "measured bytes are the estimated ones", equal,
           equal ? fmt::format("{} lengths measured, equal to the byte", tally.measured)
                 : tally.first_fault});
      outcome.passed = outcome.passed && equal;
      context.log << "measured: " << arm << ": " << outcome.report.checks.back().detail << "\n";
    }
  }
  section.tables.push_back(std::move(table));
  if (!points.empty()) {
    section.figures.push_back(prediction_chart(
        {"predicted_measured", "Memory predicted against measured",
         "Reserved and peak bytes of every cache that was built, for each model and length; on the "
         "dashed line a cache takes what its estimate says."},
        "bytes [MB]", points));
  }
  return section;
}

ExperimentResult MemoryTableExperiment::run(RunContext& context) {
  ExperimentResult outcome;
  ReportDocument& report = outcome.report;
  report.sections.push_back(payload_section(context, outcome));
  if (!caches_.empty()) report.sections.push_back(cache_section(context, outcome));
  const auto equal =
      static_cast<size_t>(std::count_if(report.checks.begin(), report.checks.end(),
                                        [](const ReportCheck& check) { return check.passed; }));
  if (!report.checks.empty()) {
    report.conclusions.push_back(fmt::format("{} of {} caches measured exactly what was estimated.",
                                             equal, report.checks.size()));
  }
  const auto differs = [&](auto&& value) {
    return std::any_of(variants_.begin(), variants_.end(), [&](const Variant& variant) {
      return value(variant) != value(variants_.front());
    });
  };
  if (differs([](const Variant& v) { return v.model; })) report.varied.push_back("model shape");
  if (differs([](const Variant& v) { return v.payload.kv_heads; })) {
    report.varied.push_back("KV heads");
  }
  if (differs([](const Variant& v) { return v.payload.window; })) report.varied.push_back("window");
  if (differs([](const Variant& v) { return v.dtype; })) report.varied.push_back("element type");
  if (differs([](const Variant& v) { return v.payload.batch; })) report.varied.push_back("batch");
  if (lengths_.size() > 1) report.varied.push_back("length of the text");
  if (!caches_.empty()) report.varied.push_back("cache");
  report.held_fixed = {"every row has the same length", "no model runs: zeros are stored"};
  report.references = {
      {"OPT-13B (40 layers, 40 heads x 128), two-byte elements", "800 KB per token",
       "Kwon et al., Efficient Memory Management for Large Language Model Serving with "
       "PagedAttention, SOSP 2023, section 3, https://arxiv.org/abs/2309.06180"},
      {"sharing KV heads among groups of query heads", "n_heads / n_kv_heads times fewer bytes",
       "Ainslie et al., GQA, 2023, https://arxiv.org/abs/2305.13245"}};
  return outcome;
}

}  // namespace kvlab::experiments::memory_table_kind
