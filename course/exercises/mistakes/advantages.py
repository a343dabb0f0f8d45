"""Wrong solutions of the exercise advantages: what students write, and what each is told."""

from torch import Tensor

from course.exercises.catalog import replaces
from losses import Batch, center_rewards, to_tokens


@replaces("losses.py:to_tokens")
def count_padding(per_response: Tensor, batch: Batch) -> Tensor:
    """Padding has an advantage too. It is no token of the response: it needs 0."""
    return per_response.flatten()[:, None].expand(batch.mask.shape).clone()


@replaces("losses.py:to_tokens")
def take_rows_by_column(per_response: Tensor, batch: Batch) -> Tensor:
    """Rows and groups are mixed up: row p G + g of a batch is answer g to prompt p."""
    return per_response.T.flatten()[:, None] * batch.mask


@replaces("losses.py:to_tokens")
def share_among_tokens(per_response: Tensor, batch: Batch) -> Tensor:
    """A response's number is divided by its length. Every token gets the whole number."""
    return per_response.flatten()[:, None] * batch.mask / batch.mask.sum(1, keepdim=True)


@replaces("losses.py:to_tokens")
def pay_the_last_token(per_response: Tensor, batch: Batch) -> Tensor:
    """Only the last token gets the number. All tokens of the response do."""
    last = batch.mask.cumsum(1) == batch.mask.sum(1, keepdim=True)
    return per_response.flatten()[:, None] * (last & batch.mask)


@replaces("losses.py:center_rewards")
def center_in_the_batch(rewards: Tensor) -> Tensor:
    """The mean is that of the whole batch. Each group has its own."""
    centered = rewards - rewards.mean()
    return centered.masked_fill((rewards == rewards[:, :1]).all(dim=1, keepdim=True), 0.0)


@replaces("losses.py:center_rewards")
def center_over_prompts(rewards: Tensor) -> Tensor:
    """The mean is over prompts, in dimension 0. A group is a row: its mean is over dimension 1."""
    return rewards - rewards.mean(dim=0, keepdim=True)


@replaces("losses.py:center_rewards")
def center_with_a_threshold(rewards: Tensor) -> Tensor:
    """Small differences are taken for none. Ask whether all rewards are equal, exactly."""
    centered = rewards - rewards.mean(dim=1, keepdim=True)
    return centered.masked_fill(centered.abs() < 1e-6, 0.0)


@replaces("losses.py:center_rewards")
def center_with_rounding(rewards: Tensor) -> Tensor:
    """Equal rewards do not give exactly 0: their mean rounds. Ask whether all are equal."""
    return rewards - rewards.mean(dim=1, keepdim=True)


@replaces("losses.py:center_rewards")
def center_at_the_median(rewards: Tensor) -> Tensor:
    """The median is subtracted. The baseline is the mean."""
    return rewards - rewards.median(dim=1, keepdim=True).values


@replaces("losses.py:grpo")
def divide_by_the_sample_std(batch: Batch) -> Tensor:
    """The std is that of a sample, over G - 1. GRPO's is that of the group, over G."""
    std = batch.rewards.std(dim=1, keepdim=True)
    return to_tokens(center_rewards(batch.rewards) / (std + 1e-9), batch)


@replaces("losses.py:grpo")
def divide_by_the_batch_std(batch: Batch) -> Tensor:
    """The std is that of the whole batch. Each group has its own."""
    std = batch.rewards.std(correction=0)
    return to_tokens(center_rewards(batch.rewards) / (std + 1e-9), batch)


@replaces("losses.py:grpo")
def divide_by_the_variance(batch: Batch) -> Tensor:
    """The variance divides. GRPO divides by its root, the std."""
    variance = batch.rewards.var(dim=1, correction=0, keepdim=True)
    return to_tokens(center_rewards(batch.rewards) / (variance + 1e-9), batch)


@replaces("losses.py:grpo")
def divide_by_nothing_at_all(batch: Batch) -> Tensor:
    """Nothing is added to the std, so equal rewards are 0 / 0. GRPO divides by std + 1e-9."""
    std = batch.rewards.std(dim=1, correction=0, keepdim=True)
    return to_tokens(center_rewards(batch.rewards) / std, batch)


@replaces("losses.py:grpo")
def leave_the_std_out(batch: Batch) -> Tensor:
    """The division by the std is missing: this is Dr. GRPO."""
    return to_tokens(center_rewards(batch.rewards), batch)


@replaces("losses.py:grpo")
def leave_the_mean_in(batch: Batch) -> Tensor:
    """The mean of the group is not subtracted."""
    std = batch.rewards.std(dim=1, correction=0, keepdim=True)
    return to_tokens(batch.rewards / (std + 1e-9), batch)


@replaces("losses.py:dr_grpo")
def keep_the_std(batch: Batch) -> Tensor:
    """The std divides, as in GRPO. Dr. GRPO leaves it out."""
    std = batch.rewards.std(dim=1, correction=0, keepdim=True)
    return to_tokens(center_rewards(batch.rewards) / (std + 1e-9), batch)


@replaces("losses.py:rloo")
def turn_rloo_upside_down(batch: Batch) -> Tensor:
    """The factor is upside down: r minus the mean of the others is (r - mean) G / (G - 1)."""
    G = batch.rewards.size(1)
    return to_tokens(center_rewards(batch.rewards) * (G - 1) / G, batch)


@replaces("losses.py:rloo")
def include_oneself(batch: Batch) -> Tensor:
    """The baseline includes the reward itself. RLOO's is the mean of the other G - 1."""
    return to_tokens(center_rewards(batch.rewards), batch)


@replaces("losses.py:rloo")
def divide_the_others_by_all(batch: Batch) -> Tensor:
    """The sum of the others is divided by G. There are G - 1 of them."""
    others = batch.rewards.sum(dim=1, keepdim=True) - batch.rewards
    return to_tokens(batch.rewards - others / batch.rewards.size(1), batch)
