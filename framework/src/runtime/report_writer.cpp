#include "kvlab/runtime/report_writer.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>
#include <utility>

#include "kvlab/core/error.h"
#include "kvlab/runtime/report_render.h"

extern char** environ;

namespace kvlab {
namespace {

namespace fs = std::filesystem;

constexpr const char* kNotRendered =
    "figures were not rendered: run tools/setup (installs vl-convert-python) and then kvlab report "
    "RUN";
// Sweeps leave the figures of their cases undrawn: there may be thousands.
constexpr const char* kNotAskedFor =
    "Figures are not drawn here; their numbers stand in their place. `kvlab report FOLDER` draws "
    "them: FOLDER is the one that holds this report's folder.";

[[noreturn]] void throw_write_error(const fs::path& path, const std::string& reason) {
  throw UserError(detail::concat("[report.write] cannot write ", path.string(), ": ", reason));
}

void write_file(const fs::path& path, const std::string& text) {
  errno = 0;
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) throw_write_error(path, std::strerror(errno));
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size() &&
                       std::fflush(file) == 0;
  const int reason = errno;
  const bool closed = std::fclose(file) == 0;
  if (!written || !closed) throw_write_error(path, std::strerror(written ? errno : reason));
}

std::string read_file(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

// A folder beside the target that is gone at the end, unless it was renamed into place.
class UnfinishedFolder {
 public:
  explicit UnfinishedFolder(const fs::path& target)
      : path_(target.parent_path() /
              ("." + target.filename().string() + ".writing-" + std::to_string(::getpid()))) {
    std::error_code error;
    fs::remove_all(path_, error);  // left by a killed process with the same number
    fs::create_directories(path_, error);
    if (error) throw_write_error(target, error.message());
  }
  ~UnfinishedFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  UnfinishedFolder(const UnfinishedFolder&) = delete;
  UnfinishedFolder& operator=(const UnfinishedFolder&) = delete;

  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

// Requires that an existing folder is an earlier report: it is deleted when the new one is ready.
void check_target(const fs::path& target) {
  std::error_code error;
  const auto status = fs::symlink_status(target, error);
  if (!fs::exists(status)) return;
  if (!fs::is_directory(status)) throw_write_error(target, "it exists and is not a folder");
  const bool replaceable =
      fs::exists(target / "document.json", error) || fs::is_empty(target, error);
  KVLAB_CHECK(replaceable, "[report.write] ", target.string(),
              " holds files that are no kvlab report: name another folder, or empty it");
}

void move_into_place(const UnfinishedFolder& unfinished, const fs::path& target) {
  std::error_code error;
  const fs::path old = unfinished.path().string() + ".old";
  const bool replacing = fs::exists(target, error);
  fs::remove_all(old, error);
  error.clear();
  if (replacing) fs::rename(target, old, error);
  if (error) throw_write_error(target, error.message());
  fs::rename(unfinished.path(), target, error);
  if (error) {
    std::error_code ignored;
    if (replacing) fs::rename(old, target, ignored);
    throw_write_error(target, error.message());
  }
  fs::remove_all(old, error);
}

struct RendererResult {
  bool succeeded = false;
  std::string message;  ///< what it wrote to standard error, or why it could not run
};

std::string trimmed(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

// Runs the renderer for all figures at once, without a shell.
RendererResult run_renderer(const ReportOptions& options, const fs::path& folder) {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) return {false, std::strerror(errno)};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
  std::vector<std::string> arguments{options.renderer_python, options.renderer_script,
                                     folder.string()};
  std::vector<char*> argv;
  for (auto& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_t child = 0;
  // A bare name, such as python3 in KVLAB_PYTHON, is looked up in PATH.
  const int failure = ::posix_spawnp(&child, arguments[0].c_str(), &actions, nullptr, argv.data(),
                                     environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  if (failure != 0) {
    ::close(ends[0]);
    return {false, "cannot start " + arguments[0] + ": " + std::strerror(failure)};
  }

  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + std::chrono::seconds(options.renderer_timeout_seconds);
  constexpr std::size_t kMostMessage = 4000;
  std::string message;
  bool timed_out = false;
  while (true) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) {
      timed_out = true;
      ::kill(child, SIGKILL);
      break;
    }
    pollfd waiting{ends[0], POLLIN, 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(std::min<long long>(left, 1000)));
    if (ready < 0 && errno != EINTR) break;
    if (ready <= 0) continue;
    char buffer[4096];
    const ssize_t got = ::read(ends[0], buffer, sizeof buffer);
    if (got == 0 || (got < 0 && errno != EINTR)) break;
    if (got > 0 && message.size() < kMostMessage)
      message.append(buffer, static_cast<std::size_t>(got));
  }
  ::close(ends[0]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (message.size() > kMostMessage) message.resize(kMostMessage);
  message = trimmed(message);
  if (timed_out)
    return {false, "stopped after " + std::to_string(options.renderer_timeout_seconds) + " s"};
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {true, message};
  if (message.empty())
    message = WIFEXITED(status) ? "exit code " + std::to_string(WEXITSTATUS(status))
                                : "ended by signal " + std::to_string(WTERMSIG(status));
  return {false, message};
}

bool renderer_exists(const ReportOptions& options) {
  std::error_code error;
  const bool bare_name = options.renderer_python.find('/') == std::string::npos;
  return !options.renderer_python.empty() && !options.renderer_script.empty() &&
         (bare_name || fs::exists(options.renderer_python, error)) &&
         fs::exists(options.renderer_script, error);
}

std::vector<const ReportFigure*> figures_of(const ReportDocument& document) {
  std::vector<const ReportFigure*> figures;
  for (const auto& section : document.sections)
    for (const auto& figure : section.figures) figures.push_back(&figure);
  return figures;
}

RenderedFigures draw_figures(const std::vector<const ReportFigure*>& figures,
                             const fs::path& folder, const ReportOptions& options) {
  RenderedFigures rendered;
  if (figures.empty()) return rendered;
  if (!renderer_exists(options)) {
    const bool asked = !options.renderer_python.empty() || !options.renderer_script.empty();
    rendered.warnings.push_back(asked ? kNotRendered : kNotAskedFor);
    return rendered;
  }
  const RendererResult result = run_renderer(options, folder);
  for (const auto* figure : figures) {
    std::string svg = read_file(folder / (figure->id + ".svg"));
    if (svg.find("<svg") != std::string::npos) rendered.svg.emplace(figure->id, std::move(svg));
  }
  const std::size_t missing = figures.size() - rendered.svg.size();
  if (result.succeeded && missing == 0) return rendered;
  const std::string reason = result.message.empty() ? "" : " The renderer says: " + result.message;
  if (rendered.svg.empty()) {
    rendered.warnings.push_back(kNotRendered + ("." + reason));
  } else {
    rendered.warnings.push_back(std::to_string(missing) + " of " +
                                std::to_string(figures.size()) + " figures were not rendered." +
                                reason);
  }
  return rendered;
}

}  // namespace

ReportOptions find_renderer(const std::string& source_dir) {
  ReportOptions options;
  options.renderer_script = (fs::path(source_dir) / "tools/report/render_figures.py").string();
  const char* chosen = std::getenv("KVLAB_PYTHON");
  const fs::path own = fs::path(source_dir) / ".deps/venv/bin/python";
  std::error_code error;
  if (chosen != nullptr && *chosen != '\0') {
    options.renderer_python = chosen;
  } else if (fs::exists(own, error)) {
    options.renderer_python = own.string();
  }
  return options;
}

WrittenReport write_report(const ReportDocument& document, const std::string& folder,
                           const ReportOptions& options) {
  check_document(document);
  KVLAB_CHECK(!folder.empty(), "[report.write] a folder is needed, got an empty path");
  // Without a trailing slash, so that the last part has a name.
  fs::path target = fs::absolute(folder).lexically_normal();
  if (!target.has_filename()) target = target.parent_path();
  check_target(target);
  const UnfinishedFolder unfinished(target);
  const fs::path& base = unfinished.path();
  std::error_code error;
  fs::create_directories(base / "fig", error);
  if (!error) fs::create_directories(base / "data", error);
  if (error) throw_write_error(target, error.message());

  for (const auto& section : document.sections) {
    for (const auto& table : section.tables)
      write_file(base / "data" / (table.id + ".csv"), to_csv(table));
    for (const auto& figure : section.figures) {
      write_file(base / "data" / (figure.id + ".csv"), figure.csv);
      write_file(base / "fig" / (figure.id + ".vl.json"), figure.vega_lite);
    }
  }
  const auto figures = figures_of(document);
  const RenderedFigures rendered = draw_figures(figures, base / "fig", options);
  write_file(base / "document.json", to_json(document));
  write_file(base / "report.md", render_markdown(document, rendered));
  write_file(base / "index.html", render_html(document, rendered));
  move_into_place(unfinished, target);

  WrittenReport written;
  written.html = (target / "index.html").string();
  written.markdown = (target / "report.md").string();
  written.figures = static_cast<int>(figures.size());
  written.figures_rendered = static_cast<int>(rendered.svg.size());
  written.warnings = rendered.warnings;
  return written;
}

}  // namespace kvlab
