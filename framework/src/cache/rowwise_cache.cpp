#include "kvlab/cache/rowwise_cache.h"

#include <cstring>

#include "kvlab/core/error.h"

namespace kvlab {

namespace {

// Copies packed tokens [N,G,D] to a head-major run.
void store_plane(const at::Tensor& incoming, int64_t from, int64_t count, const Run& run,
                 int64_t slot, char* to, int64_t dim) {
  const auto size = static_cast<int64_t>(c10::elementSize(run.type));
  const char* data = static_cast<const char*>(incoming.const_data_ptr());
  const int64_t token_bytes = incoming.stride(0) * size;
  const int64_t head_bytes = incoming.stride(1) * size;
  for (int64_t head = 0; head < run.kv_heads; ++head) {
    const char* source = data + from * token_bytes + head * head_bytes;
    char* target = to + run.offset(head, slot, dim);
    for (int64_t token = 0; token < count; ++token) {
      std::memcpy(target, source, static_cast<size_t>(dim * size));
      source += token_bytes;
      target += dim * size;
    }
  }
}

int64_t copy_plane(const Run& from, const char* source, const Run& to, char* target, int64_t count,
                   int64_t dim) {
  const int64_t bytes = count * dim * static_cast<int64_t>(c10::elementSize(from.type));
  for (int64_t head = 0; head < from.kv_heads; ++head) {
    std::memcpy(target + to.offset(head, 0, dim), source + from.offset(head, 0, dim),
                static_cast<size_t>(bytes));
  }
  return from.kv_heads * bytes;
}

void check_incoming(const at::Tensor& tensor, const char* what, int64_t tokens, int64_t dim,
                    const CacheShape& shape, const std::string& name) {
  KVLAB_CHECK(tensor.scalar_type() == shape.dtype, "[cache.", name, ".append] ", what,
              " must be in the cache's dtype ", c10::toString(shape.dtype), ", got ",
              c10::toString(tensor.scalar_type()));
  KVLAB_CHECK(tensor.dim() == 3 && tensor.size(0) == tokens && tensor.size(1) == shape.kv_heads &&
                  tensor.size(2) == dim && (dim == 1 || tensor.stride(2) == 1),
              "[cache.", name, ".append] expected ", what, " [", tokens, ",", shape.kv_heads, ",",
              dim, "] with contiguous head dimension, got ", tensor.sizes(), " strides ",
              tensor.strides());
}

}  // namespace

Run Run::over(char* keys, char* values, int64_t capacity, const CacheShape& shape) {
  return Run{keys,           values,        capacity,   shape.key_dim,
             shape.value_dim, shape.kv_heads, shape.dtype};
}

KVSegment Run::segment(int64_t slot, int64_t count, int64_t first_position) const {
  KVSegment segment;
  segment.keys = {keys + offset(0, slot, key_dim), key_dim, capacity * key_dim, type};
  segment.values = {values + offset(0, slot, value_dim), value_dim, capacity * value_dim, type};
  segment.count = count;
  segment.first_position = first_position;
  segment.head_end = static_cast<int>(kv_heads);
  return segment;
}

void store_entries(const IncomingKV& incoming, int64_t from, int64_t count, const Run& run,
                   int64_t slot) {
  KVLAB_INVARIANT(slot >= 0 && slot + count <= run.capacity, "[cache.store] slots ", slot, " .. ",
                  slot + count, " of ", run.capacity);
  store_plane(incoming.keys, from, count, run, slot, run.keys, run.key_dim);
  store_plane(incoming.values, from, count, run, slot, run.values, run.value_dim);
}

int64_t copy_entries(const Run& from, const Run& to, int64_t count) {
  KVLAB_INVARIANT(count <= from.capacity && count <= to.capacity, "[cache.copy] ", count,
                  " entries from ", from.capacity, " slots to ", to.capacity);
  return copy_plane(from, from.keys, to, to.keys, count, from.key_dim) +
         copy_plane(from, from.values, to, to.values, count, from.value_dim);
}

RowwiseCache::RowwiseCache(std::string name, const CacheTraits& traits, const CacheShape& shape)
    : KVCache(std::move(name)), traits_(traits), shape_(shape) {
  shape_.validate();
  lengths_.assign(static_cast<size_t>(shape_.rows), 0);
  appended_.assign(static_cast<size_t>(shape_.layers), false);
}

void RowwiseCache::check_row(int row, const char* operation) const {
  KVLAB_CHECK(row >= 0 && row < shape_.rows, "[cache.", name(), ".", operation, "] row ", row,
              " does not exist: ", shape_.rows, " rows");
}

void RowwiseCache::check_outside_step(const char* operation) const {
  KVLAB_CHECK(plan_ == nullptr, "[cache.", name(), ".", operation,
              "] a step is running; end or abort it first");
}

void RowwiseCache::begin_step(const StepPlan& plan) {
  check_outside_step("begin_step");
  for (const RowSlice& slice : plan.slices()) {
    check_row(slice.row, "begin_step");
    KVLAB_CHECK_EQ(slice.first_position, length(slice.row), "[cache.", name(),
                   ".begin_step] first position of row ", slice.row, " (its length)");
    if (slice.end_position() > shape_.max_length) {
      throw CapacityError(detail::concat(
          "[cache.", name(), ".begin_step] row ", slice.row, " is full: length ",
          slice.first_position, ", capacity ", shape_.max_length, ", requested ", slice.count));
    }
    const int64_t allowed =
        traits_.keeps_nothing ? shape_.max_length : shape_.max_step_tokens;
    KVLAB_CHECK_LE(slice.count, allowed, "[cache.", name(), ".begin_step] tokens of row ",
                   slice.row, " in one step (max_step_tokens)");
  }
  reserve(plan);
  plan_ = &plan;
  appended_.assign(appended_.size(), false);
}

void RowwiseCache::append(int layer, const at::Tensor& key, const at::Tensor& value) {
  KVLAB_CHECK(plan_ != nullptr, "[cache.", name(), ".append] begin_step comes first");
  KVLAB_CHECK(layer >= 0 && layer < shape_.layers, "[cache.", name(), ".append] layer ", layer,
              " does not exist: ", shape_.layers, " layers");
  check_incoming(key, "keys", plan_->num_tokens(), shape_.key_dim, shape_, name());
  check_incoming(value, "values", plan_->num_tokens(), shape_.value_dim, shape_, name());
  for (const RowSlice& slice : plan_->slices()) {
    if (slice.count > 0) write(layer, slice, IncomingKV{key, value});
  }
  appended_[static_cast<size_t>(layer)] = true;
}

const KVView& RowwiseCache::view(int layer, const at::Tensor&) {
  KVLAB_CHECK(plan_ != nullptr && layer >= 0 && layer < shape_.layers &&
                  appended_[static_cast<size_t>(layer)],
              "[cache.", name(), ".view] layer ", layer, " was not appended in this step");
  view_.begin(shape_.kv_heads, shape_.key_dim, shape_.value_dim);
  for (const RowSlice& slice : plan_->slices()) {
    view_.begin_slice();
    segments(layer, slice.row, slice.end_position(), view_);
  }
  return view_;
}

void RowwiseCache::end_step() noexcept {
  if (plan_ == nullptr) return;
  for (const RowSlice& slice : plan_->slices()) {
    lengths_[static_cast<size_t>(slice.row)] = commit(slice);
  }
  plan_ = nullptr;
}

void RowwiseCache::abort_step() noexcept {
  if (plan_ == nullptr) return;
  for (const RowSlice& slice : plan_->slices()) {
    drop(slice.row, lengths_[static_cast<size_t>(slice.row)]);
  }
  plan_ = nullptr;
}

int64_t RowwiseCache::length(int row) const {
  check_row(row, "length");
  return lengths_[static_cast<size_t>(row)];
}

void RowwiseCache::inspect(int layer, int row, KVView& view) const {
  check_row(row, "inspect");
  check_outside_step("inspect");
  KVLAB_CHECK(layer >= 0 && layer < shape_.layers, "[cache.", name(), ".inspect] layer ", layer,
              " does not exist: ", shape_.layers, " layers");
  view.begin(shape_.kv_heads, shape_.key_dim, shape_.value_dim);
  view.begin_slice();
  segments(layer, row, length(row), view);
}

void RowwiseCache::reset(int row) {
  check_row(row, "reset");
  check_outside_step("reset");
  drop(row, 0);
  lengths_[static_cast<size_t>(row)] = 0;
}

int64_t RowwiseCache::truncate(int row, int64_t new_length) {
  if (traits_.truncation == Truncation::refused) unsupported("truncate");
  check_row(row, "truncate");
  check_outside_step("truncate");
  KVLAB_CHECK_GE(new_length, 0, "[cache.", name(), ".truncate] new length of row ", row);
  if (traits_.keeps_nothing) return 0;
  KVLAB_CHECK_LE(new_length, length(row), "[cache.", name(), ".truncate] new length of row ", row);
  KVLAB_CHECK(new_length == 0 || holds_enough_for(row, new_length), "[cache.", name(),
              ".truncate] row ", row, " of ", length(row),
              " tokens has evicted entries that a text of ", new_length, " needs");
  drop(row, new_length);
  lengths_[static_cast<size_t>(row)] = new_length;
  return new_length;
}

void RowwiseCache::fork(int from, int to) {
  if (!traits_.forks) unsupported("fork");
  check_row(from, "fork");
  check_row(to, "fork");
  check_outside_step("fork");
  if (from == to) return;
  reset(to);
  copy_row(from, to);
  lengths_[static_cast<size_t>(to)] = lengths_[static_cast<size_t>(from)];
}

bool RowwiseCache::holds_enough_for(int, int64_t) const { return true; }

void RowwiseCache::copy_row(int, int) { unsupported("fork"); }

}  // namespace kvlab
