// The benchmark on models that run in milliseconds: what a run leaves behind, who gets a speed, and
// what happens to arms that are wrong, too small or interrupted.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "../../experiments/generation_benchmark/benchmark_report.h"
#include "kvlab/cache/forwarding_cache.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/process.h"
#include "tests/fixtures/run_config.h"

namespace {

using namespace kvlab::test;
using namespace kvlab;
using nlohmann::json;

constexpr int64_t kPrompt = 6, kNew = 12;
const std::string kWorkload =
    "prompt: {random: 11}, prompt_tokens: [6], new_tokens: [4, 12], gate_tokens: 24";
const std::vector<std::string> kNames = {"none", "concat", "preallocated", "paged", "gqa"};
const std::string kFiveArms =
    "{name: none, cache: none}, {name: concat, cache: concat}, "
    "{name: preallocated, cache: preallocated}, {name: paged, cache: 'paged:block_size=4'}, "
    "{name: gqa, cache: gqa_shared}";

struct BenchmarkText {
  std::string arms = kFiveArms;
  std::string workload = kWorkload;
  std::string runtime = "threads: 1";
  std::string control = "none";
  int repeats = 3;
  std::string measure = "aa: false";

  std::string yaml() const {
    return "schema: kvlab/1\nexperiment: generation_benchmark\nquestion: Which is fastest?\n"
           "model: " + kTinyModel + "\nworkload: {" + workload + "}\narms: [" + arms +
           "]\ncontrol: " + control + "\nruntime: {" + runtime +
           "}\nmeasure: {repeats: " + std::to_string(repeats) + ", warmup: 0, " + measure + "}\n";
  }
};

FinishedRun run(const TemporaryFolder& folder, const BenchmarkText& text,
                const ExtendRegistry& extend = {}) {
  return run_config(folder, folder.write("benchmark.yaml", text.yaml()), extend);
}

json metric(const FinishedRun& finished, const std::string& arm, const std::string& name) {
  for (const json& entry : finished.summary.at("metrics")) {
    if (entry.at("arm") == arm && entry.at("metric") == name) return entry;
  }
  return nullptr;
}

void expect_no_speed(const FinishedRun& finished, const std::string& arm) {
  for (const char* name : {"tokens_per_s", "speed_ratio", "ttft", "tpot", "break_even"}) {
    EXPECT_TRUE(metric(finished, arm, name).is_null()) << arm << " " << name;
  }
}

void expect_speed(const FinishedRun& finished, const std::string& arm) {
  const json speed = metric(finished, arm, "tokens_per_s");
  ASSERT_FALSE(speed.is_null()) << arm << "\n" << finished.log;
  EXPECT_GT(speed.at("value"), 0);
}

void expect_all_checks_passed(const FinishedRun& finished) {
  EXPECT_FALSE(finished.summary.at("checks").empty());
  for (const json& check : finished.summary.at("checks")) {
    EXPECT_EQ(check.at("passed"), true) << check;
  }
}

std::string report_text(const FinishedRun& finished) {
  return read_whole(finished.folder + "/report/report.md");
}

std::string failed_checks(const FinishedRun& finished, const std::string& arm) {
  std::string found;
  for (const json& check : finished.summary.at("checks")) {
    if (check.at("arm") == arm && check.at("passed") == false) found += check.dump() + "\n";
  }
  return found;
}

// Cells by column title of the row that starts with `name`; no quoted cells.
std::map<std::string, std::string> csv_row(const std::string& table, const std::string& name) {
  const auto split = [](const std::string& line) {
    std::vector<std::string> cells;
    std::istringstream parts(line);
    for (std::string cell; std::getline(parts, cell, ',');) cells.push_back(cell);
    return cells;
  };
  std::istringstream lines(table);
  std::string line;
  std::getline(lines, line);
  const std::vector<std::string> titles = split(line);
  std::map<std::string, std::string> row;
  while (std::getline(lines, line)) {
    const std::vector<std::string> cells = split(line);
    if (cells.empty() || cells[0] != name) continue;
    for (size_t i = 0; i < titles.size(); ++i) row[titles[i]] = i < cells.size() ? cells[i] : "";
  }
  return row;
}

// Takes each step's keys in another order: right where a step has one token.
class ShuffledKeys : public ForwardingCache {
 public:
  explicit ShuffledKeys(std::unique_ptr<KVCache> inner)
      : ForwardingCache("shuffled_keys", std::move(inner)) {}
  void append(int layer, const at::Tensor& key, const at::Tensor& value) override {
    shuffled_ = key.roll(1, 0).contiguous();
    ForwardingCache::append(layer, shuffled_, value);
  }

 private:
  at::Tensor shuffled_;
};

// Does not show a text's last entry, as a cache that reads its length before the step's tokens.
class LosesLastEntry : public ForwardingCache {
 public:
  explicit LosesLastEntry(std::unique_ptr<KVCache> inner)
      : ForwardingCache("loses_last", std::move(inner)) {}
  const KVView& view(int layer, const at::Tensor& query) override {
    const KVView& whole = ForwardingCache::view(layer, query);
    cut_.begin(whole.num_kv_heads(), whole.key_dim(), whole.value_dim());
    cut_.window = whole.window;
    cut_.sinks = whole.sinks;
    cut_.rotated = whole.rotated;
    for (int64_t slice = 0; slice < whole.num_slices(); ++slice) {
      cut_.begin_slice();
      const auto segments = whole.segments(slice);
      for (size_t i = 0; i < segments.size(); ++i) {
        KVSegment segment = segments[i];
        const bool last = i + 1 == segments.size() && whole.count(slice, 0) > 1;
        if (last) --segment.count;
        cut_.add(segment);
      }
    }
    return cut_;
  }

 private:
  KVView cut_;
};

// Asks for the end of the run, as Ctrl-C does, at the given step of this cache's life.
class Interrupting : public ForwardingCache {
 public:
  Interrupting(std::unique_ptr<KVCache> inner, int& steps_left)
      : ForwardingCache("interrupting", std::move(inner)), steps_left_(steps_left) {}
  void begin_step(const StepPlan& plan) override {
    if (--steps_left_ == 0) request_interrupt();
    ForwardingCache::begin_step(plan);
  }

 private:
  int& steps_left_;
};

using Wrap = std::function<std::unique_ptr<KVCache>(std::unique_ptr<KVCache>)>;

ExtendRegistry with_cache(const std::string& name, const Wrap& wrap) {
  return [name, wrap](Registry& registry) {
    CacheEntry entry;
    entry.info.name = name;
    entry.info.summary = "Wrong on purpose.";
    const ComponentSpec inner{"concat", {}, ""};
    entry.traits = [inner](const CacheRequest& request) {
      return request.registry.cache_traits(inner, request.shape);
    };
    entry.estimate = [inner](const CacheRequest& request, const StepSequence& sequence) {
      return request.registry.estimate_cache(inner, request.shape, sequence);
    };
    entry.create = [inner, wrap](const CacheRequest& request, StorageArena& arena) {
      return wrap(request.registry.make_cache(inner, request.shape, arena));
    };
    registry.add(std::move(entry));
  };
}

TEST(GenerationBenchmark, AllFiveCachesPassAndHaveFigures) {
  const TemporaryFolder folder;
  const FinishedRun finished = run(folder, {});
  EXPECT_EQ(finished.code, 0) << finished.log;
  expect_run_files(finished);
  expect_all_checks_passed(finished);
  for (const std::string& arm : kNames) {
    SCOPED_TRACE(arm);
    expect_speed(finished, arm);
    EXPECT_EQ(metric(finished, arm, "tokens_per_s").at("n"), 3);
    EXPECT_EQ(metric(finished, arm, "tokens_per_s").at("higher_is_better"), true);
    const json ratio = metric(finished, arm, "speed_ratio");
    if (arm == "none") {
      EXPECT_TRUE(ratio.is_null()) << "the control is not compared with itself";
    } else {
      ASSERT_FALSE(ratio.is_null());
      EXPECT_LE(ratio.at("ci_low"), ratio.at("value"));
      EXPECT_GE(ratio.at("ci_high"), ratio.at("value"));
    }
  }
}

TEST(GenerationBenchmark, WritesOneLineForEachRunOfEachArm) {
  const TemporaryFolder folder;
  const FinishedRun finished = run(folder, {});
  ASSERT_EQ(finished.samples.size(), kNames.size() * 3);
  std::set<int> orders;
  std::set<std::pair<std::string, int>> runs;
  for (const json& line : finished.samples) {
    for (const char* key : {"arm", "rep", "order", "prompt_len", "batch", "new_tokens", "ttft_ns",
                            "token_ns", "bytes", "work"}) {
      EXPECT_TRUE(line.contains(key)) << key << " in " << line;
    }
    orders.insert(line.at("order").get<int>());
    runs.emplace(line.at("arm"), line.at("rep"));
    EXPECT_EQ(line.at("order").get<int>() / 5, line.at("rep")) << "a block runs every arm once";
    EXPECT_EQ(line.at("prompt_len"), kPrompt);
    EXPECT_EQ(line.at("batch"), 1);
    EXPECT_EQ(line.at("new_tokens"), kNew);
    EXPECT_EQ(line.at("token_ns").size(), static_cast<size_t>(kNew - 1));
    EXPECT_GT(line.at("ttft_ns"), 0);
  }
  EXPECT_EQ(orders.size(), finished.samples.size());
  EXPECT_EQ(runs.size(), finished.samples.size());
}

TEST(GenerationBenchmark, MeasuresTheControlASecondTimeAndShowsItsRatioAsTheNoise) {
  const TemporaryFolder folder;
  BenchmarkText text;
  text.measure = "aa: true";
  const FinishedRun finished = run(folder, text);
  EXPECT_EQ(finished.code, 0) << finished.log;
  EXPECT_EQ(finished.samples.size(), (kNames.size() + 1) * 3) << "it takes part in the blocks";
  EXPECT_EQ(finished.sample({{"arm", "none_again"}, {"rep", 0}}).at("tokens"),
            finished.sample({{"arm", "none"}, {"rep", 0}}).at("tokens"));
  const json noise = metric(finished, "none_again", "speed_ratio");
  ASSERT_FALSE(noise.is_null());
  EXPECT_LT(noise.at("ci_low"), noise.at("ci_high"));
  const std::string report = report_text(finished);
  EXPECT_NE(report.find("Noise: none measured a second time is"), std::string::npos) << report;
  EXPECT_EQ(report.find("none_again is "), std::string::npos) << "it is no arm to be judged";
  EXPECT_NE(report.find("4 comparison(s) were made"), std::string::npos) << report;
}

TEST(GenerationBenchmark, AnArmWithTheNameOfTheSecondControlIsRefused) {
  const TemporaryFolder folder;
  BenchmarkText text;
  text.arms = "{name: none, cache: none}, {name: none_again, cache: concat}";
  text.measure = "aa: true";
  try {
    run(folder, text);
    FAIL() << "was not refused";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("measure: {aa: false}"), std::string::npos)
        << error.what();
  }
}

// The arm is the control but for the waiting: far beyond what a restless machine hides.
TEST(GenerationBenchmark, APlantedSlowdownIsFoundAndSaidInWords) {
  const TemporaryFolder folder;
  BenchmarkText text;
  text.arms = "{name: paged, cache: paged}, {name: slowed, cache: paged}";
  text.control = "paged";
  text.repeats = 30;
  text.measure = "planted_slowdown: {slowed: 3}";
  const FinishedRun finished = run(folder, text);
  EXPECT_EQ(finished.code, 0) << finished.log;
  const json ratio = metric(finished, "slowed", "speed_ratio");
  ASSERT_FALSE(ratio.is_null());
  EXPECT_LT(ratio.at("value"), 0.6);
  const std::string report = report_text(finished);
  const bool busy = report.find("refused (") != std::string::npos;
  EXPECT_EQ(ratio.at("verdict"), busy ? "refused" : "slower") << "what sweeps and stores quote";
  EXPECT_LT(ratio.at("p"), 0.05);
  EXPECT_TRUE(busy || report.find("of paged: slower") != std::string::npos) << report;
  EXPECT_NE(report.find("it holds as many bytes"), std::string::npos) << report;
  EXPECT_NE(report.find("a planted slowdown: each step waits"), std::string::npos) << report;
}

TEST(GenerationBenchmark, SamplesSayWhatDisturbedThemAndWhereTheirTimeWent) {
  const TemporaryFolder folder;
  const FinishedRun finished = run(folder, {});
  for (const json& line : finished.samples) {
    const json& flags = line.at("flags");
    for (const char* key : {"contended", "suspended", "involuntary_switches", "steal_share", "load",
                            "wall_ns", "cpu_ns"}) {
      EXPECT_TRUE(flags.contains(key)) << key;
    }
    EXPECT_GE(flags.at("wall_ns"), line.at("ttft_ns"));
    const json& split = line.at("split_ns");
    EXPECT_EQ(split.at("steps"), kNew - 1) << "decode steps alone";
    EXPECT_GT(split.at("weights"), 0);
    int64_t decode = 0;
    for (const json& gap : line.at("token_ns")) decode += gap.get<int64_t>();
    EXPECT_LE(split.at("weights").get<int64_t>() + split.at("attention").get<int64_t>() +
                  split.at("cache").get<int64_t>() + split.at("other").get<int64_t>(),
              decode);
  }
  const auto cells = csv_row(read_whole(finished.folder + "/report/data/split.csv"), "concat");
  EXPECT_NEAR(std::stod(cells.at("weights [%]")) + std::stod(cells.at("attention [%]")) +
                  std::stod(cells.at("cache [%]")) + std::stod(cells.at("other [%]")),
              100, 1e-6);
}

// Without these two runs of one config would differ where nothing changed.
TEST(GenerationBenchmark, OnlyMetricsFromAClockAreMarkedSo) {
  const TemporaryFolder folder;
  const FinishedRun finished = run(folder, {});
  const std::set<std::string> timed = {"tokens_per_s", "speed_ratio", "ttft",
                                       "tpot", "tpot_p90", "break_even"};
  std::set<std::string> seen;
  for (const json& entry : finished.summary.at("metrics")) {
    const auto name = entry.at("metric").get<std::string>();
    EXPECT_EQ(entry.at("timed"), timed.contains(name)) << name;
    seen.insert(name);
  }
  EXPECT_TRUE(seen.contains("payload") && seen.contains("speed_ratio"));
}

TEST(GenerationBenchmark, ThePrimaryMetricDecidesWhatIsCompared) {
  const TemporaryFolder folder;
  BenchmarkText text;
  const std::string file = folder.write(
      "ttft.yaml", text.yaml() + "primary_metric: ttft in ms\n");
  const FinishedRun finished = run_config(folder, file, {});
  EXPECT_EQ(finished.code, 0) << finished.log;
  std::vector<double> ratios;
  for (int block = 0; block < 3; ++block) {
    const auto first = [&](const char* arm) {
      return finished.sample({{"arm", arm}, {"rep", block}}).at("ttft_ns").get<double>();
    };
    ratios.push_back(first("none") / first("concat"));
  }
  EXPECT_NEAR(metric(finished, "concat", "speed_ratio").at("value").get<double>(),
              std::cbrt(ratios[0] * ratios[1] * ratios[2]), 1e-9);
  const std::string report = report_text(finished);
  EXPECT_NE(report.find("of none by TTFT: "), std::string::npos) << report;
  EXPECT_NE(report.find("from the request to the first token of the last row"), std::string::npos);
  EXPECT_EQ(report.find("ttft in ms"), std::string::npos) << "one text for one figure";
  EXPECT_EQ(report.find("verdicts are about tokens/s"), std::string::npos);
}

TEST(GenerationBenchmark, CountsEveryTokenThatWentThroughTheLayers) {
  const TemporaryFolder folder;
  const FinishedRun finished = run(folder, {});
  for (const json& line : finished.samples) {
    const int64_t wanted = line.at("arm") == "none" ? kNew * kPrompt + kNew * (kNew - 1) / 2
                                                    : kPrompt + kNew - 1;
    EXPECT_EQ(line.at("work").at("token_forwards"), wanted) << line.at("arm");
    EXPECT_EQ(line.at("work").at("logit_rows"), kNew) << line.at("arm");
  }
}

TEST(GenerationBenchmark, AnUnequalArmGetsNoSpeedAndFailsTheRun) {
  struct WrongCache {
    const char* name;
    Wrap wrap;
    bool wrong_token_by_token;
  };
  const WrongCache wrong[] = {
      {"shuffled_keys",
       [](auto inner) { return std::make_unique<ShuffledKeys>(std::move(inner)); }, false},
      {"loses_last",
       [](auto inner) { return std::make_unique<LosesLastEntry>(std::move(inner)); }, true}};
  for (const WrongCache& cache : wrong) {
    SCOPED_TRACE(cache.name);
    const TemporaryFolder folder;
    BenchmarkText text;
    text.arms = std::string("{name: none, cache: none}, {name: wrong, cache: ") + cache.name +
                "}, {name: concat, cache: concat}";
    const FinishedRun finished = run(folder, text, with_cache(cache.name, cache.wrap));
    EXPECT_EQ(finished.code, 1);
    EXPECT_EQ(finished.run.at("status"), "failed");
    const std::string gate = "equal to the control, ";
    const json prefill = finished.check("wrong", gate + "prefill as in the run, tolerance 1e-05");
    const json single = finished.check("wrong", gate + "token by token, tolerance 1e-05");
    ASSERT_FALSE(prefill.is_null() || single.is_null()) << finished.summary.at("checks").dump(1);
    EXPECT_EQ(prefill.at("passed"), false);
    EXPECT_EQ(single.at("passed"), !cache.wrong_token_by_token);
    expect_no_speed(finished, "wrong");
    expect_speed(finished, "none");
    expect_speed(finished, "concat");
    EXPECT_EQ(failed_checks(finished, "concat"), "");
    EXPECT_NE(report_text(finished).find("NOT EQUAL"), std::string::npos);
  }
}

TEST(GenerationBenchmark, AnArmWithoutRoomFailsAlone) {
  const TemporaryFolder folder;
  BenchmarkText text;
  text.arms = "{name: none, cache: none}, {name: small, cache: 'preallocated:capacity=8'}, "
              "{name: paged, cache: paged}";
  const FinishedRun finished = run(folder, text);
  EXPECT_EQ(finished.code, 1);
  expect_no_speed(finished, "small");
  EXPECT_EQ(failed_checks(finished, "none") + failed_checks(finished, "paged"), "");
  expect_speed(finished, "none");
  expect_speed(finished, "paged");
  EXPECT_FALSE(metric(finished, "paged", "speed_ratio").is_null());
  EXPECT_EQ(finished.samples.size(), 2u * 3u);
  const std::string report = report_text(finished);
  EXPECT_NE(report.find("small: no speed is given, it failed"), std::string::npos) << report;
  EXPECT_NE(report.find("capacity"), std::string::npos) << "says why: " << report;
}

TEST(GenerationBenchmark, AControlThatFailsStillLeavesAReport) {
  const TemporaryFolder folder;
  BenchmarkText text;
  text.arms = "{name: small, cache: 'preallocated:capacity=8'}, {name: paged, cache: paged}";
  text.control = "small";
  const FinishedRun finished = run(folder, text);
  EXPECT_EQ(finished.code, 1) << finished.log;
  EXPECT_EQ(finished.run.at("status"), "failed");
  ASSERT_TRUE(finished.summary.is_object()) << finished.log;
  expect_no_speed(finished, "small");
  expect_no_speed(finished, "paged");
  EXPECT_NE(report_text(finished).find("capacity"), std::string::npos) << finished.log;
}

TEST(GenerationBenchmark, RowsThatDrawAStopTokenEndThereWithTheSameTextInEveryArm) {
  const TemporaryFolder folder;
  BenchmarkText text;
  text.repeats = 2;
  text.workload = kWorkload + ", batch: 3, sampler: {type: sample, temperature: 0.8, seed: 5}";
  const FinishedRun unstopped = run(folder, text);
  EXPECT_EQ(unstopped.code, 0) << unstopped.log;
  const json whole = unstopped.sample({{"arm", "none"}}).at("tokens");
  EXPECT_NE(whole[0], whole[1]) << "rows draw their own texts";

  const int stop = whole[0][4].get<int>();
  json wanted = whole;
  for (json& row : wanted) {
    const auto found = std::find(row.begin(), row.end(), json(stop));
    if (found != row.end()) row.erase(found + 1, row.end());
  }
  ASSERT_LE(wanted[0].size(), 5u);

  const TemporaryFolder other;
  text.workload += ", stop_tokens: [" + std::to_string(stop) + "]";
  const FinishedRun stopped = run(other, text);
  EXPECT_EQ(stopped.code, 0) << stopped.log;
  expect_all_checks_passed(stopped);
  ASSERT_EQ(stopped.samples.size(), kNames.size() * 2);
  for (const json& line : stopped.samples) EXPECT_EQ(line.at("tokens"), wanted) << line.at("arm");
}

TEST(GenerationBenchmark, AnOutputLengthThatNoRowReachedIsADash) {
  const TemporaryFolder folder;
  BenchmarkText text;
  text.arms = "{name: none, cache: none}, {name: paged, cache: paged}";
  text.workload += ", sampler: {type: sample, temperature: 0.8, seed: 5}";
  const json whole = run(folder, text).sample({{"arm", "none"}}).at("tokens")[0];
  size_t at = 4;  // the stop token must be new there, or the text would end before
  while (std::find(whole.begin(), whole.begin() + static_cast<long>(at), whole[at]) !=
         whole.begin() + static_cast<long>(at)) {
    ++at;
    ASSERT_LT(at, whole.size() - 1);
  }
  const TemporaryFolder other;
  text.workload += ", stop_tokens: [" + whole[at].dump() + "]";
  const FinishedRun stopped = run(other, text);
  EXPECT_EQ(stopped.code, 0) << stopped.log;
  EXPECT_EQ(stopped.sample({{"arm", "none"}}).at("tokens")[0].size(), at + 1);
  const std::string table = read_whole(stopped.folder + "/report/data/output_lengths.csv");
  const auto cells = csv_row(table, "paged");
  const auto is_number = [](const std::string& cell) {
    return cell.find_first_of("0123456789") != std::string::npos;
  };
  EXPECT_TRUE(is_number(cells.at("new_4 [x control]"))) << "4 tokens came out: " << table;
  EXPECT_FALSE(is_number(cells.at("new_12 [x control]"))) << "12 did not: " << table;
}

TEST(GenerationBenchmark, AnApproximateArmShowsItsDistanceAndIsNotJudged) {
  const TemporaryFolder folder;
  BenchmarkText text;
  text.arms = "{name: none, cache: none}, {name: paged, cache: paged}, "
              "{name: pooled, cache: 'gqa_shared:kv_heads=1'}";
  const FinishedRun finished = run(folder, text);
  EXPECT_EQ(finished.code, 0) << finished.log;
  const json distance = metric(finished, "pooled", "kl");
  ASSERT_FALSE(distance.is_null());
  EXPECT_GT(distance.at("value"), 0);
  EXPECT_EQ(distance.at("unit"), "nats/token");
  EXPECT_TRUE(metric(finished, "paged", "kl").is_null()) << "an exact arm is gated instead";
  expect_speed(finished, "pooled");
  EXPECT_EQ(failed_checks(finished, "pooled"), "");
  for (const json& check : finished.summary.at("checks")) {
    if (check.at("arm") != "pooled") continue;
    EXPECT_EQ(check.at("check").get<std::string>().find("equal to the control"), std::string::npos);
    EXPECT_EQ(check.at("check").get<std::string>().find("same text"), std::string::npos);
  }
}

TEST(GenerationBenchmark, Bf16IsGatedByItsLogicAndByWhatBf16Costs) {
  const TemporaryFolder folder;
  BenchmarkText text;
  text.runtime = "threads: 1, dtype: bf16";
  const FinishedRun finished = run(folder, text);
  EXPECT_EQ(finished.code, 0) << finished.log << failed_checks(finished, "concat");
  expect_all_checks_passed(finished);
  for (const std::string& arm : kNames) {
    int logic = 0, divergence = 0;
    for (const json& check : finished.summary.at("checks")) {
      if (check.at("arm") != arm) continue;
      const std::string name = check.at("check");
      logic += name.find("logic in f32") != std::string::npos;
      divergence += name.find("KL to the control in bf16") != std::string::npos;
    }
    EXPECT_GE(logic, 1) << arm;
    EXPECT_EQ(divergence, 1) << arm;
    expect_speed(finished, arm);
  }
}

TEST(GenerationBenchmark, AnInterruptedRunReportsTheBlocksItFinished) {
  int steps_left = 0;
  const Wrap interrupting = [&](std::unique_ptr<KVCache> inner) {
    return std::make_unique<Interrupting>(std::move(inner), steps_left);
  };
  BenchmarkText text;
  text.arms = "{name: none, cache: none}, {name: stops, cache: interrupting}";
  // The gate feeds 18 tokens at once and then one by one; each block takes 12 steps.
  for (const int64_t step : {int64_t{3}, 1 + kPrompt + kNew + kNew + 5}) {
    SCOPED_TRACE(step);
    steps_left = static_cast<int>(step);
    const TemporaryFolder folder;
    const FinishedRun finished = run(folder, text, with_cache("interrupting", interrupting));
    clear_interrupt();
    EXPECT_EQ(finished.code, 130) << finished.log;
    EXPECT_EQ(finished.run.at("status"), "interrupted");
    const std::string report = report_text(finished);
    EXPECT_NE(report.find("interrupted"), std::string::npos) << finished.log << report;
    ASSERT_TRUE(finished.summary.is_object()) << finished.log;
    if (step < kPrompt) continue;  // still in the gate
    expect_speed(finished, "stops");
    EXPECT_EQ(metric(finished, "stops", "tokens_per_s").at("n"), 1);
    EXPECT_EQ(metric(finished, "none", "tokens_per_s").at("n"), 1);
  }
}

TEST(GenerationBenchmark, WeightsThatVanishBeforeTheRunGiveExitCodeFour) {
  namespace fs = std::filesystem;
  const TemporaryFolder folder;
  fs::copy(std::string(KVLAB_SOURCE_DIR) + "/tests/golden/llama_gqa_tiny", folder.file("model"));
  std::string text = BenchmarkText{}.yaml();
  text.replace(text.find(kTinyModel), kTinyModel.size(),
               "{name: tiny, source: {type: huggingface, path: " + folder.file("model") + "}}");
  Registry registry = full_registry();
  LoadedExperiment loaded = load_experiment(folder.write("gone.yaml", text), {}, registry);
  fs::remove(folder.file("model/model.safetensors"));
  RunOptions options;
  options.runs_folder = folder.file("runs");
  std::ostringstream out, log;
  EXPECT_EQ(run_experiment(loaded, registry, options, out, log), 4) << log.str();
}

TEST(GenerationBenchmark, BreakEvenIsTheLengthFromWhichOnAnArmStaysFaster) {
  using experiments::break_even;
  const std::vector<double> control = {10, 20, 30, 40, 50};
  EXPECT_EQ(break_even({11, 21, 31, 41, 51}, control), std::nullopt) << "never";
  EXPECT_EQ(break_even({10, 20, 30, 40, 50}, control), std::nullopt) << "a tie is not faster";
  EXPECT_EQ(break_even({9, 18, 27, 36, 45}, control), 1) << "from the start";
  EXPECT_EQ(break_even({15, 22, 29, 36, 43}, control), 3) << "a crossing";
  EXPECT_EQ(break_even({9, 19, 31, 39, 48}, control), 4) << "the last of two crossings";
  EXPECT_EQ(break_even({9, 19, 29, 39, 51}, control), std::nullopt) << "slower in the end";
  EXPECT_EQ(break_even({15, 19, 29}, control), 2) << "only lengths that both reached";
  EXPECT_EQ(break_even({}, control), std::nullopt);
}

}  // namespace
