// Loading from files: overrides, `use:`, and the search for relative paths.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <stdexcept>
#include <string>

#include "kvlab/core/error.h"
#include "kvlab/runtime/config_node.h"

namespace {

namespace fs = std::filesystem;
using kvlab::ConfigNode;
using kvlab::load_config_file;
using kvlab::to_yaml;

// A folder of its own per test, removed afterwards.
class ConfigLoad : public ::testing::Test {
 protected:
  ConfigLoad() {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::temp_directory_path() /
              ("kvlab_" + std::string(info->name()) + std::to_string(std::random_device()()));
    fs::create_directories(folder_);
  }
  ~ConfigLoad() override { fs::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& text) const {
    const fs::path path = folder_ / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
    return path.string();
  }

  std::string path_of(const std::string& name) const { return (folder_ / name).string(); }

  fs::path folder_;
};

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

const char kArms[] =
    "arms:\n"
    "  - {name: none, cache: {type: none}}\n"
    "  - {name: paged64, cache: {type: paged, block_size: 64}}\n"
    "  - {name: bf16.64, cache: {type: paged, block_size: 64}}\n"
    "measure: {repeats: 5}\n";

TEST_F(ConfigLoad, OverridesReachListItemsByIndexAndByName) {
  const std::string file = write("a.yaml", kArms);
  const ConfigNode root = load_config_file(
      file, {"arms.1.cache.block_size=16", "arms.bf16.64.cache={type: concat}",
             "arms.paged64.cache.block_size=32", "measure.repeats=7"});
  const auto& arms = at(root, "arms").items();
  EXPECT_EQ(at(at(arms[1], "cache"), "block_size").text(), "32");
  EXPECT_EQ(at(at(arms[2], "cache"), "type").text(), "concat");
  EXPECT_EQ(at(arms[2], "cache").find("block_size"), nullptr);
  EXPECT_EQ(at(at(root, "measure"), "repeats").text(), "7");
  EXPECT_EQ(at(at(root, "measure"), "repeats").where(), "override 'measure.repeats=7'");
}

TEST_F(ConfigLoad, OverridesAddOnlyWithPlus) {
  const std::string file = write("a.yaml", kArms);
  EXPECT_EQ(message_of([&] { load_config_file(file, {"measure.warmup=1"}); }),
            "override 'measure.warmup=1': measure.warmup: there is no 'warmup' to override. Known: "
            "repeats. Write a leading + to add it.");
  const ConfigNode root = load_config_file(
      file, {"+measure.warmup=1", "+runtime.attention={type: sdpa}", "+measure.warmup=2",
             "+arms.3={name: extra, cache: none}"});
  EXPECT_EQ(at(at(root, "measure"), "warmup").text(), "2");
  EXPECT_EQ(at(at(at(root, "runtime"), "attention"), "type").text(), "sdpa");
  EXPECT_EQ(at(at(root, "arms").items().at(3), "name").text(), "extra");
}

TEST_F(ConfigLoad, OverridesOfUnknownPathsNameTheNearest) {
  const std::string file = write("a.yaml", kArms);
  EXPECT_EQ(message_of([&] { load_config_file(file, {"arms.paged46.cache=none"}); }),
            "override 'arms.paged46.cache=none': arms.paged46.cache: there is no 'paged46' to "
            "override. Did you mean 'paged64'? Known: none, paged64, bf16.64. Write +key.path.N to "
            "append.");
  EXPECT_EQ(message_of([&] { load_config_file(file, {"mesure.repeats=2"}); }),
            "override 'mesure.repeats=2': mesure.repeats: there is no 'mesure' to override. Did "
            "you mean 'measure'? Known: arms, measure. Write a leading + to add it.");
  EXPECT_EQ(message_of([&] { load_config_file(file, {"measure.repeats.x=2"}); }),
            "override 'measure.repeats.x=2': measure.repeats.x: cannot set 'x' inside a single "
            "value");
  EXPECT_NE(message_of([&] { load_config_file(file, {"arms.7.name=x"}); }), "");
  EXPECT_NE(message_of([&] { load_config_file(file, {"+arms.7.name=x"}); }), "");
}

TEST_F(ConfigLoad, OverridesAreAsStrictAsFiles) {
  const std::string file = write("a.yaml", kArms);
  EXPECT_EQ(message_of([&] { load_config_file(file, {"measure.repeats=yes"}); }),
            "override 'measure.repeats=yes': measure.repeats: 'yes' is a boolean for some YAML "
            "readers and a text for others; write true or false, or quote it");
  EXPECT_EQ(message_of([&] { load_config_file(file, {"measure.repeats="}); }),
            "override 'measure.repeats=': measure.repeats: the value is missing; write "
            "key.path=value");
  EXPECT_EQ(message_of([&] { load_config_file(file, {"measure.repeats=1, 2"}); }),
            "override 'measure.repeats=1, 2': measure.repeats: an override sets one value, got 2; "
            "write a list as [a, b], or quote the text");
  EXPECT_EQ(message_of([&] { load_config_file(file, {"measure"}); }),
            "override 'measure': an override is key.path=value, +key.path=value or ~key.path");
  EXPECT_EQ(message_of([&] { load_config_file(file, {"measure={repeats: on}"}); }),
            "override 'measure={repeats: on}': measure.repeats: 'on' is a boolean for some YAML "
            "readers and a text for others; write true or false, or quote it");
  EXPECT_NE(message_of([&] { load_config_file(file, {"measure.repeats=1]"}); }), "");
  EXPECT_NE(message_of([&] { load_config_file(file, {"+model.n_kv_groups=1"}); }), "");
}

TEST_F(ConfigLoad, UseTakesTheFileAndKeysBesideItOverride) {
  write("base/model.yaml", "name: tiny\nshape: {layers: 2, heads: 4}\nlist: [1, 2]\n");
  const std::string file =
      write("a.yaml", "model: {use: base/model.yaml, shape: {layers: 8}, list: [3], extra: x}\n");
  const ConfigNode model = at(load_config_file(file), "model");
  EXPECT_EQ(model.find("use"), nullptr);
  EXPECT_EQ(at(model, "name").text(), "tiny");
  EXPECT_EQ(at(at(model, "shape"), "layers").text(), "8");
  EXPECT_EQ(at(at(model, "shape"), "heads").text(), "4");
  EXPECT_EQ(at(model, "list").items().size(), 1u);
  EXPECT_EQ(at(model, "extra").text(), "x");
  EXPECT_EQ(at(model, "name").where(), path_of("base/model.yaml") + ":1:7");
  EXPECT_EQ(at(model, "name").path(), "model.name");
  EXPECT_EQ(at(at(model, "shape"), "layers").where(), file + ":1:47");
}

TEST_F(ConfigLoad, UseReplacesAComponentOfAnotherTypeAsAWhole) {
  write("arm.yaml", "name: x\ncache: {type: paged, block_size: 64}\n");
  const std::string file = write("a.yaml", "arm: {use: arm.yaml, cache: {type: none}}\n");
  EXPECT_EQ(at(at(load_config_file(file), "arm"), "cache").entries().size(), 1u);
}

TEST_F(ConfigLoad, UseLooksBesideTheFileThenInEachFolderAbove) {
  write("configs/models/m.yaml", "name: near\nbase: {use: shared/s.yaml}\n");
  write("configs/shared/s.yaml", "value: found\n");
  write("m.yaml", "name: far\n");
  const std::string file = write("configs/experiments/e.yaml", "model: {use: models/m.yaml}\n");
  const ConfigNode model = at(load_config_file(file), "model");
  EXPECT_EQ(at(model, "name").text(), "near");
  EXPECT_EQ(at(at(model, "base"), "value").text(), "found");
}

TEST_F(ConfigLoad, UseAtTheTopInheritsAWholeFile) {
  write("base.yaml", "a: 1\nb: 2\n");
  const ConfigNode root = load_config_file(write("child.yaml", "use: base.yaml\nb: 3\n"));
  EXPECT_EQ(at(root, "a").text(), "1");
  EXPECT_EQ(at(root, "b").text(), "3");
}

TEST_F(ConfigLoad, UseMayNameTheSameFileTwiceButNotInACircle) {
  write("leaf.yaml", "x: 1\n");
  EXPECT_EQ(message_of([&] {
              load_config_file(write("a.yaml", "one: {use: leaf.yaml}\ntwo: {use: leaf.yaml}\n"));
            }), "");
  write("b.yaml", "inner: {use: c.yaml}\n");
  write("c.yaml", "inner: {use: b.yaml}\n");
  EXPECT_EQ(message_of([&] { load_config_file(path_of("b.yaml")); }),
            path_of("c.yaml") + ":1:14: inner.use: files use each other in a circle: b.yaml -> "
            "c.yaml -> b.yaml; break it");
  const std::string self = write("self.yaml", "use: self.yaml\n");
  EXPECT_NE(message_of([&] { load_config_file(self); }).find("circle"), std::string::npos);
}

TEST_F(ConfigLoad, UseCannotMultiplyWithoutBound) {
  write("n0.yaml", "a: 1\n");
  for (int i = 1; i <= 12; ++i) {
    const std::string below = "n" + std::to_string(i - 1) + ".yaml";
    write("n" + std::to_string(i) + ".yaml",
          "a: {use: " + below + "}\nb: {use: " + below + "}\n");
  }
  EXPECT_NE(message_of([&] { load_config_file(path_of("n12.yaml")); }).find("at most 1000 files"),
            std::string::npos);
}

TEST_F(ConfigLoad, OverridesReplaceWhatUseNames) {
  write("one.yaml", "name: one\nx: 1\n");
  write("two.yaml", "name: two\n");
  const std::string file = write("a.yaml", "model: {use: one.yaml}\n");
  const ConfigNode root = load_config_file(file, {"model.use=two.yaml", "+model.y=2"});
  EXPECT_EQ(at(at(root, "model"), "name").text(), "two");
  EXPECT_EQ(at(root, "model").find("x"), nullptr);
  EXPECT_EQ(at(at(root, "model"), "y").text(), "2");
}

TEST_F(ConfigLoad, MissingFilesListThePlacesLookedAt) {
  const std::string file = write("sub/a.yaml", "weights: {path: w.gguf}\n");
  const ConfigNode root = load_config_file(file);
  const ConfigNode& path = at(at(root, "weights"), "path");
  try {
    kvlab::resolve_path(path);
    FAIL() << "found a file that does not exist";
  } catch (const kvlab::MissingError& error) {
    const std::string text = error.what();
    EXPECT_TRUE(text.starts_with(file + ":1:17: weights.path: there is no 'w.gguf', looked at " +
                                 path_of("sub/w.gguf") + ", " + path_of("w.gguf") + ", "))
        << text;
  }
  write("w.gguf", "");
  EXPECT_EQ(kvlab::resolve_path(path), path_of("w.gguf"));
  EXPECT_THROW(load_config_file(path_of("absent.yaml")), kvlab::MissingError);
  EXPECT_THROW(load_config_file(folder_.string()), kvlab::UserError);
}

TEST_F(ConfigLoad, WrittenConfigsKeepRelativePathsOnlyWhereTheyStillLeadThere) {
  write("top.gguf", "");
  write("configs/models/near.gguf", "");
  write("configs/models/m.yaml", "a: {path: top.gguf}\nb: {path: near.gguf}\nname: near.gguf\n");
  const std::string file = write("configs/e.yaml", "model: {use: models/m.yaml}\n");
  const std::string target = path_of("runs/x/config/resolved.yaml");
  const std::string text = to_yaml(load_config_file(file), target);
  EXPECT_EQ(text, "model:\n  a:\n    path: top.gguf\n  b:\n    path: " +
                      path_of("configs/models/near.gguf") + "\n  name: near.gguf\n");
  const ConfigNode again = load_config_file(write("runs/x/config/resolved.yaml", text));
  EXPECT_EQ(kvlab::resolve_path(at(at(at(again, "model"), "a"), "path")), path_of("top.gguf"));
  EXPECT_EQ(kvlab::resolve_path(at(at(at(again, "model"), "b"), "path")),
            path_of("configs/models/near.gguf"));
  EXPECT_EQ(to_yaml(again, target), text);
}

TEST_F(ConfigLoad, ATildeRemovesAKeyOrAnItem) {
  const std::string file = write(
      "a.yaml", "a: {b: 1, c.d: 2}\narms:\n  - {name: x, cache: none}\n  - {name: y.z, size: 3}\n");
  const auto yaml = [&](const std::vector<std::string>& overrides) {
    return to_yaml(load_config_file(file, overrides));
  };
  const auto text = [&](const char* wanted) {
    return to_yaml(kvlab::parse_config_text(wanted, file));
  };
  EXPECT_EQ(yaml({"~a.b"}), text("a: {c.d: 2}\narms: [{name: x, cache: none}, {name: y.z, size: 3}]"));
  EXPECT_EQ(yaml({"~a.c.d"}), text("a: {b: 1}\narms: [{name: x, cache: none}, {name: y.z, size: 3}]"));
  EXPECT_EQ(yaml({"~a"}), text("arms: [{name: x, cache: none}, {name: y.z, size: 3}]"));
  EXPECT_EQ(yaml({"~a", "~arms.x"}), text("arms: [{name: y.z, size: 3}]"));
  EXPECT_EQ(yaml({"~a", "~arms.1"}), text("arms: [{name: x, cache: none}]"));
  EXPECT_EQ(yaml({"~a", "~arms.y.z.size"}), text("arms: [{name: x, cache: none}, {name: y.z}]"));
  EXPECT_EQ(yaml({"~arms", "~a.b", "+a.b=5"}), text("a: {c.d: 2, b: 5}"));
}

TEST_F(ConfigLoad, ATildeNamesWhatIsNotThere) {
  const std::string file = write("a.yaml", "alpha: {beta: 1}\n");
  const auto message = [&](const char* text) {
    return message_of([&] { load_config_file(file, {text}); });
  };
  EXPECT_EQ(message("~alpha.beat").find("override '~alpha.beat'"), 0u) << message("~alpha.beat");
  EXPECT_NE(message("~alpha.beat").find("there is no 'beat' to remove"), std::string::npos);
  EXPECT_NE(message("~alpha.beat").find("beta"), std::string::npos) << message("~alpha.beat");
  EXPECT_NE(message("~alpha.beta.c").find("there is no 'c' to remove"), std::string::npos);
  EXPECT_NE(message("~alpha=1").find("without a value"), std::string::npos);
  EXPECT_NE(message("~").find("without a value"), std::string::npos);
}

}  // namespace
