#include "kvlab/model/weights.h"

#include <ATen/ops/empty.h>

#include <unordered_set>

#include "file_bytes.h"
#include "kvlab/core/error.h"
#include "kvlab/kernels/elementwise.h"
#include "kvlab/kernels/linear.h"
#include "large_pages.h"

namespace kvlab {

namespace {

std::string layer_prefix(size_t layer) { return "layer " + std::to_string(layer) + " "; }

// Calls `visit(name, weight, scales)` for every matrix that may be int8 codes but the head.
template <typename Weights, typename Visit>
void for_each_matrix(Weights& weights, Visit visit) {
  visit("token_embedding", weights.token_embedding, weights.token_embedding_scales);
  for (size_t i = 0; i < weights.layers.size(); ++i) {
    auto& layer = weights.layers[i];
    const std::string prefix = layer_prefix(i);
    visit(prefix + "qkv", layer.qkv, layer.qkv_scales);
    visit(prefix + "output", layer.output, layer.output_scales);
    visit(prefix + "up", layer.up, layer.up_scales);
    visit(prefix + "down", layer.down, layer.down_scales);
  }
}

// Calls `visit(tensor)` for the norms, the biases and the position table.
template <typename Weights, typename Visit>
void for_each_small_tensor(Weights& weights, Visit visit) {
  visit(weights.position_table);
  for (auto& layer : weights.layers) {
    visit(layer.attention_norm);
    visit(layer.attention_norm_bias);
    visit(layer.qkv_bias);
    visit(layer.output_bias);
    visit(layer.mlp_norm);
    visit(layer.mlp_norm_bias);
    visit(layer.up_bias);
    visit(layer.down_bias);
  }
  visit(weights.final_norm);
  visit(weights.final_norm_bias);
}

// Calls `visit(tensor)` for all of them, the head and scales included.
template <typename Weights, typename Visit>
void for_each_tensor(Weights& weights, Visit visit) {
  for_each_matrix(weights, [&](const std::string&, auto& weight, auto& scales) {
    visit(weight);
    visit(scales);
  });
  for_each_small_tensor(weights, visit);
  visit(weights.head);
  visit(weights.head_scales);
}

void quantise_matrix(const std::string& name, at::Tensor& weight, at::Tensor& scales) {
  if (!weight.defined()) return;
  const at::Tensor full = weight.to(at::kFloat).contiguous();
  const float* values = full.const_data_ptr<float>();
  KVLAB_CHECK(kernels::all_finite({values, static_cast<size_t>(full.numel())}), "[model.weights] ",
              name, " holds NaN or infinity, which int8 codes cannot say. Check the checkpoint");
  const int64_t rows = full.size(0), columns = full.size(1);
  weight = at::empty({rows, columns}, at::kChar);
  scales = at::empty({rows, (columns + kernels::kScaleGroup - 1) / kernels::kScaleGroup},
                     at::kBFloat16);
  kernels::quantise(values, rows, columns, weight.mutable_data_ptr<int8_t>(),
                    static_cast<uint16_t*>(scales.mutable_data_ptr()));
}

// Compares the tensors with what a model's shape wants.
class Validator {
 public:
  explicit Validator(at::ScalarType type) : type_(type) {
    KVLAB_CHECK(type == at::kFloat || type == at::kBFloat16 || type == at::kChar,
                "[model.weights] token_embedding is ", c10::toString(type),
                ", wanted Float, BFloat16 or Char (int8 codes)");
  }

  // Of norms, biases and the position table, which are never codes.
  void small(const std::string& name, const at::Tensor& tensor, const std::vector<int64_t>& shape,
             bool wanted = true) const {
    if (wanted) {
      check(name, tensor, shape, has_codes() ? at::kFloat : type_);
    } else {
      absent(name, tensor, "the model's shape has none");
    }
  }

  void matrix(const std::string& name, const at::Tensor& weight, const at::Tensor& scales,
              int64_t rows, int64_t columns) const {
    check(name, weight, {rows, columns}, type_);
    const int64_t groups = (columns + kernels::kScaleGroup - 1) / kernels::kScaleGroup;
    if (has_codes()) {
      check(name + "_scales", scales, {rows, groups}, at::kBFloat16);
    } else {
      absent(name + "_scales", scales, "only int8 codes have scales");
    }
  }

 private:
  bool has_codes() const { return type_ == at::kChar; }

  void check(const std::string& name, const at::Tensor& tensor, const std::vector<int64_t>& shape,
             at::ScalarType type) const {
    KVLAB_CHECK(tensor.defined(), "[model.weights] ", name, " is missing, wanted shape ",
                model_file::shape_text(shape));
    KVLAB_CHECK(tensor.sizes() == at::IntArrayRef(shape), "[model.weights] ", name, " has shape ",
                model_file::shape_text(tensor.sizes()), ", wanted ", model_file::shape_text(shape));
    KVLAB_CHECK(tensor.scalar_type() == type, "[model.weights] ", name, " is ",
                c10::toString(tensor.scalar_type()), " where the token embedding is ",
                c10::toString(type_), ", wanted ", c10::toString(type));
    KVLAB_CHECK(tensor.is_contiguous(), "[model.weights] ", name, " is not contiguous");
  }

  static void absent(const std::string& name, const at::Tensor& tensor, const char* why) {
    KVLAB_CHECK(!tensor.defined(), "[model.weights] ", name, " is there, but ", why);
  }

  at::ScalarType type_;
};

bool same_tensor(const at::Tensor& left, const at::Tensor& right) {
  return left.defined() && right.defined() && left.const_data_ptr() == right.const_data_ptr();
}

int64_t bytes_of(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<int64_t>(tensor.nbytes()) : 0;
}

}  // namespace

int64_t DecoderWeights::bytes() const {
  int64_t total = 0;
  std::unordered_set<const void*> seen;
  for_each_tensor(*this, [&](const at::Tensor& tensor) {
    if (tensor.defined() && seen.insert(tensor.const_data_ptr()).second) total += bytes_of(tensor);
  });
  return total;
}

int64_t DecoderWeights::streamed_bytes() const {
  int64_t total = bytes_of(head) + bytes_of(head_scales);
  for (const LayerWeights& layer : layers) {
    for (const at::Tensor* tensor :
         {&layer.qkv, &layer.output, &layer.up, &layer.down, &layer.qkv_scales,
          &layer.output_scales, &layer.up_scales, &layer.down_scales}) {
      total += bytes_of(*tensor);
    }
  }
  return total;
}

void DecoderWeights::cast(at::ScalarType type) {
  const bool to_codes = type == at::kChar;
  const bool has_codes = token_embedding.defined() && this->type() == at::kChar;
  KVLAB_CHECK(!has_codes || to_codes, "[model.weights] int8 codes cannot be cast to ",
              c10::toString(type), ": what they were rounded from is gone. Load the model again");
  if (has_codes) return;
  const bool tied = same_tensor(head, token_embedding);
  const auto convert = [&](const std::string& name, at::Tensor& weight, at::Tensor& scales) {
    if (to_codes) {
      quantise_matrix(name, weight, scales);
    } else if (weight.defined()) {
      weight = weight.to(type);
    }
  };
  for_each_matrix(*this, convert);
  for_each_small_tensor(*this, [&](at::Tensor& tensor) {
    if (tensor.defined()) tensor = tensor.to(to_codes ? at::kFloat : type);
  });
  if (tied) {
    head = token_embedding;
    head_scales = token_embedding_scales;
  } else {
    convert("head", head, head_scales);
  }
}

void DecoderWeights::use_huge_pages() {
  const bool tied = same_tensor(head, token_embedding);
  if (tied) {
    head.reset();
    head_scales.reset();
  }
  for_each_tensor(*this, move_to_large_pages);
  if (tied) {
    head = token_embedding;
    head_scales = token_embedding_scales;
  }
}

void DecoderWeights::validate(const ModelConfig& config) const {
  const int64_t d = config.d_model;
  const int64_t query_rows = config.n_heads * config.head_dim;
  const int64_t qkv_rows = query_rows + 2 * config.n_kv_heads * config.head_dim;
  const int64_t up_rows = config.mlp == MlpType::swiglu ? 2 * config.d_mlp : config.d_mlp;
  const bool norm_bias = config.norm == NormType::layernorm;
  KVLAB_CHECK(token_embedding.defined(), "[model.weights] token_embedding is missing");
  const Validator check(type());
  check.matrix("token_embedding", token_embedding, token_embedding_scales, config.vocabulary, d);
  check.small("position_table", position_table, {config.context, d},
              config.position.type == "learned");
  KVLAB_CHECK_EQ(static_cast<int64_t>(layers.size()), config.layers, "[model.weights] layers");
  for (size_t i = 0; i < layers.size(); ++i) {
    const LayerWeights& layer = layers[i];
    const std::string prefix = layer_prefix(i);
    check.small(prefix + "attention_norm", layer.attention_norm, {d});
    check.small(prefix + "attention_norm_bias", layer.attention_norm_bias, {d}, norm_bias);
    check.matrix(prefix + "qkv", layer.qkv, layer.qkv_scales, qkv_rows, d);
    check.small(prefix + "qkv_bias", layer.qkv_bias, {qkv_rows}, config.qkv_bias);
    check.matrix(prefix + "output", layer.output, layer.output_scales, d, query_rows);
    check.small(prefix + "output_bias", layer.output_bias, {d}, config.output_bias);
    check.small(prefix + "mlp_norm", layer.mlp_norm, {d});
    check.small(prefix + "mlp_norm_bias", layer.mlp_norm_bias, {d}, norm_bias);
    check.matrix(prefix + "up", layer.up, layer.up_scales, up_rows, d);
    check.small(prefix + "up_bias", layer.up_bias, {up_rows}, config.mlp_bias);
    check.matrix(prefix + "down", layer.down, layer.down_scales, d, config.d_mlp);
    check.small(prefix + "down_bias", layer.down_bias, {d}, config.mlp_bias);
  }
  check.small("final_norm", final_norm, {d});
  check.small("final_norm_bias", final_norm_bias, {d}, norm_bias);
  check.matrix("head", head, head_scales, config.vocabulary, d);
  const bool same_scales =
      !head_scales.defined() || same_tensor(head_scales, token_embedding_scales);
  KVLAB_CHECK(!config.tied_head || (same_tensor(head, token_embedding) && same_scales),
              "[model.weights] head is another tensor than token_embedding, but the model's shape "
              "ties them");
}

}  // namespace kvlab
