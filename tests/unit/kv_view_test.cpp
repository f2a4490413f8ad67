#include "kvlab/cache/kv_view.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include "kvlab/core/error.h"
#include "kvlab/position/position_encoding.h"

namespace kvlab {
namespace {

/// "Rotates" by adding the rotary position, so that a test can read it back.
class Adding final : public PositionEncoding {
 public:
  Adding() : PositionEncoding("adding") {}
  const PositionTraits& traits() const override { return traits_; }
  void rotate(at::Tensor& heads, const at::Tensor& positions) const override {
    heads.add_(positions.view({-1, 1, 1}).to(heads.scalar_type()));
  }

 private:
  PositionTraits traits_;
};

constexpr int64_t kKeyDim = 3, kValueDim = 2;

// Keys [heads,count,Dk] and values [heads,count,Dv] numbered from `first`.
struct Block {
  Block(int64_t heads, int64_t count, float first, at::ScalarType value_type = at::kFloat)
      : keys(at::arange(heads * count * kKeyDim, at::kFloat).view({heads, count, kKeyDim}).add(first)),
        values((at::arange(heads * count * kValueDim, at::kFloat)
                    .view({heads, count, kValueDim})
                   .sub(first)).to(value_type)) {}

  KVSegment segment(int head_begin, int head_end, int64_t first_position) const {
    KVSegment made;
    made.keys = {keys.const_data_ptr(), keys.stride(1), keys.stride(0), keys.scalar_type()};
    made.values = {values.const_data_ptr(), values.stride(1), values.stride(0),
                   values.scalar_type()};
    made.count = keys.size(1);
    made.first_position = first_position;
    made.head_begin = head_begin;
    made.head_end = head_end;
    return made;
  }

  at::Tensor keys, values;
};

KVView view_of(int64_t heads, const std::vector<KVSegment>& segments) {
  KVView view;
  view.begin(heads, kKeyDim, kValueDim);
  view.begin_slice();
  for (const KVSegment& segment : segments) view.add(segment);
  return view;
}

TEST(KVView, KeepsSlicesApartAndDropsEmptyRuns) {
  const Block block(2, 4, 0);
  KVSegment empty = block.segment(0, 2, 0);
  empty.count = 0;
  KVView view;
  view.begin(2, kKeyDim, kValueDim);
  EXPECT_THROW(view.add(empty), InternalError);
  view.begin_slice();
  view.add(empty);
  view.begin_slice();
  view.add(block.segment(0, 2, 0));
  view.add(block.segment(0, 1, 4));
  view.begin_slice();
  EXPECT_EQ(view.num_slices(), 3);
  EXPECT_TRUE(view.segments(0).empty());
  EXPECT_EQ(view.segments(1).size(), 2U);
  EXPECT_TRUE(view.segments(2).empty());
  EXPECT_EQ(view.count(1, 0), 8);
  EXPECT_EQ(view.count(1, 1), 4);
  EXPECT_FALSE(view.uniform());
  EXPECT_THROW(view.segments(3), InternalError);
  view.window = 3;
  view.rotated = false;
  view.begin(1, 1, 1);
  EXPECT_EQ(view.num_slices(), 0);
  EXPECT_EQ(view.window, 0);
  EXPECT_TRUE(view.rotated);
  EXPECT_TRUE(view.uniform());
}

TEST(KVView, GivesOneSegmentWithoutACopy) {
  const Block block(2, 4, 0);
  StorageArena scratch;
  const DenseKV dense = view_of(2, {block.segment(0, 2, 7)}).dense(0, Adding(), scratch);
  EXPECT_EQ(dense.keys.const_data_ptr(), block.keys.const_data_ptr());
  EXPECT_TRUE(dense.values.equal(block.values));
  EXPECT_EQ(dense.gathered_bytes, 0);
  EXPECT_EQ(scratch.allocations(), 0);
  EXPECT_EQ(dense.positions.size(0), 1);
  EXPECT_EQ(dense.min_position, 7);
  EXPECT_EQ(dense.max_position, 10);
  EXPECT_FALSE(dense.padded);
}

TEST(KVView, GathersSegmentsInOrderAndCountsTheBytes) {
  const Block first(2, 2, 0), second(2, 3, 100);
  StorageArena scratch(ArenaOptions{.poison = true});
  {
    const DenseKV dense = view_of(2, {second.segment(0, 2, 5), first.segment(0, 2, 1)})
                              .dense(0, Adding(), scratch);
    EXPECT_TRUE(dense.keys.narrow(1, 0, 3).equal(second.keys));
    EXPECT_TRUE(dense.keys.narrow(1, 3, 2).equal(first.keys));
    EXPECT_TRUE(dense.values.narrow(1, 3, 2).equal(first.values));
    EXPECT_EQ(dense.gathered_bytes, 2 * 5 * (kKeyDim + kValueDim) * 4);
    EXPECT_EQ(scratch.usage().live_bytes(MemoryKind::scratch), dense.gathered_bytes);
    const int32_t* positions = dense.positions.const_data_ptr<int32_t>();
    EXPECT_EQ(std::vector<int32_t>(positions, positions + 5),
              (std::vector<int32_t>{5, 6, 7, 1, 2}));
  }
  EXPECT_EQ(scratch.usage().live_total(), 0);
}

TEST(KVView, PadsShortHeadsWithZerosAndNoPosition) {
  const Block both(2, 2, 1), more(1, 3, 50);
  StorageArena scratch(ArenaOptions{.poison = true});
  const DenseKV dense = view_of(2, {both.segment(0, 2, 0), more.segment(1, 2, 2)})
                            .dense(0, Adding(), scratch);
  EXPECT_TRUE(dense.padded);
  EXPECT_EQ(dense.positions.size(0), 2);
  const int32_t* positions = dense.positions.const_data_ptr<int32_t>();
  EXPECT_EQ(std::vector<int32_t>(positions, positions + 10),
            (std::vector<int32_t>{0, 1, kNoPosition, kNoPosition, kNoPosition, 0, 1, 2, 3, 4}));
  EXPECT_TRUE(dense.keys[0].narrow(0, 2, 3).eq(0).all().item<bool>());
  EXPECT_TRUE(dense.values[0].narrow(0, 2, 3).eq(0).all().item<bool>());
  EXPECT_TRUE(dense.keys[1].narrow(0, 2, 3).equal(more.keys[0]));
}

TEST(KVView, KeepsTheElementTypesOfKeysAndValuesApart) {
  const Block first(2, 2, 0, at::kBFloat16), second(2, 3, 64, at::kBFloat16);
  StorageArena scratch(ArenaOptions{.poison = true});
  const DenseKV dense = view_of(2, {first.segment(0, 2, 0), second.segment(0, 2, 2)})
                            .dense(0, Adding(), scratch);
  EXPECT_EQ(dense.keys.scalar_type(), at::kFloat);
  EXPECT_EQ(dense.values.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(dense.keys.narrow(1, 2, 3).equal(second.keys));
  EXPECT_TRUE(dense.values.narrow(1, 0, 2).equal(first.values));
  EXPECT_TRUE(dense.values.narrow(1, 2, 3).equal(second.values));
  EXPECT_EQ(dense.gathered_bytes, 2 * 5 * (kKeyDim * 4 + kValueDim * 2));
}

TEST(KVView, RefusesToMixElementTypesInOneRow) {
  const Block single(2, 2, 0), half(2, 2, 0, at::kBFloat16);
  StorageArena scratch;
  const KVView view = view_of(2, {single.segment(0, 2, 0), half.segment(0, 2, 2)});
  EXPECT_THROW(view.dense(0, Adding(), scratch), InternalError);
}

// Codes [heads,count,dim] counting from 1, entry (h, e) with scale 0.5 + 10 * h + e.
struct CodedPlane {
  CodedPlane(int64_t heads, int64_t count, int64_t dim)
      : codes(at::arange(1, heads * count * dim + 1, at::kChar).view({heads, count, dim})),
        scales(at::arange(heads, at::kFloat).mul(10).view({heads, 1}).add(
              at::arange(count, at::kFloat).add(0.5).view({1, count}))) {}

  KVPlane plane() const {
    return {codes.const_data_ptr(), codes.stride(1),  codes.stride(0), at::kChar,
            scales.const_data_ptr<float>(), scales.stride(1), scales.stride(0)};
  }
  at::Tensor decoded() const { return codes.to(at::kFloat).mul(scales.unsqueeze(2)); }

  at::Tensor codes, scales;
};

TEST(KVView, DecodesCodesIntoCountedScratchEvenWhereTheRowIsOneSegment) {
  const Block block(2, 3, 0);
  const CodedPlane coded(2, 3, kKeyDim);
  KVSegment segment = block.segment(0, 2, 5);
  segment.keys = coded.plane();
  StorageArena scratch(ArenaOptions{.poison = true});
  const DenseKV dense = view_of(2, {segment}).dense(0, Adding(), scratch);
  EXPECT_EQ(dense.keys.scalar_type(), at::kFloat);
  EXPECT_TRUE(dense.keys.equal(coded.decoded()));
  // Values lie as they are wanted.
  EXPECT_EQ(dense.values.const_data_ptr(), block.values.const_data_ptr());
  EXPECT_EQ(dense.gathered_bytes, 2 * 3 * kKeyDim * 4);
  EXPECT_EQ(scratch.usage().live_bytes(MemoryKind::scratch), dense.gathered_bytes);
}

TEST(KVView, DecodesValuesOfManySegmentsBesideBf16Keys) {
  const Block first(2, 1, 3), second(2, 4, 40);
  const at::Tensor first_keys = first.keys.to(at::kBFloat16);
  const at::Tensor second_keys = second.keys.to(at::kBFloat16);
  const CodedPlane first_values(2, 1, kValueDim), second_values(2, 4, kValueDim);
  KVSegment one = first.segment(0, 2, 0), other = second.segment(0, 2, 1);
  one.keys.data = first_keys.const_data_ptr();
  other.keys.data = second_keys.const_data_ptr();
  one.keys.type = other.keys.type = at::kBFloat16;
  one.values = first_values.plane();
  other.values = second_values.plane();
  StorageArena scratch(ArenaOptions{.poison = true});
  const DenseKV dense = view_of(2, {one, other}).dense(0, Adding(), scratch);
  EXPECT_TRUE(dense.keys.narrow(1, 1, 4).equal(second_keys));
  EXPECT_TRUE(dense.values.narrow(1, 0, 1).equal(first_values.decoded()));
  EXPECT_TRUE(dense.values.narrow(1, 1, 4).equal(second_values.decoded()));
  EXPECT_EQ(dense.gathered_bytes, 2 * 5 * (kKeyDim * 2 + kValueDim * 4));
}

TEST(KVView, ReadsScalesAtTheirOwnStrides) {
  const Block block(2, 3, 0);
  const CodedPlane coded(2, 3, kKeyDim);
  const at::Tensor by_token = coded.scales.transpose(0, 1).contiguous();
  KVSegment segment = block.segment(0, 2, 0);
  segment.keys = coded.plane();
  segment.keys.scales = by_token.const_data_ptr<float>();
  segment.keys.scale_token_stride = 2;
  segment.keys.scale_head_stride = 1;
  StorageArena scratch;
  EXPECT_TRUE(view_of(2, {segment}).dense(0, Adding(), scratch).keys.equal(coded.decoded()));
}

TEST(KVView, RefusesCodesWithoutScales) {
  const Block block(1, 2, 0);
  const CodedPlane coded(1, 2, kKeyDim);
  KVSegment segment = block.segment(0, 1, 0);
  segment.keys = coded.plane();
  segment.keys.scales = nullptr;
  StorageArena scratch;
  EXPECT_THROW(view_of(1, {segment}).dense(0, Adding(), scratch), InternalError);
}

TEST(KVView, RotatesKeysOfEachHeadByItsOwnPositions) {
  // Equal counts, other positions: head 0 holds 4 and 5, head 1 holds 20 and 21.
  const Block first(1, 2, 0), second(1, 2, 0);
  KVSegment shifted = second.segment(1, 2, 20);
  shifted.rotary_shift = -6;
  KVView view = view_of(2, {first.segment(0, 1, 4), shifted});
  view.rotated = false;
  StorageArena scratch;
  const DenseKV dense = view.dense(0, Adding(), scratch);
  for (int64_t entry = 0; entry < 2; ++entry) {
    EXPECT_TRUE(dense.keys[0][entry].equal(first.keys[0][entry].add(4 + entry)));
    EXPECT_TRUE(dense.keys[1][entry].equal(second.keys[0][entry].add(14 + entry)));
  }
  EXPECT_EQ(dense.max_position, 21);  // the text position, whatever the rotation
}

TEST(KVView, NeverRotatesWhatTheCacheHolds) {
  const Block block(2, 3, 0);
  const at::Tensor before = block.keys.clone();
  KVView view = view_of(2, {block.segment(0, 2, 5)});
  view.rotated = false;
  StorageArena scratch;
  const DenseKV dense = view.dense(0, Adding(), scratch);
  EXPECT_TRUE(block.keys.equal(before));
  EXPECT_TRUE(dense.keys[1][2].equal(before[1][2].add(7)));
}

TEST(KVView, IsEmptyWhereARowHoldsNothing) {
  StorageArena scratch;
  const DenseKV dense = view_of(2, {}).dense(0, Adding(), scratch);
  EXPECT_EQ(dense.keys.sizes(), (std::vector<int64_t>{2, 0, kKeyDim}));
  EXPECT_EQ(dense.gathered_bytes, 0);
}

}  // namespace
}  // namespace kvlab
