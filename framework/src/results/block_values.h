// What a metric is in each block of a run, from its samples.
#pragma once

#include <optional>
#include <vector>

#include "kvlab/results/run_reader.h"

namespace kvlab {

/// One value per sample of the metric's arm and group, in the metric's unit: tpot is a sample's
/// median gap between tokens, ttft its first token's time, tokens_per_s its tokens over its whole
/// time. Empty where the metric is another, where samples do not say which group they belong to, or
/// where they do not agree with the summary: then it means something else by that name.
std::vector<double> block_values(const StoredRun& run, const Metric& metric);

}  // namespace kvlab
