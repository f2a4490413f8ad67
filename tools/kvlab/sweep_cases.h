// The cases of a config file that has `sweep:`, without planning a sweep's folder.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kvlab/runtime/config_error.h"
#include "kvlab/sweep/sweep_plan.h"

namespace kvlab {

/// The overrides of each case of the file at `path`, those of the command line first; nothing where
/// the file has no `sweep:`. Throws UserError for a sweep that cannot be read, and as
/// `load_config_file`.
std::optional<std::vector<std::vector<std::string>>> sweep_case_overrides(
    const std::string& path, const std::vector<std::string>& overrides);

/// Those of one case. Throws UserError naming the range.
std::vector<std::string> overrides_of_case(const std::string& path,
                                           const std::vector<std::string>& overrides,
                                           int64_t index);

/// Checks every case. Refused ones are printed with all their reasons to standard error; the counts,
/// unless `quiet`, to standard output, after the name `config`. Returns the problems of the first
/// case where none can run.
std::vector<ConfigProblem> check_sweep_cases(
    const std::string& config, const std::string& path, const std::vector<std::string>& overrides,
    const std::vector<std::vector<std::string>>& cases, bool quiet,
    const RegistryFactory& registry);

}  // namespace kvlab
