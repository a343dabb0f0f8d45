"""Lesson 3: its grid, its tables and figure from rows made by hand, and the kernel of the arms."""

import re
from statistics import mean, stdev

import numpy as np
import pytest
import torch

import rlvr
from data.task import EASY, draw_problems, render_problem, split_of
from data.tokenizer import VOCABULARY_SIZE, encode_prompt
from lessons.grid import locate_run
from lessons.prior import kernel, lesson
from lessons.report import Results, read_results
from model import save_checkpoint
from tests.helpers import ROOT, tiny

FOLDER = ROOT / "lessons/prior"
PRIORS = {7: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 1: [0.2, 0.4, 0.5, 0.6, 0.7, 0.8]}


@pytest.fixture(scope="module")
def stored() -> Results:
    return read_results(FOLDER)


# --- the grid


def test_the_grid_is_that_of_the_stored_runs(stored):
    """A base left out, named otherwise, or run with another reward, seed or flag."""
    made = [(run["base"], run["reward"], run["seed"]) for run in lesson.runs()]
    kept = [(run["base"], run["reward"], int(run["seed"])) for run in stored.runs]
    assert sorted(made) == sorted(kept) and len(set(made)) == 60 == 12 * 5
    assert all(set(run) == {"base", "reward", "seed"} for run in lesson.runs())
    assert all(run["flags"] == "" and run["loss"] == "grpo" for run in stored.runs)
    commands = [re.search(r"--base (\S+) --reward random --seed (\d)", run["command"]).groups()
                for run in stored.runs]
    assert commands == [(base, str(seed)) for base, _, seed in kept]
    assert len({locate_run(run) for run in lesson.runs()}) == 60


def test_the_bases_are_six_priors_on_seven_openers_and_six_on_one():
    """A base whose flags are not what its name says."""
    for openers, priors in PRIORS.items():
        for prior in priors:
            name, flags = f"good-code-prior{prior}", {"base": "good-code", "code_prior": prior}
            if openers == 1:
                name, flags = f"{name}-openers1", flags | {"text_openers": 1}
            assert lesson.BASES[name] == flags
            assert lesson.describe_base(name) == (openers, prior)
    assert len(lesson.BASES) == 12


def test_fewer_seeds_and_the_quick_grid():
    """--seeds that is not heard, or a quick grid without one kind of text or one side."""
    assert sorted({run["seed"] for run in lesson.runs(seeds=3)}) == [1, 2, 3]
    assert len(lesson.runs(seeds=3)) == 36
    quick = lesson.runs(quick=True)
    assert {(*lesson.describe_base(run["base"]), run["seed"]) for run in quick} == {
        (7, 0.2, 1), (7, 0.6, 1), (1, 0.2, 1), (1, 0.8, 1)} and len(quick) == 4


# --- the bandit's predictions


def test_the_bandit_has_an_arm_for_code_and_one_for_each_opener(monkeypatch):
    """Arms that are not the shares; eps, batches, samples or updates swapped or not RL's own."""
    asked = []

    def first_arm(arms, eps, batches=100, samples=512, updates=8):
        asked.append((arms, eps, batches, samples, updates))
        return np.array([[9.0, 9.0], [arms[0], len(arms)]]) / 100

    monkeypatch.setattr(lesson, "first_arm", first_arm)
    bases = ["good-code-prior0.3", "good-code-prior0.3", "good-code-prior0.8-openers1"]
    rows = lesson.measure([{"base": base} for base in bases])
    assert [row["base"] for row in rows] == bases[1:]
    seven, one = (0.3, *[pytest.approx(0.1)] * 7), (0.8, pytest.approx(0.2))
    c = rlvr.TrainConfig()
    rl = (c.eps_high, c.steps, c.prompts * c.group, c.updates)
    assert rl == (0.4, 20, 1024, 32)
    assert asked == [(seven, 0.2, 100, 512, 8), (seven, *rl), (one, 0.2, 100, 512, 8), (one, *rl)]
    assert rows[0]["bandit"] == rows[0]["as RL"] == pytest.approx((0.3 + 8) / 200)
    assert rows[1]["bandit"] == pytest.approx((0.8 + 2) / 200)


def test_the_stored_predictions_are_the_bandits(stored):
    """evidence.csv of another bandit; a base missing there."""
    assert [row["base"] for row in stored.evidence] == list(lesson.BASES)
    base = "good-code-prior0.4-openers1"
    again, = lesson.measure([{"base": base}])
    kept, = (row for row in stored.evidence if row["base"] == base)
    assert kept == {name: value if name == "base" else pytest.approx(value, abs=1e-5)
                    for name, value in again.items()}


# --- the table, from rows made by hand

# base: (openers, prior, before: code share, accuracy; after: code shares; accuracies; gains)
CELLS = {
    "good-code-prior0.2": (7, 0.2, 0.21, 0.31, [0.96, 0.5, 0.03], [0.9, 0.4, 0.25],
                           [0.59, 0.09, -0.06]),
    "good-code-prior0.5-openers1": (1, 0.5, 0.52, 0.61, [0.99, 0.07], [0.97, 0.23],
                                    [0.36, -0.38]),
    "good-code-prior0.6-openers1": (1, 0.6, 0.63, 0.66, [0.98, 0.94], [0.95, 0.93], [0.29, 0.27]),
    "good-code-prior0.1": (7, 0.1, 0.12, 0.19, [0.44], [0.27], [0.08]),
}
PREDICTED = {"good-code-prior0.2": (0.35, 0.29), "good-code-prior0.5-openers1": (0.47, 0.58),
             "good-code-prior0.6-openers1": (0.71, 0.77)}


def make_results(evidence: bool = True) -> Results:
    rows = []
    for base, (_, _, share, accuracy, shares, accuracies, gained) in CELLS.items():
        for seed, values in enumerate(zip(shares, accuracies, gained)):
            after = dict(zip(("after_code_share", "after_accuracy", "gain_total"), values))
            rows.append({"base": base, "reward": "random", "loss": "grpo", "flags": "",
                         "seed": seed, "before_code_share": share, "before_accuracy": accuracy,
                         "gain_switch": 7.0, "gain_within": -7.0, **after})
    predicted = [{"base": base, "bandit": bandit, "as RL": rl}
                 for base, (bandit, rl) in PREDICTED.items()]
    return Results(rows, {}, predicted if evidence else [])


def parse(block: str) -> list[dict]:
    """A table's rows; its columns are where the words of its head begin."""
    head, *lines = block.splitlines()
    names = list(re.finditer(r"\S+(?: \S+)*", head))
    ends = [name.start() for name in names[1:]] + [None]
    return [{name[0]: line[name.start():end].strip() for name, end in zip(names, ends)}
            for line in lines]


def spread(values, digits, sign):
    text = f"{np.mean(values):{sign}.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {stdev(values):.{digits}f}"


def test_the_table_of_shares():
    """A wrong column, minimum for maximum, predictions of another base, 'above' as 'at least'."""
    shares, _, _ = map(parse, lesson.table(make_results()).split("\n\n"))
    assert len(shares) == len(CELLS)
    for row, (base, (openers, prior, before, _, after, *_)) in zip(shares, CELLS.items()):
        bandit, rl = [f"{value:.2f}" for value in PREDICTED.get(base, ())] or ("", "")
        above = len([share for share in after if share > 0.5])
        assert row == {"openers": str(openers), "prior": str(prior),
                       "code share": f"{before:.2f} -> {spread(after, 2, '')}",
                       "min": f"{min(after):.2f}", "max": f"{max(after):.2f}",
                       "above 1/2": f"{above} of {len(after)}", "bandit": bandit, "as RL": rl}
    assert shares[0]["above 1/2"] == "1 of 3"            # 0.5 is not above


def test_the_table_of_gains():
    """Switch or within for the gain, a sign, points for shares, the two kinds of text swapped."""
    _, gained, _ = map(parse, lesson.table(make_results()).split("\n\n"))
    assert [row["prior"] for row in gained] == ["0.1", "0.2", "0.5", "0.6"]
    expected = {(openers, str(prior)): (f"{before:.2f} -> {mean(after):.2f}",
                                        spread([100 * gain for gain in gains], 1, "+"))
                for openers, prior, _, before, _, after, gains in CELLS.values()}
    for row in gained:
        for openers, name in ((7, "7 openers"), (1, "1 opener")):
            wanted = expected.get((openers, row["prior"]), ("", ""))
            assert (row[f"accuracy, {name}"], row[f"gain, {name}"]) == wanted


def test_the_table_of_misses():
    """A miss that is signed, of another base or of the share before; a tie that counts as won."""
    _, _, misses = map(parse, lesson.table(make_results()).split("\n\n"))
    after = {base: mean(cell[4]) for base, cell in CELLS.items()}
    rules = {"bandit": {base: pair[0] for base, pair in PREDICTED.items()},
             "as RL": {base: pair[1] for base, pair in PREDICTED.items()},
             "no change": {base: cell[2] for base, cell in CELLS.items()},
             "largest wins": dict(zip(CELLS, [1.0, 0.5, 1.0, 0.0]))}
    assert len(misses) == 4
    for row, (name, predicted) in zip(misses, rules.items()):
        far = [abs(predicted[base] - after[base]) for base in predicted]
        assert row == {"prediction": name, "bases": str(len(far)),
                       "mean miss": f"{mean(far):.2f}", "largest miss": f"{max(far):.2f}"}


def test_the_table_without_predictions():
    """--quick measures nothing beside the runs: no column of the bandits, no row, no crash."""
    shares, _, misses = map(parse, lesson.table(make_results(evidence=False)).split("\n\n"))
    assert not {"bandit", "as RL"} & set(shares[0]) and len(shares) == 4
    assert [row["prediction"] for row in misses] == ["no change", "largest wins"]


def test_the_page_shows_the_stored_table(stored):
    """A page behind its results; a table too wide. And what the page says of the switch."""
    table = lesson.table(stored)
    page = (FOLDER / "README.md").read_text()
    assert re.search(r"## Table\n.*?```text\n(.*?)\n```", page, re.DOTALL)[1] == table
    assert max(map(len, table.splitlines())) <= 100
    rows = parse(table.split("\n\n")[0])
    won = {(row["openers"], row["prior"]): int(row["above 1/2"].removesuffix(" of 5"))
           for row in rows}
    decided = [("7", "0.5"), ("7", "0.6"), ("1", "0.7"), ("1", "0.8")]
    assert [cell for cell in won if won[cell] == 5] == decided and 0 not in won.values()
    assert [won["7", p] for p in ("0.1", "0.2", "0.3", "0.4")] == [1, 1, 3, 3]
    assert [won["1", p] for p in ("0.2", "0.4", "0.5", "0.6")] == [1, 1, 2, 3]


# --- the figure


def test_the_figure_draws_every_run():
    """A dot lost or at another prior, a mean of the accuracy, panels swapped, no bandit."""
    plt = pytest.importorskip("matplotlib.pyplot")
    results = make_results()
    results.evidence.append({"base": "good-code-prior0.1", "bandit": 0.08, "as RL": 0.09})
    canvas = lesson.figure(results)
    bandit = {row["base"]: row["bandit"] for row in results.evidence}
    assert len(canvas.axes) == 2
    for axis, openers in zip(canvas.axes, (7, 1)):
        cells = {base: cell for base, cell in CELLS.items() if cell[0] == openers}
        lines = axis.get_lines()
        dots = {tuple(map(float, dot)) for line in lines if line.get_marker() == "o"
                for dot in line.get_xydata()}
        assert dots == {(cell[1], share) for cell in cells.values() for share in cell[4]}
        for style, color, wanted in (
                (":", lesson.RED, [(cell[1], bandit[base]) for base, cell in cells.items()]),
                ("-", lesson.BLUE, [(cell[1], mean(cell[4])) for cell in cells.values()])):
            curve, = (line for line in lines if line.get_linestyle() == style
                      and line.get_color() == color and line.get_marker() != "o")
            assert sorted(map(tuple, curve.get_xydata())) == sorted(wanted)
        vertical, = (line for line in lines if line.get_linestyle() == "--")
        assert list(vertical.get_xdata()) == [1 / (1 + openers)] * 2
        assert f"{openers} opener" in axis.get_title(loc="left") + axis.get_title()
        assert {"bandit", "mean of the runs", "no change"} <= {t.get_text() for t in axis.texts}
    plt.close("all")


def test_the_figure_without_predictions():
    """--quick draws no bandit and says none."""
    plt = pytest.importorskip("matplotlib.pyplot")
    canvas = lesson.figure(make_results(evidence=False))
    for axis in canvas.axes:
        assert ":" not in [line.get_linestyle() for line in axis.get_lines()]
        assert "bandit" not in [text.get_text() for text in axis.texts]
    plt.close("all")


# --- the kernel


def some_problems(n):
    return draw_problems(n, "training", EASY, np.random.default_rng(0))


def several_openers():
    """A tiny model that begins its responses in some different ways, and in many rare ones."""
    return tiny(scale=20.0, end=0.0)


def mean_logits(model, problems):
    prompts = [torch.tensor([encode_prompt(render_problem(problem))]) for problem in problems]
    return torch.stack([model.head(model(prompt))[0, -1] for prompt in prompts])


def move(model, direction, step):
    with torch.no_grad():
        for parameter, part in zip(model.parameters(), direction):
            parameter += step * part


def test_the_kernel_is_how_far_the_arms_move():
    """Arms of too rare a token or unsorted; K of the last token but one, or not averaged.

    A small step along the gradient of arm b's mean logit moves that of arm a by K_ab, by central
    differences in float64.
    """
    model, problems = several_openers(), some_problems(4)
    arms, shares, K = kernel.measure_kernel(model, problems)
    probabilities = mean_logits(model, problems).softmax(-1).mean(0)
    assert torch.allclose(shares, probabilities[arms]) and shares[0] == probabilities.max()
    assert 3 < len(arms) == (probabilities > kernel.RARE).sum() < VOCABULARY_SIZE
    assert K.shape == (len(arms), len(arms))
    for b in (0, 3):
        logit = mean_logits(model, problems)[:, arms[b]].mean()
        direction = torch.autograd.grad(logit, list(model.parameters()))
        moved = []
        for step in (1e-7, -2e-7):                       # to +1e-7, then back to -1e-7
            move(model, direction, step)
            moved.append(mean_logits(model, problems)[:, arms].mean(0))
        assert torch.allclose((moved[0] - moved[1]) / 2e-7, K[:, b], rtol=1e-4, atol=1e-4)
        move(model, direction, 1e-7)


def test_a_step_moves_the_arms_as_the_docstring_says(monkeypatch):
    """A wrong formula: z_a moves by lr A (K_ab - sum_c pi_c K_ac), all tokens being arms."""
    monkeypatch.setattr(kernel, "RARE", -1.0)
    model, problems = several_openers(), some_problems(1)
    arms, pi, K = kernel.measure_kernel(model, problems)
    before, lr, advantage, b = mean_logits(model, problems)[0], 1e-9, -1.7, 2
    loss = -advantage * before.log_softmax(-1)[arms[b]]
    move(model, torch.autograd.grad(loss, list(model.parameters())), -lr)
    moved = (mean_logits(model, problems)[0] - before)[arms]
    assert torch.allclose(moved, lr * advantage * (K[:, b] - K @ pi), rtol=1e-3, atol=1e-12)
    assert moved.abs().max() > 1e-7


def save(path, model):
    save_checkpoint(path, model.float(), corpus="good-code")
    return str(path)


def test_the_command_prints_the_kernel(tmp_path, monkeypatch, capsys):
    """Own and other entries mixed up, kappa without the constant, problems of another split."""
    K, asked = torch.tensor([[500., 10, 20], [10, 800, 30], [20, 30, 1400]]), []

    def measure(model, problems):
        asked.extend(problems)
        return torch.arange(3), torch.tensor([0.6, 0.3, 0.04]), K

    monkeypatch.setattr(kernel, "measure_kernel", measure)
    monkeypatch.chdir(tmp_path)
    assert kernel.main([save(tmp_path / "tiny.pt", several_openers())]) == 0
    lines = [re.split(r"\s{2,}", line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [["arms", "0.60, 0.30, 0.04"], ["K_aa", "900 (500 to 1400)"],
                     ["K_ab", "20 (10 to 30)"],
                     ["lr kappa", "0.015 x 880 = 13.2, the bandit's LR is 2"]]
    assert len(set(asked)) == 100 and {split_of(problem) for problem in asked} == {"training"}
    assert {len(problem.ops) for problem in asked} == set(EASY)


def test_the_command_reads_a_checkpoint(tmp_path, monkeypatch, capsys):
    """The whole way once, without anything replaced."""
    monkeypatch.setattr(kernel, "PROBLEMS", 3)
    assert kernel.main([save(tmp_path / "tiny.pt", several_openers())]) == 0
    assert re.match(r"arms +0\.\d\d, .*\nK_aa .*\nK_ab .*\nlr kappa ", capsys.readouterr().out)


def test_the_command_takes_good_code_unless_told_otherwise(monkeypatch):
    """Another default than the page and the help say."""
    asked = []
    monkeypatch.setattr(kernel, "show_kernel", asked.append)
    assert kernel.main([]) == kernel.main(["no-code"]) == 0
    assert asked == ["good-code", "no-code"]


def test_the_command_refuses_bad_input(tmp_path, monkeypatch, capsys):
    """A traceback, or a K of one arm, for a missing file, a bad flag, a model with one opener."""
    monkeypatch.chdir(tmp_path)
    sure = save(tmp_path / "sure.pt", tiny(end=300.0))    # ends at once
    for argument, message in (("nowhere", "cannot read checkpoint"), (sure, "one arm")):
        assert kernel.main([argument]) == 2
        output = capsys.readouterr()
        assert output.out == "" and message in output.err and len(output.err.splitlines()) == 1
    with pytest.raises(SystemExit) as stop:
        kernel.main(["--seeds", "3"])
    assert stop.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1
