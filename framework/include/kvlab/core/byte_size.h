// Numbers of bytes as people write them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kvlab {

/// Reads "8GB" (powers of ten), "512MiB" (powers of two) or plain bytes; a decimal point and a
/// space before the unit are allowed. Nothing for anything else, and for less than one byte.
std::optional<int64_t> parse_byte_size(std::string_view text);

/// "2 GB", "1.5 MB", "512 B": powers of ten, at most three digits.
std::string format_byte_size(int64_t bytes);

}  // namespace kvlab
