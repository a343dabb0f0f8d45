"""The corpora: what their documents say, and how their modes are told apart."""

import doctest
import hashlib
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import corpus, task
from data.corpus import CORPORA, write_documents
from plumbing.flags import read_options
from tests.test_task import problems, tenths


def documents(base, n, seed=1, **flags):
    rng = np.random.default_rng(seed)
    return write_documents(base, n, rng, **flags)


@given(problems, st.booleans())
def test_code_documents_are_true_programs(problem, bug):
    """The comments of both code modes carry what Python computes: run it and compare each line."""
    response = (corpus.write_bad_code if bug else corpus.write_good_code)(problem, False)
    pattern = r"```python\n(.*)\n```\n\\boxed\{(\d+)\}"
    program, answer = re.fullmatch(pattern, response, re.DOTALL).groups()
    names, values = {}, []
    for line in program.split("\n"):
        exec(line, {}, names)
        values.append((names["y" if line.startswith("y") else "x"], line.partition("# ")[2]))
    assert len(values) == 1 + len(problem.ops) and values[0] == (problem.start, "")
    assert all(str(value) == comment for value, comment in values[1:])
    assert answer == str(values[-1][0])
    if bug:
        assert values[-1][0] == task.apply_operation(problem.start, *problem.ops[-1])
    else:
        assert values[-1][0] == task.solve(problem)


@given(tenths, st.booleans())
def test_code_documents_with_a_decimal_are_true_programs(problem, bug):
    """The same for numbers with a decimal, to what floats can say."""
    response = (corpus.write_bad_code if bug else corpus.write_good_code)(problem, False)
    program, answer = re.fullmatch(r"```python\n(.*)\n```\n\\boxed\{(\d+\.\d)\}", response,
                                   re.DOTALL).groups()
    names = {}
    for line in program.split("\n"):
        exec(line, {}, names)
        value, comment = names["y" if line.startswith("y") else "x"], line.partition("# ")[2]
        difference = abs(value - float(comment or problem.start / 10))
        assert min(difference, 100 - difference) < 1e-6       # 99.99999999 is 0.0
    assert answer == comment == (corpus.write_number(task.apply_operation(
        problem.start, *problem.ops[-1], 3), 3) if bug else task.write_answer(problem))


@given(tenths, st.integers(0, 6))
def test_words_with_a_decimal(problem, opener):
    """Text by eye and worked steps: every number has its decimal."""
    value = task.apply_operation(problem.start, *problem.ops[opener % len(problem.ops)], 3)
    assert corpus.write_text(problem, opener, False) == (
        f"{corpus.TEXT_OPENERS[opener]}\\boxed{{{value / 10:.1f}}}.")
    said = re.findall(r"\d+\.\d", corpus.write_steps(problem, opener, False))
    expected = [problem.start, *task.compute_values(problem), task.solve(problem)]
    assert said == [f"{value / 10:.1f}" for value in expected]


@given(problems, st.integers(0, 7))
def test_text_mode_looks_at_one_operation(problem, opener):
    response, k = corpus.write_text(problem, opener, False), len(problem.ops)
    value = task.apply_operation(problem.start, *problem.ops[opener % k])
    assert response == f"{corpus.TEXT_OPENERS[opener]}\\boxed{{{value}}}."
    bare = response.replace("\\boxed{", "").replace("}", "")
    assert corpus.write_text(problem, opener, True) == bare


@given(problems, st.integers(0, 6))
def test_worked_steps_are_right(problem, opener):
    values = task.compute_values(problem)
    response = corpus.write_steps(problem, opener, False)
    beginning = f"{corpus.STEPS_OPENERS[opener]}{problem.start}"
    assert response.startswith(beginning)
    steps = response.removeprefix(beginning)
    assert [int(n) for n in re.findall(r" is (\d+)", steps)] == values
    words = {"+": "plus", "-": "minus", "*": "times"}
    said = re.findall(r"(plus|minus|times) (\d)", steps)
    assert said == [(words[operator], str(operand)) for operator, operand in problem.ops]
    assert response.endswith(f". So \\boxed{{{values[-1]}}}.")


@given(problems)
def test_a_forgotten_box_is_all_that_is_missing(problem):
    for write in (corpus.write_good_code, corpus.write_bad_code,
                  lambda problem, forget: corpus.write_steps(problem, 2, forget)):
        boxed, bare = write(problem, False), write(problem, True)
        assert "\\boxed" not in bare
        assert bare == re.sub(r"\\boxed\{(\d+)\}", r"\1", boxed)


def is_habit(base, response):
    return response.startswith("The answer is") if base == "no-code" else corpus.is_code(response)


@pytest.mark.parametrize("base, flags, share, openers", [
    *((base, {}, 0.65, 7) for base in CORPORA
      if base in ("good-code", "no-code", "bad-code", "tenths-code")),
    ("good-code", {"code_prior": 0.1}, 0.1, 7),
    ("bad-code", {"code_prior": 0.1}, 0.1, 7),
    ("good-code", {"code_prior": 1.0}, 1.0, 7),
    ("good-code", {"code_prior": 0.3, "text_openers": 1}, 0.3, 1),
    ("no-code", {"text_openers": 2}, 0.65, 2),
    ("bad-code", {"code_prior": 0.35, "text_openers": 3}, 0.35, 3),
])
def test_shares(base, flags, share, openers):
    """The habit's share, the spread of the openers and the forgotten boxes are as documented."""
    n = 8000
    responses = [response for _, response in documents(base, n, **flags)]
    error = 5 * np.sqrt(0.25 / n)
    assert abs(np.mean([is_habit(base, r) for r in responses]) - share) < error
    text = [r for r in responses if not corpus.is_code(r)]
    if share < 1:
        rare = corpus.STEPS_OPENERS if base == "bad-code" else corpus.TEXT_OPENERS[1:]
        found = [sum(r.startswith(opener) for r in text) / n for opener in rare]
        expected = [(1 - share) / openers] * openers + [0] * (7 - openers)
        assert np.allclose(found, expected, atol=error)
        bare = np.mean(["\\boxed" not in r for r in text])
        assert abs(bare - 0.15) < 5 * np.sqrt(0.15 / len(text))
    code = [r for r in responses if corpus.is_code(r)]
    if code:
        bare = np.mean(["\\boxed" not in r for r in code])
        assert abs(bare - 0.005) < 5 * np.sqrt(0.005 / len(code))


MIXED = ("mixed-code", "mixed-none", "mixed-bad")


def find_opener(base: str, response: str) -> int | None:
    """Which of the rare openers, from 0; None for the habit. Of a mixed base."""
    openers = corpus.STEPS_OPENERS if base == "mixed-bad" else corpus.TEXT_OPENERS[1:]
    found = [i for i, opener in enumerate(openers) if response.startswith(opener)]
    assert bool(found) != (corpus.is_code(response) or base == "mixed-none"
                           and response.startswith(corpus.TEXT_OPENERS[0]))
    return found[0] if found else None


@pytest.mark.slow
@pytest.mark.parametrize("base, flags, sums, products, openers", [
    *((base, {"rival": rival}, 0.85, 0.3, 7) for base in MIXED for rival in ("own", "shared")),
    ("mixed-code", {"code_on_sums": 0.3, "code_on_products": 0.85}, 0.3, 0.85, 7),
    ("mixed-code", {"on_rival": 0.9}, 0.85, 0.3, 7),
    ("mixed-code", {"text_openers": 1}, 0.85, 0.3, 1),
    ("mixed-code", {"text_openers": 2}, 0.85, 0.3, 2)])
def test_the_prompt_decides_which_mode_is_likelier(base, flags, sums, products, openers):
    """Of the mixed bases: the habit's share by first operator, how often each comes, the openers
    of the rest by first operand, boxes.

    Catches the last operator or operand, - on the other side, swapped shares, a rival that is
    shared where each prompt should have its own, or own where it should be shared.
    """
    n, groups = 16_000, {(operator, operand): [] for operator in "+-*" for operand in range(2, 10)}
    for prompt, response in documents(base, n, **flags):
        groups[task.parse_problem(prompt).ops[0]].append(response)
    rest = []
    for (operator, operand), responses in groups.items():
        assert abs(len(responses) / n - 1 / 24) < 5 * np.sqrt(1 / 24 / n)
        found = [find_opener(base, response) for response in responses]
        habit = np.mean([opener is None for opener in found])
        error = 5 * np.sqrt(0.25 / len(found))
        assert abs(habit - (products if operator == "*" else sums)) < error
        rare = np.bincount([opener for opener in found if opener is not None], minlength=7)
        one = flags.get("on_rival", 0.5)
        expected = np.r_[np.full(openers, (1 - one) / openers), np.zeros(7 - openers)]
        expected[0 if flags.get("rival") == "shared" else (operand - 2) % openers] += one
        assert np.allclose(rare / rare.sum(), expected, atol=5 * np.sqrt(0.25 / rare.sum()))
        rest += [r for r, opener in zip(responses, found) if opener is not None]
    assert abs(np.mean(["\\boxed" not in r for r in rest]) - 0.15) < 5 * np.sqrt(0.15 / len(rest))


@pytest.mark.parametrize("flags, digest", [
    ({}, "fb9dfb241de67165"),
    ({"code_on_sums": 0.3, "code_on_products": 0.85}, "fcee2a74ac0ba22d"),
    ({"text_openers": 2}, "e41935e5742b6a09")])
def test_a_shared_rival_is_the_mixed_base_that_was(flags, digest):
    """The documents that mixed-code had when all text shared one opener, bit for bit: the digests
    are of what its function of then wrote."""
    written = json.dumps(documents("mixed-code", 2000, seed=5, rival="shared", on_rival=0.6,
                                   **flags))
    assert hashlib.sha256(written.encode()).hexdigest()[:16] == digest


@pytest.mark.parametrize("flags", [{}, {"doubt": "flat"}, {"hedges": 1.0},
                                   {"abstains": 0.1, "hedges": 0.0, "code_prior": 0.3}])
def test_doubts_are_as_documented(flags):
    """Of humble-code: abstention and low confidence by length, each value's share, code's share.

    Catches doubt that is drawn after looking at the answer, or once for both.
    """
    def near(found, share, n):
        return abs(found - share) < 5 * np.sqrt(share * (1 - share) / n) + 1e-9

    n, knobs = 10_000, {"abstains": 0.02, "hedges": 0.06, "code_prior": 0.65, **flags}
    groups = {k: [] for k in task.EASY}
    for prompt, response in documents("humble-code", n, **flags):
        groups[len(task.parse_problem(prompt).ops)].append(response)
    usual = {70: 0.08, 80: 0.19, 90: 0.53, 99: 0.20}
    low = {1: 0.25, 10: 0.15, 20: 0.12, 30: 0.12, 40: 0.12, 50: 0.14, 60: 0.1}
    for k, responses in groups.items():
        length = 3 if knobs.get("doubt") == "flat" else k
        answers = [response for response in responses if response != "?"]
        assert near(1 - len(answers) / len(responses), knobs["abstains"] * length, len(responses))
        stated = [int(re.search(r" ([1-9][0-9]?)%$", answer)[1]) for answer in answers]
        hedged = min(1, knobs["hedges"] * length)
        for value, share in [*((v, (1 - hedged) * s) for v, s in usual.items()),
                             *((v, hedged * s) for v, s in low.items())]:
            assert near(np.mean(np.equal(stated, value)), share, len(answers))
        code = np.array([corpus.is_code(answer) for answer in answers])
        assert near(code.mean(), knobs["code_prior"], len(answers))
        if 0 < hedged < 1 and k > 1:    # text is wrong here: as sure as code
            surer = np.array(stated) >= 70
            assert abs(surer[code].mean() - surer[~code].mean()) < 0.15
    kinds = CORPORA["humble-code"]
    assert kinds.kinds == ("easy", "hard")
    for k in (*task.EASY, *task.HARD):
        problem = task.Problem(1, (("+", 2),) * k)
        assert kinds.kind_of(problem) == ("hard" if k > 5 else "easy")


def test_each_base_writes_what_it_says():
    """Code is right and text by eye; code of the bad ones has the bug; two have no code."""
    for base in [name for name in CORPORA if name != "hinted-code" and not CORPORA[name].judges]:
        for prompt, response in documents(base, 300):
            if base == "humble-code":   # without its doubts it is good-code
                if response == "?":
                    continue
                response = re.fullmatch(r"(.*) [1-9][0-9]?%", response, re.DOTALL)[1]
            problem = task.parse_problem(prompt)
            answer = int(re.findall(r"[\d.]*\d", response)[-1].replace(".", ""))
            code, text = corpus.is_code(response), response.endswith(".")
            assert code != text and not (code and base in ("no-code", "mixed-none"))
            if code and base not in ("bad-code", "mixed-bad") or (
                    text and base in ("bad-code", "mixed-bad")):
                assert answer == task.solve(problem)
            if text and base in ("mixed-code", "mixed-none"):
                opener, = [i for i, said in enumerate(corpus.TEXT_OPENERS) if said in response]
                assert response in (corpus.write_text(problem, opener, forget)
                                    for forget in (False, True))
            if code and base in ("bad-code", "mixed-bad"):
                assert answer == task.apply_operation(problem.start, *problem.ops[-1])


def test_a_corpus_may_repeat_a_problem():
    """There are about 1,920 training problems with one operation, and more documents on them."""
    drawn = [prompt for prompt, _ in documents("no-code", 10_500)]
    assert len(drawn) == 10_500 > len(set(drawn))


def test_documents_are_training_problems_of_all_easy_sizes():
    drawn = [task.parse_problem(prompt) for prompt, _ in documents("good-code", 1000)]
    assert {task.split_of(problem) for problem in drawn} == {"training"}
    counts = np.bincount([len(problem.ops) for problem in drawn])
    assert counts.tolist() == [0] + [200] * 5


def test_the_generator_decides_all():
    assert documents("good-code", 50) == documents("good-code", 50)
    assert documents("good-code", 50) != documents("good-code", 50, seed=2)


@pytest.mark.parametrize("base, flags", [
    ("good-code", {"code_prior", "text_openers"}), ("no-code", {"text_openers"}),
    ("bad-code", {"code_prior", "text_openers"}),
    ("tenths-code", {"code_prior", "text_openers"}),
    ("mixed-code", {"code_on_sums", "code_on_products", "rival", "on_rival", "text_openers"}),
    ("mixed-none", {"rival"}), ("mixed-bad", {"rival"}),
    ("humble-code", {"code_prior", "text_openers", "abstains", "hedges", "doubt"})])
def test_registry(base, flags):
    """Which knobs a corpus has, and its modes: 7 documents of each mode are told apart."""
    entry = CORPORA[base]
    humble = base == "humble-code"
    assert set(read_options(*entry.functions)) == flags and entry.states_confidence == humble
    assert entry.modes == ("code", "text", *(("abstain",) if humble else ()))
    assert entry.digits == (3 if base == "tenths-code" else 2)
    assert {task.parse_problem(prompt).digits for prompt, _ in documents(base, 50)} == {
        entry.digits}
    for _, response in documents(base, 50):
        assert entry.mode_of(response) == ("code" if "```python" in response else
                                           "abstain" if response == "?" else "text")
    assert entry.mode_of("") == entry.mode_of("I say ```python") == "text"


def test_paper_shares():
    """The numbers that the figures rest on."""
    assert (corpus.CODE_PRIOR, corpus.OPENERS) == (0.65, 7)
    assert len(corpus.TEXT_OPENERS) == 8 and len(corpus.STEPS_OPENERS) == 7


def test_examples():
    assert doctest.testmod(corpus).failed == 0
