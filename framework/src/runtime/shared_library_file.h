// Looks at a shared library's headers before the system's loader maps it: what the headers promise
// and the file does not hold would end the process with SIGBUS. Private.
#pragma once

#include <string>

namespace kvlab {

/// Throws PluginError "FILE: what is wrong; what to do" unless the regular file `path` is a
/// complete ELF shared library for this machine.
void check_shared_library_file(const std::string& path);

}  // namespace kvlab
