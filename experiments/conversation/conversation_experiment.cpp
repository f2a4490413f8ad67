#include "conversation_experiment.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "conversation_report.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/arm_runs.h"
#include "kvlab/runtime/arms.h"
#include "kvlab/runtime/model.h"
#include "kvlab/runtime/process.h"
#include "kvlab/runtime/prompt.h"
#include "kvlab/runtime/whole_blocks.h"

namespace kvlab::experiments::conversation_kind {

namespace {

using Json = nlohmann::ordered_json;

// Compares answers up to where they part; the logits there still come from the same text.
LogitComparison compare_answers(const Turns& wanted, const AnswerLogits& wanted_logits,
                                const Turns& found, const AnswerLogits& found_logits) {
  LogitDistance distance;
  for (size_t turn = 0; turn < wanted.size(); ++turn) {
    for (size_t i = 0; i < wanted[turn].answer.size(); ++i) {
      distance.add(wanted_logits[turn][i], found_logits[turn][i], static_cast<int64_t>(i), -1);
      if (wanted[turn].answer[i] != found[turn].answer[i]) return distance.result();
    }
  }
  return distance.result();
}

std::string sample_line(const ArmState& arm, Mode mode, int block, size_t turn, const Turn& done) {
  const Json line = {{"arm", arm.config.name},
                     {"mode", mode_name(mode)},
                     {"block", block},
                     {"turn", turn},
                     {"text_len", done.text_tokens},
                     {"tokens", done.answer},
                     {"ttft_ns", done.ttft_ns},
                     {"decode_ns", done.decode_ns},
                     {"bytes", {{"payload", done.payload}, {"reserved", done.reserved}}},
                     {"work", {{"token_forwards", done.token_forwards}}},
                     {"flags", Json::parse(contention_json(done.contention))}};
  return line.dump();
}

// Ratios need blocks in which every arm ran in both modes and none stood still.
int keep_whole_blocks(std::vector<ArmState>& arms) {
  std::vector<std::vector<bool>> stood_still;
  for (const ArmState& arm : arms) {
    if (arm.failure) continue;
    for (const std::vector<Turns>& runs : arm.runs) {
      std::vector<bool>& blocks = stood_still.emplace_back();
      for (const Turns& turns : runs) {
        blocks.push_back(std::any_of(turns.begin(), turns.end(), [](const Turn& turn) {
          return turn.contention.suspended;
        }));
      }
    }
  }
  const WholeBlocks whole = whole_blocks(stood_still);
  for (ArmState& arm : arms) {
    if (arm.failure) continue;
    for (std::vector<Turns>& runs : arm.runs) keep_blocks(runs, whole);
  }
  return whole.suspended;
}

}  // namespace

const char* mode_name(Mode mode) { return mode == Mode::kept ? "kept" : "refed"; }

bool ConversationConfig::is_second_control(const ArmConfig& arm) const {
  return trials.aa && arm.name == shared.control + kAgainSuffix;
}

int64_t ConversationConfig::longest_text() const {
  int64_t length = -1;  // the last token of the last answer is never fed
  for (const auto& turn : turns) length += static_cast<int64_t>(turn.size()) + new_tokens;
  return length;
}

ConversationExperiment::ConversationExperiment(ExperimentConfig& config, const Registry& registry) {
  ConfigReader& reader = config.reader;
  config_.shared = parse_comparison(reader);
  config_.trials = parse_arm_trials(reader, config_.shared);
  refuse_trace(reader, config_.trials);
  if (config_.trials.aa) add_second_control(reader, config_.shared);
  const ModelConfig shape = model_shape(config_.shared.model);
  const auto tokenizer = load_tokenizer(config_.shared.model);
  ConfigReader workload = reader.child("workload");
  const ConversationSpec conversation(workload.child("conversation"));
  config_.turns =
      conversation.turns({config_.shared.model.name, tokenizer.get(), shape.vocabulary});
  config_.new_tokens = workload.integer("new_tokens", {2, 1 << 20});
  config_.sampler = parse_sampler(workload);
  if (config_.longest_text() > shape.context) {
    workload.fail("new_tokens",
                  detail::concat(config_.turns.size(), " turns with answers of ",
                                 config_.new_tokens, " tokens need a length of ",
                                 config_.longest_text(), ", the model's context is ",
                                 shape.context));
  }
  workload.finish();
  check_arms(reader, config_.shared.arms, config_.shared.runtime, config_.shared.model, registry, 1,
             config_.longest_text());
}

Turns ConversationExperiment::converse(const Registry& registry, const ArmState& arm, Mode mode,
                                       AnswerLogits* logits) const {
  SessionOptions session_options =
      arm_session_options(config_.shared.runtime, arm.config, 1, config_.longest_text());
  session_options.arena.prefault = true;
  Session session(*arm.model, registry, session_options);
  std::vector<int32_t> text;
  Turns turns;
  for (size_t i = 0; i < config_.turns.size(); ++i) {
    text.insert(text.end(), config_.turns[i].begin(), config_.turns[i].end());
    if (mode == Mode::refed) session.reset();
    GenerateOptions options;
    options.new_tokens = config_.new_tokens;
    options.sampler = config_.sampler;
    // Another answer draws other numbers, the same in every arm and mode.
    options.sampler.seed += i;
    if (logits != nullptr) {
      logits->emplace_back();
      options.on_logits = [&](int, int64_t, std::span<const float> row) {
        logits->back().emplace_back(row.begin(), row.end());
      };
    }
    const WorkCounters before = session.work();
    PlantedSlowdown slowdown(planted_slowdown(config_.trials, arm.config.name));
    options.on_token = [&](int, int32_t) { slowdown.after_step(); };
    const ContentionMeter meter;
    const GenerateResult result = generate_more(session, {text}, options);
    Turn turn;
    turn.contention = meter.finish(result.work.steps - before.steps, result.token_ns);
    turn.text_tokens = static_cast<int64_t>(text.size());
    turn.token_forwards = result.work.token_forwards - before.token_forwards;
    turn.ttft_ns = result.ttft_ns;
    turn.decode_ns = result.decode_ns();
    turn.payload = result.payload;
    turn.reserved = result.cache.reserved();
    turn.answer = result.tokens.front();
    text.insert(text.end(), turn.answer.begin(), turn.answer.end());
    turns.push_back(std::move(turn));
  }
  return turns;
}

std::vector<int64_t> ConversationExperiment::expected_forwards(const ArmState& arm,
                                                               Mode mode) const {
  std::vector<int64_t> expected;
  int64_t text = 0;
  for (size_t i = 0; i < config_.turns.size(); ++i) {
    const auto said = static_cast<int64_t>(config_.turns[i].size());
    text += said;
    int64_t fed = 0;
    if (arm.traits.keeps_nothing) {
      for (int64_t step = 0; step < config_.new_tokens; ++step) fed += text + step;
    } else if (mode == Mode::refed || i == 0) {
      fed = text + config_.new_tokens - 1;
    } else {
      // The end of the last answer was sampled and never fed.
      fed = 1 + said + config_.new_tokens - 1;
    }
    expected.push_back(fed);
    text += config_.new_tokens;
  }
  return expected;
}

void ConversationExperiment::gate(RunContext& context, std::vector<ArmState>& arms, size_t control,
                                  ExperimentResult& outcome) const {
  AnswerLogits wanted_logits;
  const Turns wanted = converse(context.registry, arms[control], Mode::refed, &wanted_logits);
  for (ArmState& arm : arms) {
    for (const Mode mode : kModes) {
      context.advance_progress();
      if (arm.failure || config_.is_second_control(arm.config)) continue;
      arm.failure = failure_of([&] {
        AnswerLogits logits;
        const Turns found = converse(context.registry, arm, mode, &logits);
        const LogitComparison comparison = compare_answers(wanted, wanted_logits, found, logits);
        context.log << fmt::format("{}, {}: {}\n", arm.config.name, mode_name(mode),
                                   comparison.describe());
        if (arm.gated) {
          const bool good = comparison.relative_difference() <= kEqualityTolerance;
          outcome.report.checks.push_back(
              {arm.config.name,
               fmt::format("answers of the control fed again, cache {}", mode_name(mode)), good,
               comparison.describe()});
          outcome.passed = outcome.passed && good;
          arm.equal = arm.equal && good;
        }
        std::vector<int64_t> forwards;
        for (const Turn& turn : found) forwards.push_back(turn.token_forwards);
        const bool predicted = forwards == expected_forwards(arm, mode);
        outcome.report.checks.push_back(
            {arm.config.name, fmt::format("token-forwards as predicted, {}", mode_name(mode)),
             predicted,
             fmt::format("last turn: {} expected, {} counted", expected_forwards(arm, mode).back(),
                         forwards.back())});
        outcome.passed = outcome.passed && predicted;
      });
    }
  }
}

void ConversationExperiment::measure(RunContext& context, std::vector<ArmState>& arms) const {
  const auto run = [&](size_t variant, int block) {
    check_interrupted();
    ArmState& arm = arms[variant / 2];
    const Mode mode = kModes[variant % 2];
    if (arm.failure) return;
    arm.failure = failure_of([&] {
      Turns turns = converse(context.registry, arm, mode, nullptr);
      context.log << fmt::format("{}, {}, {}: last turn's first token after {:.1f} ms\n",
                                 block < 0 ? "warm-up" : fmt::format("block {}", block + 1),
                                 arm.config.name, mode_name(mode),
                                 1e-6 * static_cast<double>(turns.back().ttft_ns));
      if (block < 0) return;
      for (size_t i = 0; i < turns.size(); ++i) {
        context.folder.add_sample(sample_line(arm, mode, block, i, turns[i]));
      }
      arm.runs[mode_index(mode)].push_back(std::move(turns));
    });
  };
  const MeasureConfig& measure = config_.shared.measure;
  for (int round = 0; round < measure.warmup; ++round) {
    for (size_t variant = 0; variant < 2 * arms.size(); ++variant) run(variant, -1);
    context.advance_progress(static_cast<int64_t>(2 * arms.size()));
  }
  for (const auto& [block, variant] : run_order(measure, 2 * arms.size(), 0)) {
    run(variant, block);
    context.advance_progress();
  }
}

ExperimentResult ConversationExperiment::run(RunContext& context) {
  const RuntimeConfig& runtime = config_.shared.runtime;
  set_threads(runtime.threads);
  ExperimentResult outcome;
  std::map<std::string, Model> models;  // by position encoding; arms may replace the model's own
  std::vector<ArmState> arms;
  size_t control = 0;
  for (size_t i = 0; i < config_.shared.arms.size(); ++i) {
    const ArmConfig& arm_config = config_.shared.arms[i];
    const std::string key = arm_config.position ? to_string(*arm_config.position) : "";
    if (!models.contains(key)) {
      models.emplace(key, load_model(config_.shared.model, runtime.weights, runtime.activations,
                                     arm_config.position));
    }
    ArmState arm;
    arm.config = arm_config;
    arm.model = &models.at(key);
    const SessionOptions options =
        arm_session_options(runtime, arm_config, 1, config_.longest_text());
    arm.traits = context.registry.cache_traits(arm_config.cache,
                                               session_shape(arm.model->config(), options));
    arm.gated =
        arm.traits.exact && runtime.activations == at::kFloat && options.cache_dtype == at::kFloat;
    if (arm_config.name == config_.shared.control) control = i;
    arms.push_back(std::move(arm));
  }
  // Against an approximate control nothing has to be equal.
  for (ArmState& arm : arms) {
    arm.gated = arm.gated && arms[control].traits.exact && arm.model == arms[control].model;
  }
  context.begin_progress(static_cast<int64_t>(2 * arms.size()) *
                         (1 + config_.shared.measure.warmup + config_.shared.measure.repeats));
  try {
    gate(context, arms, control, outcome);
    measure(context, arms);
  } catch (const InterruptedError& error) {
    context.log << error.what() << "\n";
  }
  const int suspended = keep_whole_blocks(arms);
  fill_report(config_, arms, control, suspended, outcome);
  return outcome;
}

}  // namespace kvlab::experiments::conversation_kind
