// One case: all arms gated, profiled and timed at every depth, in interleaved blocks beside the
// read bandwidth.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "depth_gate.h"
#include "kvlab/core/thread_pool.h"
#include "kvlab/kernels/read_probe.h"
#include "kvlab/runtime/contention.h"
#include "kvlab/runtime/experiment.h"
#include "kvlab/runtime/step_bound.h"
#include "speed_config.h"

namespace kvlab::experiments::decode_speed_kind {

/// The timed steps of one arm in one block.
struct RunSample {
  std::vector<int64_t> step_ns;
  Contention contention;

  double median_ms() const;
};

/// What was found out about one arm at one depth.
struct ArmAtDepth {
  std::optional<std::string> left_out;  ///< why it was not timed
  ArmVerdict verdict;
  std::optional<StepShares> shares;  ///< of a pass of its own
  double kv_bytes = 0;          ///< K and V that a step reads, in the middle of the timed steps
  double copied_bytes = 0;      ///< K and V that a step copies, inside the cache or for attention
  int64_t peak_bytes = 0;       ///< of the cache so far
  int64_t held_depth = 0;       ///< tokens per row that were cached when the next two were counted
  int64_t payload_bytes = 0;
  MemoryUsage usage;            ///< of the cache
  std::vector<RunSample> runs;  ///< one per block
};

struct DepthResult {
  int64_t depth = 0;
  std::vector<double> bytes_per_second;  ///< read bandwidth beside each block
  std::string loop;                      ///< the probe's fastest loop
  int suspended_blocks = 0;              ///< left out for all arms: one stood still in them
  std::vector<ArmAtDepth> arms;
};

/// The timed prompts of one arm, in ns, one per block.
struct ArmPrefill {
  std::vector<double> ns;
  std::optional<ReportCheck> check;
  bool passed() const { return !check || check->passed; }
};

struct CaseResult {
  const SpeedModel* model = nullptr;
  std::string origin;  ///< of the weights
  Precision precision;
  int64_t batch = 1;
  int64_t weight_bytes = 0;  ///< that a step reads
  int64_t row_tokens = 0;    ///< of its sessions, all the same; 0 where none could be made
  std::vector<std::optional<std::string>> failures;  ///< per arm
  std::vector<ArmPrefill> prefill;                   ///< per arm; empty where none was timed
  std::vector<DepthResult> depths;
  bool interrupted = false;

  std::string label() const;  ///< "smollm2_135m, f32 weights, f32 cache, batch 1"
};

/// What the cases of a run share.
struct SpeedRun {
  const SpeedConfig& config;
  RunContext& context;
  ThreadPool& threads;
  kernels::ReadProbe& probe;
};

enum class CasePurpose { gate_and_time, gate_only };

/// Ratios need blocks in which every arm that is timed ran, and the bandwidth was measured: keeps
/// those, and nothing of an arm that is not `timed`.
void keep_whole_blocks(DepthResult& found, const std::vector<bool>& timed);

/// A block with a standstill in it compares nothing: leaves it out for all arms, and counts it.
void drop_suspended_blocks(DepthResult& found);

/// Runs one case. In f32 its comparisons go to `logic`; other cases read them there. Stops early
/// where the user interrupts, and keeps whole blocks.
CaseResult run_case(SpeedRun& run, const SpeedModel& speed_model, const Model& model,
                    const Precision& precision, int64_t batch, CasePurpose purpose,
                    LogicTable& logic);

}  // namespace kvlab::experiments::decode_speed_kind
