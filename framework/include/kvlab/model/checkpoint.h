// Opening a model: a folder in Hugging Face layout, a .gguf file, or a model YAML's description.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "kvlab/model/model_config.h"
#include "kvlab/model/tokenizer.h"
#include "kvlab/model/weights.h"

namespace kvlab {

/// A model as read: fp32 weights (bf16 where every safetensors tensor is stored so), shape, and
/// tokenizer where one is there. Stop tokens outside the vocabulary of a config.json are left out.
struct Checkpoint {
  ModelConfig config;
  DecoderWeights weights;
  std::optional<TokenizerData> tokenizer;
};

/// Reads only `config.json` (a file or the folder that holds it) or a GGUF's metadata: the shape,
/// no weights. Refuses architecture keys that change the arithmetic and are not implemented
/// (RoPE scaling, scale by layer index, ...) by name.
ModelConfig read_model_config(const std::string& path);

/// Reads a folder (safetensors, single file or sharded with an index) or a `.gguf` file. Q and K
/// rows of GGUF are un-permuted to the rotate-half order of Hugging Face. Pickle and TorchScript
/// files are refused. Throws MissingError or UserError, naming file and tensor.
Checkpoint read_checkpoint(const std::string& path);

/// Only the tokenizer of such a model; nothing where it has none. Throws UserError for a tokenizer
/// of a kind that is not implemented, naming it.
std::optional<TokenizerData> read_checkpoint_tokenizer(const std::string& path);

}  // namespace kvlab
