#include "kvlab/sweep/sweep_plan.h"

#include <c10/util/Exception.h>

#include <cstdio>
#include <algorithm>

#include "kvlab/core/error.h"
#include "kvlab/runtime/experiment.h"
#include "kvlab/runtime/process.h"

namespace kvlab {

namespace {

constexpr size_t kLongestValue = 40;  // of a name

std::string numbered(int64_t index) {
  char text[32];
  std::snprintf(text, sizeof text, "%04lld", static_cast<long long>(index));
  return text;
}

// The last part of each key, or as many parts as it takes to tell them apart.
std::vector<std::string> short_names(const std::vector<std::string>& keys) {
  std::vector<std::string> names;
  for (const std::string& key : keys) {
    std::string name = key;
    size_t dot = key.size();
    while (dot != std::string::npos && dot > 0) {
      dot = key.rfind('.', dot - 1);
      if (dot == std::string::npos) break;
      const std::string tail = key.substr(dot);
      const auto ends_so = [&](const std::string& other) {
        return other.ends_with(tail) || "." + other == tail;
      };
      if (std::count_if(keys.begin(), keys.end(), ends_so) == 1) {
        name = key.substr(dot + 1);
        break;
      }
    }
    names.push_back(name);
  }
  return names;
}

std::string short_value(const std::string& value) {
  if (value.size() <= kLongestValue) return value;
  size_t end = kLongestValue;
  while (end > 0 && (static_cast<unsigned char>(value[end]) & 0xC0) == 0x80) --end;
  return value.substr(0, end) + "...";
}

std::string case_name(const SweepPoint& point, const std::vector<std::string>& keys,
                      const std::vector<std::string>& names) {
  std::string text;
  for (const SweepSetting& setting : point) {
    const size_t at = static_cast<size_t>(
        std::find(keys.begin(), keys.end(), setting.key) - keys.begin());
    const bool removes = setting.key.starts_with('~');
    text += (text.empty() ? "" : ",") + names[at] +
            (removes ? "" : "=" + short_value(setting.value));
  }
  return text;
}

std::string source_state(const Registry& registry) {
  for (const ReportFact& fact : describe_environment(registry)) {
    if (fact.name == "source") return fact.value;
  }
  return "unknown";
}

// Resolves and validates one case; where it is refused, says why.
void settle(SweepCase& planned, const std::string& path, std::vector<std::string> applied,
            const RegistryFactory& new_registry, const FreezeConfig& freeze, SweepPlan& plan,
            std::map<std::string, std::string>& known_data) {
  try {
    Registry registry = new_registry();
    const LoadedExperiment loaded = load_experiment(path, applied, registry);
    planned.hash = hash_text(to_yaml(loaded.config.root));
    std::string identity = planned.hash + "\n" + plan.code + "\n";
    for (const auto& [file, print] : data_fingerprints(loaded.config.root, known_data)) {
      plan.data[file] = print;
      identity += print + "\n";
    }
    planned.trial = hash_text(identity);
    planned.frozen = hash_text(freeze(planned, loaded.config.root));
  } catch (const StorageError&) {
    throw;
  } catch (const InterruptedError&) {
    throw;
  } catch (const c10::Error& error) {
    planned.reason = error.what_without_backtrace();
  } catch (const std::exception& error) {
    planned.reason = error.what();
  }
}

}  // namespace

std::string SweepCase::folder_name() const { return numbered(index) + "-" + hash.substr(0, 8); }

std::string SweepCase::config_name() const { return numbered(index) + ".yaml"; }

int64_t SweepPlan::runnable() const {
  return std::count_if(cases.begin(), cases.end(),
                       [](const SweepCase& planned) { return !planned.skipped(); });
}

SweepPlan plan_sweep(const std::string& path, const std::vector<std::string>& overrides,
                     const std::vector<std::string>& axes, const RegistryFactory& registry,
                     const FreezeConfig& freeze) {
  const ConfigNode root = load_config_file(path, overrides);
  SweepPlan plan;
  plan.config = path;
  plan.overrides = overrides;
  plan.axes = axes;
  const ConfigNode* kind = root.find("experiment");
  plan.experiment = kind != nullptr && kind->is_scalar() ? kind->text() : "";
  const ConfigNode* sweep = root.find("sweep");
  std::vector<SweepFactor> factors;
  if (sweep != nullptr) factors = read_sweep(*sweep);
  take_axes(factors, axes);
  KVLAB_CHECK(!factors.empty(), "[sweep.plan] '", path,
              "' varies nothing; add sweep: to the file, or -m key=value,value");
  count_cases(factors, kMostSweepCases);
  plan.keys = sweep_keys(factors);
  plan.code = code_version();
  plan.source = source_state(registry());
  const std::vector<std::string> names = short_names(plan.keys);
  std::map<std::string, std::string> known_data;
  for (SweepPoint& point : sweep_points(factors)) {
    check_interrupted();
    SweepCase planned;
    planned.index = static_cast<int64_t>(plan.cases.size());
    planned.name = case_name(point, plan.keys, names);
    std::vector<std::string> applied = overrides;
    if (sweep != nullptr) applied.push_back("~sweep");
    for (const SweepSetting& setting : point) {
      planned.overrides.push_back(setting.override_text());
      applied.push_back(planned.overrides.back());
    }
    planned.settings = std::move(point);
    settle(planned, path, std::move(applied), registry, freeze, plan, known_data);
    plan.cases.push_back(std::move(planned));
  }
  KVLAB_CHECK(plan.runnable() > 0, "[sweep.plan] none of the ", plan.cases.size(),
              " cases can run. The first: ", plan.cases.front().reason);
  return plan;
}

}  // namespace kvlab
