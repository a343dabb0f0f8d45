"""Wrong solutions of the exercise gae: what students write, and what each is told."""

import torch
from torch import Tensor

from course.exercises.catalog import replaces
from losses import Batch, Gamma, Lambda


@replaces("losses.py:gae")
def pay_in_the_last_column(batch: Batch, *, gamma: Gamma = 1.0, gae_lambda: Lambda = 1.0) -> Tensor:
    """The reward comes in the last column. It comes with each response's own last token."""
    values, T = batch.scores["values"], batch.mask.size(1)
    advantages, later = torch.zeros_like(values), torch.zeros_like(values[:, 0])
    following = torch.cat((values[:, 1:], torch.zeros_like(values[:, :1])), dim=1)
    for t in reversed(range(T)):
        paid = batch.rewards.flatten() * (t == T - 1)
        later = paid + gamma * following[:, t] - values[:, t] + gamma * gae_lambda * later
        advantages[:, t] = later
    return advantages * batch.mask


@replaces("losses.py:gae")
def go_on_after_the_ending(batch: Batch, *, gamma: Gamma = 1.0, gae_lambda: Lambda = 1.0) -> Tensor:
    """The last token is followed by its own value. After the ending the value is 0."""
    values, lengths = batch.scores["values"], batch.mask.sum(1)
    advantages, later = torch.zeros_like(values), torch.zeros_like(values[:, 0])
    for t in reversed(range(values.size(1))):
        last = lengths == t + 1
        following = values[:, t] if t + 1 == values.size(1) else values[:, t + 1].where(
            ~last, values[:, t])
        delta = batch.rewards.flatten() * last + gamma * following - values[:, t]
        later = (delta + gamma * gae_lambda * later) * batch.mask[:, t]
        advantages[:, t] = later
    return advantages


@replaces("losses.py:gae")
def recurse_without_gamma(batch: Batch, *, gamma: Gamma = 1.0, gae_lambda: Lambda = 1.0) -> Tensor:
    """The recursion goes on with lambda alone. A_(t+1) is weighed with gamma lambda."""
    values, lengths = batch.scores["values"], batch.mask.sum(1)
    advantages = torch.zeros_like(values)
    value = later = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.size(1))):
        delta = batch.rewards.flatten() * (lengths == t + 1) + gamma * value - values[:, t]
        later = delta + gae_lambda * later
        value, advantages[:, t] = values[:, t], later
    return advantages


@replaces("losses.py:gae")
def recurse_without_lambda(batch: Batch, *, gamma: Gamma = 1.0, gae_lambda: Lambda = 1.0) -> Tensor:
    """The recursion goes on with gamma alone. A_(t+1) is weighed with gamma lambda."""
    values, lengths = batch.scores["values"], batch.mask.sum(1)
    advantages = torch.zeros_like(values)
    value = later = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.size(1))):
        delta = batch.rewards.flatten() * (lengths == t + 1) + gamma * value - values[:, t]
        later = delta + gamma * later
        value, advantages[:, t] = values[:, t], later
    return advantages


@replaces("losses.py:gae")
def recurse_on_delta(batch: Batch, *, gamma: Gamma = 1.0, gae_lambda: Lambda = 1.0) -> Tensor:
    """The recursion goes on with delta_(t+1). It goes on with the advantage A_(t+1)."""
    values, lengths = batch.scores["values"], batch.mask.sum(1)
    advantages = torch.zeros_like(values)
    value = later = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.size(1))):
        delta = batch.rewards.flatten() * (lengths == t + 1) + gamma * value - values[:, t]
        advantages[:, t] = delta + gamma * gae_lambda * later
        value, later = values[:, t], delta
    return advantages


@replaces("losses.py:gae")
def return_the_returns(batch: Batch, *, gamma: Gamma = 1.0, gae_lambda: Lambda = 1.0) -> Tensor:
    """The values are added: these are the critic's targets A + V, not the advantages A."""
    values, lengths = batch.scores["values"], batch.mask.sum(1)
    advantages = torch.zeros_like(values)
    value = later = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.size(1))):
        delta = batch.rewards.flatten() * (lengths == t + 1) + gamma * value - values[:, t]
        later = delta + gamma * gae_lambda * later
        value, advantages[:, t] = values[:, t], later
    return advantages + values


@replaces("losses.py:gae")
def pay_every_token(batch: Batch, *, gamma: Gamma = 1.0, gae_lambda: Lambda = 1.0) -> Tensor:
    """Every token is paid the reward. It is paid once, with the last token."""
    values = batch.scores["values"]
    advantages = torch.zeros_like(values)
    value = later = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.size(1))):
        delta = batch.rewards.flatten() * batch.mask[:, t] + gamma * value - values[:, t]
        later = delta + gamma * gae_lambda * later
        value, advantages[:, t] = values[:, t], later
    return advantages


@replaces("losses.py:value_loss")
def take_the_smaller_loss(values: Tensor, old_values: Tensor, returns: Tensor, eps_value: float
                          ) -> Tensor:
    """`min` stands where `max` should: a value that moved away from R is then left there."""
    near = old_values + (values - old_values).clamp(-eps_value, eps_value)
    return torch.min((values - returns) ** 2, (near - returns) ** 2) / 2


@replaces("losses.py:value_loss")
def forget_the_half(values: Tensor, old_values: Tensor, returns: Tensor, eps_value: float
                    ) -> Tensor:
    """The factor 1/2 is missing: the gradient is twice V - R."""
    near = old_values + (values - old_values).clamp(-eps_value, eps_value)
    return torch.max((values - returns) ** 2, (near - returns) ** 2)


@replaces("losses.py:value_loss")
def clip_around_the_target(values: Tensor, old_values: Tensor, returns: Tensor, eps_value: float
                           ) -> Tensor:
    """The value is clipped around the target R. It is clipped around V_old."""
    near = returns + (values - returns).clamp(-eps_value, eps_value)
    return torch.max((values - returns) ** 2, (near - returns) ** 2) / 2


@replaces("losses.py:value_loss")
def clip_without_max(values: Tensor, old_values: Tensor, returns: Tensor, eps_value: float
                     ) -> Tensor:
    """The clipped value alone is used. The loss is the larger of the two, clipped and not."""
    near = old_values + (values - old_values).clamp(-eps_value, eps_value)
    return (near - returns) ** 2 / 2


@replaces("losses.py:value_loss")
def clip_the_value_itself(values: Tensor, old_values: Tensor, returns: Tensor, eps_value: float
                          ) -> Tensor:
    """The value is clipped to -eps ... eps. Its distance from V_old is clipped to that."""
    near = values.clamp(-eps_value, eps_value)
    return torch.max((values - returns) ** 2, (near - returns) ** 2) / 2


@replaces("losses.py:value_loss")
def measure_by_absolute_values(values: Tensor, old_values: Tensor, returns: Tensor,
                               eps_value: float) -> Tensor:
    """The distance from R counts as it is. It counts squared."""
    near = old_values + (values - old_values).clamp(-eps_value, eps_value)
    return torch.max((values - returns).abs(), (near - returns).abs()) / 2
