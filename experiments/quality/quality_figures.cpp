#include <fmt/format.h>

#include "kvlab/runtime/figures.h"
#include "report_parts.h"

namespace kvlab::experiments::quality_kind {

ReportFigure position_figure(const QualityConfig& config, const QualityFindings& findings) {
  std::vector<LineSeries> series;
  for (const ArmFinding& result : findings.arms) {
    if (result.is_control) continue;
    LineSeries line;
    line.name = result.name();
    for (size_t i = 0; i < config.buckets.size(); ++i) {
      const BootstrapInterval& change = result.nll_change_by_bucket[i];
      const double middle =
          0.5 * static_cast<double>(config.buckets[i].begin + config.buckets[i].end - 1);
      line.points.push_back({middle, change.estimate, change.low, change.high});
    }
    series.push_back(std::move(line));
  }
  return line_chart(
      {"nll_by_position", "What an arm loses, by position in the document",
       fmt::format("ΔNLL, arm minus {}, at the middle of each stretch of positions; bars "
                   "are 95 % intervals over {} documents, not adjusted for their number.",
                   config.control, findings.arms.front().divergence.n)},
      {"Position [tokens]", true, 2}, {"ΔNLL [nats/token]"}, series,
      {{ReferenceRule::Axis::y, 0, "control"}});
}

std::vector<ReportFigure> pareto_figure(const QualityFindings& findings) {
  std::vector<ScatterPoint> points;
  for (const ArmFinding& result : findings.arms) {
    if (result.scores->keeps_nothing || result.verdict == QualityVerdict::differs) continue;
    // Rounding of exact arms is no loss.
    const bool lossless = result.is_control || result.verdict == QualityVerdict::equal;
    points.push_back({static_cast<double>(result.held.reserved()) / kMebibyte,
                      lossless ? 0 : result.divergence.estimate, result.name()});
  }
  if (points.size() < 2) return {};
  mark_dominated(points, BetterDirection::lower, BetterDirection::lower);
  FigureAxis bytes{"Reserved for K and V [MiB]"};
  bytes.from_zero = true;
  return {scatter_chart({"memory_quality", "Memory against quality",
                         "Bytes that the cache has allocated at the end of a document, and KL to "
                         "the control; control "
                         "and exact arms stand at zero. Grey arms are no better than another on "
                         "either axis. Arms that "
                         "keep nothing are left out: they pay with time."},
                        bytes, {"KL(control || arm) [nats/token]"}, points)};
}

}  // namespace kvlab::experiments::quality_kind
