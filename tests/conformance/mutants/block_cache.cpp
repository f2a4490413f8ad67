#include "block_cache.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "kvlab/core/error.h"

namespace kvlab::mutants {

CacheTraits block_traits() {
  CacheTraits traits;
  traits.truncation = Truncation::exact;
  traits.forks = true;
  return traits;
}

BlockCache::BlockCache(Bug bug, const CacheShape& shape, int64_t block_size, StorageArena& arena)
    : PlantedCache(bug, "blocks", block_traits(), shape),
      block_size_(block_size),
      blocks_per_row_(blocks_for(shape.max_length)),
      max_blocks_(shape.rows * blocks_per_row_),
      arena_(arena),
      tables_(static_cast<size_t>(max_blocks_), kNoBlock, arena.metadata()),
      counts_(static_cast<size_t>(shape.rows), 0) {
  static int made = 0;
  if (bug_ == Bug::view_order_changes_between_runs) reversed_ = ++made % 2 == 0;
}

int32_t BlockCache::take() {
  KVLAB_INVARIANT(!free_.empty(), "[cache.blocks] no free block is left");
  const int32_t block = free_.back();
  free_.pop_back();
  references(block) = 1;
  return block;
}

void BlockCache::give_back(int32_t block) {
  if (--references(block) > 0 && bug_ != Bug::truncate_frees_shared_blocks) return;
  free_.push_back(block);
}

bool BlockCache::writes_shared_tail(const RowSlice& slice) const {
  if (bug_ == Bug::shared_tail_written) return false;
  if (slice.count == 0 || slice.first_position % block_size_ == 0) return false;
  if (bug_ == Bug::copy_on_write_without_need) return true;
  return references(tail_of(slice)) > 1;
}

// Two rows that share a tail and both write need one copy: afterwards the second owns the block.
int64_t BlockCache::blocks_needed(const StepPlan& plan) const {
  int64_t needed = 0;
  std::map<int32_t, int> left;  // references that a shared tail will still have
  for (const RowSlice& slice : plan.slices()) {
    needed += std::max<int64_t>(0, blocks_for(slice.end_position()) - count(slice.row));
    if (!writes_shared_tail(slice)) continue;
    const int32_t tail = tail_of(slice);
    int& references_left = left.try_emplace(tail, references(tail)).first->second;
    if (references_left > 1 || bug_ == Bug::copy_on_write_without_need) {
      ++needed;
      --references_left;
    }
  }
  return needed;
}

void BlockCache::open_blocks(int64_t needed) {
  const size_t before = blocks_.size();
  const CacheShape& s = shape();
  try {
    while (static_cast<int64_t>(free_.size()) < needed) {
      blocks_.push_back(arena_.allocate(
          {s.layers, s.kv_heads * block_size_ * (s.key_dim + s.value_dim)}, s.dtype,
          MemoryKind::storage));
      references_.push_back(0);
      free_.insert(free_.begin(), static_cast<int32_t>(blocks_.size()) - 1);
    }
  } catch (...) {
    std::erase_if(free_, [&](int32_t block) { return static_cast<size_t>(block) >= before; });
    blocks_.resize(before);
    references_.resize(before);
    throw;
  }
}

void BlockCache::reserve(const StepPlan& plan) {
  const int64_t needed = blocks_needed(plan);
  const int64_t available = max_blocks_ - static_cast<int64_t>(blocks_.size() - free_.size());
  if (needed > available) {
    throw CapacityError(detail::concat("[cache.blocks.begin_step] the step needs ", needed,
                                       " blocks, ", available, " of ", max_blocks_, " are left"));
  }
  if (bug_ == Bug::refused_step_extends_tables) {
    for (const RowSlice& slice : plan.slices()) {
      count(slice.row) = std::max(count(slice.row), blocks_for(slice.end_position()));
    }
  }
  if (bug_ == Bug::refused_step_leaks_blocks) {
    std::vector<int32_t> taken;
    while (static_cast<int64_t>(taken.size()) < needed) {
      open_blocks(1);
      taken.push_back(take());
    }
    free_.insert(free_.end(), taken.begin(), taken.end());
  }
  open_blocks(needed);
  for (const RowSlice& slice : plan.slices()) {
    if (writes_shared_tail(slice)) copy_tail(slice);
    const int64_t blocks = blocks_for(slice.end_position());
    for (int64_t i = 0; i < blocks; ++i) {
      if (entry(slice.row, i) == kNoBlock) entry(slice.row, i) = take();
    }
    count(slice.row) = std::max(count(slice.row), blocks);
  }
}

void BlockCache::copy_tail(const RowSlice& slice) {
  int32_t& tail = tail_of(slice);
  const int32_t shared = tail;
  const int32_t copy = take();
  int64_t live = slice.first_position % block_size_;
  if (bug_ == Bug::copy_on_write_one_entry_short) --live;
  for (int layer = 0; layer < shape().layers; ++layer) {
    if (bug_ == Bug::copy_on_write_first_layer_only && layer > 0) break;
    count_moved(copy_entries(run(layer, shared), run(layer, copy), live));
  }
  give_back(shared);
  tail = copy;
  if (bug_ == Bug::copy_on_write_moves_every_row) {
    for (int32_t& other : tables_) {
      if (other != shared) continue;
      other = copy;
      give_back(shared);
      ++references(copy);
    }
  }
}

Run BlockCache::run(int layer, int32_t block) const {
  return run(layer, blocks_.at(static_cast<size_t>(block)));
}

Run BlockCache::run(int layer, const at::Tensor& storage) const {
  const CacheShape& s = shape();
  char* keys = static_cast<char*>(storage.mutable_data_ptr()) +
               layer * storage.size(1) * s.element_bytes();
  return Run::over(keys, keys + s.kv_heads * block_size_ * s.key_dim * s.element_bytes(),
                   block_size_, s);
}

void BlockCache::store(int layer, const RowSlice& slice, const IncomingKV& incoming) {
  int64_t done = 0;
  while (done < slice.count) {
    const int64_t position = slice.first_position + done;
    const int64_t slot = position % block_size_;
    const int64_t fits = std::min(slice.count - done, block_size_ - slot);
    int64_t index = position / block_size_;
    if (bug_ == Bug::first_entry_goes_to_the_block_before && position > 0) {
      index = (position - 1) / block_size_;
    }
    int64_t source = slice.offset + done;
    if (bug_ == Bug::chunk_restarts_in_every_block) source = slice.offset;
    store_entries(incoming, source, fits, run(layer, entry(slice.row, index)), slot);
    done += fits;
  }
}

void BlockCache::list(int layer, int row, int64_t end, KVView& view) const {
  std::vector<int64_t> order(static_cast<size_t>(blocks_for(end)));
  std::iota(order.begin(), order.end(), 0);
  if (bug_ == Bug::view_in_the_order_of_blocks) {
    std::sort(order.begin(), order.end(),
              [&](int64_t a, int64_t b) { return entry(row, a) < entry(row, b); });
  }
  if (reversed_) std::reverse(order.begin(), order.end());
  for (const int64_t index : order) {
    const int64_t first = index * block_size_;
    const int32_t block = entry(row, index);
    const int64_t filled = std::min(block_size_, end - first);
    int64_t position = first;
    if (bug_ == Bug::positions_from_blocks) position = block * block_size_;
    view.add(run(layer, block).segment(0, filled, position));
  }
}

void BlockCache::drop(int row, int64_t from) noexcept {
  int64_t kept = blocks_for(from);
  if (bug_ == Bug::abort_leaks_blocks && from == length(row)) {
    while (count(row) > kept) entry(row, --count(row)) = kNoBlock;
  }
  if (bug_ == Bug::reset_keeps_the_table && from == 0) return;
  if (bug_ == Bug::reset_frees_twice && from == 0 && count(row) > 0) {
    free_.push_back(entry(row, count(row) - 1));
  }
  if (bug_ == Bug::truncate_frees_the_tail_in_use && from < length(row) &&
      from % block_size_ != 0) {
    give_back(entry(row, kept - 1));
  }
  while (count(row) > kept) {
    const int32_t block = std::exchange(entry(row, --count(row)), kNoBlock);
    if (block != kNoBlock) give_back(block);
  }
}

void BlockCache::copy_row(int from, int to) {
  for (int64_t i = 0; i < count(from); ++i) {
    entry(to, i) = entry(from, i);
    if (bug_ == Bug::fork_counts_all_but_the_tail && i == count(from) - 1) continue;
    ++references(entry(to, i));
    if (bug_ == Bug::fork_counts_twice) ++references(entry(to, i));
  }
  count(to) = count(from);
}

void BlockCache::inspect(int layer, int row, KVView& view) const {
  PlantedCache::inspect(layer, row, view);
  if (bug_ != Bug::inspect_gives_copies) return;
  copies_.resize(static_cast<size_t>(shape().layers * shape().rows));
  std::vector<at::Tensor>& copies = copies_[static_cast<size_t>(row * shape().layers + layer)];
  copies.clear();
  KVView copied;
  copied.begin(shape().kv_heads, shape().key_dim, shape().value_dim);
  copied.begin_slice();
  for (const KVSegment& block : view.segments(0)) {
    const int32_t id = entry(row, block.first_position / block_size_);
    copies.push_back(blocks_.at(static_cast<size_t>(id)).clone());
    copied.add(run(layer, copies.back()).segment(0, block.count, block.first_position));
  }
  view = copied;
}

double BlockCache::fragmentation() const {
  std::vector<int64_t> filled(blocks_.size(), 0);
  for (int row = 0; row < shape().rows; ++row) {
    for (int64_t i = 0; i < blocks_for(length(row)); ++i) {
      int64_t& fill = filled.at(static_cast<size_t>(entry(row, i)));
      const int64_t held = std::min(block_size_, length(row) - i * block_size_);
      fill = bug_ == Bug::fragmentation_counts_shared_twice ? fill + held : std::max(fill, held);
    }
  }
  int64_t live = 0;
  for (const int64_t fill : filled) live += fill;
  const auto slots = static_cast<double>(blocks_.size()) * static_cast<double>(block_size_);
  return blocks_.empty() ? 0 : 1 - static_cast<double>(live) / slots;
}

MemoryUsage block_estimate(Bug bug, const CacheShape& shape, int64_t block_size,
                           const StepSequence& sequence) {
  const auto blocks = [&](int64_t length) {
    return length / block_size + (length % block_size > 0 ? 1 : 0);
  };
  MemoryUsage usage;
  if (bug != Bug::estimate_forgets_metadata) {
    usage.add(MemoryKind::metadata, shape.rows * blocks(shape.max_length) * 4);
  }
  std::vector<int64_t> held(static_cast<size_t>(shape.rows), 0);
  for (const auto& step : sequence.steps) {
    for (const StepSequence::Item& item : step) {
      held[static_cast<size_t>(item.row)] = blocks(item.end);
    }
  }
  int64_t total = 0;
  for (const int64_t count : held) total += count;
  usage.add(MemoryKind::storage,
            total * block_size * shape.layers * shape.token_bytes_per_layer());
  return usage;
}

}  // namespace kvlab::mutants
