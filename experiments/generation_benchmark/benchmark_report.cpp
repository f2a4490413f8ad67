#include "benchmark_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "report_parts.h"

namespace kvlab::experiments {

namespace {

class Report {
 public:
  Report(const BenchmarkConfig& config, const std::vector<CaseResult>& cases,
         const std::vector<Arm>& arms, size_t control)
      : config_(config),
        cases_(cases),
        arms_(arms),
        control_(control),
        findings_(config, cases, arms, control),
        metrics_(findings_, result_.metrics) {}

  ExperimentResult make() {
    ReportDocument& report = result_.report;
    report.control = arms_[control_].config.name;
    report.primary_metric = config_.primary.text;
    describe_factors();
    for (size_t i = 0; i < cases_.size(); ++i) add_case(i);
    if (!cases_.empty()) report.sections.push_back(without_significance(findings_));
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
    if (!config_.shared.measure.interleave) {
      report.held_fixed.back() = "arm after arm, not interleaved";
    }
    report.held_fixed.push_back(
        runtime.row_tokens != 0
            ? fmt::format("row_tokens {} (given)", runtime.row_tokens)
            : "row_tokens (measured): see \"row_tokens measured on this machine\" under "
              "Environment; 16 for models too small to be measured");
    if (config_.shared.isolation == Isolation::process) {
      report.held_fixed.push_back(
          "each arm in a process of its own, with its own copy of the weights");
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
    section.title =
        fmt::format("{}: {} tokens in, up to {} out{}", arms_[control_].model.name,
                    found.one.prompt_length, config_.workload.longest_output(),
                    found.one.batch > 1 ? fmt::format(", {} rows", found.one.batch) : "");
    if (findings_.memory_reference(i) != control_) {
      section.paragraphs = explain_savings(findings_, i);
    }
    add_tables(section, findings_, i, metrics_);
    add_figures(section, findings_, i, metrics_);
    result_.report.sections.push_back(std::move(section));
    for (std::string& sentence : conclude(findings_, i)) {
      result_.report.conclusions.push_back(std::move(sentence));
    }
  }

  // Exact arms must say the same as the control, token for token. Only under greedy sampling may a
  // near-tie excuse a difference: the gate met one, and has compared the logits there.
  void check_texts(size_t i) {
    if (samples(control_, i).empty()) return;
    const auto& wanted = samples(control_, i).front().result.tokens;
    for (size_t arm = 0; arm < arms_.size(); ++arm) {
      const GateResult& gate = cases_[i].gate[arm];
      if (arms_[arm].failure || !gate.exact_arm || !gate.same_numbers) continue;
      // bf16 parts ways by rounding.
      if (config_.shared.runtime.activations != at::kFloat) continue;
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
      for (const Sample& sample : arm.samples[i]) {
        same = same && sample.estimated == sample.result.cache;
      }
      result_.report.checks.push_back(
          {arm.config.name, "estimated bytes equal measured bytes, " + cases_[i].one.label(), same,
           fmt::format("peak {} estimated, {} measured",
                       arm.samples[i].front().estimated.peak_total,
                       arm.samples[i].front().result.cache.peak_total)});
      result_.passed = result_.passed && same;
    }
  }

  const BenchmarkConfig& config_;
  const std::vector<CaseResult>& cases_;
  const std::vector<Arm>& arms_;
  size_t control_;
  ExperimentResult result_;
  Findings findings_;
  MetricList metrics_;
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
