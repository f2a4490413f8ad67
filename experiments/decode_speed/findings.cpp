#include "findings.h"

#include <fmt/format.h>

#include <algorithm>

#include "kvlab/runtime/statistics.h"

namespace kvlab::experiments::decode_speed_kind {

namespace {

// How often the arm's steps would give a token within a second, block by block.
std::vector<double> speeds(const ArmAtDepth& arm) {
  std::vector<double> found;
  for (const RunSample& run : arm.runs) found.push_back(1e3 / run.median_ms());
  return found;
}

}  // namespace

Findings::Findings(const SpeedConfig& config, const std::vector<CaseResult>& cases)
    : config_(config), cases_(cases) {
  compare();
}

void Findings::compare() {
  std::vector<const ArmAtDepth*> places;
  std::vector<PairedSpeeds> arms;
  std::vector<std::optional<RatioInterval>> noise;
  for (const CaseResult& one : cases_) {
    for (const DepthResult& at : one.depths) {
      if (at.arms.empty() || !shown(at, control())) continue;
      if (config_.again && shown(at, *config_.again)) {
        noise_[&at] = speed_ratio(at, *config_.again);
      }
      for (size_t arm = 0; arm < at.arms.size(); ++arm) {
        if (arm == control() || is_second_control(arm) || !shown(at, arm)) continue;
        places.push_back(&at.arms[arm]);
        arms.push_back(paired(at, arm, control()));
        noise.push_back(this->noise(at));
      }
    }
  }
  const std::vector<Comparison> found = compare_arms(arms, noise);
  for (size_t i = 0; i < places.size(); ++i) comparisons_[places[i]] = found[i];
}

bool Findings::shown(const DepthResult& at, size_t arm) const {
  return at.arms[arm].verdict.passed && !at.arms[arm].runs.empty();
}

StepBytes Findings::step_bytes(const CaseResult& one, const ArmAtDepth& arm) const {
  return {static_cast<double>(one.weight_bytes), arm.kv_bytes};
}

Timing Findings::timing(const CaseResult& one, const DepthResult& at, size_t arm) const {
  Timing found;
  for (size_t block = 0; block < at.arms[arm].runs.size(); ++block) {
    found.ms.push_back(at.arms[arm].runs[block].median_ms());
    found.share.push_back(
        floor_share(step_bytes(one, at.arms[arm]), at.bytes_per_second[block], found.ms.back()));
  }
  return found;
}

PairedSpeeds Findings::paired(const DepthResult& at, size_t arm, size_t against) const {
  return {speeds(at.arms[arm]), speeds(at.arms[against]), flagged(at, arm) + flagged(at, against)};
}

RatioInterval Findings::speed_ratio(const DepthResult& at, size_t arm) const {
  if (const Comparison* found = comparison(at, arm)) return found->ratio;
  const PairedSpeeds both = paired(at, arm, control());
  return block_ratio(both.arm, both.control);
}

RatioInterval Findings::time_ratio(const DepthResult& at, size_t arm) const {
  RatioInterval found = speed_ratio(at, arm);
  found.ratio = 1 / found.ratio;
  if (found.low) {
    const double low = 1 / *found.high;
    found.high = 1 / *found.low;
    found.low = low;
  }
  return found;
}

const Comparison* Findings::comparison(const DepthResult& at, size_t arm) const {
  const auto found = comparisons_.find(&at.arms[arm]);
  return found == comparisons_.end() ? nullptr : &found->second;
}

std::optional<RatioInterval> Findings::noise(const DepthResult& at) const {
  const auto found = noise_.find(&at);
  return found == noise_.end() ? std::nullopt : std::optional(found->second);
}

size_t Findings::flagged(const DepthResult& at, size_t arm) const {
  return static_cast<size_t>(
      std::count_if(at.arms[arm].runs.begin(), at.arms[arm].runs.end(),
                    [](const RunSample& run) { return run.contention.contended; }));
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

std::string Findings::file_id(const char* what, const CaseResult& one) const {
  return fmt::format("{}_{}_{}_b{}", what, one.model->source.name, one.precision.id(), one.batch);
}

std::string Findings::equality(const CaseResult& one, const DepthResult& at, size_t arm) const {
  const ArmAtDepth& found = at.arms[arm];
  if (one.failures[arm] && found.runs.empty()) return "failed";
  if (found.left_out) return "left out: " + *found.left_out;
  if (!found.verdict.exact) {
    return fmt::format("approximate, KL {:.2g}, top-1 {:.0f} %", found.verdict.distance.mean_kl,
                       100 * found.verdict.distance.top1_agreement());
  }
  if (arm == control()) return "exact, control";
  return found.verdict.passed ? "exact, equal" : "exact, NOT EQUAL";
}

std::string Findings::bound(const ArmAtDepth& arm) const {
  if (!arm.shares) return "not profiled";
  return std::string(bound_name(arm.shares->bound())) + (recomputes(arm) ? ", recomputes" : "");
}

std::string Findings::bound_words(const ArmAtDepth& arm) const {
  if (!arm.shares) return "not profiled";
  return std::string(bound_name(arm.shares->bound())) + "-bound" +
         (recomputes(arm) ? ", recomputes" : "");
}

std::optional<size_t> Findings::clear_winner(const DepthResult& at) const {
  std::vector<size_t> order;
  for (size_t arm = 0; arm < at.arms.size(); ++arm) {
    if (shown(at, arm) && !is_second_control(arm)) order.push_back(arm);
  }
  if (order.size() < 2) return std::nullopt;
  const auto speed = [&](size_t arm) { return median(speeds(at.arms[arm])); };
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return speed(a) > speed(b); });
  const PairedSpeeds first = paired(at, order[0], order[1]);
  const RatioInterval lead = block_ratio(first.arm, first.control);
  const bool disturbed = first.contended > first.arm.size();
  if (lead.ratio <= 1 || !lead.excludes() || disturbed) return std::nullopt;
  return order[0];
}

}  // namespace kvlab::experiments::decode_speed_kind
