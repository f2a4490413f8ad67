#include <ATen/ops/empty.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "file_bytes.h"
#include "gguf_dequantise.h"
#include "gguf_parser.h"
#include "kvlab/core/error.h"
#include "kvlab/model/tensor_file.h"

namespace kvlab {

using gguf::ValueType;
using model_file::in_quotes;

namespace {

template <typename T>
T load(const uint8_t* place) {
  T value;
  std::memcpy(&value, place, sizeof(T));
  return value;
}

// A whole number of any integer type; nothing for other types and above the range of int64.
std::optional<int64_t> load_integer(uint32_t type, const uint8_t* place) {
  switch (static_cast<ValueType>(type)) {
    case ValueType::u8: return load<uint8_t>(place);
    case ValueType::i8: return load<int8_t>(place);
    case ValueType::u16: return load<uint16_t>(place);
    case ValueType::i16: return load<int16_t>(place);
    case ValueType::u32: return load<uint32_t>(place);
    case ValueType::i32: return load<int32_t>(place);
    case ValueType::i64: return load<int64_t>(place);
    case ValueType::u64: {
      const auto value = load<uint64_t>(place);
      if (value > uint64_t{std::numeric_limits<int64_t>::max()}) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    default: return std::nullopt;
  }
}

const char* value_type_name(uint32_t type) {
  switch (static_cast<ValueType>(type)) {
    case ValueType::f32:
    case ValueType::f64: return "a floating-point number";
    case ValueType::boolean: return "a boolean";
    case ValueType::text: return "text";
    case ValueType::array: return "an array";
    default: return "an integer";
  }
}

}  // namespace

GgufFile::GgufFile(const std::string& path) : file_(path) { Parser(*this).parse(); }

std::vector<std::string> GgufFile::keys() const {
  std::vector<std::string> keys;
  keys.reserve(values_.size());
  for (const auto& [key, unused] : values_) keys.push_back(key);
  return keys;
}

const GgufFile::Value* GgufFile::find(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

void GgufFile::wrong_type(std::string_view key, const Value& value, const char* wanted) const {
  detail::throw_user(detail::concat("[model.gguf.metadata] ", path(), ": key ", in_quotes(key),
                                    " holds ", value_type_name(value.type), ", wanted ", wanted));
}

std::optional<int64_t> GgufFile::integer(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto number = load_integer(value->type, file_.bytes().data() + value->offset);
  if (!number || *number < 0) {
    wrong_type(key, *value, "a whole number from 0 to 2^63 - 1");
  }
  return number;
}

std::optional<double> GgufFile::number(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) return std::nullopt;
  const uint8_t* place = file_.bytes().data() + value->offset;
  double number = std::numeric_limits<double>::quiet_NaN();
  if (value->type == static_cast<uint32_t>(ValueType::f32)) {
    number = load<float>(place);
  } else if (value->type == static_cast<uint32_t>(ValueType::f64)) {
    number = load<double>(place);
  } else if (const auto whole = load_integer(value->type, place)) {
    number = static_cast<double>(*whole);
  }
  if (!std::isfinite(number)) wrong_type(key, *value, "a finite number");
  return number;
}

std::optional<bool> GgufFile::boolean(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != static_cast<uint32_t>(ValueType::boolean))
    wrong_type(key, *value, "a boolean");
  return file_.bytes()[value->offset] != 0;
}

std::optional<std::string> GgufFile::text(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != static_cast<uint32_t>(ValueType::text)) wrong_type(key, *value, "text");
  const uint8_t* place = file_.bytes().data() + value->offset;
  return std::string(reinterpret_cast<const char*>(place) + sizeof(uint64_t),
                     static_cast<size_t>(load<uint64_t>(place)));
}

std::optional<std::vector<std::string>> GgufFile::texts(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != static_cast<uint32_t>(ValueType::array) ||
      value->element_type != static_cast<uint32_t>(ValueType::text)) {
    wrong_type(key, *value, "an array of text");
  }
  std::vector<std::string> texts;
  texts.reserve(static_cast<size_t>(value->count));
  const uint8_t* place = file_.bytes().data() + value->offset;
  for (uint64_t i = 0; i < value->count; ++i) {
    const auto length = load<uint64_t>(place);
    place += sizeof(uint64_t);
    texts.emplace_back(reinterpret_cast<const char*>(place), static_cast<size_t>(length));
    place += length;
  }
  return texts;
}

std::optional<std::vector<int64_t>> GgufFile::integers(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != static_cast<uint32_t>(ValueType::array)) {
    wrong_type(key, *value, "an array of whole numbers");
  }
  std::vector<int64_t> numbers;
  const uint8_t* place = file_.bytes().data() + value->offset;
  const uint64_t bytes = gguf::value_bytes(value->element_type);
  for (uint64_t i = 0; i < value->count; ++i) {
    const auto number = load_integer(value->element_type, place + i * bytes);
    if (!number) wrong_type(key, *value, "an array of whole numbers");
    numbers.push_back(*number);
  }
  return numbers;
}

std::vector<std::string> GgufFile::names() const {
  std::vector<std::string> names;
  names.reserve(tensors_.size());
  for (const auto& [name, unused] : tensors_) names.push_back(name);
  return names;
}

const GgufTensorInfo& GgufFile::info(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    throw MissingError(
        detail::concat("[model.gguf.tensor] ", path(), " has no tensor ", in_quotes(name)));
  }
  return found->second;
}

at::Tensor GgufFile::tensor(std::string_view name) const {
  const GgufTensorInfo& stored = info(name);
  at::Tensor result = at::empty(stored.shape, at::TensorOptions().dtype(at::kFloat));
  gguf::dequantise(stored.type, file_.bytes().data() + stored.begin, result.numel(),
                   result.mutable_data_ptr<float>());
  return result;
}

}  // namespace kvlab
