#include "findings.h"

#include <fmt/format.h>

#include <algorithm>

#include "kvlab/runtime/memory_floor.h"
#include "kvlab/runtime/statistics.h"

namespace kvlab::experiments {

namespace {

// The time until n tokens were out in one block, for n = 1 .. all.
std::vector<double> block_curve(const Sample& sample) {
  std::vector<double> curve;
  for (size_t n = 1; n <= sample.result.token_ns.size() + 1; ++n) {
    curve.push_back(static_cast<double>(sample.elapsed_ns(static_cast<int64_t>(n))));
  }
  return curve;
}

std::optional<double> median_step_ms(const Sample& sample) {
  std::vector<double> gaps;
  for (const int64_t gap : sample.result.token_ns) {
    gaps.push_back(static_cast<double>(gap) / kMillion);
  }
  if (gaps.empty() || median(gaps) <= 0) return std::nullopt;
  return median(gaps);
}

}  // namespace

Findings::Findings(const BenchmarkConfig& config, const std::vector<CaseResult>& cases,
                   const std::vector<Arm>& arms, size_t control)
    : config_(config), cases_(cases), arms_(arms), control_(control) {
  for (size_t arm = 0; config.trials.aa && arm < arms.size(); ++arm) {
    if (name(arm) == name(control) + kAgainSuffix) again_ = arm;
  }
  compare();
}

void Findings::compare() {
  comparisons_.assign(cases_.size(), std::vector<std::optional<Comparison>>(arms_.size()));
  noise_.resize(cases_.size());
  std::vector<std::pair<size_t, size_t>> places;
  std::vector<PairedSpeeds> speeds;
  std::vector<std::optional<RatioInterval>> noise;
  for (size_t i = 0; i < cases_.size(); ++i) {
    if (!shown(control_, i)) continue;
    if (again_ && shown(*again_, i)) noise_[i] = ratio(*again_, control_, i);
    for (size_t arm = 0; arm < arms_.size(); ++arm) {
      if (arm == control_ || is_second_control(arm) || !shown(arm, i)) continue;
      places.emplace_back(i, arm);
      speeds.push_back(paired(arm, control_, i));
      noise.push_back(noise_[i]);
    }
  }
  const std::vector<Comparison> found = compare_arms(speeds, noise);
  for (size_t k = 0; k < places.size(); ++k) {
    comparisons_[places[k].first][places[k].second] = found[k];
  }
}

bool Findings::shown(size_t arm, size_t i) const {
  return !arms_[arm].failure && cases_[i].gate[arm].passed && !samples(arm, i).empty();
}

PairedSpeeds Findings::paired(size_t arm, size_t against, size_t i) const {
  // A run of one token has no TPOT; then tokens/s has to do.
  SpeedFigure figure = config_.primary.figure;
  for (const size_t one : {arm, against}) {
    for (const Sample& sample : samples(one, i)) {
      if (speed_of(figure, sample) <= 0) figure = SpeedFigure::tokens_per_second;
    }
  }
  const auto speed = [&](const Sample& sample) { return speed_of(figure, sample); };
  return {collect(samples(arm, i), speed), collect(samples(against, i), speed),
          static_cast<size_t>(contended(arm, i) + contended(against, i))};
}

RatioInterval Findings::ratio(size_t arm, size_t against, size_t i) const {
  const PairedSpeeds speeds = paired(arm, against, i);
  return block_ratio(speeds.arm, speeds.control);
}

double Findings::speed(size_t arm, size_t i) const {
  return median(collect(samples(arm, i),
                        [](const Sample& sample) { return sample.tokens_per_second(); }));
}

const Comparison* Findings::comparison(size_t arm, size_t i) const {
  const std::optional<Comparison>& found = comparisons_[i][arm];
  return found ? &*found : nullptr;
}

std::optional<RatioInterval> Findings::noise(size_t i) const { return noise_[i]; }

std::optional<Findings::Lead> Findings::lead(size_t i) const {
  std::vector<size_t> order;
  for (size_t arm = 0; arm < arms_.size(); ++arm) {
    if (shown(arm, i) && !is_second_control(arm)) order.push_back(arm);
  }
  if (order.size() < 2) return std::nullopt;
  // One figure ranks all of them: tokens/s where a run has no TPOT.
  std::vector<double> speeds(arms_.size());
  SpeedFigure figure = config_.primary.figure;
  for (const size_t arm : order) {
    for (const Sample& sample : samples(arm, i)) {
      if (speed_of(figure, sample) <= 0) figure = SpeedFigure::tokens_per_second;
    }
  }
  for (const size_t arm : order) {
    speeds[arm] = median(collect(
        samples(arm, i), [&](const Sample& sample) { return speed_of(figure, sample); }));
  }
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return speeds[a] > speeds[b]; });
  return Lead{order[0], order[1], judge(order[0], order[1], i)};
}

Comparison Findings::judge(size_t arm, size_t against, size_t i) const {
  return compare_arms({paired(arm, against, i)}, {noise_[i]}).front();
}

std::optional<size_t> Findings::clear_winner(size_t i) const {
  const auto found = lead(i);
  if (!found || found->found.verdict != Verdict::faster) return std::nullopt;
  return found->first;
}

int64_t Findings::contended(size_t arm, size_t i) const {
  return std::count_if(samples(arm, i).begin(), samples(arm, i).end(),
                       [](const Sample& sample) { return sample.contention.contended; });
}

StepProfile Findings::profile(size_t arm, size_t i) const {
  StepProfile all;
  for (const Sample& sample : samples(arm, i)) {
    all.steps += sample.split.steps;
    all.linear_ns += sample.split.linear_ns;
    all.attention_ns += sample.split.attention_ns;
    all.cache_ns += sample.split.cache_ns;
    all.other_ns += sample.split.other_ns;
  }
  return all;
}

std::optional<StepShares> Findings::shares(size_t arm, size_t i) const {
  const StepProfile all = profile(arm, i);
  if (all.total_ns() <= 0) return std::nullopt;
  return step_shares(all);
}

double Findings::attention_and_cache_ms(size_t arm, size_t i) const {
  const StepProfile all = profile(arm, i);
  if (all.steps == 0) return 0;
  return static_cast<double>(all.attention_ns + all.cache_ns) / kMillion /
         static_cast<double>(all.steps);
}

std::optional<double> Findings::step_ms(size_t arm, size_t i) const {
  std::vector<double> steps;
  for (const Sample& sample : samples(arm, i)) {
    if (const auto step = median_step_ms(sample)) steps.push_back(*step);
  }
  if (steps.empty()) return std::nullopt;
  return median(steps);
}

std::optional<FloorFinding> Findings::floor(size_t arm, size_t i) const {
  FloorFinding found;
  std::vector<double> floors;
  for (const Sample& sample : samples(arm, i)) {
    const auto step = median_step_ms(sample);
    if (!step || sample.bytes_per_second <= 0 || sample.kv_read <= 0) continue;
    const StepBytes bytes{static_cast<double>(arms_[arm].model.weight_bytes), sample.kv_read};
    floors.push_back(floor_ms(bytes, sample.bytes_per_second));
    found.shares.push_back(floor_share(bytes, sample.bytes_per_second, *step));
  }
  if (floors.empty()) return std::nullopt;
  found.floor_ms = median(floors);
  return found;
}

std::vector<double> Findings::bandwidths(size_t i) const {
  std::vector<double> found;
  for (const Sample& sample : samples(control_, i)) {
    if (sample.bytes_per_second > 0) found.push_back(sample.bytes_per_second);
  }
  return found;
}

std::optional<size_t> Findings::memory_reference(size_t i) const {
  const auto reserved = [&](size_t arm) {
    return samples(arm, i).front().result.cache.reserved();
  };
  if (shown(control_, i) && reserved(control_) > 0) return control_;
  std::optional<size_t> most;
  for (size_t arm = 0; arm < arms_.size(); ++arm) {
    if (!shown(arm, i) || is_second_control(arm) || reserved(arm) == 0) continue;
    if (!most || reserved(arm) > reserved(*most)) most = arm;
  }
  return most;
}

int64_t Findings::held_tokens(size_t arm, size_t i) const {
  int64_t held = 0;
  for (const auto& row : samples(arm, i).front().result.tokens) {
    held += cases_[i].one.prompt_length + static_cast<int64_t>(row.size()) - 1;
  }
  return held;
}

RatioInterval Findings::time_ratio(size_t arm, size_t i, int64_t n) const {
  const auto time = [&](const Sample& sample) {
    return static_cast<double>(sample.elapsed_ns(n));
  };
  return block_ratio(collect(samples(control_, i), time), collect(samples(arm, i), time));
}

bool Findings::reached(size_t arm, size_t i, int64_t n) const {
  return std::all_of(samples(arm, i).begin(), samples(arm, i).end(), [&](const Sample& sample) {
    return static_cast<int64_t>(sample.result.token_ns.size()) + 1 >= n;
  });
}

std::optional<int64_t> Findings::usual_break_even(size_t arm, size_t i) const {
  const Comparison* verdict = comparison(arm, i);
  if (verdict == nullptr || verdict->verdict == Verdict::refused) return std::nullopt;
  if (config_.primary.figure == SpeedFigure::tokens_per_second &&
      verdict->verdict != Verdict::faster) {
    return std::nullopt;
  }
  const size_t blocks = std::min(samples(arm, i).size(), samples(control_, i).size());
  std::vector<int64_t> found;
  for (size_t block = 0; block < blocks; ++block) {
    const auto even = break_even(block_curve(samples(arm, i)[block]),
                                 block_curve(samples(control_, i)[block]));
    if (even) found.push_back(*even);
  }
  const size_t wanted = blocks - blocks / 10;
  if (wanted == 0 || found.size() < wanted) return std::nullopt;
  std::sort(found.begin(), found.end());
  return found[wanted - 1];
}

std::string Findings::equality(size_t arm, size_t i) const {
  if (arms_[arm].failure) return "failed";
  const GateResult& gate = cases_[i].gate[arm];
  if (!gate.exact_arm && arm != control_) {
    return fmt::format("approximate, KL {:.2g}", gate.distance.mean_kl);
  }
  if (!gate.passed) return "NOT EQUAL";
  if (arm == control_) return "control";
  if (!gate.same_numbers) {
    return fmt::format("exact; its dtype costs KL {:.2g}", gate.distance.mean_kl);
  }
  return "exact, equal";
}

std::vector<std::string> Findings::differences(size_t arm) const {
  const RuntimeConfig& runtime = config_.shared.runtime;
  const ArmConfig& mine = arms_[arm].config;
  const ArmConfig& control = arms_[control_].config;
  std::vector<std::string> found;
  const auto add = [&](const char* what, const std::string& here, const std::string& there) {
    if (here != there) found.push_back(fmt::format("{}: {} instead of {}", what, here, there));
  };
  add("cache", to_string(mine.cache), to_string(control.cache));
  add("attention", to_string(mine.attention.value_or(runtime.attention)),
      to_string(control.attention.value_or(runtime.attention)));
  add("dtype of the cache", dtype_name(mine.cache_dtype.value_or(runtime.cache)),
      dtype_name(control.cache_dtype.value_or(runtime.cache)));
  const auto position = [](const ArmConfig& one) {
    return one.position ? to_string(*one.position) : std::string("the model's");
  };
  add("position", position(mine), position(control));
  if (const double planted = planted_slowdown(config_.trials, mine.name); planted > 1) {
    found.push_back(fmt::format("a planted slowdown: each step waits until it took {} times as "
                                "long",
                                planted));
  }
  return found;
}

std::string Findings::file_id(const char* what, size_t i) const {
  return cases_.size() == 1
             ? what
             : fmt::format("{}_p{}_b{}", what, cases_[i].one.prompt_length, cases_[i].one.batch);
}

}  // namespace kvlab::experiments
