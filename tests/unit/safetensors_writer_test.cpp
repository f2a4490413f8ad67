// The writer beside the reader: what one writes the other reads.
#include "kvlab/model/safetensors_writer.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "../fixtures/model_file_writer.h"
#include "kvlab/core/error.h"
#include "kvlab/model/tensor_file.h"

namespace kvlab {
namespace {

using testing::TemporaryFolder;

TEST(SafetensorsWriter, WritesWhatTheReaderReads) {
  const TemporaryFolder folder;
  const std::string path = (folder.path() / "a.safetensors").string();
  const at::Tensor floats = at::arange(6, at::kFloat).reshape({2, 3});
  const at::Tensor narrow = floats.to(at::kBFloat16);
  const at::Tensor whole = at::arange(5, at::kLong);
  write_safetensors(path, {{"f \"x\"", floats}, {"t", floats.t()}, {"b", narrow}, {"i", whole}},
                    {{"cache", "paged"}});
  const SafetensorsFile file(path);
  EXPECT_EQ(file.names(), (std::vector<std::string>{"b", "f \"x\"", "i", "t"}));
  EXPECT_TRUE(file.tensor("f \"x\"").equal(floats));
  EXPECT_TRUE(file.tensor("t").equal(floats.t()));
  EXPECT_TRUE(file.tensor("b").equal(narrow));
  EXPECT_EQ(file.entry("i").dtype, "I64");
  EXPECT_EQ(file.entry("i").shape, std::vector<int64_t>{5});
  EXPECT_EQ(file.metadata().at("cache"), "paged");
  EXPECT_FALSE(std::filesystem::exists(path + ".unfinished"));
}

TEST(SafetensorsWriter, RefusesWhatItCannotWrite) {
  const TemporaryFolder folder;
  const std::string path = (folder.path() / "a.safetensors").string();
  EXPECT_THROW(write_safetensors(path, {{"d", at::arange(2, at::kDouble)}}), UserError);
  EXPECT_THROW(write_safetensors(path, {{"u", at::Tensor()}}), UserError);
  EXPECT_FALSE(std::filesystem::exists(path)) << "a refused file is not there";
  EXPECT_THROW(write_safetensors((folder.path() / "no/a.safetensors").string(), {}), UserError);
}

}  // namespace
}  // namespace kvlab
