// One model, cache, attention and position encoding put together, and the transaction of a step.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kvlab/runtime/model.h"
#include "kvlab/runtime/registry.h"

namespace kvlab {

struct SessionOptions {
  ComponentSpec cache;
  ComponentSpec attention{"fused", {}, ""};
  at::ScalarType cache_dtype = at::kFloat;
  int64_t row_tokens = 0;   ///< see RuntimeConfig; 0 = measured once
  int64_t rows = 1;
  int64_t max_length = 0;   ///< longest text of a row; 0 = the model's context
  int64_t chunk = 0;        ///< prefill chunk in tokens; 0 = the whole prompt
  ArenaOptions arena;       ///< of the cache
  std::optional<int64_t> memory_limit;  ///< bytes; default: what the machine has available
};

/// What a session has done so far.
struct WorkCounters {
  int64_t token_forwards = 0;  ///< tokens that went through the layers
  int64_t logit_rows = 0;      ///< tokens whose logits were computed
  int64_t steps = 0;
  int64_t bytes_moved = 0;     ///< K and V copied inside the cache
  int64_t gathered_bytes = 0;  ///< K and V copied for attention that needs dense tensors

  bool operator==(const WorkCounters&) const = default;
};

/// One row's part of a step: feeds the text from the row's cached length up to `end`.
struct RowFeed {
  int row = 0;
  std::span<const int32_t> text;  ///< the whole text so far
  int64_t end = 0;
  int64_t prompt_left = 0;
  Phase phase = Phase::prefill;
  WantedLogits wanted = WantedLogits::last;
};

/// Called for each wanted token: row, position of the token, its logits (V values, valid during
/// the call).
using LogitsSink = std::function<void(int row, int64_t position, std::span<const float> logits)>;

class Session {
 public:
  /// Checks compatibility and memory before it allocates memory. Throws UserError with all
  /// reasons, or CapacityError with needed and available bytes and the longest length that fits.
  Session(const Model& model, const Registry& registry, const SessionOptions& options);

  /// One step: all of it or nothing. Logits go to `sink` before the step is committed. NaN or
  /// infinity in logits throws UserError with step and row, and no row has changed. Also stops with
  /// InterruptedError where the user asked for it.
  void step(std::span<const RowFeed> feeds, const LogitsSink& sink);

  KVCache& cache() { return *cache_; }
  const KVCache& cache() const { return *cache_; }
  const CacheShape& shape() const { return shape_; }
  const Model& model() const { return model_; }
  const SessionOptions& options() const { return options_; }

  /// Most packed tokens whose products run on the row kernels: the option, or what was measured.
  int64_t row_tokens() const { return row_tokens_; }

  /// Tokens per prefill step: the option, or the whole prompt for a cache that keeps nothing.
  int64_t chunk_for(int64_t prompt_length) const;

  /// From now on adds to `profile` where the time of steps goes, until told null. It must outlive
  /// that.
  void profile_into(StepProfile* profile) { profile_ = profile; }

  WorkCounters work() const;
  MemoryUsage cache_usage() const { return arena_.usage(); }
  MemoryUsage scratch_usage() const { return scratch_.usage(); }
  int64_t payload() const { return payload_bytes(*cache_, shape_); }

  /// Empties all rows and starts counters and peaks again.
  void reset();

 private:
  const Model& model_;
  SessionOptions options_;
  CacheShape shape_;
  StorageArena arena_;    // the cache's
  StorageArena scratch_;  // attention's
  std::unique_ptr<PositionEncoding> position_;
  std::unique_ptr<Attention> attention_;
  std::unique_ptr<KVCache> cache_;
  StepPlan plan_;
  ThreadPool threads_;
  DecoderWorkspace workspace_;
  int64_t row_tokens_;
  StepProfile* profile_ = nullptr;
  WorkCounters work_;
  int64_t moved_before_ = 0, gathered_before_ = 0;  // at the last reset
};

/// The cache shape that a session of this model has.
CacheShape session_shape(const ModelConfig& model, const SessionOptions& options);

/// Every reason why these cannot work together; empty where they can. Allocates nothing.
std::vector<std::string> incompatibilities(const ModelConfig& model, const Registry& registry,
                                           const SessionOptions& options,
                                           bool has_position_table);

/// Bytes of a cache whose rows are filled to `length` tokens: a prefill of all but one, in chunks
/// of `shape.max_step_tokens`, and one decode step. Throws CapacityError where the cache cannot
/// hold them.
MemoryUsage filled_usage(const Registry& registry, const ComponentSpec& cache,
                         const CacheShape& shape, int64_t length);

/// Throws CapacityError where the weights of such a model do not fit the available memory.
void check_weights_fit(const ModelConfig& model, at::ScalarType type);

/// Bytes a process may still take: the smaller of the system's available memory and what is left
/// of the control group.
int64_t available_memory();

/// Throws CapacityError where the cache's estimated peak for texts of `length` tokens in every row
/// exceeds the limit, with needed and available bytes and the longest length that fits.
void check_memory(const Registry& registry, const SessionOptions& options, const CacheShape& shape,
                  int64_t length);

/// Longest length (of all rows) whose estimated peak fits `bytes`; 0 where not even one token does.
int64_t longest_fit(const Registry& registry, const ComponentSpec& cache, CacheShape shape,
                    int64_t bytes);

}  // namespace kvlab
