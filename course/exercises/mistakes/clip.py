"""Wrong solutions of the exercise clip: what students write, and what each is told."""

import torch
from torch import Tensor

from course.exercises.catalog import replaces
from losses import EpsHigh, EpsLow, clipped, kl_k3


@replaces("losses.py:clipped")
def clip_with_max(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, rows: Tensor, *,
                  eps_low: EpsLow = 0.4, eps_high: EpsHigh = 0.4) -> tuple[Tensor, Tensor]:
    """`max` stands where PPO has `min`: the loss is minus the smaller of the two products."""
    ratio = (logprobs - old_logprobs).exp()
    bounded = ratio.clamp(1 - eps_low, 1 + eps_high)
    loss = -torch.max(ratio * advantages, bounded * advantages)
    return loss, bounded * advantages > ratio * advantages


@replaces("losses.py:clipped")
def clip_the_ratio_alone(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, rows: Tensor,
                         *, eps_low: EpsLow = 0.4, eps_high: EpsHigh = 0.4
                         ) -> tuple[Tensor, Tensor]:
    """`min` is taken of the ratios, before A multiplies: for A < 0 that is the wrong end."""
    ratio = (logprobs - old_logprobs).exp()
    bounded = ratio.clamp(1 - eps_low, 1 + eps_high)
    return -torch.min(ratio, bounded) * advantages, bounded * advantages < ratio * advantages


@replaces("losses.py:clipped")
def clip_without_min(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, rows: Tensor, *,
                     eps_low: EpsLow = 0.4, eps_high: EpsHigh = 0.4) -> tuple[Tensor, Tensor]:
    """The `min` is missing: beyond a bound a push back inside has no gradient either."""
    ratio = (logprobs - old_logprobs).exp()
    bounded = ratio.clamp(1 - eps_low, 1 + eps_high)
    return -bounded * advantages, bounded != ratio


@replaces("losses.py:clipped")
def clip_an_inverted_ratio(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor,
                           rows: Tensor, *, eps_low: EpsLow = 0.4, eps_high: EpsHigh = 0.4
                           ) -> tuple[Tensor, Tensor]:
    """The ratio is inverted: w is the new probability over the old one."""
    ratio = (old_logprobs - logprobs).exp()
    bounded = ratio.clamp(1 - eps_low, 1 + eps_high)
    loss = -torch.min(ratio * advantages, bounded * advantages)
    return loss, bounded * advantages < ratio * advantages


@replaces("losses.py:clipped")
def swap_the_bounds(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, rows: Tensor, *,
                    eps_low: EpsLow = 0.4, eps_high: EpsHigh = 0.4) -> tuple[Tensor, Tensor]:
    """The bounds are swapped: they are 1 - eps_low and 1 + eps_high."""
    ratio = (logprobs - old_logprobs).exp()
    bounded = ratio.clamp(1 - eps_high, 1 + eps_low)
    loss = -torch.min(ratio * advantages, bounded * advantages)
    return loss, bounded * advantages < ratio * advantages


@replaces("losses.py:clipped")
def use_one_bound_twice(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, rows: Tensor,
                        *, eps_low: EpsLow = 0.4, eps_high: EpsHigh = 0.4
                        ) -> tuple[Tensor, Tensor]:
    """eps_low bounds both sides. The upper bound is 1 + eps_high."""
    ratio = (logprobs - old_logprobs).exp()
    bounded = ratio.clamp(1 - eps_low, 1 + eps_low)
    loss = -torch.min(ratio * advantages, bounded * advantages)
    return loss, bounded * advantages < ratio * advantages


@replaces("losses.py:clipped")
def forget_the_minus(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, rows: Tensor, *,
                     eps_low: EpsLow = 0.4, eps_high: EpsHigh = 0.4) -> tuple[Tensor, Tensor]:
    """The minus is missing: a loss is minimised, so it is minus the objective."""
    ratio = (logprobs - old_logprobs).exp()
    bounded = ratio.clamp(1 - eps_low, 1 + eps_high)
    loss = torch.min(ratio * advantages, bounded * advantages)
    return loss, bounded * advantages < ratio * advantages


@replaces("losses.py:clipped")
def report_every_ratio_outside(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor,
                               rows: Tensor, *, eps_low: EpsLow = 0.4, eps_high: EpsHigh = 0.4
                               ) -> tuple[Tensor, Tensor]:
    """Every ratio outside the bounds is called clipped. Pushes back inside keep their gradient."""
    ratio = (logprobs - old_logprobs).exp()
    bounded = ratio.clamp(1 - eps_low, 1 + eps_high)
    return -torch.min(ratio * advantages, bounded * advantages), bounded != ratio


@replaces("losses.py:clipped")
def report_where_nothing_is_pushed(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor,
                                   rows: Tensor, *, eps_low: EpsLow = 0.4,
                                   eps_high: EpsHigh = 0.4) -> tuple[Tensor, Tensor]:
    """A token with A = 0 is called clipped. It has no gradient that a clip could take."""
    ratio = (logprobs - old_logprobs).exp()
    bounded = ratio.clamp(1 - eps_low, 1 + eps_high)
    outside = bounded != ratio
    loss = -torch.min(ratio * advantages, bounded * advantages)
    return loss, outside & (bounded * advantages <= ratio * advantages)


@replaces("losses.py:masked")
def mask_like_the_clip(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, rows: Tensor, *,
                       eps_low: EpsLow = 0.4, eps_high: EpsHigh = 0.4) -> tuple[Tensor, Tensor]:
    """Pushes back inside keep their gradient, as with PPO's clip. This control drops both."""
    return clipped(logprobs, old_logprobs, advantages, rows, eps_low=eps_low, eps_high=eps_high)


@replaces("losses.py:masked")
def mask_without_the_ratio(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor,
                           rows: Tensor, *, eps_low: EpsLow = 0.4, eps_high: EpsHigh = 0.4
                           ) -> tuple[Tensor, Tensor]:
    """The ratio is missing: inside the bounds the gradient is -w A."""
    ratio = (logprobs - old_logprobs).exp()
    inside = (ratio >= 1 - eps_low) & (ratio <= 1 + eps_high)
    return -logprobs * advantages * inside, ~inside


@replaces("losses.py:masked")
def mask_the_inside(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, rows: Tensor, *,
                    eps_low: EpsLow = 0.4, eps_high: EpsHigh = 0.4) -> tuple[Tensor, Tensor]:
    """What is inside the bounds is reported as dropped. It is what is outside."""
    ratio = (logprobs - old_logprobs).exp()
    inside = (ratio >= 1 - eps_low) & (ratio <= 1 + eps_high)
    return -ratio * advantages * inside, inside


@replaces("losses.py:unweighted")
def keep_the_weight(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, rows: Tensor, *,
                    eps_low: EpsLow = 0.4, eps_high: EpsHigh = 0.4) -> tuple[Tensor, Tensor]:
    """The gradient still has the ratio as its weight. Without it, it is -A."""
    return clipped(logprobs, old_logprobs, advantages, rows, eps_low=eps_low, eps_high=eps_high)


@replaces("losses.py:unweighted")
def drop_both_ways(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, rows: Tensor, *,
                   eps_low: EpsLow = 0.4, eps_high: EpsHigh = 0.4) -> tuple[Tensor, Tensor]:
    """All outside the bounds is dropped. Only what PPO's clip drops should be."""
    ratio = (logprobs - old_logprobs).exp()
    outside = (ratio < 1 - eps_low) | (ratio > 1 + eps_high)
    return -advantages * logprobs * ~outside, outside


@replaces("losses.py:unweighted")
def drop_nothing(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, rows: Tensor, *,
                 eps_low: EpsLow = 0.4, eps_high: EpsHigh = 0.4) -> tuple[Tensor, Tensor]:
    """Nothing is dropped. What PPO's clip takes the gradient from is dropped here too."""
    return -advantages * logprobs, torch.zeros_like(advantages, dtype=torch.bool)


@replaces("rlvr.py:diagnose")
def count_tokens_without_advantage(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor,
                                   dropped: Tensor) -> dict:
    """Clipped tokens with A = 0 are counted. They belong to neither side."""
    return {"trained": len(logprobs), "approx_kl": kl_k3(old_logprobs, logprobs).sum(),
            "clip_high": (dropped & (advantages >= 0)).sum(),
            "clip_low": (dropped & (advantages <= 0)).sum()}


@replaces("rlvr.py:diagnose")
def count_ratios_oneself(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor,
                         dropped: Tensor) -> dict:
    """Ratios are counted, whatever the loss did: a loss that never clips then has clips.

    Count `dropped`, which the loss gives.
    """
    ratio = (logprobs - old_logprobs).exp()
    return {"trained": len(logprobs), "approx_kl": kl_k3(old_logprobs, logprobs).sum(),
            "clip_high": ((ratio > 1.4) & (advantages > 0)).sum(),
            "clip_low": ((ratio < 0.6) & (advantages < 0)).sum()}


@replaces("rlvr.py:diagnose")
def count_whatever_the_sign(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor,
                            dropped: Tensor) -> dict:
    """The sign of A is not asked for: both sides count every clipped token."""
    return {"trained": len(logprobs), "approx_kl": kl_k3(old_logprobs, logprobs).sum(),
            "clip_high": dropped.sum(), "clip_low": dropped.sum()}


@replaces("rlvr.py:diagnose")
def swap_the_sides(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor,
                   dropped: Tensor) -> dict:
    """The sides are swapped: clip_high counts A > 0, clip_low counts A < 0."""
    return {"trained": len(logprobs), "approx_kl": kl_k3(old_logprobs, logprobs).sum(),
            "clip_high": (dropped & (advantages < 0)).sum(),
            "clip_low": (dropped & (advantages > 0)).sum()}


@replaces("rlvr.py:diagnose")
def turn_the_kl_round(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor,
                      dropped: Tensor) -> dict:
    """The KL is turned round: the samples are the old policy's, so d = log pi - log pi_old."""
    return {"trained": len(logprobs), "approx_kl": kl_k3(logprobs, old_logprobs).sum(),
            "clip_high": (dropped & (advantages > 0)).sum(),
            "clip_low": (dropped & (advantages < 0)).sum()}


@replaces("rlvr.py:diagnose")
def estimate_by_k1(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor,
                   dropped: Tensor) -> dict:
    """The KL is the mean difference of log-probabilities, k1. It should be k3."""
    return {"trained": len(logprobs), "approx_kl": (old_logprobs - logprobs).sum(),
            "clip_high": (dropped & (advantages > 0)).sum(),
            "clip_low": (dropped & (advantages < 0)).sum()}


@replaces("rlvr.py:diagnose")
def average_over_tokens(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor,
                        dropped: Tensor) -> dict:
    """Means are given. The loop divides itself: it wants sums over tokens."""
    return {"trained": len(logprobs), "approx_kl": kl_k3(old_logprobs, logprobs).mean(),
            "clip_high": (dropped & (advantages > 0)).double().mean(),
            "clip_low": (dropped & (advantages < 0)).double().mean()}
