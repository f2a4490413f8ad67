// When each part of each layer ran: the events behind a timeline, and the Trace Event Format that
// Perfetto and Chrome show.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace kvlab {

/// Collects the parts of steps while a session profiles into it.
class StepTimeline {
 public:
  using Clock = std::chrono::steady_clock;

  /// Layer of a part that belongs to the whole step.
  static constexpr int kNoLayer = -1;

  struct Part {
    const char* name;    ///< "qkv", "attention": a literal
    int layer;           ///< or kNoLayer
    int64_t step;        ///< counted from 0
    int64_t start_ns;    ///< since the timeline was made
    int64_t duration_ns;
  };

  /// Adds a part. Requires: parts come in the order in which they ran.
  void add(const char* name, int layer, int64_t step, Clock::time_point start,
           Clock::time_point end);

  const std::vector<Part>& parts() const { return parts_; }

 private:
  Clock::time_point origin_ = Clock::now();
  std::vector<Part> parts_;
};

/// Writes the parts as Trace Event Format, JSON: complete events in microseconds, each step around its
/// layers and each layer around its parts. `process` names what ran.
std::string trace_json(const StepTimeline& timeline, const std::string& process);

}  // namespace kvlab
