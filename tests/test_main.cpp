// The main of every test program. A run that tests nothing has failed, and so has one with a flag
// that nobody understood: GoogleTest 1.12 answers an unknown --gtest_ flag with help and exit 0.
#include <gtest/gtest.h>

#include <iostream>

#include "kvlab/runtime/process.h"

int main(int argc, char** argv) {
  kvlab::prepare_process();
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--help") {
      std::cerr << "GoogleTest flags only, e.g. --gtest_filter=Suite.*\n";
      return 2;
    }
  }
  testing::InitGoogleTest(&argc, argv);
  if (argc > 1) {
    std::cerr << "unknown argument: " << argv[1] << "\n";
    return 2;
  }
  const int code = RUN_ALL_TESTS();
  if (testing::GTEST_FLAG(list_tests)) return code;
  const testing::UnitTest& unit = *testing::UnitTest::GetInstance();
  const int ran = unit.successful_test_count() + unit.failed_test_count() +
                  unit.skipped_test_count();
  if (unit.total_test_count() == 0 || ran == 0 || ran != unit.test_to_run_count()) {
    std::cerr << "no test ran, or not all: " << ran << " of " << unit.test_to_run_count() << "\n";
    return 3;
  }
  return code;
}
