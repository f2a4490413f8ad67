// Attention over runs of stored K and V where they lie: nothing is gathered, masks come from
// positions.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "kvlab/core/thread_pool.h"

namespace kvlab::kernels {

/// int8: the number is code * scale, with one scale per entry and head.
enum class EntryFormat { f32, bf16, int8 };

/// K or V of a run. The element (head h, entry e, d) lies at element `h * head_stride + e *
/// token_stride
/// + d` of `data`, h counted from the run's `head_begin`; its scale at `h * scale_head_stride + e *
/// scale_token_stride`.
struct EntryPlane {
  const void* data = nullptr;
  int64_t token_stride = 0, head_stride = 0;  ///< in elements
  EntryFormat format = EntryFormat::f32;
  const float* scales = nullptr;  ///< int8 only
  int64_t scale_token_stride = 0, scale_head_stride = 0;
};

/// Entries whose positions ascend by one, or are listed. A listed position below 0 is never seen. Numbers
/// of entries that nobody sees must still be finite: they are multiplied by 0.
struct EntryRun {
  EntryPlane keys, values;
  int64_t count = 0;
  int64_t first_position = 0;
  const int32_t* positions = nullptr;    ///< of each entry, instead of first_position
  int64_t rotary_shift = 0;              ///< rotary position - text position
  int64_t head_begin = 0, head_end = 0;  ///< the KV heads it covers
};

/// One row of a step: `count` queries at consecutive positions, which read the row's runs.
struct QueryRow {
  int64_t first_run = 0, end_run = 0;  ///< among SegmentAttentionTask::runs
  int64_t first_position = 0;
  int64_t first_token = 0, count = 0;  ///< among the tokens of query and output
};

/// Rotates keys [entries, heads, dim] (contiguous, fp32) by the entries' positions, in place.
/// Called by several threads at once; must not throw.
struct KeyRotation {
  using Function = void (*)(const void* context, float* keys, int64_t entries, int64_t heads,
                            const int64_t* positions);
  Function function = nullptr;
  const void* context = nullptr;
};

/// What to compute. All memory is borrowed for the call.
struct SegmentAttentionTask {
  const float* query = nullptr;  ///< [tokens, heads, key_dim], dense in the last axis
  int64_t query_token_stride = 0, query_head_stride = 0;
  float* output = nullptr;  ///< [tokens, heads, value_dim], dense in the last axis
  int64_t output_token_stride = 0, output_head_stride = 0;
  int64_t heads = 0, kv_heads = 0;  ///< query head h reads KV head h / (heads / kv_heads)
  int64_t key_dim = 0, value_dim = 0;
  /// The runs of one row have one format for keys and one for values.
  std::span<const EntryRun> runs;
  std::span<const QueryRow> rows;
  float scale = 1;
  /// Key k is visible to query q iff k <= q, and model_window == 0 or q - k < model_window, and
  /// view_window == 0 or q - k < view_window or k < sinks.
  int64_t model_window = 0, view_window = 0, sinks = 0;
  const float* slopes = nullptr;  ///< [heads]: adds slope * (k - q) to scores; null: none
  KeyRotation rotation;           ///< for keys kept before position; no function: keys are ready
  /// The query heads of a group share one pass over K and V. False only to measure what that is
  /// worth: every query head then reads the whole row on its own.
  bool share_loads = true;
};

/// Sums of probabilities by entry, per query head over the queries of a row, then reduced over the
/// query heads that share a KV head.
struct ColumnRequest {
  enum class Reduction { sum, mean, max };
  int64_t last_queries = 0;  ///< only that many of a row's last queries count; 0: all
  Reduction reduction = Reduction::sum;
  /// Per row and KV head (row-major) where the sums go, for the entries of the row's runs that
  /// cover the head, in their order. All are written.
  std::span<float* const> to;
};

/// Attention on Highway, fp32 throughout. Keeps its buffers between calls: after a call nothing is
/// allocated for steps that are no larger. Used by one thread (which shares the work with the
/// pool).
class SegmentAttention {
 public:
  SegmentAttention();
  ~SegmentAttention();
  SegmentAttention(const SegmentAttention&) = delete;
  SegmentAttention& operator=(const SegmentAttention&) = delete;

  /// Writes softmax(scale * q k + bias) v of every query; zeros for a query that sees nothing. The
  /// work is cut by shapes and positions alone and partial results are merged in order: the same
  /// bits for any number of threads. `threads` may be null: the calling thread alone.
  void forward(const SegmentAttentionTask& task, ThreadPool* threads);

  /// Writes the sums that `request` asks for, in a second pass over the keys. Requires: `forward`
  /// of the same task was the last call.
  void column_sums(const SegmentAttentionTask& task, const ColumnRequest& request,
                   ThreadPool* threads);

  /// Bytes that the buffers hold.
  int64_t bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvlab::kernels
