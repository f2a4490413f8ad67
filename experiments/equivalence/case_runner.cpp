#include "case_runner.h"

#include <fmt/format.h>

#include <algorithm>

#include "kvlab/core/error.h"
#include "kvlab/runtime/process.h"

namespace kvlab::experiments::equivalence_kind {

namespace {

// Leaves room where bf16 and f32 give the very same distribution.
constexpr double kDivergenceSlack = 1e-9;

const ComponentSpec kNoCache{"none", {}, ""};

// The attention whose operations do not depend on how a cache lays out its entries.
constexpr const char* kReferenceAttention = "eager";

std::string joined(const std::vector<std::string>& reasons) {
  std::string text;
  for (const std::string& reason : reasons) text += (text.empty() ? "" : "; ") + reason;
  return text;
}

// 64-bit FNV-1a over the bits of the numbers.
uint64_t hash_bits(std::span<const float> values) {
  uint64_t hash = 14695981039346656037ULL;
  for (const float value : values) {
    uint32_t bits = 0;
    static_assert(sizeof bits == sizeof value);
    __builtin_memcpy(&bits, &value, sizeof bits);
    hash = (hash ^ bits) * 1099511628211ULL;
  }
  return hash;
}

}  // namespace

const char* verdict_name(Verdict verdict) {
  switch (verdict) {
    case Verdict::equal: return "equal";
    case Verdict::differs: return "differs";
    case Verdict::distance: return "approximate";
    case Verdict::refused: return "refused";
    case Verdict::failed: return "failed";
  }
  return "?";
}

std::string CaseName::text() const {
  return fmt::format("{}, {}, {}, {}, {}, chunk {}", model, position, dtype, attention, cache,
                     chunk == 0 ? "all" : std::to_string(chunk));
}

CaseRunner::CaseRunner(const Registry& registry, const Combinations& combinations, CaseSink sink)
    : registry_(registry), combinations_(combinations), sink_(std::move(sink)) {}

SessionOptions CaseRunner::options(const ComponentSpec& cache, const ComponentSpec& attention,
                                   int64_t chunk, at::ScalarType dtype) const {
  SessionOptions options;
  options.cache = cache;
  options.attention = attention;
  options.cache_dtype = dtype;
  options.rows = static_cast<int64_t>(texts_.size());
  for (const auto& text : texts_) {
    options.max_length = std::max(options.max_length, static_cast<int64_t>(text.size()));
  }
  options.chunk = chunk;
  return options;
}

std::vector<std::string> CaseRunner::reasons(const Model& model,
                                             const SessionOptions& options) const {
  return incompatibilities(model.config(), registry_, options,
                           model.decoder->weights().position_table.defined());
}

void CaseRunner::run(const ModelSource& source, const std::vector<std::vector<int32_t>>& texts) {
  texts_ = texts;
  const bool wants_bf16 = std::find(combinations_.dtypes.begin(), combinations_.dtypes.end(),
                                    at::kBFloat16) != combinations_.dtypes.end();
  for (const auto& position : combinations_.positions) {
    check_interrupted();
    const Model f32 = load_model(source, at::kFloat, at::kFloat, position);
    std::optional<Model> bf16;
    if (wants_bf16) bf16 = load_model(source, at::kBFloat16, at::kBFloat16, position);
    CaseName name;
    name.model = source.name;
    name.position = to_string(f32.config().position);
    first_control_ = nullptr;
    std::vector<LogitRecord> kept;  // keeps the first control alive
    for (const ComponentSpec& attention : combinations_.attentions) {
      name.attention = to_string(attention);
      const SessionOptions control = options(kNoCache, attention, 0, at::kFloat);
      if (const auto refused = reasons(f32, control); !refused.empty()) {
        refuse_all(name, refused);
        continue;
      }
      if (first_control_ == nullptr) {
        Session session(f32, registry_, control);
        kept.push_back(record_logits(session, texts_));
        first_control_ = &kept.front();
        first_attention_ = name.attention;
      }
      run_attention(f32, bf16 ? &*bf16 : nullptr, name, attention);
    }
  }
}

void CaseRunner::refuse_all(const CaseName& name, const std::vector<std::string>& refused) {
  for (const ComponentSpec& cache : combinations_.caches) {
    CaseResult result;
    result.name = name;
    result.name.cache = to_string(cache);
    result.name.dtype = "any";
    result.detail = joined(refused);
    sink_(result);
  }
}

void CaseRunner::run_attention(const Model& f32, const Model* bf16, const CaseName& name,
                               const ComponentSpec& attention) {
  const LogitRecord* control = first_control_;
  LogitRecord own;
  if (name.attention != first_attention_) {
    // Two kernels over no cache at all: is the difference the kernel's?
    Session session(f32, registry_, options(kNoCache, attention, 0, at::kFloat));
    CaseResult result;
    result.name = name;
    result.name.dtype = "f32";
    result.name.cache = to_string(kNoCache);
    result.name.against = "none, " + first_attention_;
    result.comparison = compare_logits(*first_control_, session);
    result.verdict = result.comparison.equal() ? Verdict::equal : Verdict::differs;
    result.detail = result.comparison.describe();
    sink_(result);
    session.reset();
    own = record_logits(session, texts_);
    control = &own;
  }
  const Setting setting{f32, bf16, *control, name, attention};
  for (const at::ScalarType dtype : combinations_.dtypes) run_dtype(setting, dtype);
}

void CaseRunner::run_dtype(const Setting& setting, at::ScalarType dtype) {
  const bool exact_numbers = dtype == at::kFloat;
  const LogitRecord* control = &setting.control;
  LogitRecord rounded;
  double floor = 0;  // what bf16 costs without any cache
  if (!exact_numbers) {
    Session session(*setting.bf16, registry_, options(kNoCache, setting.attention, 0, dtype));
    floor = compare_logits(setting.control, session).mean_kl;
    session.reset();
    rounded = record_logits(session, texts_);
    control = &rounded;
  }
  reference_bits_.clear();
  reference_cache_.clear();
  for (const ComponentSpec& cache : combinations_.caches) {
    for (const int64_t chunk : combinations_.chunks) {
      check_interrupted();
      const SessionOptions wanted = options(cache, setting.attention, chunk, dtype);
      CaseResult result;
      result.name = setting.name;
      result.name.dtype = dtype_name(dtype);
      result.name.cache = to_string(cache);
      result.name.chunk = chunk;
      result.name.against = "none, " + setting.name.attention;
      const auto refused = reasons(setting.f32, wanted);
      if (!refused.empty()) {
        result.detail = joined(refused);
        sink_(result);
        continue;
      }
      // A cache that keeps nothing is fed whole texts: one chunk size stands for all.
      const CacheTraits traits =
          registry_.cache_traits(cache, session_shape(setting.f32.config(), wanted));
      if (traits.keeps_nothing && chunk != combinations_.chunks.front()) continue;
      try {
        CaseResult ran = run_case(setting, cache, chunk, *control, dtype, floor);
        ran.name = result.name;
        if (traits.keeps_nothing) ran.name.chunk = 0;
        sink_(ran);
      } catch (const InterruptedError&) {
        throw;
      } catch (const std::exception& error) {
        result.verdict = Verdict::failed;
        result.detail = error.what();
        sink_(result);
      }
    }
  }
}

CaseResult CaseRunner::run_case(const Setting& setting, const ComponentSpec& cache, int64_t chunk,
                                const LogitRecord& control, at::ScalarType dtype, double floor) {
  const bool exact_numbers = dtype == at::kFloat;
  const Model& model = exact_numbers ? setting.f32 : *setting.bf16;
  const SessionOptions wanted = options(cache, setting.attention, chunk, dtype);
  Session session(model, registry_, wanted);
  CaseResult result;
  result.comparison = compare_logits(control, session);
  result.detail = result.comparison.describe();
  const CacheTraits& traits = session.cache().traits();
  if (!exact_numbers) result.kl_limit = kBf16DivergenceFactor * floor + kDivergenceSlack;
  if (!traits.exact) {
    result.verdict = Verdict::distance;
    return result;
  }
  const bool equal =
      exact_numbers ? result.comparison.equal() : result.comparison.mean_kl <= result.kl_limit;
  result.verdict = equal ? Verdict::equal : Verdict::differs;
  if (!exact_numbers) {
    result.detail += fmt::format("; limit {:.2e}, {} times what bf16 costs without a cache",
                                 result.kl_limit, kBf16DivergenceFactor);
    if (!traits.keeps_nothing && setting.attention.type == kReferenceAttention) {
      check_bits(model, wanted, result);
    }
  }
  return result;
}

void CaseRunner::check_bits(const Model& model, const SessionOptions& wanted, CaseResult& result) {
  Session session(model, registry_, wanted);
  std::map<std::pair<int, int64_t>, uint64_t> ordered;
  teacher_force(session, texts_, [&](int row, int64_t position, std::span<const float> logits) {
    ordered[{row, position}] = hash_bits(logits);
  });
  std::vector<uint64_t> bits;
  for (const auto& [where, hash] : ordered) bits.push_back(hash);
  const auto reference = reference_bits_.find(wanted.chunk);
  if (reference == reference_bits_.end()) {
    if (reference_cache_.empty()) reference_cache_ = to_string(wanted.cache);
    reference_bits_.emplace(wanted.chunk, std::move(bits));
    return;
  }
  result.bit_identical = bits == reference->second;
  if (!*result.bit_identical) {
    result.verdict = Verdict::differs;
    result.detail += "; not bit-identical to " + reference_cache_ + " at the same step shapes";
  }
}

}  // namespace kvlab::experiments::equivalence_kind
