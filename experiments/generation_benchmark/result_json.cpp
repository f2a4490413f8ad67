#include "result_json.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kvlab/core/error.h"

namespace kvlab::experiments {

namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

// JSON has no words for these, and a wrong arm's distance may be either.
OrderedJson number_json(double value) {
  if (std::isfinite(value)) return value;
  return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

double number_from(const Json& json) {
  if (json.is_number()) return json.get<double>();
  const auto text = json.get<std::string>();
  if (text == "nan") return std::numeric_limits<double>::quiet_NaN();
  const double infinite = std::numeric_limits<double>::infinity();
  if (text == "inf") return infinite;
  if (text == "-inf") return -infinite;
  throw UserError("[generation_benchmark.gate] '" + text + "' is no number");
}

OrderedJson usage_json(const MemoryUsage& usage) {
  return {{"live", usage.live}, {"peak", usage.peak}, {"peak_total", usage.peak_total}};
}

MemoryUsage usage_from(const Json& json) {
  MemoryUsage usage;
  json.at("live").get_to(usage.live);
  json.at("peak").get_to(usage.peak);
  json.at("peak_total").get_to(usage.peak_total);
  return usage;
}

Contention contention_from(const Json& json) {
  Contention found;
  json.at("contended").get_to(found.contended);
  json.at("suspended").get_to(found.suspended);
  json.at("involuntary_switches").get_to(found.involuntary_switches);
  json.at("steal_share").get_to(found.steal_share);
  json.at("load").get_to(found.load);
  json.at("wall_ns").get_to(found.wall_ns);
  json.at("cpu_ns").get_to(found.cpu_ns);
  return found;
}

StopReason stop_reason_from(const std::string& name) {
  for (const StopReason reason :
       {StopReason::length, StopReason::stop_token, StopReason::context}) {
    if (name == stop_reason_name(reason)) return reason;
  }
  throw UserError("[generation_benchmark.sample] '" + name + "' is no reason to stop");
}

void check_sample(const Sample& sample, const Case& one) {
  const GenerateResult& result = sample.result;
  const auto rows = static_cast<size_t>(one.batch);
  KVLAB_CHECK_EQ(result.tokens.size(), rows, "[generation_benchmark.sample] rows of tokens");
  KVLAB_CHECK_EQ(result.stopped.size(), rows, "[generation_benchmark.sample] reasons to stop");
  size_t longest = 0;
  for (const auto& row : result.tokens) {
    KVLAB_CHECK_GE(row.size(), size_t{1}, "[generation_benchmark.sample] tokens of a row");
    longest = std::max(longest, row.size());
  }
  KVLAB_CHECK_EQ(result.token_ns.size() + 1, longest,
                 "[generation_benchmark.sample] times for the longest row");
  KVLAB_CHECK_GE(result.ttft_ns, 1, "[generation_benchmark.sample] time to the first token");
  for (const int64_t gap : result.token_ns) {
    KVLAB_CHECK_GE(gap, 0, "[generation_benchmark.sample] time of a token");
  }
}

}  // namespace

OrderedJson sample_json(const Sample& sample) {
  const GenerateResult& result = sample.result;
  const MemoryUsage& cache = result.cache;
  std::vector<std::string> stopped;
  for (const StopReason reason : result.stopped) stopped.push_back(stop_reason_name(reason));
  OrderedJson held = OrderedJson::array();
  for (const HeldBytes& at : sample.held) {
    held.push_back({{"new_tokens", at.new_tokens}, {"reserved", at.reserved}});
  }
  return {{"setup_ns", sample.setup_ns},
          {"ttft_ns", result.ttft_ns},
          {"token_ns", result.token_ns},
          {"bytes",
           {{"payload", result.payload},
            {"storage", cache.live_bytes(MemoryKind::storage)},
            {"metadata", cache.live_bytes(MemoryKind::metadata)},
            {"scratch", cache.peak_bytes(MemoryKind::scratch)},
            {"attention_scratch", result.scratch.peak_bytes(MemoryKind::scratch)},
            {"reserved", cache.reserved()},
            {"peak", cache.peak_total}}},
          {"usage",
           {{"cache", usage_json(cache)},
            {"attention", usage_json(result.scratch)},
            {"estimated", usage_json(sample.estimated)}}},
          {"fragmentation", sample.fragmentation},
          {"step_bytes", {{"kv_read", sample.kv_read}, {"copied", sample.copied}}},
          {"held", held},
          {"work",
           {{"token_forwards", result.work.token_forwards},
            {"logit_rows", result.work.logit_rows},
            {"steps", result.work.steps},
            {"bytes_moved", result.work.bytes_moved},
            {"gathered_bytes", result.work.gathered_bytes}}},
          {"flags", OrderedJson::parse(contention_json(sample.contention))},
          {"split_ns",
           {{"steps", sample.split.steps},
            {"weights", sample.split.linear_ns},
            {"attention", sample.split.attention_ns},
            {"cache", sample.split.cache_ns},
            {"other", sample.split.other_ns}}},
          {"stopped", stopped},
          {"tokens", result.tokens}};
}

Sample sample_from_json(const Json& json, const Case& one) {
  Sample sample;
  GenerateResult& result = sample.result;
  json.at("setup_ns").get_to(sample.setup_ns);
  json.at("ttft_ns").get_to(result.ttft_ns);
  json.at("token_ns").get_to(result.token_ns);
  json.at("bytes").at("payload").get_to(result.payload);
  result.cache = usage_from(json.at("usage").at("cache"));
  result.scratch = usage_from(json.at("usage").at("attention"));
  sample.estimated = usage_from(json.at("usage").at("estimated"));
  json.at("fragmentation").get_to(sample.fragmentation);
  json.at("step_bytes").at("kv_read").get_to(sample.kv_read);
  json.at("step_bytes").at("copied").get_to(sample.copied);
  for (const Json& at : json.at("held")) {
    sample.held.push_back({at.at("new_tokens").get<int64_t>(), at.at("reserved").get<int64_t>()});
  }
  const Json& work = json.at("work");
  work.at("token_forwards").get_to(result.work.token_forwards);
  work.at("logit_rows").get_to(result.work.logit_rows);
  work.at("steps").get_to(result.work.steps);
  work.at("bytes_moved").get_to(result.work.bytes_moved);
  work.at("gathered_bytes").get_to(result.work.gathered_bytes);
  sample.contention = contention_from(json.at("flags"));
  const Json& split = json.at("split_ns");
  split.at("steps").get_to(sample.split.steps);
  split.at("weights").get_to(sample.split.linear_ns);
  split.at("attention").get_to(sample.split.attention_ns);
  split.at("cache").get_to(sample.split.cache_ns);
  split.at("other").get_to(sample.split.other_ns);
  for (const Json& name : json.at("stopped")) {
    result.stopped.push_back(stop_reason_from(name.get<std::string>()));
  }
  json.at("tokens").get_to(result.tokens);
  check_sample(sample, one);
  return sample;
}

OrderedJson gate_json(const GateResult& gate) {
  const LogitComparison& distance = gate.distance;
  OrderedJson checks = OrderedJson::array();
  for (const ReportCheck& check : gate.checks) {
    checks.push_back({{"check", check.check}, {"passed", check.passed}, {"detail", check.detail}});
  }
  return {{"exact_arm", gate.exact_arm},
          {"same_numbers", gate.same_numbers},
          {"passed", gate.passed},
          {"distance",
           {{"tokens", distance.tokens},
            {"largest_logit", number_json(distance.largest_logit)},
            {"largest_difference", number_json(distance.largest_difference)},
            {"argmax_differs", distance.argmax_differs},
            {"argmax_ties", distance.argmax_ties},
            {"first_difference", distance.first_difference},
            {"mean_kl", number_json(distance.mean_kl)},
            {"kl_half_width", number_json(distance.kl_half_width)},
            {"mean_nll_change", number_json(distance.mean_nll_change)},
            {"distinct_tokens", distance.distinct_tokens}}},
          {"checks", checks}};
}

GateResult gate_from_json(const Json& json, const std::string& arm) {
  GateResult gate;
  json.at("exact_arm").get_to(gate.exact_arm);
  json.at("same_numbers").get_to(gate.same_numbers);
  json.at("passed").get_to(gate.passed);
  const Json& found = json.at("distance");
  LogitComparison& distance = gate.distance;
  found.at("tokens").get_to(distance.tokens);
  distance.largest_logit = number_from(found.at("largest_logit"));
  distance.largest_difference = number_from(found.at("largest_difference"));
  found.at("argmax_differs").get_to(distance.argmax_differs);
  found.at("argmax_ties").get_to(distance.argmax_ties);
  found.at("first_difference").get_to(distance.first_difference);
  distance.mean_kl = number_from(found.at("mean_kl"));
  distance.kl_half_width = number_from(found.at("kl_half_width"));
  distance.mean_nll_change = number_from(found.at("mean_nll_change"));
  found.at("distinct_tokens").get_to(distance.distinct_tokens);
  for (const Json& check : json.at("checks")) {
    gate.checks.push_back({arm, check.at("check").get<std::string>(),
                           check.at("passed").get<bool>(), check.at("detail").get<std::string>()});
  }
  return gate;
}

OrderedJson facts_json(const ModelFacts& facts) {
  return {{"name", facts.name}, {"origin", facts.origin}, {"weight_bytes", facts.weight_bytes}};
}

ModelFacts facts_from_json(const Json& json) {
  return {json.at("name").get<std::string>(), json.at("origin").get<std::string>(),
          json.at("weight_bytes").get<int64_t>()};
}

std::string request_text(const std::string& what, size_t case_index) {
  return OrderedJson{{"what", what}, {"case", case_index}}.dump();
}

Request request_from_text(const std::string& text) {
  const Json json = Json::parse(text);
  return {json.at("what").get<std::string>(), json.at("case").get<size_t>()};
}

}  // namespace kvlab::experiments
