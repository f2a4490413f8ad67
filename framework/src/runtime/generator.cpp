#include "kvlab/runtime/generator.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "kvlab/core/error.h"

namespace kvlab {

namespace {

using Clock = std::chrono::steady_clock;

int64_t nanoseconds(Clock::duration span) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(span).count();
}

// Feeds every row's text in chunks, from `fed` tokens on; rows of unequal length end in different
// steps. `wanted` says which logits a slice needs, given whether it is the row's last chunk.
template <typename Wanted>
void feed_in_chunks(Session& session, const std::vector<std::vector<int32_t>>& texts,
                    std::vector<int64_t> fed, const LogitsSink& sink, Wanted wanted) {
  std::vector<RowFeed> feeds;
  while (true) {
    feeds.clear();
    for (size_t row = 0; row < texts.size(); ++row) {
      const auto length = static_cast<int64_t>(texts[row].size());
      if (fed[row] == length) continue;
      RowFeed feed;
      feed.row = static_cast<int>(row);
      feed.text = texts[row];
      feed.end = std::min(length, fed[row] + session.chunk_for(length));
      feed.prompt_left = length - feed.end;
      feed.wanted = wanted(feed.end == length);
      feeds.push_back(feed);
      fed[row] = feed.end;
    }
    if (feeds.empty()) return;
    session.step(feeds, sink);
  }
}

class Generation {
 public:
  // `from` says whether rows may hold the beginnings of their texts already.
  enum class From { empty, cached };
  Generation(Session& session, const std::vector<std::vector<int32_t>>& prompts,
             const GenerateOptions& options, From from)
      : session_(session),
        options_(options),
        from_(from),
        texts_(prompts),
        sampler_(options.sampler, static_cast<int64_t>(prompts.size())),
        running_(prompts.size(), true) {
    check();
    result_.tokens.resize(prompts.size());
    // All at once: a decode step allocates nothing that grows with the text.
    const int64_t most = std::min(options.new_tokens, session.shape().max_length + 1);
    for (size_t row = 0; row < prompts.size(); ++row) {
      texts_[row].reserve(prompts[row].size() + static_cast<size_t>(most));
      result_.tokens[row].reserve(static_cast<size_t>(most));
    }
    result_.token_ns.reserve(static_cast<size_t>(most));
    result_.stopped.assign(prompts.size(), StopReason::length);
  }

  GenerateResult run() {
    return run([this] { feed_in_chunks(session_, texts_, cached(), sample(), last_only); });
  }

  // Requires: the same text in every row.
  GenerateResult run_forked() {
    return run([this] {
      const std::vector<std::vector<int32_t>> prompt = {texts_.front()};
      feed_in_chunks(session_, prompt, {0}, sample_for_all(), last_only);
      const auto start = Clock::now();
      const int64_t moved = session_.work().bytes_moved;
      for (size_t row = 1; row < texts_.size(); ++row) {
        session_.cache().fork(0, static_cast<int>(row));
      }
      result_.fork_ns = nanoseconds(Clock::now() - start);
      result_.fork_bytes_moved = session_.work().bytes_moved - moved;
    });
  }

 private:
  static WantedLogits last_only(bool last) {
    return last ? WantedLogits::last : WantedLogits::none;
  }

  // `prefill` leaves every row with the prompt in its cache and a token sampled.
  template <typename Prefill>
  GenerateResult run(const Prefill& prefill) {
    const auto start = Clock::now();
    if (options_.new_tokens > 0) {
      prefill();
      take_tokens();
    }
    result_.ttft_ns = nanoseconds(Clock::now() - start);
    decode();
    result_.work = session_.work();
    result_.payload = session_.payload();
    result_.cache = session_.cache_usage();
    result_.scratch = session_.scratch_usage();
    return std::move(result_);
  }

  void check() const {
    KVLAB_CHECK(!texts_.empty(), "[runtime.generate] there is no prompt");
    KVLAB_CHECK_LE(static_cast<int64_t>(texts_.size()), session_.shape().rows,
                   "[runtime.generate] number of prompts (rows of the session)");
    KVLAB_CHECK_GE(options_.new_tokens, 0, "[runtime.generate] new_tokens");
    const int64_t room = session_.shape().max_length;
    for (size_t row = 0; row < texts_.size(); ++row) {
      const auto prompt = static_cast<int64_t>(texts_[row].size());
      KVLAB_CHECK(prompt > 0, "[runtime.generate] the prompt of row ", row,
                  " has no tokens; give at least one");
      const int64_t held = session_.cache().length(static_cast<int>(row));
      if (from_ == From::empty) {
        KVLAB_CHECK_EQ(held, 0, "[runtime.generate] cached length of row ", row,
                       " (reset the session first)");
      }
      KVLAB_CHECK(held < prompt, "[runtime.generate] row ", row, " holds ", held,
                  " tokens and its text has ", prompt, ". Give a text with at least one new token");
      KVLAB_CHECK_LE(prompt, room, "[runtime.generate] prompt of row ", row, " in tokens");
      // The last new token is never fed.
      const int64_t needed = prompt + options_.new_tokens - 1;
      KVLAB_CHECK(options_.overflow == OverflowPolicy::stop || needed <= room,
                  "[runtime.generate] row ", row, ": prompt of ", prompt, " and ",
                  options_.new_tokens, " new tokens need a length of ", needed,
                  ", there is room for ", room,
                  ". Ask for fewer new tokens, or set overflow: stop");
    }
  }

  std::vector<int64_t> cached() const {
    std::vector<int64_t> lengths;
    for (size_t row = 0; row < texts_.size(); ++row) {
      lengths.push_back(session_.cache().length(static_cast<int>(row)));
    }
    return lengths;
  }

  LogitsSink sample() {
    return [this](int row, int64_t position, std::span<const float> logits) {
      sample_row(row, position, logits);
    };
  }

  LogitsSink sample_for_all() {
    return [this](int, int64_t position, std::span<const float> logits) {
      for (size_t row = 0; row < texts_.size(); ++row) {
        sample_row(static_cast<int>(row), position, logits);
      }
    };
  }

  void sample_row(int row, int64_t position, std::span<const float> logits) {
    if (options_.on_logits) options_.on_logits(row, position, logits);
    sampled_.emplace_back(row, sampler_.next(row, logits));
  }

  // Appends what the last steps sampled, once those steps are committed.
  void take_tokens() {
    std::sort(sampled_.begin(), sampled_.end());
    for (const auto& [row, token] : sampled_) {
      const auto index = static_cast<size_t>(row);
      texts_[index].push_back(token);
      result_.tokens[index].push_back(token);
      if (options_.on_token) options_.on_token(row, token);
      if (std::find(options_.stop_tokens.begin(), options_.stop_tokens.end(), token) !=
          options_.stop_tokens.end()) {
        end_row(index, StopReason::stop_token);
      } else if (static_cast<int64_t>(result_.tokens[index].size()) == options_.new_tokens) {
        end_row(index, StopReason::length);
      } else if (static_cast<int64_t>(texts_[index].size()) > session_.shape().max_length) {
        end_row(index, StopReason::context);
      }
    }
    sampled_.clear();
  }

  void end_row(size_t row, StopReason reason) {
    running_[row] = false;
    result_.stopped[row] = reason;
  }

  void decode() {
    std::vector<RowFeed> feeds;
    auto before = Clock::now();
    for (int64_t i = 1; i < options_.new_tokens; ++i) {
      feeds.clear();
      for (size_t row = 0; row < texts_.size(); ++row) {
        if (!running_[row]) continue;
        RowFeed feed;
        feed.row = static_cast<int>(row);
        feed.text = texts_[row];
        feed.end = static_cast<int64_t>(texts_[row].size());
        feed.phase = Phase::decode;
        feeds.push_back(feed);
      }
      if (feeds.empty()) return;
      session_.step(feeds, sample());
      take_tokens();
      const auto now = Clock::now();
      result_.token_ns.push_back(nanoseconds(now - before));
      before = now;
    }
  }

  Session& session_;
  const GenerateOptions& options_;
  From from_;
  std::vector<std::vector<int32_t>> texts_;
  Sampler sampler_;
  std::vector<bool> running_;
  std::vector<std::pair<int, int32_t>> sampled_;
  GenerateResult result_;
};

}  // namespace

const char* stop_reason_name(StopReason reason) {
  switch (reason) {
    case StopReason::length: return "length";
    case StopReason::stop_token: return "stop_token";
    case StopReason::context: return "context";
  }
  return "?";
}

int64_t GenerateResult::generated() const {
  int64_t total = 0;
  for (const auto& row : tokens) total += static_cast<int64_t>(row.size());
  return total;
}

int64_t GenerateResult::decode_ns() const {
  return std::accumulate(token_ns.begin(), token_ns.end(), int64_t{0});
}

GenerateResult generate(Session& session, const std::vector<std::vector<int32_t>>& prompts,
                        const GenerateOptions& options) {
  return Generation(session, prompts, options, Generation::From::empty).run();
}

GenerateResult generate_more(Session& session, const std::vector<std::vector<int32_t>>& texts,
                             const GenerateOptions& options) {
  return Generation(session, texts, options, Generation::From::cached).run();
}

GenerateResult generate_forked(Session& session, const std::vector<int32_t>& prompt, int64_t rows,
                               const GenerateOptions& options) {
  KVLAB_CHECK_GE(rows, 1, "[runtime.generate] rows of one prompt");
  KVLAB_CHECK(session.cache().traits().forks, "[runtime.generate] cache '", session.cache().name(),
              "' does not fork. Feed the prompt to every row, or take another cache");
  const std::vector<std::vector<int32_t>> prompts(static_cast<size_t>(rows), prompt);
  return Generation(session, prompts, options, Generation::From::empty).run_forked();
}

void teacher_force(Session& session, const std::vector<std::vector<int32_t>>& texts,
                   const LogitsSink& sink) {
  for (const auto& text : texts) {
    KVLAB_CHECK(!text.empty(), "[runtime.teacher_force] a text has no tokens");
    KVLAB_CHECK_LE(static_cast<int64_t>(text.size()), session.shape().max_length,
                   "[runtime.teacher_force] text in tokens (room of the session)");
  }
  feed_in_chunks(session, texts, std::vector<int64_t>(texts.size(), 0), sink,
                 [](bool) { return WantedLogits::all; });
}

std::vector<double> score(Session& session, const std::vector<int32_t>& tokens) {
  KVLAB_CHECK_GE(tokens.size(), size_t{2}, "[runtime.score] tokens to score");
  std::vector<double> losses(tokens.size() - 1);
  teacher_force(session, {tokens}, [&](int, int64_t position, std::span<const float> logits) {
    const auto next = static_cast<size_t>(position + 1);
    if (next < tokens.size()) losses[next - 1] = negative_log_likelihood(logits, tokens[next]);
  });
  return losses;
}

double negative_log_likelihood(std::span<const float> logits, int32_t token) {
  KVLAB_CHECK(token >= 0 && static_cast<size_t>(token) < logits.size(), "[runtime.score] token ",
              token, " is outside the vocabulary of ", logits.size());
  const double largest = *std::max_element(logits.begin(), logits.end());
  double total = 0;
  for (const float logit : logits) total += std::exp(logit - largest);
  return largest + std::log(total) - logits[static_cast<size_t>(token)];
}

}  // namespace kvlab
