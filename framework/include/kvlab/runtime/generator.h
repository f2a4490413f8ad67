// Generating text and scoring text through a session.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kvlab/runtime/sampler.h"
#include "kvlab/runtime/session.h"

namespace kvlab {

struct GenerateOptions {
  int64_t new_tokens = 1;             ///< at most, per row
  SamplerConfig sampler;
  std::vector<int32_t> stop_tokens;   ///< a row ends after one of them; it is part of the result
  OverflowPolicy overflow = OverflowPolicy::error;
  /// Called after each step with every token that came out, in row order.
  std::function<void(int row, int32_t token)> on_token;
  /// Called with the logits that each token is chosen from, before it is. For comparisons: what it
  /// takes counts as time of the run.
  LogitsSink on_logits;
};

enum class StopReason { length, stop_token, context };
const char* stop_reason_name(StopReason reason);

/// What came out, and how long it took. N new tokens cost one prefill and N-1 decode steps.
struct GenerateResult {
  std::vector<std::vector<int32_t>> tokens;  ///< new ones, per row
  std::vector<StopReason> stopped;
  int64_t ttft_ns = 0;             ///< request start to the first token of the last row
  std::vector<int64_t> token_ns;   ///< gap of each decode step
  WorkCounters work;
  int64_t payload = 0;             ///< live K and V at the end, in bytes
  MemoryUsage cache, scratch;      ///< live and peak, of the cache and of attention
  int64_t fork_ns = 0;             ///< of `generate_forked`: forking alone, part of ttft_ns
  int64_t fork_bytes_moved = 0;    ///< K and V copied by the forks, without later copies on write

  int64_t generated() const;
  int64_t decode_ns() const;
};

/// Feeds `prompts` (one per row, none empty) and generates. The session must be fresh or reset.
/// With overflow `error` a text that could outgrow the session's length is refused before it
/// starts; with `stop` the row ends there. Throws UserError, CapacityError or InterruptedError.
GenerateResult generate(Session& session, const std::vector<std::vector<int32_t>>& prompts,
                        const GenerateOptions& options);

/// As `generate`, but rows may hold beginnings of their texts already, as after an earlier answer:
/// only what is new is fed. Requires: the cached tokens are those that each text starts with, and
/// each text has at least one more. Work counts what the session did since its last reset.
GenerateResult generate_more(Session& session, const std::vector<std::vector<int32_t>>& texts,
                             const GenerateOptions& options);

/// Feeds `prompt` once, forks row 0 into rows 1 to `rows` - 1, and continues each by itself. Every
/// row samples its first token from the same logits with its own random stream, so that texts are
/// those of `generate` with the prompt in every row. Throws as `generate`, and UserError where the
/// cache does not fork.
GenerateResult generate_forked(Session& session, const std::vector<int32_t>& prompt, int64_t rows,
                               const GenerateOptions& options);

/// Feeds given texts (one per row) in chunks of the session's chunk size and hands the logits after
/// every token to `sink`: teacher forcing. The session must be fresh or reset.
void teacher_force(Session& session, const std::vector<std::vector<int32_t>>& texts,
                   const LogitsSink& sink);

/// Negative log-likelihood (natural log) of token i+1 given tokens 0..i; entry i, size n-1.
std::vector<double> score(Session& session, const std::vector<int32_t>& tokens);

/// -log softmax(logits)[token], computed in double.
double negative_log_likelihood(std::span<const float> logits, int32_t token);

}  // namespace kvlab
