// Position encodings of the kit's own, so that attention can be tested where no position plugin is
// registered, and the registered ones that do a certain thing.
#pragma once

#include <memory>
#include <vector>

#include "kvlab/position/position_encoding.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::conformance {

/// Does one thing in the simplest way.
class PlainPosition final : public PositionEncoding {
 public:
  enum class Kind {
    none,
    slopes,   ///< m[h] = 1 / (3 + 2h)
    rotates,  ///< turns elements 2i and 2i+1 by 0.7 * position / (i + 1)
  };

  /// `num_heads` is needed for slopes.
  explicit PlainPosition(Kind kind = Kind::none, int64_t num_heads = 0);

  const PositionTraits& traits() const override { return traits_; }
  void rotate(at::Tensor& heads, const at::Tensor& positions) const override;
  std::span<const float> score_slopes() const override { return slopes_; }

 private:
  PositionTraits traits_;
  std::vector<float> slopes_;  // [H]
};

/// Makes the encoding with a table of random numbers where it needs one and `shape` has none.
std::unique_ptr<PositionEncoding> make_position(const Registry& registry, const ComponentSpec& spec,
                                                PositionShape shape);

/// The kit's own encoding of `kind`, then every registered one whose traits for `shape` are
/// `wanted`. What a plugin refuses for the shape is left out.
std::vector<std::unique_ptr<PositionEncoding>> positions_of_kind(
    const Registry& registry, const PositionShape& shape, PlainPosition::Kind kind,
    bool (*wanted)(const PositionTraits&));

}  // namespace kvlab::conformance
