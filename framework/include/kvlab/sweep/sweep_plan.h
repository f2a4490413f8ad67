// The plan of a sweep: every case resolved, validated and frozen before the first one runs.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "kvlab/runtime/registry.h"
#include "kvlab/sweep/sweep_spec.h"

namespace kvlab {

/// One line of plan.jsonl.
struct SweepCase {
  int64_t index = 0;
  std::string name;                    ///< e.g. "block_size=16,new_tokens=64"
  SweepPoint settings;                 ///< in the order of the axes
  std::vector<std::string> overrides;  ///< of the sweep's config, in the order applied
  std::string hash;    ///< of the resolved config; empty where there is none
  std::string frozen;  ///< hash of the file configs/<index>.yaml that is run
  std::string trial;   ///< what makes it this trial: config, code version and data
  std::string reason;  ///< why it is skipped; empty for a case that runs

  bool skipped() const { return !reason.empty(); }
  /// "0003-1a2b3c4d", the name of its folder.
  std::string folder_name() const;
  /// "0003.yaml", the name of its frozen config.
  std::string config_name() const;
};

/// Everything that is fixed before a sweep starts.
struct SweepPlan {
  std::string config;      ///< the file, as named by the user
  std::string experiment;  ///< kind
  std::vector<std::string> overrides, axes;  ///< of the command line
  std::vector<std::string> keys;             ///< that vary, in order
  std::string code;                          ///< `code_version` of the program that planned
  std::string source;                        ///< state of the source tree, for readers
  std::map<std::string, std::string> data;   ///< fingerprints of weights and other files, by path
  std::vector<SweepCase> cases;

  int64_t runnable() const;
};

/// A new registry with everything that cases may name.
using RegistryFactory = std::function<Registry()>;

/// Takes the frozen config of a case as it becomes known; returns the text that was stored.
using FreezeConfig = std::function<std::string(const SweepCase&, const ConfigNode& resolved)>;

/// Resolves and validates every case of the config file `path` under `overrides` and `axes`. A case
/// that is refused is kept with its reason. Throws UserError where there is nothing to vary, too
/// many cases, or where all are refused (with the first reason).
SweepPlan plan_sweep(const std::string& path, const std::vector<std::string>& overrides,
                     const std::vector<std::string>& axes, const RegistryFactory& registry,
                     const FreezeConfig& freeze);

/// What the program is: version, a hash of program and framework library, the version of LibTorch
/// and the instruction set of the kernels. The same for the same build wherever it lies, as long as
/// its kernels run alike.
std::string code_version();

/// Fingerprints of all files and folders that a resolved config names: weights, tokenizers, texts,
/// plugin libraries; by absolute path. `known` keeps those that were taken before.
std::map<std::string, std::string> data_fingerprints(const ConfigNode& resolved,
                                                     std::map<std::string, std::string>& known);

/// The fingerprint of a file, or of all files in and below a folder.
std::string fingerprint_path(const std::string& path);

}  // namespace kvlab
