// Runs as text that other programs read.
#pragma once

#include <string>
#include <vector>

#include "kvlab/results/run_reader.h"

namespace kvlab {

/// What `runs_to_csv` can write, the first being the one most wanted.
const std::vector<std::string>& csv_tables();

/// One table as CSV after RFC 4180. Columns named `group.KEY` and `config.KEY` hold what a metric's
/// group and a run's overrides say. Text that a spreadsheet would run gets a ' before it; numbers
/// keep all digits; nothing measured is an empty field. Throws UserError for another table.
///
///   metrics      one row per run, arm, metric and group
///   runs, cases, checks, failures, environment
///   samples      the lines of samples.jsonl beside their main values
std::string runs_to_csv(const StoredRuns& runs, const std::string& table);

/// Everything as one JSON document (schema "kvlab-export/1"), samples as they were written.
std::string runs_to_json(const StoredRuns& runs);

}  // namespace kvlab
