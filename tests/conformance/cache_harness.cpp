#include "cache_harness.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace kvlab::conformance {

namespace {

// Of the largest output element: fp32 sums of some dozens of terms.
constexpr double kTolerance = 1e-5;

double element(const KVPlane& plane, int64_t head, int64_t entry, int64_t dim) {
  const int64_t offset = head * plane.head_stride + entry * plane.token_stride + dim;
  if (plane.type == at::kFloat) return static_cast<const float*>(plane.data)[offset];
  return static_cast<float>(static_cast<const at::BFloat16*>(plane.data)[offset]);
}

// Whether one stored entry holds exactly the wanted elements.
struct Matches {
  int64_t local, entry, head;
  bool operator()(const KVPlane& plane, const std::vector<double>& wanted, int64_t dim) const {
    for (int64_t d = 0; d < dim; ++d) {
      if (element(plane, local, entry, d) != wanted[static_cast<size_t>(head * dim + d)])
        return false;
    }
    return true;
  }
};

}  // namespace

CacheHarness::CacheHarness(const CacheCase& chosen, uint64_t seed)
    : case_(chosen),
      random_(seed),
      arena_(ArenaOptions{.poison = true}),
      scratch_(ArenaOptions{.poison = true}),
      oracle_(chosen.shape, chosen.stored_heads) {
  const Registry& registry = builtin_registry();
  cache_ = registry.make_cache(parse_component_spec(chosen.spec), chosen.shape, arena_);
  for (const AttentionEntry& entry : registry.attentions()) {
    attentions_.push_back(entry.create(resolve_options(entry.info, {entry.info.name, {}, ""},
                                                       "attention")));
  }
  position_ = registry.make_position({"none", {}, ""}, PositionShape{});
}

void CacheHarness::begin(const std::vector<Feed>& feeds) {
  // Unique ids, so that no two tokens of a test look alike.
  static int32_t next_token = 0;
  lengths_before_.clear();
  for (int row = 0; row < rows(); ++row) lengths_before_.push_back(length(row));
  feeds_ = feeds;
  plan_.clear();
  outputs_.clear();
  alive_.clear();
  fused_ = steps_++ % 2 == 1;
  std::vector<std::vector<int32_t>> fresh;
  for (const Feed& feed : feeds) {
    fresh.emplace_back();
    for (int64_t i = 0; i < feed.count; ++i) fresh.back().push_back(++next_token);
    // A cache that keeps nothing is fed the whole text again.
    std::vector<int32_t> fed;
    if (traits().keeps_nothing) fed = oracle_.text(feed.row);
    fed.insert(fed.end(), fresh.back().begin(), fresh.back().end());
    RowSlice slice;
    slice.row = feed.row;
    slice.first_position = traits().keeps_nothing ? 0 : length(feed.row);
    slice.count = static_cast<int64_t>(fed.size());
    slice.phase = feed.count == 1 ? Phase::decode : Phase::prefill;
    plan_.add(slice, fed);
  }
  cache_->begin_step(plan_);
  for (size_t i = 0; i < feeds.size(); ++i) {
    for (const int32_t token : fresh[i]) oracle_.append(feeds[i].row, token);
  }
}

// [N,G,D], on odd steps as a slice of a fused [N, other | K | V] whose other part is NaN.
at::Tensor CacheHarness::incoming(int layer, bool keys) {
  const CacheShape& s = case_.shape;
  const int64_t dim = keys ? s.key_dim : s.value_dim;
  const int64_t width = s.kv_heads * dim;
  const int64_t tokens = plan_.num_tokens();
  at::Tensor whole = at::full({tokens, fused_ ? width + 11 : width},
                              std::numeric_limits<float>::quiet_NaN(), at::kFloat);
  float* data = whole.mutable_data_ptr<float>();
  const int64_t row_width = whole.size(1);
  for (int64_t token = 0; token < tokens; ++token) {
    const int32_t id = plan_.tokens()[static_cast<size_t>(token)];
    for (int64_t head = 0; head < s.kv_heads; ++head) {
      for (int64_t d = 0; d < dim; ++d) {
        data[token * row_width + (row_width - width) + head * dim + d] =
            keys ? token_key(id, layer, head, d) : token_value(id, layer, head, d);
      }
    }
  }
  whole = whole.to(s.dtype);
  return whole.narrow(1, row_width - width, width).view({tokens, s.kv_heads, dim});
}

void CacheHarness::append(int layer) {
  const at::Tensor key = incoming(layer, true);
  const at::Tensor value = incoming(layer, false);
  alive_.push_back(key);
  alive_.push_back(value);
  cache_->append(layer, key, value);
}

void CacheHarness::attend(int layer) {
  const CacheShape& s = case_.shape;
  const int64_t tokens = plan_.num_tokens();
  at::Tensor query = at::empty({tokens, s.query_heads, s.key_dim}, at::kFloat);
  float* data = query.mutable_data_ptr<float>();
  std::uniform_real_distribution<float> uniform(-1, 1);
  for (int64_t i = 0; i < query.numel(); ++i) data[i] = uniform(random_);
  const KVView& view = cache_->view(layer, query);
  ASSERT_EQ(view.num_slices(), static_cast<int64_t>(plan_.slices().size()));
  for (size_t i = 0; i < attentions_.size(); ++i) {
    if (alternate_ && static_cast<int64_t>(i) != steps_ % static_cast<int64_t>(attentions_.size()))
      continue;
    at::Tensor output = at::full({tokens, s.query_heads, s.value_dim},
                                 std::numeric_limits<float>::quiet_NaN(), at::kFloat);
    AttentionInput input{query, output, plan_, view, *position_, scratch_, 0.4F, s.window};
    attentions_[i]->forward(input);
    compare(layer, query, output, attentions_[i]->name());
    if (i == 0) outputs_.push_back(output);
  }
}

void CacheHarness::compare(int layer, const at::Tensor& query, const at::Tensor& output,
                           const std::string& attention) const {
  if (!traits().exact && case_.stored_heads == case_.shape.kv_heads) return;  // no oracle for it
  const CacheShape& s = case_.shape;
  const float* queries = query.const_data_ptr<float>();
  const float* outputs = output.const_data_ptr<float>();
  const int64_t out_width = s.query_heads * s.value_dim;
  double largest = 0, worst = 0;
  for (const RowSlice& slice : plan_.slices()) {
    for (int64_t i = 0; i < slice.count; ++i) {
      const int64_t token = slice.offset + i;
      const std::vector<double> wanted =
          oracle_.attend(slice.row, layer, slice.first_position + i,
                         queries + token * s.query_heads * s.key_dim, 0.4F);
      for (int64_t e = 0; e < out_width; ++e) {
        const double want = wanted[static_cast<size_t>(e)];
        const double got = outputs[token * out_width + e];
        largest = std::max(largest, std::abs(want));
        const double error = std::abs(got - want);
        worst = std::isnan(error) ? std::numeric_limits<double>::infinity()
                                  : std::max(worst, error);
      }
    }
  }
  EXPECT_LE(worst, kTolerance * largest) << attention << ", layer " << layer;
}

void CacheHarness::finish() {
  cache_->end_step();
  alive_.clear();
}

void CacheHarness::abort() {
  cache_->abort_step();
  alive_.clear();
  for (int row = 0; row < rows(); ++row) {
    oracle_.truncate(row, lengths_before_[static_cast<size_t>(row)]);
  }
}

void CacheHarness::step(const std::vector<Feed>& feeds) {
  begin(feeds);
  for (int layer = 0; layer < case_.shape.layers; ++layer) {
    append(layer);
    attend(layer);
  }
  finish();
  verify();
}

void CacheHarness::truncate(int row, int64_t new_length) {
  const int64_t kept = cache_->truncate(row, new_length);
  oracle_.truncate(row, new_length);
  EXPECT_EQ(kept, cache_->length(row));
  verify();
}

void CacheHarness::fork(int from, int to) {
  cache_->fork(from, to);
  if (from != to) oracle_.fork(from, to);
  verify();
}

void CacheHarness::reset(int row) {
  cache_->reset(row);
  oracle_.truncate(row, 0);
  verify();
}

void CacheHarness::verify() {
  ASSERT_NO_THROW(cache_->check_integrity());
  const CacheShape& s = case_.shape;
  KVView view;
  for (int row = 0; row < rows(); ++row) {
    const bool nothing = traits().keeps_nothing;
    ASSERT_EQ(cache_->length(row), nothing ? 0 : length(row)) << "row " << row;
    for (int layer = 0; layer < s.layers; ++layer) {
      cache_->inspect(layer, row, view);
      ASSERT_EQ(view.num_slices(), 1);
      if (nothing) {
        ASSERT_EQ(view.segments(0).size(), 0U);
        continue;
      }
      if (!traits().exact && case_.stored_heads == s.kv_heads) continue;
      ASSERT_EQ(view.num_kv_heads(), oracle_.stored_heads());
      const auto& wanted = oracle_.entries(row, layer);
      for (int64_t head = 0; head < view.num_kv_heads(); ++head) {
        size_t next = 0;
        for (const KVSegment& segment : view.segments(0)) {
          if (head < segment.head_begin || head >= segment.head_end) continue;
          const int64_t local = head - segment.head_begin;
          for (int64_t e = 0; e < segment.count; ++e, ++next) {
            ASSERT_LT(next, wanted.size()) << "row " << row << " layer " << layer;
            ASSERT_EQ(segment.position(e), wanted[next].position);
            const Matches matches{local, e, head};
            ASSERT_TRUE(matches(segment.keys, wanted[next].keys, s.key_dim))
                << "key: row " << row << " layer " << layer << " head " << head << " entry " << next;
            ASSERT_TRUE(matches(segment.values, wanted[next].values, s.value_dim))
                << "value: row " << row << " layer " << layer << " head " << head << " entry "
                << next;
          }
        }
        ASSERT_EQ(next, wanted.size()) << "row " << row << " layer " << layer;
      }
    }
  }
}

}  // namespace kvlab::conformance
