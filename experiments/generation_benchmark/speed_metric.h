// The figure that arms are judged by, named in the config before anything is measured.
#pragma once

#include <optional>
#include <string>

namespace kvlab::experiments {

struct Sample;

enum class SpeedFigure {
  tokens_per_second,  ///< generated tokens of all rows over prefill and decode
  first_token,        ///< TTFT
  next_token          ///< TPOT: mean time of a token after the first
};

struct SpeedMetric {
  SpeedFigure figure = SpeedFigure::tokens_per_second;
  std::string text;  ///< what the config says, or what the figure is
};

/// Reads `primary_metric:`: "TTFT ..." and "TPOT ..." (in any case) name those; every other text is
/// the report's own words for tokens/s.
SpeedMetric speed_metric(const std::optional<std::string>& text);

/// "tokens/s", "TTFT" or "TPOT".
const char* figure_name(SpeedFigure figure);

/// How fast a run was by this figure: more is better. A run of one token has no TPOT and gives 0.
double speed_of(SpeedFigure figure, const Sample& sample);

}  // namespace kvlab::experiments
