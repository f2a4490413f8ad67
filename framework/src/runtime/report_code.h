// What both renderers of a report take for code: text between lone backticks.
#pragma once

#include <cstddef>
#include <string>

namespace kvlab {

/// The next backtick from `from` on that stands alone; npos where there is none. Backticks side by
/// side enclose nothing: Markdown reads a run of them as one longer fence.
std::size_t lone_backtick(const std::string& text, std::size_t from);

}  // namespace kvlab
