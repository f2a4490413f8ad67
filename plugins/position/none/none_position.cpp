#include "none_position.h"

namespace kvlab::plugins {

NonePosition::NonePosition() : PositionEncoding("none") { traits_.can_rebase = true; }

}  // namespace kvlab::plugins
