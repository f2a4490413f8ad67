// What the benchmark says of samples that were made up: quality, the lead, break-even, sentences.
#include <gtest/gtest.h>

#include <cmath>
#include <sstream>
#include <string>
#include <vector>

#include "../../experiments/generation_benchmark/benchmark_report.h"
#include "../../experiments/generation_benchmark/findings.h"
#include "../../experiments/generation_benchmark/report_parts.h"

namespace {

using namespace kvlab;
using namespace kvlab::experiments;

constexpr int64_t kPrompt = 6;
constexpr int kTokens = 9;  // new ones of each run
constexpr double kFirstMs = 20, kStepMs = 10;

// Time over the control's around `middle`, with its blocks on both sides.
std::vector<double> around(double middle, size_t blocks = 6, double spread = 0.002) {
  std::vector<double> factors;
  for (size_t block = 0; block < blocks; ++block) {
    const double side = block % 2 == 0 ? 1 : -1;
    factors.push_back(middle * (1 + spread * side * (0.3 + 0.1 * static_cast<double>(block % 5))));
  }
  return factors;
}

struct MadeUpArm {
  std::string name;
  std::vector<double> first = around(1), step = around(1);  ///< times over kFirstMs and kStepMs
  int64_t bytes = 40'000'000;
  GateResult gate = {};
  bool contended = false;
};

Sample sample_of(const MadeUpArm& arm, size_t block) {
  Sample sample;
  GenerateResult& result = sample.result;
  result.tokens = {std::vector<int32_t>(kTokens, 1)};
  result.ttft_ns = std::llround(kFirstMs * arm.first[block] * 1e6);
  result.token_ns.assign(kTokens - 1, std::llround(kStepMs * arm.step[block] * 1e6));
  result.payload = arm.bytes;
  result.cache.add(MemoryKind::storage, arm.bytes);
  sample.estimated = result.cache;
  sample.contention.contended = arm.contended;
  sample.kv_read = static_cast<double>(arm.bytes);
  sample.split.steps = kTokens - 1;
  sample.split.linear_ns = 50;
  sample.split.attention_ns = 42;
  sample.split.other_ns = 8;
  return sample;
}

GateResult gate_of(bool exact, bool same_numbers, double kl) {
  GateResult gate;
  gate.exact_arm = exact;
  gate.same_numbers = same_numbers;
  gate.distance.tokens = 24;
  gate.distance.mean_kl = kl;
  return gate;
}

// The control, and the arms of a test.
struct MadeUp {
  BenchmarkConfig config;
  std::vector<Arm> arms;
  std::vector<CaseResult> cases;

  explicit MadeUp(const std::vector<MadeUpArm>& others, size_t blocks = 6) {
    config.trials.aa = false;
    config.primary = speed_metric(SpeedFigure::tokens_per_second);
    config.workload.new_tokens = {4, kTokens};
    config.shared.control = "control";
    CaseResult& one = cases.emplace_back();
    one.one.prompt_length = kPrompt;
    add({"control", std::vector<double>(blocks, 1.0), std::vector<double>(blocks, 1.0)});
    for (const MadeUpArm& arm : others) add(arm);
  }

  void add(const MadeUpArm& arm) {
    Arm& made = arms.emplace_back();
    made.config.name = arm.name;
    made.model = {"toy", "made up", 360'000'000};
    std::vector<Sample>& samples = made.samples.emplace_back();
    for (size_t block = 0; block < arm.step.size(); ++block) {
      samples.push_back(sample_of(arm, block));
    }
    made.suspended_blocks = {0};
    cases.front().gate.push_back(arm.gate);
  }

  ExperimentResult report() const { return make_report(config, cases, arms, 0); }
  Findings findings() const { return Findings(config, cases, arms, 0); }
  std::string sentences() const {
    std::string all;
    for (const std::string& text : conclude(findings(), 0)) all += text + "\n";
    return all;
  }
};

const ReportTable* table_of(const ExperimentResult& result, const std::string& id) {
  for (const ReportTable& table : result.report.sections.front().tables) {
    if (table.id == id) return &table;
  }
  return nullptr;
}

const ReportFigure* figure_of(const ExperimentResult& result, const std::string& id) {
  for (const ReportFigure& figure : result.report.sections.front().figures) {
    if (figure.id == id) return &figure;
  }
  return nullptr;
}

const Metric* metric_of(const ExperimentResult& result, const std::string& arm,
                        const std::string& name) {
  for (const Metric& metric : result.metrics) {
    if (metric.arm == arm && metric.metric == name) return &metric;
  }
  return nullptr;
}

// The line of a figure's numbers that ends or begins with the arm's name.
std::string line_of(const std::string& csv, const std::string& arm) {
  std::istringstream lines(csv);
  for (std::string line; std::getline(lines, line);) {
    if (line.find(arm) != std::string::npos) return line;
  }
  return "";
}

TEST(GenerationBenchmarkFindings, AnExactCacheOfOtherNumbersIsShownWithItsMeasuredKl) {
  const MadeUp made({{"half", around(1), around(1), 20'000'000, gate_of(true, false, 0.0625)},
                     {"paged", around(1), around(1), 44'000'000, gate_of(true, true, 0.0001)}});
  const ExperimentResult result = made.report();
  const ReportTable* table = table_of(result, "quality");
  ASSERT_NE(table, nullptr);
  ASSERT_EQ(table->rows.size(), 1u) << "same numbers: no distance but rounding";
  EXPECT_EQ(table->rows.front()[0].text, "half");
  EXPECT_EQ(table->rows.front()[1].number, 0.0625);
  for (const ReportColumn& column : table->columns) {
    EXPECT_EQ(column.title.find("95 %"), std::string::npos) << "tokens of one text: no interval";
  }
  const Metric* kl = metric_of(result, "half", "kl");
  ASSERT_NE(kl, nullptr);
  EXPECT_EQ(kl->value, 0.0625);
  EXPECT_EQ(metric_of(result, "paged", "kl"), nullptr);
  const ReportFigure* figure = figure_of(result, "memory_quality");
  ASSERT_NE(figure, nullptr);
  EXPECT_NE(line_of(figure->csv, "half").find("0.0625"), std::string::npos) << figure->csv;
  EXPECT_EQ(line_of(figure->csv, "paged").find("0.0001"), std::string::npos) << figure->csv;
  EXPECT_NE(made.sentences().find("exact but for its dtype, which costs KL 0.0625 nats/token"),
            std::string::npos) << made.sentences();
}

CellEmphasis emphasis(const ExperimentResult& result, const std::string& arm,
                      const std::string& column) {
  const ReportTable& table = *table_of(result, "arms");
  size_t at = 0;
  while (table.columns[at].key != column) ++at;
  for (const auto& row : table.rows) {
    if (row.front().text == arm) return row[at].emphasis;
  }
  return CellEmphasis::warning;
}

TEST(GenerationBenchmarkFindings, OnlyAnArmThatIsFasterThanTheRunnerUpIsBold) {
  const MadeUp clear({{"fast", around(0.7), around(0.7)}, {"same", around(1), around(1)}});
  EXPECT_EQ(emphasis(clear.report(), "fast", "ratio"), CellEmphasis::best);
  EXPECT_EQ(emphasis(clear.report(), "fast", "tokens_per_s"), CellEmphasis::best);
  EXPECT_EQ(emphasis(clear.report(), "same", "ratio"), CellEmphasis::normal);
  // Its interval excludes 1, but too many of its runs were disturbed: the comparison is refused.
  MadeUpArm disturbed{"fast", around(0.7), around(0.7)};
  disturbed.contended = true;
  MadeUpArm other{"same", around(1), around(1)};
  other.contended = true;
  const MadeUp refused({disturbed, other});
  const Findings found = refused.findings();
  ASSERT_TRUE(found.ratio(1, 0, 0).excludes());
  ASSERT_EQ(found.lead(0)->first, 1u);
  EXPECT_EQ(found.judge(1, 2, 0).verdict, Verdict::refused);
  EXPECT_EQ(emphasis(refused.report(), "fast", "ratio"), CellEmphasis::normal);
  EXPECT_EQ(emphasis(refused.report(), "fast", "tokens_per_s"), CellEmphasis::normal);
}

TEST(GenerationBenchmarkFindings, TheLeadIsRankedByThePrimaryMetric) {
  MadeUp made({{"soon", around(0.5), around(1.5)}, {"steady", around(1.5), around(0.5)}});
  EXPECT_EQ(made.findings().clear_winner(0), 2u);
  made.config.primary.figure = SpeedFigure::first_token;
  EXPECT_EQ(made.findings().clear_winner(0), 1u);
  EXPECT_EQ(emphasis(made.report(), "soon", "ttft"), CellEmphasis::best);
  EXPECT_EQ(emphasis(made.report(), "soon", "tokens_per_s"), CellEmphasis::normal);
  made.config.primary.figure = SpeedFigure::next_token;
  EXPECT_EQ(made.findings().clear_winner(0), 2u);
}

TEST(GenerationBenchmarkFindings, BreakEvenComesFromVerdictsAndNeverFromTheControlAgain) {
  MadeUpArm refused{"refused", around(0.7), around(0.7)};
  refused.contended = true;
  MadeUp made({{"control_again", around(0.999), around(0.999)},
               {"fast", around(1.2), around(0.7)},
               {"noise", around(0.9999, 6, 0.00001), around(0.9999, 6, 0.00001)},
               refused});
  made.config.trials.aa = true;
  for (Sample& sample : made.arms[0].samples[0]) sample.contention.contended = true;
  EXPECT_EQ(made.findings().comparison(4, 0)->verdict, Verdict::refused);
  EXPECT_FALSE(made.findings().usual_break_even(4, 0)) << "refused";
  for (Sample& sample : made.arms[0].samples[0]) sample.contention.contended = false;
  const Findings found = made.findings();
  EXPECT_TRUE(found.is_second_control(1));
  EXPECT_FALSE(found.usual_break_even(1, 0));
  EXPECT_EQ(found.usual_break_even(2, 0), 3);
  EXPECT_FALSE(found.usual_break_even(3, 0)) << "faster in every block, but within the noise";
}

TEST(GenerationBenchmarkFindings, TheShareOfBytesIsSaidOnlyWhereWeightsAreReadFromMemory) {
  MadeUp made({{"same", around(1), around(1), 20'000'000}});
  EXPECT_NE(made.sentences().find("% of all that it reads"), std::string::npos);
  EXPECT_NE(made.sentences().find("10.0 % of the bytes are the cache's"), std::string::npos)
      << made.sentences();
  EXPECT_EQ(made.sentences().find("cannot"), std::string::npos);
  made.arms.front().model.weight_bytes = 1'000'000;
  EXPECT_EQ(made.sentences().find("of all that it reads"), std::string::npos);
  EXPECT_EQ(made.sentences().find("of the bytes"), std::string::npos) << made.sentences();
  EXPECT_NE(made.sentences().find("attention 42 %"), std::string::npos) << "the split instead";
}

}  // namespace
