// The figure that arms are judged by, named in the config before anything is measured.
#pragma once

#include <optional>
#include <string>

#include "kvlab/runtime/config_reader.h"

namespace kvlab::experiments {

struct Sample;

enum class SpeedFigure {
  tokens_per_second,  ///< generated tokens of all rows over prefill and decode
  first_token,        ///< TTFT
  next_token          ///< TPOT: mean time of a token after the first
};

struct SpeedMetric {
  SpeedFigure figure = SpeedFigure::tokens_per_second;
  std::string text;  ///< what the figure is, in the words of all reports
};

/// The figure with its text.
SpeedMetric speed_metric(SpeedFigure figure);

/// Reads what `primary_metric:` says: tokens/s (also where it says nothing), TTFT or TPOT, in any
/// case; the latter two also with their unit, "[ms]" or "in ms". Throws UserError for another text.
SpeedMetric read_speed_metric(const ConfigReader& top, const std::optional<std::string>& given);

/// "tokens/s", "TTFT" or "TPOT".
const char* figure_name(SpeedFigure figure);

/// How fast a run was by this figure: more is better. A run of one token has no TPOT and gives 0.
double speed_of(SpeedFigure figure, const Sample& sample);

}  // namespace kvlab::experiments
