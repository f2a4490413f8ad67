#include "kvlab/sweep/slurm_launcher.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <filesystem>

#include "kvlab/core/error.h"
#include "kvlab/runtime/config_reader.h"
#include "kvlab/runtime/experiment.h"
#include "kvlab/runtime/shell_command.h"

namespace kvlab {

namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostTasks = 1000;

// A value of a line that sbatch reads, which no shell has seen.
std::string checked_option(const char* name, const std::string& value, const char* allowed) {
  const bool good = std::all_of(value.begin(), value.end(), [&](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || std::string_view(allowed).find(c) != std::string_view::npos;
  });
  KVLAB_CHECK(good && !value.starts_with('-'), "[sweep.slurm] ", name, " '", value,
              "': wanted letters, digits and any of '", allowed, "'");
  return value;
}

// A path in a line that sbatch reads: quoted, and % stands for itself.
std::string directive_path(const std::string& path) {
  KVLAB_CHECK(path.find_first_of("\"\n\\") == std::string::npos, "[sweep.slurm] '", path,
              "': Slurm takes no path with quotes, backslashes or line ends; choose another --runs");
  std::string text;
  for (const char c : path) text += c == '%' ? std::string("%%") : std::string(1, c);
  return "\"" + text + "\"";
}

// Threads that the frozen config states; where it states none, it takes those it is given.
int64_t threads_of(const SweepFolder& sweep, const SweepCase& planned) {
  const ConfigNode root = load_config_file(sweep.config_of(planned));
  const ConfigNode* runtime = root.find("runtime");
  if (runtime == nullptr || !runtime->is_map()) return 1;
  ConfigReader reader(*runtime);
  return reader.integer_or("threads", 1);
}

int64_t cpus_for(const SweepFolder& sweep, const std::vector<const SweepCase*>& cases,
                 const SlurmOptions& options) {
  int64_t most = 1;
  for (const SweepCase* planned : cases) {
    const int64_t threads = threads_of(sweep, *planned);
    KVLAB_CHECK(options.cpus_per_task == 0 || threads <= options.cpus_per_task,
                "[sweep.slurm] case ", planned->index, " (", planned->name, ") runs ", threads,
                " threads, --cpus-per-task gives it ", options.cpus_per_task,
                ". Ask for as many, or lower runtime.threads");
    most = std::max(most, threads);
  }
  return options.cpus_per_task > 0 ? options.cpus_per_task : most;
}

// What `command` prints; throws with it where it fails.
std::string output_of(const std::string& command) {
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  KVLAB_CHECK(pipe != nullptr, "[sweep.slurm] cannot start a shell for: ", command);
  std::string text;
  char buffer[256];
  while (std::fgets(buffer, sizeof buffer, pipe) != nullptr) text += buffer;
  const int status = ::pclose(pipe);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  KVLAB_CHECK(status == 0, "[sweep.slurm] ", command, " failed: ", text,
              ". The scripts stay in the sweep's folder; correct the options and give them again "
              "with --resume");
  return text;
}

// The job's number, which `sbatch --parsable` prints alone or before a cluster's name. A warning may
// stand on lines before it.
std::string submit(const std::string& script, const std::string& dependency) {
  std::string command = "sbatch --parsable";
  if (!dependency.empty()) command += " --dependency=afterany:" + dependency;
  const std::string text = output_of(command + " " + shell_word(script));
  std::string job = text.substr(text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1);
  job = job.substr(0, job.find(';'));
  KVLAB_CHECK(!job.empty() && job.find_first_not_of("0123456789") == std::string::npos,
              "[sweep.slurm] sbatch named no job: ", text);
  return job;
}

}  // namespace

std::string number_ranges(const std::vector<int64_t>& numbers) {
  std::string text;
  for (size_t i = 0; i < numbers.size();) {
    size_t last = i;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
    text += (text.empty() ? "" : ",") + std::to_string(numbers[i]);
    if (last > i) text += "-" + std::to_string(numbers[last]);
    i = last + 1;
  }
  return text;
}

std::vector<SlurmScript> slurm_scripts(const SweepFolder& sweep, const SlurmOptions& options,
                                       const std::string& program,
                                       const std::string& working_folder) {
  std::vector<const SweepCase*> missing;
  for (const SweepCase& planned : sweep.plan().cases) {
    if (sweep.state(planned).status == CaseStatus::missing) missing.push_back(&planned);
  }
  KVLAB_CHECK(!missing.empty(), "[sweep.slurm] no case of '", sweep.path(),
              "' is missing. kvlab worker SWEEP --aggregate merges them");
  KVLAB_CHECK_GE(options.array_parallelism, 0, "[sweep.slurm] --array-parallelism");
  KVLAB_CHECK_GE(options.cpus_per_task, 0, "[sweep.slurm] --cpus-per-task");
  const std::string folder = fs::absolute(sweep.path()).lexically_normal().string();
  const std::string name = "kvlab-" + fs::path(folder).filename().string();
  std::string settings;
  if (!options.partition.empty()) {
    settings += "#SBATCH --partition=" +
                checked_option("--partition", options.partition, "_-,.") + "\n";
  }
  const std::string time =
      options.time.empty() ? ""
                           : "#SBATCH --time=" + checked_option("--time", options.time, ":-") + "\n";
  const std::string start = "set -u\ncd " + shell_word(working_folder) + " || exit 1\nexec " +
                            shell_word(program) + " worker " + shell_word(folder);
  const int64_t cpus = cpus_for(sweep, missing, options);
  const int64_t last_chunk = missing.back()->index / kMostTasks;
  std::vector<SlurmScript> scripts;
  for (int64_t chunk = 0; chunk <= last_chunk; ++chunk) {
    std::vector<int64_t> tasks;
    for (const SweepCase* planned : missing) {
      if (planned->index / kMostTasks == chunk) tasks.push_back(planned->index % kMostTasks);
    }
    if (tasks.empty()) continue;
    std::string array = number_ranges(tasks);
    if (options.array_parallelism > 0) array += detail::concat("%", options.array_parallelism);
    const std::string log = folder + detail::concat("/slurm/cases-", chunk, "-");
    // The pattern %a is Slurm's, so it is added after the path's own signs were doubled.
    std::string output = directive_path(log);
    output.insert(output.size() - 1, "%a.log");
    scripts.push_back(
        {detail::concat("cases-", chunk, ".sh"),
         detail::concat("#!/bin/bash\n#SBATCH --job-name=", name, "\n#SBATCH --array=", array, "\n",
                        settings, time, "#SBATCH --cpus-per-task=", cpus,
                        "\n#SBATCH --output=", output, "\n", start,
                        " --index \"$((SLURM_ARRAY_TASK_ID + ", chunk * kMostTasks, "))\"\n")});
  }
  scripts.push_back({"aggregate.sh",
                     detail::concat("#!/bin/bash\n#SBATCH --job-name=", name, "-table\n", settings,
                                    "#SBATCH --cpus-per-task=1\n#SBATCH --output=",
                                    directive_path(folder + "/slurm/aggregate.log"), "\n", start,
                                    " --aggregate\n")});
  return scripts;
}

void launch_on_slurm(const SweepFolder& sweep, const SlurmOptions& options, std::ostream& out) {
  const std::string program = fs::read_symlink(kThisProgram).string();
  const std::vector<SlurmScript> scripts =
      slurm_scripts(sweep, options, program, fs::current_path().string());
  const std::string folder = sweep.file("slurm");
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) create_folder_durably(folder);
  for (const SlurmScript& script : scripts) {
    write_file_atomically(folder + "/" + script.name, script.text);
    if (options.emit_only) out << "# " << folder << "/" << script.name << "\n" << script.text << "\n";
  }
  if (options.emit_only) return;
  std::string jobs, before;
  for (const SlurmScript& script : scripts) {
    const bool merges = &script == &scripts.back();
    // Arrays wait for each other, so that together they keep to the parallelism that was asked for.
    std::string job;
    try {
      job = submit(folder + "/" + script.name, merges ? jobs : before);
    } catch (const UserError& error) {
      if (jobs.empty()) throw;
      throw UserError(detail::concat(error.what(), ". Jobs submitted before: ", jobs));
    }
    out << "job " << job << ": " << script.name << "\n" << std::flush;
    before = job;
    jobs += (jobs.empty() ? "" : ":") + job;
  }
}

}  // namespace kvlab
