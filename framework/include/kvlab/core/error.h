// Error types of kvlab and the macros that throw them.
// Message form: "[component.operation] rule, values", then what to do when that is known.
#pragma once

#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>

namespace kvlab {

/// Base of everything kvlab throws itself. LibTorch's `c10::Error` passes through unchanged.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The caller's mistake: a bad config, option, file or shape.
class UserError : public Error {
 public:
  using Error::Error;
};

/// Something the user named does not exist: a model, file, plugin or experiment kind.
class MissingError : public UserError {
 public:
  using UserError::UserError;
};

/// Storage is exhausted. Lengths and contents of the thrower are as before the call.
class CapacityError : public UserError {
 public:
  using UserError::UserError;
};

/// A plugin broke its contract or could not be loaded.
class PluginError : public Error {
 public:
  using Error::Error;
};

/// Our own bug.
class InternalError : public Error {
 public:
  using Error::Error;
};

namespace detail {

template <typename... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream stream;
  (stream << ... << parts);
  return stream.str();
}

[[noreturn]] void throw_user(const std::string& message);
[[noreturn]] void throw_internal(const std::string& message, const char* file, int line);

template <typename Left, typename Right, typename... Parts>
std::string concat_operands(const Left& left, const Right& right, const char* relation,
                            const Parts&... parts) {
  return concat(parts..., ": got ", left, ", wanted ", relation, " ", right);
}

}  // namespace detail
}  // namespace kvlab

/// Throws UserError with the concatenated parts unless `condition` holds.
#define KVLAB_CHECK(condition, ...)                                              \
  do {                                                                           \
    if (!(condition)) ::kvlab::detail::throw_user(::kvlab::detail::concat(__VA_ARGS__)); \
  } while (false)

// The comparison forms print both operands.
#define KVLAB_CHECK_COMPARE_(left, right, op, relation, ...)                              \
  do {                                                                                    \
    const auto& kvlab_left = (left);                                                      \
    const auto& kvlab_right = (right);                                                    \
    if (!(kvlab_left op kvlab_right))                                                     \
      ::kvlab::detail::throw_user(                                                        \
          ::kvlab::detail::concat_operands(kvlab_left, kvlab_right, relation, __VA_ARGS__)); \
  } while (false)
#define KVLAB_CHECK_EQ(left, right, ...) KVLAB_CHECK_COMPARE_(left, right, ==, "exactly", __VA_ARGS__)
#define KVLAB_CHECK_LE(left, right, ...) KVLAB_CHECK_COMPARE_(left, right, <=, "at most", __VA_ARGS__)
#define KVLAB_CHECK_GE(left, right, ...) KVLAB_CHECK_COMPARE_(left, right, >=, "at least", __VA_ARGS__)
#define KVLAB_CHECK_LT(left, right, ...) KVLAB_CHECK_COMPARE_(left, right, <, "less than", __VA_ARGS__)

/// Throws InternalError with file and line unless `condition` holds.
#define KVLAB_INVARIANT(condition, ...)                                                     \
  do {                                                                                      \
    if (!(condition))                                                                       \
      ::kvlab::detail::throw_internal(::kvlab::detail::concat(__VA_ARGS__), __FILE__, __LINE__); \
  } while (false)
