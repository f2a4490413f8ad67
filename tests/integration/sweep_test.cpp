// Sweeps through the command line: planned before they run, resumed after any end, never mixed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "kvlab/runtime/report_document.h"
#include "kvlab/sweep/folder_lock.h"
#include "kvlab/sweep/merged_table.h"
#include "tests/fixtures/run_config.h"
#include "tests/fixtures/run_program.h"
#include "tests/fixtures/small_sweep.h"

namespace {

namespace fs = std::filesystem;
using namespace kvlab;
using namespace kvlab::test;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using Words = std::vector<std::string>;

const std::string kBinary = KVLAB_BINARY_DIR "/bin/kvlab";

const std::string kSixCases =
    "sweep: {grid: {arms.paged.cache.block_size: [4, 16, 32], workload.new_tokens: [[4], [6]]}}\n";

// The lines of a merged table that no clock made, but for the reasons, which name folders.
std::vector<std::vector<std::string>> untimed(const std::string& table) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& row : parse_csv(table)) {
    const auto timed = row.end() - 3;
    if (*timed != "true") rows.push_back(row);
  }
  return rows;
}

class Sweep : public ::testing::Test {
 protected:
  ProgramResult kvlab(Words words) const {
    words.insert(words.begin(), kBinary);
    return run_program(words);
  }

  ProgramResult sweep(const std::string& config, Words more = {}) const {
    Words words = {"sweep", config, "--runs", folder_.file("runs")};
    words.insert(words.end(), more.begin(), more.end());
    return kvlab(words);
  }

  // The folder of the newest sweep, one that is planned completely.
  std::string sweep_folder() const {
    std::vector<std::string> found;
    const std::string parent = folder_.file("runs") + "/generation_benchmark";
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(parent, ignored)) {
      if (fs::exists(entry.path() / "planned.json") &&
          entry.path().extension() != ".partial") {
        found.push_back(entry.path().string());
      }
    }
    std::sort(found.begin(), found.end());
    return found.empty() ? "" : found.back();
  }

  static json status(const std::string& path) {
    return json::parse(read_whole(path + "/sweep.json"));
  }

  static std::vector<std::string> case_folders(const std::string& path) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(path + "/cases")) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  // When each case was completed: one that ran again has another time.
  static std::map<std::string, std::string> completions(const std::string& path) {
    std::map<std::string, std::string> texts;
    for (const std::string& name : case_folders(path)) {
      if (name.ends_with(".partial")) continue;
      texts[name] = read_whole(path + "/cases/" + name + "/samples.jsonl");
    }
    return texts;
  }

  TemporaryFolder folder_;
};

TEST_F(Sweep, RunsEveryPlannedCaseAndMergesTheirMetrics) {
  const std::string config = folder_.write("a.yaml", small_sweep(kSixCases));
  const ProgramResult result = sweep(config);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("6 cases: 6 ok"));
  const std::string path = sweep_folder();
  EXPECT_THAT(result.out, HasSubstr("Sweep: " + path));
  EXPECT_EQ(status(path).at("status"), "ok");
  EXPECT_EQ(status(path).at("counts").at("ok"), 6);
  std::istringstream plan(read_whole(path + "/plan.jsonl"));
  int index = 0;
  for (std::string line; std::getline(plan, line); ++index) {
    const json planned = json::parse(line);
    EXPECT_EQ(planned.at("index"), index);
    const std::string hash = planned.at("hash");
    const std::string name = "000" + std::to_string(index);
    const std::string run = path + "/cases/" + name + "-" + hash.substr(0, 8);
    EXPECT_EQ(json::parse(read_whole(run + "/run.json")).at("status"), "ok") << run;
    EXPECT_EQ(hash_text(read_whole(path + "/configs/" + name + ".yaml")), planned.at("frozen"));
  }
  EXPECT_EQ(index, 6);
  const auto table = parse_csv(read_whole(path + "/table.csv"));
  EXPECT_THAT(table.at(0),
              ElementsAre("index", "name", "arms.paged.cache.block_size", "workload.new_tokens",
                          "arm", "metric", "group", "value", "unit", "n", "ci_low", "ci_high",
                          "p", "verdict", "timed", "status", "reason"));
  // 6 cases x 2 arms x payload, reserved, peak, token-forwards.
  EXPECT_GE(untimed(read_whole(path + "/table.csv")).size(), 1u + 6 * 2 * 4);
  EXPECT_EQ(table.at(1).at(1), "block_size=4,new_tokens=[4]");
}

TEST_F(Sweep, ResumeRunsExactlyTheMissingCasesAndTheTableIsTheSame) {
  const std::string config = folder_.write("a.yaml", small_sweep(kSixCases));
  ASSERT_EQ(sweep(config).exit_code, 0);
  const std::string path = sweep_folder();
  const auto before = completions(path);
  const auto table = untimed(read_whole(path + "/table.csv"));
  const std::vector<std::string> names = case_folders(path);
  // Case 1 is gone, case 4 half written.
  fs::remove_all(path + "/cases/" + names.at(1));
  fs::rename(path + "/cases/" + names.at(4), path + "/cases/" + names.at(4) + ".partial");
  fs::remove(path + "/cases/" + names.at(4) + ".partial/summary.json");
  fs::remove(path + "/table.csv");
  const ProgramResult result = kvlab({"sweep", "--resume", path});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(case_folders(path), names);
  const auto after = completions(path);
  for (size_t i = 0; i < names.size(); ++i) {
    EXPECT_EQ(before.at(names[i]) == after.at(names[i]), i != 1 && i != 4) << names[i];
  }
  EXPECT_EQ(untimed(read_whole(path + "/table.csv")), table);
}

TEST_F(Sweep, KilledAtAnyMomentItGoesOnWithoutLosingOrRepeatingACase) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const std::string config = folder_.write("a.yaml", small_sweep(kSixCases));
  ASSERT_EQ(sweep(config).exit_code, 0);
  const auto wanted = untimed(read_whole(sweep_folder() + "/table.csv"));
  fs::remove_all(folder_.file("runs"));
  const auto pause = [&] {
    return std::chrono::milliseconds(std::uniform_int_distribution<>(20, 250)(random));
  };
  {
    RunningProgram first({kBinary, "sweep", config, "--runs", folder_.file("runs"), "-m",
                          "measure.warmup=0"});
    ASSERT_TRUE(first.wait_for_output(1, 60));
    std::this_thread::sleep_for(pause());
    first.signal(SIGKILL);
    first.finish(10);
  }
  const std::string path = sweep_folder();
  ASSERT_NE(path, "");
  std::map<std::string, std::string> done;
  for (int round = 0; round < 4; ++round) {
    for (const auto& [name, samples] : completions(path)) {
      const auto [known, is_new] = done.emplace(name, samples);
      EXPECT_EQ(known->second, samples) << name << " ran again";
    }
    RunningProgram next({kBinary, "sweep", "--resume", path});
    std::this_thread::sleep_for(pause());
    next.signal(SIGKILL);
    next.finish(10);
  }
  for (const auto& [name, samples] : completions(path)) done.emplace(name, samples);
  ASSERT_EQ(kvlab({"sweep", "--resume", path}).exit_code, 0);
  const auto after = completions(path);
  EXPECT_EQ(after.size(), 6u);
  for (const auto& [name, samples] : done) EXPECT_EQ(after.at(name), samples) << name;
  auto found = untimed(read_whole(path + "/table.csv"));
  // The axis of one value adds a column and a part of the name; the rest is the same.
  ASSERT_EQ(found.size(), wanted.size());
  for (size_t i = 0; i < found.size(); ++i) {
    found[i].erase(found[i].begin() + 4);
    found[i].erase(found[i].begin() + 1);
    auto same = wanted[i];
    same.erase(same.begin() + 1);
    EXPECT_EQ(found[i], same);
  }
}

TEST_F(Sweep, CtrlCKeepsWhatIsDoneAndSaysHowToGoOn) {
  const std::string config = folder_.write("a.yaml", small_sweep(kSixCases));
  RunningProgram program({kBinary, "sweep", config, "--runs", folder_.file("runs"), "-m",
                          "measure.repeats=60"});
  ASSERT_TRUE(program.wait_for_message(": ok", 60));
  program.signal(SIGINT);
  const ProgramResult result = program.finish(60);
  EXPECT_EQ(result.exit_code, 130);
  const std::string path = sweep_folder();
  EXPECT_THAT(result.err, HasSubstr("kvlab sweep --resume " + path));
  EXPECT_EQ(status(path).at("status"), "interrupted");
  for (const std::string& name : case_folders(path)) EXPECT_THAT(name, Not(HasSubstr("partial")));
  const size_t done = completions(path).size();
  EXPECT_GE(done, 1u);
  EXPECT_LT(done, 6u);
  EXPECT_EQ(kvlab({"sweep", "--resume", path}).exit_code, 0);
  EXPECT_EQ(status(path).at("counts").at("ok"), 6);
}

TEST_F(Sweep, ASecondWriterIsRefusedWithTheFirstOnesProcess) {
  const std::string config = folder_.write("a.yaml", small_sweep(kSixCases));
  RunningProgram first({kBinary, "sweep", config, "--runs", folder_.file("runs"), "-m",
                        "measure.repeats=500"});
  ASSERT_TRUE(first.wait_for_message("[1/6]", 60));
  const std::string path = sweep_folder();
  const std::string holder = "process " + status(path).at("pid").dump();
  for (const Words& words : {Words{"sweep", "--resume", path}, Words{"worker", path, "--index", "5"},
                             Words{"worker", path, "--aggregate"}}) {
    const ProgramResult second = kvlab(words);
    EXPECT_EQ(second.exit_code, 2) << words[0];
    EXPECT_THAT(second.err, HasSubstr("is held by " + holder)) << words[0];
  }
  first.signal(SIGKILL);
  first.finish(10);
}

TEST_F(Sweep, WorkersOnDifferentCasesGoTogetherAndMergeToTheSameTable) {
  const std::string config = folder_.write("a.yaml", small_sweep(kSixCases));
  ASSERT_EQ(sweep(config).exit_code, 0);
  const std::string path = sweep_folder();
  const auto table = untimed(read_whole(path + "/table.csv"));
  fs::remove_all(path + "/cases");
  fs::create_directory(path + "/cases");
  const ProgramResult early = kvlab({"worker", path, "--aggregate"});
  EXPECT_EQ(early.exit_code, 1);
  EXPECT_THAT(early.out, HasSubstr("6 missing"));
  const SweepFolder opened(path);
  {
    const auto locks = opened.lock_case(opened.at(3));
    const ProgramResult same = kvlab({"worker", path, "--index", "3"});
    EXPECT_EQ(same.exit_code, 2);
    EXPECT_THAT(same.err, HasSubstr("case 3 of the sweep '" + path + "' is held by process " +
                                    std::to_string(::getpid())));
    const ProgramResult whole = kvlab({"sweep", "--resume", path});
    EXPECT_EQ(whole.exit_code, 2);
    EXPECT_THAT(whole.err, HasSubstr("held by process " + std::to_string(::getpid())));
    EXPECT_EQ(kvlab({"worker", path, "--index", "0"}).exit_code, 0);
  }
  std::vector<std::unique_ptr<RunningProgram>> workers;
  for (const char* index : {"0", "1", "2", "3", "4", "5"}) {
    workers.push_back(std::make_unique<RunningProgram>(
        Words{kBinary, "worker", path, "--index", index}));
  }
  for (const auto& worker : workers) EXPECT_EQ(worker->finish(120).exit_code, 0);
  EXPECT_EQ(kvlab({"worker", path, "--aggregate"}).exit_code, 0);
  EXPECT_EQ(untimed(read_whole(path + "/table.csv")), table);
  EXPECT_EQ(kvlab({"worker", path, "--index", "6"}).exit_code, 2);
}

TEST_F(Sweep, CombinationsThatCannotRunAreRowsWithReasons) {
  const std::string config = folder_.write(
      "a.yaml", small_sweep("sweep: {grid: {arms.paged.cache: [preallocated, {type: paged, "
                            "block_size: 0}, {type: no_such}], workload.new_tokens: [[4], [500]]}}\n"));
  const ProgramResult result = sweep(config);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("6 cases: 1 ok, 5 skipped"));
  EXPECT_THAT(result.err, HasSubstr("skipped case 4"));
  const auto table = parse_csv(read_whole(sweep_folder() + "/table.csv"));
  std::map<std::string, std::string> reasons;
  for (const auto& row : table) {
    if (row.at(row.size() - 2) == "skipped") reasons[row.at(0)] = row.back();
  }
  ASSERT_EQ(reasons.size(), 5u);
  EXPECT_THAT(reasons.at("1"), HasSubstr("context"));
  EXPECT_THAT(reasons.at("2"), HasSubstr("block_size"));
  EXPECT_THAT(reasons.at("4"), HasSubstr("no_such"));
  // The one case's page names what draws its figures, and the sweep's page leads to it.
  const std::string page = "/cases/" + case_folders(sweep_folder()).at(0) + "/report/index.html";
  EXPECT_THAT(read_whole(sweep_folder() + "/report/index.html"), HasSubstr("href=\".." + page));
  EXPECT_THAT(read_whole(sweep_folder() + page), HasSubstr("kvlab report FOLDER"));
  EXPECT_THAT(read_whole(sweep_folder() + page), Not(HasSubstr("<svg")));
  const ProgramResult drawn = kvlab({"report", sweep_folder(), "--cases"});
  EXPECT_EQ(drawn.exit_code, 0) << drawn.err;
  EXPECT_THAT(drawn.out, HasSubstr(page));
  if (drawn.err.find("not rendered") == std::string::npos) {
    EXPECT_THAT(read_whole(sweep_folder() + page), HasSubstr("<svg"));
  }
  const ProgramResult no_sweep =
      kvlab({"report", sweep_folder() + "/cases/" + case_folders(sweep_folder()).at(0), "--cases"});
  EXPECT_EQ(no_sweep.exit_code, 2) << no_sweep.err;
  EXPECT_THAT(no_sweep.err, HasSubstr("is no sweep"));
  const ProgramResult none = sweep(config, {"control=nobody"});
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_THAT(none.err, HasSubstr("none of the 6 cases can run"));
  EXPECT_THAT(none.err, HasSubstr("nobody"));
  const std::string parent = folder_.file("runs") + "/generation_benchmark";
  EXPECT_EQ(std::distance(fs::directory_iterator(parent), fs::directory_iterator()), 1)
      << "a sweep that was refused leaves no folder";
}

TEST_F(Sweep, ACaseThatFailsIsARowAndTheOthersGoOn) {
  // Arms that may take a millionth of a second fail, those that may take a minute do not.
  const std::string config = folder_.write(
      "a.yaml", small_sweep("isolation: process\nlimits: {seconds: 60}\n"
                            "sweep: {grid: {limits.seconds: [0.000001, 60]}}\n"));
  const ProgramResult result = sweep(config, {"workload.new_tokens=[200]"});
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_THAT(result.out, HasSubstr("2 cases: 1 ok, 1 failed"));
  const std::string path = sweep_folder();
  EXPECT_EQ(status(path).at("status"), "failed");
  EXPECT_THAT(read_whole(path + "/table.csv"), HasSubstr(",failed,"));
  const auto before = completions(path);
  EXPECT_EQ(kvlab({"sweep", "--resume", path}).exit_code, 1);
  EXPECT_EQ(completions(path), before) << "failed cases are kept";
  EXPECT_EQ(kvlab({"sweep", "--resume", path, "--retry-failed"}).exit_code, 1);
  EXPECT_EQ(case_folders(path).size(), 3u) << "the first failure is set aside, the second kept";
}

TEST_F(Sweep, OtherDataOtherCodeAndOtherConfigsAreRefusedWithBothNames) {
  const std::string story = folder_.write("story.ids", "1 2 3");
  // The tiny model reads no file, so the plan is made to name one.
  const std::string config = folder_.write("a.yaml", small_sweep(kSixCases));
  ASSERT_EQ(sweep(config).exit_code, 0);
  const std::string path = sweep_folder();
  const std::string planned = read_whole(path + "/planned.json");
  const auto rewrite = [&](const std::function<void(json&)>& change) {
    json changed = json::parse(planned);
    change(changed);
    std::ofstream(path + "/planned.json") << changed.dump();
  };
  const std::string now = fingerprint_path(story);
  rewrite([&](json& file) { file["data"][story] = now; });
  EXPECT_EQ(kvlab({"sweep", "--resume", path}).exit_code, 0) << "the data are as planned";
  folder_.write("story.ids", "1 2 4");
  for (const Words& words : {Words{"sweep", "--resume", path}, Words{"worker", path, "--index", "0"}}) {
    const ProgramResult data = kvlab(words);
    EXPECT_EQ(data.exit_code, 2);
    EXPECT_THAT(data.err, HasSubstr(now));
    EXPECT_THAT(data.err, HasSubstr(fingerprint_path(story)));
  }
  rewrite([](json& file) { file["code"] = "kvlab 0.0.1 build 0123456789abcdef"; });
  const ProgramResult code = kvlab({"sweep", "--resume", path});
  EXPECT_EQ(code.exit_code, 2);
  EXPECT_THAT(code.err, HasSubstr("planned with kvlab 0.0.1 build 0123456789abcdef"));
  EXPECT_THAT(code.err, HasSubstr(json::parse(planned).at("code").get<std::string>()));
  std::ofstream(path + "/planned.json") << planned;
  const std::string frozen = read_whole(path + "/configs/0002.yaml");
  std::ofstream(path + "/configs/0002.yaml") << frozen << "\n";
  fs::remove_all(path + "/cases/" + case_folders(path).at(2));
  const ProgramResult changed = kvlab({"worker", path, "--index", "2"});
  EXPECT_EQ(changed.exit_code, 2);
  EXPECT_THAT(changed.err, HasSubstr("0002.yaml' was changed since the sweep was planned"));
}

TEST_F(Sweep, PlansNameTheFilesThatTheirCasesRead) {
  folder_.write("weights.bin", "abc");
  std::map<std::string, std::string> known;
  const ConfigNode root = parse_config_text(
      "model: {source: {type: gguf, path: weights.bin}}\n", folder_.file("b.yaml"));
  const auto found = data_fingerprints(root, known);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found.begin()->first, fs::canonical(folder_.file("weights.bin")).string());
  const std::string before = found.begin()->second;
  folder_.write("weights.bin", "abd");
  EXPECT_NE(fingerprint_path(folder_.file("weights.bin")), before);
}

TEST_F(Sweep, ADryRunPrintsThePlanAndWritesNothing) {
  const std::string config = folder_.write("a.yaml", small_sweep(""));
  const ProgramResult result =
      sweep(config, {"measure.repeats=3", "--dry-run", "-m", "arms.paged.cache.block_size=4,16",
                     "workload.prompt_tokens=[8],[9]"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("3  block_size=16,prompt_tokens=[9]"));
  EXPECT_THAT(result.out, HasSubstr("4 cases, 4 of them run"));
  EXPECT_FALSE(fs::exists(folder_.file("runs")));
  EXPECT_EQ(sweep(config).exit_code, 2) << "nothing varies";
}

TEST_F(Sweep, RunRefusesAFileThatDescribesManyRuns) {
  const std::string config = folder_.write("a.yaml", small_sweep(kSixCases));
  const ProgramResult refused = kvlab({"run", config, "--runs", folder_.file("runs")});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("use kvlab sweep"));
  const ProgramResult one = kvlab({"run", config, "~sweep", "--runs", folder_.file("runs")});
  EXPECT_EQ(one.exit_code, 0) << one.err;
}

TEST_F(Sweep, SlurmScriptsNameTheMissingCasesAndAreOnlyPrinted) {
  const std::string config = folder_.write("a.yaml", small_sweep(kSixCases));
  ASSERT_EQ(sweep(config).exit_code, 0);
  const std::string path = sweep_folder();
  const std::vector<std::string> names = case_folders(path);
  for (const int gone : {0, 1, 2, 5}) {
    fs::remove_all(path + "/cases/" + names.at(static_cast<size_t>(gone)));
  }
  const ProgramResult result =
      kvlab({"sweep", "--resume", path, "--launcher", "slurm", "--emit-only", "--partition", "long",
             "--array-parallelism", "3", "--time", "1-02:30:00", "--cpus-per-task", "2"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::string script = read_whole(path + "/slurm/cases-0.sh");
  EXPECT_THAT(result.out, HasSubstr(script));
  for (const char* line : {"#SBATCH --array=0-2,5%3\n", "#SBATCH --partition=long\n",
                           "#SBATCH --time=1-02:30:00\n", "#SBATCH --cpus-per-task=2\n"}) {
    EXPECT_THAT(script, HasSubstr(line));
  }
  // The script does what the cluster would have it do.
  setenv("SLURM_ARRAY_TASK_ID", "5", 1);
  const ProgramResult task = run_program({"/bin/bash", path + "/slurm/cases-0.sh"});
  unsetenv("SLURM_ARRAY_TASK_ID");
  EXPECT_EQ(task.exit_code, 0) << task.err;
  EXPECT_TRUE(fs::exists(path + "/cases/" + names.at(5)));
  EXPECT_EQ(run_program({"/bin/bash", path + "/slurm/aggregate.sh"}).exit_code, 1) << "3 missing";
  const ProgramResult few = kvlab({"sweep", config, "runtime.threads=2", "--runs",
                                   folder_.file("runs"), "--launcher", "slurm", "--emit-only",
                                   "--cpus-per-task", "1"});
  EXPECT_EQ(few.exit_code, 2);
  EXPECT_THAT(few.err, HasSubstr("runs 2 threads, --cpus-per-task gives it 1"));
  const ProgramResult odd = kvlab({"sweep", "--resume", path, "--launcher", "slurm", "--emit-only",
                                   "--partition", "a\n#SBATCH --uid=0"});
  EXPECT_EQ(odd.exit_code, 2);
}

TEST_F(Sweep, TheSameRunTwiceDiffersInNothingButTimes) {
  const std::string config = folder_.write("a.yaml", small_sweep(""));
  const auto untimed_summary = [](const FinishedRun& run) {
    json summary = run.summary;
    json kept = json::array();
    for (const json& metric : summary.at("metrics")) {
      if (!metric.at("timed").get<bool>()) kept.push_back(metric);
    }
    EXPECT_LT(kept.size(), summary.at("metrics").size());
    EXPECT_GE(kept.size(), 8u);
    summary["metrics"] = kept;
    return summary.dump();
  };
  const auto tokens = [](const FinishedRun& run) {
    json all = json::array();
    for (const json& sample : run.samples) {
      if (sample.contains("tokens")) all.push_back({sample.at("arm"), sample.at("tokens")});
    }
    EXPECT_FALSE(all.empty());
    return all.dump();
  };
  const FinishedRun first = run_config(folder_, config, {}, "first");
  const FinishedRun second = run_config(folder_, config, {}, "second");
  const FinishedRun again = run_config(folder_, first.folder + "/config/resolved.yaml", {}, "again");
  ASSERT_EQ(first.code, 0) << first.log;
  for (const FinishedRun* other : {&second, &again}) {
    EXPECT_EQ(untimed_summary(first), untimed_summary(*other));
    EXPECT_EQ(tokens(first), tokens(*other));
  }
  EXPECT_EQ(read_whole(first.folder + "/config/resolved.yaml"),
            read_whole(again.folder + "/config/resolved.yaml"));
  EXPECT_FALSE(fs::exists(first.folder + "/heartbeat"));
}

TEST_F(Sweep, TablesHoldNoFormulas) {
  const std::string config = folder_.write("a.yaml", small_sweep(""));
  const ProgramResult result = sweep(config, {"-m", R"(question="=1+1","a, \"b\"",=1+1)"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto table = parse_csv(read_whole(sweep_folder() + "/table.csv"));
  EXPECT_EQ(table.at(1).at(2), R"("=1+1")") << "a quote comes first, so it is no formula";
  EXPECT_EQ(table.back().at(2), "'=1+1");
  for (const auto& row : table) EXPECT_EQ(row.size(), table.at(0).size());
}

}  // namespace
