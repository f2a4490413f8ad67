#include <fmt/format.h>

#include <limits>

#include "report_parts.h"

namespace kvlab::experiments::shared_prompt_kind {

namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr auto kHigher = BetterDirection::higher;
constexpr auto kLower = BetterDirection::lower;

double end_to_end(const Sample& sample) { return sample.tokens_per_second(); }

ReportCell bytes_cell(int64_t bytes) {
  ReportCell cell = text_cell(fmt::format("{:.2f}", static_cast<double>(bytes) / kMebibyte));
  cell.number = static_cast<double>(bytes) / kMebibyte;
  return cell;
}

void add_comparison(std::vector<ReportCell>& row, const Comparison* found,
                    const std::string& instead) {
  row.push_back(found != nullptr ? ratio_cell(found->ratio)
                                 : text_cell(instead, CellEmphasis::muted));
  row.push_back(found != nullptr ? verdict_cell(found->verdict) : empty_cell());
}

ReportTable time_table(const Findings& f) {
  ReportTable table{"time", "Time", {}, {}, ""};
  table.columns = {{"arm", "Arm", "", {}},
                   {"mode", "Prompt by", "", {}},
                   {"texts", "Texts as by prefill", "", {}},
                   {"ttft", "First token of all rows", "ms", kLower},
                   {"fork_speedup", "x own prefill", "", kHigher},
                   {"fork_verdict", "by fork", "", {}},
                   {"speed", "Generated, end to end", "tokens/s", kHigher},
                   {"speed_ratio", "x control, same way", "", kHigher},
                   {"verdict", "beside the control", "", {}},
                   {"n", "n", "", {}},
                   {"flagged", "Flagged", "", kLower}};
  for (const Variant* variant : f.variants()) {
    const ArmState& arm = f.arm(*variant);
    const bool forked = variant->mode == Mode::forked;
    std::vector<ReportCell> row = {text_cell(arm.config.name), text_cell(mode_name(variant->mode)),
                                   forked && arm.fork
                                       ? text_cell(fmt::format("{} of {}", arm.fork->equal_rows,
                                                               arm.fork->rows))
                                       : empty_cell()};
    if (f.passed(variant->arm)) {
      const bool again = f.is_second_control(variant->arm);
      row.push_back(number_cell(f.middle(*variant, first_ms), 1));
      add_comparison(row, forked ? f.fork_gain(variant->arm) : nullptr, "-");
      row.push_back(number_cell(f.middle(*variant, end_to_end), 1));
      const auto noise = f.speed_noise(variant->mode);
      if (again && noise) {
        row.push_back(ratio_cell(*noise));
        row.push_back(text_cell("noise", CellEmphasis::muted));
      } else {
        add_comparison(row, f.beside_control(*variant),
                       variant->arm == f.control() ? "1 (control)" : "-");
      }
      row.push_back(count_cell(static_cast<int64_t>(f.blocks())));
      row.push_back(count_cell(f.contended(*variant)));
    }
    while (row.size() < table.columns.size()) row.push_back(empty_cell());
    table.rows.push_back(std::move(row));
  }
  table.note =
      "Times are medians over blocks; ratios are of speeds within a block, with 95 % intervals, by the "
      "rule under \"Differences that are not significant\". x own prefill: time to the first token of "
      "all rows. x control: end to end, the prompt by the same way. Texts: rows whose sampled tokens "
      "are those of the same cache without forking; approximate caches may part where a rounded code "
      "falls the other way, since a prompt fed in one row and in many is summed in another order. No "
      "time is shown for an arm whose texts are not what they must be.";
  return table;
}

ReportTable memory_table(const Findings& f) {
  ReportTable table{"memory", "Memory and work", {}, {}, ""};
  table.columns = {{"arm", "Arm", "", {}},
                   {"mode", "Prompt by", "", {}},
                   {"kind", "Kind", "", {}},
                   {"forwards", "Token-forwards", "", kLower},
                   {"fork_moved", "Moved by forks", "MiB", kLower},
                   {"moved", "Moved in all", "MiB", kLower},
                   {"payload", "Payload", "MiB", kLower},
                   {"metadata_share", "Metadata", "% of reserved", kLower},
                   {"storage", "Storage", "MiB", kLower},
                   {"reserved", "Reserved", "MiB", kLower},
                   {"peak", "Peak of the cache", "MiB", kLower}};
  for (const Variant* variant : f.variants()) {
    if (f.is_second_control(variant->arm)) continue;
    const GenerateResult& last = variant->runs[f.blocks() - 1].result;
    const auto reserved = static_cast<double>(last.cache.reserved());
    const auto metadata = static_cast<double>(last.cache.live_bytes(MemoryKind::metadata));
    table.rows.push_back(
        {text_cell(f.name(*variant)), text_cell(mode_name(variant->mode)),
         text_cell(f.arm(*variant).traits.exact ? "exact" : "approximate"),
         count_cell(last.work.token_forwards),
         variant->mode == Mode::forked ? bytes_cell(last.fork_bytes_moved) : empty_cell(),
         bytes_cell(last.work.bytes_moved), bytes_cell(last.payload),
         reserved > 0 ? number_cell(100 * metadata / reserved, 2) : empty_cell(),
         bytes_cell(last.cache.live_bytes(MemoryKind::storage)), bytes_cell(last.cache.reserved()),
         bytes_cell(last.cache.peak_total)});
  }
  table.note =
      "Bytes are those at the end of the longest text, peak the highest moment; K and V that several "
      "rows share count once. Moved: K and V copied from one place of the cache to another, by forks "
      "alone and in all, with copies on write and growth.";
  return table;
}

void add_metrics(const Findings& f, const Variant& variant, std::vector<Metric>& metrics) {
  const GenerateResult& last = variant.runs[f.blocks() - 1].result;
  const auto add = [&](const char* metric, double value, const char* unit,
                       BetterDirection direction, bool timed,
                       const Comparison* found = nullptr) {
    Metric entry{f.name(variant), metric,    value,
                 unit,            static_cast<int64_t>(f.blocks()),
                 kNone,           kNone,     direction,
                 {{"mode", mode_name(variant.mode)}},
                 timed,           {},        kNone};
    if (found != nullptr) {
      entry.ci_low = found->ratio.low.value_or(kNone);
      entry.ci_high = found->ratio.high.value_or(kNone);
      entry.verdict = verdict_name(found->verdict);
      entry.p = found->p.value_or(kNone);
    }
    metrics.push_back(std::move(entry));
  };
  const auto bytes = [&](const char* metric, int64_t value) {
    add(metric, static_cast<double>(value), "bytes", kLower, false);
  };
  if (f.passed(variant.arm)) {
    add("ttft", f.middle(variant, first_ms), "ms", kLower, true);
    add("throughput", f.middle(variant, end_to_end), "tokens/s", kHigher, true);
    const Comparison* gain = variant.mode == Mode::forked ? f.fork_gain(variant.arm) : nullptr;
    if (gain != nullptr) {
      add("fork_speedup", gain->ratio.ratio, "", kHigher, true, gain);
    }
    if (const Comparison* beside = f.beside_control(variant)) {
      add("speed_ratio", beside->ratio.ratio, "", kHigher, true, beside);
    }
  }
  add("token_forwards", static_cast<double>(last.work.token_forwards), "tokens", kLower, false);
  bytes("fork_bytes_moved", last.fork_bytes_moved);
  bytes("bytes_moved", last.work.bytes_moved);
  bytes("payload", last.payload);
  bytes("storage", last.cache.live_bytes(MemoryKind::storage));
  bytes("reserved", last.cache.reserved());
  bytes("peak", last.cache.peak_total);
}

}  // namespace

ReportSection tables(const Findings& f, std::vector<Metric>& metrics) {
  for (const Variant* variant : f.variants()) add_metrics(f, *variant, metrics);
  return {"Memory, work and time", {}, {time_table(f), memory_table(f)}, {}};
}

}  // namespace kvlab::experiments::shared_prompt_kind
