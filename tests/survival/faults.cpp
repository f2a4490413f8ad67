#include "tests/survival/faults.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <stdexcept>

namespace kvlab::survival {

namespace {

std::string read_from(const std::string& log, uintmax_t offset) {
  std::ifstream file(log, std::ios::binary);
  file.seekg(static_cast<std::streamoff>(offset));
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Goes through a log and knows the line that each process writes next.
class LogReader {
 public:
  /// Adds the operation of a line, which may begin a process instead.
  void read(const std::string& line, std::vector<Operation>& operations) {
    std::istringstream words(line);
    int64_t process = 0, number = 0;
    std::string count;
    Operation operation;
    words >> process >> number >> count >> operation.call;
    if (count == "start") {
      next_[process] = 1;
      return;
    }
    words >> operation.path;
    if (!words) throw std::runtime_error("damaged line: " + line);
    words >> operation.new_path;
    std::string more;
    if (words >> more) throw std::runtime_error("damaged line: " + line);
    if (!next_.contains(process) || next_[process] != number) {
      throw std::runtime_error("a line is missing before: " + line);
    }
    ++next_[process];
    operation.refused = operation.call.starts_with('!');
    if (operation.refused) operation.call.erase(0, 1);
    operations.push_back(operation);
  }

 private:
  std::map<int64_t, int64_t> next_;
};

}  // namespace

std::vector<std::string> under_fault(const Fault& fault, const std::string& folder,
                                     const std::string& log, std::vector<std::string> words) {
  // env replaces itself by the program, which so has the process that is waited for.
  std::vector<std::string> command = {"/usr/bin/env",
                                      "LD_PRELOAD=" + fault.library,
                                      "KVLAB_FAULT_FOLDER=" + folder,
                                      "KVLAB_FAULT_LOG=" + log,
                                      "KVLAB_FAULT_AT=" + std::to_string(fault.at),
                                      "KVLAB_FAULT_DO=" + fault.action,
                                      "KVLAB_FAULT_CALLS=" + fault.calls};
  // A report's figures take a second of Python each time, and no part in what is tested here.
  command.push_back("KVLAB_PYTHON=/usr/bin/true");
  if (fault.forever) command.push_back("KVLAB_FAULT_FOREVER=1");
  command.insert(command.end(), words.begin(), words.end());
  return command;
}

ProgramResult run_watched(const Fault& fault, const std::string& folder, const std::string& log,
                          const std::vector<std::string>& words, double seconds) {
  std::error_code none;
  const uintmax_t size = std::filesystem::file_size(log, none);
  const ProgramResult result = run_program(under_fault(fault, folder, log, words), seconds);
  const std::string begun = " 0 start " + std::to_string(::getpid()) + " ";
  if (read_from(log, none ? 0 : size).find(begun) == std::string::npos) {
    throw std::runtime_error(words.at(0) + " ran unwatched, exit code " +
                             std::to_string(result.exit_code) + ": " + result.err);
  }
  return result;
}

std::vector<Operation> read_operations(const std::string& log) {
  std::vector<Operation> operations;
  const std::string text = read_from(log, 0);
  LogReader reader;
  for (size_t start = 0; start < text.size();) {
    const size_t end = text.find('\n', start);
    const std::string line = text.substr(start, end - start);
    if (end == std::string::npos) throw std::runtime_error(log + ": torn line: " + line);
    try {
      reader.read(line, operations);
    } catch (const std::runtime_error& error) {
      throw std::runtime_error(log + ": " + error.what());
    }
    start = end + 1;
  }
  return operations;
}

std::string last_lines(const std::string& log, size_t count) {
  const std::string text = read_from(log, 0);
  size_t start = text.size();
  for (size_t i = 0; i <= count && start != std::string::npos && start > 0; ++i) {
    start = text.rfind('\n', start - 1);
  }
  return start == std::string::npos ? text : text.substr(std::min(start + 1, text.size()));
}

}  // namespace kvlab::survival
