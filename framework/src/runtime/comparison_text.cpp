#include "kvlab/runtime/comparison_text.h"

#include <fmt/format.h>

#include <cmath>

#include "kvlab/runtime/contention.h"

namespace kvlab {

namespace {

constexpr double kMillion = 1e6;

}  // namespace

std::string interval_text(const RatioInterval& ratio) {
  if (!ratio.low) return "(one block)";
  if (is_too_wide(ratio)) return fmt::format("[interval too wide (n={})]", ratio.n);
  // Few blocks give ends far from 1: "0.00" would say that one is zero.
  const auto end = [](double value) {
    return value < 0.1    ? fmt::format("{:.2g}", value)
           : value < 1000 ? fmt::format("{:.2f}", value)
                          : fmt::format("{:.0f}", value);
  };
  return fmt::format("[{}, {}]", end(*ratio.low), end(*ratio.high));
}

std::string comparison_text(const std::string& arm, const std::string& control,
                            const Comparison& found, const std::string& by) {
  std::string text = fmt::format("{} is {:.2f}x {} of {}", arm, found.ratio.ratio,
                                 interval_text(found.ratio), control);
  if (!by.empty()) text += " by " + by;
  text += fmt::format(": {}", verdict_name(found.verdict));
  if (found.verdict == Verdict::refused || found.ratio.excludes()) {
    text += fmt::format(" ({})", found.reason);
  }
  return text;
}

std::string held_bytes_text(std::int64_t held, std::int64_t control) {
  const auto mine = static_cast<double>(held), reference = static_cast<double>(control);
  if (held == control) return "it holds as many bytes";
  if (control == 0) return fmt::format("it holds {:.3g} MB, the control nothing", mine / kMillion);
  if (held == 0) return "it holds nothing";
  if (mine > 2 * reference) return fmt::format("it holds {:.1f} times the bytes", mine / reference);
  const double change = 100 * std::abs(mine / reference - 1);
  return fmt::format("it holds {:.{}f} % {} bytes", change, change < 1 ? 2 : 0,
                     held < control ? "fewer" : "more");
}

std::string noise_text(const std::string& control, const RatioInterval& noise,
                       const std::string& by) {
  std::string text =
      fmt::format("Noise: {} measured a second time is {:.2f}x {} of itself{}", control, noise.ratio,
                  interval_text(noise), by.empty() ? "" : " by " + by);
  if (noise.low) {
    const double reach = noise_reach(noise);
    text += fmt::format("; a ratio from {:.2f} to {:.2f} is no difference", 1 / reach, reach);
  }
  return text + ".";
}

ReportCell verdict_cell(Verdict verdict) {
  return text_cell(verdict_name(verdict),
                   verdict == Verdict::refused ? CellEmphasis::warning : CellEmphasis::normal);
}

ReportSection without_significance(const std::vector<NamedComparison>& comparisons) {
  ReportSection section;
  section.title = "Differences that are not significant";
  for (const auto& [what, found] : comparisons) {
    if (found.verdict == Verdict::faster || found.verdict == Verdict::slower) continue;
    section.paragraphs.push_back(fmt::format("{}: {:.3f}x {}, {}: {}.", what, found.ratio.ratio,
                                             interval_text(found.ratio),
                                             verdict_name(found.verdict), found.reason));
  }
  if (!comparisons.empty() && section.paragraphs.empty()) {
    section.paragraphs.push_back("None: every arm was told apart from the control.");
  }
  section.paragraphs.push_back(
      fmt::format("{} comparison(s) were made. {}", comparisons.size(), verdict_rule()));
  section.paragraphs.push_back(contention_rule());
  return section;
}

}  // namespace kvlab
