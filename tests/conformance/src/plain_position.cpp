#include "plain_position.h"

#include <ATen/ops/empty.h>

#include <cmath>
#include <random>

#include "kvlab/core/error.h"

namespace kvlab::conformance {

PlainPosition::PlainPosition(Kind kind, int64_t num_heads) : PositionEncoding("plain") {
  traits_.rotates = kind == Kind::rotates;
  traits_.biases_scores = kind == Kind::slopes;
  traits_.can_rebase = true;
  for (int64_t head = 0; traits_.biases_scores && head < num_heads; ++head) {
    slopes_.push_back(1.0F / static_cast<float>(3 + 2 * head));
  }
}

void PlainPosition::rotate(at::Tensor& heads, const at::Tensor& positions) const {
  if (!traits_.rotates) return;
  at::Tensor turned = heads.to(at::kFloat).contiguous().clone();
  const int64_t dim = heads.size(2);
  float* data = turned.mutable_data_ptr<float>();
  for (int64_t token = 0; token < heads.size(0); ++token) {
    const auto position = static_cast<double>(positions.const_data_ptr<int64_t>()[token]);
    for (int64_t head = 0; head < heads.size(1); ++head, data += dim) {
      for (int64_t i = 0; 2 * i + 1 < dim; ++i) {
        const double angle = 0.7 * position / static_cast<double>(i + 1);
        const double a = data[2 * i], b = data[2 * i + 1];
        data[2 * i] = static_cast<float>(a * std::cos(angle) - b * std::sin(angle));
        data[2 * i + 1] = static_cast<float>(b * std::cos(angle) + a * std::sin(angle));
      }
    }
  }
  heads.copy_(turned);
}

std::unique_ptr<PositionEncoding> make_position(const Registry& registry, const ComponentSpec& spec,
                                                PositionShape shape) {
  if (!shape.table.defined() && registry.position_traits(spec, shape).needs_table) {
    shape.table = at::empty({shape.context, shape.d_model}, at::kFloat);
    std::mt19937 random(11);
    std::normal_distribution<float> normal;
    float* data = shape.table.mutable_data_ptr<float>();
    for (int64_t i = 0; i < shape.table.numel(); ++i) data[i] = normal(random);
  }
  return registry.make_position(spec, shape);
}

std::vector<std::unique_ptr<PositionEncoding>> positions_of_kind(
    const Registry& registry, const PositionShape& shape, PlainPosition::Kind kind,
    bool (*wanted)(const PositionTraits&)) {
  std::vector<std::unique_ptr<PositionEncoding>> chosen;
  chosen.push_back(std::make_unique<PlainPosition>(kind, shape.n_heads));
  for (const PositionEntry& entry : registry.positions()) {
    ComponentSpec spec;
    spec.type = entry.info.name;
    try {
      auto made = make_position(registry, spec, shape);
      if (wanted(made->traits())) chosen.push_back(std::move(made));
    } catch (const UserError&) {
      // Not for this shape, or with required options.
    }
  }
  return chosen;
}

}  // namespace kvlab::conformance
