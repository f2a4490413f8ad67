#include "command_compare.h"

#include <algorithm>
#include <cmath>
#include <iostream>
#include <memory>

#include "exit_code.h"
#include "json_output.h"
#include "kvlab/core/error.h"
#include "kvlab/results/run_comparison.h"
#include "kvlab/results/sweep_comparison.h"
#include "kvlab/runtime/report_terminal.h"

namespace kvlab {

namespace {

struct CompareArguments {
  std::string a, b, rule;
  std::vector<std::string> metrics, arms;
  uint64_t seed = 0;
  CLI::Option* rule_option = nullptr;
  bool strict = false, json = false;
};

// One line without control characters: a name with a line break must not look like another row.
std::string one_line(const std::string& text) {
  constexpr const char* kHex = "0123456789abcdef";
  std::string shown;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      shown += "\\n";
    } else if (byte < 0x20 || byte == 0x7f) {
      shown += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    } else {
      shown += c;
    }
  }
  return shown;
}

Json number_or_null(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }
Json number_or_null(const std::optional<double>& value) {
  return value ? number_or_null(*value) : Json(nullptr);
}

Json differences_json(const std::vector<RunDifference>& differences) {
  Json json = Json::array();
  for (const RunDifference& one : differences) {
    json.push_back({{"what", one.what}, {"a", one.a}, {"b", one.b}});
  }
  return json;
}

Json to_json(const ComparedMetric& row) {
  const std::optional<ComparedRatio>& ratio = row.ratio;
  return {{"arm", row.arm},
          {"metric", row.metric},
          {"group", row.group},
          {"unit", row.unit},
          {"a", number_or_null(row.a)},
          {"b", number_or_null(row.b)},
          {"n_a", row.n_a},
          {"n_b", row.n_b},
          {"ratio", ratio ? number_or_null(ratio->ratio) : Json(nullptr)},
          {"ratio_low", ratio ? number_or_null(ratio->low) : Json(nullptr)},
          {"ratio_high", ratio ? number_or_null(ratio->high) : Json(nullptr)},
          {"from_samples", row.from_samples},
          {"p", number_or_null(row.p)},
          {"p_adjusted", number_or_null(row.p_adjusted)},
          {"second_control", row.second_control},
          {"verdict", change_verdict_name(row.verdict)},
          {"fails", row.fails}};
}

// What one pair of runs gives.
Json to_json(const RunComparison& comparison) {
  Json json = Json::object();
  json["metrics"] = Json::array();
  for (const ComparedMetric& row : comparison.metrics) json["metrics"].push_back(to_json(row));
  json["tests"] = comparison.tests();
  json["refused"] = comparison.refused();
  json["only_in_a"] = comparison.only_in_a;
  json["only_in_b"] = comparison.only_in_b;
  json["config_differences"] = differences_json(comparison.config);
  json["environment_differences"] = differences_json(comparison.environment);
  json["broken_checks"] = Json::array();
  for (const ReportCheck& check : comparison.broken_checks) {
    json["broken_checks"].push_back(
        {{"arm", check.arm}, {"check", check.check}, {"detail", check.detail}});
  }
  json["new_failures"] = Json::array();
  for (const ReportFailure& failure : comparison.new_failures) {
    json["new_failures"].push_back({{"what", failure.what}, {"reason", failure.reason}});
  }
  return json;
}

Json head_json(const CompareArguments& given, bool has_rule, bool fails) {
  return {{"schema", "kvlab-comparison/1"},
          {"a", given.a},
          {"b", given.b},
          {"fail_if", has_rule ? Json(given.rule) : Json(nullptr)},
          {"strict", given.strict},
          {"fails", fails}};
}

void print_comparison_json(const CompareArguments& given, const RunComparison& comparison) {
  Json json = head_json(given, comparison.has_rule, comparison.fails());
  json.update(to_json(comparison));
  print_json(json);
}

void print_comparison_json(const CompareArguments& given, const SweepComparison& comparison) {
  Json json = head_json(given, comparison.has_rule, comparison.fails());
  json["cases"] = Json::array();
  for (const ComparedCase& one : comparison.cases) {
    Json entry = {{"case", one.name}, {"fails", one.runs.fails()}};
    entry.update(to_json(one.runs));
    json["cases"].push_back(std::move(entry));
  }
  json["not_compared"] = Json::array();
  for (const UncomparedCase& one : comparison.uncompared) {
    json["not_compared"].push_back(
        {{"case", one.name}, {"reason", one.reason}, {"fails", one.fails}});
  }
  json["skipped_in_both"] = comparison.skipped;
  print_json(json);
}

void print_differences(const char* what, const std::vector<RunDifference>& differences) {
  if (differences.empty()) return;
  std::cout << "WARNING: the runs differ in their " << what << ":\n";
  for (const RunDifference& one : differences) {
    std::cout << "  " << one_line(one.what) << ": " << one_line(one.a) << " in A, "
              << one_line(one.b) << " in B\n";
  }
  std::cout << "\n";
}

void print_missing(const char* where, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    std::cout << "Only in " << where << ": " << one_line(name) << "\n";
  }
}

// What a reader of the rows must know.
struct Notes {
  bool from_samples = false, without = false, undefined = false, second_control = false;
  int64_t tests = 0, refused = 0;

  void add(const RunComparison& comparison) {
    tests += comparison.tests();
    refused += comparison.refused();
    for (const ComparedMetric& row : comparison.metrics) {
      second_control = second_control || row.second_control;
      from_samples = from_samples || row.from_samples;
      without = without || row.verdict == ChangeVerdict::no_interval;
      undefined = undefined || !row.ratio;
    }
  }
};

void print_notes(const Notes& notes) {
  if (notes.refused > 0) {
    std::cout << "WARNING: " << notes.refused
              << " rows are refused: something disturbed more than half of the samples of a run. A "
                 "rule passes them by, unless --strict; measure again on a quiet machine.\n";
  }
  if (notes.tests > 0) {
    std::cout << "Verdicts with an interval are adjusted for " << notes.tests
              << " comparisons (Holm).\n";
  }
  if (notes.second_control) {
    std::cout << "A second control shows how large a difference without a cause is; no rule judges "
                 "it.\n";
  }
  if (notes.from_samples) {
    std::cout << "With an interval, A and B are geometric means over blocks, and the blocks of the "
                 "two runs are not paired.\nAn interval holds the noise within the runs. Whatever "
                 "else the machine did during one of them comes on top.\n";
  }
  if (notes.without) {
    std::cout
        << "No interval: a time with one block, or without samples that give it; the change may be "
           "noise.\n";
  }
  if (notes.undefined) {
    std::cout << "Not comparable: a value is missing, or A is zero or negative.\n";
  }
}

// `where` stands before each line: the case, or nothing.
void print_broken(const std::string& where, const RunComparison& comparison) {
  for (const ReportCheck& check : comparison.broken_checks) {
    std::cout << "FAILS: " << where << "the check '" << one_line(check.check) << "' of "
              << one_line(check.arm) << " passed in A and failed in B: " << one_line(check.detail)
              << "\n";
  }
  for (const ReportFailure& failure : comparison.new_failures) {
    std::cout << "Failed in B only: " << where << one_line(failure.what) << ": "
              << one_line(failure.reason) << "\n";
  }
}

// How many rows meet the rule.
struct RuleCount {
  int64_t rows = 0, failed = 0, missing = 0;

  void add(const RunComparison& comparison) {
    rows += static_cast<int64_t>(comparison.metrics.size());
    missing += static_cast<int64_t>(comparison.only_in_a.size());
    for (const ComparedMetric& row : comparison.metrics) failed += row.fails ? 1 : 0;
  }
};

void print_rule(const CompareArguments& given, const RuleCount& count) {
  std::cout << "Rule " << one_line(given.rule)
            << (given.strict ? " for the change itself" : " for the interval's near end") << ": "
            << count.failed << " of " << count.rows << " fail";
  if (count.missing > 0) std::cout << ", and " << count.missing << " of A missing in B";
  std::cout << "\n";
}

void print_table(ReportTable table) {
  for (auto& row : table.rows) {
    for (ReportCell& cell : row) cell.text = one_line(cell.text);
  }
  std::cout << terminal_table(table) << "\n";
}

void print_names(const CompareArguments& given) {
  std::cout << "A: " << one_line(given.a) << "\nB: " << one_line(given.b) << "\n\n";
}

void print_comparison(const CompareArguments& given, const RunComparison& comparison) {
  print_names(given);
  print_differences("configs", comparison.config);
  print_differences("environments", comparison.environment);
  print_table(comparison_table(comparison));
  print_missing("A", comparison.only_in_a);
  print_missing("B", comparison.only_in_b);
  Notes notes;
  notes.add(comparison);
  print_notes(notes);
  print_broken("", comparison);
  RuleCount count;
  count.add(comparison);
  if (comparison.has_rule) print_rule(given, count);
}

// Cases mostly differ in the same: each difference once.
std::vector<RunDifference> all_differences(const SweepComparison& comparison,
                                           std::vector<RunDifference> RunComparison::*field) {
  std::vector<RunDifference> all;
  for (const ComparedCase& one : comparison.cases) {
    for (const RunDifference& difference : one.runs.*field) {
      const bool known = std::any_of(all.begin(), all.end(), [&](const RunDifference& earlier) {
        return earlier.what == difference.what && earlier.a == difference.a &&
               earlier.b == difference.b;
      });
      if (!known) all.push_back(difference);
    }
  }
  return all;
}

void print_comparison(const CompareArguments& given, const SweepComparison& comparison) {
  print_names(given);
  print_differences("configs", all_differences(comparison, &RunComparison::config));
  print_differences("environments", all_differences(comparison, &RunComparison::environment));
  print_table(comparison_table(comparison));
  Notes notes;
  RuleCount count;
  for (const ComparedCase& one : comparison.cases) {
    const std::string where = "case " + one_line(one.name) + ": ";
    for (const std::string& name : one.runs.only_in_a) print_missing("A", {where + name});
    for (const std::string& name : one.runs.only_in_b) print_missing("B", {where + name});
    notes.add(one.runs);
    count.add(one.runs);
  }
  print_notes(notes);
  std::cout << comparison.cases.size() << " cases compared, " << comparison.skipped
            << " skipped in both\n";
  for (const UncomparedCase& one : comparison.uncompared) {
    std::cout << (one.fails ? "FAILS: " : "Not compared: ") << "case " << one_line(one.name) << ": "
              << one_line(one.reason) << "\n";
  }
  for (const ComparedCase& one : comparison.cases) {
    print_broken("case " + one_line(one.name) + ": ", one.runs);
  }
  if (comparison.has_rule) print_rule(given, count);
}

template <typename Comparison>
int show(const CompareArguments& given, const Comparison& comparison) {
  if (given.json) {
    print_comparison_json(given, comparison);
  } else {
    print_comparison(given, comparison);
  }
  return comparison.fails() ? kExitRuleMet : kExitOk;
}

int run_compare(const CompareArguments& given) {
  CompareOptions options;
  options.metrics = given.metrics;
  options.arms = given.arms;
  options.strict = given.strict;
  options.seed = given.seed;
  if (given.rule_option->count() > 0) options.rule = parse_fail_rule(given.rule);
  KVLAB_CHECK(!given.strict || options.rule, "[command_line.compare] --strict needs --fail-if");
  const bool sweep_a = is_sweep_folder(given.a), sweep_b = is_sweep_folder(given.b);
  KVLAB_CHECK(sweep_a == sweep_b, "[command_line.compare] '", sweep_a ? given.a : given.b,
              "' is a sweep and '", sweep_a ? given.b : given.a,
              "' is none; give two runs or two sweeps. The runs of a sweep are in its folder cases");
  if (sweep_a) return show(given, compare_sweeps(read_runs(given.a), read_runs(given.b), options));
  return show(given, compare_runs(read_run(given.a), read_run(given.b), options));
}

}  // namespace

void add_compare_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand(
      "compare",
      "Compare two runs or two sweeps; with --fail-if, exit with 3 where B changed too much.");
  const auto given = std::make_shared<CompareArguments>();
  command->add_option("run_a", given->a, "The folder of the run or sweep to compare with")
      ->required();
  command->add_option("run_b", given->b, "The folder of the run or sweep that may be worse")
      ->required();
  command
      ->add_option("--metric", given->metrics,
                   "A metric of summary.json, e.g. tpot; may be repeated (default: all)")
      ->allow_extra_args(false);
  command->add_option("--arm", given->arms, "An arm; may be repeated (default: all)")
      ->allow_extra_args(false);
  given->rule_option = command->add_option(
      "--fail-if", given->rule,
      "Exit with 3 where B/A is beyond this: '>5%', '<-3%' or '>1.05x'. Looks at the end of the "
      "interval that is nearer to no change");
  command->add_flag("--strict", given->strict,
                    "The rule looks at the change itself, which may be noise");
  command->add_option("--seed", given->seed, "Seed of the bootstrap (default: 0)");
  command->add_flag("--json", given->json, "Print one JSON object");
  command->callback(
      [given, &invocation] { invocation.run = [given] { return run_compare(*given); }; });
}

}  // namespace kvlab
