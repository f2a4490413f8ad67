// The safetensors reader: what it reads, and every rule of the format that it enforces.
#include <ATen/core/Tensor.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <optional>

#include "../fixtures/model_file_writer.h"
#include "kvlab/core/error.h"
#include "kvlab/model/tensor_file.h"

namespace kvlab {
namespace {

using testing::raw;
using testing::raw_floats;
using testing::read_bytes;
using testing::safetensors;
using testing::SafetensorsWriter;
using testing::TemporaryFolder;

// The message of the UserError that opening the file and reading all its tensors throws.
std::optional<std::string> refusal(const std::string& path) {
  try {
    const SafetensorsFile file(path);
    for (const std::string& name : file.names()) file.tensor(name);
  } catch (const UserError& error) {
    return error.what();
  }
  return std::nullopt;
}

std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return "{\"dtype\":" + dtype + ",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets,
                size_t data) {
  return safetensors("{\"a\":" + entry(dtype, shape, offsets) + "}", std::string(data, '\1'));
}

std::string small_file() {
  return safetensors(
      "{\"__metadata__\":{\"format\":\"pt\"},\"w\":{\"dtype\":\"F32\",\"shape\":[2,2],"
      "\"data_offsets\":[0,16]},\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[16,20]}}",
      raw_floats({1, 2, 3, 4}) + raw(c10::BFloat16(0.5F)) + raw(c10::BFloat16(-3.0F)));
}

TEST(Safetensors, ReadsShapesValuesAndMetadata) {
  const TemporaryFolder folder;
  const SafetensorsFile file(folder.write("m.safetensors", small_file()));
  EXPECT_EQ(file.names(), (std::vector<std::string>{"b", "w"}));
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_TRUE(file.contains("w"));
  EXPECT_FALSE(file.contains("__metadata__"));
  EXPECT_EQ(file.entry("w").dtype, "F32");
  const at::Tensor w = file.tensor("w");
  EXPECT_EQ(w.sizes(), (at::IntArrayRef{2, 2}));
  EXPECT_EQ(w.scalar_type(), at::kFloat);
  EXPECT_EQ(w.const_data_ptr<float>()[2], 3.0F);
}

TEST(Safetensors, WidensHalfPrecisionAndKeepsOrWidensBfloat16) {
  const TemporaryFolder folder;
  const std::string bytes =
      SafetensorsWriter()
          .add("half", "F16", {2}, raw(c10::Half(1.5F)) + raw(c10::Half(-2.0F)))
          .add("brain", "BF16", {}, raw(c10::BFloat16(0.25F)))
          .bytes();
  const SafetensorsFile file(folder.write("m.safetensors", bytes));
  const at::Tensor half = file.tensor("half");
  EXPECT_EQ(half.scalar_type(), at::kFloat);
  EXPECT_EQ(half.const_data_ptr<float>()[1], -2.0F);
  EXPECT_EQ(file.tensor("brain").scalar_type(), at::kBFloat16);
  EXPECT_EQ(file.tensor("brain").dim(), 0);
  const at::Tensor wide = file.tensor("brain", Bfloat16::widen);
  EXPECT_EQ(wide.scalar_type(), at::kFloat);
  EXPECT_EQ(wide.const_data_ptr<float>()[0], 0.25F);
}

TEST(Safetensors, TensorsOutliveTheFile) {
  const TemporaryFolder folder;
  at::Tensor w;
  {
    const SafetensorsFile file(folder.write("m.safetensors", small_file()));
    w = file.tensor("w");
  }
  EXPECT_EQ(w.const_data_ptr<float>()[3], 4.0F);
}

TEST(Safetensors, AcceptsAnEmptyFileAnEmptyTensorAndPaddedHeaders) {
  const TemporaryFolder folder;
  EXPECT_TRUE(SafetensorsFile(folder.write("a", safetensors("{}", ""))).names().empty());
  EXPECT_TRUE(SafetensorsFile(folder.write("b", safetensors("{}    ", ""))).names().empty());
  const SafetensorsFile file(folder.write("c", one("\"F32\"", "[0,5]", "[0,0]", 0)));
  EXPECT_EQ(file.entry("a").shape, (std::vector<int64_t>{0, 5}));
  EXPECT_THROW(file.tensor("a"), UserError);
}

TEST(Safetensors, HeaderLengthThatLooksLikeAPickleIsRead) {
  const TemporaryFolder folder;
  std::string header = "{}";
  header.resize(0x280, ' ');  // its length is written as the bytes 80 02, as a pickle begins
  EXPECT_EQ(refusal(folder.write("m", safetensors(header, ""))), std::nullopt);
}

TEST(Safetensors, OtherDtypesParseButAreRefusedByName) {
  const TemporaryFolder folder;
  const SafetensorsFile file(folder.write("m", one("\"I64\"", "[2]", "[0,16]", 16)));
  EXPECT_EQ(file.entry("a").dtype, "I64");
  try {
    file.tensor("a");
    FAIL() << "an I64 tensor was read";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("tensor 'a' is I64, weights can be F32, F16 or BF16"),
              std::string::npos)
        << error.what();
  }
}

TEST(Safetensors, MissingFilesAndTensorsAreMissingErrors) {
  const TemporaryFolder folder;
  EXPECT_THROW(SafetensorsFile((folder.path() / "none").string()), MissingError);
  const SafetensorsFile file(folder.write("m", small_file()));
  EXPECT_THROW(file.tensor("none"), MissingError);
  EXPECT_THROW(file.entry("none"), MissingError);
}

TEST(Safetensors, FoldersAndPipesAreRefusedWithoutWaiting) {
  const TemporaryFolder folder;
  EXPECT_NE(refusal(folder.path().string())->find("not a regular file"), std::string::npos);
  const std::string pipe = (folder.path() / "pipe").string();
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_NE(refusal(pipe)->find("not a regular file"), std::string::npos);
}

struct Malformed {
  const char* rule;
  std::string bytes;
  const char* message;
};

std::vector<Malformed> malformed_files() {
  const std::string good = entry("\"F32\"", "[1]", "[0,4]");
  const std::string four(4, '\0');
  const auto header = [&](const std::string& text) { return safetensors(text, four); };
  std::string cut_at_seven = small_file().substr(0, 7);
  return {
      {"empty file", "", "at least 8 bytes, got 0"},
      {"seven bytes", cut_at_seven, "at least 8 bytes, got 7"},
      {"header length zero", raw(uint64_t{0}), "does not start with '{'"},
      {"header beyond 100 MB", raw(uint64_t{100'000'001}) + "{}", "at most 100000000 bytes"},
      {"header length of all ones", raw(~uint64_t{0}) + "{}", "at most 100000000 bytes"},
      {"header longer than the file", raw(uint64_t{3}) + "{}", "claims 3 bytes, but only 2 follow"},
      {"header starts with a blank", header(" {}"), "does not start with '{'"},
      {"header is a list", header("[]"), "does not start with '{'"},
      {"byte order mark", header("\xef\xbb\xbf{}"), "does not start with '{'"},
      {"cut JSON", header("{\"a\":"), "not valid UTF-8 JSON"},
      {"text after the object", safetensors("{}x", ""), "not valid UTF-8 JSON"},
      {"NUL after the object", safetensors(std::string("{}\0x", 4), ""), "has a NUL byte"},
      {"comment", header("{/*x*/}"), "not valid UTF-8 JSON"},
      {"byte that is not UTF-8", header("{\"\xff\":" + good + "}"), "not valid UTF-8 JSON"},
      {"overlong UTF-8", header("{\"\xc0\x80\":" + good + "}"), "not valid UTF-8 JSON"},
      {"lone surrogate", header("{\"\\ud800\":" + good + "}"), "not valid UTF-8 JSON"},
      {"deep nesting", header("{\"a\":[[[[]]]]}"), "nests deeper than 3"},
      {"tensor twice", header("{\"a\":" + good + ",\"a\":" + good + "}"), "key 'a' stands twice"},
      {"tensor twice by escape", header("{\"a\":" + good + ",\"\\u0061\":" + good + "}"),
       "key 'a' stands twice"},
      {"dtype twice",
       header("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}"),
       "key 'dtype' stands twice"},
      {"entry is a number", header("{\"a\":4}"), "described by a number"},
      {"no dtype", header("{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}"), "has no dtype"},
      {"no shape", header("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}"), "has no shape"},
      {"no offsets", header("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}"), "has no data_offsets"},
      {"further key",
       header("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}"),
       "unknown key 'x'"},
      {"dtype is a number", one("3", "[1]", "[0,4]", 4), "dtype is a number"},
      {"unknown dtype", one("\"F33\"", "[1]", "[0,4]", 4), "unknown dtype 'F33'"},
      {"lower-case dtype", one("\"f32\"", "[1]", "[0,4]", 4), "unknown dtype 'f32'"},
      {"shape is a number", one("\"F32\"", "1", "[0,4]", 4), "shape is a number"},
      {"negative size", one("\"F32\"", "[-1]", "[0,4]", 4), "size in shape is negative, -1"},
      {"fractional size", one("\"F32\"", "[1.0]", "[0,4]", 4), "size in shape is no whole number"},
      {"text as size", one("\"F32\"", "[\"1\"]", "[0,4]", 4), "size in shape is no whole number"},
      {"size beyond 63 bits", one("\"F32\"", "[9223372036854775808]", "[0,4]", 4),
       "size in shape is too large"},
      {"size beyond 64 bits", one("\"F32\"", "[18446744073709551617]", "[0,4]", 4),
       "size in shape is no whole number"},
      {"element overflow", one("\"F32\"", "[4294967296,4294967296,4294967297]", "[0,4]", 4),
       "number of elements overflows"},
      {"byte overflow", one("\"F32\"", "[4611686018427387904,2]", "[0,4]", 4),
       "number of bytes overflows"},
      {"half a byte", one("\"F4\"", "[3]", "[0,1]", 1), "do not fill whole bytes"},
      {"offsets are an object", one("\"F32\"", "[1]", "{}", 4), "data_offsets is a object"},
      {"three offsets", one("\"F32\"", "[1]", "[0,4,4]", 4), "data_offsets has 3 numbers"},
      {"one offset", one("\"F32\"", "[1]", "[0]", 4), "data_offsets has 1 numbers"},
      {"negative begin", one("\"F32\"", "[1]", "[-4,0]", 4), "begin in data_offsets is negative"},
      {"end is null", one("\"F32\"", "[1]", "[0,null]", 4), "end in data_offsets is no whole"},
      {"end before begin", one("\"F32\"", "[1]", "[4,0]", 4), "begins at 4 after its end 0"},
      {"end beyond the file", one("\"F32\"", "[2]", "[0,8]", 4), "ends at 8, but the file holds 4"},
      {"too few bytes", one("\"F32\"", "[2]", "[0,4]", 4),
       "take 8 bytes, but data_offsets spans 4"},
      {"too many bytes", one("\"F32\"", "[1]", "[0,8]", 8),
       "take 4 bytes, but data_offsets spans 8"},
      {"hole at the start", one("\"F32\"", "[1]", "[4,8]", 8),
       "bytes 0 to 4 before tensor 'a' are a hole"},
      {"hole between",
       safetensors("{\"a\":" + entry("\"F32\"", "[1]", "[0,4]") +
                       ",\"b\":" + entry("\"F32\"", "[1]", "[8,12]") + "}",
                   std::string(12, '\0')),
       "bytes 4 to 8 before tensor 'b' are a hole"},
      {"overlap",
       safetensors("{\"a\":" + entry("\"F32\"", "[2]", "[0,8]") +
                       ",\"b\":" + entry("\"F32\"", "[2]", "[4,12]") + "}",
                   std::string(12, '\0')),
       "tensor 'b' begins at 4 and overlaps"},
      {"shared bytes", header("{\"a\":" + good + ",\"b\":" + good + "}"),
       "tensor 'b' begins at 0 and overlaps"},
      {"bytes after the last tensor", one("\"F32\"", "[1]", "[0,4]", 5),
       "end at byte 4 of the data, but the file holds 5"},
      {"data without tensors", safetensors("{}", "x"),
       "end at byte 0 of the data, but the file holds 1"},
      {"metadata is text", safetensors("{\"__metadata__\":\"x\"}", ""),
       "__metadata__ is no object"},
      {"metadata holds a number", safetensors("{\"__metadata__\":{\"x\":1}}", ""),
       "__metadata__ holds text only, but 'x' is a number"},
      {"metadata twice", safetensors("{\"__metadata__\":{},\"__metadata__\":{}}", ""),
       "key '__metadata__' stands twice"},
      {"pickle", std::string("\x80\x02}q\x00X", 6), "is a pickle"},
      {"newer pickle", std::string("\x80\x04\x95\x10\0\0\0\0\0\0\0}", 12), "is a pickle"},
      {"zip archive", std::string("PK\x03\x04\x14\0\x08\0\0\0", 10), "convert it to safetensors"},
  };
}

TEST(Safetensors, RefusesEveryBrokenRuleWithItsOwnMessage) {
  const TemporaryFolder folder;
  const auto cases = malformed_files();
  EXPECT_GE(cases.size(), 30U);
  for (const Malformed& broken : cases) {
    SCOPED_TRACE(broken.rule);
    const auto message = refusal(folder.write("m.safetensors", broken.bytes));
    ASSERT_TRUE(message.has_value()) << "the file was read";
    EXPECT_NE(message->find(broken.message), std::string::npos) << *message;
    EXPECT_NE(message->find("m.safetensors"), std::string::npos) << *message;
  }
}

TEST(Safetensors, MessagesEscapeNamesFromTheFile) {
  const TemporaryFolder folder;
  const std::string name = "\\n\\u001b[31m" + std::string(200, 'x');
  const auto message = refusal(folder.write("m", safetensors("{\"" + name + "\":1}", "")));
  ASSERT_TRUE(message.has_value());
  EXPECT_NE(message->find("'\\x0a\\x1b[31mxxx"), std::string::npos) << *message;
  EXPECT_LT(message->size(), 300U);
}

TEST(Safetensors, EveryTruncationIsRefused) {
  const TemporaryFolder folder;
  const std::string good = small_file();
  ASSERT_EQ(refusal(folder.write("m", good)), std::nullopt);
  for (size_t length = 0; length < good.size(); ++length) {
    EXPECT_TRUE(refusal(folder.write("m", good.substr(0, length))).has_value()) << length;
  }
}

TEST(Safetensors, CorruptingAnyByteIsRefusedOrHarmless) {
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
  EXPECT_GT(refused, good.size());
}

}  // namespace
}  // namespace kvlab
