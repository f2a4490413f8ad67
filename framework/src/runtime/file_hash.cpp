#include "kvlab/runtime/file_hash.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <map>
#include <mutex>
#include <optional>
#include <string_view>
#include <tuple>
#include <vector>

#include "kvlab/runtime/process.h"
#include "kvlab/runtime/run_folder.h"

namespace kvlab {

namespace {

constexpr size_t kPiece = 1 << 20;
constexpr uint64_t kWordFactor = 0x9FB21C651E98DF25ULL, kLaneFactor = 0xD1342543DE82EF95ULL;
constexpr int64_t kSettledSeconds = 2;  // more than the tick of any clock of a file system

int64_t nanoseconds(const timespec& time) {
  return static_cast<int64_t>(time.tv_sec) * 1000000000 + time.tv_nsec;
}

/// A file in the state in which it was seen. Times of change are the system's and cannot be set.
using Seen = std::tuple<dev_t, ino_t, off_t, int64_t, int64_t>;

Seen seen(const struct stat& facts) {
  return {facts.st_dev, facts.st_ino, facts.st_size, nanoseconds(facts.st_mtim),
          nanoseconds(facts.st_ctim)};
}

// A file that was written a moment ago may be written again without its times telling.
bool is_settled(const struct stat& facts) {
  return std::time(nullptr) - facts.st_ctim.tv_sec > kSettledSeconds;
}

/// What this process has hashed.
class KnownHashes {
 public:
  std::optional<std::string> find(const Seen& file) {
    const std::lock_guard lock(mutex_);
    const auto found = hashes_.find(file);
    if (found == hashes_.end()) return std::nullopt;
    return found->second;
  }

  void keep(const Seen& file, const std::string& hash) {
    const std::lock_guard lock(mutex_);
    hashes_[file] = hash;
  }

 private:
  std::mutex mutex_;
  std::map<Seen, std::string> hashes_;
};

KnownHashes& known_hashes() {
  static KnownHashes known;
  return known;
}

/// Owns a descriptor.
struct OpenForReading {
  explicit OpenForReading(const std::string& path)
      : descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  ~OpenForReading() {
    if (descriptor >= 0) ::close(descriptor);
  }
  OpenForReading(const OpenForReading&) = delete;
  OpenForReading& operator=(const OpenForReading&) = delete;

  int descriptor;
};

// Nothing where a read fails.
std::optional<std::string> hash_bytes(int descriptor) {
  StreamingHash hash;
  std::vector<char> piece(kPiece);
  while (true) {
    check_interrupted();
    const ssize_t count = ::read(descriptor, piece.data(), piece.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return std::nullopt;
    if (count == 0) return hash.text();
    hash.add(piece.data(), static_cast<size_t>(count));
  }
}

}  // namespace

void StreamingHash::mix(const char* stripe) {
  // Each step can be undone, given the word or given the lane: two different words never lead to
  // the same lane, and lanes that differ stay different. The word is multiplied on its own, or its
  // highest bits would come out as single bits, which a bit of the next word could undo.
  for (size_t i = 0; i < kLanes; ++i) {
    uint64_t word;
    std::memcpy(&word, stripe + i * sizeof word, sizeof word);
    lanes_[i] = std::rotl(lanes_[i] + word * kWordFactor, 31) * kLaneFactor;
  }
}

void StreamingHash::add(const char* bytes, size_t count) {
  total_ += count;
  if (rest_count_ > 0) {
    const size_t taken = std::min(count, kStripe - rest_count_);
    std::memcpy(rest_ + rest_count_, bytes, taken);
    rest_count_ += taken;
    bytes += taken;
    count -= taken;
    if (rest_count_ < kStripe) return;
    mix(rest_);
    rest_count_ = 0;
  }
  for (; count >= kStripe; bytes += kStripe, count -= kStripe) mix(bytes);
  std::memcpy(rest_, bytes, count);
  rest_count_ = count;
}

std::string StreamingHash::text() const {
  char all[sizeof lanes_ + kStripe + sizeof total_];
  std::memcpy(all, lanes_, sizeof lanes_);
  std::memcpy(all + sizeof lanes_, &total_, sizeof total_);
  std::memcpy(all + sizeof lanes_ + sizeof total_, rest_, rest_count_);
  return hash_text(std::string_view(all, sizeof lanes_ + sizeof total_ + rest_count_));
}

std::string hash_file(const std::string& path) {
  const OpenForReading file(path);
  struct stat before {}, after {};
  if (file.descriptor < 0 || ::fstat(file.descriptor, &before) != 0 || !S_ISREG(before.st_mode)) {
    return "unreadable";
  }
  if (const auto known = known_hashes().find(seen(before))) return *known;
  const std::optional<std::string> hash = hash_bytes(file.descriptor);
  if (!hash) return "unreadable";
  const bool is_same = ::fstat(file.descriptor, &after) == 0 && seen(before) == seen(after);
  if (is_same && is_settled(before)) known_hashes().keep(seen(before), *hash);
  return *hash;
}

}  // namespace kvlab
