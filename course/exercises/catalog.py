"""The exercises: which functions are taken out, which tests grade them, what each test asks for.

A test is one of tests/, as it guards the project. It counts if all of its cases pass.
"""

from typing import Callable, NamedTuple


class Check(NamedTuple):
    test: str       # in tests/
    points: int
    holds: str      # what is true where it passes


class Exercise(NamedTuple):
    title: str
    minutes: int
    write: tuple[str, ...]        # FILE:FUNCTION, to be written
    checks: tuple[Check, ...]
    hide: tuple[str, ...] = ()    # what else is taken out, since it would give them away


def list_points(exercise: Exercise) -> int:
    return sum(check.points for check in exercise.checks)


def replaces(function: str) -> Callable[[Callable], Callable]:
    """Marks a wrong solution (course/exercises/mistakes): FILE:FUNCTION that it stands in for."""
    return lambda wrong: wrong


EXERCISES = {
    "sampling": Exercise("Sample a token", 40, (
        "model.py:sampling_logprobs", "model.py:draw_tokens"), (
        Check("test_model.py::test_top_k", 2,
              "top-k keeps the k likeliest and their ties, and what is kept sums to 1"),
        Check("test_model.py::test_top_p_keeps_the_smallest_set_that_reaches_p", 2,
              "top-p keeps a set that reaches p, and the smallest one"),
        Check("test_model.py::test_top_p_that_is_reached_exactly_needs_no_more", 1,
              "a set that reaches p exactly needs no token more"),
        Check("test_model.py::test_order_of_the_truncations", 1,
              "the order is temperature, top-k, top-p"),
        Check("test_model.py::test_greedy_takes_the_most_likely", 1,
              "temperature 0 takes the most likely token"),
        Check("test_model.py::test_what_cannot_be_is_never_drawn", 1,
              "a token of probability 0 is never drawn"),
        Check("test_model.py::test_rare_tokens_are_drawn_in_double_precision", 1,
              "sums are in the precision of `uniform`, so a rare token is drawn"),
        Check("test_model.py::test_sampler_frequencies", 1,
              "20,000 draws have the frequencies of the distribution"))),
    "cache": Exercise("A cache of keys and values", 60, (
        "model.py:KVCache.append", "model.py:KVCache.select", "model.py:Transformer.cache_mask"), (
        Check("test_model.py::test_cache_equals_full_forward", 3,
              "cached logits are those of a full forward pass, token by token"),
        Check("test_model.py::test_cache_takes_several_tokens_at_once", 2,
              "several new tokens at once see their past, and not their future"),
        Check("test_model.py::test_left_padding_changes_nothing", 1,
              "a prompt gives in a mixed batch what it gives alone"),
        Check("test_model.py::test_which_keys_a_query_sees", 1,
              "the mask has the keys of each query's row so far, and padding sees something"),
        Check("test_model.py::test_selected_rows_go_on_as_themselves", 2,
              "a selected row keeps its own keys, values and padding"),
        Check("test_model.py::test_sampler_frequencies_of_whole_responses", 1,
              "rows that share a beginning go on as themselves, each by its own draw"))),
    "logprobs": Exercise("Log-probabilities of a rollout", 40, (
        "model.py:response_hidden", "model.py:token_logprobs"), (
        Check("test_model.py::test_sampler_logprobs_equal_recomputed", 3,
              "log-probabilities are those that the sampler had, for prompts of all lengths"),
        Check("test_rlvr.py::test_a_frozen_model_scores_the_sampled_ids", 3,
              "tokens are scored at the temperature that they were sampled at"),
        Check("test_rlvr.py::test_nothing_after_the_ending_matters", 2,
              "the ending counts, and the padding behind it does not"),
        Check("test_rlvr.py::test_update_is_the_policy_gradient", 1,
              "an update is the policy gradient over the response tokens"),
        Check("test_rlvr.py::test_sampling_temperature_is_scored_too", 1,
              "the ratio of the first update is 1, at temperature 0.5 too"))),
    "advantages": Exercise("Advantages in a group", 30, (
        "losses.py:to_tokens", "losses.py:center_rewards", "losses.py:grpo", "losses.py:dr_grpo",
        "losses.py:rloo"), (
        Check("test_losses.py::test_group_advantages", 3,
              "advantages are those of the three formulas, each group by itself"),
        Check("test_losses.py::test_equal_rewards_give_exactly_zero", 2,
              "equal rewards have an advantage of exactly 0"),
        Check("test_losses.py::test_nearly_equal_rewards_count_in_full", 1,
              "only equal rewards have no advantage: near ones count in full"),
        Check("test_losses.py::test_a_group_of_one_has_no_advantage", 1,
              "a group of one has no advantage"),
        Check("test_losses.py::test_every_token_of_a_response_has_its_number", 2,
              "each token has its own response's number, and padding has 0"),
        Check("test_losses.py::test_on_policy_all_but_grpo_are_the_same_gradient_in_expectation",
              1, "the expected gradient is that of E[r]"))),
    "clip": Exercise("PPO's clip, and what it clips", 60, (
        "losses.py:clipped", "losses.py:masked", "losses.py:unweighted", "rlvr.py:diagnose"), (
        Check("test_losses.py::test_four_quadrants_of_the_clip", 4,
              "the gradient is 0 only beyond the bound that A pushes towards"),
        Check("test_losses.py::test_gradient_of_every_policy_loss", 3,
              "the gradient is -A w (onehot - pi), w the ratio"),
        Check("test_losses.py::test_first_update_is_reinforce_for_all", 1,
              "at ratio 1 the gradient is REINFORCE's"),
        Check("test_losses.py::test_gradient_of_the_controls", 2,
              "the controls drop what they should, and keep the rest"),
        Check("test_losses.py::test_a_loss_says_what_it_clipped", 1,
              "each loss says which tokens its clip took the gradient from"),
        Check("test_rlvr.py::test_what_is_counted_of_some_tokens", 1,
              "counted is what the loss dropped, by the sign of A; the KL is KL(old || new)"),
        Check("test_rlvr.py::test_clip_fractions_and_kl_count_over_all_updates", 1,
              "clip fractions and KL are those of the updates, replayed by hand"),
        Check("test_rlvr.py::test_clips_are_counted_at_the_losses_own_bounds", 1,
              "each side is counted at its own bound"),
        Check("test_rlvr.py::test_metrics_of_trained_tokens", 1,
              "rows without advantage are left out of the KL")), (
        "lessons/bandit.py:weigh", "lessons/bandit.py:first_arm")),
    "gae": Exercise("PPO's critic: GAE and its loss", 45, (
        "losses.py:gae", "losses.py:value_loss"), (
        Check("test_losses.py::test_gae_is_its_closed_form", 4,
              "the advantages are the closed form, row by row, and 0 on padding"),
        Check("test_losses.py::test_gae_at_its_ends", 2,
              "lambda = 1 is Monte Carlo, lambda = 0 is the TD error"),
        Check("test_losses.py::test_gae_below_one_favours_short_responses", 1,
              "a first token gets lambda^(T - 1) of the reward"),
        Check("test_losses.py::test_value_loss_gradient", 3,
              "the gradient is V - R, and 0 only where V has moved too far towards R"))),
    "signs": Exercise("Right samples, wrong samples", 25, (
        "losses.py:sign_rewards", "losses.py:reinforce", "losses.py:psr", "losses.py:nsr",
        "losses.py:w_reinforce"), (
        Check("test_losses.py::test_sign_advantages", 4,
              "right and wrong samples have the paper's signs and weights, in any range"),
        Check("test_losses.py::test_a_middle_reward_has_no_sign", 2,
              "a reward halfway between the least and the most has no sign"),
        Check("test_losses.py::test_nsr_redistributes_in_proportion_to_the_prior", 2,
              "NSR lowers wrong samples in proportion to the prior, and moves no right one"),
        Check("test_losses.py::test_psr_concentrates", 2,
              "PSR raises right samples, and moves no wrong one"))),
    "pass_at_k": Exercise("Pass@k without bias", 15, ("evaluation.py:pass_at_k",), (
        Check("test_evaluation.py::test_pass_at_k_is_the_share_of_subsets_with_a_right_sample", 3,
              "it is the share of all subsets of k that have a right sample"),
        Check("test_evaluation.py::test_pass_at_k_refuses_the_impossible", 2,
              "k > n, k < 1, c > n and c < 0 are refused"))),
    "confidence": Exercise("Rewards for knowing what one knows", 30, (
        "rewards.py:brier_alone", "rewards.py:brier", "rewards.py:log_score",
        "rewards.py:ternary"), (
        Check("test_rewards.py::test_confidence_rewards", 3,
              "stating P(right) pays most"),
        Check("test_rewards.py::test_confidence_rewards_by_hand", 3,
              "the formulas at one point, with a confidence and without"),
        Check("test_rewards.py::test_ternary", 3,
              "right, wrong and `?` alone have three different payments"),
        Check("test_rewards.py::test_any_tokens_get_a_reward", 1,
              "whatever is said is paid within the reward's range"))),
    "bandit": Exercise("Which of the two clips lifts?", 75, (
        "lessons/bandit.py:weigh", "lessons/bandit.py:first_arm"), (
        Check("test_lesson_clips.py::test_bandit_is_grpo", 4,
              "an update is that of the project's loss on the same pulls"),
        Check("test_lesson_clips.py::test_which_clip_lifts", 3,
              "the habit rises with PPO's clip, and not without it"),
        Check("test_drift.py::test_norm_drift", 2,
              "the norm counts what each pull's gradient has beside its arm's"),
        Check("test_drift.py::test_without_the_norm_clip_p_does_not_matter", 1,
              "without any clip there is no drift")), (
        "losses.py:clipped", "losses.py:masked", "losses.py:unweighted", "rlvr.py:diagnose")),
}
