// Attention of one decode step over texts that memory, not a cache, has to deliver.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kvlab/attention/attention.h"
#include "kvlab/core/thread_pool.h"
#include "kvlab/kernels/segment_attention.h"

namespace kvlab::benchmarks {

/// Bytes of the last-level cache that a core of this machine can use, as the system says; 64 MiB
/// where it says nothing. (sysconf adds up all chips' caches, of which a core reaches one.)
int64_t last_level_cache_bytes();

/// Bytes that benchmarks rotate through: more than 4 last-level caches, at least 256 MiB.
int64_t rotating_bytes();

/// K and V of one layer: what one call of attention reads.
struct AttentionCase {
  int64_t query_heads = 12, kv_heads = 12;
  int64_t length = 1024;             ///< entries, the query's own among them
  int64_t block_size = 0;            ///< entries of a block; 0: one run
  at::ScalarType type = at::kFloat;  ///< or kBFloat16, or kChar with a scale per entry and head
  /// false: every query head reads K and V on its own, to measure what sharing is worth.
  bool shares_loads = true;

  /// Such as "f32/12x12/block16/T1024".
  std::string name() const;
  /// Bytes of K, V and scales, each counted once.
  int64_t bytes() const;
};

/// Random numbers of one type. Cases of any shape cut them into texts.
class AttentionPool {
 public:
  AttentionPool(at::ScalarType type, int64_t bytes);

  at::ScalarType type() const { return numbers_.scalar_type(); }
  int64_t bytes() const { return numbers_.numel() * numbers_.element_size(); }
  char* numbers() const { return static_cast<char*>(numbers_.mutable_data_ptr()); }
  /// kChar only: one for every 64 codes.
  char* scales() const { return static_cast<char*>(scales_.mutable_data_ptr()); }

 private:
  at::Tensor numbers_, scales_;
};

/// Runs a case over one text of the pool after the other, so that each has left the cache when its
/// turn comes again. Blocks of a text lie scattered over the pool.
class AttentionArm {
 public:
  /// All arguments are borrowed. The pool's type is the case's.
  AttentionArm(const AttentionCase& shape, const AttentionPool& pool, Attention& attention,
               ThreadPool& threads);
  ~AttentionArm();

  /// Throws unless the output over some texts is that of softmax(Q K / sqrt(D)) V in double
  /// precision, within 1e-5 of the largest value.
  void check();

  /// Runs attention over the next text. Returns its seconds, without those of listing its segments.
  double run();

  const AttentionCase& shape() const { return shape_; }

 private:
  void list_segments(int64_t text);
  void add(int64_t unit, int64_t first, int64_t count);
  kernels::SegmentAttentionTask kernel_task();

  AttentionCase shape_;
  const AttentionPool& pool_;
  Attention& attention_;
  ThreadPool& threads_;
  int64_t units_per_text_ = 0, texts_ = 0, next_ = 0;
  std::vector<int32_t> units_;  // shuffled; text t has units_per_text_ of them from t * that
  at::Tensor query_, output_;
  KVView view_;
  StepPlan plan_;
  StorageArena scratch_;
  std::unique_ptr<PositionEncoding> position_;
  kernels::SegmentAttention kernel_;
  std::vector<kernels::EntryRun> runs_;
  kernels::QueryRow row_;
};

}  // namespace kvlab::benchmarks
