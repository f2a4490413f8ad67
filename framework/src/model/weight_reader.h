// Takes tensors out of a checkpoint by name and notices what is missing and what is left over.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

namespace kvlab {

class WeightReader {
 public:
  /// A checkpoint as the reader sees it: every name once.
  struct Source {
    std::string path;                ///< for messages
    std::vector<std::string> names;  ///< all tensors
    std::function<std::vector<int64_t>(const std::string&)> shape;
    std::function<at::Tensor(const std::string&)> load;
  };

  explicit WeightReader(Source source);

  bool contains(const std::string& name) const { return names_.contains(name); }

  /// Loads a tensor. Throws UserError where it is missing or its shape is not `shape`.
  at::Tensor take(const std::string& name, const std::vector<int64_t>& shape);

  /// Marks a tensor as known without reading it; it may be missing.
  void ignore(const std::string& name) { left_.erase(name); }

  /// Throws UserError naming the first tensor that was neither taken nor ignored.
  void finish() const;

 private:
  Source source_;
  std::set<std::string> names_, left_;
};

}  // namespace kvlab
