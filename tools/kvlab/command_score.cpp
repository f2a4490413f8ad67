#include "command_score.h"

#include <cmath>
#include <iostream>
#include <memory>
#include <numeric>

#include "exit_code.h"
#include "json_output.h"
#include "kvlab/runtime/generator.h"
#include "kvlab/runtime/process.h"
#include "kvlab/runtime/progress_bar.h"
#include "model_options.h"
#include "text_input.h"

namespace kvlab {

namespace {

struct ScoreArguments {
  ModelOptions model;
  TextInput input;
};

void print_score(const std::vector<double>& losses, bool json) {
  const double mean = losses.empty() ? std::nan("")
                                     : std::accumulate(losses.begin(), losses.end(), 0.0) /
                                           static_cast<double>(losses.size());
  if (json) {
    print_json({{"nll", losses}, {"mean_nll", mean}, {"perplexity", std::exp(mean)}});
    return;
  }
  std::cout << "tokens scored  " << losses.size() << "\nmean NLL       " << mean
            << "\nperplexity     " << std::exp(mean) << "\n";
}

int run_score(const ScoreArguments& arguments) {
  arguments.input.check_given();
  handle_interrupts();
  const Registry registry = open_registry(arguments.model.plugins);
  const Model model = open_model(arguments.model, registry);
  const std::vector<int32_t> tokens = arguments.input.tokens(model.tokenizer.get());
  const auto count = static_cast<int64_t>(tokens.size());
  check_ids(tokens, model.config().vocabulary, "score");
  KVLAB_CHECK_GE(count, 2, "[command_line.score] tokens to score");
  const int64_t room =
      arguments.model.max_length > 0 ? arguments.model.max_length : model.config().context;
  KVLAB_CHECK_LE(count, room, "[command_line.score] text in tokens (room for the text)");
  Session session(model, registry, session_options(arguments.model, model.config(), count));

  std::cerr << "score: " << count << " tokens, cache " << arguments.model.cache << "\n";
  ProgressBar progress("score", count);
  std::vector<double> losses;
  int code = kExitOk;
  try {
    run_checked([&] {
      teacher_force(session, {tokens}, [&](int, int64_t position, std::span<const float> logits) {
        const auto next = static_cast<size_t>(position + 1);
        if (next < tokens.size()) {
          losses.push_back(negative_log_likelihood(logits, tokens[next]));
        }
        progress.update(position + 1);
      });
    });
  } catch (const InterruptedError&) {
    code = kExitInterrupted;
  }
  progress.clear();
  print_score(losses, arguments.model.json);
  if (code == kExitInterrupted) {
    std::cerr << "score: interrupted after " << losses.size() << " of " << count - 1
              << " tokens; what there is was printed\n";
  }
  return code;
}

}  // namespace

void add_score_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand(
      "score", "Negative log-likelihood of every token of a text after its first.");
  command->footer(
      "Natural logarithm. The text is fed through the cache in chunks; --chunk 1 is how decoding\n"
      "feeds it.");
  const auto arguments = std::make_shared<ScoreArguments>();
  add_model_options(*command, arguments->model);
  arguments->input.add_options(*command, "--text", true);
  command->callback(
      [arguments, &invocation] { invocation.run = [arguments] { return run_score(*arguments); }; });
}

}  // namespace kvlab
