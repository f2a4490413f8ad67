#include "kvlab/conformance/cache_harness.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kvlab/conformance/failure.h"
#include "stored_numbers.h"

namespace kvlab::conformance {

namespace {

// Of the largest output element: fp32 sums of some dozens of terms.
constexpr double kTolerance = 1e-5;
// Where bf16 keys are rotated after they were stored: each is rounded once more (2^-9).
constexpr double kRotatedTolerance = 2e-3;

constexpr float kScale = 0.4F;

bool covers(const KVSegment& segment, int64_t head) {
  return head >= segment.head_begin && head < segment.head_end;
}

// Whether one stored entry holds exactly the wanted elements.
bool matches(const KVPlane& plane, int64_t local_head, int64_t entry,
             const std::vector<double>& wanted, int64_t head, int64_t dim) {
  for (int64_t d = 0; d < dim; ++d) {
    if (number_at(plane, local_head, entry, d) != wanted[static_cast<size_t>(head * dim + d)]) {
      return false;
    }
  }
  return true;
}

// The kit's own rotation, so that nothing here depends on which position plugins there are.
class ReferencePosition final : public PositionEncoding {
 public:
  explicit ReferencePosition(const CacheTraits& cache) : PositionEncoding("reference") {
    traits_.rotates = cache.keys_before_position;
    traits_.can_rebase = traits_.rotates;
  }
  const PositionTraits& traits() const override { return traits_; }

  void rotate(at::Tensor& heads, const at::Tensor& positions) const override {
    if (!traits_.rotates) return;
    if (heads.scalar_type() == at::kFloat) {
      rotate_all(heads.mutable_data_ptr<float>(), heads, positions.const_data_ptr<int64_t>());
    } else {
      rotate_all(heads.mutable_data_ptr<at::BFloat16>(), heads,
                 positions.const_data_ptr<int64_t>());
    }
  }

 private:
  template <typename Scalar>
  static void rotate_all(Scalar* data, const at::Tensor& heads, const int64_t* positions) {
    std::vector<double> wide(static_cast<size_t>(heads.size(2)));
    for (int64_t token = 0; token < heads.size(0); ++token) {
      for (int64_t head = 0; head < heads.size(1); ++head) {
        Scalar* one = data + token * heads.stride(0) + head * heads.stride(1);
        for (size_t d = 0; d < wide.size(); ++d) wide[d] = static_cast<float>(one[d]);
        reference_rotate(wide.data(), heads.size(2), positions[token]);
        for (size_t d = 0; d < wide.size(); ++d) {
          one[d] = static_cast<Scalar>(static_cast<float>(wide[d]));
        }
      }
    }
  }

  PositionTraits traits_;
};

// What one KV head of a slice holds, decoded, and rotated where keys are kept before position.
class HeldEntries {
 public:
  HeldEntries(const KVView& view, int64_t slice, int64_t head) {
    for (const KVSegment& segment : view.segments(slice)) {
      if (!covers(segment, head)) continue;
      const int64_t local = head - segment.head_begin;
      for (int64_t e = 0; e < segment.count; ++e) {
        std::vector<double>& one = numbers_.emplace_back();
        for (int64_t d = 0; d < view.key_dim(); ++d) {
          one.push_back(number_at(segment.keys, local, e, d));
        }
        if (!view.rotated) {
          reference_rotate(one.data(), view.key_dim(),
                           segment.position(e) + segment.rotary_shift);
        }
        for (int64_t d = 0; d < view.value_dim(); ++d) {
          one.push_back(number_at(segment.values, local, e, d));
        }
        entries_.push_back({segment.position(e), one.data(), one.data() + view.key_dim()});
      }
    }
  }
  HeldEntries(const HeldEntries&) = delete;
  HeldEntries& operator=(const HeldEntries&) = delete;

  const std::vector<ReferenceEntry>& entries() const { return entries_; }

 private:
  std::vector<std::vector<double>> numbers_;  // per entry K, then V
  std::vector<ReferenceEntry> entries_;
};

// The answer [H,Dv] to the query [H,Dk] at `position` over what the view itself holds.
std::vector<double> answer_over(const KVView& view, int64_t slice, int64_t position,
                                const float* query, int64_t heads, const ReferenceRules& rules) {
  std::vector<double> answer;
  for (int64_t head = 0; head < heads; ++head) {
    const HeldEntries held(view, slice, head / (heads / view.num_kv_heads()));
    const std::vector<double> wide(query + head * view.key_dim(),
                                   query + (head + 1) * view.key_dim());
    const std::vector<double> part = reference_attention(
        wide.data(), position, held.entries(), view.key_dim(), view.value_dim(), rules);
    answer.insert(answer.end(), part.begin(), part.end());
  }
  return answer;
}

// Attention that walks the view entry by entry, for registries without attention plugins.
class ViewAttention final : public Attention {
 public:
  ViewAttention() : Attention("reference") { traits_.reads_segments = true; }
  const AttentionTraits& traits() const override { return traits_; }

  void forward(const AttentionInput& input) override {
    const KVView& view = input.view;
    const ReferenceRules rules{input.scale, input.window, view.window, view.sinks, 0};
    const int64_t heads = input.query.size(1);
    const float* queries = input.query.const_data_ptr<float>();
    float* outputs = input.output.mutable_data_ptr<float>();
    for (size_t s = 0; s < input.plan.slices().size(); ++s) {
      const RowSlice& slice = input.plan.slices()[s];
      for (int64_t i = 0; i < slice.count; ++i) {
        const int64_t token = slice.offset + i;
        const std::vector<double> answer = answer_over(
            view, static_cast<int64_t>(s), slice.first_position + i,
            queries + token * heads * view.key_dim(), heads, rules);
        std::copy(answer.begin(), answer.end(), outputs + token * heads * view.value_dim());
      }
    }
  }

 private:
  AttentionTraits traits_;
};

}  // namespace

CacheHarness::CacheHarness(const Registry& registry, const CacheCase& chosen, uint64_t seed)
    : case_(chosen),
      random_(seed),
      arena_(ArenaOptions{.poison = true}),
      scratch_(ArenaOptions{.poison = true}),
      cache_(registry.make_cache(parse_component_spec(chosen.spec), chosen.shape, arena_)),
      followed_(true),
      oracle_(chosen.shape, stored_entry_of(registry, chosen)) {
  const CacheTraits promised = traits_of(registry, chosen);
  require(promised.window == traits().window && promised.sinks == traits().sinks &&
              promised.exact == traits().exact && promised.forks == traits().forks &&
              promised.truncation == traits().truncation &&
              promised.keeps_nothing == traits().keeps_nothing &&
              promised.keys_before_position == traits().keys_before_position &&
              promised.bounded == traits().bounded,
          "the cache's traits are not those that its registry entry gives");
  followed_ = traits().exact || traits().window > 0 || stored_entry_of(registry, chosen) != nullptr;
  for (const AttentionEntry& entry : registry.attentions()) {
    attentions_.push_back(registry.make_attention({entry.info.name, {}, ""}));
  }
  if (attentions_.empty()) attentions_.push_back(std::make_unique<ViewAttention>());
  position_ = std::make_unique<ReferencePosition>(traits());
  // Ids that no other row uses, and no harness with another seed.
  constexpr int32_t kTokensOfARow = 1 << 20;
  for (int row = 0; row < rows(); ++row) {
    next_token_.push_back((static_cast<int32_t>(seed % 256) * 4 + row) * kTokensOfARow + 1);
  }
}

ReferenceRules CacheHarness::rules() const {
  return {kScale, case_.shape.window, traits().window, traits().sinks, 0};
}

void CacheHarness::begin(const std::vector<Feed>& feeds) {
  lengths_before_.clear();
  for (int row = 0; row < rows(); ++row) lengths_before_.push_back(length(row));
  plan_.clear();
  outputs_.clear();
  alive_.clear();
  ++steps_;
  std::vector<std::vector<int32_t>> fresh;
  for (const Feed& feed : feeds) {
    fresh.emplace_back();
    int32_t& next = next_token_.at(static_cast<size_t>(feed.row));
    for (int64_t i = 0; i < feed.count; ++i) fresh.back().push_back(next++);
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
  in_step_ = true;
  for (size_t i = 0; i < feeds.size(); ++i) {
    for (const int32_t token : fresh[i]) oracle_.append(feeds[i].row, token);
  }
}

// [N,G,D], or a slice of a fused [N, other | K | V] whose other part is NaN.
at::Tensor CacheHarness::incoming(int layer, bool keys) {
  const CacheShape& s = case_.shape;
  const bool fused =
      source_ == Source::fused || (source_ == Source::by_turns && (steps_ / 2) % 2 == 1);
  const int64_t dim = keys ? s.key_dim : s.value_dim;
  const int64_t width = s.kv_heads * dim;
  const int64_t tokens = plan_.num_tokens();
  at::Tensor whole = at::full({tokens, fused ? width + 11 : width},
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
  // The engine rotates queries at the cache's rotary positions.
  at::Tensor rotary_positions = at::empty({tokens}, at::kLong);
  std::vector<int64_t> bases;
  for (const RowSlice& slice : plan_.slices()) {
    bases.push_back(cache_->rotary_base(slice.row));
    for (int64_t i = 0; i < slice.count; ++i) {
      rotary_positions.mutable_data_ptr<int64_t>()[slice.offset + i] = bases.back() + i;
    }
  }
  position_->rotate(query, rotary_positions);
  const KVView& view = cache_->view(layer, query);
  require_equal(view.num_slices(), static_cast<int64_t>(plan_.slices().size()),
                "slices of the view of layer ", layer);
  std::vector<RotaryPositions> rotary;
  for (size_t i = 0; i < plan_.slices().size(); ++i) {
    const RowSlice& slice = plan_.slices()[i];
    const auto number = static_cast<int64_t>(i);
    // A row without new tokens asks for nothing.
    if (slice.count > 0) {
      check_view(view, number, slice.row, layer,
                 {slice.first_position, slice.end_position() - 1});
    }
    rotary.push_back(traits().keys_before_position
                         ? check_rotary(view, number, slice.row, slice.end_position(),
                                        bases[i] + slice.count)
                         : RotaryPositions{});
  }
  for (size_t i = 0; i < attentions_.size(); ++i) {
    if (alternate_ && static_cast<int64_t>(i) != steps_ % static_cast<int64_t>(attentions_.size()))
      continue;
    at::Tensor output = at::full({tokens, s.query_heads, s.value_dim},
                                 std::numeric_limits<float>::quiet_NaN(), at::kFloat);
    AttentionInput input{query, output, plan_, view, *position_, scratch_, kScale, s.window};
    attentions_[i]->forward(input);
    compare(input, layer, attentions_[i]->name(), rotary);
    if (i == 0) outputs_.push_back(output);
  }
}

// With the oracle's answer; where nobody can say what the cache stores, with the answer over what
// its own view holds.
void CacheHarness::compare(const AttentionInput& input, int layer, const std::string& attention,
                           const std::vector<RotaryPositions>& rotary) const {
  const CacheShape& s = case_.shape;
  const float* queries = input.query.const_data_ptr<float>();
  const float* outputs = input.output.const_data_ptr<float>();
  const int64_t out_width = s.query_heads * s.value_dim;
  const bool rotates = traits().keys_before_position;
  const double tolerance =
      rotates && s.dtype == at::kBFloat16 ? kRotatedTolerance : kTolerance;
  for (size_t number = 0; number < plan_.slices().size(); ++number) {
    const RowSlice& slice = plan_.slices()[number];
    for (int64_t i = 0; i < slice.count; ++i) {
      const int64_t token = slice.offset + i;
      const int64_t position = slice.first_position + i;
      const float* query = queries + token * s.query_heads * s.key_dim;
      const std::vector<double> wanted =
          followed_ ? oracle_.attend(slice.row, layer, position, query, rules(),
                                     rotates ? &rotary[number] : nullptr)
                    : answer_over(input.view, static_cast<int64_t>(number), position, query,
                                  s.query_heads, rules());
      double largest = 0, worst = 0;
      for (int64_t e = 0; e < out_width; ++e) {
        const double got = outputs[token * out_width + e];
        require(std::isfinite(got), attention, " over the view of layer ", layer, ", row ",
                slice.row, ", position ", position, " gives ", got);
        const double want = wanted[static_cast<size_t>(e)];
        largest = std::max(largest, std::abs(want));
        worst = std::max(worst, std::abs(got - want));
      }
      require(worst <= tolerance * largest, attention, " over the view of layer ", layer, ", row ",
              slice.row, ", position ", position, " is off by ", worst,
              " where the largest output is ", largest);
    }
  }
}

void CacheHarness::finish() {
  cache_->end_step();
  in_step_ = false;
  alive_.clear();
}

void CacheHarness::abort() {
  cache_->abort_step();
  alive_.clear();
  if (!in_step_) return;
  in_step_ = false;
  for (int row = 0; row < rows(); ++row) {
    oracle_.truncate(row, lengths_before_[static_cast<size_t>(row)]);
  }
}

std::vector<std::vector<Feed>> CacheHarness::parts(const std::vector<Feed>& feeds) const {
  if (traits().keeps_nothing) return {feeds};
  std::vector<std::vector<Feed>> parts(1);
  for (const Feed& feed : feeds) {
    int64_t left = feed.count;
    size_t part = 0;
    do {
      if (part == parts.size()) parts.emplace_back();
      const int64_t count = std::min(left, case_.shape.max_step_tokens);
      parts[part++].push_back({feed.row, count});
      left -= count;
    } while (left > 0);
  }
  return parts;
}

void CacheHarness::step(const std::vector<Feed>& feeds) {
  for (const std::vector<Feed>& part : parts(feeds)) {
    begin(part);
    for (int layer = 0; layer < case_.shape.layers; ++layer) {
      append(layer);
      attend(layer);
    }
    finish();
    verify();
  }
}

void CacheHarness::truncate(int row, int64_t new_length) {
  const int64_t kept = cache_->truncate(row, new_length);
  oracle_.truncate(row, new_length);
  require_equal(kept, traits().keeps_nothing ? 0 : new_length, "what truncate returned for row ",
                row);
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

// The text positions that `head` holds, in the order of the view, each entry compared.
std::vector<int64_t> CacheHarness::check_slice(const KVView& view, int64_t slice, int row,
                                               int64_t layer, int64_t head,
                                               const Visible& queries) const {
  const CacheShape& s = case_.shape;
  const int64_t tokens = length(row);
  // Called for every entry: the text is made only where something is wrong.
  const auto check = [&](bool right, int64_t position, const char* wrong) {
    require(right, "row ", row, " layer ", layer, " head ", head, " position ", position, " of ",
            tokens, " tokens ", wrong);
  };
  std::vector<bool> seen(static_cast<size_t>(tokens), false);
  std::vector<int64_t> positions;
  for (const KVSegment& segment : view.segments(slice)) {
    if (!covers(segment, head)) continue;
    const int64_t local = head - segment.head_begin;
    for (int64_t e = 0; e < segment.count; ++e) {
      const int64_t position = segment.position(e);
      check(position >= 0 && position < tokens, position, "is not in the text");
      check(!seen[static_cast<size_t>(position)], position, "is there twice");
      seen[static_cast<size_t>(position)] = true;
      positions.push_back(position);
      if (!followed_) continue;
      const CacheOracle::Entry& wanted =
          oracle_.entries(row, layer)[static_cast<size_t>(position)];
      check(matches(segment.keys, local, e, wanted.keys, head, s.key_dim), position,
            "does not hold the key that was given");
      check(matches(segment.values, local, e, wanted.values, head, s.value_dim), position,
            "does not hold the value that was given");
    }
  }
  for (int64_t position = 0; position < tokens && followed_; ++position) {
    if (seen[static_cast<size_t>(position)]) continue;
    bool needed = traits().window == 0;
    for (int64_t q = queries.first_query; q <= queries.last_query && !needed; ++q) {
      needed = visible(q, position, rules());
    }
    check(!needed, position, "is missing");
  }
  return positions;
}

void CacheHarness::check_view(const KVView& view, int64_t slice, int row, int64_t layer,
                              const Visible& queries) const {
  const CacheShape& s = case_.shape;
  require(view.window == traits().window && view.sinks == traits().sinks, "row ", row, " layer ",
          layer, ": the view says window ", view.window, " and sinks ", view.sinks,
          ", the traits ", traits().window, " and ", traits().sinks);
  require_equal(view.rotated, !traits().keys_before_position,
                "whether the view's keys are rotated, against the traits");
  require(view.key_dim() == s.key_dim && view.value_dim() == s.value_dim,
          "the view's head dimensions are ", view.key_dim(), " and ", view.value_dim());
  require(view.num_kv_heads() > 0 && s.query_heads % view.num_kv_heads() == 0, "the view has ",
          view.num_kv_heads(), " KV heads, which do not divide ", s.query_heads, " query heads");
  if (followed_) {
    require_equal(view.num_kv_heads(), oracle_.stored_heads(), "KV heads of the view");
  }
  for (const KVSegment& segment : view.segments(slice)) {
    require(segment.count > 0 && segment.head_begin >= 0 &&
                segment.head_begin < segment.head_end &&
                segment.head_end <= view.num_kv_heads(),
            "row ", row, " layer ", layer, ": a segment of ", segment.count,
            " entries covers heads ", segment.head_begin, " .. ", segment.head_end, " of ",
            view.num_kv_heads());
  }
  std::vector<int64_t> first;
  for (int64_t head = 0; head < view.num_kv_heads(); ++head) {
    const std::vector<int64_t> positions =
        check_slice(view, slice, row, layer, head, queries);
    if (head == 0) first = positions;
    require(!view.uniform() || positions == first, "row ", row, " layer ", layer, ": head ", head,
            " does not hold the positions that head 0 holds");
  }
}

// Rotary positions of a row's entries. `next` is the text position behind them, `base` its rotary
// position. Where a cache re-bases they are unique, gap-free and ascend with the text.
RotaryPositions CacheHarness::check_rotary(const KVView& view, int64_t slice, int row,
                                           int64_t next, int64_t base) const {
  RotaryPositions rotary;
  for (const KVSegment& segment : view.segments(slice)) {
    for (int64_t e = 0; e < segment.count; ++e) {
      const int64_t position = segment.position(e);
      const auto [known, fresh] = rotary.emplace(position, position + segment.rotary_shift);
      require(fresh || known->second == position + segment.rotary_shift, "row ", row,
              ": position ", position, " has two rotary positions");
    }
  }
  bool rebased = base != next;
  for (const auto& [position, turned] : rotary) {
    require(turned >= 0, "row ", row, ": position ", position, " has rotary position ", turned);
    rebased = rebased || turned != position;
  }
  if (!rebased) return rotary;
  int64_t wanted = base - static_cast<int64_t>(rotary.size());
  for (const auto& [position, turned] : rotary) {
    require_equal(turned, wanted++, "rotary position of position ", position, " of row ", row,
                  ", whose next token's is ", base, " with ", rotary.size(), " entries");
  }
  return rotary;
}

void CacheHarness::verify() {
  cache_->check_integrity();
  const CacheShape& s = case_.shape;
  const bool nothing = traits().keeps_nothing;
  KVView view;
  for (int row = 0; row < rows(); ++row) {
    require_equal(cache_->length(row), nothing ? 0 : length(row), "length of row ", row);
    if (!traits().keys_before_position) {
      require_equal(cache_->rotary_base(row), cache_->length(row), "rotary base of row ", row);
    }
    std::vector<int64_t> first;
    for (int layer = 0; layer < s.layers; ++layer) {
      cache_->inspect(layer, row, view);
      require_equal(view.num_slices(), 1, "slices that inspect gave for row ", row);
      if (nothing) {
        require_equal(view.segments(0).size(), 0U, "segments of a row that keeps nothing");
        continue;
      }
      check_view(view, 0, row, layer, {length(row), length(row)});
      if (traits().keys_before_position) {
        check_rotary(view, 0, row, length(row), cache_->rotary_base(row));
      }
      if (!view.uniform()) continue;
      const std::vector<int64_t> held =
          check_slice(view, 0, row, layer, 0, {length(row), length(row)});
      if (layer == 0) first = held;
      require(held == first, "row ", row, ": layer ", layer,
              " does not hold the positions that layer 0 holds");
    }
  }
}

bool CacheHarness::holds_enough_for(int row, int64_t new_length) {
  if (traits().keeps_nothing) return true;
  const int64_t tokens = length(row);
  KVView view;
  for (int layer = 0; layer < case_.shape.layers; ++layer) {
    cache_->inspect(layer, row, view);
    for (int64_t head = 0; head < view.num_kv_heads(); ++head) {
      std::vector<bool> held(static_cast<size_t>(tokens), false);
      for (const KVSegment& segment : view.segments(0)) {
        for (int64_t e = 0; e < segment.count && covers(segment, head); ++e) {
          held.at(static_cast<size_t>(segment.position(e))) = true;
        }
      }
      for (int64_t next = new_length; next <= tokens; ++next) {
        for (int64_t position = 0; position < next; ++position) {
          const bool needed = traits().window == 0 || visible(next, position, rules());
          if (needed && !held[static_cast<size_t>(position)]) return false;
        }
      }
    }
  }
  return true;
}

void feed(KVCache& cache, const CacheShape& shape,
          const std::vector<std::pair<int, int64_t>>& rows) {
  StepPlan plan;
  for (const auto& [row, count] : rows) {
    RowSlice slice;
    slice.row = row;
    slice.first_position = cache.length(row);
    slice.count = count;
    plan.add(slice, std::vector<int32_t>(static_cast<size_t>(count), 1));
  }
  cache.begin_step(plan);
  std::vector<at::Tensor> alive;
  for (int layer = 0; layer < shape.layers; ++layer) {
    const at::Tensor key =
        at::zeros({plan.num_tokens(), shape.kv_heads, shape.key_dim}, shape.dtype);
    const at::Tensor value =
        at::zeros({plan.num_tokens(), shape.kv_heads, shape.value_dim}, shape.dtype);
    for (const RowSlice& slice : plan.slices()) {
      for (int64_t i = 0; i < slice.count; ++i) {
        const double number = slice.row + static_cast<double>(slice.first_position + i) / 64;
        key[slice.offset + i].fill_(number);
        value[slice.offset + i].fill_(-number);
      }
    }
    alive.push_back(key);
    alive.push_back(value);
    cache.append(layer, key, value);
  }
  cache.end_step();
}

}  // namespace kvlab::conformance
