// What a sweep varies: `sweep:` of a config file and the axes of the command line, as lists of
// settings whose product are the cases.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvlab/runtime/config_node.h"

namespace kvlab {

inline constexpr int64_t kMostSweepCases = 10000;

/// One key of a case with its value, in YAML flow style.
struct SweepSetting {
  std::string key;
  std::string value;

  /// The override that makes it: `key=value`; for `~key` the key alone.
  std::string override_text() const;
};

/// Settings that go together.
using SweepPoint = std::vector<SweepSetting>;

/// One factor of the product: the points it goes through.
using SweepFactor = std::vector<SweepPoint>;

/// Reads `sweep: {grid: {key: [..]}, zip: {key: [..], key2: [..]}, list: [{key: value}, ..]}`. Each
/// key of the grid is a factor, `zip` is one in which all keys go in lock-step, `list` is one.
/// Throws UserError with the place in the file.
std::vector<SweepFactor> read_sweep(const ConfigNode& sweep);

/// Reads an axis of the command line: `key=1,2,4` or `key=range(start,stop,step)`, stop excluded.
/// Commas inside brackets and quotes separate nothing. Throws UserError.
SweepFactor parse_axis(const std::string& text);

/// Adds axes of the command line to the factors of a file. One whose key is a factor of its own in
/// the file takes that factor's place. Throws UserError as `parse_axis`.
void take_axes(std::vector<SweepFactor>& factors, const std::vector<std::string>& axes);

/// The number of cases. Throws UserError where it is above `limit`, a key is in two factors, or
/// a factor has the same point twice.
int64_t count_cases(const std::vector<SweepFactor>& factors, int64_t limit);

/// All cases in order; the last factor goes fastest. Requires: `count_cases` accepts the factors.
std::vector<SweepPoint> sweep_points(const std::vector<SweepFactor>& factors);

/// Keys in the order in which points name them first.
std::vector<std::string> sweep_keys(const std::vector<SweepFactor>& factors);

/// A node in YAML flow style on one line, with paths of files made absolute.
std::string flow_text(const ConfigNode& node);

}  // namespace kvlab
