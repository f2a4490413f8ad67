#include "tests/conformance/forgetful_plugin/forgetful_cache.h"

#include <ATen/ops/zeros_like.h>

#include <cstdlib>

namespace kvlab::conformance {

void ForgetfulCache::append(int layer, const at::Tensor& key, const at::Tensor& value) {
  const bool forgets = fault_ == "fork" && forked_ && layer == 1;
  inner().append(layer, key, forgets ? at::zeros_like(value) : value);
  if (layer == 1) forked_ = false;
}

void ForgetfulCache::fork(int from, int to) {
  if (fault_ == "abort") std::abort();
  if (fault_ == "exit") std::exit(0);
  inner().fork(from, to);
  forked_ = from != to;
}

int64_t ForgetfulCache::truncate(int row, int64_t new_length) {
  if (fault_ == "number") throw 7;
  const int64_t before = inner().length(row);
  const int64_t kept = inner().truncate(row, new_length);
  if (fault_ == "truncate" && kept < before) stale_lengths_[static_cast<size_t>(row)] = before;
  return kept;
}

int64_t ForgetfulCache::length(int row) const {
  const int64_t right = inner().length(row);
  const int64_t stale = stale_lengths_[static_cast<size_t>(row)];
  return stale < 0 ? right : stale;
}

void ForgetfulCache::reset(int row) {
  inner().reset(row);
  stale_lengths_[static_cast<size_t>(row)] = -1;
}

void register_forgetful_cache(Registry& registry) {
  CacheEntry entry;
  entry.info.name = "forgetful";
  entry.info.summary = "Another cache with a fault, for tests of what finds faults.";
  OptionSpec fault;
  fault.name = "fault";
  fault.type = OptionType::text;
  fault.default_text = "fork";
  fault.choices = {"none", "fork", "truncate", "number", "abort", "exit"};
  fault.doc = "What it does wrong.";
  OptionSpec inner;
  inner.name = "inner";
  inner.type = OptionType::component;
  inner.default_text = "preallocated";
  inner.doc = "The cache that does the storing, by name.";
  entry.info.options = {fault, inner};
  entry.info.examples = {"fault=none", "fault=abort", "fault=exit"};
  entry.bytes_formula = "the inner cache's";
  const auto spec_of = [](const CacheRequest& request) {
    return request.options.component("inner");
  };
  entry.traits = [spec_of](const CacheRequest& request) {
    return request.registry.cache_traits(spec_of(request), request.shape);
  };
  entry.estimate = [spec_of](const CacheRequest& request, const StepSequence& sequence) {
    return request.registry.estimate_cache(spec_of(request), request.shape, sequence);
  };
  entry.create = [spec_of](const CacheRequest& request, StorageArena& arena) {
    return std::make_unique<ForgetfulCache>(
        request.registry.make_cache(spec_of(request), request.shape, arena),
        request.options.text("fault"), request.shape.rows);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::conformance
