// Results as JSON and back: the lines of samples.jsonl, and what arms in processes of their own
// say.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "equality_gate.h"
#include "measurement.h"

namespace kvlab::experiments {

/// Everything of a sample; `bytes` repeats the figures that are mostly wanted.
nlohmann::ordered_json sample_json(const Sample& sample);

/// Throws where something is missing or of another type, and UserError where it cannot be a sample
/// of the case.
Sample sample_from_json(const nlohmann::json& json, const Case& one);

nlohmann::ordered_json gate_json(const GateResult& gate);

/// The checks get `arm` as their arm. Throws as above.
GateResult gate_from_json(const nlohmann::json& json, const std::string& arm);

nlohmann::ordered_json facts_json(const ModelFacts& facts);
ModelFacts facts_from_json(const nlohmann::json& json);

/// What an arm's process is asked for.
struct Request {
  std::string what;  ///< gate, run or trace
  size_t case_index = 0;
};
std::string request_text(const std::string& what, size_t case_index);
Request request_from_text(const std::string& text);

}  // namespace kvlab::experiments
