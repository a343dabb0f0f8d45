"""What some seeds say of the chance that a seed does what they did, and of the mean of all."""

import math
from functools import cache
from statistics import mean, stdev

import numpy as np

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


@cache
def find_student(seeds: int) -> float:
    """t, the 97.5% quantile of Student's distribution with seeds - 1 degrees of freedom (1908).

    A mean of so few is known to t standard errors, not to 2. Of the density's sum, by trapezoids.

    >>> [round(find_student(seeds), 3) for seeds in (3, 8, 16)]
    [4.303, 2.365, 2.131]
    """
    dof, x = seeds - 1, np.linspace(0, 20, 200_001)
    scale = math.exp(math.lgamma((dof + 1) / 2) - math.lgamma(dof / 2)) / math.sqrt(dof * math.pi)
    density = scale * (1 + x ** 2 / dof) ** (-(dof + 1) / 2)
    mass = np.cumsum(np.diff(x) * (density[1:] + density[:-1]) / 2)
    return float(np.interp(0.475, mass, x[1:]))


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


def show_mean(values: list[float], digits: int = 1, sign: str = "+") -> str:
    """'-3.8 ± 1.0': a mean and half of its 95% interval (Student's t); of one seed the number.

    >>> show_mean([1.0, 2.0, 3.0]), show_mean([1.0])
    ('+2.0 ± 2.5', '+1.0')
    """
    text = f"{mean(values):{sign}.{digits}f}"
    if len(values) == 1:
        return text
    half = find_student(len(values)) * stdev(values) / math.sqrt(len(values))
    return f"{text} ± {half:.{digits}f}"
