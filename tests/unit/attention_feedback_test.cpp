#include "kvlab/attention/feedback.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace kvlab {
namespace {

KVView view_of(const std::vector<KVSegment>& segments) {
  KVView view;
  view.begin(2, 4, 4);
  view.begin_slice();
  for (const KVSegment& segment : segments) view.add(segment);
  view.begin_slice();
  return view;
}

KVSegment run(int64_t count, int head_begin, int head_end) {
  KVSegment segment;
  segment.count = count;
  segment.head_begin = head_begin;
  segment.head_end = head_end;
  return segment;
}

TEST(FeedbackBuffer, HasOneValuePerEntryAndHead) {
  FeedbackBuffer feedback;
  feedback.begin({}, view_of({run(3, 0, 2), run(2, 1, 2)}));
  EXPECT_EQ(feedback.entries(0, 0).size(), 3U);
  EXPECT_EQ(feedback.entries(0, 1).size(), 5U);
  EXPECT_TRUE(feedback.entries(1, 0).empty());
}

TEST(FeedbackBuffer, SlicesAndHeadsDoNotOverlap) {
  FeedbackBuffer feedback;
  feedback.begin({}, view_of({run(3, 0, 2)}));
  std::ranges::fill(feedback.values(0, 0), 1.0F);
  std::ranges::fill(feedback.values(0, 1), 2.0F);
  EXPECT_EQ(feedback.entries(0, 0)[2], 1);
  EXPECT_EQ(feedback.entries(0, 1)[0], 2);
}

TEST(FeedbackBuffer, BeginsWithZerosEachTime) {
  FeedbackBuffer feedback;
  FeedbackRequest request;
  request.kind = FeedbackRequest::Kind::last_rows;
  request.rows = 5;
  feedback.begin(request, view_of({run(4, 0, 2)}));
  std::ranges::fill(feedback.values(0, 1), 7.0F);
  feedback.begin(request, view_of({run(4, 0, 2)}));
  EXPECT_EQ(feedback.request().rows, 5);
  for (const float value : feedback.entries(0, 1)) EXPECT_EQ(value, 0);
}

}  // namespace
}  // namespace kvlab
