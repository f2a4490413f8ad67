#include "tests/benchmarks/ratios.h"

#include <array>
#include <set>
#include <utility>

#include "kvlab/runtime/process.h"
#include "tests/benchmarks/interleaved.h"
#include "tests/benchmarks/step_arm.h"

namespace kvlab::benchmarks {

namespace {

constexpr int64_t kTinyDepth = 64;
constexpr int64_t kRowKernelsAlways = 64, kRowKernelsNever = -1;  // as row_tokens of a session

// Runs one arm and knows what it reads.
struct CountedArm {
  Arm run;
  int64_t bytes = 0;  // 0 where bytes say nothing
};

std::vector<double> speeds(int64_t bytes, const std::vector<double>& seconds) {
  std::vector<double> result;
  for (const double each : seconds) result.push_back(static_cast<double>(bytes) / each);
  return result;
}

RatioSamples compare(BenchMachine& machine, int threads, ProbeUse use, int blocks,
                     const CountedArm& top, const CountedArm& bottom) {
  RatioSamples samples;
  const bool counts = use == ProbeUse::beside && top.bytes > 0;
  std::vector<double> probed;  // in front of every block that was run
  std::function<void()> before_block;
  if (counts) before_block = [&] { probed.push_back(machine.probe(threads)); };
  const std::array<Arm, 2> arms{top.run, bottom.run};
  const Blocks run = run_interleaved(arms, blocks, before_block);
  samples.ratios = ratios_of(run.seconds[0], run.seconds[1]);
  samples.disturbed = run.disturbed;
  if (counts) {
    for (const size_t block : run.kept) samples.probe.push_back(probed[block]);
    samples.top_speed = speeds(top.bytes, run.seconds[0]);
    samples.bottom_speed = speeds(bottom.bytes, run.seconds[1]);
  }
  return samples;
}

class RatioList {
 public:
  RatioList(BenchMachine& machine, int threads) : machine_(machine), threads_(threads) {}

  void attention(const std::string& name, const AttentionCase& top, const AttentionCase& bottom) {
    add("attention_" + name, "attention " + top.name() + " over " + bottom.name(),
        [&machine = machine_, threads = threads_, top, bottom](int blocks, ProbeUse use) {
          const auto first = machine.attention(top, threads);
          const auto second = machine.attention(bottom, threads);
          return compare(machine, threads, use, blocks, {[&] { return first->run(); }, top.bytes()},
                         {[&] { return second->run(); }, bottom.bytes()});
        });
  }

  void linear(const std::string& name, const LinearCase& top, const LinearCase& bottom) {
    add("linear_" + name, "product " + top.name() + " over " + bottom.name(),
        [&machine = machine_, threads = threads_, top, bottom](int blocks, ProbeUse use) {
          const auto first = machine.linear(top, threads);
          const auto second = machine.linear(bottom, threads);
          return compare(machine, threads, use, blocks, {[&] { return first->run(); }, top.bytes()},
                         {[&] { return second->run(); }, bottom.bytes()});
        });
  }

  void tiny_step() {
    add("step_tiny_row_kernels",
        "decode step of a tiny model (d 128, 12 layers, V 256, depth 64), row kernels over the "
        "library's products",
        [&machine = machine_, threads = threads_](int blocks, ProbeUse use) {
          set_threads(threads);
          const Model model = tiny_model();
          StepArm rows(model, machine.registry(), kTinyDepth, kRowKernelsAlways);
          StepArm library(model, machine.registry(), kTinyDepth, kRowKernelsNever);
          check_equal_logits(rows, library);
          return compare(machine, threads, use, blocks, {[&] { return rows.run(); }},
                         {[&] { return library.run(); }});
        });
  }

  void cache_share() {
    add("step_cache_share",
        "time in the cache interface (begin_step, append, view, end_step) over the whole decode "
        "step, "
        "SmolLM2's shapes, preallocated, depth 64",
        [&machine = machine_, threads = threads_](int blocks, ProbeUse) {
          set_threads(threads);
          const Model model = fifth_of_smollm2();
          StepArm rows(model, machine.registry(), kTinyDepth, kRowKernelsAlways);
          StepArm library(model, machine.registry(), kTinyDepth, kRowKernelsNever);
          check_equal_logits(rows, library);
          RatioSamples samples;
          for (int block = 0; block < blocks; ++block) {
            samples.ratios.push_back(rows.cache_share(20));
          }
          return samples;
        });
  }

  std::vector<Ratio> take() { return std::move(ratios_); }

 private:
  void add(const std::string& name, std::string compares,
           std::function<RatioSamples(int, ProbeUse)> measure) {
    ratios_.push_back({name, std::move(compares), threads_, std::move(measure)});
  }

  BenchMachine& machine_;
  int threads_;
  std::vector<Ratio> ratios_;
};

void add_attention(RatioList& list) {
  for (const int64_t length : {1024, 8192}) {
    const std::string at = "_T" + std::to_string(length);
    AttentionCase f32;
    f32.length = length;
    for (const int64_t block_size : {16, 32, 64, 128}) {
      AttentionCase paged = f32;
      paged.block_size = block_size;
      list.attention("f32_block" + std::to_string(block_size) + at, paged, f32);
    }
    AttentionCase bf16 = f32, int8 = f32;
    bf16.type = at::kBFloat16;
    int8.type = at::kChar;
    list.attention("bf16" + at, bf16, f32);
    list.attention("int8" + at, int8, f32);
    for (const auto& [heads, kv_heads, name] :
         {std::tuple{9, 3, "3to1"}, std::tuple{12, 2, "6to1"}}) {
      AttentionCase shared = f32;
      shared.query_heads = heads;
      shared.kv_heads = kv_heads;
      AttentionCase unshared = shared;
      unshared.shares_loads = false;
      list.attention(std::string("shared_loads_") + name + at, shared, unshared);
    }
  }
}

void add_linear(RatioList& list) {
  using kernels::WeightFormat;
  // Small, long rows and large: the others lie between them, kvlab_benchmarks has all.
  const std::set<std::string> shown{"smollm2_qkv", "smollm2_up", "gpt2_down", "smollm2_head"};
  for (const LinearCase& layer : decoder_layers()) {
    if (!shown.contains(layer.layer)) continue;
    for (const int64_t tokens : {1, 8}) {
      const std::string at = "_" + layer.layer + "_tokens" + std::to_string(tokens);
      LinearCase f32 = layer;
      f32.tokens = tokens;
      LinearCase bf16 = f32, int8 = f32;
      bf16.format = WeightFormat::bf16;
      int8.format = WeightFormat::int8;
      for (const auto& [name, rows] : {std::pair{"f32", f32}, std::pair{"bf16", bf16}}) {
        LinearCase library = rows;
        library.library = true;
        list.linear(std::string(name) + "_over_library" + at, rows, library);
      }
      list.linear("bf16_over_f32" + at, bf16, f32);
      list.linear("int8_over_f32" + at, int8, f32);
    }
  }
}

}  // namespace

std::vector<Ratio> all_ratios(BenchMachine& machine, const std::vector<int>& threads) {
  std::vector<Ratio> all;
  for (const int count : threads) {
    RatioList list(machine, count);
    add_attention(list);
    add_linear(list);
    list.tiny_step();
    list.cache_share();
    for (Ratio& ratio : list.take()) all.push_back(std::move(ratio));
  }
  return all;
}

}  // namespace kvlab::benchmarks
