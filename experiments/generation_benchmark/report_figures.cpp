// Curves, bars and scatter plots of a case.
#include <fmt/format.h>

#include <algorithm>

#include "kvlab/runtime/figures.h"
#include "kvlab/runtime/prediction_figure.h"
#include "kvlab/runtime/statistics.h"
#include "report_parts.h"

namespace kvlab::experiments {

namespace {

// Median over blocks of the time until n tokens were out, for n = 1 .. the fewest generated.
std::vector<double> elapsed_curve(const std::vector<Sample>& samples) {
  size_t tokens = SIZE_MAX;
  for (const Sample& sample : samples) {
    tokens = std::min(tokens, sample.result.token_ns.size() + 1);
  }
  std::vector<double> curve;
  for (size_t n = 1; n <= tokens && tokens != SIZE_MAX; ++n) {
    curve.push_back(median(collect(samples, [&](const Sample& sample) {
      return static_cast<double>(sample.elapsed_ns(static_cast<int64_t>(n)));
    })));
  }
  return curve;
}

// Tokens of all rows that were out when the longest-running row had `n`.
double generated_by(const Sample& sample, int64_t n) {
  int64_t total = 0;
  for (const auto& row : sample.result.tokens) {
    total += std::min(n, static_cast<int64_t>(row.size()));
  }
  return static_cast<double>(total);
}

void add_curves(ReportSection& section, const Findings& f, size_t i, MetricList& metrics) {
  std::vector<LineSeries> speeds, speedups, latencies;
  std::vector<ReferenceRule> rules = {{ReferenceRule::Axis::y, 1.0, "control"}};
  const std::vector<double> base = elapsed_curve(f.samples(f.control(), i));
  for (size_t arm = 0; arm < f.arms().size(); ++arm) {
    if (!f.shown(arm, i)) continue;
    const std::string& name = f.name(arm);
    const std::vector<double> curve = elapsed_curve(f.samples(arm, i));
    // The control once more is no arm: a broken line without marks, which says what noise is.
    const bool noise = f.is_second_control(arm);
    LineSeries speed{name, {}, noise, !noise}, speedup = speed, latency = speed;
    int64_t before = 0;
    for (const int64_t n : curve_lengths(static_cast<int64_t>(curve.size()))) {
      const auto x = static_cast<double>(n);
      const double elapsed = curve[static_cast<size_t>(n - 1)];
      speed.points.push_back({x, generated_by(f.samples(arm, i).front(), n) * 1e9 / elapsed});
      if (arm != f.control() && static_cast<size_t>(n) <= base.size()) {
        const RatioInterval faster = f.time_ratio(arm, i, n);
        speedup.points.push_back({x, faster.ratio, faster.low, faster.high});
      }
      if (before > 0) {
        const double gap = (elapsed - curve[static_cast<size_t>(before - 1)]) /
                           static_cast<double>(n - before) / kMillion;
        latency.points.push_back({static_cast<double>(f.cases()[i].one.prompt_length + n), gap});
      }
      before = n;
    }
    if (arm != f.control()) {
      const auto even = f.usual_break_even(arm, i);
      if (even) {
        metrics.add_timed(arm, i, "break_even", static_cast<double>(*even), "tokens",
                          f.samples(arm, i).size(), BetterDirection::lower);
      }
      speedups.push_back(std::move(speedup));
    }
    speeds.push_back(std::move(speed));
    if (!latency.points.empty()) latencies.push_back(std::move(latency));
  }
  const FigureAxis output{"output length [tokens]", true, 2};
  section.figures.push_back(line_chart(
      {f.file_id("tokens_per_s", i), "Tokens per second by output length",
       "Generated tokens over prefill and decode; median over blocks. Shorter outputs are the "
       "beginnings of the longest run."},
      output, {"tokens/s", true}, speeds));
  if (!speedups.empty()) {
    section.figures.push_back(line_chart(
        {f.file_id("speedup", i), "Speed-up over " + f.name(f.control()),
         "Total time of the control over total time of the arm: mean over blocks with its 95 % "
         "interval. Below 1 the control is faster."},
        output, {"times faster", true}, speedups, rules));
  }
  if (!latencies.empty()) {
    section.figures.push_back(line_chart(
        {f.file_id("latency", i), "Time per token by text length",
         "Mean gap between tokens, between the marked lengths. What grows with the text is the "
         "cost of reading (or recomputing) it."},
        {"text length [tokens]", true, 2}, {"ms per token", true}, latencies));
  }
}

void add_memory_figure(ReportSection& section, const Findings& f, size_t i) {
  std::vector<Bar> bars;
  for (size_t arm = 0; arm < f.arms().size(); ++arm) {
    if (f.arms()[arm].failure || f.samples(arm, i).empty()) continue;
    const GenerateResult& run = f.samples(arm, i).front().result;
    const auto bar = [&](const char* part, int64_t bytes) {
      bars.push_back({f.name(arm), static_cast<double>(bytes) / kMillion, {}, {}, part});
    };
    bar("payload", run.payload);
    bar("reserved", run.cache.reserved());
    bar("peak", run.cache.peak_total);
  }
  if (bars.empty()) return;
  section.figures.push_back(bar_chart(
      {f.file_id("bytes", i), "Bytes of each cache",
       "payload: live K and V at the end of the run; reserved: allocated then; peak: at the "
       "highest moment."},
      {"MB"}, bars));
}

// Reserved bytes as the text grows, and what K and V alone take of them.
void add_growth_figure(ReportSection& section, const Findings& f, size_t i) {
  std::vector<LineSeries> lines;
  std::optional<LineSeries> live;
  for (size_t arm = 0; arm < f.arms().size(); ++arm) {
    if (f.arms()[arm].failure || f.samples(arm, i).empty() || f.is_second_control(arm)) continue;
    const Sample& sample = f.samples(arm, i).front();
    if (std::all_of(sample.held.begin(), sample.held.end(),
                    [](const HeldBytes& at) { return at.reserved == 0; })) {
      continue;  // it keeps nothing between steps
    }
    const auto text_length = [&](const HeldBytes& at) {
      return static_cast<double>(f.cases()[i].one.prompt_length + at.new_tokens - 1);
    };
    LineSeries line{f.name(arm), {}};
    for (const HeldBytes& at : sample.held) {
      line.points.push_back({text_length(at), static_cast<double>(at.reserved) / kMillion});
    }
    // Rows of one length hold a straight line of bytes; rows that stopped early do not.
    const bool straight = f.cases()[i].gate[arm].exact_arm && f.cases()[i].one.batch == 1;
    if (!live && straight && sample.result.payload > 0) {
      live = LineSeries{"live K and V of " + f.name(arm), {}, true, false};
      const double per_token = static_cast<double>(sample.result.payload) /
                               static_cast<double>(f.held_tokens(arm, i));
      for (const HeldBytes& at : sample.held) {
        live->points.push_back({text_length(at), per_token * text_length(at) / kMillion});
      }
    }
    lines.push_back(std::move(line));
  }
  if (lines.empty()) return;
  if (live) lines.push_back(std::move(*live));
  section.figures.push_back(line_chart(
      {f.file_id("bytes_by_length", i), "Bytes by text length",
       "Reserved by the cache at each length of the first block's run, as counted where memory is "
       "allocated. Room for a text that is not there yet lies above the dashed line."},
      {"text length [tokens]", true, 2}, {"reserved [MB]", true}, lines));
}

// What holds less and is faster beats the others, in this run at least.
void add_memory_speed_figure(ReportSection& section, const Findings& f, size_t i) {
  std::vector<ScatterPoint> points;
  for (size_t arm = 0; arm < f.arms().size(); ++arm) {
    if (!f.shown(arm, i) || f.is_second_control(arm)) continue;
    const auto ms = collect(f.samples(arm, i),
                            [](const Sample& sample) { return 1e3 / sample.tokens_per_second(); });
    ScatterPoint point{static_cast<double>(f.samples(arm, i).front().result.cache.peak_total) /
                           kMillion,
                       median(ms), f.name(arm)};
    point.y_low = quantile(ms, 0.25);
    point.y_high = quantile(ms, 0.75);
    points.push_back(std::move(point));
  }
  if (points.size() < 2) return;
  mark_dominated(points, BetterDirection::lower, BetterDirection::lower);
  section.figures.push_back(scatter_chart(
      {f.file_id("memory_latency", i), "Memory against latency",
       "Median time per generated token with its interquartile range, and the most bytes that the "
       "cache held. Grey points are beaten on both axes; a difference inside the bars is none."},
      {"peak bytes [MB]"}, {"ms per generated token", true}, points));
}

void add_prediction_figure(ReportSection& section, const Findings& f, size_t i) {
  std::vector<PredictedPoint> points;
  for (size_t arm = 0; arm < f.arms().size(); ++arm) {
    if (f.arms()[arm].failure || f.samples(arm, i).empty() || f.is_second_control(arm)) continue;
    const Sample& sample = f.samples(arm, i).front();
    const MemoryUsage& measured = sample.result.cache;
    const auto add = [&](const char* what, int64_t predicted, int64_t found) {
      points.push_back({f.name(arm), what, static_cast<double>(predicted) / kMillion,
                        static_cast<double>(found) / kMillion});
    };
    add("reserved", sample.estimated.reserved(), measured.reserved());
    add("peak", sample.estimated.peak_total, measured.peak_total);
  }
  if (points.empty()) return;
  section.figures.push_back(prediction_chart(
      {f.file_id("predicted_measured", i), "Memory predicted against measured",
       "Reserved and peak bytes of each arm's cache: computed from the shape before the run, and "
       "counted where memory is allocated. On the dashed line they agree."},
      "bytes [MB]", points));
}

// Only where some arm is approximate or has other numbers than the control: what its memory and
// time buy in distance.
void add_quality_figures(ReportSection& section, const Findings& f, size_t i,
                         MetricList& metrics) {
  const auto& gate = f.cases()[i].gate;
  std::vector<ScatterPoint> memory, latency;
  ReportTable table;
  table.id = f.file_id("quality", i);
  table.title = "Distance from the control";
  table.columns = {{"arm", "arm", "", {}},
                   {"kl", "KL(control || arm)", "nats/token", BetterDirection::lower},
                   {"top1", "top-1 agreement", "%", BetterDirection::higher},
                   {"nll_change", "NLL change", "nats/token", BetterDirection::lower},
                   {"tokens", "tokens", "", {}}};
  for (size_t arm = 0; arm < f.arms().size(); ++arm) {
    if (!f.shown(arm, i) || gate[arm].lossless()) continue;
    const LogitComparison& distance = gate[arm].distance;
    table.rows.push_back({text_cell(f.name(arm)), number_cell(distance.mean_kl, 4),
                          number_cell(100 * distance.top1_agreement(), 1),
                          number_cell(distance.mean_nll_change, 4),
                          count_cell(distance.tokens)});
    metrics.add(arm, i, "kl", distance.mean_kl, "nats/token",
               static_cast<size_t>(distance.tokens), BetterDirection::lower);
  }
  if (table.rows.empty()) return;
  table.note =
      "Teacher-forced on the prompt and the control's continuation, at equal chunking. Means over "
      "the tokens of one text, which depend on each other: no interval.";
  section.tables.push_back(std::move(table));
  for (size_t arm = 0; arm < f.arms().size(); ++arm) {
    if (!f.shown(arm, i) || f.is_second_control(arm)) continue;
    const double kl = gate[arm].kl();
    const Sample& sample = f.samples(arm, i).front();
    memory.push_back({static_cast<double>(sample.result.cache.peak_total) / kMillion, kl,
                      f.name(arm)});
    latency.push_back({1e3 / f.speed(arm, i), kl, f.name(arm)});
  }
  mark_dominated(memory, BetterDirection::lower, BetterDirection::lower);
  mark_dominated(latency, BetterDirection::lower, BetterDirection::lower);
  const FigureAxis quality{"KL to the control [nats/token]"};
  section.figures.push_back(scatter_chart({f.file_id("memory_quality", i), "Memory against quality",
                                           "Grey points are beaten on both axes."},
                                          {"peak bytes [MB]"}, quality, memory));
  section.figures.push_back(scatter_chart({f.file_id("latency_quality", i),
                                           "Latency against quality",
                                           "Grey points are beaten on both axes."},
                                          {"ms per generated token", true}, quality,
                                          latency));
}

}  // namespace

void add_figures(ReportSection& section, const Findings& f, size_t i, MetricList& metrics) {
  if (f.shown(f.control(), i)) add_curves(section, f, i, metrics);
  add_memory_figure(section, f, i);
  add_growth_figure(section, f, i);
  add_prediction_figure(section, f, i);
  add_memory_speed_figure(section, f, i);
  add_quality_figures(section, f, i, metrics);
}

}  // namespace kvlab::experiments
