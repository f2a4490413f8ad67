// The element types of GGUF: how they are stored and how they become float32.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "kvlab/model/tensor_file.h"

namespace kvlab::gguf {

/// A type stores `elements` numbers in `bytes` bytes.
struct Block {
  uint64_t elements = 1;
  uint64_t bytes = 0;
};

Block block_of(GgufType type);

/// The type with this number in the file, or nothing where it is not read.
std::optional<GgufType> readable_type(uint32_t number);

/// The format's name of any type it ever had, else "number N".
std::string type_name(uint32_t number);

/// Writes `elements` numbers to `target`. Requires: `elements` is a multiple of the block's, and
/// `source` holds that many blocks.
void dequantise(GgufType type, const uint8_t* source, int64_t elements, float* target);

}  // namespace kvlab::gguf
