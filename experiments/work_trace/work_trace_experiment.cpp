#include "work_trace_experiment.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "kvlab/core/error.h"
#include "kvlab/runtime/arms.h"
#include "kvlab/runtime/equality.h"
#include "kvlab/runtime/generator.h"
#include "kvlab/runtime/process.h"
#include "kvlab/runtime/prompt.h"

namespace kvlab::experiments::work_trace_kind {

namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMostCounted = int64_t{1} << 24;  // the model's context decides before that
constexpr size_t kMostTokens = 64;  // a picture of more shows nothing
constexpr uint64_t kCounterSeed = 1;

std::string layers_text(const LayerGroup& group) {
  if (group.first == group.last) return fmt::format("{}", group.first);
  return fmt::format("{} to {}", group.first, group.last);
}

std::string positions_text(const std::vector<int64_t>& positions) {
  if (positions.empty()) return "–";
  const bool run =
      positions.back() - positions.front() + 1 == static_cast<int64_t>(positions.size());
  if (run && positions.size() > 2) {
    return fmt::format("{} to {}", positions.front(), positions.back());
  }
  std::string text;
  for (const int64_t position : positions) {
    text += (text.empty() ? "" : ", ") + std::to_string(position);
  }
  return text;
}

bool same_work(const LayerTrace& left, const LayerTrace& right) {
  return left.computed_keys == right.computed_keys &&
         left.computed_values == right.computed_values && left.reused_keys == right.reused_keys &&
         left.reused_values == right.reused_values;
}

// Sorts the trace by layer and puts neighbours together that did the same.
std::vector<LayerGroup> group_layers(const Trace& trace, int64_t layers) {
  std::vector<LayerGroup> groups;
  for (int64_t layer = 0; layer < layers; ++layer) {
    LayerGroup group{layer, layer, {}};
    for (const LayerTrace& entry : trace.layers) {
      if (entry.layer == layer) group.steps.push_back(entry);
    }
    const bool joins = !groups.empty() && std::equal(group.steps.begin(), group.steps.end(),
                                                     groups.back().steps.begin(),
                                                     groups.back().steps.end(), same_work);
    if (joins) {
      groups.back().last = layer;
    } else {
      groups.push_back(std::move(group));
    }
  }
  return groups;
}

// Token-forwards of N new tokens after a prompt of P, as arithmetic says.
int64_t predicted_forwards(bool keeps_nothing, int64_t prompt, int64_t new_tokens) {
  if (!keeps_nothing) return prompt + new_tokens - 1;
  return new_tokens * prompt + new_tokens * (new_tokens - 1) / 2;
}

}  // namespace

WorkTraceExperiment::WorkTraceExperiment(ExperimentConfig& config, const Registry& registry) {
  ConfigReader& reader = config.reader;
  source_ = parse_model(reader);
  shape_ = model_shape(source_);
  arms_ = parse_arms(reader);
  control_ = parse_control(reader, arms_);
  runtime_ = parse_runtime(reader);
  read_text(reader, shape_);
  if (auto counters = reader.optional_child("counters")) read_counters(*counters);
  check_arms(reader, arms_, runtime_, source_, registry, 1, static_cast<int64_t>(tokens_.size()));
  if (counters_) {
    check_arms(reader, arms_, runtime_, counters_->model, registry, 1,
               counters_->prompt_tokens + counters_->new_tokens - 1);
  }
}

void WorkTraceExperiment::read_text(ConfigReader& reader, const ModelConfig& shape) {
  ConfigReader workload = reader.child("workload");
  const PromptSpec prompt(workload.child("prompt"));
  const std::shared_ptr<const Tokenizer> tokenizer = load_tokenizer(source_);
  tokens_ = prompt.tokens({source_.name, tokenizer.get(), shape.vocabulary});
  const auto most = std::min(static_cast<int64_t>(kMostTokens), shape.context);
  if (static_cast<int64_t>(tokens_.size()) > most) {
    workload.fail("prompt",
                  detail::concat("a traced text has 1 to ", most, " tokens, got ", tokens_.size()));
  }
  for (const int32_t token : tokens_) {
    words_.push_back(tokenizer ? "'" + tokenizer->decode(std::vector<int32_t>{token}) + "'"
                               : std::to_string(token));
  }
  workload.finish();
}

void WorkTraceExperiment::read_counters(ConfigReader reader) {
  Counters counters;
  counters.model = reader.has("model") ? parse_model(reader) : source_;
  const ModelConfig shape = model_shape(counters.model);
  counters.prompt_tokens = reader.integer("prompt_tokens", {1, kMostCounted});
  counters.new_tokens = reader.integer("new_tokens", {1, kMostCounted});
  if (counters.prompt_tokens + counters.new_tokens - 1 > shape.context) {
    reader.fail("new_tokens",
                detail::concat(counters.prompt_tokens, " prompt tokens and ", counters.new_tokens,
                               " new ones do not fit the context of ", shape.context, " of model '",
                               counters.model.name, "'"));
  }
  reader.finish();
  counters_ = std::move(counters);
}

SessionOptions WorkTraceExperiment::session_options(const ArmConfig& arm,
                                                    int64_t max_length) const {
  SessionOptions options = arm_session_options(runtime_, arm, 1, max_length);
  options.chunk = 0;  // the trace feeds token by token, the counters whole prompts
  return options;
}

void WorkTraceExperiment::add_failure(RunContext& context, ExperimentResult& outcome,
                                      const std::string& what, const std::string& reason) const {
  outcome.report.failures.push_back({what, reason});
  outcome.passed = false;
  context.log << what << " failed: " << reason << "\n";
}

ArmTrace WorkTraceExperiment::trace_arm(RunContext& context, const ArmConfig& arm,
                                        const Model& model) const {
  const auto trace = std::make_shared<Trace>();
  const Registry registry = with_tracing(context.registry, trace);
  const auto length = static_cast<int64_t>(tokens_.size());
  SessionOptions options = session_options(arm, length);
  options.cache = traced(arm.cache);
  Session session(model, registry, options);
  ArmTrace result;
  result.arm = arm.name;
  for (int64_t end = 1; end <= length; ++end) {
    RowFeed feed;
    feed.text = tokens_;
    feed.end = end;
    feed.phase = end == 1 ? Phase::prefill : Phase::decode;
    session.step({&feed, 1}, [&](int, int64_t, std::span<const float> logits) {
      result.last_logits.assign(logits.begin(), logits.end());
    });
  }
  result.token_forwards = session.work().token_forwards;
  result.groups = group_layers(*trace, model.config().layers);
  for (const LayerTrace& entry : trace->layers) {
    const Json line = {{"case", "trace"},
                       {"arm", arm.name},
                       {"step", entry.step},
                       {"layer", entry.layer},
                       {"computed_keys", entry.computed_keys},
                       {"computed_values", entry.computed_values},
                       {"reused_keys", entry.reused_keys},
                       {"reused_values", entry.reused_values}};
    context.folder.add_sample(line.dump());
  }
  return result;
}

void WorkTraceExperiment::trace_arms(RunContext& context, ExperimentResult& outcome) {
  std::vector<ArmTrace> traces;
  for (const ArmConfig& arm : arms_) {
    if (interrupted()) break;
    try {
      const Model model = load_model(source_, runtime_.weights, runtime_.activations, arm.position);
      traces.push_back(trace_arm(context, arm, model));
      context.log << fmt::format("traced: arm {}: {} token-forwards for {} tokens\n", arm.name,
                                 traces.back().token_forwards, tokens_.size());
      context.advance_progress();
    } catch (const InterruptedError&) {
      break;
    } catch (const UserError& error) {
      add_failure(context, outcome, "trace of arm " + arm.name, error.what());
    }
  }
  if (traces.empty()) return;
  report_traces(traces, outcome);
  check_traces(traces, context, outcome);
}

ReportFigure WorkTraceExperiment::picture(const std::vector<ArmTrace>& traces) const {
  std::vector<GridPanel> panels;
  for (const ArmTrace& trace : traces) {
    for (const LayerGroup& group : trace.groups) {
      GridPanel panel;
      panel.name =
          fmt::format("{}: {} {}", trace.arm, group.first == group.last ? "layer" : "every layer,",
                      layers_text(group));
      std::set<int64_t> seen;
      for (const LayerTrace& step : group.steps) {
        for (const int64_t position : step.computed_keys) {
          panel.cells.push_back({step.step, position + 1,
                                 seen.contains(position) ? "computed again" : "computed", "K V"});
        }
        seen.insert(step.computed_keys.begin(), step.computed_keys.end());
        for (const int64_t position : step.reused_keys) {
          panel.cells.push_back({step.step, position + 1, "reused", "K V"});
        }
      }
      panels.push_back(std::move(panel));
    }
  }
  std::string words;
  for (size_t i = 0; i < words_.size(); ++i) {
    words += fmt::format("{}{} = {}", i == 0 ? "" : ", ", i + 1, words_[i]);
  }
  return grid_chart({"trace_picture", "Keys and values, step by step",
                     "One line per step, one column per token of the text (" + words +
                         "). Computed: the model made this token's key and value in this step. "
                         "Reused: attention was given them without that."},
                    "Step", "Token", panels);
}

void WorkTraceExperiment::report_traces(const std::vector<ArmTrace>& traces,
                                        ExperimentResult& outcome) const {
  ReportTable table{"trace", "Computed and reused per step and layer", {}, {}, ""};
  table.columns = {{"arm", "Arm", "", {}},
                   {"step", "Step", "", {}},
                   {"fed", "Token", "", {}},
                   {"layers", "Layers", "", {}},
                   {"computed_k", "K computed", "", BetterDirection::lower},
                   {"computed_v", "V computed", "", BetterDirection::lower},
                   {"reused_k", "K reused", "", BetterDirection::higher},
                   {"reused_v", "V reused", "", BetterDirection::higher},
                   {"computed_at", "Computed at positions", "", {}},
                   {"reused_at", "Reused from positions", "", {}}};
  table.note = "Layers that did the same stand in one line; `samples.jsonl` has one line for each.";
  std::string last_step = fmt::format("Step {} ({})", tokens_.size(), words_.back());
  for (size_t i = 0; i < traces.size(); ++i) {
    for (const LayerGroup& group : traces[i].groups) {
      for (const LayerTrace& step : group.steps) {
        table.rows.push_back({text_cell(traces[i].arm), count_cell(step.step),
                              text_cell(words_[static_cast<size_t>(step.step - 1)]),
                              text_cell(layers_text(group)),
                              count_cell(static_cast<int64_t>(step.computed_keys.size())),
                              count_cell(static_cast<int64_t>(step.computed_values.size())),
                              count_cell(static_cast<int64_t>(step.reused_keys.size())),
                              count_cell(static_cast<int64_t>(step.reused_values.size())),
                              text_cell(positions_text(step.computed_keys)),
                              text_cell(positions_text(step.reused_keys))});
      }
    }
    const LayerTrace& last = traces[i].groups.front().steps.back();
    last_step += fmt::format("{} {} computes {} and reuses {}", i == 0 ? ":" : ";", traces[i].arm,
                             last.computed_keys.size(), last.reused_keys.size());
  }
  outcome.report.conclusions.push_back(last_step + (traces.front().groups.size() == 1
                                                        ? " keys and values in every layer."
                                                        : " keys and values in layer 0."));
  ReportSection section;
  section.title = "Trace";
  section.paragraphs = {
      "The text is fed token by token. A cache that passes everything on to the arm's own cache "
      "notes which keys and values the decoder hands in (computed) and which ones attention is "
      "given besides those (reused)."};
  section.tables.push_back(std::move(table));
  section.figures.push_back(picture(traces));
  outcome.report.sections.push_back(std::move(section));
}

void WorkTraceExperiment::check_traces(const std::vector<ArmTrace>& traces, RunContext& context,
                                       ExperimentResult& outcome) const {
  const auto control = std::find_if(traces.begin(), traces.end(),
                                    [&](const ArmTrace& trace) { return trace.arm == control_; });
  const auto length = static_cast<int64_t>(tokens_.size());
  for (const ArmTrace& trace : traces) {
    const auto arm = std::find_if(arms_.begin(), arms_.end(), [&](const ArmConfig& candidate) {
      return candidate.name == trace.arm;
    });
    const SessionOptions options = session_options(*arm, length);
    const CacheTraits traits =
        context.registry.cache_traits(arm->cache, session_shape(shape_, options));
    int64_t computed = 0;
    for (const LayerTrace& step : trace.groups.front().steps) {
      computed += static_cast<int64_t>(step.computed_keys.size());
    }
    const int64_t predicted = predicted_forwards(traits.keeps_nothing, 1, length);
    const bool counted = computed == trace.token_forwards && computed == predicted;
    outcome.report.checks.push_back(
        {trace.arm, "traced work as predicted", counted,
         fmt::format("{} keys traced in layer 0, {} token-forwards counted, {} predicted", computed,
                     trace.token_forwards, predicted)});
    outcome.passed = outcome.passed && counted;
    const bool comparable = traits.exact && options.cache_dtype == at::kFloat &&
                            runtime_.weights == at::kFloat && runtime_.activations == at::kFloat &&
                            !arm->position;
    if (control == traces.end() || trace.arm == control_ || !comparable) continue;
    double largest = 0, difference = 0;
    for (size_t i = 0; i < trace.last_logits.size(); ++i) {
      const double wanted = control->last_logits[i];
      largest = std::max(largest, std::abs(wanted));
      difference = std::max(difference, std::abs(wanted - trace.last_logits[i]));
    }
    const bool equal = difference <= kEqualityTolerance * largest;
    outcome.report.checks.push_back({trace.arm, "last logits equal to " + control_, equal,
                                     fmt::format("largest difference {:.1e} of the largest |logit|",
                                                 largest > 0 ? difference / largest : difference)});
    outcome.passed = outcome.passed && equal;
  }
}

void WorkTraceExperiment::count_arms(RunContext& context, ExperimentResult& outcome) const {
  const int64_t prompt_length = counters_->prompt_tokens, new_tokens = counters_->new_tokens;
  ReportTable table{"counters",
                    fmt::format("{} prompt tokens, {} new ones", prompt_length, new_tokens),
                    {},
                    {},
                    ""};
  table.columns = {{"arm", "Arm", "", {}},
                   {"counted", "Token-forwards, counted", "", BetterDirection::lower},
                   {"predicted", "Token-forwards, predicted", "", {}},
                   {"formula", "Formula", "", {}},
                   {"logit_rows", "Logit rows", "", {}},
                   {"steps", "Steps", "", {}}};
  table.note =
      "P prompt tokens, N new ones. A token-forward is one token going through all layers.";
  std::vector<Bar> bars;
  std::string sentence;
  for (const ArmConfig& arm : arms_) {
    if (interrupted()) break;
    try {
      const Model model =
          load_model(counters_->model, runtime_.weights, runtime_.activations, arm.position);
      Session session(model, context.registry,
                      session_options(arm, prompt_length + new_tokens - 1));
      std::mt19937_64 random(kCounterSeed);
      std::vector<int32_t> prompt;
      for (int64_t i = 0; i < prompt_length; ++i) {
        prompt.push_back(
            static_cast<int32_t>(random() % static_cast<uint64_t>(model.config().vocabulary)));
      }
      GenerateOptions options;
      options.new_tokens = new_tokens;
      const WorkCounters work = generate(session, {prompt}, options).work;
      const bool nothing = session.cache().traits().keeps_nothing;
      const int64_t predicted = predicted_forwards(nothing, prompt_length, new_tokens);
      const bool equal = work.token_forwards == predicted && work.logit_rows == new_tokens;
      table.rows.push_back({text_cell(arm.name), count_cell(work.token_forwards),
                            count_cell(predicted),
                            text_cell(nothing ? "N·P + N(N-1)/2" : "P + N - 1"),
                            count_cell(work.logit_rows), count_cell(work.steps)});
      bars.push_back({arm.name, static_cast<double>(work.token_forwards), {}, {}, ""});
      outcome.report.checks.push_back(
          {arm.name, "token-forwards as predicted", equal,
           fmt::format("{} counted, {} predicted, {} logit rows", work.token_forwards, predicted,
                       work.logit_rows)});
      outcome.passed = outcome.passed && equal;
      const double none = std::numeric_limits<double>::quiet_NaN();
      outcome.metrics.push_back({arm.name,
                                 "token_forwards",
                                 static_cast<double>(work.token_forwards),
                                 "",
                                 1,
                                 none,
                                 none,
                                 BetterDirection::lower,
                                 {{"prompt_tokens", std::to_string(prompt_length)},
                                  {"new_tokens", std::to_string(new_tokens)}}});
      const Json line = {{"case", "counters"},
                         {"arm", arm.name},
                         {"prompt_len", prompt_length},
                         {"new_tokens", new_tokens},
                         {"token_forwards", work.token_forwards},
                         {"predicted", predicted},
                         {"logit_rows", work.logit_rows},
                         {"steps", work.steps}};
      context.folder.add_sample(line.dump());
      sentence += fmt::format("{} {} {}", sentence.empty() ? "" : ",", arm.name,
                              count_cell(work.token_forwards).text);
      context.log << "counted: arm " << arm.name << ": " << outcome.report.checks.back().detail
                  << "\n";
      context.advance_progress();
    } catch (const InterruptedError&) {
      break;
    } catch (const UserError& error) {
      add_failure(context, outcome, "counters of arm " + arm.name, error.what());
    }
  }
  if (bars.empty()) return;
  outcome.report.conclusions.push_back(
      fmt::format("Token-forwards for {} prompt tokens and {} new ones:{}.", prompt_length,
                  new_tokens, sentence));
  ReportSection section;
  section.title = "A whole text";
  section.paragraphs = {fmt::format("Run for real on model `{}`; the last new token is never fed.",
                                    counters_->model.name)};
  section.tables.push_back(std::move(table));
  section.figures.push_back(bar_chart({"counters_bars", "Token-forwards",
                                       "As the engine counted them, n=1: counts have no spread."},
                                      {"Token-forwards", false, 10, true}, bars));
  outcome.report.sections.push_back(std::move(section));
}

ExperimentResult WorkTraceExperiment::run(RunContext& context) {
  set_threads(runtime_.threads);
  ExperimentResult outcome;
  outcome.report.control = control_;
  context.begin_progress(static_cast<int64_t>(arms_.size()) * (counters_ ? 2 : 1));
  trace_arms(context, outcome);
  if (counters_) count_arms(context, outcome);
  for (const ArmConfig& arm : arms_) {
    outcome.report.varied.push_back("arm " + arm.name + ": cache " + to_string(arm.cache));
  }
  outcome.report.held_fixed = {"model " + source_.name, "text, one token per step",
                               "logits of the last token only"};
  return outcome;
}

}  // namespace kvlab::experiments::work_trace_kind
