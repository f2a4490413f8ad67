#include "kvlab/results/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>

#include "kvlab/core/error.h"
#include "tests/fixtures/hand_made_run.h"
#include "tests/fixtures/model_file_writer.h"

namespace kvlab {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using testing::HandMadeRun;
using testing::TemporaryFolder;

// Every row of a query as text, columns joined with '|'; NULL is "NULL".
std::vector<std::string> query(const std::string& path, const std::string& sql) {
  sqlite3* database = nullptr;
  EXPECT_EQ(sqlite3_open_v2(path.c_str(), &database, SQLITE_OPEN_READONLY, nullptr), SQLITE_OK);
  std::vector<std::string> rows;
  const auto add = [](void* all, int columns, char** values, char**) {
    std::string row;
    for (int i = 0; i < columns; ++i) {
      row += (i == 0 ? "" : "|") + std::string(values[i] == nullptr ? "NULL" : values[i]);
    }
    static_cast<std::vector<std::string>*>(all)->push_back(row);
    return 0;
  };
  EXPECT_EQ(sqlite3_exec(database, sql.c_str(), add, &rows, nullptr), SQLITE_OK)
      << sqlite3_errmsg(database);
  sqlite3_close(database);
  return rows;
}

class ResultsStore : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }
  TemporaryFolder folder_;
};

TEST_F(ResultsStore, ASweepBecomesTablesThatQueriesJoin) {
  testing::write_sweep(path("sweep"));
  const std::string file = write_store(path("sweep"));
  EXPECT_EQ(file, path("sweep") + "/results.sqlite");
  EXPECT_THAT(query(file, "PRAGMA user_version"), ElementsAre("2"));
  EXPECT_THAT(query(file, "PRAGMA integrity_check"), ElementsAre("ok"));
  EXPECT_THAT(query(file, "SELECT name, case_index, hash, status, seed, overrides FROM runs"),
              ElementsAre("0000-aaaaaaaa|0|aaaaaaaa00000000|ok|7|[\"task.length=16\",\"+x.y=-1\"]",
                          "0001-bbbbbbbb|1|bbbbbbbb00000000|ok|7|[\"task.length=32\"]"));
  EXPECT_THAT(
      query(file, "SELECT case_index, name, skipped, reasons FROM cases"),
      ElementsAre("0|small|0|[]", "1|large|0|[]", "2|odd|1|[\"ring keeps no shared rows\"]"));
  EXPECT_THAT(query(file,
                    "SELECT runs.name, metric, value, unit, better, timed, ci_low, "
                    "json_extract(\"group\", '$.batch') FROM metrics JOIN runs USING (run_id)"),
              ElementsAre("0000-aaaaaaaa|tpot|0.00011|ms|lower|0|NULL|1",
                          "0001-bbbbbbbb|tpot|0.00021|ms|lower|0|NULL|1"));
  EXPECT_THAT(
      query(file,
            "SELECT run_id, line, arm, rep, prompt_length, ttft_ns, "
            "json_extract(json, '$.token_ns[0]') FROM samples WHERE run_id = 2"),
      ElementsAre("2|1|paged|0|16|1000|200", "2|2|paged|1|16|1000|210", "2|3|paged|2|16|1000|220"));
  EXPECT_THAT(query(file, "SELECT value FROM environment WHERE name = 'CPU'"),
              ElementsAre("a processor", "a processor"));
}

TEST_F(ResultsStore, EqualRunsGiveEqualBytes) {
  testing::write_sweep(path("one/sweep"));
  testing::write_sweep(path("two/sweep"));
  const std::string first = testing::text_in(write_store(path("one/sweep")));
  EXPECT_GT(first.size(), 4096u);
  EXPECT_TRUE(testing::text_in(write_store(path("two/sweep"))) == first);
  // Written again over itself, which it does not take for a run.
  EXPECT_TRUE(testing::text_in(write_store(path("one/sweep"))) == first);
  EXPECT_FALSE(fs::exists(path("one/sweep/results.sqlite.partial")));
}

TEST_F(ResultsStore, ASingleRunHasAStoreToo) {
  HandMadeRun made;
  made.add_metric("ring", "kl", nullptr, "nats", "none");
  made.add_check("ring", "equality", false);
  made.summary["failures"].push_back({{"what", "sinks"}, {"reason", "no room"}});
  made.write(path("run"));
  const std::string file = write_store(path("run"));
  EXPECT_THAT(query(file, "SELECT name, case_index FROM runs"), ElementsAre("run|NULL"));
  EXPECT_THAT(query(file, "SELECT arm, value FROM metrics"), ElementsAre("ring|NULL"));
  EXPECT_THAT(query(file, "SELECT arm, \"check\", passed FROM checks"),
              ElementsAre("ring|equality|0"));
  EXPECT_THAT(query(file, "SELECT what, reason FROM failures"), ElementsAre("sinks|no room"));
}

TEST_F(ResultsStore, NastyNamesAreStoredUnharmed) {
  testing::nasty_run().write(path("run"));
  const std::string file = write_store(path("run"));
  std::vector<std::string> expected;
  for (const std::string& name : testing::nasty_names()) {
    expected.push_back(testing::as_read(name));
  }
  EXPECT_EQ(query(file, "SELECT arm FROM metrics"), expected);
  EXPECT_EQ(query(file, "SELECT unit FROM metrics"), expected);
  EXPECT_EQ(query(file, "SELECT (SELECT value FROM json_each(\"group\")) FROM metrics"), expected);
  EXPECT_EQ(query(file, "SELECT \"check\" FROM checks"), expected);
  EXPECT_EQ(query(file, "SELECT what FROM failures"), expected);
  EXPECT_EQ(query(file, "SELECT json_extract(json, '$.text') FROM samples"), expected);
  EXPECT_EQ(query(file, "SELECT value FROM runs, json_each(argv)"), expected);
}

TEST_F(ResultsStore, AFolderThatTakesNoFileKeepsTheOldOne) {
  testing::write_sweep(path("sweep"));
  const std::string file = write_store(path("sweep"));
  const std::string before = testing::text_in(file);
  testing::write_text(path("sweep/cases/0001-bbbbbbbb/run.json"), "{");
  EXPECT_THROW(write_store(path("sweep")), UserError);
  EXPECT_TRUE(testing::text_in(file) == before);
}

}  // namespace
}  // namespace kvlab
