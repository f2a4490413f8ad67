#include "kvlab/runtime/power_simulation.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "kvlab/core/error.h"

namespace kvlab {

namespace {

using Json = nlohmann::json;

constexpr std::size_t kControl = 0, kAgain = 1, kArm = 2, kSlots = 3;

struct Line {
  std::string arm;
  std::pair<int64_t, int64_t> one;  // prompt length and batch
  int64_t order = 0;
  double ns = 0;
  bool contended = false;
};

std::vector<Line> read_lines(const std::string& file) {
  std::ifstream input(file);
  KVLAB_CHECK(input.good(), "[power.read] cannot read ", file);
  std::vector<Line> lines;
  std::string text;
  try {
    while (std::getline(input, text)) {
      const Json json = Json::parse(text);
      Line line;
      json.at("arm").get_to(line.arm);
      json.at("order").get_to(line.order);
      line.one = {json.at("prompt_len").get<int64_t>(), json.at("batch").get<int64_t>()};
      line.ns = json.at("ttft_ns").get<double>();
      for (const Json& gap : json.at("token_ns")) line.ns += gap.get<double>();
      const auto flags = json.find("flags");
      line.contended = flags != json.end() && flags->value("contended", false);
      KVLAB_CHECK(line.ns > 0, "[power.read] ", file, ", line ", lines.size() + 1,
                  ": a run takes time, got ", line.ns, " ns");
      lines.push_back(std::move(line));
    }
  } catch (const Json::exception& error) {
    throw UserError(detail::concat("[power.read] ", file, ", line ", lines.size() + 1,
                                   
                                   ": no sample of generation_benchmark. Give the folder of such a "
                                   "run (the parser says: ", error.what(), ")"));
  }
  return lines;
}

std::string measured_twice(const std::vector<Line>& lines, const std::string& file) {
  std::set<std::string> names;
  for (const Line& line : lines) names.insert(line.arm);
  for (const std::string& name : names) {
    if (names.contains(name + "_again")) return name;
  }
  throw UserError(detail::concat("[power.read] ", file, ": no arm was measured twice under the "
                                 "names X and X_again. Run with measure.aa: true"));
}

}  // namespace

RecordedTimes read_recorded_times(const std::string& samples_file, const std::string& arm) {
  std::vector<Line> lines = read_lines(samples_file);
  const std::string name = arm.empty() ? measured_twice(lines, samples_file) : arm;
  std::erase_if(lines,
                [&](const Line& line) { return line.arm != name && line.arm != name + "_again"; });
  KVLAB_CHECK(!lines.empty(), "[power.read] ", samples_file, " has no samples of the arm '", name,
              "'");
  const auto one = lines.front().one;
  std::erase_if(lines, [&](const Line& line) { return line.one != one; });
  std::stable_sort(lines.begin(), lines.end(),
                   [](const Line& a, const Line& b) { return a.order < b.order; });
  RecordedTimes times;
  times.what = detail::concat("prompt ", one.first, ", batch ", one.second, ": ", name, ", ", name,
                              "_again");
  for (const Line& line : lines) {
    times.ns.push_back(line.ns);
    times.contended.push_back(line.contended);
  }
  return times;
}

int most_blocks(const RecordedTimes& times) { return static_cast<int>(times.ns.size() / kSlots); }

Power simulate_power(const RecordedTimes& times, const PowerOptions& options) {
  KVLAB_CHECK(options.blocks >= 1 && options.trials >= 1,
              "[power.simulate] needs blocks and trials, got ", options.blocks, " and ",
              options.trials);
  KVLAB_CHECK(options.slowdown > 1, "[power.simulate] a slowdown is above 1, got ",
              options.slowdown);
  const auto blocks = static_cast<std::size_t>(options.blocks);
  const std::size_t stretch = blocks * kSlots;
  KVLAB_CHECK(times.ns.size() >= stretch, "[power.simulate] ", options.blocks,
              " blocks of three need ", stretch, " recorded times, got ", times.ns.size(),
              ". Record with measure.repeats=", (stretch + 1) / 2,
              " or more, or simulate fewer blocks");
  std::mt19937_64 random(options.seed);
  const auto below = [&](std::size_t n) -> std::size_t { return random() % n; };
  int64_t false_alarms = 0, found = 0, refused = 0;
  for (int trial = 0; trial < options.trials; ++trial) {
    const std::size_t start = below(times.ns.size() - stretch + 1);
    PairedSpeeds arm, again;
    for (std::size_t block = 0; block < blocks; ++block) {
      std::array<std::size_t, kSlots> slots{0, 1, 2};
      for (std::size_t i = kSlots; i > 1; --i) std::swap(slots[i - 1], slots[below(i)]);
      const auto index = [&](std::size_t role) { return start + block * kSlots + slots[role]; };
      const auto speed = [&](std::size_t role) { return 1e9 / times.ns[index(role)]; };
      const auto disturbed = [&](std::size_t role) -> std::size_t {
        return times.contended[index(role)] ? 1 : 0;
      };
      arm.arm.push_back(speed(kArm));
      arm.control.push_back(speed(kControl));
      arm.contended += disturbed(kArm) + disturbed(kControl);
      again.arm.push_back(speed(kAgain));
      again.control.push_back(speed(kControl));
    }
    const auto verdict = [&] {
      return compare_with_control({arm}, again, options.comparison).front().verdict;
    };
    const Verdict same = verdict();
    false_alarms += same == Verdict::faster || same == Verdict::slower ? 1 : 0;
    refused += same == Verdict::refused ? 1 : 0;
    for (double& speed : arm.arm) speed /= options.slowdown;
    found += verdict() == Verdict::slower ? 1 : 0;
  }
  return {wilson_interval(false_alarms, options.trials), wilson_interval(found, options.trials),
          wilson_interval(refused, options.trials)};
}

}  // namespace kvlab
