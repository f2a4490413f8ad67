#include "arm_traces.h"

#include <filesystem>

#include "kvlab/core/error.h"
#include "kvlab/runtime/arm_runs.h"
#include "kvlab/runtime/durable_file.h"
#include "kvlab/runtime/process.h"

namespace kvlab::experiments {

std::vector<size_t> traced_arms(const BenchmarkConfig& config, const std::vector<Arm>& arms) {
  std::vector<size_t> traced;
  if (!config.trials.trace) return traced;
  const std::string again = config.shared.control + kAgainSuffix;
  for (size_t arm = 0; arm < arms.size(); ++arm) {
    const bool second = config.trials.aa && arms[arm].config.name == again;
    if (!arms[arm].failure && !second) traced.push_back(arm);
  }
  return traced;
}

void write_traces(const BenchmarkConfig& config, const Case& one, ArmSite& site,
                  const std::vector<Arm>& arms, RunContext& context, ReportDocument& report) {
  for (const size_t arm : traced_arms(config, arms)) {
    check_interrupted();
    const std::string& name = arms[arm].config.name;
    std::string trace;
    if (const auto why = failure_of([&] { trace = site.trace(arm); })) {
      report.failures.push_back({"trace of arm " + name, *why});
      context.log << "trace of " << name << " failed: " << *why << "\n";
      continue;
    }
    const std::string file = "trace/" + name + ".json";
    const std::string folder = context.folder.file("trace");
    if (!std::filesystem::exists(folder)) create_folder_durably(folder);
    write_file_atomically(context.folder.file(file), trace);
    report.raw_files.push_back({file, "../" + file});
    context.log << one.label() << ": " << name << " traced\n" << std::flush;
    context.advance_progress();
  }
}

}  // namespace kvlab::experiments
