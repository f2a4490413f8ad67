// One document through one arm: how far its logits are from the control's, token by token.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "kvlab/runtime/equality.h"
#include "quality_config.h"

namespace kvlab::experiments::quality_kind {

/// Sums over some tokens. Natural logarithms.
struct TokenSums {
  int64_t tokens = 0;
  int64_t agreed = 0;     ///< best next token is the control's
  double divergence = 0;  ///< KL(control || arm)
  double nll = 0;         ///< of the token that follows, in the arm
  double control_nll = 0;

  void add(const TokenSums& other);
};

/// Bytes that the cache holds once the document is in it.
struct HeldBytes {
  int64_t payload = 0;                          ///< live K and V codes
  int64_t scales = 0;                           ///< live scales of codes
  int64_t numbers = 0;                          ///< live numbers of K and V
  int64_t storage = 0, metadata = 0, peak = 0;  ///< of the arena

  int64_t reserved() const { return storage + metadata; }
  /// Bits for one live number, its share of a scale included; 0 where nothing is held.
  double bits_per_number() const;
};

struct DocumentScore {
  std::vector<TokenSums> buckets;             ///< as the config's
  std::optional<LogitComparison> comparison;  ///< for arms that the equality gate judges
  HeldBytes held;

  TokenSums total() const;
};

/// The control's logits of a document, and what is derived from them for every arm.
class ControlDocument {
 public:
  /// Runs the document through `control`, which is reset first.
  ControlDocument(Session& control, const Document& document);

  const std::vector<int32_t>& tokens() const { return record_.texts.front(); }
  std::span<const float> logits(int64_t position) const { return record_.at(0, position); }
  double log_normalizer(int64_t position) const;
  int32_t best(int64_t position) const;

 private:
  LogitRecord record_;
  std::vector<double> log_normalizers_;
  std::vector<int32_t> best_;
};

/// Runs the document through `arm`, which is reset first, and compares. Every position with a next
/// token counts; `gate` also fills the comparison. Throws what the arm throws.
DocumentScore score_document(const ControlDocument& control, Session& arm,
                             const std::vector<PositionBucket>& buckets, bool gate);

}  // namespace kvlab::experiments::quality_kind
