// What a generation leaves behind for analysis elsewhere: logits, keys and values, block tables.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "kvlab/runtime/session.h"

namespace kvlab {

/// Collects logits while a session generates, and writes a folder of safetensors files at the end.
class GenerationDump {
 public:
  explicit GenerationDump(std::string folder);

  /// Keeps a copy of the logits that one token is chosen from.
  void add_logits(std::span<const float> logits);

  /// Writes logits.safetensors (`logits` [steps, V]), kv.safetensors (per layer and row `keys` [G,T,D],
  /// `values`, `positions`, as attention gets them) and blocks.safetensors (per layer and row one entry
  /// per segment: `count`, `first_position`, `head_begin`, `head_end`, `key_address`, `value_address`;
  /// addresses are bytes from the lowest one of the file). Session: outside a step.
  void write(const Session& session, const Registry& registry) const;

 private:
  std::string folder_;
  std::vector<float> logits_;
  int64_t steps_ = 0;
};

}  // namespace kvlab
