// What --model may say.
#pragma once

#include <string>

#include "kvlab/runtime/experiment_config.h"

namespace kvlab {

/// Finds a model: a folder in Hugging Face layout, a .gguf file, a YAML, or the bare name of a YAML
/// in configs/models, beside the current directory or in the source tree. Throws MissingError with
/// near names, or UserError.
ModelSource find_model(const std::string& argument);

/// The shape of a model without its weights, under the source's name (a YAML's own). Takes a
/// Hugging Face config.json, too.
ModelConfig find_model_shape(const std::string& argument);

}  // namespace kvlab
