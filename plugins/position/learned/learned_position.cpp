#include "learned_position.h"

#include <ATen/core/Tensor.h>

#include "kvlab/core/error.h"

namespace kvlab::plugins {

PositionTraits learned_traits(int64_t context) {
  PositionTraits traits;
  traits.adds_to_embedding = true;
  traits.needs_table = true;
  traits.max_position = context;
  return traits;
}

LearnedPosition::LearnedPosition(const PositionShape& shape)
    : PositionEncoding("learned"), table_(shape.table) {
  KVLAB_CHECK(table_.defined(), "[position.learned] the model's weights have no position table; "
              "use the position encoding it was trained with");
  KVLAB_CHECK(table_.dim() == 2 && table_.size(1) == shape.d_model,
              "[position.learned] expected a table [context,", shape.d_model, "], got ",
              table_.sizes());
  traits_ = learned_traits(table_.size(0));
}

void LearnedPosition::add_to_embedding(at::Tensor& embedding, const at::Tensor& positions) const {
  KVLAB_CHECK_EQ(positions.size(0), embedding.size(0),
                 "[position.learned] positions for the embedding's tokens");
  check_positions(positions);
  embedding.add_(table_.index_select(0, positions));
}

}  // namespace kvlab::plugins
