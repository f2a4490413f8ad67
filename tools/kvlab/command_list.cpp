#include "command_list.h"

#include <algorithm>
#include <iomanip>
#include <iostream>
#include <memory>

#include "entry_description.h"
#include "exit_code.h"
#include "json_output.h"
#include "kvlab/core/error.h"

namespace kvlab {

namespace {

const std::vector<std::string> kKinds = {"caches", "attention", "positions", "experiments"};

struct Line {
  std::string name, summary, citation, origin;

  // Where it comes from, unless that is this program.
  std::string from() const { return origin == "built in" ? "" : " (from " + origin + ")"; }
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
                << line.summary << line.from() << "\n";
    }
  }
}

// A cell of a Markdown table.
std::string cell(std::string text) {
  for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) {
    text.insert(at, "\\");
  }
  return text;
}

// "`window` (default 256 tokens): what it does"
std::string options_cell(const Json& options) {
  std::string text;
  for (const Json& option : options) {
    const std::string unit = option.at("unit");
    const std::string given =
        option.at("required").get<bool>()
            ? "required"
            : "default `" + option.at("default").get<std::string>() + "`";
    text += (text.empty() ? "`" : "<br>`") + option.at("name").get<std::string>() + "` (" + given +
            (unit.empty() ? "" : " " + unit) + "): " + option.at("doc").get<std::string>();
  }
  return text.empty() ? "none" : text;
}

// A plugin's README where it lies in the source tree, as plugins/README.md links it.
std::string name_cell(const Json& entry) {
  const std::string name = entry.at("name");
  if (entry.at("origin") != "built in") return name;
  return "[" + name + "](" + entry.at("kind").get<std::string>() + "/" + name + "/README.md)";
}

template <typename Entry>
void print_tables(const Registry& registry, const std::vector<Entry>& entries, const char* title) {
  std::cout << "### " << title << "\n\n| name | in a sentence | promises | options |\n"
            << "|---|---|---|---|\n";
  std::vector<Json> descriptions;
  for (const Entry& entry : entries) descriptions.push_back(describe(registry, entry));
  for (const Json& entry : descriptions) {
    std::cout << "| " << name_cell(entry) << " | " << cell(entry.at("summary")) << " | "
              << cell(promises(entry)) << " | " << cell(options_cell(entry.at("options")))
              << " |\n";
  }
  std::cout << "\n";
  for (const Json& entry : descriptions) {
    const std::string formula = entry.value("bytes_formula", ""), source = entry.at("citation");
    if (formula.empty() && source.empty()) continue;
    std::cout << "- **" << entry.at("name").get<std::string>() << "**: "
              << (formula.empty() ? "" : "`" + formula + "`")
              << (formula.empty() || source.empty() ? "" : ". ") << source << "\n";
  }
  std::cout << "\n";
}

// The catalogue of plugins/README.md.
void print_markdown(const std::vector<std::string>& kinds, const Registry& registry) {
  std::cout << "Traits are those with default options (" << kSampleText << ").\n\n";
  for (const std::string& kind : kinds) {
    if (kind == "caches") print_tables(registry, registry.caches(), "Caches");
    if (kind == "attention") print_tables(registry, registry.attentions(), "Attention");
    if (kind == "positions") print_tables(registry, registry.positions(), "Positions");
  }
}

struct ListArguments {
  std::string kind;
  std::vector<std::string> plugins;
  bool json = false, markdown = false;
};

int run_list(const ListArguments& arguments) {
  const std::string& kind = arguments.kind;
  std::vector<std::string> kinds = kKinds;
  if (!kind.empty()) {
    KVLAB_CHECK(std::find(kKinds.begin(), kKinds.end(), kind) != kKinds.end(),
                "[command_line.list] '", kind, "' is no kind.", suggestion(kind, kKinds));
    kinds = {kind};
  }
  KVLAB_CHECK(!arguments.markdown || kind != "experiments",
              "[command_line.list] experiments are not in the catalogue of plugins: leave out "
              "--markdown");
  const Registry registry = open_registry(arguments.plugins);
  if (arguments.markdown) {
    print_markdown(kinds, registry);
    return kExitOk;
  }
  if (!arguments.json) {
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
  const auto arguments = std::make_shared<ListArguments>();
  command->add_option("kind", arguments->kind,
                      "caches, attention, positions or experiments; default: all");
  add_plugin_option(*command, arguments->plugins);
  CLI::Option* json = command->add_flag("--json", arguments->json, "Print one line of JSON");
  command
      ->add_flag("--markdown", arguments->markdown,
                 "Print the catalogue of plugins, as plugins/README.md has it")
      ->excludes(json);
  command->callback([arguments, &invocation] {
    invocation.run = [arguments] { return run_list(*arguments); };
  });
}

}  // namespace kvlab
