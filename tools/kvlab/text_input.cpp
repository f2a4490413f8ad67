#include "text_input.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include "kvlab/core/error.h"
#include "number_list.h"

namespace kvlab {

namespace {

std::string read_text_file(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (!fs::exists(path, ignored)) {
    throw MissingError("[command_line.--text-file] '" + path + "' does not exist");
  }
  KVLAB_CHECK(!fs::is_directory(path, ignored), "[command_line.--text-file] '", path,
              "' is a folder; give a file");
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  // Copying an empty file sets the fail bit of `text` only.
  text << file.rdbuf();
  KVLAB_CHECK(file && !file.bad(), "[command_line.--text-file] '", path, "' cannot be read");
  return text.str();
}

}  // namespace

void TextInput::add_options(CLI::App& app, const std::string& text_flag, bool with_file) {
  text_flag_ = text_flag;
  text_option_ = app.add_option(text_flag, text_, "The text");
  ids_option_ = app.add_option("--ids", ids_, "Token ids instead of text, e.g. 1,2,3");
  ids_option_->excludes(text_option_);
  if (!with_file) return;
  file_option_ = app.add_option("--text-file", file_, "A file with the text");
  file_option_->excludes(text_option_)->excludes(ids_option_);
}

std::string TextInput::flags() const {
  return text_flag_ + (file_option_ == nullptr ? " or --ids" : ", --text-file or --ids");
}

void TextInput::check_given() const {
  const bool file = file_option_ != nullptr && file_option_->count() > 0;
  KVLAB_CHECK(file || text_option_->count() > 0 || ids_option_->count() > 0,
              "[command_line] there is no input; give ", flags());
}

std::vector<int32_t> TextInput::ids() const { return parse_ids(ids_, "--ids"); }

std::string TextInput::text() const {
  check_given();
  return file_option_ != nullptr && file_option_->count() > 0 ? read_text_file(file_) : text_;
}

std::vector<int32_t> TextInput::tokens(const Tokenizer* tokenizer) const {
  check_given();
  if (is_ids()) return ids();
  const std::string given = text();
  KVLAB_CHECK(tokenizer != nullptr, "[command_line.", text_flag_,
              "] this model has no tokenizer; give --ids instead, or a model YAML with the key "
              "tokenizer");
  return tokenizer->encode(given);
}

void check_ids(std::span<const int32_t> ids, int64_t vocabulary, const std::string& what) {
  for (size_t i = 0; i < ids.size(); ++i) {
    KVLAB_CHECK(ids[i] >= 0 && ids[i] < vocabulary, "[command_line.", what, "] id ", ids[i],
                " (number ", i + 1, ") is outside the vocabulary of ", vocabulary, " tokens");
  }
}

std::string decode_token(const Tokenizer& tokenizer, int32_t id) {
  if (id < 0 || id >= tokenizer.vocabulary()) return "\xEF\xBF\xBD";
  return tokenizer.decode({&id, 1});
}

}  // namespace kvlab
