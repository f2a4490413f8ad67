#include "equivalence_experiment.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <thread>

#include "kvlab/core/error.h"
#include "kvlab/runtime/figures.h"
#include "kvlab/runtime/process.h"
#include "kvlab/runtime/prompt.h"

namespace kvlab::experiments::equivalence_kind {

namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostFailures = 20;

bool judged(Verdict verdict) {
  return verdict == Verdict::equal || verdict == Verdict::differs || verdict == Verdict::failed;
}

bool compared(Verdict verdict) {
  return verdict == Verdict::equal || verdict == Verdict::differs || verdict == Verdict::distance;
}

ReportCell verdict_cell(Verdict verdict) {
  const bool bad = verdict == Verdict::differs || verdict == Verdict::failed;
  return text_cell(verdict_name(verdict), bad                           ? CellEmphasis::warning
                                          : verdict == Verdict::refused ? CellEmphasis::muted
                                                                        : CellEmphasis::normal);
}

ReportCell scientific_cell(double value) {
  ReportCell cell = text_cell(fmt::format("{:.1e}", value));
  cell.number = value;
  return cell;
}

std::string chunk_text(int64_t chunk) { return chunk == 0 ? "all" : std::to_string(chunk); }

// Components of a registry by name, with the options they have by default. Those that cannot be
// made without options are left out and named in `skipped`.
template <typename Entries>
std::vector<ComponentSpec> all_of(const Entries& entries, std::vector<std::string>& skipped) {
  std::vector<ComponentSpec> specs;
  for (const auto& entry : entries) {
    const bool needs_options =
        std::any_of(entry.info.options.begin(), entry.info.options.end(),
                    [](const OptionSpec& option) { return option.required; });
    if (needs_options) {
      skipped.push_back(entry.info.name);
    } else {
      specs.push_back({entry.info.name, {}, ""});
    }
  }
  return specs;
}

// `all`, or a list of components.
template <typename Entries>
std::vector<ComponentSpec> all_or_listed(ConfigReader& reader, const std::string& key,
                                         const Entries& entries) {
  const ConfigNode* node = reader.node().find(key);
  if (node == nullptr || !node->is_scalar()) return reader.components(key);
  if (reader.choice(key, {"all"}) != "all") return {};
  std::vector<std::string> skipped;
  std::vector<ComponentSpec> specs = all_of(entries, skipped);
  if (!skipped.empty()) {
    std::string names;
    for (const std::string& name : skipped) names += (names.empty() ? "" : ", ") + name;
    reader.fail(key, fmt::format("all takes defaults, and these need options: {}; list {} instead",
                                 names, key));
  }
  return specs;
}

// One line of the summary: all cases of a cache with one element type and attention.
struct Tally {
  std::string cache, dtype, attention;
  int64_t judged = 0, equal = 0, refused = 0, approximate = 0;
  double worst_difference = 0, worst_kl = 0, worst_share = 0;
  int64_t bit_checked = 0, bit_identical = 0;
};

}  // namespace

EquivalenceExperiment::EquivalenceExperiment(ExperimentConfig& config, const Registry& registry) {
  ConfigReader& reader = config.reader;
  read_models(reader);
  read_components(reader, registry);
  read_texts(reader.child("workload"));
  const unsigned hardware = std::thread::hardware_concurrency();
  threads_ = hardware == 0 ? 1 : static_cast<int>(hardware);
  if (auto runtime = reader.optional_child("runtime")) {
    const std::optional<int64_t> threads = runtime->optional_integer("threads", {1, 1024});
    if (threads) threads_ = static_cast<int>(*threads);
    runtime->finish();
  }
}

void EquivalenceExperiment::read_models(ConfigReader& reader) {
  if (reader.has("model") && reader.has("models")) {
    reader.fail("model", "one of model and models is enough; delete one");
  }
  if (reader.has("model")) {
    models_.push_back(parse_model(reader));
  } else {
    models_ = parse_models(reader);
  }
}

void EquivalenceExperiment::read_components(ConfigReader& reader, const Registry& registry) {
  combinations_.caches = all_or_listed(reader, "caches", registry.caches());
  for (const ComponentSpec& cache : combinations_.caches) {
    resolve_options(registry.cache(cache.type, cache.where).info, cache, "cache");
  }
  combinations_.attentions = all_or_listed(reader, "attentions", registry.attentions());
  for (const ComponentSpec& attention : combinations_.attentions) {
    resolve_options(registry.attention(attention.type, attention.where).info, attention,
                    "attention");
  }
  combinations_.positions.emplace_back();
  if (reader.has("positions")) {
    for (const ModelSource& source : models_) {
      if (source.type != ModelSourceType::random) {
        reader.fail("positions", "only random weights fit any position encoding; model '" +
                                     source.name + "' was trained with its own");
      }
    }
    combinations_.positions.clear();
    for (const ComponentSpec& position : all_or_listed(reader, "positions", registry.positions())) {
      resolve_options(registry.position(position.type, position.where).info, position, "position");
      combinations_.positions.emplace_back(position);
    }
  }
  for (const std::string& dtype : reader.texts_or("dtypes", {"f32"})) {
    if (dtype != "f32" && dtype != "bf16") {
      reader.fail("dtypes", "an element type is f32 or bf16, got '" + dtype + "'");
    }
    combinations_.dtypes.push_back(parse_dtype(dtype));
  }
  combinations_.chunks = reader.integers_or("chunks", {0}, {0, int64_t{1} << 24});
}

void EquivalenceExperiment::read_texts(ConfigReader workload) {
  std::vector<PromptSpec> texts;
  for (const ConfigReader& child : workload.children("texts")) texts.emplace_back(child);
  workload.finish();
  for (const ModelSource& source : models_) {
    const ModelConfig shape = model_shape(source);
    const std::shared_ptr<const Tokenizer> tokenizer = load_tokenizer(source);
    std::vector<std::vector<int32_t>> rows;
    for (const PromptSpec& text : texts) {
      rows.push_back(text.tokens({source.name, tokenizer.get(), shape.vocabulary}));
      if (static_cast<int64_t>(rows.back().size()) > shape.context) {
        workload.fail("texts", detail::concat("a text of ", rows.back().size(),
                                              " tokens does not fit the context of ", shape.context,
                                              " of model '", source.name, "'"));
      }
      if (text.random_seed() && seed_ == 0) seed_ = *text.random_seed();
    }
    texts_.push_back(std::move(rows));
  }
}

void EquivalenceExperiment::record(RunContext& context, const CaseResult& result) {
  results_.push_back(result);
  const CaseName& name = result.name;
  Json line = {{"model", name.model},     {"position", name.position},
               {"dtype", name.dtype},     {"attention", name.attention},
               {"arm", name.cache},       {"chunk", name.chunk},
               {"against", name.against}, {"verdict", verdict_name(result.verdict)},
               {"detail", result.detail}};
  if (compared(result.verdict)) {
    const LogitComparison& comparison = result.comparison;
    line["tokens"] = comparison.tokens;
    line["relative_difference"] = comparison.relative_difference();
    line["first_difference"] = comparison.first_difference;
    line["argmax_differs"] = comparison.argmax_differs;
    line["mean_kl"] = comparison.mean_kl;
    if (result.kl_limit > 0) line["kl_limit"] = result.kl_limit;
    if (result.bit_identical) line["bit_identical"] = *result.bit_identical;
  }
  context.folder.add_sample(line.dump(-1, ' ', false, Json::error_handler_t::replace));
  context.log << verdict_name(result.verdict) << ": " << name.text();
  if (compared(result.verdict)) {
    context.log << fmt::format(": difference {:.1e}, KL {:.1e}",
                               result.comparison.relative_difference(), result.comparison.mean_kl);
  } else {
    context.log << ": " << result.detail;
  }
  context.log << "\n";
}

ReportSection EquivalenceExperiment::summary(ExperimentResult& outcome) const {
  std::vector<Tally> tallies;
  for (const CaseResult& result : results_) {
    const CaseName& name = result.name;
    auto tally = std::find_if(tallies.begin(), tallies.end(), [&](const Tally& candidate) {
      return candidate.cache == name.cache && candidate.dtype == name.dtype &&
             candidate.attention == name.attention;
    });
    if (tally == tallies.end()) {
      tallies.push_back({name.cache, name.dtype, name.attention});
      tally = tallies.end() - 1;
    }
    tally->judged += judged(result.verdict) ? 1 : 0;
    tally->equal += result.verdict == Verdict::equal ? 1 : 0;
    tally->refused += result.verdict == Verdict::refused ? 1 : 0;
    tally->approximate += result.verdict == Verdict::distance ? 1 : 0;
    if (result.bit_identical) {
      ++tally->bit_checked;
      tally->bit_identical += *result.bit_identical ? 1 : 0;
    }
    if (!compared(result.verdict)) continue;
    tally->worst_difference =
        std::max(tally->worst_difference, result.comparison.relative_difference());
    tally->worst_kl = std::max(tally->worst_kl, result.comparison.mean_kl);
    if (result.kl_limit > 0) {
      tally->worst_share =
          std::max(tally->worst_share, result.comparison.mean_kl / result.kl_limit);
    }
  }
  ReportTable table{"summary", "Worst case per cache, element type and attention", {}, {}, ""};
  table.columns = {
      {"cache", "Cache", "", {}},
      {"dtype", "Element", "", {}},
      {"attention", "Attention", "", {}},
      {"equal", "Equal", "", {}},
      {"refused", "Refused", "", {}},
      {"difference", "Largest difference", "of largest |logit|", BetterDirection::lower},
      {"kl", "Largest mean KL", "nats/token", BetterDirection::lower},
      {"share", "Of its bf16 limit", "", BetterDirection::lower},
      {"bits", "Bit-identical", "", {}}};
  table.note = fmt::format(
      "f32: at most {:.0e} of the largest |logit| and the same best tokens but for near-ties. "
      "bf16: "
      "mean KL to no cache at most {} times the KL of bf16 to f32 without a cache. Bit-identical: "
      "to "
      "the first exact cache at equal step shapes, bf16 with eager attention.",
      kEqualityTolerance, kBf16DivergenceFactor);
  std::vector<Bar> bars;
  const double none = std::numeric_limits<double>::quiet_NaN();
  for (const Tally& tally : tallies) {
    const bool any = tally.judged + tally.approximate > 0;
    const bool good = tally.equal == tally.judged;
    std::string equal = tally.judged > 0 ? fmt::format("{} of {}", tally.equal, tally.judged) : "–";
    if (tally.approximate > 0) equal = fmt::format("{} approximate", tally.approximate);
    table.rows.push_back(
        {text_cell(tally.cache), text_cell(tally.dtype), text_cell(tally.attention),
         text_cell(equal, good ? CellEmphasis::normal : CellEmphasis::warning),
         count_cell(tally.refused), any ? scientific_cell(tally.worst_difference) : empty_cell(),
         any ? scientific_cell(tally.worst_kl) : empty_cell(),
         tally.worst_share > 0 ? number_cell(tally.worst_share, 2) : empty_cell(),
         tally.bit_checked > 0
             ? text_cell(fmt::format("{} of {}", tally.bit_identical, tally.bit_checked))
             : empty_cell()});
    if (!any) continue;
    if (tally.dtype == "f32") {
      bars.push_back(
          {tally.cache, tally.worst_difference / kEqualityTolerance, {}, {}, tally.attention});
    }
    const std::vector<std::pair<std::string, std::string>> group = {{"dtype", tally.dtype},
                                                                    {"attention", tally.attention}};
    const int64_t n = tally.judged + tally.approximate;
    outcome.metrics.push_back({tally.cache, "worst_relative_difference", tally.worst_difference,
                               "of largest |logit|", n, none, none, BetterDirection::lower, group});
    outcome.metrics.push_back({tally.cache, "worst_mean_kl", tally.worst_kl, "nats/token", n, none,
                               none, BetterDirection::lower, group});
  }
  ReportSection section{"Summary", {}, {table}, {}};
  if (!bars.empty()) {
    section.figures.push_back(bar_chart(
        {"f32_difference", "Largest difference in f32, as a share of the tolerance",
         "1 is the limit for exact caches; what remains below it is the order in which the library "
         "sums for other step shapes."},
        {"Largest difference / tolerance", false, 10, true}, bars));
  }
  return section;
}

ReportSection EquivalenceExperiment::all_cases() const {
  ReportTable table{"cases", "Every case", {}, {}, ""};
  table.columns = {{"model", "Model", "", {}},
                   {"position", "Position", "", {}},
                   {"dtype", "Element", "", {}},
                   {"attention", "Attention", "", {}},
                   {"cache", "Cache", "", {}},
                   {"chunk", "Chunk", "tokens", {}},
                   {"against", "Against", "", {}},
                   {"verdict", "Verdict", "", {}},
                   {"difference", "Largest difference", "of largest |logit|", {}},
                   {"first", "First differing token", "position", {}},
                   {"kl", "Mean KL", "nats/token", {}},
                   {"detail", "Reason", "", {}}};
  for (const CaseResult& result : results_) {
    const CaseName& name = result.name;
    const bool numbers = compared(result.verdict);
    const int64_t first = result.comparison.first_difference;
    const bool explain = result.verdict != Verdict::equal && result.verdict != Verdict::distance;
    table.rows.push_back(
        {text_cell(name.model), text_cell(name.position), text_cell(name.dtype),
         text_cell(name.attention), text_cell(name.cache), text_cell(chunk_text(name.chunk)),
         text_cell(name.against), verdict_cell(result.verdict),
         numbers ? scientific_cell(result.comparison.relative_difference()) : empty_cell(),
         numbers && first >= 0 ? count_cell(first) : empty_cell(),
         numbers ? scientific_cell(result.comparison.mean_kl) : empty_cell(),
         text_cell(explain ? result.detail : "")});
  }
  return {"All cases", {}, {table}, {}};
}

void EquivalenceExperiment::judge(ExperimentResult& outcome) const {
  // One check per cache, element type and model.
  size_t faults = 0;
  int64_t equal = 0, all = 0, refused = 0, approximate = 0;
  for (const CaseResult& result : results_) {
    refused += result.verdict == Verdict::refused ? 1 : 0;
    approximate += result.verdict == Verdict::distance ? 1 : 0;
    if (!judged(result.verdict)) continue;
    ++all;
    const bool good = result.verdict == Verdict::equal;
    equal += good ? 1 : 0;
    const std::string check =
        fmt::format("equal to no cache, {}, model {}", result.name.dtype, result.name.model);
    auto entry =
        std::find_if(outcome.report.checks.begin(), outcome.report.checks.end(),
                     [&](const ReportCheck& candidate) {
                       return candidate.arm == result.name.cache && candidate.check == check;
                     });
    if (entry == outcome.report.checks.end()) {
      const auto mine = [&](const CaseResult& other) {
        return judged(other.verdict) && other.name.cache == result.name.cache &&
               other.name.dtype == result.name.dtype && other.name.model == result.name.model;
      };
      const auto cases = std::count_if(results_.begin(), results_.end(), mine);
      const auto passed = std::count_if(results_.begin(), results_.end(), [&](const auto& other) {
        return mine(other) && other.verdict == Verdict::equal;
      });
      outcome.report.checks.push_back({result.name.cache, check, passed == cases,
                                       fmt::format("{} of {} cases", passed, cases)});
    }
    if (good) continue;
    outcome.passed = false;
    if (++faults <= kMostFailures) {
      outcome.report.failures.push_back({result.name.text(), result.detail});
    }
  }
  if (faults > kMostFailures) {
    outcome.report.failures.push_back(
        {fmt::format("{} more cases", faults - kMostFailures), "see the table of all cases"});
  }
  outcome.report.conclusions.push_back(
      all == equal && all > 0
          ? fmt::format("All {} cases of exact caches gave the answer of no cache.", all)
          : fmt::format("{} of {} cases of exact caches gave the answer of no cache.", equal, all));
  if (approximate > 0) {
    outcome.report.conclusions.push_back(
        fmt::format("{} cases of approximate caches are shown with their distance and not judged.",
                    approximate));
  }
  if (refused > 0) {
    outcome.report.conclusions.push_back(
        fmt::format("{} combinations were refused because their parts cannot work together; the "
                    "reasons stand in the table of all cases.",
                    refused));
  }
  if (all == 0 && approximate == 0) outcome.passed = false;
}

ExperimentResult EquivalenceExperiment::run(RunContext& context) {
  set_threads(threads_);
  results_.clear();
  ExperimentResult outcome;
  const size_t settings = combinations_.positions.size() * combinations_.attentions.size();
  const auto cases = static_cast<int64_t>(settings * combinations_.dtypes.size() *
                                          combinations_.caches.size() *
                                          combinations_.chunks.size());
  context.begin_progress(static_cast<int64_t>(models_.size()) * cases);
  for (size_t i = 0; i < models_.size() && !interrupted(); ++i) {
    int64_t recorded = 0;
    try {
      CaseRunner runner(context.registry, combinations_, [&](const CaseResult& result) {
        record(context, result);
        if (recorded < cases) context.advance_progress();
        ++recorded;
      });
      runner.run(models_[i], texts_[i]);
      // Combinations that are refused as a whole, or stand for several, are one case.
      context.advance_progress(std::max<int64_t>(cases - recorded, 0));
    } catch (const InterruptedError&) {
      outcome.report.failures.push_back({"model " + models_[i].name, "interrupted before the end"});
    } catch (const UserError& error) {
      outcome.report.failures.push_back({"model " + models_[i].name, error.what()});
      outcome.passed = false;
      context.log << "model " << models_[i].name << " failed: " << error.what() << "\n";
    }
  }
  ReportDocument& report = outcome.report;
  report.control = "none";
  report.sections.push_back(summary(outcome));
  report.sections.push_back(all_cases());
  judge(outcome);
  report.varied = {"cache", "attention", "position encoding", "element type", "prefill chunk"};
  report.held_fixed = {"texts, fed whole (teacher forcing), all logits compared",
                       "the control runs with the same attention and element type as its arm",
                       fmt::format("{} threads", threads_)};
  return outcome;
}

}  // namespace kvlab::experiments::equivalence_kind
