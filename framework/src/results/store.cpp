#include "kvlab/results/store.h"

#include <sqlite3.h>

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "kvlab/core/error.h"
#include "result_names.h"

namespace kvlab {

namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kTables = R"(
CREATE TABLE runs (
  run_id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, case_index INTEGER, hash TEXT NOT NULL,
  experiment TEXT NOT NULL, status TEXT NOT NULL, exit_code INTEGER, message TEXT NOT NULL,
  start TEXT NOT NULL, stop TEXT NOT NULL, seed TEXT NOT NULL, argv TEXT NOT NULL,
  overrides TEXT NOT NULL, config TEXT NOT NULL);
CREATE TABLE cases (
  position INTEGER PRIMARY KEY, case_index INTEGER NOT NULL, name TEXT NOT NULL,
  hash TEXT NOT NULL, overrides TEXT NOT NULL, skipped INTEGER NOT NULL, reasons TEXT NOT NULL);
CREATE TABLE metrics (
  run_id INTEGER NOT NULL REFERENCES runs, position INTEGER NOT NULL, arm TEXT NOT NULL,
  metric TEXT NOT NULL, value REAL, unit TEXT NOT NULL, n INTEGER NOT NULL, ci_low REAL,
  ci_high REAL, p REAL, verdict TEXT NOT NULL, better TEXT NOT NULL, timed INTEGER NOT NULL, "group" TEXT NOT NULL,
  PRIMARY KEY (run_id, position)) WITHOUT ROWID;
CREATE TABLE checks (
  run_id INTEGER NOT NULL REFERENCES runs, position INTEGER NOT NULL, arm TEXT NOT NULL,
  "check" TEXT NOT NULL, passed INTEGER NOT NULL, detail TEXT NOT NULL,
  PRIMARY KEY (run_id, position)) WITHOUT ROWID;
CREATE TABLE failures (
  run_id INTEGER NOT NULL REFERENCES runs, position INTEGER NOT NULL, what TEXT NOT NULL,
  reason TEXT NOT NULL, PRIMARY KEY (run_id, position)) WITHOUT ROWID;
CREATE TABLE environment (
  run_id INTEGER NOT NULL REFERENCES runs, position INTEGER NOT NULL, name TEXT NOT NULL,
  value TEXT NOT NULL, PRIMARY KEY (run_id, position)) WITHOUT ROWID;
CREATE TABLE samples (
  run_id INTEGER NOT NULL REFERENCES runs, line INTEGER NOT NULL, arm TEXT NOT NULL,
  rep INTEGER, "order" INTEGER, prompt_length INTEGER, batch INTEGER, new_tokens INTEGER,
  ttft_ns INTEGER, json TEXT NOT NULL, PRIMARY KEY (run_id, line)) WITHOUT ROWID;
)";

struct CloseDatabase {
  void operator()(sqlite3* database) const { sqlite3_close(database); }
};
struct FinalizeStatement {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Database = std::unique_ptr<sqlite3, CloseDatabase>;

void check_sqlite(sqlite3* database, int code, int wanted, const char* operation) {
  if (code == wanted) return;
  throw InternalError(detail::concat("[results.store.", operation, "] ", sqlite3_errmsg(database)));
}

void execute(sqlite3* database, const std::string& sql) {
  check_sqlite(database, sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK,
               "execute");
}

// One INSERT. Values are always bound, never part of the SQL text.
class Insert {
 public:
  Insert(sqlite3* database, const std::string& table, int columns) : database_(database) {
    std::string sql = "INSERT INTO " + table + " VALUES (?";
    for (int i = 1; i < columns; ++i) sql += ",?";
    sqlite3_stmt* statement = nullptr;
    check_sqlite(database,
                 sqlite3_prepare_v2(database, (sql + ")").c_str(), -1, &statement, nullptr),
                 SQLITE_OK, "prepare");
    statement_.reset(statement);
  }

  template <typename... Values>
  void operator()(const Values&... values) {
    column_ = 0;
    (bind(values), ...);
    check_sqlite(database_, sqlite3_step(statement_.get()), SQLITE_DONE, "insert");
    check_sqlite(database_, sqlite3_reset(statement_.get()), SQLITE_OK, "insert");
  }

 private:
  void bound(int code) { check_sqlite(database_, code, SQLITE_OK, "bind"); }
  void bind(const std::string& text) {
    bound(sqlite3_bind_text64(statement_.get(), ++column_, text.data(), text.size(),
                              SQLITE_TRANSIENT, SQLITE_UTF8));
  }
  void bind(int64_t number) { bound(sqlite3_bind_int64(statement_.get(), ++column_, number)); }
  void bind(bool yes) { bind(int64_t{yes}); }
  void bind(double number) {
    // SQLite makes NULL of NaN itself; an infinite number is none that JSON has either.
    ++column_;
    bound(std::isfinite(number) ? sqlite3_bind_double(statement_.get(), column_, number)
                                : sqlite3_bind_null(statement_.get(), column_));
  }
  void bind(const std::optional<int64_t>& number) {
    if (number) {
      bind(*number);
    } else {
      bound(sqlite3_bind_null(statement_.get(), ++column_));
    }
  }

  sqlite3* database_;
  std::unique_ptr<sqlite3_stmt, FinalizeStatement> statement_;
  int column_ = 0;
};

std::string list_text(const std::vector<std::string>& texts) { return Json(texts).dump(); }

void insert_all(sqlite3* database, const StoredRuns& all) {
  Insert run_row(database, "runs", 14), case_row(database, "cases", 7);
  Insert metric_row(database, "metrics", 14), check_row(database, "checks", 6);
  Insert failure_row(database, "failures", 4), fact_row(database, "environment", 4);
  Insert sample_row(database, "samples", 10);
  int64_t position = 0;
  for (const PlannedCase& one : all.cases) {
    case_row(++position, one.index, one.name, one.hash, list_text(one.overrides), one.skipped,
             list_text(one.reasons));
  }
  int64_t id = 0;
  for (const StoredRun& run : all.runs) {
    ++id;
    run_row(id, run.name, run.case_index, run.hash, run.experiment, run.status, run.exit_code,
            run.message, run.start, run.stop, std::to_string(run.seed), list_text(run.argv),
            list_text(run.overrides), run.config);
    position = 0;
    for (const Metric& one : run.metrics) {
      metric_row(id, ++position, one.arm, one.metric, one.value, one.unit, one.n, one.ci_low,
                 one.ci_high, one.p, one.verdict, std::string(better_name(one.direction)), one.timed,
                 group_json(one.group));
    }
    position = 0;
    for (const ReportCheck& one : run.checks) {
      check_row(id, ++position, one.arm, one.check, one.passed, one.detail);
    }
    position = 0;
    for (const ReportFailure& one : run.failures) {
      failure_row(id, ++position, one.what, one.reason);
    }
    position = 0;
    for (const ReportFact& one : run.environment) fact_row(id, ++position, one.name, one.value);
    for (const StoredSample& one : run.samples) {
      sample_row(id, one.line, one.arm, one.rep, one.order, one.prompt_length, one.batch,
                 one.new_tokens, one.ttft_ns, one.json);
    }
  }
}

}  // namespace

std::string store_bytes(const StoredRuns& runs) {
  // Built in memory, so that the disk sees one file written whole, as for every other result.
  sqlite3* opened = nullptr;
  const int code = sqlite3_open(":memory:", &opened);
  const Database database(opened);
  check_sqlite(opened, code, SQLITE_OK, "open");
  execute(opened, "PRAGMA user_version = " + std::to_string(kStoreVersion));
  execute(opened, kTables);
  execute(opened, "BEGIN");
  insert_all(opened, runs);
  execute(opened, "COMMIT");
  sqlite3_int64 size = 0;
  const std::unique_ptr<unsigned char, decltype(&sqlite3_free)> bytes(
      sqlite3_serialize(opened, "main", &size, 0), &sqlite3_free);
  KVLAB_INVARIANT(bytes != nullptr, "[results.store.serialize] SQLite gave no file");
  return {reinterpret_cast<const char*>(bytes.get()), static_cast<size_t>(size)};
}

std::string write_store(const std::string& folder) {
  const std::string path = folder + "/results.sqlite";
  write_file_atomically(path, store_bytes(read_runs(folder)));
  return path;
}

}  // namespace kvlab
