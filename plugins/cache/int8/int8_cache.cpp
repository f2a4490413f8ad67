#include "int8_cache.h"

#include "int8_codec.h"

namespace kvlab::plugins {

namespace {

// Adds to a plane of codes where its scales lie.
void add_scales(KVPlane& codes, const KVPlane& scales) {
  codes.scales = static_cast<const float*>(scales.data);
  codes.scale_token_stride = scales.token_stride;
  codes.scale_head_stride = scales.head_stride;
}

}  // namespace

CacheTraits int8_traits() {
  CacheTraits traits;
  traits.exact = false;
  traits.truncation = Truncation::exact;
  traits.forks = true;
  return traits;
}

Int8Cache::Int8Cache(const CacheShape& shape, StorageArena& arena)
    : RowwiseCache("int8", int8_traits(), shape) {
  const int64_t buffers = shape.rows * shape.layers;
  buffers_.reserve(static_cast<size_t>(buffers));
  for (int64_t i = 0; i < buffers; ++i) buffers_.push_back(allocate(arena));
}

Int8Cache::Buffer Int8Cache::allocate(StorageArena& arena) const {
  const CacheShape& s = shape();
  Buffer made;
  made.keys = arena.allocate({s.kv_heads, s.max_length, s.key_dim}, at::kChar, MemoryKind::storage);
  made.values =
      arena.allocate({s.kv_heads, s.max_length, s.value_dim}, at::kChar, MemoryKind::storage);
  for (at::Tensor* scales : {&made.key_scales, &made.value_scales}) {
    *scales = arena.allocate({s.kv_heads, s.max_length}, at::kFloat, MemoryKind::metadata);
  }
  const auto data = [](const at::Tensor& tensor) {
    return static_cast<char*>(tensor.mutable_data_ptr());
  };
  made.codes = Run{data(made.keys), data(made.values), s.max_length, s.key_dim,
                   s.value_dim,     s.kv_heads,        at::kChar};
  made.scales = Run{data(made.key_scales), data(made.value_scales), s.max_length, 1, 1,
                    s.kv_heads,            at::kFloat};
  return made;
}

// Codes the slice's new tokens of `incoming` [N,G,D] to one of K and V of `held`.
template <typename Number>
void Int8Cache::store_plane(const at::Tensor& incoming, const RowSlice& slice, const Buffer& held,
                            char* Run::*plane) {
  const Number* data = incoming.const_data_ptr<Number>() + slice.offset * incoming.stride(0);
  const int64_t dim = incoming.size(2);
  for (int64_t head = 0; head < held.codes.kv_heads; ++head) {
    const Number* source = data + head * incoming.stride(1);
    char* codes = held.codes.*plane + held.codes.offset(head, slice.first_position, dim);
    char* scales = held.scales.*plane + held.scales.offset(head, slice.first_position, 1);
    for (int64_t token = 0; token < slice.count; ++token) {
      reinterpret_cast<float*>(scales)[token] =
          encode_int8(source, dim, reinterpret_cast<int8_t*>(codes));
      source += incoming.stride(0);
      codes += dim;
    }
  }
}

void Int8Cache::write(int layer, const RowSlice& slice, const IncomingKV& incoming) {
  const Buffer& held = buffer(layer, slice.row);
  if (shape().dtype == at::kFloat) {
    store_plane<float>(incoming.keys, slice, held, &Run::keys);
    store_plane<float>(incoming.values, slice, held, &Run::values);
  } else {
    store_plane<at::BFloat16>(incoming.keys, slice, held, &Run::keys);
    store_plane<at::BFloat16>(incoming.values, slice, held, &Run::values);
  }
}

void Int8Cache::segments(int layer, int row, int64_t end, KVView& view) const {
  const Buffer& held = buffer(layer, row);
  KVSegment segment = held.codes.segment(0, end, 0);
  const KVSegment scales = held.scales.segment(0, end, 0);
  add_scales(segment.keys, scales.keys);
  add_scales(segment.values, scales.values);
  view.add(segment);
}

void Int8Cache::copy_row(int from, int to) {
  const int64_t entries = length(from);
  for (int64_t layer = 0; layer < shape().layers; ++layer) {
    const Buffer& source = buffer(layer, from);
    const Buffer& target = buffer(layer, to);
    count_moved(copy_entries(source.codes, target.codes, entries));
    copy_entries(source.scales, target.scales, entries);
  }
}

double Int8Cache::fragmentation() const {
  int64_t used = 0;
  for (int row = 0; row < shape().rows; ++row) used += length(row);
  return 1 - static_cast<double>(used) / static_cast<double>(shape().rows * shape().max_length);
}

}  // namespace kvlab::plugins
