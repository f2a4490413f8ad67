// A resolved config with the place that each value came from.
#pragma once

#include <string>

#include "kvlab/runtime/config_node.h"

namespace kvlab {

class Registry;
struct ConfigSchema;
struct MapSchema;

/// YAML that reads as `root` does, each line with a comment: "file:line:column", the override, or
/// "default" for keys that are absent and have a fixed default. A default that the kind refuses to
/// see written out is left out, so that the text is a config as well as `root` is. `asked` is what
/// reading this config noted (see SchemaRecording), `schema` brings the parts that are absent as a
/// whole. Paths of data are absolute.
std::string to_yaml_with_origin(const ConfigNode& root, Registry& registry,
                                const MapSchema& asked, const ConfigSchema& schema);

}  // namespace kvlab
