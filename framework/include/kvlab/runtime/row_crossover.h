// Up to how many packed tokens the row kernels are faster than the library's matrix product.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvlab/core/thread_pool.h"
#include "kvlab/model/decoder.h"

namespace kvlab {

/// The largest limit there is, also where the row kernels win at every count.
inline constexpr int64_t kMostRowTokens = 4096;

struct RowMeasurement {
  int64_t row_tokens = 1;  ///< most tokens up to which the row kernels won, in [1, kMostRowTokens]
  /// Other programs took the cores meanwhile. That holds up the library far more than the kernels,
  /// so the limit is at most 64 then.
  bool disturbed = false;
};

/// Times both on the model's up projections, for 2 to 512 tokens. Weights are taken in turns, so
/// that they come from where they come from in a step. The library uses its own threads
/// (`threads()`), the kernels those given. Takes about 0.15 s.
RowMeasurement measure_row_tokens(const Decoder& decoder, ThreadPool& pool);

/// What was measured on this machine before. An unreadable file counts as empty and one that cannot
/// be written as kept nowhere: then it is measured again the next time.
class RowCrossoverFile {
 public:
  /// `path` may be empty: nothing is kept.
  explicit RowCrossoverFile(std::string path) : path_(std::move(path)) {}

  /// row_crossover.json in $XDG_CACHE_HOME/kvlab, else in ~/.cache/kvlab.
  static RowCrossoverFile of_user();

  std::optional<int64_t> find(const std::string& key) const;

  /// Writes a new file beside the old one and renames it.
  void keep(const std::string& key, int64_t row_tokens) const;

  struct Entry {
    std::string key;
    int64_t row_tokens;
  };
  /// Entries whose key begins with `prefix`.
  std::vector<Entry> entries(const std::string& prefix) const;

 private:
  std::string path_;
};

/// What the crossover depends on beside the weights: CPU, SIMD target, threads, versions and build.
std::string row_crossover_machine(int threads);

/// `row_crossover_machine` with the format and shape of the weights.
std::string row_crossover_key(const Decoder& decoder, int threads);

/// The limit for a model: what `file` says, else measured and, unless disturbed, kept there. Models
/// whose layers have less than 4 MiB of weights are not measured: 16.
int64_t row_token_limit(const Decoder& decoder, ThreadPool& pool, const RowCrossoverFile& file);

/// The same with the user's file. Within a process equal keys get equal limits, also where nothing
/// can be kept: arms that are compared must not differ in it.
int64_t row_token_limit(const Decoder& decoder, ThreadPool& pool);

}  // namespace kvlab
