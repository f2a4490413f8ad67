#include "model_argument.h"

#include <filesystem>

#include "kvlab/core/component.h"
#include "kvlab/core/error.h"
#include "kvlab/model/checkpoint.h"
#include "kvlab/runtime/model.h"
#include "named_config.h"

namespace kvlab {

namespace {

namespace fs = std::filesystem;

ModelSource open_source(const std::string& path) {
  // Weights may be gigabytes: only a YAML is looked into for its kind.
  const std::string extension = fs::path(path).extension().string();
  if (extension != ".yaml" && extension != ".yml") return model_source_from_argument(path);
  return open_config(ConfigKind::model, path, [&] { return model_source_from_argument(path); });
}

}  // namespace

ModelSource find_model(const std::string& argument) {
  KVLAB_CHECK(!argument.empty(), "[command_line.--model] the name is empty");
  std::error_code ignored;
  if (fs::exists(argument, ignored)) return open_source(argument);
  if (const auto named = find_named_config(ConfigKind::model, argument)) {
    return open_source(*named);
  }
  throw MissingError(detail::concat(
      "[command_line.--model] '", argument,
      "' does not exist. Give a folder in Hugging Face layout, a .gguf file, a YAML, or the name "
      "of one in configs/models.",
      suggestion(argument, named_configs(ConfigKind::model))));
}

ModelConfig find_model_shape(const std::string& argument) {
  std::error_code ignored;
  if (fs::path(argument).extension() == ".json" && fs::exists(argument, ignored)) {
    return read_model_config(argument);
  }
  const ModelSource source = find_model(argument);
  ModelConfig shape = model_shape(source);
  // What a checkpoint calls itself is not what the user and every report call it.
  shape.name = source.name;
  return shape;
}

}  // namespace kvlab
