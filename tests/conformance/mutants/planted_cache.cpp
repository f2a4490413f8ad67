#include "planted_cache.h"

#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstring>

#include "kvlab/core/error.h"

namespace kvlab::mutants {

namespace {

// The bits of each head's leading elements as elements of another type.
at::Tensor reinterpreted(const at::Tensor& tensor, at::ScalarType type) {
  at::Tensor made = at::zeros(tensor.sizes(), type);
  const auto from_size = static_cast<int64_t>(tensor.element_size());
  const auto to_size = static_cast<int64_t>(made.element_size());
  const int64_t bytes = tensor.size(2) * std::min(from_size, to_size);
  for (int64_t token = 0; token < tensor.size(0); ++token) {
    for (int64_t head = 0; head < tensor.size(1); ++head) {
      std::memcpy(static_cast<char*>(made.mutable_data_ptr()) +
                      (token * made.stride(0) + head * made.stride(1)) * to_size,
                  static_cast<const char*>(tensor.const_data_ptr()) +
                      (token * tensor.stride(0) + head * tensor.stride(1)) * from_size,
                  static_cast<size_t>(bytes));
    }
  }
  return made;
}

}  // namespace

PlantedCache::PlantedCache(Bug bug, std::string name, const CacheTraits& traits,
                           const CacheShape& shape)
    : KVCache(std::move(name)), bug_(bug), traits_(traits), shape_(shape) {
  shape_.validate();
  lengths().assign(static_cast<size_t>(shape_.rows), 0);
  appended_.assign(static_cast<size_t>(shape_.layers), false);
  views_.resize(static_cast<size_t>(shape_.layers));
}

std::vector<int64_t>& PlantedCache::lengths() const {
  static std::vector<int64_t> of_all_instances;
  if (bug_ == Bug::lengths_shared_by_instances) return of_all_instances;
  return lengths_;
}

int PlantedCache::checked_row(int row, const char* operation) const {
  const int rows = static_cast<int>(shape_.rows);
  if (bug_ == Bug::row_taken_modulo) return (row % rows + rows) % rows;
  KVLAB_CHECK(row >= 0 && row < rows, "[cache.", name(), ".", operation, "] row ", row,
              " does not exist: ", rows, " rows");
  return row;
}

int PlantedCache::checked_layer(int layer, const char* operation) const {
  const int layers = static_cast<int>(shape_.layers);
  if (bug_ == Bug::layer_clamped) return std::clamp(layer, 0, layers - 1);
  KVLAB_CHECK(layer >= 0 && layer < layers, "[cache.", name(), ".", operation, "] layer ", layer,
              " does not exist: ", layers, " layers");
  return layer;
}

void PlantedCache::check_outside_step(const char* operation) const {
  KVLAB_CHECK(plan_ == nullptr, "[cache.", name(), ".", operation,
              "] a step is running; end or abort it first");
}

void PlantedCache::check_room(const StepPlan& plan, const RowSlice& slice) {
  int64_t capacity = shape_.max_length;
  if (bug_ == Bug::capacity_of_an_empty_row_unchecked && slice.first_position == 0) return;
  if (bug_ == Bug::capacity_one_too_many) ++capacity;
  if (bug_ == Bug::capacity_one_too_few) --capacity;
  if (slice.end_position() <= capacity) return;
  if (bug_ == Bug::refused_step_advances_earlier_rows) {
    for (const RowSlice& earlier : plan.slices()) {
      if (&earlier == &slice) break;
      length_of(earlier.row) = earlier.end_position();
    }
  }
  throw CapacityError(detail::concat("[cache.", name(), ".begin_step] row ", slice.row,
                                     " is full: length ", slice.first_position, ", capacity ",
                                     capacity, ", requested ", slice.count));
}

void PlantedCache::begin_step(const StepPlan& plan) {
  if (bug_ != Bug::step_begun_twice) check_outside_step("begin_step");
  KVLAB_CHECK(!append_failed_, "[cache.", name(), ".begin_step] an append failed before");
  for (const RowSlice& slice : plan.slices()) {
    const int row = checked_row(slice.row, "begin_step");
    if (bug_ != Bug::step_starts_anywhere) {
      KVLAB_CHECK_EQ(slice.first_position, length(row), "[cache.", name(),
                     ".begin_step] first position of row ", row, " (its length)");
    }
    check_room(plan, slice);
    if (bug_ != Bug::step_of_any_size) {
      KVLAB_CHECK_LE(slice.count, shape_.max_step_tokens, "[cache.", name(),
                     ".begin_step] tokens of row ", row, " in one step (max_step_tokens)");
    }
  }
  reserve(plan);
  plan_ = &plan;
  appended_.assign(appended_.size(), false);
  if (bug_ == Bug::view_adds_to_the_view_before) {
    for (KVView& view : views_) view.begin(shape_.kv_heads, shape_.key_dim, shape_.value_dim);
  }
}

// [N,G,D] in the cache's dtype with contiguous D.
at::Tensor PlantedCache::accepted(const at::Tensor& tensor, const char* what, int64_t dim) const {
  const int64_t tokens = plan_->num_tokens();
  if (bug_ == Bug::one_token_broadcast && tensor.dim() == 3 && tensor.size(0) == 1 &&
      tokens != 1) {
    return accepted(tensor.expand({tokens, -1, -1}), what, dim);
  }
  if (bug_ == Bug::strided_dims_accepted && tensor.dim() == 3 && tensor.size(2) > 1 &&
      tensor.stride(2) != 1) {
    return accepted(tensor.contiguous(), what, dim);
  }
  KVLAB_CHECK(tensor.dim() == 3 && tensor.size(0) == tokens &&
                  tensor.size(1) == shape_.kv_heads && tensor.size(2) == dim &&
                  (dim == 1 || tensor.stride(2) == 1),
              "[cache.", name(), ".append] expected ", what, " [", tokens, ",", shape_.kv_heads,
              ",", dim, "] with contiguous head dimension, got ", tensor.sizes(), " strides ",
              tensor.strides());
  if (tensor.scalar_type() == shape_.dtype) return tensor;
  if (bug_ == Bug::dtype_cast) return tensor.to(shape_.dtype);
  if (bug_ == Bug::bits_reinterpreted) return reinterpreted(tensor, shape_.dtype);
  throw UserError(detail::concat("[cache.", name(), ".append] ", what,
                                 " must be in the cache's dtype ", c10::toString(shape_.dtype),
                                 ", got ", c10::toString(tensor.scalar_type())));
}

void PlantedCache::append(int layer, const at::Tensor& key, const at::Tensor& value) {
  KVLAB_CHECK(plan_ != nullptr, "[cache.", name(), ".append] begin_step comes first");
  layer = checked_layer(layer, "append");
  const at::Tensor keys = accepted(key, "keys", shape_.key_dim);
  const at::Tensor values = accepted(value, "values", shape_.value_dim);
  append_failed_ = bug_ == Bug::failed_append_is_not_forgotten;
  for (const RowSlice& slice : plan_->slices()) {
    if (slice.count > 0) store(layer, slice, IncomingKV{keys, values});
  }
  append_failed_ = false;
  appended_[static_cast<size_t>(layer)] = true;
}

const KVView& PlantedCache::view(int layer, const at::Tensor&) {
  KVLAB_CHECK(plan_ != nullptr, "[cache.", name(), ".view] begin_step comes first");
  layer = checked_layer(layer, "view");
  if (bug_ != Bug::view_before_append) {
    KVLAB_CHECK(appended_[static_cast<size_t>(layer)], "[cache.", name(), ".view] layer ", layer,
                " was not appended in this step");
  }
  KVView& view = views_[static_cast<size_t>(layer)];
  const auto slices = plan_->slices();
  if (bug_ == Bug::view_of_the_step_before && slices.size() > 0 &&
      view.num_slices() == static_cast<int64_t>(slices.size())) {
    return view;
  }
  if (bug_ != Bug::view_adds_to_the_view_before) {
    view.begin(shape_.kv_heads, shape_.key_dim, shape_.value_dim);
  }
  for (const RowSlice& slice : slices) {
    if (bug_ == Bug::view_skips_idle_rows && slice.count == 0) continue;
    view.begin_slice();
    int64_t end = slice.end_position();
    if (bug_ == Bug::own_tokens_missing) end = slice.first_position;
    list(layer, checked_row(slice.row, "view"), end, view);
  }
  return view;
}

void PlantedCache::end_step() noexcept {
  if (plan_ == nullptr) return;
  for (const RowSlice& slice : plan_->slices()) {
    commit(slice);
    length_of(slice.row) = slice.end_position();
    if (bug_ == Bug::idle_row_advances && slice.count == 0) ++length_of(slice.row);
  }
  release_step();
  plan_ = nullptr;
}

void PlantedCache::abort_step() noexcept {
  if (plan_ == nullptr) {
    if (bug_ == Bug::abort_without_step_empties) lengths().assign(lengths().size(), 0);
    return;
  }
  for (const RowSlice& slice : plan_->slices()) {
    if (bug_ == Bug::abort_keeps_what_was_appended && appended_.back()) {
      commit(slice);
      length_of(slice.row) = slice.end_position();
      continue;
    }
    if (bug_ == Bug::first_abort_keeps_the_text && slice.first_position == 0) {
      commit(slice);
      length_of(slice.row) = slice.end_position();
      continue;
    }
    drop(slice.row, length_of(slice.row));
  }
  release_step();
  plan_ = nullptr;
}

int64_t PlantedCache::length(int row) const {
  if (bug_ == Bug::const_call_clears_views) views_.assign(views_.size(), KVView{});
  return length_of(checked_row(row, "length"));
}

void PlantedCache::inspect(int layer, int row, KVView& view) const {
  row = checked_row(row, "inspect");
  layer = checked_layer(layer, "inspect");
  if (bug_ != Bug::operations_inside_a_step) check_outside_step("inspect");
  view.begin(shape_.kv_heads, shape_.key_dim, shape_.value_dim);
  view.begin_slice();
  list(layer, row, length(row), view);
}

void PlantedCache::reset(int row) {
  row = checked_row(row, "reset");
  if (bug_ != Bug::operations_inside_a_step) check_outside_step("reset");
  for (int other = 0; other < shape_.rows; ++other) {
    if (other != row && bug_ != Bug::reset_empties_every_row) continue;
    drop(other, 0);
    if (bug_ != Bug::reset_keeps_the_length) length_of(other) = 0;
  }
}

int64_t PlantedCache::truncate(int row, int64_t new_length) {
  if (bug_ == Bug::truncate_promised_but_missing) unsupported("truncate");
  row = checked_row(row, "truncate");
  if (bug_ != Bug::operations_inside_a_step) check_outside_step("truncate");
  KVLAB_CHECK_GE(new_length, 0, "[cache.", name(), ".truncate] new length of row ", row);
  if (bug_ == Bug::truncate_past_the_length) new_length = std::min(new_length, length(row));
  KVLAB_CHECK_LE(new_length, length(row), "[cache.", name(), ".truncate] new length of row ", row);
  if (new_length > 0) {
    KVLAB_CHECK(resident(row, new_length), "[cache.", name(), ".truncate] row ", row,
                " has evicted entries that a text of ", new_length, " tokens needs");
  }
  if (bug_ == Bug::truncate_does_nothing) return length(row);
  if (bug_ == Bug::truncate_keeps_one_more) new_length = std::min(new_length + 1, length(row));
  if (bug_ == Bug::truncate_resets && new_length < length(row)) new_length = 0;
  drop(row, new_length);
  length_of(row) = new_length;
  return new_length;
}

void PlantedCache::fork(int from, int to) {
  if (bug_ == Bug::fork_not_promised_but_silent) return;
  from = checked_row(from, "fork");
  to = checked_row(to, "fork");
  if (bug_ != Bug::operations_inside_a_step) check_outside_step("fork");
  if (bug_ != Bug::fork_onto_itself_empties && from == to) return;
  const int64_t held = length(to);
  if (bug_ != Bug::fork_leaks_what_the_target_held) drop(to, 0);
  length_of(to) = 0;
  if (bug_ == Bug::fork_sets_the_length_first) length_of(to) = length_of(from);
  copy_row(from, to);
  length_of(to) = length(from);
  if (bug_ == Bug::fork_keeps_a_longer_length) length_of(to) = std::max(length(from), held);
}

}  // namespace kvlab::mutants
