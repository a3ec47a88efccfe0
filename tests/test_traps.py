"""An index: for every mistake that other trainers are known to have made, the tests that would catch it here.

A trap is named in a few words with the public reports of it. The tests themselves are where their subject is;
this file is read when one of them is about to be removed or renamed, and fails then.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ENGINES = TESTS.parent / "src" / "linnet" / "train" / "engines"

LABELS_AND_LOSS = {
    "targets shifted twice or not at all (torchtune #2613, open-instruct #1549, TRL #4038)": [
        "data/test_batches.py::test_a_target_is_the_next_token_also_across_windows_and_shards",
        "data/test_packing.py::test_packed_is_as_separate_logits_loss_and_gradients",
        "invariants/test_it_learns.py::test_batches_are_shifted_by_one",
        "invariants/test_it_learns.py::test_targets_fed_as_inputs_fall_through_the_floor",
        "objectives/test_sft_trl.py::test_a_steps_loss_and_gradients_are_trls_on_the_same_packed_rows",
    ],
    "a run on shuffled targets learns, so something leaks": [
        "invariants/test_answers_are_learned.py::test_tokens_in_a_shuffled_order_are_learned_no_further_than_their_frequencies",
        "invariants/test_it_learns.py::test_shuffled_targets_are_learned_no_further_than_their_frequencies",
    ],
    "a mean of micro-batch means in place of the sum by the global count (transformers #34191, #35203, #46731)": [
        "objectives/test_preference.py::test_micro_batches_of_any_size_give_the_same_step",
        "objectives/test_reward_objective.py::test_micro_batches_of_any_size_make_the_same_step",
        "objectives/test_sft_trl.py::test_a_steps_loss_and_gradients_are_trls_on_the_same_packed_rows",
        "objectives/test_sft_trl.py::test_five_steps_are_those_of_trls_trainer",
        "train/test_engine.py::test_micro_batches_with_unequal_counts_add_up_to_the_whole",
    ],
    "tokens counted twice, or divided out twice (unsloth-zoo #1023)": [
        "objectives/test_sft_trl.py::test_a_steps_loss_and_gradients_are_trls_on_the_same_packed_rows",
        "train/test_engine.py::test_loss_and_gradient_are_those_of_plain_cross_entropy",
    ],
    "the last, short batch or micro-batch weighs otherwise (LlamaFactory #10705)": [
        "data/test_batches.py::test_validation_covers_every_token_once",
        "data/test_packing.py::test_only_the_last_batch_of_an_epoch_is_short",
        "train/test_engine.py::test_micro_batches_with_unequal_counts_add_up_to_the_whole",
    ],
    "a row with nothing to learn is 0/0 (nanochat #590)": [
        "data/test_packing.py::test_a_batch_with_nothing_to_learn_counts_nothing_and_teaches_nothing",
        "invariants/test_it_learns.py::test_a_batch_that_counts_nothing_teaches_nothing_and_is_told",
        "objectives/test_linear_cross_entropy.py::test_only_ignored_tokens_give_zero_loss_and_zero_gradients",
        "objectives/test_sft_trl.py::test_a_micro_batch_with_nothing_to_learn_leaves_the_step_as_it_is_with_trl",
        "objectives/test_token_logprobs.py::test_nothing_counted_is_zero_with_zero_gradient",
    ],
    "a pair with an empty answer is 0/0 (open-instruct #1685)": [
        "objectives/test_preference.py::test_a_pair_with_an_empty_answer_adds_nothing",
    ],
    "the end of an answer is masked with the padding, so the model never stops "
    "(TRL #1623, #2059, #3200, #6357, unsloth #416)": [
        "data/test_packing.py::test_learned_tokens_survive_and_the_end_is_learned_though_it_is_the_padding",
        "invariants/test_answers_are_learned.py::test_a_masked_end_would_be_seen",
        "invariants/test_answers_are_learned.py::test_answers_and_their_ends_are_learned_though_rows_are_padded_with_the_end",
        "objectives/test_reward_objective.py::test_rows_are_prompts_with_their_completions_and_the_end_is_learned",
        "text/test_chat_masks.py::test_the_end_is_learned_when_padding_is_eos",
        "text/test_tokenizer.py::test_padding_that_is_eos_is_no_padding",
    ],
    "BOS or EOS stands there twice (TRL #4908)": [
        "data/test_rendered_specials.py::test_a_conversation_has_one_bos_and_one_eos_an_answer",
        "data/test_rendered_specials.py::test_answers_of_a_pair_and_prompts_too",
        "data/test_rendered_specials.py::test_packing_adds_none",
        "data/test_rendered_specials.py::test_the_saved_folder_adds_none_for_transformers_either",
        "data/test_rendered_specials.py::test_what_a_model_is_asked_is_what_it_was_trained_on",
        "infer/test_stock_prompts.py::test_a_chat_model_reads_a_conversation_alike",
        "text/test_tokenizer.py::test_a_stock_folder_keeps_its_bos_and_loses_what_it_appends",
        "text/test_tokenizer.py::test_a_template_that_writes_bos_gets_one_bos",
    ],
    "a prompt or a document is begun otherwise than stock tools do (llama.cpp #1303, lm-evaluation-harness #1455)": [
        "data/test_document_bos.py::test_a_long_window_costs_what_its_documents_cost_alone",
        "data/test_document_bos.py::test_every_token_but_bos_is_a_target_once",
        "infer/test_stock_prompts.py::test_a_base_model_reads_a_prompt_alike",
        "infer/test_stock_prompts.py::test_a_folder_keeps_its_own_rule",
    ],
    "an empty assistant mask passes in silence (marin #7237)": [
        "cli/test_bad_conversations.py::test_an_empty_mask_is_refused",
        "cli/test_bad_conversations.py::test_an_end_that_is_not_learned_is_refused",
        "cli/test_bad_conversations.py::test_pairs_are_looked_over_as_conversations_are",
        "data/test_conversations_preflight.py::test_each_fault_is_counted_and_refused",
    ],
    "a template whose beginning changes with later turns (open-instruct #1800)": [
        "cli/test_bad_conversations.py::test_a_template_that_rewrites_history_is_refused_and_each_answer_by_itself_is_the_mend",
        "data/test_conversations_rendering.py::test_every_answer_by_itself_where_a_template_rewrites_history",
        "text/test_chat_masks.py::test_a_generation_prompt_that_the_answer_does_not_follow_is_refused",
        "text/test_chat_masks.py::test_a_template_that_rewrites_history_is_refused_and_the_last_turn_is_not",
    ],
}

PACKING_AND_ATTENTION = {
    "packed documents see each other (axolotl #3796, #1375, TRL #1230)": [
        "data/test_packing.py::test_packed_is_as_separate_logits_loss_and_gradients",
        "model/test_attention_paths.py::test_a_document_cannot_see_its_neighbour",
        "model/test_attention_paths.py::test_every_path_on_the_gpu_is_softmax_within_each_document",
        "model/test_attention_paths.py::test_flex_on_the_cpu_is_softmax_within_each_document_forward",
        "model/test_attention_paths.py::test_is_softmax_within_each_document_forward_and_backward",
        "model/test_attention_paths.py::test_packed_documents_give_the_logits_of_documents_alone",
        "model/test_attention_paths.py::test_varlen_ends_documents_at_the_end_of_every_row",
        "model/test_compile.py::test_compiled_blocks_serve_packed_documents",
        "objectives/test_sft_trl.py::test_a_steps_loss_and_gradients_are_trls_on_the_same_packed_rows",
    ],
    "the causal mask's dimensions in the wrong order": [
        "model/test_attention_paths.py::test_is_softmax_within_each_document_forward_and_backward",
        "model/test_attention_paths.py::test_without_documents_it_is_causal",
        "model/test_kv_cache.py::test_reading_in_pieces_gives_the_full_forward",
    ],
    "RoPE in another layout on import or export (nanotron #427, smollm #393)": [
        "model/test_stock_oracle.py::test_our_network_computes_transformers_logits_and_greedy_tokens_from_its_folder",
        "model/test_stock_oracle.py::test_transformers_computes_our_logits_and_greedy_tokens_from_our_folder",
        "recipe/test_life.py::test_transformers_loads_every_stage",
    ],
    "RoPE scaling dropped (unsloth #6197)": [
        "model/test_stock_folder.py::test_a_model_that_cannot_be_computed_exactly_is_refused_by_name",
    ],
    "attention scores beyond what FP16 holds": [
        "model/test_attention_scores.py::test_fp16_scores_do_not_overflow_before_they_are_scaled",
    ],
    "positions that go on at the start of a document": [
        "data/test_batches.py::test_eos_opens_the_next_document_and_positions_start_anew",
        "data/test_packing.py::test_every_example_is_there_once_an_epoch_uncut",
        "model/test_attention_paths.py::test_packed_documents_give_the_logits_of_documents_alone",
    ],
}

PREFERENCE_AND_REWARD = {
    "a chosen answer loses its first tokens (TRL #6433)": [
        "data/test_conversations_rendering.py::test_a_chosen_answer_keeps_its_first_tokens",
        "data/test_conversations_rendering.py::test_examples_of_pairs_are_trls",
        "objectives/test_reference.py::test_a_rendered_answer_counts_from_its_first_token_to_its_last",
        "text/test_chat_masks.py::test_the_prompts_tokens_begin_the_example",
    ],
    "length divided out twice (LlamaFactory #6722)": [
        "objectives/test_preference.py::test_length_is_divided_out_once",
        "objectives/test_preference.py::test_what_makes_no_sense_is_refused",
        "objectives/test_preference_trl.py::test_value_and_gradient_are_those_of_trls_dpo_trainer",
    ],
    "dropout left on in the reference (TRL #744)": [
        "objectives/test_preference.py::test_a_live_reference_says_what_a_precomputed_one_does",
        "objectives/test_preference.py::test_with_adapters_the_live_reference_is_the_base_without_dropout",
        "objectives/test_reference.py::test_the_reference_is_read_without_dropout_and_nothing_is_drawn",
        "objectives/test_reward_objective.py::test_an_adapted_model_is_held_to_itself_without_adapters",
    ],
    "padding on the wrong side (TRL #3307)": [
        "data/test_packing.py::test_padded_is_as_separate",
        "infer/test_generator.py::test_uneven_prompts_in_one_batch_say_what_each_says_alone",
        "model/test_kv_cache.py::test_uneven_prompts_padded_on_the_right_continue_as_if_alone",
        "objectives/test_preference.py::test_padding_changes_nothing",
        "objectives/test_reference.py::test_values_are_those_of_each_answer_alone",
    ],
    "precomputed reference values are not used (TRL #2431)": [
        "objectives/test_preference.py::test_a_precomputed_reference_is_used",
        "objectives/test_preference_trl.py::test_five_steps_have_the_losses_of_trls_dpo_trainer",
        "recipe/test_life.py::test_killed_in_every_stage_it_is_a_life_that_was_never_killed",
    ],
    "the loss before the first update is not ln 2 (DPO) or 1 (APO-zero), or the ratio not 1": [
        "objectives/test_preference.py::test_before_the_first_update_the_loss_is_that_of_a_tossed_coin",
        "objectives/test_reward_objective.py::test_at_the_first_step_the_ratio_is_1_the_loss_0_and_the_gradient_not",
        "recipe/test_life.py::test_every_stage_shows_its_own_metrics",
    ],
    "truncated completions stay in the denominator (TRL #6439)": [
        "objectives/test_reward_losses.py::test_a_row_that_is_left_out_leaves_numerator_and_denominator",
        "objectives/test_reward_objective.py::test_a_row_that_is_left_out_counts_nowhere",
        "objectives/test_reward_objective.py::test_masked_truncated_completions_leave_the_step_as_with_trl",
    ],
    "log-probabilities without the sampling temperature (TRL #4159)": [
        "infer/test_sampling.py::test_log_probabilities_hold_the_temperature",
        "objectives/test_reward_objective.py::test_at_the_first_step_the_ratio_is_1_the_loss_0_and_the_gradient_not",
        "objectives/test_reward_objective.py::test_log_probabilities_are_those_of_the_sampling_temperature_and_real_tokens",
        "objectives/test_reward_objective.py::test_a_step_of_every_variant_is_trls",
    ],
    "top-p or top-k sampling biases the ratio (TRL #6789)": [
        "objectives/test_reward_settings.py::test_filters_of_the_distribution_are_not_offered_and_it_is_said_why",
    ],
    "a loss of about 0 is all that is shown (open-r1 #239)": [
        "objectives/test_reward_generations.py::test_the_report_is_of_what_was_sampled",
        "observe/test_reward_shown.py::test_the_line_the_curve_and_the_best_are_the_rewards",
        "observe/test_reward_shown.py::test_the_picture_is_of_the_reward",
        "recipe/test_life.py::test_every_stage_shows_its_own_metrics",
    ],
    "math-verify off the main thread gives 0 to everything (verl #5635)": [
        "objectives/test_verifiers_equality.py::test_it_works_from_many_threads_at_once",
    ],
    "a verifier that hangs is waited for": [
        "objectives/test_verifiers_code.py::test_a_hostile_program_ends_in_time_without_harm",
        "objectives/test_verifiers_equality.py::test_what_hangs_sympy_is_killed_and_counts_as_wrong",
        "objectives/test_verifiers_scoring.py::test_the_deadline_holds_and_what_was_judged_by_then_counts",
        "objectives/test_verifiers_text.py::test_regex_searches_and_cannot_hang",
    ],
    "groups of equal rewards teach nothing, and nobody is told": [
        "objectives/test_reward_generations.py::test_groups_of_equal_rewards_are_replaced_by_further_prompts",
        "objectives/test_reward_generations.py::test_refills_end_and_what_is_left_is_said",
        "objectives/test_reward_generations.py::test_what_holds_on_is_not_told_at_every_step",
        "objectives/test_reward_losses.py::test_equal_rewards_give_exactly_nothing",
    ],
    "a task that is never solved is trained on for hours": [
        "objectives/test_reward_evaluation.py::test_pass_at_k_is_the_share_of_draws_with_a_right_one",
        "objectives/test_reward_evaluation.py::test_problems_that_are_never_solved_are_refused_with_what_to_try",
        "recipe/test_life.py::test_problems_that_are_never_solved_are_refused_before_training",
    ],
}

LORA_AND_EXPORT = {
    "merging in BF16 rounds the adapter away (peft #1388)": [
        "model/test_lora.py::test_a_small_adapter_on_a_bf16_base_is_not_rounded_away_by_merging",
        "model/test_lora_peft.py::test_forward_gradients_five_steps_of_adamw_and_merge_are_pefts",
        "recipe/test_life.py::test_the_domain_is_an_adapter_beside_a_merged_model",
    ],
    "tied embeddings are trained apart and saved as tied (transformers #45127, LlamaFactory #10832)": [
        "model/test_lora.py::test_a_target_that_is_no_linear_of_the_architecture_is_refused_and_nothing_touched",
        "model/test_stock_oracle.py::test_transformers_computes_our_logits_and_greedy_tokens_from_our_folder",
        "objectives/test_linear_cross_entropy.py::test_tied_weight_gets_both_gradients",
        "objectives/test_sft_trl.py::test_a_steps_loss_and_gradients_are_trls_on_the_same_packed_rows",
        "recipe/test_handed_on.py::test_an_adapter_and_its_merge_leave_the_tied_embeddings_as_they_were",
        "recipe/test_handed_on.py::test_tied_embeddings_are_one_matrix_in_every_stage_and_for_every_reader",
    ],
    "exported with another end or template (unsloth #5451, #976, #695)": [
        "recipe/test_handed_on.py::test_the_template_and_the_ends_of_an_answer_are_in_every_checkpoint_from_the_first_chat_stage_on",
        "recipe/test_handed_on.py::test_transformers_asks_as_we_do_and_stops_where_we_do",
        "recipe/test_life.py::test_transformers_loads_every_stage",
        "text/test_chat_masks.py::test_the_template_and_what_ends_an_answer_travel_with_the_tokenizer",
        "train/test_checkpoints.py::test_transformers_continues_text_as_linnet_does",
    ],
}

TRAPS = LABELS_AND_LOSS | PACKING_AND_ATTENTION | PREFERENCE_AND_REWARD | LORA_AND_EXPORT


@cache
def known_tests(module: str) -> dict[str, ast.FunctionDef]:
    """The tests of a file that pytest collects, read and not run."""
    tree = ast.parse((TESTS / module).read_text(encoding="utf-8"))
    return {
        node.name: node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def checks_something(test: ast.FunctionDef, module: str) -> bool:
    """Whether a test asserts, expects an error, or calls a helper of its file that does."""
    tree = ast.parse((TESTS / module).read_text(encoding="utf-8"))
    helpers = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(test):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name.split(".")[-1].startswith(("assert_", "raises")):
                return True
            helper = helpers.get(name)
            if helper is not None and any(isinstance(inner, ast.Assert) for inner in ast.walk(helper)):
                return True
    return False


def never_runs(test: ast.FunctionDef) -> bool:
    """Whether it is skipped, or expected to fail, wherever it is run."""
    marks = [ast.unparse(mark) for mark in test.decorator_list]
    return any(
        mark.startswith(("pytest.mark.skip", "pytest.mark.xfail")) and "skipif" not in mark for mark in marks
    )


@pytest.mark.parametrize("trap", TRAPS)
def test_a_known_mistake_would_be_caught(trap: str) -> None:
    named = TRAPS[trap]
    assert named, "a trap without a test"
    assert len(set(named)) == len(named)
    for each in named:
        module, _, name = each.partition("::")
        assert (TESTS / module).is_file(), f"{module} is gone"
        found = known_tests(module)
        assert name in found, f"{each} is gone; name the test that catches this now"
        assert not never_runs(found[name]), f"{each} never runs"
        assert checks_something(found[name], module), f"{each} checks nothing"


def test_counts_of_one_rank_alone_have_no_place_yet() -> None:
    """A mean over a rank's own tokens (litgpt, OLMo-core) needs ranks; whoever brings them brings its test."""
    for file in ENGINES.glob("*.py"):
        source = file.read_text(encoding="utf-8")
        assert "torch.distributed" not in source, (
            f"{file.name}: add this trap to LABELS_AND_LOSS with its test"
        )
