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

// Rows of a batch have different prompts of one length.
void read_workload_prompts(ConfigReader& reader, const TokenSource& source, Workload& workload) {
  const PromptSpec prompt(reader.child("prompt"));
  std::vector<int64_t> lengths = reader.integers_or("prompt_tokens", {}, {1, kMostTokens});
  if (lengths.empty()) lengths.push_back(static_cast<int64_t>(prompt.tokens(source).size()));
  const int64_t rows = *std::max_element(workload.batch.begin(), workload.batch.end());
  for (const int64_t length : lengths) {
    auto& of_length = workload.prompts.emplace_back();
    for (int64_t row = 0; row < rows; ++row) {
      of_length.push_back(prompt.tokens(source, length, row));
    }
  }
}

Workload read_workload(ConfigReader& top, const ModelConfig& model, const TokenSource& source) {
  ConfigReader reader = top.child("workload");
  Workload workload;
  workload.batch = read_batch(reader);
  read_workload_prompts(reader, source, workload);
  workload.new_tokens = reader.integers("new_tokens", {1, kMostTokens});
  workload.sampler = parse_sampler(reader);
  workload.gate_tokens = reader.integer_or("gate_tokens", workload.gate_tokens, {2, 65536});
  if (reader.boolean_or("stop", false)) {
    if (model.stop_tokens.empty()) {
      reader.fail("stop", "the model names no stop tokens; list them as stop_tokens");
    }
    workload.stop_tokens = model.stop_tokens;
  }
  if (const auto listed = reader.optional_value("stop_tokens")) {
    workload.stop_tokens = read_token_ids(*listed, model.vocabulary);
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
  read.trials = parse_arm_trials(config.reader, read.shared);
  if (read.trials.aa) add_second_control(config.reader, read.shared);
  read.primary = read_speed_metric(config.reader, config.primary_metric);
  config.primary_metric = read.primary.text;
  const ModelConfig model = model_shape(read.shared.model);
  const auto tokenizer = load_tokenizer(read.shared.model);
  read.workload = read_workload(
      config.reader, model, {read.shared.model.name, tokenizer.get(), model.vocabulary});
  read.published = read_published(config.reader);
  for (const auto& prompts : read.workload.prompts) {
    const auto prompt = static_cast<int64_t>(prompts.front().size());
    const int64_t needed = prompt + read.workload.longest_output() - 1;
    if (needed > model.context && read.shared.runtime.overflow == OverflowPolicy::error) {
      config.reader.fail(
          "workload",
          detail::concat("a prompt of ", prompt, " and ", read.workload.longest_output(),
                         " new tokens need a context of ", needed, ", the model has ",
                         model.context, "; shorten them or set runtime.overflow: stop"));
    }
  }
  return read;
}

std::vector<Case> make_cases(const Workload& workload) {
  std::vector<Case> cases;
  for (const auto& prompts : workload.prompts) {
    for (const int64_t batch : workload.batch) {
      Case one;
      one.prompt_length = static_cast<int64_t>(prompts.front().size());
      one.batch = batch;
      one.prompts.assign(prompts.begin(), prompts.begin() + batch);
      cases.push_back(std::move(one));
    }
  }
  return cases;
}

}  // namespace kvlab::experiments
