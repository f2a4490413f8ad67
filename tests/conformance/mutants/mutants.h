// Every planted bug with the property that must find it and the real bug it stands for.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "bug.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::mutants {

/// Which of the sound caches of this folder a bug is planted in.
enum class Base { contiguous, whole, blocks, ring, rebased, coded };

struct Mutant {
  Bug bug;
  Base base;
  const char* name;       ///< registered as "mutant_<name>"
  const char* killed_by;  ///< a cache property
  const char* story;      ///< what goes wrong
  const char* real_bug;   ///< where it happened, or was measured
};

std::span<const Mutant> mutants();

/// Names of the caches without a bug: "sound_<base>".
std::vector<std::string> sound_caches();

/// The name that a mutant is registered under.
std::string registered_name(const Mutant& mutant);

/// Adds the sound caches and the mutants.
void register_mutants(Registry& registry);

}  // namespace kvlab::mutants
