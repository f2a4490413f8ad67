#include "arm_session.h"

#include <algorithm>
#include <span>

#include "cache_fill.h"
#include "kvlab/core/error.h"

namespace kvlab::experiments::decode_speed_kind {

ArmSession::ArmSession(const Model& model, const Registry& registry, const SessionOptions& options,
                       const std::vector<std::vector<int32_t>>& texts)
    : texts_(texts), session_(model, registry, options), feeds_(texts.size()) {
  KVLAB_CHECK_EQ(static_cast<int64_t>(texts.size()), options.rows,
                 "[decode_speed.arm_session] texts");
}

void ArmSession::go_to(int64_t depth, const ArmSession* source) {
  if (session_.cache().traits().keeps_nothing) {
    depth_ = depth;
    return;
  }
  if (depth < depth_) go_back(depth);
  if (depth == depth_) return;
  if (source != nullptr && can_copy_entries(source->session(), session_, depth)) {
    copy_entries(source->session(), session_, texts_, depth_, depth);
    depth_ = depth;
  } else {
    feed(depth - depth_);
  }
}

void ArmSession::go_back(int64_t depth) {
  KVCache& cache = session_.cache();
  const Truncation truncation = cache.traits().truncation;
  if (depth > 0 && (truncation == Truncation::exact || truncation == Truncation::resident)) {
    try {
      bool there = true;
      for (size_t row = 0; row < texts_.size(); ++row) {
        there = cache.truncate(static_cast<int>(row), depth) == depth && there;
      }
      if (there) {
        depth_ = depth;
        return;
      }
    } catch (const UserError&) {
      // What it needs there is gone: begin again.
    }
  }
  for (size_t row = 0; row < texts_.size(); ++row) cache.reset(static_cast<int>(row));
  depth_ = 0;
}

void ArmSession::feed(int64_t count, const LogitsSink& sink) {
  const int64_t target = depth_ + count;
  const int64_t chunk = session_.chunk_for(target);
  while (depth_ < target) {
    const int64_t end = std::min(target, depth_ + chunk);
    run(end, target - end, Phase::prefill,
        end == target && sink ? WantedLogits::last : WantedLogits::none, sink);
  }
}

void ArmSession::step(const LogitsSink& sink) {
  run(depth_ + 1, 0, Phase::decode, WantedLogits::last, sink);
}

void ArmSession::run(int64_t end, int64_t prompt_left, Phase phase, WantedLogits wanted,
                     const LogitsSink& sink) {
  for (size_t row = 0; row < texts_.size(); ++row) {
    feeds_[row] = {static_cast<int>(row), texts_[row], end, prompt_left, phase, wanted};
  }
  session_.step(feeds_, sink);
  depth_ = end;
}

}  // namespace kvlab::experiments::decode_speed_kind
