#include "weight_reader.h"

#include "file_bytes.h"
#include "kvlab/core/error.h"

namespace kvlab {

using model_file::in_quotes;
using model_file::shape_text;

WeightReader::WeightReader(Source source)
    : source_(std::move(source)),
      names_(source_.names.begin(), source_.names.end()),
      left_(names_) {}

at::Tensor WeightReader::take(const std::string& name, const std::vector<int64_t>& shape) {
  KVLAB_CHECK(contains(name), "[model.checkpoint] ", source_.path, " has no tensor ",
              in_quotes(name), ", wanted shape ", shape_text(shape));
  const std::vector<int64_t> stored = source_.shape(name);
  KVLAB_CHECK(stored == shape, "[model.checkpoint] ", source_.path, ": tensor ", in_quotes(name),
              " has shape ", shape_text(stored), ", but the config asks for ", shape_text(shape));
  left_.erase(name);
  return source_.load(name);
}

void WeightReader::finish() const {
  KVLAB_CHECK(left_.empty(), "[model.checkpoint] ", source_.path, ": tensor ",
              in_quotes(*left_.begin()), " belongs to no part of the model; ", left_.size(),
              " such tensors");
}

}  // namespace kvlab
