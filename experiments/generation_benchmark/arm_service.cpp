#include "arm_service.h"

#include <iostream>

#include "arm_site.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/process.h"
#include "result_json.h"

namespace kvlab::experiments {

namespace {

const ArmConfig& find_arm(const BenchmarkConfig& config, const std::string& name) {
  for (const ArmConfig& arm : config.shared.arms) {
    if (arm.name == name) return arm;
  }
  throw UserError("[generation_benchmark.serve] the config has no arm '" + name + "'");
}

class BenchmarkArmService final : public ArmService {
 public:
  BenchmarkArmService(const BenchmarkConfig& config, const std::string& name,
                      const Registry& registry)
      : config_(config), registry_(registry), models_(config), cases_(make_cases(config.workload)) {
    set_threads(config.shared.runtime.threads);
    const ArmConfig& arm = find_arm(config, name);
    control_ = models_.ready(find_arm(config, config.shared.control), registry);
    arm_ = models_.ready(arm, registry);
  }

  std::string describe() override { return facts_json(facts_of(*arm_.model)).dump(); }

  std::string answer(const std::string& request) override {
    const Request asked = request_from_text(request);
    KVLAB_CHECK_LT(asked.case_index, cases_.size(), "[generation_benchmark.serve] case");
    const Case& one = cases_[asked.case_index];
    std::cerr << one.label() << ": " << asked.what << std::endl;
    if (asked.what == "gate") {
      return gate_json(EqualityGate(config_, one, control_, registry_).judge(arm_)).dump();
    }
    if (asked.what == "trace") {
      return nlohmann::json{{"trace", trace_once(config_, one, arm_, registry_)}}.dump();
    }
    KVLAB_CHECK(asked.what == "run", "[generation_benchmark.serve] '", asked.what,
                "' is no request; wanted gate, run or trace");
    return sample_json(run_once(config_, one, arm_, registry_)).dump();
  }

 private:
  const BenchmarkConfig& config_;
  const Registry& registry_;
  ArmModels models_;
  std::vector<Case> cases_;
  ReadyArm control_, arm_;
};

}  // namespace

std::unique_ptr<ArmService> serve_benchmark_arm(const BenchmarkConfig& config,
                                                const std::string& arm, const Registry& registry) {
  return std::make_unique<BenchmarkArmService>(config, arm, registry);
}

}  // namespace kvlab::experiments
