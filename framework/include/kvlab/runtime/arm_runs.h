// Running arms beside each other: in which order, and what becomes of one that throws.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kvlab/runtime/experiment_config.h"

namespace kvlab {

/// Which arm runs when: pairs of block and arm. Blocks hold every arm once, in an order drawn from
/// the seed and `stream` (another order for each case), or arm comes after arm where
/// `measure.interleave` is off.
std::vector<std::pair<int, size_t>> run_order(const MeasureConfig& measure, size_t arms,
                                              uint64_t stream);

/// Does the work of an arm. Returns why it failed where it throws; InterruptedError passes through.
std::optional<std::string> failure_of(const std::function<void()>& work);

/// How often this process lost a core to another one so far.
int64_t involuntary_switches();

}  // namespace kvlab
