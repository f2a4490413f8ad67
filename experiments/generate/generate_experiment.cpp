#include "generate_experiment.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>

#include "kvlab/core/error.h"
#include "kvlab/runtime/arms.h"
#include "kvlab/runtime/process.h"
#include "kvlab/runtime/prompt.h"

namespace kvlab::experiments::generate_kind {

namespace {

using Json = nlohmann::ordered_json;

std::string shown_ids(std::span<const int32_t> tokens) {
  std::string text;
  for (const int32_t token : tokens) {
    text += (text.empty() ? "" : " ") + std::to_string(token);
  }
  return text;
}

// Text of one row as it comes out, in whole UTF-8 characters.
class TokenStream {
 public:
  TokenStream(std::ostream& out, const Tokenizer* tokenizer) : out_(out), tokenizer_(tokenizer) {}

  void put(int32_t token) {
    if (tokenizer_ == nullptr) {
      out_ << ' ' << token << std::flush;
      return;
    }
    pending_ += tokenizer_->decode(std::vector<int32_t>{token});
    const size_t whole = complete_utf8_prefix(pending_);
    out_ << pending_.substr(0, whole) << std::flush;
    pending_.erase(0, whole);
  }

  void finish() {
    out_ << pending_ << "\n";
    pending_.clear();
  }

 private:
  std::ostream& out_;
  const Tokenizer* tokenizer_;
  std::string pending_;
};

}  // namespace

GenerateExperiment::GenerateExperiment(ExperimentConfig& config, const Registry& registry) {
  ConfigReader& reader = config.reader;
  source_ = parse_model(reader);
  shape_ = model_shape(source_);
  tokenizer_ = load_tokenizer(source_);
  arms_ = parse_arms(reader);
  runtime_ = parse_runtime(reader);
  read_workload(reader.child("workload"));

  check_arms(reader, arms_, runtime_, source_, registry, static_cast<int64_t>(prompts_.size()),
             longest_text());
}

void GenerateExperiment::read_workload(ConfigReader workload) {
  const TokenSource source{source_.name, tokenizer_.get(), shape_.vocabulary};
  for (const PromptSpec& prompt : read_prompts(workload)) {
    prompts_.push_back(prompt.tokens(source));
  }
  new_tokens_ = workload.integer("new_tokens", {1, int64_t{1} << 24});
  sampler_ = parse_sampler(workload);
  const bool stop = workload.boolean_or("stop", true);
  if (stop) stop_tokens_ = shape_.stop_tokens;
  if (const auto listed = workload.optional_value("stop_tokens")) {
    if (!stop) workload.fail("stop_tokens", "stop: false lets no token end a text; delete one");
    stop_tokens_ = read_token_ids(*listed, shape_.vocabulary);
  }
  check_lengths(workload);
  workload.finish();
}

void GenerateExperiment::check_lengths(const ConfigReader& workload) const {
  for (size_t row = 0; row < prompts_.size(); ++row) {
    const auto length = static_cast<int64_t>(prompts_[row].size());
    if (length > shape_.context) {
      workload.fail("prompt", detail::concat("the prompt of row ", row, " has ", length,
                                             " tokens, the model's context is ", shape_.context));
    }
    // The last new token is never fed.
    if (runtime_.overflow == OverflowPolicy::error && length + new_tokens_ - 1 > shape_.context) {
      workload.fail("new_tokens",
                    detail::concat("row ", row, ": ", length, " prompt tokens and ", new_tokens_,
                                   " new ones need a length of ", length + new_tokens_ - 1,
                                   ", the model's context is ", shape_.context,
                                   "; ask for fewer, or set runtime.overflow: stop"));
    }
  }
}

SessionOptions GenerateExperiment::session_options(const ArmConfig& arm) const {
  return arm_session_options(runtime_, arm, static_cast<int64_t>(prompts_.size()), longest_text());
}

int64_t GenerateExperiment::longest_text() const {
  size_t longest = 0;
  for (const auto& prompt : prompts_) longest = std::max(longest, prompt.size());
  return std::min(shape_.context, static_cast<int64_t>(longest) + new_tokens_ - 1);
}

std::string GenerateExperiment::written(const std::vector<int32_t>& tokens) const {
  return tokenizer_ ? tokenizer_->decode(tokens) : shown_ids(tokens);
}

GenerateResult GenerateExperiment::run_arm(RunContext& context, const ArmConfig& arm,
                                           const Model& model) const {
  Session session(model, context.registry, session_options(arm));
  GenerateOptions options;
  options.new_tokens = new_tokens_;
  options.sampler = sampler_;
  options.stop_tokens = stop_tokens_;
  options.overflow = runtime_.overflow;
  // One row is shown while it is written; several would be mixed up, so they follow in one piece.
  const bool stream = prompts_.size() == 1;
  TokenStream row(context.out, tokenizer_.get());
  if (stream) {
    context.out << "[" << arm.name << "] " << written(prompts_[0]) << std::flush;
    options.on_token = [&](int, int32_t token) { row.put(token); };
  }
  GenerateResult result;
  try {
    result = generate(session, prompts_, options);
  } catch (...) {
    if (stream) row.finish();
    throw;
  }
  if (stream) {
    row.finish();
  } else {
    for (size_t i = 0; i < prompts_.size(); ++i) {
      context.out << "[" << arm.name << ", row " << i << "] " << written(prompts_[i])
                  << (tokenizer_ ? "" : " ") << written(result.tokens[i]) << "\n";
    }
  }
  return result;
}

void GenerateExperiment::record(RunContext& context, const ArmConfig& arm,
                                const GenerateResult& result) const {
  for (size_t row = 0; row < prompts_.size(); ++row) {
    Json line;
    line["arm"] = arm.name;
    line["row"] = row;
    line["prompt_len"] = prompts_[row].size();
    line["new_tokens"] = result.tokens[row].size();
    line["tokens"] = result.tokens[row];
    line["text"] = written(result.tokens[row]);
    line["stopped"] = stop_reason_name(result.stopped[row]);
    line["ttft_ns"] = result.ttft_ns;
    line["token_ns"] = result.token_ns;
    line["bytes"] = {
        {"payload", result.payload},
        {"storage", result.cache.live_bytes(MemoryKind::storage)},
        {"metadata", result.cache.live_bytes(MemoryKind::metadata)},
        {"scratch", result.cache.peak_bytes(MemoryKind::scratch) + result.scratch.peak_total},
        {"reserved", result.cache.reserved()},
        {"peak", result.cache.peak_total}};
    line["work"] = {{"token_forwards", result.work.token_forwards},
                    {"logit_rows", result.work.logit_rows},
                    {"bytes_moved", result.work.bytes_moved}};
    context.folder.add_sample(line.dump(-1, ' ', false, Json::error_handler_t::replace));
  }
}

ExperimentResult GenerateExperiment::run(RunContext& context) {
  set_threads(runtime_.threads);
  ExperimentResult outcome;
  ReportDocument& report = outcome.report;
  ReportTable texts{"texts", "What each arm wrote", {}, {}, ""};
  texts.columns = {{"arm", "Arm", "", {}},
                   {"row", "Row", "", {}},
                   {"prompt", "Prompt", "", {}},
                   {"text", "Text", "", {}},
                   {"prompt_tokens", "Prompt", "tokens", {}},
                   {"new_tokens", "New", "tokens", {}},
                   {"stopped", "Stopped by", "", {}}};
  ReportTable costs{"costs", "What it took", {}, {}, ""};
  costs.columns = {{"arm", "Arm", "", {}},
                   {"speed", "Generated, end to end", "tokens/s", {}},
                   {"ttft", "First token after", "ms", {}},
                   {"work", "Token-forwards", "", {}},
                   {"payload", "Payload", "bytes", {}},
                   {"reserved", "Reserved", "bytes", {}},
                   {"peak", "Peak of the cache", "bytes", {}}};
  costs.note =
      "One run, not repeated and not interleaved: context for the text, no comparison. "
      "`generation_benchmark` compares speeds.";

  std::map<std::string, Model> models;  // by position encoding; arms may replace the model's own
  int64_t generated = 0;
  size_t done = 0;
  for (const ArmConfig& arm : arms_) {
    if (interrupted()) break;
    try {
      const std::string key = arm.position ? to_string(*arm.position) : "";
      if (!models.contains(key)) {
        models.emplace(key,
                       load_model(source_, runtime_.weights, runtime_.activations, arm.position));
      }
      const GenerateResult result = run_arm(context, arm, models.at(key));
      record(context, arm, result);
      for (size_t row = 0; row < prompts_.size(); ++row) {
        const auto shown = static_cast<int64_t>(row);
        texts.rows.push_back({text_cell(arm.name), count_cell(shown),
                              text_cell(written(prompts_[row])),
                              text_cell(written(result.tokens[row])),
                              count_cell(static_cast<int64_t>(prompts_[row].size())),
                              count_cell(static_cast<int64_t>(result.tokens[row].size())),
                              text_cell(stop_reason_name(result.stopped[row]))});
      }
      const double seconds = 1e-9 * static_cast<double>(result.ttft_ns + result.decode_ns());
      const double speed = static_cast<double>(result.generated()) / seconds;
      const double first = 1e-6 * static_cast<double>(result.ttft_ns);
      costs.rows.push_back({text_cell(arm.name), number_cell(speed, 1), number_cell(first, 1),
                            count_cell(result.work.token_forwards), count_cell(result.payload),
                            count_cell(result.cache.reserved()),
                            count_cell(result.cache.peak_total)});
      const double none = std::numeric_limits<double>::quiet_NaN();
      const auto metric = [&](const char* name, double value, const char* unit, int64_t n) {
        outcome.metrics.push_back(
            {arm.name, name, value, unit, n, none, none, BetterDirection::none, {}});
        const std::string_view unit_name = unit;
        outcome.metrics.back().timed = unit_name == "tokens/s" || unit_name == "ms";
      };
      metric("generated_tokens", static_cast<double>(result.generated()), "tokens", 1);
      metric("throughput", speed, "tokens/s", 1);
      metric("ttft", first, "ms", 1);
      metric("payload", static_cast<double>(result.payload), "bytes", 1);
      metric("reserved", static_cast<double>(result.cache.reserved()), "bytes", 1);
      generated += result.generated();
      ++done;
      context.log << fmt::format("arm {}: {} tokens in {:.2f} s\n", arm.name, result.generated(),
                                 seconds);
    } catch (const InterruptedError&) {
      report.failures.push_back({"arm " + arm.name, "interrupted before it ended"});
      break;
    } catch (const UserError& error) {
      report.failures.push_back({"arm " + arm.name, error.what()});
      outcome.passed = false;
      context.log << "arm " << arm.name << " failed: " << error.what() << "\n";
    }
  }

  report.held_fixed = {
      "model " + source_.name + ", weights " + dtype_name(runtime_.weights) + ", activations " +
          dtype_name(runtime_.activations),
      sampler_.type == SamplerType::greedy
          ? "greedy sampling"
          : fmt::format("sampling, temperature {}, top_k {}, top_p {}, seed {}",
                        sampler_.temperature, sampler_.top_k, sampler_.top_p, sampler_.seed),
      fmt::format("{} threads", runtime_.threads)};
  for (const ArmConfig& arm : arms_) {
    report.varied.push_back("arm " + arm.name + ": cache " + to_string(arm.cache));
  }
  report.conclusions = {fmt::format(
      "{} of {} arms wrote {} tokens. Speeds are those of a single run and compare nothing.", done,
      arms_.size(), generated)};
  report.sections.push_back({"Text", {}, {texts}, {}});
  report.sections.push_back({"Cost", {}, {costs}, {}});
  return outcome;
}

}  // namespace kvlab::experiments::generate_kind
