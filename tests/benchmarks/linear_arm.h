// Products of a weight matrix with few tokens, over matrices that memory has to deliver.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kvlab/core/thread_pool.h"
#include "kvlab/kernels/linear.h"

namespace kvlab::benchmarks {

struct LinearCase {
  std::string layer;              ///< for names, such as "smollm2_qkv"
  int64_t rows = 0, columns = 0;  ///< of the weights
  kernels::WeightFormat format = kernels::WeightFormat::f32;
  int64_t tokens = 1;
  bool library = false;  ///< at::linear instead of the row kernels; not for int8

  /// Such as "bf16/smollm2_qkv/tokens8" or "f32/gpt2_up/tokens1/library".
  std::string name() const;
  /// Bytes of weights and scales that one product reads.
  int64_t bytes() const;
};

/// The layers of SmolLM2-135M and GPT-2 Small, in f32 and for one token.
std::vector<LinearCase> decoder_layers();

/// Runs a case over one matrix after the other, so that each has left the cache when its turn comes
/// again.
class LinearArm {
 public:
  /// `threads` is borrowed; the library uses threads of its own, as many.
  LinearArm(const LinearCase& shape, ThreadPool& threads);

  /// Throws unless one product equals that in double precision: within 1e-5 of the largest output;
  /// 2e-4 for int8 (activations of 16 bits), 1e-2 for the library in bf16 (of 8).
  void check();

  /// Computes the next product. Returns its seconds.
  double run();

  const LinearCase& shape() const { return shape_; }

 private:
  double weight(int64_t row, int64_t column) const;

  LinearCase shape_;
  ThreadPool& threads_;
  at::Tensor weights_, scales_;  // of all matrices, one after the other
  int64_t matrices_ = 0, next_ = 0;
  at::Tensor x_, y_;
  kernels::LinearScratch scratch_;
};

}  // namespace kvlab::benchmarks
