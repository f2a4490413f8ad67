// `kvlab export` on folders made by hand and on a run of its own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "kvlab/runtime/csv_text.h"
#include "kvlab/runtime/report_document.h"
#include "tests/fixtures/hand_made_run.h"
#include "tests/fixtures/run_program.h"
#include "tests/fixtures/tiny_model.h"

namespace kvlab {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Json = nlohmann::json;
using Words = std::vector<std::string>;

class Export : public ::testing::Test {
 protected:
  Export() { testing::write_sweep(sweep()); }

  std::string sweep() const { return folder_.file("sweep"); }

  static ProgramResult exported(Words arguments) {
    Words words = {KVLAB_BINARY_DIR "/bin/kvlab", "export"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    return run_program(words);
  }

  TemporaryFolder folder_;
};

TEST_F(Export, CsvAndJsonGoToStandardOutput) {
  const ProgramResult csv = exported({sweep(), "--to", "csv"});
  EXPECT_EQ(csv.exit_code, 0) << csv.err;
  const auto records = parse_csv(csv.out);
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(records[2][0], "0001-bbbbbbbb");
  const ProgramResult cases = exported({sweep(), "--to", "csv", "--table", "cases"});
  EXPECT_EQ(parse_csv(cases.out).size(), 4u);
  const ProgramResult json = exported({sweep(), "--to", "json"});
  EXPECT_EQ(Json::parse(json.out)["runs"].size(), 2u);
}

TEST_F(Export, SeveralFoldersBecomeOneTable) {
  testing::HandMadeRun made;
  made.add_metric("ring", "payload", 1, "B", "lower");
  made.write(folder_.file("single"));
  const ProgramResult csv = exported({sweep(), folder_.file("single"), "--to", "csv"});
  const auto records = parse_csv(csv.out);
  ASSERT_EQ(records.size(), 4u);
  EXPECT_EQ(records[1][0], "sweep/0000-aaaaaaaa");
  EXPECT_EQ(records[3][0], "single");
}

TEST_F(Export, AFileIsNeverOverwrittenUnasked) {
  const std::string file = folder_.file("out.csv");
  EXPECT_EQ(exported({sweep(), "--to", "csv", "--output", file}).exit_code, 0);
  const std::string before = testing::text_in(file);
  EXPECT_EQ(before, exported({sweep(), "--to", "csv"}).out);
  const ProgramResult again = exported({sweep(), "--to", "json", "--output", file});
  EXPECT_EQ(again.exit_code, 2);
  EXPECT_THAT(again.err, HasSubstr("'" + file +
                                   "' exists; choose another name, or overwrite it "
                                   "with --force"));
  EXPECT_EQ(testing::text_in(file), before);
  EXPECT_EQ(exported({sweep(), "--to", "json", "--output", file, "--force"}).exit_code, 0);
  EXPECT_THAT(testing::text_in(file), StartsWith("{"));
  EXPECT_FALSE(fs::exists(file + ".partial"));
}

TEST_F(Export, SqliteIsWrittenToAFileThatIsTheSameEachTime) {
  const std::string one = folder_.file("one.sqlite"), two = folder_.file("two.sqlite");
  const ProgramResult result = exported({sweep(), "--to", "sqlite", "--output", one});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  exported({sweep(), "--to", "sqlite", "--output", two});
  EXPECT_THAT(testing::text_in(one), StartsWith("SQLite format 3"));
  EXPECT_TRUE(testing::text_in(one) == testing::text_in(two));
}

TEST_F(Export, WrongUseSaysWhatToDo) {
  const auto expect = [](const Words& words, int code, const std::string& message) {
    const ProgramResult result = exported(words);
    EXPECT_EQ(result.exit_code, code) << message;
    EXPECT_THAT(result.err, HasSubstr(message));
    EXPECT_EQ(result.out, "");
  };
  expect({sweep(), "--to", "sqlite"}, 2, "name it with --output");
  expect({sweep(), "--to", "cvs"}, 2, "--to 'cvs' is no format");
  expect({sweep(), "--to", "csv", "--table", "metric"}, 2, "'metric' is no table");
  expect({sweep(), "--to", "json", "--table", "runs"}, 2, "--table chooses one table of --to csv");
  expect({sweep(), "--to", "csv", "--output", folder_.path()}, 2, "is a folder; name a file");
  expect({sweep(), "--to", "csv", "--output", folder_.file("no/out.csv")}, 2,
         "does not exist; create it first");
  expect({folder_.file("nowhere"), "--to", "csv"}, 4, "is not a folder");
  fs::create_directory(folder_.file("empty"));
  expect({folder_.file("empty"), "--to", "csv"}, 4, "holds no run");
  testing::write_text(sweep() + "/cases/0000-aaaaaaaa/run.json", "{\"schema_version\"");
  expect({sweep(), "--to", "csv"}, 2, "0000-aaaaaaaa/run.json': not JSON");
}

TEST_F(Export, RunsThatDidNotEndWellAreExportedAndNamed) {
  testing::HandMadeRun made;
  made.run["status"] = "interrupted";
  made.write(sweep() + "/cases/0001-bbbbbbbb");
  const ProgramResult runs = exported({sweep(), "--to", "csv", "--table", "runs"});
  EXPECT_EQ(runs.exit_code, 0);
  EXPECT_THAT(runs.err, HasSubstr("0001-bbbbbbbb is not finished, status interrupted"));
  EXPECT_EQ(parse_csv(runs.out)[2][4], "interrupted");
}

TEST_F(Export, NastyNamesComeThroughTheProgram) {
  testing::nasty_run().write(folder_.file("nasty"));
  const auto records = parse_csv(exported({folder_.file("nasty"), "--to", "csv"}).out);
  const Json json = Json::parse(exported({folder_.file("nasty"), "--to", "json"}).out);
  const auto& names = testing::nasty_names();
  ASSERT_EQ(records.size(), names.size() + 1);
  for (size_t i = 0; i < names.size(); ++i) {
    EXPECT_EQ(records[i + 1][4], csv_text_field(testing::as_read(names[i])));
    EXPECT_EQ(json["runs"][0]["metrics"][i]["arm"], testing::as_read(names[i]));
  }
}

TEST_F(Export, ARunOfThisProgramIsExportedWhole) {
  const ProgramResult run = run_program({KVLAB_BINARY_DIR "/bin/kvlab", "run",
                                         KVLAB_SOURCE_DIR "/configs/experiments/teaching_toy.yaml",
                                         "--runs", folder_.file("runs"), "measure.repeats=2"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const ProgramResult result = exported({folder_.file("runs"), "--to", "json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json json = Json::parse(result.out)["runs"].at(0);
  const Json summary = Json::parse(
      testing::text_in(folder_.file("runs/" + json["run"].get<std::string>() + "/summary.json")));
  ASSERT_EQ(json["metrics"].size(), summary["metrics"].size());
  EXPECT_GT(json["metrics"].size(), 4u);
  for (size_t i = 0; i < summary["metrics"].size(); ++i) {
    for (const char* key : {"arm", "metric", "value", "unit", "group"}) {
      EXPECT_EQ(json["metrics"][i][key], summary["metrics"][i][key]) << i << key;
    }
  }
  EXPECT_EQ(json["checks"], summary["checks"]);
  EXPECT_EQ(json["samples"].size(), 6u) << "two arms and the second control, two blocks";
  EXPECT_EQ(json["overrides"], Json({"measure.repeats=2"}));
  const auto table = parse_csv(exported({folder_.file("runs"), "--to", "csv"}).out);
  EXPECT_EQ(table[0].back(), "config.measure.repeats");
  EXPECT_EQ(table[1].back(), "2");
}

}  // namespace
}  // namespace kvlab
