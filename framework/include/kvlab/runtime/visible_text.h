// Names and messages of others, made safe to show: a control character becomes a picture of itself,
// so that no name can drive a terminal, break a line of a log or turn the reading direction.
#pragma once

#include <string>
#include <string_view>

namespace kvlab {

enum class LineBreaks {
  keep,  ///< line feeds and tabs stay
  show,  ///< they become pictures too: the text is one line
};

/// Replaces what is not UTF-8 by U+FFFD, control characters by their pictures (U+2400 and on), and
/// those that override the reading direction or end a line by their number, as in "⟨U+202E⟩". All
/// other text is returned as it is.
std::string visible_text(std::string_view text, LineBreaks breaks = LineBreaks::show);

}  // namespace kvlab
