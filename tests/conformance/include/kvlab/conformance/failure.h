// How a property says that it does not hold. Exceptions and no test framework, so that the same
// properties serve tests, the random driver (which shrinks what fails) and the planted bugs.
#pragma once

#include <stdexcept>
#include <string>

#include "kvlab/core/error.h"

namespace kvlab::conformance {

/// A property that does not hold. The text says where and with which values.
class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Throws Failure with the concatenated parts unless `condition` holds.
template <typename... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) throw Failure(kvlab::detail::concat(parts...));
}

/// Throws Failure with the parts and both values unless they are equal.
template <typename Left, typename Right, typename... Parts>
void require_equal(const Left& got, const Right& wanted, const Parts&... parts) {
  if (!(got == wanted)) {
    throw Failure(kvlab::detail::concat(parts..., ": got ", got, ", wanted ", wanted));
  }
}

/// Throws Failure unless `action` throws `Error`.
template <typename Error, typename Action>
void require_throws(Action&& action, const std::string& what) {
  try {
    action();
  } catch (const Error&) {
    return;
  } catch (const std::exception& other) {
    throw Failure(what + ": another kind of error was thrown: " + other.what());
  }
  throw Failure(what + ": nothing was thrown");
}

/// Text of the `Error` that `action` throws, "nothing was thrown" where it throws none.
template <typename Error, typename Action>
std::string message_of(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

}  // namespace kvlab::conformance
