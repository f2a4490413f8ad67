// Attentions with one planted bug each: every one must break the property that the table names.
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/util/BFloat16.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <limits>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "broken_property.h"
#include "kvlab/conformance/attention_properties.h"
#include "kvlab/kernels/target.h"

namespace kvlab::conformance {
namespace {

enum class Bug {
  none,
  tiles_heads,
  masks_by_slot,
  masks_top_left,
  sees_one_key_too_many,
  sees_no_own_key,
  window_of_one_more,
  view_window_of_one_more,
  forgets_sinks,
  forgets_scale,
  forgets_softmax_shift,
  value_stride_of_keys,
  values_from_keys,
  sees_padding,
  weighs_a_slot_behind_with_zero,
  first_segment_only,
  window_forgotten_in_ragged_rows,
  forgets_entries_behind_4096,
  sums_in_order_of_address,
  ignores_entry_strides,
  type_of_keys_for_values,
  bias_of_other_sign,
  bias_by_slot,
  keys_left_unrotated,
  rotary_shift_ignored,
  nan_where_nothing_is_visible,
  bf16_sums,
  forgets_rows_behind_the_first,
  forgets_queries_behind_256,
  adds_to_output,
  replaces_output,
  ignores_query_strides,
  scales_the_query_in_place,
  keeps_scratch,
  keeps_the_first_keys,
  weights_of_all_rows,
  counts_no_gathers,
  gathers_without_queries,
  claims_no_bias_when_made,
  codes_without_scales,
  key_scales_for_values,
  bits_by_threads,
  wrong_where_not_best,
  feedback_of_all_rows,
  feedback_never_reduced,
  feedback_by_position,
  feedback_left_unwritten,
  last_bug = feedback_left_unwritten,
};

class Unrotated final : public PositionEncoding {
 public:
  Unrotated() : PositionEncoding("unrotated") {}
  const PositionTraits& traits() const override { return traits_; }

 private:
  PositionTraits traits_;
};

AttentionTraits plain_traits() {
  AttentionTraits traits;
  traits.supports_bias = true;
  traits.feedback = {FeedbackRequest::Kind::column_sums, FeedbackRequest::Kind::last_rows};
  return traits;
}

// Attention in plain loops, right but for one bug.
class WrongAttention final : public Attention {
 public:
  explicit WrongAttention(Bug bug) : Attention("wrong"), bug_(bug), traits_(plain_traits()) {
    traits_.supports_bias = bug != Bug::claims_no_bias_when_made;
  }

  const AttentionTraits& traits() const override { return traits_; }
  int64_t gathered_bytes() const override { return has(Bug::counts_no_gathers) ? 0 : gathered_; }

  void forward(const AttentionInput& input) override {
    if (has(Bug::scales_the_query_in_place)) at::Tensor(input.query).mul_(1.0000001F).mul_(2);
    const KVView view = read_view(input.view);
    const at::Tensor query = queries(input);
    at::Tensor mixed = at::zeros({query.size(0), query.size(1), input.output.size(2)}, at::kFloat);
    double disturbance = 0;
    int64_t number = 0;
    for (const RowSlice& slice : input.plan.slices()) {
      const int64_t current = number++;
      if (slice.count == 0 && !has(Bug::gathers_without_queries)) {
        begin_feedback(input, current);
        continue;
      }
      if (has(Bug::forgets_rows_behind_the_first) && current > 0) continue;
      const Unrotated unrotated;
      DenseKV kv =
          view.dense(current,
                     has(Bug::keys_left_unrotated) ? static_cast<const PositionEncoding&>(unrotated)
                                                   : input.position,
                     input.scratch);
      gathered_ += kv.gathered_bytes;
      if (has(Bug::keeps_scratch) && kv.gathered_bytes > 0) kept_ = kv.keys;
      if (has(Bug::keeps_the_first_keys)) {
        if (!kept_.defined()) kept_ = kv.keys.clone();
        if (kept_.sizes() == kv.keys.sizes()) kv.keys = kept_;
      }
      if (has(Bug::weights_of_all_rows) && kv.values.numel() > 0) {
        disturbance += kv.values.to(at::kFloat).contiguous().const_data_ptr<float>()[0];
      }
      begin_feedback(input, current);
      sums_.assign(static_cast<size_t>(query.size(1) * kv.keys.size(1)), 0);
      for (int64_t i = 0; i < slice.count; ++i) {
        if (has(Bug::forgets_queries_behind_256) && i >= 256) break;
        for (int64_t head = 0; head < query.size(1); ++head) {
          one(input, view, slice, kv, i, head, query, mixed);
        }
      }
      end_feedback(input, current, query.size(1), kv.keys.size(1));
    }
    if (has(Bug::bits_by_threads) && input.threads != nullptr) {
      mixed.mul_(1 + 3e-7 * input.threads->threads());
    }
    if (has(Bug::wrong_where_not_best) &&
        kernels::target() != kernels::available_targets().front()) {
      mixed.mul_(1.01);
    }
    if (has(Bug::weights_of_all_rows)) mixed.mul_(1 + disturbance * 1e-7);
    if (has(Bug::replaces_output)) {
      input.output = mixed;
    } else if (has(Bug::adds_to_output)) {
      input.output.add_(mixed);
    } else {
      input.output.copy_(mixed);
    }
  }

 private:
  bool has(Bug bug) const { return bug_ == bug; }

  void begin_feedback(const AttentionInput& input, int64_t slice) const {
    if (input.feedback == nullptr || has(Bug::feedback_left_unwritten)) return;
    for (int64_t head = 0; head < input.view.num_kv_heads(); ++head) {
      std::ranges::fill(input.feedback->values(slice, head), 0.0F);
    }
  }

  // Reduces the sums of the slice's query heads over each group.
  void end_feedback(const AttentionInput& input, int64_t slice, int64_t heads,
                    int64_t entries) const {
    using Reduction = FeedbackRequest::GroupReduction;
    if (input.feedback == nullptr) return;
    const Reduction reduction = input.feedback->request().reduction;
    const int64_t stored = input.view.num_kv_heads(), group = heads / stored;
    for (int64_t head = 0; head < stored; ++head) {
      const std::span<float> to = input.feedback->values(slice, head);
      for (int64_t r = 0; r < group; ++r) {
        const double* const sums = sums_.data() + (head * group + r) * entries;
        for (size_t e = 0; e < to.size(); ++e) {
          if (reduction == Reduction::max && !has(Bug::feedback_never_reduced)) {
            to[e] = std::max(to[e], static_cast<float>(sums[e]));
          } else if (reduction == Reduction::mean && !has(Bug::feedback_never_reduced)) {
            to[e] += static_cast<float>(sums[e] / static_cast<double>(group));
          } else {
            to[e] += static_cast<float>(sums[e]);
          }
        }
      }
    }
  }

  bool counts_for_feedback(const AttentionInput& input, const RowSlice& slice, int64_t i) const {
    if (input.feedback == nullptr) return false;
    const FeedbackRequest& request = input.feedback->request();
    return request.kind == FeedbackRequest::Kind::column_sums || has(Bug::feedback_of_all_rows) ||
           i >= slice.count - request.rows;
  }

  KVView read_view(const KVView& given) const {
    KVView view;
    view.begin(given.num_kv_heads(), given.key_dim(), given.value_dim());
    view.window = given.window;
    view.sinks = given.sinks;
    view.rotated = given.rotated;
    for (int64_t slice = 0; slice < given.num_slices(); ++slice) {
      view.begin_slice();
      std::vector<KVSegment> segments(given.segments(slice).begin(), given.segments(slice).end());
      if (has(Bug::sums_in_order_of_address)) {
        std::ranges::sort(segments, std::less<>(),
                          [](const KVSegment& segment) { return segment.keys.data; });
      }
      if (has(Bug::first_segment_only) && segments.size() > 1) segments.resize(1);
      for (KVSegment& segment : segments) {
        if (has(Bug::weighs_a_slot_behind_with_zero) && segment.positions == nullptr) {
          ++segment.count;
        }
        if (has(Bug::rotary_shift_ignored)) segment.rotary_shift = 0;
        if (has(Bug::codes_without_scales)) {
          static const float kOne = 1;
          for (KVPlane* plane : {&segment.keys, &segment.values}) {
            plane->scales = &kOne;
            plane->scale_token_stride = plane->scale_head_stride = 0;
          }
        }
        if (has(Bug::key_scales_for_values) && segment.keys.type == segment.values.type) {
          segment.values.scales = segment.keys.scales;
        }
        if (has(Bug::ignores_entry_strides)) {
          segment.keys.token_stride = given.key_dim();
          segment.values.token_stride = given.value_dim();
        }
        // Only where that stays in memory.
        if (has(Bug::type_of_keys_for_values) && segment.keys.type == at::kBFloat16) {
          segment.values.type = at::kBFloat16;
        }
        view.add(segment);
      }
    }
    return view;
  }

  at::Tensor queries(const AttentionInput& input) const {
    if (!has(Bug::ignores_query_strides)) return input.query.to(at::kFloat).contiguous();
    at::Tensor copy = at::empty(input.query.sizes(), at::kFloat);
    if (input.query.scalar_type() != at::kFloat) return input.query.to(at::kFloat).contiguous();
    const float* from = input.query.const_data_ptr<float>();
    std::copy(from, from + copy.numel(), copy.mutable_data_ptr<float>());
    return copy;
  }

  bool visible(const AttentionInput& input, const KVView& view, int64_t query, int64_t key) const {
    if (key > query + (has(Bug::sees_one_key_too_many) ? 1 : 0)) return false;
    if (has(Bug::sees_no_own_key) && key == query) return false;
    const int64_t distance = query - key;
    const int64_t more = has(Bug::window_of_one_more) ? 1 : 0;
    const bool no_window = has(Bug::window_forgotten_in_ragged_rows) && !view.uniform();
    if (input.window > 0 && !no_window && distance >= input.window + more) return false;
    const int64_t view_more = has(Bug::view_window_of_one_more) ? 1 : 0;
    return view.window == 0 || distance < view.window + view_more ||
           (key < view.sinks && !has(Bug::forgets_sinks));
  }

  template <typename Sum>
  static void mix(const std::vector<double>& weights, const std::vector<const float*>& values,
                  int64_t dim, float* to) {
    for (int64_t d = 0; d < dim; ++d) {
      Sum sum = 0, total = 0;
      for (size_t e = 0; e < weights.size(); ++e) {
        sum = sum + static_cast<Sum>(static_cast<float>(weights[e]) * values[e][d]);
        total = total + static_cast<Sum>(static_cast<float>(weights[e]));
      }
      to[d] = static_cast<float>(sum) / static_cast<float>(total);
    }
  }

  // One query head of one token.
  void one(const AttentionInput& input, const KVView& view, const RowSlice& slice,
           const DenseKV& kv, int64_t i, int64_t head, const at::Tensor& query,
           at::Tensor& mixed) {
    const int64_t heads = query.size(1), stored = view.num_kv_heads();
    const int64_t entries = kv.keys.size(1);
    const int64_t key_dim = view.key_dim(), value_dim = view.value_dim();
    const int64_t from = has(Bug::tiles_heads) ? head % stored : head / (heads / stored);
    const at::Tensor all_keys = kv.keys.select(0, from).to(at::kFloat).contiguous();
    const at::Tensor all_values = kv.values.select(0, from).to(at::kFloat).contiguous();
    const float* const keys = all_keys.const_data_ptr<float>();
    const float* const values = all_values.const_data_ptr<float>();
    const int32_t* const positions =
        kv.positions.const_data_ptr<int32_t>() + (kv.positions.size(0) == 1 ? 0 : from * entries);
    const std::span<const float> slopes = input.position.score_slopes();
    const float* const asked =
        query.const_data_ptr<float>() + ((slice.offset + i) * heads + head) * key_dim;
    const int64_t at = slice.first_position + i;

    std::vector<double> scores;
    std::vector<int64_t> columns;
    std::vector<const float*> seen;
    std::vector<float> wrong_value(static_cast<size_t>(value_dim));
    std::vector<std::vector<float>> wrong_values;
    double hidden = 0;  // 0 times what a hidden slot holds
    double largest = -std::numeric_limits<double>::infinity();
    const int64_t read =
        has(Bug::forgets_entries_behind_4096) ? std::min<int64_t>(entries, 4096) : entries;
    for (int64_t e = 0; e < read; ++e) {
      const float* value = values + e * value_dim;
      const int64_t key_position = has(Bug::masks_by_slot) ? e : positions[e];
      bool shown = positions[e] != kNoPosition && visible(input, view, at, key_position);
      if (has(Bug::sees_padding)) shown = shown || positions[e] == kNoPosition;
      if (has(Bug::masks_top_left) && input.window == 0 && view.window == 0) shown = e <= i;
      if (!shown) {
        if (has(Bug::weighs_a_slot_behind_with_zero)) hidden += 0.0 * value[0];
        continue;
      }
      double score = 0;
      for (int64_t d = 0; d < key_dim; ++d) score += double{asked[d]} * keys[e * key_dim + d];
      if (!has(Bug::forgets_scale)) score *= input.scale;
      if (!slopes.empty()) {
        const auto distance = static_cast<double>((has(Bug::bias_by_slot) ? e : positions[e]) - at);
        score += (has(Bug::bias_of_other_sign) ? -1 : 1) *
                 double{slopes[static_cast<size_t>(head)]} * distance;
      }
      if (has(Bug::values_from_keys) || has(Bug::value_stride_of_keys)) {
        for (int64_t d = 0; d < value_dim; ++d) {
          wrong_value[static_cast<size_t>(d)] =
              has(Bug::values_from_keys) ? keys[e * key_dim + d % key_dim]
                                         : values[(e * key_dim + d) % (entries * value_dim)];
        }
        wrong_values.push_back(wrong_value);
        value = wrong_values.back().data();
      }
      scores.push_back(score);
      columns.push_back(has(Bug::feedback_by_position)
                            ? std::min<int64_t>(positions[e], entries - 1) : e);
      seen.push_back(value);
      largest = std::max(largest, score);
    }
    if (scores.empty() && !has(Bug::nan_where_nothing_is_visible)) return;
    if (has(Bug::forgets_softmax_shift)) largest = 0;
    for (double& score : scores) score = std::exp(static_cast<float>(score - largest));
    if (counts_for_feedback(input, slice, i)) {
      const double total = std::accumulate(scores.begin(), scores.end(), 0.0);
      for (size_t e = 0; e < scores.size(); ++e) {
        sums_[static_cast<size_t>(head * entries + columns[e])] += scores[e] / total;
      }
    }
    float* const to =
        mixed.mutable_data_ptr<float>() + ((slice.offset + i) * heads + head) * value_dim;
    if (has(Bug::bf16_sums) && input.query.scalar_type() == at::kBFloat16) {
      mix<c10::BFloat16>(scores, seen, value_dim, to);
    } else if (has(Bug::sums_in_order_of_address)) {
      mix<float>(scores, seen, value_dim, to);
    } else {
      mix<double>(scores, seen, value_dim, to);
    }
    to[0] += static_cast<float>(hidden);
  }

  Bug bug_;
  AttentionTraits traits_;
  int64_t gathered_ = 0;
  at::Tensor kept_;
  std::vector<double> sums_;  // [H,T] of the slice: probabilities by entry
};

struct Mutant {
  Bug bug;
  const char* name;
  const char* killed_by;
};

constexpr Mutant kMutants[] = {
    {Bug::tiles_heads, "tiles_heads", "SharesAKVHeadBetweenNeighbours"},
    {Bug::masks_by_slot, "masks_by_slot", "TakesMasksFromPositionsNotFromSlots"},
    {Bug::masks_top_left, "masks_top_left", "AlignsQueriesWithKeysByPosition"},
    {Bug::sees_one_key_too_many, "sees_one_key_too_many", "AlignsQueriesWithKeysByPosition"},
    {Bug::sees_no_own_key, "sees_no_own_key", "AlignsQueriesWithKeysByPosition"},
    {Bug::window_of_one_more, "window_of_one_more", "ObeysTheModelsWindow"},
    {Bug::view_window_of_one_more, "view_window_of_one_more", "ObeysTheViewsWindowAndSinks"},
    {Bug::forgets_sinks, "forgets_sinks", "ObeysTheViewsWindowAndSinks"},
    {Bug::forgets_scale, "forgets_scale", "AppliesTheScale"},
    {Bug::forgets_softmax_shift, "forgets_softmax_shift", "SurvivesLargeScores"},
    {Bug::value_stride_of_keys, "value_stride_of_keys", "KeepsKeysAndValuesApart"},
    {Bug::values_from_keys, "values_from_keys", "KeepsKeysAndValuesApart"},
    {Bug::sees_padding, "sees_padding", "ReadsHeadsOfDifferentCounts"},
    {Bug::weighs_a_slot_behind_with_zero, "weighs_a_slot_behind_with_zero",
     "NeverReadsUnusedSlots"},
    {Bug::first_segment_only, "first_segment_only", "ReadsManySegments"},
    {Bug::window_forgotten_in_ragged_rows, "window_forgotten_in_ragged_rows",
     "AgreesOnRandomScenes"},
    {Bug::forgets_entries_behind_4096, "forgets_entries_behind_4096", "ReadsVeryLongRows"},
    {Bug::sums_in_order_of_address, "sums_in_order_of_address", "DoesNotDependOnWhereBlocksLie"},
    {Bug::ignores_entry_strides, "ignores_entry_strides", "ReadsAnyStrides"},
    {Bug::type_of_keys_for_values, "type_of_keys_for_values", "ReadsBf16Entries"},
    {Bug::bias_of_other_sign, "bias_of_other_sign", "AddsABiasByDistance"},
    {Bug::bias_by_slot, "bias_by_slot", "AddsABiasByDistance"},
    {Bug::keys_left_unrotated, "keys_left_unrotated", "RotatesKeysKeptBeforePosition"},
    {Bug::rotary_shift_ignored, "rotary_shift_ignored", "RotatesKeysKeptBeforePosition"},
    {Bug::nan_where_nothing_is_visible, "nan_where_nothing_is_visible",
     "GivesZerosWhereThereIsNothingToSee"},
    {Bug::bf16_sums, "bf16_sums", "AccumulatesBf16QueriesInF32"},
    {Bug::forgets_rows_behind_the_first, "forgets_rows_behind_the_first",
     "AnswersRowsOfUnequalLengthInOneStep"},
    {Bug::forgets_queries_behind_256, "forgets_queries_behind_256",
     "AnswersMoreQueriesThanItHoldsAtOnce"},
    {Bug::adds_to_output, "adds_to_output", "ReadsOneSegment"},
    {Bug::replaces_output, "replaces_output", "ReadsOneSegment"},
    {Bug::ignores_query_strides, "ignores_query_strides", "ReadsQueriesOfAFusedProjection"},
    {Bug::scales_the_query_in_place, "scales_the_query_in_place", "ReadsOneSegment"},
    {Bug::keeps_scratch, "keeps_scratch", "ReadsManySegments"},
    {Bug::keeps_the_first_keys, "keeps_the_first_keys", "IsRepeatableToTheBit"},
    {Bug::weights_of_all_rows, "weights_of_all_rows", "NeighboursDoNotChangeARow"},
    {Bug::counts_no_gathers, "counts_no_gathers", "CountsTheBytesItGathers"},
    {Bug::gathers_without_queries, "gathers_without_queries", "AsksNothingForARowWithoutQueries"},
    {Bug::claims_no_bias_when_made, "claims_no_bias_when_made", "DescribesItself"},
    {Bug::codes_without_scales, "codes_without_scales", "ReadsCodesWithTheirScales"},
    {Bug::key_scales_for_values, "key_scales_for_values", "ReadsCodesWithTheirScales"},
    {Bug::bits_by_threads, "bits_by_threads", "GivesTheSameBitsForAnyNumberOfThreads"},
    {Bug::wrong_where_not_best, "wrong_where_not_best", "AgreesOnEveryInstructionSet"},
    {Bug::feedback_of_all_rows, "feedback_of_all_rows", "GivesTheReductionsItDeclares"},
    {Bug::feedback_never_reduced, "feedback_never_reduced", "GivesTheReductionsItDeclares"},
    {Bug::feedback_by_position, "feedback_by_position", "GivesTheReductionsItDeclares"},
    {Bug::feedback_left_unwritten, "feedback_left_unwritten", "GivesTheReductionsItDeclares"},
};

// A registry that holds nothing else.
Registry registry_with(Bug bug) {
  Registry registry;
  AttentionEntry entry;
  entry.info.name = "wrong";
  entry.info.summary = "Right but for one bug.";
  entry.traits = [](const Options&) { return plain_traits(); };
  entry.create = [bug](const Options&) { return std::make_unique<WrongAttention>(bug); };
  registry.add(std::move(entry));
  return registry;
}

ComponentSpec wrong() {
  ComponentSpec spec;
  spec.type = "wrong";
  return spec;
}

TEST(AttentionMutants, WithoutABugEveryPropertyHolds) {
  const Registry registry = registry_with(Bug::none);
  for (const AttentionProperty& property : attention_properties()) {
    const auto broken = what_breaks(attention_properties(), property.name, registry, wrong());
    EXPECT_FALSE(broken) << property.name << ": " << broken.value_or("");
  }
}

TEST(AttentionMutants, EveryOneIsKilledByItsProperty) {
  std::set<Bug> tested;
  for (const Mutant& mutant : kMutants) {
    const auto broken =
        what_breaks(attention_properties(), mutant.killed_by, registry_with(mutant.bug), wrong());
    EXPECT_TRUE(broken) << mutant.name << " survives " << mutant.killed_by;
    if (broken) {
      std::cout << mutant.name << " | " << mutant.killed_by << " | " << broken->substr(0, 160)
                << "\n";
    }
    tested.insert(mutant.bug);
  }
  EXPECT_EQ(tested.size(), static_cast<size_t>(Bug::last_bug))
      << "every bug stands in the table";
}

TEST(AttentionMutants, EveryPropertyKillsOne) {
  for (const AttentionProperty& property : attention_properties()) {
    // KVView drops empty runs, so that no attention meets one.
    if (std::string(property.name) == "IgnoresEmptySegments") continue;
    EXPECT_TRUE(std::ranges::any_of(
        kMutants,
        [&](const Mutant& mutant) { return std::string(mutant.killed_by) == property.name; }))
        << property.name << " has no planted bug";
  }
}

}  // namespace
}  // namespace kvlab::conformance
