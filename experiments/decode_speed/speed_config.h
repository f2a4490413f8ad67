// What the config says: which models, arms and cases are timed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvlab/runtime/arm_trials.h"
#include "kvlab/runtime/experiment_config.h"
#include "kvlab/runtime/model.h"
#include "kvlab/runtime/registry.h"
#include "kvlab/runtime/session.h"

namespace kvlab::experiments::decode_speed_kind {

/// Element types of one case.
struct Precision {
  at::ScalarType weights = at::kFloat;
  at::ScalarType activations = at::kFloat;
  at::ScalarType cache = at::kFloat;

  /// Nothing is rounded: exact arms must then give the control's logits.
  bool full() const {
    return weights == at::kFloat && activations == at::kFloat && cache == at::kFloat;
  }
  std::string label() const;  ///< "bf16 weights, bf16 cache"
  std::string id() const;     ///< "w_bf16_c_bf16", for file names
  bool operator==(const Precision&) const = default;
};

/// A model and the texts its cases feed.
struct SpeedModel {
  ModelSource source;
  int64_t context = 0;
  std::vector<std::vector<int32_t>> texts;  ///< per row of the largest batch, as long as needed
  std::vector<int64_t> depths;              ///< those that fit its context
  std::vector<int64_t> too_deep;            ///< the others
};

/// Everything a run needs, read and checked.
struct SpeedConfig {
  std::vector<SpeedModel> models;
  std::vector<ArmConfig> arms;
  size_t control = 0;
  std::optional<size_t> again;  ///< the control once more: what it differs by is noise
  ArmTrials trials;
  RuntimeConfig runtime;
  MeasureConfig measure;
  std::vector<Precision> precisions;
  std::vector<int64_t> batches;
  std::vector<int64_t> depths;  ///< tokens that are cached when timing starts, ascending
  int64_t prefill = 0;          ///< tokens of the timed prompt; 0 = none is timed
  int64_t tokens = 32;          ///< timed steps of a run
  int64_t gate_tokens = 8;      ///< steps whose logits are compared
  double most_seconds = 20;     ///< for one run of one arm
  int64_t probe_bytes = 0;      ///< memory that the bandwidth measurement reads

  /// Text that a case at `depth` needs.
  int64_t length_at(int64_t depth) const;
  /// Whether a prompt is timed with this model: one is asked for, and fits.
  bool times_prompt(const SpeedModel& model) const;
  /// Longest text of any case of the model: the sessions' max_length.
  int64_t longest(const SpeedModel& model) const;
  /// The session of an arm in a case.
  SessionOptions session_options(const SpeedModel& model, const ArmConfig& arm,
                                 const Precision& precision, int64_t batch) const;
};

/// Reads and checks the whole config. Throws UserError or MissingError.
SpeedConfig read_speed_config(ExperimentConfig& config, const Registry& registry);

}  // namespace kvlab::experiments::decode_speed_kind
