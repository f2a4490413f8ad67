// Options shared by the commands that run a model.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "kvlab/runtime/model.h"
#include "kvlab/runtime/session.h"

namespace kvlab {

struct ModelOptions {
  std::string model;
  std::string cache = "preallocated";
  std::string attention = "fused";
  std::string dtype = "f32";
  std::string weights;  ///< empty: as dtype
  int64_t row_tokens = 0;
  std::vector<std::string> plugins;
  int64_t chunk = 0;
  int64_t max_length = 0;
  int threads = 0;
  bool json = false;
};

/// Threads of the machine, at least 1.
int hardware_threads();

void add_model_options(CLI::App& app, ModelOptions& options);

/// Sets the threads, checks cache and attention by name and options, then loads the model. Throws
/// UserError or MissingError.
Model open_model(const ModelOptions& options, const Registry& registry);

/// What a session for texts of up to `length` tokens needs; --max-length wins over `length`. Throws
/// UserError where --max-length is longer than the model's context.
SessionOptions session_options(const ModelOptions& options, const ModelConfig& model,
                               int64_t length);

}  // namespace kvlab
