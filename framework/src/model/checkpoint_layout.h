// The two layouts a checkpoint can have: a Hugging Face folder and a GGUF file.
#pragma once

#include <filesystem>
#include <optional>

#include "kvlab/model/model_config.h"
#include "kvlab/model/tensor_file.h"
#include "kvlab/model/tokenizer.h"
#include "kvlab/model/weights.h"

namespace kvlab {

/// Families of tensor names in a Hugging Face folder.
enum class HuggingFaceFamily { gpt2, llama };

struct HuggingFaceModel {
  HuggingFaceFamily family = HuggingFaceFamily::gpt2;
  ModelConfig config;
};

/// Reads and validates a config.json. Throws MissingError or UserError.
HuggingFaceModel read_huggingface_config(const std::filesystem::path& config_file);

/// Reads the safetensors of a folder. Throws UserError for a tensor that is missing, has another
/// shape than `model` says, or belongs to no part of the model.
DecoderWeights read_huggingface_weights(const std::filesystem::path& folder,
                                        const HuggingFaceModel& model);

/// Reads the shape from metadata. Throws UserError for another architecture than llama and for
/// every key whose meaning is not implemented.
ModelConfig read_gguf_config(const GgufFile& file);

/// Dequantises the tensors. Throws UserError as `read_huggingface_weights` does.
DecoderWeights read_gguf_weights(const GgufFile& file, const ModelConfig& config);

/// Reads the vocabulary; nothing where the file has none. Throws UserError for a tokenizer of
/// another kind.
std::optional<TokenizerData> read_gguf_tokenizer(const GgufFile& file);

/// Writes a number so that an option reader gets the same number back.
std::string number_text(double value);

}  // namespace kvlab
