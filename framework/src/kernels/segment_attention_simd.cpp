// The kernels of SegmentAttention, compiled for every instruction set.
#include <algorithm>
#include <cstring>
#include <limits>

#include "segment_attention_work.h"
#include "target_choice.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "../src/kernels/segment_attention_simd.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "segment_attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvlab::kernels {
namespace HWY_NAMESPACE {

// Entries whose scores a row holds at once in the kernel for few queries.
constexpr int64_t kChunk = 128;
// Entries of one tile in the kernel for many queries.
constexpr int64_t kTile = 64;
// Entries rotated at once.
constexpr int64_t kRotated = 32;

using F = hn::ScalableTag<float>;

int64_t padded(int64_t count) { return (count + 15) / 16 * 16; }

// Entries [begin, begin + count) of one KV head's plane.
struct EntryRows {
  const char* data = nullptr;
  int64_t stride = 0;  // bytes
  EntryFormat format = EntryFormat::f32;
  const float* scales = nullptr;
  int64_t scale_stride = 0;
};

int64_t element_size(EntryFormat format) {
  return format == EntryFormat::f32 ? 4 : format == EntryFormat::bf16 ? 2 : 1;
}

EntryRows rows_of(const EntryPlane& plane, int64_t head, int64_t begin) {
  const int64_t size = element_size(plane.format);
  EntryRows rows;
  rows.data = static_cast<const char*>(plane.data) +
              (head * plane.head_stride + begin * plane.token_stride) * size;
  rows.stride = plane.token_stride * size;
  rows.format = plane.format;
  if (plane.format == EntryFormat::int8) {
    rows.scales = plane.scales + head * plane.scale_head_stride + begin * plane.scale_token_stride;
    rows.scale_stride = plane.scale_token_stride;
  }
  return rows;
}

// What one query sees, as bounds of positions.
struct Sight {
  int32_t query = 0;
  int32_t oldest = 0;         // of the model's window
  int32_t oldest_recent = 0;  // of the view's window, behind the sinks
  int32_t sinks = 0;

  // Whether all of [smallest, largest] is visible.
  bool covers(int32_t smallest, int32_t largest) const {
    return largest <= query && smallest >= oldest && (smallest >= oldest_recent || largest < sinks);
  }
};

Sight sight_of(const SegmentAttentionTask& task, int64_t query) {
  const auto from = [query](int64_t window) {
    return static_cast<int32_t>(window == 0 ? 0 : std::max<int64_t>(0, query - window + 1));
  };
  return {static_cast<int32_t>(query), from(task.model_window), from(task.view_window),
          static_cast<int32_t>(std::min<int64_t>(task.sinks, std::numeric_limits<int32_t>::max()))};
}

// Positions of a chunk of entries.
struct ChunkPositions {
  const int32_t* at = nullptr;  // padded to vectors by -1
  int32_t smallest = 0, largest = 0;
};

// Fills `to` with the positions of entries, from `filled` on.
void list_positions(const EntryRun& run, int64_t begin, int64_t count, int32_t* to) {
  if (run.positions != nullptr) {
    std::memcpy(to, run.positions + begin, static_cast<size_t>(count) * sizeof(int32_t));
    return;
  }
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<int32_t>(run.first_position + begin + i);
}

ChunkPositions finish_positions(int32_t* positions, int64_t count) {
  ChunkPositions chunk;
  chunk.at = positions;
  chunk.smallest = *std::min_element(positions, positions + count);
  chunk.largest = *std::max_element(positions, positions + count);
  for (int64_t i = count; i < padded(count); ++i) positions[i] = -1;
  return chunk;
}

// How a row of products becomes scores.
struct ScoreRules {
  float scale = 1;
  float slope = 0;
  bool biased = false;
  Sight sight;
};

// Turns products into scores in place: -infinity where hidden, and behind the last. Returns the
// largest.
float score_entries(const ScoreRules& rules, const ChunkPositions& positions, int64_t count,
                    float* scores) {
  const F d;
  const hn::RebindToSigned<F> di;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto hidden = hn::Set(d, -std::numeric_limits<float>::infinity());
  const auto scale = hn::Set(d, rules.scale);
  const bool masked = !rules.sight.covers(positions.smallest, positions.largest);
  auto most = hidden;
  if (!masked && !rules.biased) {
    for (int64_t i = 0; i < count; i += lanes) {
      auto score = hn::Mul(hn::Load(d, scores + i), scale);
      if (i + lanes > count) {
        score = hn::IfThenElse(hn::FirstN(d, static_cast<size_t>(count - i)), score, hidden);
      }
      hn::Store(score, d, scores + i);
      most = hn::Max(most, score);
    }
    return hn::GetLane(hn::MaxOfLanes(d, most));
  }
  const auto slope = hn::Set(d, rules.slope);
  const auto query = hn::Set(di, rules.sight.query);
  const auto oldest = hn::Set(di, rules.sight.oldest);
  const auto recent = hn::Set(di, rules.sight.oldest_recent);
  const auto sinks = hn::Set(di, rules.sight.sinks);
  for (int64_t i = 0; i < count; i += lanes) {
    const auto at = hn::Load(di, positions.at + i);  // -1 behind the last
    auto score = hn::Mul(hn::Load(d, scores + i), scale);
    if (rules.biased) {
      const auto distance = hn::Min(hn::Sub(at, query), hn::Zero(di));
      score = hn::MulAdd(slope, hn::ConvertTo(d, distance), score);
    }
    const auto outside = hn::Or(hn::Lt(query, at), hn::Lt(at, oldest));
    const auto between = hn::AndNot(hn::Lt(at, sinks), hn::Lt(at, recent));
    score = hn::IfThenElse(hn::RebindMask(d, hn::Or(outside, between)), hidden, score);
    hn::Store(score, d, scores + i);
    most = hn::Max(most, score);
  }
  return hn::GetLane(hn::MaxOfLanes(d, most));
}

// Turns products into weights exp(score - largest) in place, and updates the row's largest score
// and sum. Returns by what earlier sums must be multiplied.
float weigh(const ScoreRules& rules, const ChunkPositions& positions, int64_t count, float* scores,
            float& largest, float& sum) {
  const F d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const float before = largest;
  const float most = score_entries(rules, positions, count, scores);
  const float now = most <= before ? before : most;      // NaN comes through
  if (now == -std::numeric_limits<float>::infinity()) {  // nothing visible so far
    std::fill(scores, scores + count, 0.0F);
    return 1;
  }
  const auto shift = hn::Set(d, now);
  auto total = hn::Zero(d);
  for (int64_t i = 0; i < count; i += lanes) {
    const auto weight = exp_of_negative(d, hn::Sub(hn::Load(d, scores + i), shift));
    hn::Store(weight, d, scores + i);
    total = hn::Add(total, weight);
  }
  const float factor =
      before == now ? 1.0F : hn::GetLane(exp_of_negative(d, hn::Set(d, before - now)));
  largest = now;
  sum = sum * factor + hn::GetLane(hn::SumOfLanes(d, total));
  return factor;
}

// Adds the probabilities that a query row gives to entries, from its products.
void add_probabilities(const ScoreRules& rules, const ChunkPositions& positions, int64_t count,
                       float* scores, float largest, float inverse, float* to) {
  const F d;
  score_entries(rules, positions, count, scores);
  const auto shift = hn::Set(d, largest), by = hn::Set(d, inverse);
  for (int64_t i = 0; i < count; i += static_cast<int64_t>(hn::Lanes(d))) {
    // Rounding may lift a score above the largest of the first pass by a little.
    const auto below = hn::Min(hn::Sub(hn::Load(d, scores + i), shift), hn::Zero(d));
    hn::Store(hn::MulAdd(exp_of_negative(d, below), by, hn::Load(d, to + i)), d, to + i);
  }
}

void multiply(float* values, int64_t count, float factor) {
  const F d;
  const auto by = hn::Set(d, factor);
  for (int64_t i = 0; i < count; i += static_cast<int64_t>(hn::Lanes(d))) {
    hn::Store(hn::Mul(hn::Load(d, values + i), by), d, values + i);
  }
}

// Multiplies by each entry's scale.
void multiply_by_scales(float* values, int64_t count, const float* scales, int64_t stride) {
  for (int64_t i = 0; i < count; ++i) values[i] *= scales[i * stride];
}

// Writes sums / sum to the output of one query, and what a second pass needs.
void finish_row(const WorkContext& context, const QueryRow& row, int64_t query, int64_t head,
                float largest, float sum, const float* mixed, bool paired) {
  const SegmentAttentionTask& task = *context.task;
  const int64_t token = row.first_token + query;
  float* const to = task.output + token * task.output_token_stride + head * task.output_head_stride;
  const float inverse = sum == 0 ? 0 : 1 / sum;  // NaN stays NaN
  context.final_largest[token * task.heads + head] = sum == 0 ? 0 : largest;
  context.final_inverse[token * task.heads + head] = inverse;
  const F d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto by = hn::Set(d, inverse);
  int64_t i = 0;
  if (paired) {
    for (; i + 2 * lanes <= task.value_dim; i += 2 * lanes) {
      const auto even = hn::Mul(hn::Load(d, mixed + i), by);
      const auto odd = hn::Mul(hn::Load(d, mixed + i + lanes), by);
      hn::StoreInterleaved2(even, odd, d, to + i);
    }
  }
  for (; i + lanes <= task.value_dim; i += lanes) {
    hn::StoreU(hn::Mul(hn::Load(d, mixed + i), by), d, to + i);
  }
  for (; i < task.value_dim; ++i) to[i] = mixed[i] * inverse;
}

bool covers_head(const EntryRun& run, int64_t head) {
  return head >= run.head_begin && head < run.head_end;
}

// ---- Few queries: K and V are read once, row by row, for all query heads of a group.

struct FewScratch {
  float *queries, *scores, *rotated;
  PartialRows local;
  int32_t* positions;
  int64_t* rotary;
  int64_t floats;
};

FewScratch few_layout(const WorkContext& context, const WorkItem& item, float* scratch) {
  const SegmentAttentionTask& task = *context.task;
  const int64_t rows = item.queries * context.groups.heads * (item.end_group - item.first_group);
  FewScratch made;
  float* next = scratch;
  const auto take = [&](int64_t floats) {
    float* const at = next;
    next += padded(floats);
    return at;
  };
  made.queries = take(rows * padded(task.key_dim));
  made.scores = take(rows * kChunk);
  made.rotated =
      take(task.rotation.function == nullptr ? 0 : kRotated * task.kv_heads * task.key_dim);
  made.local.largest = take(rows);
  made.local.sum = take(rows);
  made.local.mixed = take(rows * context.mixed_stride);
  made.positions = reinterpret_cast<int32_t*>(take(kChunk));
  made.rotary = reinterpret_cast<int64_t*>(take(2 * kRotated));
  made.floats = next - scratch;
  return made;
}

int64_t FewScratchFloats(const WorkContext& context, const WorkItem& item) {
  return few_layout(context, item, nullptr).floats;
}

// Copies a query to `to`, zeros behind it. Paired: the even elements of every two vectors come
// first.
void pack_query(const float* query, int64_t dim, bool paired, float* to) {
  const F d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  if (paired) {
    for (; i + 2 * lanes <= dim; i += 2 * lanes) {
      hn::Vec<F> even, odd;
      hn::LoadInterleaved2(d, query + i, even, odd);
      hn::Store(even, d, to + i);
      hn::Store(odd, d, to + i + lanes);
    }
  }
  for (; i < dim; ++i) to[i] = query[i];
  for (; i < padded(dim); ++i) to[i] = 0;
}

// Decodes entries of all heads of the run, rotates them and gives the rows of `keys` [entries,
// heads, dim] to be read as fp32.
void rotate_entries(const SegmentAttentionTask& task, const EntryRun& run, int64_t begin,
                    int64_t count, int64_t first_head, int64_t end_head, float* keys,
                    int64_t* rotary) {
  const int64_t heads = end_head - first_head;
  for (int64_t e = 0; e < count; ++e) {
    const int64_t position =
        run.positions != nullptr ? run.positions[begin + e] : run.first_position + begin + e;
    rotary[e] = std::max<int64_t>(0, position + run.rotary_shift);
    for (int64_t head = 0; head < heads; ++head) {
      const EntryRows from = rows_of(run.keys, first_head + head - run.head_begin, begin + e);
      decode_row(from.format, from.data, task.key_dim, from.scales == nullptr ? 1 : *from.scales,
                 keys + (e * heads + head) * task.key_dim);
    }
  }
  task.rotation.function(task.rotation.context, keys, count, heads, rotary);
  if (run.keys.format == EntryFormat::bf16) {
    round_to_bf16_inline(keys, count * heads * task.key_dim);
  }
}

// The entries of an item in the order in which AttendFew reads them, some way ahead of it:
// processors find the end of a run of keys on their own, but not where the next one starts.
class ReadAhead {
 public:
  ReadAhead(const WorkContext& context, const WorkItem& item, int64_t step)
      : groups_(context.groups),
        item_(item),
        step_(step),
        key_bytes_(context.task->key_dim),
        value_bytes_(context.task->value_dim) {
    open_chunk();
    int64_t bytes = 0;
    while (rows_ > 0 && bytes < kAheadBytes) {
      bytes += row_bytes_;
      advance(1);
    }
  }

  HWY_INLINE void advance(int64_t rows) {
    for (; rows > 0 && rows_ > 0; --rows) {
      for (int64_t byte = 0; byte < row_bytes_; byte += 64) hwy::Prefetch(at_ + byte);
      at_ += stride_;
      if (--rows_ == 0) next_plane();
    }
  }

 private:
  static constexpr int64_t kAheadBytes = 4096;

  // The first plane of the chunk at piece_ and begin_, or of the next one.
  void open_chunk() {
    for (; piece_ < item_.num_pieces; ++piece_, begin_ = 0) {
      const RunPiece& piece = item_.pieces[piece_];
      const int64_t first =
          std::max(item_.first_group, piece.run->head_begin * groups_.per_kv_head);
      const int64_t end = std::min(item_.end_group, piece.run->head_end * groups_.per_kv_head);
      if (first >= end || piece.begin + begin_ >= piece.end) continue;
      head_ = first_head_ = groups_.kv_head(first);
      end_head_ = groups_.kv_head(end - 1) + 1;
      values_ = false;
      open_plane();
      return;
    }
  }

  void open_plane() {
    const RunPiece& piece = item_.pieces[piece_];
    const EntryPlane& plane = values_ ? piece.run->values : piece.run->keys;
    const EntryRows from = rows_of(plane, head_ - piece.run->head_begin, piece.begin + begin_);
    rows_ = std::min(step_, piece.end - piece.begin - begin_);
    at_ = from.data;
    stride_ = from.stride;
    row_bytes_ = (values_ ? value_bytes_ : key_bytes_) * element_size(plane.format);
    if (from.scales == nullptr) return;
    const int64_t per_line = std::max<int64_t>(1, 16 / std::max<int64_t>(1, from.scale_stride));
    for (int64_t e = 0; e < rows_; e += per_line) {
      hwy::Prefetch(from.scales + e * from.scale_stride);
    }
  }

  HWY_NOINLINE void next_plane() {
    if (++head_ < end_head_) return open_plane();
    head_ = first_head_;
    values_ = !values_;
    if (values_) return open_plane();
    begin_ += step_;
    open_chunk();
  }

  const HeadGroups& groups_;
  const WorkItem& item_;
  int64_t step_, key_bytes_, value_bytes_;
  int64_t piece_ = 0, begin_ = 0;
  int64_t head_ = 0, first_head_ = 0, end_head_ = 0;
  bool values_ = false;
  const char* at_ = nullptr;
  int64_t rows_ = 0, stride_ = 0, row_bytes_ = 0;
};

void AttendFew(const WorkContext& context, const WorkItem& item, float* scratch) {
  const SegmentAttentionTask& task = *context.task;
  const HeadGroups& groups = context.groups;
  const FewScratch own = few_layout(context, item, scratch);
  const int64_t rows = item.queries * groups.heads;  // of a group
  const int64_t num_groups = item.end_group - item.first_group;
  const int64_t query_stride = padded(task.key_dim);
  const bool rotates = task.rotation.function != nullptr;
  const bool paired_keys =
      !rotates && item.num_pieces > 0 && item.pieces->run->keys.format == EntryFormat::bf16;
  const bool paired_values =
      item.num_pieces > 0 && item.pieces->run->values.format == EntryFormat::bf16;

  PartialRows partial = own.local;
  if (item.partial.largest != nullptr) {
    const int64_t first = (item.first_group * item.row->count + item.first_query) * groups.heads;
    partial = {item.partial.largest + first, item.partial.sum + first,
               item.partial.mixed + first * context.mixed_stride};
  }
  for (int64_t i = 0; i < num_groups * rows; ++i) {
    partial.largest[i] = -std::numeric_limits<float>::infinity();
    partial.sum[i] = 0;
    const int64_t group = item.first_group + i / rows, j = i % rows;
    const int64_t token = item.row->first_token + item.first_query + j / groups.heads;
    const int64_t head = group * groups.heads + j % groups.heads;
    pack_query(task.query + token * task.query_token_stride + head * task.query_head_stride,
               task.key_dim, paired_keys, own.queries + i * query_stride);
  }
  std::fill(partial.mixed, partial.mixed + num_groups * rows * context.mixed_stride, 0.0F);

  const int64_t step = rotates ? kRotated : kChunk;
  ReadAhead ahead(context, item, step);
  const auto read = [&](int64_t entries) { ahead.advance(entries); };
  for (int64_t p = 0; p < item.num_pieces; ++p) {
    const EntryRun& run = *item.pieces[p].run;
    const int64_t first_group = std::max(item.first_group, run.head_begin * groups.per_kv_head);
    const int64_t end_group = std::min(item.end_group, run.head_end * groups.per_kv_head);
    if (first_group >= end_group) continue;
    for (int64_t begin = item.pieces[p].begin; begin < item.pieces[p].end; begin += step) {
      const int64_t count = std::min(step, item.pieces[p].end - begin);
      list_positions(run, begin, count, own.positions);
      const ChunkPositions positions = finish_positions(own.positions, count);
      const int64_t first_head = groups.kv_head(first_group);
      const int64_t heads = groups.kv_head(end_group - 1) + 1 - first_head;
      if (rotates) {
        rotate_entries(task, run, begin, count, first_head, first_head + heads, own.rotated,
                       own.rotary);
      }
      for (int64_t group = first_group; group < end_group; ++group) {
        const int64_t local = (group - item.first_group) * rows;
        const int64_t head = groups.kv_head(group);
        EntryRows keys = rows_of(run.keys, head - run.head_begin, begin);
        if (rotates) {
          keys.data =
              reinterpret_cast<const char*>(own.rotated + (head - first_head) * task.key_dim);
          keys.stride = heads * task.key_dim * static_cast<int64_t>(sizeof(float));
          keys.format = EntryFormat::f32;
          keys.scales = nullptr;
        }
        float* const scores = own.scores + local * kChunk;
        score_rows(keys.format, keys.data, keys.stride, count, task.key_dim,
                   own.queries + local * query_stride, query_stride, rows, scores, kChunk, read);
        if (keys.scales == nullptr) continue;
        for (int64_t j = 0; j < rows; ++j) {
          multiply_by_scales(scores + j * kChunk, count, keys.scales, keys.scale_stride);
        }
      }
      for (int64_t group = first_group; group < end_group; ++group) {
        const int64_t local = (group - item.first_group) * rows;
        const int64_t head = groups.kv_head(group);
        const EntryRows values = rows_of(run.values, head - run.head_begin, begin);
        for (int64_t j = 0; j < rows; ++j) {
          const int64_t i = local + j;
          ScoreRules rules;
          rules.scale = task.scale;
          rules.biased = task.slopes != nullptr;
          if (rules.biased) rules.slope = task.slopes[group * groups.heads + j % groups.heads];
          rules.sight =
              sight_of(task, item.row->first_position + item.first_query + j / groups.heads);
          float* const scores = own.scores + i * kChunk;
          const float factor =
              weigh(rules, positions, count, scores, partial.largest[i], partial.sum[i]);
          if (factor != 1) {
            multiply(partial.mixed + i * context.mixed_stride, context.mixed_stride, factor);
          }
          if (values.scales != nullptr) {
            multiply_by_scales(scores, count, values.scales, values.scale_stride);
          }
        }
        mix_rows(values.format, values.data, values.stride, count, task.value_dim,
                 own.scores + local * kChunk, kChunk, rows,
                 partial.mixed + local * context.mixed_stride, context.mixed_stride, read);
      }
    }
  }
  if (item.partial.largest != nullptr) return;
  for (int64_t i = 0; i < num_groups * rows; ++i) {
    const int64_t group = item.first_group + i / rows, j = i % rows;
    finish_row(context, *item.row, item.first_query + j / groups.heads,
               group * groups.heads + j % groups.heads, partial.largest[i], partial.sum[i],
               partial.mixed + i * context.mixed_stride, paired_values);
  }
}

// ---- Merging.

void MergeRanges(const WorkContext& context, const MergeItem& item, int64_t first, int64_t end) {
  const F d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const HeadGroups& groups = context.groups;
  const SegmentAttentionTask& task = *context.task;
  const float kHidden = -std::numeric_limits<float>::infinity();
  const EntryRun* const run = item.row->first_run < item.row->end_run
                                  ? &task.runs[static_cast<size_t>(item.row->first_run)]
                                  : nullptr;
  const bool paired = item.few && run != nullptr && run->values.format == EntryFormat::bf16;
  for (int64_t query = first; query < end; ++query) {
    for (int64_t head = 0; head < task.heads; ++head) {
      const int64_t group = head / groups.heads;
      const int64_t row = (group * item.row->count + query) * groups.heads + head % groups.heads;
      float largest = kHidden;
      for (int64_t range = 0; range < item.ranges; ++range) {
        const float other = item.partial.largest[range * item.rows + row];
        if (other > largest || other != other) largest = other;
      }
      float* const mixed = item.partial.mixed + row * context.mixed_stride;
      float sum = 0;
      for (int64_t range = 0; range < item.ranges; ++range) {
        const int64_t at = range * item.rows + row;
        const float other = item.partial.largest[at];
        const bool hidden = other == kHidden;
        const float factor =
            hidden ? 0 : hn::GetLane(exp_of_negative(d, hn::Set(d, other - largest)));
        sum += item.partial.sum[at] * factor;
        const auto by = hn::Set(d, factor);
        const float* const from = item.partial.mixed + at * context.mixed_stride;
        for (int64_t i = 0; i < context.mixed_stride; i += lanes) {
          auto value = hn::Mul(hn::Load(d, from + i), by);
          if (range > 0) value = hn::Add(value, hn::Load(d, mixed + i));
          hn::Store(value, d, mixed + i);
        }
      }
      finish_row(context, *item.row, query, head, largest, sum, mixed, paired);
    }
  }
}

// ---- Many queries: tiles of entries in fp32, shared by all queries of the item.

struct TileScratch {
  float *keys, *transposed, *values, *scores, *sums;
  PartialRows local;
  int32_t* positions;
  int64_t* rotary;
  const float** queries;
  int64_t floats;
};

TileScratch tile_layout(const WorkContext& context, int64_t rows, float* scratch) {
  const SegmentAttentionTask& task = *context.task;
  TileScratch made;
  float* next = scratch;
  const auto take = [&](int64_t floats) {
    float* const at = next;
    next += padded(floats);
    return at;
  };
  made.keys = take(kTile * padded(task.key_dim));
  made.transposed = take(padded(task.key_dim) * kTile);
  made.values = take(kTile * context.mixed_stride);
  made.scores = take(rows * kTile);
  made.sums = take(context.task->heads / context.task->kv_heads * kTile);
  made.local.largest = take(rows);
  made.local.sum = take(rows);
  made.local.mixed = take(rows * context.mixed_stride);
  made.positions = reinterpret_cast<int32_t*>(take(kTile));
  made.rotary = reinterpret_cast<int64_t*>(take(2 * kTile));
  made.queries = reinterpret_cast<const float**>(take(2 * rows));
  made.floats = next - scratch;
  return made;
}

int64_t TileScratchFloats(const WorkContext& context, int64_t rows) {
  return tile_layout(context, rows, nullptr).floats;
}

// Adds entries of one head to a tile that holds `filled` already.
void add_to_tile(const WorkContext& context, const TileScratch& tile, const EntryRun& run,
                 int64_t kv_head, int64_t begin, int64_t count, int64_t filled, bool with_values) {
  const SegmentAttentionTask& task = *context.task;
  const int64_t width = padded(task.key_dim);
  list_positions(run, begin, count, tile.positions + filled);
  if (task.rotation.function != nullptr) {
    // Rotated without gaps, then spread to padded rows from the last on.
    float* const rotated = tile.keys + filled * width;
    rotate_entries(task, run, begin, count, kv_head, kv_head + 1, rotated, tile.rotary);
    for (int64_t e = count - 1; e >= 0 && width != task.key_dim; --e) {
      std::memmove(rotated + e * width, rotated + e * task.key_dim,
                   static_cast<size_t>(task.key_dim) * sizeof(float));
    }
  } else {
    const EntryRows keys = rows_of(run.keys, kv_head - run.head_begin, begin);
    for (int64_t e = 0; e < count; ++e) {
      decode_row(keys.format, keys.data + e * keys.stride, task.key_dim,
                 keys.scales == nullptr ? 1 : keys.scales[e * keys.scale_stride],
                 tile.keys + (filled + e) * width);
    }
  }
  if (!with_values) return;
  const EntryRows values = rows_of(run.values, kv_head - run.head_begin, begin);
  for (int64_t e = 0; e < count; ++e) {
    float* const to = tile.values + (filled + e) * context.mixed_stride;
    decode_row(values.format, values.data + e * values.stride, task.value_dim,
               values.scales == nullptr ? 1 : values.scales[e * values.scale_stride], to);
    for (int64_t i = task.value_dim; i < context.mixed_stride; ++i) to[i] = 0;
  }
}

// Rows [0, rows) of queries times the tile's keys.
void score_tile(const SegmentAttentionTask& task, const TileScratch& tile, int64_t rows,
                int64_t count) {
  for (int64_t e = count; e < kTile; ++e) {
    std::fill_n(tile.keys + e * padded(task.key_dim), task.key_dim, 0.0F);
  }
  transpose_rows(tile.keys, padded(task.key_dim), kTile, task.key_dim, tile.transposed);
  multiply_matrices([&](int64_t row) { return tile.queries[row]; }, rows, task.key_dim,
                    tile.transposed, kTile, padded(count), tile.scores, kTile, Sum::fresh);
}

ScoreRules rules_of(const SegmentAttentionTask& task, int64_t query, int64_t head) {
  ScoreRules rules;
  rules.scale = task.scale;
  rules.biased = task.slopes != nullptr;
  if (rules.biased) rules.slope = task.slopes[head];
  rules.sight = sight_of(task, query);
  return rules;
}

void AttendTile(const WorkContext& context, const WorkItem& item, float* scratch) {
  const SegmentAttentionTask& task = *context.task;
  const HeadGroups& groups = context.groups;
  const int64_t rows = item.queries * groups.heads;
  const TileScratch tile = tile_layout(context, rows, scratch);
  const int64_t kv_head = groups.kv_head(item.first_group);
  PartialRows partial = tile.local;
  if (item.partial.largest != nullptr) {
    const int64_t first = (item.first_group * item.row->count + item.first_query) * groups.heads;
    partial = {item.partial.largest + first, item.partial.sum + first,
               item.partial.mixed + first * context.mixed_stride};
  }
  const auto query_of = [&](int64_t j) { return item.first_query + j / groups.heads; };
  const auto head_of = [&](int64_t j) {
    return item.first_group * groups.heads + j % groups.heads;
  };
  for (int64_t j = 0; j < rows; ++j) {
    partial.largest[j] = -std::numeric_limits<float>::infinity();
    partial.sum[j] = 0;
    tile.queries[j] = task.query + (item.row->first_token + query_of(j)) * task.query_token_stride +
                      head_of(j) * task.query_head_stride;
  }
  std::fill(partial.mixed, partial.mixed + rows * context.mixed_stride, 0.0F);

  const auto attend = [&](int64_t count) {
    const ChunkPositions positions = finish_positions(tile.positions, count);
    score_tile(task, tile, rows, count);
    for (int64_t j = 0; j < rows; ++j) {
      const ScoreRules rules = rules_of(task, item.row->first_position + query_of(j), head_of(j));
      const float factor = weigh(rules, positions, count, tile.scores + j * kTile,
                                 partial.largest[j], partial.sum[j]);
      if (factor != 1) {
        multiply(partial.mixed + j * context.mixed_stride, context.mixed_stride, factor);
      }
    }
    multiply_matrices([&](int64_t row) { return tile.scores + row * kTile; }, rows, count,
                      tile.values, context.mixed_stride, context.mixed_stride, partial.mixed,
                      context.mixed_stride, Sum::more);
  };
  int64_t filled = 0;
  for (int64_t p = 0; p < item.num_pieces; ++p) {
    const RunPiece& piece = item.pieces[p];
    if (!covers_head(*piece.run, kv_head)) continue;
    for (int64_t begin = piece.begin; begin < piece.end;) {
      const int64_t count = std::min(kTile - filled, piece.end - begin);
      add_to_tile(context, tile, *piece.run, kv_head, begin, count, filled, true);
      begin += count;
      filled += count;
      if (filled < kTile) continue;
      attend(filled);
      filled = 0;
    }
  }
  if (filled > 0) attend(filled);
  if (item.partial.largest != nullptr) return;
  for (int64_t j = 0; j < rows; ++j) {
    finish_row(context, *item.row, query_of(j), head_of(j), partial.largest[j], partial.sum[j],
               partial.mixed + j * context.mixed_stride, false);
  }
}

// ---- Feedback.

void SumColumns(const WorkContext& context, const ColumnItem& item, const ColumnRequest& request,
                float* scratch) {
  const SegmentAttentionTask& task = *context.task;
  const int64_t ratio = task.heads / task.kv_heads;
  const int64_t at_once = std::max<int64_t>(1, kTileRows / ratio);
  const TileScratch tile = tile_layout(context, at_once * ratio, scratch);
  const QueryRow& row = *item.row;
  const int64_t first_query =
      request.last_queries > 0 ? std::max<int64_t>(0, row.count - request.last_queries) : 0;
  float* to = item.to;
  const auto finish = [&](int64_t count) {
    const ChunkPositions positions = finish_positions(tile.positions, count);
    std::fill(to, to + count, 0.0F);
    float* const sums = tile.sums;  // [ratio, kTile]
    std::fill(sums, sums + ratio * kTile, 0.0F);
    for (int64_t query = first_query; query < row.count; query += at_once) {
      const int64_t rows = std::min(at_once, row.count - query) * ratio;
      for (int64_t j = 0; j < rows; ++j) {
        tile.queries[j] = task.query +
                          (row.first_token + query + j / ratio) * task.query_token_stride +
                          (item.kv_head * ratio + j % ratio) * task.query_head_stride;
      }
      score_tile(task, tile, rows, count);
      for (int64_t j = 0; j < rows; ++j) {
        const int64_t head = item.kv_head * ratio + j % ratio;
        const int64_t stat = (row.first_token + query + j / ratio) * task.heads + head;
        add_probabilities(rules_of(task, row.first_position + query + j / ratio, head), positions,
                          count, tile.scores + j * kTile, context.final_largest[stat],
                          context.final_inverse[stat], sums + j % ratio * kTile);
      }
    }
    using Reduction = ColumnRequest::Reduction;
    for (int64_t r = 0; r < ratio; ++r) {
      for (int64_t e = 0; e < count; ++e) {
        const float value = sums[r * kTile + e];
        to[e] = request.reduction == Reduction::max ? std::max(to[e], value) : to[e] + value;
      }
    }
    if (request.reduction == Reduction::mean) {
      for (int64_t e = 0; e < count; ++e) to[e] /= static_cast<float>(ratio);
    }
    to += count;
  };
  int64_t filled = 0;
  for (int64_t p = 0; p < item.num_pieces; ++p) {
    const RunPiece& piece = item.pieces[p];
    for (int64_t begin = piece.begin; begin < piece.end;) {
      const int64_t count = std::min(kTile - filled, piece.end - begin);
      add_to_tile(context, tile, *piece.run, item.kv_head, begin, count, filled, false);
      begin += count;
      filled += count;
      if (filled < kTile) continue;
      finish(filled);
      filled = 0;
    }
  }
  if (filled > 0) finish(filled);
}

}  // namespace HWY_NAMESPACE
}  // namespace kvlab::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvlab::kernels {

HWY_EXPORT(FewScratchFloats);
HWY_EXPORT(TileScratchFloats);
HWY_EXPORT(AttendFew);
HWY_EXPORT(AttendTile);
HWY_EXPORT(MergeRanges);
HWY_EXPORT(SumColumns);

int64_t few_scratch(const WorkContext& context, const WorkItem& item) {
  return HWY_DYNAMIC_DISPATCH(FewScratchFloats)(context, item);
}

int64_t tile_scratch(const WorkContext& context, int64_t rows) {
  return HWY_DYNAMIC_DISPATCH(TileScratchFloats)(context, rows);
}

void attend_few(const WorkContext& context, const WorkItem& item, float* scratch) {
  HWY_DYNAMIC_DISPATCH(AttendFew)(context, item, scratch);
}

void attend_tile(const WorkContext& context, const WorkItem& item, float* scratch) {
  HWY_DYNAMIC_DISPATCH(AttendTile)(context, item, scratch);
}

void merge_ranges(const WorkContext& context, const MergeItem& item, int64_t first, int64_t end) {
  HWY_DYNAMIC_DISPATCH(MergeRanges)(context, item, first, end);
}

void sum_columns(const WorkContext& context, const ColumnItem& item, const ColumnRequest& request,
                 float* scratch) {
  HWY_DYNAMIC_DISPATCH(SumColumns)(context, item, request, scratch);
}

}  // namespace kvlab::kernels
#endif  // HWY_ONCE
