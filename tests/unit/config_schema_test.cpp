// What readers are asked for becomes the schema of the keys.
#include "kvlab/runtime/config_schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "kvlab/runtime/experiment.h"
#include "kvlab/runtime/json_schema.h"
#include "kvlab/runtime/registry.h"

namespace kvlab {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Json = nlohmann::ordered_json;

template <typename Read>
MapSchema record(const std::vector<std::string>& texts, const Read& read) {
  const auto root = std::make_shared<MapSchema>();
  for (const std::string& text : texts) {
    const ConfigNode node = parse_config_text(text, "test.yaml");
    const SchemaRecording recording(root, true);
    ConfigReader reader(node);
    read(reader);
  }
  return *root;
}

TEST(ConfigSchema, AGetterNotesTypeRangeChoicesAndDefault) {
  const MapSchema schema = record({"count: 3"}, [](ConfigReader& reader) {
    reader.integer("count", {1, 9});
    reader.number_or("ratio", 0.5, {0, 1, true});
    reader.choice_or("kind", "b", {"a", "b"});
  });
  EXPECT_THAT(schema.names(), ElementsAre("count", "ratio", "kind"));
  const KeySchema& count = *schema.find("count");
  ASSERT_EQ(count.forms.size(), 1u);
  EXPECT_EQ(count.forms[0].type, ValueType::integer);
  EXPECT_EQ(count.forms[0].integers.minimum, 1);
  EXPECT_EQ(count.forms[0].integers.maximum, 9);
  EXPECT_TRUE(schema.is_required(count));
  const KeySchema& ratio = *schema.find("ratio");
  EXPECT_TRUE(ratio.forms[0].numbers.minimum_open);
  EXPECT_EQ(ratio.fallback, "0.5");
  EXPECT_FALSE(schema.is_required(ratio));
  EXPECT_THAT(schema.find("kind")->forms[0].choices, ElementsAre("a", "b"));
}

TEST(ConfigSchema, AKeyThatOneReaderCanDoWithoutIsNotRequired) {
  const MapSchema schema = record({"a: 1", "b: 1"}, [](ConfigReader& reader) {
    if (reader.has("b")) {
      reader.optional_integer("a");
    } else {
      reader.integer("a");
    }
  });
  EXPECT_FALSE(schema.is_required(*schema.find("a")));
}

TEST(ConfigSchema, MapsOfAListShareOneSchemaAndSeveralFormsAreKept) {
  const MapSchema schema =
      record({"rows: [{x: 1}, {x: 2, y: true}]\nbatch: 4", "rows: [{x: 1}]\nbatch: [4]"},
             [](ConfigReader& reader) {
               for (ConfigReader& row : reader.children("rows")) {
                 row.integer("x");
                 if (row.has("y")) row.boolean("y");
               }
               if (reader.optional_value("batch")->is_scalar()) {
                 reader.integer("batch");
               } else {
                 reader.integers("batch");
               }
             });
  const ValueForm& rows = schema.find("rows")->forms.at(0);
  ASSERT_EQ(rows.type, ValueType::list);
  EXPECT_THAT(rows.item->map->names(), ElementsAre("x", "y"));
  EXPECT_TRUE(rows.item->map->is_required(*rows.item->map->find("x")));
  EXPECT_FALSE(rows.item->map->is_required(*rows.item->map->find("y")));
  EXPECT_EQ(schema.find("batch")->forms.size(), 2u);
}

TEST(ConfigSchema, NothingIsNotedOnceTheRecordingIsOver) {
  const auto root = std::make_shared<MapSchema>();
  const ConfigNode node = parse_config_text("a: 1", "test.yaml");
  { const SchemaRecording recording(root, true); }
  ConfigReader reader(node);
  reader.integer("a");
  EXPECT_TRUE(root->keys.empty());
}

class Nothing : public Experiment {
 public:
  ExperimentResult run(RunContext&) override { return {}; }
};

Registry registry_with(const std::vector<std::string>& examples) {
  Registry registry;
  ExperimentEntry entry;
  entry.info.name = "counting";
  entry.info.examples = examples;
  entry.create = [](ExperimentConfig& config, const Registry&) {
    config.reader.integer("count", {1, 9});
    parse_measure(config.reader);
    return std::make_unique<Nothing>();
  };
  registry.add(std::move(entry));
  return registry;
}

TEST(ConfigSchema, AKindsExamplesMakeItsJsonSchema) {
  const auto json = Json::parse(
      experiment_schema(registry_with({"count: 1\nmeasure: {repeats: 1}"}), "counting"));
  EXPECT_EQ(json.at("additionalProperties"), false);
  EXPECT_EQ(json.at("properties").at("count").dump(),
            R"({"type":"integer","minimum":1,"maximum":9})");
  EXPECT_EQ(json.at("properties").at("measure").at("$ref"), "#/$defs/measure");
  const auto& measure = json.at("$defs").at("measure").at("properties");
  EXPECT_EQ(measure.at("repeats").at("default"), 5);
  EXPECT_EQ(measure.at("interleave").at("type"), "boolean");
  EXPECT_FALSE(json.at("properties").contains("arms")) << "this kind asks for none";
}

TEST(ConfigSchema, AKindWithoutExamplesMayHoldAnyKey) {
  const auto json = Json::parse(experiment_schema(registry_with({}), "counting"));
  EXPECT_FALSE(json.contains("additionalProperties"));
  EXPECT_TRUE(json.at("properties").contains("question"));
}

TEST(ConfigSchema, AnExampleThatItsOwnKindRefusesIsNamed) {
  try {
    (void)record_config_schema(registry_with({"count: 0"}));
    FAIL() << "the example was taken";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr("counting"));
    EXPECT_THAT(error.what(), HasSubstr("from 1 to 9"));
  }
}

}  // namespace
}  // namespace kvlab
