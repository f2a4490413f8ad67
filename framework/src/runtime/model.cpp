#include "kvlab/runtime/model.h"

#include <filesystem>

#include "kvlab/core/error.h"
#include "kvlab/model/checkpoint.h"
#include "kvlab/runtime/process.h"
#include "kvlab/runtime/session.h"

namespace kvlab {

namespace {

namespace fs = std::filesystem;

// The name "learned" is how checkpoints say that a table belongs to the weights.
constexpr const char* kTablePosition = "learned";

void replace_position(ModelConfig& config, const std::optional<ComponentSpec>& position) {
  if (position) config.position = *position;
}

Checkpoint open_checkpoint(const ModelSource& source, at::ScalarType weights,
                           const std::optional<ComponentSpec>& position) {
  if (source.type == ModelSourceType::random) {
    Checkpoint checkpoint;
    checkpoint.config = source.shape;
    replace_position(checkpoint.config, position);
    check_weights_fit(checkpoint.config, weights);
    checkpoint.weights = random_weights(checkpoint.config, source.seed);
    return checkpoint;
  }
  check_weights_fit(read_model_config(source.path), weights);
  Checkpoint checkpoint = read_checkpoint(source.path);
  check_stated_shape(source, checkpoint.config);
  checkpoint.config.name = source.name;
  replace_position(checkpoint.config, position);
  if (checkpoint.config.position.type != kTablePosition) {
    checkpoint.weights.position_table.reset();
  }
  return checkpoint;
}

}  // namespace

Model load_model(const ModelSource& source, at::ScalarType weights, at::ScalarType activations,
                 const std::optional<ComponentSpec>& position) {
  Checkpoint checkpoint = open_checkpoint(source, weights, position);
  check_interrupted();
  checkpoint.weights.cast(weights);
  checkpoint.weights.use_huge_pages();
  Model model;
  model.name = source.name;
  model.origin = source.type == ModelSourceType::random
                     ? detail::concat("random weights, seed ", source.seed)
                     : source.path;
  model.tokenizer = load_tokenizer(source);
  model.decoder = std::make_shared<const Decoder>(std::move(checkpoint.config),
                                                  std::move(checkpoint.weights), activations);
  return model;
}

ModelSource model_source_from_argument(const std::string& argument) {
  const fs::path path(argument);
  if (path.extension() == ".yaml" || path.extension() == ".yml") {
    return load_model_source(argument);
  }
  if (!fs::exists(path)) {
    throw MissingError("[model.open] '" + argument +
                       "' does not exist. Give a folder in Hugging Face layout, a .gguf file, or a "
                       "YAML under configs/models");
  }
  ModelSource source;
  source.name = path.has_stem() ? path.stem().string() : argument;
  source.path = fs::absolute(path).string();
  source.type = fs::is_directory(path) ? ModelSourceType::huggingface : ModelSourceType::gguf;
  if (source.type == ModelSourceType::gguf && path.extension() != ".gguf") {
    throw UserError("[model.open] '" + argument +
                    "' is a file but neither .gguf nor .yaml. Give a folder in Hugging Face "
                    "layout, a .gguf file, or a YAML under configs/models");
  }
  return source;
}

ModelConfig model_shape(const ModelSource& source) {
  if (source.type == ModelSourceType::random) return source.shape;
  ModelConfig shape = read_model_config(source.path);
  shape.name = source.name;
  return shape;
}

std::shared_ptr<const Tokenizer> load_tokenizer(const ModelSource& source) {
  std::optional<TokenizerData> data;
  if (source.tokenizer) {
    data = read_tokenizer_folder(*source.tokenizer);
  } else if (source.type != ModelSourceType::random) {
    data = read_checkpoint_tokenizer(source.path);
  }
  if (!data) return nullptr;
  return std::make_shared<const Tokenizer>(std::move(*data));
}

}  // namespace kvlab
