// A file appears under its name only as a whole, whatever call fails or ends the process, and its
// name is flushed as well as its bytes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <stdexcept>

#include "tests/survival/ledger.h"
#include "tests/survival/tiny_sweeps.h"

namespace kvlab::survival {
namespace {

using testing::AnyOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class DurableFile : public testing::Test {
 protected:
  ProgramResult write(const Fault& fault, const std::vector<std::string>& texts) {
    std::vector<std::string> words = {KVLAB_FILE_WRITER, path_};
    words.insert(words.end(), texts.begin(), texts.end());
    std::filesystem::remove(log_);
    return run_watched(fault, folder_.path() + "/watched", log_, words);
  }

  std::vector<std::string> calls() const {
    std::vector<std::string> names;
    for (const Operation& operation : read_operations(log_)) {
      names.push_back((operation.refused ? "!" : "") + operation.call);
    }
    return names;
  }

  void expect_no_other_file() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path() + "/watched")) {
      names.push_back(entry.path().filename().string());
    }
    EXPECT_THAT(names, AnyOf(IsEmpty(), ElementsAre("file")));
  }

  TestFolder folder_;
  const std::string path_ = (std::filesystem::create_directory(folder_.path() + "/watched"),
                             folder_.path() + "/watched/file");
  const std::string log_ = folder_.path() + "/operations";
};

TEST_F(DurableFile, FlushesTheBytesBeforeTheNameAndTheNameAfterwards) {
  EXPECT_EQ(write({}, {"text"}).exit_code, 0);
  EXPECT_THAT(calls(), ElementsAre("open", "write", "fsync", "rename", "fsync"));
  const auto operations = read_operations(log_);
  ASSERT_EQ(operations.size(), 5u);
  EXPECT_EQ(operations[2].path, operations[3].path) << "the new file is flushed";
  EXPECT_EQ(operations[3].new_path, path_);
  EXPECT_EQ(operations[4].path, folder_.path() + "/watched") << "then the folder with its name";
  EXPECT_THAT(unflushed_names(operations, folder_.path() + "/watched"), IsEmpty());
}

TEST_F(DurableFile, KeepsTheOldTextWhereAnyCallFails) {
  for (const std::string error : {"ENOSPC", "EIO"}) {
    for (int64_t at = 1; at <= 5; ++at) {
      ASSERT_EQ(write({}, {"old text"}).exit_code, 0);
      const ProgramResult result = write({at, error}, {"a new text"});
      const std::string where = error + " at operation " + std::to_string(at);
      EXPECT_EQ(result.exit_code, 1) << where;
      EXPECT_EQ(result.out, "") << where;
      EXPECT_THAT(result.err, HasSubstr(error == "EIO" ? "Input/output error" : "No space left"));
      EXPECT_THAT(result.err, HasSubstr(folder_.path())) << "a message names the path";
      // Only the flush of the folder comes after the new name.
      EXPECT_EQ(read_whole(path_), at < 5 ? "old text" : "a new text") << where;
      expect_no_other_file();
    }
  }
}

TEST_F(DurableFile, HoldsTheOldOrTheNewTextWhereverTheProcessIsKilled) {
  for (const std::string action : {"kill", "torn"}) {
    for (int64_t at = 1; at <= 5; ++at) {
      ASSERT_EQ(write({}, {"old text"}).exit_code, 0);
      EXPECT_EQ(write({at, action}, {"a new text"}).exit_code, 128 + SIGKILL);
      EXPECT_EQ(read_whole(path_), at < 5 ? "old text" : "a new text") << action << " at " << at;
      // What the killed process left does not stop the next one.
      EXPECT_EQ(write({}, {"after it"}).exit_code, 0);
      EXPECT_EQ(read_whole(path_), "after it");
      expect_no_other_file();
    }
  }
}

TEST_F(DurableFile, IsNotThereWhereItsFirstWriteIsTorn) {
  EXPECT_EQ(write({2, "torn"}, {"a new text"}).exit_code, 128 + SIGKILL);
  EXPECT_FALSE(std::filesystem::exists(path_));
  EXPECT_EQ(read_whole(path_ + ".partial"), "a new") << "the library tears writes";
}

TEST_F(DurableFile, WritesAgainAfterOneFailureAndNeverWhileTheDiskIsFull) {
  EXPECT_EQ(write({1, "ENOSPC", true}, {"first"}).exit_code, 1);
  EXPECT_FALSE(std::filesystem::exists(path_));
  EXPECT_EQ(write({6, "ENOSPC", true}, {"first", "second"}).out, "wrote 1\n");
  EXPECT_EQ(read_whole(path_), "first");
}

TEST_F(DurableFile, LibraryCountsOnlyTheNamedCallsBelowTheFolder) {
  EXPECT_EQ(write({1, "EIO", false, "rename"}, {"text"}).exit_code, 1);
  EXPECT_THAT(calls(), ElementsAre("open", "write", "fsync", "!rename", "remove"));
  EXPECT_FALSE(std::filesystem::exists(path_));
  std::filesystem::remove(log_);
  const ProgramResult elsewhere =
      run_watched({1, "EIO"}, folder_.path() + "/watch", log_, {KVLAB_FILE_WRITER, path_, "text"});
  EXPECT_EQ(elsewhere.exit_code, 0) << "watched/ is not below watch/";
  EXPECT_THAT(calls(), IsEmpty());
}

TEST_F(DurableFile, ALineThatTheLogHasLostIsTold) {
  EXPECT_EQ(write({}, {"text"}).exit_code, 0);
  const std::string whole = read_whole(log_);
  const auto read = [&](const std::string& text) {
    std::ofstream(log_, std::ios::binary) << text;
    return read_operations(log_).size();
  };
  EXPECT_EQ(read(whole), 5u);
  EXPECT_THROW(read(whole.substr(0, whole.size() - 1)), std::runtime_error) << "no newline";
  const size_t first = whole.find('\n'), second = whole.find('\n', first + 1);
  EXPECT_THROW(read(whole.substr(first + 1)), std::runtime_error) << "no beginning";
  EXPECT_THROW(read(whole.substr(0, first + 1) + whole.substr(second + 1)), std::runtime_error)
      << "a line is missing";
  EXPECT_THROW(read(whole.substr(0, second - 9) + whole.substr(second + 1)), std::runtime_error)
      << "a torn line, and the next one glued to it";
}

TEST_F(DurableFile, AProgramThatNothingWatchesIsTold) {
  EXPECT_THROW(run_watched({}, folder_.path(), folder_.path() + "/none/log", {KVLAB_FILE_WRITER}),
               std::runtime_error)
      << "no log";
  // The linker leaves a library out that it cannot load, and the program runs on.
  Fault fault;
  fault.library = folder_.path() + "/being-built.so";
  EXPECT_THROW(run_watched(fault, folder_.path(), log_, {KVLAB_FILE_WRITER, path_, "text"}),
               std::runtime_error);
  EXPECT_EQ(read_whole(path_), "text") << "that is what makes it worth telling";
}

TEST(UnflushedNames, FindsBytesAndNamesThatAPowerCutCouldLose) {
  const Operation open{"open", "/f/a.partial", ""}, write{"write", "/f/a.partial", ""};
  const Operation flush{"fsync", "/f/a.partial", ""}, flush_folder{"fsync", "/f", ""};
  const Operation rename{"rename", "/f/a.partial", "/f/a"};
  EXPECT_THAT(unflushed_names({open, write, flush, rename, flush_folder}, "/f"), IsEmpty());
  EXPECT_THAT(unflushed_names({open, write, flush_folder}, "/f"),
              ElementsAre(HasSubstr("/f/a.partial was not flushed in the end")));
  EXPECT_THAT(unflushed_names({open, write, rename, flush_folder}, "/f"),
              ElementsAre(HasSubstr("/f/a.partial was not flushed")));
  EXPECT_THAT(unflushed_names({open, write, flush, rename}, "/f"),
              testing::Contains("the name /f/a was not flushed"));
  // What is renamed inside an unfinished folder counts when that gets its name.
  const Operation inner{"write", "/f/d.partial/x", ""}, folder{"rename", "/f/d.partial", "/f/d"};
  const Operation moved{"rename", "/f/d.partial/x", "/f/d.partial/y"};
  EXPECT_THAT(unflushed_names({inner, folder, flush_folder}, "/f"),
              ElementsAre(HasSubstr("/f/d.partial/x was not flushed")));
  EXPECT_THAT(unflushed_names({inner, moved, folder, flush_folder}, "/f"),
              testing::Contains(HasSubstr("/f/d.partial/y was not flushed")));
  const Operation flush_moved{"fsync", "/f/d.partial/y", ""};
  const Operation flush_inside{"fsync", "/f/d.partial", ""};
  EXPECT_THAT(
      unflushed_names({inner, moved, flush_moved, flush_inside, folder, flush_folder}, "/f"),
      IsEmpty());
}

}  // namespace
}  // namespace kvlab::survival
