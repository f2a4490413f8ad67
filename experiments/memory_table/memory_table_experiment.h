// Tables of KV cache bytes: the formula, every cache's estimate, and what caches measure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvlab/runtime/experiment.h"
#include "kvlab/runtime/prediction_figure.h"
#include "payload_formula.h"

namespace kvlab::experiments::memory_table_kind {

/// One line of the tables: a model's shape with one choice of everything that scales its bytes.
struct Variant {
  std::string model;
  std::string dtype;  ///< f32, bf16 or f16
  at::ScalarType type = at::kFloat;
  int64_t query_heads = 0;
  int64_t context = 0;
  int64_t model_window = 0;
  PayloadShape payload;
  std::string label;  ///< unique in the experiment
};

class MemoryTableExperiment : public Experiment {
 public:
  /// Reads models, lengths, dtypes, kv_heads, batch, window_layers, caches and measure. Throws
  /// UserError.
  MemoryTableExperiment(ExperimentConfig& config, const Registry& registry);

  ExperimentResult run(RunContext& context) override;

 private:
  struct Window {
    int64_t window = 0;
    int64_t layers = 0;
  };
  struct Tally {  ///< of one cache in one variant
    int64_t measured = 0;
    std::string first_fault;
    std::vector<PredictedPoint> points;  ///< of the figure, in MB
  };

  void make_variants(const std::vector<ModelConfig>& models, const std::vector<std::string>& dtypes,
                     const std::vector<int64_t>& kv_heads, const std::vector<int64_t>& batches,
                     const std::vector<Window>& windows);
  void check_caches(const ConfigReader& reader, const Registry& registry) const;
  CacheShape cache_shape(const Variant& variant, int64_t length) const;

  ReportSection payload_section(RunContext& context, ExperimentResult& outcome) const;
  ReportSection cache_section(RunContext& context, ExperimentResult& outcome) const;
  std::vector<ReportCell> cache_row(RunContext& context, const Variant& variant, int64_t length,
                                    const ComponentSpec& cache, ExperimentResult& outcome,
                                    Tally& tally) const;

  std::vector<Variant> variants_;
  std::vector<int64_t> lengths_;
  std::vector<ComponentSpec> caches_;
  bool room_for_context_ = false;
  std::optional<int64_t> measure_bytes_;
};

}  // namespace kvlab::experiments::memory_table_kind
