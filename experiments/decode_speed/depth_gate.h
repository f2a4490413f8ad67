// No speed for an arm whose decode steps do not give the control's logits.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "arm_session.h"
#include "kvlab/runtime/equality.h"
#include "speed_config.h"

namespace kvlab::experiments::decode_speed_kind {

/// Logits of the decode steps after some depth: [steps][rows][V].
struct StepLogits {
  int64_t depth = 0, rows = 0, vocabulary = 0;
  std::vector<float> values;

  std::span<const float> at(int64_t position, int row) const;
};

/// Verdict on one arm at one depth.
struct ArmVerdict {
  bool exact = true;         ///< its traits promise the control's answer
  bool passed = true;        ///< always true for approximate arms: their distance is shown instead
  LogitComparison distance;  ///< in the element types of the case
  std::vector<ReportCheck> checks;
};

/// What f32 numbers said about the arms at one depth: the reference of cases that round.
struct DepthLogic {
  StepLogits control;
  std::vector<std::optional<LogitComparison>> arms;  ///< nothing where there is no f32 run
};

/// By batch and depth, for one model.
using LogicTable = std::map<std::pair<int64_t, int64_t>, DepthLogic>;

/// Runs `steps` decode steps from where the arm stands and keeps their logits. Gives up, with
/// nothing, once it is clear that `budget_steps` steps take more than `most_seconds`; the last
/// step's time is then in `seconds`.
std::optional<StepLogits> record_steps(ArmSession& arm, int64_t steps, int64_t budget_steps,
                                       double most_seconds, double& seconds);

/// How far `found` is from `wanted`, both from the same steps of the same texts.
LogitComparison compare_steps(const StepLogits& wanted, const StepLogits& found,
                              const std::vector<std::vector<int32_t>>& texts);

/// Judges an arm at one depth. In f32 an exact arm's logits must be within tolerance. Where the
/// case rounds, it must have been so in f32 (`logic`), and its mean KL to the control may be at
/// most a multiple of what rounding itself does to the control.
class DepthGate {
 public:
  DepthGate(const SpeedConfig& config, const Precision& precision, const DepthLogic& logic,
            const StepLogits& control, const std::vector<std::vector<int32_t>>& texts,
            const std::string& label);

  ArmVerdict judge(size_t arm, bool exact, const StepLogits& found) const;

 private:
  const SpeedConfig& config_;
  Precision precision_;
  const DepthLogic& logic_;
  const StepLogits& control_;
  const std::vector<std::vector<int32_t>>& texts_;
  std::string label_;
  double rounding_ = 0;  ///< KL(control in f32 || control as in the case)
};

}  // namespace kvlab::experiments::decode_speed_kind
