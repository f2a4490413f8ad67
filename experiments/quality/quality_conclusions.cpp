// What a quality run says in sentences.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kvlab/runtime/comparison_text.h"
#include "report_parts.h"

namespace kvlab::experiments::quality_kind {

namespace {

std::string bytes_sentence(const ArmFinding& result, const ArmFinding& control) {
  if (result.scores->keeps_nothing) return "it holds nothing";
  if (control.held.reserved() == 0) {
    return fmt::format("it holds {:.2f} MiB",
                       static_cast<double>(result.held.reserved()) / kMebibyte);
  }
  return held_bytes_text(result.held.reserved(), control.held.reserved());
}

// Where the loss lies, as far as single stretches can be told from zero.
std::string position_sentence(const QualityConfig& config, const ArmFinding& result) {
  std::string worse;
  size_t shown = 0;
  for (size_t i = 0; i < config.buckets.size(); ++i) {
    const BootstrapInterval& change = result.nll_change_by_bucket[i];
    if (tested_verdict(change, result.bucket_p[i]) != QualityVerdict::worse) continue;
    worse += fmt::format("{}{} ({:+.4f})", shown == 0 ? "" : ", ", config.buckets[i].name(),
                         change.estimate);
    ++shown;
  }
  if (shown == 0) return " At no stretch of positions alone can a loss be told from none.";
  if (shown == config.buckets.size())
    return " It is worse at every stretch of positions: " + worse + ".";
  return " It is worse at positions " + worse + "; elsewhere no loss can be told from none.";
}

std::string conclusion(const QualityConfig& config, const ArmFinding& result,
                       const ArmFinding& control) {
  const std::string& name = result.name();
  const std::string bytes = bytes_sentence(result, control);
  if (result.verdict == QualityVerdict::differs) {
    return fmt::format("{} should give the answer of {} and does not: no figure of it counts.",
                       name, config.control);
  }
  if (result.verdict == QualityVerdict::equal) {
    return fmt::format("{} gives the answer of {} within rounding; {}.", name, config.control,
                       bytes);
  }
  const BootstrapInterval& change = result.nll_change;
  const std::string numbers =
      fmt::format("ΔNLL {} nats/token, perplexity x{:.4f}, KL {}", interval_text(change, true),
                  std::exp(change.estimate), interval_text(result.divergence, false));
  switch (result.verdict) {
    case QualityVerdict::worse:
      return fmt::format("{} is worse than {}: {} (adjusted p = {:.4f}); {}.{}", name,
                         config.control, numbers, result.p, bytes,
                         position_sentence(config, result));
    case QualityVerdict::better:
      return fmt::format(
          "{} predicts this text better than {}: {} (adjusted p = {:.4f}); {}. It is "
          "still another distribution than the control's.",
          name, config.control, numbers, result.p, bytes);
    default:
      return fmt::format(
          "{} is not distinguishable from {} in what it predicts: {} (adjusted p = "
          "{:.4f}); {}.",
          name, config.control, numbers, result.p, bytes);
  }
}

}  // namespace

std::vector<std::string> conclude(const QualityConfig& config, const QualityFindings& findings) {
  std::vector<std::string> sentences;
  for (const ArmFinding& arm : findings.arms) {
    if (!arm.is_control) sentences.push_back(conclusion(config, arm, findings.control()));
  }
  if (findings.comparisons > 0) sentences.push_back(quality_rule(findings));
  const bool ungated =
      std::any_of(findings.arms.begin(), findings.arms.end(), [](const ArmFinding& arm) {
        return arm.scores->exact && !arm.scores->gated && !arm.is_control;
      });
  if (ungated) {
    sentences.push_back(
        "Exact caches whose numbers, or the control's, are not fp32 are not judged by the equality "
        "gate here but shown with their distance, which is the rounding's; `equivalence` gates "
        "them.");
  }
  return sentences;
}

}  // namespace kvlab::experiments::quality_kind
