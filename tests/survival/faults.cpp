#include "tests/survival/faults.h"

#include <fstream>
#include <sstream>

namespace kvlab::survival {

std::vector<std::string> under_fault(const Fault& fault, const std::string& folder,
                                     const std::string& log, std::vector<std::string> words) {
  // env replaces itself by the program, which so has the process that is waited for.
  std::vector<std::string> command = {"/usr/bin/env",
                                      "LD_PRELOAD=" KVLAB_FAULT_LIBRARY,
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

std::vector<Operation> read_operations(const std::string& log) {
  std::vector<Operation> operations;
  std::ifstream file(log);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string number;
    Operation operation;
    words >> number >> operation.call >> operation.path >> operation.new_path;
    operation.refused = operation.call.starts_with('!');
    if (operation.refused) operation.call.erase(0, 1);
    operations.push_back(operation);
  }
  return operations;
}

}  // namespace kvlab::survival
