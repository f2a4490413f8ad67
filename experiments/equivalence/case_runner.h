// Runs one model through every combination and judges each against no cache.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kvlab/runtime/equality.h"
#include "kvlab/runtime/experiment_config.h"
#include "kvlab/runtime/model.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::experiments::equivalence_kind {

enum class Verdict {
  equal,     ///< within the rule for its element type
  differs,   ///< an exact cache outside of it
  distance,  ///< an approximate cache: shown, not judged
  refused,   ///< the parts cannot work together
  failed,    ///< it threw
};
const char* verdict_name(Verdict verdict);

/// What is combined.
struct CaseName {
  std::string model, position, dtype, attention, cache;
  int64_t chunk = 0;    ///< 0 = the whole text
  std::string against;  ///< what it is compared with
  std::string text() const;
};

struct CaseResult {
  CaseName name;
  Verdict verdict = Verdict::refused;
  LogitComparison comparison;
  double kl_limit = 0;                ///< bf16 only
  std::optional<bool> bit_identical;  ///< to the reference cache at the same step shapes
  std::string detail;
};

/// What all cases of a run share.
struct Combinations {
  std::vector<ComponentSpec> caches;
  std::vector<ComponentSpec> attentions;
  std::vector<std::optional<ComponentSpec>> positions;  ///< nothing: the model's own
  std::vector<at::ScalarType> dtypes;
  std::vector<int64_t> chunks;
};

using CaseSink = std::function<void(const CaseResult&)>;

class CaseRunner {
 public:
  CaseRunner(const Registry& registry, const Combinations& combinations, CaseSink sink);

  /// Runs all combinations for one model and hands every case to the sink. Throws InterruptedError
  /// where a stop was asked for; a case that throws anything else is a failed case.
  void run(const ModelSource& source, const std::vector<std::vector<int32_t>>& texts);

 private:
  /// The models, records and names of one position and attention.
  struct Setting {
    const Model& f32;
    const Model* bf16;
    const LogitRecord& control;  ///< no cache, f32, this attention
    CaseName name;
    ComponentSpec attention;
  };

  void run_attention(const Model& f32, const Model* bf16, const CaseName& name,
                     const ComponentSpec& attention);
  void run_dtype(const Setting& setting, at::ScalarType dtype);
  CaseResult run_case(const Setting& setting, const ComponentSpec& cache, int64_t chunk,
                      const LogitRecord& control, at::ScalarType dtype, double floor);
  void check_bits(const Model& model, const SessionOptions& options, CaseResult& result);
  void refuse_all(const CaseName& name, const std::vector<std::string>& reasons);
  SessionOptions options(const ComponentSpec& cache, const ComponentSpec& attention, int64_t chunk,
                         at::ScalarType dtype) const;
  std::vector<std::string> reasons(const Model& model, const SessionOptions& options) const;

  const Registry& registry_;
  const Combinations& combinations_;
  CaseSink sink_;
  std::vector<std::vector<int32_t>> texts_;
  /// Hash of every logit row of the first exact cache, by chunk.
  std::map<int64_t, std::vector<uint64_t>> reference_bits_;
  std::string reference_cache_;
  const LogitRecord* first_control_ = nullptr;  // of the first attention
  std::string first_attention_;
};

}  // namespace kvlab::experiments::equivalence_kind
