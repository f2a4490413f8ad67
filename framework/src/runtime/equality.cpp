#include "kvlab/runtime/equality.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

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

LogitComparison compare_logits(const LogitRecord& control, Session& arm) {
  LogitComparison result;
  for (const auto& row : control.rows) {
    for (const float logit : row) {
      result.largest_logit = std::max(result.largest_logit, std::abs(static_cast<double>(logit)));
    }
  }
  const double tie = 2 * kEqualityTolerance * result.largest_logit;
  std::vector<double> divergences;
  std::set<int32_t> distinct;
  double nll_change = 0;
  int64_t nll_tokens = 0;
  teacher_force(arm, control.texts, [&](int row, int64_t position, std::span<const float> logits) {
    const auto text = static_cast<size_t>(row);
    const std::span<const float> wanted = control.at(text, position);
    for (size_t i = 0; i < logits.size(); ++i) {
      const double difference = std::abs(static_cast<double>(logits[i]) - wanted[i]);
      result.largest_difference = std::max(result.largest_difference, difference);
    }
    const int32_t best = argmax(wanted);
    distinct.insert(best);
    if (argmax(logits) != best) {
      ++result.argmax_differs;
      if (gap(wanted, best) < tie) {
        ++result.argmax_ties;
      } else if (result.first_difference < 0 || position < result.first_difference) {
        result.first_difference = position;
      }
    }
    divergences.push_back(divergence(wanted, logits));
    const auto& tokens = control.texts[text];
    if (static_cast<size_t>(position + 1) < tokens.size()) {
      const int32_t next = tokens[static_cast<size_t>(position + 1)];
      nll_change += negative_log_likelihood(logits, next) - negative_log_likelihood(wanted, next);
      ++nll_tokens;
    }
  });
  result.tokens = static_cast<int64_t>(divergences.size());
  KVLAB_INVARIANT(result.tokens > 0, "[runtime.equality] nothing was compared");
  result.distinct_tokens = static_cast<int64_t>(distinct.size());
  result.mean_kl = mean(divergences);
  if (const auto deviation = standard_deviation(divergences)) {
    result.kl_half_width = student_t_quantile(0.975, static_cast<double>(result.tokens - 1)) *
                           *deviation / std::sqrt(static_cast<double>(result.tokens));
  }
  if (nll_tokens > 0) result.mean_nll_change = nll_change / static_cast<double>(nll_tokens);
  return result;
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
