"""Lesson clips: the bandit against the project's loss, and what table, figure and page say."""

import math
import re
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import rlvr
from lessons import report
from lessons.clips import bandit, lesson
from lessons.grid import locate_run, write_train_command
from losses import LOSSES
from tests import adapters

ROOT = Path(rlvr.__file__).parent
FOLDER = ROOT / "lessons/clips"
PAGE = (FOLDER / "README.md").read_text()
NUMBERS = ["accuracy", "code_share", "kl_to_base", "accuracy_code", "entropy", "mean_token_prob"]


# --- the bandit

@pytest.mark.parametrize("loss", ["grpo", "grpo_masked", "grpo_unweighted"])
@pytest.mark.parametrize("p, max_norm", [(0.5, bandit.OFF), (0.8, 0.25)])
def test_bandit_is_grpo(loss, p, max_norm):
    """Its update per arm is the project's loss on the same pulls, one by one, by autograd, and
    torch's clip of the norm: of the arms, kappa for each, and of what else a pull's gradient has.

    Later updates clip, on both sides: a bound with the wrong sign, or a ratio left out, differs.
    """
    prior, kappa, rest = (0.5, 0.3, 0.2), 1.7, torch.tensor([0.4, 5.0, 3.0], dtype=torch.float64)
    old = torch.tensor(prior, dtype=torch.float64)
    theta, rng, clipped = old.log() / kappa ** 0.5, np.random.default_rng(0), Counter()
    for pulls in rng.multinomial(20, [prior], size=(8, 1)):
        wins = rng.binomial(pulls, p)
        arms = torch.tensor([a for a in range(3) for _ in range(pulls[0, a])])
        rewards = torch.tensor([float(i < wins[0, a])
                                for a in range(3) for i in range(pulls[0, a])]).double()
        advantages = adapters.advantages("grpo", rewards[None])[0]
        theta = theta.detach().requires_grad_()
        own = torch.zeros(20, dtype=torch.float64, requires_grad=True)   # one direction a pull
        logprobs = (kappa ** 0.5 * theta).log_softmax(-1)[arms] + rest[arms].sqrt() * own
        config = SimpleNamespace(eps_low=0.2, eps_high=0.3)
        LOSSES[loss].policy_loss(logprobs, old.log()[arms], advantages, config).mean().backward()
        ratio = (logprobs - old.log()[arms]).exp()
        clipped["high"] += int(((ratio > 1.3) & (advantages > 0)).sum())
        clipped["low"] += int(((ratio < 0.8) & (advantages < 0)).sum())
        clipped["norm"] += int(torch.nn.utils.clip_grad_norm_([theta, own], max_norm) > max_norm)
        theta = theta - 3.0 * theta.grad
    assert clipped["high"] > 0 and clipped["low"] > 0 and (clipped["norm"] > 0) == (p > 0.5)
    found = bandit.first_arm(prior, 0.2, batches=1, samples=160, updates=8, p=p, eps_high=0.3,
                             loss=loss, lr=3.0, kappa=kappa, max_norm=max_norm,
                             rest=tuple(rest.tolist()), seeds=1)
    assert found.shape == (2, 1) and found[0, 0] == pytest.approx(0.5)
    assert found[1, 0] == pytest.approx((kappa ** 0.5 * theta).softmax(-1)[0].item(), abs=2e-5)


@pytest.fixture(scope="module")
def played() -> dict:
    return {(name, eps): bandit.first_arm(prior, eps)
            for name, prior in bandit.BANDITS.items() for eps in (bandit.EPS, bandit.OFF)}


def test_the_clip_feeds_the_largest_arm(played):
    """Up with the clip in nearly all seeds, in about half without.

    The smaller of two arms goes down, equal arms stay in the mean.
    """
    up = {case: np.mean(shares[-1] > shares[0]) for case, shares in played.items()}
    big = "0.65, 7 x 0.05"
    assert up[big, 0.2] > 0.9 > 0.6 > up[big, 1e9] and played[big, 0.2][-1].mean() > 0.85
    assert up["0.35, 0.65", 0.2] < 0.35
    assert abs(played["8 x 0.125", 0.2][-1].mean() - 0.125) < 0.06


def test_the_page_shows_what_the_bandit_prints(played):
    below = PAGE.split("python -m lessons.clips.bandit\n", 1)[1]
    assert re.search(r"```text\n(.*?)\n```", below, re.DOTALL)[1] == bandit.tabulate(played)


def test_other_coins_on_the_page():
    """The first row with --p 0.9 and 0.1."""
    ends = [bandit.first_arm(bandit.BANDITS["0.65, 7 x 0.05"], 0.2, p=p)[-1] for p in (0.9, 0.1)]
    nine, one = [(f"{end.mean():.2f}", f"{np.mean(end > 0.65):.0%}") for end in ends]
    assert (f"With `--p 0.9` the first row ends at {nine[0]}, up in {nine[1]} of the seeds; "
            f"with `--p 0.1` at {one[0]}, {one[1]}.") in PAGE


def test_the_bandits_table_by_hand(monkeypatch):
    """Of the last batch: mean, quantiles, and how many seeds are above where they began."""
    monkeypatch.setattr(bandit, "SEEDS", 4)
    first, middle = [0.5] * 4, [0.01] * 4
    runs = {("a", 0.3): np.array([first, middle, [0.96, 0.8, 0.6, 0.2]]),
            ("b", 1e9): np.array([first, middle, [0.5, 0.5, 0.5, 0.7]])}
    lines = [re.split(r"  +", line) for line in bandit.tabulate(runs).splitlines()]
    assert lines == [["arms", "clip", "first arm, mean", "5% to 95% of 4 seeds", "seeds up"],
                     ["a", "1 +- 0.3", "0.50 -> 0.64", "0.26 to 0.94", "75%"],
                     ["b", "none", "0.50 -> 0.55", "0.50 to 0.67", "25%"]]


@pytest.fixture
def small(monkeypatch):
    """A bandit of milliseconds."""
    monkeypatch.setattr(bandit, "SEEDS", 3)
    monkeypatch.setattr(bandit, "BANDITS", {"two": (0.6, 0.4), "three": (0.2, 0.3, 0.5)})


def test_the_bandits_command(small, tmp_path, monkeypatch, capsys):
    """Table and figure, in whatever directory; --p changes the coin, --out the file."""
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    assert bandit.main([]) == 0
    printed = capsys.readouterr().out
    runs = {(name, eps): bandit.first_arm(prior, eps)
            for name, prior in bandit.BANDITS.items() for eps in (0.2, 1e9)}
    assert printed == bandit.tabulate(runs) + "\nwrote runs/bandit.png\n"
    assert (tmp_path / "runs/bandit.png").read_bytes()[:4] == b"\x89PNG"
    assert bandit.main(["--p", "1", "--out", "other.png"]) == 0
    assert "0.60 -> 0.60     0.60 to 0.60" in re.sub("  +", "     ", capsys.readouterr().out)
    assert (tmp_path / "other.png").exists()


def test_the_bandits_figure(small):
    """A column a bandit, clip above none; mean, start and ten seeds are those of its case."""
    pytest.importorskip("matplotlib")
    report.can_draw()
    runs = {(name, eps): bandit.first_arm(prior, eps, batches=5)
            for name, prior in bandit.BANDITS.items() for eps in (0.2, 1e9)}
    axes = bandit.draw(runs).axes
    for axis, case in zip(axes, [("two", 0.2), ("three", 0.2), ("two", 1e9), ("three", 1e9)]):
        shares = runs[case]
        lines = {line.get_color(): line.get_ydata() for line in axis.lines}
        assert list(lines["black"]) == pytest.approx(list(shares.mean(axis=1)))
        assert lines[report.GREY][0] == shares[0, 0]
        assert [list(line.get_ydata()) for line in axis.lines[:3]] == shares.T.tolist()
        name, what = axis.get_title(loc="left").split("\n")
        assert name == case[0] and ("no clip" in what) == (case[1] == 1e9)
        assert what.endswith(f": {shares[0, 0]:.2f} → {shares[-1].mean():.2f}")


@pytest.mark.parametrize("arguments", [["--p", "1.5"], ["--p", "x"], ["--eps", "1"],
                                       ["--out", "{file}/bandit.png"]])
def test_bad_input_of_the_bandit_is_one_line(arguments, tmp_path, capsys, monkeypatch):
    """And exit code 2, before anything is played."""
    monkeypatch.setattr(bandit, "first_arm", lambda *_, **__: pytest.fail("it has begun"))
    (tmp_path / "file").write_text("")
    try:
        code = bandit.main([word.format(file=tmp_path / "file") for word in arguments])
    except SystemExit as exit:
        code = exit.code
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1 and error.startswith("python -m lessons.clips.")


# --- the grid

def flags_of(run: dict) -> tuple[str, str, str, int]:
    """What a run's own command really sets: base, reward, flags as in runs.csv, seed."""
    words = write_train_command(run).split()[2:]
    args = vars(rlvr.build_parser().parse_args(words))
    eps = args.pop("eps")
    assert eps is None and args.pop("command") == "train"
    config = rlvr.TrainConfig(**args)
    rlvr.check_config(config)
    return config.base, config.reward, report.describe_flags(asdict(config)), config.seed


def test_the_grid_is_that_of_the_stored_runs():
    """129 runs in 17 cells, by the flags that the commands set, not by their names."""
    planned = Counter(map(flags_of, lesson.runs()))
    stored = Counter((run["base"], run["reward"], run["flags"], int(run["seed"]))
                     for run in report.read_results(FOLDER).runs)
    assert planned == stored
    assert planned.total() == len(planned) == 129
    assert len({flags for _, _, flags, _ in planned}) == 17


def test_seeds_and_quick():
    """p = 0 has one seed always; the quick grid is part of the full one, the default in it."""
    two, quick, full = lesson.runs(seeds=2), lesson.runs(quick=True), lesson.runs()
    assert len(two) == 16 * 2 + 1
    assert [run["seed"] for run in two if run.get("p") == 0] == [1]
    assert len(quick) == 12 and all(run in full for run in quick)
    assert {flags_of(run)[2] for run in quick} == {
        "", "--eps-low 1e+09", "--eps-high 1e+09", "--lr 0.006 --eps-low 1e+09 --eps-high 1e+09"}
    assert len({locate_run(run) for run in full}) == 129
    assert {str(locate_run(run)) for run in full} >= {
        f"runs/good-code/random/seed{seed}" for seed in range(1, 9)}


# --- table and figure, from rows made by hand

NO_CLIP = "--eps-low 1e+09 --eps-high 1e+09"
CODE = [0.55, 0.65, None, 0.85, 0.95, 0.75]


def make_rows() -> list[dict]:
    """Three cells, mixed: every number differs from every other one."""
    rows = []
    cells = [(NO_CLIP, 2), ("", 1), ("--p 0", 1), ("", 2), (NO_CLIP, 1), ("", 3)]
    for i, (flags, seed) in enumerate(cells):
        row = {"base": "good-code", "reward": "random", "loss": "grpo", "flags": flags,
               "seed": float(seed), "clip_high": 0.01 + 0.001 * i, "clip_low": 0.02 + 0.003 * i,
               "gain_switch": 0.11 * i - 0.31, "gain_within": 0.05 - 0.017 * i}
        row["gain_total"] = row["gain_switch"] + row["gain_within"]
        for j, name in enumerate(NUMBERS):
            row[f"before_{name}"] = 0.3 + 0.05 * j + 0.0001 * i
            row[f"after_{name}"] = 0.31 + 0.061 * j + 0.013 * i * (j + 1)
        row["after_accuracy_code"] = CODE[i] or 0.45
        rows.append(row)
    rows[0]["after_accuracy"] = 0.149      # destroyed: before, it was 0.3
    rows[4]["after_accuracy"] = 0.151      # just not
    return rows


ROWS = {"eps 0.4, the default": (1, 3, 5), "no clip, lr 0.015": (0, 4), "p 0": (2,)}


def read_table(text: str) -> tuple[list[str], dict[str, list[str]]]:
    """Head and rows, by name; cells are told apart by where the columns of the head begin."""
    head, *lines = text.splitlines()
    starts = [match.start() for match in re.finditer(r"(?<!\S)\S+(?: \S+)*", head)]
    cut = [[line[a:b].strip() for a, b in zip([0, *starts], [*starts, None])] for line in lines]
    return [head[a:b].strip() for a, b in zip(starts, [*starts[1:], None])], {
        name: cells for name, *cells in cut}


def test_every_number_of_the_table():
    """Recomputed from the rows: a wrong column, sign, seed count or cell fails."""
    rows = make_rows()
    first, second = lesson.table(report.Results(rows, {})).split("\n\n")
    head, gains = read_table(first)
    other, causes = read_table(second)
    assert head == ["seeds", "gain", "min .. max", "accuracy", "code share", "KL", "destroyed"]
    assert other == ["switch", "within", "right in code", "clip high", "clip low", "entropy",
                     "token prob."]
    assert list(gains) == list(causes) == ["before", *ROWS]
    assert gains["before"] == ["", "", "", "0.300", "0.35", "", ""]
    assert causes["before"] == ["", "", "0.45", "", "", "0.500", "0.550"]
    destroyed = {"eps 0.4, the default": "0 of 3", "no clip, lr 0.015": "1 of 2", "p 0": "0 of 1"}
    for name, chosen in ROWS.items():
        def values(column, chosen=chosen):
            return [rows[i][column] for i in chosen]
        gain, several = [100 * value for value in values("gain_total")], len(chosen) > 1
        assert gains[name] == [
            str(len(chosen)), f"{mean(gain):+.1f}" + (f" ± {stdev(gain):.1f}" if several else ""),
            f"{min(gain):+.1f} .. {max(gain):+.1f}" if several else "",
            f"{mean(values('after_accuracy')):.3f}", f"{mean(values('after_code_share')):.2f}",
            f"{mean(values('after_kl_to_base')):.2f}", destroyed[name]]
        code = [CODE[i] for i in chosen]
        assert causes[name] == [
            f"{100 * mean(values('gain_switch')):+.1f}",
            f"{100 * mean(values('gain_within')):+.1f}",
            f"{min(code):.2f} .. {max(code):.2f}" if several else "",
            f"{100 * mean(values('clip_high')):.3f}%", f"{100 * mean(values('clip_low')):.3f}%",
            f"{mean(values('after_entropy')):.3f}", f"{mean(values('after_mean_token_prob')):.3f}"]


def test_no_run_is_left_out_silently():
    """A row of no cell is an error, not a missing line."""
    rows = make_rows()
    rows[2]["flags"] = "--p 0.3"
    with pytest.raises(KeyError):
        lesson.table(report.Results(rows, {}))


def test_cells_stand_in_the_order_of_the_lesson():
    """Whatever the order of the runs; each with its own flags."""
    runs = report.read_results(FOLDER).runs
    cells = lesson.sort_cells(runs[::-1])
    assert list(cells) == list(lesson.list_cells()) and len(cells) == 17
    expected = {"eps 0.4, the default": "", "eps 0.2": "--eps-low 0.2 --eps-high 0.2",
                "upper bound only": "--eps-low 1e+09", "lower bound only": "--eps-high 1e+09",
                "no clip, lr 0.006": f"--lr 0.006 {NO_CLIP}", "p 0.1": "--p 0.1",
                "fresh, lr 0.015": "--steps 640 --prompts 2 --updates 1",
                "adamw, lr 0.0001": "--optimizer adamw --lr 0.0001"}
    assert {name: {run["flags"] for run in cells[name]} for name in expected} == {
        name: {flags} for name, flags in expected.items()}


@pytest.fixture
def drawn():
    pytest.importorskip("matplotlib")
    report.can_draw()
    rows = make_rows()
    for i, gain in zip((1, 3, 5), (0.05, 0.07, 0.12)):   # the default: up on every seed
        rows[i]["gain_total"] = gain
    rows[4]["gain_total"] = 0.03                         # no clip: on one of two
    rows[2]["gain_total"] = 0.0                          # p = 0: as it was, not up
    [axis] = lesson.figure(report.Results(rows, {})).axes
    return axis


def test_the_figure_has_a_labelled_row_for_each_cell(drawn):
    """Groups in bold above their cells, and no group without one; row 0 at the top."""
    labels = [(tick.get_text(), tick.get_fontweight()) for tick in drawn.get_yticklabels()]
    assert labels == [("width of the clip", "bold"), ("eps 0.4, the default", "normal"),
                      ("no clip", "bold"), ("no clip, lr 0.015", "normal"),
                      ("how often the coin pays", "bold"), ("p 0", "normal")]
    assert drawn.get_ylim()[0] > drawn.get_ylim()[1]


def test_the_figure_shows_the_gains(drawn):
    """Dots, bars, texts and colours of each row, and the lines at 0 and at the default's mean."""
    dots = {round(float(np.mean(line.get_ydata()))): line for line in drawn.lines
            if line.get_marker() == "o"}
    assert {y: list(line.get_xdata()) for y, line in dots.items()} == {
        1: pytest.approx([5, 7, 12]), 3: pytest.approx([-26, 3]), 5: [0]}
    colors = {y: line.get_color() for y, line in dots.items()}
    assert colors == {1: report.BLUE, 3: report.GREY, 5: report.GREY}
    bars = {round(bar.get_y() + bar.get_height() / 2): bar.get_width() for bar in drawn.patches}
    assert bars == {1: pytest.approx(8), 3: pytest.approx(-11.5), 5: 0}
    texts = {round(text.get_position()[1]): text.get_text() for text in drawn.texts}
    assert texts[1] == "+8.0 ± 3.6,  3 of 3 up" and texts[5] == "+0.0,  0 of 1 up"
    assert texts[3] == "-11.5 ± 20.5,  1 of 2 up"
    lines = [line.get_xdata()[0] for line in drawn.lines if line.get_marker() != "o"]
    assert lines == [0, pytest.approx(8)]


# --- the page

@pytest.fixture(scope="module")
def stored() -> dict[str, list[dict]]:
    return lesson.sort_cells(report.read_results(FOLDER).runs)


def test_the_page_gives_each_cells_flags():
    rows = dict(re.findall(r"^\| (.*?) \| (none|`--.*?`) \|$", PAGE, re.MULTILINE))
    assert list(rows) == list(lesson.list_cells())
    for name, flags in rows.items():
        words = [] if flags == "none" else flags.strip("`").split()
        args = vars(rlvr.build_parser().parse_args(["train", *words]))
        assert {key: args[key] for key in lesson.list_cells()[name]} == lesson.list_cells()[name]
        assert len(words) == 2 * len(lesson.list_cells()[name])


@pytest.mark.parametrize("name", ["no clip, lr 0.006", "no clip, lr 0.003", "lower bound only",
                                  "eps 0.1", "eps 0.05", "fresh, lr 0.004", "p 0.9", "p 0.001",
                                  "adamw, lr 0.0001"])
def test_the_intervals_on_the_page(stored, name):
    """95% of Student's t with 7 degrees of freedom, beside the cell's mean and spread."""
    values = report.gains(stored[name])
    half = 2.3646 * stdev(values) / math.sqrt(8)
    interval = f"interval {mean(values) - half:+.0f} to {mean(values) + half:+.0f}"
    text = " ".join(PAGE.split("How to read it", 1)[1].split())
    shown = f"{report.show_spread(values)}".replace("-24.8", "24.8")    # "loses 24.8"
    assert re.search(re.escape(shown) + r"[^±]*?" + re.escape(interval), text), interval


def test_the_comparisons_on_the_page(stored):
    """Seed by seed differences, entropies, clip fractions, counts of seeds."""
    text = " ".join(PAGE.split())

    def column(name, what):
        return [run[what] for run in sorted(stored[name], key=lambda run: run["seed"])]

    def compare(one, other, what, scale=1):
        differences = [scale * (a - b) for a, b in zip(column(one, what), column(other, what))]
        return mean(differences), stdev(differences) / math.sqrt(8)

    default, both = "eps 0.4, the default", ("upper bound only", "eps 0.4, the default")
    assert "difference is {:+.1f} ± {:.1f} (".format(*compare(*both, "gain_total", 100)) in text
    assert "{:.1f} ± {:.1f} points more than at 0.5".format(
        *compare("p 0.1", default, "gain_total", 100)) in text
    assert "0.020: {:.3f} ± {:.3f} more".format(*compare(*both[::-1], "after_entropy")) in text
    assert f"0.014 (± {stdev(column(both[0], 'after_entropy')):.3f})" in text
    clips = {name: mean(column(name, "clip_high")) + mean(column(name, "clip_low"))
             for name in (default, "eps 0.1", "eps 0.05")}
    times = [f"{clips[name] / clips[default]:.0f}" for name in ("eps 0.1", "eps 0.05")]
    assert f"clip {' and '.join(times)} times as many tokens" in text
    for name, shown in (("p 0.001", "from 0.51 to 0.77"), ("adamw, lr 0.0003", "0.36 to 0.84")):
        shares = column(name, "after_code_share")
        assert shown in text and shown.split()[-1] == f"{max(shares):.2f}"
        assert f"{min(shares):.2f}" in shown
    rising = [name for name, cell in stored.items() if min(report.gains(cell)) > 0]
    assert len(rising) == 4 and "4 of 17 cells rise on every seed" in text
    assert rising == [default, "eps 0.2", "upper bound only", "p 0.1"]
