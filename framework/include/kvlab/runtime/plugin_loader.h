// Loading plugin libraries at run time: checked before use, registered whole or not at all, and
// never unloaded, since entries of the registry point into them.
#pragma once

#include <string>
#include <vector>

#include "kvlab/runtime/plugin_abi.h"
#include "kvlab/runtime/registry.h"

namespace kvlab {

/// One part of a plugin's fingerprint beside that of this program.
struct FingerprintField {
  std::string name;    ///< "LibTorch version"
  std::string found;   ///< in the plugin
  std::string wanted;  ///< in this program
  std::string remedy;  ///< how to get the wanted value: "build it against LibTorch 2.13.0"

  bool equal() const { return found == wanted; }
};

/// The description of a plugin that was built as this program was, named "kvlab" and without a
/// register function.
KvlabPlugin program_description();

/// All parts, equal or not. Requires: the API version and struct size of this program.
std::vector<FingerprintField> compare_fingerprint(const KvlabPlugin& plugin);

/// Loads the library `file` and adds what it registers, with the file as origin. Returns what was
/// noted in `registry.plugins()`. Throws MissingError where there is no such file, UserError for a
/// path that names no file, and PluginError, naming the file and what to do, where the library
/// cannot be loaded, does not fit this program, fails to register, registers nothing, registers a
/// name that is taken, or is in the registry already. `registry` is then as before.
///
/// The library's headers are checked before the system's loader maps it. Its static initialisers
/// run before its fingerprint can be read: what crashes there ends the process.
LoadedPlugin load_plugin(Registry& registry, const std::string& file);

/// Loads each of `files` that was not in the registry before the call, so that several places may
/// name the same library. One that is named twice in `files` is refused.
void load_plugins(Registry& registry, const std::vector<std::string>& files);

/// The libraries that a search path names: files, and folders for all `*.so` in them by name,
/// separated by colons. Nothing for null; empty parts are skipped. Throws MissingError naming a
/// part that does not exist, and UserError for a folder without a library.
std::vector<std::string> plugin_path_files(const char* search_path);

/// `plugin_path_files` of the environment variable KVLAB_PLUGIN_PATH.
std::vector<std::string> environment_plugin_files();

}  // namespace kvlab
