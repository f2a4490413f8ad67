// Numbers as 8-bit codes with one scale: number = code * scale, codes -127 .. 127, symmetric around
// zero, so that a zero stays zero.
#pragma once

#include <c10/util/BFloat16.h>

#include <cstdint>

namespace kvlab::plugins {

/// Writes the codes of `dim` numbers and returns their scale, the largest magnitude / 127; no
/// number is off by more than half a scale. Zeros give scale 0. Where one number is NaN or infinite
/// the scale is NaN and so is whatever the codes are decoded to. Scales below the smallest normal
/// number are raised to it. Never allocates.
float encode_int8(const float* numbers, int64_t dim, int8_t* codes);
float encode_int8(const c10::BFloat16* numbers, int64_t dim, int8_t* codes);

}  // namespace kvlab::plugins
