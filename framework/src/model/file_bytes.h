// Small checked operations that both tensor file readers and the layouts need.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kvlab::model_file {

/// A name from a file for an error message: in quotes, bytes outside printable ASCII escaped, cut
/// after 80 characters.
std::string in_quotes(std::string_view text);

/// "[2, 3]".
std::string shape_text(std::span<const int64_t> shape);

/// The product, or nothing where it does not fit.
std::optional<uint64_t> multiply(uint64_t left, uint64_t right);

/// Throws UserError where the first bytes are those of a pickle or of a zip archive, which is how
/// PyTorch's own files and TorchScript begin. `operation` is the message's prefix.
void refuse_pickle(std::string_view operation, const std::string& path,
                   std::span<const uint8_t> bytes);

}  // namespace kvlab::model_file
