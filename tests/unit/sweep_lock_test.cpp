// Locks of folders between processes, and names of the processes that hold them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "kvlab/runtime/durable_file.h"
#include "kvlab/sweep/folder_lock.h"

namespace {

namespace fs = std::filesystem;
using namespace kvlab;
using testing::HasSubstr;

class SweepLock : public ::testing::Test {
 protected:
  SweepLock() {
    std::string name = (fs::temp_directory_path() / "kvlab-lock-XXXXXX").string();
    folder_ = mkdtemp(name.data());
    file_ = folder_ + "/a.lock";
  }
  ~SweepLock() override { fs::remove_all(folder_); }

  // A process that holds the lock until it is killed.
  pid_t holder(FolderLock::Mode mode) const {
    int ready[2];
    if (::pipe(ready) != 0) return -1;
    const pid_t child = ::fork();
    if (child == 0) {
      const FolderLock lock(file_, mode, "it");
      (void)!::write(ready[1], "x", 1);
      while (true) ::pause();
    }
    char byte;
    (void)!::read(ready[0], &byte, 1);
    ::close(ready[0]);
    ::close(ready[1]);
    return child;
  }

  static void kill(pid_t process) {
    ::kill(process, SIGKILL);
    ::waitpid(process, nullptr, 0);
  }

  std::string refusal(FolderLock::Mode mode) const {
    try {
      const FolderLock lock(file_, mode, "the sweep 'x'");
    } catch (const LockedError& error) {
      return error.what();
    }
    return "";
  }

  std::string folder_, file_;
};

TEST_F(SweepLock, ASecondWriterIsRefusedWithinASecondWithTheHoldersProcess) {
  const pid_t other = holder(FolderLock::Mode::alone);
  const auto start = std::chrono::steady_clock::now();
  const std::string message = refusal(FolderLock::Mode::alone);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
  EXPECT_THAT(message, HasSubstr("the sweep 'x' is held by process " + std::to_string(other)));
  EXPECT_THAT(refusal(FolderLock::Mode::shared), HasSubstr(std::to_string(other)));
  EXPECT_EQ(lock_holder(file_), "process " + std::to_string(other) + " on " + host_name());
  kill(other);
  EXPECT_EQ(lock_holder(file_), std::nullopt);
  EXPECT_EQ(refusal(FolderLock::Mode::alone), "");
}

TEST_F(SweepLock, ManyShareItAndThenNobodyHasItAlone) {
  const pid_t other = holder(FolderLock::Mode::shared);
  EXPECT_EQ(refusal(FolderLock::Mode::shared), "");
  EXPECT_NE(refusal(FolderLock::Mode::alone), "");
  EXPECT_EQ(lock_holder(file_), std::nullopt);
  kill(other);
  EXPECT_EQ(refusal(FolderLock::Mode::alone), "");
}

TEST_F(SweepLock, AFileThatCannotBeOpenedIsAnErrorOfTheDisk) {
  EXPECT_THROW(FolderLock(folder_ + "/none/a.lock", FolderLock::Mode::alone, "it"), StorageError);
}

}  // namespace
