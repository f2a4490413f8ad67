#include "kvlab/runtime/whole_blocks.h"

#include <algorithm>

namespace kvlab {

WholeBlocks whole_blocks(const std::vector<std::vector<bool>>& stood_still) {
  WholeBlocks blocks;
  if (stood_still.empty()) return blocks;
  std::size_t finished = stood_still.front().size();
  for (const auto& arm : stood_still) finished = std::min(finished, arm.size());
  for (std::size_t block = 0; block < finished; ++block) {
    const bool still = std::any_of(stood_still.begin(), stood_still.end(),
                                   [&](const std::vector<bool>& arm) { return arm[block]; });
    if (still) {
      ++blocks.suspended;
    } else {
      blocks.kept.push_back(block);
    }
  }
  return blocks;
}

}  // namespace kvlab
