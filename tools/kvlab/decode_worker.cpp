#include "decode_worker.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "kvlab/core/error.h"
#include "kvlab/runtime/sampler.h"

namespace kvlab {

namespace {

using Clock = std::chrono::steady_clock;
constexpr int64_t kFillChunk = 512;

int64_t since(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
}

int64_t number(const Json& request, const char* key, int64_t minimum) {
  KVLAB_CHECK(request.contains(key) && request.at(key).is_number_integer(),
              "[decode_worker.request] '", key, "' must be a whole number");
  const auto value = request.at(key).get<int64_t>();
  KVLAB_CHECK_GE(value, minimum, "[decode_worker.request] ", key);
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  KVLAB_CHECK_LE(value, kMost, "[decode_worker.request] ", key);
  return value;
}

int64_t number_or(const Json& request, const char* key, int64_t minimum, int64_t absent) {
  return request.contains(key) ? number(request, key, minimum) : absent;
}

std::vector<int32_t> prompt_ids(const Json& request, const Model& model) {
  if (request.contains("prompt")) {
    KVLAB_CHECK(model.tokenizer != nullptr,
                "[decode_worker.greedy] the model has no tokenizer. Give prompt_ids");
    return model.tokenizer->encode(request.at("prompt").get<std::string>());
  }
  const auto ids = request.at("prompt_ids").get<std::vector<int32_t>>();
  for (const int32_t id : ids) {
    KVLAB_CHECK(id >= 0 && id < model.config().vocabulary, "[decode_worker.greedy] id ", id,
                " is outside the vocabulary of ", model.config().vocabulary, " tokens");
  }
  return ids;
}

}  // namespace

DecodeWorker::DecodeWorker(const Model& model, const Registry& registry, SessionOptions settings)
    : model_(model), registry_(registry), settings_(std::move(settings)) {}

int32_t DecodeWorker::fed_token(int64_t row, int64_t position, int64_t vocabulary) {
  return static_cast<int32_t>((17 + 7919 * position + 104729 * row) % vocabulary);
}

DecodeWorker::Kept& DecodeWorker::kept(const Json& request, const std::string& use, int64_t rows,
                                       int64_t length) {
  SessionOptions options = settings_;
  if (request.contains("cache")) {
    options.cache = parse_component_spec(request.at("cache").get<std::string>());
  }
  options.rows = rows;
  options.max_length = length;
  const Place place{to_string(options.cache), use, rows, length};
  const auto found = sessions_.find(place);
  if (found != sessions_.end()) return found->second;
  Kept kept;
  kept.session = std::make_unique<Session>(model_, registry_, options);
  for (int64_t row = 0; row < rows; ++row) {
    std::vector<int32_t> text;
    for (int64_t position = 0; position < length; ++position) {
      text.push_back(fed_token(row, position, model_.config().vocabulary));
    }
    kept.texts.push_back(std::move(text));
  }
  return sessions_.emplace(place, std::move(kept)).first->second;
}

// Brings every row to `depth` tokens, cutting it where the cache can do that exactly.
void DecodeWorker::fill(Kept& kept, int64_t depth) {
  Session& session = *kept.session;
  KVCache& cache = session.cache();
  for (int row = 0; row < static_cast<int>(session.shape().rows); ++row) {
    if (cache.length(row) > depth) {
      const bool cuts = cache.traits().truncation == Truncation::exact && depth > 0;
      if (cuts) cache.truncate(row, depth);
      if (!cuts) cache.reset(row);
    }
    while (cache.length(row) < depth) {
      const int64_t end = std::min(depth, cache.length(row) + kFillChunk);
      const RowFeed feed{row,
                         kept.texts[static_cast<size_t>(row)],
                         end,
                         depth - end,
                         Phase::prefill,
                         WantedLogits::none};
      session.step({&feed, 1}, {});
      KVLAB_CHECK(cache.length(row) == end, "[decode_worker.decode] cache '", cache.name(),
                  "' keeps no text, so it has no depth");
    }
  }
}

Json DecodeWorker::greedy(const Json& request) {
  std::vector<int32_t> text = prompt_ids(request, model_);
  const int64_t tokens = number(request, "tokens", 1);
  const auto prompt = static_cast<int64_t>(text.size());
  KVLAB_CHECK_GE(prompt, 1, "[decode_worker.greedy] tokens of the prompt");
  Session& session = *kept(request, "greedy", 1, prompt + tokens).session;
  session.reset();
  std::vector<int64_t> times;
  for (int64_t i = 0; i < tokens; ++i) {
    int32_t next = 0;
    const auto start = Clock::now();
    const RowFeed feed{0,
                       text,
                       static_cast<int64_t>(text.size()),
                       0,
                       i == 0 ? Phase::prefill : Phase::decode,
                       WantedLogits::last};
    session.step({&feed, 1},
                 [&](int, int64_t, std::span<const float> logits) { next = argmax(logits); });
    times.push_back(since(start));
    text.push_back(next);
  }
  const std::vector<int32_t> ids(text.begin() + prompt, text.end());
  text.resize(static_cast<size_t>(prompt));
  Json answer = {{"prompt_ids", text}, {"ids", ids}, {"ns", times}};
  if (model_.tokenizer != nullptr) answer["text"] = model_.tokenizer->decode(ids);
  return answer;
}

Json DecodeWorker::prefill(const Json& request) {
  const int64_t tokens = number(request, "tokens", 1);
  Kept& place = kept(request, "prefill", 1, tokens);
  int64_t elapsed = 0;
  int32_t last = 0;
  // The first call of a session finds memory that was never touched.
  for (int call = place.fresh ? 0 : 1; call < 2; ++call) {
    place.session->reset();
    const auto start = Clock::now();
    const RowFeed feed{0, place.texts[0], tokens, 0, Phase::prefill, WantedLogits::last};
    place.session->step({&feed, 1}, [&](int, int64_t, std::span<const float> logits) {
      elapsed = since(start);
      last = argmax(logits);
    });
    elapsed = std::max(elapsed, since(start));
  }
  place.fresh = false;
  return {{"ns", Json::array({elapsed})}, {"last_ids", Json::array({last})}};
}

Json DecodeWorker::decode(const Json& request) {
  const int64_t depth = number(request, "depth", 0);
  const int64_t tokens = number(request, "tokens", 1);
  const int64_t rows = number_or(request, "batch", 1, 1);
  const int64_t steps = kWarmUpSteps + tokens;
  Kept& place = kept(request, "decode", rows, depth + steps);
  fill(place, depth);
  std::vector<RowFeed> feeds;
  for (int row = 0; row < static_cast<int>(rows); ++row) {
    feeds.push_back(
        {row, place.texts[static_cast<size_t>(row)], 0, 0, Phase::decode, WantedLogits::last});
  }
  std::vector<int32_t> last(static_cast<size_t>(rows));
  const LogitsSink no_sink;
  const LogitsSink likeliest = [&](int row, int64_t, std::span<const float> logits) {
    last[static_cast<size_t>(row)] = argmax(logits);
  };
  std::vector<int64_t> times;
  for (int64_t step = 0; step < steps; ++step) {
    for (RowFeed& feed : feeds) feed.end = depth + step + 1;
    const bool is_last = step + 1 == steps;
    const auto start = Clock::now();
    place.session->step(feeds, is_last ? likeliest : no_sink);
    times.push_back(since(start));
  }
  times.erase(times.begin(), times.begin() + kWarmUpSteps);
  return {{"ns", times}, {"last_ids", last}};
}

Json DecodeWorker::answer(const Json& request) {
  const auto operation = request.at("op").get<std::string>();
  if (operation == "greedy") return greedy(request);
  if (operation == "prefill") return prefill(request);
  if (operation == "decode") return decode(request);
  detail::throw_user(detail::concat("[decode_worker.request] '", operation,
                                    "' is no operation. Known: greedy, prefill, decode, quit"));
}

}  // namespace kvlab
