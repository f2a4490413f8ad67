#include "depth_gate.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "kvlab/core/error.h"

namespace kvlab::experiments::decode_speed_kind {

namespace {

using Clock = std::chrono::steady_clock;

// Leaves room where rounding changes nothing at all.
constexpr double kDivergenceSlack = 1e-9;

ReportCheck logic_check(const std::string& arm, const std::string& label,
                        const std::optional<LogitComparison>& distance) {
  return {
      arm,
      fmt::format("logits of the control in f32, tolerance {:.0e}, {}", kEqualityTolerance, label),
      distance && distance->equal(), distance ? distance->describe() : "there is no f32 run"};
}

}  // namespace

std::span<const float> StepLogits::at(int64_t position, int row) const {
  return std::span<const float>(values).subspan(
      static_cast<size_t>(((position - depth) * rows + row) * vocabulary),
      static_cast<size_t>(vocabulary));
}

std::optional<StepLogits> record_steps(ArmSession& arm, int64_t steps, int64_t budget_steps,
                                       double most_seconds, double& seconds) {
  StepLogits record;
  record.depth = arm.depth();
  record.rows = static_cast<int64_t>(arm.texts().size());
  record.vocabulary = arm.session().model().config().vocabulary;
  record.values.resize(static_cast<size_t>(steps * record.rows * record.vocabulary));
  const auto keep = [&](int row, int64_t position, std::span<const float> logits) {
    std::copy(logits.begin(), logits.end(),
              record.values.begin() +
                  ((position - record.depth) * record.rows + row) * record.vocabulary);
  };
  const double most_per_step = most_seconds / static_cast<double>(budget_steps);
  for (int64_t i = 0; i < steps; ++i) {
    const auto start = Clock::now();
    arm.step(keep);
    seconds = std::chrono::duration<double>(Clock::now() - start).count();
    // The first step may pay for things that are done once.
    if (seconds > most_per_step && (i > 0 || steps == 1 || seconds > 4 * most_per_step)) {
      return std::nullopt;
    }
  }
  return record;
}

LogitComparison compare_steps(const StepLogits& wanted, const StepLogits& found,
                              const std::vector<std::vector<int32_t>>& texts) {
  LogitDistance distance;
  const int64_t steps =
      static_cast<int64_t>(wanted.values.size()) / (wanted.rows * wanted.vocabulary);
  for (int64_t position = wanted.depth; position < wanted.depth + steps; ++position) {
    for (int64_t row = 0; row < wanted.rows; ++row) {
      const auto& text = texts[static_cast<size_t>(row)];
      const auto next = static_cast<size_t>(position + 1);
      const int index = static_cast<int>(row);
      distance.add(wanted.at(position, index), found.at(position, index), position,
                   next < text.size() ? text[next] : -1);
    }
  }
  return distance.result();
}

DepthGate::DepthGate(const SpeedConfig& config, const Precision& precision, const DepthLogic& logic,
                     const StepLogits& control, const std::vector<std::vector<int32_t>>& texts,
                     const std::string& label)
    : config_(config),
      precision_(precision),
      logic_(logic),
      control_(control),
      texts_(texts),
      label_(label) {
  if (!precision.full()) rounding_ = compare_steps(logic.control, control, texts).mean_kl;
}

ArmVerdict DepthGate::judge(size_t arm, bool exact, const StepLogits& found) const {
  const std::string& name = config_.arms[arm].name;
  ArmVerdict verdict;
  verdict.exact = exact;
  verdict.distance = compare_steps(control_, found, texts_);
  if (!exact || arm == config_.control) return verdict;
  if (precision_.full()) {
    verdict.checks.push_back(logic_check(name, label_, verdict.distance));
  } else {
    verdict.checks.push_back(logic_check(name, label_, logic_.arms[arm]));
    const double allowed = kBf16DivergenceFactor * rounding_ + kDivergenceSlack;
    verdict.checks.push_back({name,
                              fmt::format("KL to the control at most {:.2e}, {}", allowed, label_),
                              verdict.distance.mean_kl <= allowed, verdict.distance.describe()});
  }
  for (const ReportCheck& check : verdict.checks) verdict.passed = verdict.passed && check.passed;
  return verdict;
}

}  // namespace kvlab::experiments::decode_speed_kind
