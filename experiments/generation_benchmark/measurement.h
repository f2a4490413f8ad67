// Running the arms in interleaved blocks, and what one run of one arm gives.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kvlab/model/decoder_workspace.h"
#include "kvlab/runtime/arms.h"
#include "kvlab/runtime/contention.h"
#include "kvlab/runtime/experiment.h"
#include "kvlab/runtime/generator.h"
#include "workload.h"

namespace kvlab::experiments {

class ArmSite;
class RunBandwidth;

/// What a cache had reserved when the rows had so many new tokens.
struct HeldBytes {
  int64_t new_tokens = 0;
  int64_t reserved = 0;
};

/// 1, 2, 3, 4, 6, 8, 12, ... and `last`: enough points for a logarithmic axis.
std::vector<int64_t> curve_lengths(int64_t last);

/// One run of one arm on one case.
struct Sample {
  GenerateResult result;
  int64_t setup_ns = 0;   ///< building the session, pre-faulting storage included
  MemoryUsage estimated;  ///< of the cache, before the run
  double fragmentation = 0;
  Contention contention;
  StepProfile split;  ///< where the time of the decode steps went
  double kv_read = 0;   ///< bytes of K and V that a decode step reads: mean of the first and last
  double copied = 0;    ///< bytes that a decode step moves or gathers, in the mean
  std::vector<HeldBytes> held = {};  ///< at the lengths of `curve_lengths`
  double bytes_per_second = 0;       ///< read bandwidth beside its block; 0: not measured

  int64_t total_ns() const { return result.ttft_ns + result.decode_ns(); }
  /// Time until `tokens` new tokens per row were out.
  int64_t elapsed_ns(int64_t tokens) const;
  /// Generated tokens of all rows per second, prefill included.
  double tokens_per_second() const;
};

/// What the report says of a model.
struct ModelFacts {
  std::string name, origin;
  int64_t weight_bytes = 0;  ///< that a decode step reads
};

/// An arm with what was found out about it.
struct Arm {
  ArmConfig config;
  ModelFacts model;
  std::vector<std::vector<Sample>> samples;  ///< per case, per block; without suspended blocks
  std::vector<int> suspended_blocks = {};    ///< per case: left out for all arms
  std::optional<std::string> failure;        ///< why it has no figures
};

/// An arm that can run here: with its model (arms may replace the position encoding) and traits.
struct ReadyArm {
  ArmConfig config;
  const Model* model = nullptr;
  CacheTraits traits;
};

/// Runs `arm` once on the case, with a fresh cache.
Sample run_once(const BenchmarkConfig& config, const Case& one, const ReadyArm& arm,
                const Registry& registry);

/// Runs it once more for a timeline of its steps, as Trace Event Format. Reading the clock for each
/// part takes time: nothing else is measured.
std::string trace_once(const BenchmarkConfig& config, const Case& one, const ReadyArm& arm,
                       const Registry& registry);

/// Does the work of one arm in `work`. What it throws becomes the arm's failure, with `when` before
/// it, and a line of the log; only InterruptedError passes through.
void attempt(Arm& arm, const std::string& when, std::ostream& log,
             const std::function<void()>& work);

/// A case and what its arms are measured with.
struct CaseToMeasure {
  const BenchmarkConfig& config;
  const Case& one;
  size_t index = 0;
  ArmSite& site;
  RunBandwidth& bandwidth;
};

/// Measures all arms on one case: warm-up, then blocks in which every arm runs once, in seeded
/// random order, with the read bandwidth at both ends of a block. An arm that throws gets a failure
/// and is left out from then on. Appends one line per run to the run's samples. Stops early where
/// the user interrupts; whole blocks are kept, without those in which an arm was suspended.
void measure_case(const CaseToMeasure& what, std::vector<Arm>& arms, RunContext& context);

}  // namespace kvlab::experiments
