// Writes a ReportDocument as a folder: Markdown, one HTML page that needs no network, the document
// itself, and for every figure its specification, drawing and numbers.
#pragma once

#include <string>
#include <vector>

#include "kvlab/runtime/report_document.h"

namespace kvlab {

/// Where the figure renderer is. Figures stay undrawn where both paths are empty, and where they
/// lead to nothing; the report says which, and how to draw them.
struct ReportOptions {
  std::string renderer_python;  ///< a Python that has vl-convert-python
  std::string renderer_script;  ///< tools/report/render_figures.py
  int renderer_timeout_seconds = 120;
};

/// What was written, and what could not be done without losing the report.
struct WrittenReport {
  std::string html;                   ///< path of index.html
  std::string markdown;               ///< path of report.md
  int figures = 0;                    ///< in the document
  int figures_rendered = 0;           ///< of which have an SVG
  std::vector<std::string> warnings;  ///< also shown in the report
};

/// Finds the renderer: Python from the environment variable KVLAB_PYTHON, else
/// `source_dir`/.deps/venv/bin/python where that exists; script from `source_dir`/tools/report.
ReportOptions find_renderer(const std::string& source_dir);

/// Writes report.md, index.html, document.json, fig/<id>.vl.json, fig/<id>.svg and data/<id>.csv
/// into `folder`. Everything is written beside it and renamed into place, so `folder` is either the
/// old report or the complete new one. An earlier report there is replaced; a folder that holds
/// anything else is refused. Figures that cannot be drawn are a warning, not an error. Throws
/// UserError where the document is malformed (see `check_document`) or the files cannot be
/// written.
WrittenReport write_report(const ReportDocument& document, const std::string& folder,
                           const ReportOptions& options);

}  // namespace kvlab
