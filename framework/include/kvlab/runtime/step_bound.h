// What limits a decode step: the bytes that it must read, and where its time goes.
#pragma once

#include <cstdint>
#include <string>

#include "kvlab/cache/kv_cache.h"
#include "kvlab/model/decoder_workspace.h"
#include "kvlab/model/weights.h"

namespace kvlab {

/// Bytes of weights that one decode step reads, whatever its number of rows: all layers, the last
/// norm and the head. A table of embeddings that is not the head counts nothing: a step reads one
/// line of it per row.
int64_t streamed_weight_bytes(const DecoderWeights& weights);

/// Bytes of K and V that the rows hold, scales included: what the attention of a decode step reads.
/// A row counts what it shares with another, since each reads it. Outside a step.
int64_t readable_kv_bytes(const KVCache& cache, const CacheShape& shape);

/// The largest part of a decode step's time.
enum class Bound { weights, attention, overhead };

/// "weight", "attention" or "overhead", as in "weight-bound".
const char* bound_name(Bound bound);

/// Shares of the time of the steps that a profile added up; together 1.
struct StepShares {
  double weights = 0, attention = 0, cache = 0, other = 0;

  /// Cache bookkeeping and everything else together are the overhead.
  Bound bound() const;

  /// "weight-bound: 86 % of a step is products with weights (attention 9 %, cache 1 %, rest 4 %)".
  std::string describe() const;
};

/// Throws UserError for a profile without time.
StepShares step_shares(const StepProfile& profile);

}  // namespace kvlab
