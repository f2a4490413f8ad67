// The convenience base of attention over tensors: gets each row's entries as one tensor and hands it
// to the plugin, part by part.
#pragma once

#include <cstdint>
#include <limits>
#include <string>

#include "kvlab/attention/attention.h"

namespace kvlab {

class DenseAttention : public Attention {
 public:
  const AttentionTraits& traits() const final { return traits_; }
  void forward(const AttentionInput& input) final;
  int64_t gathered_bytes() const final { return gathered_bytes_; }

 protected:
  /// `queries_at_once` bounds how many queries of a row are attended to together, and so the score
  /// matrix for long prompts.
  DenseAttention(std::string name, const AttentionTraits& traits,
                 int64_t queries_at_once = std::numeric_limits<int64_t>::max())
      : Attention(std::move(name)), traits_(traits), queries_at_once_(queries_at_once) {}

  /// How a slice's heads divide: H query heads, G stored heads, R = H / G queries' heads per stored
  /// one, n queries, T entries (at least 1).
  struct Shape {
    int64_t heads = 0, stored = 0, group = 0;
    int64_t queries = 0, entries = 0;
    int64_t key_dim = 0, value_dim = 0;
  };

  /// Attention of the queries `query` [n,H,D] at the positions of `slice` over `kv`, to `output`
  /// [n,H,Dv]. The R * n queries that read one stored head can be the rows of one matrix
  /// (`by_stored_head`), so that K and V are never expanded.
  virtual void attend(const AttentionInput& input, const RowSlice& slice, const DenseKV& kv,
                      const Shape& shape, const at::Tensor& query, at::Tensor& output) = 0;

  /// Takes the probabilities [G,R,n,T] of the queries of `slice`, for plugins whose traits declare
  /// feedback. To be called by `attend` where `input.feedback` is given.
  void add_feedback(const AttentionInput& input, const RowSlice& slice,
                    const at::Tensor& probabilities);

  /// [n,H,D] -> [G, R*n, D].
  static at::Tensor by_stored_head(const at::Tensor& query, const Shape& shape);

  /// [G, R*n, Dv] -> [n,H,Dv].
  static at::Tensor by_query(const at::Tensor& mixed, const Shape& shape);

 private:
  static void clear_feedback(const AttentionInput& input, int64_t index);
  void begin_feedback(const AttentionInput& input, const RowSlice& slice, int64_t entries);
  void end_feedback(const AttentionInput& input, int64_t index) const;

  AttentionTraits traits_;
  int64_t queries_at_once_;
  at::Tensor column_sums_;            // [G,R,T] of the slice, while there is feedback
  int64_t first_counted_position_ = 0;  // of the queries that feedback sums over
  int64_t gathered_bytes_ = 0;
};

}  // namespace kvlab
