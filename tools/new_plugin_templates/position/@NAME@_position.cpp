#include "@NAME@_position.h"

namespace kvlab::plugins {

@CLASS@Position::@CLASS@Position(double slope, const PositionShape& shape)
    : PositionEncoding("@NAME@"),
      slopes_(static_cast<size_t>(shape.n_heads), static_cast<float>(slope)) {
  // What you promise: the runtime asks before a run, and the conformance kit tests it.
  traits_.biases_scores = true;
  traits_.can_rebase = true;  // nothing of a key depends on where it stands
}

}  // namespace kvlab::plugins
