// What disturbed a measurement: other processes on its cores, the machine's host, a suspension.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace kvlab {

/// What happened while one sample was taken.
struct Contention {
  std::int64_t involuntary_switches = 0;  ///< how often another process got a core
  double steal_share = 0;                 ///< of the processors' time, taken by the host
  double load = 0;                        ///< the system's one-minute average at the end
  std::int64_t wall_ns = 0;
  std::int64_t cpu_ns = 0;                ///< of all threads of the process
  bool suspended = false;                 ///< it stood still for a second or more
  bool contended = false;                 ///< its time is not the arm's alone

  bool operator==(const Contention&) const = default;
};

/// As a JSON object: the `flags` of a line of samples.jsonl.
std::string contention_json(const Contention& found);

/// Judges a sample of `units` steps whose gaps were `gaps_ns`, from what was counted; sets
/// `suspended` and `contended`. `contention_rule` says when.
void judge_contention(Contention& found, std::int64_t units, std::span<const std::int64_t> gaps_ns);

/// The rule in words, as a report prints it.
std::string contention_rule();

/// Watches the process and the machine from its construction on.
class ContentionMeter {
 public:
  ContentionMeter();

  /// Counts since the construction, judged by `judge_contention`.
  Contention finish(std::int64_t units, std::span<const std::int64_t> gaps_ns) const;

 private:
  struct Counters {
    std::int64_t switches = 0, wall_ns = 0, asleep_ns = 0, cpu_ns = 0;
    double all_ticks = 0, stolen_ticks = 0;
  };
  static Counters read();

  Counters start_;
};

}  // namespace kvlab
