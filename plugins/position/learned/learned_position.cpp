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
  KVLAB_CHECK(embedding.dim() == 2 && embedding.size(1) == table_.size(1),
              "[position.learned] expected an embedding [", positions.size(0), ",",
              table_.size(1), "], got ", embedding.sizes());
  check_positions(positions);
  // Row by row: no tensor of all rows is made first.
  const int64_t* position = positions.const_data_ptr<int64_t>();
  for (int64_t token = 0; token < embedding.size(0); ++token) {
    embedding.select(0, token).add_(table_.select(0, position[token]));
  }
}

}  // namespace kvlab::plugins
