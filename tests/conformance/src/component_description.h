// What a plugin's entry must say about itself, whatever its kind.
#pragma once

#include "kvlab/core/component.h"

namespace kvlab::conformance {

/// Throws Failure unless the entry has a summary of one line, a sentence for every option, and
/// examples that its options accept. `kind` as in `resolve_options`.
void require_described(const ComponentInfo& info, const char* kind);

}  // namespace kvlab::conformance
