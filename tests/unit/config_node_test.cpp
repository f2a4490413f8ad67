#include "kvlab/runtime/config_node.h"

#include <gtest/gtest.h>

#include <random>
#include <stdexcept>
#include <string>

#include "kvlab/core/error.h"

namespace {

using kvlab::ConfigNode;
using kvlab::parse_config_text;
using kvlab::to_yaml;

template <typename Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const kvlab::Error& error) {
    return error.what();
  }
  return "";
}

const ConfigNode& at(const ConfigNode& node, const std::string& key) {
  const ConfigNode* found = node.find(key);
  if (found == nullptr) throw std::runtime_error("no key " + key);
  return *found;
}

// Same kinds, keys in order, texts, and whether a text could be taken for something else.
void expect_same(const ConfigNode& left, const ConfigNode& right) {
  ASSERT_EQ(left.kind(), right.kind()) << left.path();
  if (left.is_scalar()) {
    EXPECT_EQ(left.text(), right.text()) << left.path();
    EXPECT_TRUE(right.quoted() || !left.quoted()) << left.path();
  } else if (left.is_list()) {
    ASSERT_EQ(left.items().size(), right.items().size()) << left.path();
    for (size_t i = 0; i < left.items().size(); ++i) expect_same(left.items()[i], right.items()[i]);
  } else {
    ASSERT_EQ(left.entries().size(), right.entries().size()) << left.path();
    for (size_t i = 0; i < left.entries().size(); ++i) {
      EXPECT_EQ(left.entries()[i].first, right.entries()[i].first);
      expect_same(left.entries()[i].second, right.entries()[i].second);
    }
  }
}

const char kArms[] =
    "arms:\n"
    "  - {name: none, cache: {type: none}}\n"
    "  - {name: paged64, cache: {type: paged, block_size: 64}}\n"
    "  - {name: bf16.64, cache: {type: paged, block_size: 64}}\n"
    "measure: {repeats: 5}\n";

TEST(ConfigNode, KnowsPlaceAndPathOfEveryValue) {
  const ConfigNode root = parse_config_text("a: 1\nlist:\n  - x\n  - {deep: \"\xC3\xA9\", b: z}\n",
                                            "f.yaml");
  EXPECT_EQ(root.path(), "");
  EXPECT_EQ(at(root, "a").where(), "f.yaml:1:4");
  EXPECT_EQ(root.key_where("list"), "f.yaml:2:1");
  const ConfigNode& map = at(root, "list").items()[1];
  EXPECT_EQ(map.path(), "list.1");
  EXPECT_EQ(at(map, "deep").path(), "list.1.deep");
  EXPECT_TRUE(at(map, "deep").quoted());
  EXPECT_FALSE(at(root, "a").quoted());
  // Columns count characters: the letter before takes two bytes.
  EXPECT_EQ(at(map, "b").where(), "f.yaml:4:20");
}

TEST(ConfigNode, AcceptsBlockScalarsCommentsAndWindowsLineEnds) {
  const ConfigNode root =
      parse_config_text("# first\r\na: 1 # one\r\ntext: |\r\n  two\r\n  lines\r\n", "f.yaml");
  EXPECT_EQ(at(root, "a").text(), "1");
  EXPECT_TRUE(at(root, "text").quoted());
  EXPECT_EQ(at(root, "text").text().substr(0, 3), "two");
}

TEST(ConfigNode, RefusesFilesAboveOneMebibyte) {
  const std::string comment = "a: 1\n#" + std::string((1 << 20) - 6, 'x');
  EXPECT_EQ(message_of([&] { parse_config_text(comment, "f.yaml"); }), "");
  EXPECT_EQ(message_of([&] { parse_config_text(comment + "x", "f.yaml"); }),
            "f.yaml:1:1: a config has at most 1048576 bytes, got 1048577; keep data in files of "
            "its own");
}

TEST(ConfigNode, AcceptsTheDeepestAllowedNestingAndRefusesOneMore) {
  const auto nested = [](int lists) {
    return "a: " + std::string(static_cast<size_t>(lists), '[') + "1" +
           std::string(static_cast<size_t>(lists), ']') + "\n";
  };
  EXPECT_EQ(message_of([&] { parse_config_text(nested(31), "f.yaml"); }), "");
  EXPECT_NE(message_of([&] { parse_config_text(nested(32), "f.yaml"); }).find("at most 32 deep"),
            std::string::npos);
  EXPECT_NE(message_of([&] { parse_config_text(nested(5000), "f.yaml"); }).find("at most 32 deep"),
            std::string::npos);
}

TEST(ConfigNode, RefusesEveryAmbiguousScalarUnlessItIsQuoted) {
  for (const std::string word :
       {"yes", "No", "ON", "off", "y", "N", "TRUE", "False", "~", "null", "Null", "NULL", ".inf",
        "-.Inf", ".NaN", "010", "-007", "00", "0o17", "0xff", "0b1", "1_000", "12:30", "01.5"}) {
    EXPECT_NE(message_of([&] { parse_config_text("a: " + word + "\n", "f.yaml"); }), "") << word;
    EXPECT_NE(message_of([&] { parse_config_text("a: [" + word + "]\n", "f.yaml"); }), "") << word;
    const ConfigNode root = parse_config_text("a: \"" + word + "\"\n", "f.yaml");
    EXPECT_EQ(at(root, "a").text(), word);
  }
  for (const std::string word : {"0", "-1", "0.5", "1e5", "none", "nose", "nothing", "year", "0.0",
                                 "2024-05-01", "a_b", "x:1", "-x", "paged:block_size=16"}) {
    EXPECT_EQ(at(parse_config_text("a: " + word + "\n", "f.yaml"), "a").text(), word);
  }
}

TEST(ConfigNode, PointsAtTheKeyWhoseValueIsMissing) {
  EXPECT_EQ(message_of([] { parse_config_text("a:\nnull: 1\n", "f.yaml"); }),
            "f.yaml:1:1: a: the value is missing; write one, or \"\" for an empty text");
  EXPECT_EQ(message_of([] { parse_config_text("a: {b, c: 1}\n", "f.yaml"); }),
            "f.yaml:1:5: a.b: the value is missing; write one, or \"\" for an empty text");
  EXPECT_EQ(message_of([] { parse_config_text("a:\n  - 1\n  -\n  - 2\n", "f.yaml"); }),
            "f.yaml:3:3: a.1: the value is missing; write one, or \"\" for an empty text");
}

TEST(ConfigNode, RefusesTagsAndAnchorsOnMapsAndKeysToo) {
  for (const std::string text : {"a: !!map {b: 1}\n", "a: !<tag> 1\n", "!!str a: 1\n", "a: ! 1\n",
                                 "a: &x {b: 1}\n", "&x a: 1\n", "a: &x [1]\nb: *x\n"}) {
    const std::string message = message_of([&] { parse_config_text(text, "f.yaml"); });
    EXPECT_NE(message.find("not allowed"), std::string::npos) << text << message;
  }
}

TEST(ConfigNode, SurvivesBytesOfAnyKind) {
  const std::string good = std::string(kArms) + "text: \"a\\tb\"\nlist: [[1, 2], {x: y}]\n";
  const unsigned seed = std::random_device()();
  RecordProperty("seed", static_cast<int>(seed));
  std::mt19937 random(seed);
  const std::string bytes = "{}[]:,-?&*!|>'\"%@`#\n\t\\ \xFF\xC3~<=";
  for (int round = 0; round < 3000; ++round) {
    std::string text = good;
    for (int edits = 0; edits < 3; ++edits) {
      const size_t place = random() % text.size();
      switch (random() % 3) {
        case 0: text[place] = bytes[random() % bytes.size()]; break;
        case 1: text.erase(place, 1 + random() % 4); break;
        default: text.insert(place, 1, bytes[random() % bytes.size()]);
      }
    }
    try {
      const ConfigNode root = parse_config_text(text, "f.yaml");
      expect_same(root, parse_config_text(to_yaml(root), "f.yaml"));
      if (HasFailure()) FAIL() << "seed " << seed << " round " << round << "\n" << text;
    } catch (const kvlab::UserError& error) {
      EXPECT_TRUE(std::string(error.what()).find(":") != std::string::npos);
    } catch (const std::exception& error) {
      FAIL() << "seed " << seed << " round " << round << ": " << error.what() << "\n" << text;
    }
  }
}

TEST(ConfigNode, WritesYamlThatParsesToTheSameTree) {
  const ConfigNode root = parse_config_text(
      "a: 1\nempty_map: {}\nempty_list: []\nquoted: \"010\"\nspecial: \"a: b # c \\\"d\\\" \\\\\"\n"
      "lines: |\n  one\n    two\n\nlists: [[1, [2, 3]], {x: {y: [z, {}]}}, []]\n"
      "\"key: with\": 'it''s'\nunicode: \"\xC3\xA9\\u0085\\u2028\"\nblank: \"\"\nspace: \" x \"\n"
      "compact: paged:block_size=16\ndash: -\\x\nminus: -1.5e-3\nstar: \"*x\"\nnot_null: \"~\"\n",
      "f.yaml");
  const std::string written = to_yaml(root);
  expect_same(root, parse_config_text(written, "f.yaml"));
  EXPECT_EQ(written, to_yaml(parse_config_text(written, "f.yaml")));
}

TEST(ConfigNode, WritesBlockStyle) {
  EXPECT_EQ(to_yaml(parse_config_text("a: {b: [1, {c: x, d: \"2\"}]}\ne: two words\n", "f.yaml")),
            "a:\n  b:\n    - 1\n    - c: x\n      d: \"2\"\ne: two words\n");
}

TEST(ConfigNode, ATextListReplacesAKeyOrIsAddedAndLeavesTheOriginalAlone) {
  const ConfigNode root = parse_config_text("a: 1\nlist: [x]\nb: 2\n", "f.yaml");
  EXPECT_EQ(to_yaml(kvlab::with_texts(root, "list", {"/a b/c.so", "010"})),
            "a: 1\nlist:\n  - \"/a b/c.so\"\n  - \"010\"\nb: 2\n");
  const ConfigNode added = kvlab::with_texts(root, "more", {"y"});
  EXPECT_EQ(to_yaml(added), "a: 1\nlist:\n  - x\nb: 2\nmore:\n  - \"y\"\n");
  EXPECT_EQ(at(added, "more").items()[0].path(), "more.0");
  EXPECT_EQ(to_yaml(root), "a: 1\nlist:\n  - x\nb: 2\n");
}

}  // namespace
