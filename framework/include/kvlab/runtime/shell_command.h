// Words of a command line, as a shell takes them.
#pragma once

#include <string>
#include <vector>

namespace kvlab {

/// Returns `word` as it stands where a shell reads it as one word, else in quotes.
std::string shell_word(const std::string& word);

/// Returns the line that repeats `argv` in a shell, with the variables of this process that change
/// what kvlab computes before it.
std::string repeating_command(const std::vector<std::string>& argv);

}  // namespace kvlab
