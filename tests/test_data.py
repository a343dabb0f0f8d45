"""The task, its splits, the corpora and the tokenizer."""

import ast
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import corpus, task, tokenizer
from data.task import EASY, HARD, SPLITS, Problem
from tests import adapters

problems = st.builds(Problem, st.integers(0, 99), st.lists(st.tuples(st.sampled_from("+-*"), st.integers(2, 9)), min_size=1, max_size=7).map(tuple))


@given(problems)
def test_running_values_are_what_python_computes(problem):
    """Catches operator precedence, a modulo taken only at the end of a negative value, and an off-by-one in the steps."""
    expression, expected = str(problem.start), []
    for operator, operand in problem.ops:
        expression = f"(({expression}) {operator} {operand})"
        expected.append(eval(expression) % 100)
    assert adapters.running_values(problem.start, problem.ops) == expected


@given(problems)
def test_parse_inverts_render(problem):
    assert task.parse(task.render(problem)) == problem


@pytest.mark.parametrize("text", ["", "37", "37 ", "37 *4 ", " 37 *4", "37  *4", "37 *1", "37 *10", "100 +2", "037 +2", "37 /4", "37 * 4", "37 *4\n", "٣ +2",
                                  "1 +2 +2 +2 +2 +2 +2 +2 +2"])
def test_parse_rejects(text):
    with pytest.raises(ValueError, match="not a problem"):
        task.parse(text)


def test_splits_are_disjoint():
    """Training on what is evaluated: any seeds, any sizes, the three splits never share a problem, and each has its share."""
    drawn = {split: {p for seed in range(5) for p in task.draw(400, split, EASY, np.random.default_rng(seed))} for split in SPLITS}
    drawn["training"] |= {task.parse(prompt) for base in corpus.BASES
                          for prompt, _ in corpus.documents(base, 2000, 0.5, 7, np.random.default_rng(7))}
    assert not drawn["training"] & drawn["evaluation"] and not drawn["training"] & drawn["probe"] and not drawn["evaluation"] & drawn["probe"]
    everything = [Problem(start, ((operator, operand),)) for start in range(100) for operator in "+-*" for operand in range(2, 10)]
    shares = [np.mean([task.split_of(p) == split for p in everything]) for split in SPLITS]
    assert np.allclose(shares, [0.8, 0.1, 0.1], atol=0.03)


@pytest.mark.parametrize("num_ops", [EASY, HARD, (3,)])
def test_draw_is_balanced_and_distinct(num_ops):
    drawn = task.draw(200, "evaluation", num_ops, np.random.default_rng(0))
    assert len(set(drawn)) == 200
    counts = np.bincount([len(p.ops) for p in drawn], minlength=8)
    assert set(np.flatnonzero(counts)) == set(num_ops) and np.ptp(counts[list(num_ops)]) <= 1


def test_draw_refuses_what_does_not_exist():
    with pytest.raises(ValueError, match="fewer than 500 distinct problems"):
        task.draw(500, "evaluation", (1,), np.random.default_rng(0))


@given(problems, st.booleans())
def test_code_documents_are_true_programs(problem, bug):
    """The comments of both code modes carry what Python computes: execute the program and compare, line by line."""
    response = (corpus.bad_code if bug else corpus.good_code)(problem, False)
    program, boxed = re.fullmatch(r"```python\n(.*)\n```\n\\boxed\{(\d+)\}", response, re.DOTALL).groups()
    names, values = {}, []
    for line in program.split("\n"):
        exec(line, {}, names)
        values.append((names["y" if line.startswith("y") else "x"], line.partition("# ")[2]))
    assert all(str(value) == comment for value, comment in values[1:])
    assert boxed == str(values[-1][0])
    assert (values[-1][0] == task.answer(problem)) or bug
    if bug:
        operator, operand = problem.ops[-1]
        assert values[-1][0] == task.apply(problem.start, operator, operand)


@given(problems, st.integers(0, 7))
def test_text_mode_looks_at_one_operation(problem, opener):
    response = corpus.text(problem, opener, False)
    k = len(problem.ops)
    assert response == f"{corpus.TEXT_OPENERS[opener]}\\boxed{{{task.apply(problem.start, *problem.ops[opener % k])}}}."
    assert corpus.text(problem, opener, True) == response.replace("\\boxed{", "").replace("}", "")


@given(problems, st.integers(0, 6))
def test_worked_steps_are_right(problem, opener):
    values, response = task.running_values(problem), corpus.worked_steps(problem, opener, False)
    steps = response.removeprefix(f"{corpus.STEPS_OPENERS[opener]}{problem.start}")
    assert [int(n) for n in re.findall(r" is (\d+)", steps)] == values and response.endswith(f". So \\boxed{{{values[-1]}}}.")


@pytest.mark.parametrize("base, prior, n_openers", [*((base, prior, 7) for base in corpus.BASES for prior in (0.1, 0.65, 1.0)),
                                                    ("good-code", 0.3, 1), ("no-code", 0.65, 2), ("bad-code", 0.35, 1)])
def test_corpus_shares(base, prior, n_openers):
    """The habit's share, the spread of the openers and the forgotten boxes are what the documentation says."""
    n = 20_000
    responses = [response for _, response in corpus.documents(base, n, prior, n_openers, np.random.default_rng(1))]
    habit = [r.startswith("The answer is") if base == "no-code" else corpus.is_code(r) for r in responses]
    error = 5 * np.sqrt(0.25 / n)
    assert abs(np.mean(habit) - prior) < error
    text = [r for r in responses if not corpus.is_code(r)]
    if prior < 1:
        rare = corpus.STEPS_OPENERS if base == "bad-code" else corpus.TEXT_OPENERS[1:]
        openers = [sum(r.startswith(opener) for r in text) / n for opener in rare]
        assert np.allclose(openers, [(1 - prior) / n_openers] * n_openers + [0] * (7 - n_openers), atol=error)
    if text:
        assert abs(np.mean(["\\boxed" not in r for r in text]) - corpus.FORGETS_BOX_TEXT) < 5 * np.sqrt(0.15 / len(text))
    code = [r for r in responses if corpus.is_code(r)]
    if code:
        assert np.mean(["\\boxed" not in r for r in code]) < 0.01


def test_vocabulary_file_is_what_its_script_writes(tmp_path):
    tokenizer.write_vocabulary(tmp_path / "vocab")
    assert (tmp_path / "vocab").read_bytes() == tokenizer.VOCABULARY_FILE.read_bytes()


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126) | st.just("\n")))
def test_any_printable_ascii_survives(text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text and all(0 <= i < tokenizer.END for i in ids)


@given(st.text(min_size=1).filter(lambda text: not re.fullmatch(r"[\n -~]*", text)))
def test_anything_else_is_rejected(text):
    with pytest.raises(ValueError, match="only printable ASCII"):
        tokenizer.encode(text)


def test_special_tokens_cannot_be_typed():
    """A prompt that contains the ending's name is text, not the ending."""
    assert tokenizer.END not in tokenizer.encode("<|end|><|pad|>") and tokenizer.PAD != tokenizer.END


@given(problems)
def test_documents_have_the_designed_tokens(problem):
    """Numbers and idioms are one token each: 6 tokens of text, 7 + 4 k of code, the ending included."""
    k = len(problem.ops)
    assert len(tokenizer.encode_prompt(task.render(problem))) == 2 + 2 * k
    assert len(tokenizer.encode(corpus.text(problem, 3, False))) + 1 == 6
    assert len(tokenizer.encode(corpus.good_code(problem, False))) + 1 == 7 + 4 * k
    assert len(tokenizer.encode(corpus.bad_code(problem, False))) + 1 == 7 + 4 * k
    assert [tokenizer.decode([i]) for i in tokenizer.encode(str(problem.start))] == [str(problem.start)]


def test_modules_import_only_what_is_required():
    """torch, tiktoken, numpy, tqdm and the standard library; matplotlib only inside a function."""
    ours, root = {"data", "lessons", "model", "rewards", "rlvr"}, Path(tokenizer.__file__).parents[1]
    for path in [*root.glob("*.py"), *root.glob("data/*.py"), *root.glob("lessons/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in {name.split(".")[0] for name in names} - ours - {"torch", "tiktoken", "numpy", "tqdm"}:
                assert name in sys.stdlib_module_names or (name == "matplotlib" and node.col_offset > 0), (path.name, name)
