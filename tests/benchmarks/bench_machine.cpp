#include "tests/benchmarks/bench_machine.h"

#include <chrono>
#include <thread>

namespace kvlab::benchmarks {

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

BenchMachine::BenchMachine() { register_builtin_plugins(registry_); }

ThreadPool& BenchMachine::threads(int count) {
  std::unique_ptr<ThreadPool>& pool = threads_[count];
  if (!pool) pool = std::make_unique<ThreadPool>(count);
  return *pool;
}

int BenchMachine::most_threads() { return std::thread::hardware_concurrency() > 1 ? 2 : 1; }

std::unique_ptr<AttentionArm> BenchMachine::attention(const AttentionCase& shape, int threads) {
  if (!fused_) fused_ = registry_.make_attention({"fused", {}, ""});
  std::unique_ptr<AttentionPool>& pool = pools_[shape.type];
  if (!pool) pool = std::make_unique<AttentionPool>(shape.type, rotating_bytes());
  auto arm = std::make_unique<AttentionArm>(shape, *pool, *fused_, this->threads(threads));
  arm->check();
  return arm;
}

std::unique_ptr<LinearArm> BenchMachine::linear(const LinearCase& shape, int threads) {
  auto arm = std::make_unique<LinearArm>(shape, this->threads(threads));
  arm->check();
  return arm;
}

double BenchMachine::probe(int threads) {
  if (!probe_) probe_ = std::make_unique<kernels::ReadProbe>();
  const double speed = probe_->measure(this->threads(threads)).bytes_per_second;
  probed_[threads] = {speed, now()};
  return speed;
}

double BenchMachine::recent_probe(int threads) {
  const auto found = probed_.find(threads);
  if (found != probed_.end() && now() - found->second.at < 2) return found->second.bytes_per_second;
  return probe(threads);
}

}  // namespace kvlab::benchmarks
