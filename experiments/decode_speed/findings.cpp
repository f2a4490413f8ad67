#include "findings.h"

#include <fmt/format.h>

#include <algorithm>

#include "kvlab/runtime/statistics.h"

namespace kvlab::experiments::decode_speed_kind {

namespace {

// A share of the runs of an arm, above which its figures are the machine's and not the arm's.
constexpr double kMostContended = 0.5;

}  // namespace

bool Findings::shown(const DepthResult& at, size_t arm) const {
  return at.arms[arm].verdict.passed && !at.arms[arm].runs.empty();
}

StepBytes Findings::step_bytes(const CaseResult& one, const ArmAtDepth& arm) const {
  return {static_cast<double>(one.weight_bytes), arm.kv_bytes};
}

Timing Findings::timing(const CaseResult& one, const DepthResult& at, size_t arm) const {
  Timing found;
  double contended = 0;
  for (size_t block = 0; block < at.arms[arm].runs.size(); ++block) {
    const RunSample& run = at.arms[arm].runs[block];
    found.ms.push_back(run.median_ms());
    found.share.push_back(
        floor_share(step_bytes(one, at.arms[arm]), at.bytes_per_second[block], found.ms.back()));
    contended += run.involuntary_switches >= static_cast<int64_t>(run.step_ns.size()) ? 1 : 0;
  }
  if (!found.ms.empty()) found.contended = contended / static_cast<double>(found.ms.size());
  return found;
}

RatioInterval Findings::against_control(const CaseResult& one, const DepthResult& at,
                                        size_t arm) const {
  std::vector<double> mine = timing(one, at, arm).ms;
  std::vector<double> control = timing(one, at, config_.control).ms;
  const size_t blocks = std::min(mine.size(), control.size());
  mine.resize(blocks);
  control.resize(blocks);
  return ratio_t_interval(mine, control);
}

double Findings::by_bytes(const CaseResult& one, const DepthResult& at, size_t arm) const {
  const auto weights = static_cast<double>(one.weight_bytes);
  const ArmAtDepth& mine = at.arms[arm];
  const ArmAtDepth& control = at.arms[config_.control];
  return (weights + mine.kv_bytes + 2 * mine.copied_bytes) /
         (weights + control.kv_bytes + 2 * control.copied_bytes);
}

bool Findings::has_by_bytes(const DepthResult& at, size_t arm) const {
  return !recomputes(at.arms[arm]) && !recomputes(at.arms[config_.control]);
}

bool Findings::contended(const CaseResult& one, const DepthResult& at, size_t arm) const {
  return timing(one, at, arm).contended > kMostContended;
}

std::string Findings::file_id(const char* what, const CaseResult& one) const {
  return fmt::format("{}_{}_{}_b{}", what, one.model->source.name, one.precision.id(), one.batch);
}

std::string Findings::equality(const CaseResult& one, const DepthResult& at, size_t arm) const {
  const ArmAtDepth& found = at.arms[arm];
  if (one.failures[arm] && found.runs.empty()) return "failed";
  if (found.left_out) return "left out: " + *found.left_out;
  if (arm == config_.control) return "control";
  if (!found.verdict.exact) {
    return fmt::format("approximate, KL {:.2g}, top-1 {:.0f} %", found.verdict.distance.mean_kl,
                       100 * found.verdict.distance.top1_agreement());
  }
  return found.verdict.passed ? "equal" : "NOT EQUAL";
}

std::string Findings::bound(const ArmAtDepth& arm) const {
  if (recomputes(arm)) return "recomputes";
  return arm.shares ? bound_name(arm.shares->bound()) : "not profiled";
}

std::string Findings::bound_words(const ArmAtDepth& arm) const {
  if (recomputes(arm) || !arm.shares) return bound(arm);
  return std::string(bound_name(arm.shares->bound())) + "-bound";
}

std::optional<size_t> Findings::clear_winner(const CaseResult& one, const DepthResult& at) const {
  std::vector<size_t> order;
  for (size_t arm = 0; arm < config_.arms.size(); ++arm) {
    if (shown(at, arm)) order.push_back(arm);
  }
  if (order.size() < 2) return std::nullopt;
  const auto ms = [&](size_t arm) { return median(timing(one, at, arm).ms); };
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return ms(a) < ms(b); });
  const RatioInterval ratio =
      ratio_t_interval(timing(one, at, order[0]).ms, timing(one, at, order[1]).ms);
  if (!ratio.excludes() || contended(one, at, order[0])) return std::nullopt;
  return order[0];
}

std::optional<size_t> Findings::second_control() const {
  const ArmConfig& control = config_.arms[config_.control];
  const auto attention = [](const ArmConfig& arm) {
    return arm.attention ? to_string(*arm.attention) : std::string();
  };
  for (size_t arm = 0; arm < config_.arms.size(); ++arm) {
    if (arm == config_.control) continue;
    if (to_string(config_.arms[arm].cache) == to_string(control.cache) &&
        attention(config_.arms[arm]) == attention(control)) {
      return arm;
    }
  }
  return std::nullopt;
}

}  // namespace kvlab::experiments::decode_speed_kind
