#include "kvlab/runtime/config_schema.h"

#include <algorithm>
#include <utility>

#include "kvlab/runtime/config_error.h"
#include "kvlab/runtime/experiment.h"
#include "kvlab/runtime/experiment_config.h"
#include "kvlab/runtime/prompt.h"
#include "kvlab/runtime/registry.h"

namespace kvlab {

namespace {

// Readers are reached through experiment kinds that know nothing of recordings, so the one that is
// on is found by thread.
thread_local SchemaRecording* current_recording = nullptr;

constexpr const char* kHead = R"(
schema: kvlab/1
question: example
title: example
primary_metric: tokens/s
)";

// Every key of the shared parts, in every form.
constexpr const char* kModels = R"(
models:
  - name: random
    source: {type: random, seed: 0}
    tokenizer: folder
    shape: {vocabulary: 8, context: 8, d_model: 4, layers: 1, n_heads: 1, n_kv_heads: 1, d_mlp: 4,
            norm: rmsnorm, mlp: swiglu, position: none, stop_tokens: [0]}
  - name: file
    source: {type: gguf, path: file}
)";
constexpr const char* kArms = R"(
isolation: process
limits: {seconds: 1, memory: 1GB}
arms:
  - {name: a, cache: none, limits: {seconds: 1}}
)";
constexpr const char* kRuntime = "runtime: {threads: 1}";
constexpr const char* kMeasure = "measure: {repeats: 1}";
constexpr const char* kSampler = "sampler: {type: sample}";
constexpr const char* kPrompts = R"(
prompt:
  - {text: a, tokens: 1}
  - {ids: [0]}
  - {random: 0}
)";

void collect_parts(const MapSchema& map, std::map<std::string, MapSchema>& parts) {
  for (const KeySchema& key : map.keys) {
    for (const ValueForm& form : key.forms) {
      const MapSchema* below = form.map                  ? form.map.get()
                               : form.item != nullptr ? form.item->map.get()
                                                         : nullptr;
      if (below == nullptr) continue;
      collect_parts(*below, parts);
      if (!below->part.empty() && !parts.contains(below->part)) parts[below->part] = *below;
    }
  }
}

template <typename Read>
MapSchema record(const std::string& yaml, const Read& read) {
  const auto root = std::make_shared<MapSchema>();
  const ConfigNode node = parse_config_text(yaml, "example");
  {
    const SchemaRecording recording(root, true);
    read(node);
  }
  return *root;
}

MapSchema record_kind(const ExperimentEntry& entry, const Registry& registry) {
  const auto root = std::make_shared<MapSchema>();
  for (const std::string& example : entry.info.examples) {
    const std::string text =
        detail::concat(kHead, "experiment: ", entry.info.name, "\n", example);
    try {
      const ConfigNode node = parse_config_text(text, "example of " + entry.info.name);
      const SchemaRecording recording(root, true);
      ExperimentConfig config = parse_experiment(node);
      const std::unique_ptr<Experiment> experiment = entry.create(config, registry);
      config.reader.finish();
      // Reading arms asks for them in every kind; those that cannot isolate refuse them afterwards.
      if (!experiment->isolates_arms()) {
        std::erase_if(root->keys, [](const KeySchema& key) {
          return key.name == "isolation" || key.name == "limits";
        });
      }
    } catch (const UserError& error) {
      throw UserError(detail::concat("[runtime.config_schema] the experiment ", entry.info.name,
                                     " from ", entry.origin, " refuses its own example: ",
                                     error.what()));
    }
  }
  return *root;
}

}  // namespace

const KeySchema* MapSchema::find(std::string_view key) const {
  for (const KeySchema& known : keys) {
    if (known.name == key) return &known;
  }
  return nullptr;
}

KeySchema& MapSchema::at(std::string_view key) {
  for (KeySchema& known : keys) {
    if (known.name == key) return known;
  }
  KeySchema fresh;
  fresh.name = key;
  keys.push_back(std::move(fresh));
  return keys.back();
}

std::vector<std::string> MapSchema::names() const {
  std::vector<std::string> names;
  for (const KeySchema& key : keys) names.push_back(key.name);
  return names;
}

const MapSchema& ConfigSchema::resolve(const MapSchema& map) const {
  const auto part = parts.find(map.part);
  return map.part.empty() || part == parts.end() ? map : part->second;
}

ConfigSchema record_config_schema(const Registry& registry, std::string_view only_kind) {
  ConfigSchema schema;
  const auto add_parts = [&](const std::string& yaml, const auto& read) {
    collect_parts(record(yaml, read), schema.parts);
  };
  add_parts(kModels, [](const ConfigNode& node) {
    ConfigReader reader(node);
    parse_models(reader);
  });
  add_parts(kArms, [](const ConfigNode& node) {
    ConfigReader reader(node);
    parse_arms(reader);
    parse_limits(reader);
  });
  add_parts(kRuntime, [](const ConfigNode& node) {
    ConfigReader reader(node);
    parse_runtime(reader);
  });
  add_parts(kMeasure, [](const ConfigNode& node) {
    ConfigReader reader(node);
    parse_measure(reader);
  });
  add_parts(kSampler, [](const ConfigNode& node) {
    ConfigReader reader(node);
    parse_sampler(reader);
  });
  add_parts(kPrompts, [](const ConfigNode& node) {
    ConfigReader reader(node);
    read_prompts(reader, "prompt");
  });
  schema.head = record(std::string(kHead) + "experiment: example\n",
                       [](const ConfigNode& node) { parse_experiment(node); });
  for (const ExperimentEntry& entry : registry.experiments()) {
    if (entry.info.examples.empty()) continue;
    if (!only_kind.empty() && entry.info.name != only_kind) continue;
    schema.kinds[entry.info.name] = record_kind(entry, registry);
  }
  return schema;
}

SchemaRecording::SchemaRecording(std::shared_ptr<MapSchema> root, bool examples)
    : root_(std::move(root)), examples_(examples) {
  KVLAB_INVARIANT(current_recording == nullptr, "[runtime.config_schema] two recordings at once");
  current_recording = this;
}

SchemaRecording::~SchemaRecording() { current_recording = nullptr; }

SchemaRecording* SchemaRecording::current() { return current_recording; }

std::shared_ptr<MapSchema> SchemaRecording::attach(const ConfigNode* node,
                                                   std::shared_ptr<MapSchema> schema) {
  if (!schema && root_) schema = std::exchange(root_, nullptr);
  if (schema) ++schema->visits;
  schemas_[node] = schema;
  return schema;
}

std::shared_ptr<MapSchema> SchemaRecording::find(const ConfigNode* node) const {
  const auto found = schemas_.find(node);
  return found == schemas_.end() ? nullptr : found->second;
}

void note_part(const ConfigReader& reader, const std::string& name) {
  const SchemaRecording* recording = SchemaRecording::current();
  if (recording == nullptr) return;
  if (const std::shared_ptr<MapSchema> schema = recording->find(&reader.node())) {
    schema->part = name;
  }
}

}  // namespace kvlab
