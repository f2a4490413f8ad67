// The decode speed experiment on a model that runs in milliseconds: what it times, what it compares
// before, what it leaves out, and the bytes behind its figures.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "../../experiments/decode_speed/arm_session.h"
#include "../../experiments/decode_speed/cache_fill.h"
#include "kvlab/cache/forwarding_cache.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/model.h"
#include "kvlab/runtime/step_bound.h"
#include "tests/fixtures/run_config.h"

namespace {

using namespace kvlab::test;
using namespace kvlab;
using experiments::decode_speed_kind::ArmSession;
using experiments::decode_speed_kind::can_copy_entries;
using nlohmann::json;

const std::string kArms =
    "{name: preallocated, cache: preallocated}, {name: concat, cache: concat}, "
    "{name: paged, cache: 'paged:block_size=4'}, {name: sinks, cache: 'sinks:sinks=2,window=6'}, "
    "{name: none, cache: none}";

struct SpeedText {
  std::string arms = kArms;
  std::string precisions = "[{weights: f32, cache: f32}]";
  std::string batch = "[1]";
  std::string depths = "[0, 20]";
  std::string more;  ///< further keys of `cases`
  std::string runtime = "threads: 1, chunk: 8";
  std::string prefill = "16";
  std::string probe = "16MiB";
  std::string control = "preallocated";
  std::string measure = "repeats: 3, warmup: 1";
  std::string model = "model: " + kTinyModel;

  std::string yaml() const {
    return "schema: kvlab/1\nexperiment: decode_speed\nquestion: How fast?\n" + model +
           "\ncases: {prompt: {random: 11}, prefill: " + prefill + ", depths: " + depths +
           ", tokens: 5, gate_tokens: 3, batch: " + batch + ", precisions: " + precisions +
           ", probe: " + probe + more + "}\narms: [" + arms + "]\ncontrol: " + control +
           "\nruntime: {" + runtime + "}\nmeasure: {" + measure + "}\n";
  }
};

FinishedRun run(const TemporaryFolder& folder, const SpeedText& text,
                const ExtendRegistry& extend = {}) {
  return run_config(folder, folder.write("speed.yaml", text.yaml()), extend);
}

json metric(const FinishedRun& finished, const std::string& arm, const std::string& name,
            const std::map<std::string, std::string>& group) {
  for (const json& entry : finished.summary.at("metrics")) {
    bool fits = entry.at("arm") == arm && entry.at("metric") == name;
    for (const auto& [key, value] : group) {
      fits = fits && entry.at("group").contains(key) && entry.at("group").at(key) == value;
    }
    if (fits) return entry;
  }
  return nullptr;
}

std::string report_text(const FinishedRun& finished) {
  return read_whole(finished.folder + "/report/report.md");
}

// Shows one entry less than it holds, from the third on.
class LosesLastEntry : public ForwardingCache {
 public:
  explicit LosesLastEntry(std::unique_ptr<KVCache> inner)
      : ForwardingCache("loses_last", std::move(inner)) {}
  const KVView& view(int layer, const at::Tensor& query) override {
    const KVView& whole = ForwardingCache::view(layer, query);
    cut_.begin(whole.num_kv_heads(), whole.key_dim(), whole.value_dim());
    for (int64_t slice = 0; slice < whole.num_slices(); ++slice) {
      cut_.begin_slice();
      for (KVSegment segment : whole.segments(slice)) {
        if (segment.count > 2) --segment.count;
        cut_.add(segment);
      }
    }
    return cut_;
  }

 private:
  KVView cut_;
};

void add_wrong_cache(Registry& registry) {
  CacheEntry entry = registry.cache("preallocated");
  entry.info.name = "loses_last";
  entry.create = [inner = entry.create](const CacheRequest& request, StorageArena& arena) {
    return std::make_unique<LosesLastEntry>(inner(request, arena));
  };
  registry.add(std::move(entry));
}

TEST(DecodeSpeed, TimesEveryArmAtEveryDepthBesideTheBandwidth) {
  const TemporaryFolder folder;
  const FinishedRun finished = run(folder, {});
  ASSERT_EQ(finished.code, 0) << finished.log << finished.out;
  expect_run_files(finished);
  for (const char* depth : {"0", "20"}) {
    for (const char* arm :
         {"preallocated", "concat", "paged", "sinks", "none", "preallocated_again"}) {
      for (const char* name : {"ms_per_step", "floor_share", "tokens_per_s"}) {
        const json found = metric(finished, arm, name, {{"depth", depth}});
        if (std::string(arm) == "none" && std::string(name) == "floor_share") {
          EXPECT_TRUE(found.is_null()) << "what recomputes has no floor in its bytes";
          continue;
        }
        ASSERT_FALSE(found.is_null()) << arm << " " << depth << " " << name << finished.log;
        EXPECT_GT(found.at("value"), 0);
        EXPECT_EQ(found.at("n"), 3);
      }
      EXPECT_EQ(metric(finished, arm, "time_ratio", {{"depth", depth}}).is_null(),
                std::string(arm) == "preallocated");
    }
  }
  int bandwidth = 0, decode = 0, prefill = 0;
  for (const json& line : finished.samples) {
    bandwidth += line.at("measured") == "read_bandwidth" ? 1 : 0;
    prefill += line.at("measured") == "prefill" ? 1 : 0;
    if (line.at("measured") != "decode") continue;
    ++decode;
    EXPECT_EQ(line.at("step_ns").size(), 5u);
  }
  EXPECT_EQ(bandwidth, 2 * 3) << "one per depth and block";
  EXPECT_EQ(prefill, 6 * 3) << "the control counts twice";
  EXPECT_EQ(decode, 2 * 6 * 3);
  EXPECT_NE(report_text(finished).find("Where the time of a step goes"), std::string::npos);
  EXPECT_NE(report_text(finished).find("row_tokens 16 (measured)"), std::string::npos);
  EXPECT_EQ(finished.sample({{"measured", "decode"}}).at("row_tokens"), 16);
}

TEST(DecodeSpeed, ComparesExactArmsAndShowsTheDistanceOfOthers) {
  const TemporaryFolder folder;
  const FinishedRun finished = run(folder, {});
  std::map<std::string, int> checks;
  for (const json& check : finished.summary.at("checks")) {
    EXPECT_EQ(check.at("passed"), true) << check;
    ++checks[check.at("arm")];
  }
  // At two depths and after the prompt.
  EXPECT_EQ(checks, (std::map<std::string, int>{
                        {"concat", 3}, {"paged", 3}, {"none", 3}, {"preallocated_again", 3}}));
  const std::string report = report_text(finished);
  EXPECT_NE(report.find("approximate, KL"), std::string::npos);
  EXPECT_NE(report.find("| paged | exact, equal |"), std::string::npos);
  EXPECT_NE(report.find("| preallocated | exact, control |"), std::string::npos);
}

TEST(DecodeSpeed, GivesNoSpeedToAnArmThatIsNotEqual) {
  const TemporaryFolder folder;
  SpeedText text;
  text.arms = "{name: preallocated, cache: preallocated}, {name: wrong, cache: loses_last}";
  const FinishedRun finished = run(folder, text, add_wrong_cache);
  EXPECT_EQ(finished.code, 1) << finished.log;
  for (const char* name : {"ms_per_step", "time_ratio", "prefill_tokens_per_s", "floor_share"}) {
    EXPECT_TRUE(metric(finished, "wrong", name, {}).is_null()) << name;
  }
  EXPECT_FALSE(metric(finished, "preallocated", "ms_per_step", {{"depth", "20"}}).is_null());
  EXPECT_NE(report_text(finished).find("wrong: no speed at depth 0: exact, NOT EQUAL; no "
                                       "speed at depth 20: exact, NOT EQUAL."),
            std::string::npos)
      << report_text(finished);
}

TEST(DecodeSpeed, RoundingCasesAreGatedInF32First) {
  const TemporaryFolder folder;
  SpeedText text;
  text.arms = "{name: preallocated, cache: preallocated}, {name: paged, cache: 'paged:block_size=4'}";
  text.precisions = "[{weights: bf16, cache: bf16}, {weights: int8, cache: bf16}]";
  text.batch = "[2]";
  const FinishedRun finished = run(folder, text);
  ASSERT_EQ(finished.code, 0) << finished.log << finished.out;
  int logic = 0, divergence = 0;
  for (const json& check : finished.summary.at("checks")) {
    const std::string what = check.at("check");
    logic += what.find("in f32") != std::string::npos ? 1 : 0;
    divergence += what.find("KL to the control") != std::string::npos ? 1 : 0;
  }
  EXPECT_EQ(logic, 8) << "two element types, two depths, and the control a second time";
  EXPECT_EQ(divergence, 8);
  EXPECT_TRUE(metric(finished, "paged", "ms_per_step", {{"weights", "f32"}}).is_null())
      << "f32 was only compared";
  for (const char* weights : {"bf16", "int8"}) {
    EXPECT_FALSE(metric(finished, "paged", "ms_per_step", {{"weights", weights}}).is_null());
  }
}

TEST(DecodeSpeed, LeavesOutWhatIsTooSlowOrTooDeepAndSaysWhy) {
  const TemporaryFolder folder;
  SpeedText text;
  text.depths = "[20, 40, 1000]";
  text.more = ", most_seconds: 0.000001";
  const FinishedRun finished = run(folder, text);
  const std::string report = report_text(finished);
  EXPECT_NE(report.find("more than most_seconds"), std::string::npos) << report;
  EXPECT_NE(report.find("it needs a context of 1006, the model has 256"), std::string::npos);
  EXPECT_TRUE(metric(finished, "preallocated", "ms_per_step", {}).is_null());
}

TEST(DecodeSpeed, LeavesOutAPromptThatDoesNotFitAModelAndSaysWhy) {
  const TemporaryFolder folder;
  std::string shorter = kTinyModel;
  shorter.replace(shorter.find("name: tiny"), 10, "name: shorter");
  shorter.replace(shorter.find("context: 256"), 12, "context: 64");
  SpeedText text;
  text.model = "models: [" + kTinyModel + ", " + shorter + "]";
  text.arms = "{name: preallocated, cache: preallocated}";
  text.depths = "[0]";
  text.prefill = "100";
  text.measure = "repeats: 1, warmup: 0";
  const FinishedRun finished = run(folder, text);
  ASSERT_EQ(finished.code, 0) << finished.log << finished.out;
  const std::string report = report_text(finished);
  EXPECT_NE(report.find("shorter, prompt of 100"), std::string::npos) << report;
  EXPECT_NE(report.find("left out: the model has a context of 64"), std::string::npos) << report;
  EXPECT_EQ(report.find("tiny, prompt of 100"), std::string::npos) << report;
}

TEST(DecodeSpeed, AControlThatRecomputesSaysNothingAboutBytes) {
  const TemporaryFolder folder;
  SpeedText text;
  text.arms = "{name: none, cache: none}, {name: concat, cache: concat}";
  text.control = "none";
  text.measure = "repeats: 1, warmup: 0";
  const FinishedRun finished = run(folder, text);
  ASSERT_EQ(finished.code, 0) << finished.log << finished.out;
  EXPECT_TRUE(metric(finished, "concat", "time_ratio_by_bytes", {}).is_null());
  EXPECT_FALSE(metric(finished, "concat", "time_ratio", {}).is_null());
  const std::string report = report_text(finished);
  EXPECT_NE(report.find(" at depth 20: refused ("), std::string::npos) << "one block";
  EXPECT_EQ(report.find(": not distinguishable"), std::string::npos) << "one block";
}

TEST(DecodeSpeed, CountsTheBytesOfAStep) {
  const TemporaryFolder folder;
  const FinishedRun finished = run(folder, {});
  // 2 layers, 2 KV heads of 8, keys and values in f32. Timing starts after one warm-up step at 21
  // entries; the middle of five steps reads 24.
  const double per_token = 2 * 2 * 2 * 8 * 4;
  const json line =
      finished.sample({{"measured", "decode"}, {"arm", "preallocated"}, {"depth", 20}});
  EXPECT_DOUBLE_EQ(line.at("kv_bytes"), 24 * per_token);
  const json none = finished.sample({{"measured", "decode"}, {"arm", "none"}, {"depth", 20}});
  EXPECT_EQ(none.at("kv_bytes"), 0);
  // qkv 64x32, output 32x32, gate and up 96x32, down 32x48, two norms; last norm, head 64x32.
  const double weights =
      4.0 * (2 * (64 * 32 + 32 * 32 + 96 * 32 + 32 * 48 + 2 * 32) + 32 + 64 * 32);
  // Concatenation copies the 20 and more entries that are there before it adds one; the profiled
  // steps are the first five after the depth, so it copies 22 on average.
  const json by_bytes = metric(finished, "concat", "time_ratio_by_bytes", {{"depth", "20"}});
  const double reads = 24 * per_token, copies = 22 * per_token;
  EXPECT_NEAR(by_bytes.at("value"), (weights + reads + 2 * copies) / (weights + reads), 1e-9);
}

TEST(DecodeSpeed, SaysWhatTheCachesHoldAndComparesItAtEveryDepth) {
  const TemporaryFolder folder;
  const FinishedRun finished = run(folder, {});
  ASSERT_EQ(finished.code, 0) << finished.log << finished.out;
  const auto bytes = [&](const char* arm, const char* name) {
    return metric(finished, arm, name, {{"depth", "20"}}).at("value").get<double>();
  };
  EXPECT_GT(bytes("preallocated", "payload"), 0);
  EXPECT_EQ(bytes("preallocated", "payload"), bytes("paged", "payload"));
  EXPECT_GT(bytes("preallocated", "reserved"), bytes("preallocated", "payload"));
  EXPECT_EQ(bytes("concat", "reserved"), bytes("concat", "payload"));
  const std::string report = report_text(finished);
  EXPECT_NE(report.find("What the caches hold"), std::string::npos);
  // One sentence for each arm, with a verdict at every depth.
  const size_t words = report.find("## In words: ");
  ASSERT_NE(words, std::string::npos) << report;
  EXPECT_GT(words, report.find("What the caches hold")) << "behind the tables";
  const size_t begin = report.find("\nconcat is ", words) + 1;
  ASSERT_GT(begin, words) << report;
  const std::string sentence = report.substr(begin, report.find('\n', begin) - begin);
  for (const char* part : {" of preallocated at depth 0: ", " at depth 20: ",
                           "; at depth 20 it holds ", "% fewer bytes", "; it copies "}) {
    EXPECT_NE(sentence.find(part), std::string::npos) << part << "\n" << sentence;
  }
}

TEST(DecodeSpeed, AllVerdictsOfAReportAreOneFamilyAndTheRuleIsPrinted) {
  const TemporaryFolder folder;
  SpeedText text;
  text.batch = "[1, 2]";
  text.prefill = "0";
  const FinishedRun finished = run(folder, text);
  ASSERT_EQ(finished.code, 0) << finished.log << finished.out;
  const std::string report = report_text(finished);
  // Four arms beside the control and its second measurement, at two depths, in two cases.
  for (const char* part :
       {"16 comparison(s) were made, of all arms at all depths of all cases together. An arm is "
        "called faster or slower where",
        "of 36 samples were flagged. Noise: preallocated is ", "A sample is flagged where",
        "Noise: preallocated measured a second time is "}) {
    EXPECT_NE(report.find(part), std::string::npos) << part << "\n" << report;
  }
  for (const json& line : finished.samples) {
    if (line.at("measured") != "decode") continue;
    EXPECT_TRUE(line.at("contention").at("contended").is_boolean()) << line;
    EXPECT_GT(line.at("contention").at("wall_ns"), 0);
  }
}

TEST(DecodeSpeed, TheControlIsMeasuredTwiceUnlessTheConfigDoesItOrSaysNo) {
  const auto arms_of = [](const SpeedText& text) {
    const TemporaryFolder folder;
    const FinishedRun finished = run(folder, text);
    EXPECT_EQ(finished.code, 0) << finished.log << finished.out;
    std::string arms;
    for (const json& entry : finished.summary.at("metrics")) {
      if (entry.at("metric") != "ms_per_step") continue;
      arms += std::string(entry.at("arm")) +
              (metric(finished, entry.at("arm"), "time_ratio", {}).is_null() ? "" : "+") + " ";
    }
    const bool noise = report_text(finished).find("Noise: ") != std::string::npos;
    return arms + (noise ? "noise" : "");
  };
  SpeedText text;
  text.depths = "[0]";
  text.prefill = "0";
  text.arms = "{name: preallocated, cache: preallocated}, {name: paged, cache: paged}";
  EXPECT_EQ(arms_of(text), "preallocated paged+ preallocated_again+ noise");
  text.measure += ", aa: false";
  EXPECT_EQ(arms_of(text), "preallocated paged+ ");
  text.arms += ", {name: twin, cache: preallocated}";
  text.measure = SpeedText().measure;
  EXPECT_EQ(arms_of(text), "preallocated paged+ twin+ noise");
}

TEST(DecodeSpeed, APlantedSlowdownIsNoNoiseAndIsSeen) {
  const TemporaryFolder folder;
  SpeedText text;
  text.depths = "[20]";
  text.prefill = "0";
  text.arms = "{name: preallocated, cache: preallocated}, {name: slow, cache: preallocated}";
  text.measure += ", planted_slowdown: {slow: 100}";
  const FinishedRun finished = run(folder, text);
  ASSERT_EQ(finished.code, 0) << finished.log << finished.out;
  const json ratio = metric(finished, "slow", "time_ratio", {});
  EXPECT_GT(ratio.at("value"), 3);
  const std::string report = report_text(finished);
  EXPECT_NE(report.find("each step of slow waits until it took 100 times as long"),
            std::string::npos)
      << report;
  EXPECT_NE(report.find("- slow is "), std::string::npos) << "judged, not taken for noise";
  EXPECT_FALSE(metric(finished, "preallocated_again", "ms_per_step", {}).is_null());
}

TEST(DecodeSpeed, CopiedEntriesAreThoseOfAPrefill) {
  const TemporaryFolder folder;
  const ModelSource source = load_model_source(folder.write("tiny.yaml", kTinyModel));
  const Model model = load_model(source, at::kFloat, at::kFloat);
  const Registry registry = full_registry();
  std::vector<std::vector<int32_t>> texts(2);
  for (int32_t i = 0; i < 40; ++i) {
    texts[0].push_back((7 * i + 3) % 64);
    texts[1].push_back((11 * i + 5) % 64);
  }
  const auto options = [](const char* cache) {
    SessionOptions made;
    made.cache = parse_component_spec(cache);
    made.rows = 2;
    made.max_length = 40;
    made.chunk = 8;
    return made;
  };
  ArmSession control(model, registry, options("preallocated"), texts);
  control.go_to(30, nullptr);
  for (const char* cache : {"paged:block_size=4", "concat", "ring:window=40", "gqa_shared"}) {
    ArmSession fed(model, registry, options(cache), texts);
    ArmSession copied(model, registry, options(cache), texts);
    ASSERT_TRUE(can_copy_entries(control.session(), copied.session(), 30)) << cache;
    copied.go_to(30, &control);
    EXPECT_EQ(copied.session().work().token_forwards, 0) << cache << ": nothing was computed";
    fed.go_to(30, nullptr);
    std::map<int, std::vector<float>> wanted, found;
    fed.step([&](int row, int64_t, std::span<const float> logits) {
      wanted[row].assign(logits.begin(), logits.end());
    });
    copied.step([&](int row, int64_t, std::span<const float> logits) {
      found[row].assign(logits.begin(), logits.end());
    });
    ASSERT_EQ(wanted.size(), 2u);
    for (const auto& [row, logits] : wanted) {
      for (size_t i = 0; i < logits.size(); ++i) {
        ASSERT_NEAR(found[row][i], logits[i], 1e-5) << cache << ", row " << row;
      }
    }
  }
  ArmSession nothing(model, registry, options("none"), texts);
  EXPECT_FALSE(can_copy_entries(control.session(), nothing.session(), 30));
  EXPECT_FALSE(can_copy_entries(nothing.session(), control.session(), 30));
}

TEST(DecodeSpeed, RowsGoBackWithAndWithoutTruncation) {
  const TemporaryFolder folder;
  const ModelSource source = load_model_source(folder.write("tiny.yaml", kTinyModel));
  const Model model = load_model(source, at::kFloat, at::kFloat);
  const Registry registry = full_registry();
  std::vector<std::vector<int32_t>> texts(1);
  for (int32_t i = 0; i < 40; ++i) texts[0].push_back((7 * i + 3) % 64);
  // The window is too short for going back: it starts again.
  for (const char* cache : {"preallocated", "sinks:sinks=2,window=3", "none"}) {
    SessionOptions options;
    options.cache = parse_component_spec(cache);
    options.max_length = 40;
    options.chunk = 8;
    ArmSession arm(model, registry, options, texts);
    std::vector<float> first, second;
    arm.go_to(20, nullptr);
    arm.step([&](int, int64_t, auto logits) { first.assign(logits.begin(), logits.end()); });
    for (int i = 0; i < 6; ++i) arm.step();
    arm.go_to(20, nullptr);
    EXPECT_EQ(arm.depth(), 20);
    arm.step([&](int, int64_t, auto logits) { second.assign(logits.begin(), logits.end()); });
    ASSERT_EQ(first.size(), second.size()) << cache;
    for (size_t i = 0; i < first.size(); ++i) ASSERT_NEAR(first[i], second[i], 1e-5) << cache;
  }
}

TEST(DecodeSpeed, SaysWhereTheTimeOfAStepGoes) {
  StepProfile profile;
  profile.linear_ns = 86;
  profile.attention_ns = 9;
  profile.cache_ns = 1;
  profile.other_ns = 4;
  EXPECT_EQ(step_shares(profile).bound(), Bound::weights);
  EXPECT_EQ(step_shares(profile).describe(),
            "weight-bound: 86 % of a step is products with weights (attention 9 %, cache 1 %, rest "
            "4 %)");
  profile.attention_ns = 100;
  EXPECT_EQ(step_shares(profile).bound(), Bound::attention);
  profile.other_ns = 300;
  EXPECT_EQ(step_shares(profile).bound(), Bound::overhead);
  EXPECT_THROW(step_shares(StepProfile{}), UserError);
}

TEST(DecodeSpeed, RefusesElementTypesOutsideOfCases) {
  const TemporaryFolder folder;
  const auto refused = [&](const SpeedText& text) {
    return refusal(folder.write("wrong.yaml", text.yaml()));
  };
  SpeedText text;
  text.runtime = "threads: 1, dtype: bf16";
  EXPECT_NE(refused(text).find("dtype is set by cases.precisions; delete it here"),
            std::string::npos) << refused(text);
  text = {};
  text.arms = "{name: preallocated, cache: preallocated, cache_dtype: bf16}";
  EXPECT_NE(refused(text).find("delete cache_dtype"), std::string::npos) << refused(text);
  text = {};
  text.precisions = "[{weights: f32, cache: f32}, {weights: f32, cache: f32}]";
  EXPECT_NE(refused(text).find("stands there twice"), std::string::npos) << refused(text);
  text = {};
  text.depths = "[1000]";
  EXPECT_NE(refused(text).find("no depth fits model 'tiny'"), std::string::npos) << refused(text);
}

TEST(DecodeSpeed, RefusesWhatItsFiguresCannotSay) {
  const TemporaryFolder folder;
  const auto expect_refusal = [&](const SpeedText& text, const std::string& key,
                                  const std::string& message) {
    const std::string found = refusal(folder.write("wrong.yaml", text.yaml()));
    EXPECT_NE(found.find(key), std::string::npos) << found;
    EXPECT_NE(found.find(message), std::string::npos) << found;
  };
  SpeedText text;
  text.prefill = "257";
  expect_refusal(text, "cases.prefill",
                 "a prompt of 257 fits no model: the longest context is 256");
  text = {};
  text.probe = "15MiB";
  expect_refusal(text, "cases.probe", "wanted at least 16MiB");
  text.probe = "1000000GiB";
  expect_refusal(text, "cases.probe", "are available; choose less");
  text = {};
  text.measure = "interleave: false";
  expect_refusal(text, "measure.interleave", "blocks hold all arms");
  text = {};
  text.control = "sinks";
  expect_refusal(text, "control", "'sinks' is approximate with model 'tiny'");
}

}  // namespace
