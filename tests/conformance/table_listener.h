// Results as a table: one row per property, counted over cases.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kvlab/conformance/suite.h"

namespace kvlab::conformance {

/// Prints nothing while tests run, then the table, the first failure of each property, and as the last
/// line "N passed, N failed, N left out".
class TableListener : public testing::EmptyTestEventListener {
 public:
  explicit TableListener(const Registered& registered);

  void OnTestStart(const testing::TestInfo& test) override;
  void OnTestEnd(const testing::TestInfo& test) override;
  void OnTestProgramEnd(const testing::UnitTest& unit) override;

 private:
  struct Row {
    int64_t passed = 0, failed = 0, left_out = 0;
    std::vector<std::string> reasons;  ///< why cases were left out, each once
  };
  struct Failed {
    std::string test, lines;
  };

  /// By suite and property, in the order of first appearance.
  Row& row(const std::string& suite, const std::string& property);
  void print_rows() const;
  void print_failures() const;

  std::vector<std::pair<std::pair<std::string, std::string>, Row>> rows_;
  std::vector<LeftOut> left_out_;
  std::vector<std::string> refused_;
  std::vector<Failed> failures_;
};

/// Replaces GoogleTest's usual output by the table. Where a crash, or a plugin that calls exit, ends
/// the program before the table is there, the running test is named on standard error; an early
/// exit becomes exit code 4. Call it once, before `run_tests`.
void print_results_as_table(const Registered& registered);

}  // namespace kvlab::conformance
