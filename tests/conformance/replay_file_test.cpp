// Replay files are read strictly: every mistake is named with its line.
#include <gtest/gtest.h>

#include "kvlab/conformance/failure.h"
#include "kvlab/conformance/random_operations.h"

namespace kvlab::conformance {
namespace {

using Kind = Operation::Kind;

const std::string kGood =
    "kvlab replay 1\n"
    "# a comment\n"
    "case paged_f32\n"
    "cache paged:block_size=5\n"
    "shape layers=2 rows=3 query_heads=6 kv_heads=3 key_dim=7 value_dim=5 max_length=40 "
    "max_step_tokens=40 window=0 dtype=f32\n"
    "seed 12\n"
    "step first=0 tokens=3,-,0\n"
    "truncate row=0 length=1\n"
    "end\n";

// The message for the good text with `from` replaced by `to`.
std::string message_for(const std::string& from, const std::string& to) {
  std::string text = kGood;
  const size_t place = text.find(from);
  EXPECT_NE(place, std::string::npos) << from;
  text.replace(place, from.size(), to);
  return message_of<UserError>([&] { read_replay(text); });
}

TEST(ReplayFile, ReadsWhatItWrites) {
  Replay replay;
  replay.chosen.name = "paged_bf16";
  replay.chosen.spec = "paged:block_size=5";
  replay.chosen.plugin = "paged";
  replay.chosen.shape = small_shape();
  replay.chosen.shape.dtype = at::kBFloat16;
  replay.chosen.shape.window = 9;
  replay.seed = UINT64_MAX;
  replay.failure = "two\nlines";
  for (const Kind kind : operation_kinds()) {
    const bool feeds = kind == Kind::step || kind == Kind::view_twice || kind == Kind::abort ||
                       kind == Kind::starve || kind == Kind::overfill;
    const bool counts = kind != Kind::step && kind != Kind::view_twice && kind != Kind::fork &&
                        kind != Kind::reset;
    const bool forks = kind == Kind::fork || kind == Kind::starve_fork;
    replay.operations.push_back(
        {kind, 1, forks ? 2 : 0, counts ? 4 : 0,
         feeds ? std::vector<int64_t>{2, -1, 0} : std::vector<int64_t>{}});
  }
  const Replay again = read_replay(write_replay(replay));
  EXPECT_EQ(again.chosen.name, replay.chosen.name);
  EXPECT_EQ(again.chosen.spec, replay.chosen.spec);
  EXPECT_EQ(again.chosen.plugin, "paged");
  EXPECT_EQ(again.chosen.shape.dtype, at::kBFloat16);
  EXPECT_EQ(again.chosen.shape.window, 9);
  EXPECT_EQ(again.chosen.shape.value_dim, replay.chosen.shape.value_dim);
  EXPECT_EQ(again.seed, replay.seed);
  EXPECT_EQ(again.operations, replay.operations);
}

TEST(ReplayFile, ReadsAFileWrittenByHand) {
  const Replay replay = read_replay(kGood);
  ASSERT_EQ(replay.operations.size(), 2U);
  EXPECT_EQ(to_text(replay.operations[0]), "step first=0 tokens=3,-,0");
  EXPECT_EQ(to_text(replay.operations[1]), "truncate row=0 length=1");
  EXPECT_EQ(replay.seed, 12U);
}

TEST(ReplayFile, NamesTheLineOfAMistake) {
  const std::string line = "[conformance.replay] line ";
  const auto expect = [&](const std::string& from, const std::string& to,
                          const std::string& wanted) {
    EXPECT_EQ(message_for(from, to), line + wanted) << "'" << from << "' -> '" << to << "'";
  };
  expect(kGood, "", "0: the file ends where kvlab replay 1 is missing");
  expect("kvlab replay 1", "kvlab replay 2",
         "1: the file must start with 'kvlab replay 1', got 'kvlab replay 2'");
  expect("seed 12", "sed 12",
         "6: unknown header 'sed'. Did you mean 'seed'? Known: case, cache, shape, seed.");
  expect("seed 12\n", "",
         "6: unknown header 'step'. Did you mean 'seed'? Known: case, cache, shape, seed.");
  expect("seed 12", "seed -12",
         "6: seed must be a number from 0 to 18446744073709551615, got '-12'");
  expect("seed 12", "seed", "6: 'seed' has no value");
  expect("seed 12", "case again", "6: 'case' is there twice");
  expect("seed 12\n", "seed 12\nseed 13\n", "7: 'seed' is there twice");
  expect("case paged_f32", "case ../paged",
         "3: case '../paged' has other characters than letters, digits and _");
  expect("layers=2", "layers=two", "5: layers must be a number from 0 to 4096, got 'two'");
  expect("layers=2", "layers=99999", "5: layers must be a number from 0 to 4096, got '99999'");
  expect("layers=2 ", "", "5: 'layers' is missing");
  expect("layers=2", "layers=2 layers=2", "5: 'layers' is there twice");
  expect("layers=2", "layers=2 heads=2", "5: unknown 'heads'");
  expect("dtype=f32", "dtype=f64", "5: dtype must be f32 or bf16, got 'f64'");
  expect("dtype=f32", "dtype=f32 ", "5: expected name=value, got ''");
  expect("step first", "stop first",
         "7: unknown operation 'stop'. Did you mean 'step'? Known: step, view_twice, abort, "
         "starve, truncate, fork, starve_fork, reset, overfill.");
  expect("row=0 length=1", "row=3 length=1", "8: row must be a number from 0 to 2, got '3'");
  expect("row=0 length=1", "row=0 length=-1",
         "8: length must be a number from 0 to 1000000, got '-1'");
  expect("row=0 length=1", "row=0", "8: 'length' is missing");
  expect("row=0 length=1", "row=0 row=0 length=1", "8: 'row' is there twice");
  expect("row=0 length=1", "row=0 length=1 now", "8: expected name=value, got 'now'");
  expect("row=0 length=1", "row=0 length=1 to=2", "8: unknown 'to'");
  expect(" row=0 length=1", "", "8: 'truncate' has no numbers");
  expect("3,-,0", "3,-", "7: tokens are given for 2 rows, the shape has 3");
  expect("3,-,0", "3,-,", "7: tokens must be a number from 0 to 1000000, got ''");
  expect("3,-,0", "3,-1,0", "7: tokens must be a number from 0 to 1000000, got '-1'");
  expect("end\n", "", "8: the file ends where an operation or 'end' is missing");
  expect("end\n", "end\nreset row=0\n", "10: text after 'end': 'reset row=0'");
}

TEST(ReplayFile, RefusesShapesAndCachesThatCannotBe) {
  EXPECT_NE(message_for("kv_heads=3", "kv_heads=4").find("line 5: "), std::string::npos);
  EXPECT_NE(message_for("paged:block_size=5", "paged:block_size").find("line 4: "),
            std::string::npos);
  std::string huge = kGood;
  for (const std::string dimension : {"layers=2", "rows=3", "max_length=40"}) {
    huge.replace(huge.find(dimension), dimension.size(),
                 dimension.substr(0, dimension.find('=')) + "=4096");
  }
  const std::string message = message_of<UserError>([&] { read_replay(huge); });
  EXPECT_NE(message.find("are allowed"), std::string::npos) << message;
}

}  // namespace
}  // namespace kvlab::conformance
