// Readers for the two tensor file formats: safetensors and GGUF. Both check every number in the
// file against the file's size before they use it, and hand out tensors that own their memory.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kvlab {

/// A file mapped read-only for as long as this object lives. Movable, not copyable.
/// Requires: nobody shortens the file meanwhile.
class MappedFile {
 public:
  /// Throws MissingError where nothing is at `path`, UserError where it is not a readable file.
  explicit MappedFile(std::string path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  const std::string& path() const { return path_; }
  /// The whole file; valid while this object lives.
  std::span<const uint8_t> bytes() const { return {data_, size_}; }

 private:
  void unmap() noexcept;
  std::string path_;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

/// What `SafetensorsFile::tensor` does with bfloat16.
enum class Bfloat16 {
  keep,   ///< the tensor is bfloat16
  widen,  ///< the tensor is float32; exact
};

/// One tensor of a safetensors header.
struct SafetensorsEntry {
  std::string dtype;           ///< as written: "F32", "BF16", ...
  std::vector<int64_t> shape;  ///< outermost first; empty for a scalar
  uint64_t begin = 0;          ///< first byte, counted from the end of the header
  uint64_t end = 0;            ///< one past the last byte
};

/// A safetensors file whose header obeys every rule of the format.
class SafetensorsFile {
 public:
  /// Reads and checks the header. Throws MissingError where there is no file, and UserError naming
  /// the first broken rule; a pickle or TorchScript file is refused with the remedy.
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  /// Names of all tensors, sorted.
  std::vector<std::string> names() const;
  bool contains(std::string_view name) const { return entries_.contains(name); }
  /// Throws MissingError for an unknown name.
  const SafetensorsEntry& entry(std::string_view name) const;

  /// Copies a tensor out of the file: F32 as it is, F16 as float32, BF16 as `bfloat16` says.
  /// Throws MissingError for an unknown name, UserError for any other dtype or no elements.
  at::Tensor tensor(std::string_view name, Bfloat16 bfloat16 = Bfloat16::keep) const;

  /// The `__metadata__` object; empty where the file has none.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  MappedFile file_;
  uint64_t data_start_ = 0;
  std::map<std::string, SafetensorsEntry, std::less<>> entries_;
  std::map<std::string, std::string> metadata_;
};

/// Tensor types of GGUF that kvlab reads; the numbers are those in the file.
enum class GgufType : uint32_t { f32 = 0, f16 = 1, q4_0 = 2, q4_1 = 3, q8_0 = 8, bf16 = 30 };

/// One tensor of a GGUF header.
struct GgufTensorInfo {
  GgufType type = GgufType::f32;
  std::vector<int64_t> shape;  ///< outermost first, the reverse of the order in the file
  uint64_t begin = 0;          ///< first byte, counted from the start of the file
  uint64_t bytes = 0;
};

/// A GGUF file, version 2 or 3, whose header was checked from the first to the last byte.
class GgufFile {
 public:
  /// Reads and checks metadata and tensor table. Throws MissingError where there is no file, and
  /// UserError naming the first broken rule or the first tensor of a type that is not read.
  explicit GgufFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  uint32_t version() const { return version_; }

  /// Metadata keys, sorted.
  std::vector<std::string> keys() const;
  bool has(std::string_view key) const { return values_.contains(key); }

  // Typed access to metadata. Each returns nothing where the key is absent and throws UserError
  // where it holds something else.
  /// A whole number that is not negative, of any integer type.
  std::optional<int64_t> integer(std::string_view key) const;
  /// A finite number of any numeric type.
  std::optional<double> number(std::string_view key) const;
  std::optional<bool> boolean(std::string_view key) const;
  std::optional<std::string> text(std::string_view key) const;
  std::optional<std::vector<std::string>> texts(std::string_view key) const;
  /// Whole numbers of any integer type, negative ones included.
  std::optional<std::vector<int64_t>> integers(std::string_view key) const;

  /// Names of all tensors, sorted.
  std::vector<std::string> names() const;
  bool contains(std::string_view name) const { return tensors_.contains(name); }
  /// Throws MissingError for an unknown name.
  const GgufTensorInfo& info(std::string_view name) const;

  /// Dequantises a tensor to float32. Throws MissingError for an unknown name.
  at::Tensor tensor(std::string_view name) const;

 private:
  // Where a value lies. Values are decoded when asked for, so an array costs no memory before.
  struct Value {
    uint32_t type = 0;
    uint32_t element_type = 0;  // arrays only
    uint64_t count = 1;
    uint64_t offset = 0;  // of the value or of the first element
  };
  class Parser;
  const Value* find(std::string_view key) const;
  [[noreturn]] void wrong_type(std::string_view key, const Value& value, const char* wanted) const;

  MappedFile file_;
  uint32_t version_ = 0;
  std::map<std::string, Value, std::less<>> values_;
  std::map<std::string, GgufTensorInfo, std::less<>> tensors_;
};

/// "Q4_1", "F32", ...: the name the format gives to a type.
std::string to_string(GgufType type);

}  // namespace kvlab
