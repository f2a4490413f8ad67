// Every file in tests/fixtures/bad_configs must be refused with the message it states itself.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <string>
#include <vector>

#include "../fixtures/config_error.h"

namespace {

namespace fs = std::filesystem;

const fs::path kFolder = fs::path(KVLAB_SOURCE_DIR) / "tests/fixtures/bad_configs";

std::vector<fs::path> files_in(const fs::path& folder) {
  std::vector<fs::path> files;
  if (!fs::exists(folder)) return files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".yaml") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

// The texts after "# expect: " in the first lines.
std::vector<std::string> expectations(const fs::path& file) {
  std::vector<std::string> texts;
  std::ifstream stream(file, std::ios::binary);
  const std::string prefix = "# expect: ";
  for (std::string line; std::getline(stream, line) && line.starts_with(prefix);) {
    texts.push_back(line.substr(prefix.size()));
  }
  return texts;
}

std::string replace_all(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

std::string filled(const std::string& expectation, const fs::path& file) {
  return replace_all(replace_all(expectation, "{file}", file.string()), "{folder}",
                     file.parent_path().string());
}

// The rule alone: without place, key path, quoted values, paths and numbers.
std::string rule_of(const std::string& expectation) {
  std::string text = std::regex_replace(
      expectation, std::regex(R"(^\{[a-z]+\}[^ ]*:[0-9]+:[0-9]+: ([A-Za-z0-9_.]+: )?)"), "");
  text = std::regex_replace(text, std::regex(R"('[^']*'|\S*/\S*|[0-9]+)"), "");
  return text;
}

TEST(BadConfigs, EachFileIsRefusedWithExactlyTheMessageItStates) {
  const std::vector<fs::path> files = files_in(kFolder);
  ASSERT_FALSE(files.empty()) << kFolder;
  for (const fs::path& file : files) {
    const std::vector<std::string> expected = expectations(file);
    ASSERT_FALSE(expected.empty()) << file << " has no '# expect: ' line";
    const std::string message = kvlab::config_error(file.string());
    EXPECT_NE(message, "") << file << " loaded";
    if (expected.size() == 1) {
      EXPECT_EQ(message, filled(expected[0], file)) << file;
      continue;
    }
    for (const std::string& fragment : expected) {
      EXPECT_NE(message.find(filled(fragment, file)), std::string::npos)
          << file << "\n  wanted " << filled(fragment, file) << "\n  in     " << message;
    }
  }
}

TEST(BadConfigs, EachMessageNamesAPlaceInAFile) {
  const std::regex place(R"(^[^:]+\.yaml:[0-9]+:[0-9]+: )");
  for (const fs::path& file : files_in(kFolder)) {
    const std::string message = kvlab::config_error(file.string());
    EXPECT_TRUE(std::regex_search(message, place)) << file << ": " << message;
  }
}

TEST(BadConfigs, NoTwoFilesProveTheSameRule) {
  std::vector<fs::path> files = files_in(kFolder);
  
  EXPECT_GE(files.size(), 60u);
  std::map<std::string, fs::path> seen;
  for (const fs::path& file : files) {
    std::string rule;
    for (const std::string& text : expectations(file)) rule += rule_of(text) + "\n";
    const auto [other, fresh] = seen.emplace(rule, file);
    EXPECT_TRUE(fresh) << file << " and " << other->second << " both prove: " << rule;
  }
}

TEST(BadConfigs, TheSharedPartsLoadWhereNothingIsWrong) {
  const fs::path good = fs::path(KVLAB_SOURCE_DIR) / "tests/fixtures/good_config.yaml";
  EXPECT_EQ(kvlab::config_error(good.string()), "");
}

}  // namespace
