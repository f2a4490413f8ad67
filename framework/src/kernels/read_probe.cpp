#include "kvlab/kernels/read_probe.h"

#include <sys/mman.h>

#include <chrono>
#include <cstdint>
#include <limits>
#include <vector>

#include "kvlab/core/error.h"
#include "target_choice.h"

// Compiled once per instruction set: foreach_target.h includes this file again for each.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "../src/kernels/read_probe.cpp"
#include <hwy/foreach_target.h>

#include <hwy/cache_control.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kvlab::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// Cache lines that one round of the loop takes from each stream.
constexpr int64_t kLines = 4;
constexpr int64_t kWordsPerLine = 8;
// How far ahead lines are asked for, in words: 2 KiB.
constexpr int64_t kAhead = 256;

// Sum of the words, read at kStreams places in turn. `words` is a multiple of
// kStreams * kLines * kWordsPerLine.
template <int kStreams, bool kPrefetch>
uint64_t sum_of(const uint64_t* data, int64_t words) {
  const hn::ScalableTag<uint64_t> d;
  using Vector = hn::Vec<decltype(d)>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t length = words / kStreams;
  // Four sums, so that an addition waits for none of the last three.
  Vector s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  for (int64_t begin = 0; begin < length; begin += kLines * kWordsPerLine) {
    for (int stream = 0; stream < kStreams; ++stream) {
      const uint64_t* from = data + stream * length + begin;
      if constexpr (kPrefetch) {
        for (int64_t line = 0; line < kLines; ++line) {
          hwy::Prefetch(from + kAhead + line * kWordsPerLine);
        }
      }
      const uint64_t* const end = from + kLines * kWordsPerLine;
      for (; from < end; from += 4 * lanes) {
        s0 = hn::Add(s0, hn::Load(d, from));
        s1 = hn::Add(s1, hn::Load(d, from + lanes));
        s2 = hn::Add(s2, hn::Load(d, from + 2 * lanes));
        s3 = hn::Add(s3, hn::Load(d, from + 3 * lanes));
      }
    }
  }
  // Not SumOfLanes: g++ adds the lanes as signed numbers, which the sanitizers refuse to overflow.
  HWY_ALIGN uint64_t lane_sums[hn::MaxLanes(d)];
  hn::Store(hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)), d, lane_sums);
  uint64_t sum = 0;
  for (int64_t lane = 0; lane < lanes; ++lane) sum += lane_sums[lane];
  return sum;
}

template <bool kPrefetch>
uint64_t sum_of_streams(const uint64_t* data, int64_t words, int streams) {
  switch (streams) {
    case 1: return sum_of<1, kPrefetch>(data, words);
    case 2: return sum_of<2, kPrefetch>(data, words);
    default: return sum_of<4, kPrefetch>(data, words);
  }
}

uint64_t read_words(const uint64_t* data, int64_t words, int streams, bool prefetch) {
  return prefetch ? sum_of_streams<true>(data, words, streams)
                  : sum_of_streams<false>(data, words, streams);
}

}  // namespace
}  // namespace kvlab::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvlab::kernels {

namespace {

HWY_EXPORT(read_words);

constexpr int64_t kHugePage = int64_t{2} << 20;
// What a thread takes at a time where the memory is dealt out: short enough to share well.
constexpr int64_t kPieceBytes = int64_t{1} << 20;
constexpr int64_t kWordBytes = static_cast<int64_t>(sizeof(uint64_t));

// Word i holds i * kStep, so the sum of all is known without reading.
constexpr uint64_t kStep = 0x9e3779b97f4a7c15;

uint64_t sum_of_first(uint64_t words) {
  const uint64_t pairs = words % 2 == 0 ? words / 2 * (words - 1) : (words - 1) / 2 * words;
  return pairs * kStep;
}

struct Loop {
  int streams;
  bool prefetch;
  bool dealt;  ///< pieces go to whoever is free; else one run of memory per thread
};

std::string name_of(const Loop& loop) {
  return std::to_string(loop.streams) + (loop.streams == 1 ? " stream" : " streams") +
         (loop.prefetch ? ", prefetch" : "") + (loop.dealt ? ", dealt pieces" : "");
}

std::vector<Loop> all_loops() {
  std::vector<Loop> loops;
  for (const bool dealt : {false, true}) {
    for (const bool prefetch : {false, true}) {
      for (const int streams : {1, 2, 4}) loops.push_back({streams, prefetch, dealt});
    }
  }
  return loops;
}

}  // namespace

struct ReadProbe::Impl {
  explicit Impl(int64_t wanted) {
    KVLAB_CHECK_GE(wanted, 1, "[kernels.read_probe] bytes to read");
    if (wanted <= std::numeric_limits<int64_t>::max() - 2 * kHugePage) {
      bytes = (wanted + kHugePage - 1) / kHugePage * kHugePage;
      mapped_bytes = static_cast<size_t>(bytes + kHugePage);
      mapped =
          mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    if (mapped == MAP_FAILED) {
      throw CapacityError(detail::concat("[kernels.read_probe] the system has no ", wanted,
                                         " bytes of memory to read. Ask for fewer"));
    }
    const auto address = reinterpret_cast<uintptr_t>(mapped);
    const uintptr_t page = kHugePage;
    data = reinterpret_cast<uint64_t*>((address + page - 1) / page * page);
    madvise(data, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // a refusal costs speed only
    // Pages never written are all the same page of zeros, which stays in the cache.
    for (int64_t i = 0; i < words(); ++i) data[i] = static_cast<uint64_t>(i) * kStep;
  }
  ~Impl() { munmap(mapped, mapped_bytes); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  int64_t words() const { return bytes / kWordBytes; }

  // Reads everything once. Returns the seconds.
  double seconds_of(const Loop& loop, ThreadPool& threads) {
    const int64_t pieces = bytes / kPieceBytes;
    const int64_t items = loop.dealt ? pieces : threads.threads();
    sums.assign(static_cast<size_t>(items), 0);
    const auto start = std::chrono::steady_clock::now();
    threads.for_each(items, [&](int64_t item, int /*thread*/) {
      const int64_t first = pieces * item / items, end = pieces * (item + 1) / items;
      constexpr int64_t kPieceWords = kPieceBytes / kWordBytes;
      sums[static_cast<size_t>(item)] = HWY_DYNAMIC_DISPATCH(read_words)(
          data + first * kPieceWords, (end - first) * kPieceWords, loop.streams, loop.prefetch);
    });
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    uint64_t total = 0;
    for (const uint64_t sum : sums) total += sum;
    KVLAB_INVARIANT(total == sum_of_first(static_cast<uint64_t>(words())), "[kernels.read_probe] '",
                    name_of(loop), "' did not read every byte once");
    return seconds.count();
  }

  uint64_t* data = nullptr;
  int64_t bytes = 0;
  void* mapped = MAP_FAILED;
  size_t mapped_bytes = 0;
  std::vector<uint64_t> sums;  // one of each item
};

ReadProbe::ReadProbe(int64_t bytes) : impl_(std::make_unique<Impl>(bytes)) {}

ReadProbe::~ReadProbe() = default;

ReadSpeed ReadProbe::measure(ThreadPool& threads, int rounds) {
  KVLAB_CHECK_GE(rounds, 1, "[kernels.read_probe] rounds");
  ReadSpeed best;
  for (int round = 0; round < rounds; ++round) {
    for (const Loop& loop : all_loops()) {
      const double speed = static_cast<double>(impl_->bytes) / impl_->seconds_of(loop, threads);
      if (speed > best.bytes_per_second) best = {speed, name_of(loop)};
    }
  }
  return best;
}

}  // namespace kvlab::kernels
#endif  // HWY_ONCE
