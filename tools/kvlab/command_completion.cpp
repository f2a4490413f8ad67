#include "command_completion.h"

#include <algorithm>
#include <iostream>
#include <memory>

#include "completion.h"
#include "exit_code.h"

namespace kvlab {

namespace {

// bash splits words at ':' and '=' as well; kvlab is given whole ones and the part before is cut off
// the answers again.
constexpr const char* kBash = R"bash(# Completion of kvlab for bash: source <(kvlab completion bash)
_kvlab() {
  local line="${COMP_LINE:0:COMP_POINT}" words candidate prefix=""
  read -ra words <<<"$line"
  [[ -z $line || $line == *[[:space:]] ]] && words+=("")
  local word="${words[-1]}"
  if [[ $COMP_WORDBREAKS == *:* && $COMP_WORDBREAKS == *=* ]]; then
    prefix="${word%"${word##*[:=]}"}"
  fi
  COMPREPLY=()
  while IFS= read -r candidate; do
    [[ $candidate == *[=:.,] ]] && compopt -o nospace 2>/dev/null
    COMPREPLY+=("${candidate#"$prefix"}")
  done < <("${words[0]}" complete -- "${words[@]:1}" 2>/dev/null)
}
complete -o bashdefault -o default -F _kvlab kvlab
)bash";

constexpr const char* kZsh = R"zsh(#compdef kvlab
# Completion of kvlab for zsh: source <(kvlab completion zsh), after compinit
_kvlab() {
  local -a candidates going ending
  local candidate
  candidates=("${(@f)$("${words[1]}" complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  for candidate in "${candidates[@]}"; do
    [[ -z $candidate ]] && continue
    if [[ $candidate == *[=:.,] ]]; then
      going+=("$candidate")
    else
      ending+=("$candidate")
    fi
  done
  if (( ${#going} + ${#ending} == 0 )); then
    _files
    return
  fi
  (( ${#ending} )) && compadd -- "${ending[@]}"
  (( ${#going} )) && compadd -S '' -- "${going[@]}"
  return 0
}
if [[ ${zsh_eval_context[-1]} == loadautofunc ]]; then
  _kvlab "$@"
else
  compdef _kvlab kvlab
fi
)zsh";

}  // namespace

void add_completion_commands(CLI::App& app, Invocation& invocation) {
  CLI::App* completion = app.add_subcommand(
      "completion", "Print a script that completes kvlab in a shell: source <(kvlab completion bash)");
  const auto shell = std::make_shared<std::string>();
  completion->add_option("shell", *shell, "bash or zsh")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh"}));
  completion->callback([shell, &invocation] {
    invocation.run = [shell] {
      std::cout << (*shell == "bash" ? kBash : kZsh);
      return kExitOk;
    };
  });

  CLI::App* complete = app.add_subcommand("complete", "Candidates for the last word");
  complete->group("");
}

int answer_completion(const CLI::App& app, const std::vector<std::string>& argv) {
  const auto start = std::find(argv.begin(), argv.end(), "--");
  std::vector<std::string> words;
  if (start != argv.end()) words.assign(start + 1, argv.end());
  for (const std::string& candidate : complete_command_line(app, words)) {
    std::cout << candidate << "\n";
  }
  return kExitOk;
}

}  // namespace kvlab
