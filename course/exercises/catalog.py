"""The exercises: which functions are taken out, which tests grade them, what a failure means.

A test is one of tests/, as it guards the project. It counts if all of its cases pass.
"""

from typing import NamedTuple


class Check(NamedTuple):
    test: str       # in tests/
    points: int
    mistake: str    # what most likely is wrong where it fails


class Exercise(NamedTuple):
    title: str
    minutes: int
    write: tuple[str, ...]        # FILE:FUNCTION, to be written
    checks: tuple[Check, ...]
    hide: tuple[str, ...] = ()    # what else is taken out, since it would give them away


def list_points(exercise: Exercise) -> int:
    return sum(check.points for check in exercise.checks)


EXERCISES = {
    "sampling": Exercise("Sample a token", 40, (
        "model.py:sampling_logprobs", "model.py:draw_tokens"), (
        Check("test_model.py::test_top_k", 2,
              "top-k drops a tie, or what is kept is not normalised again"),
        Check("test_model.py::test_top_p_keeps_the_smallest_set_that_reaches_p", 2,
              "top-p keeps a set that does not reach p, or that is not the smallest"),
        Check("test_model.py::test_top_p_that_is_reached_exactly_needs_no_more", 1,
              "a set that reaches p exactly gets one token more"),
        Check("test_model.py::test_order_of_the_truncations", 1,
              "the order is not temperature, top-k, top-p"),
        Check("test_model.py::test_greedy_takes_the_most_likely", 1,
              "temperature 0 is divided by, not the most likely token"),
        Check("test_model.py::test_what_cannot_be_is_never_drawn", 1,
              "a token of probability 0 is drawn"),
        Check("test_model.py::test_rare_tokens_are_drawn_in_double_precision", 1,
              "the sums are in float32: rare tokens do not exist"),
        Check("test_model.py::test_sampler_frequencies", 1,
              "the draw is biased, or rows share a distribution that is not theirs"))),
    "cache": Exercise("A cache of keys and values", 60, (
        "model.py:KVCache.append", "model.py:KVCache.select", "model.py:Transformer.cache_mask"), (
        Check("test_model.py::test_cache_equals_full_forward", 3,
              "cached logits are not those of a full forward pass, token by token"),
        Check("test_model.py::test_cache_takes_several_tokens_at_once", 2,
              "several new tokens see each other's future, or not their past"),
        Check("test_model.py::test_left_padding_changes_nothing", 2,
              "left padding is attended to, or counts in another row"),
        Check("test_model.py::test_selected_rows_go_on_as_themselves", 2,
              "a selected row gets another row's keys, values or padding"),
        Check("test_model.py::test_sampler_frequencies_of_whole_responses", 1,
              "rows that share a beginning go on alike, or with each other's past"))),
    "logprobs": Exercise("Log-probabilities of a rollout", 40, (
        "model.py:response_hidden", "model.py:token_logprobs"), (
        Check("test_model.py::test_sampler_logprobs_equal_recomputed", 3,
              "off by one: the state before a token predicts it; or prompts of other lengths"),
        Check("test_rlvr.py::test_a_frozen_model_scores_the_sampled_ids", 3,
              "scored at temperature 1 what was sampled at another"),
        Check("test_rlvr.py::test_nothing_after_the_ending_matters", 2,
              "the ending is left out, or the padding is not"),
        Check("test_rlvr.py::test_update_is_the_policy_gradient", 1,
              "no gradient flows, or that of other tokens"),
        Check("test_rlvr.py::test_sampling_temperature_is_scored_too", 1,
              "the ratio of the first update is not 1"))),
    "advantages": Exercise("Advantages in a group", 30, (
        "losses.py:to_tokens", "losses.py:center_rewards", "losses.py:grpo", "losses.py:dr_grpo",
        "losses.py:rloo"), (
        Check("test_losses.py::test_group_advantages", 4,
              "another std (n - 1), a mean of all prompts, or a baseline with the reward itself"),
        Check("test_losses.py::test_equal_rewards_give_exactly_zero", 2,
              "equal rewards give not 0: a rounded mean over 1e-9"),
        Check("test_losses.py::test_a_group_of_one_has_no_advantage", 1,
              "a group of one gives NaN"),
        Check("test_losses.py::test_every_token_of_a_response_has_its_number", 2,
              "rows and groups are mixed up, or padding has an advantage"),
        Check("test_losses.py::test_on_policy_all_but_grpo_are_the_same_gradient_in_expectation",
              1, "the expected gradient is not that of E[r]: a baseline that is not free"))),
    "clip": Exercise("PPO's clip, and what it clips", 60, (
        "losses.py:clipped", "losses.py:masked", "losses.py:unweighted", "rlvr.py:diagnose"), (
        Check("test_losses.py::test_four_quadrants_of_the_clip", 5,
              "`max` for `min` where A < 0, or the bounds swapped"),
        Check("test_losses.py::test_gradient_of_every_policy_loss", 3,
              "the gradient is not -A w (onehot - pi): the ratio or a sign"),
        Check("test_losses.py::test_first_update_is_reinforce_for_all", 1,
              "at ratio 1 the gradient is not REINFORCE's"),
        Check("test_losses.py::test_gradient_of_the_controls", 2,
              "a control keeps a push that it should drop, or drops one that it should keep"),
        Check("test_rlvr.py::test_clip_fractions_and_kl_count_over_all_updates", 2,
              "clip fractions without the sign of A, or a KL in the wrong direction"),
        Check("test_rlvr.py::test_clips_are_counted_at_the_losses_own_bounds", 1,
              "counted at one eps for both sides"),
        Check("test_rlvr.py::test_metrics_of_trained_tokens", 1,
              "the wrong tokens are counted")), (
        "lessons/bandit.py:weigh", "lessons/bandit.py:first_arm")),
    "gae": Exercise("PPO's critic: GAE and its loss", 45, (
        "losses.py:gae", "losses.py:value_loss"), (
        Check("test_losses.py::test_gae_is_its_closed_form", 4,
              "a value leaks across the ending, or the reward is not at the last token"),
        Check("test_losses.py::test_gae_at_its_ends", 2,
              "lambda = 1 is not Monte Carlo, or lambda = 0 not the TD error"),
        Check("test_losses.py::test_gae_below_one_favours_short_responses", 1,
              "gamma and lambda swapped, or counted from the wrong end"),
        Check("test_losses.py::test_value_loss_gradient", 3,
              "`min` for `max`, a factor of 2, or a clip around the target"))),
    "signs": Exercise("Right samples, wrong samples", 25, (
        "losses.py:sign_rewards", "losses.py:reinforce", "losses.py:psr", "losses.py:nsr",
        "losses.py:w_reinforce"), (
        Check("test_losses.py::test_sign_advantages", 4,
              "NSR without its minus, W-REINFORCE's weight on the wrong side, or the range"),
        Check("test_losses.py::test_a_middle_reward_has_no_sign", 2,
              "rewards are taken for 0 or 1"),
        Check("test_losses.py::test_nsr_redistributes_in_proportion_to_the_prior", 2,
              "NSR moves right samples, or raises wrong ones"),
        Check("test_losses.py::test_psr_concentrates", 2,
              "PSR moves wrong samples"))),
    "pass_at_k": Exercise("Pass@k without bias", 15, ("evaluation.py:pass_at_k",), (
        Check("test_evaluation.py::test_pass_at_k_is_the_share_of_subsets_with_a_right_sample", 3,
              "drawn with replacement, or any of the first k"),
        Check("test_evaluation.py::test_pass_at_k_refuses_the_impossible", 2,
              "k > n gives a number"))),
    "confidence": Exercise("Rewards for knowing what one knows", 30, (
        "rewards.py:brier_alone", "rewards.py:brier", "rewards.py:log_score",
        "rewards.py:ternary"), (
        Check("test_rewards.py::test_confidence_rewards", 3,
              "another confidence than P(right) pays most, or being right costs"),
        Check("test_rewards.py::test_confidence_rewards_by_hand", 3,
              "a response without confidence gets the wrong number, or a sign"),
        Check("test_rewards.py::test_ternary", 3,
              "a wrong answer is paid like an abstention, or `?` counts inside an answer"),
        Check("test_rewards.py::test_any_tokens_get_a_reward", 1,
              "some response is paid outside the reward's range"))),
    "bandit": Exercise("Which of the two clips lifts?", 75, (
        "lessons/bandit.py:weigh", "lessons/bandit.py:first_arm"), (
        Check("test_lesson_clips.py::test_bandit_is_grpo", 4,
              "an update is not that of the loss: a group's mean, a bound, a ratio, kappa"),
        Check("test_lesson_clips.py::test_which_clip_lifts", 3,
              "the habit rises without a wall, or not with one"),
        Check("test_drift.py::test_norm_drift", 2,
              "the norm leaves out what each pull's gradient has besides its arm's"),
        Check("test_drift.py::test_without_the_norm_clip_p_does_not_matter", 1,
              "a drift without any clip")), (
        "losses.py:clipped", "losses.py:masked", "losses.py:unweighted", "rlvr.py:diagnose")),
}
