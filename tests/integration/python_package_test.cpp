// The Python package of tools/python: its own tests, and that it installs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/fixtures/hand_made_run.h"
#include "tests/fixtures/run_program.h"
#include "tests/fixtures/tiny_model.h"

namespace kvlab {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Words = std::vector<std::string>;

const std::string kPython = KVLAB_SOURCE_DIR "/.deps/venv/bin/python";
const std::string kPackage = KVLAB_SOURCE_DIR "/tools/python";
// Of tools/python/tests: a test that is added must be counted here, one that vanishes is missed.
constexpr int kTests = 13;

ProgramResult python(const std::string& search_path, Words arguments) {
  Words words = {"/usr/bin/env", "PYTHONDONTWRITEBYTECODE=1", "PYTHONPATH=" + search_path,
                 "KVLAB_PROGRAM=" KVLAB_BINARY_DIR "/bin/kvlab", kPython};
  words.insert(words.end(), arguments.begin(), arguments.end());
  return run_program(words);
}

TEST(PythonPackage, ItsOwnTestsPass) {
  ASSERT_TRUE(std::filesystem::exists(kPython)) << "tools/setup makes it";
  const ProgramResult tests =
      python(kPackage, {"-m", "unittest", "discover", "-v", kPackage + "/tests"});
  EXPECT_EQ(tests.exit_code, 0) << tests.err;
  EXPECT_THAT(tests.err, HasSubstr("Ran " + std::to_string(kTests) + " tests"));
  EXPECT_THAT(tests.err, Not(HasSubstr("skipped=")));
}

TEST(PythonPackage, PipInstallsIt) {
  const TemporaryFolder folder;
  const ProgramResult install = python(
      "", {"-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation",
           "--disable-pip-version-check", "--target", folder.file("installed"), kPackage});
  ASSERT_EQ(install.exit_code, 0) << install.err;
  testing::write_sweep(folder.file("sweep"));
  const ProgramResult used =
      python(folder.file("installed"),
             {"-c",
              "import kvlab, sys; print(kvlab.__file__); "
              "print(len(kvlab.load_runs(sys.argv[1])), len(kvlab.load_samples(sys.argv[1])))",
              folder.file("sweep")});
  EXPECT_EQ(used.exit_code, 0) << used.err;
  EXPECT_EQ(used.out, folder.file("installed/kvlab/__init__.py") + "\n2 6\n");
}

}  // namespace
}  // namespace kvlab
