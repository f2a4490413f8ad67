#include "tracing_cache.h"

#include <algorithm>

#include "kvlab/core/error.h"

namespace kvlab::experiments::work_trace_kind {

namespace {

// Positions of row 0's tokens in this step, of which a tensor with `rows` rows must hold all.
std::vector<int64_t> positions_in(const StepPlan& plan, const at::Tensor& tensor) {
  KVLAB_INVARIANT(tensor.size(0) == plan.num_tokens(), "[work_trace.append] ", tensor.size(0),
                  " computed entries in a step of ", plan.num_tokens(), " tokens");
  std::vector<int64_t> positions;
  for (const RowSlice& slice : plan.slices()) {
    if (slice.row != 0) continue;
    for (int64_t i = 0; i < slice.count; ++i) positions.push_back(slice.first_position + i);
  }
  return positions;
}

std::vector<int64_t> without(std::vector<int64_t> all, const std::vector<int64_t>& taken) {
  std::sort(all.begin(), all.end());
  std::erase_if(all, [&](int64_t position) {
    return std::find(taken.begin(), taken.end(), position) != taken.end();
  });
  return all;
}

}  // namespace

TracingCache::TracingCache(std::unique_ptr<KVCache> inner, std::shared_ptr<Trace> trace)
    : ForwardingCache(kTracingName, std::move(inner)), trace_(std::move(trace)) {}

void TracingCache::begin_step(const StepPlan& plan) {
  ForwardingCache::begin_step(plan);
  plan_ = &plan;
}

void TracingCache::append(int layer, const at::Tensor& key, const at::Tensor& value) {
  LayerTrace entry;
  entry.step = trace_->steps + 1;
  entry.layer = layer;
  entry.computed_keys = positions_in(*plan_, key);
  entry.computed_values = positions_in(*plan_, value);
  ForwardingCache::append(layer, key, value);
  trace_->layers.push_back(std::move(entry));
}

const KVView& TracingCache::view(int layer, const at::Tensor& query) {
  const KVView& view = ForwardingCache::view(layer, query);
  LayerTrace& entry = trace_->layers.back();
  KVLAB_INVARIANT(entry.layer == layer, "[work_trace.view] layer ", layer, " after layer ",
                  entry.layer);
  std::vector<int64_t> keys, values;
  for (const KVSegment& segment : view.segments(0)) {
    if (segment.head_begin > 0) continue;  // the first head stands for all
    for (int64_t i = 0; i < segment.count; ++i) {
      if (segment.keys.data != nullptr) keys.push_back(segment.position(i));
      if (segment.values.data != nullptr) values.push_back(segment.position(i));
    }
  }
  entry.reused_keys = without(std::move(keys), entry.computed_keys);
  entry.reused_values = without(std::move(values), entry.computed_values);
  return view;
}

void TracingCache::end_step() noexcept {
  ForwardingCache::end_step();
  ++trace_->steps;
  committed_ = trace_->layers.size();
}

void TracingCache::abort_step() noexcept {
  ForwardingCache::abort_step();
  trace_->layers.erase(trace_->layers.begin() + static_cast<std::ptrdiff_t>(committed_),
                       trace_->layers.end());
}

Registry with_tracing(const Registry& registry, std::shared_ptr<Trace> trace) {
  Registry copy = registry;
  copy.begin_origin("work_trace");
  CacheEntry entry;
  entry.info.name = kTracingName;
  entry.info.summary = "Watches another cache.";
  OptionSpec inner;
  inner.name = "inner";
  inner.type = OptionType::component;
  inner.required = true;
  inner.doc = "The cache to watch.";
  entry.info.options = {inner};
  entry.bytes_formula = "the inner cache's";
  entry.traits = [](const CacheRequest& request) {
    return request.registry.cache_traits(request.options.component("inner"), request.shape);
  };
  entry.estimate = [](const CacheRequest& request, const StepSequence& sequence) {
    return request.registry.estimate_cache(request.options.component("inner"), request.shape,
                                           sequence);
  };
  entry.create = [trace](const CacheRequest& request,
                         StorageArena& arena) -> std::unique_ptr<KVCache> {
    return std::make_unique<TracingCache>(
        request.registry.make_cache(request.options.component("inner"), request.shape, arena),
        trace);
  };
  copy.add(std::move(entry));
  return copy;
}

ComponentSpec traced(const ComponentSpec& inner) {
  ComponentSpec spec;
  spec.type = kTracingName;
  RawOption option;
  option.component = std::make_shared<const ComponentSpec>(inner);
  option.where = inner.where;
  spec.options.emplace("inner", std::move(option));
  spec.where = inner.where;
  return spec;
}

}  // namespace kvlab::experiments::work_trace_kind
