#include "kvlab/model/step_timeline.h"

#include <nlohmann/json.hpp>

namespace kvlab {

namespace {

using Json = nlohmann::ordered_json;

Json event(const std::string& name, const char* category, int64_t start_ns, int64_t end_ns,
           const Json& arguments) {
  constexpr double kNanoseconds = 1e3;  // of a microsecond
  return {{"name", name},
          {"cat", category},
          {"ph", "X"},
          {"ts", static_cast<double>(start_ns) / kNanoseconds},
          {"dur", static_cast<double>(end_ns - start_ns) / kNanoseconds},
          {"pid", 1},
          {"tid", 1},
          {"args", arguments}};
}

Json label(const char* kind, const std::string& name) {
  return {{"name", kind}, {"ph", "M"}, {"pid", 1}, {"tid", 1}, {"args", {{"name", name}}}};
}

int64_t end_of(const StepTimeline::Part& part) { return part.start_ns + part.duration_ns; }

}  // namespace

void StepTimeline::add(const char* name, int layer, int64_t step, Clock::time_point start,
                       Clock::time_point end) {
  const auto nanoseconds = [](Clock::duration time) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
  };
  parts_.push_back({name, layer, step, nanoseconds(start - origin_), nanoseconds(end - start)});
}

std::string trace_json(const StepTimeline& timeline, const std::string& process) {
  Json events = Json::array();
  events.push_back(label("process_name", process));
  events.push_back(label("thread_name", "steps"));
  const auto& parts = timeline.parts();
  for (size_t first = 0; first < parts.size();) {
    const int64_t step = parts[first].step;
    size_t last = first;
    while (last + 1 < parts.size() && parts[last + 1].step == step) ++last;
    events.push_back(event("step " + std::to_string(step), "step", parts[first].start_ns,
                           end_of(parts[last]), {{"step", step}}));
    for (size_t i = first; i <= last; ++i) {
      const int layer = parts[i].layer;
      const bool begins = i == first || parts[i - 1].layer != layer;
      if (layer != StepTimeline::kNoLayer && begins) {
        size_t end = i;
        while (end < last && parts[end + 1].layer == layer) ++end;
        events.push_back(event("layer " + std::to_string(layer), "layer", parts[i].start_ns,
                               end_of(parts[end]), {{"step", step}, {"layer", layer}}));
      }
      Json arguments{{"step", step}};
      if (layer != StepTimeline::kNoLayer) arguments["layer"] = layer;
      events.push_back(
          event(parts[i].name, "part", parts[i].start_ns, end_of(parts[i]), arguments));
    }
    first = last + 1;
  }
  const Json trace{{"traceEvents", events}, {"displayTimeUnit", "ns"}};
  return trace.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace kvlab
