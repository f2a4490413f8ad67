#include "kvlab/conformance/cache_properties.h"

#include "cache_property_functions.h"

namespace kvlab::conformance {

namespace {

std::string always(const CacheTraits&) { return ""; }

std::string forks(const CacheTraits& traits) { return traits.forks ? "" : "does not fork"; }

std::string truncates(const CacheTraits& traits) {
  return traits.truncation == Truncation::exact ? "" : "does not truncate to any length";
}

std::string forks_and_truncates(const CacheTraits& traits) {
  return traits.forks ? truncates(traits) : forks(traits);
}

std::string goes_back(const CacheTraits& traits) {
  const bool some =
      traits.truncation == Truncation::exact || traits.truncation == Truncation::resident;
  return some ? "" : "does not truncate";
}

std::string stores_what_it_is_given(const CacheTraits& traits) {
  return traits.exact || traits.window > 0
             ? ""
             : "is approximate: inspect may decode entries, which then have no place of their own";
}

std::string is_bounded(const CacheTraits& traits) {
  return traits.bounded ? "" : "is not bounded: storage may grow with the text";
}

constexpr CacheProperty kProperties[] = {
    {"TokenByTokenGivesTheSameAnswer", "Feeding one token at a time gives the oracle's answer.",
     token_by_token_gives_the_same_answer, always},
    {"AnyChunkingGivesTheSameAnswer", "A text fed in chunks of any size gives the oracle's answer.",
     any_chunking_gives_the_same_answer, always},
    {"ShortChunksGiveTheSameAnswer",
     "A cache built for steps of 1, 2, 3 or 5 tokens gives the oracle's answer.",
     short_chunks_give_the_same_answer, always},
    {"LengthsAroundEveryEdgeGiveTheSameAnswer",
     "Texts and chunks as long as a block, window or capacity, one more and one less, give the "
     "oracle's answer.",
     lengths_around_every_edge_give_the_same_answer, always},
    {"RowsOfUnequalLengthDoNotMix", "Each row of a ragged step gets its own answer.",
     rows_of_unequal_length_do_not_mix, always},
    {"RowsWithoutNewTokensAreLeftAlone", "Rows with no new token and empty steps change nothing.",
     rows_without_new_tokens_are_left_alone, always},
    {"AnswersRepeatBitForBit",
     "Equal step shapes give equal bits, whatever the other rows contain.",
     answers_repeat_bit_for_bit, always},
    {"PlacementIsInvisible",
     "Where entries lie after earlier texts does not change a bit of the answer.",
     placement_is_invisible, always},
    {"SlicedSourcesGiveTheSameBits",
     "K and V that are slices of a wider tensor give the same bits as tensors of their own.",
     sliced_sources_give_the_same_bits, always},
    {"TwoInstancesDoNotKnowEachOther", "Two caches used in turn keep to themselves.",
     two_instances_do_not_know_each_other, always},
    {"AddressesAre64Bit",
     "Heads of an entry are found again where as much is reserved that they lie 2^31 elements apart.",
     addresses_are_64_bit, always, true},

    {"CodesAreWithinHalfAScale",
     "Only an approximate cache keeps codes; none is off by more than half its scale, and none has "
     "a scale coarser than it needs.",
     codes_are_within_half_a_scale, always},
    {"WhatIsNotANumberComesOutAsNone",
     "A NaN or an infinity in K or V comes out as one, in its own head and token only.",
     what_is_not_a_number_comes_out_as_none, always},

    {"ForkedRowsDivergeIndependently", "A forked row and its source are two independent rows.",
     forked_rows_diverge_independently, forks},
    {"ForksOfForksWriteInOneStep", "Several rows that share storage may write in one step.",
     forks_of_forks_write_in_one_step, forks},
    {"ForkReplacesWhatTheTargetHeld", "A fork drops what its target held before.",
     fork_replaces_what_the_target_held, forks},
    {"ForkedRowsGoInAnyOrder", "Rows that share storage can be reset in any order.",
     forked_rows_go_in_any_order, forks},
    {"BeamReorderWithRepeatsKeepsEveryBeam", "Beams reordered by forks keep their own texts.",
     beam_reorder_with_repeats_keeps_every_beam, forks},
    {"TruncatingToAnyLengthIsAsIfNeverFed",
     "After truncate(n) a row is as if only its first n tokens had been fed.",
     truncating_to_any_length_is_as_if_never_fed, truncates},
    {"TruncationReachesWhatIsStillStored",
     "truncate(n) works wherever a text of n tokens can go on with what is stored, and elsewhere "
     "throws UserError and changes nothing.",
     truncation_reaches_what_is_still_stored, goes_back},
    {"TruncationPastTheLengthIsRefused", "truncate past the length or below 0 throws UserError.",
     truncation_past_the_length_is_refused, goes_back},
    {"TruncatedForksDoNotTouchEachOther", "A truncated row leaves rows alone that it shares with.",
     truncated_forks_do_not_touch_each_other, forks_and_truncates},
    {"AResetRowIsLikeNew", "A reset row takes a new text as if it had never held one.",
     a_reset_row_is_like_new, always},

    {"AFullRowRefusesTheStepAndNothingChanges",
     "A step past the longest text throws CapacityError and no row changes.",
     a_full_row_refuses_the_step_and_nothing_changes, always},
    {"ATextThatCanNeverFitIsRefusedAtOnce",
     "A step longer than the longest text is refused by begin_step of an empty cache.",
     a_text_that_can_never_fit_is_refused_at_once, always},
    {"ARefusedStepChangesNothingWhereverMemoryEnds",
     "Wherever memory ends in begin_step, lengths and contents stay, at most the step's own room "
     "is kept, and refusing again keeps no more.",
     a_refused_step_changes_nothing_wherever_memory_ends, always},
    {"AnAppendWithoutMemoryCanBeAbortedAndRetried",
     "Wherever memory ends in append, the step can be aborted and fed again.",
     an_append_without_memory_can_be_aborted_and_retried, always},
    {"AForkWithoutMemoryLeavesTheSourceAlone",
     "Wherever memory ends in fork, the source stays and the target is empty.",
     a_fork_without_memory_leaves_the_source_alone, forks},
    {"AnAbortInAnyPhaseRestoresEverything",
     "An aborted step leaves lengths and contents as before, in whatever phase it was.",
     an_abort_in_any_phase_restores_everything, always},
    {"AnAbortedFirstStepLeavesAnEmptyCache", "An aborted first step leaves no payload.",
     an_aborted_first_step_leaves_an_empty_cache, always},
    {"NothingIsLostOverAHundredRefusals",
     "After a hundred aborted and refused steps the whole capacity is there, in no more storage "
     "than a new cache takes.",
     nothing_is_lost_over_a_hundred_refusals, always},
    {"KeysAndValuesOfAnotherKindAreRefused",
     "K or V of another dtype, shape or layer throw UserError; nothing is cast or broadcast.",
     keys_and_values_of_another_kind_are_refused, always},
    {"RowsAndLayersThatDoNotExistAreRefused", "Rows and layers that do not exist throw UserError.",
     rows_and_layers_that_do_not_exist_are_refused, always},
    {"AStepStartsAtTheLength", "A step that does not start at the row's length throws UserError.",
     a_step_starts_at_the_length, always},
    {"AViewNeedsItsLayerAppendedInThisStep",
     "A view of a layer that this step has not appended throws UserError.",
     a_view_needs_its_layer_appended_in_this_step, always},
    {"OperationsInsideAStepAreRefused",
     "inspect, reset, truncate, fork and begin_step throw UserError while a step runs.",
     operations_inside_a_step_are_refused, always},
    {"StepsBeyondTheDeclaredChunkAreRefused",
     "More tokens of a row than max_step_tokens throw UserError.",
     steps_beyond_the_declared_chunk_are_refused, always},
    {"WhatIsNotPromisedIsRefused",
     "fork, truncate, match_prefix and observe throw UserError where the traits do not promise "
     "them.",
     what_is_not_promised_is_refused, always},

    {"TwoViewsOfALayerAreTheSame", "Asking for a view twice gives the same segments.",
     two_views_of_a_layer_are_the_same, always},
    {"AViewLastsUntilTheNextChange", "Const calls leave a view and what it points at alone.",
     a_view_lasts_until_the_next_change, always},
    {"LookupsChangeNothing", "Inspecting and measuring changes neither contents nor memory.",
     lookups_change_nothing, always},
    {"PayloadCountsEveryLiveEntryOnce",
     "The payload is the bytes of all entries that inspect gives, shared ones once.",
     payload_counts_every_live_entry_once, always},
    {"FragmentationIsTheShareOfEmptyBytes",
     "fragmentation is the share of allocated bytes that hold no entry.",
     fragmentation_is_the_share_of_empty_bytes, always},
    {"MovedBytesAreCounted",
     "bytes_moved counts the entries that an operation put somewhere else, and little more.",
     moved_bytes_are_counted, stores_what_it_is_given},
    {"TheEstimateEqualsTheArena",
     "The estimate equals the arena's live and peak bytes of every kind.",
     the_estimate_equals_the_arena, always},
    {"AllMemoryComesBack", "A destroyed cache holds no byte.", all_memory_comes_back, always},
    {"AConstructorWithoutMemoryHoldsNone",
     "Wherever memory ends in the constructor, nothing is left behind.",
     a_constructor_without_memory_holds_none, always},
    {"StorageDoesNotGrowWithTheText",
     "A bounded cache takes no more storage for a text ten times its size.",
     storage_does_not_grow_with_the_text, is_bounded},
    {"MemoryIsFlatOverManySteps",
     "Arena and allocator give out no more after thousands of steps than after the first.",
     memory_is_flat_over_many_steps, always},
    {"AStepsTensorsAreLetGo",
     "Nobody holds the step's K and V after it, even where they require gradients.",
     a_steps_tensors_are_let_go, always},
};

}  // namespace

std::span<const CacheProperty> cache_properties() { return kProperties; }

const CacheProperty* find_cache_property(const std::string& name) {
  for (const CacheProperty& property : kProperties) {
    if (property.name == name) return &property;
  }
  return nullptr;
}

}  // namespace kvlab::conformance
