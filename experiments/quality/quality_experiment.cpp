#include "quality_experiment.h"

#include <fmt/format.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "kvlab/core/error.h"
#include "kvlab/runtime/arms.h"
#include "kvlab/runtime/model.h"
#include "kvlab/runtime/process.h"
#include "quality_report.h"

namespace kvlab::experiments::quality_kind {

using Json = nlohmann::ordered_json;

struct QualityExperiment::RunningArm {
  ArmScores scores;
  std::unique_ptr<Session> session;  // null once the arm failed
};

QualityExperiment::QualityExperiment(ExperimentConfig& config, const Registry& registry)
    : config_(read_quality(config, registry)) {}

void QualityExperiment::record(RunContext& context, const ArmScores& scores,
                               size_t document) const {
  const DocumentScore& score = scores.documents.back();
  const TokenSums sum = score.total();
  Json buckets = Json::array();
  for (size_t i = 0; i < score.buckets.size(); ++i) {
    const TokenSums& bucket = score.buckets[i];
    buckets.push_back({{"positions", config_.buckets[i].name()},
                       {"tokens", bucket.tokens},
                       {"agreed", bucket.agreed},
                       {"kl_sum", bucket.divergence},
                       {"nll_sum", bucket.nll},
                       {"control_nll_sum", bucket.control_nll}});
  }
  Json line = {{"arm", scores.arm.name},
               {"document", document},
               {"offset", config_.documents[document].offset},
               {"tokens", sum.tokens},
               {"agreed", sum.agreed},
               {"kl_sum", sum.divergence},
               {"nll_sum", sum.nll},
               {"control_nll_sum", sum.control_nll},
               {"buckets", buckets},
               {"bytes",
                {{"payload", score.held.payload},
                 {"scales", score.held.scales},
                 {"storage", score.held.storage},
                 {"metadata", score.held.metadata},
                 {"reserved", score.held.reserved()},
                 {"peak", score.held.peak}}}};
  if (score.comparison) {
    line["relative_difference"] = score.comparison->relative_difference();
    line["first_difference"] = score.comparison->first_difference;
  }
  context.folder.add_sample(line.dump(-1, ' ', false, Json::error_handler_t::replace));
}

void QualityExperiment::score_all(RunContext& context, std::vector<RunningArm>& arms,
                                  size_t document, ExperimentResult& outcome) {
  const size_t control = config_.control_index();
  const ControlDocument wanted(*arms[control].session, config_.documents[document]);
  std::vector<std::optional<DocumentScore>> scores(arms.size());
  for (size_t i = 0; i < arms.size(); ++i) {
    context.advance_progress();  // the control's text is half of what it does here
    if (!arms[i].session) continue;
    try {
      scores[i] = score_document(wanted, *arms[i].session, config_.buckets, arms[i].scores.gated);
    } catch (const InterruptedError&) {
      throw;
    } catch (const UserError& error) {
      if (i == control) throw;
      arms[i].session = nullptr;
      arms[i].scores.failed = true;
      outcome.passed = false;
      outcome.report.failures.push_back({"arm " + arms[i].scores.arm.name,
                                         fmt::format("document {}: {}", document, error.what())});
      context.log << "arm " << arms[i].scores.arm.name << " failed: " << error.what() << "\n";
    }
  }
  // Only now: a document that was interrupted counts for no arm, so that all have the same ones.
  for (size_t i = 0; i < arms.size(); ++i) {
    if (!scores[i]) continue;
    arms[i].scores.documents.push_back(std::move(*scores[i]));
    record(context, arms[i].scores, document);
    const TokenSums sum = arms[i].scores.documents.back().total();
    const auto tokens = static_cast<double>(sum.tokens);
    context.log << fmt::format(
        "document {} of {}, arm {}: KL {:.2e} nats/token, top-1 {:.2f} %, perplexity {:.3f}\n",
        document + 1, config_.documents.size(), arms[i].scores.arm.name, sum.divergence / tokens,
        100 * static_cast<double>(sum.agreed) / tokens, std::exp(sum.nll / tokens));
  }
}

ExperimentResult QualityExperiment::run(RunContext& context) {
  set_threads(config_.runtime.threads);
  ExperimentResult outcome;
  std::map<std::string, Model> models;  // by position encoding; arms may replace the model's own
  const auto model_of = [&](const ArmConfig& arm) -> const Model& {
    const std::string key = arm.position ? to_string(*arm.position) : "";
    const auto found = models.find(key);
    if (found != models.end()) return found->second;
    return models
        .emplace(key, load_model(config_.model, config_.runtime.weights,
                                 config_.runtime.activations, arm.position))
        .first->second;
  };
  std::vector<RunningArm> arms;
  const ArmConfig& control = config_.arms[config_.control_index()];
  for (const ArmConfig& arm : config_.arms) {
    check_interrupted();
    RunningArm running;
    running.scores.arm = arm;
    try {
      const SessionOptions options =
          arm_session_options(config_.runtime, arm, 1, config_.document_tokens);
      const Model& model = model_of(arm);
      running.session = std::make_unique<Session>(model, context.registry, options);
      const CacheTraits traits =
          context.registry.cache_traits(arm.cache, session_shape(model.config(), options));
      const auto position = [](const ArmConfig& of) {
        return of.position ? to_string(*of.position) : std::string();
      };
      running.scores.exact = traits.exact && position(arm) == position(control);
      running.scores.keeps_nothing = traits.keeps_nothing;
      running.scores.gated = running.scores.exact && config_.runtime.activations == at::kFloat &&
                             options.cache_dtype == at::kFloat;
    } catch (const UserError& error) {
      if (arm.name == config_.control) throw;
      running.scores.failed = true;
      outcome.passed = false;
      outcome.report.failures.push_back({"arm " + arm.name, error.what()});
      context.log << "arm " << arm.name << " failed: " << error.what() << "\n";
    }
    arms.push_back(std::move(running));
  }
  // Against an approximate control, or one with rounded entries, nothing has to be equal.
  if (!arms[config_.control_index()].scores.gated) {
    for (RunningArm& arm : arms) arm.scores.gated = false;
  }
  context.begin_progress(static_cast<int64_t>(config_.documents.size() * arms.size()));
  try {
    for (size_t i = 0; i < config_.documents.size(); ++i) {
      check_interrupted();
      score_all(context, arms, i, outcome);
    }
  } catch (const InterruptedError&) {
    outcome.report.failures.push_back(
        {"documents", fmt::format("interrupted after {} of {}",
                                  arms[config_.control_index()].scores.documents.size(),
                                  config_.documents.size())});
  }
  std::vector<ArmScores> scores;
  for (RunningArm& arm : arms) scores.push_back(std::move(arm.scores));
  fill_report(config_, scores, outcome);
  return outcome;
}

}  // namespace kvlab::experiments::quality_kind
