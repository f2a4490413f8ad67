#include "large_pages.h"

#include <ATen/ops/from_blob.h>
#include <malloc.h>
#include <sys/mman.h>

#include <cstring>

#include "kvlab/core/error.h"

namespace kvlab {

namespace {

constexpr size_t kHugePage = size_t{1} << 21;

// Fresh pages that begin and end on huge-page boundaries.
char* map_aligned(size_t bytes) {
  const size_t reserved = bytes + kHugePage;
  void* mapped =
      mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) {
    throw CapacityError(detail::concat("[model.weights] the system has no ", bytes,
                                       " bytes of memory for a weight tensor. Take a smaller model"));
  }
  char* begin = static_cast<char*>(mapped);
  const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(begin) % kHugePage) % kHugePage;
  if (before > 0) munmap(begin, before);
  char* const aligned = begin + before;
  if (before < kHugePage) munmap(aligned + bytes, kHugePage - before);
  // Refused where the system has no huge pages: then small ones serve.
  (void)madvise(aligned, bytes, MADV_HUGEPAGE);
  return aligned;
}

}  // namespace

void move_to_large_pages(at::Tensor& tensor) {
  if (!tensor.defined() || tensor.nbytes() < kHugePage) return;
  KVLAB_INVARIANT(tensor.is_contiguous(), "[model.weights] only contiguous tensors can move");
  const size_t bytes = (tensor.nbytes() + kHugePage - 1) / kHugePage * kHugePage;
  char* data = map_aligned(bytes);
  std::memcpy(data, tensor.const_data_ptr(), tensor.nbytes());  // touches every page but padding
  tensor = at::from_blob(
      data, tensor.sizes(), [bytes](void* memory) { munmap(memory, bytes); }, tensor.options());
  // The allocator would keep what the tensor was read into.
  malloc_trim(0);
}

}  // namespace kvlab
