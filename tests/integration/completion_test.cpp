// Completion as the shells ask for it, and in the shells themselves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <sstream>

#include "tests/fixtures/run_program.h"

namespace kvlab {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::IsSupersetOf;
using testing::Not;
using Words = std::vector<std::string>;

const std::string kBinary = KVLAB_BINARY_DIR "/bin/kvlab";

Words lines_of(const std::string& text) {
  std::istringstream stream(text);
  Words lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

Words complete(Words words) {
  words.insert(words.begin(), {kBinary, "complete", "--"});
  const ProgramResult result = run_program(words);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  return lines_of(result.out);
}

TEST(Completion, NamesCommandsAndHidesWhatHelpHides) {
  EXPECT_THAT(complete({"va"}), ElementsAre("validate"));
  const Words all = complete({""});
  EXPECT_THAT(all, IsSupersetOf({"run", "generate", "schema", "completion"}));
  EXPECT_THAT(all, Not(Contains("complete")));
  EXPECT_THAT(complete({"plugin", ""}), ElementsAre("check", "show"));
  EXPECT_THAT(complete({"help", "va"}), ElementsAre("validate"));
}

TEST(Completion, NamesTheOptionsOfTheCommandThatIsTyped) {
  EXPECT_THAT(complete({"run", "quickstart", "--print"}), ElementsAre("--print-config"));
  EXPECT_THAT(complete({"describe", "--new"}), IsEmpty());
  EXPECT_THAT(complete({"generate", "--new"}), ElementsAre("--new-tokens"));
}

TEST(Completion, KnowsCachesTheirOptionsAndTheChoicesOfThose) {
  EXPECT_THAT(complete({"generate", "--cache", "pag"}), ElementsAre("paged", "paged:"));
  EXPECT_THAT(complete({"generate", "--cache", "paged:b"}), ElementsAre("paged:block_size="));
  EXPECT_THAT(complete({"generate", "--cache=paged:b"}), ElementsAre("--cache=paged:block_size="));
  EXPECT_THAT(complete({"generate", "--cache", "paged:block_size=4,"}),
              ElementsAre("paged:block_size=4,max_blocks="));
  EXPECT_THAT(complete({"generate", "--cache", "preallocated:growth=d"}),
              ElementsAre("preallocated:growth=doubling"));
  EXPECT_THAT(complete({"generate", "--attention", "ea"}), ElementsAre("eager"));
}

TEST(Completion, KnowsConfigsAndTheirKeys) {
  EXPECT_THAT(complete({"run", "quick"}), ElementsAre("quickstart"));
  EXPECT_THAT(complete({"generate", "--model", "smol"}), ElementsAre("smollm2_135m"));
  EXPECT_THAT(complete({"run", "quickstart", "me"}), ElementsAre("measure.", "measure="));
  EXPECT_THAT(complete({"run", "quickstart", "measure.r"}), ElementsAre("measure.repeats="));
  EXPECT_THAT(complete({"run", "quickstart", "arms.paged64.cache."}),
              IsSupersetOf({"arms.paged64.cache.block_size="}));
  EXPECT_THAT(complete({"run", "quickstart", "arms.paged64.cache=ri"}),
              ElementsAre("arms.paged64.cache=ring", "arms.paged64.cache=ring:"));
}

TEST(Completion, KnowsWhatTheRegistryHolds) {
  EXPECT_THAT(complete({"describe", "page"}), ElementsAre("paged"));
  EXPECT_THAT(complete({"list", "at"}), ElementsAre("attention"));
  EXPECT_THAT(complete({"schema", "--kind", "mem"}), ElementsAre("memory_table"));
}

TEST(Completion, LeavesFileNamesToTheShell) {
  EXPECT_THAT(complete({"run", "configs/experiments/qu"}), IsEmpty());
  EXPECT_THAT(complete({"run", "quickstart", "--plugin", "bu"}), IsEmpty());
}

// Sets what bash sets for a completion, calls the function it was given and prints the answers.
Words in_bash(const std::string& line) {
  const std::string script = R"(
PATH=")" + std::filesystem::path(kBinary).parent_path().string() + R"(:$PATH"
source <(kvlab completion bash) || exit 3
registered=$(complete -p kvlab) || exit 4
[[ $registered == *'-F _kvlab'* ]] || exit 5
COMP_LINE="$1"
COMP_POINT=${#COMP_LINE}
read -ra COMP_WORDS <<<"$COMP_LINE"
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_kvlab kvlab
(( ${#COMPREPLY[@]} )) && printf '%s\n' "${COMPREPLY[@]}"
exit 0)";
  const ProgramResult result = run_program({"/bin/bash", "--norc", "-c", script, "bash", line});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  return lines_of(result.out);
}

TEST(Completion, WorksInBashWithItsWordBreaks) {
  EXPECT_THAT(in_bash("kvlab desc"), ElementsAre("describe"));
  EXPECT_THAT(in_bash("kvlab run quick"), ElementsAre("quickstart"));
  // bash takes what follows the last ':' or '=' for the word, and puts the answer in its place.
  EXPECT_THAT(in_bash("kvlab generate --cache paged:b"), ElementsAre("block_size="));
  EXPECT_THAT(in_bash("kvlab run quickstart arms.paged64.cache=ri"), ElementsAre("ring", "ring:"));
  EXPECT_THAT(in_bash("kvlab run "), IsSupersetOf({"quickstart", "work_trace"}));
}

TEST(Completion, WorksInZsh) {
  const std::string zsh = std::filesystem::exists("/usr/bin/zsh") ? "/usr/bin/zsh" : "/bin/zsh";
  if (!std::filesystem::exists(zsh)) GTEST_SKIP() << "zsh is not installed";
  // Outside of a line editor: what compadd is given is printed.
  const std::string script = R"(
path=()" + std::filesystem::path(kBinary).parent_path().string() + R"( $path)
compdef() { print -- "compdef $*" }
compadd() { while [[ $1 != -- ]]; do shift; done; shift; print -l -- "$@" }
_files() { print -- files }
source <(kvlab completion zsh) || exit 3
words=(kvlab run quick); CURRENT=3; _kvlab
words=(kvlab generate --cache paged:b); CURRENT=4; _kvlab
words=(kvlab run configs/x); CURRENT=3; _kvlab
)";
  const ProgramResult result = run_program({zsh, "-f", "-c", script});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(lines_of(result.out),
              ElementsAre("compdef _kvlab kvlab", "quickstart", "paged:block_size=", "files"));
}

}  // namespace
}  // namespace kvlab
