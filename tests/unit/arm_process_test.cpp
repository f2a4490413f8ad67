#include "kvlab/runtime/arm_process.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/fixtures/model_file_writer.h"

namespace {

using namespace kvlab;
namespace fs = std::filesystem;

// A program in the place of kvlab that says what a test wants it to say.
class ArmProcessTest : public ::testing::Test {
 protected:
  ArmProcessOptions program(const std::string& script) const {
    ArmProcessOptions options;
    options.program = (folder_ / "program").string();
    options.config = "resolved.yaml";
    options.arm = "mine";
    options.log_file = (folder_ / "arms/mine.log").string();
    options.end_seconds = 0.5;
    std::ofstream(options.program) << "#!/bin/sh\nsay() { echo \"$@\" >&3; }\nhear() { read word "
                                      "number text <&3; }\nsay 'loaded 0 {\"a\": 1}'\n"
                                   << script;
    fs::permissions(options.program, fs::perms::owner_all);
    return options;
  }

  // How `work` fails, without what the process used.
  template <typename Work>
  std::string failure(const std::string& script, const ArmLimits& limits, const Work& work) const {
    ArmProcessOptions options = program(script);
    options.limits = limits;
    ArmProcess process(options);
    try {
      EXPECT_EQ(process.wait_until_loaded(), "{\"a\": 1}");
      work(process);
    } catch (const ArmProcessError& error) {
      const std::string text = error.what();
      EXPECT_NE(text.find("; it used "), std::string::npos) << text;
      return text.substr(0, text.find("; it used "));
    }
    return "";
  }
  std::string answer_failure(const std::string& script, const ArmLimits& limits = {}) const {
    return failure(script, limits, [](ArmProcess& process) { process.ask("{}"); });
  }
  // Where it has half a second from being told to end to its end.
  std::string end_failure(const std::string& script) const {
    return failure(script, {}, [](ArmProcess& process) { process.finish(); });
  }

  const kvlab::testing::TemporaryFolder place_;
  const fs::path folder_ = place_.path();
};

TEST_F(ArmProcessTest, AsksAndAnswersInTurnUntilItIsToldToEnd) {
  ArmProcessOptions options = program(
      "echo \"started with $*\"\nhear; say \"answer $number {\\\"heard\\\": $text}\"\n"
      "hear; say \"answer $number $text\"\nhear; say \"done $number\"\n");
  options.limits.memory_bytes = 12345;
  ArmProcess process(options);
  EXPECT_EQ(process.wait_until_loaded(), "{\"a\": 1}");
  EXPECT_EQ(process.ask("7"), "{\"heard\": 7}");
  EXPECT_EQ(process.ask("[8]"), "[8]");
  EXPECT_EQ(process.finish().exit_code, 0);
  const std::vector<std::string> log = last_lines(options.log_file, 1);
  ASSERT_EQ(log.size(), 1u);
  EXPECT_EQ(log[0], "started with arm-process --config resolved.yaml --arm mine --parent " +
                        std::to_string(::getpid()) + " --memory 12345");
}

TEST_F(ArmProcessTest, OneThatEndsWithoutBeingToldHasFailedWhateverItsCode) {
  EXPECT_EQ(answer_failure("exit 0"), "ended with exit code 0 without finishing");
  EXPECT_EQ(answer_failure("hear; exit 3"), "ended with exit code 3 without finishing");
  EXPECT_EQ(end_failure("hear; exit 0"), "ended with exit code 0 without finishing");
  EXPECT_EQ(end_failure("hear; say done $number; exit 3"), "ended with exit code 3 after its work");
  EXPECT_EQ(end_failure("hear; say done $number; kill -SEGV $$"),
            "was ended by signal 11 (segmentation fault) after its work");
  EXPECT_EQ(answer_failure("hear; exec 3>&-; sleep 300"),
            "closed its line to the run and was stopped");
}

TEST_F(ArmProcessTest, OneThatDoesNotEndAfterItsWorkIsStoppedAndSaysSo) {
  const std::string late = "did not end within 0.5 s of finishing its work and was stopped";
  EXPECT_EQ(end_failure("hear; exec sleep 300"), late) << "before it says that it is done";
  EXPECT_EQ(end_failure("hear; say done $number; exec sleep 300"), late);
  EXPECT_EQ(failure("hear; exec sleep 300", {60, {}},
                    [](ArmProcess& process) { process.finish(); }),
            late)
      << "the limit of its work is another";
  EXPECT_EQ(end_failure("hear; say done $number; kill -KILL $$"),
            "was ended by signal 9 (killed) after its work")
      << "not by the run";
}

TEST_F(ArmProcessTest, OneThatHasFailedCannotBeAskedAgain) {
  ArmProcess process(program("hear; exit 3"));
  process.wait_until_loaded();
  EXPECT_THROW(process.ask("{}"), ArmProcessError);
  EXPECT_THROW(process.ask("{}"), InternalError);
  EXPECT_THROW(process.finish(), InternalError);
  EXPECT_THROW(process.wait_until_loaded(), InternalError);
}

TEST_F(ArmProcessTest, AnAnswerThatIsNoneIsAFailure) {
  const std::string unreadable =
      "gave an answer that cannot be read (it follows no rule of the line) and was stopped";
  EXPECT_EQ(answer_failure("hear; say garbage"), unreadable);
  EXPECT_EQ(answer_failure("hear; say answer 7 '{}'"), unreadable) << "of another question";
  EXPECT_EQ(answer_failure("hear; say answer $number '{'"), unreadable) << "no JSON";
  EXPECT_EQ(answer_failure("hear; say"), unreadable);
  EXPECT_EQ(answer_failure("hear; say done $number"),
            "gave the answer 'done' to another question and was stopped");
  EXPECT_EQ(answer_failure("exec cat /dev/zero >&3"),
            "gave an answer of more than 67.1 MB and was stopped");
}

TEST_F(ArmProcessTest, SaysWhatItThrewAndWhatItRanOutOf) {
  EXPECT_EQ(answer_failure("hear; say threw $number '\"a reason\"'"), "threw: a reason");
  EXPECT_EQ(answer_failure("hear; say no_memory $number '\"a reason\"'", {{}, 2000000000}),
            "ran out of its 2 GB of memory: a reason");
  EXPECT_EQ(answer_failure("hear; say no_memory $number '\"a reason\"'"),
            "ran out of memory: a reason");
}

TEST_F(ArmProcessTest, TimeCountsOverAllRequestsAndNotBetweenThem) {
  const std::string sleeper = "while hear; do sleep 0.4; say answer $number 1; done";
  EXPECT_EQ(failure(sleeper, {0.6, {}},
                    [](ArmProcess& process) {
                      process.ask("{}");
                      ::usleep(700000);
                      process.ask("{}");
                    }),
            "took longer than 0.6 s and was stopped");
  EXPECT_EQ(failure("while hear; do say answer $number 1; done", {5, {}},
                    [](ArmProcess& process) {
                      for (int i = 0; i < 100; ++i) process.ask("{}");
                    }),
            "");
}

TEST_F(ArmProcessTest, AFailureEndsWithWhatTheProcessPrintedLast) {
  ArmProcessOptions options = program("for i in 1 2 3 4 5 6; do echo \"line $i\"; done; exit 9");
  ArmProcess process(options);
  try {
    process.wait_until_loaded();
    process.ask("{}");
    FAIL();
  } catch (const ArmProcessError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find(". Last lines of mine.log: | line 2 | line 3 | line 4 | line 5 | line 6"),
              std::string::npos)
        << text;
  }
}

}  // namespace
