#include "tests/survival/ledger.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

namespace kvlab::survival {

namespace {

namespace fs = std::filesystem;

std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::map<std::string, SeenFile> files_below(const std::string& folder) {
  std::map<std::string, SeenFile> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    struct stat facts {};
    ::stat(entry.path().c_str(), &facts);
    files[entry.path().string().substr(folder.size())] = {
        read_bytes(entry.path().string()), facts.st_ino,
        facts.st_mtim.tv_sec * int64_t{1000000000} + facts.st_mtim.tv_nsec};
  }
  return files;
}

// "0003-1a2b3c4d" is complete; with anything after it, it is not.
bool is_final_name(const std::string& name) {
  return name.size() == 13 && name[4] == '-' && name.find('.') == std::string::npos;
}

bool is_inside(const std::string& path, const std::string& folder) {
  return path.size() > folder.size() && path.starts_with(folder) && path[folder.size()] == '/';
}

std::string parent_of(const std::string& path) { return fs::path(path).parent_path().string(); }

// A report is made from what is flushed already, and is flushed after it got its name.
bool is_report(const std::string& path) {
  return path.ends_with("/report") || path.find("/.report.writing-") != std::string::npos;
}

}  // namespace

std::vector<std::string> Ledger::record(const std::string& sweep) {
  std::vector<std::string> wrong;
  std::set<std::string> present;
  for (const auto& entry : fs::directory_iterator(sweep + "/cases")) {
    const std::string name = entry.path().filename().string();
    if (!is_final_name(name)) continue;
    present.insert(name);
    Files files = files_below(entry.path().string());
    const auto known = trials_.find(name);
    if (known == trials_.end()) {
      const auto run = nlohmann::json::parse(files["/run.json"].bytes, nullptr, false);
      const auto summary = nlohmann::json::parse(files["/summary.json"].bytes, nullptr, false);
      if (run.is_discarded() || summary.is_discarded() || run.value("status", "") != "ok") {
        wrong.push_back(name + " has its final name and is not complete");
      }
      trials_[name] = std::move(files);
      continue;
    }
    for (const auto& [file, seen] : known->second) {
      if (!files.contains(file)) {
        wrong.push_back(name + file + " is lost");
      } else if (!(files[file] == seen)) {
        wrong.push_back(name + file + " was written again");
      }
    }
    if (files.size() > known->second.size()) wrong.push_back(name + " has got new files");
  }
  for (const auto& [name, files] : trials_) {
    if (!present.contains(name)) wrong.push_back(name + " is lost");
  }
  return wrong;
}

std::vector<std::string> Ledger::judge_end(const std::string& sweep,
                                           const std::vector<Operation>& operations) const {
  std::vector<std::string> wrong;
  std::map<std::string, int> ends;  // how often each case got its final name
  for (const Operation& operation : operations) {
    const std::string name = fs::path(operation.new_path).filename().string();
    const bool is_end = operation.call == "rename" && !operation.refused &&
                        parent_of(operation.new_path).ends_with("/cases") && is_final_name(name);
    if (is_end) ++ends[name];
  }
  if (complete() != cases_ || static_cast<int64_t>(ends.size()) != cases_) {
    wrong.push_back("the ledger has " + std::to_string(complete()) + " complete trials and " +
                    std::to_string(ends.size()) + " ends of trials, not " + std::to_string(cases_));
  }
  for (const auto& [name, times] : ends) {
    if (times != 1)
      wrong.push_back(name + " was run " + std::to_string(times) + " times to its end");
  }
  std::set<std::string> indices;
  for (const auto& [name, files] : trials_) indices.insert(name.substr(0, 4));
  if (indices.size() != trials_.size()) wrong.push_back("a trial is there twice");
  for (const auto& entry : fs::directory_iterator(sweep + "/cases")) {
    const std::string name = entry.path().filename().string();
    if (!is_final_name(name)) wrong.push_back("left behind: cases/" + name);
  }
  const auto state = nlohmann::json::parse(read_bytes(sweep + "/sweep.json"), nullptr, false);
  if (state.is_discarded() || state.value("status", "") != "ok") {
    wrong.push_back("sweep.json does not say ok");
  }
  return wrong;
}

std::string untimed_lines(const std::string& table) {
  std::istringstream lines(table);
  std::string kept;
  for (std::string line; std::getline(lines, line);) {
    if (line.find(",true,") == std::string::npos) kept += line + "\n";
  }
  return kept;
}

std::vector<std::string> unflushed_names(const std::vector<Operation>& operations,
                                         const std::string& folder) {
  std::vector<std::string> wrong;
  std::set<std::string> dirty;      // files with bytes, folders with names, since their last flush
  std::set<std::string> names;      // that exist
  std::set<std::string> new_names;  // final ones whose folder has to be flushed
  const auto at_or_inside = [](const std::string& file, const std::string& path) {
    return file == path || is_inside(file, path);
  };
  for (const Operation& operation : operations) {
    const std::string& path = operation.path;
    if (operation.refused) continue;
    if (operation.call == "write" || operation.call == "truncate") dirty.insert(path);
    if (operation.call == "open" || operation.call == "mkdir") {
      if (names.insert(path).second) dirty.insert(parent_of(path));
    }
    if (operation.call == "fsync") {
      dirty.erase(path);
      std::erase_if(new_names, [&](const std::string& name) { return parent_of(name) == path; });
    }
    if (operation.call == "remove") {
      std::erase_if(dirty, [&](const std::string& file) { return at_or_inside(file, path); });
    }
    if (operation.call != "rename") continue;
    const std::string& new_path = operation.new_path;
    const bool is_final = new_path.find(".partial/") == std::string::npos && !is_report(new_path);
    std::set<std::string> moved;
    std::erase_if(dirty, [&](const std::string& file) {
      if (!at_or_inside(file, path)) return false;
      moved.insert(new_path + file.substr(path.size()));
      if (is_final) wrong.push_back(file + " was not flushed when " + new_path + " got its name");
      return true;
    });
    if (is_final) {
      new_names.insert(new_path);
    } else {
      dirty.merge(moved);
      dirty.insert(parent_of(new_path));
    }
    names.erase(path);
    names.insert(new_path);
  }
  for (const std::string& name : new_names)
    wrong.push_back("the name " + name + " was not flushed");
  for (const std::string& path : dirty) {
    // What a lock says about its holder is worth nothing after a power cut.
    if (at_or_inside(path, folder) && path.find("/locks") == std::string::npos) {
      wrong.push_back(path + " was not flushed in the end");
    }
  }
  return wrong;
}

}  // namespace kvlab::survival
