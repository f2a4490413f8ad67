// The tables of a case.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <string_view>

#include "kvlab/runtime/statistics.h"
#include "report_parts.h"
#include "speed_memory.h"

namespace kvlab::experiments::decode_speed_kind {

namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

ReportCell digits_cell(double value, CellEmphasis emphasis = CellEmphasis::normal) {
  return number_cell(value, decimals_of(value), emphasis);
}

ReportCell percent_cell(double share) { return number_cell(100 * share, 0); }

void add_prefill_table(ReportSection& section, const Findings& f, const CaseResult& one,
                       MetricList& metrics) {
  size_t blocks = SIZE_MAX;
  for (size_t arm = 0; arm < one.prefill.size(); ++arm) {
    if (!one.failures[arm]) blocks = std::min(blocks, one.prefill[arm].ns.size());
  }
  if (one.prefill.empty() || blocks == SIZE_MAX || blocks == 0) return;
  ReportTable table;
  table.id = f.file_id("prefill", one);
  table.title = fmt::format("A prompt of {} tokens", f.config().prefill);
  table.columns = {{"arm", "arm", "", {}},
                   {"tokens_per_s", "tokens/s", "", BetterDirection::higher},
                   {"iqr", "IQR", "", {}},
                   {"time_ratio", "time x control (95 %)", "", BetterDirection::lower},
                   {"n", "n", "", {}}};
  const auto times = [&](size_t arm) {
    return std::vector<double>(one.prefill[arm].ns.begin(),
                               one.prefill[arm].ns.begin() + static_cast<long>(blocks));
  };
  const bool control = !one.failures[f.control()];
  for (size_t arm = 0; arm < one.prefill.size(); ++arm) {
    if (one.failures[arm] || !one.prefill[arm].passed()) {
      table.rows.push_back({text_cell(f.name(arm), CellEmphasis::warning), empty_cell(),
                            empty_cell(), empty_cell(), empty_cell()});
      continue;
    }
    std::vector<double> speeds;
    for (const double ns : times(arm)) {
      speeds.push_back(static_cast<double>(f.config().prefill * one.batch) * 1e9 / ns);
    }
    table.rows.push_back({text_cell(f.name(arm)), number_cell(median(speeds), 0),
                          number_cell(interquartile_range(speeds), 0, CellEmphasis::muted),
                          arm == f.control() || !control
                              ? text_cell("1 (control)")
                              : ratio_cell(ratio_t_interval(times(arm), times(f.control()))),
                          count_cell(static_cast<int64_t>(blocks))});
    metrics.add(one, nullptr, arm, "prefill_tokens_per_s", median(speeds), "tokens/s", blocks,
                BetterDirection::higher);
  }
  table.note = "Each arm's own prefill, in chunks as configured; logits of the last token only.";
  section.tables.push_back(std::move(table));
}

void add_speed_row(ReportTable& table, const Findings& f, const CaseResult& one,
                   const DepthResult& at, size_t arm, bool best, MetricList& metrics) {
  const ArmAtDepth& found = at.arms[arm];
  const bool failed = one.failures[arm].has_value() && found.runs.empty();
  const bool warning = failed || !found.verdict.passed;
  std::vector<ReportCell> row = {
      count_cell(at.depth), text_cell(f.name(arm)),
      text_cell(f.equality(one, at, arm), warning          ? CellEmphasis::warning
                                          : found.left_out ? CellEmphasis::muted
                                                           : CellEmphasis::normal)};
  if (!f.shown(at, arm)) {
    while (row.size() < table.columns.size()) row.push_back(empty_cell());
    table.rows.push_back(std::move(row));
    return;
  }
  const Timing times = f.timing(one, at, arm);
  const size_t n = times.ms.size();
  const auto emphasis = best ? CellEmphasis::best : CellEmphasis::normal;
  const double ms = median(times.ms);
  const double tokens_per_s = 1e3 * static_cast<double>(one.batch) / ms;
  row.push_back(digits_cell(ms, emphasis));
  row.push_back(digits_cell(interquartile_range(times.ms), CellEmphasis::muted));
  row.push_back(number_cell(tokens_per_s, 1, emphasis));
  metrics.add(one, &at, arm, "ms_per_token", ms, "ms", n, BetterDirection::lower);
  metrics.add(one, &at, arm, "tokens_per_s", tokens_per_s, "tokens/s", n, BetterDirection::higher);
  if (arm == f.control() || !f.shown(at, f.control())) {
    row.push_back(text_cell(arm == f.control() ? "1 (control)" : "-"));
    row.push_back(empty_cell());
  } else {
    const RatioInterval ratio = f.against_control(one, at, arm);
    row.push_back(ratio_cell(ratio, emphasis));
    row.push_back(f.has_by_bytes(at, arm) ? number_cell(f.by_bytes(one, at, arm), 2)
                                          : empty_cell());
    Metric& metric =
        metrics.add(one, &at, arm, "time_ratio", ratio.ratio, "", n, BetterDirection::lower);
    metric.ci_low = ratio.low.value_or(kNone);
    metric.ci_high = ratio.high.value_or(kNone);
    if (f.has_by_bytes(at, arm)) {
      metrics.add(one, &at, arm, "time_ratio_by_bytes", f.by_bytes(one, at, arm), "", 1,
                  BetterDirection::none);
    }
  }
  if (f.recomputes(found)) {
    row.push_back(empty_cell());
  } else {
    row.push_back(percent_cell(median(times.share)));
    metrics.add(one, &at, arm, "floor_share", median(times.share), "", n, BetterDirection::higher);
  }
  row.push_back(text_cell(f.bound(found)));
  row.push_back(digits_cell(found.kv_bytes / kMillion));
  row.push_back(digits_cell(found.copied_bytes / kMillion));
  row.push_back(digits_cell(static_cast<double>(found.peak_bytes) / kMillion));
  row.push_back(count_cell(static_cast<int64_t>(n)));
  metrics.add(one, &at, arm, "peak", static_cast<double>(found.peak_bytes), "B", 1,
              BetterDirection::lower);
  table.rows.push_back(std::move(row));
}

void add_speed_table(ReportSection& section, const Findings& f, const CaseResult& one,
                     MetricList& metrics) {
  ReportTable table;
  table.id = f.file_id("decode", one);
  table.title = "Decode steps by depth";
  const auto lower = BetterDirection::lower;
  table.columns = {{"depth", "depth", "tokens", {}},
                   {"arm", "arm", "", {}},
                   {"equality", "equality", "", {}},
                   {"ms_per_token", "ms per token", "", lower},
                   {"iqr", "IQR", "", {}},
                   {"tokens_per_s", "tokens/s", "", BetterDirection::higher},
                   {"time_ratio", "time x control (95 %)", "", lower},
                   {"by_bytes", "by bytes", "", lower},
                   {"floor_share", "share of floor", "%", BetterDirection::higher},
                   {"bound", "bound", "", {}},
                   {"kv_read", "K and V read", "MB", lower},
                   {"copied", "copied", "MB", lower},
                   {"peak", "peak", "MB", lower},
                   {"n", "n", "", {}}};
  for (const DepthResult& at : one.depths) {
    const auto winner = f.clear_winner(one, at);
    for (size_t arm = 0; arm < f.config().arms.size(); ++arm) {
      add_speed_row(table, f, one, at, arm, winner == arm, metrics);
    }
  }
  if (table.rows.empty()) return;
  table.note =
      "Medians over blocks of the median step; a step gives every row one token. time x control: "
      "geometric mean of the per-block ratios with a 95 % t-interval of their logarithms. by "
      "bytes: "
      "what that ratio would be if bytes were all (weights + K and V read + twice what is "
      "copied). "
      "share of floor: the time that reading weights, K and V takes at the bandwidth of the same "
      "block, over the time of the step; not for an arm that recomputes. Bold: the interval "
      "excludes the runner-up. An arm with the control's cache once more shows the noise: a ratio "
      "within its interval is none. peak: of the "
      "cache so far, with room for the deepest case.";
  section.tables.push_back(std::move(table));
}

void add_shares_table(ReportSection& section, const Findings& f, const CaseResult& one,
                      MetricList& metrics) {
  ReportTable table;
  table.id = f.file_id("bound", one);
  table.title = "Where the time of a step goes";
  table.columns = {{"depth", "depth", "tokens", {}}, {"arm", "arm", "", {}},
                   {"weights", "weights", "%", {}},  {"attention", "attention", "%", {}},
                   {"cache", "cache", "%", {}},      {"other", "rest", "%", {}},
                   {"words", "in words", "", {}}};
  for (const DepthResult& at : one.depths) {
    for (size_t arm = 0; arm < f.config().arms.size(); ++arm) {
      const auto& shares = at.arms[arm].shares;
      if (!shares || !f.shown(at, arm)) continue;
      table.rows.push_back(
          {count_cell(at.depth), text_cell(f.name(arm)), percent_cell(shares->weights),
           percent_cell(shares->attention), percent_cell(shares->cache),
           percent_cell(shares->other),
           text_cell(f.recomputes(at.arms[arm]) ? "recomputes" : shares->describe())});
      const auto add = [&](const char* metric, double share) {
        metrics.add(one, &at, arm, metric, share, "", 1, BetterDirection::none);
      };
      add("share_weights", shares->weights);
      add("share_attention", shares->attention);
      add("share_overhead", shares->cache + shares->other);
    }
  }
  if (table.rows.empty()) return;
  table.note =
      "Measured in steps of their own, which are not among the timed ones. cache: its own "
      "functions; rest: norms, positions, embedding, checks.";
  section.tables.push_back(std::move(table));
}

void add_memory_table(ReportSection& section, const Findings& f, const CaseResult& one,
                      MetricList& metrics) {
  if (auto table = memory_table(f.config(), one, f.file_id("memory", one))) {
    section.tables.push_back(std::move(*table));
  }
  for (const DepthResult& at : one.depths) {
    for (size_t arm = 0; arm < at.arms.size(); ++arm) {
      const ArmAtDepth& found = at.arms[arm];
      if (!found.shares) continue;
      metrics.add(one, &at, arm, "payload", static_cast<double>(found.payload_bytes), "B", 1,
                  BetterDirection::lower);
      metrics.add(one, &at, arm, "reserved", static_cast<double>(found.usage.reserved()), "B", 1,
                  BetterDirection::lower);
    }
  }
}

}  // namespace

Metric& MetricList::add(const CaseResult& one, const DepthResult* at, size_t arm,
                        const char* metric, double value, const char* unit, size_t n,
                        BetterDirection direction) {
  Metric found{findings_.name(arm),
               metric,
               value,
               unit,
               static_cast<int64_t>(n),
               kNone,
               kNone,
               direction,
               {{"model", one.model->source.name},
                {"weights", dtype_name(one.precision.weights)},
                {"cache", dtype_name(one.precision.cache)},
                {"batch", std::to_string(one.batch)}}};
  const std::string_view measured = metric;
  found.timed = measured != "peak" && measured != "time_ratio_by_bytes";
  if (at != nullptr) found.group.emplace_back("depth", std::to_string(at->depth));
  metrics_.push_back(std::move(found));
  return metrics_.back();
}

void add_tables(ReportSection& section, const Findings& f, const CaseResult& one,
                MetricList& metrics) {
  add_speed_table(section, f, one, metrics);
  add_shares_table(section, f, one, metrics);
  add_memory_table(section, f, one, metrics);
  add_prefill_table(section, f, one, metrics);
}

}  // namespace kvlab::experiments::decode_speed_kind
