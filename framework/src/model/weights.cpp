#include "kvlab/model/weights.h"

#include <unordered_set>

#include "file_bytes.h"
#include "kvlab/core/error.h"

namespace kvlab {

namespace {

// Calls `visit(name, tensor)` for every tensor but the head, in the order of the model.
template <typename Weights, typename Visit>
void for_each_tensor(Weights& weights, Visit visit) {
  visit("token_embedding", weights.token_embedding);
  visit("position_table", weights.position_table);
  for (size_t i = 0; i < weights.layers.size(); ++i) {
    auto& layer = weights.layers[i];
    const std::string prefix = "layer " + std::to_string(i) + " ";
    visit(prefix + "attention_norm", layer.attention_norm);
    visit(prefix + "attention_norm_bias", layer.attention_norm_bias);
    visit(prefix + "qkv", layer.qkv);
    visit(prefix + "qkv_bias", layer.qkv_bias);
    visit(prefix + "output", layer.output);
    visit(prefix + "output_bias", layer.output_bias);
    visit(prefix + "mlp_norm", layer.mlp_norm);
    visit(prefix + "mlp_norm_bias", layer.mlp_norm_bias);
    visit(prefix + "up", layer.up);
    visit(prefix + "up_bias", layer.up_bias);
    visit(prefix + "down", layer.down);
    visit(prefix + "down_bias", layer.down_bias);
  }
  visit("final_norm", weights.final_norm);
  visit("final_norm_bias", weights.final_norm_bias);
}

void check_tensor(const std::string& name, const at::Tensor& tensor,
                  const std::vector<int64_t>& shape, at::ScalarType type) {
  KVLAB_CHECK(tensor.defined(), "[model.weights] ", name, " is missing, wanted shape ",
              model_file::shape_text(shape));
  KVLAB_CHECK(tensor.sizes() == at::IntArrayRef(shape), "[model.weights] ", name, " has shape ",
              model_file::shape_text(tensor.sizes()), ", wanted ", model_file::shape_text(shape));
  KVLAB_CHECK(tensor.scalar_type() == type, "[model.weights] ", name, " is ",
              c10::toString(tensor.scalar_type()), " where the token embedding is ",
              c10::toString(type));
  KVLAB_CHECK(tensor.is_contiguous(), "[model.weights] ", name, " is not contiguous");
}

bool same_tensor(const at::Tensor& left, const at::Tensor& right) {
  return left.defined() && right.defined() && left.const_data_ptr() == right.const_data_ptr();
}

}  // namespace

int64_t DecoderWeights::bytes() const {
  int64_t total = 0;
  std::unordered_set<const void*> seen;
  const auto count = [&](const std::string&, const at::Tensor& tensor) {
    if (tensor.defined() && seen.insert(tensor.const_data_ptr()).second) {
      total += static_cast<int64_t>(tensor.nbytes());
    }
  };
  for_each_tensor(*this, count);
  count("head", head);
  return total;
}

void DecoderWeights::cast(at::ScalarType type) {
  const bool tied = same_tensor(head, token_embedding);
  const auto convert = [&](const std::string&, at::Tensor& tensor) {
    if (tensor.defined()) tensor = tensor.to(type);
  };
  for_each_tensor(*this, convert);
  if (tied) {
    head = token_embedding;
  } else {
    convert("head", head);
  }
}

void DecoderWeights::validate(const ModelConfig& config) const {
  const int64_t d = config.d_model;
  const int64_t query_rows = config.n_heads * config.head_dim;
  const int64_t qkv_rows = query_rows + 2 * config.n_kv_heads * config.head_dim;
  const int64_t up_rows = config.mlp == MlpType::swiglu ? 2 * config.d_mlp : config.d_mlp;
  const bool norm_bias = config.norm == NormType::layernorm;
  KVLAB_CHECK(token_embedding.defined(), "[model.weights] token_embedding is missing");
  const at::ScalarType type = token_embedding.scalar_type();
  const auto check = [&](const std::string& name, const at::Tensor& tensor,
                         const std::vector<int64_t>& shape, bool wanted = true) {
    if (wanted) {
      check_tensor(name, tensor, shape, type);
    } else {
      KVLAB_CHECK(!tensor.defined(), "[model.weights] ", name,
                  " is there, but the model's shape has none");
    }
  };
  check("token_embedding", token_embedding, {config.vocabulary, d});
  check("position_table", position_table, {config.context, d}, config.position.type == "learned");
  KVLAB_CHECK_EQ(static_cast<int64_t>(layers.size()), config.layers, "[model.weights] layers");
  for (size_t i = 0; i < layers.size(); ++i) {
    const LayerWeights& layer = layers[i];
    const std::string prefix = "layer " + std::to_string(i) + " ";
    check(prefix + "attention_norm", layer.attention_norm, {d});
    check(prefix + "attention_norm_bias", layer.attention_norm_bias, {d}, norm_bias);
    check(prefix + "qkv", layer.qkv, {qkv_rows, d});
    check(prefix + "qkv_bias", layer.qkv_bias, {qkv_rows}, config.qkv_bias);
    check(prefix + "output", layer.output, {d, query_rows});
    check(prefix + "output_bias", layer.output_bias, {d}, config.output_bias);
    check(prefix + "mlp_norm", layer.mlp_norm, {d});
    check(prefix + "mlp_norm_bias", layer.mlp_norm_bias, {d}, norm_bias);
    check(prefix + "up", layer.up, {up_rows, d});
    check(prefix + "up_bias", layer.up_bias, {up_rows}, config.mlp_bias);
    check(prefix + "down", layer.down, {d, config.d_mlp});
    check(prefix + "down_bias", layer.down_bias, {d}, config.mlp_bias);
  }
  check("final_norm", final_norm, {d});
  check("final_norm_bias", final_norm_bias, {d}, norm_bias);
  check("head", head, {config.vocabulary, d});
  KVLAB_CHECK(!config.tied_head || same_tensor(head, token_embedding),
              "[model.weights] head is another tensor than token_embedding, but the model's shape "
              "ties them");
}

}  // namespace kvlab
