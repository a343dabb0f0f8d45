"""What some seeds say of the chance that a seed does what they did."""

import math


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
