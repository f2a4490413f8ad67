// Choosing the next token from logits.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "kvlab/runtime/experiment_config.h"

namespace kvlab {

/// Greedy, or temperature, then top-k, then top-p (Holtzman et al., 2019, arXiv:1904.09751). Every
/// row has a random stream of its own, seeded from the config's seed and the row, so that a row's
/// text does not depend on its neighbours. The result is the same on every machine.
class Sampler {
 public:
  Sampler(const SamplerConfig& config, int64_t rows);

  /// Next token of `row`. Requires: finite logits. Ties go to the lower token.
  int32_t next(int row, std::span<const float> logits);

 private:
  SamplerConfig config_;
  std::vector<std::mt19937_64> streams_;
};

/// Index of the largest logit, the first among equals.
int32_t argmax(std::span<const float> logits);

}  // namespace kvlab
