// No position information besides the causal mask.
#pragma once

#include "kvlab/position/position_encoding.h"

namespace kvlab::plugins {

class NonePosition final : public PositionEncoding {
 public:
  NonePosition();
  const PositionTraits& traits() const override { return traits_; }

 private:
  PositionTraits traits_;
};

}  // namespace kvlab::plugins
