#include "kvlab/runtime/plugin_loader.h"

#include <c10/util/Exception.h>
#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "kvlab/core/error.h"
#include "kvlab/runtime/run_folder.h"
#include "shared_library_file.h"

namespace kvlab {

namespace {

namespace fs = std::filesystem;

template <typename... Parts>
[[noreturn]] void refuse(const std::string& file, const Parts&... parts) {
  throw PluginError(detail::concat("[runtime.plugin.load] ", file, ": ", parts...));
}

// The one path that a file has whatever it is called by.
std::string canonical_file(const std::string& file) {
  KVLAB_CHECK(!file.empty(), "[runtime.plugin.load] the path of a plugin library is empty");
  KVLAB_CHECK(file.find('\0') == std::string::npos,
              "[runtime.plugin.load] the path of a plugin library holds a NUL byte, after '",
              file.c_str(), "'");
  std::error_code error;
  const fs::path path = fs::canonical(file, error);
  if (error == std::errc::no_such_file_or_directory || error == std::errc::not_a_directory) {
    throw MissingError(detail::concat(
        "[runtime.plugin.load] there is no plugin library '", file, "', looked at ",
        fs::absolute(file).lexically_normal().string(), "; build it, or correct the path"));
  }
  KVLAB_CHECK(!error, "[runtime.plugin.load] '", file, "': ", error.message());
  KVLAB_CHECK(!fs::is_directory(path, error), "[runtime.plugin.load] '", file,
              "' is a folder; name the .so in it");
  return path.string();
}

bool holds(const Registry& registry, const std::string& canonical) {
  return std::any_of(registry.plugins().begin(), registry.plugins().end(),
                     [&](const LoadedPlugin& plugin) { return plugin.file == canonical; });
}

// The loader's message, without the file it begins with.
std::string loader_message(const std::string& file) {
  const char* text = ::dlerror();
  const std::string message = text == nullptr ? "no reason given" : text;
  const std::string prefix = file + ": ";
  return message.starts_with(prefix) ? message.substr(prefix.size()) : message;
}

// The exported function of this very library: the search by handle would go on in those it needs.
KvlabPluginFunction* find_export(void* library, const std::string& file) {
  void* symbol = ::dlsym(library, KVLAB_PLUGIN_SYMBOL);
  link_map* map = nullptr;
  Dl_info place{};
  const bool own = symbol != nullptr && ::dlinfo(library, RTLD_DI_LINKMAP, &map) == 0 &&
                   ::dladdr(symbol, &place) != 0 &&
                   reinterpret_cast<ElfW(Addr)>(place.dli_fbase) == map->l_addr;
  if (!own) {
    refuse(file, "it has no symbol " KVLAB_PLUGIN_SYMBOL
                 "; build it with kvlab_add_plugin, or write KVLAB_PLUGIN(name, version, "
                 "register_function) in one of its source files");
  }
  return reinterpret_cast<KvlabPluginFunction*>(symbol);
}

void check_layout(const KvlabPlugin& plugin, const std::string& file) {
  if (plugin.api_version != KVLAB_PLUGIN_API) {
    refuse(file, "plugin API version found ", plugin.api_version, ", wanted ", KVLAB_PLUGIN_API,
           "; rebuild it against this kvlab (-Dkvlab_DIR=FOLDER)");
  }
  if (plugin.struct_size != sizeof(KvlabPlugin)) {
    refuse(file, "size of KvlabPlugin found ", plugin.struct_size, ", wanted ", sizeof(KvlabPlugin),
           "; rebuild it against this kvlab (-Dkvlab_DIR=FOLDER)");
  }
  for (const char* text : {plugin.framework_version, plugin.torch_version, plugin.compiler,
                           plugin.cxx_abi, plugin.build, plugin.name, plugin.version}) {
    if (text == nullptr) {
      refuse(file, "its description has a null text; write it with KVLAB_PLUGIN(...)");
    }
  }
  if (*plugin.name == '\0') {
    refuse(file, "its description has no name; give one to KVLAB_PLUGIN(...)");
  }
  if (plugin.register_plugin == nullptr) {
    refuse(file, "its description has no register function; give one to KVLAB_PLUGIN(...)");
  }
}

void check_fingerprint(const KvlabPlugin& plugin, const std::string& file) {
  std::string differences, remedies;
  for (const FingerprintField& field : compare_fingerprint(plugin)) {
    if (field.equal()) continue;
    differences += detail::concat(differences.empty() ? "" : ", ", field.name, " found '",
                                  field.found, "', wanted '", field.wanted, "'");
    remedies += detail::concat(remedies.empty() ? "" : ", ", field.remedy);
  }
  if (!differences.empty()) {
    refuse(file, "plugin '", plugin.name, "' was built for another program: ", differences, "; ",
           remedies);
  }
}

// What the exception being handled says.
std::string exception_reason() {
  try {
    throw;
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  } catch (const std::exception& error) {
    return error.what();
  } catch (...) {
    return "it threw something that is no std::exception";
  }
}

// What a static initialiser throws ends the process: the loader's function lets nothing through.
void* open_library(const std::string& file) {
  void* library = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    refuse(file, "the system cannot load it: ", loader_message(file),
           "; `ldd -r` on it lists what is missing");
  }
  return library;
}

const KvlabPlugin& describe_itself(KvlabPluginFunction* describe, const std::string& file) {
  const KvlabPlugin* plugin = nullptr;
  try {
    plugin = describe();
  } catch (...) {
    refuse(file, KVLAB_PLUGIN_SYMBOL " failed: ", exception_reason(),
           "; write it with KVLAB_PLUGIN(...)");
  }
  if (plugin == nullptr) {
    refuse(file, KVLAB_PLUGIN_SYMBOL " returned null; write it with KVLAB_PLUGIN(...)");
  }
  return *plugin;
}

void call_register_function(const KvlabPlugin& plugin, Registry& staged, const std::string& file) {
  try {
    plugin.register_plugin(staged);
  } catch (...) {
    refuse(file, "plugin '", plugin.name, "' failed to register: ", exception_reason());
  }
  if (staged.caches().empty() && staged.attentions().empty() && staged.positions().empty() &&
      staged.experiments().empty()) {
    refuse(file, "plugin '", plugin.name,
           "' registers nothing; its register function must call registry.add");
  }
}

}  // namespace

KvlabPlugin program_description() {
  return {KVLAB_PLUGIN_API,      sizeof(KvlabPlugin),  KVLAB_PLUGIN_FRAMEWORK,
          TORCH_VERSION,         KVLAB_PLUGIN_COMPILER, KVLAB_PLUGIN_CXX_ABI,
          KVLAB_PLUGIN_BUILD,    "kvlab",               KVLAB_FRAMEWORK_VERSION,
          nullptr};
}

std::vector<FingerprintField> compare_fingerprint(const KvlabPlugin& plugin) {
  return {
      {"kvlab version", plugin.framework_version, KVLAB_PLUGIN_FRAMEWORK,
       "rebuild it against this kvlab (-Dkvlab_DIR=FOLDER)"},
      {"LibTorch version", plugin.torch_version, TORCH_VERSION,
       "rebuild it against LibTorch " TORCH_VERSION " (-DKVLAB_TORCH_ROOT=FOLDER)"},
      {"compiler", plugin.compiler, KVLAB_PLUGIN_COMPILER,
       "rebuild it with " KVLAB_PLUGIN_COMPILER " (-DCMAKE_CXX_COMPILER=PROGRAM)"},
      {"C++ ABI", plugin.cxx_abi, KVLAB_PLUGIN_CXX_ABI,
       "rebuild it with the standard library and flags of this program, " KVLAB_PLUGIN_CXX_ABI},
      {"build type", plugin.build, KVLAB_PLUGIN_BUILD,
       "rebuild it as " KVLAB_PLUGIN_BUILD " (-DCMAKE_BUILD_TYPE=TYPE, Release or Debug)"},
  };
}

LoadedPlugin load_plugin(Registry& registry, const std::string& file) {
  const std::string path = canonical_file(file);
  if (holds(registry, path)) {
    refuse(path, "this library is loaded already; name it once");
  }
  check_shared_library_file(path);
  const std::string hash = fingerprint_file(path);
  void* library = open_library(path);
  // From here on the library stays: a handle that was closed would leave pointers behind.
  const KvlabPlugin& plugin = describe_itself(find_export(library, path), path);
  check_layout(plugin, path);
  check_fingerprint(plugin, path);
  Registry staged;
  staged.begin_origin(path);
  call_register_function(plugin, staged, path);
  const LoadedPlugin loaded{plugin.name, plugin.version, path, hash};
  staged.add_plugin(loaded);
  registry.commit(std::move(staged));
  return loaded;
}

void load_plugins(Registry& registry, const std::vector<std::string>& files) {
  std::vector<std::string> wanted;
  for (const std::string& file : files) {
    std::string path = canonical_file(file);
    if (!holds(registry, path)) wanted.push_back(std::move(path));
  }
  for (const std::string& path : wanted) load_plugin(registry, path);
}

std::vector<std::string> plugin_path_files(const char* search_path) {
  std::vector<std::string> files;
  std::istringstream parts(search_path == nullptr ? "" : search_path);
  for (std::string part; std::getline(parts, part, ':');) {
    if (part.empty()) continue;
    std::error_code error;
    if (!fs::exists(part, error)) {
      throw MissingError(detail::concat(
          "[runtime.plugin.search_path] there is no '", part, "', looked at ",
          fs::absolute(part).lexically_normal().string(),
          "; KVLAB_PLUGIN_PATH lists files and folders, separated by colons"));
    }
    if (!fs::is_directory(part, error)) {
      files.push_back(part);
      continue;
    }
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(part, error)) {
      if (entry.path().extension() == ".so") found.push_back(entry.path().string());
    }
    KVLAB_CHECK(!error, "[runtime.plugin.search_path] '", part, "': ", error.message());
    KVLAB_CHECK(!found.empty(), "[runtime.plugin.search_path] the folder '", part,
                "' of KVLAB_PLUGIN_PATH holds no .so; build the plugin, or take the folder out");
    std::sort(found.begin(), found.end());
    files.insert(files.end(), found.begin(), found.end());
  }
  return files;
}

std::vector<std::string> environment_plugin_files() {
  return plugin_path_files(std::getenv("KVLAB_PLUGIN_PATH"));
}

}  // namespace kvlab
