// JSON Schema (draft 2020-12) of config files, for editors and other checkers, as indented text.
#pragma once

#include <string>
#include <string_view>

namespace kvlab {

class Registry;

/// Of experiment files, or of those of one kind. Kinds without examples may hold any key beside the
/// ones of every experiment. The same registry gives the same text on every machine. Throws
/// MissingError for a kind that is not there.
std::string experiment_schema(const Registry& registry, std::string_view kind = "");

/// Of model files (configs/models).
std::string model_schema(const Registry& registry);

/// Of cache files (configs/caches).
std::string cache_schema(const Registry& registry);

}  // namespace kvlab
