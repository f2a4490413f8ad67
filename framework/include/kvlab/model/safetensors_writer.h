// Writes tensors for analysis elsewhere; the reader is in kvlab/model/tensor_file.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

namespace kvlab {

/// Writes a safetensors file: contiguous copies of the tensors, sorted by name, and `metadata`. Types:
/// float32, bfloat16, float16, int64, int32, int8. The file is complete or not there. Throws UserError
/// for another type, an undefined tensor or a file that cannot be written.
void write_safetensors(const std::string& path, const std::map<std::string, at::Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace kvlab
