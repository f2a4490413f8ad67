#include "kvlab/runtime/shell_command.h"

#include <cstdlib>

namespace kvlab {

std::string shell_word(const std::string& word) {
  const bool plain = !word.empty() && word.find_first_not_of(
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%") ==
      std::string::npos;
  if (plain) return word;
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

std::string repeating_command(const std::vector<std::string>& argv) {
  std::string text;
  for (const std::string& word : argv) text += (text.empty() ? "" : " ") + shell_word(word);
  for (const std::string name : {"KVLAB_SIMD_TARGET", "KVLAB_PLUGIN_PATH"}) {
    const char* value = std::getenv(name.c_str());
    if (value != nullptr && *value != '\0') text = name + "=" + shell_word(value) + " " + text;
  }
  return text;
}

}  // namespace kvlab
