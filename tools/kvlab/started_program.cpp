#include "started_program.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "kvlab/core/error.h"

extern char** environ;

namespace kvlab {

namespace {

// Hands on whole lines, and what is left at the end.
void pass_on(int descriptor, const std::function<void(std::string_view)>& on_line) {
  std::string unread;
  char buffer[65536];
  while (true) {
    const ssize_t count = ::read(descriptor, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    unread.append(buffer, static_cast<size_t>(count));
    size_t begin = 0;
    for (size_t end; (end = unread.find('\n', begin)) != std::string::npos; begin = end + 1) {
      on_line(std::string_view(unread).substr(begin, end - begin));
    }
    unread.erase(0, begin);
  }
  if (!unread.empty()) on_line(unread);
}

}  // namespace

ProgramEnd run_started_program(const std::vector<std::string>& arguments,
                               const std::function<void(std::string_view)>& on_line) {
  int pipe_ends[2];
  KVLAB_CHECK(::pipe2(pipe_ends, O_CLOEXEC) == 0, "[command_line.start] no pipe can be opened: ",
              std::strerror(errno));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, pipe_ends[1], STDOUT_FILENO);
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  pid_t process = -1;
  const int failure = ::posix_spawn(&process, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(pipe_ends[1]);
  if (failure == 0) pass_on(pipe_ends[0], on_line);
  ::close(pipe_ends[0]);
  KVLAB_CHECK(failure == 0, "[command_line.start] '", arguments[0],
              "' cannot be started: ", std::strerror(failure));
  int status = 0;
  while (::waitpid(process, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) return {0, WTERMSIG(status)};
  return {WEXITSTATUS(status), 0};
}

std::string own_program() { return std::filesystem::read_symlink("/proc/self/exe").string(); }

}  // namespace kvlab
