// What the benchmarks of one process share: plugins, threads, pools and the read probe.
#pragma once

#include <map>
#include <memory>

#include "kvlab/kernels/read_probe.h"
#include "kvlab/runtime/registry.h"
#include "tests/benchmarks/attention_arm.h"
#include "tests/benchmarks/linear_arm.h"

namespace kvlab::benchmarks {

/// Makes everything when it is first asked for, and keeps it.
class BenchMachine {
 public:
  BenchMachine();

  const Registry& registry() const { return registry_; }
  ThreadPool& threads(int count);

  /// 2, or 1 where the machine has no more.
  static int most_threads();

  /// Arms whose results were compared with a reference before they are returned; throws what
  /// `check` throws. The attention is `fused`.
  std::unique_ptr<AttentionArm> attention(const AttentionCase& shape, int threads);
  std::unique_ptr<LinearArm> linear(const LinearCase& shape, int threads);

  /// Bytes per second of the read probe over 1 GiB, measured now.
  double probe(int threads);

  /// The same, measured in the last 2 seconds or now.
  double recent_probe(int threads);

 private:
  Registry registry_;
  std::unique_ptr<Attention> fused_;
  std::map<int, std::unique_ptr<ThreadPool>> threads_;
  std::map<at::ScalarType, std::unique_ptr<AttentionPool>> pools_;
  std::unique_ptr<kernels::ReadProbe> probe_;
  struct Probed {
    double bytes_per_second = 0, at = 0;
  };
  std::map<int, Probed> probed_;
};

}  // namespace kvlab::benchmarks
