#include "kvlab/core/error.h"

namespace kvlab::detail {

void throw_user(const std::string& message) { throw UserError(message); }

void throw_internal(const std::string& message, const char* file, int line) {
  throw InternalError(concat(message, " (", file, ":", line, "; this is a bug in kvlab)"));
}

}  // namespace kvlab::detail
