#include "generation_benchmark_experiment.h"

#include <algorithm>
#include <iterator>

#include "arm_service.h"
#include "arm_site.h"
#include "arm_traces.h"
#include "bandwidth.h"
#include "benchmark_report.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/durable_file.h"
#include "kvlab/runtime/process.h"

namespace kvlab::experiments {

namespace {

size_t control_of(const ComparisonConfig& shared) {
  size_t control = 0;
  while (shared.arms[control].name != shared.control) ++control;
  return control;
}

// Verdicts on all arms that have not failed; the control comes first, since without it there is
// none.
std::vector<GateResult> gate_case(const Case& one, ArmSite& site, std::vector<Arm>& arms,
                                  size_t control, std::ostream& log) {
  std::vector<GateResult> verdicts(arms.size());
  const std::string when = one.label() + ", equality gate";
  const auto judge = [&](size_t arm) {
    verdicts[arm].passed = false;
    if (arms[arm].failure) return;
    log << one.label() << ": gate " << arms[arm].config.name << "\n" << std::flush;
    attempt(arms[arm], when, log, [&] { verdicts[arm] = site.gate(arm); });
  };
  judge(control);
  for (size_t arm = 0; arm < arms.size() && !arms[control].failure; ++arm) {
    if (arm != control) judge(arm);
  }
  return verdicts;
}

// Gates, warm-up runs and measured runs.
int64_t units_of_work(const MeasureConfig& measure, size_t cases, size_t arms) {
  return static_cast<int64_t>(cases * arms) * (1 + measure.warmup + measure.repeats);
}

void add_traces(ReportDocument traced, ExperimentResult& result) {
  if (!traced.failures.empty()) result.passed = false;
  std::move(traced.raw_files.begin(), traced.raw_files.end(),
            std::back_inserter(result.report.raw_files));
  std::move(traced.failures.begin(), traced.failures.end(),
            std::back_inserter(result.report.failures));
}

}  // namespace

GenerationBenchmark::GenerationBenchmark(ExperimentConfig& config, const Registry& registry)
    : config_(read_benchmark(config)) {
  const std::vector<int64_t>& batch = config_.workload.batch;
  check_arms(config.reader, config_.shared.arms, config_.shared.runtime, config_.shared.model,
             registry, *std::max_element(batch.begin(), batch.end()),
             model_shape(config_.shared.model).context);
}

ExperimentResult GenerationBenchmark::run(RunContext& context) {
  set_threads(config_.shared.runtime.threads);
  const size_t control = control_of(config_.shared);
  const std::vector<Case> cases = make_cases(config_.workload);
  std::vector<Arm> arms;
  for (const ArmConfig& arm : config_.shared.arms) {
    Arm one;
    one.config = arm;
    one.model.name = config_.shared.model.name;
    one.samples.resize(cases.size());
    one.suspended_blocks.resize(cases.size());
    arms.push_back(std::move(one));
  }
  const bool isolated = config_.shared.isolation == Isolation::process;
  std::unique_ptr<ArmSite> site =
      isolated ? separate_processes(config_, context) : share_process(config_, control, context);
  std::vector<CaseResult> results;
  std::unique_ptr<RunBandwidth> bandwidth;
  ReportDocument traced;
  try {
    for (size_t arm = 0; arm < arms.size(); ++arm) {
      const auto load = [&] { arms[arm].model = site->load(arm); };
      // Without a process of its own an arm that cannot be loaded ends the run, with its exit code.
      isolated ? attempt(arms[arm], "loading", context.log, load) : load();
    }
    bandwidth = std::make_unique<RunBandwidth>(config_.shared.runtime.threads,
                                               arms[control].model.weight_bytes);
    context.begin_progress(units_of_work(config_.shared.measure, cases.size(), arms.size()) +
                           static_cast<int64_t>(traced_arms(config_, arms).size()));
    for (size_t i = 0; i < cases.size() && !arms[control].failure && !interrupted(); ++i) {
      attempt(arms[control], cases[i].label(), context.log, [&] { site->begin_case(cases[i], i); });
      if (arms[control].failure) break;  // nothing to compare with
      CaseResult result{cases[i], gate_case(cases[i], *site, arms, control, context.log),
                        bandwidth->why_none()};
      if (arms[control].failure) break;
      context.advance_progress(static_cast<int64_t>(arms.size()));
      measure_case({config_, cases[i], i, *site, *bandwidth}, arms, context);
      results.push_back(std::move(result));
    }
    // After all cases, so that no timing holds what a trace takes.
    if (!results.empty() && !arms[control].failure) {
      write_traces(config_, cases[results.size() - 1], *site, arms, context, traced);
    }
    for (size_t arm = 0; arm < arms.size() && !interrupted(); ++arm) {
      if (arms[arm].failure) continue;
      attempt(arms[arm], "its end", context.log, [&] { site->finish(arm); });
    }
  } catch (const InterruptedError&) {
    // The cases finished so far are reported.
  }
  site.reset();
  ExperimentResult result = make_report(config_, results, arms, control);
  if (bandwidth != nullptr && !bandwidth->lines().empty()) {
    write_file_atomically(context.folder.file("bandwidth.jsonl"), bandwidth->lines());
    result.report.raw_files.push_back({"bandwidth.jsonl", "../bandwidth.jsonl"});
  }
  add_traces(std::move(traced), result);
  for (size_t arm = 0; isolated && arm < arms.size(); ++arm) {
    const std::string log = "arms/" + arms[arm].config.name + ".log";
    result.report.raw_files.push_back({log, "../" + log});
  }
  return result;
}

std::unique_ptr<ArmService> GenerationBenchmark::serve_arm(const std::string& name,
                                                           const Registry& registry) {
  return serve_benchmark_arm(config_, name, registry);
}

}  // namespace kvlab::experiments
