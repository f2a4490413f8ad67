// The parts that experiment configs share. An experiment kind takes those it needs from the
// top-level reader, reads its own keys beside them, and then calls `finish` on the reader.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "kvlab/core/component.h"
#include "kvlab/model/model_config.h"
#include "kvlab/runtime/config_node.h"
#include "kvlab/runtime/config_reader.h"

namespace kvlab {

enum class OverflowPolicy { stop, error };

/// `runtime:` how a model is run. `dtype` sets weights, activations and cache; `weights` and
/// `cache_dtype` override it.
struct RuntimeConfig {
  int threads = 1;  ///< default: all hardware threads
  at::ScalarType weights = at::kFloat;  ///< kChar: int8 codes with a scale per group of 32
  at::ScalarType activations = at::kFloat;
  at::ScalarType cache = at::kFloat;
  ComponentSpec attention{"fused", {}, ""};
  /// Most packed tokens whose products run on the row kernels; 0 = where this machine's library
  /// becomes faster, measured; -1 = none, library products only.
  int64_t row_tokens = 0;
  int64_t chunk = 0;  ///< prefill chunk in tokens; 0 = the whole prompt at once
  OverflowPolicy overflow = OverflowPolicy::error;  ///< where a text outgrows the context
  std::optional<int64_t> memory_limit;              ///< bytes
};

enum class SamplerType { greedy, sample };

/// `sampler:` how the next token is chosen.
struct SamplerConfig {
  SamplerType type = SamplerType::greedy;
  double temperature = 1.0;  ///< > 0
  int64_t top_k = 0;         ///< 0 = off
  double top_p = 1.0;        ///< in (0, 1]
  uint64_t seed = 0;
};

/// `measure:` how often and in which order arms are timed.
struct MeasureConfig {
  int repeats = 5;
  int warmup = 1;
  bool interleave = true;
  uint64_t seed = 7;
};

/// Where arms run. A process of its own keeps an arm that crashes from taking the others along.
enum class Isolation { none, process };

/// `limits:` what one arm may use where it runs in a process of its own.
struct ArmLimits {
  std::optional<double> seconds;        ///< wall time of all its work; loading is not counted
  std::optional<int64_t> memory_bytes;  ///< beyond what it holds once its model is loaded
};

/// One variant of an experiment.
struct ArmConfig {
  std::string name;
  ComponentSpec cache;
  std::optional<ComponentSpec> attention;      ///< instead of runtime.attention
  std::optional<at::ScalarType> cache_dtype;   ///< instead of runtime.cache_dtype
  std::optional<ComponentSpec> position;       ///< instead of the model's
  std::optional<ArmLimits> limits;             ///< instead of the experiment's
  std::string where;
};

enum class ModelSourceType { random, gguf, huggingface };

/// `model:` where weights come from.
struct ModelSource {
  std::string name;
  ModelSourceType type = ModelSourceType::random;
  uint64_t seed = 0;                     ///< of random weights
  std::string path;                      ///< absolute; empty for random weights
  std::optional<std::string> tokenizer;  ///< absolute path, where it is not part of the model
  ModelConfig shape;                     ///< complete for random weights, else the stated keys
  std::set<std::string> stated;          ///< keys that `shape:` names
  std::string where;
};

/// The head of every experiment file. The kind reads the rest from `reader`.
struct ExperimentConfig {
  std::string schema;  ///< kvlab/1
  std::string kind;    ///< `experiment:`
  std::string question;
  std::string title;   ///< defaults to the question
  std::optional<std::string> primary_metric;
  std::vector<std::string> plugins;  ///< libraries to load first, absolute paths
  ConfigNode root;
  ConfigReader reader;  ///< over `root`; call `finish` on it once all keys are taken
};

/// What kinds that compare caches share.
struct ComparisonConfig {
  ModelSource model;
  std::vector<ArmConfig> arms;
  std::string control;  ///< names an arm
  RuntimeConfig runtime;
  MeasureConfig measure;
  Isolation isolation = Isolation::none;
  ArmLimits limits;  ///< of each arm, where it has none of its own
};

/// Reads `schema`, `experiment`, `question`, `title`, `primary_metric` and `plugins`. Throws
/// UserError, or MissingError for a library that does not exist.
ExperimentConfig parse_experiment(const ConfigNode& root);

/// Reads `model`, `arms`, `control`, `runtime`, `measure`, `isolation` and `limits` of a top-level
/// reader.
ComparisonConfig parse_comparison(ConfigReader& reader);

// Each of these takes one key of `reader`; `runtime`, `measure`, `sampler`, `isolation`, `limits`
// may be absent and then have their defaults; the others are required. All throw UserError.

ModelSource parse_model(ConfigReader& reader, const std::string& key = "model");
std::vector<ModelSource> parse_models(ConfigReader& reader, const std::string& key = "models");

/// `isolation: none` or `process`; absent: none.
Isolation parse_isolation(ConfigReader& reader, const std::string& key = "isolation");

/// `limits: {seconds: 60, memory: 2GB}`, one of them or both; absent: no limit.
ArmLimits parse_limits(ConfigReader& reader, const std::string& key = "limits");

/// Names are unique and made of letters, digits, '_', '.' and '-'. Limits of an arm need
/// `isolation: process` beside `key`.
std::vector<ArmConfig> parse_arms(ConfigReader& reader, const std::string& key = "arms");

/// Reads `control`, which must name one of `arms`.
std::string parse_control(ConfigReader& reader, const std::vector<ArmConfig>& arms);

RuntimeConfig parse_runtime(ConfigReader& reader, const std::string& key = "runtime");
SamplerConfig parse_sampler(ConfigReader& reader, const std::string& key = "sampler");
MeasureConfig parse_measure(ConfigReader& reader, const std::string& key = "measure");

/// Reads a model file (configs/models/*.yaml): the map that `model:` holds, on its own.
ModelSource load_model_source(const std::string& path,
                              const std::vector<std::string>& overrides = {});

/// Compares the stated keys of `source.shape` with the shape found in the checkpoint. Throws
/// UserError naming the first key that differs, with both values.
void check_stated_shape(const ModelSource& source, const ModelConfig& found);

/// "f32" or "bf16". Throws UserError for anything else.
at::ScalarType parse_dtype(const std::string& text);

/// As `parse_dtype`, and "int8" (kChar).
at::ScalarType parse_weight_type(const std::string& text);

/// "f32", "bf16" or "int8".
std::string dtype_name(at::ScalarType type);

}  // namespace kvlab
