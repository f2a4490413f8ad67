#include "tests/benchmarks/linear_arm.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/zeros.h>
#include <c10/util/BFloat16.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <stdexcept>

#include "kvlab/core/storage_arena.h"
#include "kvlab/runtime/process.h"
#include "tests/benchmarks/attention_arm.h"

namespace kvlab::benchmarks {

namespace {

using kernels::WeightFormat;

at::ScalarType type_of(WeightFormat format) {
  switch (format) {
    case WeightFormat::f32: return at::kFloat;
    case WeightFormat::bf16: return at::kBFloat16;
    case WeightFormat::int8: return at::kChar;
  }
  return at::kFloat;
}

kernels::Matrix matrix_of(const LinearCase& shape) {
  kernels::Matrix matrix;
  matrix.rows = shape.rows;
  matrix.columns = shape.columns;
  matrix.format = shape.format;
  return matrix;
}

// Largest error over the largest output. int8 products round activations to 16 bits, and the
// library's bf16 products round both activations and result to 8.
double tolerance(const LinearCase& shape) {
  if (shape.format == WeightFormat::int8) return 2e-4;
  return shape.library && shape.format == WeightFormat::bf16 ? 1e-2 : 1e-5;
}

}  // namespace

std::string LinearCase::name() const {
  const char* format_name = format == WeightFormat::f32    ? "f32"
                            : format == WeightFormat::bf16 ? "bf16"
                                                           : "int8";
  return std::string(format_name) + "/" + layer + "/tokens" + std::to_string(tokens) +
         (library ? "/library" : "");
}

int64_t LinearCase::bytes() const {
  const int64_t element = static_cast<int64_t>(c10::elementSize(type_of(format)));
  const int64_t scales = format == WeightFormat::int8 ? 2 * matrix_of(*this).groups() : 0;
  return rows * (columns * element + scales);
}

std::vector<LinearCase> decoder_layers() {
  return {{"smollm2_qkv", 960, 576},   {"smollm2_output", 576, 576}, {"smollm2_up", 3072, 576},
          {"smollm2_down", 576, 1536}, {"smollm2_head", 49152, 576}, {"gpt2_qkv", 2304, 768},
          {"gpt2_output", 768, 768},   {"gpt2_up", 3072, 768},       {"gpt2_down", 768, 3072},
          {"gpt2_head", 50257, 768}};
}

LinearArm::LinearArm(const LinearCase& shape, ThreadPool& threads)
    : shape_(shape), threads_(threads) {
  matrices_ = std::max<int64_t>(2, rotating_bytes() / shape.bytes() + 1);
  StorageArena arena;  // large tensors get huge pages, and outlive it
  weights_ = arena.allocate({matrices_, shape.rows, shape.columns}, type_of(shape.format),
                            MemoryKind::storage);
  x_ = at::rand({shape.tokens, shape.columns}).sub_(0.5);
  y_ = at::empty({shape.tokens, shape.rows}, at::kFloat);
  const at::Tensor drawn = at::rand({shape.rows, shape.columns}).sub_(0.5);
  if (shape.format != WeightFormat::int8) {
    for (int64_t i = 0; i < matrices_; ++i) weights_[i].copy_(drawn);
    return;
  }
  const int64_t groups = matrix_of(shape).groups();
  scales_ = arena.allocate({matrices_, shape.rows, groups}, at::kBFloat16, MemoryKind::storage);
  kernels::quantise(drawn.const_data_ptr<float>(), shape.rows, shape.columns,
                    weights_.mutable_data_ptr<int8_t>(),
                    static_cast<uint16_t*>(scales_.mutable_data_ptr()));
  for (int64_t i = 1; i < matrices_; ++i) {
    weights_[i].copy_(weights_[0]);
    scales_[i].copy_(scales_[0]);
  }
}

double LinearArm::run() {
  const int64_t index = next_;
  next_ = (next_ + 1) % matrices_;
  if (shape_.library) {
    const at::Tensor matrix = weights_[index];
    const at::Tensor x = x_.to(matrix.scalar_type());
    set_threads(threads_.threads());
    const auto start = std::chrono::steady_clock::now();
    const at::Tensor product = at::linear(x, matrix);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    y_.copy_(product);
    return seconds.count();
  }
  kernels::Matrix matrix = matrix_of(shape_);
  const int64_t element = static_cast<int64_t>(weights_.element_size());
  matrix.codes = static_cast<const char*>(weights_.const_data_ptr()) +
                 index * shape_.rows * shape_.columns * element;
  if (scales_.defined()) {
    matrix.scales = static_cast<const uint16_t*>(scales_.const_data_ptr()) +
                    index * shape_.rows * matrix.groups();
  }
  const auto start = std::chrono::steady_clock::now();
  kernels::linear(matrix, nullptr, x_.const_data_ptr<float>(), shape_.columns, shape_.tokens,
                  y_.mutable_data_ptr<float>(), shape_.rows, kernels::Epilogue::store, scratch_,
                  threads_);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Of the first matrix; all are the same.
double LinearArm::weight(int64_t row, int64_t column) const {
  const int64_t at = row * shape_.columns + column;
  switch (shape_.format) {
    case WeightFormat::f32: return weights_.const_data_ptr<float>()[at];
    case WeightFormat::bf16: return static_cast<float>(weights_.const_data_ptr<at::BFloat16>()[at]);
    case WeightFormat::int8: {
      const int64_t groups = matrix_of(shape_).groups();
      const int64_t group = row * groups + column / kernels::kScaleGroup;
      return weights_.const_data_ptr<int8_t>()[at] *
             static_cast<double>(scales_.const_data_ptr<at::BFloat16>()[group]);
    }
  }
  return 0;
}

void LinearArm::check() {
  y_.fill_(0);
  next_ = matrices_ - 1;
  run();
  // Of a large matrix every 61st row: the head has 49,152.
  const int64_t stride = shape_.rows > 4096 ? 61 : 1;
  double largest = 0, worst = 0;
  for (int64_t token = 0; token < shape_.tokens; ++token) {
    const float* x = x_.const_data_ptr<float>() + token * shape_.columns;
    for (int64_t row = 0; row < shape_.rows; row += stride) {
      double wanted = 0;
      for (int64_t column = 0; column < shape_.columns; ++column) {
        wanted += weight(row, column) * x[column];
      }
      const double got = y_.const_data_ptr<float>()[token * shape_.rows + row];
      largest = std::max(largest, std::abs(wanted));
      const double error = std::abs(got - wanted);
      if (!(error <= worst)) worst = error;  // takes NaN as well
    }
  }
  if (worst <= tolerance(shape_) * largest) return;
  throw std::runtime_error("linear " + shape_.name() + ": error " + std::to_string(worst) +
                           " where the largest output is " + std::to_string(largest));
}

}  // namespace kvlab::benchmarks
