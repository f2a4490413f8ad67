// Measures ratios in one process and compares them with limits, or prints all of them as a table.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "kvlab/core/error.h"
#include "kvlab/kernels/target.h"
#include "kvlab/runtime/config_reader.h"
#include "kvlab/runtime/process.h"
#include "kvlab/runtime/run_folder.h"
#include "kvlab/runtime/statistics.h"
#include "tests/benchmarks/ratios.h"

namespace kvlab::benchmarks {
namespace {

struct Choices {
  std::string thresholds, only, json;
  int blocks = 9;
  bool table = false, list = false;
};

struct Guard {
  std::string ratio;
  double limit = 0;
};

std::vector<Guard> read_guards(const std::string& path) {
  ConfigReader reader(load_config_file(path));
  std::vector<Guard> guards;
  for (ConfigReader& entry : reader.children("guards")) {
    Guard guard;
    guard.ratio = entry.text("ratio");
    guard.limit = entry.number("goal", {.minimum = 0, .minimum_open = true}) *
                  entry.number("slack", {.minimum = 1});
    guards.push_back(guard);
  }
  reader.finish();
  return guards;
}

bool chosen(const std::string& name, const Choices& choices) {
  return name.find(choices.only) != std::string::npos;
}

void print(const std::string& line) {
  std::puts(line.c_str());
  std::fflush(stdout);
}

// Returns whether it passes. A ratio above its limit is measured a second time, longer: a neighbour
// may have been at work.
bool guard_passes(const Guard& guard, const Ratio& ratio, int blocks) {
  std::string remarks;
  for (const int attempt : {1, 2}) {
    const RatioSamples samples = ratio.measure(blocks * attempt, ProbeUse::none);
    const double value = median(samples.ratios);
    const bool passes = value <= guard.limit;
    if (samples.disturbed > 0) {
      remarks += fmt::format(" ({} of {} blocks disturbed)", samples.disturbed, blocks * attempt);
    }
    if (passes || attempt == 2) {
      print(fmt::format("guard {} {:.4f} {:.4f} {}{}", ratio.name, value, guard.limit,
                        passes ? "ok" : "FAILED", remarks));
      return passes;
    }
    remarks += fmt::format(" (first attempt: {:.4f})", value);
  }
  return false;
}

int run_guards(const std::vector<Ratio>& ratios, const Choices& choices) {
  int run = 0;
  std::vector<std::string> failed;
  for (const Guard& guard : read_guards(choices.thresholds)) {
    const auto found = std::find_if(ratios.begin(), ratios.end(),
                                    [&](const Ratio& ratio) { return ratio.name == guard.ratio; });
    KVLAB_CHECK(found != ratios.end(), "[bench_guards] ", choices.thresholds, " names '",
                guard.ratio, "', which no ratio is called. --list shows all");
    if (!chosen(guard.ratio, choices)) continue;
    ++run;
    if (!guard_passes(guard, *found, choices.blocks)) failed.push_back(guard.ratio);
  }
  KVLAB_CHECK_GE(run, 1, "[bench_guards] guards chosen by --only '", choices.only, "'");
  for (const std::string& name : failed) print("failed: " + name);
  print(fmt::format("{} passed, {} failed", run - static_cast<int>(failed.size()), failed.size()));
  return failed.empty() ? 0 : 1;
}

nlohmann::json environment_json(const Registry& registry) {
  nlohmann::json facts;
  for (const ReportFact& fact : describe_environment(registry)) facts[fact.name] = fact.value;
  facts["SIMD target"] = kernels::target();
  return facts;
}

// Median over the blocks of the share of the probe, and GB/s: "0.86 (34.1)".
std::string share_of_probe(const std::vector<double>& speed, const std::vector<double>& probe) {
  std::vector<double> shares;
  for (size_t i = 0; i < speed.size(); ++i) shares.push_back(speed[i] / probe[i]);
  return fmt::format("{:.2f} ({:.1f})", median(shares), median(speed) / 1e9);
}

int print_table(const std::vector<Ratio>& ratios, const Choices& choices,
                const Registry& registry) {
  nlohmann::json rows = nlohmann::json::array();
  const nlohmann::json environment = environment_json(registry);
  print(fmt::format("{}, {}; median of {} blocks (lowest to highest)\n",
                    environment.value("CPU", "unknown CPU"), kernels::target(), choices.blocks));
  print(
      "| ratio | threads | over the other | share of the probe (GB/s) | the other's | disturbed |\n"
      "|---|---|---|---|---|---|");
  for (const Ratio& ratio : ratios) {
    if (!chosen(ratio.name, choices)) continue;
    const RatioSamples samples = ratio.measure(choices.blocks, ProbeUse::beside);
    const auto [lowest, highest] =
        std::minmax_element(samples.ratios.begin(), samples.ratios.end());
    std::string top, bottom;
    if (!samples.probe.empty()) {
      top = share_of_probe(samples.top_speed, samples.probe);
      bottom = share_of_probe(samples.bottom_speed, samples.probe);
    }
    const double middle = median(samples.ratios);
    print(fmt::format("| {} | {} | {:.3f} ({:.3f} to {:.3f}) | {} | {} | {} |", ratio.name,
                      ratio.threads, middle, *lowest, *highest, top, bottom, samples.disturbed));
    rows.push_back({{"name", ratio.name},
                    {"compares", ratio.compares},
                    {"threads", ratio.threads},
                    {"median", middle},
                    {"ratios", samples.ratios},
                    {"disturbed_blocks", samples.disturbed},
                    {"bytes_per_second", samples.top_speed},
                    {"bytes_per_second_of_the_other", samples.bottom_speed},
                    {"probe_bytes_per_second", samples.probe}});
  }
  KVLAB_CHECK(!rows.empty(), "[bench_guards] no ratio has '", choices.only,
              "' in its name. --list shows all");
  if (!choices.json.empty()) {
    write_file_atomically(choices.json,
                          nlohmann::json{{"environment", environment}, {"ratios", rows}}.dump(1));
  }
  return 0;
}

int run(const Choices& choices) {
  prepare_process();
  BenchMachine machine;
  const int most = BenchMachine::most_threads();
  std::vector<int> counts{most};
  if (choices.table && most > 1) counts.insert(counts.begin(), 1);
  const std::vector<Ratio> ratios = all_ratios(machine, counts);
  if (choices.list) {
    for (const Ratio& ratio : ratios) print(ratio.name + ": " + ratio.compares);
    return 0;
  }
  return choices.table ? print_table(ratios, choices, machine.registry())
                       : run_guards(ratios, choices);
}

}  // namespace
}  // namespace kvlab::benchmarks

int main(int argc, char** argv) {
  kvlab::benchmarks::Choices choices;
  choices.thresholds = KVLAB_SOURCE_DIR "/tests/benchmarks/thresholds.yaml";
  CLI::App app{
      "Compares ratios of times, measured in turns in one process, with the limits of a file. Exit "
      "code 1 where one is above its limit."};
  app.add_option("--thresholds", choices.thresholds, "the limits")->capture_default_str();
  app.add_option("--only", choices.only, "only ratios with this in their name");
  app.add_option("--blocks", choices.blocks, "turns of each arm")
      ->capture_default_str()
      ->check(CLI::Range(5, 1000));
  app.add_flag("--table", choices.table, "print every ratio as Markdown instead, without limits");
  app.add_option("--json", choices.json, "with --table: also write the samples to this file");
  app.add_flag("--list", choices.list, "what each ratio compares");
  CLI11_PARSE(app, argc, argv);
  try {
    return kvlab::benchmarks::run(choices);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kvlab_bench_guards: %s\n", error.what());
    return 2;
  }
}
