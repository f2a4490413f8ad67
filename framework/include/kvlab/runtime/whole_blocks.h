// Which blocks of a run compare its arms: those in which every arm ran and none stood still.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace kvlab {

struct WholeBlocks {
  std::vector<std::size_t> kept;  ///< ascending
  int suspended = 0;              ///< blocks left out because an arm stood still in them
};

/// Chooses blocks for arms that have not failed: `stood_still[arm][block]` says for each block that
/// the arm finished whether it stood still. Blocks that an interrupt kept from some arm are left out.
WholeBlocks whole_blocks(const std::vector<std::vector<bool>>& stood_still);

/// Keeps the samples of these blocks, one sample per block. Requires: `samples` has all of them.
template <typename Sample>
void keep_blocks(std::vector<Sample>& samples, const WholeBlocks& blocks) {
  std::vector<Sample> kept;
  kept.reserve(blocks.kept.size());
  for (const std::size_t block : blocks.kept) kept.push_back(std::move(samples[block]));
  samples = std::move(kept);
}

}  // namespace kvlab
