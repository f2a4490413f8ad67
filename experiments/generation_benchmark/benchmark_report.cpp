#include "benchmark_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>

#include "kvlab/runtime/figures.h"
#include "kvlab/runtime/statistics.h"

namespace kvlab::experiments {

namespace {

constexpr double kMillion = 1e6;

std::vector<double> collect(const std::vector<Sample>& samples, auto&& value) {
  std::vector<double> values;
  for (const Sample& sample : samples) values.push_back(value(sample));
  return values;
}

// Median over blocks of the time until n tokens were out, for n = 1 .. the fewest generated.
std::vector<double> elapsed_curve(const std::vector<Sample>& samples) {
  size_t tokens = SIZE_MAX;
  for (const Sample& sample : samples) {
    tokens = std::min(tokens, sample.result.token_ns.size() + 1);
  }
  std::vector<double> curve;
  for (size_t n = 1; n <= tokens && tokens != SIZE_MAX; ++n) {
    curve.push_back(median(collect(samples, [&](const Sample& sample) {
      return static_cast<double>(sample.elapsed_ns(static_cast<int64_t>(n)));
    })));
  }
  return curve;
}

// The time until n tokens were out in one block, for n = 1 .. all.
std::vector<double> block_curve(const Sample& sample) {
  std::vector<double> curve;
  for (size_t n = 1; n <= sample.result.token_ns.size() + 1; ++n) {
    curve.push_back(static_cast<double>(sample.elapsed_ns(static_cast<int64_t>(n))));
  }
  return curve;
}

// 1, 2, 3, 4, 6, 8, 12, ... and the last: enough points for a logarithmic axis.
std::vector<int64_t> curve_lengths(int64_t last) {
  std::vector<int64_t> lengths;
  for (int64_t power = 1; power <= last; power *= 2) {
    lengths.push_back(power);
    const int64_t between = power + power / 2;
    if (power > 1 && between < std::min(last, 2 * power)) lengths.push_back(between);
  }
  if (!lengths.empty() && lengths.back() != last) lengths.push_back(last);
  return lengths;
}

std::string interval(const RatioInterval& ratio) {
  return ratio.low ? fmt::format(" [{:.2f}, {:.2f}]", *ratio.low, *ratio.high) : " (one block)";
}

class Report {
 public:
  Report(const BenchmarkConfig& config, const std::vector<CaseResult>& cases,
         const std::vector<Arm>& arms, size_t control)
      : config_(config), cases_(cases), arms_(arms), control_(control) {}

  ExperimentResult make() {
    ReportDocument& report = result_.report;
    report.control = arms_[control_].config.name;
    report.primary_metric = "tokens/s, generated tokens of all rows over prefill and decode";
    describe_factors();
    for (size_t i = 0; i < cases_.size(); ++i) add_case(i);
    for (const Arm& arm : arms_) {
      if (!arm.failure) continue;
      report.failures.push_back({arm.config.name, *arm.failure});
      result_.passed = false;
    }
    for (const ReportReference& reference : config_.published) {
      report.references.push_back(reference);
    }
    if (report.conclusions.empty()) report.conclusions.push_back("No firm conclusion.");
    return std::move(result_);
  }

 private:
  const std::vector<Sample>& samples(size_t arm, size_t i) const { return arms_[arm].samples[i]; }

  // Speed is shown only for arms that ran and passed their gate.
  bool shown(size_t arm, size_t i) const {
    return !arms_[arm].failure && cases_[i].gate[arm].passed && !samples(arm, i).empty();
  }

  std::string file_id(const char* what, size_t i) const {
    return cases_.size() == 1 ? what
                              : fmt::format("{}_p{}_b{}", what, cases_[i].one.prompt_length,
                                            cases_[i].one.batch);
  }

  void describe_factors() {
    ReportDocument& report = result_.report;
    const RuntimeConfig& runtime = config_.shared.runtime;
    report.varied.push_back("the cache (one arm each)");
    if (std::any_of(arms_.begin(), arms_.end(),
                    [](const Arm& arm) { return arm.config.attention.has_value(); })) {
      report.varied.push_back("the attention of some arms: see the arm table");
    }
    if (std::any_of(arms_.begin(), arms_.end(), [](const Arm& arm) {
          return arm.config.cache_dtype.has_value() || arm.config.position.has_value();
        })) {
      report.varied.push_back("dtype of the cache or position encoding of some arms");
    }
    report.held_fixed = {
        fmt::format("model {} ({})", arms_[control_].model.name, arms_[control_].model.origin),
        fmt::format("attention {}, threads {}", runtime.attention.type, runtime.threads),
        fmt::format("weights {}, activations {}, cache {}", dtype_name(runtime.weights),
                    dtype_name(runtime.activations), dtype_name(runtime.cache)),
        fmt::format("prefill chunk {}; an arm that keeps nothing prefills in one step",
                    runtime.chunk == 0 ? "whole prompt" : std::to_string(runtime.chunk)),
        "logits of the last position only, in every arm",
        fmt::format("{} blocks asked for (n: those finished), each with all arms in seeded random "
                    "order; {} warm-up run(s) not counted",
                    config_.shared.measure.repeats, config_.shared.measure.warmup)};
    if (!config_.shared.measure.interleave) report.held_fixed.back() = "arm after arm, not interleaved";
    report.held_fixed.push_back(
        runtime.row_tokens != 0
            ? fmt::format("row_tokens {} (given)", runtime.row_tokens)
            : "row_tokens (measured): see \"row kernels measured faster up to\" under "
              "Environment; 16 for models too small to be measured");
    if (config_.shared.isolation == Isolation::process) {
      report.held_fixed.push_back("each arm in a process of its own, with its own copy of the weights");
    }
  }

  void add_case(size_t i) {
    const CaseResult& found = cases_[i];
    for (const GateResult& gate : found.gate) {
      for (ReportCheck check : gate.checks) {
        if (cases_.size() > 1) check.check += ", " + found.one.label();
        result_.passed = result_.passed && check.passed;
        result_.report.checks.push_back(std::move(check));
      }
    }
    check_texts(i);
    check_estimates(i);
    ReportSection section;
    section.title = fmt::format("{}: {} tokens in, up to {} out{}", arms_[control_].model.name,
                                found.one.prompt_length, config_.workload.longest_output(),
                                found.one.batch > 1 ? fmt::format(", {} rows", found.one.batch) : "");
    add_speed_table(section, i);
    add_memory_table(section, i);
    if (shown(control_, i)) {
      add_curves(section, i);
      add_output_lengths(section, i);
    }
    add_memory_figure(section, i);
    add_quality_figures(section, i);
    result_.report.sections.push_back(std::move(section));
    conclude(i);
  }

  // Exact arms must say the same as the control, token for token. Only under greedy sampling may a
  // near-tie excuse a difference: the gate met one, and has compared the logits there.
  void check_texts(size_t i) {
    if (samples(control_, i).empty()) return;
    const auto& wanted = samples(control_, i).front().result.tokens;
    for (size_t arm = 0; arm < arms_.size(); ++arm) {
      const GateResult& gate = cases_[i].gate[arm];
      if (arms_[arm].failure || !gate.exact_arm || !gate.same_numbers) continue;
      if (config_.shared.runtime.activations != at::kFloat) continue;  // bf16 parts ways by rounding
      const std::string difference = first_text_difference(samples(arm, i), wanted);
      const bool excused = gate.distance.argmax_ties > 0 &&
                           config_.workload.sampler.type == SamplerType::greedy;
      const bool passed = difference.empty() || excused;
      result_.report.checks.push_back(
          {arms_[arm].config.name, "same text as the control, " + cases_[i].one.label(), passed,
           difference.empty() ? "every token of every block"
           : excused          ? difference + "; the gate met near-ties"
                              : difference});
      result_.passed = result_.passed && passed;
    }
  }

  static std::string first_text_difference(const std::vector<Sample>& runs,
                                           const std::vector<std::vector<int32_t>>& wanted) {
    for (const Sample& sample : runs) {
      for (size_t row = 0; row < wanted.size(); ++row) {
        const auto& found = sample.result.tokens[row];
        const size_t common = std::min(found.size(), wanted[row].size());
        const auto part = std::mismatch(found.begin(), found.begin() + static_cast<long>(common),
                                        wanted[row].begin());
        const auto token = static_cast<size_t>(part.first - found.begin());
        if (token < common || found.size() != wanted[row].size()) {
          return fmt::format("differs at row {}, new token {}", row, token);
        }
      }
    }
    return "";
  }

  void check_estimates(size_t i) {
    for (const Arm& arm : arms_) {
      if (arm.failure || arm.samples[i].empty()) continue;
      bool same = true;
      for (const Sample& sample : arm.samples[i]) same = same && sample.estimated == sample.result.cache;
      result_.report.checks.push_back(
          {arm.config.name, "estimated bytes equal measured bytes, " + cases_[i].one.label(), same,
           fmt::format("peak {} estimated, {} measured", arm.samples[i].front().estimated.peak_total,
                       arm.samples[i].front().result.cache.peak_total)});
      result_.passed = result_.passed && same;
    }
  }

  RatioInterval ratio(size_t arm, size_t against, size_t i) const {
    const auto speed = [](const Sample& sample) { return sample.tokens_per_second(); };
    return ratio_t_interval(collect(samples(arm, i), speed), collect(samples(against, i), speed));
  }

  // The fastest arm, where its interval excludes the runner-up.
  std::optional<size_t> clear_winner(size_t i) const {
    std::vector<size_t> order;
    for (size_t arm = 0; arm < arms_.size(); ++arm) {
      if (shown(arm, i)) order.push_back(arm);
    }
    if (order.size() < 2) return std::nullopt;
    std::sort(order.begin(), order.end(),
              [&](size_t a, size_t b) { return speed(a, i) > speed(b, i); });
    if (!ratio(order[0], order[1], i).excludes()) return std::nullopt;
    return order[0];
  }

  double speed(size_t arm, size_t i) const {
    return median(collect(samples(arm, i),
                          [](const Sample& sample) { return sample.tokens_per_second(); }));
  }

  std::string verdict(size_t arm, size_t i) const {
    if (arms_[arm].failure) return "failed";
    const GateResult& gate = cases_[i].gate[arm];
    if (!gate.exact_arm) return fmt::format("approximate, KL {:.2g}", gate.distance.mean_kl);
    if (!gate.passed) return "NOT EQUAL";
    if (arm == control_) return "control";
    if (!gate.same_numbers) {
      return fmt::format("equal in f32; its dtype costs KL {:.2g}", gate.distance.mean_kl);
    }
    return "equal";
  }

  void add_speed_table(ReportSection& section, size_t i) {
    ReportTable table;
    table.id = file_id("arms", i);
    table.title = "Arms";
    table.columns = {{"arm", "arm", "", {}},
                     {"equality", "equality", "", {}},
                     {"tokens_per_s", "tokens/s", "", BetterDirection::higher},
                     {"tokens_per_s_iqr", "IQR", "", {}},
                     {"ratio", "x control (95 %)", "", BetterDirection::higher},
                     {"ttft", "TTFT", "ms", BetterDirection::lower},
                     {"tpot_p50", "TPOT p50", "ms", BetterDirection::lower},
                     {"tpot_p90", "TPOT p90", "ms", BetterDirection::lower},
                     {"reserved", "reserved", "MB", BetterDirection::lower},
                     {"forwards", "token-forwards", "", BetterDirection::lower},
                     {"n", "n", "", {}}};
    const auto winner = clear_winner(i);
    for (size_t arm = 0; arm < arms_.size(); ++arm) {
      const bool bad = arms_[arm].failure || !cases_[i].gate[arm].passed;
      std::vector<ReportCell> row = {
          text_cell(arms_[arm].config.name),
          text_cell(verdict(arm, i), bad ? CellEmphasis::warning : CellEmphasis::normal)};
      if (!shown(arm, i)) {
        while (row.size() < table.columns.size()) row.push_back(empty_cell());
        table.rows.push_back(std::move(row));
        continue;
      }
      add_speed_cells(row, arm, i, winner == arm);
      table.rows.push_back(std::move(row));
    }
    table.note = "Median over blocks; IQR is the interquartile range. x control: geometric mean of "
                 "the per-block ratios with a 95 % t-interval of their logarithms. Bold: the "
                 "interval excludes the runner-up. No speed is shown for an arm that failed its "
                 "equality check.";
    section.tables.push_back(std::move(table));
  }

  void add_speed_cells(std::vector<ReportCell>& row, size_t arm, size_t i, bool best) {
    const std::vector<Sample>& runs = samples(arm, i);
    const auto speeds = collect(runs, [](const Sample& s) { return s.tokens_per_second(); });
    const auto ttft = collect(
        runs, [](const Sample& s) { return static_cast<double>(s.result.ttft_ns) / kMillion; });
    std::vector<double> gaps;
    for (const Sample& sample : runs) {
      for (const int64_t gap : sample.result.token_ns) {
        gaps.push_back(static_cast<double>(gap) / kMillion);
      }
    }
    const RatioInterval against = arm == control_ || !shown(control_, i)
                                      ? RatioInterval{}
                                      : ratio(arm, control_, i);
    const auto emphasis = best ? CellEmphasis::best : CellEmphasis::normal;
    row.push_back(number_cell(median(speeds), 1, emphasis));
    row.push_back(number_cell(interquartile_range(speeds), 1, CellEmphasis::muted));
    row.push_back(arm == control_ || !shown(control_, i) ? text_cell("1 (control)")
                                                         : ratio_cell(against, emphasis));
    row.push_back(number_cell(median(ttft), 1));
    row.push_back(gaps.empty() ? empty_cell() : number_cell(quantile(gaps, 0.5), 2));
    row.push_back(gaps.empty() ? empty_cell() : number_cell(quantile(gaps, 0.9), 2));
    const Sample& first = runs.front();
    row.push_back(number_cell(static_cast<double>(first.result.cache.reserved()) / kMillion, 2));
    row.push_back(count_cell(first.result.work.token_forwards));
    row.push_back(count_cell(static_cast<int64_t>(runs.size())));
    add_metric(arm, i, "tokens_per_s", median(speeds), "tokens/s", runs.size(),
               BetterDirection::higher);
    add_metric(arm, i, "ttft", median(ttft), "ms", runs.size(), BetterDirection::lower);
    if (!gaps.empty()) {
      add_metric(arm, i, "tpot", quantile(gaps, 0.5), "ms", gaps.size(), BetterDirection::lower);
    }
    if (arm != control_ && shown(control_, i)) {
      add_metric(arm, i, "speed_ratio", against.ratio, "", against.n, BetterDirection::higher);
      result_.metrics.back().ci_low = against.low.value_or(NAN);
      result_.metrics.back().ci_high = against.high.value_or(NAN);
    }
  }

  void add_metric(size_t arm, size_t i, const char* name, double value, const char* unit, size_t n,
                  BetterDirection direction) {
    result_.metrics.push_back({arms_[arm].config.name, name, value, unit, static_cast<int64_t>(n),
                               NAN, NAN, direction,
                               {{"prompt_length", std::to_string(cases_[i].one.prompt_length)},
                                {"batch", std::to_string(cases_[i].one.batch)}}});
    static const std::set<std::string> kTimed = {"tokens_per_s", "ttft", "tpot", "speed_ratio",
                                                 "break_even"};
    result_.metrics.back().timed = kTimed.contains(name);
  }

  void add_memory_table(ReportSection& section, size_t i) {
    ReportTable table;
    table.id = file_id("memory", i);
    table.title = "Memory";
    const auto lower = BetterDirection::lower;
    table.columns = {{"arm", "arm", "", {}},
                     {"payload", "payload", "B", lower},
                     {"metadata", "metadata", "B", lower},
                     {"reserved", "reserved", "B", lower},
                     {"peak", "peak", "B", lower},
                     {"estimated_peak", "estimated peak", "B", {}},
                     {"scratch", "attention scratch", "B", lower},
                     {"per_token", "reserved/token", "B", lower},
                     {"waste", "empty slots", "%", lower}};
    ReportTable work;
    work.id = file_id("work", i);
    work.title = "Work";
    work.columns = {{"arm", "arm", "", {}},
                     {"bytes_moved", "bytes moved", "B", lower},
                     {"gathered", "bytes gathered", "B", lower},
                     {"forwards", "token-forwards", "", lower},
                     {"logit_rows", "logit rows", "", lower},
                     {"setup", "set-up", "ms", lower}};
    for (size_t arm = 0; arm < arms_.size(); ++arm) {
      if (arms_[arm].failure || samples(arm, i).empty()) continue;
      const Sample& sample = samples(arm, i).front();
      const GenerateResult& run = sample.result;
      int64_t held = 0;  // tokens the rows stand for; the last new one is never fed
      for (const auto& row : run.tokens) {
        held += cases_[i].one.prompt_length + static_cast<int64_t>(row.size()) - 1;
      }
      const double setup = median(collect(samples(arm, i), [](const Sample& s) {
        return static_cast<double>(s.setup_ns) / kMillion;
      }));
      table.rows.push_back(
          {text_cell(arms_[arm].config.name), count_cell(run.payload),
           count_cell(run.cache.live_bytes(MemoryKind::metadata)), count_cell(run.cache.reserved()),
           count_cell(run.cache.peak_total), count_cell(sample.estimated.peak_total),
           count_cell(run.scratch.peak_total),
           number_cell(static_cast<double>(run.cache.reserved()) / static_cast<double>(held), 0),
           number_cell(100 * sample.fragmentation, 1)});
      work.rows.push_back(
          {text_cell(arms_[arm].config.name), count_cell(run.work.bytes_moved),
           count_cell(run.work.gathered_bytes), count_cell(run.work.token_forwards),
           count_cell(run.work.logit_rows), number_cell(setup, 1)});
      add_metric(arm, i, "payload", static_cast<double>(run.payload), "B", 1, lower);
      add_metric(arm, i, "reserved", static_cast<double>(run.cache.reserved()), "B", 1, lower);
      add_metric(arm, i, "peak", static_cast<double>(run.cache.peak_total), "B", 1, lower);
      add_metric(arm, i, "token_forwards", static_cast<double>(run.work.token_forwards), "", 1,
                 lower);
    }
    table.note = "payload: live K and V at the end; metadata: tables; reserved: allocated K, V and "
                 "metadata; peak: the highest moment, K and V held while a step runs included. All "
                 "measured where memory is allocated.";
    work.note = "bytes moved: copies inside the cache; bytes gathered: copies for attention that wants "
                "one piece; set-up: building the cache, its pages touched, before timing.";
    section.tables.push_back(std::move(table));
    section.tables.push_back(std::move(work));
  }

  // Tokens of all rows that were out when the longest-running row had `n`.
  static double generated_by(const Sample& sample, int64_t n) {
    int64_t total = 0;
    for (const auto& row : sample.result.tokens) {
      total += std::min(n, static_cast<int64_t>(row.size()));
    }
    return static_cast<double>(total);
  }

  void add_curves(ReportSection& section, size_t i) {
    std::vector<LineSeries> speeds, speedups, latencies;
    std::vector<ReferenceRule> rules = {{ReferenceRule::Axis::y, 1.0, "control"}};
    const std::vector<double> base = elapsed_curve(samples(control_, i));
    for (size_t arm = 0; arm < arms_.size(); ++arm) {
      if (!shown(arm, i)) continue;
      const std::string& name = arms_[arm].config.name;
      const std::vector<double> curve = elapsed_curve(samples(arm, i));
      LineSeries speed{name, {}}, speedup{name, {}}, latency{name, {}};
      int64_t before = 0;
      for (const int64_t n : curve_lengths(static_cast<int64_t>(curve.size()))) {
        const auto x = static_cast<double>(n);
        const double elapsed = curve[static_cast<size_t>(n - 1)];
        speed.points.push_back({x, generated_by(samples(arm, i).front(), n) * 1e9 / elapsed});
        if (arm != control_ && static_cast<size_t>(n) <= base.size()) {
          const RatioInterval faster = time_ratio(arm, i, n);
          speedup.points.push_back({x, faster.ratio, faster.low, faster.high});
        }
        if (before > 0) {
          const double gap = (elapsed - curve[static_cast<size_t>(before - 1)]) /
                             static_cast<double>(n - before) / kMillion;
          latency.points.push_back({static_cast<double>(cases_[i].one.prompt_length + n), gap});
        }
        before = n;
      }
      if (arm != control_) {
        const auto even = break_even_in_all_blocks(arm, i);
        if (even) add_metric(arm, i, "break_even", static_cast<double>(*even), "tokens",
                             samples(arm, i).size(), BetterDirection::lower);
        speedups.push_back(std::move(speedup));
      }
      speeds.push_back(std::move(speed));
      if (!latency.points.empty()) latencies.push_back(std::move(latency));
    }
    const FigureAxis output{"output length [tokens]", true, 2};
    section.figures.push_back(line_chart(
        {file_id("tokens_per_s", i), "Tokens per second by output length",
         "Generated tokens over prefill and decode; median over blocks. Shorter outputs are the "
         "beginnings of the longest run."},
        output, {"tokens/s", true}, speeds));
    if (!speedups.empty()) {
      section.figures.push_back(line_chart(
          {file_id("speedup", i), "Speed-up over " + arms_[control_].config.name,
           "Total time of the control over total time of the arm: geometric mean over blocks with "
           "its 95 % t-interval. Below 1 the control is faster."},
          output, {"times faster"}, speedups, rules));
    }
    if (!latencies.empty()) {
      section.figures.push_back(line_chart(
          {file_id("latency", i), "Time per token by text length",
           "Mean gap between tokens, between the marked lengths. What grows with the text is the "
           "cost of reading (or recomputing) it."},
          {"text length [tokens]", true, 2}, {"ms per token", true}, latencies));
    }
  }

  // Total time of the control over that of the arm until `n` tokens were out, by block.
  RatioInterval time_ratio(size_t arm, size_t i, int64_t n) const {
    const auto time = [&](const Sample& sample) {
      return static_cast<double>(sample.elapsed_ns(n));
    };
    return ratio_t_interval(collect(samples(control_, i), time), collect(samples(arm, i), time));
  }

  bool reached(size_t arm, size_t i, int64_t n) const {
    return std::all_of(samples(arm, i).begin(), samples(arm, i).end(), [&](const Sample& sample) {
      return static_cast<int64_t>(sample.result.token_ns.size()) + 1 >= n;
    });
  }

  // The requested output lengths, as prefixes of the longest run.
  void add_output_lengths(ReportSection& section, size_t i) {
    ReportTable table;
    table.id = file_id("output_lengths", i);
    table.title = "By output length";
    table.columns = {{"arm", "arm", "", {}}};
    std::vector<int64_t> lengths;
    for (const int64_t length : config_.workload.new_tokens) {
      lengths.push_back(length);
      table.columns.push_back({fmt::format("new_{}", length), fmt::format("{} new", length),
                               "x control", BetterDirection::higher});
    }
    table.columns.push_back({"break_even", "break-even", "new tokens", BetterDirection::lower});
    for (size_t arm = 0; arm < arms_.size(); ++arm) {
      if (arm == control_ || !shown(arm, i)) continue;
      std::vector<ReportCell> row = {text_cell(arms_[arm].config.name)};
      for (const int64_t length : lengths) {
        const bool measured = reached(arm, i, length) && reached(control_, i, length);
        row.push_back(measured ? ratio_cell(time_ratio(arm, i, length)) : empty_cell());
      }
      const auto even = break_even_in_all_blocks(arm, i);
      row.push_back(even ? count_cell(*even) : text_cell("not reached"));
      table.rows.push_back(std::move(row));
    }
    table.note = "Total time of the control over total time of the arm, per block, with a 95 % "
                 "t-interval. break-even: the output length from which on the arm is faster in "
                 "total, in every block. A dash: every row had stopped before.";
    if (!table.rows.empty()) section.tables.push_back(std::move(table));
  }

  // The output length from which on the arm is faster in total, in every block.
  std::optional<int64_t> break_even_in_all_blocks(size_t arm, size_t i) const {
    int64_t latest = 0;
    for (size_t block = 0; block < samples(arm, i).size(); ++block) {
      const auto even = break_even(block_curve(samples(arm, i)[block]),
                                   block_curve(samples(control_, i)[block]));
      if (!even) return std::nullopt;
      latest = std::max(latest, *even);
    }
    return latest;
  }

  void add_memory_figure(ReportSection& section, size_t i) {
    std::vector<Bar> bars;
    for (size_t arm = 0; arm < arms_.size(); ++arm) {
      if (arms_[arm].failure || samples(arm, i).empty()) continue;
      const GenerateResult& run = samples(arm, i).front().result;
      const auto bar = [&](const char* part, int64_t bytes) {
        bars.push_back({arms_[arm].config.name, static_cast<double>(bytes) / kMillion, {}, {}, part});
      };
      bar("payload", run.payload);
      bar("reserved", run.cache.reserved());
      bar("peak", run.cache.peak_total);
    }
    if (bars.empty()) return;
    section.figures.push_back(bar_chart(
        {file_id("bytes", i), "Bytes of each cache",
         "payload: live K and V at the end of the run; reserved: allocated then; peak: at the "
         "highest moment."},
        {"MB"}, bars));
  }

  // Only where some arm is approximate: what its memory and time buy in distance.
  void add_quality_figures(ReportSection& section, size_t i) {
    const auto& gate = cases_[i].gate;
    std::vector<ScatterPoint> memory, latency;
    ReportTable table;
    table.id = file_id("quality", i);
    table.title = "Distance from the control";
    table.columns = {{"arm", "arm", "", {}},
                     {"kl", "KL(control || arm)", "nats/token", BetterDirection::lower},
                     {"kl_half_width", "± (95 %)", "nats/token", {}},
                     {"top1", "top-1 agreement", "%", BetterDirection::higher},
                     {"nll_change", "NLL change", "nats/token", BetterDirection::lower},
                     {"tokens", "tokens", "", {}}};
    for (size_t arm = 0; arm < arms_.size(); ++arm) {
      if (!shown(arm, i) || gate[arm].exact_arm) continue;
      const LogitComparison& distance = gate[arm].distance;
      table.rows.push_back({text_cell(arms_[arm].config.name), number_cell(distance.mean_kl, 4),
                            number_cell(distance.kl_half_width, 4),
                            number_cell(100 * distance.top1_agreement(), 1),
                            number_cell(distance.mean_nll_change, 4),
                            count_cell(distance.tokens)});
      add_metric(arm, i, "kl", distance.mean_kl, "nats/token",
                 static_cast<size_t>(distance.tokens), BetterDirection::lower);
    }
    if (table.rows.empty()) return;
    table.note = "Teacher-forced on the prompt and the control's continuation, at equal chunking.";
    section.tables.push_back(std::move(table));
    for (size_t arm = 0; arm < arms_.size(); ++arm) {
      if (!shown(arm, i)) continue;
      const double kl = gate[arm].exact_arm ? 0 : gate[arm].distance.mean_kl;
      const Sample& sample = samples(arm, i).front();
      memory.push_back({static_cast<double>(sample.result.cache.peak_total) / kMillion, kl,
                        arms_[arm].config.name});
      latency.push_back({1e3 / speed(arm, i), kl, arms_[arm].config.name});
    }
    mark_dominated(memory, BetterDirection::lower, BetterDirection::lower);
    mark_dominated(latency, BetterDirection::lower, BetterDirection::lower);
    const FigureAxis quality{"KL to the control [nats/token]"};
    section.figures.push_back(scatter_chart({file_id("memory_quality", i), "Memory against quality",
                                             "Grey points are beaten on both axes."},
                                            {"peak bytes [MB]"}, quality, memory));
    section.figures.push_back(scatter_chart({file_id("latency_quality", i),
                                             "Latency against quality",
                                             "Grey points are beaten on both axes."},
                                            {"ms per generated token"}, quality, latency));
  }

  void conclude(size_t i) {
    auto& conclusions = result_.report.conclusions;
    const std::string where = cases_.size() == 1 ? "" : cases_[i].one.label() + ": ";
    const std::string& control = arms_[control_].config.name;
    if (!shown(control_, i)) return;
    for (size_t arm = 0; arm < arms_.size(); ++arm) {
      if (arm == control_) continue;
      if (!shown(arm, i)) {
        conclusions.push_back(fmt::format("{}{}: no speed is given, {}.", where,
                                          arms_[arm].config.name,
                                          arms_[arm].failure ? "it failed" : "it is not equal"));
        continue;
      }
      const RatioInterval against = ratio(arm, control_, i);
      std::string text = fmt::format("{}{} runs at {:.2f}x{} the speed of {}", where,
                                     arms_[arm].config.name, against.ratio, interval(against),
                                     control);
      if (!against.excludes()) text += ": not distinguishable";
      const auto even = break_even_in_all_blocks(arm, i);
      if (even && against.ratio > 1) text += fmt::format("; it pays from {} new token(s) on", *even);
      if (!cases_[i].gate[arm].exact_arm) {
        text += fmt::format("; approximate, KL {:.3g} nats/token",
                            cases_[i].gate[arm].distance.mean_kl);
      }
      conclusions.push_back(text + ".");
    }
    explain_bound(i, where);
  }

  // Why an arm that saves memory need not be faster: what a decode step reads.
  void explain_bound(size_t i, const std::string& where) {
    const auto weights = static_cast<double>(arms_[control_].model.weight_bytes);
    int64_t largest = 0;
    for (size_t arm = 0; arm < arms_.size(); ++arm) {
      if (!arms_[arm].failure && !samples(arm, i).empty()) {
        largest = std::max(largest, samples(arm, i).front().result.payload);
      }
    }
    if (largest == 0) return;
    result_.report.conclusions.push_back(fmt::format(
        "{}A decode step reads {:.0f} MB of weights and at the end at most {:.1f} MB of K and V "
        "({:.1f} %): saving cache memory cannot make this run faster by more than that share.",
        where, weights / kMillion, static_cast<double>(largest) / kMillion,
        100 * static_cast<double>(largest) / (weights + static_cast<double>(largest))));
  }

  const BenchmarkConfig& config_;
  const std::vector<CaseResult>& cases_;
  const std::vector<Arm>& arms_;
  size_t control_;
  ExperimentResult result_;
};

}  // namespace

std::optional<int64_t> break_even(const std::vector<double>& arm_ns,
                                  const std::vector<double>& control_ns) {
  const size_t common = std::min(arm_ns.size(), control_ns.size());
  size_t from = common;
  while (from > 0 && arm_ns[from - 1] < control_ns[from - 1]) --from;
  if (from == common) return std::nullopt;
  return static_cast<int64_t>(from) + 1;
}

ExperimentResult make_report(const BenchmarkConfig& config, const std::vector<CaseResult>& cases,
                             const std::vector<Arm>& arms, size_t control) {
  return Report(config, cases, arms, control).make();
}

}  // namespace kvlab::experiments
