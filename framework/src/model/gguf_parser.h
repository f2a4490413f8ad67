// Reads and checks the header of a GGUF file from its first to its last byte.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvlab/model/tensor_file.h"

namespace kvlab {

namespace gguf {

/// Types of metadata values; the numbers are those in the file.
enum class ValueType : uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  text = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12
};

/// The least number of bytes a value takes; 0 for a type that does not exist.
uint64_t value_bytes(uint32_t type);

}  // namespace gguf

class GgufFile::Parser {
 public:
  explicit Parser(GgufFile& file) : file_(file), bytes_(file.file_.bytes()) {}

  /// Fills the file's version, metadata and tensor table.
  void parse();

 private:
  std::string where() const;
  uint64_t remaining() const { return bytes_.size() - position_; }
  void require(uint64_t bytes, const std::string& what) const;
  template <typename T>
  T read(const std::string& what);
  std::string_view read_text(const std::string& what);
  void read_pair();
  void skip_value(uint32_t type, const std::string& what, int depth);
  void skip_array(const std::string& what, int depth);
  uint64_t read_alignment() const;
  std::pair<std::string, GgufTensorInfo> read_tensor_info(uint64_t alignment);
  void place_tensors(std::vector<std::pair<std::string, GgufTensorInfo>> table, uint64_t alignment);

  GgufFile& file_;
  std::span<const uint8_t> bytes_;
  uint64_t position_ = 0;
};

}  // namespace kvlab
