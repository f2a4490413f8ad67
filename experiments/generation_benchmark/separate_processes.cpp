#include <fmt/format.h>

#include "arm_site.h"
#include "kvlab/runtime/arm_process.h"
#include "result_json.h"

namespace kvlab::experiments {

namespace {

using Json = nlohmann::json;

template <typename From>
auto read_answer(ArmProcess& process, const std::string& answer, const From& from) {
  try {
    return from(Json::parse(answer));
  } catch (const std::exception& error) {
    process.reject_answer(error.what());
  }
}

class SeparateProcesses final : public ArmSite {
 public:
  SeparateProcesses(const BenchmarkConfig& config, RunContext& context)
      : config_(config), context_(context), processes_(config.shared.arms.size()) {}

  ModelFacts load(size_t arm) override {
    const ArmConfig& config = config_.shared.arms[arm];
    ArmProcessOptions options;
    options.program = context_.program;
    options.config = context_.folder.file("config/resolved.yaml");
    options.arm = config.name;
    options.log_file = context_.folder.file("arms/" + config.name + ".log");
    options.limits = config.limits.value_or(config_.shared.limits);
    processes_[arm] = std::make_unique<ArmProcess>(options);
    const std::string facts = processes_[arm]->wait_until_loaded();
    return read_answer(*processes_[arm], facts, facts_from_json);
  }

  void begin_case(const Case& one, size_t index) override {
    case_ = &one;
    case_index_ = index;
  }

  GateResult gate(size_t arm) override {
    return read_answer(*processes_[arm], ask(arm, "gate"), [&](const Json& json) {
      return gate_from_json(json, config_.shared.arms[arm].name);
    });
  }

  Sample run(size_t arm) override {
    return read_answer(*processes_[arm], ask(arm, "run"),
                       [&](const Json& json) { return sample_from_json(json, *case_); });
  }

  std::string trace(size_t arm) override {
    return read_answer(*processes_[arm], ask(arm, "trace"),
                       [](const Json& json) { return json.at("trace").get<std::string>(); });
  }

  void finish(size_t arm) override {
    const ChildEnd end = processes_[arm]->finish();
    context_.log << fmt::format(
                        "{}: its process used {:.1f} s of processor time and at most {:.0f} MB\n",
                        config_.shared.arms[arm].name, end.cpu_seconds,
                        static_cast<double>(end.peak_resident_bytes) / 1e6)
                 << std::flush;
  }

 private:
  std::string ask(size_t arm, const char* what) {
    return processes_[arm]->ask(request_text(what, case_index_));
  }

  const BenchmarkConfig& config_;
  RunContext& context_;
  std::vector<std::unique_ptr<ArmProcess>> processes_;
  const Case* case_ = nullptr;
  size_t case_index_ = 0;
};

}  // namespace

std::unique_ptr<ArmSite> separate_processes(const BenchmarkConfig& config, RunContext& context) {
  return std::make_unique<SeparateProcesses>(config, context);
}

}  // namespace kvlab::experiments
