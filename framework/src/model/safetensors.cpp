#include <ATen/ops/empty.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "file_bytes.h"
#include "kvlab/core/error.h"
#include "kvlab/model/tensor_file.h"
#include "strict_json.h"

namespace kvlab {

namespace {

using model_file::in_quotes;
using model_file::multiply;
using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "tensor files are little-endian");

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kLongestHeader = 100'000'000;

// Bits per element of every dtype of the format.
const std::map<std::string, uint64_t, std::less<>>& dtype_bits() {
  static const std::map<std::string, uint64_t, std::less<>> bits = {
      {"BOOL", 8}, {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
      {"I8", 8},   {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"U16", 16},
      {"I16", 16}, {"F16", 16},    {"BF16", 16},   {"U32", 32},    {"I32", 32},
      {"F32", 32}, {"U64", 64},    {"I64", 64},    {"F64", 64},    {"C64", 64}};
  return bits;
}

class HeaderReader {
 public:
  explicit HeaderReader(const MappedFile& file) : path_(file.path()) {
    const auto bytes = file.bytes();
    model_file::refuse_pickle("model.safetensors.open", path_, bytes);
    KVLAB_CHECK(bytes.size() >= kLengthBytes, where(),
                "a safetensors file has at least 8 bytes, got ", bytes.size());
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), kLengthBytes);
    KVLAB_CHECK(length <= kLongestHeader, where(), "a header has at most ", kLongestHeader,
                " bytes, this one claims ", length);
    KVLAB_CHECK(length <= bytes.size() - kLengthBytes, where(), "the header claims ", length,
                " bytes, but only ", bytes.size() - kLengthBytes, " follow");
    KVLAB_CHECK(length > 0 && bytes[kLengthBytes] == '{', where(),
                "the header does not start with '{'");
    data_start_ = kLengthBytes + length;
    data_bytes_ = bytes.size() - data_start_;
    // The header, an entry, its list: three levels and no more.
    header_ = model_file::parse_object(
        {reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, static_cast<size_t>(length)},
        "model.safetensors.open", path_, 3);
  }

  uint64_t data_start() const { return data_start_; }

  void read(std::map<std::string, SafetensorsEntry, std::less<>>& entries,
            std::map<std::string, std::string>& metadata) const {
    for (const auto& [name, value] : header_.items()) {
      if (name == "__metadata__") {
        read_metadata(value, metadata);
      } else {
        entries.emplace(name, read_entry(name, value));
      }
    }
    check_layout(entries);
  }

 private:
  std::string where() const { return "[model.safetensors.open] " + path_ + ": "; }

  void read_metadata(const json& value, std::map<std::string, std::string>& metadata) const {
    KVLAB_CHECK(value.is_object(), where(), "__metadata__ is no object");
    for (const auto& [key, text] : value.items()) {
      KVLAB_CHECK(text.is_string(), where(), "__metadata__ holds text only, but ", in_quotes(key),
                  " is a ", text.type_name());
      metadata.emplace(key, text.get<std::string>());
    }
  }

  SafetensorsEntry read_entry(const std::string& name, const json& value) const {
    const std::string tensor = where() + "tensor " + in_quotes(name);
    KVLAB_CHECK(value.is_object(), tensor, " is described by a ", value.type_name(),
                ", not an object");
    for (const auto& [key, unused] : value.items()) {
      KVLAB_CHECK(key == "dtype" || key == "shape" || key == "data_offsets", tensor,
                  " has an unknown key ", in_quotes(key));
    }
    for (const char* key : {"dtype", "shape", "data_offsets"}) {
      KVLAB_CHECK(value.contains(key), tensor, " has no ", key);
    }
    SafetensorsEntry entry;
    const json& dtype = value["dtype"];
    KVLAB_CHECK(dtype.is_string(), tensor, ": dtype is a ", dtype.type_name(), ", not text");
    entry.dtype = dtype.get<std::string>();
    const auto bits = dtype_bits().find(entry.dtype);
    KVLAB_CHECK(bits != dtype_bits().end(), tensor, " has an unknown dtype ",
                in_quotes(entry.dtype));

    const json& shape = value["shape"];
    KVLAB_CHECK(shape.is_array(), tensor, ": shape is a ", shape.type_name(), ", not a list");
    uint64_t elements = 1;
    for (const json& size : shape) {
      const uint64_t checked = whole_number(size, tensor + ": a size in shape");
      KVLAB_CHECK(checked <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()), tensor,
                  ": a size in shape is too large, ", checked);
      entry.shape.push_back(static_cast<int64_t>(checked));
      const auto product = multiply(elements, checked);
      KVLAB_CHECK(product.has_value(), tensor, ": the number of elements overflows 64 bits, ",
                  elements, " * ", checked);
      elements = *product;
    }
    const auto total_bits = multiply(elements, bits->second);
    KVLAB_CHECK(total_bits.has_value(), tensor, ": the number of bytes overflows 64 bits, ",
                elements, " elements of ", entry.dtype);
    KVLAB_CHECK(*total_bits % 8 == 0, tensor, ": ", elements, " elements of ", entry.dtype,
                " do not fill whole bytes");

    const json& offsets = value["data_offsets"];
    KVLAB_CHECK(offsets.is_array(), tensor, ": data_offsets is a ", offsets.type_name(),
                ", not a list");
    KVLAB_CHECK(offsets.size() == 2, tensor, ": data_offsets has ", offsets.size(),
                " numbers, wanted begin and end");
    entry.begin = whole_number(offsets[0], tensor + ": the begin in data_offsets");
    entry.end = whole_number(offsets[1], tensor + ": the end in data_offsets");
    KVLAB_CHECK(entry.begin <= entry.end, tensor, ": data_offsets begins at ", entry.begin,
                " after its end ", entry.end);
    KVLAB_CHECK(entry.end <= data_bytes_, tensor, ": data_offsets ends at ", entry.end,
                ", but the file holds ", data_bytes_, " bytes of data");
    KVLAB_CHECK(entry.end - entry.begin == *total_bits / 8, tensor, ": ", elements, " elements of ",
                entry.dtype, " take ", *total_bits / 8, " bytes, but data_offsets spans ",
                entry.end - entry.begin);
    return entry;
  }

  uint64_t whole_number(const json& value, const std::string& what) const {
    const bool negative =
        value.is_number_integer() && !value.is_number_unsigned() && value.get<int64_t>() < 0;
    KVLAB_CHECK(!negative, what, " is negative, ", value.dump());
    KVLAB_CHECK(value.is_number_integer(), what, " is no whole number of 64 bits");
    return value.get<uint64_t>();
  }

  void check_layout(const std::map<std::string, SafetensorsEntry, std::less<>>& entries) const {
    using Item = std::pair<const std::string, SafetensorsEntry>;
    std::vector<const Item*> order;
    order.reserve(entries.size());
    for (const Item& item : entries) order.push_back(&item);
    std::sort(order.begin(), order.end(), [](const Item* a, const Item* b) {
      return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
    });
    uint64_t reached = 0;
    for (const Item* item : order) {
      const auto& [name, entry] = *item;
      KVLAB_CHECK(entry.begin <= reached, where(), "bytes ", reached, " to ", entry.begin,
                  " before tensor ", in_quotes(name), " are a hole that belongs to no tensor");
      KVLAB_CHECK(entry.begin == reached, where(), "tensor ", in_quotes(name), " begins at ",
                  entry.begin, " and overlaps the tensor before it, which ends at ", reached);
      reached = entry.end;
    }
    KVLAB_CHECK(reached == data_bytes_, where(), "the tensors end at byte ", reached,
                " of the data, but the file holds ", data_bytes_);
  }

  std::string path_;
  json header_;
  uint64_t data_start_ = 0;
  uint64_t data_bytes_ = 0;
};

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path) : file_(path) {
  const HeaderReader reader(file_);
  data_start_ = reader.data_start();
  reader.read(entries_, metadata_);
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> names;
  names.reserve(entries_.size());
  for (const auto& [name, unused] : entries_) names.push_back(name);
  return names;
}

const SafetensorsEntry& SafetensorsFile::entry(std::string_view name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) {
    throw MissingError(
        detail::concat("[model.safetensors.tensor] ", path(), " has no tensor ", in_quotes(name)));
  }
  return found->second;
}

at::Tensor SafetensorsFile::tensor(std::string_view name, Bfloat16 bfloat16) const {
  const SafetensorsEntry& stored = entry(name);
  const uint8_t* source = file_.bytes().data() + data_start_ + stored.begin;
  KVLAB_CHECK(stored.end > stored.begin, "[model.safetensors.tensor] ", path(), ": tensor ",
              in_quotes(name), " has no elements, shape ", model_file::shape_text(stored.shape));
  const auto copy = [&](at::ScalarType type) {
    at::Tensor result = at::empty(stored.shape, at::TensorOptions().dtype(type));
    std::memcpy(result.mutable_data_ptr(), source, stored.end - stored.begin);
    return result;
  };
  if (stored.dtype == "F32") return copy(at::kFloat);
  if (stored.dtype == "F16") return copy(at::kHalf).to(at::kFloat);
  if (stored.dtype == "BF16") {
    const at::Tensor result = copy(at::kBFloat16);
    return bfloat16 == Bfloat16::keep ? result : result.to(at::kFloat);
  }
  detail::throw_user(detail::concat("[model.safetensors.tensor] ", path(), ": tensor ",
                                    in_quotes(name), " is ", stored.dtype,
                                    ", weights can be F32, F16 or BF16"));
}

}  // namespace kvlab
