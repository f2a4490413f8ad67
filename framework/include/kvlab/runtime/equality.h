// The gate before any speed: does an arm give the control's logits?
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "kvlab/runtime/generator.h"
#include "kvlab/runtime/report_document.h"
#include "kvlab/runtime/session.h"

namespace kvlab {

/// Largest difference of fp32 logits, relative to the largest |logit|, at which an exact cache
/// still counts as equal to its control. Other step shapes let the library sum in another order:
/// 3e-6 was measured on SmolLM2 over 512 tokens; 1e-5 leaves room and is far below any real fault.
inline constexpr double kEqualityTolerance = 1e-5;

/// In bf16 rounding is amplified by the step's shape: a correct arm may be this many times as far
/// from the control as the control in bf16 is from itself in fp32 (mean KL).
inline constexpr double kBf16DivergenceFactor = 1.5;

/// Teacher-forced logits of one session over some texts.
struct LogitRecord {
  std::vector<std::vector<int32_t>> texts;
  int64_t vocabulary = 0;
  std::vector<std::vector<float>> rows;  ///< per text [tokens * V]

  std::span<const float> at(size_t text, int64_t position) const;
};

/// Runs `texts` (one per row) through a fresh or reset session and keeps all logits. Takes
/// 4 * V bytes per token.
LogitRecord record_logits(Session& session, const std::vector<std::vector<int32_t>>& texts);

/// How far an arm is from its control over the same texts.
struct LogitComparison {
  int64_t tokens = 0;
  double largest_logit = 0;       ///< largest |logit| of the control
  double largest_difference = 0;  ///< of any logit
  int64_t argmax_differs = 0;     ///< tokens whose best next token differs
  int64_t argmax_ties = 0;  ///< of which the control's two best are closer than twice the tolerance
  int64_t first_difference = -1;  ///< position of the first one that is no tie; -1 where none
  double mean_kl = 0;             ///< KL(control || arm), nats per token
  double kl_half_width = 0;       ///< of a t-interval (95 %) over tokens, as if independent
  double mean_nll_change = 0;     ///< arm minus control, nats per token
  int64_t distinct_tokens = 0;    ///< different best tokens in the compared text

  /// Largest difference over the largest |logit|.
  double relative_difference() const;
  double top1_agreement() const;

  /// Within the fp32 tolerance, with no differing best token except near-ties.
  bool equal() const { return relative_difference() <= kEqualityTolerance && first_difference < 0; }

  /// One line for a report.
  std::string describe() const;
};

/// Adds up how far logits are from the control's, token by token.
class LogitDistance {
 public:
  /// `wanted` are the control's logits at `position` of a text, `found` the arm's; `next` is the
  /// token that follows there, or -1 where the text ends.
  void add(std::span<const float> wanted, std::span<const float> found, int64_t position,
           int32_t next);

  /// Requires: at least one `add`.
  LogitComparison result() const;

 private:
  struct Miss {
    int64_t position = 0;
    double gap = 0;  ///< of the control's two best logits
  };
  LogitComparison sum_;
  std::vector<double> divergences_;
  std::vector<Miss> misses_;
  std::set<int32_t> distinct_;
  double nll_change_ = 0;
  int64_t nll_tokens_ = 0;
};

/// Runs the record's texts through `arm` (fresh or reset) and compares on the way.
LogitComparison compare_logits(const LogitRecord& control, Session& arm);

}  // namespace kvlab
