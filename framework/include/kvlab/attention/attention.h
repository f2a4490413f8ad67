// The interface of attention plugins.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kvlab/attention/feedback.h"
#include "kvlab/cache/cache_shape.h"
#include "kvlab/cache/kv_view.h"
#include "kvlab/core/step_plan.h"
#include "kvlab/core/storage_arena.h"
#include "kvlab/core/thread_pool.h"
#include "kvlab/position/position_encoding.h"

namespace kvlab {

struct AttentionTraits {
  bool reads_segments = false;  ///< false: asks for dense tensors, gathered where needed
  bool supports_bias = false;   ///< alibi
  std::vector<FeedbackRequest::Kind> feedback;  ///< reductions it can give
};

/// Everything one layer's attention reads and writes.
struct AttentionInput {
  const at::Tensor& query;  ///< [N,H,D], rotated
  at::Tensor& output;       ///< [N,H,Dv], overwritten
  const StepPlan& plan;
  const KVView& view;       ///< query head h reads KV head h / (H / view.num_kv_heads())
  const PositionEncoding& position;
  StorageArena& scratch;
  float scale = 1;          ///< on scores
  int64_t window = 0;       ///< the model's; 0 = none
  ThreadPool* threads = nullptr;       ///< to share work with; null: the calling thread alone
  FeedbackBuffer* feedback = nullptr;  ///< to be filled; null where the cache asked for none
};

class Attention {
 public:
  virtual ~Attention() = default;
  Attention(const Attention&) = delete;
  Attention& operator=(const Attention&) = delete;

  const std::string& name() const { return name_; }
  virtual const AttentionTraits& traits() const = 0;

  /// Softmax(scale * Q K^T + bias) V over what each query may see. Masks come from positions only.
  /// Accumulates in fp32. A query that sees nothing gives zeros. `input.feedback`, where given, was
  /// begun for this view with a kind that the traits declare; every value of it is written.
  virtual void forward(const AttentionInput& input) = 0;

  /// Bytes copied so far to make dense tensors of segmented rows.
  virtual int64_t gathered_bytes() const { return 0; }

 protected:
  explicit Attention(std::string name) : name_(std::move(name)) {}

 private:
  std::string name_;
};

/// Which keys the queries of one slice see, for attention over dense tensors.
struct DenseMask {
  bool all_visible = true;  ///< then the tensors below are undefined
  at::Tensor hidden;        ///< bool [G or 1, n, T]: true where a query must not look
};

/// Builds the mask of `slice` from positions, the model's window and the view's narrowing.
DenseMask dense_mask(const RowSlice& slice, const DenseKV& kv, int64_t model_window,
                     const KVView& view);

/// Score bias [H,n,T] in fp32 from the position plugin's slopes; undefined without slopes.
at::Tensor dense_bias(const RowSlice& slice, const DenseKV& kv, int64_t num_heads,
                      std::span<const float> slopes);

}  // namespace kvlab
