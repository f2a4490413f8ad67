#include "workload.h"

#include <algorithm>

#include "kvlab/core/error.h"

namespace kvlab::experiments {

namespace {

constexpr int64_t kMostTokens = int64_t{1} << 31;

// One batch size, or several to compare.
std::vector<int64_t> read_batch(ConfigReader& reader) {
  constexpr IntegerRange kRange{1, 4096};
  const auto given = reader.optional_value("batch");
  if (given && given->is_scalar()) return {reader.integer("batch", kRange)};
  return reader.integers_or("batch", {1}, kRange);
}

Workload read_workload(ConfigReader& top, const ModelConfig& model, bool has_tokenizer) {
  ConfigReader reader = top.child("workload");
  Workload workload;
  workload.prompt = parse_prompt(reader);
  workload.prompt_tokens = reader.integers_or("prompt_tokens", {}, {1, kMostTokens});
  workload.new_tokens = reader.integers("new_tokens", {1, kMostTokens});
  workload.batch = read_batch(reader);
  workload.sampler = parse_sampler(reader);
  workload.gate_tokens = reader.integer_or("gate_tokens", workload.gate_tokens, {2, 65536});
  if (reader.boolean_or("stop", false)) {
    if (model.stop_tokens.empty()) {
      reader.fail("stop", "the model names no stop tokens; list them as stop_tokens");
    }
    workload.stop_tokens = model.stop_tokens;
  }
  for (const int64_t token : reader.integers_or("stop_tokens", {}, {0, INT32_MAX})) {
    if (model.vocabulary > 0 && token >= model.vocabulary) {
      reader.fail("stop_tokens", detail::concat("token ", token, " is outside the vocabulary of ",
                                                model.vocabulary));
    }
    workload.stop_tokens.push_back(static_cast<int32_t>(token));
  }
  if (workload.prompt.text && !has_tokenizer) {
    reader.fail("prompt", "the model has no tokenizer; give ids, or name one in the model's YAML");
  }
  for (const int32_t id : workload.prompt.ids) {
    if (model.vocabulary > 0 && id >= model.vocabulary) {
      reader.fail("prompt", detail::concat("token ", id, " is outside the vocabulary of ",
                                           model.vocabulary));
    }
  }
  if (workload.prompt.random_seed && workload.prompt_tokens.empty()) {
    reader.fail("prompt", "a random prompt needs prompt_tokens, its lengths");
  }
  std::sort(workload.new_tokens.begin(), workload.new_tokens.end());
  return workload;
}

std::vector<ReportReference> read_published(ConfigReader& top) {
  std::vector<ReportReference> published;
  if (!top.has("published")) return published;
  for (ConfigReader& entry : top.children("published")) {
    published.push_back({entry.text("what"), entry.text("value"), entry.text("source")});
  }
  return published;
}

}  // namespace

int64_t Workload::longest_output() const { return new_tokens.back(); }

std::string Case::label() const {
  return detail::concat("prompt ", prompt_length, ", batch ", batch);
}

BenchmarkConfig read_benchmark(ExperimentConfig& config) {
  BenchmarkConfig read;
  read.shared = parse_comparison(config.reader);
  const ModelConfig model = model_shape(read.shared.model);
  const bool has_tokenizer = read.shared.model.tokenizer.has_value() ||
                             read.shared.model.type != ModelSourceType::random;
  read.workload = read_workload(config.reader, model, has_tokenizer);
  read.published = read_published(config.reader);
  std::vector<int64_t> lengths = read.workload.prompt_tokens;
  if (lengths.empty() && !read.workload.prompt.ids.empty()) {
    lengths.push_back(static_cast<int64_t>(read.workload.prompt.ids.size()));
  }
  for (const int64_t prompt : lengths) {
    const int64_t needed = prompt + read.workload.longest_output() - 1;
    if (needed > model.context && read.shared.runtime.overflow == OverflowPolicy::error) {
      config.reader.fail("workload",
                         detail::concat("a prompt of ", prompt, " and ",
                                        read.workload.longest_output(),
                                        " new tokens need a context of ", needed, ", the model has ",
                                        model.context, "; shorten them or set runtime.overflow: stop"));
    }
  }
  return read;
}

std::vector<Case> make_cases(const Workload& workload, const Model& model) {
  std::vector<int64_t> lengths = workload.prompt_tokens;
  if (lengths.empty()) {
    lengths.push_back(static_cast<int64_t>(workload.prompt.tokens(model).size()));
  }
  std::vector<Case> cases;
  for (const int64_t length : lengths) {
    for (const int64_t batch : workload.batch) {
      Case one;
      one.prompt_length = length;
      one.batch = batch;
      for (int64_t row = 0; row < batch; ++row) {
        one.prompts.push_back(workload.prompt.tokens(model, length, row));
      }
      cases.push_back(std::move(one));
    }
  }
  return cases;
}

}  // namespace kvlab::experiments
