// What the running program is, and what files a config reads.
#include <dlfcn.h>

#include <algorithm>
#include <filesystem>

#include "kvlab/core/error.h"
#include "kvlab/runtime/durable_file.h"
#include "kvlab/runtime/experiment.h"
#include "kvlab/runtime/file_hash.h"
#include "kvlab/runtime/run_folder.h"
#include "kvlab/sweep/sweep_plan.h"

namespace kvlab {

namespace {

namespace fs = std::filesystem;

// The library that holds this function; the program itself where they are one.
std::string framework_file() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&code_version), &info) == 0 ||
      info.dli_fname == nullptr) {
    return kThisProgram;
  }
  return info.dli_fname;
}

// The kernels of another instruction set, and another library's products, round differently.
std::string rounding() {
  std::string text;
  for (const ReportFact& fact : describe_environment(Registry())) {
    if (fact.name == "LibTorch" || fact.name == "instruction set of the kernels") {
      text += ", " + fact.name + " " + fact.value;
    }
  }
  return text;
}

void add_path(const std::string& path, std::map<std::string, std::string>& found,
              std::map<std::string, std::string>& known) {
  auto [place, is_new] = known.try_emplace(path);
  if (is_new) place->second = fingerprint_path(path);
  found[path] = place->second;
}

void walk(const ConfigNode& node, std::map<std::string, std::string>& found,
          std::map<std::string, std::string>& known) {
  if (node.is_list()) {
    for (const ConfigNode& item : node.items()) walk(item, found, known);
  }
  if (!node.is_map()) return;
  for (const auto& [key, value] : node.entries()) {
    if (!is_data_path_key(key) || !value.is_scalar()) {
      walk(value, found, known);
      continue;
    }
    try {
      add_path(resolve_path(value), found, known);
    } catch (const MissingError&) {
      // Not every kind takes the key for a file; those that do have refused the config.
    }
  }
}

}  // namespace

std::string code_version() {
  static const std::string build = hash_text(read_file(kThisProgram) + read_file(framework_file()));
  return detail::concat("kvlab ", KVLAB_VERSION, " build ", build, rounding());
}

std::string fingerprint_path(const std::string& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return hash_file(path);
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(path, error)) {
    if (entry.is_regular_file()) files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  std::string text;
  for (const std::string& file : files) {
    text += fs::relative(file, path).string() + " " + hash_file(file) + "\n";
  }
  return hash_text(text);
}

std::map<std::string, std::string> data_fingerprints(const ConfigNode& resolved,
                                                     std::map<std::string, std::string>& known) {
  std::map<std::string, std::string> found;
  walk(resolved, found, known);
  const ConfigNode* plugins = resolved.find("plugins");
  if (plugins != nullptr && plugins->is_list()) {
    for (const ConfigNode& item : plugins->items()) add_path(item.text(), found, known);
  }
  return found;
}

}  // namespace kvlab
