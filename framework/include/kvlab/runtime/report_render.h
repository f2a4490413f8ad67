// The two renderings of a ReportDocument, as text. `write_report` puts them into files.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "kvlab/runtime/report_document.h"

namespace kvlab {

/// What is known about the drawings when a document is rendered.
struct RenderedFigures {
  std::map<std::string, std::string> svg;  ///< text of the drawing by figure id
  std::vector<std::string> warnings;       ///< why others are missing
};

/// Renders Markdown (GitHub tables). Figures with a drawing are shown as images of fig/<id>.svg,
/// others by a link to their numbers.
std::string render_markdown(const ReportDocument& document, const RenderedFigures& figures);

/// Renders one HTML page that loads nothing: styles, drawings and the sorting script are inline.
/// Figures without a drawing are shown as a table of their numbers. All text is escaped.
std::string render_html(const ReportDocument& document, const RenderedFigures& figures);

}  // namespace kvlab
