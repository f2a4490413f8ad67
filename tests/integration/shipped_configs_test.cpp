// Every config that ships must load: the first thing a user tries.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "kvlab/runtime/config_origin.h"
#include "kvlab/runtime/config_schema.h"
#include "kvlab/runtime/model.h"
#include "kvlab/sweep/sweep_plan.h"
#include "tests/fixtures/run_config.h"

namespace {

using namespace kvlab::test;
using namespace kvlab;
namespace fs = std::filesystem;

const fs::path kConfigs = fs::path(KVLAB_SOURCE_DIR) / "configs";

std::vector<std::string> yaml_files(const char* folder) {
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(kConfigs / folder)) {
    if (entry.path().extension() == ".yaml") files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

// Vocabularies, the small model and the text come from tools/setup.
bool has_downloads() {
  const fs::path deps = fs::path(KVLAB_SOURCE_DIR) / ".deps";
  return fs::exists(deps / "vocab/gpt2") && fs::exists(deps / "models/smollm2-135m") &&
         fs::exists(deps / "texts/kjv.txt");
}

TEST(ShippedConfigs, EveryExperimentValidates) {
  ASSERT_TRUE(has_downloads()) << "run tools/setup first: .deps is incomplete";
  Registry registry = full_registry();
  const std::vector<std::string> files = yaml_files("experiments");
  EXPECT_GE(files.size(), 5u);
  for (const std::string& file : files) {
    try {
      // A sweep ships with no case that is refused.
      if (load_config_file(file).find("sweep") != nullptr) {
        const SweepPlan plan = plan_sweep(
            file, {}, {}, [] { return full_registry(); },
            [](const SweepCase&, const ConfigNode& node) { return to_yaml(node); });
        EXPECT_EQ(plan.runnable(), static_cast<int64_t>(plan.cases.size())) << file;
      } else {
        load_experiment(file, {}, registry);
      }
    } catch (const std::exception& error) {
      ADD_FAILURE() << file << "\n" << error.what();
    }
  }
}

// The overrides that make the first case of a sweep; none of a file without.
std::vector<std::string> first_case(const ConfigNode& root) {
  const ConfigNode* sweep = root.find("sweep");
  if (sweep == nullptr) return {};
  std::vector<std::string> overrides = {"~sweep"};
  const std::vector<SweepPoint> points = sweep_points(read_sweep(*sweep));
  for (const SweepSetting& setting : points.front()) {
    overrides.push_back(setting.override_text());
  }
  return overrides;
}

std::string sweep_text(const ConfigNode& root) {
  const ConfigNode* sweep = root.find("sweep");
  return sweep == nullptr ? "" : flow_text(*sweep);
}

// What --print-config prints, without and with the origin of values. Of a sweep the first case
// stands for all: the cases are the same in the file and in print.
TEST(ShippedConfigs, WhatIsPrintedOfThemIsAConfigAgain) {
  ASSERT_TRUE(has_downloads()) << "run tools/setup first: .deps is incomplete";
  Registry registry = full_registry();
  const TemporaryFolder folder;
  const std::string again = folder.file("printed.yaml");
  for (const std::string& file : yaml_files("experiments")) {
    try {
      const ConfigNode root = load_config_file(file);
      const std::vector<std::string> overrides = first_case(root);
      folder.write("printed.yaml", to_yaml(root, again));
      const auto asked = std::make_shared<MapSchema>();
      std::string kind;
      {
        const SchemaRecording recording(asked, false);
        const LoadedExperiment loaded = load_experiment(again, overrides, registry);
        kind = loaded.config.kind;
      }
      EXPECT_EQ(sweep_text(load_config_file(again)), sweep_text(root)) << file;
      folder.write("printed.yaml", to_yaml_with_origin(root, registry, *asked,
                                                       record_config_schema(registry, kind)));
      (void)load_experiment(again, overrides, registry);
      EXPECT_EQ(sweep_text(load_config_file(again)), sweep_text(root)) << file;
    } catch (const std::exception& error) {
      ADD_FAILURE() << file << "\n" << error.what();
    }
  }
}

TEST(ShippedConfigs, EveryModelLoadsAndItsShapeIsWhole) {
  ASSERT_TRUE(has_downloads()) << "run tools/setup first: .deps is incomplete";
  const std::vector<std::string> files = yaml_files("models");
  EXPECT_GE(files.size(), 10u);
  for (const std::string& file : files) {
    try {
      const ModelSource source = load_model_source(file);
      EXPECT_EQ(source.name, fs::path(file).stem().string());
      const ModelConfig shape = model_shape(source);
      shape.validate();
      check_stated_shape(source, shape);
    } catch (const std::exception& error) {
      ADD_FAILURE() << file << "\n" << error.what();
    }
  }
}

TEST(ShippedConfigs, ShapesHaveThePublishedParameterCounts) {
  ASSERT_TRUE(has_downloads()) << "run tools/setup first: .deps is incomplete";
  const auto millions = [](const char* name) {
    const std::string file = (kConfigs / "models" / (std::string(name) + ".yaml")).string();
    return static_cast<double>(model_shape(load_model_source(file)).parameters()) / 1e6;
  };
  EXPECT_NEAR(millions("llama_7b_shaped"), 6738, 1);
  EXPECT_NEAR(millions("llama3_8b_shaped"), 8030, 1);
  EXPECT_NEAR(millions("smollm2_135m"), 134.5, 0.1);
  // With a head of its own, as the golden model has: 124.4 + 38.6 million.
  EXPECT_NEAR(millions("gpt2_124m"), 163, 0.5);
}

TEST(ShippedConfigs, EveryCacheFitsATinyModel) {
  const Registry registry = full_registry();
  const std::vector<std::string> files = yaml_files("caches");
  EXPECT_GE(files.size(), 7u);
  CacheShape shape;
  shape.layers = 2;
  shape.query_heads = shape.kv_heads = 4;
  shape.rows = 1;
  shape.key_dim = shape.value_dim = 8;
  shape.max_length = shape.max_step_tokens = 32;
  for (const std::string& file : files) {
    try {
      StorageArena arena;
      registry.make_cache(read_component(load_config_file(file)), shape, arena);
    } catch (const std::exception& error) {
      ADD_FAILURE() << file << "\n" << error.what();
    }
  }
}

}  // namespace
