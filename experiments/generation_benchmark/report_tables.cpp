// The tables of a case.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kvlab/runtime/comparison_text.h"
#include "kvlab/runtime/statistics.h"
#include "report_parts.h"

namespace kvlab::experiments {

namespace {

double milliseconds(int64_t ns) { return static_cast<double>(ns) / kMillion; }

ReportCell megabytes(int64_t bytes) {
  // Toys hold kilobytes: three significant digits, at least two after the point.
  const double value = static_cast<double>(bytes) / kMillion;
  return number_cell(value, value > 0 && value < 0.1 ? 4 : 2);
}

void add_speed_cells(std::vector<ReportCell>& row, const Findings& f, size_t arm, size_t i,
                     bool best, MetricList& metrics) {
  const std::vector<Sample>& runs = f.samples(arm, i);
  const auto speeds = collect(runs, [](const Sample& s) { return s.tokens_per_second(); });
  const auto ttft = collect(runs, [](const Sample& s) { return milliseconds(s.result.ttft_ns); });
  std::vector<double> gaps;
  for (const Sample& sample : runs) {
    for (const int64_t gap : sample.result.token_ns) gaps.push_back(milliseconds(gap));
  }
  // Bold is what decides: the figure of the primary metric and the ratio made of it.
  const auto emphasis = [&](bool decides) {
    return best && decides ? CellEmphasis::best : CellEmphasis::normal;
  };
  const SpeedFigure figure = f.config().primary.figure;
  row.push_back(number_cell(median(speeds), 1, emphasis(figure == SpeedFigure::tokens_per_second)));
  row.push_back(number_cell(interquartile_range(speeds), 1, CellEmphasis::muted));
  metrics.add_timed(arm, i, "tokens_per_s", median(speeds), "tokens/s", runs.size(),
                    BetterDirection::higher);
  if (arm == f.control() || !f.shown(f.control(), i)) {
    row.push_back(text_cell("1 (control)"));
    row.push_back(empty_cell());
  } else {
    const Comparison* found = f.comparison(arm, i);
    const RatioInterval ratio = found ? found->ratio : f.ratio(arm, f.control(), i);
    row.push_back(ratio_cell(ratio, emphasis(found && found->verdict != Verdict::refused)));
    row.push_back(found ? verdict_cell(found->verdict) : text_cell("noise", CellEmphasis::muted));
    Metric& metric = metrics.add_timed(arm, i, "speed_ratio", ratio.ratio, "", ratio.n,
                                       BetterDirection::higher);
    metric.ci_low = ratio.low.value_or(NAN);
    metric.ci_high = ratio.high.value_or(NAN);
    if (found != nullptr) {
      metric.verdict = verdict_name(found->verdict);
      metric.p = found->p.value_or(NAN);
    }
  }
  row.push_back(number_cell(median(ttft), 1, emphasis(figure == SpeedFigure::first_token)));
  metrics.add_timed(arm, i, "ttft", median(ttft), "ms", runs.size(), BetterDirection::lower);
  row.push_back(gaps.empty() ? empty_cell()
                             : number_cell(quantile(gaps, 0.5), 2,
                                           emphasis(figure == SpeedFigure::next_token)));
  row.push_back(gaps.empty() ? empty_cell() : number_cell(quantile(gaps, 0.9), 2));
  if (gaps.empty()) return;
  metrics.add_timed(arm, i, "tpot", quantile(gaps, 0.5), "ms", gaps.size(),
                    BetterDirection::lower);
  metrics.add_timed(arm, i, "tpot_p90", quantile(gaps, 0.9), "ms", gaps.size(),
                    BetterDirection::lower);
}

void add_bytes_cells(std::vector<ReportCell>& row, const Findings& f, size_t arm, size_t i) {
  const GenerateResult& run = f.samples(arm, i).front().result;
  const auto reserved = static_cast<double>(run.cache.reserved());
  const auto metadata = static_cast<double>(run.cache.live_bytes(MemoryKind::metadata));
  row.push_back(megabytes(run.payload));
  row.push_back(reserved > 0 ? number_cell(100 * metadata / reserved, 2) : empty_cell());
  row.push_back(megabytes(run.cache.reserved()));
  row.push_back(megabytes(run.cache.peak_total));
  row.push_back(count_cell(std::llround(reserved / static_cast<double>(f.held_tokens(arm, i)))));
  row.push_back(count_cell(run.work.token_forwards));
}

void add_main_table(ReportSection& section, const Findings& f, size_t i, MetricList& metrics) {
  ReportTable table;
  table.id = f.file_id("arms", i);
  table.title = "Arms";
  const auto lower = BetterDirection::lower;
  const auto higher = BetterDirection::higher;
  table.columns = {{"arm", "arm", "", {}},
                   {"equality", "equality", "", {}},
                   {"tokens_per_s", "tokens/s", "", higher},
                   {"tokens_per_s_iqr", "IQR", "", {}},
                   {"ratio", "x control (95 %)", "", higher},
                   {"verdict", "verdict", "", {}},
                   {"ttft", "TTFT", "ms", lower},
                   {"tpot_p50", "TPOT p50", "ms", lower},
                   {"tpot_p90", "TPOT p90", "ms", lower},
                   {"payload", "payload", "MB", lower},
                   {"metadata_share", "metadata", "% of reserved", lower},
                   {"reserved", "reserved", "MB", lower},
                   {"peak", "peak", "MB", lower},
                   {"bytes_per_token", "reserved/token", "B", lower},
                   {"forwards", "token-forwards", "", lower},
                   {"n", "n", "", {}},
                   {"flagged", "flagged", "", lower}};
  const auto winner = f.clear_winner(i);
  for (size_t arm = 0; arm < f.arms().size(); ++arm) {
    const bool bad = f.arms()[arm].failure || !f.cases()[i].gate[arm].passed;
    std::vector<ReportCell> row = {
        text_cell(f.name(arm)),
        text_cell(f.equality(arm, i), bad ? CellEmphasis::warning : CellEmphasis::normal)};
    if (f.shown(arm, i)) {
      add_speed_cells(row, f, arm, i, winner == arm, metrics);
      add_bytes_cells(row, f, arm, i);
      row.push_back(count_cell(static_cast<int64_t>(f.samples(arm, i).size())));
      row.push_back(count_cell(f.contended(arm, i)));
    }
    while (row.size() < table.columns.size()) row.push_back(empty_cell());
    table.rows.push_back(std::move(row));
  }
  table.note = fmt::format(
      "Median over blocks; IQR is the interquartile range. x control: {}, by the rule under "
      "\"Differences that are not significant\". TPOT: quantiles of all gaps between tokens. n: "
      "blocks; flagged: runs that something disturbed. Bold: the fastest by {}, where the rule "
      "finds it faster than the runner-up. No speed is shown for an arm that failed its equality "
      "check.",
      figure_name(f.config().primary.figure), figure_name(f.config().primary.figure));
  section.tables.push_back(std::move(table));
}

void add_floor_cells(std::vector<ReportCell>& row, const Findings& f, size_t arm, size_t i,
                     MetricList& metrics) {
  const auto floor = f.floor(arm, i);
  if (!floor) {
    row.insert(row.end(), {empty_cell(), empty_cell(), empty_cell(), empty_cell()});
    return;
  }
  const size_t n = floor->shares.size();
  row.push_back(number_cell(floor->floor_ms, floor->floor_ms < 1 ? 4 : 2));
  row.push_back(number_cell(100 * median(floor->shares), 1));
  row.push_back(number_cell(100 * interquartile_range(floor->shares), 1, CellEmphasis::muted));
  row.push_back(count_cell(static_cast<int64_t>(n)));
  metrics.add_timed(arm, i, "floor_share", median(floor->shares), "", n, BetterDirection::higher);
}

std::string floor_note(const Findings& f, size_t i) {
  std::vector<double> speeds = f.bandwidths(i);
  if (speeds.empty()) {
    const std::string& why = f.cases()[i].why_no_bandwidth;
    return "No share of the memory-bandwidth floor: " +
           (why.empty() ? std::string("no block was finished beside a measurement") : why) + ".";
  }
  for (double& speed : speeds) speed /= 1e9;
  return fmt::format(
      "floor: the time that reading the weights ({:.1f} MB), K and V takes at the read bandwidth "
      "measured at both ends of each block with the same threads: median {:.1f} GB/s ({:.1f} to "
      "{:.1f}, n={}). share of floor: 100 % means that a step takes no longer than reading its "
      "bytes. More than that means that bytes stayed in the CPU's caches, or that something else "
      "used the memory while its speed was read. An arm that keeps nothing recomputes: reading is "
      "no floor for it.",
      static_cast<double>(f.arms()[f.control()].model.weight_bytes) / kMillion, median(speeds),
      *std::min_element(speeds.begin(), speeds.end()),
      *std::max_element(speeds.begin(), speeds.end()), speeds.size());
}

void add_split_table(ReportSection& section, const Findings& f, size_t i, MetricList& metrics) {
  ReportTable table;
  table.id = f.file_id("split", i);
  table.title = "Where the time of a decode step goes";
  const auto lower = BetterDirection::lower;
  table.columns = {{"arm", "arm", "", {}},
                   {"bound", "bound", "", {}},
                   {"weights", "weights", "%", {}},
                   {"attention", "attention", "%", {}},
                   {"cache", "cache", "%", {}},
                   {"other", "other", "%", {}},
                   {"step", "step", "ms", lower},
                   {"kv_read", "K and V read", "MB/step", lower},
                   {"copied", "copied", "MB/step", lower}};
  const bool with_floor = !f.bandwidths(i).empty();
  if (with_floor) {
    table.columns.push_back({"floor", "floor", "ms", {}});
    table.columns.push_back({"floor_share", "share of floor", "%", BetterDirection::higher});
    table.columns.push_back({"floor_share_iqr", "IQR", "", {}});
    table.columns.push_back({"n", "n", "", {}});
  }
  for (size_t arm = 0; arm < f.arms().size(); ++arm) {
    if (!f.shown(arm, i)) continue;
    const auto shares = f.shares(arm, i);
    if (!shares) continue;
    const auto percent = [](double share) { return number_cell(100 * share, 1); };
    const Sample& sample = f.samples(arm, i).front();
    const auto step = f.step_ms(arm, i);
    std::vector<ReportCell> row = {
        text_cell(f.name(arm)),      text_cell(bound_name(shares->bound())),
        percent(shares->weights),    percent(shares->attention),
        percent(shares->cache),      percent(shares->other),
        step ? number_cell(*step, *step < 1 ? 4 : 2) : empty_cell(),
        megabytes(std::llround(sample.kv_read)), megabytes(std::llround(sample.copied))};
    if (with_floor) add_floor_cells(row, f, arm, i, metrics);
    table.rows.push_back(std::move(row));
  }
  table.note =
      "weights: products with them; cache: appending, viewing and step bookkeeping; other: "
      "norms, positions, embedding. bound: the largest of weights, attention and overhead "
      "(cache and other). Sampling a token is in no share, and in the step's time (the "
      "median). K and V read: by the attention of a step, mean of the first and the last; "
      "copied: moved in the cache or gathered for attention. " +
      floor_note(f, i);
  if (!table.rows.empty()) section.tables.push_back(std::move(table));
}

void add_differences(ReportSection& section, const Findings& f, size_t i) {
  ReportTable table;
  table.id = f.file_id("differences", i);
  table.title = "What each arm has other than " + f.name(f.control());
  table.columns = {{"arm", "arm", "", {}}, {"differences", "differences", "", {}}};
  for (size_t arm = 0; arm < f.arms().size(); ++arm) {
    if (arm == f.control()) continue;
    std::string text;
    for (const std::string& one : f.differences(arm)) text += (text.empty() ? "" : "; ") + one;
    if (text.empty()) {
      text = f.is_second_control(arm) ? "nothing: the control a second time" : "nothing";
    }
    table.rows.push_back({text_cell(f.name(arm)), text_cell(text)});
  }
  if (!table.rows.empty()) section.tables.push_back(std::move(table));
}

void add_memory_table(ReportSection& section, const Findings& f, size_t i, MetricList& metrics) {
  ReportTable table;
  table.id = f.file_id("memory", i);
  table.title = "Memory";
  const auto lower = BetterDirection::lower;
  table.columns = {{"arm", "arm", "", {}},
                   {"payload", "payload", "B", lower},
                   {"metadata", "metadata", "B", lower},
                   {"reserved", "reserved", "B", lower},
                   {"peak", "peak", "B", lower},
                   {"estimated_reserved", "predicted reserved", "B", {}},
                   {"estimated_peak", "predicted peak", "B", {}},
                   {"predicted", "predicted / measured", "", {}},
                   {"scratch", "attention scratch", "B", lower},
                   {"per_token", "reserved/token", "B", lower},
                   {"waste", "empty slots", "%", lower}};
  ReportTable work;
  work.id = f.file_id("work", i);
  work.title = "Work";
  work.columns = {{"arm", "arm", "", {}},
                   {"bytes_moved", "bytes moved", "B", lower},
                   {"gathered", "bytes gathered", "B", lower},
                   {"forwards", "token-forwards", "", lower},
                   {"logit_rows", "logit rows", "", lower},
                   {"setup", "set-up", "ms", lower}};
  for (size_t arm = 0; arm < f.arms().size(); ++arm) {
    if (f.arms()[arm].failure || f.samples(arm, i).empty()) continue;
    const Sample& sample = f.samples(arm, i).front();
    const GenerateResult& run = sample.result;
    const int64_t held = f.held_tokens(arm, i);
    const MemoryUsage& predicted = sample.estimated;
    const double setup = median(collect(f.samples(arm, i), [](const Sample& s) {
      return static_cast<double>(s.setup_ns) / kMillion;
    }));
    table.rows.push_back(
        {text_cell(f.name(arm)), count_cell(run.payload),
         count_cell(run.cache.live_bytes(MemoryKind::metadata)), count_cell(run.cache.reserved()),
         count_cell(run.cache.peak_total), count_cell(predicted.reserved()),
         count_cell(predicted.peak_total),
         run.cache.peak_total == 0 ? empty_cell()
                                   : number_cell(static_cast<double>(predicted.peak_total) /
                                                     static_cast<double>(run.cache.peak_total),
                                                 3),
         count_cell(run.scratch.peak_total),
         number_cell(static_cast<double>(run.cache.reserved()) / static_cast<double>(held), 0),
         number_cell(100 * sample.fragmentation, 1)});
    work.rows.push_back(
        {text_cell(f.name(arm)), count_cell(run.work.bytes_moved),
         count_cell(run.work.gathered_bytes), count_cell(run.work.token_forwards),
         count_cell(run.work.logit_rows), number_cell(setup, 1)});
    const auto metadata = run.cache.live_bytes(MemoryKind::metadata);
    metrics.add(arm, i, "metadata", static_cast<double>(metadata), "B", 1, lower);
    metrics.add(arm, i, "payload", static_cast<double>(run.payload), "B", 1, lower);
    metrics.add(arm, i, "reserved", static_cast<double>(run.cache.reserved()), "B", 1, lower);
    metrics.add(arm, i, "peak", static_cast<double>(run.cache.peak_total), "B", 1, lower);
    metrics.add(arm, i, "token_forwards", static_cast<double>(run.work.token_forwards), "", 1,
               lower);
  }
  table.note =
      "payload: live K and V at the end; metadata: tables; reserved: allocated K, V and "
      "metadata; peak: the highest moment, K and V held while a step runs included; these are "
      "measured where memory is allocated. predicted: computed from the shape before the "
      "run.";
  work.note =
      "bytes moved: copies inside the cache; bytes gathered: copies for attention that wants "
      "one piece; set-up: building the cache, its pages touched, before timing.";
  section.tables.push_back(std::move(table));
  section.tables.push_back(std::move(work));
}

// The requested output lengths, as prefixes of the longest run.
void add_output_lengths(ReportSection& section, const Findings& f, size_t i) {
  ReportTable table;
  table.id = f.file_id("output_lengths", i);
  table.title = "By output length";
  table.columns = {{"arm", "arm", "", {}}};
  std::vector<int64_t> lengths;
  for (const int64_t length : f.config().workload.new_tokens) {
    lengths.push_back(length);
    table.columns.push_back({fmt::format("new_{}", length), fmt::format("{} new", length),
                             "x control", BetterDirection::higher});
  }
  table.columns.push_back({"break_even", "break-even", "new tokens", BetterDirection::lower});
  for (size_t arm = 0; arm < f.arms().size(); ++arm) {
    if (arm == f.control() || !f.shown(arm, i)) continue;
    std::vector<ReportCell> row = {text_cell(f.name(arm))};
    for (const int64_t length : lengths) {
      const bool measured = f.reached(arm, i, length) && f.reached(f.control(), i, length);
      row.push_back(measured ? ratio_cell(f.time_ratio(arm, i, length)) : empty_cell());
    }
    const auto even = f.usual_break_even(arm, i);
    if (f.is_second_control(arm)) {
      row.push_back(empty_cell());
    } else {
      row.push_back(even ? count_cell(*even) : text_cell("none found"));
    }
    table.rows.push_back(std::move(row));
  }
  table.note = "Total time of the control over total time of the arm, per block, with a 95 % "
               "interval. break-even: the output length from which on the arm is faster in total, "
               "in every block (of ten blocks or more: in nine of ten); none without a verdict for "
               "the arm. A dash: every row had stopped before, or the control against itself.";
  if (!table.rows.empty()) section.tables.push_back(std::move(table));
}

}  // namespace

Metric& MetricList::add(size_t arm, size_t i, const char* name, double value, const char* unit,
                        size_t n, BetterDirection direction) {
  const Case& one = findings_.cases()[i].one;
  metrics_.push_back({findings_.name(arm), name, value, unit, static_cast<int64_t>(n), NAN, NAN,
                      direction,
                      {{"prompt_length", std::to_string(one.prompt_length)},
                       {"batch", std::to_string(one.batch)}}});
  return metrics_.back();
}

Metric& MetricList::add_timed(size_t arm, size_t i, const char* name, double value,
                              const char* unit, size_t n, BetterDirection direction) {
  Metric& metric = add(arm, i, name, value, unit, n, direction);
  metric.timed = true;
  return metric;
}

void add_tables(ReportSection& section, const Findings& f, size_t i, MetricList& metrics) {
  add_main_table(section, f, i, metrics);
  add_split_table(section, f, i, metrics);
  add_memory_table(section, f, i, metrics);
  if (f.shown(f.control(), i)) add_output_lengths(section, f, i);
  // The same for all cases.
  if (i == 0) add_differences(section, f, i);
}

}  // namespace kvlab::experiments
