// A trained vector per position, added to the embedding (GPT-2). The table ends: past it is an error.
#pragma once

#include "kvlab/position/position_encoding.h"

namespace kvlab::plugins {

class LearnedPosition final : public PositionEncoding {
 public:
  /// Requires: `shape.table` [context, d]. Throws UserError without it.
  explicit LearnedPosition(const PositionShape& shape);
  const PositionTraits& traits() const override { return traits_; }
  void add_to_embedding(at::Tensor& embedding, const at::Tensor& positions) const override;

 private:
  PositionTraits traits_;
  at::Tensor table_;
};

/// Traits of a table of `context` vectors, without the table.
PositionTraits learned_traits(int64_t context);

}  // namespace kvlab::plugins
