#include "kvlab/kernels/target.h"

#include "target_choice.h"

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>

#include "kvlab/core/error.h"

namespace kvlab::kernels {

namespace {

// Best first: in Highway a lower bit is a better target. The static one needs nothing that the
// compiler was not allowed anyway. Taken before `use_target` narrows what Highway reports.
const std::vector<int64_t>& compiled_and_supported() {
  static const std::vector<int64_t> targets = [] {
    std::vector<int64_t> found;
    int64_t remaining = (hwy::SupportedTargets() | HWY_STATIC_TARGET) & HWY_TARGETS;
    for (; remaining != 0; remaining &= remaining - 1) found.push_back(remaining & -remaining);
    return found;
  }();
  return targets;
}

// Kernels look at the chosen target at every call.
void choose(int64_t target) {
  hwy::SetSupportedTargetsForTest(target);
  hwy::GetChosenTarget().Update(target);
}

}  // namespace

std::string target() {
  const int64_t usable = hwy::SupportedTargets() & HWY_TARGETS;
  return hwy::TargetName(usable == 0 ? HWY_STATIC_TARGET : usable & -usable);
}

std::vector<std::string> available_targets() {
  std::vector<std::string> names;
  for (const int64_t target : compiled_and_supported()) names.push_back(hwy::TargetName(target));
  return names;
}

void use_target(const std::string& name) {
  const std::vector<int64_t>& targets = compiled_and_supported();
  if (name.empty()) {
    choose(targets.front());
    return;
  }
  std::string names;
  for (const int64_t target : targets) {
    if (name == hwy::TargetName(target)) {
      choose(target);
      return;
    }
    names += (names.empty() ? "" : ", ") + std::string(hwy::TargetName(target));
  }
  throw UserError(detail::concat("[kernels.target] no instruction set \"", name,
                                 "\" here. Use one of ", names));
}

}  // namespace kvlab::kernels
