// The GGUF reader: metadata, dequantisation, and every check of its header.
#include <ATen/core/Tensor.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <gtest/gtest.h>

#include <limits>
#include <optional>

#include "../fixtures/model_file_writer.h"
#include "kvlab/core/error.h"
#include "kvlab/model/tensor_file.h"

namespace kvlab {
namespace {

using testing::gguf_text;
using testing::GgufWriter;
using testing::raw;
using testing::raw_floats;
using testing::TemporaryFolder;

constexpr uint32_t kF32 = 0, kF16 = 1, kQ4_0 = 2, kQ4_1 = 3, kQ8_0 = 8, kBf16 = 30;
constexpr uint32_t kBool = 7, kText = 8, kArray = 9;

// The message of the UserError that opening the file and reading all of it throws.
std::optional<std::string> refusal(const std::string& path) {
  try {
    const GgufFile file(path);
    for (const std::string& name : file.names()) file.tensor(name);
  } catch (const UserError& error) {
    return error.what();
  }
  return std::nullopt;
}

std::string small_file() {
  return GgufWriter()
      .text("general.architecture", "llama")
      .u32("general.alignment", 32)
      .texts("words", {"a", "bc", ""})
      .pair("nested", kArray,
            raw(kArray) + raw(uint64_t{1}) + raw(kBool) + raw(uint64_t{2}) + std::string("\1\0", 2))
      .tensor("w", {2, 3}, kF32, raw_floats({1, 2, 3, 4, 5, 6}))
      .tensor("q", {32}, kQ4_1,
              raw(c10::Half(0.5F)) + raw(c10::Half(-1.0F)) + std::string(16, '\x2f'))
      .bytes();
}

at::Tensor read_one(uint32_t type, const std::vector<uint64_t>& sizes, const std::string& bytes) {
  const TemporaryFolder folder;
  return GgufFile(folder.write("m.gguf", GgufWriter().tensor("w", sizes, type, bytes).bytes()))
      .tensor("w");
}

TEST(Gguf, ReadsMetadataOfEveryType) {
  const TemporaryFolder folder;
  const GgufFile file(
      folder.write("m.gguf", GgufWriter()
                                 .pair("u8", 0, raw(uint8_t{200}))
                                 .pair("i8", 1, raw(int8_t{-3}))
                                 .pair("u16", 2, raw(uint16_t{65535}))
                                 .pair("i16", 3, raw(int16_t{7}))
                                 .u32("u32", 4'000'000'000U)
                                 .pair("i32", 5, raw(int32_t{-9}))
                                 .f32("f32", 0.25F)
                                 .pair("yes", kBool, "\1")
                                 .text("text", "h\xc3\xa9")
                                 .texts("texts", {"a b", ""})
                                 .i32s("i32s", {3, -4})
                                 .pair("u64", 10, raw(std::numeric_limits<uint64_t>::max()))
                                 .pair("i64", 11, raw(int64_t{1} << 40))
                                 .pair("f64", 12, raw(1e300))
                                 .f32("nan", std::numeric_limits<float>::quiet_NaN())
                                 .bytes()));
  EXPECT_EQ(file.version(), 3U);
  EXPECT_EQ(file.keys().size(), 15U);
  EXPECT_EQ(file.integer("u8"), 200);
  EXPECT_EQ(file.integer("u16"), 65535);
  EXPECT_EQ(file.integer("i16"), 7);
  EXPECT_EQ(file.integer("u32"), 4'000'000'000);
  EXPECT_EQ(file.integer("i64"), int64_t{1} << 40);
  EXPECT_EQ(file.number("f32"), 0.25);
  EXPECT_EQ(file.number("f64"), 1e300);
  EXPECT_EQ(file.number("i8"), -3.0);
  EXPECT_EQ(file.boolean("yes"), true);
  EXPECT_EQ(file.text("text"), "h\xc3\xa9");
  EXPECT_EQ(file.texts("texts"), (std::vector<std::string>{"a b", ""}));
  EXPECT_EQ(file.integers("i32s"), (std::vector<int64_t>{3, -4}));
  EXPECT_FALSE(file.has("absent"));
  EXPECT_EQ(file.integer("absent"), std::nullopt);
  EXPECT_EQ(file.texts("absent"), std::nullopt);
  EXPECT_THROW(file.integer("i32"), UserError);  // negative
  EXPECT_THROW(file.integer("u64"), UserError);  // beyond 63 bits
  EXPECT_THROW(file.integer("f32"), UserError);
  EXPECT_THROW(file.integer("i32s"), UserError);
  EXPECT_THROW(file.number("nan"), UserError);
  EXPECT_THROW(file.number("text"), UserError);
  EXPECT_THROW(file.boolean("u8"), UserError);
  EXPECT_THROW(file.text("u8"), UserError);
  EXPECT_THROW(file.texts("i32s"), UserError);
  EXPECT_THROW(file.integers("texts"), UserError);
  EXPECT_THROW(file.integers("u8"), UserError);
}

TEST(Gguf, ReadsVersionTwoAndAFileWithoutTensors) {
  const TemporaryFolder folder;
  GgufWriter writer;
  writer.version = 2;
  const GgufFile file(folder.write("m.gguf", writer.bytes()));
  EXPECT_EQ(file.version(), 2U);
  EXPECT_TRUE(file.names().empty());
}

TEST(Gguf, ReversesDimensionsAndKeepsRowsTogether) {
  const TemporaryFolder folder;
  const GgufFile file(folder.write("m.gguf", small_file()));
  EXPECT_EQ(file.names(), (std::vector<std::string>{"q", "w"}));
  EXPECT_EQ(file.info("w").shape, (std::vector<int64_t>{3, 2}));
  const at::Tensor w = file.tensor("w");
  EXPECT_EQ(w.sizes(), (at::IntArrayRef{3, 2}));
  EXPECT_EQ(w.const_data_ptr<float>()[1], 2.0F);
  EXPECT_THROW(file.tensor("none"), MissingError);
}

TEST(Gguf, DequantisesQ80) {
  std::string bytes = raw(c10::Half(0.5F));
  for (int i = 0; i < 32; ++i) bytes += static_cast<char>(static_cast<int8_t>(i * 8 - 128));
  const at::Tensor w = read_one(kQ8_0, {32}, bytes);
  for (int i = 0; i < 32; ++i) {
    EXPECT_EQ(w.const_data_ptr<float>()[i], 0.5F * static_cast<float>(i * 8 - 128)) << i;
  }
}

TEST(Gguf, DequantisesQ40WithLowHalvesFirst) {
  std::string bytes = raw(c10::Half(2.0F));
  for (int i = 0; i < 16; ++i) bytes += static_cast<char>(i | ((15 - i) << 4));
  const at::Tensor w = read_one(kQ4_0, {32}, bytes);
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(w.const_data_ptr<float>()[i], 2.0F * static_cast<float>(i - 8)) << i;
    EXPECT_EQ(w.const_data_ptr<float>()[i + 16], 2.0F * static_cast<float>(7 - i)) << i;
  }
}

TEST(Gguf, DequantisesQ41InTheSecondRowToo) {
  std::string bytes(20, '\0');
  bytes += raw(c10::Half(0.25F)) + raw(c10::Half(-1.0F));
  for (int i = 0; i < 16; ++i) bytes += static_cast<char>(i | ((15 - i) << 4));
  const at::Tensor w = read_one(kQ4_1, {32, 2}, bytes);
  EXPECT_EQ(w.const_data_ptr<float>()[5], 0.0F);
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(w.const_data_ptr<float>()[32 + i], 0.25F * static_cast<float>(i) - 1.0F) << i;
    EXPECT_EQ(w.const_data_ptr<float>()[48 + i], 0.25F * static_cast<float>(15 - i) - 1.0F) << i;
  }
}

TEST(Gguf, WidensHalfAndBrainFloats) {
  EXPECT_EQ(read_one(kF16, {1}, raw(c10::Half(-1.5F))).const_data_ptr<float>()[0], -1.5F);
  EXPECT_EQ(read_one(kBf16, {1}, raw(c10::BFloat16(3.0F))).const_data_ptr<float>()[0], 3.0F);
}

struct Malformed {
  const char* rule;
  std::string bytes;
  const char* message;
};

std::string array_header(uint32_t type, uint64_t count) { return raw(type) + raw(count); }

std::vector<Malformed> malformed_files() {
  const auto with = [](auto change) {
    GgufWriter writer;
    change(writer);
    return writer.bytes();
  };
  const auto pair = [&](uint32_t type, const std::string& value) {
    return with([&](GgufWriter& w) { w.pair("k", type, value); });
  };
  const auto row = [&](const std::vector<uint64_t>& sizes, uint32_t type, uint64_t offset) {
    return with([&](GgufWriter& w) {
      w.table_row("t", sizes, type, offset);
      w.data = std::string(64, '\0');
    });
  };
  std::string deep;
  for (int i = 0; i < 40; ++i) deep += array_header(kArray, 1);
  const uint64_t huge = uint64_t{1} << 62;
  return {
      {"empty file", "", "starts with the letters GGUF"},
      {"wrong magic", with([](GgufWriter& w) { w.magic = "GGML"; }),
       "starts with the letters GGUF"},
      {"no version", "GGUF\3", "ends inside the version"},
      {"version one", with([](GgufWriter& w) { w.version = 1; }), "this file has version 1"},
      {"version four", with([](GgufWriter& w) { w.version = 4; }), "this file has version 4"},
      {"big-endian", with([](GgufWriter& w) { w.version = 0x03000000; }), "is big-endian"},
      {"no counts", std::string("GGUF") + raw(3U) + raw(uint64_t{0}),
       "ends inside the number of metadata pairs"},
      {"too many pairs", with([](GgufWriter& w) { w.pair_count = ~uint64_t{0}; }),
       "metadata pairs, more than"},
      {"too many tensors", with([](GgufWriter& w) { w.tensor_count = uint64_t{1} << 60; }),
       "tensors, more than"},
      {"one pair too few bytes", with([](GgufWriter& w) {
         w.u32("k", 1);
         w.pair_count = 2;
       }),
       "metadata pairs, more than"},
      {"key longer than the file",
       std::string("GGUF") + raw(3U) + raw(uint64_t{0}) + raw(uint64_t{1}) + raw(huge) +
           std::string(8, 'k'),
       "ends inside a metadata key"},
      {"empty key", with([](GgufWriter& w) {
         w.u32("", 1);
         w.u32("k", 1);
       }),
       "metadata key has 1 to 65535 bytes, got 0"},
      {"key of 65536 bytes", with([](GgufWriter& w) { w.u32(std::string(65536, 'k'), 1); }),
       "metadata key has 1 to 65535 bytes, got 65536"},
      {"key twice", with([](GgufWriter& w) { w.u32("k", 1).u32("k", 1); }), "'k' stands twice"},
      {"unknown value type", pair(13, std::string(8, '\0')), "unknown value type 13"},
      {"cut value", pair(10, std::string(4, '\0')), "ends inside the value of 'k'"},
      {"boolean of two", pair(kBool, "\2"), "must be 0 or 1, got 2"},
      {"text longer than the file", pair(kText, raw(huge)), "ends inside the value of 'k'"},
      {"array longer than the file", pair(kArray, array_header(4, huge)), "elements, more than"},
      {"array one element too long", pair(kArray, array_header(4, 2) + raw(1U)),
       "claims 2 elements"},
      {"unknown element type", pair(kArray, array_header(99, 0)), "unknown element type 99"},
      {"cut array header", pair(kArray, raw(4U)), "ends inside the value of 'k'"},
      {"cut text in an array", pair(kArray, array_header(kText, 2) + gguf_text("a") + raw(huge)),
       "ends inside the value of 'k'"},
      {"boolean of two in an array", pair(kArray, array_header(kBool, 2) + "\1\2"),
       "must be 0 or 1, got 2"},
      {"deep arrays", pair(kArray, deep), "nests arrays deeper"},
      {"nested array longer than the file",
       pair(kArray, array_header(kArray, 1) + array_header(0, huge)), "elements, more than"},
      {"alignment of three", with([](GgufWriter& w) { w.u32("general.alignment", 3); }),
       "power of two, got 3"},
      {"alignment of zero", with([](GgufWriter& w) { w.u32("general.alignment", 0); }),
       "power of two, got 0"},
      {"alignment as text", with([](GgufWriter& w) { w.text("general.alignment", "32"); }),
       "must be of type uint32"},
      {"alignment beyond the file", with([](GgufWriter& w) {
         w.u32("general.alignment", 1U << 31);
         w.table_row("t", {1}, kF32, 0);
       }),
       "before its tensor data"},
      {"no dimensions", with([](GgufWriter& w) {
         w.table_row("t", {}, kF32, 0);
         w.data = std::string(64, '\0');
       }),
       "must have 1 to 4 dimensions, got 0"},
      {"five dimensions", row({1, 1, 1, 1, 1}, kF32, 0), "must have 1 to 4 dimensions, got 5"},
      {"dimension of zero", row({4, 0}, kF32, 0), "dimension of size zero"},
      {"element overflow", row({huge, 4}, kF32, 0), "number of elements overflows"},
      {"element count beyond 63 bits", row({uint64_t{1} << 63}, kF32, 0),
       "number of elements overflows"},
      {"byte overflow", row({huge}, kF32, 0), "number of bytes overflows"},
      {"type that is not read", row({256}, 12, 0), "has type Q4_K, which is not read"},
      {"type that does not exist", row({256}, 1234, 0), "has type number 1234"},
      {"half a block", row({16}, kQ8_0, 0), "whole blocks of 32 elements, got 16"},
      {"half a block in each row", row({16, 2}, kQ4_0, 0), "whole blocks of 32 elements, got 16"},
      {"unaligned offset", row({1}, kF32, 4), "no multiple of the alignment 32"},
      {"data beyond the file", row({17}, kF32, 0), "spans 68 bytes from offset 0"},
      {"offset beyond the file", row({1}, kF32, 64 + 32), "from offset 96, but the file holds 64"},
      {"offset near 64 bits", row({1}, kF32, ~uint64_t{31}), "but the file holds 64"},
      {"no data", with([](GgufWriter& w) { w.table_row("t", {1}, kF32, 0); }),
       "but the file holds 0 bytes"},
      {"tensor twice",
       with([](GgufWriter& w) { w.tensor("t", {1}, kF32, "1234").tensor("t", {1}, kF32, "1234"); }),
       "tensor 't' stands twice"},
      {"overlap", with([](GgufWriter& w) {
         w.table_row("a", {9}, kF32, 0).table_row("b", {1}, kF32, 32);
         w.data = std::string(64, '\0');
       }),
       "tensor 'b' overlaps tensor 'a'"},
      {"shared data", with([](GgufWriter& w) {
         w.table_row("a", {1}, kF32, 0).table_row("b", {1}, kF32, 0);
         w.data = std::string(64, '\0');
       }),
       "overlaps tensor"},
      {"empty tensor name", with([](GgufWriter& w) {
         w.table_row("", {1, 1}, kF32, 0);
         w.data = std::string(64, '\0');
       }),
       "tensor name has 1 to 64 bytes, got 0"},
      {"long tensor name", with([](GgufWriter& w) {
         w.table_row(std::string(65, 't'), {1}, kF32, 0);
         w.data = std::string(64, '\0');
       }),
       "tensor name has 1 to 64 bytes, got 65"},
      {"pickle", std::string("\x80\x02}q\0X\0\0\0\0", 10), "is a pickle"},
      {"zip archive", std::string("PK\x03\x04\x14\0\0\0\0\0", 10), "zip archive"},
  };
}

TEST(Gguf, RefusesEveryBrokenRuleWithItsOwnMessage) {
  const TemporaryFolder folder;
  const auto cases = malformed_files();
  EXPECT_GE(cases.size(), 25U);
  for (const Malformed& broken : cases) {
    SCOPED_TRACE(broken.rule);
    const auto message = refusal(folder.write("m.gguf", broken.bytes));
    ASSERT_TRUE(message.has_value()) << "the file was read";
    EXPECT_NE(message->find(broken.message), std::string::npos) << *message;
    EXPECT_NE(message->find("m.gguf"), std::string::npos) << *message;
  }
}

TEST(Gguf, EveryTruncationIsRefused) {
  const TemporaryFolder folder;
  const std::string good = small_file();
  ASSERT_EQ(refusal(folder.write("m", good)), std::nullopt);
  for (size_t length = 0; length < good.size(); ++length) {
    EXPECT_TRUE(refusal(folder.write("m", good.substr(0, length))).has_value()) << length;
  }
}

TEST(Gguf, CorruptingAnyByteIsRefusedOrHarmless) {
  const TemporaryFolder folder;
  const std::string good = small_file();
  size_t refused = 0;
  for (size_t i = 0; i < good.size(); ++i) {
    for (const unsigned mask : {0x01U, 0x10U, 0x80U, 0xffU}) {
      std::string bad = good;
      bad[i] = static_cast<char>(static_cast<unsigned char>(bad[i]) ^ mask);
      refused += refusal(folder.write("m", bad)).has_value() ? 1 : 0;  // throws nothing else
    }
  }
  EXPECT_GT(refused, good.size() / 2);
}

}  // namespace
}  // namespace kvlab
