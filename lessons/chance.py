"""What some seeds say of the chance that a seed does what they did, and of the mean of all."""

import math
from statistics import mean, stdev

STUDENT = {3: 4.303, 5: 2.776, 12: 2.201, 20: 2.093}  # t, 97.5% quantile, by number of seeds


def tail(k: int, n: int, p: float = 0.5) -> float:
    """The probability that at least k of n independent seeds do what one does with probability p.

    >>> tail(4, 5)
    0.1875
    """
    return sum(math.comb(n, i) * p ** i * (1 - p) ** (n - i) for i in range(k, n + 1))


def bound_chance(k: int, n: int) -> float:
    """The chance of an outcome at which k of n seeds or more have it with probability 2.5%."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if tail(k, n, middle) < 0.025:
            low = middle
        else:
            high = middle
    return low


def chance(k: int, n: int) -> tuple[float, float]:
    """The exact 95% interval of the chance of what k of n seeds did (Clopper and Pearson, 1934).

    >>> [round(bound, 2) for bound in chance(5, 5)]
    [0.48, 1.0]
    """
    return bound_chance(k, n), 1 - bound_chance(n - k, n)


def bound_mean(values: list[float]) -> tuple[float, float] | None:
    """Student's 95% interval of a mean, for numbers of seeds in STUDENT; None for others.

    For what is spread about a mean; not for outcomes of two kinds, which `chance` is for.

    >>> [round(bound, 2) for bound in bound_mean([1.0, 2.0, 3.0])]
    [-0.48, 4.48]
    """
    if len(values) not in STUDENT:
        return None
    half = STUDENT[len(values)] * stdev(values) / math.sqrt(len(values))
    return mean(values) - half, mean(values) + half
