#include "gguf_parser.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "file_bytes.h"
#include "gguf_dequantise.h"
#include "kvlab/core/error.h"

namespace kvlab {

using gguf::ValueType;
using model_file::in_quotes;
using model_file::multiply;

namespace gguf {

static_assert(std::endian::native == std::endian::little, "tensor files are little-endian");

uint64_t value_bytes(uint32_t type) {
  switch (static_cast<ValueType>(type)) {
    case ValueType::u8:
    case ValueType::i8:
    case ValueType::boolean: return 1;
    case ValueType::u16:
    case ValueType::i16: return 2;
    case ValueType::u32:
    case ValueType::i32:
    case ValueType::f32: return 4;
    case ValueType::u64:
    case ValueType::i64:
    case ValueType::f64: return 8;
    case ValueType::text: return 8;    // its length
    case ValueType::array: return 12;  // its element type and count
  }
  return 0;
}

}  // namespace gguf

namespace {

constexpr uint64_t kLongestKey = 65'535;
constexpr uint64_t kLongestTensorName = 64;
constexpr uint32_t kMostDimensions = 4;
constexpr int kDeepestArray = 4;
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kLeastPairBytes = 8 + 1 + 4 + 1;            // key, value type, value
constexpr uint64_t kLeastTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;  // name, one size, type, offset

}  // namespace

std::string GgufFile::Parser::where() const { return "[model.gguf.open] " + file_.path() + ": "; }

void GgufFile::Parser::require(uint64_t bytes, const std::string& what) const {
  KVLAB_CHECK(bytes <= remaining(), where(), "the file ends inside ", what, ", which needs ", bytes,
              " bytes at ", position_, " where ", remaining(), " are left");
}

template <typename T>
T GgufFile::Parser::read(const std::string& what) {
  require(sizeof(T), what);
  T value;
  std::memcpy(&value, bytes_.data() + position_, sizeof(T));
  position_ += sizeof(T);
  return value;
}

std::string_view GgufFile::Parser::read_text(const std::string& what) {
  const auto length = read<uint64_t>("the length of " + what);
  require(length, what);
  const std::string_view text(reinterpret_cast<const char*>(bytes_.data()) + position_,
                              static_cast<size_t>(length));
  position_ += length;
  return text;
}

void GgufFile::Parser::parse() {
  model_file::refuse_pickle("model.gguf.open", file_.path(), bytes_);
  KVLAB_CHECK(bytes_.size() >= 4 && std::memcmp(bytes_.data(), "GGUF", 4) == 0, where(),
              "a GGUF file starts with the letters GGUF");
  position_ = 4;
  file_.version_ = read<uint32_t>("the version");
  KVLAB_CHECK((file_.version_ & 0xffff) != 0, where(),
              "the file is big-endian; convert it to little-endian");
  KVLAB_CHECK(file_.version_ == 2 || file_.version_ == 3, where(),
              "GGUF versions 2 and 3 are read, ", "this file has version ", file_.version_);
  const auto tensors = read<uint64_t>("the number of tensors");
  const auto pairs = read<uint64_t>("the number of metadata pairs");
  KVLAB_CHECK(pairs <= remaining() / kLeastPairBytes, where(), "the file claims ", pairs,
              " metadata pairs, more than its ", remaining(), " remaining bytes can hold");
  KVLAB_CHECK(tensors <= remaining() / kLeastTensorBytes, where(), "the file claims ", tensors,
              " tensors, more than its ", remaining(), " remaining bytes can hold");
  for (uint64_t i = 0; i < pairs; ++i) read_pair();
  const uint64_t alignment = read_alignment();
  std::vector<std::pair<std::string, GgufTensorInfo>> table;
  for (uint64_t i = 0; i < tensors; ++i) table.push_back(read_tensor_info(alignment));
  place_tensors(std::move(table), alignment);
}

void GgufFile::Parser::read_pair() {
  const std::string key(read_text("a metadata key"));
  KVLAB_CHECK(!key.empty() && key.size() <= kLongestKey, where(), "a metadata key has 1 to ",
              kLongestKey, " bytes, got ", key.size());
  const std::string what = "the value of " + in_quotes(key);
  Value value;
  value.type = read<uint32_t>("the type of " + in_quotes(key));
  const bool array = value.type == static_cast<uint32_t>(ValueType::array);
  value.offset = position_;
  if (array) {
    require(gguf::value_bytes(value.type), what);
    std::memcpy(&value.element_type, bytes_.data() + position_, sizeof(uint32_t));
    std::memcpy(&value.count, bytes_.data() + position_ + sizeof(uint32_t), sizeof(uint64_t));
    value.offset += gguf::value_bytes(value.type);
  }
  skip_value(value.type, what, 0);
  KVLAB_CHECK(file_.values_.emplace(key, value).second, where(), "metadata key ", in_quotes(key),
              " stands twice");
}

void GgufFile::Parser::skip_value(uint32_t type, const std::string& what, int depth) {
  const uint64_t bytes = gguf::value_bytes(type);
  KVLAB_CHECK(bytes > 0, where(), what, " has the unknown value type ", type);
  switch (static_cast<ValueType>(type)) {
    case ValueType::text: read_text(what); return;
    case ValueType::array: skip_array(what, depth + 1); return;
    case ValueType::boolean: {
      const auto value = read<uint8_t>(what);
      KVLAB_CHECK(value <= 1, where(), what, " is a boolean and must be 0 or 1, got ",
                  static_cast<int>(value));
      return;
    }
    default: require(bytes, what); position_ += bytes;
  }
}

void GgufFile::Parser::skip_array(const std::string& what, int depth) {
  KVLAB_CHECK(depth <= kDeepestArray, where(), what, " nests arrays deeper than ", kDeepestArray,
              " levels");
  const auto type = read<uint32_t>("the element type of " + what);
  const auto count = read<uint64_t>("the element count of " + what);
  const uint64_t bytes = gguf::value_bytes(type);
  KVLAB_CHECK(bytes > 0, where(), what, " has the unknown element type ", type);
  KVLAB_CHECK(count <= remaining() / bytes, where(), what, " claims ", count,
              " elements, more than the remaining ", remaining(), " bytes can hold");
  const auto kind = static_cast<ValueType>(type);
  if (kind == ValueType::text || kind == ValueType::array || kind == ValueType::boolean) {
    for (uint64_t i = 0; i < count; ++i) skip_value(type, what, depth);
  } else {
    position_ += count * bytes;
  }
}

uint64_t GgufFile::Parser::read_alignment() const {
  const auto found = file_.values_.find("general.alignment");
  if (found == file_.values_.end()) return kDefaultAlignment;
  KVLAB_CHECK(found->second.type == static_cast<uint32_t>(ValueType::u32), where(),
              "general.alignment must be of type uint32, number 4, got type number ",
              found->second.type);
  uint32_t alignment = 0;
  std::memcpy(&alignment, bytes_.data() + found->second.offset, sizeof(alignment));
  KVLAB_CHECK(std::has_single_bit(alignment), where(),
              "general.alignment must be a power of two, got ", alignment);
  return alignment;
}

std::pair<std::string, GgufTensorInfo> GgufFile::Parser::read_tensor_info(uint64_t alignment) {
  std::string name(read_text("a tensor name"));
  KVLAB_CHECK(!name.empty() && name.size() <= kLongestTensorName, where(),
              "a tensor name has 1 to ", kLongestTensorName, " bytes, got ", name.size());
  const std::string what = "tensor " + in_quotes(name);
  const auto dimensions = read<uint32_t>("the dimensions of " + what);
  KVLAB_CHECK(dimensions >= 1 && dimensions <= kMostDimensions, where(), what, " must have 1 to ",
              kMostDimensions, " dimensions, got ", dimensions);
  GgufTensorInfo info;
  uint64_t elements = 1;
  for (uint32_t i = 0; i < dimensions; ++i) {
    const auto size = read<uint64_t>("the shape of " + what);
    KVLAB_CHECK(size > 0, where(), what, " has a dimension of size zero");
    const auto product = multiply(elements, size);
    KVLAB_CHECK(product && *product <= uint64_t{std::numeric_limits<int64_t>::max()}, where(), what,
                ": the number of elements overflows 63 bits, ", elements, " * ", size);
    elements = *product;
    info.shape.push_back(static_cast<int64_t>(size));
  }
  const auto fastest = static_cast<uint64_t>(info.shape.front());
  std::reverse(info.shape.begin(), info.shape.end());
  const auto number = read<uint32_t>("the type of " + what);
  const auto type = gguf::readable_type(number);
  KVLAB_CHECK(type.has_value(), where(), what, " has type ", gguf::type_name(number),
              ", which is not read; use a file with F32, F16, BF16, Q8_0, Q4_0 or Q4_1");
  info.type = *type;
  const gguf::Block block = gguf::block_of(*type);
  KVLAB_CHECK(fastest % block.elements == 0, where(), what, ": rows of ", to_string(*type),
              " hold whole blocks of ", block.elements, " elements, got ", fastest);
  const auto bytes = multiply(elements / block.elements, block.bytes);
  KVLAB_CHECK(bytes.has_value(), where(), what, ": the number of bytes overflows 64 bits, ",
              elements, " elements of ", to_string(*type));
  info.bytes = *bytes;
  info.begin = read<uint64_t>("the offset of " + what);
  KVLAB_CHECK(info.begin % alignment == 0, where(), what, " starts at offset ", info.begin,
              ", which is no multiple of the alignment ", alignment);
  return {std::move(name), std::move(info)};
}

void GgufFile::Parser::place_tensors(std::vector<std::pair<std::string, GgufTensorInfo>> table,
                                     uint64_t alignment) {
  // Cannot overflow: the position is inside the file and the alignment has 32 bits.
  const uint64_t data_start = (position_ + alignment - 1) / alignment * alignment;
  KVLAB_CHECK(table.empty() || data_start <= bytes_.size(), where(), "the file ends at ",
              bytes_.size(), ", before its tensor data, which starts at ", data_start);
  const uint64_t data_bytes = table.empty() ? 0 : bytes_.size() - data_start;
  std::vector<const GgufTensorInfo*> order;
  std::map<const GgufTensorInfo*, std::string> names;
  for (auto& [name, info] : table) {
    KVLAB_CHECK(info.begin <= data_bytes && info.bytes <= data_bytes - info.begin, where(),
                "tensor ", in_quotes(name), " spans ", info.bytes, " bytes from offset ",
                info.begin, ", but the file holds ", data_bytes, " bytes of tensor data");
    info.begin += data_start;
    const auto [place, fresh] = file_.tensors_.emplace(name, info);
    KVLAB_CHECK(fresh, where(), "tensor ", in_quotes(name), " stands twice");
    order.push_back(&place->second);
    names.emplace(&place->second, name);
  }
  std::sort(order.begin(), order.end(),
            [](const GgufTensorInfo* a, const GgufTensorInfo* b) { return a->begin < b->begin; });
  for (size_t i = 1; i < order.size(); ++i) {
    KVLAB_CHECK(order[i - 1]->begin + order[i - 1]->bytes <= order[i]->begin, where(), "tensor ",
                in_quotes(names[order[i]]), " overlaps tensor ", in_quotes(names[order[i - 1]]));
  }
}

}  // namespace kvlab
