// A model ready to run: shape, decoder and tokenizer, from a YAML, a folder or a GGUF file.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "kvlab/model/decoder.h"
#include "kvlab/model/tokenizer.h"
#include "kvlab/runtime/experiment_config.h"

namespace kvlab {

struct Model {
  std::string name;
  std::string origin;  ///< path of the weights, or "random weights, seed 123"
  std::shared_ptr<const Decoder> decoder;      ///< shared by sessions that run arms side by side
  std::shared_ptr<const Tokenizer> tokenizer;  ///< null where the model has none

  const ModelConfig& config() const { return decoder->config(); }
};

/// Loads or draws the weights and casts them. A `position` replaces the model's own encoding;
/// random weights bring the table a learned encoding needs. Throws UserError or MissingError.
Model load_model(const ModelSource& source, at::ScalarType weights, at::ScalarType activations,
                 const std::optional<ComponentSpec>& position = {});

/// Describes what a user names on the command line: a YAML under configs/models, a folder in
/// Hugging Face layout, or a .gguf file.
ModelSource model_source_from_argument(const std::string& argument);

/// Only the shape of such a model, without weights.
ModelConfig model_shape(const ModelSource& source);

/// Only its tokenizer; null where it has none.
std::shared_ptr<const Tokenizer> load_tokenizer(const ModelSource& source);

}  // namespace kvlab
