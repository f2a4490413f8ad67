#include "conversation_report.h"

#include <fmt/format.h>

#include <limits>

#include "conversation_findings.h"
#include "kvlab/runtime/figures.h"
#include "kvlab/runtime/statistics.h"

namespace kvlab::experiments::conversation_kind {

namespace {

constexpr double kMebibyte = 1024.0 * 1024.0;
constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr auto kHigher = BetterDirection::higher;
constexpr auto kLower = BetterDirection::lower;
constexpr const char* kWhole = "tokens/s of the whole conversation";

void describe_setting(const Findings& f, ReportDocument& report) {
  const ConversationConfig& config = f.config();
  const RuntimeConfig& runtime = config.shared.runtime;
  const MeasureConfig& measure = config.shared.measure;
  report.control = config.shared.control + ", fed again in each turn";
  report.varied.push_back(
      "mode: `kept` keeps the cache between turns, `refed` empties it and feeds the whole "
      "conversation again");
  for (const std::string& line : describe_arms(config.shared, config.trials)) {
    report.varied.push_back(line);
  }
  report.held_fixed = {
      "model " + config.shared.model.name + ", weights " + dtype_name(runtime.weights) +
          ", activations " + dtype_name(runtime.activations),
      fmt::format("{} turns, answers of {} tokens, none stopped early", f.turns(),
                  config.new_tokens),
      "attention " + to_string(runtime.attention),
      fmt::format("{} threads, {} blocks{}", runtime.threads, measure.repeats,
                  measure.interleave ? ", arms and modes interleaved in seeded order" : "")};
}

ReportCell mebibytes(int64_t bytes) {
  return number_cell(static_cast<double>(bytes) / kMebibyte, 2);
}

ReportTable turn_table(const Findings& f) {
  ReportTable table{"turns", "Turn by turn", {}, {}, ""};
  table.columns = {{"arm", "Arm", "", {}},
                   {"mode", "Cache", "", {}},
                   {"turn", "Turn", "", {}},
                   {"text", "Conversation", "tokens", {}},
                   {"forwards", "Token-forwards", "", kLower},
                   {"ttft", "First token", "ms", kLower},
                   {"ratio", "x refed", "", kHigher},
                   {"verdict", "Kept", "", {}},
                   {"payload", "Payload", "MiB", kLower},
                   {"reserved", "Reserved", "MiB", kLower},
                   {"n", "n", "", {}},
                   {"flagged", "Flagged", "", kLower}};
  for (size_t arm = 0; arm < f.arms().size(); ++arm) {
    if (!f.ran(arm) || f.is_second_control(arm)) continue;
    for (const Mode mode : kModes) {
      for (size_t i = 0; i < f.turns(); ++i) {
        const Turn& turn = f.runs(arm, mode).front()[i];
        const Comparison* found = mode == Mode::kept ? f.keeping(arm, i) : nullptr;
        table.rows.push_back(
            {text_cell(f.name(arm)), text_cell(mode_name(mode)),
             count_cell(static_cast<int64_t>(i + 1)), count_cell(turn.text_tokens),
             count_cell(turn.token_forwards),
             f.shown(arm) ? number_cell(median(f.first_times(arm, mode, i)), 1) : empty_cell(),
             found != nullptr ? ratio_cell(found->ratio) : empty_cell(),
             found != nullptr ? verdict_cell(found->verdict) : empty_cell(),
             mebibytes(turn.payload), mebibytes(turn.reserved),
             count_cell(static_cast<int64_t>(f.blocks())),
             count_cell(f.contended(arm, mode, i))});
      }
    }
  }
  table.note =
      "Times are medians over blocks. x refed: speed to the first token with the cache kept over that "
      "with everything fed again, within a block, with a 95 % interval, by the rule under "
      "\"Differences that are not significant\". Bytes are those at the end of the turn. "
      "Token-forwards include the answer's. Flagged: runs that something disturbed. No time is shown "
      "for an arm whose answers are not the control's.";
  return table;
}

ReportTable conversation_table(const Findings& f) {
  ReportTable table{"conversation", "The whole conversation", {}, {}, ""};
  table.columns = {{"arm", "Arm", "", {}},
                   {"mode", "Cache", "", {}},
                   {"kind", "Kind", "", {}},
                   {"forwards", "Token-forwards", "", kLower},
                   {"speed", "Answers", "tokens/s", kHigher},
                   {"ratio", "x control", "", kHigher},
                   {"verdict", "Verdict", "", {}},
                   {"reserved", "Reserved", "MiB", kLower},
                   {"n", "n", "", {}},
                   {"flagged", "Flagged", "", kLower}};
  for (size_t arm = 0; arm < f.arms().size(); ++arm) {
    if (!f.ran(arm)) continue;
    for (const Mode mode : kModes) {
      int64_t forwards = 0;
      for (const Turn& turn : f.runs(arm, mode).front()) forwards += turn.token_forwards;
      const Comparison* found = f.beside_control(arm, mode);
      const auto noise = f.speed_noise(mode);
      std::vector<ReportCell> ratio = {empty_cell(), empty_cell()};
      if (found != nullptr) ratio = {ratio_cell(found->ratio), verdict_cell(found->verdict)};
      if (arm == f.control()) ratio[0] = text_cell("1 (control)", CellEmphasis::muted);
      if (f.is_second_control(arm) && noise) {
        ratio = {ratio_cell(*noise), text_cell("noise", CellEmphasis::muted)};
      }
      table.rows.push_back(
          {text_cell(f.name(arm)), text_cell(mode_name(mode)),
           text_cell(f.arms()[arm].traits.exact ? "exact" : "approximate"), count_cell(forwards),
           f.shown(arm) ? number_cell(median(f.values(arm, mode, tokens_per_second)), 1)
                        : empty_cell(),
           ratio[0], ratio[1], mebibytes(f.runs(arm, mode).front().back().reserved),
           count_cell(static_cast<int64_t>(f.blocks())), count_cell(f.contended(arm, mode))});
    }
  }
  table.note =
      "Tokens of all answers over the time of all turns, feeding included. x control: the arm over "
      "the control with its cache treated alike.";
  return table;
}

ReportFigure first_token_figure(const Findings& f) {
  std::vector<LineSeries> lines;
  for (size_t arm = 0; arm < f.arms().size(); ++arm) {
    if (!f.shown(arm) || f.is_second_control(arm)) continue;
    for (const Mode mode : kModes) {
      LineSeries line;
      line.name = f.name(arm) + ", " + mode_name(mode);
      line.dashed = mode == Mode::refed;
      for (size_t i = 0; i < f.turns(); ++i) {
        const std::vector<double> times = f.first_times(arm, mode, i);
        line.points.push_back({static_cast<double>(i + 1), median(times), quantile(times, 0.25),
                               quantile(times, 0.75)});
      }
      lines.push_back(std::move(line));
    }
  }
  return line_chart({"first_token", "Time to the first token of each answer",
                     "Medians; bars from the first to the third quartile over blocks."},
                    {"Turn"}, {"First token [ms]"}, lines);
}

class MetricList {
 public:
  MetricList(const Findings& findings, std::vector<Metric>& metrics)
      : f_(findings), metrics_(metrics) {}

  void add_arm(size_t arm) {
    for (const Mode mode : kModes) {
      for (size_t i = 0; i < f_.turns(); ++i) {
        const Turn& turn = f_.runs(arm, mode).front()[i];
        const Group group = {{"mode", mode_name(mode)}, {"turn", std::to_string(i + 1)}};
        if (f_.shown(arm)) {
          add(arm, "ttft", median(f_.first_times(arm, mode, i)), "ms", kLower, true, group);
        }
        add(arm, "token_forwards", static_cast<double>(turn.token_forwards), "tokens", kLower,
            false, group);
        add(arm, "payload", static_cast<double>(turn.payload), "bytes", kLower, false, group);
        add(arm, "reserved", static_cast<double>(turn.reserved), "bytes", kLower, false, group);
        const Comparison* found = mode == Mode::kept ? f_.keeping(arm, i) : nullptr;
        if (found != nullptr) add_ratio(arm, "keeping_speedup", *found, group);
      }
      const Group group = {{"mode", mode_name(mode)}};
      if (f_.shown(arm)) {
        add(arm, "throughput", median(f_.values(arm, mode, tokens_per_second)), "tokens/s", kHigher,
            true, group);
      }
      const Comparison* found = f_.beside_control(arm, mode);
      if (found != nullptr) add_ratio(arm, "speed_ratio", *found, group);
    }
  }

 private:
  using Group = decltype(Metric::group);

  Metric& add(size_t arm, const char* name, double value, const char* unit,
              BetterDirection direction, bool timed, const Group& group) {
    metrics_.push_back({f_.name(arm), name, value, unit, static_cast<int64_t>(f_.blocks()), kNone,
                        kNone, direction, group, timed, {}, kNone});
    return metrics_.back();
  }

  void add_ratio(size_t arm, const char* name, const Comparison& found, const Group& group) {
    Metric& metric = add(arm, name, found.ratio.ratio, "", kHigher, true, group);
    metric.ci_low = found.ratio.low.value_or(kNone);
    metric.ci_high = found.ratio.high.value_or(kNone);
    metric.verdict = verdict_name(found.verdict);
    metric.p = found.p.value_or(kNone);
  }

  const Findings& f_;
  std::vector<Metric>& metrics_;
};

std::string keeping_sentence(const Findings& f, size_t arm) {
  const size_t last = f.turns() - 1;
  const Comparison* found = f.keeping(arm, last);
  if (found == nullptr) {
    return fmt::format("{}: no speed is given, its answers are not the control's.", f.name(arm));
  }
  return fmt::format(
      "{}; {} token-forwards instead of {}.",
      comparison_text(f.name(arm) + " kept", "itself refed", *found,
                      fmt::format("speed to the first token of turn {}", last + 1)),
      f.runs(arm, Mode::kept).front()[last].token_forwards,
      f.runs(arm, Mode::refed).front()[last].token_forwards);
}

std::string beside_sentence(const Findings& f, size_t arm) {
  const Comparison* found = f.beside_control(arm, Mode::kept);
  if (found == nullptr) return "";
  std::string text =
      comparison_text(f.name(arm) + " kept", f.name(f.control()) + " kept", *found, kWhole) + "; " +
      held_bytes_text(f.runs(arm, Mode::kept).front().back().reserved,
                      f.runs(f.control(), Mode::kept).front().back().reserved);
  if (!f.arms()[arm].traits.exact) text += "; approximate";
  return text + ".";
}

std::vector<std::string> conclude(const Findings& f, int suspended) {
  std::vector<std::string> keeping, beside, noises;
  for (size_t arm = 0; arm < f.arms().size(); ++arm) {
    if (!f.ran(arm) || f.is_second_control(arm)) continue;
    keeping.push_back(keeping_sentence(f, arm));
    const std::string sentence = beside_sentence(f, arm);
    if (!sentence.empty()) beside.push_back(sentence);
  }
  if (const auto noise = f.first_token_noise(f.turns() - 1)) {
    noises.push_back(noise_text(f.name(f.control()) + " refed", *noise,
                                fmt::format("speed to the first token of turn {}", f.turns())));
  }
  if (const auto noise = f.speed_noise(Mode::kept)) {
    noises.push_back(noise_text(f.name(f.control()) + " kept", *noise, kWhole));
  }
  std::vector<std::string> sentences;
  for (auto* part : {&keeping, &beside, &noises}) {
    sentences.insert(sentences.end(), part->begin(), part->end());
  }
  if (suspended > 0) {
    sentences.push_back(fmt::format("{} block(s) are left out: the process stood still in them.",
                                    suspended));
  }
  return sentences;
}

}  // namespace

void fill_report(const ConversationConfig& config, const std::vector<ArmState>& arms,
                 size_t control, int suspended, ExperimentResult& outcome) {
  const Findings findings(config, arms, control);
  ReportDocument& report = outcome.report;
  describe_setting(findings, report);
  for (const ArmState& arm : arms) {
    if (!arm.failure) continue;
    report.failures.push_back({"arm " + arm.config.name, *arm.failure});
    outcome.passed = false;
  }
  if (findings.blocks() == 0) {
    report.conclusions = {
        suspended > 0 ? fmt::format("No firm conclusion: the process stood still in all {} blocks "
                                    "that were finished.",
                                    suspended)
                      : std::string("No firm conclusion: no block was finished.")};
    return;
  }
  MetricList metrics(findings, outcome.metrics);
  for (size_t arm = 0; arm < arms.size(); ++arm) {
    if (findings.ran(arm)) metrics.add_arm(arm);
  }
  report.sections.push_back({"Turns",
                             {},
                             {turn_table(findings), conversation_table(findings)},
                             {first_token_figure(findings)}});
  report.sections.push_back(without_significance(findings.made()));
  report.conclusions = conclude(findings, suspended);
}

}  // namespace kvlab::experiments::conversation_kind
