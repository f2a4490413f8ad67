#include "kvlab/runtime/arms.h"

#include "kvlab/runtime/config_error.h"

namespace kvlab {

SessionOptions arm_session_options(const RuntimeConfig& runtime, const ArmConfig& arm, int64_t rows,
                                   int64_t max_length) {
  SessionOptions options;
  options.cache = arm.cache;
  options.attention = arm.attention.value_or(runtime.attention);
  options.cache_dtype = arm.cache_dtype.value_or(runtime.cache);
  options.row_tokens = runtime.row_tokens;
  options.rows = rows;
  options.max_length = max_length;
  options.chunk = runtime.chunk;
  options.memory_limit = runtime.memory_limit;
  return options;
}

bool has_position_table(const ModelSource& source, const ModelConfig& model,
                        const ComponentSpec& position) {
  // Random weights draw the table they need; a checkpoint has one only where it was trained with
  // it.
  return source.type == ModelSourceType::random || model.position.type == position.type;
}

void check_arms(const ConfigReader& reader, const std::vector<ArmConfig>& arms,
                const RuntimeConfig& runtime, const ModelSource& source, const Registry& registry,
                int64_t rows, int64_t max_length) {
  const ModelConfig model = model_shape(source);
  std::string reasons;
  std::vector<ConfigProblem> problems;
  for (const ArmConfig& arm : arms) {
    const ComponentSpec position = arm.position.value_or(model.position);
    (void)registry.cache_options(arm.cache);
    (void)registry.attention_options(arm.attention.value_or(runtime.attention));
    (void)registry.position_options(position);
    ModelConfig used = model;
    used.position = position;
    for (const std::string& reason :
         incompatibilities(used, registry, arm_session_options(runtime, arm, rows, max_length),
                           has_position_table(source, model, position))) {
      reasons += "\n  - arm '" + arm.name + "': " + reason;
      problems.push_back({arm.where, "arms." + std::to_string(&arm - arms.data()),
                          arm.where + ": arm '" + arm.name + "' cannot work with model '" +
                              source.name + "': " + reason});
    }
  }
  if (reasons.empty()) return;
  try {
    reader.fail("arms", "these cannot work together with model '" + source.name + "':" + reasons);
  } catch (const ConfigError& error) {
    throw ConfigError(error.what(), std::move(problems));
  }
}

}  // namespace kvlab
