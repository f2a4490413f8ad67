// What the quality experiment's config says: model, arms, and the documents cut out of a text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvlab/runtime/experiment_config.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::experiments::quality_kind {

/// A stretch of the text that every arm reads from an empty cache.
struct Document {
  int64_t offset = 0;  ///< its first token's place in the text
  std::vector<int32_t> tokens;
};

/// Positions of a document whose results are shown together.
struct PositionBucket {
  int64_t begin = 0, end = 0;  ///< end is not part of it
  std::string name() const;    ///< "64-127"
};

/// Everything a run needs, read and checked.
struct QualityConfig {
  ModelSource model;
  std::vector<ArmConfig> arms;
  std::string control;
  RuntimeConfig runtime;
  std::string text;  ///< where the text comes from, for the report
  int64_t text_tokens = 0;
  int64_t document_tokens = 0;
  std::string placement;  ///< how documents were chosen, for the report
  uint64_t seed = 0;      ///< of placement and bootstrap
  std::vector<Document> documents;
  std::vector<PositionBucket> buckets;  ///< cover every position that has a next token

  size_t control_index() const;
};

/// Reads the whole config. Throws UserError.
QualityConfig read_quality(ExperimentConfig& config, const Registry& registry);

}  // namespace kvlab::experiments::quality_kind
