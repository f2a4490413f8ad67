#include "document_score.h"

#include <algorithm>
#include <cmath>

#include "kvlab/runtime/generator.h"
#include "kvlab/runtime/sampler.h"

namespace kvlab::experiments::quality_kind {

namespace {

double log_sum_exp(std::span<const float> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double total = 0;
  for (const float logit : logits) total += std::exp(logit - largest);
  return largest + std::log(total);
}

HeldBytes held_bytes(const Session& session) {
  HeldBytes held;
  held.payload = session.payload();
  const MemoryUsage usage = session.cache_usage();
  held.storage = usage.live_bytes(MemoryKind::storage);
  held.metadata = usage.live_bytes(MemoryKind::metadata);
  held.peak = usage.peak_total;
  KVView view;
  for (int64_t layer = 0; layer < session.shape().layers; ++layer) {
    session.cache().inspect(static_cast<int>(layer), 0, view);
    for (const KVSegment& segment : view.segments(0)) {
      const int64_t entries = segment.count * (segment.head_end - segment.head_begin);
      held.numbers += entries * (view.key_dim() + view.value_dim());
      for (const KVPlane& plane : {segment.keys, segment.values}) {
        if (plane.scales != nullptr) held.scales += entries * static_cast<int64_t>(sizeof(float));
      }
    }
  }
  return held;
}

}  // namespace

void TokenSums::add(const TokenSums& other) {
  tokens += other.tokens;
  agreed += other.agreed;
  divergence += other.divergence;
  nll += other.nll;
  control_nll += other.control_nll;
}

double HeldBytes::bits_per_number() const {
  if (numbers == 0) return 0;
  return 8.0 * static_cast<double>(payload + scales) / static_cast<double>(numbers);
}

TokenSums DocumentScore::total() const {
  TokenSums sum;
  for (const TokenSums& bucket : buckets) sum.add(bucket);
  return sum;
}

ControlDocument::ControlDocument(Session& control, const Document& document) {
  control.reset();
  record_ = record_logits(control, {document.tokens});
  for (size_t i = 0; i < document.tokens.size(); ++i) {
    const auto row = logits(static_cast<int64_t>(i));
    log_normalizers_.push_back(log_sum_exp(row));
    best_.push_back(argmax(row));
  }
}

double ControlDocument::log_normalizer(int64_t position) const {
  return log_normalizers_[static_cast<size_t>(position)];
}

int32_t ControlDocument::best(int64_t position) const {
  return best_[static_cast<size_t>(position)];
}

DocumentScore score_document(const ControlDocument& control, Session& arm,
                             const std::vector<PositionBucket>& buckets, bool gate) {
  arm.reset();
  DocumentScore score;
  score.buckets.resize(buckets.size());
  LogitDistance distance;
  size_t bucket = 0;
  teacher_force(arm, {control.tokens()}, [&](int, int64_t position, std::span<const float> found) {
    const auto next = static_cast<size_t>(position + 1);
    const auto wanted = control.logits(position);
    const bool last = next == control.tokens().size();
    if (gate) distance.add(wanted, found, position, last ? -1 : control.tokens()[next]);
    if (last) return;
    // One row in order: positions only ascend.
    while (position >= buckets[bucket].end) ++bucket;
    const double norm = control.log_normalizer(position), found_norm = log_sum_exp(found);
    double divergence = 0;
    for (size_t i = 0; i < wanted.size(); ++i) {
      const double log_p = wanted[i] - norm;
      divergence += std::exp(log_p) * (log_p - (found[i] - found_norm));
    }
    const auto token = static_cast<size_t>(control.tokens()[next]);
    TokenSums& sums = score.buckets[bucket];
    ++sums.tokens;
    sums.agreed += argmax(found) == control.best(position) ? 1 : 0;
    sums.divergence += std::max(divergence, 0.0);  // below zero only by rounding
    sums.nll += found_norm - found[token];
    sums.control_nll += norm - wanted[token];
  });
  if (gate) score.comparison = distance.result();
  score.held = held_bytes(arm);
  return score;
}

}  // namespace kvlab::experiments::quality_kind
