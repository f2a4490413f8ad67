// Which instruction set the kernels run with. Chosen from what the CPU has, at run time.
#pragma once

#include <string>
#include <vector>

namespace kvlab::kernels {

/// Name of the instruction set in use: "SSE4", "AVX2", "AVX3" (AVX-512), "NEON", ...
std::string target();

/// All that were compiled and this CPU can run, best first.
std::vector<std::string> available_targets();

/// Makes every kernel use `name`, one of `available_targets()`; "" goes back to the best. Throws
/// UserError naming the available ones. For tests and comparisons; not while kernels run.
void use_target(const std::string& name);

}  // namespace kvlab::kernels
