#include "kvlab/conformance/position_properties.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>

#include "component_description.h"
#include "kvlab/cache/kv_view.h"
#include "kvlab/conformance/failure.h"
#include "plain_position.h"
#include "segment_scene.h"

namespace kvlab::conformance {

namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
// Sums of two terms in fp32, of numbers around 1.
constexpr double kSingle = 1e-6;
// bf16 has 8 significant bits; a position vector and the sum may each be rounded once.
constexpr double kHalf = 1.0 / 128;

// An angle is a position times a frequency of at most 1, rounded to fp32: an error of position *
// 2^-24. Two of them meet in a score; a few roundings of the products come on top.
double angle_error(int64_t largest_position) {
  return std::ldexp(static_cast<double>(largest_position + 16), -23);
}

at::Tensor random_tensor(at::IntArrayRef sizes, unsigned seed) {
  at::Tensor made = at::empty(sizes, at::kFloat);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  float* data = made.mutable_data_ptr<float>();
  for (int64_t i = 0; i < made.numel(); ++i) data[i] = normal(random);
  return made;
}

at::Tensor as_positions(const std::vector<int64_t>& positions) {
  at::Tensor made = at::empty({static_cast<int64_t>(positions.size())}, at::kLong);
  std::copy(positions.begin(), positions.end(), made.mutable_data_ptr<int64_t>());
  return made;
}

double norm(const at::Tensor& tensor) {
  const at::Tensor single = tensor.to(at::kFloat).contiguous();
  double sum = 0;
  for (int64_t i = 0; i < single.numel(); ++i) {
    sum += std::pow(static_cast<double>(single.const_data_ptr<float>()[i]), 2);
  }
  return std::sqrt(sum);
}

double dot(const at::Tensor& left, const at::Tensor& right) {
  const at::Tensor a = left.contiguous(), b = right.contiguous();
  double sum = 0;
  for (int64_t i = 0; i < a.numel(); ++i) {
    sum += static_cast<double>(a.const_data_ptr<float>()[i]) * b.const_data_ptr<float>()[i];
  }
  return sum;
}

double largest_difference(const at::Tensor& left, const at::Tensor& right) {
  const at::Tensor a = left.to(at::kFloat).contiguous(), b = right.to(at::kFloat).contiguous();
  double largest = 0;
  for (int64_t i = 0; i < a.numel(); ++i) {
    const double off =
        std::abs(double{a.const_data_ptr<float>()[i]} - b.const_data_ptr<float>()[i]);
    largest = std::isnan(off) ? std::numeric_limits<double>::infinity() : std::max(largest, off);
  }
  return largest;
}

double largest_of(const at::Tensor& tensor) {
  return largest_difference(tensor, at::zeros_like(tensor));
}

// The two ways in which an encoding acts on tensors, so that a property is written once for both.
struct Action {
  const char* name;
  bool declared;
  std::vector<int64_t> token_sizes;  // of one token
  void (*apply)(const PositionEncoding&, at::Tensor&, const at::Tensor&);

  at::Tensor input(int64_t tokens, unsigned seed) const {
    std::vector<int64_t> sizes = {tokens};
    sizes.insert(sizes.end(), token_sizes.begin(), token_sizes.end());
    return random_tensor(sizes, seed);
  }
  /// The result for a copy of `input`.
  at::Tensor on(const PositionEncoding& encoding, const at::Tensor& input,
                const std::vector<int64_t>& positions) const {
    at::Tensor result = input.clone();
    const at::Tensor at = as_positions(positions);
    apply(encoding, result, at);
    require(same_bits(at, as_positions(positions)), name, " changed the positions it was given");
    return result;
  }
};

class Tested {
 public:
  Tested(const Registry& registry, const ComponentSpec& spec,
         const PositionShape& chosen = tested_position_shape())
      : shape(chosen), encoding_(make_position(registry, spec, chosen)) {}

  const PositionEncoding& operator*() const { return *encoding_; }
  const PositionEncoding* operator->() const { return encoding_.get(); }
  const PositionTraits& traits() const { return encoding_->traits(); }

  Action add() const {
    return {"add_to_embedding",
            traits().adds_to_embedding,
            {shape.d_model},
            [](const PositionEncoding& encoding, at::Tensor& tensor, const at::Tensor& positions) {
              encoding.add_to_embedding(tensor, positions);
            }};
  }
  Action rotate() const {
    return {"rotate",
            traits().rotates,
            {shape.n_heads, shape.head_dim},
            [](const PositionEncoding& encoding, at::Tensor& tensor, const at::Tensor& positions) {
              encoding.rotate(tensor, positions);
            }};
  }
  /// Those that the traits declare.
  std::vector<Action> actions() const {
    std::vector<Action> declared;
    for (const Action& action : {add(), rotate()}) {
      if (action.declared) declared.push_back(action);
    }
    return declared;
  }
  /// `positions` that exist.
  std::vector<int64_t> existing(std::vector<int64_t> positions) const {
    std::erase_if(positions, [&](int64_t at) { return at >= traits().max_position; });
    return positions;
  }

  PositionShape shape;

 private:
  std::unique_ptr<PositionEncoding> encoding_;
};

void described(const Registry& registry, const ComponentSpec& spec) {
  require_described(registry.position(spec.type).info, "position");
  const PositionTraits claimed = registry.position_traits(spec, tested_position_shape());
  const Tested tested(registry, spec);
  const PositionTraits& kept = tested.traits();
  require(claimed.adds_to_embedding == kept.adds_to_embedding && claimed.rotates == kept.rotates &&
              claimed.biases_scores == kept.biases_scores &&
              claimed.can_rebase == kept.can_rebase && claimed.needs_table == kept.needs_table &&
              claimed.max_position == kept.max_position,
          "the traits of the registry's entry are not those of the encoding it makes");
}

void does_what_it_declares(const Registry& registry, const ComponentSpec& spec) {
  const Tested tested(registry, spec);
  for (const Action& action : tested.actions()) {
    const at::Tensor before = action.input(3, 1);
    require(!same_bits(before, action.on(*tested, before, {1, 2, 5})), action.name,
            " is declared and does nothing");
    // Positions are told apart.
    const at::Tensor equal = before.narrow(0, 0, 1).expand_as(before).contiguous();
    const at::Tensor after = action.on(*tested, equal, {1, 2, 5});
    require(!same_bits(after[0], after[1]) && !same_bits(after[1], after[2]), action.name,
            " does the same at positions 1, 2 and 5");
  }
  if (tested.traits().biases_scores) {
    require(!tested->score_slopes().empty(), "a bias is declared and there are no slopes");
  }
}

void does_nothing_else(const Registry& registry, const ComponentSpec& spec) {
  const Tested tested(registry, spec);
  for (const Action& action : {tested.add(), tested.rotate()}) {
    if (action.declared) continue;
    at::Tensor before = action.input(3, 2);
    before.view({-1})[0].fill_(-0.0F);  // becomes 0 where a zero is added
    before.view({-1})[1].fill_(kNaN);
    require(same_bits(before, action.on(*tested, before, {0, 3, 2})), action.name,
            " is not declared and changes its input");
  }
  if (!tested.traits().biases_scores) {
    require(tested->score_slopes().empty(), "no bias is declared and there are slopes");
  }
}

void require_distance_only(const Tested& tested) {
  const int64_t dim = tested.shape.head_dim;
  // As in grouped-query attention there are fewer keys' heads than queries'.
  const at::Tensor query = random_tensor({1, tested.shape.n_heads, dim}, 3);
  const at::Tensor key = random_tensor({1, tested.shape.n_heads / 3, dim}, 4);
  const double norms = norm(query[0][0]) * norm(key[0][0]);
  const Action rotate = tested.rotate();
  const auto score = [&](int64_t query_position, int64_t key_position) {
    return dot(rotate.on(*tested, query, {query_position})[0][0],
               rotate.on(*tested, key, {key_position})[0][0]);
  };
  bool distance_matters = false;
  for (const int64_t distance : {0, 1, 7, 15}) {
    const double first = score(distance, 0);
    distance_matters = distance_matters || std::abs(first - score(0, 0)) > 0.01 * norms;
    for (const int64_t shift : tested.existing({1, 2, 5, 100, 1000, 8000})) {
      if (shift + distance >= tested.traits().max_position) continue;
      const double got = score(shift + distance, shift);
      require(std::abs(got - first) <= norms * angle_error(shift + distance), "query at ",
              shift + distance, " and key at ", shift, " score ", got, "; at ", distance,
              " and 0 they score ", first);
    }
  }
  require(distance_matters, "scores are the same at distances 0, 1, 7 and 15");
}

void distance_only(const Registry& registry, const ComponentSpec& spec) {
  require_distance_only(Tested(registry, spec));
}

void require_norms_kept(const Tested& tested) {
  const Action rotate = tested.rotate();
  const std::vector<int64_t> positions = tested.existing({0, 1, 6, 22, 1023, 100'000});
  const at::Tensor before = rotate.input(static_cast<int64_t>(positions.size()), 5);
  const at::Tensor after = rotate.on(*tested, before, positions);
  for (int64_t token = 0; token < before.size(0); ++token) {
    for (int64_t head = 0; head < before.size(1); ++head) {
      const double was = norm(before[token][head]), is = norm(after[token][head]);
      require(std::abs(is - was) <= kSingle * was, "head ", head, " at position ",
              positions[static_cast<size_t>(token)], " had norm ", was, " and has ", is);
    }
  }
}

void keeps_norms(const Registry& registry, const ComponentSpec& spec) {
  require_norms_kept(Tested(registry, spec));
}

void heads_turn_alike(const Registry& registry, const ComponentSpec& spec) {
  const Tested tested(registry, spec);
  const Action rotate = tested.rotate();
  const at::Tensor one = random_tensor({4, 1, tested.shape.head_dim}, 6);
  const std::vector<int64_t> positions = {3, 0, 9, 4};
  const at::Tensor alone = rotate.on(*tested, one, positions);
  for (const int64_t heads : {2, 3, 6, 7}) {
    const at::Tensor several =
        rotate.on(*tested, one.expand({4, heads, tested.shape.head_dim}).contiguous(), positions);
    for (int64_t head = 0; head < heads; ++head) {
      require(largest_difference(several.narrow(1, head, 1), alone) <= kSingle * largest_of(alone),
              "head ", head, " of ", heads, " is turned otherwise than a head alone");
    }
  }
}

void position_zero(const Registry& registry, const ComponentSpec& spec) {
  const Tested tested(registry, spec);
  const at::Tensor before = tested.rotate().input(2, 7);
  const at::Tensor after = tested.rotate().on(*tested, before, {0, 1});
  const double turned = largest_difference(before[0], after[0]);
  require(turned <= kSingle * largest_of(before), "position 0 changes a head by up to ", turned);
}

void rotations_add(const Registry& registry, const ComponentSpec& spec) {
  const Tested tested(registry, spec);
  const Action rotate = tested.rotate();
  const at::Tensor before = rotate.input(1, 8);
  for (const int64_t first : {0, 3, 11}) {
    for (const int64_t shift : tested.existing({1, 8, 1000})) {
      if (first + shift >= tested.traits().max_position) continue;
      const at::Tensor twice = rotate.on(*tested, rotate.on(*tested, before, {first}), {shift});
      const at::Tensor once = rotate.on(*tested, before, {first + shift});
      require(
          largest_difference(twice, once) <= largest_of(before) * 2 * angle_error(first + shift),
          "turned by ", first, " and then by ", shift, " is not turned by ", first + shift);
    }
  }
}

void kept_before_position(const Registry& registry, const ComponentSpec& spec) {
  const Tested tested(registry, spec);
  const Action rotate = tested.rotate();
  constexpr int64_t kHeads = 3, kEntries = 6;
  const int64_t dim = tested.shape.head_dim;
  const at::Tensor keys = random_tensor({kEntries, kHeads, dim}, 9);
  const at::Tensor stored = keys.transpose(0, 1).contiguous();  // [G,T,D]
  for (const int64_t shift : {0, 4, -2}) {
    KVView view;
    view.begin(kHeads, dim, dim);
    view.rotated = false;
    view.begin_slice();
    for (const auto& [first, end] : {std::pair{0, 2}, std::pair{2, 6}}) {
      KVSegment run;
      run.count = end - first;
      run.first_position = 10 + first;
      run.rotary_shift = shift;
      run.head_end = kHeads;
      run.keys = {stored.const_data_ptr<float>() + first * dim, dim, kEntries * dim, at::kFloat};
      run.values = run.keys;
      view.add(run);
    }
    StorageArena scratch;
    const DenseKV dense = view.dense(0, *tested, scratch);
    for (int64_t entry = 0; entry < kEntries; ++entry) {
      const at::Tensor direct =
          rotate.on(*tested, keys.narrow(0, entry, 1), {10 + entry + shift})[0];
      require(
          largest_difference(dense.keys.select(1, entry), direct) <= kSingle * largest_of(direct),
          "a key kept before position at ", 10 + entry, ", shift ", shift,
          ", does not come out as if turned where it belongs");
    }
    require(same_bits(dense.values, stored), "values kept before position were changed");
    require(dense.min_position == 10 && dense.max_position == 15,
            "a rotary shift moved the text positions that masks are made from");
  }
}

void positions_belong_to_tokens(const Registry& registry, const ComponentSpec& spec) {
  const Tested tested(registry, spec);
  const std::vector<int64_t> positions = {4, 0, 17, 17, 2, 9, 3};
  const std::vector<int64_t> order = {6, 2, 0, 5, 3, 1, 4};
  for (const Action& action : tested.actions()) {
    const at::Tensor before = action.input(7, 10);
    const at::Tensor after = action.on(*tested, before, positions);
    std::vector<int64_t> permuted;
    for (const int64_t token : order) permuted.push_back(positions[static_cast<size_t>(token)]);
    const at::Tensor index = as_positions(order);
    const at::Tensor other = action.on(*tested, before.index_select(0, index), permuted);
    require(largest_difference(other, after.index_select(0, index)) <= kSingle * largest_of(after),
            action.name, " does not follow tokens and positions that are permuted together");
    for (int64_t token = 0; token < 7; ++token) {
      const at::Tensor alone =
          action.on(*tested, before.narrow(0, token, 1), {positions[static_cast<size_t>(token)]});
      require(largest_difference(alone[0], after[token]) <= kSingle * largest_of(after),
              action.name, " treats a token at position ", positions[static_cast<size_t>(token)],
              " otherwise alone than as token ", token, " of 7");
    }
  }
}

void adds_the_same_to_everything(const Registry& registry, const ComponentSpec& spec) {
  const Tested tested(registry, spec);
  const std::vector<int64_t> positions = {0, 5, 1};
  const Action add = tested.add();
  const at::Tensor before = add.input(3, 12);
  const at::Tensor vectors = add.on(*tested, at::zeros_like(before), positions);
  const at::Tensor after = add.on(*tested, before, positions);
  require(largest_difference(after, before.add(vectors)) <=
              kSingle * (largest_of(before) + largest_of(vectors)),
          "what is added depends on the embedding");
}

void adds_rows_of_the_table(const Registry& registry, const ComponentSpec& spec) {
  PositionShape shape = tested_position_shape();
  shape.table = random_tensor({shape.context, shape.d_model}, 13);
  const at::Tensor table = shape.table.clone();
  const Tested tested(registry, spec, shape);
  const std::vector<int64_t> positions = {7, 0, shape.context - 1, 7};
  const at::Tensor before = tested.add().input(4, 14);
  const at::Tensor wanted = before.add(table.index_select(0, as_positions(positions)));
  for (int call = 0; call < 2; ++call) {
    require(largest_difference(tested.add().on(*tested, before, positions), wanted) <=
                kSingle * largest_of(wanted),
            "a token's position vector is the table's row of its position, added once");
  }
  require(same_bits(table, shape.table), "the model's position table was changed");
}

void needs_its_table(const Registry& registry, const ComponentSpec& spec) {
  PositionShape shape = tested_position_shape();
  registry.position_traits(spec, shape);  // asked before weights are there
  require_throws<UserError>([&] { registry.make_position(spec, shape); }, "no table at all");
  shape.table = random_tensor({shape.context, shape.d_model + 1}, 15);
  require_throws<UserError>([&] { registry.make_position(spec, shape); },
                            "a table of another width");
  shape.table = random_tensor({shape.context * shape.d_model}, 15);
  require_throws<UserError>([&] { registry.make_position(spec, shape); },
                            "a table of one dimension");
}

// Throws Failure unless `position` is refused by every declared action and nothing is changed.
void require_refused(const Tested& tested, const std::vector<int64_t>& positions,
                     const std::string& what) {
  for (const Action& action : tested.actions()) {
    const at::Tensor before = action.input(static_cast<int64_t>(positions.size()), 16);
    at::Tensor tensor = before.clone();
    require_throws<UserError>([&] { action.apply(*tested, tensor, as_positions(positions)); },
                              detail::concat(action.name, " at ", what));
    require(same_bits(before, tensor), action.name, " at ", what,
            " was refused and changed its input");
  }
}

void ends_at_max_position(const Registry& registry, const ComponentSpec& spec) {
  const Tested tested(registry, spec);
  const int64_t end = tested.traits().max_position;
  for (const Action& action : tested.actions()) {
    const at::Tensor after = action.on(*tested, action.input(3, 17), {end - 1, 0, end - 1});
    require(after.isfinite().all().item<bool>(), action.name, " at the last position, ", end - 1,
            ", gives no finite numbers");
  }
  require_refused(tested, {end}, "the first position past the end");
  require_refused(tested, {0, end, 1}, "the first position past the end, among others");
  require_refused(tested, {0, 1, end + 1'000'000'000'000}, "a position far past the end");
  require_refused(tested, {1, -1, 0}, "position -1");
}

void ends_with_its_table(const Registry& registry, const ComponentSpec& spec) {
  // A checkpoint may bring another number of rows than the model's context says.
  for (const int64_t rows : {5, 40}) {
    PositionShape shape = tested_position_shape();
    shape.table = random_tensor({rows, shape.d_model}, 18);
    std::unique_ptr<Tested> tested;
    try {
      tested = std::make_unique<Tested>(registry, spec, shape);
    } catch (const UserError&) {
      continue;  // as good
    }
    const int64_t end = tested->traits().max_position;
    require(end <= rows, "a table of ", rows, " rows is said to have ", end, " positions");
    for (const Action& action : tested->actions()) {
      action.on(**tested, action.input(1, 19), {end - 1});
    }
    require_refused(*tested, {0, end},
                    detail::concat("position ", end, " of a table of ", rows, " rows"));
  }
}

void far_positions(const Registry& registry, const ComponentSpec& spec) {
  const Tested tested(registry, spec);
  for (const Action& action : tested.actions()) {
    const at::Tensor after =
        action.on(*tested, action.input(3, 20), {1'000'000, 40'000, 2'000'000'000});
    require(after.isfinite().all().item<bool>(), action.name,
            " gives no finite numbers far out, where no end is declared");
  }
}

void slopes(const Registry& registry, const ComponentSpec& spec) {
  for (const int64_t heads : {1, 2, 3, 6, 7, 8, 9, 12, 16, 25, 32}) {
    PositionShape shape = tested_position_shape();
    shape.n_heads = heads;
    const Tested tested(registry, spec, shape);
    const std::span<const float> given = tested->score_slopes();
    require_equal(static_cast<int64_t>(given.size()), heads, "slopes for ", heads, " heads");
    for (const float slope : given) {
      require(std::isfinite(slope) && slope > 0, "slope ", slope, " for ", heads,
              " heads: a slope is positive, so that farther keys count less");
    }
    const auto different = static_cast<int64_t>(std::set<float>(given.begin(), given.end()).size());
    require(different == 1 || different == heads, different, " different slopes for ", heads,
            " heads: one for all or one for each");
    require(std::ranges::equal(given, tested->score_slopes()), "slopes change between calls");
  }
}

void odd_head_dims(const Registry& registry, const ComponentSpec& spec) {
  PositionShape shape = tested_position_shape();
  shape.head_dim = 7;
  std::unique_ptr<Tested> tested;
  try {
    tested = std::make_unique<Tested>(registry, spec, shape);
  } catch (const UserError&) {
    return;  // refused, as rotations of pairs must
  }
  require_norms_kept(*tested);
  require_distance_only(*tested);
}

void other_shapes(const Registry& registry, const ComponentSpec& spec) {
  const Tested tested(registry, spec);
  const auto require_untouched = [&](const Action& action, const at::Tensor& before,
                                     const std::vector<int64_t>& positions, const char* what) {
    at::Tensor tensor = before.clone();
    bool refused = false;
    try {
      action.apply(*tested, tensor, as_positions(positions));
    } catch (const std::exception&) {
      refused = true;  // also by LibTorch
    }
    require(refused, action.name, " of ", what, " is accepted");
    require(same_bits(before, tensor), action.name, " of ", what,
            " was refused and changed its input");
  };
  for (const Action& action : tested.actions()) {
    require_untouched(action, action.input(3, 22), {5}, "three tokens with one position");
    require_untouched(action, action.input(2, 22), {0, 1, 2}, "two tokens with three positions");
    Action wider = action;
    wider.token_sizes.back() += 2;
    require_untouched(wider, wider.input(2, 22), {0, 1}, "tokens of another width");
  }
}

void strided(const Registry& registry, const ComponentSpec& spec) {
  const Tested tested(registry, spec);
  const std::vector<int64_t> positions = {6, 0, 3, 11};
  const auto compare = [&](const Action& action, at::Tensor memory, at::Tensor part,
                           const char* what) {
    const at::Tensor input = action.input(4, 23);
    memory.fill_(kNaN);
    part.copy_(input);
    at::Tensor handle = part;
    action.apply(*tested, handle, as_positions(positions));
    const at::Tensor wanted = action.on(*tested, input, positions);
    require(largest_difference(part, wanted) <= kSingle * largest_of(wanted), action.name, " of ",
            what, " differs from that of a tensor alone, or was not done in place");
    require_equal(memory.isnan().sum().item<int64_t>(), memory.numel() - part.numel(), action.name,
                  " of ", what, " left numbers beside them, that is NaN before");
  };
  const int64_t heads = tested.shape.n_heads, dim = tested.shape.head_dim;
  const int64_t width = tested.shape.d_model;
  for (const Action& action : tested.actions()) {
    if (action.token_sizes.size() == 1) {
      at::Tensor wide = at::empty({4, width + 5}, at::kFloat);
      compare(action, wide, wide.narrow(1, 2, width), "rows of a wider tensor");
      at::Tensor every_other = at::empty({4, 2, width}, at::kFloat);
      compare(action, every_other, every_other.select(1, 1), "every other row");
      continue;
    }
    at::Tensor fused = at::empty({4, (heads + 4) * dim}, at::kFloat);
    compare(action, fused, fused.narrow(1, dim, heads * dim).view({4, heads, dim}),
            "heads of a fused projection");
    at::Tensor head_major = at::empty({heads + 1, 6, dim}, at::kFloat);
    compare(action, head_major, head_major.narrow(0, 1, heads).narrow(1, 1, 4).transpose(0, 1),
            "heads that lie apart");
  }
}

void bf16(const Registry& registry, const ComponentSpec& spec) {
  const Tested tested(registry, spec);
  const std::vector<int64_t> positions = {0, 1, 9, 21};
  for (const Action& action : tested.actions()) {
    const at::Tensor half = action.input(4, 24).to(at::kBFloat16);
    const at::Tensor after = action.on(*tested, half, positions);
    require(after.scalar_type() == at::kBFloat16, action.name, " changed the type of its input");
    const at::Tensor single = action.on(*tested, half.to(at::kFloat), positions);
    require(largest_difference(after, single) <= kHalf * largest_of(single), action.name,
            " of bf16 is off by ", largest_difference(after, single), " of ", largest_of(single));
  }
}

void no_tokens(const Registry& registry, const ComponentSpec& spec) {
  const Tested tested(registry, spec);
  for (const Action& action : {tested.add(), tested.rotate()}) {
    require_equal(action.on(*tested, action.input(0, 25), {}).size(0), 0, action.name,
                  " of no tokens");
  }
}

void repeatable(const Registry& registry, const ComponentSpec& spec) {
  const Tested tested(registry, spec), twin(registry, spec);
  const std::vector<int64_t> positions = {8, 2, 14};
  for (const Action& action : tested.actions()) {
    const at::Tensor before = action.input(3, 26);
    const at::Tensor first = action.on(*tested, before, positions);
    action.on(*tested, action.input(5, 27), {0, 1, 2, 3, 4});
    require(same_bits(first, action.on(*tested, before, positions)), action.name,
            " gives other bits the second time");
    require(same_bits(first, action.on(*twin, before, positions)), action.name,
            " gives other bits in another instance");
  }
}

std::string always(const PositionTraits&) { return ""; }

std::string where_acting(const PositionTraits& traits) {
  return traits.adds_to_embedding || traits.rotates ? "" : "changes neither embedding nor heads";
}

std::string where_adding(const PositionTraits& traits) {
  return traits.adds_to_embedding ? "" : "adds nothing to the embedding";
}

std::string where_rotating(const PositionTraits& traits) {
  return traits.rotates ? "" : "does not rotate";
}

std::string where_rebasing(const PositionTraits& traits) {
  return traits.can_rebase ? "" : "cannot be re-based";
}

std::string where_rotating_and_rebasing(const PositionTraits& traits) {
  return traits.rotates ? where_rebasing(traits) : where_rotating(traits);
}

std::string where_biasing(const PositionTraits& traits) {
  return traits.biases_scores ? "" : "does not bias scores";
}

std::string with_table(const PositionTraits& traits) {
  return traits.needs_table ? "" : "needs no table";
}

std::string with_added_table(const PositionTraits& traits) {
  return traits.needs_table ? where_adding(traits) : with_table(traits);
}

std::string with_end(const PositionTraits& traits) {
  if (traits.max_position == kUnlimitedPositions) return "has no end";
  return where_acting(traits);
}

std::string without_end(const PositionTraits& traits) {
  if (traits.max_position != kUnlimitedPositions) return "has an end";
  return where_acting(traits);
}

constexpr PositionProperty kProperties[] = {
    {"DescribesItself",
     "The entry has a summary, a sentence per option and valid examples; its traits are those of "
     "what it makes.",
     described, always},
    {"DoesWhatItDeclares", "What the traits declare has an effect that differs by position.",
     does_what_it_declares, always},
    {"DoesNothingElse", "What the traits do not declare leaves every bit as it was.",
     does_nothing_else, always},
    {"ScoresDependOnTheDistanceOnly",
     "A rotated query and key score the same wherever their pair stands.", distance_only,
     where_rotating},
    {"RotationsKeepNorms", "A rotated head has the length it had.", keeps_norms, where_rotating},
    {"EveryHeadTurnsAlike", "A head's rotation depends on neither its index nor their number.",
     heads_turn_alike, where_rotating},
    {"PositionZeroTurnsNothing", "At position 0 a head stays as it is.", position_zero,
     where_rotating},
    {"RotationsAdd", "Turned by a and then by b is turned by a + b.", rotations_add,
     where_rotating_and_rebasing},
    {"KeysKeptBeforePositionComeOutRotated",
     "KVView::dense gives keys kept before position as if turned where their shift puts them.",
     kept_before_position, where_rebasing},
    {"PositionsBelongToTokens",
     "What happens to a token depends on its own position, not on its index or its neighbours.",
     positions_belong_to_tokens, where_acting},
    {"AddsTheSameToEverything", "A position's vector does not depend on the embedding.",
     adds_the_same_to_everything, where_adding},
    {"AddsTheTablesRows", "Position p adds row p of the table, once.", adds_rows_of_the_table,
     with_added_table},
    {"NeedsItsTable", "Without a table, or with one of another shape, nothing is made.",
     needs_its_table, with_table},
    {"EndsAtMaxPosition",
     "The last position works; the next, and negative ones, are refused before anything changes.",
     ends_at_max_position, with_end},
    {"EndsWithItsTable", "Nothing is read past a table that is shorter than the context.",
     ends_with_its_table, with_table},
    {"FarPositionsAreFinite", "Where no end is declared, far positions give finite numbers.",
     far_positions, without_end},
    {"GivesOneSlopePerHead", "Slopes are positive, one per head for any number of heads.", slopes,
     where_biasing},
    {"ServesOddHeadDimsOrRefusesThem", "An odd head dimension is refused at once, or works.",
     odd_head_dims, where_rotating},
    {"RefusesTensorsOfOtherShapes",
     "Tokens and positions of different number, and other widths, are refused.", other_shapes,
     where_acting},
    {"ChangesPartsOfTensorsInPlace",
     "Slices of wider tensors are changed in place, and nothing "
     "beside them.",
     strided, where_acting},
    {"GivesBf16WithinItsPrecision", "bf16 comes out as fp32 would, up to bf16's rounding.", bf16,
     where_acting},
    {"AcceptsNoTokens", "A step without tokens is no error.", no_tokens, always},
    {"IsRepeatableToTheBit", "The same call gives the same bits.", repeatable, where_acting},
};

}  // namespace

std::span<const PositionProperty> position_properties() { return kProperties; }

PositionShape tested_position_shape() {
  PositionShape shape;
  shape.d_model = 14;
  shape.n_heads = 6;
  shape.head_dim = 10;
  shape.context = 23;
  return shape;
}

}  // namespace kvlab::conformance
