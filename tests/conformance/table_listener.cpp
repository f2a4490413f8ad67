#include "tests/conformance/table_listener.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <iomanip>
#include <iostream>
#include <sstream>

namespace kvlab::conformance {

namespace {

constexpr size_t kLinesOfAFailure = 8;
constexpr size_t kCharactersOfALine = 300;

// "case/property": what stands behind the last slash.
std::string property_of(const std::string& test) {
  const size_t slash = test.rfind('/');
  return slash == std::string::npos ? test : test.substr(slash + 1);
}

std::string first_lines(const std::string& text) {
  std::istringstream stream(text);
  std::string lines;
  size_t count = 0;
  for (std::string line; std::getline(stream, line); ++count) {
    if (count == kLinesOfAFailure) return lines + "    ...\n";
    if (line.size() > kCharactersOfALine) line = line.substr(0, kCharactersOfALine) + "...";
    lines += "    " + line + "\n";
  }
  return lines;
}

// The test that runs now, where a signal handler may read it; empty outside tests.
std::array<char, 512> running_test{};

void remember_test(const std::string& name) {
  const size_t count = std::min(name.size(), running_test.size() - 1);
  std::memcpy(running_test.data(), name.data(), count);
  running_test[count] = '\0';
}

// Only what is allowed in a signal handler.
void write_words(const char* first, const char* second = "", const char* third = "") {
  for (const char* word : {first, second, third}) {
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, word, std::strlen(word));
  }
}

const char* signal_name(int number) {
  switch (number) {
    case SIGSEGV: return "segmentation fault";
    case SIGBUS: return "bus error";
    case SIGFPE: return "arithmetic error";
    case SIGILL: return "illegal instruction";
    default: return "abort";
  }
}

void name_test_of_crash(int number) {
  write_words("\ncrashed (", signal_name(number), ") in ");
  write_words(running_test.front() == '\0' ? "no test" : running_test.data(), "\n");
  if (running_test.front() != '\0') {
    write_words("run it alone with kvlab_conformance_tests --gtest_filter='", running_test.data(),
                "' and the same plugin, in a debugger\n");
  }
  // The handler is gone (SA_RESETHAND): the signal now ends the program as if it had never been
  // caught.
  ::raise(number);
}

void name_test_of_early_exit() {
  if (running_test.front() == '\0') return;
  write_words("\nthe program was ended by exit() in ", running_test.data(), "\n");
  ::_exit(4);
}

void watch_for_crashes() {
  // A stack of its own, since the usual one may have overflowed.
  static std::array<char, 65536> stack;
  stack_t own{};
  own.ss_sp = stack.data();
  own.ss_size = stack.size();
  ::sigaltstack(&own, nullptr);
  struct sigaction action {};
  action.sa_handler = name_test_of_crash;
  action.sa_flags = SA_ONSTACK | static_cast<int>(SA_RESETHAND);
  for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) {
    ::sigaction(number, &action, nullptr);
  }
  std::atexit(name_test_of_early_exit);
}

}  // namespace

TableListener::TableListener(const Registered& registered)
    : left_out_(registered.left_out), refused_(registered.refused) {}

TableListener::Row& TableListener::row(const std::string& suite, const std::string& property) {
  for (auto& [name, row] : rows_) {
    if (name == std::pair(suite, property)) return row;
  }
  rows_.push_back({{suite, property}, {}});
  return rows_.back().second;
}

void TableListener::OnTestStart(const testing::TestInfo& test) {
  remember_test(std::string(test.test_suite_name()) + "." + test.name());
}

void TableListener::OnTestEnd(const testing::TestInfo& test) {
  remember_test("");
  Row& counts = row(test.test_suite_name(), property_of(test.name()));
  if (test.result()->Passed()) {
    ++counts.passed;
    return;
  }
  ++counts.failed;
  std::string message;
  for (int i = 0; i < test.result()->total_part_count(); ++i) {
    const testing::TestPartResult& part = test.result()->GetTestPartResult(i);
    if (!part.failed()) continue;
    const std::string text = part.message();
    const std::string mark = "Failed\n";  // what FAIL() puts before the text
    message += (text.starts_with(mark) ? text.substr(mark.size()) : text) + "\n";
  }
  failures_.push_back(
      {std::string(test.test_suite_name()) + "." + test.name(), first_lines(message)});
}

void TableListener::OnTestProgramEnd(const testing::UnitTest&) {
  // What a filter chose is not known of tests that were never made.
  const bool filtered = testing::GTEST_FLAG(filter) != "*";
  for (const LeftOut& left : left_out_) {
    if (filtered) break;
    Row& counts = row(left.suite, left.test);
    ++counts.left_out;
    auto& reasons = counts.reasons;
    if (std::find(reasons.begin(), reasons.end(), left.reason) == reasons.end()) {
      reasons.push_back(left.reason);
    }
  }
  print_rows();
  if (!refused_.empty()) {
    std::cout << "\n" << refused_.size() << " cases were refused by their plugin for a shape\n";
  }
  print_failures();
  Row sum;
  for (const auto& [name, row] : rows_) {
    sum.passed += row.passed;
    sum.failed += row.failed;
    sum.left_out += row.left_out;
  }
  std::cout << "\n" << sum.passed << " passed, " << sum.failed << " failed, " << sum.left_out
            << " left out" << std::endl;
}

// The first failure of each property: one cause often fails every case.
void TableListener::print_failures() const {
  if (failures_.empty()) return;
  std::cout << "\nFailures, the first of each property\n";
  std::vector<std::string> shown;
  for (const Failed& failure : failures_) {
    const std::string property = property_of(failure.test);
    if (std::find(shown.begin(), shown.end(), property) != shown.end()) continue;
    shown.push_back(property);
    const auto same = std::count_if(
        failures_.begin(), failures_.end(),
        [&](const Failed& other) { return property_of(other.test) == property; });
    std::cout << "  " << failure.test << "\n" << failure.lines;
    if (same > 1) std::cout << "    and in " << same - 1 << " more cases\n";
  }
}

void TableListener::print_rows() const {
  std::vector<std::string> suites;
  size_t width = 0;
  for (const auto& [name, row] : rows_) {
    if (std::find(suites.begin(), suites.end(), name.first) == suites.end()) {
      suites.push_back(name.first);
    }
    width = std::max({width, name.first.size(), name.second.size() + 2});
  }
  for (const std::string& suite : suites) {
    std::cout << (suite == suites.front() ? "" : "\n") << std::left
              << std::setw(static_cast<int>(width)) << suite << std::right
              << "  passed  failed  left out\n";
    for (const auto& [name, row] : rows_) {
      if (name.first != suite) continue;
      std::cout << "  " << std::left << std::setw(static_cast<int>(width) - 2) << name.second
                << std::right << std::setw(8) << row.passed << std::setw(8) << row.failed
                << std::setw(10) << row.left_out;
      for (const std::string& reason : row.reasons) {
        std::cout << (reason == row.reasons.front() ? "  " : "; ") << reason;
      }
      std::cout << "\n";
    }
  }
}

void print_results_as_table(const Registered& registered) {
  testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
  delete listeners.Release(listeners.default_result_printer());
  listeners.Append(new TableListener(registered));
  watch_for_crashes();
}

}  // namespace kvlab::conformance
