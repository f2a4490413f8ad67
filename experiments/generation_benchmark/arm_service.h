// What an arm of the benchmark does in a process of its own.
#pragma once

#include <memory>
#include <string>

#include "kvlab/runtime/arm_process.h"
#include "kvlab/runtime/registry.h"
#include "workload.h"

namespace kvlab::experiments {

/// Loads the models of `arm` and of the control. `config` and `registry` must outlive the service.
/// Throws UserError where there is no such arm.
std::unique_ptr<ArmService> serve_benchmark_arm(const BenchmarkConfig& config,
                                                const std::string& arm, const Registry& registry);

}  // namespace kvlab::experiments
