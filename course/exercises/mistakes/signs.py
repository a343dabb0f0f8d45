"""Wrong solutions of the exercise signs: what students write, and what each is told."""

from torch import Tensor

from course.exercises.catalog import replaces
from losses import Batch, PsrWeight, center_rewards, nsr, psr, sign_rewards, to_tokens


@replaces("losses.py:sign_rewards")
def take_rewards_for_zero_or_one(batch: Batch) -> Tensor:
    """The range is left out: 2 r - 1 is right for rewards from 0 to 1 alone."""
    return 2 * batch.rewards - 1


@replaces("losses.py:sign_rewards")
def scale_to_zero_and_one(batch: Batch) -> Tensor:
    """The result is from 0 to 1. It should be from -1 to 1."""
    low, high = batch.reward_range
    return (batch.rewards - low) / (high - low)


@replaces("losses.py:sign_rewards")
def round_to_a_sign(batch: Batch) -> Tensor:
    """Every reward becomes -1 or 1. One in the middle of the range is 0."""
    low, high = batch.reward_range
    return 2.0 * (batch.rewards > (low + high) / 2) - 1


@replaces("losses.py:sign_rewards")
def find_the_range_oneself(batch: Batch) -> Tensor:
    """The range is that of these rewards. It is that of the reward: `batch.reward_range`."""
    low, high = batch.rewards.min(), batch.rewards.max()
    return 2 * (batch.rewards - low) / (high - low) - 1


@replaces("losses.py:reinforce")
def give_reinforce_a_baseline(batch: Batch) -> Tensor:
    """The mean of the group is subtracted. This REINFORCE has no baseline."""
    return to_tokens(center_rewards(sign_rewards(batch)), batch)


@replaces("losses.py:reinforce")
def reinforce_the_reward(batch: Batch) -> Tensor:
    """The reward itself is the advantage. It is its sign, from -1 to 1."""
    return to_tokens(batch.rewards, batch)


@replaces("losses.py:psr")
def keep_wrong_samples(batch: Batch) -> Tensor:
    """Wrong samples have -1. PSR leaves them out: they have 0."""
    return to_tokens(sign_rewards(batch), batch)


@replaces("losses.py:psr")
def take_the_wrong_side(batch: Batch) -> Tensor:
    """Wrong samples are kept, and right ones are not: this is NSR."""
    return to_tokens(sign_rewards(batch).clamp(max=0), batch)


@replaces("losses.py:psr")
def pay_right_samples_their_reward(batch: Batch) -> Tensor:
    """Right samples have their reward. They have their sign, at most 1."""
    return to_tokens(batch.rewards.clamp(min=0), batch)


@replaces("losses.py:nsr")
def lose_the_minus(batch: Batch) -> Tensor:
    """The minus is missing: wrong samples have +1, so NSR raises them. They have -1."""
    return to_tokens(-sign_rewards(batch).clamp(max=0), batch)


@replaces("losses.py:nsr")
def keep_right_samples(batch: Batch) -> Tensor:
    """Right samples have +1. NSR leaves them out: they have 0."""
    return to_tokens(sign_rewards(batch), batch)


@replaces("losses.py:nsr")
def take_the_right_side(batch: Batch) -> Tensor:
    """Right samples are kept, and wrong ones are not: this is PSR."""
    return to_tokens(sign_rewards(batch).clamp(min=0), batch)


@replaces("losses.py:nsr")
def subtract_one(batch: Batch) -> Tensor:
    """r - 1 is right for rewards from 0 to 1 alone. It is the sign's negative part."""
    return to_tokens(batch.rewards - 1, batch)


@replaces("losses.py:w_reinforce")
def weigh_the_wrong_ones(batch: Batch, *, psr_weight: PsrWeight = 0.1) -> Tensor:
    """The weight is on the wrong samples. lambda weighs the right ones, PSR."""
    return psr(batch) + psr_weight * nsr(batch)


@replaces("losses.py:w_reinforce")
def weigh_all(batch: Batch, *, psr_weight: PsrWeight = 0.1) -> Tensor:
    """The weight is on all samples. lambda weighs the right ones alone, PSR."""
    return psr_weight * (psr(batch) + nsr(batch))


@replaces("losses.py:w_reinforce")
def subtract_the_wrong_ones(batch: Batch, *, psr_weight: PsrWeight = 0.1) -> Tensor:
    """NSR is subtracted. It has its minus already: it is added."""
    return psr_weight * psr(batch) - nsr(batch)


@replaces("losses.py:w_reinforce")
def share_the_weight(batch: Batch, *, psr_weight: PsrWeight = 0.1) -> Tensor:
    """Wrong samples have the weight 1 - lambda. They have the weight 1."""
    return psr_weight * psr(batch) + (1 - psr_weight) * nsr(batch)
