// The commands that only inform, those around experiment files, and interruption.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/fixtures/run_program.h"
#include "tests/fixtures/tiny_model.h"

namespace kvlab {
namespace {

using testing::HasSubstr;
using Json = nlohmann::json;
using Words = std::vector<std::string>;

const std::string kBinary = KVLAB_BINARY_DIR "/bin/kvlab";
const std::string kGqa = KVLAB_SOURCE_DIR "/tests/golden/llama_gqa_tiny";
// 2 * 3 layers * 2 KV heads of 10 * 4 bytes.
constexpr int64_t kTokenBytes = 480;
constexpr double kPatience = 60;  // seconds, for a program to say something

ProgramResult kvlab(Words arguments) {
  arguments.insert(arguments.begin(), kBinary);
  return run_program(arguments);
}

Json json_of(const ProgramResult& result) {
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return Json::parse(result.out);
}

// A model that generates for minutes, so that an interrupt always comes in between.
class CommandLineInterrupt : public testing::Test {
 protected:
  CommandLineInterrupt() { model_ = folder_.write("slow.yaml", tiny_model_yaml(8192, 64, "")); }

  Words command(const Words& more) const {
    Words words = {kBinary,        "generate", "--model", model_, "--ids",     "1,2",
                   "--new-tokens", "8000",     "--cache", "none", "--threads", "1"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  TemporaryFolder folder_;
  std::string model_;
};

TEST_F(CommandLineInterrupt, KeepsTheIdsStreamedSoFarAndExitsWith130) {
  RunningProgram program(command({}));
  ASSERT_TRUE(program.wait_for_output(8, kPatience));
  program.signal(SIGINT);
  const ProgramResult result = program.finish(kPatience);
  EXPECT_EQ(result.exit_code, 130) << result.err;
  EXPECT_THAT(result.err, HasSubstr("interrupted"));
  EXPECT_THAT(result.out, testing::MatchesRegex("([0-9]+ )+[0-9]+\n"));
}

TEST_F(CommandLineInterrupt, PrintsWholeJsonOfWhatThereIs) {
  RunningProgram program(command({"--json"}));
  ASSERT_TRUE(program.wait_for_message("prompt tokens", kPatience));
  std::this_thread::sleep_for(std::chrono::seconds(1));
  program.signal(SIGINT);
  const ProgramResult result = program.finish(kPatience);
  EXPECT_EQ(result.exit_code, 130) << result.err;
  const Json json = Json::parse(result.out);
  const size_t tokens = json.at("tokens").size();
  EXPECT_GE(tokens, 1u);
  EXPECT_LT(tokens, 8000u);
  EXPECT_EQ(json.at("token_ns").size(), tokens - 1);
  EXPECT_GT(json.at("ttft_ns").get<int64_t>(), 0);
  EXPECT_TRUE(json.at("bytes").contains("peak"));
}

TEST_F(CommandLineInterrupt, TerminationIsTreatedAlike) {
  RunningProgram program(command({"--json"}));
  ASSERT_TRUE(program.wait_for_message("prompt tokens", kPatience));
  program.signal(SIGTERM);
  const ProgramResult result = program.finish(kPatience);
  EXPECT_EQ(result.exit_code, 130) << result.err;
  EXPECT_TRUE(Json::accept(result.out)) << result.out;
}

TEST(CommandLineMemory, FollowsTheFormulaAndTheCachesOwnEstimate) {
  const Json json = json_of(kvlab({"memory", "--model", kGqa, "--length", "100,200", "--batch",
                                   "1,3", "--dtype", "f32,bf16", "--json"}));
  ASSERT_EQ(json.at("rows").size(), 8u);
  for (const Json& row : json.at("rows")) {
    const int64_t bytes = row.at("batch").get<int64_t>() * row.at("length").get<int64_t>() *
                          (row.at("dtype") == "f32" ? kTokenBytes : kTokenBytes / 2);
    EXPECT_EQ(row.at("formula"), bytes);
    EXPECT_EQ(row.at("reserved"), bytes) << "preallocated reserves just this";
    EXPECT_EQ(row.at("peak"), bytes);
    EXPECT_EQ(row.at("hypothetical"), false);
  }
}

TEST(CommandLineMemory, PrintsTheWorkedExamplesOfPublishedModels) {
  // Shapes alone are enough: LLaMA-7B has 32 layers and 32 heads of 128, GPT-2 Small 12 and 12
  // of 64.
  TemporaryFolder folder;
  const std::string llama = folder.write("config.json", R"({"model_type": "llama",
    "architectures": ["LlamaForCausalLM"], "vocab_size": 32000, "hidden_size": 4096,
    "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
    "hidden_act": "silu", "tie_word_embeddings": false, "rope_theta": 10000.0})");
  const Json json = json_of(kvlab(
      {"memory", "--model", llama, "--length", "512,2048,8192", "--dtype", "bf16", "--json"}));
  EXPECT_EQ(json.at("rows").at(0).at("formula"), 268435456);
  EXPECT_EQ(json.at("rows").at(1).at("formula"), 1073741824);
  EXPECT_EQ(json.at("rows").at(2).at("formula"), 4294967296);
  EXPECT_EQ(json.at("rows").at(1).at("hypothetical"), false);
  EXPECT_EQ(json.at("rows").at(2).at("hypothetical"), true);
  const ProgramResult table = kvlab({"memory", "--model", llama, "--length", "8192"});
  EXPECT_THAT(table.out, HasSubstr("hypothetical"));
}

TEST(CommandLineMemory, FindsTheLongestTextAndTheLargestBatchThatFit) {
  const auto fit = [](const std::string& bytes, const std::string& cache) {
    return json_of(kvlab({"memory", "--model", kGqa, "--length", "100", "--cache", cache, "--fit",
                          bytes, "--json"}))
        .at("fit")
        .at(0);
  };
  const Json exact = fit("48000", "preallocated");
  EXPECT_EQ(exact.at("longest_length"), 100);
  EXPECT_EQ(exact.at("batches").at(0).at("largest_batch"), 1);
  const Json less = fit("47999", "preallocated");
  EXPECT_EQ(less.at("longest_length"), 99);
  EXPECT_EQ(less.at("batches").at(0).at("largest_batch"), 0);
  EXPECT_EQ(fit("479", "preallocated").at("longest_length"), 0);
  EXPECT_EQ(fit("1MiB", "preallocated").at("longest_length"), 1048576 / kTokenBytes);
  EXPECT_EQ(fit("1MB", "preallocated").at("longest_length"), 1000000 / kTokenBytes);
  EXPECT_EQ(fit("1MB", "preallocated").at("hypothetical"), true);
  // What fits must fit, and one token more must not, by the table's own peak.
  const int64_t longest = fit("100kB", "concat").at("longest_length");
  for (const int64_t more : {0, 1}) {
    const Json row = json_of(kvlab({"memory", "--model", kGqa, "--cache", "concat", "--length",
                                    std::to_string(longest + more), "--json"}))
                         .at("rows")
                         .at(0);
    EXPECT_EQ(row.at("peak").get<int64_t>() <= 100000, more == 0) << row;
  }
  for (const char* bad : {"", "8 apples", "GB", "-1GB", "0", "1e3", "nan"}) {
    EXPECT_EQ(kvlab({"memory", "--model", kGqa, "--fit", bad}).exit_code, 2) << bad;
  }
}

TEST(CommandLineMemory, EstimatesWhatGenerateMeasures) {
  for (const std::string cache : {"preallocated", "paged:block_size=16", "concat", "none"}) {
    // 20 prompt tokens and 13 new ones leave 32 in the cache.
    std::string ids = "1";
    for (int i = 0; i < 19; ++i) ids += ",3";
    const Json measured = json_of(kvlab({"generate", "--model", kGqa, "--ids", ids, "--new-tokens",
                                         "13", "--cache", cache, "--json"}))
                              .at("bytes");
    const Json row =
        json_of(kvlab({"memory", "--model", kGqa, "--length", "32", "--cache", cache, "--json"}))
            .at("rows")
            .at(0);
    EXPECT_EQ(row.at("reserved"), measured.at("reserved")) << cache;
    EXPECT_EQ(row.at("peak"), measured.at("peak")) << cache;
  }
}

TEST(CommandLineMemory, SaysWhatACacheOfFixedCapacityDoesNotHold) {
  const auto ask = [](const std::string& cache, const std::string& length) {
    return Words{"memory", "--model", kGqa, "--cache", cache, "--length", length, "--fit", "1GB"};
  };
  const auto json = [&](const std::string& cache, const std::string& length) {
    Words words = ask(cache, length);
    words.push_back("--json");
    return json_of(kvlab(words));
  };
  const Json fixed = json("preallocated:capacity=10", "10,11");
  EXPECT_EQ(fixed.at("rows").at(0).at("holds"), true);
  EXPECT_EQ(fixed.at("rows").at(0).at("peak"), 10 * kTokenBytes);
  EXPECT_EQ(fixed.at("rows").at(1).at("holds"), false);
  EXPECT_TRUE(fixed.at("rows").at(1).at("reserved").is_null());
  EXPECT_TRUE(fixed.at("rows").at(1).at("peak").is_null());
  EXPECT_EQ(fixed.at("rows").at(1).at("formula"), 11 * kTokenBytes);
  EXPECT_EQ(fixed.at("fit").at(0).at("longest_length"), 10);
  EXPECT_EQ(fixed.at("fit").at(0).at("batches").at(1).at("largest_batch"), 0);
  const Json paged = json("paged:max_blocks=2", "64,128,129").at("fit").at(0);
  EXPECT_EQ(paged.at("longest_length"), 128);
  EXPECT_EQ(paged.at("batches").at(0).at("largest_batch"), 2);
  EXPECT_EQ(paged.at("batches").at(1).at("largest_batch"), 1);
  EXPECT_EQ(paged.at("batches").at(2).at("largest_batch"), 0);
  EXPECT_THAT(kvlab(ask("preallocated:capacity=10", "11")).out,
              HasSubstr("does not hold 11 tokens"));
}

TEST(CommandLineMemory, FitsKAndVAloneAndNamesTheWeights) {
  TemporaryFolder folder;
  const std::string model = folder.write("model.yaml", tiny_model_yaml(64, 16, ""));
  const Words words = {"memory", "--model", model, "--dtype", "f32,bf16", "--fit", "1MB"};
  Words with_json = words;
  with_json.push_back("--json");
  const Json fits = json_of(kvlab(with_json)).at("fit");
  ASSERT_EQ(fits.size(), 2u);
  const int64_t weights = fits.at(0).at("weights_bytes");
  EXPECT_GT(weights, 256 * 16 * 4) << "the embedding is part of them";
  EXPECT_EQ(fits.at(1).at("weights_bytes"), weights / 2);
  const std::string text = kvlab(words).out;
  EXPECT_THAT(text, HasSubstr("for K and V alone; the weights take"));
  EXPECT_THAT(text, HasSubstr("more in bf16"));
  EXPECT_THAT(kvlab({"memory", "--help"}).out, HasSubstr("without the weights"));
}

TEST(CommandLineMemory, NotesWhatIsNotExactAndWhatRecomputes) {
  const auto row = [](const std::string& cache) {
    return json_of(kvlab({"memory", "--model", kGqa, "--cache", cache, "--json"})).at("rows").at(0);
  };
  const auto text = [](const std::string& cache) {
    return kvlab({"memory", "--model", kGqa, "--cache", cache}).out;
  };
  EXPECT_EQ(row("preallocated").at("exact"), true);
  EXPECT_EQ(row("preallocated").at("keeps_nothing"), false);
  EXPECT_EQ(row("gqa_shared:kv_heads=1").at("exact"), false);
  EXPECT_EQ(row("none").at("keeps_nothing"), true);
  EXPECT_THAT(text("gqa_shared:kv_heads=1"), HasSubstr("approximate"));
  EXPECT_THAT(text("none"), HasSubstr("recomputes"));
  EXPECT_THAT(text("preallocated"), testing::Not(HasSubstr("approximate")));
  EXPECT_THAT(text("preallocated"), HasSubstr("formula"));
  EXPECT_THAT(text("preallocated"), testing::Not(HasSubstr("payload")));
}

TEST(CommandLineMemory, CallsAModelWhatItsYamlCallsIt) {
  TemporaryFolder folder;
  const std::string model = folder.write(
      "file_name.yaml", "name: my_name\nsource: {type: huggingface, path: " + kGqa + "}\n");
  EXPECT_EQ(json_of(kvlab({"memory", "--model", model, "--json"})).at("model"), "my_name");
}

TEST(CommandLineMemory, RefusesWrongNumbers) {
  for (const Words& wrong :
       {Words{"--length", "0"}, Words{"--length", "many"}, Words{"--batch", "0"},
        Words{"--batch", ""}, Words{"--length", "99999999999"}, Words{"--dtype", "f8"}}) {
    Words words = {"memory", "--model", kGqa};
    words.insert(words.end(), wrong.begin(), wrong.end());
    const ProgramResult result = kvlab(words);
    EXPECT_EQ(result.exit_code, 2) << wrong.back() << result.err;
    EXPECT_EQ(result.out, "");
  }
  EXPECT_EQ(kvlab({"memory", "--model", kGqa, "--cache", "nothing"}).exit_code, 4);
}

TEST(CommandLineList, NamesEveryKind) {
  const Json json = json_of(kvlab({"list", "--json"}));
  EXPECT_EQ(json.size(), 4u);
  for (const char* kind : {"caches", "attention", "positions", "experiments"}) {
    for (const Json& entry : json.at(kind)) {
      EXPECT_NE(entry.at("name"), "");
      EXPECT_NE(entry.at("summary"), "") << entry.at("name");
    }
    EXPECT_EQ(json_of(kvlab({"list", kind, "--json"})).at(kind), json.at(kind));
  }
  EXPECT_GE(json.at("caches").size(), 5u);
  EXPECT_THAT(kvlab({"list", "caches"}).out, HasSubstr("paged"));
}

TEST(CommandLineDescribe, ShowsOptionsTraitsBytesAndSource) {
  const Json json = json_of(kvlab({"describe", "paged", "--json"}));
  ASSERT_EQ(json.at("entries").size(), 1u);
  const Json& entry = json.at("entries").at(0);
  EXPECT_EQ(entry.at("kind"), "cache");
  EXPECT_EQ(entry.at("traits").at("exact"), true);
  EXPECT_NE(entry.at("bytes_formula"), "");
  EXPECT_THAT(entry.at("citation").get<std::string>(), HasSubstr("2309.06180"));
  const Json& option = entry.at("options").at(0);
  EXPECT_EQ(option.at("name"), "block_size");
  EXPECT_EQ(option.at("type"), "integer");
  EXPECT_EQ(option.at("default"), "64");
  EXPECT_EQ(option.at("range").at("minimum"), 1);
  EXPECT_EQ(option.at("unit"), "tokens");
  EXPECT_NE(option.at("doc"), "");
  EXPECT_THAT(kvlab({"describe", "paged"}).out, HasSubstr("block_size"));
  // One name, two kinds.
  EXPECT_EQ(json_of(kvlab({"describe", "none", "--json"})).at("entries").size(), 2u);
}

TEST(CommandLineDescribe, KnowsEverythingThatListNames) {
  const Json json = json_of(kvlab({"list", "--json"}));
  for (const auto& [kind, entries] : json.items()) {
    for (const Json& entry : entries) {
      const std::string name = entry.at("name");
      const Json described = json_of(kvlab({"describe", name, "--json"}));
      EXPECT_GE(described.at("entries").size(), 1u) << name;
      for (const Json& found : described.at("entries")) {
        EXPECT_FALSE(found.contains("traits") && found.at("traits").is_null()) << found;
      }
    }
  }
}

TEST(CommandLineDescribe, LeadsToAnExperimentsReadmeAndConfigs) {
  const Json entry =
      json_of(kvlab({"describe", "generation_benchmark", "--json"})).at("entries").at(0);
  EXPECT_EQ(entry.at("readme"), "experiments/generation_benchmark/README.md");
  const auto configs = entry.at("configs").get<Words>();
  EXPECT_THAT(configs, testing::Contains("configs/experiments/quickstart.yaml"));
  EXPECT_THAT(configs, testing::Not(testing::Contains("configs/experiments/work_trace.yaml")));
  const std::string text = kvlab({"describe", "work_trace"}).out;
  EXPECT_THAT(text, HasSubstr("experiments/work_trace/README.md"));
  EXPECT_THAT(text, HasSubstr("configs/experiments/work_trace.yaml"));
}

std::string experiment_file(const TemporaryFolder& folder) {
  folder.write("model.yaml", tiny_model_yaml(64, 16, ""));
  return folder.write("experiment.yaml",
                      "schema: kvlab/1\nexperiment: generation_benchmark\n"
                      "question: Does the command line run this?\nmodel: {use: model.yaml}\n"
                      "workload: {prompt: {ids: [1, 2, 3, 4]}, new_tokens: [4]}\n"
                      "arms:\n  - {name: none, cache: none}\n  - {name: concat, cache: concat}\n"
                      "control: none\nruntime: {threads: 1, dtype: f32}\n"
                      "measure: {repeats: 2, warmup: 0}\n");
}

TEST(CommandLineValidate, SaysOkOrWhere) {
  TemporaryFolder folder;
  const std::string good = experiment_file(folder);
  const ProgramResult ok = kvlab({"validate", good});
  EXPECT_EQ(ok.exit_code, 0) << ok.err;
  EXPECT_EQ(ok.out, good + ": ok\n");
  const ProgramResult overridden = kvlab({"validate", good, "control=nobody"});
  EXPECT_EQ(overridden.exit_code, 2) << overridden.err;
  EXPECT_EQ(overridden.out, "");
  const std::string bad = KVLAB_SOURCE_DIR "/tests/fixtures/bad_configs/14_duplicate_key.yaml";
  const ProgramResult refused = kvlab({"validate", bad});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("14_duplicate_key.yaml:"));
}

TEST(CommandLineValidate, SaysWhereAFileIsOfTheOtherKind) {
  TemporaryFolder folder;
  const std::string experiment = experiment_file(folder);
  for (const Words& words : {Words{"validate", folder.file("model.yaml")},
                             Words{"run", folder.file("model.yaml"), "--runs", folder.path()}}) {
    const ProgramResult result = kvlab(words);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.err,
                HasSubstr("this is a model file; experiments are in configs/experiments"));
  }
  const ProgramResult result =
      kvlab({"generate", "--model", experiment, "--ids", "1", "--new-tokens", "1"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("this is an experiment file; models are in configs/models"));
  EXPECT_THAT(kvlab({"validate", experiment, "control=nobody"}).err,
              testing::Not(HasSubstr("this is a")));
}

TEST(CommandLineValidate, KnowsShippedExperimentsByName) {
  const ProgramResult ok = kvlab({"validate", "equivalence"});
  EXPECT_EQ(ok.exit_code, 0) << ok.err;
  const ProgramResult missing = kvlab({"run", "equivalenc"});
  EXPECT_EQ(missing.exit_code, 4);
  EXPECT_THAT(missing.err, HasSubstr("Did you mean 'equivalence'"));
  EXPECT_THAT(missing.err, HasSubstr("quickstart"));
}

TEST(CommandLineRun, LeavesAFolderWhoseReportCanBeWrittenAgain) {
  TemporaryFolder folder;
  const std::string config = experiment_file(folder);
  const ProgramResult run = kvlab({"run", config, "--runs", folder.file("runs")});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const size_t at = run.out.find("Report: ");
  ASSERT_NE(at, std::string::npos) << run.out;
  std::filesystem::path page = run.out.substr(at + 8);
  page = page.string().substr(0, page.string().find('\n'));
  EXPECT_TRUE(std::filesystem::exists(page)) << page;
  std::filesystem::remove(page);
  const ProgramResult again = kvlab({"report", page.parent_path().parent_path().string()});
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_TRUE(std::filesystem::exists(page)) << again.out;
  EXPECT_EQ(kvlab({"run", config, "no_such_key=1", "--runs", folder.file("runs")}).exit_code, 2);
}

TEST(CommandLineDoctor, NamesTheFactsAndWhatIsMissing) {
  const ProgramResult result = kvlab({"doctor"});
  for (const char* what : {"LibTorch", "CPU", "threads", "CUDA toolkit", "figure renderer",
                           "SmolLM2-135M", "GPT-2 vocabulary"}) {
    EXPECT_THAT(result.out, HasSubstr(what));
  }
  const bool missing = result.out.find("[MISSING]") != std::string::npos;
  EXPECT_EQ(result.exit_code, missing ? 1 : 0) << result.out;
}

// Both in every program: tests and benchmarks read the variable as well.
TEST(CommandLineDoctor, TheEnvironmentChoosesTheInstructionSetOfTheKernels) {
  const auto doctor = [](const std::string& target) {
    return run_program({"/usr/bin/env", "KVLAB_SIMD_TARGET=" + target, kBinary, "doctor"});
  };
  const ProgramResult refused = doctor("AVX9");
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("[runtime.KVLAB_SIMD_TARGET] the environment asks for 'AVX9': "
                                     "[kernels.target] no instruction set"));
  const size_t last = refused.err.find_last_of(' ');
  ASSERT_NE(last, std::string::npos);
  std::string least = refused.err.substr(last + 1);
  while (!least.empty() && (least.back() == '\n' || least.back() == '.')) least.pop_back();
  EXPECT_THAT(doctor(least).out, HasSubstr("instruction set of the kernels: " + least + "\n"));
  EXPECT_THAT(doctor("").out, HasSubstr("instruction set of the kernels: "));
}

}  // namespace
}  // namespace kvlab
