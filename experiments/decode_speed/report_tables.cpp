// The tables of a case.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

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
                              : ratio_cell(block_ratio(times(arm), times(f.control()))),
                          count_cell(static_cast<int64_t>(blocks))});
    metrics.add_timed(one, nullptr, arm, "prefill_tokens_per_s", median(speeds), "tokens/s", blocks,
                BetterDirection::higher);
  }
  table.note = "Each arm's own prefill, in chunks as configured; logits of the last token only.";
  section.tables.push_back(std::move(table));
}

bool failed(const CaseResult& one, const ArmAtDepth& found, size_t arm) {
  return one.failures[arm].has_value() && found.runs.empty();
}

// Depth, name and equality: what stands there for an arm without a speed, too.
std::vector<ReportCell> row_head(const Findings& f, const CaseResult& one, const DepthResult& at,
                                 size_t arm) {
  const ArmAtDepth& found = at.arms[arm];
  const bool warning = failed(one, found, arm) || !found.verdict.passed;
  return {count_cell(at.depth), text_cell(f.name(arm)),
          text_cell(f.equality(one, at, arm), warning          ? CellEmphasis::warning
                                              : found.left_out ? CellEmphasis::muted
                                                               : CellEmphasis::normal)};
}

// The speed over the control's, and what it is called.
void add_verdict_cells(std::vector<ReportCell>& row, const Findings& f, const CaseResult& one,
                       const DepthResult& at, size_t arm, CellEmphasis emphasis,
                       MetricList& metrics) {
  if (arm == f.control() || !f.shown(at, f.control())) {
    row.push_back(text_cell(arm == f.control() ? "1 (control)" : "-"));
    row.push_back(empty_cell());
    return;
  }
  const RatioInterval ratio = f.speed_ratio(at, arm);
  const Comparison* found = f.comparison(at, arm);
  row.push_back(ratio_cell(ratio, emphasis));
  row.push_back(found ? text_cell(verdict_name(found->verdict),
                                  found->verdict == Verdict::refused ? CellEmphasis::warning
                                                                     : CellEmphasis::normal)
                      : text_cell("noise", CellEmphasis::muted));
  Metric& judged = metrics.add_ratio(one, at, arm, "speed_ratio", ratio, BetterDirection::higher);
  if (found) {  // the same ratio upside down holds no second verdict: it would be counted twice
    judged.verdict = verdict_name(found->verdict);
    if (found->p) judged.p = *found->p;
  }
  metrics.add_ratio(one, at, arm, "time_ratio", f.time_ratio(at, arm), BetterDirection::lower);
}

void add_speed_row(ReportTable& table, const Findings& f, const CaseResult& one,
                   const DepthResult& at, size_t arm, bool best, MetricList& metrics) {
  std::vector<ReportCell> row = row_head(f, one, at, arm);
  if (!f.shown(at, arm)) {
    while (row.size() < table.columns.size()) row.push_back(empty_cell());
    table.rows.push_back(std::move(row));
    return;
  }
  const ArmAtDepth& found = at.arms[arm];
  const Timing times = f.timing(one, at, arm);
  const size_t n = times.ms.size();
  const auto emphasis = best ? CellEmphasis::best : CellEmphasis::normal;
  const double ms = median(times.ms);
  const double tokens_per_s = 1e3 * static_cast<double>(one.batch) / ms;
  row.push_back(digits_cell(ms, emphasis));
  row.push_back(digits_cell(interquartile_range(times.ms), CellEmphasis::muted));
  row.push_back(number_cell(tokens_per_s, 1, emphasis));
  metrics.add_timed(one, &at, arm, "ms_per_step", ms, "ms", n, BetterDirection::lower);
  metrics.add_timed(one, &at, arm, "tokens_per_s", tokens_per_s, "tokens/s", n,
                    BetterDirection::higher);
  add_verdict_cells(row, f, one, at, arm, emphasis, metrics);
  if (f.recomputes(found)) {
    row.push_back(text_cell("no floor", CellEmphasis::muted));
  } else {
    row.push_back(percent_cell(median(times.share)));
    metrics.add_timed(one, &at, arm, "floor_share", median(times.share), "", n,
                      BetterDirection::higher);
  }
  row.push_back(text_cell(f.bound(found)));
  row.push_back(count_cell(static_cast<int64_t>(n)));
  row.push_back(count_cell(static_cast<int64_t>(f.flagged(at, arm))));
  table.rows.push_back(std::move(row));
}

void add_speed_table(ReportSection& section, const Findings& f, const CaseResult& one,
                     MetricList& metrics) {
  ReportTable table;
  table.id = f.file_id("decode", one);
  table.title = "Decode steps by depth";
  const auto lower = BetterDirection::lower;
  const auto higher = BetterDirection::higher;
  table.columns = {{"depth", "depth", "tokens", {}},
                   {"arm", "arm", "", {}},
                   {"equality", "equality", "", {}},
                   {"ms_per_step", "ms per step", "", lower},
                   {"iqr", "IQR", "", {}},
                   {"tokens_per_s", "tokens/s", "", higher},
                   {"ratio", "x control (95 %)", "", higher},
                   {"verdict", "verdict", "", {}},
                   {"floor_share", "share of floor", "%", higher},
                   {"bound", "bound", "", {}},
                   {"n", "n", "", {}},
                   {"flagged", "flagged", "", lower}};
  for (const DepthResult& at : one.depths) {
    const auto winner = f.clear_winner(at);
    for (size_t arm = 0; arm < f.config().arms.size(); ++arm) {
      add_speed_row(table, f, one, at, arm, winner == arm, metrics);
    }
  }
  if (table.rows.empty()) return;
  table.note =
      "Medians over blocks of the median step; a step gives every row one token. x control: "
      "tokens/s over the control's, by the rule under \"Differences that are not significant\"; "
      "noise: the control a second time. share of floor: the time that reading weights, K and V "
      "takes at the bandwidth of the same block, over the time of the step; no floor: the arm "
      "reads no cache, it computes. bound: the largest part of a step's time. n: blocks; flagged: runs that "
      "something disturbed. Bold: the interval excludes the runner-up.";
  section.tables.push_back(std::move(table));
}

void add_bytes_row(ReportTable& table, const Findings& f, const CaseResult& one,
                   const DepthResult& at, size_t arm, MetricList& metrics) {
  const ArmAtDepth& found = at.arms[arm];
  const bool compared = arm != f.control() && f.shown(at, f.control());
  const double ms = median(f.timing(one, at, arm).ms);
  const double bytes_per_second = f.step_bytes(one, found).total() * 1e3 / ms;
  std::vector<ReportCell> row = {count_cell(at.depth), text_cell(f.name(arm)),
                                 digits_cell(found.kv_bytes / kMillion),
                                 digits_cell(found.copied_bytes / kMillion)};
  if (f.recomputes(found)) {
    row.push_back(text_cell("computes", CellEmphasis::muted));
  } else {
    row.push_back(digits_cell(bytes_per_second / kBillion));
    metrics.add_timed(one, &at, arm, "read_rate", bytes_per_second, "B/s", found.runs.size(),
                      BetterDirection::higher);
  }
  if (compared && f.has_by_bytes(at, arm)) {
    row.push_back(number_cell(f.by_bytes(one, at, arm), 2));
    metrics.add(one, &at, arm, "time_ratio_by_bytes", f.by_bytes(one, at, arm), "", 1,
                BetterDirection::none);
  } else {
    row.push_back(arm == f.control() ? text_cell("1 (control)") : empty_cell());
  }
  row.push_back(arm == f.control() ? text_cell("1 (control)")
                : compared         ? ratio_cell(f.time_ratio(at, arm))
                                   : empty_cell());
  row.push_back(digits_cell(static_cast<double>(found.peak_bytes) / kMillion));
  metrics.add(one, &at, arm, "peak", static_cast<double>(found.peak_bytes), "B", 1,
              BetterDirection::lower);
  table.rows.push_back(std::move(row));
}

void add_bytes_table(ReportSection& section, const Findings& f, const CaseResult& one,
                     MetricList& metrics) {
  ReportTable table;
  table.id = f.file_id("bytes", one);
  table.title = "What a step reads and copies";
  const auto lower = BetterDirection::lower;
  table.columns = {{"depth", "depth", "tokens", {}},
                   {"arm", "arm", "", {}},
                   {"kv_read", "K and V read", "MB", lower},
                   {"copied", "copied", "MB", lower},
                   {"read_rate", "achieved", "GB/s", BetterDirection::higher},
                   {"by_bytes", "time by bytes", "", lower},
                   {"time_ratio", "time x control (95 %)", "", lower},
                   {"peak", "peak", "MB", lower}};
  for (const DepthResult& at : one.depths) {
    for (size_t arm = 0; arm < f.config().arms.size(); ++arm) {
      if (f.shown(at, arm)) add_bytes_row(table, f, one, at, arm, metrics);
    }
  }
  if (table.rows.empty()) return;
  table.note =
      "achieved: weights, K and V read, over the time of the step. time by bytes: what the time "
      "over the control's would be if bytes were all (weights + K and V read + twice what is "
      "copied); not where one of both recomputes. peak: of the cache so far, with room for the "
      "deepest case.";
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
           text_cell((f.recomputes(at.arms[arm]) ? "recomputes every token; " : "") +
                     shares->describe())});
      const auto add = [&](const char* metric, double share) {
        metrics.add_timed(one, &at, arm, metric, share, "", 1, BetterDirection::none);
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
      metrics.add(one, &at, arm, "metadata_share", metadata_share(found.usage) / 100, "", 1,
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
  if (at != nullptr) found.group.emplace_back("depth", std::to_string(at->depth));
  metrics_.push_back(std::move(found));
  return metrics_.back();
}

Metric& MetricList::add_timed(const CaseResult& one, const DepthResult* at, size_t arm,
                              const char* metric, double value, const char* unit, size_t n,
                              BetterDirection direction) {
  Metric& found = add(one, at, arm, metric, value, unit, n, direction);
  found.timed = true;
  return found;
}

Metric& MetricList::add_ratio(const CaseResult& one, const DepthResult& at, size_t arm,
                              const char* metric, const RatioInterval& ratio,
                              BetterDirection direction) {
  Metric& found = add_timed(one, &at, arm, metric, ratio.ratio, "", ratio.n, direction);
  found.ci_low = ratio.low.value_or(kNone);
  found.ci_high = ratio.high.value_or(kNone);
  return found;
}

void add_tables(ReportSection& section, const Findings& f, const CaseResult& one,
                MetricList& metrics) {
  add_speed_table(section, f, one, metrics);
  add_bytes_table(section, f, one, metrics);
  add_shares_table(section, f, one, metrics);
  add_memory_table(section, f, one, metrics);
  add_prefill_table(section, f, one, metrics);
}

}  // namespace kvlab::experiments::decode_speed_kind
