// The hash of a file depends on every byte of it, and a file is read once.
#include "kvlab/runtime/file_hash.h"

#include <gtest/gtest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <random>
#include <set>
#include <string>

#include "kvlab/runtime/process.h"

namespace {

using namespace kvlab;
namespace fs = std::filesystem;

std::string random_bytes(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string bytes(count, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

std::string hash_of(const std::string& bytes) {
  StreamingHash hash;
  hash.add(bytes.data(), bytes.size());
  return hash.text();
}

class FileHash : public testing::Test {
 protected:
  void SetUp() override {
    path_ = (fs::temp_directory_path() / "kvlab-file-hash-XXXXXX").string();
    const int descriptor = mkstemp(path_.data());
    ASSERT_GE(descriptor, 0);
    ::close(descriptor);
  }
  void TearDown() override { fs::remove(path_); }

  void write(const std::string& bytes) const {
    std::ofstream(path_, std::ios::binary) << bytes;
  }

  std::string path_;
};

TEST(StreamingHash, DoesNotDependOnHowTheBytesAreCut) {
  constexpr uint64_t kSeed = 5;
  const std::string bytes = random_bytes(5000, kSeed);
  std::mt19937_64 random(kSeed);
  for (int i = 0; i < 200; ++i) {
    StreamingHash hash;
    for (size_t at = 0; at < bytes.size();) {
      const size_t count = std::min<size_t>(random() % 100, bytes.size() - at);
      hash.add(bytes.data() + at, count);
      at += count;
    }
    ASSERT_EQ(hash.text(), hash_of(bytes)) << "seed " << kSeed << ", cut " << i;
  }
}

TEST(StreamingHash, DiffersForEveryByteBitAndLength) {
  const std::string bytes = random_bytes(200, 6);
  std::set<std::string> hashes = {hash_of(bytes)};
  size_t made = 1;
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit, ++made) {
    std::string changed = bytes;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << bit % 8));
    hashes.insert(hash_of(changed));
  }
  // Two changes must not undo each other either.
  for (size_t first = 56; first < 64; ++first) {
    for (size_t second = 256; second < 320; ++second, ++made) {
      std::string changed = bytes;
      for (const size_t bit : {first, second}) {
        changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << bit % 8));
      }
      hashes.insert(hash_of(changed));
    }
  }
  // Lengths of zeros, which an empty rest must not hide.
  for (size_t length = 0; length < 200; ++length, ++made) {
    hashes.insert(hash_of(std::string(length, '\0')));
  }
  // Stripes that change places, and words that change lanes.
  for (size_t part : {8u, 32u}) {
    std::string changed = bytes;
    for (size_t i = 0; i < part; ++i) std::swap(changed[i], changed[i + part]);
    hashes.insert(hash_of(changed));
    ++made;
  }
  EXPECT_EQ(hashes.size(), made);
}

TEST_F(FileHash, IsThatOfAllItsBytes) {
  const std::string bytes = random_bytes((5 << 20) + 17, 7);
  write(bytes);
  EXPECT_EQ(hash_file(path_), hash_of(bytes));
  std::string changed = bytes;
  changed[changed.size() / 2] ^= 1;
  write(changed);
  EXPECT_EQ(hash_file(path_), hash_of(changed)) << "the same size, a moment later";
  EXPECT_NE(hash_of(changed), hash_of(bytes));
}

TEST_F(FileHash, IsReadAgainWhereItChangedAndNotOtherwise) {
  write(random_bytes(64 << 20, 8));
  const auto seconds = [&] {
    const auto start = std::chrono::steady_clock::now();
    hash_file(path_);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  const double young = seconds();
  ::usleep(3200000);  // until its times can be trusted
  const std::string first = hash_file(path_);
  double known = 1e9;
  for (int i = 0; i < 5; ++i) known = std::min(known, seconds());
  EXPECT_LT(known, young / 10) << "it was read again";
  std::cout << 64 * 1.048576 / young << " MB/s when it is read\n";
  {
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(32 << 20);
    file.put('x').put('y');
  }
  const timespec old[2] = {{1000, 0}, {1000, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, path_.c_str(), old, 0), 0) << "whatever its dates say";
  EXPECT_NE(hash_file(path_), first);
}

TEST_F(FileHash, IsToldApartFromWhatCannotBeRead) {
  EXPECT_EQ(hash_file(path_ + ".none"), "unreadable");
  EXPECT_EQ(hash_file("/dev/zero"), "unreadable") << "it has no end";
  EXPECT_EQ(hash_file(fs::temp_directory_path().string()), "unreadable");
  EXPECT_NE(hash_file(path_), "unreadable") << "an empty file is one";
  fs::remove(path_);
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  EXPECT_EQ(hash_file(path_), "unreadable") << "nobody writes into it";
}

TEST_F(FileHash, StopsWhereTheUserAsksForIt) {
  write(random_bytes(100, 9));
  request_interrupt();
  EXPECT_THROW(hash_file(path_), InterruptedError);
  clear_interrupt();
}

}  // namespace
