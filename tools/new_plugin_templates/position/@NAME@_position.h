// @NAME@: how a model learns the order of its tokens, in a sentence or two. Name the paper where there
// is one.
#pragma once

#include <vector>

#include "kvlab/position/position_encoding.h"

namespace kvlab::plugins {

/// A penalty on distance, the same for every head. This is a whole encoding: it works before you
/// change anything. Others act on the embedding (`add_to_embedding`) or on q and k (`rotate`).
class @CLASS@Position final : public PositionEncoding {
 public:
  @CLASS@Position(double slope, const PositionShape& shape);

  const PositionTraits& traits() const override { return traits_; }
  std::span<const float> score_slopes() const override { return slopes_; }

 private:
  PositionTraits traits_;
  std::vector<float> slopes_;  // [H]
};

}  // namespace kvlab::plugins
