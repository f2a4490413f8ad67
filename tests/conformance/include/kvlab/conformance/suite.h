// The kit as GoogleTest tests, and the main that runs them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvlab/runtime/registry.h"

namespace kvlab::conformance {

struct SuiteOptions {
  std::vector<std::string> plugins;        ///< names to test, empty: all of the registry
  int64_t random_operations = 10'000;      ///< per cache, spread over its option sets
  uint64_t seed = 20260;
  std::string replay_folder = ".";         ///< where failing sequences are written
  /// Program that takes --replay FILE, for the command in a failure's text.
  std::string replaying_program = "kvlab_conformance_tests";
};

/// A property that was left out because the traits do not promise it; one per plugin and reason.
struct LeftOut {
  std::string suite;  ///< "CacheConformance", "AttentionConformance" or "PositionConformance"
  std::string plugin, test, reason;
  int64_t cases = 0;  ///< for which it was left out
};

/// What was registered. Tests assert it, so that nothing is left out unseen.
struct Registered {
  int64_t tests = 0;
  std::vector<LeftOut> left_out;
  std::vector<std::string> refused;  ///< option sets that a plugin refuses for a shape
};

// One test per property and case, named Suite.case/property. They must be called before
// InitGoogleTest, and `registry` must outlive the run.
Registered register_cache_conformance(const Registry& registry, const SuiteOptions& options = {});
Registered register_attention_conformance(const Registry& registry,
                                          const SuiteOptions& options = {});
Registered register_position_conformance(const Registry& registry,
                                         const SuiteOptions& options = {});

/// All three.
Registered register_conformance(const Registry& registry, const SuiteOptions& options = {});

/// What `register_conformance` would register. May be called at any time.
Registered survey_conformance(const Registry& registry, const SuiteOptions& options = {});

/// Name of the file beside a plugin's source that lists what is left out of its tests.
inline constexpr const char* kLeftOutFile = "left_out.txt";

/// What `suite` leaves out of the tests of one plugin, as the lines of that file: "Property: reason
/// (N cases)", then "refused: case" for option sets that a shape refuses. Empty: nothing.
std::string left_out_text(const Registry& registry, const std::string& suite,
                          const std::string& plugin);

/// Runs all tests. Fails (3) where none ran or not all that were to, (2) for an argument that nobody
/// knows: GoogleTest 1.12 answers an unknown --gtest_ flag with help and success.
int run_tests(int argc, char** argv);

}  // namespace kvlab::conformance
