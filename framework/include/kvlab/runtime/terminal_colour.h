// Colour on a terminal, for verdicts alone.
#pragma once

#include <string>

namespace kvlab {

/// Whether to colour what is written to a file descriptor: it is a terminal, NO_COLOR is unset or
/// empty, and TERM is set and not "dumb".
bool wants_colour(int descriptor);

/// Puts colour around the verdicts of a text (see kvlab/runtime/verdict_words.h) and leaves the
/// rest.
std::string coloured_verdicts(const std::string& text);

}  // namespace kvlab
