// Position encodings with one planted bug each: every one must break the property that the table
// names.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <iostream>
#include <set>
#include <string>
#include <vector>

#include "broken_property.h"
#include "kvlab/conformance/position_properties.h"
#include "kvlab/core/error.h"

namespace kvlab::conformance {
namespace {

/// What a right encoding of the family does.
enum class Family { rotation, table, slopes };

enum class Bug {
  none,
  // Rotations.
  turns_by_index,
  turns_one_further,
  turns_all_by_the_first_position,
  pairs_neighbours_in_keys,
  turns_the_first_head_only,
  forgets_the_sine,
  turns_back_what_it_turned,
  absolute_from_100,
  ignores_strides,
  replaces_heads,
  turns_in_bf16,
  adds_noise_of_an_instance,
  also_adds,
  claims_no_rebase_when_made,
  turns_nothing,
  angles_overflow,
  leaves_bf16_alone,
  halves_odd_dims,
  // Tables.
  adds_twice,
  scales_the_embedding,
  adds_the_next_row,
  checks_no_end,
  checks_after_adding,
  checks_no_negatives,
  broadcasts_one_position,
  takes_any_table,
  takes_context_for_the_end,
  fails_without_tokens,
  // Slopes.
  tiles_slopes,
  slopes_of_powers_of_two_only,
  slopes_of_other_sign,
};

class WrongPosition final : public PositionEncoding {
 public:
  WrongPosition(Family family, Bug bug, const PositionShape& shape)
      : PositionEncoding("wrong"), bug_(bug), shape_(shape), traits_(traits_of(family, shape)) {
    traits_.can_rebase = traits_.can_rebase && !has(Bug::claims_no_rebase_when_made);
    if (family == Family::rotation && !has(Bug::halves_odd_dims)) {
      KVLAB_CHECK(shape.head_dim % 2 == 0, "[position.wrong] an even head dimension is needed");
    }
    if (family == Family::table) {
      KVLAB_CHECK(shape.table.defined(), "[position.wrong] a table is needed");
      if (!has(Bug::takes_any_table)) {
        KVLAB_CHECK(shape.table.dim() == 2 && shape.table.size(1) == shape.d_model,
                    "[position.wrong] a table of the model's width is needed");
      }
      if (!has(Bug::takes_context_for_the_end)) traits_.max_position = shape.table.size(0);
    }
    if (family == Family::slopes) fill_slopes();
    static int instances = 0;
    instance_ = ++instances;
  }

  static PositionTraits traits_of(Family family, const PositionShape& shape) {
    PositionTraits traits;
    traits.rotates = family == Family::rotation;
    traits.adds_to_embedding = traits.needs_table = family == Family::table;
    traits.biases_scores = family == Family::slopes;
    traits.can_rebase = family != Family::table;
    if (family == Family::table) traits.max_position = shape.context;
    return traits;
  }

  const PositionTraits& traits() const override { return traits_; }
  std::span<const float> score_slopes() const override { return slopes_; }

  void add_to_embedding(at::Tensor& embedding, const at::Tensor& positions) const override {
    if (has(Bug::also_adds)) embedding.add_(0.0);
    if (!traits_.adds_to_embedding) return;
    const int64_t tokens = positions.size(0);
    if (!has(Bug::broadcasts_one_position)) {
      KVLAB_CHECK_EQ(embedding.size(0), tokens, "[position.wrong] positions");
    }
    const int64_t* const given = positions.const_data_ptr<int64_t>();
    if (has(Bug::fails_without_tokens)) KVLAB_CHECK(tokens > 0, "[position.wrong] no tokens");
    if (!has(Bug::checks_no_end) && !has(Bug::checks_after_adding)) check(positions);
    const at::Tensor& table = shape_.table;
    std::vector<int64_t> rows(given, given + tokens);
    for (int64_t& row : rows) {
      if (has(Bug::adds_the_next_row)) ++row;
      row = ((row % table.size(0)) + table.size(0)) % table.size(0);  // stays in memory
    }
    for (int64_t token = 0; token < embedding.size(0); ++token) {
      at::Tensor to = embedding.select(0, token);
      if (has(Bug::scales_the_embedding)) to.mul_(to.abs());
      const size_t row = rows.size() == 1 ? 0 : static_cast<size_t>(token);
      to.add_(table.select(0, rows[row]), has(Bug::adds_twice) ? 2 : 1);
    }
    if (has(Bug::checks_after_adding)) check(positions);
  }

  void rotate(at::Tensor& heads, const at::Tensor& positions) const override {
    if (!traits_.rotates || has(Bug::turns_nothing)) return;
    if (has(Bug::leaves_bf16_alone) && heads.scalar_type() == at::kBFloat16) return;
    const int64_t tokens = heads.size(0), count = heads.size(1), dim = heads.size(2);
    KVLAB_CHECK(dim == shape_.head_dim && positions.size(0) == tokens, "[position.wrong] shape");
    at::Tensor turned = heads.to(at::kFloat).contiguous().clone();
    if (has(Bug::ignores_strides) && heads.scalar_type() == at::kFloat) {
      std::copy_n(heads.const_data_ptr<float>(), turned.numel(), turned.mutable_data_ptr<float>());
    }
    const int64_t* const given = positions.const_data_ptr<int64_t>();
    for (int64_t token = 0; token < tokens; ++token) {
      int64_t at = given[token];
      if (has(Bug::turns_by_index)) at = token;
      if (has(Bug::turns_one_further)) ++at;
      if (has(Bug::turns_all_by_the_first_position)) at = given[0];
      if (has(Bug::absolute_from_100) && at >= 100) at += at / 10;
      for (int64_t head = 0; head < count; ++head) {
        if (has(Bug::turns_the_first_head_only) && head > 0) break;
        turn(turned.mutable_data_ptr<float>() + (token * count + head) * dim, dim, at,
             has(Bug::pairs_neighbours_in_keys) && count < shape_.n_heads);
      }
    }
    if (has(Bug::adds_noise_of_an_instance)) turned.mul_(1 + 1e-6 * instance_);
    if (has(Bug::turns_in_bf16)) turned = turned.to(at::kBFloat16).to(at::kFloat);
    if (has(Bug::replaces_heads)) {
      heads = turned.to(heads.scalar_type());
    } else if (has(Bug::ignores_strides) && heads.scalar_type() == at::kFloat) {
      std::copy_n(turned.const_data_ptr<float>(), turned.numel(), heads.mutable_data_ptr<float>());
    } else {
      heads.copy_(turned);
    }
  }

 private:
  bool has(Bug bug) const { return bug_ == bug; }

  void turn(float* head, int64_t dim, int64_t position, bool neighbours) const {
    const int64_t half = dim / 2;
    for (int64_t i = 0; i < half; ++i) {
      float& low = head[neighbours ? 2 * i : i];
      float& high = head[neighbours ? 2 * i + 1 : i + half];
      if (has(Bug::halves_odd_dims) && dim % 2 == 1 && i == 0) head[dim - 1] = 0;
      const double angle =
          static_cast<double>(position) *
          std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(dim));
      const double cosine = std::cos(has(Bug::angles_overflow) && angle > 65504 ? HUGE_VAL : angle);
      const double sine = has(Bug::forgets_the_sine) ? 0 : std::sin(angle);
      const double a = low, b = high;
      low = static_cast<float>(a * cosine - b * sine);
      high = static_cast<float>(has(Bug::turns_back_what_it_turned) ? a * sine - b * cosine
                                                                    : b * cosine + a * sine);
    }
  }

  void check(const at::Tensor& positions) const {
    if (has(Bug::checks_no_negatives) && positions.numel() > 0) {
      const int64_t* const given = positions.const_data_ptr<int64_t>();
      const int64_t last = *std::max_element(given, given + positions.numel());
      KVLAB_CHECK_LT(last, traits_.max_position, "[position.wrong] position");
      return;
    }
    check_positions(positions);
  }

  void fill_slopes() {
    const auto power = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(shape_.n_heads)));
    const int64_t given = has(Bug::slopes_of_powers_of_two_only) ? power : shape_.n_heads;
    for (int64_t head = 0; head < given; ++head) {
      const int64_t of = has(Bug::tiles_slopes) ? head % power : head;
      const auto slope = static_cast<float>(
          std::exp2(-8.0 * static_cast<double>(of + 1) / static_cast<double>(shape_.n_heads)));
      slopes_.push_back(has(Bug::slopes_of_other_sign) ? -slope : slope);
    }
  }

  Bug bug_;
  PositionShape shape_;
  PositionTraits traits_;
  std::vector<float> slopes_;
  int instance_ = 0;
};

struct Mutant {
  Family family;
  Bug bug;
  const char* name;
  const char* killed_by;
};

constexpr Mutant kMutants[] = {
    {Family::rotation, Bug::turns_by_index, "turns_by_index", "PositionsBelongToTokens"},
    {Family::rotation, Bug::turns_one_further, "turns_one_further", "PositionZeroTurnsNothing"},
    {Family::rotation, Bug::turns_all_by_the_first_position, "turns_all_by_the_first_position",
     "KeysKeptBeforePositionComeOutRotated"},
    {Family::rotation, Bug::pairs_neighbours_in_keys, "pairs_neighbours_in_keys",
     "ScoresDependOnTheDistanceOnly"},
    {Family::rotation, Bug::turns_the_first_head_only, "turns_the_first_head_only",
     "EveryHeadTurnsAlike"},
    {Family::rotation, Bug::forgets_the_sine, "forgets_the_sine", "RotationsKeepNorms"},
    {Family::rotation, Bug::turns_back_what_it_turned, "turns_back_what_it_turned", "RotationsAdd"},
    {Family::rotation, Bug::absolute_from_100, "absolute_from_100",
     "ScoresDependOnTheDistanceOnly"},
    {Family::rotation, Bug::ignores_strides, "ignores_strides", "ChangesPartsOfTensorsInPlace"},
    {Family::rotation, Bug::replaces_heads, "replaces_heads", "ChangesPartsOfTensorsInPlace"},
    {Family::rotation, Bug::turns_in_bf16, "turns_in_bf16", "RotationsKeepNorms"},
    {Family::rotation, Bug::adds_noise_of_an_instance, "adds_noise_of_an_instance",
     "IsRepeatableToTheBit"},
    {Family::rotation, Bug::also_adds, "also_adds", "DoesNothingElse"},
    {Family::rotation, Bug::claims_no_rebase_when_made, "claims_no_rebase_when_made",
     "DescribesItself"},
    {Family::rotation, Bug::turns_nothing, "turns_nothing", "DoesWhatItDeclares"},
    {Family::rotation, Bug::angles_overflow, "angles_overflow", "FarPositionsAreFinite"},
    {Family::rotation, Bug::leaves_bf16_alone, "leaves_bf16_alone", "GivesBf16WithinItsPrecision"},
    {Family::rotation, Bug::halves_odd_dims, "halves_odd_dims", "ServesOddHeadDimsOrRefusesThem"},
    {Family::table, Bug::adds_twice, "adds_twice", "AddsTheTablesRows"},
    {Family::table, Bug::scales_the_embedding, "scales_the_embedding", "AddsTheSameToEverything"},
    {Family::table, Bug::adds_the_next_row, "adds_the_next_row", "AddsTheTablesRows"},
    {Family::table, Bug::checks_no_end, "checks_no_end", "EndsAtMaxPosition"},
    {Family::table, Bug::checks_after_adding, "checks_after_adding", "EndsAtMaxPosition"},
    {Family::table, Bug::checks_no_negatives, "checks_no_negatives", "EndsAtMaxPosition"},
    {Family::table, Bug::broadcasts_one_position, "broadcasts_one_position",
     "RefusesTensorsOfOtherShapes"},
    {Family::table, Bug::takes_any_table, "takes_any_table", "NeedsItsTable"},
    {Family::table, Bug::takes_context_for_the_end, "takes_context_for_the_end",
     "EndsWithItsTable"},
    {Family::table, Bug::fails_without_tokens, "fails_without_tokens", "AcceptsNoTokens"},
    {Family::slopes, Bug::tiles_slopes, "tiles_slopes", "GivesOneSlopePerHead"},
    {Family::slopes, Bug::slopes_of_powers_of_two_only, "slopes_of_powers_of_two_only",
     "GivesOneSlopePerHead"},
    {Family::slopes, Bug::slopes_of_other_sign, "slopes_of_other_sign", "GivesOneSlopePerHead"},
};

// A registry that holds nothing else.
Registry registry_with(Family family, Bug bug) {
  Registry registry;
  PositionEntry entry;
  entry.info.name = "wrong";
  entry.info.summary = "Right but for one bug.";
  entry.traits = [family](const Options&, const PositionShape& shape) {
    return WrongPosition::traits_of(family, shape);
  };
  entry.create = [family, bug](const Options&, const PositionShape& shape) {
    return std::make_unique<WrongPosition>(family, bug, shape);
  };
  registry.add(std::move(entry));
  return registry;
}

ComponentSpec wrong() {
  ComponentSpec spec;
  spec.type = "wrong";
  return spec;
}

TEST(PositionMutants, WithoutABugEveryPropertyHolds) {
  for (const Family family : {Family::rotation, Family::table, Family::slopes}) {
    const Registry registry = registry_with(family, Bug::none);
    const PositionTraits traits = registry.position_traits(wrong(), tested_position_shape());
    for (const PositionProperty& property : position_properties()) {
      if (!property.not_promised(traits).empty()) continue;
      const auto broken = what_breaks(position_properties(), property.name, registry, wrong());
      EXPECT_FALSE(broken) << property.name << ": " << broken.value_or("");
    }
  }
}

TEST(PositionMutants, EveryOneIsKilledByItsProperty) {
  std::set<Bug> tested;
  for (const Mutant& mutant : kMutants) {
    const Registry registry = registry_with(mutant.family, mutant.bug);
    const auto broken = what_breaks(position_properties(), mutant.killed_by, registry, wrong());
    EXPECT_TRUE(broken) << mutant.name << " survives " << mutant.killed_by;
    if (broken) {
      std::cout << mutant.name << " | " << mutant.killed_by << " | " << broken->substr(0, 160)
                << "\n";
    }
    tested.insert(mutant.bug);
  }
  EXPECT_EQ(tested.size(), static_cast<size_t>(Bug::slopes_of_other_sign))
      << "every bug stands in the table";
}

TEST(PositionMutants, EveryPropertyKillsOne) {
  for (const PositionProperty& property : position_properties()) {
    EXPECT_TRUE(std::ranges::any_of(
        kMutants,
        [&](const Mutant& mutant) { return std::string(mutant.killed_by) == property.name; }))
        << property.name << " has no planted bug";
  }
}

}  // namespace
}  // namespace kvlab::conformance
