#include "weight_product.h"

#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>

#include <algorithm>

#include "kvlab/core/error.h"
#include "kvlab/kernels/elementwise.h"

namespace kvlab {

namespace {

// Rows of an int8 matrix that are decoded at once for the library: a few MB.
constexpr int64_t kDecodedRows = 1024;

at::Tensor borrowed(const float* data, int64_t rows, int64_t columns) {
  // Operands are only read; LibTorch has no constant form.
  return at::from_blob(const_cast<float*>(data), {rows, columns}, at::kFloat);
}

kernels::WeightFormat format_of(at::ScalarType type) {
  switch (type) {
    case at::kFloat: return kernels::WeightFormat::f32;
    case at::kBFloat16: return kernels::WeightFormat::bf16;
    case at::kChar: return kernels::WeightFormat::int8;
    default: break;
  }
  throw UserError(detail::concat("[model.linear] weights are ", c10::toString(type),
                                 "; cast them to f32, bf16 or int8"));
}

}  // namespace

std::vector<float> as_floats(const at::Tensor& tensor) {
  if (!tensor.defined()) return {};
  const at::Tensor values = tensor.to(at::kFloat).contiguous();
  const float* data = values.const_data_ptr<float>();
  return {data, data + values.numel()};
}

Linear::Linear(const at::Tensor& codes, const at::Tensor& code_scales, const at::Tensor& added)
    : weight(codes), scales(code_scales), bias(as_floats(added)) {}

kernels::Matrix Linear::matrix() const {
  kernels::Matrix matrix;
  matrix.codes = weight.const_data_ptr();
  if (scales.defined()) matrix.scales = static_cast<const uint16_t*>(scales.const_data_ptr());
  matrix.rows = weight.size(0);
  matrix.columns = weight.size(1);
  matrix.format = format_of(weight.scalar_type());
  return matrix;
}

void WeightProduct::operator()(const Linear& layer, const float* x, int64_t tokens, float* y,
                               kernels::Epilogue epilogue) const {
  if (tokens == 0) return;
  if (tokens > row_tokens_) {
    with_library(layer, x, tokens, y, epilogue);
    return;
  }
  const kernels::Matrix matrix = layer.matrix();
  const int64_t out = epilogue == kernels::Epilogue::swiglu ? matrix.rows / 2 : matrix.rows;
  kernels::linear(matrix, layer.bias.empty() ? nullptr : layer.bias.data(), x, matrix.columns,
                  tokens, y, out, epilogue, buffers_.linear, threads_);
}

void WeightProduct::with_library(const Linear& layer, const float* x, int64_t tokens, float* y,
                                 kernels::Epilogue epilogue) const {
  const int64_t rows = layer.weight.size(0);
  const bool direct = epilogue == kernels::Epilogue::store;
  float* product = direct ? y : buffers_.wide.need(tokens * rows);
  multiply(layer, x, tokens, product);
  if (!layer.bias.empty()) {
    const float* bias = layer.bias.data();
    threads_.for_each(tokens, [&](int64_t token, int) {
      float* row = product + token * rows;
      for (int64_t i = 0; i < rows; ++i) row[i] += bias[i];
    });
  }
  switch (epilogue) {
    case kernels::Epilogue::store: break;
    case kernels::Epilogue::add: kernels::add(product, y, tokens * rows, threads_); break;
    case kernels::Epilogue::swiglu:
      kernels::activate(epilogue, product, rows, rows / 2, tokens, y, rows / 2, threads_);
      break;
    default: kernels::activate(epilogue, product, rows, rows, tokens, y, rows, threads_); break;
  }
}

// y = x W^T in the weight's type; comes back in fp32.
void WeightProduct::multiply(const Linear& layer, const float* x, int64_t tokens, float* y) const {
  const int64_t rows = layer.weight.size(0);
  const int64_t columns = layer.weight.size(1);
  const at::Tensor from = borrowed(x, tokens, columns);
  at::Tensor to = borrowed(y, tokens, rows);
  switch (layer.weight.scalar_type()) {
    case at::kFloat: at::mm_out(to, from, layer.weight.t()); break;
    case at::kChar: {
      const kernels::Matrix matrix = layer.matrix();
      const int64_t at_once = std::min(kDecodedRows, rows);
      float* decoded = buffers_.decoded.need(at_once * columns);
      for (int64_t first = 0; first < rows; first += at_once) {
        const int64_t count = std::min(at_once, rows - first);
        kernels::decode_rows(matrix, first, count, decoded, threads_);
        at::Tensor part = to.narrow(1, first, count);
        at::mm_out(part, from, borrowed(decoded, count, columns).t());
      }
      break;
    }
    default: {
      const at::ScalarType type = layer.weight.scalar_type();
      to.copy_(at::mm(from.to(type), layer.weight.t()));
    }
  }
}

}  // namespace kvlab
