#include "bandwidth.h"

#include <nlohmann/json.hpp>

#include "kvlab/core/byte_size.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/session.h"

namespace kvlab::experiments {

namespace {

std::string reason_for_none(int64_t weight_bytes) {
  if (weight_bytes < kSmallestStreamedWeights) {
    return detail::concat("a step reads ", format_byte_size(weight_bytes),
                          " of weights, which stay in the CPU's caches: memory is no floor for it");
  }
  if (const int64_t available = available_memory(); available < 4 * kProbeBytes) {
    return detail::concat("measuring the bandwidth reads ", format_byte_size(kProbeBytes),
                          ", which the arms may need: ", format_byte_size(available),
                          " are available");
  }
  return "";
}

}  // namespace

RunBandwidth::RunBandwidth(int threads, int64_t weight_bytes)
    : threads_(threads), why_none_(reason_for_none(weight_bytes)) {
  if (!why_none_.empty()) return;
  try {
    probe_ = std::make_unique<kernels::ReadProbe>(kProbeBytes);
  } catch (const CapacityError& error) {
    why_none_ = error.what();
  }
}

void RunBandwidth::begin_case(const Case& one) {
  case_ = &one;
  block_ = 0;
  blocks_.reset();
  if (probe_ != nullptr) blocks_.emplace([this] { return probe_->measure(threads_); });
}

double RunBandwidth::end_block() {
  if (!blocks_) return 0;
  const kernels::ReadSpeed speed = blocks_->end_block();
  lines_ += nlohmann::ordered_json{{"prompt_len", case_->prompt_length},
                                   {"batch", case_->batch},
                                   {"rep", block_++},
                                   {"threads", threads_.threads()},
                                   {"bytes_per_second", speed.bytes_per_second},
                                   {"loop", speed.loop}}
                .dump() +
            "\n";
  return speed.bytes_per_second;
}

}  // namespace kvlab::experiments
