"""Lesson 1: what its tables and its figure say, and how a habit is drawn out without training."""

from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import evaluation
from data import corpus, tokenizer
from data.task import EASY, draw_problems, solve
from evaluation import PLAIN, Answers, Sampling
from lessons import elicit
from lessons.report import PAPER, Results, read_results
from lessons.spurious import lesson, trio
from plumbing.streams import EVALUATION

ROOT = Path(__file__).parents[1]


def make_run(base: str, reward: str, seed: int, gain: float, greedy: float = 0.25) -> dict:
    """A row whose numbers are all different."""
    row = {"base": base, "reward": reward, "flags": "", "seed": seed,
           "gain_total": gain, "gain_switch": 2 * gain, "gain_within": -gain,
           "before_accuracy": 0.4, "after_accuracy": 0.4 + gain,
           "before_greedy_accuracy": 0.5, "after_greedy_accuracy": 0.5 + greedy,
           "before_code_share": 0.625, "after_code_share": 0.875,
           "before_accuracy_code": None if base == "no-code" else 0.9,
           "after_accuracy_code": None if base == "no-code" else 0.5 + gain,
           "before_format_rate": 0.8, "after_format_rate": 1.0}
    for i, move in enumerate(("text->code", "code->code", "text->text", "code->text")):
        row[f"switches_{move}_share"] = 0.1 * (i + 1)
        row[f"switches_{move}_points"] = 0.01 * (i + 1)
    return row


RESULTS = Results(
    [make_run("good-code", "random", 1, 0.1), make_run("good-code", "random", 2, 0.3, 0.5),
     make_run("good-code", "correct", 1, 0.35), make_run("no-code", "random", 1, -0.05)], {},
    [{"base": base, "way": way, "accuracy": start + more, "code_share": 0.5}
     for base, start in (("good-code", 0.4), ("no-code", 0.2))
     for way, more in (("T = 1", 0.0), ("greedy", 0.3), ("forced code", -0.1))])


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_the_grid_is_five_rewards_on_three_bases():
    runs = [run for run in lesson.runs(seeds=3) if run["base"] in lesson.MAIN]
    assert Counter(run["base"] for run in runs) == dict.fromkeys(lesson.MAIN, 24)
    assert {run["reward"] for run in runs} == set(PAPER)
    seeds = {reward: {run["seed"] for run in runs if run["reward"] == reward} for reward in PAPER}
    assert seeds.pop("random") == set(range(1, 13))
    assert all(values == {1, 2, 3} for values in seeds.values())
    assert len(lesson.runs()) == 3 * (4 * 5 + 20) + len(trio.runs(5))


def test_table_of_gains():
    """By hand: mean ± standard deviation over seeds, T = 1 beside greedy, the paper's beside."""
    lines = lesson.tabulate_gains(RESULTS.runs).splitlines()
    assert cells(lines[1]) == ["good-code", "random", "2", "0.400 -> 0.600", "+20.0 ± 14.1",
                               "+37.5 ± 17.7", "0.62 -> 0.88", "+21.4"]
    assert cells(lines[2]) == ["good-code", "correct", "1", "0.400 -> 0.750", "+35.0", "+25.0",
                               "0.62 -> 0.88", "+29.1"]
    assert cells(lines[3]) == ["no-code", "random", "1", "0.400 -> 0.350", "-5.0", "+25.0",
                               "0.62 -> 0.88"]


def test_tables_of_the_coin():
    """By hand, of its own runs alone: how its gain is spread, and where it is made.

    With two seeds there is no Student's interval in the table, with three there is.
    """
    lines = lesson.tabulate_coin(RESULTS.runs).splitlines()
    assert cells(lines[1]) == ["good-code", "+20.0", "+20.0", "+10.0", "+30.0", "2 of 2",
                               "16% to 100%"]
    assert cells(lines[2]) == ["no-code", "-5.0", "-5.0", "-5.0", "-5.0", "0 of 1", "0% to 98%"]
    three = [make_run("good-code", "random", seed, seed / 10) for seed in (1, 2, 3)]
    assert cells(lesson.tabulate_coin(three).splitlines()[1])[:3] == [
        "good-code", "+20.0", "-4.8 to +44.8"]
    lines = lesson.tabulate_boxes(RESULTS.runs).splitlines()
    assert cells(lines[1]) == ["good-code", "0.900 -> 0.700", "0.60", "0.80 -> 1.00",
                               "0.500 -> 0.600"]
    assert cells(lines[2]) == ["no-code", "none", "0.80 -> 1.00", "0.500 -> 0.350"]


def test_table_of_switches():
    lines = lesson.tabulate_switches(RESULTS.runs).splitlines()
    assert cells(lines[0])[2:6] == ["text->code", "code->code", "text->text", "code->text"]
    assert cells(lines[1]) == ["good-code", "random", "10%: +1.0", "20%: +2.0", "30%: +3.0",
                               "40%: +4.0", "+40.0", "-20.0"]


def test_table_of_what_needs_no_training():
    """Points over sampling at T = 1 of the same base, beside the random reward's gain."""
    lines = lesson.tabulate_elicited(RESULTS).splitlines()
    assert cells(lines[0]) == ["without training", "good-code", "no-code"]
    assert cells(lines[1]) == ["greedy", "+30.0", "+30.0"]
    assert cells(lines[2]) == ["forced code", "-10.0", "-10.0"]
    assert cells(lines[3]) == ["random reward", "+20.0 ± 14.1", "-5.0"]
    assert lesson.table(RESULTS).count("\n\n") == 4
    assert lesson.table(RESULTS._replace(evidence=[])).count("\n\n") == 3


def test_figure_draws_every_seed():
    """Gains in points: a panel per base, a row per reward; greedy; the paper's on good-code."""
    figure = lesson.record_figure(RESULTS)
    assert [axis.get_title(loc="left") for axis in figure.axes] == [
        "good-code: the habit is right", "no-code: no such mode"]
    diamonds = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() == "D"]
    assert diamonds == pytest.approx([37.5, 25])
    dots = [[line.get_xdata().tolist() for line in axis.lines if line.get_marker() == "o"]
            for axis in figure.axes]
    assert np.allclose(dots[0][0], [10, 30]) and np.allclose(dots[0][1], [35])
    assert np.allclose(dots[1][0], [-5]) and [len(panel) for panel in dots] == [2, 1]
    thick = [line.get_xdata() for line in figure.axes[0].lines if line.get_linewidth() == 2]
    assert [list(x) for x in thick] == [[PAPER["random"]] * 2, [PAPER["correct"]] * 2]
    assert not [line for line in figure.axes[1].lines if line.get_linewidth() == 2]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [
        "random (2)", "correct (1)"]
    plt.close(figure)


def test_the_healthy_ranges_of_the_reference():
    """What reference.md calls healthy is what the stored runs on good-code have, batch by batch."""
    results = read_results(ROOT / "lessons/spurious")
    rows = {reward: [row for i, run in enumerate(results.runs)
                     if (run["base"], run["reward"]) == ("good-code", reward)
                     for row in results.curves[i]] for reward in ("random", "correct")}
    page = (ROOT / "reference.md").read_text("utf-8")
    assert "`random`: up to 0.5% of a batch" in page and "under 0.02 nats a token" in page
    assert all(row[f"clip_{side}"] <= 0.005 for row in rows["random"] for side in ("high", "low"))
    assert all(row["approx_kl"] < 0.02 for of_reward in rows.values() for row in of_reward)
    norms = [row["grad_norm"] for row in rows["random"]]
    assert "1 to 4 mostly" in page and np.mean([1 <= norm <= 4 for norm in norms]) > 0.9
    silent = [row["no_signal"] for row in rows["correct"] if row["step"] == 19]
    assert "near 1 late under `correct`" in page and np.mean(silent) > 0.85


# --- bases with greedy headroom

def test_the_mixed_bases_stay_out_of_the_first_tables():
    """And of what the coin gains beside what needs no training; they have a panel of their own."""
    mixed = make_run("mixed-code", "random", 1, 0.9) | {
        "flags": "--steps 30", "loss": "grpo", "before_greedy_code_share": 0.7,
        "after_greedy_code_share": 0.75, "before_code_share_sums": 0.8,
        "before_code_share_products": 0.25, "after_code_share_sums": 0.9,
        "after_code_share_products": 0.5}
    evidence = [*RESULTS.evidence, {"base": "mixed-code", "way": "T = 1", "accuracy": 0.4}]
    curves = {len(RESULTS.runs): [{"code_share_sums": 0.8, "code_share_products": 0.25}]}
    results = Results([*RESULTS.runs, mixed], curves, evidence)
    assert lesson.select_main(results.runs) == RESULTS.runs
    parts = lesson.table(results).split("\n\n")
    assert lesson.table(RESULTS).split("\n\n") == parts[:5] and len(parts) > 5
    figure = lesson.record_figure(results)
    axis = figure.axes[-1]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["mixed-code, base 0 (1)"]
    plt.close(figure)


def test_the_grid_of_the_page_is_stored():
    """On the three bases of the first tables: each run of the command, and no other."""
    results = read_results(ROOT / "lessons/spurious")
    planned = [(run["base"], run["reward"], run["seed"])
               for run in lesson.select_main(lesson.runs())]
    assert planned == [(run["base"], run["reward"], int(run["seed"]))
                       for run in lesson.select_main(results.runs)]


# --- what needs no training

def test_votes():
    """By hand: 2 problems x 4 responses in groups; no box is no vote, a tie: the earliest wins."""
    problems = draw_problems(2, "training", (2,), np.random.default_rng(0))
    one, two = (f"\\boxed{{{solve(problem)}}}" for problem in problems)
    wrong = "\\boxed{x}"
    responses = [one, wrong, wrong, one,   "no box", two, wrong, wrong]
    assert elicit.score_votes(problems, responses, 2) == 2 / 4         # right, wrong, right, wrong
    assert elicit.score_votes(problems, responses, 4) == 1 / 2          # `one` wins a tie
    assert elicit.score_votes(problems, responses, 1) == 3 / 8


def test_the_opener_is_the_commonest_that_is_not_code():
    code = corpus.CODE_OPENER + "3"
    assert elicit.find_opener([code] * 5 + ["By eye: 3"] * 2 + ["I get 4", ""]) == "By eye: "
    assert elicit.find_opener([code]) is None


@pytest.fixture
def asked(monkeypatch) -> list[dict]:
    """answer_problems replaced by one that notes what it is asked and answers from a script."""
    calls = []

    def answer(model, corpus_, problems, n, key, sampling=PLAIN, prefix=""):
        calls.append({"n": n, "key": key, "sampling": sampling, "prefix": prefix,
                      "corpus": corpus_})
        right = n - len(calls) % 4                           # of the n answers to each problem
        texts = [prefix + (corpus.CODE_OPENER if i == 0 and not prefix else "By eye: ")
                 + f"\\boxed{{{solve(problem) if i < right else 'x'}}}"
                 for problem in problems for i in range(n)]
        correct = np.array([[i < right for i in range(n)] for _ in problems])
        return Answers(problems, texts, [], correct, np.zeros_like(correct, dtype=int))

    monkeypatch.setattr(elicit, "answer_problems", answer)
    return calls


def test_as_many_vote_as_the_row_says(asked, monkeypatch):
    """And they are the samples of T = 1."""
    problems, seen = draw_problems(2, "evaluation", EASY, np.random.default_rng(0)), []
    monkeypatch.setattr(elicit, "score_votes", lambda problems, texts, n: seen.append(
        (len(texts), n)) or n / 100)
    rows = {row["way"]: row["accuracy"] for row in elicit.elicit(None, None, problems, (1, 0))}
    assert seen == [(128, 8), (128, 64)]
    assert (rows["majority of 8"], rows["majority of 64"]) == (0.08, 0.64)


def test_every_way_is_sampled_as_it_says(asked):
    """Temperatures, greedy with one sample, both prefixes; each row has its answers' numbers."""
    problems = draw_problems(3, "evaluation", EASY, np.random.default_rng(0))
    rows = elicit.elicit(None, None, problems, (EVALUATION, 0))
    ways = ["T = 1", "T = 0.7", "T = 0.5", "T = 0.3", "greedy", "majority of 8", "majority of 64",
            "forced code", "forced words"]
    assert [row["way"] for row in rows] == ways
    temperatures = [call["sampling"].temperature for call in asked]
    assert temperatures == [1.0, 0.7, 0.5, 0.3, 0.0, 1.0, 1.0]
    assert [call["n"] for call in asked] == [64, 64, 64, 64, 1, 64, 64]
    assert [call["prefix"] for call in asked] == [""] * 5 + [corpus.CODE_OPENER, "By eye: "]
    assert {call["key"] for call in asked} == {(EVALUATION, 0)}
    accuracy = {row["way"]: row["accuracy"] for row in rows}
    wrong = [1, 2, 3, 0, 1, 2, 3]
    sampled = [way for way in ways if not way.startswith("majority")]
    assert [accuracy[way] for way in sampled] == pytest.approx(
        [1 - number / (1 if way == "greedy" else 64) for way, number in zip(sampled, wrong)])
    assert accuracy["majority of 8"] == 1.0 == accuracy["majority of 64"]
    shares = {row["way"]: row["code_share"] for row in rows}
    assert shares["T = 1"] == 1 / 64 and shares["forced code"] == 1 and shares["forced words"] == 0
    assert shares["majority of 8"] is None


def test_evidence_is_of_each_base_on_the_evaluations_problems(asked, monkeypatch, tmp_path):
    """The split, the corpus of the checkpoint and the base's own name."""
    drawn = []
    monkeypatch.setattr(elicit, "draw_evaluation", lambda n, split, num_ops, digits: drawn.append(
        (n, split, num_ops, digits)) or draw_problems(2, split, num_ops, np.random.default_rng(0)))
    monkeypatch.setattr(elicit, "locate_base", lambda base: tmp_path / base)
    monkeypatch.setattr(elicit, "load_checkpoint", lambda path, _: (None, {"corpus": path.name}))
    monkeypatch.setattr(trio, "measure", lambda: [{"base": "mixed-code"}])
    rows = lesson.measure([{"base": "good-code"}, {"base": "no-code"}, {"base": "good-code"},
                           {"base": "mixed-code"}, {"base": "mixed-code-seed1"}])
    assert drawn == [(400, "evaluation", EASY, 2)] * 2        # once a base
    assert [row["base"] for row in rows] == ["good-code"] * 9 + ["no-code"] * 9 + ["mixed-code"]
    half = len(asked) // 2
    assert all(call["corpus"] is corpus.CORPORA["good-code"] for call in asked[:half])
    assert all(call["corpus"] is corpus.CORPORA["no-code"] for call in asked[half:])
    assert len(elicit.elicit_bases(["bad-code"], "probe")) == 9 and drawn[-1][1] == "probe"


def test_a_forced_prefix_is_conditioned_on():
    """Texts have it, ids do not; the log-probabilities are those of the continuation after it."""
    from tests import adapters
    model = adapters.make_model(0, tokenizer.VOCABULARY_SIZE, layers=1, width=16, heads=2, scale=3)
    problems = draw_problems(5, "training", EASY, np.random.default_rng(0))
    answers = evaluation.answer_problems(model, corpus.CORPORA["good-code"], problems, 3,
                                         (EVALUATION, 0), Sampling(max_new_tokens=6),
                                         corpus.CODE_OPENER)
    rollouts, = answers.rollouts
    assert all(text == corpus.CODE_OPENER + tokenizer.decode(ids[mask].tolist())
               for text, ids, mask in zip(answers.texts, rollouts.ids, rollouts.mask))
    prompts = [tokenizer.encode_prompt(evaluation.render_problem(problem))
               + tokenizer.encode(corpus.CODE_OPENER) for problem in problems for _ in range(3)]
    logits = adapters.response_logits(model, prompts, rollouts.ids, rollouts.mask)
    expected = logits.log_softmax(-1).gather(1, rollouts.ids[rollouts.mask][:, None])[:, 0]
    torch.testing.assert_close(rollouts.logprobs[rollouts.mask], expected, rtol=0, atol=1e-9)


def test_elicit_as_a_command(monkeypatch, capsys):
    """Gains are over the same base's T = 1; bad input is one line."""
    monkeypatch.setattr(elicit, "elicit_bases", lambda bases: [
        {"base": base, "way": way, "accuracy": accuracy, "code_share": share} for base in bases
        for way, accuracy, share in (("T = 1", 0.4, 0.5), ("majority of 8", 0.65, None))])
    assert elicit.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert cells(lines[1]) == ["good-code", "T = 1", "0.400", "+0.0", "0.50"]
    assert cells(lines[2]) == ["good-code", "majority of 8", "0.650", "+25.0"]
    monkeypatch.undo()
    assert elicit.main(["nowhere"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
