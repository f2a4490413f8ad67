// What the arms of a case hold, beside what they cost in time.
#pragma once

#include <optional>
#include <string>

#include "kvlab/runtime/report_document.h"
#include "speed_measurement.h"

namespace kvlab::experiments::decode_speed_kind {

/// Payload, reserved and peak bytes and the share of metadata of every arm that was profiled, by
/// depth. `id` is the table's file name. Empty where no arm was.
std::optional<ReportTable> memory_table(const SpeedConfig& config, const CaseResult& one,
                                        const std::string& id);

/// Of the reserved bytes, in percent; 0 where none are reserved.
double metadata_share(const MemoryUsage& usage);

/// What the arm reserves against the control: "it holds 31 % fewer bytes". Empty where nothing was
/// counted.
std::string held_text(const SpeedConfig& config, const DepthResult& at, size_t arm);

/// Whether the arm reserves fewer bytes than the control, by more than a sentence rounds away.
bool holds_less(const SpeedConfig& config, const DepthResult& at, size_t arm);

}  // namespace kvlab::experiments::decode_speed_kind
