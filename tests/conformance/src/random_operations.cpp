#include "kvlab/conformance/random_operations.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <random>

#include "kvlab/conformance/cache_harness.h"
#include "kvlab/conformance/failure.h"

namespace kvlab::conformance {

namespace {

using Kind = Operation::Kind;

constexpr int64_t kOperationsOfASequence = 2000;

/// Executes operations on one cache and its oracle.
class OperationDriver {
 public:
  OperationDriver(const Registry& registry, const CacheCase& chosen)
      : registry_(registry), harness_(registry, chosen) {}

  void run(const Operation& operation) {
    switch (operation.kind) {
      case Kind::step: return step(operation);
      case Kind::view_twice: return step(operation);
      case Kind::abort: return abort(operation);
      case Kind::starve: return starve(operation);
      case Kind::truncate: return truncate(operation);
      case Kind::fork: return fork(operation);
      case Kind::starve_fork: return starve_fork(operation);
      case Kind::reset: return harness_.reset(row_of(operation.row));
      case Kind::overfill: return overfill(operation);
    }
  }

  std::vector<int64_t> lengths() const {
    std::vector<int64_t> lengths;
    for (int row = 0; row < harness_.rows(); ++row) lengths.push_back(harness_.length(row));
    return lengths;
  }

 private:
  int row_of(int number) const { return static_cast<int>(number % harness_.rows()); }
  int layers() const { return static_cast<int>(harness_.shape().layers); }

  std::vector<Feed> feeds(const Operation& operation) const {
    std::vector<Feed> feeds;
    for (int i = 0; i < harness_.rows(); ++i) {
      const int row = row_of(operation.row + i);
      const auto place = static_cast<size_t>(row);
      if (place >= operation.tokens.size() || operation.tokens[place] < 0) continue;
      feeds.push_back({row, std::min({operation.tokens[place], harness_.room(row),
                                      harness_.shape().max_step_tokens})});
    }
    return feeds;
  }

  // Whether the options leave room for rows of these lengths: a pool may be smaller than all rows.
  bool options_leave_room(const std::vector<int64_t>& wanted) const {
    StepSequence sequence;
    const int64_t longest = *std::max_element(wanted.begin(), wanted.end());
    const int64_t step = harness_.shape().max_step_tokens;
    for (int64_t end = std::min(step, longest);; end = std::min(end + step, longest)) {
      auto& items = sequence.steps.emplace_back();
      for (size_t row = 0; row < wanted.size(); ++row) {
        items.push_back({static_cast<int>(row), std::min(wanted[row], end)});
      }
      if (end == longest) break;
    }
    try {
      registry_.estimate_cache(parse_component_spec(harness_.chosen().spec), harness_.shape(),
                               sequence);
      return true;
    } catch (const CapacityError&) {
      return false;
    }
  }

  // False where the step was refused and may be.
  bool begin(const std::vector<Feed>& feeds) {
    try {
      harness_.begin(feeds);
      return true;
    } catch (const CapacityError& refusal) {
      std::vector<int64_t> wanted = lengths();
      for (const Feed& feed : feeds) wanted[static_cast<size_t>(feed.row)] += feed.count;
      require(!options_leave_room(wanted), "a step that fits was refused: ", refusal.what());
    }
    harness_.verify();
    return false;
  }

  void step(const Operation& operation) {
    if (!begin(feeds(operation))) return;
    const bool twice = operation.kind == Kind::view_twice;
    for (int layer = 0; layer < layers(); ++layer) {
      harness_.append(layer);
      harness_.attend(layer);
      if (twice) harness_.attend(layer);
    }
    if (twice && layers() > 0) harness_.attend(0);
    finish();
  }

  void abort(const Operation& operation) {
    if (!begin(feeds(operation))) return;
    for (int done = 0; done < std::min<int64_t>(operation.amount, 2 * layers()); ++done) {
      done % 2 == 0 ? harness_.append(done / 2) : harness_.attend(done / 2);
    }
    abort();
  }

  // Ending and aborting take only what was reserved: an allocation there could fail.
  void finish() {
    const int64_t before = harness_.arena().allocations();
    harness_.finish();
    require_equal(harness_.arena().allocations(), before, "end_step allocates: allocations");
    harness_.verify();
  }

  void abort() {
    const int64_t before = harness_.arena().allocations();
    harness_.abort();
    require_equal(harness_.arena().allocations(), before, "abort_step allocates: allocations");
    harness_.verify();
  }

  void starve(const Operation& operation) {
    const std::vector<Feed> fed = feeds(operation);
    bool begun = false, failed = false;
    harness_.arena().fail_allocation(std::max<int64_t>(1, operation.amount));
    try {
      harness_.begin(fed);
      begun = true;
      for (int layer = 0; layer < layers(); ++layer) {
        harness_.append(layer);
        harness_.attend(layer);
      }
    } catch (const CapacityError&) {
      failed = true;
    }
    harness_.arena().fail_allocation(0);
    if (!begun) return harness_.verify();
    failed ? abort() : finish();
  }

  bool may_refuse(int row, int64_t length) {
    return harness_.traits().truncation == Truncation::resident && length > 0 &&
           !harness_.holds_enough_for(row, length);
  }

  void truncate(const Operation& operation) {
    const int row = row_of(operation.row);
    const int64_t length = operation.amount % (harness_.length(row) + 1);
    try {
      harness_.truncate(row, length);
    } catch (const UserError& refusal) {
      require(may_refuse(row, length), "row ", row, " of length ", harness_.length(row),
              " holds what ", length, " tokens need, and cutting it back to them was refused: ",
              refusal.what());
      harness_.verify();
    }
  }

  void fork(const Operation& operation) {
    const int from = row_of(operation.row), to = row_of(operation.other);
    std::vector<int64_t> wanted = lengths();
    wanted[static_cast<size_t>(to)] = wanted[static_cast<size_t>(from)];
    try {
      harness_.fork(from, to);
    } catch (const CapacityError& refusal) {
      require(!options_leave_room(wanted), "a fork that fits was refused: ", refusal.what());
      harness_.reset(to);
    }
  }

  void starve_fork(const Operation& operation) {
    const int from = row_of(operation.row), to = row_of(operation.other);
    bool failed = false;
    harness_.arena().fail_allocation(std::max<int64_t>(1, operation.amount));
    try {
      harness_.cache().fork(from, to);
    } catch (const CapacityError&) {
      failed = true;
    }
    harness_.arena().fail_allocation(0);
    // What a fork that failed leaves in its target is gone with a reset; one that did not is made
    // again, since the oracle does not know it yet.
    failed ? harness_.reset(to) : fork(operation);
  }

  void overfill(const Operation& operation) {
    const int full = row_of(operation.row);
    std::vector<Feed> fed;
    for (const Feed& feed : feeds(operation)) {
      if (feed.row != full) fed.push_back(feed);
    }
    fed.push_back({full, harness_.room(full) + std::max<int64_t>(1, operation.amount)});
    try {
      harness_.begin(fed);
    } catch (const UserError&) {
      return harness_.verify();
    }
    harness_.abort();
    throw Failure(detail::concat("row ", full, " has room for ", harness_.room(full),
                                 " tokens, and a step with ", fed.back().count,
                                 " was not refused"));
  }

  const Registry& registry_;
  CacheHarness harness_;
};

// What `action` throws, as text; nothing where it returns.
template <typename Action>
std::optional<std::string> thrown_by(Action&& action) {
  try {
    action();
    return std::nullopt;
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  } catch (const std::exception& error) {
    return error.what();
  } catch (...) {
    return "something was thrown that is no std::exception";
  }
}

/// How steps look for a while.
enum class Style { decode, ragged, prompts };

class OperationGenerator {
 public:
  OperationGenerator(const CacheShape& shape, const CacheTraits& traits, uint64_t seed)
      : shape_(shape), random_(seed) {
    // How often each kind occurs, in parts of the sum.
    constexpr std::array<std::pair<Kind, int>, 9> kShares = {{{Kind::step, 50},
                                                              {Kind::view_twice, 4},
                                                              {Kind::abort, 8},
                                                              {Kind::starve, 8},
                                                              {Kind::truncate, 12},
                                                              {Kind::fork, 10},
                                                              {Kind::starve_fork, 2},
                                                              {Kind::reset, 4},
                                                              {Kind::overfill, 2}}};
    for (const auto& [kind, share] : kShares) {
      if (promised(kind, traits)) kinds_.insert(kinds_.end(), static_cast<size_t>(share), kind);
    }
  }

  std::vector<Operation> generate(int64_t count) {
    std::vector<Operation> operations;
    while (static_cast<int64_t>(operations.size()) < count) {
      const auto style = static_cast<Style>(below(3));
      // Some stretches start with empty rows, so that short texts are frequent too.
      if (below(3) == 0) {
        for (int row = 0; row < shape_.rows; ++row) {
          operations.push_back({Kind::reset, row, 0, 0, {}});
        }
      }
      for (int64_t left = 3 + below(40); left > 0; --left) operations.push_back(next(style));
    }
    operations.resize(static_cast<size_t>(count));
    return operations;
  }

 private:
  // Not std::uniform_int_distribution, whose numbers differ from library to library.
  int64_t below(int64_t end) {
    return static_cast<int64_t>(random_() % static_cast<uint64_t>(end));
  }
  int any_row() { return static_cast<int>(below(shape_.rows)); }

  Operation next(Style style) {
    Operation made;
    made.kind = kinds_[static_cast<size_t>(below(static_cast<int64_t>(kinds_.size())))];
    made.row = any_row();
    switch (made.kind) {
      case Kind::step:
      case Kind::view_twice: break;
      case Kind::abort: made.amount = below(2 * shape_.layers + 1); break;
      case Kind::starve: made.amount = 1 + below(6); break;
      case Kind::truncate: made.amount = below(shape_.max_length + 1); return made;
      case Kind::fork: made.other = any_row(); return made;
      case Kind::starve_fork:
        made.other = any_row();
        made.amount = 1 + below(4);
        return made;
      case Kind::reset: return made;
      case Kind::overfill: made.amount = 1 + below(3); break;
    }
    for (int row = 0; row < shape_.rows; ++row) made.tokens.push_back(tokens(style));
    return made;
  }

  int64_t tokens(Style style) {
    switch (style) {
      case Style::decode: return below(5) == 0 ? -1 : 1;
      case Style::ragged: return below(4) - 1;
      case Style::prompts: return below(2) == 0 ? -1 : below(shape_.max_length + 1);
    }
    return -1;
  }

  CacheShape shape_;
  std::mt19937_64 random_;
  std::vector<Kind> kinds_;
};

// The i-th of a family of unrelated seeds (the finaliser of SplitMix64).
uint64_t derived_seed(uint64_t seed, uint64_t number) {
  uint64_t mixed = seed + (number + 1) * 0x9e3779b97f4a7c15U;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9U;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebU;
  return mixed ^ (mixed >> 31);
}

// Cases of the same shape are to see different sequences.
uint64_t seed_of_case(uint64_t seed, const std::string& name) {
  for (const char letter : name) seed = derived_seed(seed, static_cast<unsigned char>(letter));
  return seed;
}

std::string quoted(const std::string& word) {
  const bool plain = word.find_first_of(" '\"\\$`;&|<>()*?[]#~") == std::string::npos;
  return plain ? word : "'" + word + "'";
}

std::string replay_command(const Registry& registry, const std::string& program,
                           const std::string& file) {
  std::string command = quoted(program);
  for (const LoadedPlugin& plugin : registry.plugins()) {
    command += " --plugin " + quoted(plugin.file);
  }
  return command + " --replay " + quoted(file);
}

// Writes the replay file and says so, or why it could not be written and what would be in it.
std::string keep_replay(const Registry& registry, const Replay& replay, const std::string& folder,
                        const std::string& program) {
  const std::filesystem::path file =
      std::filesystem::absolute(folder) /
      (replay.chosen.name + "-" + std::to_string(replay.seed) + ".replay");
  std::error_code failed;
  std::filesystem::create_directories(file.parent_path(), failed);
  std::ofstream stream(file);
  stream << write_replay(replay);
  stream.close();
  if (!stream) {
    return "it could not be written to " + file.string() + "; save this:\n" + write_replay(replay);
  }
  return "written to " + file.string() + "\nrun it again: " +
         replay_command(registry, program, file.string());
}

}  // namespace

const std::vector<Kind>& operation_kinds() {
  static const std::vector<Kind> kinds = {
      Kind::step, Kind::view_twice,  Kind::abort, Kind::starve,  Kind::truncate,
      Kind::fork, Kind::starve_fork, Kind::reset, Kind::overfill};
  return kinds;
}

bool promised(Kind kind, const CacheTraits& traits) {
  switch (kind) {
    case Kind::truncate:
      return traits.truncation == Truncation::exact || traits.truncation == Truncation::resident;
    case Kind::fork:
    case Kind::starve_fork: return traits.forks;
    default: return true;
  }
}

std::vector<Operation> random_operations(const CacheCase& chosen, const CacheTraits& traits,
                                         uint64_t seed, int64_t count) {
  return OperationGenerator(chosen.shape, traits, seed).generate(count);
}

OperationRun run_operations(const Registry& registry, const CacheCase& chosen,
                            const std::vector<Operation>& operations,
                            const OperationObserver& observer) {
  OperationRun run;
  std::optional<OperationDriver> driver;
  if (const auto failure = thrown_by([&] { driver.emplace(registry, chosen); })) {
    run.failure = "making the cache: " + *failure;
    return run;
  }
  for (const Operation& operation : operations) {
    const auto failure = thrown_by([&] { driver->run(operation); });
    if (observer) observer(operation, driver->lengths(), failure ? &*failure : nullptr);
    if (failure) {
      run.failure = detail::concat("operation ", run.passed + 1, " (", to_text(operation),
                                   "): ", *failure);
      return run;
    }
    ++run.passed;
  }
  return run;
}

std::optional<std::string> check_random_operations(const Registry& registry,
                                                   const CacheCase& chosen, uint64_t seed,
                                                   int64_t count,
                                                   const std::string& replay_folder,
                                                   const std::string& replaying_program) {
  const CacheTraits traits = traits_of(registry, chosen);
  for (int64_t done = 0; done < count; done += kOperationsOfASequence) {
    const uint64_t own_seed =
        derived_seed(seed_of_case(seed, chosen.name), static_cast<uint64_t>(done));
    const std::vector<Operation> operations = random_operations(
        chosen, traits, own_seed, std::min(kOperationsOfASequence, count - done));
    const OperationRun run = run_operations(registry, chosen, operations);
    if (!run.failure) continue;
    Replay replay{chosen, own_seed, shrink_operations(registry, chosen, operations), ""};
    // Once more, since the shortest sequence may fail with other numbers.
    replay.failure = run_operations(registry, chosen, replay.operations).failure.value_or(
        "nothing: it failed before and does not always");
    return detail::concat(*run.failure, "\nof sequence seed ", own_seed, " after ", done,
                          " operations of seed ", seed, "; shrunk to ",
                          replay.operations.size(), ", which fails with\n", replay.failure, "\n",
                          keep_replay(registry, replay, replay_folder, replaying_program));
  }
  return std::nullopt;
}

}  // namespace kvlab::conformance
