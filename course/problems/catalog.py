"""The problems: their runs, the numbers that are read off these, and what other seeds gave.

A cell is a setting of `train`. What is expected of it are the stored runs of the same setting:
those of a lesson, in lessons/NAME/runs.csv and curves.csv, with the command of each.
"""

import math
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Callable, NamedTuple

import numpy as np

from lessons.chance import find_student
from lessons.report import Results, curves_of, read_results, select_runs

HERE = Path(__file__).parent
LESSONS = HERE.parents[1] / "lessons"
SLACK = 0.01   # of a share: seeds share their base, and yours rounds otherwise
PARTS = ("Sampling", "Clips and drift", "Rewards", "Evaluation")


class Cell(NamedTuple):
    name: str
    flags: dict          # of train, all but seed, threads and out
    lesson: str          # whose stored runs it has


class Quantity(NamedTuple):
    name: str
    read: Callable[[dict, list[dict]], float]   # of a row of runs.csv and the rows of its curve
    digits: int = 2
    least: float = 0.0                          # what it can be: a share, unless said otherwise
    most: float = 1.0
    slack: float = SLACK                        # what a base made on another processor may change
    of: str = ""                                # of a gain: what it is of, which ends where it ends
    ratios: bool = False                        # do seeds differ by factors, more than by amounts?


class Assignment(NamedTuple):
    title: str
    part: str
    minutes: int                           # of one core, without the bases
    points: tuple[int, int, int]           # for prediction, runs, explanation
    cells: tuple[Cell, ...] = ()
    quantities: tuple[Quantity, ...] = ()
    curve: str = ""                        # the column of metrics.csv that is compared by batch
    numbers: tuple[str, ...] = ()          # to be worked out of stored rows, where nothing is run


class Expected(NamedTuple):
    """What stored seeds gave: a new one lies between low and high in 95 of 100 cases."""

    mean: float
    low: float
    high: float
    values: list[float]   # of the stored seeds

    def holds(self, value: float) -> bool:
        return self.low - 1e-9 <= value <= self.high + 1e-9


# --- numbers of a run

def last_of(column: str) -> Callable:
    return lambda row, curve: curve[-1][column]


def first_of(column: str) -> Callable:
    return lambda row, curve: curve[0][column]


def mean_of(*columns: str) -> Callable:
    """The mean over rollout batches of the sum of some columns."""
    return lambda row, curve: mean(sum(point[column] for column in columns) for point in curve)


def gain_of(name: str) -> Callable:
    """After minus before, in points."""
    return lambda row, curve: 100 * (row[f"after_{name}"] - row[f"before_{name}"])


def count_gain(title: str, name: str) -> Quantity:
    return Quantity(f"{title}, points gained", gain_of(name), 1, -100, 100, 1.0, name)


PROGRAMS = Quantity("programs in the last batch", last_of("code_share"))
CLIPPED = Quantity("tokens clipped, in percent", lambda row, curve:
                   100 * mean_of("clip_high", "clip_low")(row, curve), 2, 0, 100, 0, ratios=True)
SAMPLED = count_gain("sampled accuracy", "accuracy")
GREEDY = count_gain("greedy accuracy", "greedy_accuracy")
PASSED = count_gain("pass@8", "pass_at_k_8")
PAID = Quantity("paid in the last batch", last_of("reward"))
GOOD = {"base": "good-code"}
BAD = {"base": "bad-code"}
COIN = Cell("coin", GOOD, "clips")

PROBLEMS = {
    1: Assignment("A colder sample", "Sampling", 1, (3, 1, 4), numbers=("programs", "accuracy")),
    2: Assignment("Groups that say nothing", "Sampling", 1, (3, 1, 4), (
        Cell("p = 0.1", GOOD | {"p": 0.1}, "clips"),
        Cell("p = 0.001", GOOD | {"p": 0.001}, "clips"),
        Cell("correct", GOOD | {"reward": "correct"}, "spurious")),
        (Quantity("groups without signal, first batch", first_of("no_signal")),
         Quantity("groups without signal, all batches", mean_of("no_signal"))), "no_signal"),
    3: Assignment("Fresh answers for every update", "Sampling", 2, (3, 1, 4), (
        Cell("fresh", GOOD | {"steps": 640, "prompts": 2, "updates": 1, "lr": 0.004}, "clips"),
        COIN), (CLIPPED, PROGRAMS), "code_share"),
    4: Assignment("One wall at a time", "Clips and drift", 1, (3, 1, 5), (
        Cell("upper wall only", GOOD | {"eps_low": 1e9}, "clips"),
        Cell("lower wall only", GOOD | {"eps_high": 1e9}, "clips")),
        (PROGRAMS, SAMPLED), "code_share"),
    5: Assignment("Seldom paid, often paid", "Clips and drift", 3, (3, 1, 5), (
        Cell("p = 0.1", GOOD | {"p": 0.1}, "clips"),
        Cell("p = 0.9", GOOD | {"p": 0.9}, "clips"),
        Cell("p = 0.9, no PPO clip", GOOD | {"p": 0.9, "eps_low": 1e9, "eps_high": 1e9},
             "clips")), (PROGRAMS, SAMPLED), "code_share"),
    6: Assignment("Closer walls", "Clips and drift", 2, (3, 1, 5), (
        COIN, Cell("eps 0.2", GOOD | {"eps_low": 0.2, "eps_high": 0.2}, "clips"),
        Cell("eps 0.1", GOOD | {"eps_low": 0.1, "eps_high": 0.1}, "clips")),
        (CLIPPED, PROGRAMS), "code_share"),
    7: Assignment("Your own clip in the loop", "Clips and drift", 2, (3, 2, 4), (
        COIN, Cell("masked", GOOD | {"loss": "grpo_masked"}, "clips")),
        (CLIPPED, PROGRAMS), "code_share"),
    8: Assignment("Paid for a box", "Rewards", 1, (3, 1, 4), (
        Cell("good-code", GOOD | {"reward": "format"}, "spurious"),
        Cell("bad-code", BAD | {"reward": "format"}, "spurious")), (SAMPLED, PAID), "reward"),
    9: Assignment("The same coin on two other bases", "Rewards", 3, (3, 1, 4), (
        Cell("bad-code", BAD, "spurious"), Cell("no-code", {"base": "no-code"}, "spurious")),
        (SAMPLED, GREEDY), "accuracy"),
    10: Assignment("Paid for wrong answers only", "Rewards", 2, (3, 1, 4), (
        Cell("good-code", GOOD | {"reward": "incorrect"}, "spurious"),
        Cell("bad-code", BAD | {"reward": "incorrect"}, "spurious")),
        (SAMPLED, PROGRAMS), "code_share"),
    11: Assignment("How many seeds?", "Evaluation", 0, (2, 2, 4),
                   numbers=("spread", "seeds", "power")),
    12: Assignment("Three yardsticks for one run", "Evaluation", 2, (3, 1, 4), (
        Cell("good-code", GOOD, "spurious"), Cell("bad-code", BAD, "spurious")),
        (SAMPLED, GREEDY, PASSED), "accuracy"),
}

# --- what is expected

@cache
def read_stored(lesson: str) -> Results:
    return read_results(LESSONS / lesson)


def find_runs_of(cell: Cell) -> list[tuple[dict, list[dict]]]:
    """The stored runs of a cell: row and curve of each."""
    results = read_stored(cell.lesson)
    runs = select_runs(results.runs, cell.flags)
    return list(zip(runs, curves_of(results, runs)))


def bound_student(values: list[float], slack: float) -> tuple[float, float]:
    """Student's 95% interval for one more value, t s sqrt(1 + 1/n) around the mean of n.

    At least `slack` wide to each side.
    """
    n, center = len(values), mean(values)
    half = max(slack, find_student(n) * stdev(values) * math.sqrt(1 + 1 / n))
    return center - half, center + half


def expect(values: list[float], least: float = 0.0, most: float = 1.0, slack: float = SLACK,
           ratios: bool = False) -> Expected:
    """Student's interval, of the logarithms if values differ by `ratios` and none is 0.

    It is as wide as the values are: where they are of two kinds, most near one end and a few at the
    other, Student's alone leaves out some of its own. It ends where the number ends, at `least` and
    `most`.

    >>> [round(number, 2) for number in expect([1.0, 2.0, 3.0], least=0, most=50)[:3]]
    [2.0, 0, 6.97]
    """
    if ratios and min(values) > 0:
        low, high = map(math.exp, bound_student(list(map(math.log, values)), 0.0))
    else:
        low, high = bound_student(values, slack)
    return Expected(mean(values), max(least, min(low, *values)), min(most, max(high, *values)),
                    values)


def expect_number(cell: Cell, quantity: Quantity) -> Expected:
    return expect_of(find_runs_of(cell), quantity)


def expect_of(runs: list[tuple[dict, list[dict]]], quantity: Quantity) -> Expected:
    """What runs of one setting let expect of one more."""
    values = [quantity.read(row, curve) for row, curve in runs]
    least, most = quantity.least, quantity.most
    if quantity.of:   # a gain in points: accuracy ends at 0 and 1
        before = 100 * mean(row[f"before_{quantity.of}"] for row, _ in runs)
        least, most = -before - quantity.slack, 100 - before + quantity.slack
    return expect(values, least, most, quantity.slack, quantity.ratios)


def expect_curve(cell: Cell, column: str) -> list[Expected]:
    """By point of the curve of a column, which is a share."""
    curves = [curve for _, curve in find_runs_of(cell)]
    return [expect([point[column] for point in points]) for points in zip(*curves)]


# --- numbers that students work out themselves

def expect_number_of(number: int, name: str) -> tuple[float, float]:
    """From where to where one of a problem's own numbers counts as right."""
    if number == 11:
        return plan_seeds()[name]
    expected = expect([row[name] for row in find_cold_samples()])
    return expected.low, expected.high


def find_cold_samples() -> list[dict]:
    """Stored evaluations at T = 0.5 of good-code, made on two machines, and of another seed of it.
    """
    rows = read_stored("probe").evidence + read_stored("spurious").evidence
    return [row | {"programs": row["code_share"]} for row in rows
            if row["base"] in ("good-code", "good-code-seed3") and row["way"] == "T = 0.5"]


def tell_apart(n: int, spread: float, gap: float = 5.0, trials: int = 20_000) -> float:
    """How often n seeds each of two settings show their gap: 0 is outside Student's 95% interval.

    Gains are normal with one `spread`, and the means of the two are `gap` apart.
    """
    seeds = np.random.default_rng(0).normal(0, spread, size=(2, n, trials))
    means, variances = seeds.mean(axis=1), seeds.var(axis=1, ddof=1)               # (2, trials)
    errors = np.sqrt(variances.sum(axis=0) / n)                                    # (trials,)
    return float((np.abs(gap + means[1] - means[0]) > find_student(2 * n - 1) * errors).mean())


@cache
def plan_seeds() -> dict[str, tuple[float, float]]:
    """Of problem 11: {name: from, to}.

    The textbook formula, 2 (1.96 + 0.84)^2 s^2 / gap^2, is a seed short of Student's.
    """
    gains = [SAMPLED.read(row, curve) for row, curve in find_runs_of(PROBLEMS[12].cells[0])]
    spread = stdev(gains)
    formula = math.ceil(2 * (1.96 + 0.84) ** 2 * spread ** 2 / 5 ** 2)
    exact = next(n for n in range(2, 100) if tell_apart(n, spread) >= 0.8)
    power = tell_apart(3, spread)
    return {"spread": (0.97 * spread, 1.01 * spread), "seeds": (formula, exact + 1),
            "power": (power - 0.08, power + 0.08)}


# --- what the page says of it

def show_number(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:.{digits}f}"   # not -0.0


def list_given(number: int) -> str:
    """What `check` takes for a problem."""
    names = PROBLEMS[number].numbers
    return " ".join(f"{name}=NUMBER" for name in names) if names else "RUNFOLDER ..."


def write_expected(number: int) -> str:
    """A Markdown table of what is expected, as it stands on the page."""
    problem = PROBLEMS[number]
    rows = [["setting", "number", "seeds", "mean", "from", "to"]]
    for cell in problem.cells:
        for quantity in problem.quantities:
            expected = expect_number(cell, quantity)
            rows.append([cell.name, quantity.name, str(len(expected.values)),
                         *(show_number(value, quantity.digits) for value in expected[:3])])
    if problem.numbers:
        rows = [["number", "from", "to"]]
        rows += [[f"`{name}`", *(f"{bound:.3g}" for bound in expect_number_of(number, name))]
                 for name in problem.numbers]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
