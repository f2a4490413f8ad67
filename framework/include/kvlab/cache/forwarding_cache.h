// Base for caches that wrap another: passes everything on, so that nothing is silently unsupported.
#pragma once

#include <memory>

#include "kvlab/cache/kv_cache.h"

namespace kvlab {

class ForwardingCache : public KVCache {
 public:
  const CacheTraits& traits() const override { return inner_->traits(); }
  void begin_step(const StepPlan& plan) override { inner_->begin_step(plan); }
  void append(int layer, const at::Tensor& key, const at::Tensor& value) override {
    inner_->append(layer, key, value);
  }
  const KVView& view(int layer, const at::Tensor& query) override {
    return inner_->view(layer, query);
  }
  void end_step() noexcept override { inner_->end_step(); }
  void abort_step() noexcept override { inner_->abort_step(); }
  int64_t length(int row) const override { return inner_->length(row); }
  void inspect(int layer, int row, KVView& view) const override {
    inner_->inspect(layer, row, view);
  }
  void reset(int row) override { inner_->reset(row); }
  int64_t rotary_base(int row) const override { return inner_->rotary_base(row); }
  void observe(int layer, const AttentionFeedback& feedback) override {
    inner_->observe(layer, feedback);
  }
  int64_t truncate(int row, int64_t new_length) override {
    return inner_->truncate(row, new_length);
  }
  void fork(int from, int to) override { inner_->fork(from, to); }
  int64_t match_prefix(int row, std::span<const int32_t> tokens) override {
    return inner_->match_prefix(row, tokens);
  }
  void check_integrity() const override { inner_->check_integrity(); }
  int64_t bytes_moved() const override { return inner_->bytes_moved(); }
  double fragmentation() const override { return inner_->fragmentation(); }

 protected:
  ForwardingCache(std::string name, std::unique_ptr<KVCache> inner)
      : KVCache(std::move(name)), inner_(std::move(inner)) {}

  KVCache& inner() { return *inner_; }
  const KVCache& inner() const { return *inner_; }

 private:
  std::unique_ptr<KVCache> inner_;
};

}  // namespace kvlab
