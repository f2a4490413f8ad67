// Reading lists of whole numbers and sizes in bytes as they are typed on a command line.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kvlab {

/// Reads "1,2,3"; spaces may stand between numbers, with or without a comma. Blank text gives no
/// number. Throws UserError with the character's position for anything else, and for a number
/// outside `least` to `most`. `option` stands in the message, e.g. "--ids".
std::vector<int64_t> parse_number_list(std::string_view text, const std::string& option,
                                       int64_t least, int64_t most);

/// Reads token ids in the same form. Throws UserError.
std::vector<int32_t> parse_ids(std::string_view text, const std::string& option);

/// Reads a size as `parse_byte_size` does. Throws UserError for anything else.
int64_t parse_bytes(std::string_view text, const std::string& option);

}  // namespace kvlab
