#include "conversation_experiment.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "kvlab/core/error.h"
#include "kvlab/runtime/arm_runs.h"
#include "kvlab/runtime/arms.h"
#include "kvlab/runtime/figures.h"
#include "kvlab/runtime/model.h"
#include "kvlab/runtime/process.h"
#include "kvlab/runtime/prompt.h"
#include "kvlab/runtime/statistics.h"

namespace kvlab::experiments::conversation_kind {

namespace {

using Json = nlohmann::ordered_json;

constexpr Mode kModes[] = {Mode::kept, Mode::refed};
constexpr double kMebibyte = 1024.0 * 1024.0;
constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

size_t index(Mode mode) { return static_cast<size_t>(mode); }

// Time to the first token of `turn` in every block.
std::vector<double> first_ms(const std::vector<Turns>& runs, size_t turn, size_t blocks) {
  std::vector<double> times;
  for (size_t i = 0; i < blocks; ++i) {
    times.push_back(1e-6 * static_cast<double>(runs[i][turn].ttft_ns));
  }
  return times;
}

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
                     {"work", {{"token_forwards", done.token_forwards}}}};
  return line.dump();
}

}  // namespace

const char* mode_name(Mode mode) { return mode == Mode::kept ? "kept" : "refed"; }

ConversationExperiment::ConversationExperiment(ExperimentConfig& config, const Registry& registry) {
  ConfigReader& reader = config.reader;
  source_ = parse_model(reader);
  arms_ = parse_arms(reader);
  control_ = parse_control(reader, arms_);
  runtime_ = parse_runtime(reader);
  measure_ = parse_measure(reader);
  const ModelConfig shape = model_shape(source_);
  const auto tokenizer = load_tokenizer(source_);
  ConfigReader workload = reader.child("workload");
  const ConversationSpec conversation(workload.child("conversation"));
  turns_ = conversation.turns({source_.name, tokenizer.get(), shape.vocabulary});
  new_tokens_ = workload.integer("new_tokens", {2, 1 << 20});
  sampler_ = parse_sampler(workload);
  if (longest_text() > shape.context) {
    workload.fail("new_tokens",
                  detail::concat(turns_.size(), " turns with answers of ", new_tokens_,
                                 " tokens need a length of ", longest_text(),
                                 ", the model's context is ", shape.context));
  }
  workload.finish();
  check_arms(reader, arms_, runtime_, source_, registry, 1, longest_text());
}

int64_t ConversationExperiment::longest_text() const {
  int64_t length = -1;  // the last token of the last answer is never fed
  for (const auto& turn : turns_) length += static_cast<int64_t>(turn.size()) + new_tokens_;
  return length;
}

Turns ConversationExperiment::converse(const Registry& registry, const ArmState& arm, Mode mode,
                                       AnswerLogits* logits) const {
  Session session(*arm.model, registry,
                  arm_session_options(runtime_, arm.config, 1, longest_text()));
  std::vector<int32_t> text;
  Turns turns;
  for (size_t i = 0; i < turns_.size(); ++i) {
    text.insert(text.end(), turns_[i].begin(), turns_[i].end());
    if (mode == Mode::refed) session.reset();
    GenerateOptions options;
    options.new_tokens = new_tokens_;
    options.sampler = sampler_;
    options.sampler.seed +=
        i;  // another answer draws other numbers, the same in every arm and mode
    if (logits != nullptr) {
      logits->emplace_back();
      options.on_logits = [&](int, int64_t, std::span<const float> row) {
        logits->back().emplace_back(row.begin(), row.end());
      };
    }
    const int64_t before = session.work().token_forwards;
    const GenerateResult result = generate_more(session, {text}, options);
    Turn turn;
    turn.text_tokens = static_cast<int64_t>(text.size());
    turn.token_forwards = result.work.token_forwards - before;
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
  for (size_t i = 0; i < turns_.size(); ++i) {
    const auto said = static_cast<int64_t>(turns_[i].size());
    text += said;
    int64_t fed = 0;
    if (arm.traits.keeps_nothing) {
      for (int64_t step = 0; step < new_tokens_; ++step) fed += text + step;
    } else if (mode == Mode::refed || i == 0) {
      fed = text + new_tokens_ - 1;
    } else {
      fed = 1 + said + new_tokens_ - 1;  // the end of the last answer was sampled and never fed
    }
    expected.push_back(fed);
    text += new_tokens_;
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
      if (arm.failure) continue;
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
      arm.runs[index(mode)].push_back(std::move(turns));
    });
  };
  for (int round = 0; round < measure_.warmup; ++round) {
    for (size_t variant = 0; variant < 2 * arms.size(); ++variant) run(variant, -1);
    context.advance_progress(static_cast<int64_t>(2 * arms.size()));
  }
  for (const auto& [block, variant] : run_order(measure_, 2 * arms.size(), 0)) {
    run(variant, block);
    context.advance_progress();
  }
}

void ConversationExperiment::report(const std::vector<ArmState>& arms,
                                    ExperimentResult& outcome) const {
  ReportDocument& report = outcome.report;
  report.control = control_ + ", fed again in each turn";
  report.varied.push_back(
      "mode: `kept` keeps the cache between turns, `refed` empties it and feeds the "
      "whole conversation again");
  ReportTable table{"turns", "Turn by turn", {}, {}, ""};
  table.columns = {{"arm", "Arm", "", {}},
                   {"mode", "Cache", "", {}},
                   {"turn", "Turn", "", {}},
                   {"text", "Conversation", "tokens", {}},
                   {"forwards", "Token-forwards", "", BetterDirection::lower},
                   {"ttft", "First token", "ms", BetterDirection::lower},
                   {"ratio", "Refed / kept", "", BetterDirection::higher},
                   {"payload", "Payload", "MiB", BetterDirection::lower},
                   {"reserved", "Reserved", "MiB", BetterDirection::lower},
                   {"n", "n", "", {}}};
  table.note =
      "Times are medians over blocks; ratios of times to the first token are geometric means "
      "with a 95 % t-interval, not adjusted for their number. Bytes are those at the end of "
      "the turn. Token-forwards include the answer's.";
  std::vector<LineSeries> lines;
  for (const ArmState& arm : arms) {
    report.varied.push_back("arm " + arm.config.name + ": cache " + to_string(arm.config.cache));
    if (arm.failure) {
      report.failures.push_back({"arm " + arm.config.name, *arm.failure});
      outcome.passed = false;
      continue;
    }
    const auto& kept = arm.runs[index(Mode::kept)];
    const auto& refed = arm.runs[index(Mode::refed)];
    const size_t blocks = std::min(kept.size(), refed.size());
    if (blocks == 0) continue;
    RatioInterval ratio;
    for (const Mode mode : kModes) {
      LineSeries line;
      line.name = arm.config.name + ", " + mode_name(mode);
      line.dashed = mode == Mode::refed;
      for (size_t i = 0; i < turns_.size(); ++i) {
        const std::vector<double> times = first_ms(arm.runs[index(mode)], i, blocks);
        const Turn& turn = arm.runs[index(mode)].front()[i];
        const double middle = median(times);
        ReportCell ratio_shown = empty_cell();
        if (mode == Mode::kept) {
          ratio = ratio_t_interval(first_ms(refed, i, blocks), times);
          ratio_shown = ratio_cell(ratio);
        }
        const auto shown = static_cast<int64_t>(i + 1);
        table.rows.push_back({text_cell(arm.config.name), text_cell(mode_name(mode)),
                              count_cell(shown), count_cell(turn.text_tokens),
                              count_cell(turn.token_forwards), number_cell(middle, 1), ratio_shown,
                              number_cell(static_cast<double>(turn.payload) / kMebibyte, 2),
                              number_cell(static_cast<double>(turn.reserved) / kMebibyte, 2),
                              count_cell(static_cast<int64_t>(blocks))});
        line.points.push_back(
            {static_cast<double>(shown), middle, quantile(times, 0.25), quantile(times, 0.75)});
        const auto metric = [&](const char* name, double value, const char* unit, bool timed) {
          outcome.metrics.push_back({arm.config.name,
                                     name,
                                     value,
                                     unit,
                                     static_cast<int64_t>(blocks),
                                     kNone,
                                     kNone,
                                     BetterDirection::lower,
                                     {{"mode", mode_name(mode)}, {"turn", std::to_string(shown)}},
                                     timed});
        };
        metric("ttft", middle, "ms", true);
        metric("token_forwards", static_cast<double>(turn.token_forwards), "tokens", false);
        metric("payload", static_cast<double>(turn.payload), "bytes", false);
        metric("reserved", static_cast<double>(turn.reserved), "bytes", false);
      }
      lines.push_back(std::move(line));
    }
    const std::string interval =
        ratio.low && ratio.high
            ? fmt::format("{:.2f}x ({:.2f} to {:.2f})", ratio.ratio, *ratio.low, *ratio.high)
            : fmt::format("{:.2f}x (n=1)", ratio.ratio);
    report.conclusions.push_back(fmt::format(
        "{}: in the last turn, keeping the cache takes {} token-forwards instead of {}; {}.",
        arm.config.name, kept.front().back().token_forwards, refed.front().back().token_forwards,
        ratio.excludes()
            ? "feeding all of it again takes " + interval + " the time to the first token"
            : "the time to the first token is not distinguishable, refed / kept " + interval));
  }
  report.held_fixed = {
      "model " + source_.name + ", weights " + dtype_name(runtime_.weights) + ", activations " +
          dtype_name(runtime_.activations),
      fmt::format("{} turns, answers of {} tokens, none stopped early", turns_.size(), new_tokens_),
      fmt::format("{} threads, {} blocks", runtime_.threads, measure_.repeats)};
  if (table.rows.empty()) {
    report.conclusions = {"No firm conclusion: no block was finished."};
    return;
  }
  report.sections.push_back(
      {"Turns",
       {},
       {table},
       {line_chart({"first_token", "Time to the first token of each answer",
                    "Medians; bars from the first to the third quartile over blocks."},
                   {"Turn"}, {"First token [ms]"}, lines)}});
}

ExperimentResult ConversationExperiment::run(RunContext& context) {
  set_threads(runtime_.threads);
  ExperimentResult outcome;
  std::map<std::string, Model> models;  // by position encoding; arms may replace the model's own
  std::vector<ArmState> arms;
  size_t control = 0;
  for (size_t i = 0; i < arms_.size(); ++i) {
    const std::string key = arms_[i].position ? to_string(*arms_[i].position) : "";
    if (!models.contains(key)) {
      models.emplace(
          key, load_model(source_, runtime_.weights, runtime_.activations, arms_[i].position));
    }
    ArmState arm;
    arm.config = arms_[i];
    arm.model = &models.at(key);
    const SessionOptions options = arm_session_options(runtime_, arms_[i], 1, longest_text());
    arm.traits =
        context.registry.cache_traits(arms_[i].cache, session_shape(arm.model->config(), options));
    arm.gated =
        arm.traits.exact && runtime_.activations == at::kFloat && options.cache_dtype == at::kFloat;
    if (arms_[i].name == control_) control = i;
    arms.push_back(std::move(arm));
  }
  // Against an approximate control nothing has to be equal.
  for (ArmState& arm : arms) {
    arm.gated = arm.gated && arms[control].traits.exact && arm.model == arms[control].model;
  }
  context.begin_progress(static_cast<int64_t>(2 * arms.size()) *
                         (1 + measure_.warmup + measure_.repeats));
  try {
    gate(context, arms, control, outcome);
    measure(context, arms);
  } catch (const InterruptedError& error) {
    context.log << error.what() << "\n";
  }
  report(arms, outcome);
  return outcome;
}

}  // namespace kvlab::experiments::conversation_kind
