#include "named_config.h"

#include <algorithm>
#include <filesystem>

#include "kvlab/runtime/config_node.h"

namespace kvlab {

namespace {

namespace fs = std::filesystem;

std::vector<fs::path> folders(ConfigKind kind) {
  const fs::path folder =
      fs::path("configs") / (kind == ConfigKind::model ? "models" : "experiments");
  return {folder, fs::path(KVLAB_SOURCE_DIR) / folder};
}

}  // namespace

std::optional<std::string> find_named_config(ConfigKind kind, const std::string& name) {
  if (name.empty() || fs::path(name).has_parent_path()) return {};
  for (const fs::path& folder : folders(kind)) {
    const fs::path file = folder / (name + ".yaml");
    std::error_code ignored;
    if (fs::is_regular_file(file, ignored)) return file.string();
  }
  return {};
}

std::vector<std::string> named_configs(ConfigKind kind) {
  std::vector<std::string> names;
  for (const fs::path& folder : folders(kind)) {
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(folder, ignored)) {
      if (entry.path().extension() == ".yaml") names.push_back(entry.path().stem().string());
    }
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

std::string other_kind_hint(ConfigKind wanted, const std::string& path) {
  try {
    const ConfigNode root = load_config_file(path);
    const bool experiment = root.find("experiment") != nullptr;
    const bool model = root.find("source") != nullptr || root.find("shape") != nullptr;
    if (wanted == ConfigKind::experiment && model && !experiment) {
      return " (this is a model file; experiments are in configs/experiments)";
    }
    if (wanted == ConfigKind::model && experiment) {
      return " (this is an experiment file; models are in configs/models)";
    }
  } catch (const UserError&) {
    // What cannot be read has no kind; the caller's own message says what is wrong.
  }
  return "";
}

}  // namespace kvlab
