// A cache with a fault to choose, for tests of what finds faults: built into the tests, and as a
// plugin library of its own.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kvlab/cache/forwarding_cache.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::conformance {

/// Wraps a sound cache. Faults: "none"; "fork": after a fork the next values of layer 1 are stored
/// as zeros; "truncate": a row that was cut back reports its old length until it is reset; "number":
/// truncate throws an int; "abort": fork aborts the program; "exit": fork ends it with success.
class ForgetfulCache : public ForwardingCache {
 public:
  ForgetfulCache(std::unique_ptr<KVCache> inner, std::string fault, int64_t rows)
      : ForwardingCache("forgetful", std::move(inner)), fault_(std::move(fault)),
        stale_lengths_(static_cast<size_t>(rows), -1) {}

  void append(int layer, const at::Tensor& key, const at::Tensor& value) override;
  void fork(int from, int to) override;
  int64_t truncate(int row, int64_t new_length) override;
  int64_t length(int row) const override;
  void reset(int row) override;

 private:
  std::string fault_;
  std::vector<int64_t> stale_lengths_;  // of each row, -1 where it is right
  bool forked_ = false;
};

/// Adds the cache `forgetful:fault=...,inner=...`.
void register_forgetful_cache(Registry& registry);

}  // namespace kvlab::conformance
