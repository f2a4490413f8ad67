#include "kvlab/core/storage_arena.h"

#include <ATen/ops/from_blob.h>
#include <c10/core/ScalarType.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "kvlab/core/error.h"

namespace kvlab {

namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;

const char* kind_name(MemoryKind kind) {
  switch (kind) {
    case MemoryKind::storage: return "storage";
    case MemoryKind::metadata: return "metadata";
    case MemoryKind::scratch: return "scratch";
  }
  return "?";
}

}  // namespace

void MemoryUsage::add(MemoryKind kind, int64_t bytes) {
  const auto index = static_cast<size_t>(kind);
  live[index] += bytes;
  peak[index] = std::max(peak[index], live[index]);
  peak_total = std::max(peak_total, live_total());
}

class StorageArena::Ledger {
 public:
  explicit Ledger(ArenaOptions chosen) : options(chosen) {}

  // Counts the bytes or throws with nothing counted.
  void take(int64_t bytes, MemoryKind kind) {
    if (fail_after > 0 && --fail_after == 0) {
      throw CapacityError("[core.arena.allocate] failure requested by a test");
    }
    if (bytes > options.limit - usage.live_total()) {
      throw CapacityError(detail::concat("[core.arena.allocate] ", bytes, " bytes of ",
                                         kind_name(kind), " do not fit: live ", usage.live_total(),
                                         ", limit ", options.limit));
    }
    usage.add(kind, bytes);
    ++allocations;
  }

  ArenaOptions options;
  MemoryUsage usage;
  int64_t fail_after = 0;
  int64_t allocations = 0;
};

class StorageArena::MetadataResource : public std::pmr::memory_resource {
 public:
  explicit MetadataResource(std::shared_ptr<Ledger> ledger) : ledger_(std::move(ledger)) {}

 private:
  void* do_allocate(size_t bytes, size_t alignment) override {
    ledger_->take(static_cast<int64_t>(bytes), MemoryKind::metadata);
    try {
      return std::pmr::new_delete_resource()->allocate(bytes, alignment);
    } catch (...) {
      ledger_->usage.add(MemoryKind::metadata, -static_cast<int64_t>(bytes));
      throw;
    }
  }
  void do_deallocate(void* data, size_t bytes, size_t alignment) override {
    ledger_->usage.add(MemoryKind::metadata, -static_cast<int64_t>(bytes));
    std::pmr::new_delete_resource()->deallocate(data, bytes, alignment);
  }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }

  std::shared_ptr<Ledger> ledger_;  // shared with tensors' deleters
};

StorageArena::StorageArena(ArenaOptions options)
    : ledger_(std::make_shared<Ledger>(options)),
      metadata_(std::make_unique<MetadataResource>(ledger_)) {}

StorageArena::~StorageArena() = default;

at::Tensor StorageArena::allocate(at::IntArrayRef sizes, at::ScalarType type, MemoryKind kind) {
  int64_t bytes = static_cast<int64_t>(c10::elementSize(type));
  for (const int64_t size : sizes) {
    KVLAB_CHECK_GE(size, 0, "[core.arena.allocate] size of a dimension");
    if (__builtin_mul_overflow(bytes, size, &bytes)) {
      throw CapacityError("[core.arena.allocate] the number of bytes does not fit 64 bits");
    }
  }
  ledger_->take(bytes, kind);
  const auto count = static_cast<size_t>(bytes);
  const bool huge = count >= kHugePage;
  const size_t alignment = huge ? kHugePage : kAlignment;
  void* data = nullptr;
  if (posix_memalign(&data, alignment, std::max<size_t>(count, 1)) != 0) {
    ledger_->usage.add(kind, -bytes);
    throw CapacityError(detail::concat("[core.arena.allocate] the system has no ", bytes,
                                       " bytes of memory for ", kind_name(kind)));
  }
  if (huge) madvise(data, count, MADV_HUGEPAGE);  // advice only: a refusal costs speed, not results
  if (ledger_->options.poison) {
    std::memset(data, 0xff, count);  // all bits set is a NaN in f32, f16 and bf16
  } else if (ledger_->options.prefault && kind == MemoryKind::storage) {
    std::memset(data, 0, count);
  }
  auto release = [ledger = ledger_, bytes, kind, count](void* freed) {
    if (ledger->options.poison) std::memset(freed, 0xff, count);
    ledger->usage.add(kind, -bytes);
    std::free(freed);
  };
  return at::from_blob(data, sizes, std::move(release), at::TensorOptions().dtype(type));
}

std::pmr::memory_resource* StorageArena::metadata() { return metadata_.get(); }

MemoryHold StorageArena::hold(int64_t bytes, MemoryKind kind) {
  ledger_->take(bytes, kind);
  MemoryHold hold;
  hold.ledger_ = ledger_;
  hold.bytes_ = bytes;
  hold.kind_ = kind;
  return hold;
}

MemoryUsage StorageArena::usage() const { return ledger_->usage; }

void StorageArena::end_set_up() { ledger_->options.prefault = false; }

bool StorageArena::poisons() const { return ledger_->options.poison; }

void StorageArena::restart_peaks() {
  ledger_->usage.peak = ledger_->usage.live;
  ledger_->usage.peak_total = ledger_->usage.live_total();
}

void StorageArena::fail_allocation(int64_t n) { ledger_->fail_after = n; }

int64_t StorageArena::allocations() const { return ledger_->allocations; }

MemoryHold::MemoryHold(MemoryHold&& other) noexcept { *this = std::move(other); }

MemoryHold& MemoryHold::operator=(MemoryHold&& other) noexcept {
  if (this != &other) {
    release();
    ledger_ = std::move(other.ledger_);
    bytes_ = other.bytes_;
    kind_ = other.kind_;
    other.ledger_.reset();
  }
  return *this;
}

MemoryHold::~MemoryHold() { release(); }

void MemoryHold::release() noexcept {
  if (ledger_) ledger_->usage.add(kind_, -bytes_);
  ledger_.reset();
}

}  // namespace kvlab
