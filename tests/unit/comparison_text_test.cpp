#include "kvlab/runtime/comparison_text.h"

#include <gtest/gtest.h>

#include "kvlab/runtime/verdict_words.h"

namespace kvlab {
namespace {

Comparison comparison(Verdict verdict, double ratio, double low, double high) {
  Comparison found;
  found.verdict = verdict;
  found.ratio.ratio = ratio;
  found.ratio.low = low;
  found.ratio.high = high;
  found.reason = "why";
  return found;
}

TEST(ComparisonText, SaysRatioIntervalAndVerdict) {
  EXPECT_EQ(comparison_text("paged64", "preallocated",
                            comparison(Verdict::not_distinguishable, 1.02, 0.99, 1.05)),
            "paged64 is 1.02x [0.99, 1.05] of preallocated: not distinguishable");
  EXPECT_EQ(comparison_text("paged64", "preallocated",
                            comparison(Verdict::not_distinguishable, 1.02, 1.01, 1.05), "TTFT"),
            "paged64 is 1.02x [1.01, 1.05] of preallocated by TTFT: not distinguishable (why)")
      << "the interval alone does not say it";
  EXPECT_EQ(comparison_text("a", "b", comparison(Verdict::refused, 1.02, 0.99, 1.05)),
            "a is 1.02x [0.99, 1.05] of b: refused (why)");
}

TEST(ComparisonText, VerdictsStandWhereReportsColourThem) {
  for (const Verdict verdict : {Verdict::faster, Verdict::slower, Verdict::not_distinguishable,
                                Verdict::refused}) {
    EXPECT_EQ(verdict_places(comparison_text("a", "b", comparison(verdict, 2, 1.9, 2.1))).size(), 1u)
        << verdict_name(verdict);
  }
}

TEST(ComparisonText, NoiseCountsUpAndDownAlike) {
  RatioInterval noise;
  noise.ratio = 1.02;
  EXPECT_EQ(noise_text("a", noise), "Noise: a measured a second time is 1.02x (one block) of itself.");
  noise.low = 0.99;
  noise.high = 1.05;
  EXPECT_EQ(noise_text("a", noise, "TTFT"),
            "Noise: a measured a second time is 1.02x [0.99, 1.05] of itself by TTFT; a ratio from "
            "0.95 to 1.05 is no difference.");
}

TEST(ComparisonText, BytesAreSaidBesideTheControls) {
  EXPECT_EQ(held_bytes_text(690, 1000), "it holds 31 % fewer bytes");
  EXPECT_EQ(held_bytes_text(1004, 1000), "it holds 0.40 % more bytes");
  EXPECT_EQ(held_bytes_text(1000, 1000), "it holds as many bytes");
  EXPECT_EQ(held_bytes_text(3000, 1000), "it holds 3.0 times the bytes");
  EXPECT_EQ(held_bytes_text(0, 1000), "it holds nothing");
  EXPECT_EQ(held_bytes_text(2'500'000, 0), "it holds 2.5 MB, the control nothing");
}

TEST(ComparisonText, WhatIsNotSignificantIsListedWithTheRuleAndTheNumber) {
  const ReportSection section =
      without_significance({{"a against b", comparison(Verdict::faster, 2, 1.9, 2.1)},
                            {"c against b", comparison(Verdict::refused, 1, 0.9, 1.1)}});
  ASSERT_EQ(section.paragraphs.size(), 3u);
  EXPECT_EQ(section.paragraphs[0], "c against b: 1.000x [0.90, 1.10], refused: why.");
  EXPECT_TRUE(section.paragraphs[1].starts_with("2 comparison(s) were made. " + verdict_rule()));
}

}  // namespace
}  // namespace kvlab
