#include "kvlab/conformance/attention_properties.h"

#include <algorithm>
#include <array>
#include <random>

#include "component_description.h"
#include "kvlab/conformance/failure.h"
#include "kvlab/kernels/target.h"
#include "plain_position.h"
#include "segment_scene.h"

namespace kvlab::conformance {

namespace {

using Layout = SceneLayout;

// Gives `scene` runs of `size` positions over [0, length).
void add_blocks(SegmentScene& scene, int32_t length, int32_t size) {
  for (int32_t first = 0; first < length; first += size) {
    scene.add(first, std::min(first + size, length));
  }
}

std::vector<std::unique_ptr<PositionEncoding>> biasing_positions(const Registry& registry,
                                                                 int64_t heads) {
  PositionShape shape;
  shape.d_model = 14;
  shape.n_heads = heads;
  shape.head_dim = 10;
  shape.context = 1000;
  return positions_of_kind(registry, shape, PlainPosition::Kind::slopes,
                           [](const PositionTraits& traits) { return traits.biases_scores; });
}

void described(const Registry& registry, const ComponentSpec& spec) {
  require_described(registry.attention(spec.type).info, "attention");
  const AttentionTraits claimed = registry.attention_traits(spec);
  const auto attention = registry.make_attention(spec);
  const AttentionTraits& kept = attention->traits();
  require(claimed.reads_segments == kept.reads_segments &&
              claimed.supports_bias == kept.supports_bias && claimed.feedback == kept.feedback,
          "the traits of the registry's entry are not those of the attention it makes");
}

void one_segment(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  for (const int64_t kv_heads : {6, 3, 2, 1}) {
    for (const auto& [first, count] : {std::pair{12, 1}, std::pair{0, 13}, std::pair{4, 6}}) {
      SegmentScene scene({.kv_heads = kv_heads});
      scene.row(first, count).add(0, 13).require_right(*attention, PlainPosition());
    }
  }
}

void many_segments(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  for (const int64_t kv_heads : {6, 3, 2, 1}) {
    for (const int32_t block : {1, 5, 16}) {
      for (const auto& [first, count] : {std::pair{20, 1}, std::pair{10, 11}}) {
        SegmentScene scene({.kv_heads = kv_heads, .value_dim = 7});
        scene.row(first, count);
        add_blocks(scene, 21, block);
        scene.require_right(*attention, PlainPosition());
      }
    }
  }
}

void empty_segments(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  SegmentScene scene;
  scene.row(6, 3).add(0, 0).add(0, 4).add(4, 4).add(4, 9).add(9, 9);
  scene.require_right(*attention, PlainPosition());
}

void nothing_to_see(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  const PlainPosition none;
  // No entry at all; a head without entries; queries before every key, in one and in several runs;
  // a window that ends behind every key.
  SegmentScene empty;
  empty.row(0, 4).require_right(*attention, none);
  SegmentScene hole({.kv_heads = 2});
  hole.row(4, 2).add({.first = 0, .end = 6, .head_begin = 1}).require_right(*attention, none);
  SegmentScene later;
  later.row(0, 5).add(3, 9).require_right(*attention, none);
  SegmentScene later_blocks;
  later_blocks.row(0, 5).add(3, 5).add(5, 9).require_right(*attention, none);
  SegmentScene left_behind;
  left_behind.model_window = 3;
  left_behind.row(4, 4).add(0, 4).require_right(*attention, none);
  SegmentScene among_others;
  among_others.row(2, 1, 1).add(0, 3).row(0, 2, 2).row(5, 3, 3).add(0, 8);
  among_others.require_right(*attention, none);
  // Zeros are zeros, not something small.
  const at::Tensor output = later.attend(*attention, none);
  require(output.narrow(0, 0, 3).eq(0).all().item<bool>(),
          "queries that see nothing must give exactly 0: ", later.describe());
}

void no_queries(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  const PlainPosition none;
  const int64_t before = attention->gathered_bytes();
  SegmentScene alone;
  alone.row(8, 0).add(0, 4).add(4, 8).attend(*attention, none);
  require_equal(attention->gathered_bytes(), before, "bytes gathered for a row that asks nothing");
  SegmentScene among_others;
  among_others.row(3, 2, 1).add(0, 5).row(8, 0, 2).add(0, 4).add(4, 8).row(0, 0, 3);
  among_others.row(6, 1, 4).add(0, 7).require_right(*attention, none);
}

void blocks_in_any_place(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  const PlainPosition none;
  SegmentScene scene({.kv_heads = 2});
  scene.row(16, 4, 1);
  add_blocks(scene, 20, 5);
  scene.row(12, 1, 2);
  add_blocks(scene, 13, 5);
  const at::Tensor first = scene.require_right(*attention, none);
  for (uint64_t place = 1; place < 6; ++place) {
    Layout layout;
    layout.shuffle = place;
    layout.before = static_cast<int64_t>(place % 5);
    layout.behind = 1 + static_cast<int64_t>(place % 3);
    require(same_bits(first, scene.attend(*attention, none, layout)),
            "the same entries at other addresses give other bits, seed ", place, ": ",
            scene.describe());
  }
}

void masks_from_positions(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  const PlainPosition none;
  std::mt19937 random(5);
  for (int round = 0; round < 5; ++round) {
    std::array<int32_t, 5> blocks = {0, 1, 2, 3, 4};
    std::shuffle(blocks.begin(), blocks.end(), random);
    for (const auto& [first, count] : {std::pair{19, 1}, std::pair{5, 9}}) {
      SegmentScene scene;
      scene.row(first, count);
      for (const int32_t block : blocks) scene.add(4 * block, 4 * block + 4);
      scene.require_right(*attention, none);
    }
  }
  SegmentScene scattered;
  scattered.row(5, 8).add({.listed = {9, 2, 14, 0, 5}}).require_right(*attention, none);
  SegmentScene evicted;  // the sink and the recent ones are left
  evicted.row(40, 3).add(0, 2).add(33, 43).require_right(*attention, none);
  SegmentScene mixed;
  mixed.row(7, 4).add(5, 9).add({.listed = {3, 0}}).add({.listed = {10, 4, 9}});
  mixed.require_right(*attention, none);
}

void ragged_heads(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  const PlainPosition none;
  for (const auto& [first, count] : {std::pair{9, 1}, std::pair{3, 7}}) {
    SegmentScene scene;
    scene.row(first, count).add(0, 4);
    scene.add({.listed = {4, 6}, .head_begin = 0, .head_end = 1});
    scene.add({.listed = {5, 6, 8, 9}, .head_begin = 1, .head_end = 2});
    scene.add({.listed = {9}, .head_begin = 2, .head_end = 3});
    scene.require_right(*attention, none);
  }
  // Equal counts at unequal positions: nothing is padded, and still every head has its own mask.
  SegmentScene equal({.kv_heads = 2});
  equal.row(6, 3).add({.first = 0, .end = 4, .head_end = 1});
  equal.add({.first = 4, .end = 8, .head_begin = 1});
  equal.require_right(*attention, none);
  // The last query sees everything, so only padding is left to be masked.
  SegmentScene only_padding;
  only_padding.row(9, 1).add({.first = 0, .end = 9, .head_end = 1});
  only_padding.add({.first = 0, .end = 2, .head_begin = 1});
  only_padding.require_right(*attention, none);
}

void groups_of_heads(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  const PlainPosition none;
  struct Ratio {
    int64_t heads, kv_heads;
  };
  for (const auto& [heads, kv_heads] : {Ratio{6, 6}, Ratio{6, 3}, Ratio{6, 2}, Ratio{6, 1},
                                        Ratio{12, 4}, Ratio{9, 3}, Ratio{5, 1}, Ratio{1, 1}}) {
    SegmentScene scene({.heads = heads, .kv_heads = kv_heads});
    scene.row(3, 4).add(0, 3).add(3, 7).require_right(*attention, none);
    SegmentScene single({.heads = heads, .kv_heads = kv_heads});
    single.row(6, 1).add(0, 7).require_right(*attention, none);
  }
}

void keys_and_values_apart(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  struct Dims {
    int64_t key, value;
  };
  for (const auto& [key, value] :
       {Dims{7, 5}, Dims{5, 7}, Dims{7, 7}, Dims{1, 11}, Dims{64, 3}, Dims{16, 64}}) {
    for (const int32_t block : {3, 11}) {
      SegmentScene scene({.key_dim = key, .value_dim = value});
      scene.row(7, 4);
      add_blocks(scene, 11, block);
      scene.require_right(*attention, PlainPosition());
    }
  }
}

void any_strides(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  for (const bool token_major : {false, true}) {
    for (const int64_t gap : {0, 3}) {
      for (const int32_t block : {4, 11}) {
        Layout layout;
        layout.token_major = token_major;
        layout.gap = gap;
        SegmentScene scene;
        scene.row(8, 3);
        add_blocks(scene, 11, block);
        scene.require_right(*attention, PlainPosition(), layout);
      }
    }
  }
}

void unused_slots(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  for (const auto poison : {Layout::Poison::keys, Layout::Poison::values, Layout::Poison::both}) {
    for (const int32_t block : {1, 4, 10}) {
      Layout layout;
      layout.poison = poison;
      layout.before = 2;
      layout.behind = 3;
      layout.gap = 1;
      SegmentScene scene;
      scene.row(5, 5, 1);
      add_blocks(scene, 10, block);
      scene.row(9, 1, 2).add({.first = 0, .end = 7, .head_end = 1});
      scene.add({.first = 0, .end = 10, .head_begin = 1});
      scene.require_right(*attention, PlainPosition(), layout);
    }
  }
}

void aligned_at_positions(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  const PlainPosition none;
  for (int32_t entries = 1; entries <= 9; ++entries) {
    for (int32_t queries = 1; queries <= entries; ++queries) {
      SegmentScene scene;
      scene.row(entries - queries, queries).add(0, entries).require_right(*attention, none);
    }
  }
  // More queries than keys: the first look at nothing, the last at everything.
  SegmentScene few_keys;
  few_keys.row(0, 12).add(4, 7).require_right(*attention, none);
  // Keys that lie behind the last query are there already, and hidden.
  SegmentScene later_keys;
  later_keys.row(2, 3).add(0, 11).require_right(*attention, none);
}

void model_window(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  for (const int64_t window : {1, 2, 4, 11, 12, 13}) {
    for (const auto& [first, count] : {std::pair{11, 1}, std::pair{0, 12}, std::pair{8, 4}}) {
      for (const int32_t block : {5, 12}) {
        SegmentScene scene;
        scene.model_window = window;
        scene.row(first, count);
        add_blocks(scene, 12, block);
        scene.require_right(*attention, PlainPosition());
      }
    }
  }
}

void view_window(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  for (const int64_t window : {1, 3, 11, 12, 13}) {
    for (const int64_t sinks : {0, 1, 4}) {
      for (const int64_t models : {0, 5}) {
        for (const auto& [first, count] : {std::pair{11, 1}, std::pair{2, 10}}) {
          SegmentScene scene;
          scene.model_window = models;
          scene.view_window = window;
          scene.view_sinks = sinks;
          scene.row(first, count).add(0, 6).add(6, 12);
          scene.require_right(*attention, PlainPosition());
        }
      }
    }
  }
}

void scales(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  for (const float scale : {0.0F, 0.05F, 1.0F, 2.5F}) {
    SegmentScene scene;
    scene.scale = scale;
    scene.row(5, 4).add(0, 4).add(4, 9).require_right(*attention, PlainPosition());
  }
}

void alibi(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  for (const int64_t heads : {6, 8, 12}) {
    for (const auto& position : biasing_positions(registry, heads)) {
      for (const auto& [first, count] : {std::pair{16, 1}, std::pair{3, 14}}) {
        for (const int32_t block : {9, 17}) {
          SegmentScene scene({.heads = heads, .kv_heads = heads / 2});
          scene.row(first, count);
          add_blocks(scene, 17, block);
          scene.require_right(*attention, *position);
        }
      }
      // Distances are those of positions, and each head's own.
      SegmentScene ragged({.heads = heads, .kv_heads = 2});
      ragged.row(30, 3).add(0, 5).add({.listed = {29, 21}, .head_begin = 1});
      ragged.require_right(*attention, *position);
      SegmentScene narrowed({.heads = heads, .kv_heads = 2});
      narrowed.view_window = 4;
      narrowed.view_sinks = 2;
      narrowed.row(8, 5).add(0, 7).add(7, 13).require_right(*attention, *position);
    }
  }
}

void keys_before_position(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  PositionShape shape;
  shape.d_model = 14;
  shape.n_heads = 6;
  shape.head_dim = 10;
  shape.context = 1000;
  const auto positions = positions_of_kind(
      registry, shape, PlainPosition::Kind::rotates,
      [](const PositionTraits& traits) { return traits.rotates && traits.can_rebase; });
  for (const auto& position : positions) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      SegmentScene one({.key_dim = 10});
      one.key_type = one.value_type = type;
      one.keys_before_position = true;
      one.row(6, 3).add(0, 9).require_right(*attention, *position);
      SegmentScene shifted({.key_dim = 10});
      shifted.key_type = shifted.value_type = type;
      shifted.keys_before_position = true;
      shifted.row(40, 3, 1).add(0, 2).add({.first = 35, .end = 43, .rotary_shift = -33});
      shifted.row(7, 1, 2).add(0, 4).add({.listed = {7, 5}, .rotary_shift = 2});
      shifted.require_right(*attention, *position);
    }
  }
}

void bf16_entries(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  // Keys and values are exact in bf16, so that nothing but fp32 arithmetic is left.
  for (const auto& [keys, values] :
       {std::pair{at::kBFloat16, at::kBFloat16}, std::pair{at::kBFloat16, at::kFloat},
        std::pair{at::kFloat, at::kBFloat16}}) {
    for (const int32_t block : {7, 15}) {
      SegmentScene scene;
      scene.key_type = keys;
      scene.value_type = values;
      scene.row(2, 13, 1);
      add_blocks(scene, 15, block);
      scene.row(4, 1, 2).add(0, 5).require_right(*attention, PlainPosition());
    }
  }
}

void bf16_queries(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  for (const at::ScalarType entries : {at::kBFloat16, at::kFloat}) {
    for (const auto& [first, count] : {std::pair{399, 1}, std::pair{390, 10}}) {
      SegmentScene scene({.key_dim = 8, .value_dim = 8});
      scene.key_type = scene.value_type = entries;
      scene.query_type = at::kBFloat16;
      scene.row(first, count).add(0, 400);
      scene.require_right(*attention, PlainPosition(), {}, kHalfPrecision);
      if (!attention->traits().supports_bias) continue;
      for (const auto& position : biasing_positions(registry, 6)) {
        scene.require_right(*attention, *position, {}, kHalfPrecision);
      }
    }
  }
}

void many_queries(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  for (const int64_t window : {0, 100}) {
    for (const auto& [first, count] : {std::pair{0, 530}, std::pair{17, 257}}) {
      SegmentScene scene({.heads = 4, .kv_heads = 2});
      scene.model_window = window;
      scene.row(first, count).add(0, 300).add(300, 530);
      scene.require_right(*attention, PlainPosition());
    }
  }
}

void long_rows(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  for (const int32_t block : {16, 5000}) {
    SegmentScene scene({.heads = 4, .kv_heads = 2});
    scene.row(4997, 3);
    add_blocks(scene, 5000, block);
    scene.require_right(*attention, PlainPosition());
  }
}

void large_scores(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  // Scores around +-1024, whose exponentials overflow or vanish. The scene's products are multiples
  // of 2^-13, so that these scores are exact in fp32.
  for (const float lead : {1024.0F, -1024.0F}) {
    for (const int32_t block : {4, 9}) {
      SegmentScene scene;
      scene.scale = 1;
      scene.leading_key = lead;
      scene.row(4, 5, 1);
      add_blocks(scene, 9, block);
      scene.row(6, 1, 2).add({.first = 0, .end = 7, .head_end = 2});
      scene.add({.first = 0, .end = 3, .head_begin = 2});
      scene.require_right(*attention, PlainPosition());
    }
  }
}

void unequal_rows(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  SegmentScene scene;
  scene.row(12, 1, 1);  // decode, in blocks
  add_blocks(scene, 13, 5);
  scene.row(0, 9, 2).add(0, 9);                // a whole prompt
  scene.row(0, 0, 3);                          // nothing yet
  scene.row(30, 4, 4).add(0, 17).add(17, 34);  // a chunk
  scene.row(1, 1, 5).add(0, 2);
  scene.require_right(*attention, PlainPosition());
  SegmentScene ragged;  // the view is not uniform, though one row is
  ragged.row(5, 2, 1).add(0, 7);
  ragged.row(4, 1, 2).add({.first = 0, .end = 5, .head_end = 1});
  ragged.add({.first = 2, .end = 5, .head_begin = 1});
  ragged.require_right(*attention, PlainPosition());
}

void neighbours(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  const PlainPosition none;
  const auto output_beside = [&](int32_t text) {
    SegmentScene scene;
    scene.row(3, 4, text).add(0, 7);
    scene.row(8, 2, 1).add(0, 6).add(6, 10);
    scene.row(11, 1, text + 1).add(0, 12);
    return scene.attend(*attention, none).narrow(0, 4, 2);
  };
  require(same_bits(output_beside(10), output_beside(20)),
          "a row's output has other bits beside rows that hold other numbers");
}

void repeatable(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  const PlainPosition none;
  SegmentScene scene({.kv_heads = 2});
  scene.row(0, 300, 1).add(0, 300);
  scene.row(70, 1, 2).add(0, 30).add(30, 71);
  SegmentScene other_numbers({.kv_heads = 2});
  other_numbers.row(0, 300, 3).add(0, 300);
  other_numbers.row(70, 1, 4).add(0, 30).add(30, 71);
  SegmentScene other_shape({.heads = 4, .kv_heads = 4, .key_dim = 3, .value_dim = 9});
  other_shape.row(90, 8).add(0, 98);
  const at::Tensor first = scene.attend(*attention, none);
  require(same_bits(first, scene.attend(*attention, none)), "the same step gives other bits");
  other_numbers.require_right(*attention, none);
  other_shape.require_right(*attention, none);
  require(same_bits(first, scene.attend(*attention, none)),
          "the same step gives other bits after other steps");
  require(same_bits(first, scene.attend(*registry.make_attention(spec), none)),
          "the same step gives other bits in another instance");
}

void fused_queries(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  Layout fused;
  fused.fused_query = true;
  for (const auto& [first, count] : {std::pair{12, 1}, std::pair{5, 8}}) {
    for (const int32_t block : {4, 13}) {
      SegmentScene scene;
      scene.row(first, count, 1);
      add_blocks(scene, 13, block);
      scene.row(3, 2, 2).add(0, 5).require_right(*attention, PlainPosition(), fused);
    }
  }
}

void counted_gathers(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  const PlainPosition none;
  const int64_t before = attention->gathered_bytes();
  SegmentScene one;
  one.row(12, 1).add(0, 13).attend(*attention, none);
  require_equal(attention->gathered_bytes(), before, "bytes gathered of a row that is one segment");
  SegmentScene two;
  two.row(12, 1).add(0, 6).add(6, 13).attend(*attention, none);
  const int64_t bytes = 13 * 3 * (7 + 5) * static_cast<int64_t>(sizeof(float));
  require_equal(attention->gathered_bytes() - before, bytes,
                "bytes gathered of 13 entries in two segments");
}

SegmentScene random_scene(uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto below = [&](int64_t limit) {
    return static_cast<int64_t>(random() % static_cast<uint64_t>(limit));
  };
  const int64_t kv_heads = 1 + below(4);
  SegmentScene scene({.heads = kv_heads * (1 + below(3)),
                      .kv_heads = kv_heads,
                      .key_dim = 1 + below(12),
                      .value_dim = 1 + below(12)});
  if (below(3) == 0) scene.key_type = scene.value_type = at::kBFloat16;
  if (below(3) == 0) scene.model_window = 1 + below(20);
  if (below(3) == 0) {
    scene.view_window = 1 + below(20);
    scene.view_sinks = below(5);
  }
  const int64_t rows = 1 + below(4);
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t length = below(30);
    const int64_t count = std::min(length, below(9));
    scene.row(length - count, count, static_cast<int32_t>(row));
    const bool ragged = kv_heads > 1 && below(2) == 0;
    // Every range of heads gets its own cuts of the text, some left out.
    const int64_t cut = ragged ? 1 + below(kv_heads - 1) : kv_heads;
    for (int64_t begin = 0; begin < kv_heads; begin += begin == 0 ? cut : kv_heads - cut) {
      for (int64_t first = 0; first < length;) {
        const int64_t end = std::min(length, first + 1 + below(12));
        SceneRun run;
        run.first = static_cast<int32_t>(first);
        run.end = static_cast<int32_t>(end);
        run.head_begin = static_cast<int>(begin);
        run.head_end = static_cast<int>(begin == 0 ? cut : kv_heads);
        if (below(3) == 0) {
          for (int64_t at = end - 1; at >= first; --at) {
            run.listed.push_back(static_cast<int32_t>(at));
          }
          std::shuffle(run.listed.begin(), run.listed.end(), random);
        }
        if (below(5) != 0) scene.add(std::move(run));
        first = end;
      }
    }
  }
  return scene;
}

void random_scenes(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  constexpr uint64_t kScenes = 200;
  for (uint64_t seed = 1; seed <= kScenes; ++seed) {
    const SegmentScene scene = random_scene(seed);
    Layout layout;
    layout.shuffle = seed;
    layout.token_major = seed % 2 == 0;
    layout.gap = static_cast<int64_t>(seed % 3);
    layout.fused_query = seed % 5 == 0;
    try {
      scene.require_right(*attention, PlainPosition(), layout);
    } catch (const Failure& failure) {
      throw Failure(detail::concat("scene of seed ", seed, ": ", failure.what()));
    }
  }
}

void codes_with_scales(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  const PlainPosition none;
  for (const auto& [keys, values] :
       {std::pair{at::kChar, at::kChar}, std::pair{at::kChar, at::kFloat},
        std::pair{at::kBFloat16, at::kChar}}) {
    for (const bool token_major : {false, true}) {
      Layout layout;
      layout.token_major = token_major;
      layout.gap = token_major ? 2 : 0;
      for (const int32_t block : {7, 40}) {
        SegmentScene scene({.kv_heads = 2, .key_dim = 70, .value_dim = 37});
        scene.key_type = keys;
        scene.value_type = values;
        scene.scale = 0.1F;
        scene.row(39, 1, 1);
        add_blocks(scene, 40, block);
        scene.row(0, 30, 2).add(0, 30).require_right(*attention, none, layout);
      }
    }
    SegmentScene ragged;
    ragged.key_type = keys;
    ragged.value_type = values;
    ragged.row(9, 2).add(0, 4).add({.listed = {10, 6}, .head_begin = 1, .head_end = 2});
    ragged.add({.first = 5, .end = 9, .head_begin = 2}).require_right(*attention, none);
  }
}

// Rows, lengths and heads that give every way of cutting work something to cut.
std::vector<SegmentScene> scenes_to_share() {
  std::vector<SegmentScene> scenes;
  SegmentScene decode({.heads = 9, .kv_heads = 3, .key_dim = 16, .value_dim = 16});
  decode.row(1299, 1).add(0, 700).add(700, 1300);
  scenes.push_back(decode);
  SegmentScene batch({.kv_heads = 2});
  for (int32_t row = 0; row < 5; ++row) {
    batch.row(100 + 70 * row, 1 + row % 2, row);
    add_blocks(batch, 102 + 70 * row, 16);
  }
  scenes.push_back(batch);
  SegmentScene prompt({.heads = 4, .kv_heads = 2});
  prompt.row(0, 200).add(0, 200);
  scenes.push_back(prompt);
  SegmentScene chunk({.heads = 4, .kv_heads = 1});
  chunk.row(2000, 20).add(0, 2020);
  scenes.push_back(chunk);
  return scenes;
}

void any_threads(const Registry& registry, const ComponentSpec& spec) {
  const auto attention = registry.make_attention(spec);
  const PlainPosition none;
  std::vector<std::unique_ptr<ThreadPool>> pools;
  for (const int threads : {1, 2, 3, 5}) pools.push_back(std::make_unique<ThreadPool>(threads));
  for (SegmentScene scene : scenes_to_share()) {
    const at::Tensor alone = scene.require_right(*attention, none);
    for (const auto& pool : pools) {
      scene.threads = pool.get();
      require(same_bits(alone, scene.attend(*attention, none)), pool->threads(),
              " threads give other bits than one: ", scene.describe());
    }
  }
}

void feedback(const Registry& registry, const ComponentSpec& spec) {
  using Reduction = FeedbackRequest::GroupReduction;
  const auto attention = registry.make_attention(spec);
  const PlainPosition none;
  const PlainPosition biased(PlainPosition::Kind::slopes, 6);
  ThreadPool pool(2);
  for (const FeedbackRequest::Kind kind : attention->traits().feedback) {
    for (const Reduction reduction : {Reduction::sum, Reduction::mean, Reduction::max}) {
      FeedbackRequest request;
      request.kind = kind;
      request.rows = 3;
      request.reduction = reduction;
      SegmentScene scene;  // prompts, a chunk, decode, a row that asks nothing, blocks in disorder
      scene.row(0, 9, 1).add(0, 9).row(20, 2, 2).add(16, 22).add(0, 16).row(5, 0, 3).add(0, 5);
      scene.row(12, 1, 4).add(0, 4).add({.listed = {12, 9, 10}}).require_right_feedback(
          *attention, none, request);
      scene.threads = &pool;
      scene.view_window = 4;
      scene.view_sinks = 1;
      scene.require_right_feedback(*attention, none, request);
      if (attention->traits().supports_bias) {
        scene.require_right_feedback(*attention, biased, request);
      }
      SegmentScene ragged({.kv_heads = 2});
      ragged.key_type = ragged.value_type = at::kBFloat16;
      ragged.row(9, 4).add(0, 4).add({.listed = {12, 6}, .head_begin = 0, .head_end = 1});
      ragged.add({.first = 5, .end = 13, .head_begin = 1});
      ragged.require_right_feedback(*attention, none, request);
      SegmentScene long_row({.heads = 4, .kv_heads = 2});
      long_row.row(290, 270).add(0, 100).add(100, 560);
      long_row.require_right_feedback(*attention, none, request);
    }
  }
}

void every_target(const Registry& registry, const ComponentSpec& spec) {
  struct BestTarget {
    std::string before = kernels::target();
    ~BestTarget() { kernels::use_target(before); }
  };
  const auto attention = registry.make_attention(spec);
  const BestTarget restored;
  for (const std::string& target : kernels::available_targets()) {
    kernels::use_target(target);
    try {
      for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kChar}) {
        for (const int64_t dim : {5, 64, 75}) {
          SegmentScene scene({.heads = 7, .kv_heads = 1, .key_dim = dim, .value_dim = dim + 3});
          scene.key_type = scene.value_type = type;
          scene.scale = 0.05F;
          scene.row(40, 1, 1).add(0, 16).add(16, 41).row(0, 31, 2).add(0, 31);
          scene.require_right(*attention, PlainPosition());
        }
      }
      for (uint64_t seed = 1000; seed < 1030; ++seed) {
        random_scene(seed).require_right(*attention, PlainPosition());
      }
    } catch (const Failure& failure) {
      throw Failure(detail::concat("on ", target, ": ", failure.what()));
    }
  }
}

std::string always(const AttentionTraits&) { return ""; }

std::string where_feedback(const AttentionTraits& traits) {
  return traits.feedback.empty() ? "gives no feedback" : "";
}

std::string where_biased(const AttentionTraits& traits) {
  return traits.supports_bias ? "" : "takes no bias";
}

std::string where_dense(const AttentionTraits& traits) {
  return traits.reads_segments ? "reads segments where they lie" : "";
}

constexpr AttentionProperty kProperties[] = {
    {"DescribesItself",
     "The entry has a summary, a sentence per option and valid examples; its traits are those of "
     "what it makes.",
     described, always},
    {"ReadsOneSegment", "A row that is one run gives dense attention's answer.", one_segment,
     always},
    {"ReadsManySegments", "A row of several runs gives dense attention's answer.", many_segments,
     always},
    {"IgnoresEmptySegments", "Runs without entries change nothing.", empty_segments, always},
    {"GivesZerosWhereThereIsNothingToSee", "A query that sees no key gives exactly 0.",
     nothing_to_see, always},
    {"AsksNothingForARowWithoutQueries",
     "A row without queries is not gathered and leaves the others right.", no_queries, always},
    {"DoesNotDependOnWhereBlocksLie", "The same entries at other addresses give the same bits.",
     blocks_in_any_place, always},
    {"TakesMasksFromPositionsNotFromSlots",
     "Runs in any order, with listed positions or with gaps, are masked by their positions.",
     masks_from_positions, always},
    {"ReadsHeadsOfDifferentCounts",
     "Every KV head has its own entries and positions; padding is never seen.", ragged_heads,
     always},
    {"SharesAKVHeadBetweenNeighbours", "Query head h reads KV head h / (H / G).", groups_of_heads,
     always},
    {"KeepsKeysAndValuesApart", "K and V may have different dims and never mix.",
     keys_and_values_apart, always},
    {"ReadsAnyStrides", "Entries may be head-major or token-major, with gaps.", any_strides,
     always},
    {"NeverReadsUnusedSlots", "NaN beside the entries, in K, V or both, does not come out.",
     unused_slots, always},
    {"AlignsQueriesWithKeysByPosition",
     "With fewer queries than keys, or more, each query sees the keys up to its own position.",
     aligned_at_positions, always},
    {"ObeysTheModelsWindow", "A window of W shows W keys, the query's own included.", model_window,
     always},
    {"ObeysTheViewsWindowAndSinks", "A view's window and sinks narrow the model's mask.",
     view_window, always},
    {"AppliesTheScale", "Scores are multiplied by the given scale.", scales, always},
    {"AddsABiasByDistance",
     "A head's slope times (key position - query position) is added to its scores.", alibi,
     where_biased},
    {"RotatesKeysKeptBeforePosition",
     "Keys kept before position count as rotated at their position and shift.",
     keys_before_position, always},
    {"ReadsBf16Entries", "bf16 keys or values are read exactly.", bf16_entries, always},
    {"ReadsCodesWithTheirScales", "int8 entries count as code times the scale of entry and head.",
     codes_with_scales, always},
    {"AccumulatesBf16QueriesInF32", "Long sums of bf16 stay within bf16's own precision.",
     bf16_queries, always},
    {"AnswersMoreQueriesThanItHoldsAtOnce", "Long prompts are cut without a seam.", many_queries,
     always},
    {"ReadsVeryLongRows", "5,000 entries, in one run and in blocks.", long_rows, always},
    {"SurvivesLargeScores", "Scores whose exponentials overflow or vanish give finite answers.",
     large_scores, always},
    {"AnswersRowsOfUnequalLengthInOneStep",
     "Decoding rows, prompts, chunks and empty rows in one step do not mix.", unequal_rows, always},
    {"NeighboursDoNotChangeARow", "A row's bits do not depend on what other rows hold.", neighbours,
     always},
    {"IsRepeatableToTheBit", "The same step gives the same bits, whatever came between.",
     repeatable, always},
    {"ReadsQueriesOfAFusedProjection", "Queries may be slices of a wider tensor.", fused_queries,
     always},
    {"CountsTheBytesItGathers", "One run costs no copy; several cost their bytes.", counted_gathers,
     where_dense},
    {"GivesTheSameBitsForAnyNumberOfThreads",
     "Alone and with pools of 1, 2, 3 and 5 threads the bits are the same.", any_threads, always},
    {"AgreesOnEveryInstructionSet",
     "The answer is right on each instruction set that this processor has.", every_target, always},
    {"GivesTheReductionsItDeclares",
     "Feedback is the sum of probabilities per entry, over the asked queries and the group.",
     feedback, where_feedback},
    {"AgreesOnRandomScenes", "200 seeded scenes of everything above.", random_scenes, always},
};

}  // namespace

std::span<const AttentionProperty> attention_properties() { return kProperties; }

}  // namespace kvlab::conformance
