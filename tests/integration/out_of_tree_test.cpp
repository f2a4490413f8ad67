// A plugin in a project of its own: built against the build folder and against an installed prefix
// that was moved, loaded by every command, run in an experiment and checked.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/fixtures/plugin_project.h"
#include "tests/fixtures/run_program.h"
#include "tests/fixtures/tiny_model.h"

namespace kvlab {
namespace {

namespace fs = std::filesystem;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;
using Json = nlohmann::json;
using Words = std::vector<std::string>;

const std::string kProject = KVLAB_SOURCE_DIR "/tests/out_of_tree";
const std::string kBinary = KVLAB_BINARY_DIR "/bin/kvlab";

std::string bad_plugin(const std::string& name) {
  return KVLAB_BINARY_DIR "/lib/bad_plugins/" + name + ".so";
}

const std::string kGood = bad_plugin("good");

std::string read_file(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// The program's `words` must succeed.
ProgramResult run_well(const Words& words) {
  const ProgramResult result = run_program(words, 400);
  EXPECT_EQ(result.exit_code, 0) << testing::PrintToString(words) << "\n"
                                 << result.out << result.err;
  return result;
}

void copy_project(const std::string& folder) {
  fs::copy(kProject, folder, fs::copy_options::recursive);
}

// Where building the copy of the project in `folder` leaves the library.
std::string library_of(const std::string& folder) { return folder + "/build/interleaved.so"; }

// The only entry of a folder.
std::string only_entry(const std::string& folder) {
  Words entries;
  for (const auto& entry : fs::directory_iterator(folder)) entries.push_back(entry.path().string());
  EXPECT_EQ(entries.size(), 1u) << folder;
  return entries.empty() ? "" : entries[0];
}

// The run that `config` makes: its folder.
std::string run_experiment_file(const std::string& kvlab, const std::string& config,
                                const std::string& runs, const Words& more = {}) {
  Words words = {kvlab, "run", config, "--runs", runs};
  words.insert(words.end(), more.begin(), more.end());
  run_well(words);
  return only_entry(runs + "/generation_benchmark");
}

// Whether the arm was compared with the control, and every check of it passed.
bool gate_passed(const std::string& run, const std::string& arm) {
  bool compared = false;
  const Json summary = Json::parse(read_file(run + "/summary.json"));
  for (const Json& check : summary.at("checks")) {
    if (check.at("arm") != arm) continue;
    if (!check.at("passed").get<bool>()) return false;
    compared = compared || check.at("check").get<std::string>().starts_with("equal to the control");
  }
  return compared;
}

class OutOfTree : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    copy_project(folder_->file("project"));
    library_ = library_of(folder_->file("project"));
    build_plugin_project(folder_->file("project"));
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }
  void SetUp() override { ASSERT_TRUE(fs::exists(library_)) << library_; }

  static std::string config() { return folder_->file("project") + "/experiment.yaml"; }

  static TemporaryFolder* folder_;
  static std::string library_;
};

TemporaryFolder* OutOfTree::folder_ = nullptr;
std::string OutOfTree::library_;

TEST_F(OutOfTree, TheCacheTakesFewerThanSixtyLines) {
  std::ifstream source(kProject + "/interleaved_cache.cpp");
  int lines = 0;
  for (std::string line; std::getline(source, line);) {
    const size_t first = line.find_first_not_of(' ');
    if (first != std::string::npos && line.compare(first, 2, "//") != 0) ++lines;
  }
  EXPECT_GT(lines, 0);
  EXPECT_LT(lines, 60);
}

TEST_F(OutOfTree, AnExperimentNamesTheLibraryAndItsResolvedConfigRunsAgainElsewhere) {
  const std::string run = run_experiment_file(kBinary, config(), folder_->file("runs"));
  EXPECT_TRUE(gate_passed(run, "interleaved"));
  const Json environment = Json::parse(read_file(run + "/env.json"));
  EXPECT_THAT(environment.at("plugin interleaved").get<std::string>(),
              ContainsRegex("version 1\\.0\\.0, /.*/build/interleaved\\.so, hash [0-9a-f]+$"));
  const std::string resolved = read_file(run + "/config/resolved.yaml");
  EXPECT_THAT(resolved, HasSubstr("plugins:\n  - \"" + fs::canonical(library_).string() + "\"\n"));

  const TemporaryFolder elsewhere;
  const std::string again = run_experiment_file(
      kBinary, elsewhere.write("copied.yaml", resolved), elsewhere.file("runs"));
  EXPECT_EQ(read_file(again + "/config/resolved.yaml"), resolved);
  EXPECT_TRUE(gate_passed(again, "interleaved"));
}

TEST_F(OutOfTree, ALibraryFromTheCommandLineOrTheEnvironmentIsInTheResolvedConfig) {
  std::string text = read_file(config());
  const std::string line = "plugins: [build/interleaved.so]\n";
  ASSERT_THAT(text, HasSubstr(line));
  text.erase(text.find(line), line.size());
  const TemporaryFolder elsewhere;
  const std::string plain = elsewhere.write("plain.yaml", text);
  const std::string wanted = "plugins:\n  - \"" + fs::canonical(library_).string() + "\"\n";

  EXPECT_EQ(run_program({kBinary, "validate", plain}).exit_code, 4) << "nobody names the library";
  const std::string run =
      run_experiment_file(kBinary, plain, elsewhere.file("a"), {"--plugin", library_});
  EXPECT_THAT(read_file(run + "/config/resolved.yaml"), HasSubstr(wanted));

  const Words with_path = {"/usr/bin/env", "KVLAB_PLUGIN_PATH=" + folder_->file("project/build"),
                           kBinary};
  Words words = with_path;
  words.insert(words.end(), {"run", plain, "--runs", elsewhere.file("b")});
  run_well(words);
  const std::string second = only_entry(elsewhere.file("b") + "/generation_benchmark");
  EXPECT_THAT(read_file(second + "/config/resolved.yaml"), HasSubstr(wanted));

  // Every place may name it at once.
  words = with_path;
  words.insert(words.end(), {"validate", config(), "--plugin", library_});
  run_well(words);
}

TEST_F(OutOfTree, EveryCommandThatNamesCachesTakesTheLibrary) {
  const Words option = {"--plugin", library_};
  const auto kvlab = [&](Words words) {
    words.insert(words.begin(), kBinary);
    words.insert(words.end(), option.begin(), option.end());
    return run_well(words).out;
  };
  const std::string origin = fs::canonical(library_).string();
  EXPECT_THAT(kvlab({"list", "caches"}), HasSubstr("buffer. (from " + origin + ")\n"));
  EXPECT_THAT(kvlab({"describe", "interleaved"}), HasSubstr("cache interleaved (" + origin + ")"));
  const std::string model = folder_->write("tiny.yaml", tiny_model_yaml(128, 32, ""));
  EXPECT_THAT(kvlab({"memory", "--model", model, "--length", "64", "--cache", "interleaved"}),
              HasSubstr("interleaved"));
  kvlab({"generate", "--model", model, "--ids", "1,2,3", "--new-tokens", "4", "--cache",
         "interleaved"});
  kvlab({"score", "--model", model, "--ids", "1,2,3,4", "--cache", "interleaved"});
  kvlab({"validate", config()});
}

TEST_F(OutOfTree, TheCheckShowsTheLibraryAndPasses) {
  const ProgramResult result =
      run_well({kBinary, "plugin", "check", library_, "--operations", "300"});
  EXPECT_THAT(result.out, HasSubstr("plugin interleaved 1.0.0\n  file: "));
  EXPECT_THAT(result.out, HasSubstr("  fits this program\n"));
  EXPECT_THAT(result.out, HasSubstr("    cache interleaved  K and V of a token side by side"));
  EXPECT_THAT(result.out, HasSubstr("TokenByTokenGivesTheSameAnswer"));
  EXPECT_THAT(result.out, Not(HasSubstr("preallocated"))) << "only the library's own is checked";
}

TEST_F(OutOfTree, ACrashInATestIsReportedWithSignalAndTest) {
  const TemporaryFolder place;
  const std::string project = place.file("project");
  copy_project(project);
  std::string source = read_file(project + "/interleaved_cache.cpp");
  const std::string call = "      store_entries(";
  ASSERT_THAT(source, HasSubstr(call));
  source.insert(source.find(call), "      if (slice.first_position > 3) __builtin_trap();\n");
  std::ofstream(project + "/interleaved_cache.cpp", std::ios::binary) << source;
  build_plugin_project(project);
  const ProgramResult result =
      run_program({kBinary, "plugin", "check", library_of(project)}, 400);
  EXPECT_EQ(result.exit_code, 1) << result.out << result.err;
  EXPECT_THAT(result.err,
              HasSubstr("in CacheConformance.interleaved_f32_G6/TokenByTokenGivesTheSameAnswer"));
  EXPECT_THAT(result.err, HasSubstr("interleaved.so ended with signal 4 (illegal instruction)"));
}

TEST_F(OutOfTree, AnInstalledPrefixThatWasMovedBuildsAndRunsIt) {
  const TemporaryFolder place;
  run_well({cmake_value("CMAKE_COMMAND"), "--install", KVLAB_BINARY_DIR, "--prefix",
            place.file("first")});
  fs::rename(place.file("first"), place.file("moved"));
  const std::string prefix = place.file("moved");
  copy_project(place.file("project"));
  const std::string library = library_of(place.file("project"));
  build_plugin_project(place.file("project"), prefix + "/lib/cmake/kvlab");
  const std::string kvlab = prefix + "/bin/kvlab";
  // The library that the program finds is the installed one.
  EXPECT_THAT(run_well({"/usr/bin/env", "ldd", kvlab}).out,
              HasSubstr(fs::canonical(prefix).string() + "/bin/../lib/libkvlab_framework.so"));
  const std::string run =
      run_experiment_file(kvlab, place.file("project") + "/experiment.yaml", place.file("runs"));
  EXPECT_TRUE(gate_passed(run, "interleaved"));
  run_well({kvlab, "plugin", "check", library, "--operations", "50"});
}

TEST(PluginCommand, ALibraryThatIsRefusedOrMissingHasItsExitCode) {
  const ProgramResult refused =
      run_program({kBinary, "plugin", "check", bad_plugin("no_symbol")});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("no_symbol.so: it has no symbol kvlab_plugin"));
  const ProgramResult missing = run_program({kBinary, "plugin", "check", "/nowhere/gone.so"});
  EXPECT_EQ(missing.exit_code, 4);
  EXPECT_THAT(missing.err, HasSubstr("there is no plugin library '/nowhere/gone.so'"));
  const ProgramResult listed = run_program({kBinary, "list", "--plugin", kGood, "--plugin", kGood});
  EXPECT_EQ(listed.exit_code, 2);
  EXPECT_THAT(listed.err, HasSubstr("this library is loaded already; name it once"));
}

TEST(PluginCommand, ALibraryThatCrashesWhileItIsLoadedIsReported) {
  for (const std::string name : {"aborts", "throwing_initialiser"}) {
    const ProgramResult result = run_program({kBinary, "plugin", "check", bad_plugin(name)});
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_THAT(result.err, HasSubstr("[command_line.plugin] loading "));
    EXPECT_THAT(result.err, HasSubstr(name + ".so ended with signal 6 (aborted)"));
  }
}

TEST(PluginCommand, ALibraryOfExperimentKindsAloneHasNothingToCheck) {
  const ProgramResult result = run_program({kBinary, "plugin", "check", bad_plugin("experiment")});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("    experiment fixture_experiment  A fixture.\n"));
  EXPECT_THAT(result.out, testing::EndsWith("  there is nothing to check: no cache, attention or "
                                            "position\n"));
}

TEST(PluginCommand, ACheckThatTakesTooLongIsStopped) {
  const ProgramResult result =
      run_program({kBinary, "plugin", "check", bad_plugin("hangs"), "--seconds", "1"}, 60);
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_THAT(result.err, HasSubstr("[command_line.plugin] loading "));
  EXPECT_THAT(result.err, HasSubstr("hangs.so was stopped: the check took longer than 1 s; "
                                    "--seconds gives it more"));
}

TEST(PluginCommand, CtrlCStopsWhatACheckStarted) {
  const TemporaryFolder folder;
  const std::string library = folder.file("hangs.so");
  fs::copy_file(bad_plugin("hangs"), library);
  RunningProgram check({kBinary, "plugin", "check", library});
  ASSERT_TRUE(check.wait_for_message("hanging", 60));
  EXPECT_EQ(processes_with(library).size(), 2u) << "the check, and the program that loads";
  check.signal(SIGINT);
  const ProgramResult result = check.finish(60);
  EXPECT_EQ(result.exit_code, 130);
  EXPECT_THAT(result.err, HasSubstr("interrupted"));
  EXPECT_TRUE(all_gone(library, 0)) << "gone before the check ended";
}

// It holds the pipe through which the check reads.
TEST(PluginCommand, AProgramThatALibraryLeavesBehindIsNotWaitedFor) {
  const ProgramResult result =
      run_program({kBinary, "plugin", "check", bad_plugin("leaves_daemon")}, 15);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("nothing to check"));
}

TEST(PluginCommand, AParentThatIgnoresTheEndOfChildrenChangesNothing) {
  const std::string script =
      "trap '' CHLD; exec '" + kBinary + "' plugin check '" + bad_plugin("aborts") + "'";
  const ProgramResult result = run_program({"/bin/sh", "-c", script});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("aborts.so ended with signal 6 (aborted)"));
}

TEST(PluginCommand, TheDoctorNamesTheLibrariesOfTheSearchPath) {
  const std::string path = "KVLAB_PLUGIN_PATH=" + kGood + ":" + bad_plugin("no_symbol");
  const ProgramResult result = run_program({"/usr/bin/env", path, kBinary, "doctor"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.out, HasSubstr("[ok] plugin library: fixture 1.2.3, "));
  EXPECT_THAT(result.out, HasSubstr("[MISSING] plugin library: [runtime.plugin.load] "));
}

}  // namespace
}  // namespace kvlab
