#include "kvlab/model/step_timeline.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace kvlab {
namespace {

using Json = nlohmann::json;
using std::chrono::microseconds;

TEST(StepTimeline, WritesStepsAroundLayersAroundParts) {
  StepTimeline timeline;
  const auto start = StepTimeline::Clock::now();
  const auto at = [&](int time) { return start + microseconds(time); };
  timeline.add("cache begin step", StepTimeline::kNoLayer, 0, at(0), at(1));
  timeline.add("qkv", 0, 0, at(1), at(4));
  timeline.add("attention", 0, 0, at(4), at(6));
  timeline.add("qkv", 1, 0, at(7), at(9));
  timeline.add("logits", StepTimeline::kNoLayer, 0, at(9), at(12));
  timeline.add("qkv", 0, 1, at(20), at(22));

  const Json trace = Json::parse(trace_json(timeline, "a \"name\""));
  std::vector<std::string> names;
  std::vector<double> durations;
  for (const Json& event : trace.at("traceEvents")) {
    if (event.at("ph") != "X") continue;
    names.push_back(event.at("name"));
    durations.push_back(event.at("dur"));
  }
  EXPECT_EQ(names, (std::vector<std::string>{"step 0", "cache begin step", "layer 0", "qkv",
                                             "attention", "layer 1", "qkv", "logits", "step 1",
                                             "layer 0", "qkv"}));
  EXPECT_EQ(durations, (std::vector<double>{12, 1, 5, 3, 2, 2, 2, 3, 2, 2, 2}));
  EXPECT_EQ(trace.at("traceEvents").at(0).at("args").at("name"), "a \"name\"");
}

TEST(StepTimeline, WithoutPartsIsAnEmptyTrace) {
  const Json trace = Json::parse(trace_json(StepTimeline(), "none"));
  for (const Json& event : trace.at("traceEvents")) EXPECT_EQ(event.at("ph"), "M");
}

}  // namespace
}  // namespace kvlab
