// How a call of SegmentAttention is cut into items, and what an item's kernel is given.
#pragma once

#include <cstdint>

#include "kvlab/kernels/segment_attention.h"

namespace kvlab::kernels {

/// Entries [begin, end) of a run.
struct RunPiece {
  const EntryRun* run = nullptr;
  int64_t begin = 0, end = 0;
};

/// Query heads that share loads: the heads of one KV head, or one head alone.
struct HeadGroups {
  int64_t count = 0;        ///< groups
  int64_t heads = 0;        ///< query heads of a group, R
  int64_t per_kv_head = 1;  ///< groups that read the same KV head

  int64_t kv_head(int64_t group) const { return group / per_kv_head; }
};

/// Running softmax of query rows: the largest score, the sum of exponentials, and the weighted sum
/// of values (`stride` floats per row).
struct PartialRows {
  float* largest = nullptr;
  float* sum = nullptr;
  float* mixed = nullptr;
};

/// Some queries of a row, some groups of heads, some of the entries. Row j of a group is query
/// `first_query + j / R`, query head `group * R + j % R`.
struct WorkItem {
  const QueryRow* row = nullptr;
  int64_t first_query = 0, queries = 0;
  int64_t first_group = 0, end_group = 0;
  const RunPiece* pieces = nullptr;
  int64_t num_pieces = 0;
  /// Where entries are cut into ranges: the partial rows of this range for all groups and queries
  /// of the row, row (group * count + query) * R + r. Null: the item writes the output.
  PartialRows partial;

  size_t first_piece = 0;  ///< while the plan grows
  int64_t merge = -1, range = 0;
};

/// A row whose entries were cut into several ranges: the partial rows of range i start i * rows
/// behind `partial`.
struct MergeItem {
  const QueryRow* row = nullptr;
  int64_t ranges = 0, rows = 0;
  bool few = false;
  PartialRows partial;
};

/// Sums of one KV head over some entries.
struct ColumnItem {
  const QueryRow* row = nullptr;
  int64_t kv_head = 0;
  const RunPiece* pieces = nullptr;
  int64_t num_pieces = 0;
  float* to = nullptr;

  size_t first_piece = 0;  ///< while the plan grows
};

/// What all items of a call share.
struct WorkContext {
  const SegmentAttentionTask* task = nullptr;
  HeadGroups groups;
  int64_t mixed_stride = 0;  ///< floats of a partial row
  /// [tokens, heads] largest score and 1 / sum (0 where nothing is visible) of finished queries.
  float* final_largest = nullptr;
  float* final_inverse = nullptr;
};

/// Rows of a group that share one pass in the kernel for few queries; more take the tiled one.
inline constexpr int64_t kFewRows = 16;
/// Rows that the tiled kernel takes at once, about.
inline constexpr int64_t kTileRows = 96;

/// Floats of scratch that a thread needs.
int64_t few_scratch(const WorkContext& context, const WorkItem& item);
int64_t tile_scratch(const WorkContext& context, int64_t rows);

void attend_few(const WorkContext& context, const WorkItem& item, float* scratch);
void attend_tile(const WorkContext& context, const WorkItem& item, float* scratch);
/// Merges the queries `first` to `end` of the row.
void merge_ranges(const WorkContext& context, const MergeItem& item, int64_t first, int64_t end);
void sum_columns(const WorkContext& context, const ColumnItem& item, const ColumnRequest& request,
                 float* scratch);

}  // namespace kvlab::kernels
