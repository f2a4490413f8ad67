#include "speed_measurement.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "kvlab/runtime/arm_runs.h"
#include "kvlab/runtime/memory_floor.h"
#include "kvlab/runtime/process.h"
#include "kvlab/runtime/statistics.h"

namespace kvlab::experiments::decode_speed_kind {

namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

constexpr int64_t kProfiledSteps = 8;

int64_t nanoseconds(Clock::duration span) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(span).count();
}

// A session adds to the profile as long as this lives.
class Profiling {
 public:
  Profiling(Session& session, StepProfile& profile) : session_(session) {
    session_.profile_into(&profile);
  }
  ~Profiling() { session_.profile_into(nullptr); }
  Profiling(const Profiling&) = delete;
  Profiling& operator=(const Profiling&) = delete;

 private:
  Session& session_;
};

class CaseRunner {
 public:
  CaseRunner(SpeedRun& run, const Model& model, CasePurpose purpose, LogicTable& logic,
             CaseResult& result)
      : config_(run.config),
        context_(run.context),
        run_(run),
        model_(model),
        purpose_(purpose),
        logic_(logic),
        result_(result),
        texts_(result.model->texts.begin(), result.model->texts.begin() + result.batch),
        sessions_(config_.arms.size()),
        too_slow_(config_.arms.size()) {}

  void run() {
    result_.failures.resize(config_.arms.size());
    for (const size_t arm : control_first()) {
      attempt(arm, "set-up", [&] {
        sessions_[arm] =
            std::make_unique<ArmSession>(model_, context_.registry,
                                         config_.session_options(*result_.model, config_.arms[arm],
                                                                 result_.precision, result_.batch),
                                         texts_);
        result_.row_tokens = sessions_[arm]->session().row_tokens();
      });
    }
    try {
      // With several rows a prompt only takes longer: one row is enough to compare.
      const bool first_batch = result_.batch == config_.batches.front();
      if (timed() && first_batch && config_.times_prompt(*result_.model)) time_prefill();
      for (const int64_t depth : result_.model->depths) {
        if (result_.failures[config_.control]) return;
        run_depth(depth);
      }
    } catch (const InterruptedError& error) {
      result_.interrupted = true;
      const bool begun = !result_.depths.empty() && result_.depths.back().bytes_per_second.empty();
      if (begun) result_.depths.pop_back();
      context_.log << error.what() << "\n";
    }
  }

 private:
  bool timed() const { return purpose_ == CasePurpose::gate_and_time; }

  std::vector<size_t> control_first() const {
    std::vector<size_t> order = {config_.control};
    for (size_t arm = 0; arm < config_.arms.size(); ++arm) {
      if (arm != config_.control) order.push_back(arm);
    }
    return order;
  }

  void attempt(size_t arm, const std::string& when, const std::function<void()>& work) {
    if (result_.failures[arm]) return;
    const auto why = failure_of(work);
    if (!why) return;
    result_.failures[arm] = when + ": " + *why;
    sessions_[arm].reset();
    context_.log << fmt::format("{}: {} failed: {}\n", result_.label(), config_.arms[arm].name,
                                *result_.failures[arm]);
  }

  // Moves an arm, taking entries from the control where it is another one and holds them.
  void bring(size_t arm, int64_t depth) {
    const ArmSession* source = arm == config_.control ? nullptr : sessions_[config_.control].get();
    sessions_[arm]->go_to(depth, source);
  }

  void time_prefill() {
    result_.prefill.resize(config_.arms.size());
    StepLogits wanted;
    const auto once = [&](size_t arm, StepLogits& logits) {
      ArmSession& session = *sessions_[arm];
      session.go_to(0, nullptr);
      logits = {config_.prefill - 1, result_.batch, model_.config().vocabulary, {}};
      logits.values.resize(static_cast<size_t>(logits.rows * logits.vocabulary));
      const auto start = Clock::now();
      session.feed(config_.prefill, [&](int row, int64_t, std::span<const float> values) {
        std::copy(values.begin(), values.end(), logits.values.begin() + row * logits.vocabulary);
      });
      return nanoseconds(Clock::now() - start);
    };
    for (const size_t arm : control_first()) {  // the warm-up
      attempt(arm, "prefill", [&] {
        StepLogits found;
        once(arm, arm == config_.control ? wanted : found);
        const bool exact = sessions_[arm]->session().cache().traits().exact;
        if (arm == config_.control || !exact || !result_.precision.full()) return;
        const LogitComparison distance = compare_steps(wanted, found, texts_);
        result_.prefill[arm].check = {config_.arms[arm].name,
                                      fmt::format("the control's logits after a prompt of {}, {}",
                                                  config_.prefill, result_.label()),
                                      distance.equal(), distance.describe()};
      });
      if (result_.failures[config_.control]) return;
    }
    for (const auto& [block_number, arm_number] :
         run_order(config_.measure, config_.arms.size(), 0)) {
      const int block = block_number;  // clang 14 cannot capture parts of a pair
      const size_t arm = arm_number;
      attempt(arm, "prefill", [&] {
        StepLogits unused;
        const int64_t ns = once(arm, unused);
        result_.prefill[arm].ns.push_back(static_cast<double>(ns));
        Json line = sample_head(arm, "prefill");
        line.update(Json{{"rep", block}, {"tokens", config_.prefill}, {"ns", ns}});
        context_.folder.add_sample(line.dump());
      });
      context_.advance_progress();
    }
    context_.log << result_.label() << ": prompts timed\n" << std::flush;
  }

  void run_depth(int64_t depth) {
    context_.log << result_.label() << ": depth " << depth << "\n" << std::flush;
    DepthResult& found = result_.depths.emplace_back();
    found.depth = depth;
    found.arms.resize(config_.arms.size());
    if (!gate(found)) return;
    context_.advance_progress(static_cast<int64_t>(config_.arms.size()));
    if (!timed()) return;
    for (size_t arm = 0; arm < config_.arms.size(); ++arm) {
      if (runs(found, arm)) attempt(arm, "profile", [&] { profile(found, arm); });
    }
    time_blocks(found);
  }

  bool runs(const DepthResult& found, size_t arm) const {
    return !result_.failures[arm] && !found.arms[arm].left_out;
  }

  // False where there is no control to compare with.
  bool gate(DepthResult& found) {
    const bool full = result_.precision.full();
    const auto key = std::make_pair(result_.batch, found.depth);
    if (full) logic_[key] = {{}, std::vector<std::optional<LogitComparison>>(config_.arms.size())};
    StepLogits control;
    if (auto logits = record(found, config_.control)) control = std::move(*logits);
    if (!runs(found, config_.control)) {
      leave_out_rest(found, "the control has no run here");
      return false;
    }
    DepthLogic& logic = logic_[key];
    if (full) logic.control = control;
    if (logic.control.values.empty()) {
      leave_out_rest(found, "its logic could not be compared in f32 here");
      found.arms[config_.control].left_out = "there is no f32 run to compare with";
      return false;
    }
    const DepthGate gate(config_, result_.precision, logic, control, texts_,
                         fmt::format("{}, depth {}", result_.label(), found.depth));
    for (const size_t arm : control_first()) {
      const auto logits = arm == config_.control ? std::optional(control) : record(found, arm);
      if (!logits) continue;
      const bool exact = sessions_[arm]->session().cache().traits().exact;
      if (!full && exact && arm != config_.control && !logic.arms[arm]) {
        leave_out(found, arm, "its logic could not be compared in f32 here");
        continue;
      }
      found.arms[arm].verdict = gate.judge(arm, exact, *logits);
      if (full) logic.arms[arm] = found.arms[arm].verdict.distance;
    }
    return true;
  }

  // The logits of an arm's steps, unless it fails, or is too slow to be timed.
  std::optional<StepLogits> record(DepthResult& found, size_t arm) {
    if (result_.failures[arm]) return std::nullopt;
    if (too_slow_[arm]) {
      leave_out(found, arm, *too_slow_[arm]);
      return std::nullopt;
    }
    std::optional<StepLogits> logits;
    attempt(arm, fmt::format("depth {}, gate", found.depth), [&] {
      bring(arm, found.depth);
      const int64_t planned = config_.measure.warmup + config_.tokens;
      double seconds = 0;
      logits = record_steps(*sessions_[arm], config_.gate_tokens, planned, config_.most_seconds,
                            seconds);
      if (logits) return;
      leave_out(found, arm,
                fmt::format("one step took {:.2g} s: {} steps would take {:.0f} s, more than "
                            "most_seconds ({:g})",
                            seconds, planned, seconds * static_cast<double>(planned),
                            config_.most_seconds));
      too_slow_[arm] = fmt::format("it was too slow at depth {} already", found.depth);
    });
    return logits;
  }

  void leave_out(DepthResult& found, size_t arm, const std::string& why) {
    found.arms[arm].left_out = why;
    context_.log << fmt::format("{}: depth {}: {} left out: {}\n", result_.label(), found.depth,
                                config_.arms[arm].name, why);
  }

  void leave_out_rest(DepthResult& found, const std::string& why) {
    for (size_t arm = 0; arm < config_.arms.size(); ++arm) {
      if (arm != config_.control && !found.arms[arm].left_out) found.arms[arm].left_out = why;
    }
  }

  // Where the time of a step goes, and which bytes it touches: beside the timed runs, not in them.
  void profile(DepthResult& found, size_t arm) {
    ArmAtDepth& result = found.arms[arm];
    if (!result.verdict.passed) return;
    ArmSession& stepped = *sessions_[arm];
    Session& session = stepped.session();
    bring(arm, found.depth);
    const int64_t steps = std::min(config_.tokens, kProfiledSteps);
    const int64_t bytes_before = readable_kv_bytes(session.cache(), session.shape());
    const WorkCounters before = session.work();
    StepProfile profile;
    {
      const Profiling profiling(session, profile);
      for (int64_t i = 0; i < steps; ++i) stepped.step();
    }
    if (profile.total_ns() > 0) result.shares = step_shares(profile);
    const WorkCounters after = session.work();
    const auto count = static_cast<double>(steps);
    result.copied_bytes = static_cast<double>(after.bytes_moved - before.bytes_moved +
                                              after.gathered_bytes - before.gathered_bytes) /
                          count;
    const double growth =
        static_cast<double>(readable_kv_bytes(session.cache(), session.shape()) - bytes_before) /
        count;
    const double middle = config_.measure.warmup + 0.5 * static_cast<double>(config_.tokens + 1);
    result.kv_bytes = static_cast<double>(bytes_before) + growth * middle;
    result.held_depth = stepped.depth();
    result.payload_bytes = session.payload();
    result.usage = session.cache_usage();
  }

  void time_blocks(DepthResult& found) {
    const uint64_t stream =
        1 + static_cast<uint64_t>(found.depth) * 64 + static_cast<uint64_t>(result_.batch);
    int block = 0;
    try {
      BlockBandwidth bandwidth([&] { return run_.probe.measure(run_.threads); });
      const auto end_block = [&] {
        const kernels::ReadSpeed speed = bandwidth.end_block();
        found.bytes_per_second.push_back(speed.bytes_per_second);
        found.loop = speed.loop;
        add_bandwidth_sample(found, block, speed);
      };
      for (const auto& [of_block, arm] : run_order(config_.measure, config_.arms.size(), stream)) {
        if (of_block != block) {
          end_block();
          block = of_block;
        }
        context_.advance_progress();
        if (!runs(found, arm) || !found.arms[arm].verdict.passed) continue;
        attempt(arm, fmt::format("depth {}, block {}", found.depth, block + 1),
                [&, number = arm] { time_run(found, number, block); });
      }
      end_block();
    } catch (const InterruptedError&) {
      keep_comparable_blocks(found);
      throw;
    }
    keep_comparable_blocks(found);
    log_depth(found);
  }

  void time_run(DepthResult& found, size_t arm, int block) {
    ArmSession& session = *sessions_[arm];
    bring(arm, found.depth);
    for (int i = 0; i < config_.measure.warmup; ++i) session.step();
    RunSample sample;
    sample.step_ns.reserve(static_cast<size_t>(config_.tokens));
    const double slowdown = planted_slowdown(config_.trials, config_.arms[arm].name);
    const ContentionMeter meter;
    auto before = Clock::now();
    for (int64_t i = 0; i < config_.tokens; ++i) {
      session.step();
      wait_planted(before, slowdown);
      const auto now = Clock::now();
      sample.step_ns.push_back(nanoseconds(now - before));
      before = now;
    }
    sample.contention = meter.finish(config_.tokens, sample.step_ns);
    found.arms[arm].peak_bytes = session.session().cache_usage().peak_total;
    Json line = sample_head(arm, "decode");
    line.update(Json{{"depth", found.depth},
                     {"rep", block},
                     {"step_ns", sample.step_ns},
                     {"kv_bytes", found.arms[arm].kv_bytes},
                     {"peak_bytes", found.arms[arm].peak_bytes},
                     {"contention", Json::parse(contention_json(sample.contention))}});
    context_.folder.add_sample(line.dump());
    found.arms[arm].runs.push_back(std::move(sample));
  }

  Json sample_head(size_t arm, const char* measured) const {
    return {{"arm", config_.arms[arm].name},
            {"measured", measured},
            {"model", result_.model->source.name},
            {"weights", dtype_name(result_.precision.weights)},
            {"cache", dtype_name(result_.precision.cache)},
            {"batch", result_.batch},
            {"row_tokens", result_.row_tokens}};
  }

  void add_bandwidth_sample(const DepthResult& found, int block,
                            const kernels::ReadSpeed& bandwidth) {
    const Json line = {{"measured", "read_bandwidth"},
                       {"model", result_.model->source.name},
                       {"weights", dtype_name(result_.precision.weights)},
                       {"cache", dtype_name(result_.precision.cache)},
                       {"batch", result_.batch},
                       {"depth", found.depth},
                       {"rep", block},
                       {"bytes_per_second", bandwidth.bytes_per_second},
                       {"loop", bandwidth.loop}};
    context_.folder.add_sample(line.dump());
  }

  void keep_comparable_blocks(DepthResult& found) const {
    std::vector<bool> timed;
    for (size_t arm = 0; arm < config_.arms.size(); ++arm) {
      timed.push_back(runs(found, arm) && found.arms[arm].verdict.passed);
    }
    keep_whole_blocks(found, timed);
    drop_suspended_blocks(found);
  }

  void log_depth(const DepthResult& found) const {
    for (size_t arm = 0; arm < config_.arms.size(); ++arm) {
      if (found.arms[arm].runs.empty()) continue;
      std::vector<double> ms;
      for (const RunSample& run : found.arms[arm].runs) ms.push_back(run.median_ms());
      context_.log << fmt::format("{}: depth {}: {}: {:.3f} ms per step\n", result_.label(),
                                  found.depth, config_.arms[arm].name, median(ms));
    }
    context_.log << std::flush;
  }

  const SpeedConfig& config_;
  RunContext& context_;
  SpeedRun& run_;
  const Model& model_;
  CasePurpose purpose_;
  LogicTable& logic_;
  CaseResult& result_;
  std::vector<std::vector<int32_t>> texts_;  // of the batch's rows
  std::vector<std::unique_ptr<ArmSession>> sessions_;
  std::vector<std::optional<std::string>> too_slow_;  // since which depth
};

}  // namespace

double RunSample::median_ms() const {
  return median(std::vector<double>(step_ns.begin(), step_ns.end())) / 1e6;
}

std::string CaseResult::label() const {
  return fmt::format("{}, {}, batch {}", model->source.name, precision.label(), batch);
}

CaseResult run_case(SpeedRun& run, const SpeedModel& speed_model, const Model& model,
                    const Precision& precision, int64_t batch, CasePurpose purpose,
                    LogicTable& logic) {
  CaseResult result;
  result.model = &speed_model;
  result.origin = model.origin;
  result.precision = precision;
  result.batch = batch;
  result.weight_bytes = streamed_weight_bytes(model.decoder->weights());
  CaseRunner(run, model, purpose, logic, result).run();
  return result;
}

}  // namespace kvlab::experiments::decode_speed_kind
