#include "kvlab/runtime/arm_trials.h"

#include <fmt/format.h>

#include "kvlab/core/error.h"

namespace kvlab {

void PlantedSlowdown::after_step() {
  if (factor_ <= 1) return;
  wait_planted(before_, factor_);
  before_ = Clock::now();
}

ArmTrials parse_arm_trials(ConfigReader& reader, const ComparisonConfig& comparison,
                           const std::string& key) {
  ArmTrials trials;
  std::optional<ConfigReader> child = reader.optional_child(key);
  if (!child) return trials;
  trials.aa = child->boolean_or("aa", trials.aa);
  trials.trace = child->boolean_or("trace", trials.trace);
  if (auto planted = child->optional_child("planted_slowdown")) {
    std::vector<std::string> names = {comparison.control + kAgainSuffix};
    for (const ArmConfig& arm : comparison.arms) names.push_back(arm.name);
    for (const std::string& name : names) {
      if (planted->has(name)) trials.planted_slowdown[name] = planted->number(name, {1.0, 100.0});
    }
    planted->finish();
  }
  for (const char* other : {"repeats", "warmup", "interleave", "seed"}) (void)child->has(other);
  return trials;
}

double planted_slowdown(const ArmTrials& trials, const std::string& arm) {
  const auto found = trials.planted_slowdown.find(arm);
  return found == trials.planted_slowdown.end() ? 1.0 : found->second;
}

std::vector<std::string> describe_arms(const ComparisonConfig& comparison,
                                       const ArmTrials& trials) {
  const std::string again = comparison.control + kAgainSuffix;
  std::vector<std::string> lines;
  for (const ArmConfig& arm : comparison.arms) {
    if (trials.aa && arm.name == again) {
      lines.push_back("nothing: " + again + " is the control a second time");
      continue;
    }
    std::string line = "arm " + arm.name + ": cache " + to_string(arm.cache);
    if (arm.attention) line += ", attention " + to_string(*arm.attention);
    if (arm.cache_dtype) line += ", K and V in " + dtype_name(*arm.cache_dtype);
    const double planted = planted_slowdown(trials, arm.name);
    if (planted > 1) line += fmt::format(", each step made to take {} times as long", planted);
    lines.push_back(line);
  }
  return lines;
}

void refuse_trace(const ConfigReader& reader, const ArmTrials& trials, const std::string& key) {
  if (!trials.trace) return;
  reader.fail(key, "trace: only generation_benchmark writes a timeline; delete the key");
}

void wait_planted(std::chrono::steady_clock::time_point begin, double factor) {
  using Clock = std::chrono::steady_clock;
  if (factor <= 1) return;
  const auto wait = (factor - 1) * (Clock::now() - begin);
  const auto until = Clock::now() + std::chrono::duration_cast<Clock::duration>(wait);
  while (Clock::now() < until) {
  }
}

void add_second_control(const ConfigReader& reader, ComparisonConfig& comparison) {
  const std::string name = comparison.control + kAgainSuffix;
  for (const ArmConfig& arm : comparison.arms) {
    if (arm.name != name) continue;
    reader.fail("arms", detail::concat("the control is measured a second time as '", name,
                                       "', which is the name of an arm; rename that arm, or write "
                                       "measure: {aa: false}"));
  }
  for (const ArmConfig& arm : comparison.arms) {
    if (arm.name != comparison.control) continue;
    ArmConfig again = arm;
    again.name = name;
    comparison.arms.push_back(again);
    return;
  }
}

}  // namespace kvlab
