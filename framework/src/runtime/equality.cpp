#include "kvlab/runtime/equality.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kvlab/core/error.h"
#include "kvlab/runtime/statistics.h"

namespace kvlab {

namespace {

double log_sum_exp(std::span<const float> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double total = 0;
  for (const float logit : logits) total += std::exp(logit - largest);
  return largest + std::log(total);
}

// KL(p || q) in nats, both given by logits.
double divergence(std::span<const float> p, std::span<const float> q) {
  const double p_norm = log_sum_exp(p), q_norm = log_sum_exp(q);
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    const double log_p = p[i] - p_norm;
    sum += std::exp(log_p) * (log_p - (q[i] - q_norm));
  }
  return std::max(sum, 0.0);
}

// Distance of the best logit to the second best.
double gap(std::span<const float> logits, int32_t best) {
  float second = -std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (static_cast<int32_t>(i) != best) second = std::max(second, logits[i]);
  }
  return static_cast<double>(logits[static_cast<size_t>(best)]) - second;
}

}  // namespace

std::span<const float> LogitRecord::at(size_t text, int64_t position) const {
  return std::span<const float>(rows[text]).subspan(static_cast<size_t>(position * vocabulary),
                                                    static_cast<size_t>(vocabulary));
}

LogitRecord record_logits(Session& session, const std::vector<std::vector<int32_t>>& texts) {
  LogitRecord record;
  record.texts = texts;
  record.vocabulary = session.model().config().vocabulary;
  for (const auto& text : texts) {
    record.rows.emplace_back(text.size() * static_cast<size_t>(record.vocabulary));
  }
  teacher_force(session, texts, [&](int row, int64_t position, std::span<const float> logits) {
    std::copy(logits.begin(), logits.end(),
              record.rows[static_cast<size_t>(row)].begin() + position * record.vocabulary);
  });
  return record;
}

void LogitDistance::add(std::span<const float> wanted, std::span<const float> found,
                        int64_t position, int32_t next) {
  for (size_t i = 0; i < wanted.size(); ++i) {
    sum_.largest_logit = std::max(sum_.largest_logit, std::abs(static_cast<double>(wanted[i])));
    const double difference = std::abs(static_cast<double>(found[i]) - wanted[i]);
    sum_.largest_difference = std::max(sum_.largest_difference, difference);
  }
  const int32_t best = argmax(wanted);
  distinct_.insert(best);
  if (argmax(found) != best) misses_.push_back({position, gap(wanted, best)});
  divergences_.push_back(divergence(wanted, found));
  if (next >= 0) {
    nll_change_ += negative_log_likelihood(found, next) - negative_log_likelihood(wanted, next);
    ++nll_tokens_;
  }
}

LogitComparison LogitDistance::result() const {
  KVLAB_INVARIANT(!divergences_.empty(), "[runtime.equality] nothing was compared");
  LogitComparison result = sum_;
  result.tokens = static_cast<int64_t>(divergences_.size());
  result.distinct_tokens = static_cast<int64_t>(distinct_.size());
  result.argmax_differs = static_cast<int64_t>(misses_.size());
  const double tie = 2 * kEqualityTolerance * result.largest_logit;
  for (const Miss& miss : misses_) {
    if (miss.gap < tie) {
      ++result.argmax_ties;
    } else if (result.first_difference < 0 || miss.position < result.first_difference) {
      result.first_difference = miss.position;
    }
  }
  result.mean_kl = mean(divergences_);
  if (const auto deviation = standard_deviation(divergences_)) {
    result.kl_half_width = student_t_quantile(0.975, static_cast<double>(result.tokens - 1)) *
                           *deviation / std::sqrt(static_cast<double>(result.tokens));
  }
  if (nll_tokens_ > 0) result.mean_nll_change = nll_change_ / static_cast<double>(nll_tokens_);
  return result;
}

LogitComparison compare_logits(const LogitRecord& control, Session& arm) {
  LogitDistance distance;
  teacher_force(arm, control.texts, [&](int row, int64_t position, std::span<const float> logits) {
    const auto text = static_cast<size_t>(row);
    const auto& tokens = control.texts[text];
    const auto next = static_cast<size_t>(position + 1);
    distance.add(control.at(text, position), logits, position,
                 next < tokens.size() ? tokens[next] : -1);
  });
  return distance.result();
}

double LogitComparison::relative_difference() const {
  return largest_logit > 0 ? largest_difference / largest_logit : largest_difference;
}

double LogitComparison::top1_agreement() const {
  return 1 - static_cast<double>(argmax_differs) / static_cast<double>(tokens);
}

std::string LogitComparison::describe() const {
  return fmt::format(
      "largest difference {:.2e} of the largest |logit| {:.3g}; best token differs at {} of {} "
      "positions ({} near-ties); KL {:.2e} nats/token",
      relative_difference(), largest_logit, argmax_differs, tokens, argmax_ties, mean_kl);
}

}  // namespace kvlab
