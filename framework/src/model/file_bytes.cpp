#include "file_bytes.h"

#include <cstring>
#include <limits>

#include "kvlab/core/error.h"

namespace kvlab::model_file {

std::string in_quotes(std::string_view text) {
  constexpr size_t kLongest = 80;
  constexpr char kDigits[] = "0123456789abcdef";
  std::string result = "'";
  for (const char character : text.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(character);
    if (byte >= 0x20 && byte < 0x7f) {
      result += character;
    } else {
      result += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
    }
  }
  return result + (text.size() > kLongest ? "...'" : "'");
}

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

std::optional<uint64_t> multiply(uint64_t left, uint64_t right) {
  if (right != 0 && left > std::numeric_limits<uint64_t>::max() / right) return std::nullopt;
  return left * right;
}

void refuse_pickle(std::string_view operation, const std::string& path,
                   std::span<const uint8_t> bytes) {
  const bool pickle = bytes.size() >= 2 && bytes[0] == 0x80 && bytes[1] >= 2 && bytes[1] <= 5;
  const bool zip = bytes.size() >= 4 && std::memcmp(bytes.data(), "PK\x03\x04", 4) == 0;
  if (!pickle && !zip) return;
  // A safetensors file may start with the same bytes, since they are the length of its header.
  if (bytes.size() >= 9 && bytes[8] == '{' && bytes[4] == 0 && bytes[5] == 0 && bytes[6] == 0 &&
      bytes[7] == 0) {
    return;
  }
  detail::throw_user(detail::concat(
      "[", operation, "] ", path, " is ",
      zip ? "a zip archive (PyTorch or TorchScript)" : "a pickle",
      ", which may run code when it is read and is never opened; convert it to safetensors"));
}

}  // namespace kvlab::model_file
