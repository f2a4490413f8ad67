// What an experiment found, before it becomes Markdown or HTML: every experiment kind fills one
// ReportDocument and the writer turns it into files. Holds text and numbers only, so that a report
// can be drawn again from its JSON without running the experiment again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvlab/runtime/statistics.h"

namespace kvlab {

/// Which way a number is better.
enum class BetterDirection { none, higher, lower };

/// How a cell is shown. `best` is bold; set it only where the interval excludes the runner-up.
enum class CellEmphasis { normal, best, warning, muted };

/// One cell of a table. The text is shown as it is; the number is what sorting and the CSV use.
struct ReportCell {
  std::string text = {};
  std::optional<double> number = {};
  CellEmphasis emphasis = CellEmphasis::normal;
  std::optional<double> low = {}, high = {};  ///< ends of an interval: extra columns of the CSV

  bool operator==(const ReportCell&) const = default;
};

/// Makes a cell of words.
ReportCell text_cell(std::string text, CellEmphasis emphasis = CellEmphasis::normal);

/// Makes a cell with `decimals` digits after the point. A value that is not finite (not measured,
/// undefined) becomes a muted dash without a number.
ReportCell number_cell(double value, int decimals, CellEmphasis emphasis = CellEmphasis::normal);

/// Makes a cell of a whole number with thousands separators: "1,048,576".
ReportCell count_cell(int64_t value, CellEmphasis emphasis = CellEmphasis::normal);

/// Makes a cell like "1.84 (1.79 to 1.90)", or "1.84 (n=1)" where there is no interval.
ReportCell ratio_cell(const RatioInterval& ratio, CellEmphasis emphasis = CellEmphasis::normal);

/// Makes a muted cell with a dash: not applicable or not measured.
ReportCell empty_cell();

struct ReportColumn {
  std::string key = {};    ///< name in the CSV, unique in its table
  std::string title = {};  ///< heading for people
  std::string unit = {};   ///< "ms", "tokens/s"; empty for none
  BetterDirection direction = BetterDirection::none;

  bool operator==(const ReportColumn&) const = default;
};

/// A table. Every row has one cell per column.
struct ReportTable {
  std::string id = {};  ///< its file name: letters, digits, '_' and '-'; unique in the document
  std::string title = {};
  std::vector<ReportColumn> columns = {};
  std::vector<std::vector<ReportCell>> rows = {};
  std::string note = {};  ///< shown under the table; empty for none

  bool operator==(const ReportTable&) const = default;
};

/// A figure as data: kvlab/runtime/figures.h builds them.
struct ReportFigure {
  std::string id = {};  ///< file name: letters, digits, '_' and '-'; unique in the document
  std::string title = {};
  std::string caption = {};
  std::string vega_lite = {};  ///< Vega-Lite specification, JSON, data inline
  std::string csv = {};        ///< the numbers behind it, RFC 4180, first line the column names

  bool operator==(const ReportFigure&) const = default;
};

/// A part of the report: its paragraphs, then its tables, then its figures.
struct ReportSection {
  std::string title = {};
  std::vector<std::string> paragraphs = {};  ///< plain text; `code` in backticks is set as code
  std::vector<ReportTable> tables = {};
  std::vector<ReportFigure> figures = {};

  bool operator==(const ReportSection&) const = default;
};

/// One correctness check of one arm.
struct ReportCheck {
  std::string arm = {};
  std::string check = {};   ///< "equality to none", "token-forwards as predicted"
  bool passed = false;
  std::string detail = {};  ///< the numbers behind the verdict

  bool operator==(const ReportCheck&) const = default;
};

/// An arm or case that failed or was skipped, and why.
struct ReportFailure {
  std::string what = {};
  std::string reason = {};

  bool operator==(const ReportFailure&) const = default;
};

struct ReportFact {
  std::string name = {};
  std::string value = {};

  bool operator==(const ReportFact&) const = default;
};

/// A file beside the report.
struct ReportLink {
  std::string title = {};
  std::string path = {};  ///< relative to the report's folder: "../samples.jsonl"

  bool operator==(const ReportLink&) const = default;
};

/// A published figure the results stand beside.
struct ReportReference {
  std::string what = {};    ///< "paged attention, block size 16: cost against contiguous"
  std::string value = {};   ///< as published, with unit
  std::string source = {};  ///< paper, section or table; an http(s) address becomes a link

  bool operator==(const ReportReference&) const = default;
};

/// A whole report. Lists may be empty; the writer leaves empty parts out, except for the checks,
/// whose absence is said in words.
struct ReportDocument {
  std::string title = {};
  std::string experiment = {};      ///< the experiment kind
  std::string question = {};
  std::string primary_metric = {};  ///< named before the run, with unit
  std::string control = {};         ///< name of the control arm
  std::vector<std::string> varied = {};
  std::vector<std::string> held_fixed = {};
  std::string command = {};         ///< repeats the run
  std::vector<std::string> conclusions = {};  ///< plain sentences; "No firm conclusion" is allowed
  std::vector<ReportSection> sections = {};
  std::vector<ReportCheck> checks = {};
  std::vector<ReportFailure> failures = {};
  std::vector<ReportFact> environment = {};  ///< in the order shown
  std::vector<ReportLink> raw_files = {};
  std::vector<ReportReference> references = {};

  bool operator==(const ReportDocument&) const = default;
};

/// Throws UserError where an id is not a plain file name or occurs twice, a row does not have one
/// cell per column, a column key occurs twice, or a link or figure is unusable.
void check_document(const ReportDocument& document);

/// Writes a document as JSON text (schema "kvlab-report/1"). Bytes that are not UTF-8 become
/// U+FFFD.
std::string to_json(const ReportDocument& document);

/// Reads what `to_json` writes. Throws UserError for other text, another schema or a wrong type.
ReportDocument report_document_from_json(std::string_view text);

/// Quotes one CSV field after RFC 4180 where it needs quotes.
std::string csv_field(std::string_view text);

/// Joins fields into one CSV line that ends in CR LF.
std::string csv_line(const std::vector<std::string>& fields);

/// Splits CSV text into records. Throws UserError for an unfinished quoted field.
std::vector<std::vector<std::string>> parse_csv(const std::string& text);

/// Writes a table as CSV: column keys (with the unit, as in "ttft [ms]"), then rows. Cells with a
/// number are written with all its digits and not as their text; the others as `csv_text_field`.
std::string to_csv(const ReportTable& table);

}  // namespace kvlab
