#include "kvlab/model/checkpoint.h"

#include <cstring>
#include <filesystem>

#include "checkpoint_layout.h"
#include "file_bytes.h"
#include "kvlab/core/error.h"

namespace kvlab {

namespace {

namespace fs = std::filesystem;

enum class Kind { folder, gguf, json };

// What the path names, decided by its content and not by its ending.
Kind kind_of(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) {
    throw MissingError(detail::concat("[model.checkpoint] no such file or folder: ", path));
  }
  if (fs::is_directory(status)) return Kind::folder;
  const MappedFile file(path);
  const auto bytes = file.bytes();
  model_file::refuse_pickle("model.checkpoint", path, bytes);
  if (bytes.size() >= 4 && std::memcmp(bytes.data(), "GGUF", 4) == 0) return Kind::gguf;
  if (!bytes.empty() && fs::path(path).extension() == ".json") return Kind::json;
  KVLAB_CHECK(fs::path(path).extension() != ".safetensors", "[model.checkpoint] ", path,
              " holds tensors but no shape; give the folder with its config.json");
  detail::throw_user(detail::concat("[model.checkpoint] ", path,
                                    " is neither a folder with config.json nor a GGUF file"));
}

fs::path config_file(const std::string& folder) {
  const fs::path file = fs::path(folder) / "config.json";
  if (!fs::exists(file)) {
    throw MissingError(detail::concat("[model.checkpoint] ", folder, " has no config.json"));
  }
  return file;
}

std::optional<TokenizerData> read_folder_tokenizer(const std::string& folder) {
  const auto has = [&](const char* name) { return fs::exists(fs::path(folder) / name); };
  const bool there = has("tokenizer.json") || (has("encoder.json") && has("vocab.bpe")) ||
                     (has("vocab.json") && has("merges.txt"));
  if (!there) return std::nullopt;
  return read_tokenizer_folder(folder);
}

[[noreturn]] void refuse_json(const std::string& path) {
  detail::throw_user(detail::concat("[model.checkpoint] ", path,
                                    " is a description; give the folder that holds it"));
}

}  // namespace

ModelConfig read_model_config(const std::string& path) {
  switch (kind_of(path)) {
    case Kind::folder: return read_huggingface_config(config_file(path)).config;
    case Kind::json: return read_huggingface_config(path).config;
    case Kind::gguf: return read_gguf_config(GgufFile(path));
  }
  KVLAB_INVARIANT(false, "[model.checkpoint] unknown kind of ", path);
}

Checkpoint read_checkpoint(const std::string& path) {
  Checkpoint checkpoint;
  switch (kind_of(path)) {
    case Kind::folder: {
      const HuggingFaceModel model = read_huggingface_config(config_file(path));
      checkpoint.config = model.config;
      checkpoint.weights = read_huggingface_weights(path, model);
      checkpoint.tokenizer = read_folder_tokenizer(path);
      return checkpoint;
    }
    case Kind::gguf: {
      const GgufFile file(path);
      checkpoint.config = read_gguf_config(file);
      checkpoint.tokenizer = read_gguf_tokenizer(file);
      checkpoint.weights = read_gguf_weights(file, checkpoint.config);
      return checkpoint;
    }
    case Kind::json: refuse_json(path);
  }
  KVLAB_INVARIANT(false, "[model.checkpoint] unknown kind of ", path);
}

std::optional<TokenizerData> read_checkpoint_tokenizer(const std::string& path) {
  switch (kind_of(path)) {
    case Kind::folder: return read_folder_tokenizer(path);
    case Kind::gguf: return read_gguf_tokenizer(GgufFile(path));
    case Kind::json: refuse_json(path);
  }
  KVLAB_INVARIANT(false, "[model.checkpoint] unknown kind of ", path);
}

}  // namespace kvlab
