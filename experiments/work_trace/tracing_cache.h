// A cache that passes everything on to another and writes down what went in and what came out.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kvlab/cache/forwarding_cache.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::experiments::work_trace_kind {

/// What one step did in one layer, for row 0.
struct LayerTrace {
  int64_t step = 0;  ///< from 1
  int64_t layer = 0;
  std::vector<int64_t> computed_keys;  ///< positions whose key the model computed and handed in
  std::vector<int64_t> computed_values;
  std::vector<int64_t> reused_keys;  ///< positions attention was given besides those
  std::vector<int64_t> reused_values;
};

/// Shared by the tracing cache, which fills it, and the experiment, which reads it.
struct Trace {
  int64_t steps = 0;
  std::vector<LayerTrace> layers;  ///< of committed steps, in the order of the calls
};

class TracingCache : public ForwardingCache {
 public:
  TracingCache(std::unique_ptr<KVCache> inner, std::shared_ptr<Trace> trace);

  void begin_step(const StepPlan& plan) override;
  void append(int layer, const at::Tensor& key, const at::Tensor& value) override;
  const KVView& view(int layer, const at::Tensor& query) override;
  void end_step() noexcept override;
  void abort_step() noexcept override;

 private:
  std::shared_ptr<Trace> trace_;  // shared with the experiment
  const StepPlan* plan_ = nullptr;
  size_t committed_ = 0;  // entries of `trace_->layers` that belong to finished steps
};

/// Name of the tracing cache in a registry made by `with_tracing`; its option `inner` is the cache
/// it watches.
inline constexpr const char* kTracingName = "traced";

/// A copy of `registry` that also knows the tracing cache, which writes to `trace`.
Registry with_tracing(const Registry& registry, std::shared_ptr<Trace> trace);

/// The spec of a tracing cache around `inner`.
ComponentSpec traced(const ComponentSpec& inner);

}  // namespace kvlab::experiments::work_trace_kind
