#include "measurement.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <numeric>

#include "arm_site.h"
#include "bandwidth.h"
#include "kvlab/model/step_timeline.h"
#include "kvlab/runtime/arm_runs.h"
#include "kvlab/runtime/process.h"
#include "kvlab/runtime/step_bound.h"
#include "kvlab/runtime/whole_blocks.h"
#include "result_json.h"

namespace kvlab::experiments {

namespace {

using Clock = std::chrono::steady_clock;

// Ratios need blocks in which every arm ran; arms that failed are none, and one that stood still
// leaves nothing to compare with.
void keep_whole_blocks(std::vector<Arm>& arms, size_t case_index) {
  std::vector<std::vector<bool>> stood_still;
  for (const Arm& arm : arms) {
    if (arm.failure) continue;
    std::vector<bool>& blocks = stood_still.emplace_back();
    for (const Sample& sample : arm.samples[case_index]) {
      blocks.push_back(sample.contention.suspended);
    }
  }
  const WholeBlocks whole = whole_blocks(stood_still);
  for (Arm& arm : arms) {
    if (arm.failure) continue;
    keep_blocks(arm.samples[case_index], whole);
    arm.suspended_blocks[case_index] += whole.suspended;
  }
}

// Of the samples since the last time.
void set_bandwidth(std::vector<Arm>& arms, size_t case_index, double bytes_per_second) {
  for (Arm& arm : arms) {
    std::vector<Sample>& samples = arm.samples[case_index];
    for (auto sample = samples.rbegin();
         sample != samples.rend() && sample->bytes_per_second == 0; ++sample) {
      sample->bytes_per_second = bytes_per_second;
    }
  }
}

std::string sample_line(const Case& one, const Arm& arm, int block, int order,
                        const Sample& sample) {
  nlohmann::ordered_json line = {
      {"arm", arm.config.name}, {"rep", block},
      {"order", order},         {"prompt_len", one.prompt_length},
      {"batch", one.batch},     {"new_tokens", sample.result.generated() / one.batch}};
  line.update(sample_json(sample));
  return line.dump();
}

int64_t copied_bytes(const WorkCounters& work) { return work.bytes_moved + work.gathered_bytes; }

// Watches a run between its steps. What it reads are counters, but for the K and V that the first
// decode step will read: those are walked through once.
class HeldWatch {
 public:
  HeldWatch(const Session& session, int64_t rows, int64_t longest)
      : session_(session), tokens_(static_cast<size_t>(rows)), lengths_(curve_lengths(longest)) {}

  // Called for each row of a step.
  void on_token(int row, Sample& sample) {
    const int64_t count = ++tokens_[static_cast<size_t>(row)];
    if (count <= steps_) return;
    steps_ = count;
    if (steps_ == 1) {
      first_kv_ = readable_kv_bytes(session_.cache(), session_.shape());
      first_copied_ = copied_bytes(session_.work());
    }
    if (next_ < lengths_.size() && lengths_[next_] == steps_) {
      ++next_;
      sample.held.push_back({steps_, session_.cache_usage().reserved()});
    }
  }

  void finish(Sample& sample) const {
    const int64_t last_kv = readable_kv_bytes(session_.cache(), session_.shape());
    sample.kv_read = 0.5 * static_cast<double>(first_kv_ + last_kv);
    if (steps_ > 1) {
      sample.copied = static_cast<double>(copied_bytes(session_.work()) - first_copied_) /
                      static_cast<double>(steps_ - 1);
    }
    if (sample.held.empty() || sample.held.back().new_tokens != steps_) {
      sample.held.push_back({steps_, session_.cache_usage().reserved()});
    }
  }

 private:
  const Session& session_;
  std::vector<int64_t> tokens_;  // of each row
  std::vector<int64_t> lengths_;
  size_t next_ = 0;
  int64_t steps_ = 0, first_kv_ = 0, first_copied_ = 0;
};

// What a run of the case is given.
SessionOptions case_options(const BenchmarkConfig& config, const Case& one, const ReadyArm& arm) {
  const int64_t longest = config.workload.longest_output();
  const int64_t length = std::min(one.prompt_length + longest - 1, arm.model->config().context);
  SessionOptions options =
      arm_session_options(config.shared.runtime, arm.config, one.batch, length);
  options.arena.prefault = true;
  return options;
}

GenerateOptions generation_of(const BenchmarkConfig& config) {
  GenerateOptions generation;
  generation.new_tokens = config.workload.longest_output();
  generation.sampler = config.workload.sampler;
  generation.stop_tokens = config.workload.stop_tokens;
  generation.overflow = config.shared.runtime.overflow;
  return generation;
}

}  // namespace

std::vector<int64_t> curve_lengths(int64_t last) {
  std::vector<int64_t> lengths;
  for (int64_t power = 1; power <= last; power *= 2) {
    lengths.push_back(power);
    const int64_t between = power + power / 2;
    if (power > 1 && between < std::min(last, 2 * power)) lengths.push_back(between);
  }
  if (!lengths.empty() && lengths.back() != last) lengths.push_back(last);
  return lengths;
}

int64_t Sample::elapsed_ns(int64_t tokens) const {
  const auto gaps = std::min<int64_t>(tokens - 1, static_cast<int64_t>(result.token_ns.size()));
  return std::accumulate(result.token_ns.begin(), result.token_ns.begin() + gaps, result.ttft_ns);
}

double Sample::tokens_per_second() const {
  return static_cast<double>(result.generated()) * 1e9 / static_cast<double>(total_ns());
}

Sample run_once(const BenchmarkConfig& config, const Case& one, const ReadyArm& arm,
                const Registry& registry) {
  const int64_t longest = config.workload.longest_output();
  const SessionOptions options = case_options(config, one, arm);
  Sample sample;
  const auto start = Clock::now();
  Session session(*arm.model, registry, options);
  sample.setup_ns =
      std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();

  GenerateOptions generation = generation_of(config);
  HeldWatch watch(session, one.batch, longest);
  PlantedSlowdown slowdown(planted_slowdown(config.trials, arm.config.name));
  generation.on_token = [&](int row, int32_t) {
    watch.on_token(row, sample);
    // Called for each row of a step: the first one has the step's time behind it.
    session.profile_into(&sample.split);
    slowdown.after_step();
  };
  // Reading the clock in each layer costs microseconds of a step, the same in all arms.
  const ContentionMeter meter;
  sample.result = generate(session, one.prompts, generation);
  sample.contention = meter.finish(sample.result.work.steps, sample.result.token_ns);
  session.profile_into(nullptr);
  watch.finish(sample);
  sample.fragmentation = session.cache().fragmentation();

  // Rows that stopped early fed fewer tokens; the estimate follows what was fed.
  StepSequence sequence = StepSequence::prefill_then_decode(
      std::vector<int64_t>(static_cast<size_t>(one.batch), one.prompt_length), longest,
      arm.traits.keeps_nothing ? 0 : options.chunk);
  const size_t prefill_steps = sequence.steps.size() - static_cast<size_t>(longest - 1);
  for (size_t step = prefill_steps; step < sequence.steps.size(); ++step) {
    auto& items = sequence.steps[step];
    const auto fed = static_cast<int64_t>(step - prefill_steps) + 1;
    std::erase_if(items, [&](const StepSequence::Item& item) {
      return static_cast<int64_t>(sample.result.tokens[static_cast<size_t>(item.row)].size()) <=
             fed;
    });
  }
  sample.estimated = registry.estimate_cache(arm.config.cache, session.shape(), sequence);
  return sample;
}

std::string trace_once(const BenchmarkConfig& config, const Case& one, const ReadyArm& arm,
                       const Registry& registry) {
  Session session(*arm.model, registry, case_options(config, one, arm));
  StepTimeline timeline;
  StepProfile profile;
  profile.timeline = &timeline;
  session.profile_into(&profile);
  (void)generate(session, one.prompts, generation_of(config));
  session.profile_into(nullptr);
  return trace_json(timeline, "kvlab run, " + arm.model->name + ", arm " + arm.config.name + ", " +
                                  one.label());
}

void attempt(Arm& arm, const std::string& when, std::ostream& log,
             const std::function<void()>& work) {
  const std::optional<std::string> why = failure_of(work);
  if (!why) return;
  arm.failure = when + ": " + *why;
  log << arm.config.name << " failed: " << *arm.failure << "\n" << std::flush;
}

void measure_case(const CaseToMeasure& what, std::vector<Arm>& arms, RunContext& context) {
  const MeasureConfig& measure = what.config.shared.measure;
  const Case& one = what.one;
  const size_t case_index = what.index;
  const auto run = [&](size_t index, int block, int order) {
    Arm& arm = arms[index];
    if (arm.failure) return;
    const std::string name = block < 0 ? "warm-up" : fmt::format("block {}", block + 1);
    attempt(arm, one.label() + ", " + name, context.log, [&] {
      Sample sample = what.site.run(index);
      context.log << fmt::format("{}: {} {}: {:.1f} tokens/s\n", one.label(), arm.config.name, name,
                                 sample.tokens_per_second())
                  << std::flush;
      if (block < 0) return;
      context.folder.add_sample(sample_line(one, arm, block, order, sample));
      arm.samples[case_index].push_back(std::move(sample));
    });
  };
  try {
    for (int round = 0; round < measure.warmup; ++round) {
      for (size_t arm = 0; arm < arms.size(); ++arm) {
        run(arm, -1, 0);
        context.advance_progress();
      }
    }
    size_t order = 0;
    what.bandwidth.begin_case(one);
    for (const auto& [block, arm] : run_order(measure, arms.size(), case_index)) {
      run(arm, block, static_cast<int>(order++));
      context.advance_progress();
      // So many runs are a block where arms alternate, and as long as one where they do not.
      if (order % arms.size() == 0) {
        set_bandwidth(arms, case_index, what.bandwidth.end_block());
      }
    }
  } catch (const InterruptedError& error) {
    context.log << error.what() << "\n";
  }
  keep_whole_blocks(arms, case_index);
}

}  // namespace kvlab::experiments
