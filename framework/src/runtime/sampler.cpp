#include "kvlab/runtime/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "kvlab/core/error.h"

namespace kvlab {

namespace {

// Spreads seed and row over the state, so that neighbouring rows are unrelated.
std::mt19937_64 row_stream(uint64_t seed, int64_t row) {
  const auto index = static_cast<uint64_t>(row);
  std::seed_seq sequence{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32),
                         static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32)};
  return std::mt19937_64(sequence);
}

// In [0,1), the same on every standard library.
double uniform(std::mt19937_64& stream) {
  return static_cast<double>(stream() >> 11) * 0x1.0p-53;
}

}  // namespace

Sampler::Sampler(const SamplerConfig& config, int64_t rows) : config_(config) {
  for (int64_t row = 0; row < rows; ++row) streams_.push_back(row_stream(config.seed, row));
}

int32_t argmax(std::span<const float> logits) {
  KVLAB_CHECK(!logits.empty(), "[runtime.sampler] there are no logits");
  // Several maxima side by side, so that the loop is not one long chain of comparisons.
  constexpr size_t kLanes = 16;
  std::array<float, kLanes> best;
  best.fill(logits.front());
  size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      best[lane] = logits[i + lane] > best[lane] ? logits[i + lane] : best[lane];
    }
  }
  float largest = *std::max_element(best.begin(), best.end());
  for (; i < logits.size(); ++i) largest = std::max(largest, logits[i]);
  const auto found = std::find(logits.begin(), logits.end(), largest);
  return found == logits.end() ? 0
                               : static_cast<int32_t>(found - logits.begin());  // 0: all are NaN
}

int32_t Sampler::next(int row, std::span<const float> logits) {
  if (config_.type == SamplerType::greedy) return argmax(logits);
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto better = [&](int32_t a, int32_t b) {
    const float left = logits[static_cast<size_t>(a)], right = logits[static_cast<size_t>(b)];
    return left != right ? left > right : a < b;
  };
  size_t kept = order.size();
  if (config_.top_k > 0) kept = std::min(kept, static_cast<size_t>(config_.top_k));
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(),
                    better);
  const double largest = logits[static_cast<size_t>(order.front())];
  std::vector<double> weights(kept);
  double total = 0;
  for (size_t i = 0; i < kept; ++i) {
    const double logit = logits[static_cast<size_t>(order[i])];
    weights[i] = std::exp((logit - largest) / config_.temperature);
    total += weights[i];
  }
  // The smallest set of best tokens whose probability reaches top_p; always at least one.
  if (config_.top_p < 1) {
    double reached = 0;
    size_t nucleus = 0;
    while (nucleus < kept && reached < config_.top_p * total) reached += weights[nucleus++];
    kept = std::max<size_t>(nucleus, 1);
    total = reached;
  }
  double left = uniform(streams_[static_cast<size_t>(row)]) * total;
  for (size_t i = 0; i + 1 < kept; ++i) {
    left -= weights[i];
    if (left < 0) return order[i];
  }
  return order[kept - 1];
}

}  // namespace kvlab
