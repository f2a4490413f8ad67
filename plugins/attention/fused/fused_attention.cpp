#include "fused_attention.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include "kvlab/core/error.h"

namespace kvlab::plugins {

namespace {

kernels::EntryPlane plane_of(const KVPlane& plane) {
  kernels::EntryPlane made;
  made.data = plane.data;
  made.token_stride = plane.token_stride;
  made.head_stride = plane.head_stride;
  switch (plane.type) {
    case at::kFloat: made.format = kernels::EntryFormat::f32; break;
    case at::kBFloat16: made.format = kernels::EntryFormat::bf16; break;
    case at::kChar:
      KVLAB_INVARIANT(plane.scales != nullptr, "[attention.fused] int8 entries without scales");
      made.format = kernels::EntryFormat::int8;
      made.scales = plane.scales;
      made.scale_token_stride = plane.scale_token_stride;
      made.scale_head_stride = plane.scale_head_stride;
      break;
    default:
      throw UserError(detail::concat("[attention.fused] reads f32, bf16 and int8 with scales, got ",
                                     plane.type, ". Use another cache_dtype"));
  }
  return made;
}

kernels::ColumnRequest::Reduction reduction_of(FeedbackRequest::GroupReduction reduction) {
  using To = kernels::ColumnRequest::Reduction;
  switch (reduction) {
    case FeedbackRequest::GroupReduction::sum: return To::sum;
    case FeedbackRequest::GroupReduction::mean: return To::mean;
    case FeedbackRequest::GroupReduction::max: return To::max;
  }
  return To::sum;
}

}  // namespace

// Calls the position encoding for tiles of keys, on any thread. What it throws is kept for the
// caller.
struct FusedAttention::Rotation {
  const PositionEncoding& position;
  int64_t dim;
  mutable std::mutex mutex;
  mutable std::exception_ptr thrown;

  static void rotate(const void* context, float* keys, int64_t entries, int64_t heads,
                     const int64_t* positions) {
    const auto& self = *static_cast<const Rotation*>(context);
    try {
      at::Tensor tile = at::from_blob(keys, {entries, heads, self.dim}, at::kFloat);
      const at::Tensor rotary =
          at::from_blob(const_cast<int64_t*>(positions), {entries}, at::kLong);
      self.position.rotate(tile, rotary);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(self.mutex);
      if (!self.thrown) self.thrown = std::current_exception();
    }
  }
};

AttentionTraits fused_traits() {
  AttentionTraits traits;
  traits.reads_segments = true;
  traits.supports_bias = true;
  traits.feedback = {FeedbackRequest::Kind::column_sums, FeedbackRequest::Kind::last_rows};
  return traits;
}

FusedAttention::FusedAttention(const FusedOptions& options)
    : Attention("fused"), options_(options), traits_(fused_traits()) {}

void FusedAttention::read_view(const AttentionInput& input) {
  runs_.clear();
  rows_.clear();
  int64_t number = 0;
  for (const RowSlice& slice : input.plan.slices()) {
    kernels::QueryRow row;
    row.first_run = row.end_run = static_cast<int64_t>(runs_.size());
    row.first_position = slice.first_position;
    row.first_token = slice.offset;
    row.count = slice.count;
    const std::span<const KVSegment> segments = input.view.segments(number++);
    if (slice.count > 0 || input.feedback != nullptr) {
      for (const KVSegment& segment : segments) {
        kernels::EntryRun run;
        run.keys = plane_of(segment.keys);
        run.values = plane_of(segment.values);
        run.count = segment.count;
        run.first_position = segment.first_position;
        run.positions = segment.positions;
        run.rotary_shift = segment.rotary_shift;
        run.head_begin = segment.head_begin;
        run.head_end = segment.head_end;
        runs_.push_back(run);
        const kernels::EntryRun& first = runs_[static_cast<size_t>(row.first_run)];
        KVLAB_INVARIANT(
            run.keys.format == first.keys.format && run.values.format == first.values.format,
            "[attention.fused] the segments of a row must have one element type");
      }
      row.end_run = static_cast<int64_t>(runs_.size());
    }
    rows_.push_back(row);
  }
}

void FusedAttention::forward(const AttentionInput& input) {
  KVLAB_CHECK(input.query.dim() == 3 && input.output.dim() == 3 &&
                  input.query.size(0) == input.output.size(0) &&
                  input.query.size(1) == input.output.size(1) &&
                  input.query.size(2) == input.view.key_dim() &&
                  input.output.size(2) == input.view.value_dim(),
              "[attention.fused] query ", input.query.sizes(), " and output ", input.output.sizes(),
              " do not fit keys of ", input.view.key_dim(), " and values of ",
              input.view.value_dim());
  KVLAB_CHECK(input.query.size(1) % input.view.num_kv_heads() == 0, "[attention.fused] ",
              input.query.size(1), " query heads cannot share ", input.view.num_kv_heads(),
              " KV heads evenly");
  const std::span<const float> slopes = input.position.score_slopes();
  KVLAB_CHECK(slopes.empty() || static_cast<int64_t>(slopes.size()) == input.query.size(1),
              "[attention.fused] expected ", input.query.size(1), " position slopes, got ",
              slopes.size());
  read_view(input);

  // The decoder's tensors are fp32 and used where they are; others are converted.
  at::Tensor query = input.query, output = input.output;
  if (query.scalar_type() != at::kFloat || query.stride(2) != 1) {
    query = query.to(at::kFloat).contiguous();
  }
  if (output.scalar_type() != at::kFloat || output.stride(2) != 1) {
    output = at::empty(output.sizes(), at::kFloat);
  }
  kernels::SegmentAttentionTask task;
  task.query = query.const_data_ptr<float>();
  task.query_token_stride = query.stride(0);
  task.query_head_stride = query.stride(1);
  task.output = output.mutable_data_ptr<float>();
  task.output_token_stride = output.stride(0);
  task.output_head_stride = output.stride(1);
  task.heads = query.size(1);
  task.kv_heads = input.view.num_kv_heads();
  task.key_dim = input.view.key_dim();
  task.value_dim = input.view.value_dim();
  task.runs = runs_;
  task.rows = rows_;
  task.scale = input.scale;
  task.model_window = input.window;
  task.view_window = input.view.window;
  task.sinks = input.view.sinks;
  if (!slopes.empty()) task.slopes = slopes.data();
  task.share_loads = options_.share_loads;
  const Rotation rotation{input.position, task.key_dim, {}, {}};
  if (!input.view.rotated) task.rotation = {Rotation::rotate, &rotation};

  kernel_.forward(task, input.threads);
  if (input.feedback != nullptr) give_feedback(input, task);
  if (rotation.thrown) std::rethrow_exception(rotation.thrown);
  if (output.const_data_ptr() != input.output.const_data_ptr()) input.output.copy_(output);
}

void FusedAttention::give_feedback(const AttentionInput& input,
                                   const kernels::SegmentAttentionTask& task) {
  const FeedbackRequest& wanted = input.feedback->request();
  columns_.clear();
  for (int64_t slice = 0; slice < input.view.num_slices(); ++slice) {
    for (int64_t head = 0; head < task.kv_heads; ++head) {
      columns_.push_back(input.feedback->values(slice, head).data());
    }
  }
  kernels::ColumnRequest request;
  if (wanted.kind == FeedbackRequest::Kind::last_rows) request.last_queries = wanted.rows;
  request.reduction = reduction_of(wanted.reduction);
  request.to = columns_;
  kernel_.column_sums(task, request, input.threads);
}

}  // namespace kvlab::plugins
