#include "command_tokenize.h"

#include <iostream>
#include <memory>

#include "exit_code.h"
#include "json_output.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/model.h"
#include "model_argument.h"
#include "text_input.h"

namespace kvlab {

namespace {

struct TokenizeArguments {
  std::string model, vocabulary;
  TextInput input;
  bool json = false;
};

std::shared_ptr<const Tokenizer> open_tokenizer(const TokenizeArguments& arguments) {
  KVLAB_CHECK(!arguments.model.empty() || !arguments.vocabulary.empty(),
              "[command_line.tokenize] give --model or --vocab");
  if (!arguments.vocabulary.empty()) {
    return std::make_shared<const Tokenizer>(read_tokenizer_folder(arguments.vocabulary));
  }
  auto tokenizer = load_tokenizer(find_model(arguments.model));
  KVLAB_CHECK(tokenizer != nullptr, "[command_line.tokenize] model '", arguments.model,
              "' has no tokenizer; give --vocab and a folder with one");
  return tokenizer;
}

int run_tokenize(const TokenizeArguments& arguments) {
  arguments.input.check_given();
  const auto tokenizer = open_tokenizer(arguments);
  if (arguments.input.is_ids()) {
    const std::vector<int32_t> ids = arguments.input.ids();
    check_ids(ids, tokenizer->vocabulary(), "tokenize");
    const std::string text = tokenizer->decode(ids);
    if (arguments.json) {
      print_json({{"text", text}});
    } else {
      std::cout << text << "\n";
    }
    return kExitOk;
  }
  const std::vector<int32_t> ids = tokenizer->encode(arguments.input.text());
  if (arguments.json) {
    print_json({{"ids", ids}});
    return kExitOk;
  }
  for (size_t i = 0; i < ids.size(); ++i) std::cout << (i == 0 ? "" : " ") << ids[i];
  std::cout << "\n";
  return kExitOk;
}

}  // namespace

void add_tokenize_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand(
      "tokenize", "Text to token ids, or ids back to text. No special token is added.");
  const auto arguments = std::make_shared<TokenizeArguments>();
  CLI::Option* model = command->add_option("--model", arguments->model, "The model's tokenizer");
  command
      ->add_option("--vocab", arguments->vocabulary,
                   "A folder with tokenizer.json, encoder.json + vocab.bpe, or vocab.json + "
                   "merges.txt")
      ->excludes(model);
  arguments->input.add_options(*command, "--text", true);
  command->add_flag("--json", arguments->json, "Print one line of JSON");
  command->callback([arguments, &invocation] {
    invocation.run = [arguments] { return run_tokenize(*arguments); };
  });
}

}  // namespace kvlab
