// Config files that the command line may name without folder and extension, and what to say where a
// file is of another kind than the command wants.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kvlab/core/error.h"

namespace kvlab {

/// The kinds of config files that commands take.
enum class ConfigKind { model, experiment };

/// Finds NAME.yaml in configs/models or configs/experiments, beside the current directory first,
/// then in the source tree. Nothing where neither has it, or where `name` has a folder.
std::optional<std::string> find_named_config(ConfigKind kind, const std::string& name);

/// All names that `find_named_config` knows, sorted.
std::vector<std::string> named_configs(ConfigKind kind);

/// " (this is a model file; experiments are in configs/experiments)" where `path` is a readable
/// config of the other kind than `wanted`, by its top-level keys; else empty.
std::string other_kind_hint(ConfigKind wanted, const std::string& path);

/// Calls `open`, which reads the file at `path`, and adds the hint to a UserError out of it.
template <typename Open>
auto open_config(ConfigKind wanted, const std::string& path, Open&& open) {
  try {
    return open();
  } catch (const MissingError&) {
    throw;
  } catch (const UserError& error) {
    const std::string hint = other_kind_hint(wanted, path);
    if (hint.empty()) throw;
    throw UserError(error.what() + hint);
  }
}

}  // namespace kvlab
