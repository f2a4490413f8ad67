#include "row_verdicts.h"

#include "kvlab/runtime/multiple_tests.h"

namespace kvlab {

namespace {

constexpr double kSignificance = 0.05;

bool is_refused(const ComparedMetric& row) { return row.timed && row.disturbed; }

bool may_be_chance(const ComparedMetric& row) {
  return row.p_adjusted && *row.p_adjusted >= kSignificance;
}

ChangeVerdict direction_verdict(const ComparedMetric& row) {
  const bool grew = row.ratio->ratio > 1;
  switch (row.direction) {
    case BetterDirection::none: return grew ? ChangeVerdict::larger : ChangeVerdict::smaller;
    case BetterDirection::higher: return grew ? ChangeVerdict::better : ChangeVerdict::worse;
    case BetterDirection::lower: return grew ? ChangeVerdict::worse : ChangeVerdict::better;
  }
  return ChangeVerdict::no_interval;
}

ChangeVerdict verdict_of(const ComparedMetric& row) {
  if (!row.ratio) return ChangeVerdict::not_comparable;
  if (is_refused(row)) return ChangeVerdict::refused;
  if (row.ratio->low) {
    const bool covers = *row.ratio->low <= 1 && 1 <= *row.ratio->high;
    if (covers && row.a == row.b) return ChangeVerdict::equal;
    if (covers || may_be_chance(row)) return ChangeVerdict::not_distinguishable;
    return direction_verdict(row);
  }
  if (row.a == row.b) return ChangeVerdict::equal;
  return row.timed ? ChangeVerdict::no_interval : direction_verdict(row);
}

bool rule_fails(const CompareOptions& options, const ComparedMetric& row) {
  if (!options.rule || row.second_control) return false;
  if (!row.ratio) return true;
  if (options.strict) return options.rule->met(row.ratio->ratio);
  if (is_refused(row)) return false;
  if (!row.ratio->low) return options.rule->met(row.ratio->ratio);
  // A rule that no change at all would meet asks for an improvement: chance excuses nothing there.
  if (may_be_chance(row) && !options.rule->met(1)) return false;
  return options.rule->met(options.rule->above ? *row.ratio->low : *row.ratio->high);
}

}  // namespace

void judge_rows(const std::vector<ComparedMetric*>& rows, const CompareOptions& options) {
  std::vector<ComparedMetric*> tested;
  std::vector<double> p_values;
  for (ComparedMetric* row : rows) {
    row->p_adjusted.reset();
    if (!row->p || is_refused(*row) || row->second_control) continue;
    tested.push_back(row);
    p_values.push_back(*row->p);
  }
  const std::vector<double> adjusted = holm_adjusted(p_values);
  for (size_t i = 0; i < tested.size(); ++i) tested[i]->p_adjusted = adjusted[i];
  for (ComparedMetric* row : rows) {
    row->verdict = verdict_of(*row);
    row->fails = rule_fails(options, *row);
  }
}

}  // namespace kvlab
