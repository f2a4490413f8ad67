#include "kvlab/position/position_encoding.h"

#include <algorithm>

#include "kvlab/core/error.h"

namespace kvlab {

void PositionEncoding::add_to_embedding(at::Tensor&, const at::Tensor&) const {}

void PositionEncoding::rotate(at::Tensor&, const at::Tensor&) const {}

void PositionEncoding::check_positions(const at::Tensor& positions) const {
  const int64_t limit = traits().max_position;
  if (limit == kUnlimitedPositions || positions.numel() == 0) return;
  const int64_t* data = positions.const_data_ptr<int64_t>();
  const auto [low, high] = std::minmax_element(data, data + positions.numel());
  KVLAB_CHECK_GE(*low, 0, "[position.", name_, "] position");
  KVLAB_CHECK(*high < limit, "[position.", name_, "] position ", *high, " is past the end: ",
              limit, " positions exist. Shorten the text, or use a model with a longer context");
}

}  // namespace kvlab
