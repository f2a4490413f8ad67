#include "shared_prompt_experiment.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "kvlab/core/error.h"
#include "kvlab/runtime/arm_runs.h"
#include "kvlab/runtime/arms.h"
#include "kvlab/runtime/model.h"
#include "kvlab/runtime/process.h"
#include "kvlab/runtime/prompt.h"
#include "kvlab/runtime/whole_blocks.h"
#include "shared_prompt_report.h"

namespace kvlab::experiments::shared_prompt_kind {

namespace {

using Json = nlohmann::ordered_json;

void check_forks(const ConfigReader& reader, const SharedPromptConfig& config,
                 const ModelConfig& model, const Registry& registry) {
  std::string reasons;
  for (const ArmConfig& arm : config.shared.arms) {
    const SessionOptions options = arm_session_options(
        config.shared.runtime, arm, config.continuations, config.longest_text());
    if (registry.cache_traits(arm.cache, session_shape(model, options)).forks) continue;
    reasons += "\n  - arm '" + arm.name + "': cache '" + arm.cache.type + "' does not fork";
  }
  if (!reasons.empty()) reader.fail("arms", "a shared prompt is forked into its rows:" + reasons);
}

std::string sample_line(const SharedPromptConfig& config, const ArmState& arm, Mode mode, int block,
                        int order, const Sample& sample) {
  const GenerateResult& result = sample.result;
  const Json line = {
      {"arm", arm.config.name},
      {"mode", mode_name(mode)},
      {"block", block},
      {"order", order},
      {"prompt_len", config.prompt_tokens()},
      {"rows", config.continuations},
      {"tokens", result.tokens},
      {"ttft_ns", result.ttft_ns},
      {"fork_ns", result.fork_ns},
      {"token_ns", result.token_ns},
      {"bytes",
       {{"payload", result.payload},
        {"storage", result.cache.live_bytes(MemoryKind::storage)},
        {"metadata", result.cache.live_bytes(MemoryKind::metadata)},
        {"scratch", result.cache.peak_bytes(MemoryKind::scratch) + result.scratch.peak_total},
        {"reserved", result.cache.reserved()},
        {"peak", result.cache.peak_total}}},
      {"work",
       {{"token_forwards", result.work.token_forwards},
        {"bytes_moved", result.work.bytes_moved},
        {"fork_bytes_moved", result.fork_bytes_moved},
        {"gathered_bytes", result.work.gathered_bytes}}},
      {"flags", Json::parse(contention_json(sample.contention))}};
  return line.dump();
}

// Ratios need blocks in which every variant ran and none stood still.
void keep_whole_blocks(Measured& measured) {
  std::vector<std::vector<bool>> stood_still;
  const auto failed = [&](const Variant& variant) {
    return measured.arms[variant.arm].failure.has_value();
  };
  for (const Variant& variant : measured.variants) {
    if (failed(variant)) continue;
    std::vector<bool>& blocks = stood_still.emplace_back();
    for (const Sample& sample : variant.runs) blocks.push_back(sample.contention.suspended);
  }
  const WholeBlocks whole = whole_blocks(stood_still);
  for (Variant& variant : measured.variants) {
    if (!failed(variant)) keep_blocks(variant.runs, whole);
  }
  measured.suspended = whole.suspended;
}

}  // namespace

const char* mode_name(Mode mode) { return mode == Mode::forked ? "fork" : "prefill"; }

bool SharedPromptConfig::is_second_control(const ArmConfig& arm) const {
  return trials.aa && arm.name == shared.control + kAgainSuffix;
}

double Sample::tokens_per_second() const {
  return 1e9 * static_cast<double>(result.generated()) / static_cast<double>(total_ns());
}

SharedPromptExperiment::SharedPromptExperiment(ExperimentConfig& config, const Registry& registry) {
  ConfigReader& reader = config.reader;
  config_.shared = parse_comparison(reader);
  config_.trials = parse_arm_trials(reader, config_.shared);
  refuse_trace(reader, config_.trials);
  if (config_.trials.aa) add_second_control(reader, config_.shared);
  const ModelConfig shape = model_shape(config_.shared.model);
  const auto tokenizer = load_tokenizer(config_.shared.model);

  ConfigReader workload = reader.child("workload");
  const PromptSpec prompt(workload.child("prompt"));
  config_.prompt = prompt.tokens({config_.shared.model.name, tokenizer.get(), shape.vocabulary});
  config_.continuations = workload.integer_or("continuations", config_.continuations, {2, 4096});
  config_.new_tokens = workload.integer_or("new_tokens", config_.new_tokens, {2, 1 << 20});
  config_.gate_tokens = workload.integer_or("gate_tokens", config_.gate_tokens, {1, 1024});
  config_.sampler = parse_sampler(workload);
  if (config_.sampler.type != SamplerType::sample) {
    workload.fail("sampler",
                  "greedy continuations of one prompt are all the same; write {type: "
                  "sample, seed: 1}");
  }
  if (config_.longest_text() > shape.context) {
    workload.fail("new_tokens",
                  detail::concat(config_.prompt_tokens(), " prompt tokens and ", config_.new_tokens,
                                 " new ones need a length of ", config_.longest_text(),
                                 ", the model's context is ", shape.context));
  }
  workload.finish();
  check_arms(reader, config_.shared.arms, config_.shared.runtime, config_.shared.model, registry,
             config_.continuations, config_.longest_text());
  check_forks(reader, config_, shape, registry);
}

Sample SharedPromptExperiment::generate_once(const Registry& registry, const ArmState& arm,
                                             Mode mode, Continuations* record) const {
  SessionOptions session_options = arm_session_options(
      config_.shared.runtime, arm.config, config_.continuations, config_.longest_text());
  session_options.arena.prefault = true;
  Session session(*arm.model, registry, session_options);
  GenerateOptions options;
  options.new_tokens = config_.new_tokens;
  options.sampler = config_.sampler;
  if (record != nullptr) {
    record->logits.assign(static_cast<size_t>(config_.continuations), {});
    options.on_logits = [&](int row, int64_t, std::span<const float> logits) {
      auto& kept = record->logits[static_cast<size_t>(row)];
      if (static_cast<int64_t>(kept.size()) == config_.gate_tokens) return;
      kept.emplace_back(logits.begin(), logits.end());
    };
  }
  const std::vector<std::vector<int32_t>> prompts(static_cast<size_t>(config_.continuations),
                                                  config_.prompt);
  Sample sample;
  PlantedSlowdown slowdown(planted_slowdown(config_.trials, arm.config.name));
  // Called for each row of a step: the first one has the step's time behind it.
  options.on_token = [&](int, int32_t) { slowdown.after_step(); };
  const ContentionMeter meter;
  sample.result = mode == Mode::forked
                      ? generate_forked(session, config_.prompt, config_.continuations, options)
                      : generate(session, prompts, options);
  sample.contention = meter.finish(sample.result.work.steps, sample.result.token_ns);
  if (record != nullptr) record->tokens = sample.result.tokens;
  return sample;
}

void SharedPromptExperiment::gate(RunContext& context, Measured& measured) const {
  Continuations wanted;
  const size_t control = measured.control;
  (void)generate_once(context.registry, measured.arms[control], Mode::prefill, &wanted);
  for (size_t i = 0; i < measured.arms.size(); ++i) {
    ArmState& arm = measured.arms[i];
    context.advance_progress(2);
    if (arm.failure || config_.is_second_control(arm.config)) continue;
    arm.failure = failure_of([&] {
      Continuations own, forked;
      if (i != control) (void)generate_once(context.registry, arm, Mode::prefill, &own);
      (void)generate_once(context.registry, arm, Mode::forked, &forked);
      arm.fork = compare(i == control ? wanted : own, forked);
      arm.control = compare(wanted, forked);
    });
    if (arm.failure) {
      context.log << arm.config.name << " failed: " << *arm.failure << "\n";
    } else {
      context.log << arm.config.name << ", fork against prefill: " << arm.fork->describe() << "\n";
    }
  }
}

void SharedPromptExperiment::measure(RunContext& context, Measured& measured) const {
  const MeasureConfig& measure = config_.shared.measure;
  const auto run = [&](Variant& variant, int block, int order) {
    check_interrupted();
    ArmState& arm = measured.arms[variant.arm];
    if (arm.failure) return;
    arm.failure = failure_of([&] {
      Sample sample = generate_once(context.registry, arm, variant.mode, nullptr);
      const std::string when = block < 0 ? "warm-up" : fmt::format("block {}", block + 1);
      context.log << fmt::format("{}, {}, {}: first tokens after {:.1f} ms, peak {} bytes\n", when,
                                 arm.config.name, mode_name(variant.mode),
                                 1e-6 * static_cast<double>(sample.result.ttft_ns),
                                 sample.result.cache.peak_total);
      if (block < 0) return;
      context.folder.add_sample(sample_line(config_, arm, variant.mode, block, order, sample));
      variant.runs.push_back(std::move(sample));
    });
    if (arm.failure) context.log << arm.config.name << " failed: " << *arm.failure << "\n";
  };
  for (int round = 0; round < measure.warmup; ++round) {
    for (Variant& variant : measured.variants) {
      run(variant, -1, 0);
      context.advance_progress();
    }
  }
  int order = 0;
  for (const auto& [block, variant] : run_order(measure, measured.variants.size(), 0)) {
    run(measured.variants[variant], block, order++);
    context.advance_progress();
  }
}

ExperimentResult SharedPromptExperiment::run(RunContext& context) {
  const RuntimeConfig& runtime = config_.shared.runtime;
  set_threads(runtime.threads);
  ExperimentResult outcome;
  std::map<std::string, Model> models;  // by position encoding; arms may replace the model's own
  Measured measured;
  for (size_t i = 0; i < config_.shared.arms.size(); ++i) {
    const ArmConfig& arm = config_.shared.arms[i];
    const std::string key = arm.position ? to_string(*arm.position) : "";
    if (!models.contains(key)) {
      models.emplace(key, load_model(config_.shared.model, runtime.weights, runtime.activations,
                                     arm.position));
    }
    ArmState state;
    state.config = arm;
    state.model = &models.at(key);
    const SessionOptions options =
        arm_session_options(runtime, arm, config_.continuations, config_.longest_text());
    state.traits =
        context.registry.cache_traits(arm.cache, session_shape(state.model->config(), options));
    state.full_precision =
        runtime.activations == at::kFloat && options.cache_dtype == at::kFloat;
    if (arm.name == config_.shared.control) measured.control = i;
    measured.arms.push_back(std::move(state));
    measured.variants.push_back({i, Mode::prefill, {}});
    measured.variants.push_back({i, Mode::forked, {}});
  }
  // Each variant has its part in the gate.
  context.begin_progress(static_cast<int64_t>(measured.variants.size()) *
                         (1 + config_.shared.measure.warmup + config_.shared.measure.repeats));
  try {
    gate(context, measured);
    measure(context, measured);
  } catch (const InterruptedError& error) {
    context.log << error.what() << "\n";
  }
  keep_whole_blocks(measured);
  fill_report(config_, measured, outcome);
  return outcome;
}

}  // namespace kvlab::experiments::shared_prompt_kind
