// A run that tests nothing, or that was asked for something nobody knows, must not look like success.
#include <gtest/gtest.h>

#include <string>

#include "tests/fixtures/run_program.h"

namespace kvlab::conformance {
namespace {

const std::string kPrograms = std::string(KVLAB_BINARY_DIR) + "/bin/";

TEST(RunTests, AProgramWithoutTestsFails) {
  const ProgramResult result = run_program({kPrograms + "kvlab_empty_tests"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(result.err, "this program holds no test\n");
}

TEST(RunTests, ListingNoTestsFails) {
  const ProgramResult result =
      run_program({kPrograms + "kvlab_empty_tests", "--gtest_list_tests"});
  EXPECT_EQ(result.exit_code, 3);
}

TEST(RunTests, AMisspeltFlagFails) {
  for (const std::string program : {"kvlab_empty_tests", "kvlab_unit_tests"}) {
    const ProgramResult result = run_program({kPrograms + program, "--gtest_fliter=Registry.*"});
    EXPECT_EQ(result.exit_code, 2) << program;
    EXPECT_EQ(result.err, "unknown argument: --gtest_fliter=Registry.*\n") << program;
  }
}

TEST(RunTests, AnUnknownArgumentFails) {
  const ProgramResult result = run_program({kPrograms + "kvlab_unit_tests", "Registry.*"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.err, "unknown argument: Registry.*\n");
}

TEST(RunTests, AskingForHelpIsNoSuccess) {
  EXPECT_EQ(run_program({kPrograms + "kvlab_unit_tests", "--help"}).exit_code, 2);
}

TEST(RunTests, AFilterThatMatchesNothingFails) {
  const ProgramResult result =
      run_program({kPrograms + "kvlab_unit_tests", "--gtest_filter=NoSuchSuite.*"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(result.err, "no test ran, or not all: 0 of 0\n");
}

TEST(RunTests, AFilterThatMatchesSomethingSucceeds) {
  const ProgramResult result =
      run_program({kPrograms + "kvlab_unit_tests", "--gtest_filter=Registry.*"});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
}

}  // namespace
}  // namespace kvlab::conformance
