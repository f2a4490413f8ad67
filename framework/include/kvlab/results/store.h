// Runs as one SQLite file, results.sqlite, which any tool can query.
//
//   runs         one row per run; the others name it by run_id
//   cases        one row per planned case of a sweep, skipped ones with their reasons
//   metrics      what summary.json says, group as a JSON object
//   checks, failures, environment
//   samples      one row per line of samples.jsonl: the line as JSON, and its main values
//
// Lists (argv, overrides, reasons) are JSON texts. NaN is NULL.
#pragma once

#include <string>

#include "kvlab/results/run_reader.h"

namespace kvlab {

/// PRAGMA user_version of the file; another number means other tables.
inline constexpr int kStoreVersion = 2;

/// The file's bytes. Equal runs give equal bytes: rows are in the order of `runs`.
std::string store_bytes(const StoredRuns& runs);

/// Reads `folder`, a sweep or a run, and writes `folder`/results.sqlite in one step: a reader sees
/// the old file or the new one. Returns its path. Throws as `read_runs` and `write_file_atomically`
/// do.
std::string write_store(const std::string& folder);

}  // namespace kvlab
