#include "speed_metric.h"

#include <algorithm>
#include <cctype>

#include "kvlab/core/error.h"
#include "measurement.h"

namespace kvlab::experiments {

namespace {

std::string in_lower_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

bool names(SpeedFigure figure, const std::string& given) {
  const std::string name = in_lower_case(figure_name(figure)), text = in_lower_case(given);
  if (text == name) return true;
  if (figure == SpeedFigure::tokens_per_second) return false;
  return text == name + " [ms]" || text == name + " in ms";
}

}  // namespace

SpeedMetric speed_metric(SpeedFigure figure) {
  switch (figure) {
    case SpeedFigure::tokens_per_second: break;
    case SpeedFigure::first_token:
      return {figure, "TTFT [ms], from the request to the first token of the last row"};
    case SpeedFigure::next_token:
      return {figure, "TPOT [ms], mean time of a token after the first"};
  }
  return {figure, "tokens/s, generated tokens of all rows over prefill and decode"};
}

SpeedMetric read_speed_metric(const ConfigReader& top, const std::optional<std::string>& given) {
  if (!given) return speed_metric(SpeedFigure::tokens_per_second);
  for (const SpeedFigure figure :
       {SpeedFigure::tokens_per_second, SpeedFigure::first_token, SpeedFigure::next_token}) {
    if (names(figure, *given)) return speed_metric(figure);
  }
  top.fail("primary_metric",
           detail::concat("'", *given, "' is not a choice. Known: tokens/s, TTFT, TPOT."));
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
