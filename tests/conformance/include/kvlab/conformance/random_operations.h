// Random operation sequences on a cache and its oracle, what fails made short, and replay files.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kvlab/conformance/cache_case.h"

namespace kvlab::conformance {

/// One operation. Its numbers mean something in every state: rows and lengths are taken modulo what
/// there is, and no more tokens are fed than fit. So a sequence stays valid when parts are left out.
struct Operation {
  enum class Kind {
    step,
    view_twice,   ///< a step whose views are asked for again, the first layer's after the last's
    abort,        ///< a step that is given up after `amount` of its appends and views
    starve,       ///< a step whose `amount`-th allocation fails; aborted then
    truncate,     ///< `row` to `amount` modulo its length + 1
    fork,         ///< `row` to `other`
    starve_fork,  ///< the same with the `amount`-th allocation failing; `other` is reset then
    reset,        ///< `row`
    overfill,     ///< a step that gives `row` `amount` tokens more than fit, and must be refused
  };
  Kind kind = Kind::step;
  int row = 0;                  ///< in a step: the row that comes first
  int other = 0;
  int64_t amount = 0;
  std::vector<int64_t> tokens;  ///< of each row in a step; -1: not in the step

  bool operator==(const Operation&) const = default;
};

/// Every kind, in the order of the enumeration.
const std::vector<Operation::Kind>& operation_kinds();

/// One line as in a replay file: "truncate row=1 length=9".
std::string to_text(const Operation& operation);

/// Whether the traits promise that the operation works.
bool promised(Operation::Kind kind, const CacheTraits& traits);

/// A seeded sequence for a cache of this shape and these traits; the same on every machine.
std::vector<Operation> random_operations(const CacheCase& chosen, const CacheTraits& traits,
                                         uint64_t seed, int64_t count);

struct OperationRun {
  int64_t passed = 0;                  ///< operations before the one that failed
  std::optional<std::string> failure;  ///< with the operation's number and text
};

/// Called after each operation with the rows' text lengths and, for the last, what failed.
using OperationObserver = std::function<void(
    const Operation&, const std::vector<int64_t>& lengths, const std::string* failure)>;

/// Executes the sequence on a new cache and oracle, comparing after every operation. Whatever is
/// thrown where it must not be is a failure.
OperationRun run_operations(const Registry& registry, const CacheCase& chosen,
                            const std::vector<Operation>& operations,
                            const OperationObserver& observer = {});

/// Ends shrinking, whichever comes first.
struct ShrinkBudget {
  int64_t attempts = 20'000;
  double seconds = 30;
};

/// Leaves out operations and lessens their numbers as long as the sequence still fails. Requires: it
/// fails.
std::vector<Operation> shrink_operations(const Registry& registry, const CacheCase& chosen,
                                         std::vector<Operation> operations,
                                         const ShrinkBudget& budget = {});

/// A sequence with all it takes to run it again.
struct Replay {
  CacheCase chosen;
  uint64_t seed = 0;  ///< that found it
  std::vector<Operation> operations;
  std::string failure;  ///< written as a comment, not read back
};
std::string write_replay(const Replay& replay);

/// Throws UserError naming the line of what is missing, unknown, twice or out of range.
Replay read_replay(const std::string& text);

/// `count` operations in sequences of some thousand, each with a seed of its own derived from `seed`.
/// The first failure is shrunk and written to `replay_folder`; the result says what failed, the
/// seed, the file and the command of `replaying_program` that runs it again.
std::optional<std::string> check_random_operations(const Registry& registry,
                                                   const CacheCase& chosen, uint64_t seed,
                                                   int64_t count,
                                                   const std::string& replay_folder,
                                                   const std::string& replaying_program =
                                                       "kvlab_conformance_tests");

}  // namespace kvlab::conformance
