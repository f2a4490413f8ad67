#include "kvlab/conformance/cache_oracle.h"

#include <c10/util/BFloat16.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "kvlab/conformance/failure.h"

namespace kvlab::conformance {

namespace {

uint64_t mix(uint64_t value) {  // splitmix64
  value += 0x9e3779b97f4a7c15ULL;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
  return value ^ (value >> 31);
}

uint64_t hash_of(int32_t token, int64_t layer, int64_t head, int64_t dim, uint64_t which) {
  uint64_t hash = mix(static_cast<uint64_t>(token) * 2 + which);
  hash = mix(hash ^ static_cast<uint64_t>(layer));
  hash = mix(hash ^ static_cast<uint64_t>(head));
  return mix(hash ^ static_cast<uint64_t>(dim));
}

}  // namespace

bool visible(int64_t query, int64_t key, const ReferenceRules& rules) {
  if (key > query) return false;
  const int64_t distance = query - key;
  if (rules.model_window > 0 && distance >= rules.model_window) return false;
  return rules.view_window == 0 || distance < rules.view_window || key < rules.view_sinks;
}

std::vector<double> reference_attention(const double* query, int64_t query_position,
                                        const std::vector<ReferenceEntry>& entries,
                                        int64_t key_dim, int64_t value_dim,
                                        const ReferenceRules& rules) {
  std::vector<double> scores;
  std::vector<const double*> values;
  scores.reserve(entries.size());
  values.reserve(entries.size());
  double largest = -std::numeric_limits<double>::infinity();
  for (const ReferenceEntry& entry : entries) {
    if (!visible(query_position, entry.position, rules)) continue;
    double score = 0;
    for (int64_t d = 0; d < key_dim; ++d) score += query[d] * entry.key[d];
    score = score * rules.scale +
            rules.slope * static_cast<double>(entry.position - query_position);
    largest = std::max(largest, score);
    scores.push_back(score);
    values.push_back(entry.value);
  }
  std::vector<double> output(static_cast<size_t>(value_dim), 0);
  double total = 0;
  for (size_t e = 0; e < scores.size(); ++e) {
    const double weight = std::exp(scores[e] - largest);
    total += weight;
    for (size_t d = 0; d < output.size(); ++d) output[d] += weight * values[e][d];
  }
  if (total > 0) {
    for (double& element : output) element /= total;
  }
  return output;
}

float token_key(int32_t token, int64_t layer, int64_t head, int64_t dim) {
  const auto step = static_cast<int64_t>(hash_of(token, layer, head, dim, 0) % 257);
  return static_cast<float>(step - 128) / 64.0F;
}

float token_value(int32_t token, int64_t layer, int64_t head, int64_t dim) {
  const auto step = static_cast<int64_t>(hash_of(token, layer, head, dim, 1) % 128);
  return 4.0F + static_cast<float>(step) / 32.0F;
}

double round_to(double value, at::ScalarType dtype) {
  const auto single = static_cast<float>(value);
  return dtype == at::kBFloat16 ? static_cast<float>(c10::BFloat16(single)) : single;
}

void reference_rotate(double* head, int64_t dim, int64_t position) {
  const int64_t half = dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const double frequency =
        std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(dim));
    const double angle = static_cast<double>(position) * frequency;
    const double low = head[i], high = head[i + half];
    head[i] = low * std::cos(angle) - high * std::sin(angle);
    head[i + half] = high * std::cos(angle) + low * std::sin(angle);
  }
}

namespace {

// All heads [G*D] of one token in the model's dtype.
template <typename Source>
std::vector<double> model_heads(Source source, int64_t kv_heads, int64_t dim,
                                at::ScalarType dtype) {
  std::vector<double> heads;
  for (int64_t head = 0; head < kv_heads; ++head) {
    for (int64_t d = 0; d < dim; ++d) heads.push_back(round_to(source(head, d), dtype));
  }
  return heads;
}

}  // namespace

CacheOracle::CacheOracle(const CacheShape& shape, StoredEntry stored_entry)
    : shape_(shape), stored_entry_(std::move(stored_entry)), stored_heads_(shape.kv_heads) {
  texts_.resize(static_cast<size_t>(shape.rows));
  entries_.resize(static_cast<size_t>(shape.rows));
  for (auto& layers : entries_) layers.resize(static_cast<size_t>(shape.layers));
  if (!stored_entry_) return;
  const std::vector<double> one(static_cast<size_t>(shape.kv_heads * shape.key_dim), 0.0);
  stored_heads_ = static_cast<int64_t>(stored_entry_(one, shape.key_dim).size()) / shape.key_dim;
  require(stored_heads_ > 0 && shape.query_heads % stored_heads_ == 0,
          "stored_entry gives ", stored_heads_, " heads, which must divide the ",
          shape.query_heads, " query heads");
}

void CacheOracle::append(int row, int32_t token) {
  const int64_t position = length(row);
  for (int64_t layer = 0; layer < shape_.layers; ++layer) {
    Entry entry;
    entry.position = position;
    entry.keys = model_heads([&](int64_t h, int64_t d) { return token_key(token, layer, h, d); },
                             shape_.kv_heads, shape_.key_dim, shape_.dtype);
    entry.values =
        model_heads([&](int64_t h, int64_t d) { return token_value(token, layer, h, d); },
                    shape_.kv_heads, shape_.value_dim, shape_.dtype);
    if (stored_entry_) {
      entry.keys = stored_entry_(entry.keys, shape_.key_dim);
      entry.values = stored_entry_(entry.values, shape_.value_dim);
    }
    entries_[index(row)][static_cast<size_t>(layer)].push_back(std::move(entry));
  }
  texts_[index(row)].push_back(token);
}

void CacheOracle::truncate(int row, int64_t new_length) {
  texts_[index(row)].resize(static_cast<size_t>(new_length));
  for (auto& layer : entries_[index(row)]) layer.resize(static_cast<size_t>(new_length));
}

void CacheOracle::fork(int from, int to) {
  texts_[index(to)] = texts_[index(from)];
  entries_[index(to)] = entries_[index(from)];
}

std::vector<double> CacheOracle::attend(int row, int64_t layer, int64_t position,
                                        const float* query, const ReferenceRules& rules,
                                        const RotaryPositions* rotary) const {
  std::vector<double> output;
  const int64_t group = shape_.query_heads / stored_heads_;
  const std::vector<Entry>& text = entries(row, layer);
  std::vector<std::vector<double>> rotated;
  for (const Entry& entry : text) {
    if (rotary == nullptr) break;
    rotated.push_back(entry.keys);
    if (!visible(position, entry.position, rules)) continue;
    const auto place = rotary->find(entry.position);
    require(place != rotary->end(), "row ", row, " layer ", layer, ": the query at ", position,
            " sees position ", entry.position, ", which the view does not hold");
    for (int64_t head = 0; head < stored_heads_; ++head) {
      reference_rotate(rotated.back().data() + head * shape_.key_dim, shape_.key_dim,
                       place->second);
    }
  }
  for (int64_t head = 0; head < shape_.query_heads; ++head) {
    const int64_t stored_head = head / group;
    std::vector<ReferenceEntry> seen;
    seen.reserve(text.size());
    for (size_t e = 0; e < text.size(); ++e) {
      const std::vector<double>& keys = rotary == nullptr ? text[e].keys : rotated[e];
      seen.push_back({text[e].position, keys.data() + stored_head * shape_.key_dim,
                      text[e].values.data() + stored_head * shape_.value_dim});
    }
    const std::vector<double> wide(query + head * shape_.key_dim,
                                   query + (head + 1) * shape_.key_dim);
    const std::vector<double> part = reference_attention(
        wide.data(), position, seen, shape_.key_dim, shape_.value_dim, rules);
    output.insert(output.end(), part.begin(), part.end());
  }
  return output;
}

}  // namespace kvlab::conformance
