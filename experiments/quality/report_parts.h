// The parts of a quality report, each in a file of its own.
#pragma once

#include <string>
#include <vector>

#include "kvlab/runtime/report_document.h"
#include "quality_findings.h"

namespace kvlab::experiments::quality_kind {

inline constexpr double kMebibyte = 1024.0 * 1024.0;

/// "0.0123 (0.0101 to 0.0145)": plain decimals where they show something, powers of ten where they
/// would be zeros.
std::string interval_text(const BootstrapInterval& interval, bool with_sign);

/// Distance from the control and bytes held, a row per arm.
ReportTable main_table(const QualityConfig& config, const QualityFindings& findings);

/// ΔNLL by position, a row per arm and stretch of positions.
ReportTable position_table(const QualityConfig& config, const QualityFindings& findings);

ReportFigure position_figure(const QualityConfig& config, const QualityFindings& findings);

/// Memory against quality; nothing where fewer than two arms hold anything.
std::vector<ReportFigure> pareto_figure(const QualityFindings& findings);

/// A sentence for each arm beside the control, then the rule.
std::vector<std::string> conclude(const QualityConfig& config, const QualityFindings& findings);

}  // namespace kvlab::experiments::quality_kind
