#include "cache_oracle.h"

#include <c10/util/BFloat16.h>

#include <algorithm>
#include <cmath>
#include <limits>

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

bool visible(int64_t query, int64_t key, const ReferenceRules& rules) {
  if (key > query) return false;
  const int64_t distance = query - key;
  if (rules.model_window > 0 && distance >= rules.model_window) return false;
  return rules.view_window == 0 || distance < rules.view_window || key < rules.view_sinks;
}

}  // namespace

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

CacheOracle::CacheOracle(const CacheShape& shape, int64_t stored_heads)
    : shape_(shape), stored_heads_(stored_heads) {
  texts_.resize(static_cast<size_t>(shape.rows));
  entries_.resize(static_cast<size_t>(shape.rows));
  for (auto& layers : entries_) layers.resize(static_cast<size_t>(shape.layers));
}

// Fewer heads: the mean of each run of heads. More: each head several times in a row.
template <typename Source>
std::vector<double> CacheOracle::stored(Source source, int64_t dim) const {
  std::vector<double> heads;
  for (int64_t head = 0; head < stored_heads_; ++head) {
    for (int64_t d = 0; d < dim; ++d) {
      if (stored_heads_ >= shape_.kv_heads) {
        heads.push_back(round_to(source(head / (stored_heads_ / shape_.kv_heads), d),
                                 shape_.dtype));
        continue;
      }
      const int64_t pooled = shape_.kv_heads / stored_heads_;
      double sum = 0;
      for (int64_t i = 0; i < pooled; ++i) {
        sum += round_to(source(head * pooled + i, d), shape_.dtype);
      }
      heads.push_back(round_to(sum / static_cast<double>(pooled), shape_.dtype));
    }
  }
  return heads;
}

void CacheOracle::append(int row, int32_t token) {
  const int64_t position = length(row);
  for (int64_t layer = 0; layer < shape_.layers; ++layer) {
    Entry entry;
    entry.position = position;
    entry.keys = stored([&](int64_t h, int64_t d) { return token_key(token, layer, h, d); },
                        shape_.key_dim);
    entry.values = stored([&](int64_t h, int64_t d) { return token_value(token, layer, h, d); },
                          shape_.value_dim);
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
                                        const float* query, double scale) const {
  std::vector<double> output;
  const int64_t group = shape_.query_heads / stored_heads_;
  ReferenceRules rules;
  rules.scale = scale;
  rules.model_window = shape_.window;
  for (int64_t head = 0; head < shape_.query_heads; ++head) {
    const int64_t stored_head = head / group;
    std::vector<ReferenceEntry> seen;
    seen.reserve(entries(row, layer).size());
    for (const Entry& entry : entries(row, layer)) {
      seen.push_back({entry.position, entry.keys.data() + stored_head * shape_.key_dim,
                      entry.values.data() + stored_head * shape_.value_dim});
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
