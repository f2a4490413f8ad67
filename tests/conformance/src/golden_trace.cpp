#include "kvlab/conformance/golden_trace.h"

#include <ATen/ops/zeros.h>

#include <iomanip>
#include <map>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include "kvlab/conformance/cache_case.h"
#include "kvlab/core/error.h"

namespace kvlab::conformance {

namespace {

/// {row, new tokens}
using Feeds = std::vector<std::pair<int, int64_t>>;

constexpr const char* kHeader =
    "# What this cache does in a fixed scenario. Written by: tools/golden_traces --update\n"
    "# 2 layers, 3 rows, 6 query and 3 KV heads, D 4 and 2, f32, texts of 24 tokens, steps of 8.\n"
    "# lengths: of the rows' texts in the cache, after the operation. payload, storage, metadata:\n"
    "# live bytes. peak: most bytes during the operation. moved: bytes it copied within the cache.\n"
    "# entries: of layer 0, per row count@first_position#place. Places are numbered in each line\n"
    "# anew: the same number twice in a line is the same memory.\n";

CacheShape scenario_shape() {
  CacheShape shape;
  shape.layers = 2;
  shape.query_heads = 6;
  shape.kv_heads = 3;
  shape.rows = 3;
  shape.key_dim = 4;
  shape.value_dim = 2;
  shape.max_length = 24;
  shape.max_step_tokens = 8;
  return shape;
}

class TracedCache {
 public:
  TracedCache(const Registry& registry, const std::string& spec)
      : shape_(scenario_shape()),
        cache_(registry.make_cache(parse_component_spec(spec), shape_, arena_)),
        texts_(static_cast<size_t>(shape_.rows), 0) {
    const CacheTraits& traits = cache_->traits();
    lines_ << "[" << spec << "]\ntraits: exact " << traits.exact << ", truncation "
           << truncation_name(traits.truncation) << ", forks " << traits.forks << ", bounded "
           << traits.bounded << ", window " << traits.window << ", sinks " << traits.sinks
           << ", keys_before_position " << traits.keys_before_position << ", keeps_nothing "
           << traits.keeps_nothing << "\n";
    const std::vector<std::string> titles = {"payload", "storage", "metadata", "peak", "moved"};
    put("operation", "lengths", titles, "entries of layer 0");
    record("new", false);
  }

  std::string run() {
    step("prompt", {{0, 8}, {1, 3}});
    step("prompt", {{0, 3}, {2, 1}});
    step("decode", {{0, 1}, {1, 1}, {2, 1}});
    step("decode", {{0, 1}, {1, 0}});
    reset(2);
    fork(0, 2);
    step("diverge", {{2, 2}});
    step("diverge", {{0, 1}, {2, 1}});
    truncate(2, 14);
    truncate(2, 3);
    step("again", {{2, 3}});
    abort({{0, 4}, {1, 2}});
    fill(0);
    step("too long", {{1, 1}, {0, 1}});
    truncate(1, 0);
    reset(0);
    step("reuse", {{0, 5}, {1, 8}});
    step("decode", {{0, 1}, {1, 1}, {2, 1}});
    for (int row = 0; row < 3; ++row) reset(row);
    return lines_.str();
  }

 private:
  int64_t& text(int row) { return texts_[static_cast<size_t>(row)]; }

  static std::string describe(const std::string& what, const Feeds& feeds) {
    std::string text = what;
    for (const auto& [row, count] : feeds) text += detail::concat(" ", row, ":", count);
    return text;
  }

  // Begins a step; false where it is refused.
  bool begin(const Feeds& feeds) {
    plan_.clear();
    for (const auto& [row, count] : feeds) {
      RowSlice slice;
      slice.row = row;
      slice.first_position = cache_->length(row);
      slice.count = text(row) + count - slice.first_position;
      plan_.add(slice, std::vector<int32_t>(static_cast<size_t>(slice.count), 1));
    }
    try {
      cache_->begin_step(plan_);
      return true;
    } catch (const UserError&) {
      return false;
    }
  }

  void append(int layer) {
    alive_.push_back(at::zeros({plan_.num_tokens(), shape_.kv_heads, shape_.key_dim}));
    alive_.push_back(at::zeros({plan_.num_tokens(), shape_.kv_heads, shape_.value_dim}));
    cache_->append(layer, alive_[alive_.size() - 2], alive_.back());
    cache_->view(layer, query());
  }

  at::Tensor query() const {
    return at::zeros({plan_.num_tokens(), shape_.query_heads, shape_.key_dim});
  }

  void step(const std::string& what, const Feeds& feeds) {
    start();
    const bool begun = begin(feeds);
    if (begun) {
      for (int layer = 0; layer < shape_.layers; ++layer) append(layer);
      cache_->end_step();
      alive_.clear();
      for (const auto& [row, count] : feeds) text(row) += count;
    }
    record(describe(what, feeds), !begun);
  }

  // Decodes until the row's text is as long as it may be.
  void fill(int row) {
    start();
    bool begun = true;
    while (begun && text(row) < shape_.max_length) {
      begun = begin({{row, 1}});
      if (!begun) break;
      for (int layer = 0; layer < shape_.layers; ++layer) append(layer);
      cache_->end_step();
      alive_.clear();
      ++text(row);
    }
    record(detail::concat("decode ", row, " to the end"), !begun);
  }

  void abort(const Feeds& feeds) {
    start();
    const bool begun = begin(feeds);
    if (begun) {
      append(0);
      cache_->abort_step();
      alive_.clear();
    }
    record(describe("abort", feeds), !begun);
  }

  void truncate(int row, int64_t length) {
    const std::string what = detail::concat("truncate ", row, " to ", length);
    if (cache_->traits().truncation == Truncation::refused) return not_promised(what);
    start();
    bool refused = false;
    try {
      cache_->truncate(row, length);
      text(row) = length;
    } catch (const UserError&) {
      refused = true;
    }
    record(what, refused);
  }

  void fork(int from, int to) {
    const std::string what = detail::concat("fork ", from, " to ", to);
    if (!cache_->traits().forks) return not_promised(what);
    start();
    bool refused = false;
    try {
      cache_->fork(from, to);
      text(to) = text(from);
    } catch (const CapacityError&) {
      refused = true;
    }
    record(what, refused);
  }

  void reset(int row) {
    start();
    cache_->reset(row);
    text(row) = 0;
    record(detail::concat("reset ", row), false);
  }

  void start() {
    arena_.restart_peaks();
    moved_before_ = cache_->bytes_moved();
  }

  void record(const std::string& what, bool refused) {
    std::string lengths, entries;
    std::map<const void*, int> places;
    for (int row = 0; row < shape_.rows; ++row) {
      lengths += (row > 0 ? " " : "") + std::to_string(cache_->length(row));
      entries += (row > 0 ? " | " : "") + describe_row(row, places);
    }
    const MemoryUsage usage = arena_.usage();
    const std::vector<int64_t> numbers = {
        payload_bytes(*cache_, shape_), usage.live_bytes(MemoryKind::storage),
        usage.live_bytes(MemoryKind::metadata), usage.peak_total,
        cache_->bytes_moved() - moved_before_};
    put(what + (refused ? ": refused" : ""), lengths, numbers, entries);
  }

  std::string describe_row(int row, std::map<const void*, int>& places) const {
    KVView view;
    cache_->inspect(0, row, view);
    std::ostringstream text;
    const int64_t base = cache_->rotary_base(row);
    if (base != cache_->length(row)) text << "rotary_base " << base << ": ";
    const auto before = text.tellp();
    for (const KVSegment& segment : view.segments(0)) {
      const int place =
          places.emplace(segment.keys.data, static_cast<int>(places.size())).first->second;
      for (int64_t first = 0; first < segment.count;) {
        int64_t end = first + 1;
        while (end < segment.count && segment.position(end) == segment.position(end - 1) + 1) ++end;
        text << (text.tellp() == before ? "" : " ") << end - first << "@"
             << segment.position(first) << "#" << place;
        first = end;
      }
      if (!view.uniform()) text << "h" << segment.head_begin << "-" << segment.head_end - 1;
    }
    if (text.tellp() == before) text << "-";
    return text.str();
  }

  template <typename Column>
  void put(const std::string& what, const std::string& lengths, const std::vector<Column>& columns,
           const std::string& entries) {
    lines_ << std::left << std::setw(28) << what << std::setw(9) << lengths << std::right;
    for (const Column& column : columns) lines_ << std::setw(9) << column;
    lines_ << "  " << entries << "\n";
  }

  void not_promised(const std::string& what) { lines_ << what << ": not promised\n"; }

  CacheShape shape_;
  StorageArena arena_;
  std::unique_ptr<KVCache> cache_;
  std::vector<int64_t> texts_;  // tokens of each row
  StepPlan plan_;
  std::vector<at::Tensor> alive_;  // the step's K and V: borrowed by the cache until it ends
  int64_t moved_before_ = 0;
  std::ostringstream lines_;
};

}  // namespace

std::string golden_trace(const Registry& registry, const std::string& plugin) {
  std::vector<std::string> specs = {plugin};
  for (const std::string& example : registry.cache(plugin).info.examples) {
    specs.push_back(plugin + ":" + example);
  }
  std::string text = kHeader;
  for (const std::string& spec : specs) {
    std::optional<TracedCache> traced;
    try {
      traced.emplace(registry, spec);
    } catch (const UserError&) {
      text += "\n[" + spec + "]\nrefused for this shape\n";
      continue;
    }
    text += "\n" + traced->run();
  }
  return text;
}

std::optional<std::string> trace_difference(const std::string& kept, const std::string& now) {
  if (kept == now) return std::nullopt;
  std::istringstream old_lines(kept), new_lines(now);
  for (int64_t number = 1;; ++number) {
    std::string old_line, new_line;
    const bool had = static_cast<bool>(std::getline(old_lines, old_line));
    const bool has = static_cast<bool>(std::getline(new_lines, new_line));
    // Equal line by line, and still not equal: the end of the last line.
    const bool equal = had == has && old_line == new_line;
    if (equal && had) continue;
    return detail::concat("line ", number, " differs\n  was: ", had ? old_line : "(no line)",
                          "\n  is:  ", has ? new_line : "(no line)",
                          "\nIf the change is meant: tools/golden_traces --update, and review the "
                          "difference");
  }
}

}  // namespace kvlab::conformance
