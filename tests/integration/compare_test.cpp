// `kvlab compare`: what it prints and with which code it ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/fixtures/hand_made_run.h"
#include "tests/fixtures/run_program.h"
#include "tests/fixtures/tiny_model.h"

namespace kvlab {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;
using Words = std::vector<std::string>;

class Compare : public ::testing::Test {
 protected:
  Compare() {
    fast_.add_tpot("paged", testing::noisy_gaps(1e6, 0.02, 12, 1));
    slow_.add_tpot("paged", testing::noisy_gaps(1.2e6, 0.02, 12, 2));
  }

  ProgramResult compared(const testing::HandMadeRun& a, const testing::HandMadeRun& b,
                         const Words& options) const {
    a.write(folder_.file("a"));
    b.write(folder_.file("b"));
    Words words = {KVLAB_BINARY_DIR "/bin/kvlab", "compare"};
    words.insert(words.end(), options.begin(), options.end());
    words.push_back(folder_.file("a"));
    words.push_back(folder_.file("b"));
    return run_program(words);
  }

  TemporaryFolder folder_;
  testing::HandMadeRun fast_, slow_;
};

TEST_F(Compare, ASlowdownBeyondTheRuleExitsWith3) {
  const ProgramResult found = compared(fast_, slow_, {"--metric", "tpot", "--fail-if", ">5%"});
  EXPECT_EQ(found.exit_code, 3) << found.err;
  EXPECT_THAT(found.out, HasSubstr("worse, FAILS"));
  EXPECT_THAT(found.out, HasSubstr("1 of 1 fail"));
  EXPECT_EQ(compared(fast_, slow_, {"--fail-if", ">30%"}).exit_code, 0);
  EXPECT_EQ(compared(fast_, slow_, {"--fail-if", "> 1.05x"}).exit_code, 3);
  EXPECT_EQ(compared(slow_, fast_, {"--fail-if", ">5%"}).exit_code, 0);
  EXPECT_EQ(compared(slow_, fast_, {"--fail-if", "<-3%"}).exit_code, 3);
  EXPECT_EQ(compared(fast_, slow_, {}).exit_code, 0);
  EXPECT_EQ(compared(fast_, fast_, {"--fail-if", ">0.1%"}).exit_code, 0);
}

TEST_F(Compare, NoiseFailsOnlyAStrictRule) {
  testing::HandMadeRun a, b;
  a.add_tpot("paged", {900, 1000, 1100});
  b.add_tpot("paged", {990, 1100, 1210});
  const ProgramResult lenient = compared(a, b, {"--fail-if", ">5%"});
  EXPECT_EQ(lenient.exit_code, 0);
  EXPECT_THAT(lenient.out, HasSubstr("not distinguishable"));
  EXPECT_EQ(compared(a, b, {"--fail-if", ">5%", "--strict"}).exit_code, 3);
}

TEST_F(Compare, DisturbedTimesAreWarnedAboutAndDoNotExitWith3) {
  for (auto& sample : slow_.samples) sample["flags"] = {{"contended", true}};
  const ProgramResult found = compared(fast_, slow_, {"--fail-if", ">5%"});
  EXPECT_EQ(found.exit_code, 0) << found.err;
  EXPECT_THAT(found.out, HasSubstr("refused"));
  EXPECT_THAT(found.out, HasSubstr("WARNING: 1 rows are refused"));
  EXPECT_EQ(compared(fast_, slow_, {"--fail-if", ">5%", "--strict"}).exit_code, 3);
  const ProgramResult quiet = compared(fast_, fast_, {});
  EXPECT_THAT(quiet.out, HasSubstr("adjusted for 1 comparisons (Holm)"));
}

TEST_F(Compare, ABrokenCheckExitsWith3WithoutAnyRule) {
  fast_.add_check("paged", "equality", true);
  slow_.add_check("paged", "equality", false);
  const ProgramResult found = compared(fast_, slow_, {});
  EXPECT_EQ(found.exit_code, 3);
  EXPECT_THAT(found.out, HasSubstr("the check 'equality' of paged passed in A and failed in B"));
}

TEST_F(Compare, OtherConfigsAndMachinesStandAboveTheTable) {
  slow_.resolved = "schema: kvlab/1\narms:\n  - name: paged\n    cache:\n      type: ring\n";
  slow_.environment["CPU"] = "another processor";
  const ProgramResult found = compared(fast_, slow_, {});
  EXPECT_EQ(found.exit_code, 0);
  const size_t table = found.out.find("95 % interval");
  for (const char* text :
       {"WARNING: the runs differ in their configs", "arms.paged.cache.type: paged in A, ring in B",
        "CPU: a processor in A, another processor in B"}) {
    EXPECT_LT(found.out.find(text), table) << text << "\n" << found.out;
  }
}

// A sweep of two cases; `large` is the tpot of the second.
void write_sweep_of(const std::string& folder, double large) {
  testing::write_sweep(folder);
  testing::HandMadeRun second;
  second.add_tpot("paged", testing::noisy_gaps(large, 0.02, 12, 3));
  std::filesystem::remove_all(folder + "/cases/0001-bbbbbbbb");
  second.write(folder + "/cases/0001-bbbbbbbb");
}

TEST_F(Compare, SweepsAreComparedCaseByCaseUnderOneRule) {
  write_sweep_of(folder_.file("a"), 1e6);
  write_sweep_of(folder_.file("b"), 1.3e6);
  const auto compare = [&](const Words& options) {
    Words words = {KVLAB_BINARY_DIR "/bin/kvlab", "compare", folder_.file("a"), folder_.file("b")};
    words.insert(words.end(), options.begin(), options.end());
    return run_program(words);
  };
  const ProgramResult found = compare({"--metric", "tpot", "--fail-if", ">5%"});
  EXPECT_EQ(found.exit_code, 3) << found.err;
  EXPECT_THAT(found.out, HasSubstr("large"));
  EXPECT_THAT(found.out, HasSubstr("worse, FAILS"));
  EXPECT_THAT(found.out, HasSubstr("1 of 2 fail"));
  EXPECT_THAT(found.out, HasSubstr("2 cases compared, 1 skipped in both"));
  EXPECT_EQ(compare({"--metric", "tpot", "--fail-if", ">50%"}).exit_code, 0);
  const Json json = Json::parse(compare({"--json", "--fail-if", ">5%"}).out);
  ASSERT_EQ(json.at("cases").size(), 2u);
  EXPECT_EQ(json.at("cases")[0].at("fails"), false);
  EXPECT_EQ(json.at("cases")[1].at("case"), "large");
  EXPECT_EQ(json.at("cases")[1].at("fails"), true);
  EXPECT_EQ(json.at("fails"), true);
}

TEST_F(Compare, ASweepIsNotComparedWithARun) {
  write_sweep_of(folder_.file("a"), 1e6);
  fast_.write(folder_.file("b"));
  const ProgramResult found =
      run_program({KVLAB_BINARY_DIR "/bin/kvlab", "compare", folder_.file("a"), folder_.file("b")});
  EXPECT_EQ(found.exit_code, 2);
  EXPECT_THAT(found.err, HasSubstr("give two runs or two sweeps"));
}

TEST_F(Compare, JsonHoldsTheSameVerdicts) {
  fast_.add_metric("paged", "kl", nullptr, "nats", "none");
  slow_.add_metric("paged", "kl", 1, "nats", "none");
  const ProgramResult found = compared(fast_, slow_, {"--json", "--fail-if", ">5%"});
  EXPECT_EQ(found.exit_code, 3);
  const Json json = Json::parse(found.out);
  EXPECT_EQ(json["fails"], true);
  EXPECT_EQ(json["fail_if"], ">5%");
  const Json& tpot = json["metrics"][0];
  EXPECT_EQ(tpot["verdict"], "worse");
  EXPECT_EQ(tpot["from_samples"], true);
  EXPECT_LT(tpot["ratio_low"], tpot["ratio"]);
  EXPECT_GT(tpot["ratio_high"], tpot["ratio"]);
  EXPECT_EQ(json["metrics"][1]["a"], nullptr);
  EXPECT_EQ(json["metrics"][1]["ratio"], nullptr);
  EXPECT_EQ(json["metrics"][1]["verdict"], "not comparable");
}

TEST_F(Compare, WrongUseSaysWhatToDo) {
  const auto expect = [&](const Words& words, int code, const std::string& message) {
    const ProgramResult result = compared(fast_, slow_, words);
    EXPECT_EQ(result.exit_code, code) << message;
    EXPECT_THAT(result.err, HasSubstr(message));
    EXPECT_EQ(result.out, "");
  };
  expect({"--fail-if", "5%"}, 2, "'5%' is no rule; write > or <");
  expect({"--strict"}, 2, "--strict needs --fail-if");
  expect({"--metric", "tpt"}, 2, "neither run has the metric 'tpt'");
  expect({"--arm", "pages"}, 2, "neither run has the arm 'pages'");
  slow_.run["status"] = "failed";
  expect({}, 2, "expected a run with status ok, got failed");
  const ProgramResult absent = run_program(
      {KVLAB_BINARY_DIR "/bin/kvlab", "compare", folder_.file("a"), folder_.file("nowhere")});
  EXPECT_EQ(absent.exit_code, 4);
  EXPECT_THAT(absent.err, HasSubstr("holds no run.json"));
}

TEST_F(Compare, NastyNamesStayOnTheirLines) {
  const testing::HandMadeRun nasty = testing::nasty_run();
  const ProgramResult text = compared(nasty, nasty, {"--fail-if", ">5%"});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  for (const char byte : text.out) {
    EXPECT_TRUE(byte == '\n' || static_cast<unsigned char>(byte) >= 0x20) << int{byte};
  }
  EXPECT_THAT(text.out, HasSubstr("line\\nbreak"));
  EXPECT_THAT(text.out, HasSubstr("\\x1b[31mred"));
  EXPECT_THAT(text.out, Not(HasSubstr("\xff")));
  // One row per name, whatever it holds.
  size_t rows = 0;
  for (size_t at = 0; (at = text.out.find("+0.0 %", at)) != std::string::npos; ++at) ++rows;
  EXPECT_EQ(rows, testing::nasty_names().size());
  const Json json = Json::parse(compared(nasty, nasty, {"--json"}).out);
  for (size_t i = 0; i < testing::nasty_names().size(); ++i) {
    EXPECT_EQ(json["metrics"][i]["arm"], testing::as_read(testing::nasty_names()[i]));
  }
}

}  // namespace
}  // namespace kvlab
