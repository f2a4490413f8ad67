#include "segment_scene.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <limits>
#include <numeric>
#include <random>
#include <sstream>

#include "kvlab/conformance/failure.h"

namespace kvlab::conformance {

namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kFinite = 77;  // in unused slots that hold no NaN: larger than any key or value
constexpr float kGuard = 123;  // around the output

// One element per token id, so that no two rows, positions or uses share numbers.
int32_t token_id(int32_t text, int64_t position) {
  return static_cast<int32_t>(position) + 100'000 * (text + 1);
}

// The memory of one run's keys or values.
struct Region {
  int64_t entry = 0;  // elements from the plane's start to entry 0 of the first head
  int64_t token_stride = 0, head_stride = 0;
  int64_t elements = 0;
};

Region region_of(const SceneLayout& layout, int64_t heads, int64_t entries, int64_t dim) {
  const int64_t slots = layout.before + entries + layout.behind;
  const int64_t width = dim + layout.gap;
  Region region;
  region.token_stride = layout.token_major ? heads * width : width;
  region.head_stride = layout.token_major ? width : slots * width;
  region.entry = layout.before * region.token_stride;
  region.elements = slots * heads * width;
  return region;
}

}  // namespace

bool same_bits(const at::Tensor& left, const at::Tensor& right) {
  if (left.sizes() != right.sizes() || left.scalar_type() != right.scalar_type()) return false;
  const at::Tensor a = left.contiguous(), b = right.contiguous();
  return a.nbytes() == 0 || std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0;
}

struct SegmentScene::Built {
  KVView view;
  StepPlan plan;
  at::Tensor keys, values;                  // all runs, flat
  at::Tensor key_scales, value_scales;      // of codes
  at::Tensor wide_query;                    // [N, heads of query and rest, Dk]
  at::Tensor query;                         // [N,H,Dk]
  std::deque<std::vector<int32_t>> listed;  // what segments point at
};

SegmentScene& SegmentScene::row(int64_t first_position, int64_t count, int32_t text) {
  rows_.push_back({first_position, count, text, {}});
  return *this;
}

SegmentScene& SegmentScene::add(SceneRun run) {
  if (run.head_end < 0) run.head_end = static_cast<int>(shape_.kv_heads);
  rows_.back().runs.push_back(std::move(run));
  return *this;
}

SegmentScene& SegmentScene::add(int32_t first, int32_t end) {
  return add(SceneRun{.first = first, .end = end});
}

int64_t SegmentScene::num_queries() const {
  return std::accumulate(rows_.begin(), rows_.end(), int64_t{0},
                         [](int64_t sum, const Row& row) { return sum + row.count; });
}

std::vector<int32_t> SegmentScene::positions(const SceneRun& run) const {
  if (!run.listed.empty()) return run.listed;
  std::vector<int32_t> consecutive(static_cast<size_t>(run.end - run.first));
  std::iota(consecutive.begin(), consecutive.end(), run.first);
  return consecutive;
}

// A code where keys are codes.
float SegmentScene::key(const Row& row, int32_t position, int64_t head, int64_t dim) const {
  if (dim == 0 && leading_key != 0) return leading_key;
  const float number = token_key(token_id(row.text, position), 0, head, dim);
  return key_type == at::kChar ? std::clamp(64 * number, -127.0F, 127.0F) : number;
}

float SegmentScene::value(const Row& row, int32_t position, int64_t head, int64_t dim) const {
  const float number = token_value(token_id(row.text, position), 0, head, dim);
  return value_type == at::kChar ? 32 * (number - 4) - 20 : number;
}

float SegmentScene::key_scale(int32_t position, int64_t head) const {
  if (key_type != at::kChar) return 1;
  return static_cast<float>(1 + (position + 3 * head) % 7) / 128;
}

float SegmentScene::value_scale(int32_t position, int64_t head) const {
  if (value_type != at::kChar) return 1;
  return static_cast<float>(2 + (position + 2 * head) % 5) / 32;
}

float SegmentScene::query(const Row& row, int64_t position, int64_t head, int64_t dim) const {
  if (dim == 0 && leading_key != 0) return 1;
  return token_key(token_id(row.text, position), 1, head, dim) / 2;  // in [-1,1]
}

SegmentScene::Built SegmentScene::build(const SceneLayout& layout) const {
  Built built;
  struct Place {
    const Row* row;
    const SceneRun* run;
    std::vector<int32_t> positions;
    Region keys, values, scales;
    int64_t keys_at = 0, values_at = 0, scales_at = 0;
  };
  std::vector<Place> places;
  for (const Row& row : rows_) {
    for (const SceneRun& run : row.runs) {
      Place place{&row, &run, positions(run), {}, {}, {}};
      const auto entries = static_cast<int64_t>(place.positions.size());
      place.keys = region_of(layout, run.head_end - run.head_begin, entries, shape_.key_dim);
      place.values = region_of(layout, run.head_end - run.head_begin, entries, shape_.value_dim);
      place.scales = region_of(layout, run.head_end - run.head_begin, entries, 1);
      places.push_back(std::move(place));
    }
  }
  std::vector<size_t> order(places.size());
  std::iota(order.begin(), order.end(), size_t{0});
  if (layout.shuffle != 0) {
    std::mt19937_64 random(layout.shuffle);
    std::shuffle(order.begin(), order.end(), random);
  }
  int64_t key_elements = 0, value_elements = 0;
  for (const size_t index : order) {
    places[index].keys_at = key_elements;
    places[index].values_at = value_elements;
    key_elements += places[index].keys.elements;
    value_elements += places[index].values.elements;
  }

  using Poison = SceneLayout::Poison;
  // There is no code for NaN; the scales of unused slots are.
  const auto filled = [](int64_t elements, bool poisoned) {
    return at::full({elements}, poisoned ? kNaN : kFinite, at::kFloat);
  };
  at::Tensor keys =
      filled(key_elements, layout.poison != Poison::values && key_type != at::kChar);
  at::Tensor values =
      filled(value_elements, layout.poison != Poison::keys && value_type != at::kChar);
  int64_t num_scales = 0;
  for (Place& place : places) {
    place.scales_at = num_scales;
    num_scales += place.scales.elements;
  }
  built.key_scales = at::full({num_scales}, kNaN, at::kFloat);
  built.value_scales = at::full({num_scales}, kNaN, at::kFloat);
  for (const Place& place : places) {
    for (int64_t head = place.run->head_begin; head < place.run->head_end; ++head) {
      const int64_t local = head - place.run->head_begin;
      for (size_t e = 0; e < place.positions.size(); ++e) {
        const auto entry = static_cast<int64_t>(e);
        float* to = keys.mutable_data_ptr<float>() + place.keys_at + place.keys.entry +
                    local * place.keys.head_stride + entry * place.keys.token_stride;
        for (int64_t d = 0; d < shape_.key_dim; ++d) {
          to[d] = key(*place.row, place.positions[e], head, d);
        }
        to = values.mutable_data_ptr<float>() + place.values_at + place.values.entry +
             local * place.values.head_stride + entry * place.values.token_stride;
        for (int64_t d = 0; d < shape_.value_dim; ++d) {
          to[d] = value(*place.row, place.positions[e], head, d);
        }
        const int64_t slot = place.scales_at + place.scales.entry +
                             local * place.scales.head_stride + entry * place.scales.token_stride;
        built.key_scales.mutable_data_ptr<float>()[slot] = key_scale(place.positions[e], head);
        built.value_scales.mutable_data_ptr<float>()[slot] = value_scale(place.positions[e], head);
      }
    }
  }
  built.keys = keys.to(key_type);
  built.values = values.to(value_type);

  const auto plane = [](const at::Tensor& memory, const Region& region, int64_t at) {
    const auto size = static_cast<int64_t>(memory.element_size());
    KVPlane made;
    made.data = static_cast<const char*>(memory.const_data_ptr()) + (at + region.entry) * size;
    made.token_stride = region.token_stride;
    made.head_stride = region.head_stride;
    made.type = memory.scalar_type();
    return made;
  };
  const auto add_scales = [](KVPlane& to, const at::Tensor& memory, const Region& region,
                             int64_t at) {
    if (to.type != at::kChar) return;
    to.scales = memory.const_data_ptr<float>() + at + region.entry;
    to.scale_token_stride = region.token_stride;
    to.scale_head_stride = region.head_stride;
  };
  built.view.begin(shape_.kv_heads, shape_.key_dim, shape_.value_dim);
  built.view.window = view_window;
  built.view.sinks = view_sinks;
  built.view.rotated = !keys_before_position;
  auto place = places.cbegin();
  for (const Row& row : rows_) {
    built.view.begin_slice();
    for (const SceneRun& run : row.runs) {
      KVSegment segment;
      segment.keys = plane(built.keys, place->keys, place->keys_at);
      segment.values = plane(built.values, place->values, place->values_at);
      add_scales(segment.keys, built.key_scales, place->scales, place->scales_at);
      add_scales(segment.values, built.value_scales, place->scales, place->scales_at);
      segment.count = static_cast<int64_t>(place->positions.size());
      segment.first_position = run.first;
      if (!run.listed.empty()) {
        built.listed.push_back(run.listed);
        segment.positions = built.listed.back().data();
      }
      segment.rotary_shift = run.rotary_shift;
      segment.head_begin = run.head_begin;
      segment.head_end = run.head_end;
      built.view.add(segment);
      ++place;
    }
  }

  const int64_t heads_in_memory = shape_.heads + (layout.fused_query ? 4 : 0);
  at::Tensor wide = at::full({num_queries(), heads_in_memory, shape_.key_dim}, kNaN, at::kFloat);
  int64_t packed = 0;
  int number = static_cast<int>(rows_.size());
  for (const Row& row : rows_) {
    RowSlice slice;
    slice.row = --number;  // rows need not be in order
    slice.first_position = row.first_position;
    slice.count = row.count;
    slice.phase = row.count == 1 ? Phase::decode : Phase::prefill;
    built.plan.add(slice, std::vector<int32_t>(static_cast<size_t>(row.count), 1));
    for (int64_t i = 0; i < row.count; ++i, ++packed) {
      for (int64_t head = 0; head < shape_.heads; ++head) {
        float* to =
            wide.mutable_data_ptr<float>() + (packed * heads_in_memory + head) * shape_.key_dim;
        for (int64_t d = 0; d < shape_.key_dim; ++d) {
          to[d] = query(row, row.first_position + i, head, d);
        }
      }
    }
  }
  built.wide_query = wide.to(query_type);
  built.query = built.wide_query.narrow(1, 0, shape_.heads);
  return built;
}

at::Tensor SegmentScene::attend(Attention& attention, const PositionEncoding& position,
                                const SceneLayout& layout, FeedbackBuffer* feedback,
                                const FeedbackRequest& request) const {
  const Built built = build(layout);
  if (feedback != nullptr) {
    feedback->begin(request, built.view);
    for (int64_t slice = 0; slice < built.view.num_slices(); ++slice) {
      for (int64_t head = 0; head < shape_.kv_heads; ++head) {
        std::ranges::fill(feedback->values(slice, head), kNaN);
      }
    }
  }
  const at::Tensor keys = built.keys.clone(), values = built.values.clone();
  const at::Tensor queries = built.wide_query.clone();
  const int64_t count = num_queries();
  at::Tensor guarded = at::full({count + 2, shape_.heads, shape_.value_dim}, kGuard, query_type);
  at::Tensor output = guarded.narrow(0, 1, count);
  output.fill_(kNaN);
  const void* const memory = output.const_data_ptr();
  StorageArena scratch(ArenaOptions{.poison = true});

  attention.forward({built.query, output, built.plan, built.view, position, scratch, scale,
                     model_window, threads, feedback});

  const auto expect = [&](bool holds, const char* otherwise) {
    if (!holds) throw Failure(detail::concat("attention ", otherwise, ": ", describe()));
  };
  expect(output.const_data_ptr() == memory && output.size(0) == count,
         "replaced the output tensor instead of writing to it");
  expect(
      guarded[0].eq(kGuard).all().item<bool>() && guarded[count + 1].eq(kGuard).all().item<bool>(),
      "wrote outside its output");
  expect(same_bits(keys, built.keys) && same_bits(values, built.values), "changed keys or values");
  expect(same_bits(queries, built.wide_query), "changed the queries");
  expect(scratch.usage().live_total() == 0, "keeps scratch memory after its return");
  return output;
}

struct SegmentScene::Stored {
  std::vector<std::vector<double>> owned;  // keys and values, in turns
  std::vector<std::vector<ReferenceEntry>> entries;  // by KV head
};

SegmentScene::Stored SegmentScene::stored(const Row& row, const PositionEncoding& position) const {
  Stored made;
  made.entries.resize(static_cast<size_t>(shape_.kv_heads));
  for (const SceneRun& run : row.runs) {
    for (const int32_t at : positions(run)) {
      for (int64_t head = run.head_begin; head < run.head_end; ++head) {
        at::Tensor keys = at::empty({1, 1, shape_.key_dim}, at::kFloat);
        for (int64_t d = 0; d < shape_.key_dim; ++d) {
          keys.mutable_data_ptr<float>()[d] = key(row, at, head, d) * key_scale(at, head);
        }
        if (keys_before_position) {
          if (key_type != at::kChar) keys = keys.to(key_type);
          position.rotate(keys, at::full({1}, at + run.rotary_shift, at::kLong));
          keys = keys.to(at::kFloat);
        }
        const float* from = keys.const_data_ptr<float>();
        made.owned.emplace_back(from, from + shape_.key_dim);
        const double* const key_data = made.owned.back().data();
        made.owned.emplace_back();
        for (int64_t d = 0; d < shape_.value_dim; ++d) {
          made.owned.back().push_back(double{value(row, at, head, d)} * value_scale(at, head));
        }
        made.entries[static_cast<size_t>(head)].push_back(
            {at, key_data, made.owned.back().data()});
      }
    }
  }
  return made;
}

ReferenceRules SegmentScene::rules(const PositionEncoding& position, int64_t head) const {
  ReferenceRules made;
  made.scale = scale;
  made.model_window = model_window;
  made.view_window = view_window;
  made.view_sinks = view_sinks;
  const std::span<const float> slopes = position.score_slopes();
  if (!slopes.empty()) made.slope = slopes[static_cast<size_t>(head)];
  return made;
}

std::vector<double> SegmentScene::wide_query(const Row& row, int64_t position,
                                             int64_t head) const {
  std::vector<double> wide;
  for (int64_t d = 0; d < shape_.key_dim; ++d) wide.push_back(query(row, position, head, d));
  return wide;
}

std::vector<double> SegmentScene::reference(const PositionEncoding& position) const {
  std::vector<double> output;
  for (const Row& row : rows_) {
    const Stored entries = stored(row, position);
    for (int64_t i = 0; i < row.count; ++i) {
      for (int64_t head = 0; head < shape_.heads; ++head) {
        const std::vector<double> part = reference_attention(
            wide_query(row, row.first_position + i, head).data(), row.first_position + i,
            entries.entries[static_cast<size_t>(head / (shape_.heads / shape_.kv_heads))],
            shape_.key_dim, shape_.value_dim, rules(position, head));
        output.insert(output.end(), part.begin(), part.end());
      }
    }
  }
  return output;
}

void SegmentScene::require_right_feedback(Attention& attention, const PositionEncoding& position,
                                          const FeedbackRequest& request,
                                          const SceneLayout& layout) const {
  FeedbackBuffer feedback;
  attend(attention, position, layout, &feedback, request);
  const int64_t group = shape_.heads / shape_.kv_heads;
  for (size_t number = 0; number < rows_.size(); ++number) {
    const Row& row = rows_[number];
    const Stored all = stored(row, position);
    int64_t first = 0;
    if (request.kind == FeedbackRequest::Kind::last_rows) {
      first = std::max<int64_t>(0, row.count - request.rows);
    }
    for (int64_t kv_head = 0; kv_head < shape_.kv_heads; ++kv_head) {
      // With the unit vectors as values, what attention gives are its probabilities.
      std::vector<ReferenceEntry> entries = all.entries[static_cast<size_t>(kv_head)];
      const size_t count = entries.size();
      std::vector<double> units(count * count, 0);
      for (size_t e = 0; e < count; ++e) {
        units[e * count + e] = 1;
        entries[e].value = units.data() + e * count;
      }
      std::vector<double> wanted(count, 0);
      for (int64_t r = 0; r < group; ++r) {
        const int64_t head = kv_head * group + r;
        std::vector<double> sums(count, 0);
        for (int64_t i = first; i < row.count; ++i) {
          const std::vector<double> part = reference_attention(
              wide_query(row, row.first_position + i, head).data(), row.first_position + i,
              entries, shape_.key_dim, static_cast<int64_t>(count), rules(position, head));
          for (size_t e = 0; e < count; ++e) sums[e] += part[e];
        }
        for (size_t e = 0; e < count; ++e) {
          using Reduction = FeedbackRequest::GroupReduction;
          if (request.reduction == Reduction::max) {
            wanted[e] = std::max(wanted[e], sums[e]);
          } else {
            wanted[e] += request.reduction == Reduction::mean
                             ? sums[e] / static_cast<double>(group) : sums[e];
          }
        }
      }
      const std::span<const float> got =
          feedback.entries(static_cast<int64_t>(number), kv_head);
      require_equal(got.size(), count, "values of feedback for KV head ", kv_head, " of row ",
                    number, "; ", describe());
      const double largest = count == 0 ? 0 : *std::max_element(wanted.begin(), wanted.end());
      const double allowed = kSinglePrecision * (largest > 0 ? largest : 1);
      for (size_t e = 0; e < count; ++e) {
        if (std::abs(got[e] - wanted[e]) <= allowed) continue;  // not where it is NaN
        throw Failure(detail::concat("feedback of row ", number, ", KV head ", kv_head, ", entry ",
                                     e, ": got ", got[e], ", wanted ", wanted[e], "; ",
                                     describe()));
      }
    }
  }
}

at::Tensor SegmentScene::require_right(Attention& attention, const PositionEncoding& position,
                                       const SceneLayout& layout, double tolerance) const {
  at::Tensor output = attend(attention, position, layout);
  const std::vector<double> wanted = reference(position);
  const at::Tensor single = output.to(at::kFloat).contiguous();
  const float* const got = single.const_data_ptr<float>();
  double largest = 0, worst = 0;
  size_t where = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    largest = std::max(largest, std::abs(wanted[i]));
    double off = std::abs(got[i] - wanted[i]);
    if (std::isnan(off)) off = std::numeric_limits<double>::infinity();
    if (off > worst) {
      worst = off;
      where = i;
    }
  }
  if (worst > tolerance * (largest > 0 ? largest : 1)) {
    const auto per_head = static_cast<size_t>(shape_.value_dim);
    const auto per_query = static_cast<size_t>(shape_.heads) * per_head;
    throw Failure(detail::concat("query ", where / per_query, " of the step, head ",
                                 where % per_query / per_head, ", element ", where % per_head,
                                 ": got ", got[where], ", wanted ", wanted[where], " (largest ",
                                 largest, ", tolerance ", tolerance, "); ", describe(),
                                 "; positions by '", position.name(), "'"));
  }
  return output;
}

std::string SegmentScene::describe() const {
  std::ostringstream text;
  text << shape_.heads << " heads on " << shape_.kv_heads << ", D " << shape_.key_dim << " and "
       << shape_.value_dim << ", queries " << query_type << ", keys " << key_type << ", values "
       << value_type << ", scale " << scale << ", window " << model_window << ", view's window "
       << view_window << " and sinks " << view_sinks
       << (keys_before_position ? ", keys before position" : "");
  for (const Row& row : rows_) {
    text << "; queries " << row.first_position << ".." << row.first_position + row.count << " over";
    for (const SceneRun& run : row.runs) {
      if (run.listed.empty()) {
        text << " [" << run.first << "," << run.end << ")";
      } else {
        const char* separator = " {";
        for (const int32_t at : run.listed) {
          text << separator << at;
          separator = ",";
        }
        text << "}";
      }
      if (run.head_begin != 0 || run.head_end != shape_.kv_heads) {
        text << "/heads " << run.head_begin << ".." << run.head_end;
      }
      if (run.rotary_shift != 0) text << "/shift " << run.rotary_shift;
    }
  }
  return text.str();
}

}  // namespace kvlab::conformance
