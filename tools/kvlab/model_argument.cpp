#include "model_argument.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include "kvlab/core/component.h"
#include "kvlab/core/error.h"
#include "kvlab/model/checkpoint.h"
#include "kvlab/runtime/model.h"

namespace kvlab {

namespace {

namespace fs = std::filesystem;

const fs::path kModelFolders[] = {fs::path("configs") / "models",
                                  fs::path(KVLAB_SOURCE_DIR) / "configs" / "models"};

std::vector<std::string> known_names() {
  std::vector<std::string> names;
  for (const fs::path& folder : kModelFolders) {
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(folder, ignored)) {
      if (entry.path().extension() == ".yaml") names.push_back(entry.path().stem().string());
    }
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

}  // namespace

ModelSource find_model(const std::string& argument) {
  KVLAB_CHECK(!argument.empty(), "[command_line.--model] the name is empty");
  std::error_code ignored;
  if (fs::exists(argument, ignored)) return model_source_from_argument(argument);
  if (!fs::path(argument).has_parent_path()) {
    for (const fs::path& folder : kModelFolders) {
      const fs::path file = folder / (argument + ".yaml");
      if (fs::exists(file, ignored)) return model_source_from_argument(file.string());
    }
  }
  throw MissingError(detail::concat(
      "[command_line.--model] '", argument,
      "' does not exist. Give a folder in Hugging Face layout, a .gguf file, a YAML, or the name "
      "of one in configs/models.",
      suggestion(argument, known_names())));
}

ModelConfig find_model_shape(const std::string& argument) {
  std::error_code ignored;
  if (fs::path(argument).extension() == ".json" && fs::exists(argument, ignored)) {
    return read_model_config(argument);
  }
  return model_shape(find_model(argument));
}

}  // namespace kvlab
