#include "output_path.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "kvlab/core/error.h"

namespace kvlab {

namespace {

namespace fs = std::filesystem;

// A file is made and removed: permissions alone do not say it, e.g. of /proc to its superuser.
void check_takes_files(const std::string& option, const fs::path& folder, const std::string& path) {
  std::string probe = (folder / ".kvlab-XXXXXX").string();
  const int descriptor = mkostemp(probe.data(), O_CLOEXEC);
  if (descriptor >= 0) {
    close(descriptor);
    unlink(probe.c_str());
    return;
  }
  throw UserError(detail::concat("[command_line.", option, "] '", path,
                                 "' cannot be written: the folder '", folder.string(),
                                 "' takes no files (", std::strerror(errno), ")"));
}

}  // namespace

void check_output_file(const std::string& option, const std::string& path) {
  std::error_code ignored;
  KVLAB_CHECK(!path.empty(), "[command_line.", option, "] the name of the file is empty");
  KVLAB_CHECK(!fs::is_directory(path, ignored), "[command_line.", option, "] '", path,
              "' is a folder; name a file");
  const fs::path parent = fs::path(path).parent_path();
  const fs::path folder = parent.empty() ? fs::path(".") : parent;
  KVLAB_CHECK(fs::is_directory(folder, ignored), "[command_line.", option, "] '", path,
              "' cannot be written: there is no folder '", folder.string(), "'; make it first");
  check_takes_files(option, folder, path);
}

void check_output_folder(const std::string& option, const std::string& path) {
  std::error_code ignored;
  KVLAB_CHECK(!path.empty(), "[command_line.", option, "] the name of the folder is empty");
  // The lowest one that is there must take what is not.
  fs::path existing = fs::absolute(path, ignored);
  while (!fs::exists(existing, ignored) && existing.has_relative_path()) {
    existing = existing.parent_path();
  }
  KVLAB_CHECK(fs::is_directory(existing, ignored), "[command_line.", option, "] the folder '", path,
              "' cannot be made: '", existing.string(), "' is a file; name another folder");
  check_takes_files(option, existing, path);
}

}  // namespace kvlab
