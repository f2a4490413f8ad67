// Files that are on the disk once a function returns, under their names only when complete.
#pragma once

#include <string>
#include <string_view>

#include "kvlab/core/error.h"

namespace kvlab {

/// The disk is full, or refuses. What was complete before is complete still.
class StorageError : public Error {
 public:
  using Error::Error;
};

/// Throws StorageError from `errno`, with the operation and the path.
[[noreturn]] void fail_storage(const char* operation, const std::string& path);

/// Writes `text` to `path` so that a reader sees the old file or the whole new one, also after a
/// power cut: a temporary name, fsync, rename, fsync of the folder. Throws StorageError.
void write_file_atomically(const std::string& path, std::string_view text);

/// Appends to a file and flushes it to the disk. Throws StorageError.
void append_durably(const std::string& path, std::string_view text);

/// Renames within one file system so that the new name outlives a power cut. `to` must not exist
/// where it is a folder. Throws StorageError.
void rename_durably(const std::string& from, const std::string& to);

/// Creates one folder that does not exist. Throws StorageError.
void create_folder_durably(const std::string& path);

/// Flushes the list of names of a folder. Throws StorageError.
void sync_folder(const std::string& path);

/// Flushes every file and folder at and below `path`. Throws StorageError.
void sync_tree(const std::string& path);

/// The whole file as text. Throws StorageError where it cannot be read.
std::string read_file(const std::string& path);

/// The time in UTC in a format of strftime.
std::string utc_now(const char* format = "%Y-%m-%dT%H:%M:%SZ");

}  // namespace kvlab
