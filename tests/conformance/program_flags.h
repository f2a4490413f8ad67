// What the conformance program is asked to do.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kvlab::conformance {

struct ProgramFlags {
  bool help = false;
  std::vector<std::string> plugins;         ///< libraries to load
  std::vector<std::string> only;            ///< names to test
  std::optional<std::string> replay;        ///< file to run instead of tests
  std::optional<std::string> write_traces;  ///< folder to write to instead of tests
  std::optional<int64_t> operations;        ///< random ones per cache
  std::optional<uint64_t> seed;
  std::optional<std::string> replays;       ///< folder for sequences that fail
  std::optional<std::string> target;        ///< instruction set that kernels are to use
  bool table = false;
  std::vector<std::string> googletest;      ///< flags for GoogleTest, in their order
};

/// Reads "--flag value" and "--flag=value". Throws UserError for an unknown flag, a missing value, a
/// bad number, and flags that contradict each other.
ProgramFlags read_flags(const std::vector<std::string>& arguments);

/// What `--help` prints.
std::string flags_help();

}  // namespace kvlab::conformance
