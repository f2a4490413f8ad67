#include "kvlab/kernels/segment_attention.h"

#include <algorithm>
#include <vector>

#include "segment_attention_work.h"

namespace kvlab::kernels {

namespace {

// Entries below which a range is not worth a merge.
constexpr int64_t kShortestRange = 128;
// Ranges that all rows of few queries together are cut into, about.
constexpr int64_t kRanges = 16;
// The same for rows of many queries, where query tiles and heads give items already.
constexpr int64_t kTileItems = 12;
constexpr int64_t kShortestTileRange = 512;

int64_t divide_up(int64_t number, int64_t by) { return (number + by - 1) / by; }
int64_t round_up(int64_t number, int64_t to) { return divide_up(number, to) * to; }

// Memory that only grows; its start lies on a cache line.
class GrowingFloats {
 public:
  float* take(int64_t count) {
    const auto needed = static_cast<size_t>(count + kAlign);
    if (floats_.size() < needed) floats_.resize(needed);
    auto address = reinterpret_cast<uintptr_t>(floats_.data());
    address = (address + kAlign * sizeof(float) - 1) & ~(kAlign * sizeof(float) - 1);
    return reinterpret_cast<float*>(address);
  }
  int64_t bytes() const { return static_cast<int64_t>(floats_.capacity() * sizeof(float)); }

 private:
  static constexpr size_t kAlign = 16;
  std::vector<float> floats_;
};

// Adds what queries at [first, last] may see of `run`: at most two pieces, as sinks may lie apart.
void add_visible(const SegmentAttentionTask& task, const EntryRun& run, int64_t first, int64_t last,
                 std::vector<RunPiece>& pieces) {
  if (run.count == 0) return;
  if (run.positions != nullptr) {
    pieces.push_back({&run, 0, run.count});
    return;
  }
  const int64_t start = run.first_position, stop = std::min(start + run.count, last + 1);
  int64_t begin = start;
  if (task.model_window > 0) begin = std::max(begin, first - task.model_window + 1);
  int64_t recent = begin;
  if (task.view_window > 0) recent = std::max(recent, first - task.view_window + 1);
  const int64_t sinks_end = std::min(stop, task.sinks);
  if (recent > sinks_end && begin < sinks_end) {
    pieces.push_back({&run, begin - start, sinks_end - start});
  } else if (begin < sinks_end) {
    recent = begin;
  }
  if (recent < stop) pieces.push_back({&run, recent - start, stop - start});
}

// A row with queries, and its pieces among those of all rows.
struct PlannedRow {
  const QueryRow* row = nullptr;
  size_t first_piece = 0, end_piece = 0;
  int64_t entries = 0;
  bool few = false;
};

}  // namespace

struct SegmentAttention::Impl {
  WorkContext context;
  std::vector<RunPiece> pieces;  // of rows
  std::vector<RunPiece> cut;     // of items
  std::vector<PlannedRow> planned;
  std::vector<WorkItem> few, tiles;
  std::vector<MergeItem> merges;
  std::vector<ColumnItem> columns;
  GrowingFloats partials, finals;
  std::vector<GrowingFloats> scratch;  // of threads
  std::vector<float*> scratch_of_thread;

  void begin(const SegmentAttentionTask& task);
  void plan_rows(const SegmentAttentionTask& task);
  void plan_few(const SegmentAttentionTask& task);
  void plan_tiles(const SegmentAttentionTask& task);
  void plan_columns(const SegmentAttentionTask& task, const ColumnRequest& request);
  void place();

  int64_t tile_queries() const { return std::max<int64_t>(1, kTileRows / context.groups.heads); }
  int64_t add_merge(const PlannedRow& row, int64_t ranges);
  int64_t cut_off(size_t& piece, int64_t& at, size_t end, int64_t length);
  void reserve_scratch(int64_t floats, ThreadPool* threads);
  template <typename Function>
  void for_each(int64_t items, ThreadPool* threads, Function&& function);
};

void SegmentAttention::Impl::begin(const SegmentAttentionTask& task) {
  context.task = &task;
  const int64_t ratio = task.heads / task.kv_heads;
  context.groups =
      task.share_loads ? HeadGroups{task.kv_heads, ratio, 1} : HeadGroups{task.heads, 1, ratio};
  context.mixed_stride = round_up(task.value_dim, 16);
  int64_t tokens = 0;
  for (const QueryRow& row : task.rows) tokens = std::max(tokens, row.first_token + row.count);
  context.final_largest = finals.take(2 * tokens * task.heads);
  context.final_inverse = context.final_largest + tokens * task.heads;
  pieces.clear();
  cut.clear();
  planned.clear();
  few.clear();
  tiles.clear();
  merges.clear();
}

void SegmentAttention::Impl::plan_rows(const SegmentAttentionTask& task) {
  for (const QueryRow& row : task.rows) {
    if (row.count == 0) continue;
    PlannedRow made;
    made.row = &row;
    made.few = row.count * context.groups.heads <= kFewRows;
    made.first_piece = pieces.size();
    for (int64_t i = row.first_run; i < row.end_run; ++i) {
      add_visible(task, task.runs[static_cast<size_t>(i)], row.first_position,
                  row.first_position + row.count - 1, pieces);
    }
    made.end_piece = pieces.size();
    for (size_t i = made.first_piece; i < made.end_piece; ++i) {
      made.entries += pieces[i].end - pieces[i].begin;
    }
    planned.push_back(made);
  }
}

int64_t SegmentAttention::Impl::add_merge(const PlannedRow& row, int64_t ranges) {
  if (ranges == 1) return -1;
  MergeItem merge;
  merge.row = row.row;
  merge.ranges = ranges;
  merge.rows = row.row->count * context.task->heads;
  merge.few = row.few;
  merges.push_back(merge);
  return static_cast<int64_t>(merges.size()) - 1;
}

// Copies the next `length` entries of [piece, end) to `cut`, from entry `at` of `piece` on. Returns
// the number of pieces.
int64_t SegmentAttention::Impl::cut_off(size_t& piece, int64_t& at, size_t end, int64_t length) {
  int64_t number = 0;
  while (length > 0 && piece < end) {
    RunPiece part = pieces[piece];
    part.begin += at;
    const int64_t left = part.end - part.begin;
    if (left <= length) {
      ++piece;
      at = 0;
    } else {
      part.end = part.begin + length;
      at += length;
    }
    length -= part.end - part.begin;
    cut.push_back(part);
    ++number;
  }
  return number;
}

void SegmentAttention::Impl::plan_few(const SegmentAttentionTask& task) {
  int64_t total = 0;
  for (const PlannedRow& row : planned) total += row.few ? row.entries : 0;
  const int64_t length = std::max(kShortestRange, round_up(divide_up(total, kRanges), 64));
  for (const PlannedRow& row : planned) {
    if (!row.few) continue;
    const int64_t ranges = std::max<int64_t>(1, divide_up(row.entries, length));
    WorkItem item;
    item.row = row.row;
    item.queries = row.row->count;
    item.end_group = context.groups.count;
    item.merge = add_merge(row, ranges);
    size_t piece = row.first_piece;
    int64_t at = 0;
    for (item.range = 0; item.range < ranges; ++item.range) {
      item.first_piece = cut.size();
      item.num_pieces = cut_off(piece, at, row.end_piece, length);
      few.push_back(item);
    }
  }
  if (task.share_loads) return;
  // Every head on its own: all ranges of a head before those of the next.
  const std::vector<WorkItem> together = few;
  few.clear();
  for (int64_t group = 0; group < context.groups.count; ++group) {
    for (const WorkItem& item : together) {
      few.push_back(item);
      few.back().first_group = group;
      few.back().end_group = group + 1;
    }
  }
}

void SegmentAttention::Impl::plan_tiles(const SegmentAttentionTask& task) {
  const int64_t tile = tile_queries();
  int64_t items = 0;
  for (const PlannedRow& row : planned) {
    if (!row.few) items += divide_up(row.row->count, tile) * context.groups.count;
  }
  if (items == 0) return;
  const int64_t wanted_ranges = std::max<int64_t>(1, kTileItems / items);
  const size_t of_rows = pieces.size();
  for (const PlannedRow& row : planned) {
    if (row.few) continue;
    const int64_t ranges =
        std::max<int64_t>(1, std::min(wanted_ranges, row.entries / kShortestTileRange));
    const int64_t merge = add_merge(row, ranges);
    // The last queries see the most and come first, so that threads end together.
    for (int64_t t = divide_up(row.row->count, tile) - 1; t >= 0; --t) {
      WorkItem item;
      item.row = row.row;
      item.first_query = t * tile;
      item.queries = std::min(tile, row.row->count - item.first_query);
      item.merge = merge;
      const int64_t position = row.row->first_position + item.first_query;
      int64_t entries = 0;
      for (int64_t i = row.row->first_run; i < row.row->end_run; ++i) {
        add_visible(task, task.runs[static_cast<size_t>(i)], position, position + item.queries - 1,
                    pieces);
      }
      for (size_t i = of_rows; i < pieces.size(); ++i) entries += pieces[i].end - pieces[i].begin;
      const int64_t length = std::max<int64_t>(1, round_up(divide_up(entries, ranges), 64));
      size_t piece = of_rows;
      int64_t at = 0;
      for (item.range = 0; item.range < ranges; ++item.range) {
        item.first_piece = cut.size();
        item.num_pieces = cut_off(piece, at, pieces.size(), length);
        for (item.first_group = 0; item.first_group < context.groups.count; ++item.first_group) {
          item.end_group = item.first_group + 1;
          tiles.push_back(item);
        }
      }
      pieces.resize(of_rows);
    }
  }
}

// Gives every item its addresses, now that the plan has stopped growing.
void SegmentAttention::Impl::place() {
  int64_t rows = 0;
  for (const MergeItem& merge : merges) rows += merge.ranges * merge.rows;
  const int64_t padded = round_up(rows, 16);
  float* const largest = partials.take(2 * padded + rows * context.mixed_stride);
  PartialRows next{largest, largest + padded, largest + 2 * padded};
  const auto behind = [&](const PartialRows& from, int64_t count) {
    return PartialRows{from.largest + count, from.sum + count,
                       from.mixed + count * context.mixed_stride};
  };
  for (MergeItem& merge : merges) {
    merge.partial = next;
    next = behind(next, merge.ranges * merge.rows);
  }
  for (std::vector<WorkItem>* items : {&few, &tiles}) {
    for (WorkItem& item : *items) {
      item.pieces = cut.data() + item.first_piece;
      if (item.merge < 0) continue;
      const MergeItem& merge = merges[static_cast<size_t>(item.merge)];
      item.partial = behind(merge.partial, item.range * merge.rows);
    }
  }
}

void SegmentAttention::Impl::reserve_scratch(int64_t floats, ThreadPool* threads) {
  const auto count = static_cast<size_t>(threads == nullptr ? 1 : threads->threads());
  if (scratch.size() < count) scratch.resize(count);
  scratch_of_thread.resize(count);
  for (size_t i = 0; i < count; ++i) scratch_of_thread[i] = scratch[i].take(floats);
}

template <typename Function>
void SegmentAttention::Impl::for_each(int64_t items, ThreadPool* threads, Function&& function) {
  if (threads != nullptr) {
    threads->for_each(items, [&](int64_t index, int thread) {
      function(index, scratch_of_thread[static_cast<size_t>(thread)]);
    });
    return;
  }
  for (int64_t index = 0; index < items; ++index) function(index, scratch_of_thread[0]);
}

SegmentAttention::SegmentAttention() : impl_(std::make_unique<Impl>()) {}
SegmentAttention::~SegmentAttention() = default;

void SegmentAttention::forward(const SegmentAttentionTask& task, ThreadPool* threads) {
  Impl& plan = *impl_;
  plan.begin(task);
  plan.plan_rows(task);
  plan.plan_few(task);
  plan.plan_tiles(task);
  plan.place();
  int64_t floats = 0;
  for (const WorkItem& item : plan.few) {
    floats = std::max(floats, few_scratch(plan.context, item));
  }
  for (const WorkItem& item : plan.tiles) {
    floats = std::max(floats, tile_scratch(plan.context, item.queries * plan.context.groups.heads));
  }
  plan.reserve_scratch(floats, threads);

  const auto few = static_cast<int64_t>(plan.few.size());
  const auto tiles = static_cast<int64_t>(plan.tiles.size());
  plan.for_each(tiles + few, threads, [&](int64_t index, float* scratch) {
    if (index < tiles) {
      attend_tile(plan.context, plan.tiles[static_cast<size_t>(index)], scratch);
    } else {
      attend_few(plan.context, plan.few[static_cast<size_t>(index - tiles)], scratch);
    }
  });
  for (const MergeItem& merge : plan.merges) {
    const int64_t at_once = plan.tile_queries();
    plan.for_each(divide_up(merge.row->count, at_once), threads, [&](int64_t index, float*) {
      merge_ranges(plan.context, merge, index * at_once,
                   std::min(merge.row->count, (index + 1) * at_once));
    });
  }
}

void SegmentAttention::Impl::plan_columns(const SegmentAttentionTask& task,
                                          const ColumnRequest& request) {
  pieces.clear();
  cut.clear();
  columns.clear();
  size_t number = 0;
  for (const QueryRow& row : task.rows) {
    for (int64_t head = 0; head < task.kv_heads; ++head, ++number) {
      ColumnItem item;
      item.row = &row;
      item.kv_head = head;
      item.to = request.to[number];
      int64_t entries = 0;
      pieces.clear();
      for (int64_t i = row.first_run; i < row.end_run; ++i) {
        const EntryRun& run = task.runs[static_cast<size_t>(i)];
        if (run.count == 0 || head < run.head_begin || head >= run.head_end) continue;
        pieces.push_back({&run, 0, run.count});
        entries += run.count;
      }
      const int64_t length = std::max(kShortestTileRange, round_up(divide_up(entries, 8), 64));
      size_t piece = 0;
      int64_t at = 0;
      for (int64_t done = 0; done < entries; done += length) {
        item.first_piece = cut.size();
        item.num_pieces = cut_off(piece, at, pieces.size(), length);
        columns.push_back(item);
        item.to += length;
      }
    }
  }
  for (ColumnItem& item : columns) item.pieces = cut.data() + item.first_piece;
}

void SegmentAttention::column_sums(const SegmentAttentionTask& task, const ColumnRequest& request,
                                   ThreadPool* threads) {
  Impl& plan = *impl_;
  plan.context.task = &task;
  plan.plan_columns(task, request);
  const int64_t rows = std::max(kTileRows, task.heads / task.kv_heads);
  plan.reserve_scratch(tile_scratch(plan.context, rows), threads);
  plan.for_each(
      static_cast<int64_t>(plan.columns.size()), threads, [&](int64_t index, float* scratch) {
        sum_columns(plan.context, plan.columns[static_cast<size_t>(index)], request, scratch);
      });
}

int64_t SegmentAttention::bytes() const {
  const Impl& plan = *impl_;
  const auto held = [](const auto& vector) {
    return static_cast<int64_t>(vector.capacity() * sizeof(vector[0]));
  };
  int64_t total = plan.partials.bytes() + plan.finals.bytes() + held(plan.pieces) + held(plan.cut) +
                  held(plan.planned) + held(plan.few) + held(plan.tiles) + held(plan.merges) +
                  held(plan.columns);
  for (const GrowingFloats& floats : plan.scratch) total += floats.bytes();
  return total;
}

}  // namespace kvlab::kernels
