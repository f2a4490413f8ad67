#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report_parts.h"

namespace kvlab::experiments::quality_kind {

namespace {

std::string numbers_text(double value, std::optional<double> low, std::optional<double> high,
                         const char* format) {
  std::string text = fmt::format(fmt::runtime(format), value);
  if (!low || !high) return text;
  return text + " (" + fmt::format(fmt::runtime(format), *low) + " to " +
         fmt::format(fmt::runtime(format), *high) + ")";
}

ReportCell interval_cell(const BootstrapInterval& interval, std::string text) {
  ReportCell cell = text_cell(std::move(text));
  cell.number = interval.estimate;
  cell.low = interval.low;
  cell.high = interval.high;
  return cell;
}

ReportCell change_cell(const BootstrapInterval& change) {
  return interval_cell(change, interval_text(change, true));
}

ReportCell bytes_cell(int64_t bytes) {
  ReportCell cell = text_cell(fmt::format("{:.2f}", static_cast<double>(bytes) / kMebibyte));
  cell.number = static_cast<double>(bytes) / kMebibyte;
  return cell;
}

ReportCell verdict_cell(QualityVerdict verdict) {
  CellEmphasis emphasis = CellEmphasis::normal;
  if (verdict == QualityVerdict::differs) emphasis = CellEmphasis::warning;
  if (verdict == QualityVerdict::control) emphasis = CellEmphasis::muted;
  return text_cell(verdict_name(verdict), emphasis);
}

std::string kind_name(const QualityConfig& config, const ArmScores& scores) {
  if (!scores.exact) return "approximate";
  const at::ScalarType type = scores.arm.cache_dtype.value_or(config.runtime.cache);
  return type == at::kFloat ? "exact" : "exact, K and V rounded to " + dtype_name(type);
}

}  // namespace

std::string interval_text(const BootstrapInterval& interval, bool with_sign) {
  const double largest = std::max({std::abs(interval.estimate), std::abs(interval.low.value_or(0)),
                                   std::abs(interval.high.value_or(0))});
  const bool plain = largest == 0 || largest >= 1e-3;
  const char* format = with_sign ? (plain ? "{:+.4f}" : "{:+.1e}") : (plain ? "{:.4f}" : "{:.1e}");
  return numbers_text(interval.estimate, interval.low, interval.high, format);
}

ReportTable main_table(const QualityConfig& config, const QualityFindings& findings) {
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
  for (const ArmFinding& result : findings.arms) {
    const double bits = result.held.bits_per_number();
    ReportCell agreement =
        text_cell(numbers_text(100 * result.agreement.rate, 100 * result.agreement.low,
                               100 * result.agreement.high, "{:.2f}"));
    agreement.number = 100 * result.agreement.rate;
    agreement.low = 100 * result.agreement.low;
    agreement.high = 100 * result.agreement.high;
    BootstrapInterval perplexity = result.nll;
    for (auto* end : {&perplexity.low, &perplexity.high}) {
      if (*end) *end = std::exp(**end);
    }
    perplexity.estimate = std::exp(result.nll.estimate);
    table.rows.push_back(
        {text_cell(result.name()), text_cell(kind_name(config, *result.scores)),
         result.is_control
             ? empty_cell()
             : interval_cell(result.divergence, interval_text(result.divergence, false)),
         result.is_control ? empty_cell() : agreement,
         result.is_control ? empty_cell() : change_cell(result.nll_change),
         interval_cell(perplexity, numbers_text(perplexity.estimate, perplexity.low,
                                                perplexity.high, "{:.3f}")),
         verdict_cell(result.verdict), result.tested() ? number_cell(result.p, 4) : empty_cell(),
         bits > 0 ? number_cell(bits, 2) : empty_cell(), bytes_cell(result.held.payload),
         bytes_cell(result.held.metadata), bytes_cell(result.held.reserved()),
         count_cell(result.agreement.n)});
  }
  const auto documents = findings.arms.front().divergence.n;
  table.note = fmt::format(
      "Intervals are 95 %: {} over {} documents for KL, ΔNLL and perplexity; Wilson's for the share "
      "of best tokens, which takes tokens as independent and is therefore rather too narrow. ΔNLL is "
      "paired token by token, arm minus control. `equal`: exact caches within {:.0e} of the largest "
      "|logit|, by the equality gate; they are not tested. Bits per number count scales, payload does "
      "not; reserved is what the cache has allocated once a document of {} tokens is in it.",
      documents < kBootstrapItems
          ? std::string("t-intervals of the documents' means")
          : fmt::format("a BCa bootstrap ({} draws, seed {}) of the ratio of sums",
                        BootstrapOptions{}.draws, config.seed),
      documents, kEqualityTolerance, config.document_tokens);
  return table;
}

ReportTable position_table(const QualityConfig& config, const QualityFindings& findings) {
  ReportTable table{"by_position", "ΔNLL by position in the document", {}, {}, ""};
  table.columns = {{"arm", "Arm", "", {}},
                   {"positions", "Positions", "", {}},
                   {"nll_change", "ΔNLL", "nats/token", BetterDirection::lower},
                   {"p", "p, adjusted", "", {}},
                   {"tokens", "Tokens", "", {}}};
  for (const ArmFinding& result : findings.arms) {
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

}  // namespace kvlab::experiments::quality_kind
