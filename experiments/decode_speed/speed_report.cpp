#include "speed_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "kvlab/runtime/statistics.h"
#include "report_parts.h"

namespace kvlab::experiments::decode_speed_kind {

namespace {

class Report {
 public:
  Report(const SpeedConfig& config, const std::vector<CaseResult>& cases)
      : config_(config),
        cases_(cases),
        findings_(config, cases),
        metrics_(findings_, result_.metrics) {}

  ExperimentResult make() {
    ReportDocument& report = result_.report;
    report.control = config_.arms[config_.control].name;
    report.primary_metric = "ms per decode step, which gives every row one token";
    describe_factors();
    for (const CaseResult& one : cases_) add_case(one);
    for (const CaseResult& one : cases_) add_words(one);
    if (!cases_.empty()) report.sections.push_back(without_significance(findings_));
    for (const SpeedModel& model : config_.models) add_what_does_not_fit(model);
    report.conclusions = answer(findings_);
    if (report.conclusions.empty()) report.conclusions.push_back("No firm conclusion.");
    return std::move(result_);
  }

 private:
  void describe_factors() {
    ReportDocument& report = result_.report;
    report.varied = {"the cache (one arm each)", "depth, batch, element types and model (cases)"};
    std::vector<std::string> attentions;
    for (const ArmConfig& arm : config_.arms) {
      if (arm.attention) attentions.push_back(arm.name + " has " + arm.attention->type);
    }
    if (!attentions.empty()) report.varied.push_back("the attention: " + joined(attentions));
    for (const auto& [arm, factor] : config_.trials.planted_slowdown) {
      report.varied.push_back(fmt::format(
          "a planted slowdown: each step of {} waits until it took {} times as long", arm, factor));
    }
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

  void add_case(const CaseResult& one) {
    ReportSection section;
    section.title = one.label();
    section.paragraphs = {bandwidth_sentence(one)};
    add_checks(one);
    add_tables(section, findings_, one, metrics_);
    add_figures(section, findings_, one);
    result_.report.sections.push_back(std::move(section));
    for (size_t arm = 0; arm < config_.arms.size(); ++arm) {
      if (!one.failures[arm]) continue;
      result_.report.failures.push_back(
          {findings_.name(arm) + ", " + one.label(), *one.failures[arm]});
      result_.passed = false;
    }
  }

  // A section of its own, behind all tables: the conclusions at the top are the short answer.
  void add_words(const CaseResult& one) {
    ReportSection section;
    section.title = "In words: " + one.label();
    section.paragraphs = conclude(findings_, one);
    if (!section.paragraphs.empty()) result_.report.sections.push_back(std::move(section));
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

  const SpeedConfig& config_;
  const std::vector<CaseResult>& cases_;
  ExperimentResult result_;
  Findings findings_;
  MetricList metrics_;
};

}  // namespace

ExperimentResult make_report(const SpeedConfig& config, const std::vector<CaseResult>& cases) {
  return Report(config, cases).make();
}

}  // namespace kvlab::experiments::decode_speed_kind
