// What is wrong with a config, with its place, so that several findings can be put in order.
#pragma once

#include <string>
#include <vector>

#include "kvlab/core/error.h"

namespace kvlab {

/// One thing that is wrong.
struct ConfigProblem {
  std::string where;    ///< "file:line:column" or "override 'a.b=value'"; empty where unknown
  std::string path;     ///< keys from the top; empty where unknown, and at the top
  std::string message;  ///< complete, place and path included
  bool missing = false;  ///< something that does not exist was named
};

/// An error at known places. What it says is all of them in one text.
class ConfigError : public UserError {
 public:
  ConfigError(const std::string& text, std::vector<ConfigProblem> problems)
      : UserError(text), problems_(std::move(problems)) {}

  const std::vector<ConfigProblem>& problems() const { return problems_; }

 private:
  std::vector<ConfigProblem> problems_;
};

}  // namespace kvlab
