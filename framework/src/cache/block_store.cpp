#include "kvlab/cache/block_store.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "kvlab/core/error.h"

namespace kvlab {

namespace {

// No more blocks than all rows at their longest can use, whatever the limit says: every possible
// block costs metadata.
int64_t useful_blocks(const CacheShape& shape, int64_t block_size, int64_t limit) {
  const int64_t most = shape.rows * ((shape.max_length + block_size - 1) / block_size);
  return limit > 0 ? std::min(limit, most) : most;
}

// Writes one byte to every page: a row that later gets a block that others filled only in part
// touches no page for the first time in the middle of a text. Blocks larger than any model's stay
// reserved only.
void touch_pages(const at::Tensor& memory) {
  constexpr size_t kPage = 4096, kMost = size_t{1} << 30;
  if (memory.nbytes() > kMost) return;
  auto* bytes = static_cast<volatile char*>(memory.mutable_data_ptr());
  for (size_t at = 0; at < memory.nbytes(); at += kPage) bytes[at] = 0;
}

int64_t checked_block_size(int64_t block_size) {
  KVLAB_CHECK_GE(block_size, 1, "[cache.block_store] block_size");
  return block_size;
}

}  // namespace

BlockStore::BlockStore(const CacheShape& shape, int64_t block_size, int64_t max_blocks,
                       StorageArena& arena)
    : shape_(shape),
      block_size_(checked_block_size(block_size)),
      blocks_per_row_((shape.max_length + block_size - 1) / block_size),
      arena_(arena),
      pool_(useful_blocks(shape, block_size, max_blocks), arena.metadata()),
      tables_(arena.metadata()),
      counts_(arena.metadata()),
      blocks_(arena.metadata()),
      addresses_(arena.metadata()) {
  tables_.resize(static_cast<size_t>(shape.rows * blocks_per_row_), -1);
  counts_.resize(static_cast<size_t>(shape.rows), 0);
  blocks_.reserve(static_cast<size_t>(pool_.max_blocks()));
  addresses_.reserve(static_cast<size_t>(pool_.max_blocks()));
}

bool BlockStore::tail_is_shared(const RowSlice& slice) const {
  if (slice.count == 0 || slice.first_position % block_size_ == 0) return false;
  return pool_.references(table(slice.row).back()) > 1;
}

// Counts fresh blocks for all rows of the step. Two rows that share a tail and both write need one
// copy, not two: after the first copy the second row owns the block alone.
int64_t BlockStore::blocks_needed(const StepPlan& plan) const {
  int64_t needed = 0;
  std::map<int32_t, int> left;  // references a shared tail will still have
  for (const RowSlice& slice : plan.slices()) {
    needed += std::max<int64_t>(
        0, blocks_for(slice.end_position()) - counts_[static_cast<size_t>(slice.row)]);
    if (!tail_is_shared(slice)) continue;
    const int32_t tail = table(slice.row).back();
    int& references = left.try_emplace(tail, pool_.references(tail)).first->second;
    if (references > 1) {
      ++needed;
      --references;
    }
  }
  return needed;
}

void BlockStore::open_blocks(int64_t needed) {
  const int64_t before = pool_.opened();
  const int64_t layer_elements =
      shape_.kv_heads * block_size_ * (shape_.key_dim + shape_.value_dim);
  try {
    while (pool_.free() < needed) {
      blocks_.push_back(arena_.allocate({shape_.layers, layer_elements}, shape_.dtype,
                                        MemoryKind::storage));
      addresses_.push_back(static_cast<char*>(blocks_.back().mutable_data_ptr()));
      if (!arena_.poisons()) touch_pages(blocks_.back());  // poisoned memory is touched
      pool_.open();
    }
  } catch (...) {
    while (pool_.opened() > before) {
      pool_.close_newest();
      blocks_.pop_back();
      addresses_.pop_back();
    }
    throw;
  }
}

void BlockStore::reserve(const StepPlan& plan) {
  const int64_t needed = blocks_needed(plan);
  const int64_t available = pool_.max_blocks() - pool_.held();
  if (needed > available) {
    throw CapacityError(detail::concat("[cache.block_store.reserve] the step needs ", needed,
                                       " blocks of ", block_size_, " tokens, ", available, " of ",
                                       pool_.max_blocks(),
                                       " are left. Raise max_blocks or shorten the texts"));
  }
  open_blocks(needed);
  for (const RowSlice& slice : plan.slices()) {
    if (tail_is_shared(slice)) copy_tail(slice);
    int32_t& count = counts_[static_cast<size_t>(slice.row)];
    while (count < blocks_for(slice.end_position())) entry(slice.row, count++) = pool_.take();
  }
}

void BlockStore::copy_tail(const RowSlice& slice) {
  int32_t& tail = entry(slice.row, counts_[static_cast<size_t>(slice.row)] - 1);
  const int32_t copy = pool_.take();
  const int64_t live = slice.first_position % block_size_;
  for (int64_t layer = 0; layer < shape_.layers; ++layer) {
    bytes_copied_ += copy_entries(run(static_cast<int>(layer), tail),
                                  run(static_cast<int>(layer), copy), live);
  }
  pool_.release(tail);
  tail = copy;
}

void BlockStore::share(int from, int to) noexcept {
  const int32_t count = counts_[static_cast<size_t>(from)];
  for (int32_t i = 0; i < count; ++i) {
    entry(to, i) = entry(from, i);
    pool_.share(entry(to, i));
  }
  counts_[static_cast<size_t>(to)] = count;
}

void BlockStore::drop(int row, int64_t from) noexcept {
  int32_t& count = counts_[static_cast<size_t>(row)];
  while (count > blocks_for(from)) {
    const int32_t block = entry(row, --count);
    entry(row, count) = -1;
    if (pool_.release(block)) poison(block);
  }
}

// Freed blocks stay in the pool; whoever reads one by mistake should notice.
void BlockStore::poison(int32_t block) noexcept {
#ifdef NDEBUG
  if (!arena_.poisons()) return;
#endif
  const at::Tensor& freed = blocks_[static_cast<size_t>(block)];
  std::memset(freed.mutable_data_ptr(), 0xff, freed.nbytes());
}

Run BlockStore::run(int layer, int32_t block) const {
  const int64_t key_bytes =
      shape_.kv_heads * block_size_ * shape_.key_dim * shape_.element_bytes();
  char* base = addresses_[static_cast<size_t>(block)] +
               layer * block_size_ * shape_.token_bytes_per_layer();
  return Run::over(base, base + key_bytes, block_size_, shape_);
}

void BlockStore::list(int layer, int row, int64_t end, KVView& view) const {
  if (end == 0) return;
  // Segments differ in where they lie and what comes first only.
  const auto blocks = table(row);
  KVSegment segment = run(layer, blocks[0]).segment(0, block_size_, 0);
  const auto* first = static_cast<const char*>(segment.keys.data);
  const int64_t keys_at = first - addresses_[static_cast<size_t>(blocks[0])];
  const int64_t values_at = static_cast<const char*>(segment.values.data) - first + keys_at;
  for (size_t i = 0; segment.first_position < end; ++i) {
    const char* base = addresses_[static_cast<size_t>(blocks[i])];
    segment.keys.data = base + keys_at;
    segment.values.data = base + values_at;
    segment.count = std::min(block_size_, end - segment.first_position);
    view.add(segment);
    segment.first_position += block_size_;
  }
}

std::span<const int32_t> BlockStore::table(int row) const {
  return {tables_.data() + row * blocks_per_row_,
          static_cast<size_t>(counts_[static_cast<size_t>(row)])};
}

void BlockStore::check_integrity() const {
  pool_.check_integrity();
  std::vector<int> references(static_cast<size_t>(pool_.opened()), 0);
  for (int64_t row = 0; row < shape_.rows; ++row) {
    for (const int32_t block : table(static_cast<int>(row))) {
      KVLAB_INVARIANT(block >= 0 && block < pool_.opened(), "[cache.block_store] row ", row,
                      " names block ", block, " of ", pool_.opened());
      ++references[static_cast<size_t>(block)];
    }
  }
  for (size_t block = 0; block < references.size(); ++block) {
    KVLAB_INVARIANT(references[block] == pool_.references(static_cast<int32_t>(block)),
                    "[cache.block_store] block ", block, " is in ", references[block],
                    " tables but has ", pool_.references(static_cast<int32_t>(block)),
                    " references");
  }
}

}  // namespace kvlab
