#include "alibi_position.h"

#include <bit>
#include <cmath>

namespace kvlab::plugins {

namespace {

std::vector<float> power_of_two_slopes(int64_t heads) {
  std::vector<float> slopes;
  for (int64_t head = 1; head <= heads; ++head) {
    slopes.push_back(static_cast<float>(
        std::exp2(-8.0 * static_cast<double>(head) / static_cast<double>(heads))));
  }
  return slopes;
}

}  // namespace

std::vector<float> alibi_slopes(int64_t heads) {
  const auto below = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(heads)));
  std::vector<float> slopes = power_of_two_slopes(below);
  const std::vector<float> between = power_of_two_slopes(2 * below);
  for (size_t i = 0; static_cast<int64_t>(slopes.size()) < heads; i += 2) {
    slopes.push_back(between[i]);
  }
  return slopes;
}

AlibiPosition::AlibiPosition(const PositionShape& shape)
    : PositionEncoding("alibi"), slopes_(alibi_slopes(shape.n_heads)) {
  traits_.biases_scores = true;
  traits_.can_rebase = true;
}

}  // namespace kvlab::plugins
