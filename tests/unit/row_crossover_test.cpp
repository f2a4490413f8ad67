// Where the row kernels end: measured once, kept in a file that may be missing or broken.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <utility>

#include "../fixtures/model_file_writer.h"
#include "kvlab/core/thread_pool.h"
#include "kvlab/model/decoder.h"
#include "kvlab/model/weights.h"
#include "kvlab/runtime/row_crossover.h"

namespace kvlab {
namespace {

namespace fs = std::filesystem;

// Two layers of 12 * d * d weights.
Decoder decoder_of_width(int64_t d, at::ScalarType type) {
  ModelConfig config;
  config.vocabulary = 32;
  config.context = 8;
  config.d_model = d;
  config.layers = 2;
  config.n_heads = config.n_kv_heads = 4;
  config.head_dim = d / 4;
  config.d_mlp = 4 * d;
  config.position.type = "learned";
  DecoderWeights weights = random_weights(config, 1);
  weights.cast(type);
  return Decoder(config, std::move(weights), at::kFloat);
}

class RowCrossover : public ::testing::Test {
 protected:
  std::string path(const std::string& name = "deep/inside/row_crossover.json") const {
    return (folder_.path() / name).string();
  }

  testing::TemporaryFolder folder_;
  ThreadPool pool_{2};
};

TEST_F(RowCrossover, SmallModelsAreNotMeasuredAndWriteNoFile) {
  const Decoder decoder = decoder_of_width(64, at::kFloat);
  EXPECT_EQ(row_token_limit(decoder, pool_, RowCrossoverFile(path())), 16);
  EXPECT_FALSE(fs::exists(path()));
}

TEST_F(RowCrossover, EveryWeightFormatIsMeasuredWithinItsBounds) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kChar}) {
    const Decoder decoder = decoder_of_width(512, type);
    const RowMeasurement measured = measure_row_tokens(decoder, pool_);
    EXPECT_GE(measured.row_tokens, 1) << type;
    EXPECT_LE(measured.row_tokens, measured.disturbed ? 64 : kMostRowTokens) << type;
  }
}

TEST_F(RowCrossover, WhatWasMeasuredInPeaceIsKept) {
  const Decoder decoder = decoder_of_width(512, at::kChar);
  const RowCrossoverFile file(path());
  const int64_t limit = row_token_limit(decoder, pool_, file);
  // On a busy machine nothing is.
  const std::optional<int64_t> kept = file.find(row_crossover_key(decoder, 2));
  EXPECT_EQ(kept.value_or(limit), limit);
  EXPECT_EQ(fs::exists(path()), kept.has_value());
}

TEST_F(RowCrossover, EntriesAreThoseOfOneMachineAndThreadCount) {
  const RowCrossoverFile file(path());
  const Decoder decoder = decoder_of_width(64, at::kFloat);
  file.keep(row_crossover_key(decoder, 2), 5);
  file.keep(row_crossover_key(decoder, 3), 6);
  const auto entries = file.entries(row_crossover_machine(2));
  ASSERT_EQ(entries.size(), 1u);
  EXPECT_EQ(entries[0].row_tokens, 5);
}

TEST_F(RowCrossover, WhatTheFileSaysIsNotMeasuredAgain) {
  const Decoder decoder = decoder_of_width(512, at::kFloat);
  const RowCrossoverFile file(path());
  file.keep(row_crossover_key(decoder, 2), 7);
  EXPECT_EQ(row_token_limit(decoder, pool_, file), 7);
}

TEST_F(RowCrossover, KeysDifferWhereTheAnswerMay) {
  const std::string floats = row_crossover_key(decoder_of_width(64, at::kFloat), 2);
  EXPECT_NE(floats, row_crossover_key(decoder_of_width(64, at::kFloat), 1));
  EXPECT_NE(floats, row_crossover_key(decoder_of_width(64, at::kChar), 2));
  EXPECT_NE(floats, row_crossover_key(decoder_of_width(128, at::kFloat), 2));
}

TEST_F(RowCrossover, ABrokenFileIsReplacedAndOtherEntriesSurvive) {
  fs::create_directories(fs::path(path()).parent_path());
  for (const char* broken : {"", "{\"a\": 3", "[1, 2]", "7", "\xff\xfe"}) {
    std::ofstream(path()) << broken;
    const RowCrossoverFile file(path());
    EXPECT_EQ(file.find("a"), std::nullopt) << broken;
    file.keep("b", 12);
    EXPECT_EQ(file.find("b"), 12) << broken;
  }
  std::ofstream(path()) << R"({"a": 3, "text": "x", "zero": 0, "large": 4097, "half": 1.5})";
  const RowCrossoverFile file(path());
  EXPECT_EQ(file.find("text"), std::nullopt);
  EXPECT_EQ(file.find("zero"), std::nullopt);
  EXPECT_EQ(file.find("large"), std::nullopt);
  EXPECT_EQ(file.find("half"), std::nullopt);
  file.keep("b", 12);
  EXPECT_EQ(file.find("a"), 3);
  EXPECT_EQ(file.find("b"), 12);
  const auto files = fs::directory_iterator(fs::path(path()).parent_path());
  EXPECT_EQ(std::distance(fs::begin(files), fs::end(files)), 1) << "a temporary file was left";
}

TEST_F(RowCrossover, AFileThatCannotBeWrittenIsNoError) {
  std::ofstream(path("deep")) << "a file where a folder is needed";
  const RowCrossoverFile file(path());
  EXPECT_NO_THROW(file.keep("a", 3));
  EXPECT_EQ(file.find("a"), std::nullopt);
  EXPECT_NO_THROW(RowCrossoverFile("").keep("a", 3));
}

TEST_F(RowCrossover, TheUsersFileLiesInTheCacheFolder) {
  const char* kept_cache = std::getenv("XDG_CACHE_HOME");
  const std::string kept = kept_cache == nullptr ? "" : kept_cache;
  ::setenv("XDG_CACHE_HOME", path("cache").c_str(), 1);
  RowCrossoverFile::of_user().keep("a", 3);
  // A relative path is to be ignored, as the convention says.
  ::setenv("XDG_CACHE_HOME", "relative", 1);
  EXPECT_EQ(RowCrossoverFile::of_user().find("a"), std::nullopt);
  if (kept_cache == nullptr) {
    ::unsetenv("XDG_CACHE_HOME");
  } else {
    ::setenv("XDG_CACHE_HOME", kept.c_str(), 1);
  }
  EXPECT_NE(testing::read_bytes(path("cache/kvlab/row_crossover.json")).find("\"a\": 3"),
            std::string::npos);
}

}  // namespace
}  // namespace kvlab
