// A weight matrix times a step's tokens: row kernels for few, the library for many.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "decoder_buffers.h"
#include "kvlab/core/thread_pool.h"
#include "kvlab/kernels/linear.h"

namespace kvlab {

/// A linear layer as the products read it. Holds its tensors.
struct Linear {
  at::Tensor weight, scales;  ///< as in LayerWeights
  std::vector<float> bias;    ///< [out], or empty

  Linear() = default;
  Linear(const at::Tensor& codes, const at::Tensor& code_scales, const at::Tensor& added);

  kernels::Matrix matrix() const;
};

/// The values of a small tensor (or none) in fp32.
std::vector<float> as_floats(const at::Tensor& tensor);

/// Multiplies with weights. Borrows everything; lives for one step.
class WeightProduct {
 public:
  WeightProduct(DecoderBuffers& buffers, ThreadPool& threads, int64_t row_tokens)
      : buffers_(buffers), threads_(threads), row_tokens_(row_tokens) {}

  /// y = epilogue(x W^T + b) for `tokens` rows of x [tokens, in] to y [tokens, out] (swiglu: out / 2),
  /// both without gaps.
  void operator()(const Linear& layer, const float* x, int64_t tokens, float* y,
                  kernels::Epilogue epilogue) const;

 private:
  void with_library(const Linear& layer, const float* x, int64_t tokens, float* y,
                    kernels::Epilogue epilogue) const;
  void multiply(const Linear& layer, const float* x, int64_t tokens, float* y) const;

  DecoderBuffers& buffers_;
  ThreadPool& threads_;
  int64_t row_tokens_;
};

}  // namespace kvlab
