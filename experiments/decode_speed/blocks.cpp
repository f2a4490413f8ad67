// Which blocks of a depth can be compared.
#include <algorithm>

#include "speed_measurement.h"

namespace kvlab::experiments::decode_speed_kind {

void keep_whole_blocks(DepthResult& found, const std::vector<bool>& timed) {
  size_t whole = found.bytes_per_second.size();
  for (size_t arm = 0; arm < found.arms.size(); ++arm) {
    if (timed[arm]) whole = std::min(whole, found.arms[arm].runs.size());
  }
  found.bytes_per_second.resize(whole);
  for (size_t arm = 0; arm < found.arms.size(); ++arm) {
    std::vector<RunSample>& samples = found.arms[arm].runs;
    samples.resize(timed[arm] ? whole : 0);
  }
}

void drop_suspended_blocks(DepthResult& found) {
  for (size_t block = found.bytes_per_second.size(); block-- > 0;) {
    const bool suspended =
        std::any_of(found.arms.begin(), found.arms.end(), [&](const ArmAtDepth& arm) {
          return block < arm.runs.size() && arm.runs[block].contention.suspended;
        });
    if (!suspended) continue;
    ++found.suspended_blocks;
    const auto place = static_cast<long>(block);
    found.bytes_per_second.erase(found.bytes_per_second.begin() + place);
    for (ArmAtDepth& arm : found.arms) {
      if (block < arm.runs.size()) arm.runs.erase(arm.runs.begin() + place);
    }
  }
}

}  // namespace kvlab::experiments::decode_speed_kind
