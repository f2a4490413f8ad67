#include "kvlab/core/component.h"

#include <gtest/gtest.h>

#include "kvlab/core/error.h"

namespace kvlab {
namespace {

ComponentInfo sample() {
  ComponentInfo info;
  info.name = "sample";
  OptionSpec size;
  size.name = "size";
  size.default_text = "16";
  size.unit = "tokens";
  size.minimum = 1;
  size.maximum = 100;
  OptionSpec rate;
  rate.name = "rate";
  rate.type = OptionType::number;
  rate.default_text = "0.5";
  OptionSpec mode;
  mode.name = "mode";
  mode.type = OptionType::text;
  mode.default_text = "fast";
  mode.choices = {"fast", "exact"};
  OptionSpec flag;
  flag.name = "flag";
  flag.type = OptionType::boolean;
  flag.default_text = "false";
  OptionSpec inner;
  inner.name = "inner";
  inner.type = OptionType::component;
  inner.default_text = "none";
  info.options = {size, rate, mode, flag, inner};
  return info;
}

std::string refusal(const std::string& text) {
  try {
    resolve_options(sample(), parse_component_spec(text), "cache");
  } catch (const UserError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(Component, FillsInDefaults) {
  const Options options = resolve_options(sample(), {"sample", {}, ""}, "cache");
  EXPECT_EQ(options.integer("size"), 16);
  EXPECT_EQ(options.number("rate"), 0.5);
  EXPECT_EQ(options.text("mode"), "fast");
  EXPECT_FALSE(options.boolean("flag"));
  EXPECT_EQ(options.component("inner").type, "none");
  EXPECT_EQ(options.values().size(), 5U);
}

TEST(Component, ReadsEveryType) {
  const Options options = resolve_options(
      sample(), parse_component_spec("sample:size=100,rate=1e3,mode=exact,flag=true,inner=x"),
      "cache");
  EXPECT_EQ(options.integer("size"), 100);
  EXPECT_EQ(options.number("rate"), 1000);
  EXPECT_EQ(options.text("mode"), "exact");
  EXPECT_TRUE(options.boolean("flag"));
  EXPECT_EQ(options.component("inner").type, "x");
}

TEST(Component, NamesTheNearestOption) {
  EXPECT_EQ(refusal("sample:sizes=4"),
            "[cache.sample] unknown option 'sizes'. Did you mean 'size'? Known: size, rate, mode, "
            "flag, inner.");
  EXPECT_EQ(refusal("sample:n_kv_groups=4"),
            "[cache.sample] unknown option 'n_kv_groups'. The field uses this word for two "
            "different things; write kv_heads.");
}

TEST(Component, RefusesValuesOfAnotherTypeOrRange) {
  EXPECT_EQ(refusal("sample:size=four"), "[cache.sample.size] wanted a whole number, got 'four'");
  EXPECT_EQ(refusal("sample:size=0"),
            "[cache.sample.size] wanted at least 1 and at most 100 tokens, got 0");
  EXPECT_EQ(refusal("sample:mode=slow"),
            "[cache.sample.mode] 'slow' is not a choice. Known: fast, exact.");
  for (const std::string bad : {"size=101", "size=4.5", "size=010", "size= 4", "size=", "size=4x",
                                "size=99999999999999999999", "rate=nan", "rate=inf", "rate=1e999",
                                "flag=yes", "flag=True", "mode=Fast"}) {
    EXPECT_NE(refusal("sample:" + bad), "nothing was thrown") << bad;
  }
}

TEST(Component, SaysWhereTheOptionStands) {
  ComponentSpec spec{"sample", {}, "run.yaml:3:5"};
  spec.options["size"] = RawOption{"0", nullptr, "run.yaml:4:9"};
  try {
    resolve_options(sample(), spec, "cache");
    FAIL();
  } catch (const UserError& error) {
    EXPECT_TRUE(std::string(error.what()).starts_with("run.yaml:4:9: [cache.sample.size]"));
  }
}

TEST(Component, RequiresWhatHasNoDefault) {
  ComponentInfo info = sample();
  info.options[0].required = true;
  EXPECT_THROW(resolve_options(info, {"sample", {}, ""}, "cache"), UserError);
}

TEST(Component, ReadsNestedComponents) {
  const std::string text = "outer:heads=3,inner=paged,inner.block_size=16";
  const ComponentSpec spec = parse_component_spec(text);
  EXPECT_EQ(spec.type, "outer");
  ASSERT_TRUE(spec.options.at("inner").component);
  EXPECT_EQ(spec.options.at("inner").component->type, "paged");
  EXPECT_EQ(spec.options.at("inner").component->options.at("block_size").text, "16");
  EXPECT_EQ(to_string(spec), text);
  EXPECT_EQ(to_string(parse_component_spec("plain")), "plain");
}

TEST(Component, RefusesMalformedText) {
  for (const std::string bad : {"", ":size=3", "sample:", "sample:size", "sample:=3",
                                "sample:size=3,", "sample:size=3,size=4", "sample:inner.size=3"}) {
    EXPECT_THROW(parse_component_spec(bad), UserError) << bad;
  }
}

TEST(Component, RanksNearNames) {
  const std::vector<std::string> known = {"paged", "concat", "preallocated", "none"};
  EXPECT_EQ(near_names("pages", known), std::vector<std::string>{"paged"});
  EXPECT_EQ(near_names("preallocate", known), std::vector<std::string>{"preallocated"});
  EXPECT_TRUE(near_names("zzzzzzz", known).empty());
  EXPECT_EQ(suggestion("x", {}), " Known: none.");
}

TEST(Component, AskingForAnUndeclaredOptionIsOurBug) {
  const Options options = resolve_options(sample(), {"sample", {}, ""}, "cache");
  EXPECT_THROW(options.integer("other"), InternalError);
  EXPECT_THROW(options.text("size"), InternalError);
}

}  // namespace
}  // namespace kvlab
