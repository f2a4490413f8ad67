#include "kvlab/runtime/config_reader.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kvlab/core/error.h"

namespace {

using kvlab::ComponentSpec;
using kvlab::ConfigReader;

ConfigReader reader_of(const std::string& text) {
  return ConfigReader(kvlab::parse_config_text(text, "f.yaml"));
}

template <typename Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const kvlab::Error& error) {
    return error.what();
  }
  return "";
}

TEST(ConfigReader, ReadsEachType) {
  ConfigReader reader = reader_of(
      "text: hello\nquoted: \"12\"\nyes_: true\nint: -3\nbig: 9223372036854775807\nnum: 2.5e-1\n"
      "whole: 4\npick: b\nints: [3, 1, 2]\nnums: [0.5, 2]\ntexts: [a, \"1\"]\n");
  EXPECT_EQ(reader.text("text"), "hello");
  EXPECT_EQ(reader.text("quoted"), "12");
  EXPECT_TRUE(reader.boolean("yes_"));
  EXPECT_EQ(reader.integer("int"), -3);
  EXPECT_EQ(reader.integer("big"), INT64_MAX);
  EXPECT_EQ(reader.number("num"), 0.25);
  EXPECT_EQ(reader.number("whole"), 4.0);
  EXPECT_EQ(reader.choice("pick", {"a", "b"}), "b");
  EXPECT_EQ(reader.integers("ints"), (std::vector<int64_t>{3, 1, 2}));
  EXPECT_EQ(reader.numbers("nums"), (std::vector<double>{0.5, 2}));
  EXPECT_EQ(reader.texts("texts"), (std::vector<std::string>{"a", "1"}));
  reader.finish();
}

TEST(ConfigReader, UsesFallbacksOnlyForAbsentKeys) {
  ConfigReader reader = reader_of("there: 1\n");
  EXPECT_EQ(reader.integer_or("there", 5), 1);
  EXPECT_EQ(reader.integer_or("away", 5), 5);
  EXPECT_EQ(reader.text_or("away", "x"), "x");
  EXPECT_EQ(reader.number_or("away", 0.5), 0.5);
  EXPECT_TRUE(reader.boolean_or("away", true));
  EXPECT_EQ(reader.choice_or("away", "a", {"a"}), "a");
  EXPECT_EQ(reader.integers_or("away", {1}), (std::vector<int64_t>{1}));
  EXPECT_EQ(reader.optional_text("away"), std::nullopt);
  EXPECT_EQ(reader.optional_integer("away"), std::nullopt);
  EXPECT_FALSE(reader.optional_component("away").has_value());
  EXPECT_FALSE(reader.optional_child("away").has_value());
  EXPECT_FALSE(reader.has("away"));
  EXPECT_NE(message_of([&] { reader.boolean_or("there", true); }), "");
}

TEST(ConfigReader, NamesPlaceRuleAndValueOfABadNumber) {
  ConfigReader reader = reader_of("a: {b: 0, c: 1.5, d: inf, e: 1e999, f: abc, g: [1], h: 5}\n");
  ConfigReader a = reader.child("a");
  EXPECT_EQ(message_of([&] { a.integer("b", {1, 8}); }),
            "f.yaml:1:8: a.b: wanted a whole number from 1 to 8, got 0");
  EXPECT_EQ(message_of([&] { a.integer("c"); }),
            "f.yaml:1:14: a.c: wanted a whole number, got '1.5'; write it as digits only");
  EXPECT_EQ(message_of([&] { a.number("d"); }),
            "f.yaml:1:22: a.d: wanted a finite number, got 'inf'");
  EXPECT_EQ(message_of([&] { a.number("e"); }),
            "f.yaml:1:30: a.e: wanted a number, got '1e999', which is out of reach of a double");
  EXPECT_EQ(message_of([&] { a.number("f"); }), "f.yaml:1:40: a.f: wanted a number, got 'abc'");
  EXPECT_EQ(message_of([&] { a.number("g"); }), "f.yaml:1:48: a.g: wanted a number, got a list");
  EXPECT_EQ(message_of([&] { a.number("b", {0, 1, true}); }),
            "f.yaml:1:8: a.b: wanted a number above 0 and at most 1, got 0");
  EXPECT_EQ(message_of([&] { a.integer("h", {6, INT64_MAX}); }),
            "f.yaml:1:56: a.h: wanted a whole number of at least 6, got 5");
}

TEST(ConfigReader, FinishNamesUnknownKeysAndTheNearestKnownOne) {
  ConfigReader reader = reader_of("threads: 1\n\nchnuk: 5\n");
  reader.integer("threads");
  reader.integer_or("chunk", 0);
  EXPECT_EQ(message_of([&] { reader.finish(); }),
            "f.yaml:3:1: chnuk: the key 'chnuk' is not known here. Did you mean 'chunk'? Known: "
            "threads, chunk.");
}

TEST(ConfigReader, FinishCoversChildReadersThatWereHandedOut) {
  ConfigReader reader = reader_of("a:\n  b: {x: 1, y: 2}\nlist: [{p: 1}, {p: 1, q: 2}]\n");
  reader.child("a").child("b").integer("x");
  for (ConfigReader& item : reader.children("list")) item.integer("p");
  EXPECT_EQ(message_of([&] { reader.finish(); }),
            "f.yaml:2:13: a.b.y: the key 'y' is not known here. Did you mean 'x'? Known: x.");
  reader.child("a").child("b").integer("y");
}

TEST(ConfigReader, FinishCountsTheValueOfARawNodeAsRead) {
  ConfigReader reader = reader_of("raw: {anything: [1, {goes: here}]}\n");
  EXPECT_TRUE(reader.value("raw").is_map());
  reader.finish();
}

TEST(ConfigReader, CopiesShareWhatWasAsked) {
  ConfigReader reader = reader_of("a: 1\n");
  ConfigReader copy = reader;
  copy.integer("a");
  reader.finish();
}

TEST(ConfigReader, MissingKeysPointAtALikelySlip) {
  ConfigReader reader = reader_of("a: {promt: x}\n");
  ConfigReader a = reader.child("a");
  EXPECT_EQ(message_of([&] { a.text("prompt"); }),
            "f.yaml:1:4: a: the key 'prompt' is required and missing; is 'promt' a slip?");
}

TEST(ConfigReader, ReadsTheThreeFormsOfAComponent) {
  ConfigReader reader = reader_of(
      "map: {type: gqa_shared, kv_heads: 3, inner: {type: paged, block_size: 16}}\n"
      "bare: paged\ncompact: gqa_shared:kv_heads=3,inner=paged,inner.block_size=16\n"
      "list: [none, {type: paged, block_size: 8}]\n");
  const ComponentSpec map = reader.component("map");
  EXPECT_EQ(kvlab::to_string(map), "gqa_shared:inner=paged,inner.block_size=16,kv_heads=3");
  EXPECT_EQ(kvlab::to_string(reader.component("compact")), kvlab::to_string(map));
  EXPECT_EQ(map.where, "f.yaml:1:6");
  EXPECT_EQ(map.options.at("kv_heads").where, "f.yaml:1:35");
  EXPECT_EQ(map.options.at("inner").component->options.at("block_size").where, "f.yaml:1:71");
  EXPECT_EQ(kvlab::to_string(reader.component("bare")), "paged");
  EXPECT_EQ(reader.components("list").size(), 2u);
  EXPECT_EQ(reader.component_or("away", {"eager", {}, ""}).type, "eager");
  reader.finish();
}

TEST(ConfigReader, RefusesTheAmbiguousGroupKeyInEveryForm) {
  for (const std::string text :
       {"c: {type: x, n_kv_groups: 3}\n", "c: x:n_kv_groups=3\n",
        "c: {type: x, inner: {type: z, n_kv_groups: 3}}\n", "c: x:inner=z,inner.n_kv_groups=3\n"}) {
    const std::string message = message_of([&] { reader_of(text).component("c"); });
    EXPECT_NE(message.find("the field uses it for two different things"), std::string::npos)
        << text << message;
  }
}

TEST(ConfigReader, DataPathsMustUseAKeyThatIsKeptFindable) {
  ConfigReader reader = reader_of("weights: x\n");
  EXPECT_THROW(reader.data_path("weights"), kvlab::InternalError);
  EXPECT_EQ(reader.optional_data_path("path"), std::nullopt);
}

}  // namespace
