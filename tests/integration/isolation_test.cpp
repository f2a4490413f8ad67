// Arms in processes of their own: whatever one of them does, the others come through, the report
// says what happened, and nothing is left behind.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "../../experiments/generation_benchmark/result_json.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/child_process.h"
#include "kvlab/runtime/plugin_loader.h"
#include "tests/fixtures/run_config.h"
#include "tests/fixtures/run_program.h"

namespace {

using namespace kvlab::test;
using namespace kvlab;
using nlohmann::json;

const std::string kProgram = KVLAB_BINARY_DIR "/bin/kvlab";
const std::string kHostile = KVLAB_BINARY_DIR "/lib/hostile_caches/hostile.so";

// The gate takes one step and then 18; a run takes 12.
const std::string kWorkload =
    "prompt: {random: 11}, prompt_tokens: [6], new_tokens: [4, 12], gate_tokens: 24";
const std::string kSound = "{name: none, cache: none}, {name: preallocated, cache: preallocated}";

std::string hostile_arm(const std::string& deed, int at_step, const std::string& limits = "") {
  return "{name: hostile, cache: {type: hostile, deed: " + deed +
         ", at_step: " + std::to_string(at_step) + "}" +
         (limits.empty() ? "" : ", limits: " + limits) + "}";
}

struct IsolatedText {
  std::string arms = kSound;
  std::string isolation = "process";
  std::string workload = kWorkload;
  int repeats = 1;

  std::string yaml() const {
    return "schema: kvlab/1\nexperiment: generation_benchmark\nquestion: Who comes through?\n"
           "plugins: [" +
           kHostile + "]\nmodel: " + kTinyModel + "\nworkload: {" + workload + "}\narms: [" + arms +
           "]\ncontrol: none\nisolation: " + isolation +
           "\nruntime: {threads: 1}\nmeasure: {repeats: " + std::to_string(repeats) +
           ", warmup: 0, aa: false}\n";
  }
};

// Sanitizers would report crashes in their own way and end the process with a code.
void let_signals_through() {
  ::setenv("ASAN_OPTIONS", "handle_segv=0:handle_abort=0:handle_sigfpe=0:detect_leaks=0", 0);
}

FinishedRun run(const TemporaryFolder& folder, const IsolatedText& text) {
  let_signals_through();
  Registry registry = full_registry();
  LoadedExperiment loaded =
      load_experiment(folder.write("isolated.yaml", text.yaml()), {}, registry);
  RunOptions options;
  options.runs_folder = folder.file("runs");
  options.argv = {"kvlab", "run", "isolated.yaml"};
  options.program = kProgram;
  std::ostringstream out, log;
  FinishedRun finished;
  finished.code = run_experiment(loaded, registry, options, out, log);
  finished.out = out.str();
  finished.log = log.str();
  for (const auto& entry :
       std::filesystem::directory_iterator(folder.file("runs") + "/generation_benchmark")) {
    finished.folder = entry.path().string();
  }
  finished.run = json::parse(read_whole(finished.folder + "/run.json"), nullptr, false);
  finished.summary = json::parse(read_whole(finished.folder + "/summary.json"), nullptr, false);
  std::istringstream lines(read_whole(finished.folder + "/samples.jsonl"));
  for (std::string line; std::getline(lines, line);) finished.samples.push_back(json::parse(line));
  return finished;
}

bool has_speed(const FinishedRun& finished, const std::string& arm) {
  for (const json& entry : finished.summary.at("metrics")) {
    if (entry.at("arm") == arm && entry.at("metric") == "tokens_per_s") return true;
  }
  return false;
}

std::string failure_of(const FinishedRun& finished, const std::string& arm) {
  for (const json& entry : finished.summary.at("failures")) {
    if (entry.at("what") == arm) return entry.at("reason");
  }
  return "";
}

size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd"), end;
  return static_cast<size_t>(std::distance(all, end));
}

bool has_children() {
  siginfo_t info{};
  return ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

struct Deed {
  const char* name;
  int at_step;
  const char* limits;
  std::vector<std::string> reasons;  ///< all stand in the failure
};

void PrintTo(const Deed& deed, std::ostream* out) { *out << deed.name; }

constexpr int kInGate = 3, kInRun = 25;
const char* const kWhenGate = "prompt 6, batch 1, equality gate: ";
const char* const kWhenRun = "prompt 6, batch 1, block 1: ";

class HostileArm : public testing::TestWithParam<Deed> {};

TEST_P(HostileArm, FailsAloneAndIsNamedWithItsReason) {
  const Deed& deed = GetParam();
  const TemporaryFolder folder;
  IsolatedText text;
  // In the middle, so that others are asked after it.
  text.arms = "{name: none, cache: none}, " + hostile_arm(deed.name, deed.at_step, deed.limits) +
              ", {name: preallocated, cache: preallocated}";
  const size_t descriptors = open_descriptors();
  const FinishedRun finished = run(folder, text);
  EXPECT_EQ(open_descriptors(), descriptors);
  EXPECT_FALSE(has_children()) << "a zombie, or an arm that still runs";
  EXPECT_TRUE(processes_with(finished.folder).empty());

  EXPECT_EQ(finished.code, 1) << finished.log;
  EXPECT_EQ(finished.run.at("status"), "failed");
  EXPECT_TRUE(has_speed(finished, "none")) << finished.log;
  EXPECT_TRUE(has_speed(finished, "preallocated")) << finished.log;
  EXPECT_FALSE(has_speed(finished, "hostile"));

  const std::string failure = failure_of(finished, "hostile");
  for (const std::string& reason : deed.reasons) {
    EXPECT_NE(failure.find(reason), std::string::npos) << reason << "\n in " << failure;
  }
  EXPECT_NE(failure.find(" of processor time and at most "), std::string::npos) << failure;
  EXPECT_NE(failure.find("Last lines of hostile.log: "), std::string::npos) << failure;
  EXPECT_NE(failure.find(std::string("about to do: ") + deed.name + "?"), std::string::npos)
      << failure;
  EXPECT_NE(finished.log.find("hostile failed: "), std::string::npos) << finished.log;
  const std::string report = read_whole(finished.folder + "/report/report.md");
  EXPECT_NE(report.find("hostile: no speed is given, it failed"), std::string::npos);
  EXPECT_EQ(finished.summary.at("failures").size(), 1u) << finished.summary.at("failures").dump(1);
}

INSTANTIATE_TEST_SUITE_P(
    Isolation, HostileArm,
    testing::Values(
        Deed{"std_throw", kInGate, "", {kWhenGate, "threw: thrown on purpose"}},
        Deed{"non_std_throw", kInRun, "", {kWhenRun, "threw: something that is no std::exception"}},
        Deed{"segfault", kInRun, "", {kWhenRun, "was ended by signal 11 (segmentation fault)"}},
        Deed{"abort", kInGate, "", {kWhenGate, "was ended by signal 6 (aborted)"}},
        Deed{"divide_by_zero", kInRun, "", {kWhenRun, "was ended by signal 8 ("}},
        Deed{"stack_overflow", kInGate, "", {kWhenGate, "was ended by signal 11 ("}},
        Deed{"exit_0", kInRun, "", {kWhenRun, "ended with exit code 0 without finishing"}},
        Deed{"endless_loop",
             kInGate,
             "{seconds: 3}",
             {kWhenGate, "took longer than 3 s and was stopped"}},
        Deed{"leak_4gib", kInRun, "{memory: 500MB}", {kWhenRun, "ran out of its 500 MB of memory"}},
        Deed{"wrong_shape", kInGate, "", {kWhenGate}},
        Deed{"throw_in_destructor",
             kInGate,
             "",
             {kWhenGate, "was ended by signal 6 (aborted)", "thrown by a destructor"}},
        Deed{"close_descriptors",
             kInRun,
             "",
             {kWhenRun, "lost its line to the run: its file descriptors were closed from inside"}},
        Deed{"garbage", kInRun, "", {kWhenRun, "gave an answer that cannot be read"}}),
    [](const auto& tested) { return std::string(tested.param.name); });

TEST(Isolation, AllHostileArmsOfOneExperimentFailAloneAndWrongValuesGetNoSpeed) {
  const TemporaryFolder folder;
  IsolatedText text;
  const std::vector<std::string> crashing = {"segfault", "exit_0", "close_descriptors"};
  for (const std::string& deed : crashing) {
    std::string arm = hostile_arm(deed, kInRun);
    text.arms += ", " + arm.replace(arm.find("hostile"), 7, deed);
  }
  for (const std::string deed : {"wrong_values", "noise", "none"}) {
    std::string arm = hostile_arm(deed, kInGate);
    text.arms += ", " + arm.replace(arm.find("hostile"), 7, "does_" + deed);
  }
  const FinishedRun finished = run(folder, text);
  EXPECT_EQ(finished.code, 1) << finished.log;
  for (const std::string& arm : crashing) {
    EXPECT_NE(failure_of(finished, arm), "") << arm;
    EXPECT_FALSE(has_speed(finished, arm)) << arm;
  }
  EXPECT_TRUE(has_speed(finished, "none") && has_speed(finished, "preallocated")) << finished.log;
  EXPECT_TRUE(has_speed(finished, "does_none")) << finished.log;
  EXPECT_TRUE(has_speed(finished, "does_noise"))
      << "what an arm prints is no answer: " << finished.log;
  EXPECT_EQ(failure_of(finished, "does_wrong_values"), "") << "it ran, but is not equal";
  EXPECT_FALSE(has_speed(finished, "does_wrong_values"));
  const json gate =
      finished.check("does_wrong_values", "equal to the control, token by token, tolerance 1e-05");
  ASSERT_FALSE(gate.is_null()) << finished.summary.at("checks").dump(1);
  EXPECT_EQ(gate.at("passed"), false);
}

TEST(Isolation, ResultsAreThoseOfOneSharedProcessButForTheTimes) {
  IsolatedText text;
  text.arms = kSound +
              ", {name: paged, cache: 'paged:block_size=4'}, "
              "{name: pooled, cache: 'gqa_shared:kv_heads=1'}";
  text.workload = kWorkload + ", batch: [1, 3], sampler: {type: sample, temperature: 0.8, seed: 5}";
  text.repeats = 2;
  const TemporaryFolder apart;
  const FinishedRun isolated = run(apart, text);
  text.isolation = "none";
  const TemporaryFolder together;
  const FinishedRun shared = run(together, text);
  EXPECT_EQ(isolated.code, 0) << isolated.log;
  EXPECT_EQ(shared.code, 0) << shared.log;
  expect_run_files(isolated);
  ASSERT_EQ(isolated.samples.size(), 4u * 2u * 2u);
  ASSERT_EQ(isolated.samples.size(), shared.samples.size());
  for (size_t i = 0; i < shared.samples.size(); ++i) {
    json left = isolated.samples[i], right = shared.samples[i];
    for (json* line : {&left, &right}) {
      EXPECT_GT(line->at("ttft_ns"), 0);
      for (const char* time : {"setup_ns", "ttft_ns", "token_ns", "flags", "split_ns"}) {
        line->erase(time);
      }
    }
    EXPECT_EQ(left, right);
  }
  EXPECT_EQ(isolated.summary.at("checks"), shared.summary.at("checks"));
  const auto untimed = [](const FinishedRun& finished) {
    std::vector<json> metrics;
    for (const json& metric : finished.summary.at("metrics")) {
      if (metric.at("timed") == false) metrics.push_back(metric);
    }
    return metrics;
  };
  EXPECT_FALSE(untimed(shared).empty());
  EXPECT_EQ(untimed(isolated), untimed(shared));
  EXPECT_NE(read_whole(isolated.folder + "/report/report.md").find("a process of its own"),
            std::string::npos);
}

TEST(Isolation, AControlThatCrashesStillLeavesAReport) {
  const TemporaryFolder folder;
  IsolatedText text;
  text.arms = "{name: none, cache: {type: hostile, deed: segfault}}, {name: paged, cache: paged}";
  const FinishedRun finished = run(folder, text);
  EXPECT_EQ(finished.code, 1);
  EXPECT_NE(failure_of(finished, "none").find("signal 11"), std::string::npos) << finished.log;
  EXPECT_FALSE(has_speed(finished, "paged"));
  EXPECT_FALSE(has_children());
}

TEST(Isolation, AnArmThatCannotBeLoadedFailsAlone) {
  const TemporaryFolder folder;
  IsolatedText text;  // the hostile library refuses to be loaded for an arm of this name
  text.arms = "{name: none, cache: none}, {name: unloadable, cache: none}, "
              "{name: preallocated, cache: preallocated}";
  const FinishedRun finished = run(folder, text);
  EXPECT_EQ(finished.code, 1) << finished.log;
  const std::string failure = failure_of(finished, "unloadable");
  EXPECT_TRUE(failure.starts_with("loading: threw: ")) << failure;
  EXPECT_NE(failure.find("not for this arm"), std::string::npos) << failure;
  EXPECT_FALSE(has_speed(finished, "unloadable"));
  EXPECT_TRUE(has_speed(finished, "none") && has_speed(finished, "preallocated")) << finished.log;
  EXPECT_FALSE(has_children());
}

TEST(Isolation, AParentThatIgnoresTheEndOfChildrenChangesNothing) {
  const TemporaryFolder folder;
  const std::string config = folder.write("ignored.yaml", IsolatedText().yaml());
  const std::string script = "trap '' CHLD; exec '" + kProgram + "' run '" + config + "' --runs '" +
                             folder.file("runs") + "'";
  const auto start = ChildProcess::Clock::now();
  const ProgramResult result = run_program({"/bin/sh", "-c", script});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_LT(ChildProcess::Clock::now() - start, std::chrono::seconds(20))
      << "each arm's end was waited for in vain";
  EXPECT_EQ(result.err.find("0.0 s of processor time"), std::string::npos) << result.err;
}

TEST(Isolation, AControlThatCannotBeLoadedIsNamedWithItsReason) {
  // The library is there for the run itself and gone when the arms' processes load it.
  const TemporaryFolder folder;
  const std::string library = folder.file("hostile.so");
  std::filesystem::copy_file(kHostile, library);
  IsolatedText text;
  std::string yaml = text.yaml();
  yaml.replace(yaml.find(kHostile), kHostile.size(), library);
  Registry registry = full_registry();
  LoadedExperiment loaded = load_experiment(folder.write("gone.yaml", yaml), {}, registry);
  std::filesystem::remove(library);
  RunOptions options;
  options.runs_folder = folder.file("runs");
  options.program = kProgram;
  std::ostringstream out, log;
  EXPECT_EQ(run_experiment(loaded, registry, options, out, log), 1);
  EXPECT_NE(log.str().find("none failed: loading: threw: "), std::string::npos) << log.str();
  EXPECT_NE(log.str().find("hostile.so"), std::string::npos) << log.str();
}

TEST(Isolation, AStandardExceptionIsContainedWithoutAProcessToo) {
  for (const std::string deed : {"std_throw", "non_std_throw"}) {
    const TemporaryFolder folder;
    IsolatedText text;
    text.isolation = "none";
    text.arms += ", " + hostile_arm(deed, 1);
    const FinishedRun finished = run(folder, text);
    EXPECT_EQ(finished.code, 1);
    EXPECT_TRUE(has_speed(finished, "preallocated"));
    EXPECT_NE(failure_of(finished, "hostile"), "");
  }
}

TEST(Isolation, AnExitInASharedProcessIsNoSuccess) {
  const TemporaryFolder folder;
  IsolatedText text;
  text.isolation = "none";
  text.arms += ", " + hostile_arm("exit_0", 1);
  const ProgramResult ended = run_program(
      {kProgram, "run", folder.write("exit.yaml", text.yaml()), "--runs", folder.file("runs")});
  EXPECT_EQ(ended.exit_code, 1);
  EXPECT_NE(ended.err.find("something called exit() while the experiment ran"), std::string::npos)
      << ended.err;
}

// A run of the command line that takes long enough to be disturbed, with its arms at work.
class LongRun {
 public:
  LongRun() {
    let_signals_through();
    IsolatedText text;
    text.repeats = 1000;
    text.workload = "prompt: {random: 11}, prompt_tokens: [6], new_tokens: [120], gate_tokens: 12";
    program_ = std::make_unique<RunningProgram>(std::vector<std::string>{
        kProgram, "run", folder_.write("long.yaml", text.yaml()), "--runs", folder_.file("runs")});
    EXPECT_TRUE(program_->wait_for_message("block 1", 60));
    EXPECT_EQ(processes_with(runs() + "/").size(), 2u) << "one process for each arm";
  }

  RunningProgram& program() { return *program_; }
  std::string runs() const { return folder_.file("runs"); }

 private:
  TemporaryFolder folder_;
  std::unique_ptr<RunningProgram> program_;
};

TEST(Isolation, CtrlCKeepsTheBlocksSoFarAndLeavesNoProcess) {
  LongRun run;
  EXPECT_TRUE(run.program().wait_for_message("preallocated block 2", 60));
  run.program().signal(SIGINT);
  const ProgramResult result = run.program().finish(60);
  EXPECT_EQ(result.exit_code, 130) << result.err;
  EXPECT_TRUE(all_gone(run.runs() + "/", 0)) << "gone before the run ended";
  EXPECT_NE(result.out.find("INTERRUPTED"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("x control"), std::string::npos) << result.out;
}

TEST(Isolation, ArmsDieWithARunThatIsKilled) {
  LongRun run;
  run.program().signal(SIGKILL);
  EXPECT_EQ(run.program().finish(60).exit_code, 137);
  EXPECT_TRUE(all_gone(run.runs() + "/", 20));
}

TEST(Isolation, TwoRunsAtOnceDoNotDisturbEachOther) {
  let_signals_through();
  const TemporaryFolder folder;
  IsolatedText text;
  text.arms += ", " + hostile_arm("segfault", kInRun);
  const std::string path = folder.write("two.yaml", text.yaml());
  RunningProgram first({kProgram, "run", path, "--runs", folder.file("first")});
  RunningProgram second({kProgram, "run", path, "--runs", folder.file("second")});
  for (RunningProgram* program : {&first, &second}) {
    const ProgramResult result = program->finish(120);
    EXPECT_EQ(result.exit_code, 1) << result.err;
    EXPECT_NE(result.err.find("hostile failed: prompt 6, batch 1, block 1: was ended by signal 11"),
              std::string::npos)
        << result.err;
  }
  EXPECT_TRUE(all_gone(folder.file("first") + "/", 0));
  EXPECT_TRUE(all_gone(folder.file("second") + "/", 0));
}

TEST(Isolation, TheCommandOfArmsIsForRunsAlone) {
  const ProgramResult typed =
      run_program({kProgram, "arm-process", "--config", "x", "--arm", "y", "--parent", "1"});
  EXPECT_EQ(typed.exit_code, 2);
  EXPECT_NE(typed.err.find("was not started by process 1"), std::string::npos) << typed.err;
  const ProgramResult help = run_program({kProgram, "--help"});
  EXPECT_EQ(help.out.find("arm-process"), std::string::npos) << help.out;
}

experiments::Sample full_sample() {
  experiments::Sample sample;
  sample.result.tokens = {{1, 2, 3}, {4}};
  sample.result.stopped = {StopReason::length, StopReason::stop_token};
  sample.result.ttft_ns = 17;
  sample.result.token_ns = {5, 6};
  sample.result.work = {1, 2, 3, 4, 5};
  sample.result.payload = 99;
  sample.result.cache.add(MemoryKind::storage, 100);
  sample.result.cache.add(MemoryKind::metadata, 7);
  sample.result.scratch.add(MemoryKind::scratch, 11);
  sample.setup_ns = 13;
  sample.estimated.add(MemoryKind::storage, 101);
  sample.fragmentation = 1.0 / 3.0;
  sample.contention.involuntary_switches = 2;
  sample.contention.steal_share = 0.25;
  sample.contention.contended = true;
  sample.split = {3, 40, 30, 20, 10};
  return sample;
}

TEST(Isolation, SamplesAndVerdictsSurviveTheWayThroughJson) {
  const experiments::Sample sample = full_sample();
  experiments::Case one;
  one.batch = 2;
  const json text = json::parse(experiments::sample_json(sample).dump());
  const experiments::Sample again = experiments::sample_from_json(text, one);
  EXPECT_EQ(experiments::sample_json(again), experiments::sample_json(sample));
  EXPECT_EQ(again.result.cache, sample.result.cache);
  EXPECT_EQ(again.result.work, sample.result.work);
  EXPECT_EQ(again.fragmentation, sample.fragmentation);

  experiments::GateResult gate;
  gate.exact_arm = false;
  gate.passed = false;
  gate.distance.mean_kl = std::numeric_limits<double>::infinity();
  gate.distance.kl_half_width = std::numeric_limits<double>::quiet_NaN();
  gate.distance.largest_logit = 0.1;
  gate.distance.first_difference = 4;
  gate.checks = {{"arm", "a check", false, "detail"}};
  const json verdict = json::parse(experiments::gate_json(gate).dump());
  const experiments::GateResult back = experiments::gate_from_json(verdict, "arm");
  EXPECT_EQ(experiments::gate_json(back), experiments::gate_json(gate));
  EXPECT_EQ(back.checks, gate.checks);
  EXPECT_EQ(back.distance.largest_logit, 0.1);
  for (const char* word : {"infinity", "NaN", "", "0.1"}) {
    json wrong = verdict;
    wrong["distance"]["mean_kl"] = word;
    EXPECT_THROW(experiments::gate_from_json(wrong, "arm"), UserError) << word;
  }
}

TEST(Isolation, AnAnswerThatCannotBeASampleIsRefused) {
  experiments::Case one;
  one.batch = 2;
  const json right = json::parse(experiments::sample_json(full_sample()).dump());
  const auto refused = [&](const std::function<void(json&)>& change) {
    json changed = right;
    change(changed);
    EXPECT_ANY_THROW(experiments::sample_from_json(changed, one)) << changed;
  };
  refused([](json& sample) { sample.erase("tokens"); });
  refused([](json& sample) { sample["tokens"].erase(0); });
  refused([](json& sample) { sample["tokens"][1] = json::array(); });
  refused([](json& sample) { sample["token_ns"].push_back(1); });
  refused([](json& sample) { sample["token_ns"][0] = -1; });
  refused([](json& sample) { sample["ttft_ns"] = 0; });
  refused([](json& sample) { sample["stopped"][0] = "boredom"; });
  refused([](json& sample) { sample["usage"]["cache"]["live"] = "much"; });
}

}  // namespace
