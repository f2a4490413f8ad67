#include "kvlab/runtime/time_left.h"

#include <algorithm>
#include <iomanip>
#include <sstream>

namespace kvlab {

std::string time_left(double passed_seconds, int64_t done, int64_t total) {
  if (done <= 0 || done >= total) return "";
  const double seconds =
      passed_seconds / static_cast<double>(done) * static_cast<double>(total - done);
  constexpr double kMinute = 60, kHour = 3600;
  std::ostringstream text;
  text << std::fixed << std::setprecision(0) << ", ";
  if (seconds >= kHour) {
    text << std::setprecision(1) << seconds / kHour << " h left";
  } else if (seconds >= 2 * kMinute) {
    text << seconds / kMinute << " min left";
  } else {
    text << std::max(1.0, seconds) << " s left";
  }
  return text.str();
}

}  // namespace kvlab
