#include "kvlab/runtime/report_document.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "kvlab/core/error.h"

namespace kvlab {
namespace {

ReportDocument full_document() {
  ReportDocument document;
  document.title = "Title with \"quotes\" and ünïcode";
  document.experiment = "generation_benchmark";
  document.question = "Which?";
  document.primary_metric = "tokens per second";
  document.control = "none";
  document.varied = {"cache", "length"};
  document.held_fixed = {"model"};
  document.command = "kvlab run x.yaml";
  document.conclusions = {"No firm conclusion."};
  ReportTable table{"arms", "Arms", {{"arm", "Arm"}, {"speed", "Speed", "tokens/s",
                                                      BetterDirection::higher}}, {}, "n = 5"};
  table.rows = {{text_cell("none"), number_cell(0.1, 3, CellEmphasis::best)},
                {text_cell("paged", CellEmphasis::warning), empty_cell()}};
  table.rows[0][1].low = 1.0 / 3;
  table.rows[0][1].high = 2.0 / 3;
  document.sections = {{"Main", {"First.", "Second."}, {table},
                        {{"speed", "Speed", "Caption", R"({"mark":"bar"})", "x,y\r\n1,2\r\n"}}},
                       {"Empty", {}, {}, {}}};
  document.checks = {{"paged", "equality", true, "1e-6"}, {"h2o", "equality", false, ""}};
  document.failures = {{"ring", "not built"}};
  document.environment = {{"b", "2"}, {"a", "1"}};
  document.raw_files = {{"Samples", "../samples.jsonl"}};
  document.references = {{"what", "3x", "paper, table 2"}};
  return document;
}

std::string refusal(const ReportDocument& document) {
  try {
    check_document(document);
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(ReportDocument, JsonRoundTripKeepsEverything) {
  const ReportDocument document = full_document();
  EXPECT_TRUE(report_document_from_json(to_json(document)) == document);
  EXPECT_TRUE(report_document_from_json(to_json(ReportDocument{})) == ReportDocument{});
}

TEST(ReportDocument, JsonTextIsTheSameAfterARoundTrip) {
  const std::string text = to_json(full_document());
  EXPECT_EQ(to_json(report_document_from_json(text)), text);
}

TEST(ReportDocument, BytesThatAreNotUtf8DoNotBreakTheJson) {
  ReportDocument document;
  document.title = "bad \xff byte";
  EXPECT_EQ(report_document_from_json(to_json(document)).title, "bad \xef\xbf\xbd byte");
}

TEST(ReportDocument, RefusesTextThatIsNoDocument) {
  EXPECT_THROW(report_document_from_json("{"), UserError);
  EXPECT_THROW(report_document_from_json("[]"), UserError);
  EXPECT_THROW(report_document_from_json(R"({"schema":"kvlab-report/1"})"), UserError);
  try {
    report_document_from_json(R"({"schema":"kvlab-report/9"})");
    FAIL() << "accepted another schema";
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(), "[report.from_json] schema must be 'kvlab-report/1', got "
                               "'kvlab-report/9'");
  }
  std::string wrong_type = to_json(full_document());
  wrong_type.replace(wrong_type.find("\"passed\": true"), 14, "\"passed\": 1234");
  EXPECT_THROW(report_document_from_json(wrong_type), UserError);
}

TEST(ReportDocument, CheckNamesTheFaultyPart) {
  EXPECT_EQ(refusal(full_document()), "accepted");

  ReportDocument short_row = full_document();
  short_row.sections[0].tables[0].rows[1].pop_back();
  EXPECT_EQ(refusal(short_row), "[report.check] a row has one cell per column in table 'arms': "
                                "got 1, wanted exactly 2");

  ReportDocument path_as_id = full_document();
  path_as_id.sections[0].figures[0].id = "../evil";
  EXPECT_EQ(refusal(path_as_id), "[report.check] an id is 1 to 100 letters, digits, '_' or '-', "
                                 "got '../evil'");

  ReportDocument twice = full_document();
  twice.sections[0].figures[0].id = "arms";
  EXPECT_EQ(refusal(twice), "[report.check] id 'arms' occurs twice: tables and figures share the "
                            "data folder");

  ReportDocument no_json = full_document();
  no_json.sections[0].figures[0].vega_lite = "{";
  EXPECT_EQ(refusal(no_json), "[report.check] figure 'speed' has a specification that is not JSON");

  ReportDocument address = full_document();
  address.raw_files[0].path = "javascript:alert(1)";
  EXPECT_EQ(refusal(address), "[report.check] a raw file's path is relative to the report, got "
                              "'javascript:alert(1)'");
  address.raw_files[0].path = "/etc/passwd";
  EXPECT_NE(refusal(address), "accepted");
}

TEST(ReportDocument, CellsShowNumbersForPeople) {
  EXPECT_EQ(number_cell(3.14159, 2).text, "3.14");
  EXPECT_EQ(number_cell(3.14159, 2).number, 3.14159);
  EXPECT_EQ(number_cell(std::nan(""), 2), empty_cell());
  EXPECT_EQ(number_cell(std::numeric_limits<double>::infinity(), 2), empty_cell());
  EXPECT_EQ(count_cell(0).text, "0");
  EXPECT_EQ(count_cell(999).text, "999");
  EXPECT_EQ(count_cell(1000).text, "1,000");
  EXPECT_EQ(count_cell(-1048576).text, "-1,048,576");
  EXPECT_EQ(count_cell(-999).text, "-999");
}

TEST(ReportDocument, RatioCellsCarryTheirInterval) {
  RatioInterval ratio{1.8449, 1.7901, 1.9012, 0.95, 5};
  EXPECT_EQ(ratio_cell(ratio).text, "1.84 (1.79 to 1.90)");
  EXPECT_EQ(ratio_cell(ratio).low, 1.7901);
  EXPECT_EQ(ratio_cell({0.0123, 0.0119, 0.0128, 0.95, 5}).text, "0.0123 (0.0119 to 0.0128)");
  EXPECT_EQ(ratio_cell({5.2, 0.00674, 4015.4, 0.95, 2}).text, "5.20, interval too wide (n=2)");
  EXPECT_EQ(ratio_cell({18.171, 14.567, 222.66, 0.95, 5}).text, "18.17 (14.57 to 222.7)");
  EXPECT_EQ(ratio_cell({2.0, {}, {}, 0.95, 1}).text, "2.00 (n=1)");
  EXPECT_EQ(ratio_cell({1.02, 0.985, 1.061, 0.95, 5}).text, "1.02 (0.98 to 1.06)")
      << "as many digits as the ratio has, not as its lower end asks for";
  const RatioInterval wide{0.457309, 0.000015, 13517.774233, 0.95, 2};
  EXPECT_EQ(ratio_cell(wide).text, "0.457, interval too wide (n=2)");
  EXPECT_EQ(ratio_cell(wide).high, 13517.774233) << "the CSV keeps what was computed";
  EXPECT_EQ(ratio_cell({1.0, 0.02, 1.9, 0.95, 2}).text, "1.00 (0.02 to 1.90)");
}

TEST(ReportDocument, CsvQuotesWhatNeedsQuotes) {
  EXPECT_EQ(csv_field("plain text"), "plain text");
  EXPECT_EQ(csv_field("a,b"), "\"a,b\"");
  EXPECT_EQ(csv_field("say \"hi\""), "\"say \"\"hi\"\"\"");
  EXPECT_EQ(csv_field("two\nlines"), "\"two\nlines\"");
  EXPECT_EQ(csv_line({"a", "", "c"}), "a,,c\r\n");
}

TEST(ReportDocument, CsvReadsBackWhatItWrites) {
  const std::vector<std::vector<std::string>> records{
      {"a", "b,c", "d\"e"}, {"", "line\r\nbreak", ""}, {"x", "", "ü"}};
  std::string text;
  for (const auto& record : records) text += csv_line(record);
  EXPECT_EQ(parse_csv(text), records);
  EXPECT_EQ(parse_csv("a,b\n1,2"), (std::vector<std::vector<std::string>>{{"a", "b"}, {"1", "2"}}));
  EXPECT_TRUE(parse_csv("").empty());
  EXPECT_THROW(parse_csv("a,\"b"), UserError);
}

TEST(ReportDocument, TableCsvHasFullDigitsUnitsAndIntervals) {
  const ReportTable table = full_document().sections[0].tables[0];
  EXPECT_EQ(to_csv(table),
            "arm,speed [tokens/s],speed_low [tokens/s],speed_high [tokens/s]\r\n"
            "none,0.1,0.3333333333333333,0.6666666666666666\r\n"
            "paged,,,\r\n");
}

}  // namespace
}  // namespace kvlab
