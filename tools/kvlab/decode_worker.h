// What `kvlab decode-worker` is asked and answers; tools/peers/protocol.py describes the lines.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "json_output.h"
#include "kvlab/runtime/session.h"

namespace kvlab {

/// Runs timed steps of one model. What it feeds is `fed_token`, not what the model answers, so that
/// every engine computes the same.
class DecodeWorker {
 public:
  /// Steps before the timed ones of a decode request.
  static constexpr int64_t kWarmUpSteps = 2;

  /// `settings` hold what every session has; requests choose cache, rows and length. Model and
  /// registry must outlive the worker.
  DecodeWorker(const Model& model, const Registry& registry, SessionOptions settings);

  /// Answers one line, or gives nothing where it says quit. Throws UserError where it is no request
  /// of this worker: no JSON object, an unknown operation or key, a value of a wrong type or out of
  /// its range. After that, and after an Error of the run, the worker can be asked again.
  std::optional<Json> answer(const std::string& line);

  /// The token of `row` at `position` in a vocabulary of `vocabulary` tokens.
  static int32_t fed_token(int64_t row, int64_t position, int64_t vocabulary);

 private:
  Json greedy(const Json& request);
  Json prefill(const Json& request);
  Json decode(const Json& request);

  struct Place {  // what a session is kept under
    std::string cache;
    std::string use;
    int64_t rows = 1, length = 0;
    auto operator<=>(const Place&) const = default;
  };
  struct Kept {
    std::unique_ptr<Session> session;
    std::vector<std::vector<int32_t>> texts;  // per row
    bool fresh = true;                        // not used since it was made
  };
  Kept& kept(const Json& request, const std::string& use, int64_t rows, int64_t length);
  void fill(Kept& kept, int64_t depth);

  const Model& model_;
  const Registry& registry_;
  SessionOptions settings_;
  std::map<Place, Kept> sessions_;
};

}  // namespace kvlab
