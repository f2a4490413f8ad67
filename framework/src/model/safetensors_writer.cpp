#include "kvlab/model/safetensors_writer.h"

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "kvlab/core/error.h"

namespace kvlab {

namespace {

const char* dtype_name(const std::string& name, const at::Tensor& tensor) {
  KVLAB_CHECK(tensor.defined(), "[model.write_safetensors] tensor '", name, "' is undefined");
  switch (tensor.scalar_type()) {
    case at::kFloat: return "F32";
    case at::kBFloat16: return "BF16";
    case at::kHalf: return "F16";
    case at::kLong: return "I64";
    case at::kInt: return "I32";
    case at::kChar: return "I8";
    default:
      detail::throw_user(detail::concat("[model.write_safetensors] tensor '", name,
                                        "' is of a type that is not written: ",
                                        c10::toString(tensor.scalar_type())));
  }
}

}  // namespace

void write_safetensors(const std::string& path, const std::map<std::string, at::Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header;
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::vector<at::Tensor> contents;
  int64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    const char* dtype = dtype_name(name, tensor);
    contents.push_back(tensor.contiguous());
    const auto bytes = static_cast<int64_t>(contents.back().nbytes());
    header[name] = {{"dtype", dtype},
                    {"shape", contents.back().sizes().vec()},
                    {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.empty() ? "{}" : header.dump();
  constexpr size_t kAlignment = 8;
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');

  const std::string unfinished = path + ".unfinished";
  std::ofstream file(unfinished, std::ios::binary | std::ios::trunc);
  for (size_t i = 0; i < sizeof(uint64_t); ++i) file.put(static_cast<char>(text.size() >> 8 * i));
  file << text;
  for (const at::Tensor& tensor : contents) {
    file.write(static_cast<const char*>(tensor.const_data_ptr()),
               static_cast<std::streamsize>(tensor.nbytes()));
  }
  file.close();
  const bool written = !file.fail() && std::rename(unfinished.c_str(), path.c_str()) == 0;
  if (!written) std::remove(unfinished.c_str());
  KVLAB_CHECK(written, "[model.write_safetensors] '", path, "' cannot be written");
}

}  // namespace kvlab
