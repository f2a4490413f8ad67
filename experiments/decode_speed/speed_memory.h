// What the arms of a case hold, beside what they cost in time.
#pragma once

#include <optional>
#include <string>

#include "kvlab/runtime/report_document.h"
#include "speed_measurement.h"

namespace kvlab::experiments::decode_speed_kind {

/// Payload, reserved and peak bytes and the share of metadata of every arm that was profiled, by depth.
/// `id` is the table's file name. Empty where no arm was.
std::optional<ReportTable> memory_table(const SpeedConfig& config, const CaseResult& one,
                                        const std::string& id);

/// What each arm reserves against the control at one depth: "paged64 reserves 31 % fewer bytes than
/// preallocated". Empty where there is nothing to compare.
std::string memory_sentence(const SpeedConfig& config, const DepthResult& at);

}  // namespace kvlab::experiments::decode_speed_kind
