// What `measure:` adds where arms are compared: the control a second time, and slowdowns planted to
// test the method.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "kvlab/runtime/experiment_config.h"

namespace kvlab {

/// Blocks of a comparison, where the config does not say: enough to find a difference of 5 % (see
/// experiments/STATISTICS.md).
inline constexpr int kComparedRepeats = 40;

/// What follows the control's name where it is measured a second time.
inline constexpr const char* kAgainSuffix = "_again";

struct ArmTrials {
  bool aa = true;  ///< measure the control a second time under another name
  /// Busy waiting added to each step of an arm, as a factor of its time: 1.05 makes it 5 % slower.
  std::map<std::string, double> planted_slowdown;
  bool trace = false;  ///< after measuring, run each arm once more and write when its parts ran
};

/// Makes each step of an arm take longer by a factor, waiting busily. Build it right before the
/// first step.
class PlantedSlowdown {
 public:
  explicit PlantedSlowdown(double factor) : factor_(factor) {}

  /// Waits for what the time since the last call lacks. Call it after each step.
  void after_step();

 private:
  using Clock = std::chrono::steady_clock;

  double factor_;
  Clock::time_point before_ = Clock::now();
};

/// Reads `measure:` as `parse_measure`, and leaves `aa`, `planted_slowdown` and `trace` to
/// `parse_arm_trials`: for kinds that compare arms and read their parts one by one. Throws
/// UserError.
MeasureConfig parse_measure_of_trials(ConfigReader& reader, const std::string& key = "measure");

/// Reads `aa`, `planted_slowdown` and `trace` of `measure:`; its other keys are `parse_measure`'s.
/// Call it after `parse_comparison` or `parse_measure_of_trials`, which leave them to the kind. A
/// slowdown names an arm, or the second control. Throws UserError.
ArmTrials parse_arm_trials(ConfigReader& reader, const ComparisonConfig& comparison,
                           const std::string& key = "measure");

/// For kinds that write no timeline. Throws UserError, at `key` of `reader`, where one is asked
/// for.
void refuse_trace(const ConfigReader& reader, const ArmTrials& trials,
                  const std::string& key = "measure");

/// What the arms differ in, a line for each, as a report lists it: cache, attention, dtype of K and
/// V, a planted slowdown. The second control has a line that says what it is.
std::vector<std::string> describe_arms(const ComparisonConfig& comparison, const ArmTrials& trials);

/// The factor planted on the steps of an arm; 1 where there is none.
double planted_slowdown(const ArmTrials& trials, const std::string& arm);

/// Waits, busy, until a step that began at `begin` took `factor` times as long.
void wait_planted(std::chrono::steady_clock::time_point begin, double factor);

/// Appends the control a second time, as `<control>_again`. Throws UserError, at `arms` of
/// `reader`, where an arm has that name already.
void add_second_control(const ConfigReader& reader, ComparisonConfig& comparison);

}  // namespace kvlab
