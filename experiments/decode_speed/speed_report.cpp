#include "speed_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include "kvlab/runtime/figures.h"
#include "kvlab/runtime/statistics.h"
#include "speed_memory.h"

namespace kvlab::experiments::decode_speed_kind {

namespace {

constexpr double kMillion = 1e6;
constexpr double kBillion = 1e9;
constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

// A share of the runs of an arm, above which its figures are the machine's and not the arm's.
constexpr double kMostContended = 0.5;

// Digits after the point that show three significant ones, and at least two.
int decimals_of(double value) {
  if (!(std::abs(value) > 0) || !std::isfinite(value)) return 2;
  return std::clamp(2 - static_cast<int>(std::floor(std::log10(std::abs(value)))), 2, 6);
}

std::string digits(double value) { return fmt::format("{:.{}f}", value, decimals_of(value)); }

ReportCell digits_cell(double value, CellEmphasis emphasis = CellEmphasis::normal) {
  return number_cell(value, decimals_of(value), emphasis);
}

std::string interval(const RatioInterval& ratio) {
  return ratio.low ? fmt::format("{} [{}, {}]", digits(ratio.ratio), digits(*ratio.low),
                                 digits(*ratio.high))
                   : digits(ratio.ratio) + " (one block)";
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ", ") + part;
  return text;
}

ReportCell percent_cell(double share) { return number_cell(100 * share, 0); }

// The figures of one arm at one depth.
struct Timing {
  std::vector<double> ms;     ///< per block
  std::vector<double> share;  ///< of the bandwidth floor, per block
  double contended = 0;       ///< share of runs that lost a core in every step
};

class Report {
 public:
  Report(const SpeedConfig& config, const std::vector<CaseResult>& cases)
      : config_(config), cases_(cases) {}

  ExperimentResult make() {
    ReportDocument& report = result_.report;
    report.control = config_.arms[config_.control].name;
    report.primary_metric = "ms per token of a decode step";
    describe_factors();
    for (const CaseResult& one : cases_) add_case(one);
    for (const SpeedModel& model : config_.models) add_what_does_not_fit(model);
    if (report.conclusions.empty()) report.conclusions.push_back("No firm conclusion.");
    return std::move(result_);
  }

 private:
  const std::string& name(size_t arm) const { return config_.arms[arm].name; }

  void describe_factors() {
    ReportDocument& report = result_.report;
    report.varied = {"the cache (one arm each)", "depth, batch, element types and model (cases)"};
    std::vector<std::string> attentions;
    for (const ArmConfig& arm : config_.arms) {
      if (arm.attention) attentions.push_back(arm.name + " has " + arm.attention->type);
    }
    if (!attentions.empty()) report.varied.push_back("the attention: " + joined(attentions));
    report.held_fixed = {
        fmt::format("attention {}{}, threads {}", config_.runtime.attention.type,
                    attentions.empty() ? "" : " (unless varied)", config_.runtime.threads),
        "the tokens: given in advance, the same in all arms; nothing is sampled",
        fmt::format("{} timed steps of one token per row in a run, after {} that are not timed",
                    config_.tokens, config_.measure.warmup),
        fmt::format("{} blocks asked for (n: those finished), each with all arms in seeded random "
                    "order and a bandwidth measurement with the same threads at both ends",
                    config_.measure.repeats)};
    add_row_tokens();
  }

  // Up to this many tokens in a step products run on the row kernels. What is measured may differ
  // from run to run, and times with it.
  void add_row_tokens() {
    std::vector<std::string>& facts = result_.report.held_fixed;
    for (const CaseResult& one : cases_) {
      if (one.row_tokens == 0) continue;
      const std::string fact =
          fmt::format("row_tokens {} ({}): {}, {} weights", one.row_tokens,
                      config_.runtime.row_tokens != 0 ? "given" : "measured",
                      one.model->source.name, dtype_name(one.precision.weights));
      if (std::find(facts.begin(), facts.end(), fact) == facts.end()) facts.push_back(fact);
    }
  }

  void add_what_does_not_fit(const SpeedModel& model) {
    if (config_.prefill > 0 && !config_.times_prompt(model)) {
      result_.report.failures.push_back(
          {fmt::format("{}, prompt of {}", model.source.name, config_.prefill),
           fmt::format("left out: the model has a context of {}", model.context)});
    }
    for (const int64_t depth : model.too_deep) {
      result_.report.failures.push_back(
          {fmt::format("{}, depth {}", model.source.name, depth),
           fmt::format("left out: it needs a context of {}, the model has {}",
                       config_.length_at(depth), model.context)});
    }
  }

  bool shown(const DepthResult& at, size_t arm) const {
    return at.arms[arm].verdict.passed && !at.arms[arm].runs.empty();
  }

  // Time that reading weights, K and V takes at the bandwidth of a block.
  double floor_ms(const CaseResult& one, const ArmAtDepth& arm, double bytes_per_second) const {
    return (static_cast<double>(one.weight_bytes) + arm.kv_bytes) * 1e3 / bytes_per_second;
  }

  Timing timing(const CaseResult& one, const DepthResult& at, size_t arm) const {
    Timing found;
    double contended = 0;
    for (size_t block = 0; block < at.arms[arm].runs.size(); ++block) {
      const RunSample& run = at.arms[arm].runs[block];
      found.ms.push_back(run.median_ms());
      found.share.push_back(floor_ms(one, at.arms[arm], at.bytes_per_second[block]) /
                            found.ms.back());
      contended += run.involuntary_switches >= static_cast<int64_t>(run.step_ns.size()) ? 1 : 0;
    }
    if (!found.ms.empty()) found.contended = contended / static_cast<double>(found.ms.size());
    return found;
  }

  RatioInterval against_control(const CaseResult& one, const DepthResult& at, size_t arm) const {
    std::vector<double> mine = timing(one, at, arm).ms;
    std::vector<double> control = timing(one, at, config_.control).ms;
    const size_t blocks = std::min(mine.size(), control.size());
    mine.resize(blocks);
    control.resize(blocks);
    return ratio_t_interval(mine, control);
  }

  // Time over the control's, if bytes were all: what is copied is read and written. Says nothing
  // where one of them recomputes.
  double by_bytes(const CaseResult& one, const DepthResult& at, size_t arm) const {
    const auto weights = static_cast<double>(one.weight_bytes);
    const ArmAtDepth& mine = at.arms[arm];
    const ArmAtDepth& control = at.arms[config_.control];
    return (weights + mine.kv_bytes + 2 * mine.copied_bytes) /
           (weights + control.kv_bytes + 2 * control.copied_bytes);
  }

  bool recomputes(const ArmAtDepth& arm) const { return arm.kv_bytes == 0; }

  bool has_by_bytes(const DepthResult& at, size_t arm) const {
    return !recomputes(at.arms[arm]) && !recomputes(at.arms[config_.control]);
  }

  bool contended(const CaseResult& one, const DepthResult& at, size_t arm) const {
    return timing(one, at, arm).contended > kMostContended;
  }

  std::string file_id(const char* what, const CaseResult& one) const {
    return fmt::format("{}_{}_{}_b{}", what, one.model->source.name, one.precision.id(), one.batch);
  }

  void add_metric(const CaseResult& one, const DepthResult* at, size_t arm, const char* metric,
                  double value, const char* unit, size_t n, BetterDirection direction) {
    Metric found{name(arm),
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
    result_.metrics.push_back(std::move(found));
  }

  void add_case(const CaseResult& one) {
    ReportSection section;
    section.title = one.label();
    section.paragraphs = {bandwidth_sentence(one)};
    add_checks(one);
    add_speed_table(section, one);
    add_shares_table(section, one);
    add_memory_table(section, one);
    add_prefill_table(section, one);
    add_figures(section, one);
    result_.report.sections.push_back(std::move(section));
    for (size_t arm = 0; arm < config_.arms.size(); ++arm) {
      if (!one.failures[arm]) continue;
      result_.report.failures.push_back({name(arm) + ", " + one.label(), *one.failures[arm]});
      result_.passed = false;
    }
    conclude(one);
    if (one.interrupted) {
      result_.report.conclusions.push_back(one.label() + ": interrupted, whole blocks only.");
    }
  }

  std::string bandwidth_sentence(const CaseResult& one) const {
    std::vector<double> speeds;
    std::string loop;
    for (const DepthResult& at : one.depths) {
      for (const double speed : at.bytes_per_second) speeds.push_back(speed / kBillion);
      if (!at.loop.empty()) loop = at.loop;
    }
    const std::string weights =
        fmt::format("A step reads {:.1f} MB of weights ({}).",
                    static_cast<double>(one.weight_bytes) / kMillion, one.origin);
    if (speeds.empty()) return weights;
    return fmt::format(
        "{} Read bandwidth of {} thread(s) beside the blocks: median {:.1f} GB/s ({:.1f} to "
        "{:.1f}, "
        "n={}; fastest loop: {}).",
        weights, config_.runtime.threads, median(speeds),
        *std::min_element(speeds.begin(), speeds.end()),
        *std::max_element(speeds.begin(), speeds.end()), speeds.size(), loop);
  }

  void add_checks(const CaseResult& one) {
    const auto add = [&](const ReportCheck& check) {
      result_.passed = result_.passed && check.passed;
      result_.report.checks.push_back(check);
    };
    for (const ArmPrefill& prefill : one.prefill) {
      if (prefill.check) add(*prefill.check);
    }
    for (const DepthResult& at : one.depths) {
      for (const ArmAtDepth& arm : at.arms) {
        for (const ReportCheck& check : arm.verdict.checks) add(check);
      }
    }
  }

  void add_prefill_table(ReportSection& section, const CaseResult& one) {
    size_t blocks = SIZE_MAX;
    for (size_t arm = 0; arm < one.prefill.size(); ++arm) {
      if (!one.failures[arm]) blocks = std::min(blocks, one.prefill[arm].ns.size());
    }
    if (one.prefill.empty() || blocks == SIZE_MAX || blocks == 0) return;
    ReportTable table;
    table.id = file_id("prefill", one);
    table.title = fmt::format("A prompt of {} tokens", config_.prefill);
    table.columns = {{"arm", "arm", "", {}},
                     {"tokens_per_s", "tokens/s", "", BetterDirection::higher},
                     {"iqr", "IQR", "", {}},
                     {"time_ratio", "time x control (95 %)", "", BetterDirection::lower},
                     {"n", "n", "", {}}};
    const auto times = [&](size_t arm) {
      return std::vector<double>(one.prefill[arm].ns.begin(),
                                 one.prefill[arm].ns.begin() + static_cast<long>(blocks));
    };
    const bool control = !one.failures[config_.control];
    for (size_t arm = 0; arm < one.prefill.size(); ++arm) {
      if (one.failures[arm] || !one.prefill[arm].passed()) {
        table.rows.push_back({text_cell(name(arm), CellEmphasis::warning), empty_cell(),
                              empty_cell(), empty_cell(), empty_cell()});
        continue;
      }
      std::vector<double> speeds;
      for (const double ns : times(arm)) {
        speeds.push_back(static_cast<double>(config_.prefill * one.batch) * 1e9 / ns);
      }
      table.rows.push_back({text_cell(name(arm)), number_cell(median(speeds), 0),
                            number_cell(interquartile_range(speeds), 0, CellEmphasis::muted),
                            arm == config_.control || !control
                                ? text_cell("1 (control)")
                                : ratio_cell(ratio_t_interval(times(arm), times(config_.control))),
                            count_cell(static_cast<int64_t>(blocks))});
      add_metric(one, nullptr, arm, "prefill_tokens_per_s", median(speeds), "tokens/s", blocks,
                 BetterDirection::higher);
    }
    table.note = "Each arm's own prefill, in chunks as configured; logits of the last token only.";
    section.tables.push_back(std::move(table));
  }

  std::string verdict_text(const CaseResult& one, const DepthResult& at, size_t arm) const {
    const ArmAtDepth& found = at.arms[arm];
    if (one.failures[arm] && found.runs.empty()) return "failed";
    if (found.left_out) return "left out: " + *found.left_out;
    if (arm == config_.control) return "control";
    if (!found.verdict.exact) {
      return fmt::format("approximate, KL {:.2g}, top-1 {:.0f} %", found.verdict.distance.mean_kl,
                         100 * found.verdict.distance.top1_agreement());
    }
    return found.verdict.passed ? "equal" : "NOT EQUAL";
  }

  void add_speed_table(ReportSection& section, const CaseResult& one) {
    ReportTable table;
    table.id = file_id("decode", one);
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
      const auto winner = clear_winner(one, at);
      for (size_t arm = 0; arm < config_.arms.size(); ++arm) {
        add_speed_row(table, one, at, arm, winner == arm);
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

  void add_speed_row(ReportTable& table, const CaseResult& one, const DepthResult& at, size_t arm,
                     bool best) {
    const ArmAtDepth& found = at.arms[arm];
    const bool failed = one.failures[arm].has_value() && found.runs.empty();
    const bool warning = failed || !found.verdict.passed;
    std::vector<ReportCell> row = {
        count_cell(at.depth), text_cell(name(arm)),
        text_cell(verdict_text(one, at, arm), warning          ? CellEmphasis::warning
                                              : found.left_out ? CellEmphasis::muted
                                                               : CellEmphasis::normal)};
    if (!shown(at, arm)) {
      while (row.size() < table.columns.size()) row.push_back(empty_cell());
      table.rows.push_back(std::move(row));
      return;
    }
    const Timing times = timing(one, at, arm);
    const size_t n = times.ms.size();
    const auto emphasis = best ? CellEmphasis::best : CellEmphasis::normal;
    const double ms = median(times.ms);
    const double tokens_per_s = 1e3 * static_cast<double>(one.batch) / ms;
    row.push_back(digits_cell(ms, emphasis));
    row.push_back(digits_cell(interquartile_range(times.ms), CellEmphasis::muted));
    row.push_back(number_cell(tokens_per_s, 1, emphasis));
    add_metric(one, &at, arm, "ms_per_token", ms, "ms", n, BetterDirection::lower);
    add_metric(one, &at, arm, "tokens_per_s", tokens_per_s, "tokens/s", n, BetterDirection::higher);
    if (arm == config_.control || !shown(at, config_.control)) {
      row.push_back(text_cell(arm == config_.control ? "1 (control)" : "-"));
      row.push_back(empty_cell());
    } else {
      const RatioInterval ratio = against_control(one, at, arm);
      row.push_back(ratio_cell(ratio, emphasis));
      row.push_back(has_by_bytes(at, arm) ? number_cell(by_bytes(one, at, arm), 2) : empty_cell());
      add_metric(one, &at, arm, "time_ratio", ratio.ratio, "", n, BetterDirection::lower);
      result_.metrics.back().ci_low = ratio.low.value_or(kNone);
      result_.metrics.back().ci_high = ratio.high.value_or(kNone);
      if (has_by_bytes(at, arm)) {
        add_metric(one, &at, arm, "time_ratio_by_bytes", by_bytes(one, at, arm), "", 1,
                   BetterDirection::none);
      }
    }
    if (recomputes(found)) {
      row.push_back(empty_cell());
    } else {
      row.push_back(percent_cell(median(times.share)));
      add_metric(one, &at, arm, "floor_share", median(times.share), "", n, BetterDirection::higher);
    }
    row.push_back(text_cell(bound_text(found)));
    row.push_back(digits_cell(found.kv_bytes / kMillion));
    row.push_back(digits_cell(found.copied_bytes / kMillion));
    row.push_back(digits_cell(static_cast<double>(found.peak_bytes) / kMillion));
    row.push_back(count_cell(static_cast<int64_t>(n)));
    add_metric(one, &at, arm, "peak", static_cast<double>(found.peak_bytes), "B", 1,
               BetterDirection::lower);
    table.rows.push_back(std::move(row));
  }

  std::string bound_text(const ArmAtDepth& arm) const {
    if (recomputes(arm)) return "recomputes";
    return arm.shares ? bound_name(arm.shares->bound()) : "not profiled";
  }

  std::string bound_words(const ArmAtDepth& arm) const {
    if (recomputes(arm) || !arm.shares) return bound_text(arm);
    return std::string(bound_name(arm.shares->bound())) + "-bound";
  }

  // The fastest arm, where its interval excludes the runner-up.
  std::optional<size_t> clear_winner(const CaseResult& one, const DepthResult& at) const {
    std::vector<size_t> order;
    for (size_t arm = 0; arm < config_.arms.size(); ++arm) {
      if (shown(at, arm)) order.push_back(arm);
    }
    if (order.size() < 2) return std::nullopt;
    const auto ms = [&](size_t arm) { return median(timing(one, at, arm).ms); };
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return ms(a) < ms(b); });
    const RatioInterval ratio =
        ratio_t_interval(timing(one, at, order[0]).ms, timing(one, at, order[1]).ms);
    if (!ratio.excludes() || contended(one, at, order[0])) return std::nullopt;
    return order[0];
  }

  void add_shares_table(ReportSection& section, const CaseResult& one) {
    ReportTable table;
    table.id = file_id("bound", one);
    table.title = "Where the time of a step goes";
    table.columns = {{"depth", "depth", "tokens", {}}, {"arm", "arm", "", {}},
                     {"weights", "weights", "%", {}},  {"attention", "attention", "%", {}},
                     {"cache", "cache", "%", {}},      {"other", "rest", "%", {}},
                     {"words", "in words", "", {}}};
    for (const DepthResult& at : one.depths) {
      for (size_t arm = 0; arm < config_.arms.size(); ++arm) {
        const auto& shares = at.arms[arm].shares;
        if (!shares || !shown(at, arm)) continue;
        table.rows.push_back(
            {count_cell(at.depth), text_cell(name(arm)), percent_cell(shares->weights),
             percent_cell(shares->attention), percent_cell(shares->cache),
             percent_cell(shares->other),
             text_cell(recomputes(at.arms[arm]) ? "recomputes" : shares->describe())});
        const auto add = [&](const char* metric, double share) {
          add_metric(one, &at, arm, metric, share, "", 1, BetterDirection::none);
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

  void add_memory_table(ReportSection& section, const CaseResult& one) {
    if (auto table = memory_table(config_, one, file_id("memory", one))) {
      section.tables.push_back(std::move(*table));
    }
    for (const DepthResult& at : one.depths) {
      for (size_t arm = 0; arm < at.arms.size(); ++arm) {
        const ArmAtDepth& found = at.arms[arm];
        if (!found.shares) continue;
        add_metric(one, &at, arm, "payload", static_cast<double>(found.payload_bytes), "B", 1,
                   BetterDirection::lower);
        add_metric(one, &at, arm, "reserved", static_cast<double>(found.usage.reserved()), "B", 1,
                   BetterDirection::lower);
      }
    }
  }

  void add_figures(ReportSection& section, const CaseResult& one) {
    std::vector<LineSeries> times, shares;
    LineSeries floor{"bandwidth floor of the control", {}, true};
    for (size_t arm = 0; arm < config_.arms.size(); ++arm) {
      LineSeries time{name(arm), {}}, share{name(arm), {}};
      for (const DepthResult& at : one.depths) {
        if (!shown(at, arm)) continue;
        const Timing found = timing(one, at, arm);
        const auto depth = static_cast<double>(at.depth);
        const auto point = [&](const std::vector<double>& values, double scale) {
          return LinePoint{depth, scale * median(values), scale * quantile(values, 0.25),
                           scale * quantile(values, 0.75)};
        };
        time.points.push_back(point(found.ms, 1));
        if (!recomputes(at.arms[arm])) share.points.push_back(point(found.share, 100));
        if (arm == config_.control && !recomputes(at.arms[arm])) {
          floor.points.push_back({depth, floor_ms(one, at.arms[arm], median(at.bytes_per_second))});
        }
      }
      if (!time.points.empty()) times.push_back(std::move(time));
      if (!share.points.empty()) shares.push_back(std::move(share));
    }
    const FigureAxis depth{"depth [cached tokens]", false, 10, true};
    if (!floor.points.empty()) times.push_back(std::move(floor));
    if (!times.empty()) {
      section.figures.push_back(line_chart(
          {file_id("ms_per_token", one), "Time per token by depth, " + one.label(),
           fmt::format("Median over {} blocks; bars are the quartiles. Dashed: what reading the "
                       "control's bytes takes at the bandwidth measured beside it.",
                       config_.measure.repeats)},
          depth, {"ms per token", false, 10, true}, times));
    }
    if (!shares.empty()) {
      section.figures.push_back(
          line_chart({file_id("floor_share", one), "Share of the bandwidth floor, " + one.label(),
                      "100 %: the step takes as long as reading its weights, K and V. Bars are the "
                      "quartiles over blocks."},
                     depth, {"share of the floor [%]", false, 10, true}, shares));
    }
  }

  // First the control, then what the others are against it at every depth.
  void conclude(const CaseResult& one) {
    const DepthResult* deepest = nullptr;
    std::vector<std::string> depths;
    for (const DepthResult& at : one.depths) {
      if (!shown(at, config_.control)) continue;
      deepest = &at;
      const Timing times = timing(one, at, config_.control);
      const ArmAtDepth& control = at.arms[config_.control];
      const std::string share =
          recomputes(control) ? ""
                              : fmt::format("{:.0f} % of the floor, ", 100 * median(times.share));
      depths.push_back(fmt::format("{} ms at depth {} ({}{})", digits(median(times.ms)), at.depth,
                                   share, bound_words(control)));
    }
    if (deepest == nullptr) return;
    result_.report.conclusions.push_back(fmt::format("{}: {} takes per token {}.", one.label(),
                                                     name(config_.control), joined(depths)));
    for (const DepthResult& at : one.depths) {
      if (shown(at, config_.control)) compare_arms(one, at);
    }
    const std::string memory = memory_sentence(config_, *deepest);
    if (!memory.empty()) {
      result_.report.conclusions.push_back(
          fmt::format("{}, depth {}: {}", one.label(), deepest->depth, memory));
    }
  }

  // The arm that has the control's cache once more: nothing differs, so what its ratio spans is noise.
  std::optional<size_t> second_control() const {
    const ArmConfig& control = config_.arms[config_.control];
    const auto attention = [](const ArmConfig& arm) {
      return arm.attention ? to_string(*arm.attention) : std::string();
    };
    for (size_t arm = 0; arm < config_.arms.size(); ++arm) {
      if (arm == config_.control) continue;
      if (to_string(config_.arms[arm].cache) == to_string(control.cache) &&
          attention(config_.arms[arm]) == attention(control)) {
        return arm;
      }
    }
    return std::nullopt;
  }

  void compare_arms(const CaseResult& one, const DepthResult& at) {
    const size_t control = config_.control;
    const std::optional<size_t> again = second_control();
    const RatioInterval noise =
        again && shown(at, *again) ? against_control(one, at, *again) : RatioInterval{};
    const auto is_noise = [&](size_t arm, double ratio) {
      return arm == again || (noise.low && ratio >= *noise.low && ratio <= *noise.high);
    };
    const std::string where = fmt::format("{}, depth {}: ", one.label(), at.depth);
    std::vector<std::string> slower, faster, same, single, busy;
    bool compared = false;
    const bool control_busy = contended(one, at, control);
    for (size_t arm = 0; arm < config_.arms.size(); ++arm) {
      if (arm == control || !shown(at, arm)) continue;
      compared = true;
      if (control_busy) continue;
      if (contended(one, at, arm)) {
        busy.push_back(name(arm));
        continue;
      }
      const RatioInterval ratio = against_control(one, at, arm);
      std::vector<std::string>& verdict = !ratio.low          ? single
                                          : !ratio.excludes() || is_noise(arm, ratio.ratio) ? same
                                          : ratio.ratio > 1   ? slower
                                                              : faster;
      verdict.push_back(name(arm) + " " + (ratio.low ? interval(ratio) : digits(ratio.ratio)));
    }
    if (!compared) return;
    std::string text;
    if (!slower.empty()) text += " Slower: " + joined(slower) + ".";
    if (!faster.empty()) text += " Faster: " + joined(faster) + ".";
    if (!same.empty()) text += " Not distinguishable: " + joined(same) + ".";
    if (!single.empty()) text += " One block: no verdict (" + joined(single) + ").";
    if (!busy.empty()) {
      text += fmt::format(
          " No verdict on {}: other processes took the cores in most of their runs.", joined(busy));
    }
    if (control_busy) {
      text += fmt::format(
          " No verdict on any arm: other processes took the cores in most runs of "
          "the control, {}.",
          name(control));
    }
    result_.report.conclusions.push_back(
        fmt::format("{}time of a token over that of {}.{}", where, name(control), text));
    conclude_about_copies(one, at, where);
  }

  // What an arm that copies its entries costs, beside what its bytes say.
  void conclude_about_copies(const CaseResult& one, const DepthResult& at,
                             const std::string& where) {
    for (size_t arm = 0; arm < config_.arms.size(); ++arm) {
      const ArmAtDepth& found = at.arms[arm];
      const bool copies = found.copied_bytes > 0.5 * found.kv_bytes && found.kv_bytes > 0;
      if (arm == config_.control || !shown(at, arm) || !copies) continue;
      if (!has_by_bytes(at, arm)) continue;
      if (contended(one, at, arm) || contended(one, at, config_.control)) continue;
      const RatioInterval measured = against_control(one, at, arm);
      const double predicted = by_bytes(one, at, arm);
      std::string verdict = "its bytes are within the interval";
      if (!measured.low) {
        verdict = "no verdict";
      } else if (measured.excludes(predicted)) {
        verdict = fmt::format("{:+.0f} % against what its bytes say",
                              100 * (measured.ratio / predicted - 1));
      }
      result_.report.conclusions.push_back(fmt::format(
          "{}{} copies {} MB per token; by its bytes it would take {} times the control's time, "
          "measured {}: {}.",
          where, name(arm), digits(found.copied_bytes / kMillion), digits(predicted),
          interval(measured), verdict));
    }
  }

  const SpeedConfig& config_;
  const std::vector<CaseResult>& cases_;
  ExperimentResult result_;
};

}  // namespace

ExperimentResult make_report(const SpeedConfig& config, const std::vector<CaseResult>& cases) {
  return Report(config, cases).make();
}

}  // namespace kvlab::experiments::decode_speed_kind
