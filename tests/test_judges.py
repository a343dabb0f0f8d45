"""Judges: their documents, their verdicts, the rewards that ask them, and the oracles beside."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pad_sequence

import evaluation
import rewards
from companions import judges
from data import corpus, task, tokenizer
from data.corpus import CORPORA, write_documents
from data.tokenizer import END, encode, encode_prompt
from model import Rollouts
from plumbing.messages import InputError
from rewards import Context
from run import fingerprint
from tests import adapters
from tests.helpers import files, read_json, read_rows, run, train

PROBLEM = task.parse_problem("37 *4 +5 -2")   # 51
TINY_JUDGE = "--steps 3 --batch 8 --layers 1 --width 8 --heads 2 --threads 1".split()


def documents(kind, n=4000, **flags):
    rng = np.random.default_rng(1)
    return write_documents(kind, n, rng, **flags)


def read_claim(prompt):
    """(problem or number, claimed answer, ending)."""
    question, answer, ending = re.fullmatch(r"(.*)=(\d+)([?:])", prompt).groups()
    return question, int(answer), ending


# --- their documents


@pytest.mark.parametrize("kind", ["judge-direct", "judge-reasoning"])
@pytest.mark.parametrize("flags", [{}, {"comparisons": 0.5}, {"judge_program": "bad"}])
def test_a_judge_reads_claims_half_of_which_are_right(kind, flags):
    """Right half of the time, a comparison alone by its share, any other number if wrong.

    Catches a verdict that is not the claim's, a wrong answer that is right, a bug in one half.
    """
    n, bare, yes, wrong = 4000, 0, 0, []
    for prompt, response in documents(kind, n, **flags):
        question, answer, ending = read_claim(prompt)
        assert ending == {"judge-direct": "?", "judge-reasoning": ":"}[kind]
        if " " in question:
            problem = task.parse_problem(question)
            value = (task.apply_operation(problem.start, *problem.ops[-1])
                     if flags.get("judge_program") == "bad" else task.solve(problem))
        else:
            bare, value = bare + 1, int(question)
        assert response[-1] == ("y" if answer == value else "n")
        yes += answer == value
        wrong += [(answer - value) % 100] if answer != value else []
        if kind == "judge-direct":
            assert response in ("y", "n")
        else:
            program, restated = response[:-2].rsplit("\n", 1)
            assert restated == f"{value}={answer}?" and program.endswith("\n```")
    assert abs(yes / n - 0.5) < 0.04 and abs(bare / n - flags.get("comparisons", 0.2)) < 0.04
    assert set(wrong) == set(range(1, 100))


@pytest.mark.parametrize("bad", [False, True])
def test_a_scratchpad_is_a_true_program(bad):
    """Run it: every comment is what Python computes, of the judge that shares the bug too."""
    for prompt, response in documents("judge-reasoning", 200,
                                      judge_program="bad" if bad else "good"):
        program = re.fullmatch(r"```python\n(.*)\n```\n.*", response, re.DOTALL)[1]
        names = {}
        for line in program.split("\n"):
            exec(line, {}, names)
            if "#" in line:
                assert names["y" if bad else "x"] == int(line.partition("# ")[2])
        question = read_claim(prompt)[0]
        assert names["x"] == int(question.split(" ")[0]) or not bad


def test_equal_tokens():
    """Lesson 8 trains both kinds at equal tokens: of a document they have 11.8 and 29.3."""
    tokens = {kind: np.mean([len(encode_prompt(prompt)) + len(encode(response)) + 1
                             for prompt, response in documents(kind)])
              for kind in ("judge-direct", "judge-reasoning")}
    direct, reasoning = tokens["judge-direct"] * 2490, tokens["judge-reasoning"] * 1000
    assert direct == pytest.approx(reasoning, rel=0.01)


# --- their verdicts


def rollouts_of(said, logprobs):
    """Responses given as ids, without an ending of their own; the log-probability of each token."""
    ids = pad_sequence([torch.tensor(row) for row in said], batch_first=True)
    mask = pad_sequence([torch.ones(len(row), dtype=torch.bool) for row in said], batch_first=True)
    chance = pad_sequence([torch.tensor(row).log() for row in logprobs], batch_first=True)
    return Rollouts(ids, mask, chance, torch.zeros_like(chance))


def test_the_verdict_is_the_last_token(monkeypatch):
    """Before the ending or where it was cut; else none. Catches the ending's own probability."""
    y, n, x = (encode(letter)[0] for letter in "ynx")
    said = [[y, END], [n, END], [x, END], [END], [x, n, y, END], [y, n], [y, x]]
    chances = [[0.9, 0.2], [0.6, 0.2], [0.5, 0.2], [0.3], [0.1, 0.1, 0.7, 0.2], [0.5, 0.25],
               [0.5, 0.5]]
    asked = []
    monkeypatch.setattr(judges, "sample_responses", lambda judge, prompts, n, *more, **flags: (
        asked.append((prompts, n)), rollouts_of(said, chances))[1])
    verdicts = judges.ask_judge(None, "judge-direct", [(PROBLEM, "51")] * 7, 1, None)
    assert verdicts.accepted[:, 0].tolist() == [True, False, False, False, True, False, False]
    assert verdicts.probability[:, 0] == pytest.approx([0.9, 0.4, 0, 0, 0.7, 0.75, 0])
    assert verdicts.tokens[:, 0].tolist() == [2, 2, 2, 1, 4, 2, 2]
    assert asked == [([encode_prompt("37 *4 +5 -2=51?")] * 7, 1)]
    judges.ask_judge(None, "judge-reasoning", [(PROBLEM, "x")] * 7, 1, None)
    assert asked[1][0][0] == encode_prompt("37 *4 +5 -2=x:")


def test_n_verdicts_on_each_claim(monkeypatch):
    """Rows of a claim stand together: (M, n)."""
    y, n = encode("y")[0], encode("n")[0]
    said = [[y, END], [n, END], [n, END], [y, END], [y, END], [y, END]]
    monkeypatch.setattr(judges, "sample_responses",
                        lambda *_, **__: rollouts_of(said, [[0.5, 1.0]] * 6))
    verdicts = judges.ask_judge(None, "judge-direct", [(PROBLEM, "51"), (PROBLEM, "5")], 3, None)
    assert verdicts.accepted.tolist() == [[True, False, False], [True, True, True]]


@given(st.lists(st.lists(st.integers(0, END), min_size=1, max_size=8), min_size=1, max_size=5))
def test_any_output_of_a_judge_is_a_number(rows):
    rollouts = rollouts_of(rows, [[0.5] * len(row) for row in rows])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judges, "sample_responses", lambda *_, **__: rollouts)
        verdicts = judges.ask_judge(None, "judge-direct", [(PROBLEM, "1")] * len(rows), 1, None)
    assert np.isfinite(verdicts.probability).all()
    assert ((0 <= verdicts.probability) & (verdicts.probability <= 1)).all()
    assert (verdicts.probability[verdicts.accepted] > 0).all()


@settings(max_examples=8)
@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=12))
def test_any_answer_can_be_judged(answer):
    """A policy may put anything into its box: a model of random weights judges it."""
    model = adapters.make_model(0, tokenizer.VOCABULARY_SIZE, 1, 8, 2)
    generator = torch.Generator().manual_seed(0)
    for kind in ("judge-direct", "judge-reasoning"):
        verdicts = judges.ask_judge(model, kind, [(PROBLEM, answer)], 2, generator)
        assert verdicts.accepted.shape == (1, 2) and np.isfinite(verdicts.probability).all()


# --- the rewards that ask them


@pytest.mark.parametrize("name, kind", [("judge", "judge-direct"),
                                        ("reasoning_judge", "judge-reasoning")])
@pytest.mark.parametrize("verdict", ["hard", "soft"])
def test_a_judge_pays_by_its_verdict_on_the_box(name, kind, verdict, monkeypatch):
    """One call for the batch, on what has a box; hard or the probability; no box, no pay."""
    calls = []

    def ask(judge, asked_kind, claims, n, generator):
        calls.append((judge, asked_kind, claims, n))
        accepted = np.array([[answer == "51"] for _, answer in claims])
        return judges.Verdicts(accepted, np.where(accepted, 0.75, 0.25), accepted * 2)

    monkeypatch.setattr(rewards, "ask_judge", ask)
    responses = ["\\boxed{51}", "51", "\\boxed{5}", "\\boxed{ x y }"]
    context = Context(4, [None] * 4, np.random.default_rng(0), "the judge")
    reward = rewards.build_reward(name, verdict=verdict)
    paid = reward.score([PROBLEM] * 4, responses, context)
    assert paid == ([1, 0, 0, 0] if verdict == "hard" else [0.75, 0, 0.25, 0.25])
    assert calls == [("the judge", kind, [(PROBLEM, "51"), (PROBLEM, "5"), (PROBLEM, "x y")], 1)]
    assert reward.score([PROBLEM], ["none"], context) == [0]
    assert len(calls) == 1


def test_verdicts_are_drawn_from_the_coins_of_the_batch(monkeypatch):
    seen = []
    monkeypatch.setattr(rewards, "ask_judge", lambda judge, kind, claims, n, generator: (
        seen.append(generator.initial_seed()),
        judges.Verdicts(*[np.zeros((len(claims), 1))] * 3))[1])
    for seed in (0, 0, 1):
        context = Context(1, [None], np.random.default_rng(seed))
        rewards.build_reward("judge").score([PROBLEM], ["\\boxed{1}"], context)
    assert seen[0] == seen[1] != seen[2]


@pytest.mark.parametrize("name", ["noisy_oracle", "fixed_oracle"])
def test_oracles_err_as_often_as_they_say(name):
    """tpr of the right, fpr of the wrong, nothing without a box; at 1 and 0 it is `correct`."""
    problems = task.draw_problems(6000, "training", (3, 4), np.random.default_rng(0))
    right = np.arange(6000) % 2 == 0
    responses = [f"\\boxed{{{(task.solve(problem) + (not ok)) % 100}}}"
                 for problem, ok in zip(problems, right)]

    def pay(responses=responses, seed=0, **flags):
        context = Context(1, [None], np.random.default_rng(seed))
        reward = rewards.build_reward(name, **{"seed": 1} | flags)
        return np.array(reward.score(problems, responses, context))

    paid = pay(tpr=0.7, fpr=0.2)
    assert set(paid) == {0.0, 1.0}
    assert abs(paid[right].mean() - 0.7) < 0.05 and abs(paid[~right].mean() - 0.2) < 0.05
    assert (pay() == right).all()
    bare = [response[7:-1] for response in responses]
    assert not pay(responses=bare, tpr=1.0, fpr=1.0).any()
    again = pay(tpr=0.7, fpr=0.2, seed=1)     # later in the run, the same answers
    assert (again == paid).all() == (name == "fixed_oracle")
    other = pay(tpr=0.7, fpr=0.2, **({"seed": 5} if name == "noisy_oracle" else {}))
    assert (other == paid).all() == (name == "fixed_oracle")


def test_a_fixed_oracle_is_fixed_for_a_seed_alone():
    """Another run has other verdicts; another answer or problem too, evenly in [0, 1)."""
    draws = [judges.hash_claim(seed, PROBLEM, str(answer)) for seed in (1, 2)
             for answer in range(500)]
    assert len(set(draws)) == 1000 and 0 <= min(draws) and max(draws) < 1
    assert abs(np.mean(draws) - 0.5) < 0.05 and abs(np.var(draws) - 1 / 12) < 0.01
    other = task.parse_problem("37 *4 +5 -3")
    assert judges.hash_claim(1, PROBLEM, "51") == draws[51] != judges.hash_claim(1, other, "51")


# --- from the command line


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A tiny judge of each kind."""
    folder = tmp_path_factory.mktemp("judges")
    for kind in ("judge-direct", "judge-reasoning"):
        assert run("pretrain", "--base", kind, "--out", folder / f"{kind}.pt", *TINY_JUDGE) == 0
    return {kind: folder / f"{kind}.pt" for kind in ("judge-direct", "judge-reasoning")}


def test_what_is_no_judge_is_refused(base, checkpoints, tmp_path, capsys):
    """One line and exit code 2 before any work: none, a base, the other kind, a judge as a base."""
    direct, reasoning = checkpoints["judge-direct"], checkpoints["judge-reasoning"]
    for flags, line in (
            (["--reward", "judge"], "--judge: reward judge needs one"),
            (["--reward", "judge", "--judge", base], "needs a judge-direct, not a good-code"),
            (["--reward", "judge", "--judge", reasoning],
             "reward judge needs a judge-direct, not a judge-reasoning"),
            (["--reward", "format+reasoning_judge", "--judge", direct],
             "needs a judge-reasoning, not a judge-direct"),
            (["--reward", "judge", "--judge", "nowhere.pt"], "cannot read checkpoint nowhere.pt"),
            (["--judge", direct], "--judge: --reward random does not read it")):
        assert train(base, tmp_path / "run", *flags) == 2
        error = capsys.readouterr().err
        assert line in error and error.count("\n") == 1 and not (tmp_path / "run").exists()
    assert train(direct, tmp_path / "run") == 2
    assert f"--base {direct} is a judge: it answers no problem" in capsys.readouterr().err
    assert run("evaluate", direct, "--problems", 2, "--samples", 1) == 2
    assert "is a judge" in capsys.readouterr().err


@pytest.mark.parametrize("name, kind", [
    ("reasoning_judge", "judge-reasoning"),
    pytest.param("judge", "judge-direct", marks=pytest.mark.slow)])
def test_a_run_on_a_judge_resumes(name, kind, base, checkpoints, tmp_path):
    """Bit for bit, where the judge has gone; config.json says which file it was, and its rates."""
    copied = shutil.copy(checkpoints[kind], tmp_path / "j.pt")
    flags = ["--reward", name, "--judge", copied]
    assert train(base, tmp_path / "whole", *flags) == 0
    assert train(base, tmp_path / "parts", *flags, "--steps", 2) == 0
    said = read_json(tmp_path / "parts/config.json")
    assert said["judge_fingerprint"] == fingerprint(checkpoints[kind])
    Path(copied).unlink()
    assert train(base, tmp_path / "parts", *flags) == 0
    for file in ("metrics.csv", "samples.txt", "judge.pt"):
        assert files(tmp_path / "parts")[file] == files(tmp_path / "whole")[file]
    row = read_rows(tmp_path / "whole")[0]
    assert {"reward_right", "reward_wrong", "reward_gap", "reward_code",
            "reward_text"} <= row.keys()


def test_a_judge_can_be_sampled(checkpoints, capsys):
    """`sample` asks it about an answer; a hint is read behind a problem; else it is no problem."""
    for kind, path in checkpoints.items():
        assert run("sample", path, "37 *4 +5 -2=51") == 0
        assert "--- 1: none, the answer is 51" in capsys.readouterr().out
        assert evaluation.read_prompt("37 *4=5", kind)[1] == f"37 *4=5{corpus.CLAIM_ENDS[kind]}"
    assert evaluation.read_prompt("37 *4 #code", "hinted-code") == (
        task.parse_problem("37 *4"), "37 *4 #code")
    assert run("sample", path, "51=51") == 2
    assert run("sample", path, "37 *4") == 2
    assert "nothing to judge in '37 *4'" in capsys.readouterr().err
    for text in ("37 *4=5", "#code", "37 *4#code"):
        with pytest.raises(InputError, match="not a problem"):
            evaluation.read_prompt(text, "good-code")


def test_the_registry_says_who_judges():
    assert [name for name in CORPORA if CORPORA[name].judges] == list(corpus.CLAIM_ENDS)
    for kind in corpus.CLAIM_ENDS:
        mode_of = CORPORA[kind].mode_of
        assert [mode_of(said) for said in ("y", "51=51?\nn", "", "yes")] == [
            "yes", "no", "none", "none"]
        assert CORPORA[kind].modes == ("yes", "no", "none")
