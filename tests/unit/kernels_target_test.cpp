// Choosing the instruction set of the kernels.
#include "kvlab/kernels/target.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "kvlab/core/error.h"
#include "kvlab/kernels/elementwise.h"
#include "kvlab/kernels/linear.h"

namespace kvlab::kernels {
namespace {

class KernelsTarget : public testing::Test {
 protected:
  void TearDown() override { use_target(""); }
};

// Rounding differs between the numbers of lanes, so that the bits tell which kernel ran.
std::vector<float> rounded_sums() {
  constexpr int64_t kColumns = 512, kRows = 64;
  std::vector<float> weights(kRows * kColumns), x(kColumns), y(kRows);
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = 1.0F / static_cast<float>(i % 977 + 1);
  for (size_t i = 0; i < x.size(); ++i) x[i] = 1.0F / static_cast<float>(i % 31 + 3);
  Matrix matrix;
  matrix.codes = weights.data();
  matrix.rows = kRows;
  matrix.columns = kColumns;
  LinearScratch scratch;
  ThreadPool pool(1);
  linear(matrix, nullptr, x.data(), kColumns, 1, y.data(), kRows, Epilogue::store, scratch, pool);
  return y;
}

TEST_F(KernelsTarget, TheBestIsUsedUnlessAnotherIsChosen) {
  ASSERT_FALSE(available_targets().empty());
  EXPECT_EQ(target(), available_targets().front());
  use_target(available_targets().back());
  EXPECT_EQ(target(), available_targets().back());
  use_target("");
  EXPECT_EQ(target(), available_targets().front());
}

TEST_F(KernelsTarget, ChoosingOneLeavesTheOthersAvailable) {
  const std::vector<std::string> all = available_targets();
  EXPECT_EQ(std::set<std::string>(all.begin(), all.end()).size(), all.size());
  for (const std::string& name : all) {
    use_target(name);
    EXPECT_EQ(target(), name);
    EXPECT_EQ(available_targets(), all);
  }
}

TEST_F(KernelsTarget, KernelsFollowTheChoiceUpAndDown) {
  const std::vector<std::string> all = available_targets();
  std::vector<std::vector<float>> sums;
  for (const std::string& name : all) {
    use_target(name);
    sums.push_back(rounded_sums());
  }
  // The last needs no instruction set; where it imitates the smallest vectors, its bits are theirs.
  for (size_t i = 1; i + 1 < all.size(); ++i) {
    EXPECT_NE(sums[i], sums[i - 1]) << all[i] << " ran as " << all[i - 1];
  }
  for (size_t i = all.size(); i-- > 0;) {
    use_target(all[i]);
    EXPECT_EQ(rounded_sums(), sums[i]) << all[i];
  }
}

TEST_F(KernelsTarget, AnUnknownNameIsRefusedWithTheKnownOnes) {
  const std::string before = target();
  try {
    use_target("MMX");
    FAIL() << "MMX was accepted";
  } catch (const UserError& error) {
    const std::string text = error.what();
    EXPECT_TRUE(text.starts_with("[kernels.target] no instruction set \"MMX\" here. Use one of "))
        << text;
    for (const std::string& name : available_targets()) {
      EXPECT_NE(text.find(name), std::string::npos) << text;
    }
  }
  EXPECT_EQ(target(), before);
}

}  // namespace
}  // namespace kvlab::kernels
