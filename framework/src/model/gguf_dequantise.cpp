#include "gguf_dequantise.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstring>
#include <map>

#include "kvlab/core/error.h"

namespace kvlab::gguf {

namespace {

// Quantised types share one block length.
constexpr int64_t kBlockElements = 32;

template <typename Stored>
float load(const uint8_t* source) {
  Stored value;
  std::memcpy(&value, source, sizeof(Stored));
  return static_cast<float>(value);
}

// Block: scale, 32 signed bytes.
void q8_0_block(const uint8_t* block, float* target) {
  const float scale = load<c10::Half>(block);
  for (int64_t i = 0; i < kBlockElements; ++i) {
    target[i] = scale * static_cast<float>(static_cast<int8_t>(block[2 + i]));
  }
}

// Block: scale, 16 bytes whose low halves are the first 16 numbers plus 8.
void q4_0_block(const uint8_t* block, float* target) {
  const float scale = load<c10::Half>(block);
  const uint8_t* codes = block + 2;
  for (int64_t i = 0; i < kBlockElements / 2; ++i) {
    target[i] = scale * static_cast<float>((codes[i] & 15) - 8);
    target[i + kBlockElements / 2] = scale * static_cast<float>((codes[i] >> 4) - 8);
  }
}

// Block: scale, minimum, 16 bytes whose low halves are the first 16 numbers.
void q4_1_block(const uint8_t* block, float* target) {
  const float scale = load<c10::Half>(block);
  const float minimum = load<c10::Half>(block + 2);
  const uint8_t* codes = block + 4;
  for (int64_t i = 0; i < kBlockElements / 2; ++i) {
    target[i] = scale * static_cast<float>(codes[i] & 15) + minimum;
    target[i + kBlockElements / 2] = scale * static_cast<float>(codes[i] >> 4) + minimum;
  }
}

}  // namespace

Block block_of(GgufType type) {
  switch (type) {
    case GgufType::f32: return {1, 4};
    case GgufType::f16: return {1, 2};
    case GgufType::bf16: return {1, 2};
    case GgufType::q4_0: return {kBlockElements, 18};
    case GgufType::q4_1: return {kBlockElements, 20};
    case GgufType::q8_0: return {kBlockElements, 34};
  }
  KVLAB_INVARIANT(false, "[model.gguf] type number ", static_cast<uint32_t>(type), " has no block");
}

std::optional<GgufType> readable_type(uint32_t number) {
  for (const GgufType type : {GgufType::f32, GgufType::f16, GgufType::bf16, GgufType::q4_0,
                              GgufType::q4_1, GgufType::q8_0}) {
    if (static_cast<uint32_t>(type) == number) return type;
  }
  return std::nullopt;
}

std::string type_name(uint32_t number) {
  static const std::map<uint32_t, const char*> names = {
      {0, "F32"},     {1, "F16"},      {2, "Q4_0"},   {3, "Q4_1"},    {6, "Q5_0"},
      {7, "Q5_1"},    {8, "Q8_0"},     {9, "Q8_1"},   {10, "Q2_K"},   {11, "Q3_K"},
      {12, "Q4_K"},   {13, "Q5_K"},    {14, "Q6_K"},  {15, "Q8_K"},   {16, "IQ2_XXS"},
      {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"},
      {22, "IQ2_S"},  {23, "IQ4_XS"},  {24, "I8"},    {25, "I16"},    {26, "I32"},
      {27, "I64"},    {28, "F64"},     {29, "IQ1_M"}, {30, "BF16"},   {34, "TQ1_0"},
      {35, "TQ2_0"},  {39, "MXFP4"}};
  const auto found = names.find(number);
  return found == names.end() ? "number " + std::to_string(number) : found->second;
}

void dequantise(GgufType type, const uint8_t* source, int64_t elements, float* target) {
  const auto each = [&](auto convert) {
    const Block block = block_of(type);
    const auto step = static_cast<int64_t>(block.elements);
    for (int64_t i = 0; i < elements; i += step, source += block.bytes) convert(source, target + i);
  };
  switch (type) {
    case GgufType::f32:
      std::memcpy(target, source, static_cast<size_t>(elements) * sizeof(float));
      return;
    case GgufType::f16:
      each([](const uint8_t* from, float* to) { *to = load<c10::Half>(from); });
      return;
    case GgufType::bf16:
      each([](const uint8_t* from, float* to) { *to = load<c10::BFloat16>(from); });
      return;
    case GgufType::q4_0: each(q4_0_block); return;
    case GgufType::q4_1: each(q4_1_block); return;
    case GgufType::q8_0: each(q8_0_block); return;
  }
}

}  // namespace kvlab::gguf

namespace kvlab {

std::string to_string(GgufType type) { return gguf::type_name(static_cast<uint32_t>(type)); }

}  // namespace kvlab
