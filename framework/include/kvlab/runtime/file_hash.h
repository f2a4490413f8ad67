// A hash over all bytes of a file, at the speed at which a file that is in memory can be read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace kvlab {

/// A 64-bit hash of bytes that come in pieces; how they are cut does not matter. It notices changes,
/// every one of up to eight neighbouring bytes among them; it stops nobody who wants to deceive.
class StreamingHash {
 public:
  void add(const char* bytes, size_t count);

  /// The hash of what was added so far, as 16 hex digits.
  std::string text() const;

 private:
  static constexpr size_t kLanes = 4, kStripe = kLanes * sizeof(uint64_t);
  void mix(const char* stripe);

  uint64_t lanes_[kLanes] = {0x9E3779B97F4A7C15ULL, 0xC2B2AE3D27D4EB4FULL, 0x165667B19E3779F9ULL,
                             0xD6E8FEB86659FD93ULL};
  char rest_[kStripe] = {};  // fewer than a stripe
  size_t rest_count_ = 0;
  uint64_t total_ = 0;
};

/// The hash of all bytes of a file; "unreadable" where there is none to read. A file that has not
/// changed since this process hashed it is not read again. Throws InterruptedError.
std::string hash_file(const std::string& path);

}  // namespace kvlab
