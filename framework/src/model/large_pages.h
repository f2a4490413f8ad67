// Memory for large tensors in pages of 2 MiB: fewer misses of the address translation.
#pragma once

#include <ATen/core/Tensor.h>

namespace kvlab {

/// Copies `tensor` into memory of its own that the system is advised to map in huge pages, and lets
/// it go. A tensor that is undefined or smaller than a huge page stays. Keeps type, sizes and
/// values; the result is contiguous. Requires: a contiguous tensor that nothing else shares. Throws
/// CapacityError, the tensor unchanged.
void move_to_large_pages(at::Tensor& tensor);

}  // namespace kvlab
