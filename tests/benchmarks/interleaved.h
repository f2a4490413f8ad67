// Times several arms in turns, so that a slow minute of the machine meets all of them.
#pragma once

#include <functional>
#include <span>
#include <vector>

namespace kvlab::benchmarks {

/// Does its work once and returns the seconds.
using Arm = std::function<double()>;

struct Blocks {
  std::vector<std::vector<double>> seconds;  ///< [arm][block]
  std::vector<size_t> kept;                  ///< which of the blocks run these are, counted from 0
  int disturbed = 0;  ///< of the blocks: the system took the processor away while they ran
};

/// Blocks of one turn of each arm, in an order that is drawn anew for each block. A turn is some
/// uncounted runs, then at least 5 and at least 15 ms of counted ones, and gives their median.
///
/// Up to three times as many blocks are run, until `blocks` of them were not disturbed; the least
/// disturbed ones are kept. `before_block` may be empty and is not counted.
Blocks run_interleaved(std::span<const Arm> arms, int blocks,
                       const std::function<void()>& before_block = {});

/// left[i] / right[i].
std::vector<double> ratios_of(std::span<const double> left, std::span<const double> right);

}  // namespace kvlab::benchmarks
