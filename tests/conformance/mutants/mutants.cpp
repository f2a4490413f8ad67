#include "mutants.h"

#include <memory>

#include "block_cache.h"
#include "coded_cache.h"
#include "contiguous_cache.h"
#include "ring_cache.h"

namespace kvlab::mutants {

namespace {

constexpr Mutant kMutants[] = {
    // Answers.
    {Bug::keys_and_values_swapped, Base::contiguous, "keys_and_values_swapped",
     "TokenByTokenGivesTheSameAnswer", "K is stored as V and V as K",
     "https://github.com/huggingface/transformers/issues/34232"},
    {Bug::values_read_from_keys, Base::contiguous, "values_read_from_keys",
     "TokenByTokenGivesTheSameAnswer", "the view's values point at the keys",
     "https://github.com/flashinfer-ai/flashinfer/issues/4976"},
    {Bug::heads_tiled, Base::contiguous, "heads_tiled", "TokenByTokenGivesTheSameAnswer",
     "KV heads are stored tiled instead of in order",
     "https://github.com/onnx/onnx/pull/7274"},
    {Bug::own_tokens_missing, Base::contiguous, "own_tokens_missing",
     "TokenByTokenGivesTheSameAnswer",
     "the view ends at the length before the step: no token sees itself",
     "a teaching repository slices to the old length; prefill output measured as 0"},
    {Bug::newest_missing, Base::contiguous, "newest_missing", "TokenByTokenGivesTheSameAnswer",
     "one entry too few in the view",
     "https://github.com/huggingface/transformers/issues/27040"},
    {Bug::one_slot_too_many, Base::contiguous, "one_slot_too_many",
     "TokenByTokenGivesTheSameAnswer", "the view ends one unwritten slot behind the text",
     "https://github.com/vllm-project/vllm/pull/936"},
    {Bug::oldest_dropped_when_long, Base::contiguous, "oldest_dropped_when_long",
     "LengthsAroundEveryEdgeGiveTheSameAnswer",
     "texts over 16 tokens lose their first one, though the traits say exact",
     "https://github.com/sgl-project/sglang/issues/8649"},
    {Bug::positions_from_one, Base::contiguous, "positions_from_one",
     "TokenByTokenGivesTheSameAnswer", "positions are shifted by one",
     "https://github.com/huggingface/transformers/issues/43082"},
    {Bug::strides_ignored, Base::contiguous, "strides_ignored", "SlicedSourcesGiveTheSameBits",
     "K and V are read as if they were contiguous", "https://github.com/ROCm/aiter/pull/3498"},
    {Bug::packed_offset_ignored, Base::contiguous, "packed_offset_ignored",
     "RowsOfUnequalLengthDoNotMix", "every row reads the first tokens of the packed step",
     "https://github.com/Blaizzy/mlx-vlm/pull/1155"},
    {Bug::every_row_written_to_row_0, Base::contiguous, "every_row_written_to_row_0",
     "RowsOfUnequalLengthDoNotMix", "the row index is lost on the way to the buffer",
     "https://github.com/Dao-AILab/flash-attention/issues/772"},
    {Bug::every_layer_written_to_layer_0, Base::contiguous, "every_layer_written_to_layer_0",
     "TokenByTokenGivesTheSameAnswer", "the layer index is lost on the way to the buffer",
     "https://github.com/NVIDIA/TensorRT-LLM/issues/8813"},
    {Bug::view_of_the_step_before, Base::blocks, "view_of_the_step_before",
     "TokenByTokenGivesTheSameAnswer", "the view is built once and not again in the next step",
     "https://github.com/MemTensor/MemOS/issues/2301"},
    {Bug::view_skips_idle_rows, Base::contiguous, "view_skips_idle_rows",
     "RowsWithoutNewTokensAreLeftAlone", "rows without new tokens have no slice in the view",
     "https://github.com/Dao-AILab/flash-attention/pull/1155"},
    {Bug::idle_row_advances, Base::contiguous, "idle_row_advances",
     "RowsWithoutNewTokensAreLeftAlone", "end_step counts one token for rows that were fed none",
     "https://github.com/nod-ai/amd-shark-ai/pull/665"},
    {Bug::growth_copies_flat, Base::contiguous, "growth_copies_flat",
     "AnyChunkingGivesTheSameAnswer", "growing copies bytes in order, with the old head stride",
     "https://github.com/LMCache/LMCache/pull/4467"},
    {Bug::plan_read_after_the_step, Base::contiguous, "plan_read_after_the_step",
     "AnyChunkingGivesTheSameAnswer",
     "the write cursor is moved at the next step from a plan that the engine reuses",
     "https://github.com/hyprstream/hyprstream/pull/1521"},
    {Bug::lengths_shared_by_instances, Base::contiguous, "lengths_shared_by_instances",
     "TwoInstancesDoNotKnowEachOther", "lengths are static",
     "https://github.com/NVIDIA/TensorRT-LLM/issues/8813"},
    {Bug::address_of_32_bits, Base::whole, "address_of_32_bits", "AddressesAre64Bit",
     "offsets are computed in 32 bits", "https://github.com/vllm-project/vllm/issues/1486"},
    {Bug::first_entry_goes_to_the_block_before, Base::blocks,
     "first_entry_goes_to_the_block_before", "LengthsAroundEveryEdgeGiveTheSameAnswer",
     "a chunk that starts a block is written to the block before",
     "https://github.com/flashinfer-ai/flashinfer/issues/725"},
    {Bug::chunk_restarts_in_every_block, Base::blocks, "chunk_restarts_in_every_block",
     "AnyChunkingGivesTheSameAnswer", "each block of a chunk gets the chunk's first tokens",
     "https://github.com/GeeeekExplorer/nano-vllm/pull/213"},
    {Bug::positions_from_blocks, Base::blocks, "positions_from_blocks",
     "RowsOfUnequalLengthDoNotMix", "positions are block ids times the block size",
     "https://github.com/ggml-org/llama.cpp/issues/3840"},
    {Bug::view_in_the_order_of_blocks, Base::blocks, "view_in_the_order_of_blocks",
     "PlacementIsInvisible", "segments are sorted by block, so sums depend on placement",
     "https://github.com/flashinfer-ai/flashinfer/issues/3219"},
    {Bug::view_order_changes_between_runs, Base::blocks, "view_order_changes_between_runs",
     "AnswersRepeatBitForBit", "the order of segments depends on what ran before",
     "https://github.com/vllm-project/vllm/issues/39146"},

    // Windows and rings.
    {Bug::view_window_one_too_wide, Base::ring, "view_window_one_too_wide",
     "TokenByTokenGivesTheSameAnswer", "the mask lets W + 1 tokens through",
     "https://github.com/ml-explore/mlx-lm/issues/390"},
    {Bug::view_window_one_too_narrow, Base::ring, "view_window_one_too_narrow",
     "TokenByTokenGivesTheSameAnswer", "the mask lets W - 1 tokens through",
     "https://github.com/huggingface/transformers/issues/26792"},
    {Bug::view_window_undeclared, Base::ring, "view_window_undeclared",
     "TokenByTokenGivesTheSameAnswer", "the traits have a window, the view has none",
     "https://github.com/huggingface/transformers/pull/45940"},
    {Bug::window_evicts_one_too_many, Base::ring, "window_evicts_one_too_many",
     "TokenByTokenGivesTheSameAnswer", "one entry leaves while the next query still sees it",
     "https://github.com/sgl-project/sglang/issues/8649"},
    {Bug::full_ring_looks_empty, Base::ring, "full_ring_looks_empty",
     "LengthsAroundEveryEdgeGiveTheSameAnswer", "wrong exactly when the ring has just filled up",
     "https://github.com/huggingface/transformers/issues/37574"},
    {Bug::evicts_before_attention, Base::ring, "evicts_before_attention",
     "AnyChunkingGivesTheSameAnswer",
     "the first tokens of a chunk lose what its last ones no longer see",
     "a teaching repository's sliding window; error 0.34 measured with W = 4"},
    {Bug::wrap_lost_inside_a_chunk, Base::ring, "wrap_lost_inside_a_chunk",
     "ShortChunksGiveTheSameAnswer", "a chunk is not carried on at the start of the ring",
     "https://github.com/huggingface/transformers/pull/45940"},
    {Bug::long_chunk_keeps_its_head, Base::ring, "long_chunk_keeps_its_head",
     "AnyChunkingGivesTheSameAnswer",
     "of a prompt longer than W the first W tokens are kept, not the last",
     "https://github.com/Lightning-AI/litgpt/pull/2215"},
    {Bug::positions_from_slots, Base::ring, "positions_from_slots",
     "TokenByTokenGivesTheSameAnswer", "positions are slots of the ring",
     "https://github.com/ggml-org/llama.cpp/issues/3840"},
    {Bug::sinks_overwritten, Base::ring, "sinks_overwritten", "TokenByTokenGivesTheSameAnswer",
     "the ring wraps around to slot 0, over the sinks",
     "https://github.com/sgl-project/sglang/issues/8649"},
    {Bug::sinks_undeclared, Base::ring, "sinks_undeclared", "TokenByTokenGivesTheSameAnswer",
     "the sinks are stored, but the view's mask hides them",
     "https://github.com/huggingface/transformers/pull/45940"},
    {Bug::claims_to_be_exact, Base::ring, "claims_to_be_exact", "TokenByTokenGivesTheSameAnswer",
     "the traits say exact and no window, tokens are dropped all the same",
     "https://github.com/sgl-project/sglang/issues/8649"},
    {Bug::rotary_gap_behind_the_sinks, Base::rebased, "rotary_gap_behind_the_sinks",
     "TokenByTokenGivesTheSameAnswer", "re-based positions leave one out behind the sinks",
     "https://github.com/ggml-org/llama.cpp/issues/3825"},
    {Bug::rotary_base_is_the_length, Base::rebased, "rotary_base_is_the_length",
     "TokenByTokenGivesTheSameAnswer", "keys are re-based, queries are not",
     "https://github.com/ggml-org/llama.cpp/pull/12161"},
    {Bug::unrotated_keys_undeclared, Base::rebased, "unrotated_keys_undeclared",
     "TokenByTokenGivesTheSameAnswer", "the view does not say that its keys are unrotated",
     "https://github.com/ggml-org/llama.cpp/pull/28498"},

    // Rows: reset, truncate, fork.
    {Bug::reset_keeps_the_length, Base::contiguous, "reset_keeps_the_length",
     "AResetRowIsLikeNew", "reset drops the contents and keeps the length",
     "https://github.com/huggingface/transformers/pull/48809"},
    {Bug::reset_keeps_the_cursor, Base::contiguous, "reset_keeps_the_cursor",
     "AResetRowIsLikeNew", "reset sets the length to 0 and goes on writing where it was",
     "https://github.com/rasbt/LLMs-from-scratch/pull/925"},
    {Bug::reset_empties_every_row, Base::contiguous, "reset_empties_every_row",
     "AResetRowIsLikeNew", "resetting one row resets the batch",
     "https://github.com/rasbt/LLMs-from-scratch/pull/925"},
    {Bug::reset_frees_twice, Base::blocks, "reset_frees_twice", "AResetRowIsLikeNew",
     "a block is twice in the free list, and then in two rows",
     "https://github.com/sgl-project/sglang-jax/pull/982"},
    {Bug::reset_keeps_the_table, Base::blocks, "reset_keeps_the_table",
     "ForkedRowsDivergeIndependently", "a reset row keeps its blocks and writes over shared ones",
     "https://github.com/vllm-project/vllm/pull/4761"},
    {Bug::truncate_does_nothing, Base::contiguous, "truncate_does_nothing",
     "TruncatingToAnyLengthIsAsIfNeverFed", "truncate is a silent no-op",
     "https://github.com/ml-explore/mlx-lm/pull/1109"},
    {Bug::truncate_keeps_one_more, Base::contiguous, "truncate_keeps_one_more",
     "TruncatingToAnyLengthIsAsIfNeverFed", "truncate(n) keeps n + 1 tokens",
     "https://github.com/lablup/mlxcel/issues/994"},
    {Bug::truncate_resets, Base::contiguous, "truncate_resets",
     "TruncatingToAnyLengthIsAsIfNeverFed", "truncate empties the row",
     "https://github.com/paiml/aprender/pull/2014"},
    {Bug::truncate_past_the_length, Base::contiguous, "truncate_past_the_length",
     "TruncationPastTheLengthIsRefused", "truncate past the length is ignored",
     "https://github.com/ml-explore/mlx-lm/pull/1109"},
    {Bug::truncate_promised_but_missing, Base::contiguous, "truncate_promised_but_missing",
     "TruncatingToAnyLengthIsAsIfNeverFed", "the traits promise truncate, the function throws",
     "https://github.com/ml-explore/mlx-swift-lm/issues/424"},
    {Bug::truncate_past_what_is_resident, Base::ring, "truncate_past_what_is_resident",
     "TruncationReachesWhatIsStillStored", "truncate goes back to tokens that were evicted",
     "https://github.com/ml-explore/mlx-swift-lm/issues/424"},
    {Bug::truncate_refused_when_resident, Base::ring, "truncate_refused_when_resident",
     "TruncationReachesWhatIsStillStored", "truncate is refused where everything is still there",
     "https://github.com/microsoft/onnxruntime-genai/pull/2334"},
    {Bug::truncate_frees_shared_blocks, Base::blocks, "truncate_frees_shared_blocks",
     "TruncatedForksDoNotTouchEachOther", "blocks are freed while another row refers to them",
     "https://github.com/vllm-project/vllm/issues/42948"},
    {Bug::truncate_frees_the_tail_in_use, Base::blocks, "truncate_frees_the_tail_in_use",
     "TruncatingToAnyLengthIsAsIfNeverFed",
     "the block with the last tokens is freed, and the view still reads it",
     "https://github.com/NVIDIA/TensorRT-LLM/issues/17926"},
    {Bug::fork_aliases_storage, Base::contiguous, "fork_aliases_storage",
     "ForkedRowsDivergeIndependently", "the fork shares the buffer of its source and writes to it",
     "https://github.com/vllm-project/vllm/issues/417"},
    {Bug::fork_copies_keys_only, Base::contiguous, "fork_copies_keys_only",
     "BeamReorderWithRepeatsKeepsEveryBeam", "the fork gets the keys and not the values",
     "https://github.com/ggml-org/llama.cpp/issues/3802"},
    {Bug::fork_onto_itself_empties, Base::contiguous, "fork_onto_itself_empties",
     "ForkReplacesWhatTheTargetHeld", "the target is emptied before the source is read",
     "https://github.com/ggml-org/llama.cpp/issues/3802"},
    {Bug::fork_keeps_a_longer_length, Base::contiguous, "fork_keeps_a_longer_length",
     "ForkReplacesWhatTheTargetHeld", "a longer target keeps its length",
     "https://github.com/rasbt/LLMs-from-scratch/pull/925"},
    {Bug::fork_not_promised_but_silent, Base::contiguous, "fork_not_promised_but_silent",
     "WhatIsNotPromisedIsRefused", "fork is not supported and does nothing instead of saying so",
     "https://github.com/ml-explore/mlx-lm/pull/1109"},
    {Bug::fork_sets_the_length_first, Base::contiguous, "fork_sets_the_length_first",
     "AForkWithoutMemoryLeavesTheSourceAlone", "a fork that finds no memory has its length already",
     "https://github.com/vllm-project/vllm/pull/11565"},
    {Bug::fork_forgets_where_the_ring_starts, Base::ring, "fork_forgets_where_the_ring_starts",
     "ForkedRowsDivergeIndependently", "the ring is copied, the place of its first token is not",
     "https://github.com/rasbt/LLMs-from-scratch/pull/925"},
    {Bug::reset_forgets_where_the_ring_starts, Base::ring, "reset_forgets_where_the_ring_starts",
     "AResetRowIsLikeNew", "a reset row still takes the ring to start where it had wrapped to",
     "https://github.com/rasbt/LLMs-from-scratch/pull/925"},
    {Bug::fork_counts_all_but_the_tail, Base::blocks, "fork_counts_all_but_the_tail",
     "ForkedRowsGoInAnyOrder", "the tail block has one reference too few",
     "https://github.com/NVIDIA/TensorRT-LLM/pull/12648"},
    {Bug::shared_tail_written, Base::blocks, "shared_tail_written",
     "ForkedRowsDivergeIndependently", "no copy on write",
     "https://github.com/vllm-project/vllm/issues/417"},
    {Bug::copy_on_write_one_entry_short, Base::blocks, "copy_on_write_one_entry_short",
     "ForkedRowsDivergeIndependently", "copy on write leaves the last entry out",
     "https://github.com/vllm-project/vllm/issues/417"},
    {Bug::copy_on_write_first_layer_only, Base::blocks, "copy_on_write_first_layer_only",
     "ForkedRowsDivergeIndependently", "copy on write copies the first layer only",
     "https://github.com/vllm-project/vllm/issues/417"},
    {Bug::copy_on_write_moves_every_row, Base::blocks, "copy_on_write_moves_every_row",
     "ForksOfForksWriteInOneStep", "the copy replaces the block in every row that shares it",
     "https://github.com/vllm-project/vllm/issues/417"},
    {Bug::copy_on_write_without_need, Base::blocks, "copy_on_write_without_need",
     "TheEstimateEqualsTheArena", "a tail that nobody shares is copied as well",
     "https://github.com/vllm-project/vllm/issues/417"},

    // Refusals, aborts, misuse.
    {Bug::capacity_one_too_many, Base::contiguous, "capacity_one_too_many",
     "AFullRowRefusesTheStepAndNothingChanges", "a full row takes one more token",
     "https://github.com/karpathy/nanochat/pull/627"},
    {Bug::capacity_one_too_few, Base::contiguous, "capacity_one_too_few",
     "LengthsAroundEveryEdgeGiveTheSameAnswer", "the last slot is never used",
     "https://github.com/karpathy/nanochat/pull/520"},
    {Bug::capacity_of_an_empty_row_unchecked, Base::contiguous,
     "capacity_of_an_empty_row_unchecked", "ATextThatCanNeverFitIsRefusedAtOnce",
     "a prompt that can never fit is taken on", "https://github.com/vllm-project/vllm/pull/2163"},
    {Bug::refused_step_advances_earlier_rows, Base::contiguous,
     "refused_step_advances_earlier_rows", "AFullRowRefusesTheStepAndNothingChanges",
     "rows before the full one are longer after the refusal",
     "https://github.com/vllm-project/vllm/pull/11565"},
    {Bug::growth_replaces_before_it_copies, Base::contiguous, "growth_replaces_before_it_copies",
     "ARefusedStepChangesNothingWhereverMemoryEnds",
     "a buffer is replaced before the next one was allocated",
     "https://github.com/vllm-project/vllm/pull/11565"},
    {Bug::refused_step_extends_tables, Base::blocks, "refused_step_extends_tables",
     "ARefusedStepChangesNothingWhereverMemoryEnds",
     "tables are extended before there are blocks for them",
     "https://github.com/sgl-project/sglang/pull/16067"},
    {Bug::refused_step_leaks_blocks, Base::blocks, "refused_step_leaks_blocks",
     "NothingIsLostOverAHundredRefusals",
     "blocks taken for a step that finds no more are lost",
     "https://github.com/sgl-project/sglang/issues/11970"},
    {Bug::abort_leaks_blocks, Base::blocks, "abort_leaks_blocks",
     "NothingIsLostOverAHundredRefusals", "an aborted step does not give its blocks back",
     "https://github.com/vllm-project/vllm/issues/46283"},
    {Bug::abort_keeps_what_was_appended, Base::contiguous, "abort_keeps_what_was_appended",
     "AnAbortInAnyPhaseRestoresEverything", "an abort after the last layer commits the step",
     "https://github.com/NVIDIA/TensorRT-LLM/pull/15018"},
    {Bug::first_abort_keeps_the_text, Base::contiguous, "first_abort_keeps_the_text",
     "AnAbortedFirstStepLeavesAnEmptyCache", "an abort goes back only where a row held text before",
     "https://github.com/vllm-project/vllm/issues/46283"},
    {Bug::abort_without_step_empties, Base::contiguous, "abort_without_step_empties",
     "AnAbortInAnyPhaseRestoresEverything", "an abort while no step runs empties the cache",
     "https://github.com/NVIDIA/TensorRT-LLM/pull/15018"},
    {Bug::failed_append_is_not_forgotten, Base::ring, "failed_append_is_not_forgotten",
     "AnAppendWithoutMemoryCanBeAbortedAndRetried",
     "after an append that found no memory every step is refused",
     "https://github.com/vllm-project/vllm/pull/2163"},
    {Bug::step_begun_twice, Base::contiguous, "step_begun_twice",
     "OperationsInsideAStepAreRefused", "a second begin_step is accepted",
     "https://github.com/NVIDIA/TensorRT-LLM/issues/17926"},
    {Bug::operations_inside_a_step, Base::contiguous, "operations_inside_a_step",
     "OperationsInsideAStepAreRefused", "inspect, reset, truncate and fork work inside a step",
     "https://github.com/NVIDIA/TensorRT-LLM/issues/17926"},
    {Bug::step_starts_anywhere, Base::contiguous, "step_starts_anywhere",
     "AStepStartsAtTheLength", "a step may leave tokens out or write over them",
     "https://github.com/ml-explore/mlx-lm/pull/93"},
    {Bug::step_of_any_size, Base::contiguous, "step_of_any_size",
     "StepsBeyondTheDeclaredChunkAreRefused", "max_step_tokens is not checked",
     "https://github.com/huggingface/transformers/issues/37574"},
    {Bug::row_taken_modulo, Base::contiguous, "row_taken_modulo",
     "RowsAndLayersThatDoNotExistAreRefused", "row -1 is the last row",
     "https://github.com/1bit-MONSTER/1bit-MONSTER/issues/693"},
    {Bug::layer_clamped, Base::contiguous, "layer_clamped",
     "RowsAndLayersThatDoNotExistAreRefused", "a layer that does not exist is the last one",
     "https://github.com/1bit-MONSTER/1bit-MONSTER/issues/693"},
    {Bug::dtype_cast, Base::contiguous, "dtype_cast", "KeysAndValuesOfAnotherKindAreRefused",
     "another dtype is cast without a word",
     "https://github.com/TransformerLensOrg/TransformerLens/pull/1260"},
    {Bug::bits_reinterpreted, Base::contiguous, "bits_reinterpreted",
     "KeysAndValuesOfAnotherKindAreRefused", "the bits of another dtype are taken as they are",
     "https://github.com/vllm-project/vllm/pull/54338"},
    {Bug::one_token_broadcast, Base::contiguous, "one_token_broadcast",
     "KeysAndValuesOfAnotherKindAreRefused", "one token is broadcast to all of the step",
     "measured: copy_ of one row into many succeeds"},
    {Bug::strided_dims_accepted, Base::contiguous, "strided_dims_accepted",
     "KeysAndValuesOfAnotherKindAreRefused", "a strided head dimension is copied first",
     "https://github.com/ROCm/aiter/pull/3492"},
    {Bug::view_before_append, Base::contiguous, "view_before_append",
     "AViewNeedsItsLayerAppendedInThisStep", "a view shows slots that this step has not written",
     "https://github.com/vllm-project/vllm/pull/936"},

    // Views, bytes, what is kept.
    {Bug::view_adds_to_the_view_before, Base::contiguous, "view_adds_to_the_view_before",
     "TwoViewsOfALayerAreTheSame", "a view is added to the one before",
     "https://github.com/MemTensor/MemOS/issues/2301"},
    {Bug::const_call_clears_views, Base::contiguous, "const_call_clears_views",
     "AViewLastsUntilTheNextChange", "asking for a length takes the view away",
     "https://github.com/huggingface/transformers/issues/37078"},
    {Bug::inspect_moves_the_cursor, Base::contiguous, "inspect_moves_the_cursor",
     "LookupsChangeNothing", "after a look the next token is written one slot too early",
     "https://github.com/huggingface/transformers/issues/37078"},
    {Bug::inspect_gives_copies, Base::blocks, "inspect_gives_copies",
     "PayloadCountsEveryLiveEntryOnce", "inspect gives copies, so shared blocks count twice",
     "https://github.com/sgl-project/sglang/issues/35270"},
    {Bug::fragmentation_of_the_first_row, Base::contiguous, "fragmentation_of_the_first_row",
     "FragmentationIsTheShareOfEmptyBytes", "fragmentation looks at one row",
     "https://github.com/ggml-org/llama.cpp/pull/11707"},
    {Bug::fragmentation_counts_shared_twice, Base::blocks, "fragmentation_counts_shared_twice",
     "FragmentationIsTheShareOfEmptyBytes", "shared blocks count once per row",
     "https://github.com/sgl-project/sglang/issues/35270"},
    {Bug::storage_ignores_the_dtype, Base::contiguous, "storage_ignores_the_dtype",
     "TheEstimateEqualsTheArena", "storage is f32 whatever the model's dtype",
     "https://github.com/TransformerLensOrg/TransformerLens/pull/1260"},
    {Bug::bytes_outside_the_arena, Base::contiguous, "bytes_outside_the_arena",
     "PayloadCountsEveryLiveEntryOnce", "storage is allocated where nobody counts it",
     "https://github.com/ovg-project/kvcached/issues/424"},
    {Bug::estimate_forgets_metadata, Base::blocks, "estimate_forgets_metadata",
     "TheEstimateEqualsTheArena", "the estimate leaves the tables out",
     "https://github.com/ovg-project/kvcached/issues/424"},
    {Bug::bytes_never_returned, Base::contiguous, "bytes_never_returned", "AllMemoryComesBack",
     "a handle to the storage outlives the cache",
     "https://github.com/sgl-project/sglang/issues/11970"},
    {Bug::constructor_keeps_what_it_had, Base::contiguous, "constructor_keeps_what_it_had",
     "AConstructorWithoutMemoryHoldsNone", "a constructor that throws leaves its buffers behind",
     "https://github.com/vllm-project/vllm/pull/11565"},
    {Bug::log_of_every_step, Base::contiguous, "log_of_every_step", "MemoryIsFlatOverManySteps",
     "something is kept of every step", "https://github.com/MemTensor/MemOS/issues/2301"},
    {Bug::moved_bytes_not_counted, Base::contiguous, "moved_bytes_not_counted",
     "MovedBytesAreCounted", "growing copies entries and counts no byte",
     "https://github.com/huggingface/transformers/pull/30536"},
    {Bug::fork_leaks_what_the_target_held, Base::blocks, "fork_leaks_what_the_target_held",
     "NothingIsLostOverAHundredRefusals", "the blocks of a fork's target are never given back",
     "https://github.com/sgl-project/sglang/issues/11970"},
    {Bug::fork_counts_twice, Base::blocks, "fork_counts_twice", "MemoryIsFlatOverManySteps",
     "shared blocks have one reference too many and are never free again",
     "https://github.com/sgl-project/sglang/issues/35270"},
    {Bug::claims_to_be_bounded, Base::contiguous, "claims_to_be_bounded",
     "StorageDoesNotGrowWithTheText", "the traits say bounded, storage follows the text",
     "https://github.com/openvinotoolkit/openvino.genai/pull/4051"},
    {Bug::records_gradients, Base::contiguous, "records_gradients", "AStepsTensorsAreLetGo",
     "storing with tensor operations records a graph that holds every step",
     "https://github.com/anira-project/anira/issues/45"},
    {Bug::steps_tensors_kept, Base::ring, "steps_tensors_kept", "AStepsTensorsAreLetGo",
     "borrowed tensors are held after the step",
     "https://github.com/anira-project/anira/issues/45"},

    // Codes.
    {Bug::scales_at_another_stride, Base::coded, "scales_at_another_stride",
     "CodesAreWithinHalfAScale", "the view gives scales the strides of another layout",
     "https://github.com/vllm-project/vllm/issues/49716"},
    {Bug::scales_swapped, Base::coded, "scales_swapped", "CodesAreWithinHalfAScale",
     "values are decoded with the scales of the keys",
     "https://github.com/vllm-project/vllm/pull/55557"},
    {Bug::scale_of_what_was_there_before, Base::coded, "scale_of_what_was_there_before",
     "CodesAreWithinHalfAScale", "a slot that is used again keeps its first scale",
     "https://github.com/openvinotoolkit/openvino/pull/37381"},
    {Bug::scales_not_forked, Base::coded, "scales_not_forked", "CodesAreWithinHalfAScale",
     "a fork copies the codes and not their scales",
     "https://github.com/ovg-project/kvcached/issues/424"},
    {Bug::codes_cut_off, Base::coded, "codes_cut_off", "CodesAreWithinHalfAScale",
     "quotients are cut off instead of rounded",
     "https://github.com/vllm-project/vllm/pull/45361"},
    {Bug::largest_code_wraps, Base::coded, "largest_code_wraps", "CodesAreWithinHalfAScale",
     "the scale is the largest number / 128, whose code wraps to -128",
     "https://github.com/ROCm/aiter/pull/4637"},
    {Bug::scale_of_at_least_one, Base::coded, "scale_of_at_least_one", "CodesAreWithinHalfAScale",
     "scales are raised to 1, against division by zero",
     "https://github.com/lablup/mlxcel/pull/717"},
    {Bug::zeros_divided_by_zero, Base::coded, "zeros_divided_by_zero", "CodesAreWithinHalfAScale",
     "an entry of zeros gets a scale of NaN", "https://github.com/pytorch/ao/issues/4713"},
    {Bug::nan_coded_as_zero, Base::coded, "nan_coded_as_zero", "WhatIsNotANumberComesOutAsNone",
     "NaN and infinity are coded as zero, and nobody learns of them",
     "https://github.com/huggingface/transformers/pull/42775"},
    {Bug::codes_claim_to_be_exact, Base::coded, "codes_claim_to_be_exact",
     "CodesAreWithinHalfAScale", "the traits of a quantising cache say exact",
     "https://github.com/vllm-project/vllm/pull/42580"},
};

OptionSpec integer_option(const char* name, int64_t value, int64_t minimum, const char* unit) {
  OptionSpec option;
  option.name = name;
  option.default_text = std::to_string(value);
  option.minimum = static_cast<double>(minimum);
  option.unit = unit;
  option.doc = "Of the planted caches.";
  return option;
}

CacheEntry contiguous_entry(Bug bug, int64_t capacity) {
  CacheEntry entry;
  entry.info.options = {integer_option("capacity", capacity, 0, "tokens")};
  entry.traits = [bug](const CacheRequest&) { return contiguous_traits(bug); };
  entry.estimate = [](const CacheRequest& request, const StepSequence& sequence) {
    return contiguous_estimate(request.shape, request.options.integer("capacity"), sequence);
  };
  entry.create = [bug](const CacheRequest& request, StorageArena& arena) {
    return std::make_unique<ContiguousCache>(bug, request.shape,
                                             request.options.integer("capacity"), arena);
  };
  return entry;
}

CacheEntry block_entry(Bug bug) {
  CacheEntry entry;
  entry.info.options = {integer_option("block_size", 5, 1, "tokens")};
  entry.traits = [](const CacheRequest&) { return block_traits(); };
  entry.estimate = [bug](const CacheRequest& request, const StepSequence& sequence) {
    return block_estimate(bug, request.shape, request.options.integer("block_size"), sequence);
  };
  entry.create = [bug](const CacheRequest& request, StorageArena& arena) {
    return std::make_unique<BlockCache>(bug, request.shape, request.options.integer("block_size"),
                                        arena);
  };
  return entry;
}

CacheEntry ring_entry(Bug bug, bool rebased) {
  CacheEntry entry;
  entry.info.options = {integer_option("window", 6, 1, "tokens"),
                        integer_option("sinks", 2, 0, "tokens")};
  const auto options = [rebased](const CacheRequest& request) {
    return RingOptions{request.options.integer("window"), request.options.integer("sinks"),
                       rebased};
  };
  entry.traits = [bug, options](const CacheRequest& request) {
    return ring_traits(bug, options(request), request.shape);
  };
  entry.estimate = [options](const CacheRequest& request, const StepSequence& sequence) {
    return ring_estimate(options(request), request.shape, sequence);
  };
  entry.create = [bug, options](const CacheRequest& request, StorageArena& arena) {
    return std::make_unique<RingCache>(bug, options(request), request.shape, arena);
  };
  return entry;
}

CacheEntry coded_entry(Bug bug) {
  CacheEntry entry;
  entry.traits = [bug](const CacheRequest&) { return coded_traits(bug); };
  entry.estimate = [](const CacheRequest& request, const StepSequence&) {
    return coded_estimate(request.shape);
  };
  entry.create = [bug](const CacheRequest& request, StorageArena& arena) {
    return std::make_unique<CodedCache>(bug, request.shape, arena);
  };
  return entry;
}

CacheEntry entry_of(Base base, Bug bug) {
  switch (base) {
    case Base::contiguous: return contiguous_entry(bug, 4);
    case Base::whole: return contiguous_entry(bug, 0);
    case Base::blocks: return block_entry(bug);
    case Base::ring: return ring_entry(bug, false);
    case Base::rebased: return ring_entry(bug, true);
    case Base::coded: return coded_entry(bug);
  }
  return {};
}

void add(Registry& registry, const std::string& name, Base base, Bug bug) {
  CacheEntry entry = entry_of(base, bug);
  entry.info.name = name;
  entry.info.summary = bug == Bug::none ? "Without a bug." : "With a planted bug.";
  entry.bytes_formula = "see its estimate";
  registry.add(std::move(entry));
}

constexpr std::pair<Base, const char*> kSound[] = {
    {Base::contiguous, "sound_contiguous"}, {Base::whole, "sound_whole"},
    {Base::blocks, "sound_blocks"},         {Base::ring, "sound_ring"},
    {Base::rebased, "sound_rebased"},       {Base::coded, "sound_coded"},
};

}  // namespace

std::span<const Mutant> mutants() { return kMutants; }

std::vector<std::string> sound_caches() {
  std::vector<std::string> names;
  for (const auto& [base, name] : kSound) names.emplace_back(name);
  return names;
}

std::string registered_name(const Mutant& mutant) { return std::string("mutant_") + mutant.name; }

void register_mutants(Registry& registry) {
  for (const auto& [base, name] : kSound) add(registry, name, base, Bug::none);
  for (const Mutant& mutant : kMutants) {
    add(registry, registered_name(mutant), mutant.base, mutant.bug);
  }
}

}  // namespace kvlab::mutants
