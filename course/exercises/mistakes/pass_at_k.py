"""Wrong solutions of the exercise pass_at_k: what students write, and what each is told."""

import math

from course.exercises.catalog import replaces


@replaces("evaluation.py:pass_at_k")
def draw_with_replacement(n: int, c: int, k: int) -> float:
    """The samples are drawn with replacement. A subset has each of them once: use C(n - c, k)."""
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"n={n}, c={c}, k={k}")
    return 1 - (1 - c / n) ** k


@replaces("evaluation.py:pass_at_k")
def give_the_share_that_fails(n: int, c: int, k: int) -> float:
    """This is the share of subsets without a right sample. pass@k is 1 minus it."""
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"n={n}, c={c}, k={k}")
    return math.comb(n - c, k) / math.comb(n, k)


@replaces("evaluation.py:pass_at_k")
def ask_for_all_right(n: int, c: int, k: int) -> float:
    """All k samples must be right here. For pass@k one is enough."""
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"n={n}, c={c}, k={k}")
    return math.comb(c, k) / math.comb(n, k)


@replaces("evaluation.py:pass_at_k")
def count_right_samples(n: int, c: int, k: int) -> float:
    """This is the expected number of right samples, at most 1. pass@k is a chance of any."""
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"n={n}, c={c}, k={k}")
    return min(1.0, k * c / n)


@replaces("evaluation.py:pass_at_k")
def ignore_k(n: int, c: int, k: int) -> float:
    """This is pass@1, c / n, whatever k is."""
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"n={n}, c={c}, k={k}")
    return c / n


@replaces("evaluation.py:pass_at_k")
def ask_for_any_at_all(n: int, c: int, k: int) -> float:
    """It is 1 as soon as any of the n is right. Only k of them are drawn."""
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"n={n}, c={c}, k={k}")
    return float(c > 0)


@replaces("evaluation.py:pass_at_k")
def refuse_nothing(n: int, c: int, k: int) -> float:
    """Numbers that cannot be are not refused. For k > n, k < 1, c > n or c < 0: ValueError."""
    if k > n or n - c < k:
        return 1.0
    return 1 - math.comb(max(n - c, 0), max(k, 0)) / math.comb(n, max(k, 0))


@replaces("evaluation.py:pass_at_k")
def refuse_a_large_k_alone(n: int, c: int, k: int) -> float:
    """Only k > n is refused. k < 1, c > n and c < 0 are no counts either: ValueError."""
    if k > n:
        raise ValueError(f"n={n}, k={k}")
    return 1 - math.comb(max(n - c, 0), max(k, 0)) / math.comb(n, max(k, 0))
