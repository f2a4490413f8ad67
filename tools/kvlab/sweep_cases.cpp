#include "sweep_cases.h"

#include <algorithm>
#include <iostream>

#include "kvlab/core/error.h"
#include "kvlab/runtime/config_check.h"
#include "kvlab/runtime/config_node.h"
#include "kvlab/runtime/process.h"
#include "kvlab/sweep/sweep_spec.h"

namespace kvlab {

namespace {

// What makes the case, as the sweep says it: without what holds for all.
std::string case_text(const std::vector<std::string>& of_case, size_t shared) {
  std::string text;
  for (size_t i = shared; i < of_case.size(); ++i) {
    text += (text.empty() ? "" : ", ") + of_case[i];
  }
  return text;
}

}  // namespace

std::optional<std::vector<std::vector<std::string>>> sweep_case_overrides(
    const std::string& path, const std::vector<std::string>& overrides) {
  const ConfigNode root = load_config_file(path, overrides);
  const ConfigNode* sweep = root.find("sweep");
  if (sweep == nullptr) return std::nullopt;
  const std::vector<SweepFactor> factors = read_sweep(*sweep);
  count_cases(factors, kMostSweepCases);
  std::vector<std::vector<std::string>> cases;
  for (const SweepPoint& point : sweep_points(factors)) {
    std::vector<std::string>& applied = cases.emplace_back(overrides);
    applied.push_back("~sweep");
    for (const SweepSetting& setting : point) applied.push_back(setting.override_text());
  }
  return cases;
}

std::vector<std::string> overrides_of_case(const std::string& path,
                                           const std::vector<std::string>& overrides,
                                           int64_t index) {
  const auto cases = sweep_case_overrides(path, overrides);
  KVLAB_CHECK(cases, "[command_line.--case] '", path, "' has no sweep: and so no cases");
  const auto count = static_cast<int64_t>(cases->size());
  KVLAB_CHECK(index >= 0 && index < count, "[command_line.--case] '", path, "' has the cases 0 to ",
              count - 1, ", got ", index);
  return (*cases)[static_cast<size_t>(index)];
}

std::vector<ConfigProblem> check_sweep_cases(
    const std::string& config, const std::string& path, const std::vector<std::string>& overrides,
    const std::vector<std::vector<std::string>>& cases, bool quiet,
    const RegistryFactory& registry) {
  const size_t shared = overrides.size() + 1;  // ~sweep comes after them
  std::vector<ConfigProblem> first;
  size_t refused = 0;
  for (size_t i = 0; i < cases.size(); ++i) {
    check_interrupted();
    // A registry of its own, as in the sweep: one case's plugins are not there for the next.
    Registry own = registry();
    const std::vector<ConfigProblem> problems = check_experiment(path, cases[i], own);
    if (problems.empty()) continue;
    if (refused++ == 0) first = problems;
    std::cerr << "refused case " << i << " (" << case_text(cases[i], shared) << "):\n";
    for (const ConfigProblem& problem : problems) std::cerr << "  " << problem.message << "\n";
  }
  if (refused == cases.size()) {
    std::cerr << config << ": none of the " << cases.size()
              << " cases can run. What is wrong with the first:\n";
    return first;
  }
  if (quiet) return {};
  std::cout << config << ": ok, " << cases.size() << " cases, ";
  if (refused == 0) {
    std::cout << "all of them run";
  } else {
    std::cout << cases.size() - refused << " of them run, " << refused << " refused";
  }
  std::cout << std::endl;
  return {};
}

}  // namespace kvlab
