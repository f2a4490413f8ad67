#include "tests/conformance/program_flags.h"

#include <algorithm>
#include <charconv>

#include "kvlab/core/component.h"
#include "kvlab/core/error.h"

namespace kvlab::conformance {

namespace {

constexpr int64_t kLongOperations = 10'000'000;

const std::vector<std::string> kFlags = {
    "--plugin", "--only",    "--replay", "--operations",   "--long",
    "--seed",   "--replays", "--table",  "--write-traces", "--target",
    "--help"};

class FlagReader {
 public:
  explicit FlagReader(const std::vector<std::string>& arguments) : arguments_(arguments) {}

  ProgramFlags read() {
    while (next_ < arguments_.size()) read_flag();
    KVLAB_CHECK(!long_ || !flags_.operations,
                "[conformance] --long and --operations contradict each other");
    if (long_) flags_.operations = kLongOperations;
    KVLAB_CHECK(!flags_.replay || !flags_.write_traces,
                "[conformance] --replay and --write-traces contradict each other");
    const bool tests_nothing = flags_.replay || flags_.write_traces;
    KVLAB_CHECK(!tests_nothing || (!flags_.operations && !flags_.seed && !flags_.replays &&
                                   !flags_.table && flags_.googletest.empty()),
                "[conformance] ", flags_.replay ? "--replay" : "--write-traces",
                " runs no tests: leave out flags about tests");
    KVLAB_CHECK(!flags_.replay || flags_.only.empty(),
                "[conformance] --only has no meaning with --replay: the file names the cache");
    return std::move(flags_);
  }

 private:
  void read_flag() {
    const std::string& argument = arguments_[next_++];
    if (argument.starts_with("--gtest_")) {
      flags_.googletest.push_back(argument);
      return;
    }
    const size_t equals = argument.find('=');
    name_ = argument.substr(0, equals);
    given_ = equals == std::string::npos ? std::nullopt
                                         : std::optional(argument.substr(equals + 1));
    KVLAB_CHECK(std::find(kFlags.begin(), kFlags.end(), name_) != kFlags.end(),
                "[conformance] unknown argument '", argument, "'.", suggestion(name_, kFlags),
                " GoogleTest's flags start with --gtest_");
    if (name_ == "--help") set(flags_.help);
    if (name_ == "--table") set(flags_.table);
    if (name_ == "--long") set(long_);
    if (name_ == "--plugin") flags_.plugins.push_back(value());
    if (name_ == "--only") flags_.only.push_back(value());
    if (name_ == "--replay") set(flags_.replay, value());
    if (name_ == "--write-traces") set(flags_.write_traces, value());
    if (name_ == "--target") set(flags_.target, value());
    if (name_ == "--replays") set(flags_.replays, value());
    if (name_ == "--operations") set(flags_.operations, number<int64_t>(1));
    if (name_ == "--seed") set(flags_.seed, number<uint64_t>(0));
  }

  void set(bool& flag) {
    KVLAB_CHECK(!given_, "[conformance] ", name_, " takes no value");
    flag = true;
  }

  template <typename Value>
  void set(std::optional<Value>& flag, Value value) {
    KVLAB_CHECK(!flag, "[conformance] ", name_, " is given twice");
    flag = std::move(value);
  }

  std::string value() {
    if (given_ && !given_->empty()) return *given_;
    // What looks like another flag is no value: `--only --table` has forgotten one.
    KVLAB_CHECK(!given_ && next_ < arguments_.size() && !arguments_[next_].empty() &&
                    !arguments_[next_].starts_with("--"),
                "[conformance] ", name_, " needs a value");
    return arguments_[next_++];
  }

  template <typename Number>
  Number number(Number least) {
    const std::string text = value();
    Number read{};
    const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), read);
    KVLAB_CHECK(error == std::errc() && stop == text.data() + text.size() && read >= least,
                "[conformance] ", name_, " must be a whole number of at least ", least, ", got '",
                text, "'");
    return read;
  }

  const std::vector<std::string>& arguments_;
  size_t next_ = 0;
  std::string name_;                 // of the flag being read
  std::optional<std::string> given_; // its value behind '='
  bool long_ = false;
  ProgramFlags flags_;
};

}  // namespace

ProgramFlags read_flags(const std::vector<std::string>& arguments) {
  return FlagReader(arguments).read();
}

std::string flags_help() {
  return
      "usage: kvlab_conformance_tests [FLAGS] [GOOGLETEST FLAGS]\n"
      "\n"
      "Tests what every cache, attention and position plugin must do.\n"
      "\n"
      "  --plugin FILE        load a plugin library and test what it registers; repeatable\n"
      "  --only NAME          test only this plugin, by its name in configs; repeatable\n"
      "  --operations N       random operations per cache (default 10000)\n"
      "  --long               10 million random operations per cache\n"
      "  --seed N             of the random operations\n"
      "  --replays FOLDER     where sequences that failed are written (default: here)\n"
      "  --target NAME        instruction set of the kernels, such as AVX2 (default: the best)\n"
      "  --table              one row per property instead of one line per test\n"
      "  --replay FILE        run the operations of a file that a failure left, and no test\n"
      "  --write-traces FOLDER\n"
      "                       write each cache's trace to FOLDER/cache/<name>/trace.txt and what is\n"
      "                       left out to FOLDER/<kind>/<name>/left_out.txt, and run no test\n"
      "  --help               this text\n"
      "\n"
      "Exit code: 0 all passed, 1 something failed, 2 a wrong flag, file or plugin, 3 no test ran,\n"
      "4 a plugin ended the program. With --table the last line is 'N passed, N failed, N left out'.\n";
}

}  // namespace kvlab::conformance
