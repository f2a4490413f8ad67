#include "generation_dump.h"

#include <ATen/ops/from_blob.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <map>
#include <utility>

#include "kvlab/core/error.h"
#include "kvlab/model/safetensors_writer.h"

namespace kvlab {

namespace {

using Tensors = std::map<std::string, at::Tensor>;

at::Tensor whole_numbers(const std::vector<int64_t>& values) {
  return at::tensor(values, at::TensorOptions().dtype(at::kLong));
}

/// The fields of the segments of one row and layer.
struct SegmentTable {
  std::vector<int64_t> count, first_position, head_begin, head_end, key_address, value_address;

  explicit SegmentTable(std::span<const KVSegment> segments) {
    for (const KVSegment& segment : segments) {
      count.push_back(segment.count);
      first_position.push_back(segment.position(0));
      head_begin.push_back(segment.head_begin);
      head_end.push_back(segment.head_end);
      key_address.push_back(reinterpret_cast<int64_t>(segment.keys.data));
      value_address.push_back(reinterpret_cast<int64_t>(segment.values.data));
    }
  }
};

}  // namespace

GenerationDump::GenerationDump(std::string folder) : folder_(std::move(folder)) {}

void GenerationDump::add_logits(std::span<const float> logits) {
  logits_.insert(logits_.end(), logits.begin(), logits.end());
  ++steps_;
}

void GenerationDump::write(const Session& session, const Registry& registry) const {
  const CacheShape& shape = session.shape();
  const ModelConfig& model = session.model().config();
  const auto position = registry.make_position(
      model.position, {model.d_model, model.n_heads, model.head_dim, model.context,
                       session.model().decoder->weights().position_table});
  const std::map<std::string, std::string> metadata{
      {"format", "pt"}, {"model", session.model().name}, {"cache", session.cache().name()}};
  Tensors logits, entries, blocks;
  logits["logits"] = at::from_blob(const_cast<float*>(logits_.data()),
                                   {steps_, model.vocabulary}, at::kFloat);
  std::vector<std::pair<std::string, SegmentTable>> tables;
  int64_t lowest = std::numeric_limits<int64_t>::max();
  for (int layer = 0; layer < static_cast<int>(shape.layers); ++layer) {
    for (int row = 0; row < static_cast<int>(shape.rows); ++row) {
      const std::string prefix = "layer." + std::to_string(layer) + ".row." + std::to_string(row);
      KVView view;
      session.cache().inspect(layer, row, view);
      StorageArena scratch;
      const DenseKV dense = view.dense(0, *position, scratch);
      entries[prefix + ".keys"] = dense.keys.clone();
      entries[prefix + ".values"] = dense.values.clone();
      entries[prefix + ".positions"] = dense.positions.clone();
      tables.emplace_back(prefix, SegmentTable(view.segments(0)));
      for (const auto* addresses :
           {&tables.back().second.key_address, &tables.back().second.value_address}) {
        for (const int64_t address : *addresses) lowest = std::min(lowest, address);
      }
    }
  }
  for (auto& [prefix, table] : tables) {
    for (int64_t& address : table.key_address) address -= lowest;
    for (int64_t& address : table.value_address) address -= lowest;
    blocks[prefix + ".count"] = whole_numbers(table.count);
    blocks[prefix + ".first_position"] = whole_numbers(table.first_position);
    blocks[prefix + ".head_begin"] = whole_numbers(table.head_begin);
    blocks[prefix + ".head_end"] = whole_numbers(table.head_end);
    blocks[prefix + ".key_address"] = whole_numbers(table.key_address);
    blocks[prefix + ".value_address"] = whole_numbers(table.value_address);
  }
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  KVLAB_CHECK(!error, "[command_line.--dump] the folder '", folder_,
              "' cannot be made: ", error.message());
  write_safetensors(folder_ + "/logits.safetensors", logits, metadata);
  write_safetensors(folder_ + "/kv.safetensors", entries, metadata);
  write_safetensors(folder_ + "/blocks.safetensors", blocks, metadata);
}

}  // namespace kvlab
