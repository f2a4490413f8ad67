// The properties of caches as functions, one source file per topic; the table of names, rules and
// conditions is in cache_properties.cpp. Each throws Failure unless the property holds.
#pragma once

#include "kvlab/conformance/cache_case.h"

namespace kvlab::conformance {

// cache_properties_answers.cpp: the same answer as no cache.
void token_by_token_gives_the_same_answer(const Registry&, const CacheCase&);
void any_chunking_gives_the_same_answer(const Registry&, const CacheCase&);
void short_chunks_give_the_same_answer(const Registry&, const CacheCase&);
void lengths_around_every_edge_give_the_same_answer(const Registry&, const CacheCase&);
void rows_of_unequal_length_do_not_mix(const Registry&, const CacheCase&);
void rows_without_new_tokens_are_left_alone(const Registry&, const CacheCase&);
void answers_repeat_bit_for_bit(const Registry&, const CacheCase&);
void placement_is_invisible(const Registry&, const CacheCase&);
void sliced_sources_give_the_same_bits(const Registry&, const CacheCase&);
void two_instances_do_not_know_each_other(const Registry&, const CacheCase&);
void addresses_are_64_bit(const Registry&, const CacheCase&);

// cache_properties_codes.cpp: numbers kept as codes, and numbers that are none.
void codes_are_within_half_a_scale(const Registry&, const CacheCase&);
void what_is_not_a_number_comes_out_as_none(const Registry&, const CacheCase&);

// cache_properties_rows.cpp: fork, truncate, reset.
void forked_rows_diverge_independently(const Registry&, const CacheCase&);
void forks_of_forks_write_in_one_step(const Registry&, const CacheCase&);
void fork_replaces_what_the_target_held(const Registry&, const CacheCase&);
void forked_rows_go_in_any_order(const Registry&, const CacheCase&);
void beam_reorder_with_repeats_keeps_every_beam(const Registry&, const CacheCase&);
void truncating_to_any_length_is_as_if_never_fed(const Registry&, const CacheCase&);
void truncation_reaches_what_is_still_stored(const Registry&, const CacheCase&);
void truncation_past_the_length_is_refused(const Registry&, const CacheCase&);
void truncated_forks_do_not_touch_each_other(const Registry&, const CacheCase&);
void a_reset_row_is_like_new(const Registry&, const CacheCase&);

// cache_properties_refusals.cpp: errors, aborts, misuse.
void a_full_row_refuses_the_step_and_nothing_changes(const Registry&, const CacheCase&);
void a_text_that_can_never_fit_is_refused_at_once(const Registry&, const CacheCase&);
void a_refused_step_changes_nothing_wherever_memory_ends(const Registry&, const CacheCase&);
void an_append_without_memory_can_be_aborted_and_retried(const Registry&, const CacheCase&);
void a_fork_without_memory_leaves_the_source_alone(const Registry&, const CacheCase&);
void an_abort_in_any_phase_restores_everything(const Registry&, const CacheCase&);
void an_aborted_first_step_leaves_an_empty_cache(const Registry&, const CacheCase&);
void nothing_is_lost_over_a_hundred_refusals(const Registry&, const CacheCase&);
void keys_and_values_of_another_kind_are_refused(const Registry&, const CacheCase&);
void rows_and_layers_that_do_not_exist_are_refused(const Registry&, const CacheCase&);
void a_step_starts_at_the_length(const Registry&, const CacheCase&);
void a_view_needs_its_layer_appended_in_this_step(const Registry&, const CacheCase&);
void operations_inside_a_step_are_refused(const Registry&, const CacheCase&);
void steps_beyond_the_declared_chunk_are_refused(const Registry&, const CacheCase&);
void what_is_not_promised_is_refused(const Registry&, const CacheCase&);

// cache_properties_memory.cpp: views, bytes and what is kept.
void two_views_of_a_layer_are_the_same(const Registry&, const CacheCase&);
void a_view_lasts_until_the_next_change(const Registry&, const CacheCase&);
void lookups_change_nothing(const Registry&, const CacheCase&);
void payload_counts_every_live_entry_once(const Registry&, const CacheCase&);
void fragmentation_is_the_share_of_empty_bytes(const Registry&, const CacheCase&);
void moved_bytes_are_counted(const Registry&, const CacheCase&);
void the_estimate_equals_the_arena(const Registry&, const CacheCase&);
void all_memory_comes_back(const Registry&, const CacheCase&);
void a_constructor_without_memory_holds_none(const Registry&, const CacheCase&);
void storage_does_not_grow_with_the_text(const Registry&, const CacheCase&);
void memory_is_flat_over_many_steps(const Registry&, const CacheCase&);
void a_steps_tensors_are_let_go(const Registry&, const CacheCase&);

}  // namespace kvlab::conformance
