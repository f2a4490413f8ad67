// What a report says about the machine and the build.
#include <fmt/format.h>
#include <sys/utsname.h>
#include <torch/headeronly/version.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <thread>

#include "kvlab/kernels/target.h"
#include "kvlab/runtime/process.h"
#include "kvlab/runtime/row_crossover.h"
#include "kvlab/runtime/run_folder.h"
#include "kvlab/runtime/session.h"

namespace kvlab {

namespace {

std::string cpu_flags() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with("flags")) return line.substr(line.find(':') + 1);
  }
  return "";
}

// The instruction sets that matter to these kernels.
std::string instruction_sets() {
  std::istringstream flags(cpu_flags());
  std::string found, flag;
  while (flags >> flag) {
    for (const char* known : {"sse4_2", "avx2", "fma", "f16c", "avx512f", "avx512bw",
                              "avx512_vnni", "avx512_bf16", "amx_bf16"}) {
      if (flag == known) found += (found.empty() ? "" : " ") + flag;
    }
  }
  return found.empty() ? "unknown" : found;
}

// Which of "always madvise never" is chosen.
std::string huge_page_setting() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string line;
  std::getline(file, line);
  const size_t begin = line.find('['), end = line.find(']');
  if (begin == std::string::npos || end == std::string::npos) return "unknown";
  return line.substr(begin + 1, end - begin - 1);
}

// What the file of this machine says for sessions whose `row_tokens` is 0: "16 tokens (f32
// 3072x576), ...". It names every model measured so far.
std::string measured_row_tokens() {
  const std::string machine = row_crossover_machine(threads());
  std::string text;
  for (const auto& [key, tokens] : RowCrossoverFile::of_user().entries(machine)) {
    const std::string limit = tokens == kMostRowTokens ? "all (library not faster up to 512)"
                                                       : fmt::format("{} tokens", tokens);
    text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", limit, key.substr(machine.size()));
  }
  return text.empty() ? "not measured" : text;
}

// Output of a fixed command; empty where it fails.
std::string output_of(const char* command) {
  FILE* pipe = popen(command, "r");
  if (pipe == nullptr) return "";
  std::string text;
  char buffer[256];
  while (std::fgets(buffer, sizeof buffer, pipe) != nullptr) text += buffer;
  const int status = pclose(pipe);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return status == 0 ? text : "";
}

std::string git_state() {
  const std::string commit =
      output_of("git -C \"" KVLAB_SOURCE_DIR "\" rev-parse --short=12 HEAD 2>/dev/null");
  if (commit.empty()) return "not a git checkout";
  const std::string changed =
      output_of("git -C \"" KVLAB_SOURCE_DIR "\" status --porcelain 2>/dev/null | head -n 1");
  return commit + (changed.empty() ? "" : " with uncommitted changes");
}

template <typename Entry>
std::string names_of(const std::vector<Entry>& entries) {
  std::string names;
  for (const Entry& entry : entries) names += (names.empty() ? "" : ", ") + entry.info.name;
  return names;
}

}  // namespace

std::vector<ReportFact> describe_environment(const Registry& registry) {
  utsname system{};
  uname(&system);
  double load[3] = {0, 0, 0};
  (void)getloadavg(load, 3);
  std::vector<ReportFact> facts = {
      {"kvlab", KVLAB_VERSION},
      {"source", git_state()},
      {"build type", KVLAB_BUILD_TYPE},
#ifdef __clang__
      {"compiler", "clang " __clang_version__},
#else
      {"compiler", "g++ " __VERSION__},
#endif
      {"LibTorch", TORCH_VERSION},
      {"system", fmt::format("{} {} {}", system.sysname, system.release, system.machine)},
      {"CPU", cpu_model()},
      {"instruction sets", instruction_sets()},
      {"instruction set of the kernels", kernels::target()},
      {"hardware threads", std::to_string(std::thread::hardware_concurrency())},
      {"threads used", std::to_string(threads())},
      {"row_tokens measured on this machine", measured_row_tokens()},
      {"transparent huge pages", huge_page_setting()},
      {"memory available", fmt::format("{:.1f} GB", static_cast<double>(available_memory()) / 1e9)},
      {"load (1, 5, 15 min)", fmt::format("{:.2f} {:.2f} {:.2f}", load[0], load[1], load[2])},
      {"caches", names_of(registry.caches())},
      {"attention", names_of(registry.attentions())},
      {"positions", names_of(registry.positions())},
  };
  for (const LoadedPlugin& plugin : registry.plugins()) {
    facts.push_back({"plugin " + plugin.name, fmt::format("version {}, {}, hash {}", plugin.version,
                                                          plugin.file, plugin.hash)});
  }
  return facts;
}

std::string fingerprint_file(const std::string& path) {
  constexpr std::streamoff kEnd = 1 << 20;
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return "unreadable";
  const std::streamoff size = file.tellg();
  std::string bytes = std::to_string(size);
  const auto append = [&](std::streamoff from, std::streamoff count) {
    std::string part(static_cast<size_t>(count), '\0');
    file.seekg(from);
    file.read(part.data(), count);
    bytes += part;
  };
  append(0, std::min(size, kEnd));
  append(std::max<std::streamoff>(0, size - kEnd), std::min(size, kEnd));
  return hash_text(bytes);
}

}  // namespace kvlab
