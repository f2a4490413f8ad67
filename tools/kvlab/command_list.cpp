#include "command_list.h"

#include <algorithm>
#include <iomanip>
#include <iostream>
#include <memory>

#include "exit_code.h"
#include "json_output.h"
#include "kvlab/core/error.h"

namespace kvlab {

namespace {

const std::vector<std::string> kKinds = {"caches", "attention", "positions", "experiments"};

struct Line {
  std::string name, summary, citation, origin;
};

template <typename Entry>
std::vector<Line> lines_of(const std::vector<Entry>& entries) {
  std::vector<Line> lines;
  for (const Entry& entry : entries) {
    lines.push_back({entry.info.name, entry.info.summary, entry.info.citation, entry.origin});
  }
  return lines;
}

std::vector<Line> lines_of_kind(const Registry& registry, const std::string& kind) {
  if (kind == "caches") return lines_of(registry.caches());
  if (kind == "attention") return lines_of(registry.attentions());
  if (kind == "positions") return lines_of(registry.positions());
  return lines_of(registry.experiments());
}

void print_text(const std::vector<std::string>& kinds, const Registry& registry) {
  for (const std::string& kind : kinds) {
    const std::vector<Line> lines = lines_of_kind(registry, kind);
    size_t width = 0;
    for (const Line& line : lines) width = std::max(width, line.name.size());
    std::cout << kind << "\n";
    if (lines.empty()) std::cout << "  none in this build\n";
    for (const Line& line : lines) {
      std::cout << "  " << std::left << std::setw(static_cast<int>(width)) << line.name << "  "
                << line.summary << "\n";
    }
  }
}

int run_list(const std::string& kind, bool json) {
  std::vector<std::string> kinds = kKinds;
  if (!kind.empty()) {
    KVLAB_CHECK(std::find(kKinds.begin(), kKinds.end(), kind) != kKinds.end(),
                "[command_line.list] '", kind, "' is no kind.", suggestion(kind, kKinds));
    kinds = {kind};
  }
  const Registry registry = builtin_registry();
  if (!json) {
    print_text(kinds, registry);
    return kExitOk;
  }
  Json document = Json::object();
  for (const std::string& name : kinds) {
    document[name] = Json::array();
    for (const Line& line : lines_of_kind(registry, name)) {
      document[name].push_back({{"name", line.name},
                                {"summary", line.summary},
                                {"citation", line.citation},
                                {"origin", line.origin}});
    }
  }
  print_json(document);
  return kExitOk;
}

}  // namespace

void add_list_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand(
      "list", "Names and summaries of caches, attention, positions, experiments.");
  const auto kind = std::make_shared<std::string>();
  const auto json = std::make_shared<bool>(false);
  command->add_option("kind", *kind, "caches, attention, positions or experiments; default: all");
  command->add_flag("--json", *json, "Print one line of JSON");
  command->callback([kind, json, &invocation] {
    invocation.run = [kind, json] { return run_list(*kind, *json); };
  });
}

}  // namespace kvlab
