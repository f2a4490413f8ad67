#include <fmt/format.h>

#include "kvlab/runtime/figures.h"
#include "kvlab/runtime/statistics.h"
#include "report_parts.h"

namespace kvlab::experiments::shared_prompt_kind {

ReportSection figures(const Findings& f) {
  const SharedPromptConfig& config = f.config();
  std::vector<Bar> peaks, firsts;
  std::vector<ScatterPoint> points;
  for (const Variant* variant : f.variants()) {
    if (f.is_second_control(variant->arm)) continue;
    const GenerateResult& last = variant->runs[f.blocks() - 1].result;
    const double peak = static_cast<double>(last.cache.peak_total) / kMebibyte;
    const std::string mode = mode_name(variant->mode);
    peaks.push_back({f.name(*variant), peak, {}, {}, mode});
    if (!f.passed(variant->arm)) continue;
    const std::vector<double> times = f.values(*variant, first_ms);
    firsts.push_back(
        {f.name(*variant), median(times), quantile(times, 0.25), quantile(times, 0.75), mode});
    if (f.arm(*variant).traits.keeps_nothing) continue;
    const double speed =
        f.middle(*variant, [](const Sample& sample) { return sample.tokens_per_second(); });
    points.push_back({peak, speed, f.name(*variant) + ", " + mode});
  }
  std::vector<ReportFigure> figures;
  figures.push_back(
      bar_chart({"peak_bytes", "Highest bytes of the cache",
                 fmt::format("{} rows with a prompt of {} tokens and {} new tokens each.",
                             config.continuations, config.prompt_tokens(), config.new_tokens)},
                {"Peak of the cache [MiB]"}, peaks));
  if (!firsts.empty()) {
    figures.push_back(bar_chart(
        {"first_tokens", "Time until every row has its first token",
         fmt::format("Medians of {} blocks; bars from the first to the third quartile.",
                     f.blocks())},
        {"First token of all rows [ms]"}, firsts));
  }
  if (points.size() > 1) {
    mark_dominated(points, BetterDirection::lower, BetterDirection::higher);
    FigureAxis bytes{"Peak of the cache [MiB]"};
    bytes.from_zero = true;
    figures.push_back(scatter_chart({"memory_speed", "Memory against speed",
                                     "Medians; grey variants are no better than another on either "
                                     "axis. Arms that keep nothing are left out."},
                                    bytes, {"Generated, end to end [tokens/s]"}, points));
  }
  return {"Figures", {}, {}, std::move(figures)};
}

}  // namespace kvlab::experiments::shared_prompt_kind
