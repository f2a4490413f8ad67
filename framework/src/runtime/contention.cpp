#include "kvlab/runtime/contention.h"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "kvlab/runtime/arm_runs.h"
#include "kvlab/runtime/statistics.h"

namespace kvlab {

namespace {

constexpr double kMostSteal = 0.05;       // share of the processors' time
// Per second. Two programs on a core change places some 250 times; alone, 15 to 55 were counted.
constexpr double kFewestSwitches = 75;
constexpr double kMostLoad = 2;           // per processor
constexpr double kStandstillGaps = 20;    // times the median gap
constexpr std::int64_t kStandstill = 1'000'000'000;  // ns

std::int64_t clock_ns(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return now.tv_sec * std::int64_t{1'000'000'000} + now.tv_nsec;
}

double processors() { return std::max(1u, std::thread::hardware_concurrency()); }

double one_minute_load() {
  double load = 0;
  return getloadavg(&load, 1) == 1 ? load : 0;
}

}  // namespace

std::string contention_json(const Contention& found) {
  const nlohmann::ordered_json json = {{"contended", found.contended},
                                       {"suspended", found.suspended},
                                       {"involuntary_switches", found.involuntary_switches},
                                       {"steal_share", found.steal_share},
                                       {"load", found.load},
                                       {"wall_ns", found.wall_ns},
                                       {"cpu_ns", found.cpu_ns}};
  return json.dump();
}

void judge_contention(Contention& found, std::int64_t units,
                      std::span<const std::int64_t> gaps_ns) {
  if (!gaps_ns.empty()) {
    const std::vector<double> gaps(gaps_ns.begin(), gaps_ns.end());
    const double longest = *std::max_element(gaps.begin(), gaps.end());
    found.suspended = found.suspended || (longest > static_cast<double>(kStandstill) &&
                                          longest > kStandstillGaps * median(gaps));
  }
  // While a sample is taken at least one thread computes, unless it has to wait for a core.
  const bool crowded =
      found.involuntary_switches >= std::max<std::int64_t>(1, units) &&
      static_cast<double>(found.involuntary_switches) * 1e9 >=
          kFewestSwitches * static_cast<double>(found.wall_ns);
  const std::int64_t idle = found.wall_ns - found.cpu_ns;
  found.suspended =
      found.suspended || (!crowded && idle > kStandstill && idle > found.wall_ns / 2);
  found.contended = found.suspended || crowded || found.steal_share > kMostSteal ||
                    found.load > kMostLoad * processors();
}

std::string contention_rule() {
  return fmt::format(
      "A sample is flagged where its process lost a core at least once per step and {:.0f} times "
      "per second, the host took more than {:.0f} % of the processors' time, the load average was "
      "above {:.0f} per processor, or the process stood still: a gap of more than a second and "
      "{:.0f} median gaps, or more than a second and half of the sample without computing or "
      "waiting for a core. Blocks in which an arm stood still are left out of all figures.",
      kFewestSwitches, 100 * kMostSteal, kMostLoad, kStandstillGaps);
}

ContentionMeter::ContentionMeter() : start_(read()) {}

ContentionMeter::Counters ContentionMeter::read() {
  Counters now;
  now.switches = involuntary_switches();
  now.wall_ns = clock_ns(CLOCK_MONOTONIC);
  now.asleep_ns = clock_ns(CLOCK_BOOTTIME) - now.wall_ns;
  now.cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
  // cpu user nice system idle iowait irq softirq steal guest ...: guest is part of user.
  std::ifstream file("/proc/stat");
  std::string name;
  file >> name;
  constexpr int kSteal = 7;
  double ticks = 0;
  for (int field = 0; field <= kSteal && file >> ticks; ++field) {
    now.all_ticks += ticks;
    if (field == kSteal) now.stolen_ticks = ticks;
  }
  return now;
}

Contention ContentionMeter::finish(std::int64_t units,
                                   std::span<const std::int64_t> gaps_ns) const {
  const Counters now = read();
  Contention found;
  found.involuntary_switches = now.switches - start_.switches;
  found.wall_ns = now.wall_ns - start_.wall_ns;
  found.cpu_ns = now.cpu_ns - start_.cpu_ns;
  // A tick is 10 ms: in less than a tenth of a second one stolen tick says nothing.
  const double ticks = now.all_ticks - start_.all_ticks;
  if (ticks >= 10 * processors()) {
    found.steal_share = (now.stolen_ticks - start_.stolen_ticks) / ticks;
  }
  found.load = one_minute_load();
  found.suspended = now.asleep_ns - start_.asleep_ns > kStandstill;
  judge_contention(found, units, gaps_ns);
  return found;
}

}  // namespace kvlab
