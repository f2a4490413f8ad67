// Files and folders that the command line names for output, looked at before any work.
#pragma once

#include <string>

namespace kvlab {

/// Throws UserError "[command_line.<option>] ..." where no file can be written at `path`: its folder
/// is missing or takes no files, or a folder has that name. Leaves nothing behind.
void check_output_file(const std::string& option, const std::string& path);

/// The same of a folder, which may have to be made with those above it.
void check_output_folder(const std::string& option, const std::string& path);

}  // namespace kvlab
