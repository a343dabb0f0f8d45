"""The task and its splits."""

import doctest
import re
import zlib
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import task
from data.corpus import CORPORA, write_documents
from data.task import EASY, HARD, SPLITS, Problem
from plumbing.messages import InputError
from tests import adapters

operations = st.tuples(st.sampled_from("+-*"), st.integers(2, 9))
some_operations = st.lists(operations, min_size=1, max_size=7).map(tuple)
problems = st.builds(Problem, st.integers(0, 99), some_operations, st.just(2))
tenths = st.builds(Problem, st.integers(0, 999), some_operations, st.just(3))


@given(problems)
def test_values_are_what_python_computes(problem):
    """Catches operator precedence, a modulo taken only at the end, an off-by-one in the steps."""
    expression, expected = str(problem.start), []
    for operator, operand in problem.ops:
        expression = f"(({expression}) {operator} {operand})"
        expected.append(eval(expression) % 100)
    assert adapters.compute_values(problem.start, problem.ops) == expected
    assert task.solve(problem) == expected[-1]


@given(tenths)
def test_numbers_with_a_decimal_are_exact(problem):
    """43.7 *4 is 74.8, +5 adds 5 and not 0.5: against Python's decimals."""
    value = Decimal(task.render_problem(problem).split(" ")[0])
    for operator, operand in problem.ops:
        value = {"+": value + operand, "-": value - operand, "*": value * operand}[operator]
        value = (value + 1000) % 100                         # Decimal's % keeps the sign
    assert task.write_answer(problem) == f"{value:.1f}" and task.solve(problem) == 10 * value


@given(problems | tenths)
def test_parse_inverts_render(problem):
    assert task.parse_problem(task.render_problem(problem)) == problem


@pytest.mark.parametrize("text", [
    "", "37", "37 ", "37 *4 ", " 37 *4", "37  *4", "37 *1", "37 *10", "100 +2", "037 +2", "37 /4",
    "37 * 4", "37 *4\n", "٣ +2", "3.75 *4", "3. *4", ".5 *4", "03.5 *4", "3.5 *4.0",
    "1 +2 +2 +2 +2 +2 +2 +2 +2"])
def test_parse_rejects(text):
    """The last one has 8 operations, one more than any problem."""
    with pytest.raises(InputError, match="not a problem"):
        task.parse_problem(text)


def test_draws_with_a_decimal():
    """All 1,000 starts may come; the split is that of the problem as it is written."""
    drawn = task.draw_problems(3000, "training", (2,), np.random.default_rng(0), digits=3)
    assert {problem.digits for problem in drawn} == {3} and len(set(drawn)) == 3000
    assert {task.split_of(problem) for problem in drawn} == {"training"}
    starts = [problem.start for problem in drawn]
    assert min(starts) < 10 and max(starts) > 990 and len(set(starts)) > 900


def test_parse_takes_the_longest_problem():
    text = "1 +2 +2 +2 +2 +2 +2 +2"
    assert len(task.parse_problem(text).ops) == HARD[-1] == 7


def test_splits_are_disjoint():
    """Training on what is evaluated: any seeds, any sizes, no two splits share a problem."""
    drawn = {split: {problem for seed in range(5)
                     for problem in task.draw_problems(400, split, EASY,
                                                       np.random.default_rng(seed))}
             for split in SPLITS}
    for base in CORPORA:
        documents = write_documents(base, 2000, np.random.default_rng(7))
        prompts = [re.split(" #|[=]", prompt)[0] for prompt, _ in documents]  # no hint, no claim
        drawn["training"] |= {task.parse_problem(prompt) for prompt in prompts if " " in prompt}
    assert not drawn["training"] & drawn["evaluation"]
    assert not drawn["training"] & drawn["probe"]
    assert not drawn["evaluation"] & drawn["probe"]


def test_shares_of_the_splits():
    """80% training, 10% evaluation, 10% probe, of all problems with one operation."""
    everything = [Problem(start, ((operator, operand),)) for start in range(100)
                  for operator in "+-*" for operand in range(2, 10)]
    shares = [np.mean([task.split_of(problem) == split for problem in everything])
              for split in ("training", "evaluation", "probe")]
    assert np.allclose(shares, [0.8, 0.1, 0.1], atol=0.03)
    assert set(SPLITS) == {"training", "evaluation", "probe"}


@pytest.mark.parametrize("num_ops", [EASY, HARD, (3,), (2, 2, 5)])
def test_draw_is_balanced_and_distinct(num_ops):
    """The i-th has num_ops[i % len(num_ops)] operations; the start and operand range is used up."""
    drawn = task.draw_problems(200, "evaluation", num_ops, np.random.default_rng(0))
    assert len(set(drawn)) == 200
    wanted = [num_ops[i % len(num_ops)] for i in range(200)]
    assert [len(problem.ops) for problem in drawn] == wanted
    assert {task.split_of(problem) for problem in drawn} == {"evaluation"}
    assert {operator for problem in drawn for operator, _ in problem.ops} == set("+-*")
    assert {operand for problem in drawn for _, operand in problem.ops} == set(range(2, 10))
    starts = {problem.start for problem in drawn}
    assert min(starts) < 8 and max(starts) > 91 and starts <= set(range(100))


def test_the_split_is_in_the_problem():
    """A hash of its text, so that a stored base and a new evaluation can never meet."""
    for problem in task.draw_problems(200, "training", EASY, np.random.default_rng(0), False):
        longer = problem._replace(ops=(*problem.ops, ("+", 2)))
        bucket = zlib.crc32(task.render_problem(longer).encode()) % 10
        assert task.split_of(longer) == {0: "evaluation", 1: "probe"}.get(bucket, "training")


def test_draw_repeats_where_it_may():
    """A corpus has more documents than there are problems with one operation: distinct=False."""
    drawn = task.draw_problems(3000, "training", (1,), np.random.default_rng(0), distinct=False)
    assert len(drawn) == 3000 > len(set(drawn)) > 1000


@pytest.mark.parametrize("n, num_ops", [(500, (1,)), (300, (1, 1)), (5000, (1, 7))])
def test_draw_refuses_what_does_not_exist(n, num_ops):
    """After some thousand draws: nobody waits for a million until there is an error."""
    class Counting:
        drawn, rng = 0, np.random.default_rng(0)

        def integers(self, *bounds):
            self.drawn += 1
            return self.rng.integers(*bounds)

    rng = Counting()
    with pytest.raises(InputError, match=f"fewer than {n} distinct problems with 1 operations"):
        task.draw_problems(n, "evaluation", num_ops, rng)
    assert rng.drawn < 100_000


def test_a_large_draw_is_not_refused():
    """What is rejected is counted in a row: nine of ten problems are of another split."""
    assert len(task.draw_problems(2500, "evaluation", (4, 5), np.random.default_rng(0))) == 2500


def test_draw_finds_the_last_problem():
    """Rare luck is no refusal: all problems of a small split can be drawn."""
    everything = [Problem(start, ((operator, operand),)) for start in range(100)
                  for operator in "+-*" for operand in range(2, 10)]
    n = sum(task.split_of(problem) == "probe" for problem in everything)
    assert len(task.draw_problems(n, "probe", (1,), np.random.default_rng(0))) == n


def test_sizes():
    """What the README says of them."""
    assert (task.EASY, task.HARD) == ((1, 2, 3, 4, 5), (6, 7))


def test_examples():
    assert doctest.testmod(task).failed == 0
