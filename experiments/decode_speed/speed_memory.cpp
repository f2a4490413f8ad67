#include "speed_memory.h"

#include <fmt/format.h>

#include <cmath>

#include "report_parts.h"

namespace kvlab::experiments::decode_speed_kind {

namespace {

// A smaller difference of reserved bytes explains nothing.
constexpr double kSmallestShare = 0.005;

// Toys hold kilobytes: three significant digits.
ReportCell megabytes(double bytes) {
  return number_cell(bytes / kMillion, decimals_of(bytes / kMillion));
}

// Tokens of all rows that were cached when the bytes were counted.
double tokens_held(const ArmAtDepth& arm, int64_t batch) {
  return static_cast<double>(arm.held_depth * batch);
}

std::vector<ReportCell> row_of(const std::string& name, const ArmAtDepth& arm, int64_t depth,
                               int64_t batch) {
  const auto reserved = static_cast<double>(arm.usage.reserved());
  const double tokens = tokens_held(arm, batch);
  return {count_cell(depth),
          text_cell(name),
          megabytes(static_cast<double>(arm.payload_bytes)),
          megabytes(reserved),
          number_cell(metadata_share(arm.usage), 2),
          tokens > 0 && reserved > 0 ? number_cell(reserved / tokens, 0) : empty_cell(),
          megabytes(static_cast<double>(arm.usage.peak_total))};
}

}  // namespace

double metadata_share(const MemoryUsage& usage) {
  return usage.reserved() == 0 ? 0
                               : 100 * static_cast<double>(usage.live_bytes(MemoryKind::metadata)) /
                                     static_cast<double>(usage.reserved());
}

std::optional<ReportTable> memory_table(const SpeedConfig& config, const CaseResult& one,
                                        const std::string& id) {
  ReportTable table;
  table.id = id;
  table.title = "What the caches hold";
  const auto lower = BetterDirection::lower;
  table.columns = {{"depth", "depth", "tokens", {}},
                   {"arm", "arm", "", {}},
                   {"payload", "payload", "MB", lower},
                   {"reserved", "reserved", "MB", lower},
                   {"metadata_share", "of it metadata", "%", lower},
                   {"bytes_per_token", "reserved per token", "B", lower},
                   {"peak", "peak", "MB", lower}};
  for (const DepthResult& at : one.depths) {
    for (size_t arm = 0; arm < at.arms.size(); ++arm) {
      if (!at.arms[arm].shares) continue;
      table.rows.push_back(row_of(config.arms[arm].name, at.arms[arm], at.depth, one.batch));
    }
  }
  if (table.rows.empty()) return std::nullopt;
  table.note =
      "Counted after the profiled steps, all rows together. payload: K and V of the tokens that "
      "the rows hold; reserved: storage and metadata allocated for them; a cache that allocates "
      "for its longest text in advance has room for the deepest case, and at depth 0 that is many "
      "bytes per token.";
  return table;
}

bool holds_less(const SpeedConfig& config, const DepthResult& at, size_t arm) {
  const auto control = static_cast<double>(at.arms[config.control].usage.reserved());
  return static_cast<double>(at.arms[arm].usage.reserved()) < (1 - kSmallestShare) * control;
}

std::string held_text(const SpeedConfig& config, const DepthResult& at, size_t arm) {
  if (!at.arms[config.control].shares || !at.arms[arm].shares) return "";
  const auto control = static_cast<double>(at.arms[config.control].usage.reserved());
  const auto mine = static_cast<double>(at.arms[arm].usage.reserved());
  if (control == mine) return "it holds as many bytes";
  if (control == 0) return fmt::format("it holds {:.3g} MB, the control nothing", mine / kMillion);
  if (mine == 0) return "it holds nothing";
  if (mine > 2 * control) return fmt::format("it holds {:.1f} times the bytes", mine / control);
  const double change = 100 * std::abs(mine / control - 1);
  return fmt::format("it holds {:.{}f} % {} bytes", change, change < 1 ? 2 : 0,
                     mine < control ? "fewer" : "more");
}

}  // namespace kvlab::experiments::decode_speed_kind
