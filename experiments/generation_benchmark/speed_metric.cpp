#include "speed_metric.h"

#include <algorithm>
#include <cctype>

#include "measurement.h"

namespace kvlab::experiments {

SpeedMetric speed_metric(const std::optional<std::string>& text) {
  if (!text) {
    return {SpeedFigure::tokens_per_second,
            "tokens/s, generated tokens of all rows over prefill and decode"};
  }
  std::string lower = *text;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (lower.starts_with("ttft")) return {SpeedFigure::first_token, *text};
  if (lower.starts_with("tpot")) return {SpeedFigure::next_token, *text};
  return {SpeedFigure::tokens_per_second, *text};
}

const char* figure_name(SpeedFigure figure) {
  switch (figure) {
    case SpeedFigure::tokens_per_second: return "tokens/s";
    case SpeedFigure::first_token: return "TTFT";
    case SpeedFigure::next_token: return "TPOT";
  }
  return "?";
}

double speed_of(SpeedFigure figure, const Sample& sample) {
  switch (figure) {
    case SpeedFigure::tokens_per_second: break;
    case SpeedFigure::first_token: return 1e9 / static_cast<double>(sample.result.ttft_ns);
    case SpeedFigure::next_token: {
      const auto gaps = static_cast<double>(sample.result.token_ns.size());
      return gaps > 0 ? gaps * 1e9 / static_cast<double>(sample.result.decode_ns()) : 0;
    }
  }
  return sample.tokens_per_second();
}

}  // namespace kvlab::experiments
