#include "quality_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "document_interval.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/figures.h"

namespace kvlab::experiments::quality_kind {

namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr double kSignificance = 0.05;
constexpr double kMebibyte = 1024.0 * 1024.0;

enum class Verdict { control, equal, differs, worse, better, indistinguishable };

const char* verdict_name(Verdict verdict) {
  switch (verdict) {
    case Verdict::control: return "control";
    case Verdict::equal: return "equal";
    case Verdict::differs: return "wrong";
    case Verdict::worse: return "worse";
    case Verdict::better: return "better";
    case Verdict::indistinguishable: return "not distinguishable";
  }
  return "?";
}

// Everything that tables, figures and sentences say about one arm.
struct ArmResult {
  const ArmScores* scores = nullptr;
  bool is_control = false;
  MeanInterval divergence, nll_change, nll;
  RateInterval agreement;
  std::vector<MeanInterval> nll_change_by_bucket;
  std::vector<double> bucket_p;  // adjusted; empty where the arm was not tested
  double p = 1;                  // adjusted
  Verdict verdict = Verdict::control;
  HeldBytes held;

  const std::string& name() const { return scores->arm.name; }
  bool tested() const {
    return verdict == Verdict::worse || verdict == Verdict::better ||
           verdict == Verdict::indistinguishable;
  }
};

using Sum = std::function<double(const TokenSums&)>;

MeanInterval interval_of(const ArmScores& scores, std::optional<size_t> bucket, const Sum& sum,
                         uint64_t seed) {
  std::vector<double> sums, counts;
  for (const DocumentScore& document : scores.documents) {
    const TokenSums tokens = bucket ? document.buckets[*bucket] : document.total();
    sums.push_back(sum(tokens));
    counts.push_back(static_cast<double>(tokens.tokens));
  }
  return document_interval(sums, counts, seed);
}

double nll_difference(const TokenSums& sums) { return sums.nll - sums.control_nll; }

bool gate_passed(const ArmScores& scores) {
  return std::all_of(scores.documents.begin(), scores.documents.end(),
                     [](const DocumentScore& score) { return score.comparison->equal(); });
}

ArmResult summarize(const QualityConfig& config, const ArmScores& scores) {
  ArmResult result;
  result.scores = &scores;
  result.is_control = scores.arm.name == config.control;
  TokenSums all;
  for (const DocumentScore& document : scores.documents) {
    all.add(document.total());
    if (document.held.reserved() >= result.held.reserved()) result.held = document.held;
  }
  result.divergence = interval_of(
      scores, {}, [](const TokenSums& sums) { return sums.divergence; }, config.seed);
  result.nll_change = interval_of(scores, {}, nll_difference, config.seed);
  result.nll = interval_of(
      scores, {}, [](const TokenSums& sums) { return sums.nll; }, config.seed);
  result.agreement = wilson_rate(all.agreed, all.tokens);
  for (size_t bucket = 0; bucket < config.buckets.size(); ++bucket) {
    result.nll_change_by_bucket.push_back(interval_of(scores, bucket, nll_difference, config.seed));
  }
  if (result.is_control) {
    result.verdict = Verdict::control;
  } else if (scores.gated) {
    result.verdict = gate_passed(scores) ? Verdict::equal : Verdict::differs;
  } else {
    result.verdict = Verdict::indistinguishable;  // until it is tested
  }
  return result;
}

Verdict tested_verdict(const MeanInterval& change, double p) {
  if (p >= kSignificance || !change.excludes(0)) return Verdict::indistinguishable;
  return change.value > 0 ? Verdict::worse : Verdict::better;
}

// Tests the arms that the equality gate does not judge. Returns the number of comparisons: of arms,
// and of arms by position.
std::pair<size_t, size_t> test_arms(std::vector<ArmResult>& results) {
  std::vector<double> whole, parts;
  for (const ArmResult& result : results) {
    if (!result.tested()) continue;
    whole.push_back(result.nll_change.p);
    for (const MeanInterval& bucket : result.nll_change_by_bucket) parts.push_back(bucket.p);
  }
  const std::vector<double> adjusted = holm_adjusted(whole), adjusted_parts = holm_adjusted(parts);
  size_t arm = 0, part = 0;
  for (ArmResult& result : results) {
    if (!result.tested()) continue;
    result.p = adjusted[arm++];
    for (size_t i = 0; i < result.nll_change_by_bucket.size(); ++i) {
      result.bucket_p.push_back(adjusted_parts[part++]);
    }
    result.verdict = tested_verdict(result.nll_change, result.p);
  }
  return {whole.size(), parts.size()};
}

std::string interval_text(double value, std::optional<double> low, std::optional<double> high,
                          const char* format) {
  std::string text = fmt::format(fmt::runtime(format), value);
  if (!low || !high) return text;
  return text + " (" + fmt::format(fmt::runtime(format), *low) + " to " +
         fmt::format(fmt::runtime(format), *high) + ")";
}

// Plain decimals where they show something, powers of ten where they would be zeros.
std::string interval_text(const MeanInterval& interval, bool with_sign) {
  const double largest = std::max({std::abs(interval.value), std::abs(interval.low.value_or(0)),
                                   std::abs(interval.high.value_or(0))});
  const bool plain = largest == 0 || largest >= 1e-3;
  const char* format = with_sign ? (plain ? "{:+.4f}" : "{:+.1e}") : (plain ? "{:.4f}" : "{:.1e}");
  return interval_text(interval.value, interval.low, interval.high, format);
}

ReportCell interval_cell(const MeanInterval& interval, std::string text) {
  ReportCell cell = text_cell(std::move(text));
  cell.number = interval.value;
  cell.low = interval.low;
  cell.high = interval.high;
  return cell;
}

ReportCell change_cell(const MeanInterval& change) {
  return interval_cell(change, interval_text(change, true));
}

ReportCell bytes_cell(int64_t bytes) {
  ReportCell cell = text_cell(fmt::format("{:.2f}", static_cast<double>(bytes) / kMebibyte));
  cell.number = static_cast<double>(bytes) / kMebibyte;
  return cell;
}

ReportCell verdict_cell(Verdict verdict) {
  const bool bad = verdict == Verdict::differs;
  return text_cell(verdict_name(verdict), bad                           ? CellEmphasis::warning
                                          : verdict == Verdict::control ? CellEmphasis::muted
                                                                        : CellEmphasis::normal);
}

std::string kind_name(const QualityConfig& config, const ArmScores& scores) {
  if (!scores.exact) return "approximate";
  const at::ScalarType type = scores.arm.cache_dtype.value_or(config.runtime.cache);
  return type == at::kFloat ? "exact" : "exact, K and V rounded to " + dtype_name(type);
}

ReportTable main_table(const QualityConfig& config, const std::vector<ArmResult>& results) {
  ReportTable table{"quality", "Distance from the control, and bytes held", {}, {}, ""};
  table.columns = {{"arm", "Arm", "", {}},
                   {"kind", "Kind", "", {}},
                   {"kl", "KL(control || arm)", "nats/token", BetterDirection::lower},
                   {"top1", "Same best token", "%", BetterDirection::higher},
                   {"nll_change", "ΔNLL", "nats/token", BetterDirection::lower},
                   {"perplexity", "Perplexity", "", BetterDirection::lower},
                   {"verdict", "Verdict on ΔNLL", "", {}},
                   {"p", "p, adjusted", "", {}},
                   {"bits", "Bits per number", "", BetterDirection::lower},
                   {"payload", "Payload", "MiB", BetterDirection::lower},
                   {"metadata", "Metadata", "MiB", BetterDirection::lower},
                   {"reserved", "Reserved", "MiB", BetterDirection::lower},
                   {"tokens", "Tokens", "", {}}};
  for (const ArmResult& result : results) {
    const double bits = result.held.bits_per_number();
    ReportCell agreement =
        text_cell(interval_text(100 * result.agreement.rate, 100 * result.agreement.low,
                                100 * result.agreement.high, "{:.2f}"));
    agreement.number = 100 * result.agreement.rate;
    agreement.low = 100 * result.agreement.low;
    agreement.high = 100 * result.agreement.high;
    MeanInterval perplexity = result.nll;
    for (auto* end : {&perplexity.low, &perplexity.high}) {
      if (*end) *end = std::exp(**end);
    }
    perplexity.value = std::exp(result.nll.value);
    table.rows.push_back(
        {text_cell(result.name()), text_cell(kind_name(config, *result.scores)),
         result.is_control
             ? empty_cell()
             : interval_cell(result.divergence, interval_text(result.divergence, false)),
         result.is_control ? empty_cell() : agreement,
         result.is_control ? empty_cell() : change_cell(result.nll_change),
         interval_cell(perplexity,
                       interval_text(perplexity.value, perplexity.low, perplexity.high, "{:.3f}")),
         verdict_cell(result.verdict), result.tested() ? number_cell(result.p, 4) : empty_cell(),
         bits > 0 ? number_cell(bits, 2) : empty_cell(), bytes_cell(result.held.payload),
         bytes_cell(result.held.metadata), bytes_cell(result.held.reserved()),
         count_cell(result.agreement.n)});
  }
  const auto documents = static_cast<size_t>(results.front().divergence.n);
  table.note = fmt::format(
      "Intervals are 95 %: {} over {} documents for KL, ΔNLL and perplexity; Wilson's for the "
      "share "
      "of best tokens, which takes tokens as independent and is therefore rather too narrow. ΔNLL "
      "is "
      "paired token by token, arm minus control. `equal`: exact caches within {:.0e} of the "
      "largest "
      "|logit|, by the equality gate; they are not tested. Bits per number count scales, payload "
      "does "
      "not; reserved is what the cache has allocated once a document of {} tokens is in it.",
      documents < kFewestForBootstrap
          ? std::string("t-intervals of the documents' means")
          : fmt::format("a bootstrap ({} draws, seed {}) of the ratio of sums", kBootstrapDraws,
                        config.seed),
      documents, kEqualityTolerance, config.document_tokens);
  return table;
}

ReportTable position_table(const QualityConfig& config, const std::vector<ArmResult>& results) {
  ReportTable table{"by_position", "ΔNLL by position in the document", {}, {}, ""};
  table.columns = {{"arm", "Arm", "", {}},
                   {"positions", "Positions", "", {}},
                   {"nll_change", "ΔNLL", "nats/token", BetterDirection::lower},
                   {"p", "p, adjusted", "", {}},
                   {"tokens", "Tokens", "", {}}};
  for (const ArmResult& result : results) {
    if (result.is_control) continue;
    for (size_t i = 0; i < config.buckets.size(); ++i) {
      int64_t tokens = 0;
      for (const DocumentScore& document : result.scores->documents) {
        tokens += document.buckets[i].tokens;
      }
      table.rows.push_back({text_cell(result.name()), text_cell(config.buckets[i].name()),
                            change_cell(result.nll_change_by_bucket[i]),
                            result.tested() ? number_cell(result.bucket_p[i], 4) : empty_cell(),
                            count_cell(tokens)});
    }
  }
  table.note = "Intervals are not adjusted for their number; p is, over all arms and positions.";
  return table;
}

ReportFigure position_figure(const QualityConfig& config, const std::vector<ArmResult>& results) {
  std::vector<LineSeries> series;
  for (const ArmResult& result : results) {
    if (result.is_control) continue;
    LineSeries line;
    line.name = result.name();
    for (size_t i = 0; i < config.buckets.size(); ++i) {
      const MeanInterval& change = result.nll_change_by_bucket[i];
      const double middle =
          0.5 * static_cast<double>(config.buckets[i].begin + config.buckets[i].end - 1);
      line.points.push_back({middle, change.value, change.low, change.high});
    }
    series.push_back(std::move(line));
  }
  return line_chart(
      {"nll_by_position", "What an arm loses, by position in the document",
       fmt::format("ΔNLL, arm minus {}, at the middle of each stretch of positions; bars "
                   "are 95 % intervals over {} documents, not adjusted for their number.",
                   config.control, results.front().divergence.n)},
      {"Position [tokens]", true, 2}, {"ΔNLL [nats/token]"}, series,
      {{ReferenceRule::Axis::y, 0, "control"}});
}

// Nothing where fewer than two arms hold anything.
std::vector<ReportFigure> pareto_figure(const std::vector<ArmResult>& results) {
  std::vector<ScatterPoint> points;
  for (const ArmResult& result : results) {
    if (result.scores->keeps_nothing || result.verdict == Verdict::differs) continue;
    // Rounding of exact arms is no loss.
    const bool lossless = result.is_control || result.verdict == Verdict::equal;
    points.push_back({static_cast<double>(result.held.reserved()) / kMebibyte,
                      lossless ? 0 : result.divergence.value, result.name()});
  }
  if (points.size() < 2) return {};
  mark_dominated(points, BetterDirection::lower, BetterDirection::lower);
  FigureAxis bytes{"Reserved for K and V [MiB]"};
  bytes.from_zero = true;
  return {scatter_chart({"memory_quality", "Memory against quality",
                         "Bytes that the cache has allocated at the end of a document, and KL to "
                         "the control; control "
                         "and exact arms stand at zero. Grey arms are no better than another on "
                         "either axis. Arms that "
                         "keep nothing are left out: they pay with time."},
                        bytes, {"KL(control || arm) [nats/token]"}, points)};
}

std::string bytes_sentence(const ArmResult& result, const ArmResult& control) {
  if (result.scores->keeps_nothing) return "it holds nothing";
  const auto own = static_cast<double>(result.held.reserved());
  if (control.scores->keeps_nothing || control.held.reserved() == 0) {
    return fmt::format("it reserves {:.2f} MiB", own / kMebibyte);
  }
  const double change = 100 * (own / static_cast<double>(control.held.reserved()) - 1);
  if (std::abs(change) < 0.05) return "it reserves as many bytes";
  return fmt::format("it reserves {:.1f} % {} bytes", std::abs(change),
                     change < 0 ? "fewer" : "more");
}

// Where the loss lies, as far as single stretches can be told from zero.
std::string position_sentence(const QualityConfig& config, const ArmResult& result) {
  std::string worse;
  size_t shown = 0;
  for (size_t i = 0; i < config.buckets.size(); ++i) {
    const MeanInterval& change = result.nll_change_by_bucket[i];
    if (tested_verdict(change, result.bucket_p[i]) != Verdict::worse) continue;
    worse += fmt::format("{}{} ({:+.4f})", shown == 0 ? "" : ", ", config.buckets[i].name(),
                         change.value);
    ++shown;
  }
  if (shown == 0) return " At no stretch of positions alone can a loss be told from none.";
  if (shown == config.buckets.size())
    return " It is worse at every stretch of positions: " + worse + ".";
  return " It is worse at positions " + worse + "; elsewhere no loss can be told from none.";
}

std::string conclusion(const QualityConfig& config, const ArmResult& result,
                       const ArmResult& control) {
  const std::string& name = result.name();
  const std::string bytes = bytes_sentence(result, control);
  if (result.verdict == Verdict::differs) {
    return fmt::format("{} should give the answer of {} and does not: no figure of it counts.",
                       name, config.control);
  }
  if (result.verdict == Verdict::equal) {
    return fmt::format("{} gives the answer of {} within rounding; {}.", name, config.control,
                       bytes);
  }
  const MeanInterval& change = result.nll_change;
  const std::string numbers =
      fmt::format("ΔNLL {} nats/token, perplexity x{:.4f}, KL {}", interval_text(change, true),
                  std::exp(change.value), interval_text(result.divergence, false));
  switch (result.verdict) {
    case Verdict::worse:
      return fmt::format("{} is worse than {}: {} (adjusted p = {:.4f}); {}.{}", name,
                         config.control, numbers, result.p, bytes,
                         position_sentence(config, result));
    case Verdict::better:
      return fmt::format(
          "{} predicts this text better than {}: {} (adjusted p = {:.4f}); {}. It is "
          "still another distribution than the control's.",
          name, config.control, numbers, result.p, bytes);
    default:
      return fmt::format(
          "{} is not distinguishable from {} in what it predicts: {} (adjusted p = "
          "{:.4f}); {}.",
          name, config.control, numbers, result.p, bytes);
  }
}

void add_check(const ArmResult& result, ExperimentResult& outcome) {
  if (!result.scores->gated || result.is_control) return;
  double worst = 0;
  int64_t unequal = 0;
  for (const DocumentScore& document : result.scores->documents) {
    worst = std::max(worst, document.comparison->relative_difference());
    unequal += document.comparison->equal() ? 0 : 1;
  }
  const auto documents = result.scores->documents.size();
  outcome.report.checks.push_back(
      {result.name(), fmt::format("equal to the control, tolerance {:.0e}", kEqualityTolerance),
       unequal == 0,
       fmt::format("{} of {} documents equal; largest difference {:.2e} of the largest |logit|",
                   static_cast<int64_t>(documents) - unequal, documents, worst)});
  if (unequal > 0) outcome.passed = false;
}

void add_metrics(const QualityConfig& config, const ArmResult& result, ExperimentResult& outcome) {
  const auto add = [&](const char* name, double value, const char* unit, int64_t n,
                       std::optional<double> low, std::optional<double> high,
                       BetterDirection direction, const std::string& positions = "") {
    Metric metric{result.name(),        name,      value, unit, n, low.value_or(kNone),
                  high.value_or(kNone), direction, {}};
    if (!positions.empty()) metric.group = {{"positions", positions}};
    outcome.metrics.push_back(std::move(metric));
  };
  const auto lower = BetterDirection::lower;
  const MeanInterval& kl = result.divergence;
  add("kl", kl.value, "nats/token", kl.n, kl.low, kl.high, lower);
  add("top1", result.agreement.rate, "", result.agreement.n, result.agreement.low,
      result.agreement.high, BetterDirection::higher);
  const MeanInterval& change = result.nll_change;
  add("nll_change", change.value, "nats/token", change.n, change.low, change.high, lower);
  const MeanInterval& nll = result.nll;
  add("perplexity", std::exp(nll.value), "", nll.n,
      nll.low ? std::optional(std::exp(*nll.low)) : std::nullopt,
      nll.high ? std::optional(std::exp(*nll.high)) : std::nullopt, lower);
  const auto bytes = [&](const char* name, int64_t value) {
    add(name, static_cast<double>(value), "bytes", 1, {}, {}, lower);
  };
  bytes("payload", result.held.payload);
  bytes("metadata", result.held.metadata);
  bytes("reserved", result.held.reserved());
  bytes("peak", result.held.peak);
  if (result.held.numbers > 0) {
    add("bits_per_number", result.held.bits_per_number(), "bits", 1, {}, {}, lower);
  }
  for (size_t i = 0; i < config.buckets.size(); ++i) {
    const MeanInterval& part = result.nll_change_by_bucket[i];
    add("nll_change", part.value, "nats/token", part.n, part.low, part.high, lower,
        config.buckets[i].name());
  }
}

void describe_setting(const QualityConfig& config, const std::vector<ArmScores>& scores,
                      ReportDocument& report) {
  for (const ArmScores& arm : scores) {
    std::string line = "arm " + arm.arm.name + ": cache " + to_string(arm.arm.cache);
    if (arm.arm.attention) line += ", attention " + to_string(*arm.arm.attention);
    if (arm.arm.cache_dtype) line += ", K and V in " + dtype_name(*arm.arm.cache_dtype);
    if (arm.arm.position) line += ", position " + to_string(*arm.arm.position);
    report.varied.push_back(line);
  }
  report.held_fixed = {
      "model " + config.model.name + ", weights " + dtype_name(config.runtime.weights) +
          ", activations " + dtype_name(config.runtime.activations) + ", K and V in " +
          dtype_name(config.runtime.cache) + " unless the arm says otherwise",
      fmt::format(
          "text: {}, {} tokens; {} documents of {} tokens, {}; each fed from an empty cache "
          "(teacher forcing)",
          config.text, config.text_tokens, config.documents.size(), config.document_tokens,
          config.placement),
      config.runtime.chunk == 0
          ? "each document in one step: what a cache drops or rounds only for later steps is not "
            "seen"
          : fmt::format(
                "fed in steps of {} tokens, by all arms alike; approximate caches would differ "
                "with other steps",
                config.runtime.chunk),
      "attention " + to_string(config.runtime.attention),
      fmt::format("{} threads", config.runtime.threads)};
}

}  // namespace

void fill_report(const QualityConfig& config, const std::vector<ArmScores>& scores,
                 ExperimentResult& outcome) {
  ReportDocument& report = outcome.report;
  report.control = config.control;
  describe_setting(config, scores, report);
  std::vector<ArmResult> results;
  for (const ArmScores& arm : scores) {
    if (!arm.failed && !arm.documents.empty()) results.push_back(summarize(config, arm));
  }
  if (results.empty()) {
    report.conclusions = {"No firm conclusion: no document was finished."};
    return;
  }
  const auto [comparisons, by_position] = test_arms(results);
  for (const ArmResult& result : results) {
    add_check(result, outcome);
    add_metrics(config, result, outcome);
  }
  const auto control = std::find_if(results.begin(), results.end(),
                                    [](const ArmResult& result) { return result.is_control; });
  for (const ArmResult& result : results) {
    if (!result.is_control) report.conclusions.push_back(conclusion(config, result, *control));
  }
  if (comparisons > 0) {
    report.conclusions.push_back(
        fmt::format("The rule: an arm is worse or better where the interval of ΔNLL excludes zero "
                    "and p, adjusted "
                    "after Holm for {} comparisons of arms ({} by position), is below {}.",
                    comparisons, by_position, kSignificance));
  }
  const bool ungated = std::any_of(results.begin(), results.end(), [](const ArmResult& result) {
    return result.scores->exact && !result.scores->gated && !result.is_control;
  });
  if (ungated) {
    report.conclusions.push_back(
        "Exact caches whose numbers, or the control's, are not fp32 are not judged by the equality "
        "gate here but shown with their distance, which is the rounding's; `equivalence` gates "
        "them.");
  }
  report.sections.push_back(
      {"Quality and memory", {}, {main_table(config, results)}, pareto_figure(results)});
  if (results.size() > 1) {
    report.sections.push_back({"Where in the document",
                               {},
                               {position_table(config, results)},
                               {position_figure(config, results)}});
  }
}

}  // namespace kvlab::experiments::quality_kind
