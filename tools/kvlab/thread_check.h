// Whether the library's products really run on more than one thread: without OpenMP its parallel
// loops stay on one, silently.
#pragma once

#include <cstdint>

namespace kvlab {

/// Runs matrix products with `count` threads for a moment and returns how many threads of the
/// process computed, by the kernel's own accounting. 0 where the kernel does not say.
int64_t threads_that_compute(int count);

}  // namespace kvlab
