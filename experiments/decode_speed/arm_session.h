// A session whose rows are moved to any depth of their texts, and stepped from there.
#pragma once

#include <cstdint>
#include <vector>

#include "kvlab/runtime/session.h"

namespace kvlab::experiments::decode_speed_kind {

/// All rows stand at the same depth. The tokens are given in advance, so that every arm computes
/// the same.
class ArmSession {
 public:
  /// `texts` has one text per row, longer than any depth that is asked for. It and the model must
  /// outlive this. Throws what `Session` throws.
  ArmSession(const Model& model, const Registry& registry, const SessionOptions& options,
             const std::vector<std::vector<int32_t>>& texts);

  /// Tokens of each row that lie before the next step.
  int64_t depth() const { return depth_; }

  /// Makes the first `depth` tokens of every row the cached ones: by truncation where the cache can
  /// do that, else from the start; then by copying from `source` where that is possible (see
  /// cache_fill.h), else through the model. `source` may be null. A cache that keeps nothing has
  /// nothing to do.
  void go_to(int64_t depth, const ArmSession* source);

  /// Feeds the next `count` tokens of each row through the model, in chunks; logits of the last one
  /// go to `sink`.
  void feed(int64_t count, const LogitsSink& sink = {});

  /// One decode step: one token of each row.
  void step(const LogitsSink& sink = {});

  Session& session() { return session_; }
  const Session& session() const { return session_; }
  const std::vector<std::vector<int32_t>>& texts() const { return texts_; }

 private:
  void go_back(int64_t depth);
  void run(int64_t end, int64_t prompt_left, Phase phase, WantedLogits wanted,
           const LogitsSink& sink);

  const std::vector<std::vector<int32_t>>& texts_;
  Session session_;
  std::vector<RowFeed> feeds_;
  int64_t depth_ = 0;
};

}  // namespace kvlab::experiments::decode_speed_kind
