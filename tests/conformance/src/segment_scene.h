// What attention is tested on: rows of entries at given positions, laid out in memory in several
// ways, and what dense attention in double precision makes of them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kvlab/attention/attention.h"
#include "kvlab/conformance/cache_oracle.h"

namespace kvlab::conformance {

/// Largest error allowed, over the largest output: sums in fp32 of a few thousand terms.
inline constexpr double kSinglePrecision = 1e-5;
/// The same where queries and outputs are bf16: 8 significant bits on the way in and out.
inline constexpr double kHalfPrecision = 1e-2;

struct SceneShape {
  int64_t heads = 6, kv_heads = 3;
  int64_t key_dim = 7, value_dim = 5;
};

/// Entries of a row that become one segment.
struct SceneRun {
  int32_t first = 0, end = 0;        ///< positions [first, end),
  std::vector<int32_t> listed = {};  ///< or these, listed in the segment
  int head_begin = 0;
  int head_end = -1;  ///< -1: up to the last KV head
  int64_t rotary_shift = 0;
};

/// How entries lie in memory. What attention gives must not depend on it.
struct SceneLayout {
  enum class Poison { keys, values, both };

  bool token_major = false;        ///< [T,G,D] instead of [G,T,D]
  int64_t before = 1, behind = 1;  ///< unused slots around each run
  int64_t gap = 0;                 ///< unused elements behind each entry
  uint64_t shuffle = 0;            ///< seed of the order of runs in memory; 0: as listed
  bool fused_query = false;        ///< queries are part of a wider tensor whose rest is NaN
  /// Where unused slots hold NaN; elsewhere they hold a large finite number.
  Poison poison = Poison::both;
};

/// Rows of one step. Keys, values and queries are functions of text, position and head, exact in
/// bf16; keys and values of type kChar are codes, with a scale per position and head.
class SegmentScene {
 public:
  explicit SegmentScene(const SceneShape& shape = {}) : shape_(shape) {}

  /// Starts a row whose `count` queries stand at `first_position` and on. Rows of another `text`
  /// hold other numbers.
  SegmentScene& row(int64_t first_position, int64_t count, int32_t text = 0);

  /// Adds a run to the last row.
  SegmentScene& add(SceneRun run);
  SegmentScene& add(int32_t first, int32_t end);

  /// What `attention` gives, [N,H,Dv]; fills `feedback`, where given, as `request` asks. Throws Failure where it changes what it reads, writes
  /// outside its output or keeps scratch memory.
  at::Tensor attend(Attention& attention, const PositionEncoding& position,
                    const SceneLayout& layout = {}, FeedbackBuffer* feedback = nullptr,
                    const FeedbackRequest& request = {}) const;

  /// The same in double precision, by definition.
  std::vector<double> reference(const PositionEncoding& position) const;

  /// Throws Failure with the scene and the worst element where `attention` is off by more than
  /// `tolerance` of the largest output. Returns the output.
  at::Tensor require_right(Attention& attention, const PositionEncoding& position,
                           const SceneLayout& layout = {},
                           double tolerance = kSinglePrecision) const;

  /// Throws Failure where the feedback of `attention` is not what `request` means, in double
  /// precision.
  void require_right_feedback(Attention& attention, const PositionEncoding& position,
                              const FeedbackRequest& request,
                              const SceneLayout& layout = {}) const;

  std::string describe() const;

  at::ScalarType key_type = at::kFloat, value_type = at::kFloat, query_type = at::kFloat;
  float scale = 0.3F;
  int64_t model_window = 0, view_window = 0, view_sinks = 0;
  bool keys_before_position = false;
  /// Where not 0, the first element of every key; that of every query is then 1.
  float leading_key = 0;
  ThreadPool* threads = nullptr;  ///< given to attention

 private:
  struct Row {
    int64_t first_position = 0, count = 0;
    int32_t text = 0;
    std::vector<SceneRun> runs;
  };
  /// A scene in memory.
  struct Built;
  /// A row's entries by KV head, in double precision.
  struct Stored;

  Built build(const SceneLayout& layout) const;
  int64_t num_queries() const;
  std::vector<int32_t> positions(const SceneRun& run) const;
  float key(const Row& row, int32_t position, int64_t head, int64_t dim) const;
  float value(const Row& row, int32_t position, int64_t head, int64_t dim) const;
  float key_scale(int32_t position, int64_t head) const;
  float value_scale(int32_t position, int64_t head) const;
  Stored stored(const Row& row, const PositionEncoding& position) const;
  ReferenceRules rules(const PositionEncoding& position, int64_t head) const;
  std::vector<double> wide_query(const Row& row, int64_t position, int64_t head) const;
  float query(const Row& row, int64_t position, int64_t head, int64_t dim) const;

  SceneShape shape_;
  std::vector<Row> rows_;
};

/// Whether both hold the same bits, element by element.
bool same_bits(const at::Tensor& left, const at::Tensor& right);

}  // namespace kvlab::conformance
