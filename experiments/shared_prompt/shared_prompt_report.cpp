#include "shared_prompt_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "report_parts.h"

namespace kvlab::experiments::shared_prompt_kind {

namespace {

void describe_setting(const Findings& f, ReportDocument& report) {
  const SharedPromptConfig& config = f.config();
  const RuntimeConfig& runtime = config.shared.runtime;
  const MeasureConfig& measure = config.shared.measure;
  report.control = config.shared.control + ", every row feeds the prompt itself";
  for (const std::string& line : describe_arms(config.shared, config.trials)) {
    report.varied.push_back(line);
  }
  report.varied.push_back(
      "mode: `fork` feeds the prompt once and forks it into the rows, `prefill` feeds it in every "
      "row");
  report.held_fixed = {
      "model " + config.shared.model.name + ", weights " + dtype_name(runtime.weights) +
          ", activations " + dtype_name(runtime.activations),
      fmt::format("prompt of {} tokens, {} continuations of {} tokens, none stopped early",
                  config.prompt_tokens(), config.continuations, config.new_tokens),
      fmt::format("sampling, temperature {}, top_k {}, top_p {}, seed {}: row r draws the same "
                  "random numbers in every arm and mode",
                  config.sampler.temperature, config.sampler.top_k, config.sampler.top_p,
                  config.sampler.seed),
      "attention " + to_string(runtime.attention),
      runtime.chunk == 0 ? std::string("the prompt fed in one step")
                         : fmt::format("prefill chunk {}", runtime.chunk),
      fmt::format("{} threads, {} blocks{}", runtime.threads, measure.repeats,
                  measure.interleave ? ", variants interleaved in seeded order" : "")};
}

void add_text_checks(const Findings& f, ExperimentResult& outcome) {
  const auto add = [&](const ArmState& arm, const char* what,
                       const ContinuationComparison& comparison) {
    outcome.report.checks.push_back(
        {arm.config.name, what, comparison.equal(), comparison.describe()});
    outcome.passed = outcome.passed && comparison.equal();
  };
  for (size_t i = 0; i < f.arms().size(); ++i) {
    const ArmState& arm = f.arms()[i];
    if (arm.failure) {
      outcome.report.failures.push_back({"arm " + arm.config.name, *arm.failure});
      outcome.passed = false;
      continue;
    }
    if (f.judged(i)) {
      add(arm, "forked rows say what rows say that feed the prompt themselves", *arm.fork);
    }
    if (f.judged_by_control(i)) add(arm, "forked rows say what the control says", *arm.control);
  }
}

void add_forward_checks(const Findings& f, ExperimentResult& outcome) {
  for (const Variant* variant : f.variants()) {
    if (variant->runs.empty() || f.is_second_control(variant->arm)) continue;
    const int64_t expected = f.expected_forwards(*variant);
    const bool good =
        std::all_of(variant->runs.begin(), variant->runs.end(), [&](const Sample& sample) {
          return sample.result.work.token_forwards == expected;
        });
    outcome.report.checks.push_back(
        {f.name(*variant), fmt::format("token-forwards as predicted, {}", mode_name(variant->mode)),
         good,
         fmt::format("{} expected, {} counted", expected,
                     variant->runs.front().result.work.token_forwards)});
    outcome.passed = outcome.passed && good;
  }
}

}  // namespace

void fill_report(const SharedPromptConfig& config, const Measured& measured,
                 ExperimentResult& outcome) {
  const Findings findings(config, measured);
  ReportDocument& report = outcome.report;
  describe_setting(findings, report);
  add_text_checks(findings, outcome);
  add_forward_checks(findings, outcome);
  if (findings.blocks() == 0 || findings.find(measured.control, Mode::prefill) == nullptr) {
    report.conclusions = {
        measured.suspended > 0
            ? fmt::format("No firm conclusion: the process stood still in all {} blocks that were "
                          "finished.",
                          measured.suspended)
            : std::string("No firm conclusion: not every arm was measured once.")};
    return;
  }
  report.sections.push_back(tables(findings, outcome.metrics));
  report.sections.push_back(figures(findings));
  report.sections.push_back(without_significance(findings.made()));
  report.conclusions = conclude(findings);
}

}  // namespace kvlab::experiments::shared_prompt_kind
