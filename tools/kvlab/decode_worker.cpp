#include "decode_worker.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

#include "kvlab/core/component.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/sampler.h"

namespace kvlab {

namespace {

using Clock = std::chrono::steady_clock;
constexpr int64_t kFillChunk = 512;
constexpr int64_t kMostRows = 4096;

int64_t since(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
}

// The operations and the keys of each beside `op`.
const std::map<std::string, std::vector<std::string>>& operations() {
  static const std::map<std::string, std::vector<std::string>> keys = {
      {"greedy", {"prompt", "prompt_ids", "tokens", "cache"}},
      {"prefill", {"tokens", "cache"}},
      {"decode", {"depth", "tokens", "batch", "cache"}},
      {"quit", {}},
  };
  return keys;
}

// The operation of a request whose keys are all known.
std::string operation_of(const Json& request) {
  KVLAB_CHECK(request.is_object(), "[decode_worker.request] wanted one JSON object per line, got ",
              request.is_discarded() ? "no JSON" : request.type_name());
  KVLAB_CHECK(request.contains("op") && request.at("op").is_string(),
              "[decode_worker.request] 'op' must be the name of an operation");
  const auto operation = request.at("op").get<std::string>();
  std::vector<std::string> names;
  for (const auto& [name, keys] : operations()) names.push_back(name);
  const auto found = operations().find(operation);
  KVLAB_CHECK(found != operations().end(), "[decode_worker.request] '", operation,
              "' is no operation.", suggestion(operation, names));
  std::vector<std::string> keys = found->second;
  keys.push_back("op");
  for (const auto& [key, value] : request.items()) {
    KVLAB_CHECK(std::find(keys.begin(), keys.end(), key) != keys.end(),
                "[decode_worker.request] '", key, "' is no key of '", operation, "'.",
                suggestion(key, keys));
  }
  return operation;
}

// A whole number in [least, most]; `why` says what the bounds come from.
int64_t whole_number(const Json& value, const std::string& name, int64_t least, int64_t most,
                     const char* why) {
  // Unsigned numbers beyond int64_t would wrap.
  const bool fits = value.is_number_integer() &&
                    (!value.is_number_unsigned() ||
                     value.get<uint64_t>() <= uint64_t{std::numeric_limits<int64_t>::max()});
  const int64_t number = fits ? value.get<int64_t>() : 0;
  KVLAB_CHECK(fits && number >= least && number <= most, "[decode_worker.request] '", name,
              "' must be a whole number from ", least, " to ", most, why, ", got ",
              value.is_number() ? value.dump() : value.type_name());
  return number;
}

const Json& required(const Json& request, const char* key) {
  KVLAB_CHECK(request.contains(key), "[decode_worker.request] '", key, "' is missing");
  return request.at(key);
}

// A count of tokens from `least` to the model's context.
int64_t token_count(const Json& request, const char* key, int64_t least, const Model& model) {
  return whole_number(required(request, key), key, least, model.config().context,
                      " (the model's context)");
}

std::string text_of(const Json& request, const char* key) {
  const Json& value = required(request, key);
  KVLAB_CHECK(value.is_string(), "[decode_worker.request] '", key, "' must be a text, got ",
              value.type_name());
  return value.get<std::string>();
}

std::vector<int32_t> prompt_ids(const Json& request, const Model& model) {
  KVLAB_CHECK(request.contains("prompt") != request.contains("prompt_ids"),
              "[decode_worker.request] greedy wants either 'prompt' or 'prompt_ids'");
  if (request.contains("prompt")) {
    KVLAB_CHECK(model.tokenizer != nullptr,
                "[decode_worker.request] the model has no tokenizer. Give prompt_ids");
    return model.tokenizer->encode(text_of(request, "prompt"));
  }
  const Json& listed = request.at("prompt_ids");
  KVLAB_CHECK(listed.is_array(), "[decode_worker.request] 'prompt_ids' must be a list, got ",
              listed.type_name());
  std::vector<int32_t> ids;
  for (const Json& id : listed) {
    const std::string name = detail::concat("prompt_ids[", ids.size(), "]");
    ids.push_back(static_cast<int32_t>(
        whole_number(id, name, 0, model.config().vocabulary - 1, " (the model's vocabulary)")));
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
    options.cache = parse_component_spec(text_of(request, "cache"));
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
  const int64_t tokens = token_count(request, "tokens", 1, model_);
  const auto prompt = static_cast<int64_t>(text.size());
  KVLAB_CHECK_GE(prompt, 1, "[decode_worker.request] tokens of the prompt");
  KVLAB_CHECK_LE(prompt + tokens, model_.config().context,
                 "[decode_worker.request] tokens of the prompt and new ones (the model's context)");
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
  const int64_t tokens = token_count(request, "tokens", 1, model_);
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
  const int64_t depth = token_count(request, "depth", 0, model_);
  const int64_t tokens = token_count(request, "tokens", 1, model_);
  const int64_t rows =
      request.contains("batch") ? whole_number(request.at("batch"), "batch", 1, kMostRows, "") : 1;
  const int64_t steps = kWarmUpSteps + tokens;
  KVLAB_CHECK_LE(depth + steps, model_.config().context,
                 "[decode_worker.request] depth, ", kWarmUpSteps,
                 " steps of warm-up and tokens together (the model's context)");
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

std::optional<Json> DecodeWorker::answer(const std::string& line) {
  const Json request = Json::parse(line, nullptr, false);
  const std::string operation = operation_of(request);
  if (operation == "greedy") return greedy(request);
  if (operation == "prefill") return prefill(request);
  if (operation == "decode") return decode(request);
  return std::nullopt;
}

}  // namespace kvlab
