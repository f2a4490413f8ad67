#include "tests/benchmarks/attention_arm.h"

#include <ATen/ops/empty.h>
#include <c10/util/BFloat16.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <random>
#include <stdexcept>

#include "kvlab/cache/rowwise_cache.h"
#include "kvlab/kernels/segment_attention.h"

namespace kvlab::benchmarks {

namespace {

constexpr int64_t kHeadDim = 64;
constexpr int64_t kMebibyte = int64_t{1} << 20;

// A position encoding that does nothing: keys in the pool are random as they are.
class NoPosition final : public PositionEncoding {
 public:
  NoPosition() : PositionEncoding("none") {}
  const PositionTraits& traits() const override { return traits_; }

 private:
  PositionTraits traits_;
};

std::string type_name(at::ScalarType type) {
  if (type == at::kFloat) return "f32";
  return type == at::kBFloat16 ? "bf16" : "int8";
}

int64_t element_bytes(at::ScalarType type) { return static_cast<int64_t>(c10::elementSize(type)); }

// Uniform in [-1, 1) and fast: the pool has some hundred million numbers.
class Uniform {
 public:
  float operator()() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return static_cast<float>(static_cast<int32_t>(state_ >> 32)) * 0x1p-31F;
  }

 private:
  uint64_t state_ = 0x9e3779b97f4a7c15;
};

template <typename Number>
void fill(const at::Tensor& tensor, float factor, float offset = 0) {
  Uniform uniform;
  auto* data = tensor.mutable_data_ptr<Number>();
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    data[i] = static_cast<Number>(uniform() * factor + offset);
  }
}

double number(const KVPlane& plane, int64_t head, int64_t entry, int64_t d) {
  const int64_t at = head * plane.head_stride + entry * plane.token_stride + d;
  switch (plane.type) {
    case at::kFloat: return static_cast<const float*>(plane.data)[at];
    case at::kBFloat16: return static_cast<float>(static_cast<const at::BFloat16*>(plane.data)[at]);
    default:
      return static_cast<double>(static_cast<const int8_t*>(plane.data)[at]) *
             plane.scales[head * plane.scale_head_stride + entry * plane.scale_token_stride];
  }
}

// Attention of query head `head` over the view's only slice, in double precision.
std::vector<double> reference(const KVView& view, const float* query, int64_t kv_head,
                              double& largest_value) {
  std::vector<double> scores, sum(kHeadDim, 0);
  for (const KVSegment& segment : view.segments(0)) {
    if (kv_head < segment.head_begin || kv_head >= segment.head_end) continue;
    for (int64_t entry = 0; entry < segment.count; ++entry) {
      double score = 0;
      for (int64_t d = 0; d < kHeadDim; ++d) {
        score += query[d] * number(segment.keys, kv_head - segment.head_begin, entry, d);
      }
      scores.push_back(score / std::sqrt(static_cast<double>(kHeadDim)));
    }
  }
  const double highest = *std::max_element(scores.begin(), scores.end());
  double total = 0;
  for (double& score : scores) total += score = std::exp(score - highest);
  size_t at = 0;
  for (const KVSegment& segment : view.segments(0)) {
    if (kv_head < segment.head_begin || kv_head >= segment.head_end) continue;
    for (int64_t entry = 0; entry < segment.count; ++entry, ++at) {
      for (int64_t d = 0; d < kHeadDim; ++d) {
        const double value = number(segment.values, kv_head - segment.head_begin, entry, d);
        largest_value = std::max(largest_value, std::abs(value));
        sum[static_cast<size_t>(d)] += scores[at] / total * value;
      }
    }
  }
  return sum;
}

}  // namespace

int64_t last_level_cache_bytes() {
  std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index3/size");
  int64_t size = 0;
  char unit = ' ';
  if (file >> size >> unit && size > 0) return size * (unit == 'M' ? kMebibyte : kMebibyte / 1024);
  const long known = sysconf(_SC_LEVEL3_CACHE_SIZE);
  return known > 0 ? known : 64 * kMebibyte;
}

int64_t rotating_bytes() { return std::max(256 * kMebibyte, 5 * last_level_cache_bytes()); }

std::string AttentionCase::name() const {
  return type_name(type) + "/" + std::to_string(query_heads) + "x" + std::to_string(kv_heads) +
         "/" + (block_size == 0 ? "contiguous" : "block" + std::to_string(block_size)) + "/T" +
         std::to_string(length) + (shares_loads ? "" : "/unshared");
}

int64_t AttentionCase::bytes() const {
  const int64_t scale = type == at::kChar ? static_cast<int64_t>(sizeof(float)) : 0;
  return 2 * kv_heads * length * (kHeadDim * element_bytes(type) + scale);
}

AttentionPool::AttentionPool(at::ScalarType type, int64_t bytes) {
  StorageArena arena;  // large tensors get huge pages, and outlive it
  const int64_t count = bytes / element_bytes(type);
  numbers_ = arena.allocate({count}, type, MemoryKind::storage);
  switch (type) {
    case at::kFloat: fill<float>(numbers_, 1); break;
    case at::kBFloat16: fill<at::BFloat16>(numbers_, 1); break;
    default:
      fill<int8_t>(numbers_, 127.9F);
      scales_ = arena.allocate({count / kHeadDim}, at::kFloat, MemoryKind::metadata);
      fill<float>(scales_, 0.004F, 0.006F);
  }
}

AttentionArm::AttentionArm(const AttentionCase& shape, const AttentionPool& pool,
                           Attention& attention, ThreadPool& threads)
    : shape_(shape),
      pool_(pool),
      attention_(attention),
      threads_(threads),
      position_(std::make_unique<NoPosition>()) {
  const int64_t unit_entries = shape.block_size == 0 ? shape.length : shape.block_size;
  const int64_t unit_bytes =
      2 * shape.kv_heads * unit_entries * kHeadDim * element_bytes(shape.type);
  const int64_t units = pool.bytes() / unit_bytes;
  units_per_text_ = (shape.length + unit_entries - 1) / unit_entries;
  texts_ = units / units_per_text_;
  if (texts_ < 2 || pool.type() != shape.type) {
    throw std::logic_error("the pool does not fit " + shape.name());
  }
  for (int32_t unit = 0; unit < units; ++unit) units_.push_back(unit);
  std::shuffle(units_.begin(), units_.end(), std::mt19937_64(1));

  query_ = at::empty({1, shape.query_heads, kHeadDim}, at::kFloat);
  fill<float>(query_, 4);  // wide scores: some entries count far more than others
  output_ = at::empty({1, shape.query_heads, kHeadDim}, at::kFloat);
  RowSlice slice;
  slice.first_position = shape.length - 1;
  slice.count = 1;
  slice.phase = Phase::decode;
  plan_.add(slice, std::vector<int32_t>{0});
}

AttentionArm::~AttentionArm() = default;

// A unit holds [K: G,entries,D | V: G,entries,D], as the blocks of paged caches do.
void AttentionArm::add(int64_t unit, int64_t first, int64_t count) {
  const int64_t entries = shape_.block_size == 0 ? shape_.length : shape_.block_size;
  const int64_t plane = shape_.kv_heads * entries;  // entries of K, or of V
  const int64_t plane_bytes = plane * kHeadDim * element_bytes(shape_.type);
  char* keys = pool_.numbers() + 2 * unit * plane_bytes;
  const Run run{keys,     keys + plane_bytes, entries,    kHeadDim,
                kHeadDim, shape_.kv_heads,    shape_.type};
  KVSegment segment = run.segment(0, count, first);
  if (shape_.type == at::kChar) {
    const auto* scales = reinterpret_cast<const float*>(pool_.scales()) + 2 * unit * plane;
    for (KVPlane* codes : {&segment.keys, &segment.values}) {
      codes->scales = scales + (codes == &segment.keys ? 0 : plane);
      codes->scale_token_stride = 1;
      codes->scale_head_stride = entries;
    }
  }
  view_.add(segment);
}

void AttentionArm::list_segments(int64_t text) {
  view_.begin(shape_.kv_heads, kHeadDim, kHeadDim);
  view_.begin_slice();
  const int64_t entries = shape_.block_size == 0 ? shape_.length : shape_.block_size;
  for (int64_t i = 0; i < units_per_text_; ++i) {
    const int64_t first = i * entries;
    add(units_[static_cast<size_t>(text * units_per_text_ + i)], first,
        std::min(entries, shape_.length - first));
  }
}

double AttentionArm::run() {
  list_segments(next_);
  next_ = (next_ + 1) % texts_;
  const float scale = 1 / std::sqrt(static_cast<float>(kHeadDim));
  const auto start = std::chrono::steady_clock::now();
  if (shape_.shares_loads) {
    attention_.forward({.query = query_,
                        .output = output_,
                        .plan = plan_,
                        .view = view_,
                        .position = *position_,
                        .scratch = scratch_,
                        .scale = scale,
                        .threads = &threads_});
  } else {
    kernels::SegmentAttentionTask task = kernel_task();
    task.scale = scale;
    kernel_.forward(task, &threads_);
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// No plugin offers to read K and V once per query head, so the kernel is called without one.
kernels::SegmentAttentionTask AttentionArm::kernel_task() {
  const auto plane = [](const KVPlane& from) {
    kernels::EntryPlane to;
    to.data = from.data;
    to.token_stride = from.token_stride;
    to.head_stride = from.head_stride;
    to.format = from.type == at::kFloat      ? kernels::EntryFormat::f32
                : from.type == at::kBFloat16 ? kernels::EntryFormat::bf16
                                             : kernels::EntryFormat::int8;
    to.scales = from.scales;
    to.scale_token_stride = from.scale_token_stride;
    to.scale_head_stride = from.scale_head_stride;
    return to;
  };
  runs_.clear();
  for (const KVSegment& segment : view_.segments(0)) {
    kernels::EntryRun run;
    run.keys = plane(segment.keys);
    run.values = plane(segment.values);
    run.count = segment.count;
    run.first_position = segment.first_position;
    run.head_begin = segment.head_begin;
    run.head_end = segment.head_end;
    runs_.push_back(run);
  }
  row_ = {.first_run = 0,
          .end_run = static_cast<int64_t>(runs_.size()),
          .first_position = shape_.length - 1,
          .first_token = 0,
          .count = 1};
  kernels::SegmentAttentionTask task;
  task.query = query_.const_data_ptr<float>();
  task.output = output_.mutable_data_ptr<float>();
  task.query_token_stride = task.output_token_stride = shape_.query_heads * kHeadDim;
  task.query_head_stride = task.output_head_stride = kHeadDim;
  task.heads = shape_.query_heads;
  task.kv_heads = shape_.kv_heads;
  task.key_dim = task.value_dim = kHeadDim;
  task.runs = runs_;
  task.rows = {&row_, 1};
  task.share_loads = false;
  return task;
}

void AttentionArm::check() {
  // A text at each end of the pool.
  for (const int64_t text : {int64_t{0}, texts_ - 1}) {
    next_ = text;
    run();
    const int64_t group = shape_.query_heads / shape_.kv_heads;
    for (int64_t head = 0; head < shape_.query_heads; ++head) {
      double largest = 0;
      const std::vector<double> wanted =
          reference(view_, query_.const_data_ptr<float>() + head * kHeadDim, head / group, largest);
      const float* got = output_.const_data_ptr<float>() + head * kHeadDim;
      for (int64_t d = 0; d < kHeadDim; ++d) {
        const double error = std::abs(got[d] - wanted[static_cast<size_t>(d)]);
        if (error <= 1e-5 * largest) continue;  // false for NaN as well
        throw std::runtime_error("attention " + shape_.name() + ": text " + std::to_string(text) +
                                 ", head " + std::to_string(head) + ", d " + std::to_string(d) +
                                 ": got " + std::to_string(got[d]) + ", wanted " +
                                 std::to_string(wanted[static_cast<size_t>(d)]));
      }
    }
  }
}

}  // namespace kvlab::benchmarks
