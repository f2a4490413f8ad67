// How a decoder learns the order of its tokens.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <limits>
#include <span>
#include <string>

namespace kvlab {

inline constexpr int64_t kUnlimitedPositions = std::numeric_limits<int64_t>::max();

struct PositionTraits {
  bool adds_to_embedding = false;  ///< learned, sinusoidal
  bool rotates = false;            ///< rope: acts on q and k
  bool biases_scores = false;      ///< alibi
  bool can_rebase = false;         ///< keys may be given another position later
  bool needs_table = false;        ///< the model's weights must bring [context, d]
  int64_t max_position = kUnlimitedPositions;  ///< positions 0 .. max_position-1 exist
};

/// What a position plugin is built for.
struct PositionShape {
  int64_t d_model = 0;
  int64_t n_heads = 0;   ///< H
  int64_t head_dim = 0;  ///< D
  int64_t context = 0;   ///< longest text
  at::Tensor table;      ///< [context, d_model] from the checkpoint, or undefined
};

/// Positions are passed as int64 [N]. Reaching `max_position` throws UserError, never an index
/// fault. Functions a plugin does not override do nothing. All of them are const and may be called
/// by several threads at once; `rotate` of a few tokens allocates nothing.
class PositionEncoding {
 public:
  virtual ~PositionEncoding() = default;
  PositionEncoding(const PositionEncoding&) = delete;
  PositionEncoding& operator=(const PositionEncoding&) = delete;

  const std::string& name() const { return name_; }
  virtual const PositionTraits& traits() const = 0;

  /// Adds each token's position vector to `embedding` [N,d] in place.
  virtual void add_to_embedding(at::Tensor& embedding, const at::Tensor& positions) const;

  /// Rotates `heads` [N,heads,D] (queries or keys) by rotary `positions` [N], in place.
  virtual void rotate(at::Tensor& heads, const at::Tensor& positions) const;

  /// Per query head h the slope m[h] of the bias `m[h] * (key position - query position)` on
  /// scores, size H; empty where scores are not biased.
  virtual std::span<const float> score_slopes() const { return {}; }

 protected:
  explicit PositionEncoding(std::string name) : name_(std::move(name)) {}

  /// Throws UserError where the largest of `positions` is not below `max_position`.
  void check_positions(const at::Tensor& positions) const;

 private:
  std::string name_;
};

}  // namespace kvlab
