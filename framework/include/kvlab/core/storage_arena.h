// Where caches get their memory, so that a report's bytes are measured and never claimed.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <limits>
#include <memory>
#include <memory_resource>

namespace kvlab {

/// What allocated bytes are for. Live payload is another thing: it is counted from
/// `KVCache::inspect`, not from allocations.
enum class MemoryKind {
  storage,   ///< K and V
  metadata,  ///< block tables, scales, positions, scores
  scratch,   ///< held while a step runs
};
inline constexpr int kMemoryKinds = 3;

/// Allocated bytes by kind, now and at the highest point.
struct MemoryUsage {
  std::array<int64_t, kMemoryKinds> live{};
  std::array<int64_t, kMemoryKinds> peak{};
  int64_t peak_total = 0;  ///< highest sum over all kinds at one moment

  int64_t live_bytes(MemoryKind kind) const { return live[static_cast<size_t>(kind)]; }
  int64_t peak_bytes(MemoryKind kind) const { return peak[static_cast<size_t>(kind)]; }
  /// storage + metadata, in bytes.
  int64_t reserved() const {
    return live_bytes(MemoryKind::storage) + live_bytes(MemoryKind::metadata);
  }
  int64_t live_total() const { return live[0] + live[1] + live[2]; }

  /// Counts `bytes` more (or fewer, when negative) and raises the peaks.
  void add(MemoryKind kind, int64_t bytes);

  bool operator==(const MemoryUsage&) const = default;
};

struct ArenaOptions {
  bool poison = false;    ///< fill fresh and freed memory with NaN bytes
  /// Touch every fresh page of storage at once, until `end_set_up`: what is allocated before a
  /// measurement then costs nothing on first use.
  bool prefault = false;
  int64_t limit = std::numeric_limits<int64_t>::max();  ///< total live bytes; beyond: CapacityError
};

/// A count of bytes that somebody holds; ends when it is destroyed. Movable, not copyable.
class MemoryHold;

/// Allocates tensors and tables and counts them until their last handle dies. Not thread-safe.
/// Handles may outlive the arena.
class StorageArena {
 public:
  explicit StorageArena(ArenaOptions options = {});
  ~StorageArena();
  StorageArena(const StorageArena&) = delete;
  StorageArena& operator=(const StorageArena&) = delete;

  /// Returns an uninitialised contiguous CPU tensor. Throws CapacityError past the limit, if the
  /// system has no memory, or where a test asked for a failure; nothing is counted then.
  at::Tensor allocate(at::IntArrayRef sizes, at::ScalarType type, MemoryKind kind);

  /// For tables, positions and scores (`std::pmr` containers): counted as metadata. It must
  /// not outlive the arena.
  std::pmr::memory_resource* metadata();

  /// Counts `bytes` that are owned elsewhere but kept alive by the holder, such as a step's own
  /// K and V in a cache that stores nothing.
  MemoryHold hold(int64_t bytes, MemoryKind kind);

  MemoryUsage usage() const;

  /// Whether fresh and freed memory is filled with NaN; pools that keep freed blocks do the same.
  bool poisons() const;

  /// From now on fresh pages are no longer touched in advance: an allocation costs what it costs.
  void end_set_up();

  /// Lets the peaks start again from the live bytes.
  void restart_peaks();

  /// Test hook: the n-th allocation from now (1 = the next one) throws CapacityError. 0 = never.
  void fail_allocation(int64_t n);

  /// Allocations made so far.
  int64_t allocations() const;

 private:
  class Ledger;
  class MetadataResource;
  friend class MemoryHold;
  std::shared_ptr<Ledger> ledger_;  // shared with every tensor's deleter
  std::unique_ptr<MetadataResource> metadata_;
};

class MemoryHold {
 public:
  MemoryHold() = default;
  MemoryHold(MemoryHold&& other) noexcept;
  MemoryHold& operator=(MemoryHold&& other) noexcept;
  ~MemoryHold();

 private:
  friend class StorageArena;
  void release() noexcept;
  std::shared_ptr<StorageArena::Ledger> ledger_;  // shared with the arena, which may die first
  int64_t bytes_ = 0;
  MemoryKind kind_ = MemoryKind::scratch;
};

}  // namespace kvlab
