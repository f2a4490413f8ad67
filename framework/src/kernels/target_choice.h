// Which instruction sets every kernel is compiled for. Include before any header of Highway.
#pragma once

// SSSE3 alone: processors of 2007, not worth a copy of every kernel. SVE: vectors of a size known
// only at run time cannot be kept in arrays of registers; such processors run the NEON kernels.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
