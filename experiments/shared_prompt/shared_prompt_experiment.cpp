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
#include "shared_prompt_report.h"

namespace kvlab::experiments::shared_prompt_kind {

namespace {

using Json = nlohmann::ordered_json;

void check_forks(const ConfigReader& reader, const SharedPromptConfig& config,
                 const ModelConfig& model, const Registry& registry) {
  std::string reasons;
  for (const ArmConfig& arm : config.arms) {
    const SessionOptions options =
        arm_session_options(config.runtime, arm, config.continuations, config.longest_text());
    if (registry.cache_traits(arm.cache, session_shape(model, options)).forks) continue;
    reasons += "\n  - arm '" + arm.name + "': cache '" + arm.cache.type + "' does not fork";
  }
  if (!reasons.empty()) reader.fail("arms", "a shared prompt is forked into its rows:" + reasons);
}

std::string sample_line(const SharedPromptConfig& config, const ArmState& arm, Mode mode, int block,
                        int order, const GenerateResult& result) {
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
        {"gathered_bytes", result.work.gathered_bytes}}}};
  return line.dump();
}

}  // namespace

const char* mode_name(Mode mode) { return mode == Mode::forked ? "fork" : "prefill"; }

bool ContinuationComparison::equal() const {
  return unexplained == 0 && logits.relative_difference() <= kEqualityTolerance;
}

std::string ContinuationComparison::describe() const {
  std::string text = fmt::format(
      "{} of {} texts equal; largest difference {:.2e} of the largest |logit| at {} tokens",
      equal_rows, rows, logits.relative_difference(), logits.tokens);
  if (unexplained > 0)
    text += fmt::format("; {} texts part beyond the compared logits", unexplained);
  return text;
}

ContinuationComparison compare(const Continuations& wanted, const Continuations& found) {
  ContinuationComparison comparison;
  comparison.rows = static_cast<int64_t>(wanted.tokens.size());
  LogitDistance distance;
  for (size_t row = 0; row < wanted.tokens.size(); ++row) {
    const auto& mine = wanted.tokens[row];
    const auto& other = found.tokens[row];
    const auto parting = static_cast<size_t>(
        std::mismatch(mine.begin(), mine.end(), other.begin(), other.end()).first - mine.begin());
    const bool equal = parting == mine.size() && mine.size() == other.size();
    const size_t compared = std::min(wanted.logits[row].size(), found.logits[row].size());
    comparison.equal_rows += equal ? 1 : 0;
    comparison.unexplained += !equal && parting >= compared ? 1 : 0;
    // The logits at the parting itself still come from the same text.
    for (size_t i = 0; i < std::min(compared, equal ? compared : parting + 1); ++i) {
      distance.add(wanted.logits[row][i], found.logits[row][i], static_cast<int64_t>(i), -1);
    }
  }
  comparison.logits = distance.result();
  return comparison;
}

SharedPromptExperiment::SharedPromptExperiment(ExperimentConfig& config, const Registry& registry) {
  ConfigReader& reader = config.reader;
  config_.model = parse_model(reader);
  config_.arms = parse_arms(reader);
  config_.control = parse_control(reader, config_.arms);
  config_.runtime = parse_runtime(reader);
  config_.measure = parse_measure(reader);
  const ModelConfig shape = model_shape(config_.model);
  const auto tokenizer = load_tokenizer(config_.model);

  ConfigReader workload = reader.child("workload");
  const PromptSpec prompt(workload.child("prompt"));
  config_.prompt = prompt.tokens({config_.model.name, tokenizer.get(), shape.vocabulary});
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
  check_arms(reader, config_.arms, config_.runtime, config_.model, registry, config_.continuations,
             config_.longest_text());
  check_forks(reader, config_, shape, registry);
}

GenerateResult SharedPromptExperiment::generate_once(const Registry& registry, const ArmState& arm,
                                                     Mode mode, Continuations* record) const {
  Session session(*arm.model, registry,
                  arm_session_options(config_.runtime, arm.config, config_.continuations,
                                      config_.longest_text()));
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
  GenerateResult result =
      mode == Mode::forked
          ? generate_forked(session, config_.prompt, config_.continuations, options)
          : generate(session,
                     std::vector<std::vector<int32_t>>(static_cast<size_t>(config_.continuations),
                                                       config_.prompt),
                     options);
  if (record != nullptr) record->tokens = result.tokens;
  return result;
}

void SharedPromptExperiment::gate(RunContext& context, std::vector<ArmState>& arms,
                                  size_t control) const {
  Continuations wanted;
  (void)generate_once(context.registry, arms[control], Mode::prefill, &wanted);
  for (size_t i = 0; i < arms.size(); ++i) {
    ArmState& arm = arms[i];
    if (arm.failure) continue;
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
    context.advance_progress(2);
  }
}

void SharedPromptExperiment::measure(RunContext& context, std::vector<ArmState>& arms,
                                     std::vector<Variant>& variants) const {
  const auto run = [&](Variant& variant, int block, int order) {
    check_interrupted();
    ArmState& arm = arms[variant.arm];
    if (arm.failure) return;
    arm.failure = failure_of([&] {
      GenerateResult result = generate_once(context.registry, arm, variant.mode, nullptr);
      const std::string when = block < 0 ? "warm-up" : fmt::format("block {}", block + 1);
      context.log << fmt::format("{}, {}, {}: first tokens after {:.1f} ms, peak {} bytes\n", when,
                                 arm.config.name, mode_name(variant.mode),
                                 1e-6 * static_cast<double>(result.ttft_ns),
                                 result.cache.peak_total);
      if (block < 0) return;
      context.folder.add_sample(sample_line(config_, arm, variant.mode, block, order, result));
      variant.runs.push_back(std::move(result));
    });
    if (arm.failure) context.log << arm.config.name << " failed: " << *arm.failure << "\n";
  };
  for (int round = 0; round < config_.measure.warmup; ++round) {
    for (Variant& variant : variants) {
      run(variant, -1, 0);
      context.advance_progress();
    }
  }
  int order = 0;
  for (const auto& [block, variant] : run_order(config_.measure, variants.size(), 0)) {
    run(variants[variant], block, order++);
    context.advance_progress();
  }
}

ExperimentResult SharedPromptExperiment::run(RunContext& context) {
  set_threads(config_.runtime.threads);
  ExperimentResult outcome;
  std::map<std::string, Model> models;  // by position encoding; arms may replace the model's own
  std::vector<ArmState> arms;
  std::vector<Variant> variants;
  size_t control = 0;
  for (size_t i = 0; i < config_.arms.size(); ++i) {
    const ArmConfig& arm = config_.arms[i];
    const std::string key = arm.position ? to_string(*arm.position) : "";
    if (!models.contains(key)) {
      models.emplace(key, load_model(config_.model, config_.runtime.weights,
                                     config_.runtime.activations, arm.position));
    }
    ArmState state;
    state.config = arm;
    state.model = &models.at(key);
    const SessionOptions options =
        arm_session_options(config_.runtime, arm, config_.continuations, config_.longest_text());
    state.traits =
        context.registry.cache_traits(arm.cache, session_shape(state.model->config(), options));
    state.full_precision =
        config_.runtime.activations == at::kFloat && options.cache_dtype == at::kFloat;
    if (arm.name == config_.control) control = i;
    arms.push_back(std::move(state));
    variants.push_back({i, Mode::prefill, {}});
    variants.push_back({i, Mode::forked, {}});
  }
  // Each variant has its part in the gate.
  context.begin_progress(static_cast<int64_t>(variants.size()) *
                         (1 + config_.measure.warmup + config_.measure.repeats));
  try {
    gate(context, arms, control);
    measure(context, arms, variants);
  } catch (const InterruptedError& error) {
    context.log << error.what() << "\n";
  }
  fill_report(config_, arms, control, variants, outcome);
  return outcome;
}

}  // namespace kvlab::experiments::shared_prompt_kind
