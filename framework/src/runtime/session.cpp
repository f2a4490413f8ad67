#include "kvlab/runtime/session.h"

#include <algorithm>
#include <chrono>

#include "kvlab/core/error.h"
#include "kvlab/kernels/elementwise.h"
#include "kvlab/model/step_timeline.h"
#include "kvlab/runtime/process.h"
#include "kvlab/runtime/row_crossover.h"

namespace kvlab {

namespace {

// Wanted rows whose logits are held at once: V floats each.
constexpr int64_t kLogitRowsAtOnce = 128;

PositionShape position_shape(const ModelConfig& model, const at::Tensor& table) {
  return {model.d_model, model.n_heads, model.head_dim, model.context, table};
}

void check_finite(std::span<const float> logits, int64_t step, int row, int64_t position) {
  KVLAB_CHECK(kernels::all_finite(logits), "[runtime.step] logits are not finite: step ", step,
              ", row ", row, ", position ", position, ". Check the weights and the dtype");
}

SessionOptions checked(const Model& model, const Registry& registry, SessionOptions options) {
  if (options.max_length == 0) options.max_length = model.config().context;
  const bool has_table = model.decoder->weights().position_table.defined();
  const auto reasons = incompatibilities(model.config(), registry, options, has_table);
  if (reasons.empty()) return options;
  std::string message = "[runtime.session] these cannot work together:";
  for (const std::string& reason : reasons) message += "\n  - " + reason;
  throw UserError(message);
}

}  // namespace

CacheShape session_shape(const ModelConfig& model, const SessionOptions& options) {
  CacheShape shape;
  shape.layers = model.layers;
  shape.query_heads = model.n_heads;
  shape.kv_heads = model.n_kv_heads;
  shape.rows = options.rows;
  shape.key_dim = shape.value_dim = model.head_dim;
  shape.max_length = options.max_length == 0 ? model.context : options.max_length;
  shape.max_step_tokens = options.chunk > 0 ? std::min(options.chunk, shape.max_length)
                                            : shape.max_length;
  shape.window = model.window;
  shape.dtype = options.cache_dtype;
  return shape;
}

std::vector<std::string> incompatibilities(const ModelConfig& model, const Registry& registry,
                                           const SessionOptions& options,
                                           bool has_position_table) {
  std::vector<std::string> reasons;
  const auto attempt = [&](auto&& ask) {
    try {
      ask();
    } catch (const Error& error) {
      reasons.emplace_back(error.what());
    }
  };
  const CacheShape shape = session_shape(model, options);
  CacheTraits cache;
  AttentionTraits attention;
  PositionTraits position;
  bool know_cache = false, know_attention = false, know_position = false;
  attempt([&] {
    shape.validate();
    cache = registry.cache_traits(options.cache, shape);
    know_cache = true;
  });
  attempt([&] {
    attention = registry.attention_traits(options.attention);
    know_attention = true;
  });
  attempt([&] {
    position = registry.position_traits(model.position, position_shape(model, {}));
    know_position = true;
  });
  if (options.max_length > model.context) {
    reasons.push_back(detail::concat("a text of ", options.max_length,
                                     " tokens is longer than the model's context of ",
                                     model.context));
  }
  const auto& cache_name = options.cache.type;
  const auto& attention_name = options.attention.type;
  const auto& position_name = model.position.type;
  if (know_cache && know_attention &&
      cache.feedback.kind != FeedbackRequest::Kind::none &&
      std::find(attention.feedback.begin(), attention.feedback.end(), cache.feedback.kind) ==
          attention.feedback.end()) {
    reasons.push_back(detail::concat(
        "cache '", cache_name, "' needs ",
        cache.feedback.kind == FeedbackRequest::Kind::column_sums ? "column sums" : "last rows",
        "; attention '", attention_name, "' gives none"));
  }
  if (know_attention && know_position && position.biases_scores && !attention.supports_bias) {
    reasons.push_back(detail::concat("position '", position_name, "' biases scores; attention '",
                                     attention_name, "' takes no bias"));
  }
  if (know_cache && know_position && cache.keys_before_position && !position.can_rebase) {
    reasons.push_back(detail::concat("cache '", cache_name,
                                     "' keeps keys before position; position '", position_name,
                                     "' cannot be applied later"));
  }
  if (know_position && position.needs_table && !has_position_table) {
    reasons.push_back(detail::concat("position '", position_name,
                                     "' needs a table that the model's weights do not have"));
  }
  if (know_position && options.max_length > position.max_position) {
    reasons.push_back(detail::concat("position '", position_name, "' ends at ",
                                     position.max_position, "; the text may reach ",
                                     options.max_length));
  }
  return reasons;
}

Session::Session(const Model& model, const Registry& registry, const SessionOptions& options)
    : model_(model),
      options_(checked(model, registry, options)),
      shape_(session_shape(model.config(), options_)),
      arena_(options_.arena),
      threads_(kvlab::threads()),
      row_tokens_(options_.row_tokens) {
  check_memory(registry, options_, shape_, shape_.max_length);
  if (row_tokens_ == 0) row_tokens_ = row_token_limit(*model.decoder, threads_);
  position_ = registry.make_position(
      model.config().position,
      position_shape(model.config(), model.decoder->weights().position_table));
  attention_ = registry.make_attention(options_.attention);
  cache_ = registry.make_cache(options_.cache, shape_, arena_);
  arena_.end_set_up();
}

int64_t Session::chunk_for(int64_t prompt_length) const {
  if (options_.chunk == 0 || cache_->traits().keeps_nothing) {
    return std::max<int64_t>(prompt_length, 1);
  }
  return options_.chunk;
}

void Session::step(std::span<const RowFeed> feeds, const LogitsSink& sink) {
  check_interrupted();
  plan_.clear();
  for (const RowFeed& feed : feeds) {
    RowSlice slice;
    slice.row = feed.row;
    slice.first_position = cache_->length(feed.row);
    slice.count = feed.end - slice.first_position;
    slice.prompt_left = feed.prompt_left;
    slice.phase = feed.phase;
    slice.wanted = feed.wanted;
    KVLAB_CHECK(slice.count >= 0 && feed.end <= static_cast<int64_t>(feed.text.size()),
                "[runtime.step] row ", feed.row, " cannot be fed up to ", feed.end,
                ": its text has ", feed.text.size(), " tokens and ", slice.first_position,
                " are cached");
    plan_.add(slice, feed.text.subspan(static_cast<size_t>(slice.first_position),
                                       static_cast<size_t>(slice.count)));
  }
  const auto timed = [this](const char* name, auto&& part) {
    if (profile_ == nullptr) return part();
    const auto start = std::chrono::steady_clock::now();
    part();
    const auto end = std::chrono::steady_clock::now();
    profile_->cache_ns +=
        std::chrono::duration_cast<std::chrono::nanoseconds>(end - start).count();
    if (profile_->timeline != nullptr)
      profile_->timeline->add(name, StepTimeline::kNoLayer, profile_->steps, start, end);
  };
  timed("cache begin step", [this] { cache_->begin_step(plan_); });
  try {
    const StepContext context{plan_,    *cache_,    shape_.dtype, *attention_, *position_,
                              scratch_, workspace_, threads_,     row_tokens_, profile_};
    const at::Tensor hidden = model_.decoder->forward(context);
    const int64_t wanted = hidden.size(0);
    const int64_t vocabulary = model_.config().vocabulary;
    size_t slice_index = 0;
    for (int64_t first = 0; first < wanted; first += kLogitRowsAtOnce) {
      const int64_t count = std::min(kLogitRowsAtOnce, wanted - first);
      const at::Tensor logits =
          model_.decoder->logits(context, hidden.narrow(0, first, count));
      const float* data = logits.const_data_ptr<float>();
      for (int64_t i = 0; i < count; ++i) {
        const int64_t token = plan_.wanted()[static_cast<size_t>(first + i)];
        const auto slices = plan_.slices();
        while (token >= slices[slice_index].offset + slices[slice_index].count) ++slice_index;
        const RowSlice& slice = slices[slice_index];
        const int64_t position = slice.first_position + token - slice.offset;
        const std::span<const float> row(data + i * vocabulary, static_cast<size_t>(vocabulary));
        check_finite(row, work_.steps, slice.row, position);
        if (sink) sink(slice.row, position, row);
      }
    }
    work_.logit_rows += wanted;
  } catch (...) {
    cache_->abort_step();
    throw;
  }
  timed("cache end step", [this] { cache_->end_step(); });
  if (profile_ != nullptr) ++profile_->steps;
  work_.token_forwards += plan_.num_tokens();
  ++work_.steps;
}

WorkCounters Session::work() const {
  WorkCounters counters = work_;
  counters.bytes_moved = cache_->bytes_moved() - moved_before_;
  counters.gathered_bytes = attention_->gathered_bytes() - gathered_before_;
  return counters;
}

void Session::reset() {
  for (int64_t row = 0; row < shape_.rows; ++row) cache_->reset(static_cast<int>(row));
  work_ = {};
  moved_before_ = cache_->bytes_moved();
  gathered_before_ = attention_->gathered_bytes();
  arena_.restart_peaks();
  scratch_.restart_peaks();
}

}  // namespace kvlab
