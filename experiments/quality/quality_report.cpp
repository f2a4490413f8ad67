#include "quality_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "report_parts.h"

namespace kvlab::experiments::quality_kind {

namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

void add_check(const ArmFinding& result, ExperimentResult& outcome) {
  if (!result.scores->gated || result.is_control) return;
  double worst = 0;
  int64_t unequal = 0;
  for (const DocumentScore& document : result.scores->documents) {
    worst = std::max(worst, document.comparison->relative_difference());
    unequal += document.comparison->equal() ? 0 : 1;
  }
  const auto documents = result.scores->documents.size();
  outcome.report.checks.push_back(
      {result.name(), fmt::format("equal to the control, tolerance {:.0e}", kEqualityTolerance),
       unequal == 0,
       fmt::format("{} of {} documents equal; largest difference {:.2e} of the largest |logit|",
                   static_cast<int64_t>(documents) - unequal, documents, worst)});
  if (unequal > 0) outcome.passed = false;
}

void add_metrics(const QualityConfig& config, const ArmFinding& result, ExperimentResult& outcome) {
  const auto add = [&](const char* name, double value, const char* unit, size_t n,
                       std::optional<double> low, std::optional<double> high,
                       BetterDirection direction, const std::string& positions = "") {
    Metric metric{result.name(),         name,
                  value,                 unit,
                  static_cast<int64_t>(n), low.value_or(kNone),
                  high.value_or(kNone),  direction,
                  {}};
    if (!positions.empty()) metric.group = {{"positions", positions}};
    outcome.metrics.push_back(std::move(metric));
  };
  const auto lower = BetterDirection::lower;
  const BootstrapInterval& kl = result.divergence;
  add("kl", kl.estimate, "nats/token", kl.n, kl.low, kl.high, lower);
  add("top1", result.agreement.rate, "", result.agreement.n, result.agreement.low,
      result.agreement.high, BetterDirection::higher);
  const BootstrapInterval& change = result.nll_change;
  add("nll_change", change.estimate, "nats/token", change.n, change.low, change.high, lower);
  const BootstrapInterval& nll = result.nll;
  add("perplexity", std::exp(nll.estimate), "", nll.n,
      nll.low ? std::optional(std::exp(*nll.low)) : std::nullopt,
      nll.high ? std::optional(std::exp(*nll.high)) : std::nullopt, lower);
  const auto bytes = [&](const char* name, int64_t value) {
    add(name, static_cast<double>(value), "bytes", 1, {}, {}, lower);
  };
  bytes("payload", result.held.payload);
  bytes("metadata", result.held.metadata);
  bytes("reserved", result.held.reserved());
  bytes("peak", result.held.peak);
  if (result.held.numbers > 0) {
    add("bits_per_number", result.held.bits_per_number(), "bits", 1, {}, {}, lower);
  }
  for (size_t i = 0; i < config.buckets.size(); ++i) {
    const BootstrapInterval& part = result.nll_change_by_bucket[i];
    add("nll_change", part.estimate, "nats/token", part.n, part.low, part.high, lower,
        config.buckets[i].name());
  }
}

void describe_setting(const QualityConfig& config, const std::vector<ArmScores>& scores,
                      ReportDocument& report) {
  for (const ArmScores& arm : scores) {
    std::string line = "arm " + arm.arm.name + ": cache " + to_string(arm.arm.cache);
    if (arm.arm.attention) line += ", attention " + to_string(*arm.arm.attention);
    if (arm.arm.cache_dtype) line += ", K and V in " + dtype_name(*arm.arm.cache_dtype);
    if (arm.arm.position) line += ", position " + to_string(*arm.arm.position);
    report.varied.push_back(line);
  }
  report.held_fixed = {
      "model " + config.model.name + ", weights " + dtype_name(config.runtime.weights) +
          ", activations " + dtype_name(config.runtime.activations) + ", K and V in " +
          dtype_name(config.runtime.cache) + " unless the arm says otherwise",
      fmt::format(
          "text: {}, {} tokens; {} documents of {} tokens, {}; each fed from an empty cache "
          "(teacher forcing)",
          config.text, config.text_tokens, config.documents.size(), config.document_tokens,
          config.placement),
      config.runtime.chunk == 0
          ? "each document in one step: what a cache drops or rounds only for later steps is not "
            "seen"
          : fmt::format(
                "fed in steps of {} tokens, by all arms alike; approximate caches would differ "
                "with other steps",
                config.runtime.chunk),
      "attention " + to_string(config.runtime.attention),
      fmt::format("{} threads", config.runtime.threads)};
}

}  // namespace

void fill_report(const QualityConfig& config, const std::vector<ArmScores>& scores,
                 ExperimentResult& outcome) {
  ReportDocument& report = outcome.report;
  report.control = config.control;
  describe_setting(config, scores, report);
  const QualityFindings findings = find_quality(config, scores);
  if (findings.arms.empty()) {
    report.conclusions = {"No firm conclusion: no document was finished."};
    return;
  }
  for (const ArmFinding& arm : findings.arms) {
    add_check(arm, outcome);
    add_metrics(config, arm, outcome);
  }
  report.conclusions = conclude(config, findings);
  report.sections.push_back(
      {"Quality and memory", {}, {main_table(config, findings)}, pareto_figure(findings)});
  if (findings.arms.size() > 1) {
    report.sections.push_back({"Where in the document",
                               {},
                               {position_table(config, findings)},
                               {position_figure(config, findings)}});
  }
}

}  // namespace kvlab::experiments::quality_kind
