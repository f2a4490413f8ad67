#include "kvlab/cache/cache_shape.h"

#include <algorithm>

#include "kvlab/core/error.h"

namespace kvlab {

const char* truncation_name(Truncation truncation) {
  switch (truncation) {
    case Truncation::refused: return "refused";
    case Truncation::resident: return "resident";
    case Truncation::approximate: return "approximate";
    case Truncation::exact: return "exact";
  }
  return "?";
}

void CacheShape::validate() const {
  KVLAB_CHECK_GE(layers, 1, "[cache.shape] layers");
  KVLAB_CHECK_GE(rows, 1, "[cache.shape] rows");
  KVLAB_CHECK_GE(kv_heads, 1, "[cache.shape] kv_heads");
  KVLAB_CHECK_GE(query_heads, 1, "[cache.shape] query_heads");
  KVLAB_CHECK(query_heads % kv_heads == 0, "[cache.shape] kv_heads must divide query_heads: ",
              kv_heads, " and ", query_heads);
  KVLAB_CHECK_GE(key_dim, 1, "[cache.shape] key_dim");
  KVLAB_CHECK_GE(value_dim, 1, "[cache.shape] value_dim");
  KVLAB_CHECK_GE(max_length, 1, "[cache.shape] max_length");
  KVLAB_CHECK_GE(max_step_tokens, 1, "[cache.shape] max_step_tokens");
  KVLAB_CHECK_GE(window, 0, "[cache.shape] window");
  KVLAB_CHECK(dtype == at::kFloat || dtype == at::kBFloat16,
              "[cache.shape] dtype must be f32 or bf16, got ", c10::toString(dtype));
}

StepSequence StepSequence::prefill_then_decode(const std::vector<int64_t>& prompt_lengths,
                                               int64_t new_tokens, int64_t chunk) {
  StepSequence sequence;
  const int64_t longest =
      prompt_lengths.empty() ? 0 : *std::max_element(prompt_lengths.begin(), prompt_lengths.end());
  const int64_t size = chunk > 0 ? chunk : std::max<int64_t>(longest, 1);
  for (int64_t begin = 0; begin < longest; begin += size) {
    std::vector<Item> step;
    for (size_t row = 0; row < prompt_lengths.size(); ++row) {
      if (begin < prompt_lengths[row]) {
        step.push_back({static_cast<int>(row), std::min(prompt_lengths[row], begin + size)});
      }
    }
    sequence.steps.push_back(std::move(step));
  }
  for (int64_t i = 1; i < new_tokens; ++i) {
    std::vector<Item> step;
    for (size_t row = 0; row < prompt_lengths.size(); ++row) {
      step.push_back({static_cast<int>(row), prompt_lengths[row] + i});
    }
    sequence.steps.push_back(std::move(step));
  }
  return sequence;
}

}  // namespace kvlab
