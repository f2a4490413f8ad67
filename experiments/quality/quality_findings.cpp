#include "quality_findings.h"

#include <fmt/format.h>

#include <algorithm>

#include "kvlab/runtime/multiple_tests.h"

namespace kvlab::experiments::quality_kind {

namespace {

constexpr double kSignificance = 0.05;

using Sum = double (*)(const TokenSums&);

double divergence(const TokenSums& sums) { return sums.divergence; }
double own_nll(const TokenSums& sums) { return sums.nll; }
double nll_difference(const TokenSums& sums) { return sums.nll - sums.control_nll; }

BootstrapInterval interval_of(const QualityConfig& config, const ArmScores& scores,
                              std::optional<size_t> bucket, Sum sum) {
  std::vector<double> sums, counts;
  for (const DocumentScore& document : scores.documents) {
    const TokenSums tokens = bucket ? document.buckets[*bucket] : document.total();
    sums.push_back(sum(tokens));
    counts.push_back(static_cast<double>(tokens.tokens));
  }
  BootstrapOptions options;
  options.seed = config.seed;
  return ratio_of_sums_interval(sums, counts, options, 0.0);
}

bool gate_passed(const ArmScores& scores) {
  return std::all_of(scores.documents.begin(), scores.documents.end(),
                     [](const DocumentScore& score) { return score.comparison->equal(); });
}

ArmFinding summarize(const QualityConfig& config, const ArmScores& scores) {
  ArmFinding result;
  result.scores = &scores;
  result.is_control = scores.arm.name == config.control;
  TokenSums all;
  for (const DocumentScore& document : scores.documents) {
    all.add(document.total());
    if (document.held.reserved() >= result.held.reserved()) result.held = document.held;
  }
  result.divergence = interval_of(config, scores, {}, divergence);
  result.nll_change = interval_of(config, scores, {}, nll_difference);
  result.nll = interval_of(config, scores, {}, own_nll);
  result.agreement = wilson_interval(all.agreed, all.tokens);
  for (size_t bucket = 0; bucket < config.buckets.size(); ++bucket) {
    result.nll_change_by_bucket.push_back(interval_of(config, scores, bucket, nll_difference));
  }
  if (result.is_control) {
    result.verdict = QualityVerdict::control;
  } else if (scores.gated) {
    result.verdict = gate_passed(scores) ? QualityVerdict::equal : QualityVerdict::differs;
  } else {
    result.verdict = QualityVerdict::indistinguishable;  // until it is tested
  }
  return result;
}

void test_arms(QualityFindings& findings) {
  std::vector<double> whole, parts;
  for (const ArmFinding& arm : findings.arms) {
    if (!arm.tested()) continue;
    whole.push_back(arm.nll_change.p.value_or(1));
    for (const BootstrapInterval& bucket : arm.nll_change_by_bucket) {
      parts.push_back(bucket.p.value_or(1));
    }
  }
  const std::vector<double> adjusted = holm_adjusted(whole), adjusted_parts = holm_adjusted(parts);
  size_t next = 0, part = 0;
  for (ArmFinding& arm : findings.arms) {
    if (!arm.tested()) continue;
    arm.p = adjusted[next++];
    for (size_t i = 0; i < arm.nll_change_by_bucket.size(); ++i) {
      arm.bucket_p.push_back(adjusted_parts[part++]);
    }
    arm.verdict = tested_verdict(arm.nll_change, arm.p);
  }
  findings.comparisons = whole.size();
  findings.by_position = parts.size();
}

}  // namespace

const char* verdict_name(QualityVerdict verdict) {
  switch (verdict) {
    case QualityVerdict::control: return "control";
    case QualityVerdict::equal: return "equal";
    case QualityVerdict::differs: return "wrong";
    case QualityVerdict::worse: return "worse";
    case QualityVerdict::better: return "better";
    case QualityVerdict::indistinguishable: return "not distinguishable";
  }
  return "?";
}

bool ArmFinding::tested() const {
  return verdict == QualityVerdict::worse || verdict == QualityVerdict::better ||
         verdict == QualityVerdict::indistinguishable;
}

const ArmFinding& QualityFindings::control() const {
  return *std::find_if(arms.begin(), arms.end(),
                       [](const ArmFinding& arm) { return arm.is_control; });
}

QualityFindings find_quality(const QualityConfig& config, const std::vector<ArmScores>& scores) {
  QualityFindings findings;
  for (const ArmScores& arm : scores) {
    if (!arm.failed && !arm.documents.empty()) findings.arms.push_back(summarize(config, arm));
  }
  test_arms(findings);
  return findings;
}

QualityVerdict tested_verdict(const BootstrapInterval& change, double adjusted_p) {
  if (adjusted_p >= kSignificance || !change.excludes(0)) return QualityVerdict::indistinguishable;
  return change.estimate > 0 ? QualityVerdict::worse : QualityVerdict::better;
}

std::string quality_rule(const QualityFindings& findings) {
  return fmt::format(
      "The rule: an arm is worse or better where the interval of ΔNLL excludes zero and p, adjusted "
      "after Holm for {} comparisons of arms ({} by position), is below {}.",
      findings.comparisons, findings.by_position, kSignificance);
}

}  // namespace kvlab::experiments::quality_kind
