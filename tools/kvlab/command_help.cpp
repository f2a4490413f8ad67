#include "command_help.h"

#include <iostream>
#include <memory>
#include <string_view>

#include "exit_code.h"
#include "kvlab/core/component.h"
#include "kvlab/core/error.h"

namespace kvlab {

namespace {

// The command is the second word; of those with commands of their own, the example is shown there.
constexpr const char* kExamples[] = {
    R"(kvlab generate --model smollm2_135m --prompt "Once upon a time" --new-tokens 32)",
    "kvlab generate --model smollm2_135m --ids 1,2,3 --new-tokens 8 --cache paged --json",
    R"(kvlab score --model smollm2_135m --text "Once upon a time" --chunk 1)",
    R"(kvlab tokenize --model smollm2_135m "Once upon a time")",
    "kvlab memory --model smollm2_135m --length 512,2048 --batch 1,8 --fit 8GB",
    "kvlab list caches",
    "kvlab describe paged",
    "kvlab plugin check build/my_cache.so",
    "kvlab validate configs/experiments/quickstart.yaml measure.repeats=3",
    "kvlab schema --part cache",
    "kvlab run configs/experiments/quickstart.yaml measure.repeats=3",
    "kvlab sweep configs/experiments/sweep_example.yaml -m workload.prompt.random=1,2",
    "kvlab worker runs/sweep/SWEEP --index 3",
    "kvlab report runs/generation_benchmark/RUN",
    "kvlab export runs/generation_benchmark --to csv --output metrics.csv",
    "kvlab compare RUN_A RUN_B --metric tpot --fail-if '>5%'",
    "source <(kvlab completion bash)",
};

constexpr const char* kExitCodes =
    R"(Exit codes: 0 ok, 1 a run failed, 2 wrong usage or config, or a plugin library is refused,
3 compare: a check broke or the rule of --fail-if is met, 4 a model, file or plugin is missing,
130 interrupted (partial results are kept). Results go to stdout, messages to stderr.)";

bool shows(std::string_view example, const std::string& command) {
  return example.find("kvlab " + command + " ") != std::string_view::npos;
}

std::string examples_of(const std::string& command) {
  std::string text;
  for (const char* example : kExamples) {
    if (command.empty() || shows(example, command)) text += std::string("\n  ") + example;
  }
  return text.empty() ? text : (command.empty() ? "Examples:" : "Example:") + text;
}

void add_examples(CLI::App& command) {
  const std::string examples = examples_of(command.get_name());
  if (examples.empty()) return;
  // A command's own text may be above them.
  const std::string own = command.get_footer();
  command.footer(own.empty() ? examples : own + "\n\n" + examples);
}

int print_help(CLI::App& app, const std::vector<std::string>& words) {
  CLI::App* shown = &app;
  std::string way = "kvlab";
  for (const std::string& word : words) {
    std::vector<std::string> names;
    CLI::App* below = nullptr;
    for (CLI::App* command : shown->get_subcommands([](const CLI::App*) { return true; })) {
      if (command->get_name() == word) below = command;
      if (!command->get_group().empty()) names.push_back(command->get_name());
    }
    KVLAB_CHECK(below != nullptr, "[command_line] '", word, "' is no command of ", way, ".",
                suggestion(word, names));
    shown = below;
    way += " " + word;
  }
  // The parser's own way to print would go on to the command that was parsed, which is this one.
  std::cout << shown->get_formatter()->make_help(shown, way, CLI::AppFormatMode::Normal);
  return kExitOk;
}

}  // namespace

void add_help_command(CLI::App& app, Invocation& invocation) {
  for (CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    add_examples(*command);
  }
  app.footer(examples_of("") + "\n\n" + kExitCodes);
  CLI::App* help = app.add_subcommand("help", "Print what a command does and takes.");
  help->footer("");
  const auto words = std::make_shared<std::vector<std::string>>();
  help->add_option("command", *words, "The command; without one, the list of all");
  help->callback([&app, words, &invocation] {
    invocation.run = [&app, words] { return print_help(app, *words); };
  });
}

}  // namespace kvlab
