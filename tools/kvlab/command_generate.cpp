#include "command_generate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iostream>
#include <limits>
#include <memory>
#include <optional>

#include "exit_code.h"
#include "generation_dump.h"
#include "json_output.h"
#include "kvlab/model/step_timeline.h"
#include "kvlab/runtime/durable_file.h"
#include "kvlab/runtime/generator.h"
#include "kvlab/runtime/process.h"
#include "kvlab/runtime/progress_bar.h"
#include "model_options.h"
#include "output_path.h"
#include "text_input.h"

namespace kvlab {

namespace {

using Clock = std::chrono::steady_clock;
constexpr int64_t kMostNewTokens = 1'000'000'000;

struct GenerateArguments {
  ModelOptions model;
  TextInput input;
  int64_t new_tokens = 0;
  double temperature = 1.0, top_p = 1.0;
  int64_t top_k = 0;
  uint64_t seed = 0;
  CLI::Option *temperature_option = nullptr, *top_k_option = nullptr, *top_p_option = nullptr;
  CLI::Option* seed_option = nullptr;
  std::vector<int64_t> stop_tokens;
  bool models_stop_tokens = false;
  std::string overflow = "error";
  std::string trace, dump;  // a file and a folder; empty for none
  CLI::Option *trace_option = nullptr, *dump_option = nullptr;

  SamplerConfig sampler() const;
  OverflowPolicy policy() const;
};

SamplerConfig GenerateArguments::sampler() const {
  SamplerConfig config;
  const bool sample =
      temperature_option->count() + top_k_option->count() + top_p_option->count() > 0;
  if (!sample) return config;
  KVLAB_CHECK(std::isfinite(temperature) && temperature > 0,
              "[command_line.--temperature] must be a finite number above 0, got ", temperature,
              ". Leave it out to take the likeliest token");
  KVLAB_CHECK(top_p > 0 && top_p <= 1, "[command_line.--top-p] must be above 0 and at most 1, got ",
              top_p);
  config.type = SamplerType::sample;
  config.temperature = temperature;
  config.top_k = top_k;
  config.top_p = top_p;
  config.seed = seed;
  return config;
}

OverflowPolicy GenerateArguments::policy() const {
  if (overflow == "error") return OverflowPolicy::error;
  KVLAB_CHECK(overflow == "stop", "[command_line.--overflow] wanted stop or error, got '", overflow,
              "'");
  return OverflowPolicy::stop;
}

// The parser itself would take "-1" for the largest seed.
std::string refuse_sign(const std::string& text) {
  if (text.find('-') == std::string::npos) return "";
  return "must be a whole number from 0, got " + text;
}

/// Tokens as they come out: kept with their times, and streamed unless JSON was asked for.
class TokenStream {
 public:
  TokenStream(const Tokenizer* tokenizer, bool streams)
      : tokenizer_(tokenizer), streams_(streams), start_(Clock::now()) {}

  void add(int32_t token) {
    tokens_.push_back(token);
    times_.push_back(
        std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start_).count());
    if (tokenizer_ == nullptr) {
      if (streams_) std::cout << (tokens_.size() > 1 ? " " : "") << token << std::flush;
      return;
    }
    text_ += decode_token(*tokenizer_, token);
    const std::string_view waiting = std::string_view(text_).substr(shown_);
    show(complete_utf8_prefix(waiting));
  }

  void finish() {
    show(text_.size() - shown_);
    if (streams_) std::cout << "\n" << std::flush;
  }

  const std::vector<int32_t>& tokens() const { return tokens_; }
  const std::string& text() const { return text_; }

  /// Request start to the first token; 0 without one.
  int64_t first_ns() const { return times_.empty() ? 0 : times_.front(); }

  std::vector<int64_t> gaps_ns() const {
    std::vector<int64_t> gaps;
    for (size_t i = 1; i < times_.size(); ++i) gaps.push_back(times_[i] - times_[i - 1]);
    return gaps;
  }

 private:
  void show(size_t bytes) {
    if (streams_) std::cout << std::string_view(text_).substr(shown_, bytes) << std::flush;
    shown_ += bytes;
  }

  const Tokenizer* tokenizer_;
  bool streams_;
  Clock::time_point start_;
  std::vector<int32_t> tokens_;
  std::vector<int64_t> times_;
  std::string text_;
  size_t shown_ = 0;  // bytes of text_ already printed
};

Json bytes_json(const Session& session) {
  const MemoryUsage cache = session.cache_usage();
  return {{"payload", session.payload()},
          {"storage", cache.live_bytes(MemoryKind::storage)},
          {"metadata", cache.live_bytes(MemoryKind::metadata)},
          {"scratch", cache.peak_bytes(MemoryKind::scratch) +
                          session.scratch_usage().peak_bytes(MemoryKind::scratch)},
          {"reserved", cache.reserved()},
          {"peak", cache.peak_total}};
}

void print_times(const TokenStream& stream, int64_t first_ns, const std::vector<int64_t>& gaps) {
  std::cerr << "generate: " << stream.tokens().size() << " tokens, first after "
            << static_cast<double>(first_ns) / 1e6 << " ms";
  int64_t total = 0;
  for (const int64_t gap : gaps) total += gap;
  if (!gaps.empty()) {
    std::cerr << ", then " << static_cast<double>(total) / static_cast<double>(gaps.size()) / 1e6
              << " ms per token";
  }
  std::cerr << "\n";
}

// Length the session must hold. All that `generate` would refuse is refused here, so that what
// fails later is a failed run.
int64_t needed_length(const GenerateArguments& arguments, int64_t prompt, int64_t context) {
  KVLAB_CHECK(prompt > 0, "[command_line.generate] the prompt has no tokens; give at least one");
  // The last new token is never fed.
  const int64_t fed = prompt + std::max<int64_t>(arguments.new_tokens, 1) - 1;
  const int64_t length = std::min(context, fed);
  const int64_t room =
      arguments.model.max_length > 0 ? std::min(arguments.model.max_length, context) : length;
  KVLAB_CHECK_LE(prompt, room, "[command_line.generate] prompt in tokens (room for the text)");
  KVLAB_CHECK(arguments.policy() == OverflowPolicy::stop || fed <= room,
              "[command_line.generate] a prompt of ", prompt, " and ", arguments.new_tokens,
              " new tokens need a length of ", fed, ", there is room for ", room,
              ". Ask for fewer new tokens, or set --overflow stop");
  return length;
}

std::vector<int32_t> stop_tokens(const GenerateArguments& arguments, const ModelConfig& model) {
  std::vector<int32_t> tokens;
  for (const int64_t token : arguments.stop_tokens) {
    KVLAB_CHECK(token >= 0 && token < model.vocabulary, "[command_line.--stop-token] id ", token,
                " is outside the vocabulary of ", model.vocabulary, " tokens");
    tokens.push_back(static_cast<int32_t>(token));
  }
  if (arguments.models_stop_tokens) {
    KVLAB_CHECK(!model.stop_tokens.empty(),
                "[command_line.--stop] this model names no stop tokens; give --stop-token");
    tokens.insert(tokens.end(), model.stop_tokens.begin(), model.stop_tokens.end());
  }
  return tokens;
}

void write_trace(const std::string& path, const StepTimeline& timeline,
                 const std::string& process) {
  try {
    write_file_atomically(path, trace_json(timeline, process));
  } catch (const StorageError& error) {
    throw UserError(detail::concat("[command_line.--trace] ", error.what()));
  }
  std::cerr << "generate: " << timeline.parts().size() << " parts of steps in " << path
            << "; open it at ui.perfetto.dev or chrome://tracing\n";
}

int run_generate(const GenerateArguments& arguments) {
  const bool json = arguments.model.json;
  arguments.input.check_given();
  // A long generation must not end with nowhere to write.
  if (arguments.trace_option->count() > 0) check_output_file("--trace", arguments.trace);
  if (arguments.dump_option->count() > 0) check_output_folder("--dump", arguments.dump);
  GenerateOptions options;
  options.new_tokens = arguments.new_tokens;
  options.sampler = arguments.sampler();
  options.overflow = arguments.policy();

  handle_interrupts();
  const Registry registry = open_registry(arguments.model.plugins);
  const Model model = open_model(arguments.model, registry);
  const std::vector<int32_t> prompt = arguments.input.tokens(model.tokenizer.get());
  check_ids(prompt, model.config().vocabulary, "generate");
  options.stop_tokens = stop_tokens(arguments, model.config());
  const int64_t length =
      needed_length(arguments, static_cast<int64_t>(prompt.size()), model.config().context);
  Session session(model, registry, session_options(arguments.model, model.config(), length));

  if (arguments.seed_option->count() > 0 && options.sampler.type == SamplerType::greedy) {
    std::cerr << "generate: --seed has no effect: the likeliest token is always taken. To sample, "
                 "give --temperature, --top-k or --top-p\n";
  }
  std::cerr << "generate: " << prompt.size() << " prompt tokens, up to " << arguments.new_tokens
            << " new, cache " << arguments.model.cache << "\n";
  ProgressBar progress("generate", arguments.new_tokens, json);
  StepTimeline timeline;
  StepProfile profile;
  profile.timeline = &timeline;
  if (!arguments.trace.empty()) session.profile_into(&profile);
  std::optional<GenerationDump> dump;
  if (!arguments.dump.empty()) {
    dump.emplace(arguments.dump);
    options.on_logits = [&](int, int64_t, std::span<const float> logits) {
      dump->add_logits(logits);
    };
  }
  TokenStream stream(model.tokenizer.get(), !json);
  options.on_token = [&](int, int32_t token) {
    stream.add(token);
    progress.update(static_cast<int64_t>(stream.tokens().size()));
  };
  std::optional<GenerateResult> result;
  int code = kExitOk;
  try {
    run_checked([&] { result = generate(session, {prompt}, options); });
  } catch (const InterruptedError&) {
    code = kExitInterrupted;
  } catch (...) {
    progress.clear();
    if (!json && !stream.tokens().empty()) stream.finish();
    throw;
  }
  progress.clear();
  const int64_t first_ns = result ? result->ttft_ns : stream.first_ns();
  const std::vector<int64_t> gaps = result ? result->token_ns : stream.gaps_ns();
  stream.finish();
  if (json) {
    print_json({{"tokens", stream.tokens()},
                {"text", stream.text()},
                {"ttft_ns", first_ns},
                {"token_ns", gaps},
                {"bytes", bytes_json(session)}});
  }
  if (code == kExitInterrupted) std::cerr << "generate: interrupted; what there is was printed\n";
  if (result && result->stopped.front() == StopReason::context) {
    std::cerr << "generate: stopped at the longest text, " << session.shape().max_length
              << " tokens\n";
  }
  print_times(stream, first_ns, gaps);
  session.profile_into(nullptr);
  if (!arguments.trace.empty())
    write_trace(arguments.trace, timeline,
                "kvlab generate, " + model.name + ", cache " + arguments.model.cache);
  if (dump) dump->write(session, registry);
  return code;
}

}  // namespace

void add_generate_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand("generate", "Generate tokens from a prompt.");
  command->footer(
      "N new tokens come out: no stop token is applied unless --stop-token or --stop is given. "
      "The\n"
      "likeliest token is taken unless --temperature, --top-k or --top-p is given.");
  const auto arguments = std::make_shared<GenerateArguments>();
  add_model_options(*command, arguments->model);
  arguments->input.add_options(*command, "--prompt", false);
  command->add_option("--new-tokens", arguments->new_tokens, "How many tokens to generate")
      ->required()
      ->check(CLI::Range(int64_t{0}, kMostNewTokens));
  arguments->temperature_option = command->add_option(
      "--temperature", arguments->temperature, "Divides the logits before sampling, above 0");
  arguments->top_k_option =
      command->add_option("--top-k", arguments->top_k, "Sample among the K likeliest; 0 = all")
          ->check(CLI::Range(int64_t{0}, std::numeric_limits<int64_t>::max()));
  arguments->top_p_option = command->add_option(
      "--top-p", arguments->top_p, "Sample among the likeliest that together reach P, up to 1");
  arguments->seed_option =
      command->add_option("--seed", arguments->seed, "Seed of the sampling, 0 or more")
          ->check(CLI::Validator(refuse_sign, "", "SEED"))
          ->capture_default_str();
  command
      ->add_option("--stop-token", arguments->stop_tokens,
                   "Ids that end the text; the one met is part of it")
      ->check(CLI::NonNegativeNumber);
  command->add_flag("--stop", arguments->models_stop_tokens, "End at the model's own stop tokens");
  command
      ->add_option("--overflow", arguments->overflow,
                   "Where the text outgrows its room: error (refused before it starts) or stop")
      ->capture_default_str();
  arguments->trace_option =
      command->add_option("--trace", arguments->trace,
                          "Write when each part of each layer ran to this file (Trace Event "
                          "Format)");
  arguments->dump_option = command->add_option(
      "--dump", arguments->dump,
      "Write logits, keys and values, and block tables to this folder (safetensors)");
  command->callback([arguments, &invocation] {
    invocation.run = [arguments] { return run_generate(*arguments); };
  });
}

}  // namespace kvlab
