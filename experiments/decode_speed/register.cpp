#include "decode_speed_experiment.h"
#include "kvlab/runtime/config_schema.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::experiments {

namespace {

// Together they reach every key in every form: what the schema knows of this kind.
constexpr const char* kOneModel = R"(
arms: [{name: a, cache: none}]
control: a
cases:
  prompt: {ids: [1]}
  depths: [0]
  tokens: 1
  gate_tokens: 1
  precisions: [{weights: f32, cache: f32}]
  probe: 16MiB
runtime: {threads: 1}
measure: {repeats: 1}
)";
constexpr const char* kSeveralModels = R"(]
arms: [{name: a, cache: none}]
control: a
cases: {prompt: {ids: [1]}, depths: [0], tokens: 1, gate_tokens: 1,
        precisions: [{weights: f32, cache: f32}]}
)";

}  // namespace

void register_decode_speed(Registry& registry) {
  ExperimentEntry entry;
  entry.info = {
      "decode_speed",
      "Time of a decode step by cache, depth, element types and batch, beside the time that "
      "reading its bytes takes, and what limits it.",
      "",
      {}};
  entry.info.examples = {detail::concat("model: ", kExampleModel, kOneModel),
                         detail::concat("models: [", kExampleModel, kSeveralModels)};
  entry.create = [](ExperimentConfig& config, const Registry& known) {
    return std::make_unique<decode_speed_kind::DecodeSpeed>(config, known);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::experiments
