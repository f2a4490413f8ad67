// What a metric is in each block of a run, from its samples.
#pragma once

#include <cstdint>
#include <vector>

#include "kvlab/results/run_reader.h"

namespace kvlab {

struct BlockValues {
  std::vector<double> values = {};  ///< one per sample, in the metric's unit
  int64_t samples = 0;              ///< of the metric's arm and group
  int64_t contended = 0;            ///< those of them that other processes disturbed
};

/// Finds what the samples say about a metric. Blocks in which any arm stood still are left out for
/// all of them, as summaries do. A value of tpot is a sample's median gap between tokens, of ttft
/// its first token's time, of tokens_per_s its tokens over its whole time. There are no values
/// where the metric is another, where samples do not say which group they belong to, or where they
/// do not agree with the summary: then it means something else by that name.
BlockValues block_values(const StoredRun& run, const Metric& metric);

}  // namespace kvlab
