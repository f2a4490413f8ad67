#include "shared_prompt_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "kvlab/runtime/figures.h"
#include "kvlab/runtime/statistics.h"

namespace kvlab::experiments::shared_prompt_kind {

namespace {

constexpr double kMebibyte = 1024.0 * 1024.0;
constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

using Of = std::function<double(const GenerateResult&)>;

double first_ms(const GenerateResult& run) { return 1e-6 * static_cast<double>(run.ttft_ns); }

double total_ms(const GenerateResult& run) {
  return 1e-6 * static_cast<double>(run.ttft_ns + run.decode_ns());
}

double speed(const GenerateResult& run) {
  return 1e3 * static_cast<double>(run.generated()) / total_ms(run);
}

std::vector<double> values(const Variant& variant, size_t blocks, const Of& of) {
  std::vector<double> all;
  for (size_t i = 0; i < blocks; ++i) all.push_back(of(variant.runs[i]));
  return all;
}

ReportCell bytes_cell(int64_t bytes) {
  ReportCell cell = text_cell(fmt::format("{:.2f}", static_cast<double>(bytes) / kMebibyte));
  cell.number = static_cast<double>(bytes) / kMebibyte;
  return cell;
}

std::string ratio_text(const RatioInterval& ratio) {
  if (!ratio.low || !ratio.high) return fmt::format("{:.2f}x (n=1)", ratio.ratio);
  return fmt::format("{:.2f}x ({:.2f} to {:.2f})", ratio.ratio, *ratio.low, *ratio.high);
}

// "31.2 % fewer bytes than X".
std::string fewer(int64_t bytes, int64_t than, const std::string& what) {
  const double change = 100 * (static_cast<double>(bytes) / static_cast<double>(than) - 1);
  if (std::abs(change) < 0.05) return "as many bytes as " + what;
  return fmt::format("{:.1f} % {} bytes than {}", std::abs(change), change < 0 ? "fewer" : "more",
                     what);
}

class Report {
 public:
  Report(const SharedPromptConfig& config, const std::vector<ArmState>& arms, size_t control,
         const std::vector<Variant>& variants, ExperimentResult& outcome)
      : config_(config), arms_(arms), control_(control), outcome_(outcome) {
    blocks_ = std::numeric_limits<size_t>::max();
    for (const Variant& variant : variants) {
      if (arms[variant.arm].failure) continue;
      blocks_ = std::min(blocks_, variant.runs.size());
      shown_.push_back(&variant);
    }
    if (shown_.empty()) blocks_ = 0;
  }

  void fill() {
    settings();
    checks();
    const Variant* control = find(control_, Mode::prefill);
    if (blocks_ == 0 || control == nullptr) {
      outcome_.report.conclusions = {"No firm conclusion: not every arm was measured once."};
      return;
    }
    table(*control);
    figures();
    metrics(*control);
    conclusions();
  }

 private:
  const std::string& name(const Variant& variant) const { return arms_[variant.arm].config.name; }

  const Variant* find(size_t arm, Mode mode) const {
    for (const Variant* variant : shown_) {
      if (variant->arm == arm && variant->mode == mode) return variant;
    }
    return nullptr;
  }

  // How many times as fast the numerator's opposite is: time of `slow` over time of `fast`.
  RatioInterval speedup(const Variant& slow, const Variant& fast, const Of& time) const {
    return ratio_t_interval(values(slow, blocks_, time), values(fast, blocks_, time));
  }

  double middle(const Variant& variant, const Of& of) const {
    return median(values(variant, blocks_, of));
  }

  // A cache that feeds nothing twice: the prompt once or for every row, then what was sampled.
  int64_t expected_forwards(const Variant& variant) const {
    const int64_t rows = config_.continuations, prompt = config_.prompt_tokens();
    const int64_t prefilled = variant.mode == Mode::forked ? prompt : rows * prompt;
    if (!arms_[variant.arm].traits.keeps_nothing)
      return prefilled + rows * (config_.new_tokens - 1);
    int64_t total = prefilled;
    for (int64_t i = 1; i < config_.new_tokens; ++i) total += rows * (prompt + i);
    return total;
  }

  void settings() {
    ReportDocument& report = outcome_.report;
    report.control = config_.control + ", every row feeds the prompt itself";
    for (const ArmState& arm : arms_) {
      std::string line = "arm " + arm.config.name + ": cache " + to_string(arm.config.cache);
      if (arm.config.attention) line += ", attention " + to_string(*arm.config.attention);
      if (arm.config.cache_dtype) line += ", K and V in " + dtype_name(*arm.config.cache_dtype);
      report.varied.push_back(line);
    }
    report.varied.push_back(
        "mode: `fork` feeds the prompt once and forks it into the rows, `prefill` "
        "feeds it in every row");
    report.held_fixed = {
        "model " + config_.model.name + ", weights " + dtype_name(config_.runtime.weights) +
            ", activations " + dtype_name(config_.runtime.activations),
        fmt::format("prompt of {} tokens, {} continuations of {} tokens, none stopped early",
                    config_.prompt_tokens(), config_.continuations, config_.new_tokens),
        fmt::format("sampling, temperature {}, top_k {}, top_p {}, seed {}: row r draws the same "
                    "random numbers in every arm and mode",
                    config_.sampler.temperature, config_.sampler.top_k, config_.sampler.top_p,
                    config_.sampler.seed),
        "attention " + to_string(config_.runtime.attention),
        config_.runtime.chunk == 0 ? std::string("the prompt fed in one step")
                                   : fmt::format("prefill chunk {}", config_.runtime.chunk),
        fmt::format("{} threads, {} blocks{}", config_.runtime.threads, config_.measure.repeats,
                    config_.measure.interleave ? ", variants interleaved in seeded order" : "")};
  }

  void add_check(const ArmState& arm, const std::string& what,
                 const ContinuationComparison& comparison) {
    outcome_.report.checks.push_back(
        {arm.config.name, what, comparison.equal(), comparison.describe()});
    outcome_.passed = outcome_.passed && comparison.equal();
  }

  void checks() {
    const ArmState& control = arms_[control_];
    for (const ArmState& arm : arms_) {
      if (arm.failure) {
        outcome_.report.failures.push_back({"arm " + arm.config.name, *arm.failure});
        outcome_.passed = false;
        continue;
      }
      if (!arm.fork || !arm.traits.exact || !arm.full_precision) continue;
      add_check(arm, "forked rows say what rows say that feed the prompt themselves", *arm.fork);
      const bool same_position = !arm.config.position && !control.config.position;
      if (control.traits.exact && control.full_precision && same_position) {
        add_check(arm, "forked rows say what the control says", *arm.control);
      }
    }
    for (const Variant* variant : shown_) {
      if (variant->runs.empty()) continue;
      const int64_t expected = expected_forwards(*variant);
      const bool good = std::all_of(
          variant->runs.begin(), variant->runs.end(),
          [&](const GenerateResult& run) { return run.work.token_forwards == expected; });
      outcome_.report.checks.push_back(
          {name(*variant), fmt::format("token-forwards as predicted, {}", mode_name(variant->mode)),
           good,
           fmt::format("{} expected, {} counted", expected,
                       variant->runs.front().work.token_forwards)});
      outcome_.passed = outcome_.passed && good;
    }
  }

  void table(const Variant& control) {
    ReportTable table{"shared_prompt", "One prompt in many rows", {}, {}, ""};
    table.columns = {{"arm", "Arm", "", {}},
                     {"mode", "Prompt by", "", {}},
                     {"texts", "Texts as by prefill", "", {}},
                     {"speedup", "Control's time / its time", "", BetterDirection::higher},
                     {"ttft", "First token of all rows", "ms", BetterDirection::lower},
                     {"speed", "Generated, end to end", "tokens/s", BetterDirection::higher},
                     {"forwards", "Token-forwards", "", BetterDirection::lower},
                     {"fork_moved", "Moved by forks", "MiB", BetterDirection::lower},
                     {"moved", "Moved in all", "MiB", BetterDirection::lower},
                     {"payload", "Payload", "MiB", BetterDirection::lower},
                     {"storage", "Storage", "MiB", BetterDirection::lower},
                     {"reserved", "Reserved", "MiB", BetterDirection::lower},
                     {"peak", "Peak of the cache", "MiB", BetterDirection::lower},
                     {"n", "n", "", {}}};
    for (const Variant* variant : shown_) {
      const GenerateResult& last = variant->runs[blocks_ - 1];
      const ArmState& arm = arms_[variant->arm];
      const bool forked = variant->mode == Mode::forked;
      ReportCell texts = empty_cell();
      if (forked && arm.fork) {
        texts = text_cell(fmt::format("{} of {}", arm.fork->equal_rows, arm.fork->rows));
      }
      table.rows.push_back({text_cell(arm.config.name), text_cell(mode_name(variant->mode)), texts,
                            variant == &control ? text_cell("control", CellEmphasis::muted)
                                                : ratio_cell(speedup(control, *variant, total_ms)),
                            number_cell(middle(*variant, first_ms), 1),
                            number_cell(middle(*variant, speed), 1),
                            count_cell(last.work.token_forwards),
                            forked ? bytes_cell(last.fork_bytes_moved) : empty_cell(),
                            bytes_cell(last.work.bytes_moved), bytes_cell(last.payload),
                            bytes_cell(last.cache.live_bytes(MemoryKind::storage)),
                            bytes_cell(last.cache.reserved()), bytes_cell(last.cache.peak_total),
                            count_cell(static_cast<int64_t>(blocks_))});
    }
    table.note =
        "Bytes are those at the end of the longest text, peak the highest moment; K and V that "
        "several "
        "rows share count once. Moved: K and V copied from one place of the cache to another, by "
        "forks alone and in all, with copies on write and growth. Times are medians; ratios are "
        "geometric means over blocks with a 95 % t-interval. Texts: rows whose sampled tokens are "
        "those of the same cache without forking. Approximate caches may part where a rounded code "
        "falls the other way, since a prompt fed in one row and in many is summed in another "
        "order.";
    outcome_.report.sections.push_back({"Memory, work and time", {}, {table}, {}});
  }

  void figures() {
    std::vector<Bar> peaks, firsts;
    std::vector<ScatterPoint> points;
    for (const Variant* variant : shown_) {
      const GenerateResult& last = variant->runs[blocks_ - 1];
      const double peak = static_cast<double>(last.cache.peak_total) / kMebibyte;
      const std::string mode = mode_name(variant->mode);
      peaks.push_back({name(*variant), peak, {}, {}, mode});
      const std::vector<double> times = values(*variant, blocks_, first_ms);
      firsts.push_back(
          {name(*variant), median(times), quantile(times, 0.25), quantile(times, 0.75), mode});
      if (!arms_[variant->arm].traits.keeps_nothing) {
        points.push_back({peak, middle(*variant, speed), name(*variant) + ", " + mode});
      }
    }
    std::vector<ReportFigure> figures;
    figures.push_back(
        bar_chart({"peak_bytes", "Highest bytes of the cache",
                   fmt::format("{} rows with a prompt of {} tokens and {} new tokens each.",
                               config_.continuations, config_.prompt_tokens(), config_.new_tokens)},
                  {"Peak of the cache [MiB]"}, peaks));
    figures.push_back(
        bar_chart({"first_tokens", "Time until every row has its first token",
                   fmt::format("Medians of {} blocks; bars from the first to the third "
                               "quartile.",
                               blocks_)},
                  {"First token of all rows [ms]"}, firsts));
    if (points.size() > 1) {
      mark_dominated(points, BetterDirection::lower, BetterDirection::higher);
      FigureAxis bytes{"Peak of the cache [MiB]"};
      bytes.from_zero = true;
      figures.push_back(scatter_chart({"memory_speed", "Memory against speed",
                                       "Medians; grey variants are no better than another on "
                                       "either axis. Arms that keep nothing "
                                       "are left out."},
                                      bytes, {"Generated, end to end [tokens/s]"}, points));
    }
    outcome_.report.sections.push_back({"Figures", {}, {}, std::move(figures)});
  }

  void metrics(const Variant& control) {
    const auto n = static_cast<int64_t>(blocks_);
    for (const Variant* variant : shown_) {
      const GenerateResult& last = variant->runs[blocks_ - 1];
      const auto add = [&](const char* metric, double value, const char* unit,
                           BetterDirection direction, bool timed,
                           const RatioInterval* interval = nullptr) {
        Metric entry{name(*variant), metric,    value,
                     unit,           n,         kNone,
                     kNone,          direction, {{"mode", mode_name(variant->mode)}},
                     timed};
        if (interval != nullptr) {
          entry.ci_low = interval->low.value_or(kNone);
          entry.ci_high = interval->high.value_or(kNone);
        }
        outcome_.metrics.push_back(std::move(entry));
      };
      const auto bytes = [&](const char* metric, int64_t value) {
        add(metric, static_cast<double>(value), "bytes", BetterDirection::lower, false);
      };
      add("ttft", middle(*variant, first_ms), "ms", BetterDirection::lower, true);
      add("throughput", middle(*variant, speed), "tokens/s", BetterDirection::higher, true);
      if (variant != &control) {
        const RatioInterval ratio = speedup(control, *variant, total_ms);
        add("speedup", ratio.ratio, "x", BetterDirection::higher, true, &ratio);
      }
      add("token_forwards", static_cast<double>(last.work.token_forwards), "tokens",
          BetterDirection::lower, false);
      bytes("fork_bytes_moved", last.fork_bytes_moved);
      bytes("bytes_moved", last.work.bytes_moved);
      bytes("payload", last.payload);
      bytes("storage", last.cache.live_bytes(MemoryKind::storage));
      bytes("reserved", last.cache.reserved());
      bytes("peak", last.cache.peak_total);
    }
  }

  void conclusions() {
    const Variant* reference = find(control_, Mode::forked);
    for (const Variant* variant : shown_) {
      if (variant->mode != Mode::forked) continue;
      const Variant* own = find(variant->arm, Mode::prefill);
      const GenerateResult& last = variant->runs[blocks_ - 1];
      const GenerateResult& plain = own->runs[blocks_ - 1];
      const RatioInterval first = speedup(*own, *variant, first_ms);
      std::string text =
          fmt::format("{}: with a fork all rows have their first token ", name(*variant));
      if (!first.excludes()) {
        text += "in a time not distinguishable from that without, " + ratio_text(first);
      } else {
        text += ratio_text(first) + (first.ratio > 1 ? " as fast" : " as fast, so later");
      }
      text += fmt::format("; {} token-forwards instead of {}; the forks moved {:.2f} MiB",
                          last.work.token_forwards, plain.work.token_forwards,
                          static_cast<double>(last.fork_bytes_moved) / kMebibyte);
      if (!arms_[variant->arm].traits.keeps_nothing) {
        text += fmt::format("; peak {:.2f} MiB, {}",
                            static_cast<double>(last.cache.peak_total) / kMebibyte,
                            fewer(last.cache.peak_total, plain.cache.peak_total, "without a fork"));
        if (reference != nullptr && reference != variant && !arms_[control_].traits.keeps_nothing) {
          text += fmt::format(
              " and {}", fewer(last.cache.peak_total, reference->runs[blocks_ - 1].cache.peak_total,
                               config_.control + " with one"));
        }
      }
      outcome_.report.conclusions.push_back(text + ".");
    }
  }

  const SharedPromptConfig& config_;
  const std::vector<ArmState>& arms_;
  size_t control_;
  ExperimentResult& outcome_;
  std::vector<const Variant*> shown_;
  size_t blocks_ = 0;  // in which every shown variant ran
};

}  // namespace

void fill_report(const SharedPromptConfig& config, const std::vector<ArmState>& arms,
                 size_t control, const std::vector<Variant>& variants, ExperimentResult& outcome) {
  Report(config, arms, control, variants, outcome).fill();
}

}  // namespace kvlab::experiments::shared_prompt_kind
