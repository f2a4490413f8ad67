#include "kvlab/runtime/row_crossover.h"

#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <sys/resource.h>
#include <torch/headeronly/version.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "kvlab/core/error.h"
#include "kvlab/kernels/linear.h"
#include "kvlab/kernels/target.h"
#include "kvlab/runtime/experiment_config.h"
#include "kvlab/runtime/process.h"

namespace kvlab {

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;

// Counts of tokens to try, and weights per product: enough to hide what a call costs, few enough to
// stay within 0.15 s together.
struct Stage {
  std::vector<int64_t> tokens;
  int64_t weights;
};

// Seconds, one per count of tokens.
using Times = std::vector<double>;

constexpr int64_t kUnmeasured = 16;
constexpr int64_t kMostWhileDisturbed = 64;
constexpr int64_t kWorthMeasuring = int64_t{4} << 20;  // bytes of all layers' weights
constexpr int kLeastRounds = 2, kMostRounds = 7;
constexpr auto kTimePerWay = std::chrono::milliseconds(35);
// The library has to be this much faster to be called so: less is noise.
constexpr double kClearlyFaster = 0.97;
// Switches to another program that a quiet machine may show, at all and per second.
constexpr double kQuietSwitches = 10, kQuietSwitchesPerSecond = 100;

std::vector<Stage> stages() {
  return {{{2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64}, int64_t{1} << 21},
          {{128, 256, 512}, int64_t{1} << 19}};
}

// The first rows of a layer's up projection.
struct Product {
  at::Tensor weight, scales;
  kernels::Matrix matrix;
};

std::vector<Product> products_of(const DecoderWeights& weights, int64_t size) {
  std::vector<Product> products;
  for (const LayerWeights& layer : weights.layers) {
    const int64_t columns = layer.up.size(1);
    const int64_t rows = std::clamp<int64_t>(size / columns, 1, layer.up.size(0));
    Product product;
    product.weight = layer.up.narrow(0, 0, rows);
    product.matrix.codes = product.weight.const_data_ptr();
    product.matrix.rows = rows;
    product.matrix.columns = columns;
    product.matrix.format = kernels::WeightFormat::f32;
    if (weights.type() == at::kBFloat16) product.matrix.format = kernels::WeightFormat::bf16;
    if (weights.type() == at::kChar) {
      product.scales = layer.up_scales.narrow(0, 0, rows);
      product.matrix.format = kernels::WeightFormat::int8;
      product.matrix.scales = static_cast<const uint16_t*>(product.scales.const_data_ptr());
    }
    products.push_back(std::move(product));
  }
  return products;
}

class Stopwatch {
 public:
  Stopwatch(ThreadPool& pool, const std::vector<Product>& products,
            const std::vector<int64_t>& tokens)
      : pool_(pool), products_(products), tokens_(tokens) {
    const kernels::Matrix& largest = products.front().matrix;
    x_.resize(static_cast<size_t>(tokens.back() * largest.columns));
    for (size_t i = 0; i < x_.size(); ++i) x_[i] = std::sin(static_cast<float>(i));
    y_.resize(static_cast<size_t>(tokens.back() * largest.rows));
    if (largest.format == kernels::WeightFormat::int8) {
      decoded_.resize(static_cast<size_t>(largest.rows * largest.columns));
    }
  }

  Times row_kernels() {
    return best_of([&](const Product& product, int64_t tokens) {
      kernels::linear(product.matrix, nullptr, x_.data(), product.matrix.columns, tokens,
                      y_.data(), product.matrix.rows, kernels::Epilogue::store, scratch_, pool_);
    });
  }

  // As the decoder does it, conversions included.
  Times library() {
    return best_of([&](const Product& product, int64_t tokens) {
      const kernels::Matrix& matrix = product.matrix;
      const at::Tensor x = at::from_blob(x_.data(), {tokens, matrix.columns}, at::kFloat);
      at::Tensor y = at::from_blob(y_.data(), {tokens, matrix.rows}, at::kFloat);
      switch (matrix.format) {
        case kernels::WeightFormat::f32: at::mm_out(y, x, product.weight.t()); break;
        case kernels::WeightFormat::bf16:
          y.copy_(at::mm(x.to(at::kBFloat16), product.weight.t()));
          break;
        case kernels::WeightFormat::int8: {
          kernels::decode_rows(matrix, 0, matrix.rows, decoded_.data(), pool_);
          const at::Tensor weight =
              at::from_blob(decoded_.data(), {matrix.rows, matrix.columns}, at::kFloat);
          at::mm_out(y, x, weight.t());
        }
      }
    });
  }

 private:
  template <typename Multiply>
  Times best_of(Multiply multiply) {
    Times best(tokens_.size(), std::numeric_limits<double>::infinity());
    for (const int64_t tokens : tokens_) multiply(next(), tokens);  // the library plans per shape
    const auto end = Clock::now() + kTimePerWay;
    for (int round = 0; round < kMostRounds; ++round) {
      if (round >= kLeastRounds && Clock::now() > end) break;
      for (size_t i = 0; i < tokens_.size(); ++i) {
        const Product& product = next();
        const auto start = Clock::now();
        multiply(product, tokens_[i]);
        best[i] = std::min(best[i], std::chrono::duration<double>(Clock::now() - start).count());
      }
    }
    return best;
  }

  const Product& next() { return products_[turn_++ % products_.size()]; }

  ThreadPool& pool_;
  const std::vector<Product>& products_;
  const std::vector<int64_t>& tokens_;
  std::vector<float> x_, y_, decoded_;
  kernels::LinearScratch scratch_;
  size_t turn_ = 0;
};

int64_t layer_bytes(const DecoderWeights& weights) {
  int64_t bytes = 0;
  for (const LayerWeights& layer : weights.layers) {
    for (const at::Tensor* tensor : {&layer.qkv, &layer.output, &layer.up, &layer.down}) {
      bytes += static_cast<int64_t>(tensor->nbytes());
    }
  }
  return bytes;
}

// All entries that make sense; none where the file is missing or broken.
Json read_entries(const std::string& path) {
  Json kept = Json::object();
  std::ifstream file(path);
  const Json found = Json::parse(file, nullptr, false);
  if (!found.is_object()) return kept;
  for (const auto& [key, value] : found.items()) {
    if (!value.is_number_integer()) continue;
    const auto tokens = value.get<int64_t>();
    if (tokens >= 1 && tokens <= kMostRowTokens) kept[key] = tokens;
  }
  return kept;
}

// One stage's times of both ways.
struct StageTimes {
  Times kernels, library;
};

int64_t fastest_row_tokens(const std::vector<StageTimes>& measured) {
  int64_t most = 1;
  const std::vector<Stage> all = stages();
  for (size_t stage = 0; stage < all.size(); ++stage) {
    for (size_t i = 0; i < all[stage].tokens.size(); ++i) {
      const double kernels = measured[stage].kernels[i];
      if (measured[stage].library[i] < kClearlyFaster * kernels) return most;
      most = all[stage].tokens[i];
    }
  }
  // Both are bound by arithmetic long before; more tokens change nothing.
  return kMostRowTokens;
}

// How often the system took a core from one of this process's threads for another program.
int64_t times_pushed_aside() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_nivcsw;
}

const char* compiler() {
#ifdef __clang__
  return "clang " __clang_version__;
#else
  return "g++ " __VERSION__;
#endif
}

}  // namespace

RowMeasurement measure_row_tokens(const Decoder& decoder, ThreadPool& pool) {
  const std::vector<Stage> all = stages();
  std::vector<std::vector<Product>> products;
  for (const Stage& stage : all) products.push_back(products_of(decoder.weights(), stage.weights));
  std::vector<StageTimes> times(all.size());
  // All of the kernels first: once the library has been called its threads wait by spinning, take
  // cores from the pool's, and nobody could tell them from another program.
  const auto start = Clock::now();
  const int64_t switches = times_pushed_aside();
  for (size_t i = 0; i < all.size(); ++i) {
    times[i].kernels = Stopwatch(pool, products[i], all[i].tokens).row_kernels();
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  const auto pushed = static_cast<double>(times_pushed_aside() - switches);
  for (size_t i = 0; i < all.size(); ++i) {
    times[i].library = Stopwatch(pool, products[i], all[i].tokens).library();
  }
  RowMeasurement measured{fastest_row_tokens(times), false};
  if (pushed > kQuietSwitches + kQuietSwitchesPerSecond * seconds) {
    measured.disturbed = true;
    measured.row_tokens = std::min(measured.row_tokens, kMostWhileDisturbed);
  }
  return measured;
}

RowCrossoverFile RowCrossoverFile::of_user() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  fs::path folder;
  if (cache != nullptr && fs::path(cache).is_absolute()) {
    folder = cache;
  } else if (home != nullptr && fs::path(home).is_absolute()) {
    folder = fs::path(home) / ".cache";
  } else {
    return RowCrossoverFile("");
  }
  return RowCrossoverFile((folder / "kvlab" / "row_crossover.json").string());
}

std::optional<int64_t> RowCrossoverFile::find(const std::string& key) const {
  const Json entries = read_entries(path_);
  const auto found = entries.find(key);
  if (found == entries.end()) return std::nullopt;
  return found->get<int64_t>();
}

void RowCrossoverFile::keep(const std::string& key, int64_t row_tokens) const {
  if (path_.empty()) return;
  Json entries = read_entries(path_);
  entries[key] = row_tokens;
  std::error_code failed;
  fs::create_directories(fs::path(path_).parent_path(), failed);
  const std::string written = path_ + "." + std::to_string(getpid());
  std::ofstream file(written);
  // A CPU's name may hold anything.
  file << entries.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
  file.close();
  if (file) fs::rename(written, path_, failed);
  if (!file || failed) fs::remove(written, failed);
}

std::vector<RowCrossoverFile::Entry> RowCrossoverFile::entries(const std::string& prefix) const {
  std::vector<Entry> found;
  const Json entries = read_entries(path_);
  for (const auto& [key, value] : entries.items()) {
    if (key.starts_with(prefix)) found.push_back({key, value.get<int64_t>()});
  }
  return found;
}

std::string row_crossover_machine(int threads) {
  return detail::concat(cpu_model(), ", ", std::thread::hardware_concurrency(), " processors, ",
                        kernels::target(), ", ", threads, " threads, LibTorch ",
                        TORCH_VERSION, ", kvlab ", KVLAB_VERSION, " ", KVLAB_BUILD_TYPE, " ",
                        compiler(), ": ");
}

std::string row_crossover_key(const Decoder& decoder, int threads) {
  const DecoderWeights& weights = decoder.weights();
  const at::Tensor& up = weights.layers.front().up;
  return detail::concat(row_crossover_machine(threads), dtype_name(weights.type()), " ",
                        up.size(0), "x", up.size(1));
}

int64_t row_token_limit(const Decoder& decoder, ThreadPool& pool, const RowCrossoverFile& file) {
  if (layer_bytes(decoder.weights()) < kWorthMeasuring) return kUnmeasured;
  const std::string key = row_crossover_key(decoder, pool.threads());
  if (const std::optional<int64_t> known = file.find(key)) return *known;
  const RowMeasurement measured = measure_row_tokens(decoder, pool);
  if (!measured.disturbed) file.keep(key, measured.row_tokens);
  return measured.row_tokens;
}

int64_t row_token_limit(const Decoder& decoder, ThreadPool& pool) {
  if (layer_bytes(decoder.weights()) < kWorthMeasuring) return kUnmeasured;
  static std::mutex mutex;
  static std::map<std::string, int64_t> limits;
  const std::string key = row_crossover_key(decoder, pool.threads());
  const std::lock_guard<std::mutex> lock(mutex);
  const auto known = limits.find(key);
  if (known != limits.end()) return known->second;
  const int64_t limit = row_token_limit(decoder, pool, RowCrossoverFile::of_user());
  limits.emplace(key, limit);
  return limit;
}

}  // namespace kvlab
