"""Lesson clips: the bandit against the project's loss, and what tables, figures and pages say."""

import math
import re
from collections import Counter
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pytest
import torch

import rlvr
from lessons import report
from lessons.bandit import first_arm
from lessons.chance import find_student
from lessons.clips import bandit, lesson, walls
from lessons.clips.kernel import Habit
from lessons.drift import estimate_drift
from lessons.grid import locate_run, write_train_command
from lessons.summary import show_summary
from plumbing.flags import list_values
from tests import adapters
from tests.helpers import split_titled

ROOT = Path(rlvr.__file__).parent
FOLDER = ROOT / "lessons/clips"
PAGE = (FOLDER / "RESULTS.md").read_text("utf-8")


# --- the bandit

@pytest.mark.parametrize("loss", ["grpo", "grpo_masked", "grpo_unweighted"])
@pytest.mark.parametrize("p, max_norm", [(0.5, bandit.OFF), (0.8, 0.25)])
def test_bandit_is_grpo(loss, p, max_norm):
    """Its update per arm is the project's loss on the same pulls, one by one, by autograd, and
    torch's clip of the norm: of the arms, kappa for each, and of what else a pull's gradient has.

    Later updates clip, on both sides: a bound with the wrong sign, or a ratio left out, differs.
    Rewards are compared in two groups: one mean of all differs.
    """
    prior, kappa, rest = (0.5, 0.3, 0.2), 1.7, torch.tensor([0.4, 5.0, 3.0], dtype=torch.float64)
    old = torch.tensor(prior, dtype=torch.float64)
    theta, rng, clipped = old.log() / kappa ** 0.5, np.random.default_rng(0), Counter()
    for _ in range(8):
        pulls = rng.multinomial(10, prior, size=(1, 2))
        wins = rng.binomial(pulls, p)                                    # (1, groups, arms)
        arms = torch.tensor([a for g in range(2) for a in range(3) for _ in range(pulls[0, g, a])])
        rewards = torch.tensor([float(i < wins[0, g, a]) for g in range(2)
                                for a in range(3) for i in range(pulls[0, g, a])]).double()
        advantages = adapters.advantages("grpo", rewards.view(2, 10)).flatten()
        theta = theta.detach().requires_grad_()
        own = torch.zeros(20, dtype=torch.float64, requires_grad=True)   # one direction a pull
        logprobs = (kappa ** 0.5 * theta).log_softmax(-1)[arms] + rest[arms].sqrt() * own
        adapters.policy_loss(loss, logprobs, old.log()[arms], advantages).mean().backward()
        ratio = (logprobs - old.log()[arms]).exp()
        clipped["high"] += int(((ratio > 1.3) & (advantages > 0)).sum())
        clipped["low"] += int(((ratio < 0.8) & (advantages < 0)).sum())
        clipped["norm"] += int(torch.nn.utils.clip_grad_norm_([theta, own], max_norm) > max_norm)
        theta = theta - 3.0 * theta.grad
    assert clipped["high"] > 0 and clipped["low"] > 0 and (clipped["norm"] > 0) == (p > 0.5)
    found = bandit.first_arm(prior, 0.2, batches=1, samples=160, updates=8, p=p, group=10,
                             eps_high=0.3, loss=loss, lr=3.0, kappa=kappa, max_norm=max_norm,
                             rest=tuple(rest.tolist()), seeds=1)
    assert found.shape == (2, 1) and found[0, 0] == pytest.approx(0.5)
    assert found[1, 0] == pytest.approx((kappa ** 0.5 * theta).softmax(-1)[0].item(), abs=2e-5)


@pytest.mark.parametrize("eps, loss, rises", [(0.2, "grpo", True), (bandit.OFF, "grpo", False),
                                              (0.2, "grpo_masked", False)])
def test_which_clip_lifts(eps, loss, rises):
    """PPO's clip lifts a habit of 0.65 against seven rivals in nearly all of 40 seeds.

    In about half without a clip, and where the inward pushes go as well.
    """
    after = bandit.first_arm((0.65, *[0.05] * 7), eps, loss=loss, seeds=40)[-1]
    up = np.mean(after > 0.65)
    assert (after.mean() > 0.8 and up > 0.85) if rises else (after.mean() < 0.7 and up < 0.7)


@pytest.fixture(scope="module")
def played() -> dict:
    return {(name, eps): bandit.first_arm(prior, eps)
            for name, prior in bandit.BANDITS.items() for eps in (bandit.EPS, bandit.OFF)}


@pytest.mark.slow
def test_the_clip_feeds_the_largest_arm(played):
    """Up with the clip in nearly all seeds, in about half without.

    The smaller of two arms goes down, equal arms stay in the mean.
    """
    up = {case: np.mean(shares[-1] > shares[0]) for case, shares in played.items()}
    big = "0.65, 7 x 0.05"
    assert up[big, 0.2] > 0.9 > 0.6 > up[big, 1e9] and played[big, 0.2][-1].mean() > 0.85
    assert up["0.35, 0.65", 0.2] < 0.35
    assert abs(played["8 x 0.125", 0.2][-1].mean() - 0.125) < 0.06


@pytest.mark.slow
def test_the_page_shows_what_the_bandit_prints(played):
    below = PAGE.split("python -m lessons.clips.bandit\n", 1)[1]
    assert re.search(r"```text\n(.*?)\n```", below, re.DOTALL)[1] == bandit.tabulate(played)


@pytest.mark.slow
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
    monkeypatch.setattr("lessons.bandit.SEEDS", 3)
    monkeypatch.setattr(bandit, "BANDITS", {"two": (0.6, 0.4), "three": (0.2, 0.3, 0.5)})


@pytest.mark.slow
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
    matplotlib = pytest.importorskip("matplotlib")
    runs = {(name, eps): bandit.first_arm(prior, eps, batches=5)
            for name, prior in bandit.BANDITS.items() for eps in (0.2, 1e9)}
    with matplotlib.rc_context(report.STYLE):
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
    (tmp_path / "file").write_text("", encoding="utf-8")
    try:
        code = bandit.main([word.format(file=tmp_path / "file") for word in arguments])
    except SystemExit as exit:
        code = exit.code
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1 and error.startswith("python -m lessons.clips.")


# --- the grid

def flags_of(run: dict) -> tuple[str, str, str, str, int]:
    """What a run's own command really sets: base, reward, loss, flags as in runs.csv, seed."""
    words = write_train_command(run).split()[2:]
    args = vars(rlvr.build_parser().parse_args(words))
    assert args["eps"] is None and args.pop("command") == "train"
    config = rlvr.make_config(**args)
    flags = report.describe_flags(list_values(config))
    return config.base, config.reward, config.loss, flags, config.seed


@pytest.mark.slow
def test_the_grid_is_that_of_the_stored_runs():
    """By the flags that the commands set, not by the names of cells."""
    planned = Counter(map(flags_of, lesson.runs()))
    stored = Counter((run["base"], run["reward"], run["loss"], run["flags"], int(run["seed"]))
                     for run in report.read_results(FOLDER).runs)
    assert planned == stored
    assert planned.total() == len(planned) == 44 * 8 + 1 + 2 * 16
    assert len({key[2:4] for key in planned}) == 46 == len(lesson.list_cells()) - 1


def test_no_two_cells_share_their_coins():
    """A seed is in one cell alone: else a lucky one would lift several."""
    seeds = [run["seed"] for run in lesson.runs(seeds=20)]
    seeds += [seed for _, more in lesson.NORM_RUNS.values() for seed in more]
    assert len(set(seeds)) == len(seeds)


def test_the_twelve_cells_are_all_combinations():
    """{PPO clip, norm clip} x {on, off} x p, at one step size."""
    found = set()
    for flags in lesson.CELLS["lr 0.006"].values():
        used = list_values(rlvr.make_config(**flags))
        assert used["lr"] == 0.006 and (used["eps_low"] > 1e6) == (used["eps_high"] > 1e6)
        found.add((used["eps_low"] > 1e6, used["max_grad_norm"] > 1e6, used["p"]))
    assert found == {(ppo, norm, p) for ppo in (False, True) for norm in (False, True)
                     for p in (0.1, 0.5, 0.9)}


def test_seeds_and_quick():
    """p = 0 has one seed always; the quick grid is part of the full one, the default in it."""
    two, quick, full = lesson.runs(seeds=2), lesson.runs(quick=True), lesson.runs()
    assert len(two) == 44 * 2 + 1 + 2 * 4 and all(run in full for run in two)
    assert len([run for run in two if run.get("p") == 0]) == 1
    assert len(quick) == 12 and all(run in full for run in quick)
    assert len({flags_of(run)[3] for run in quick}) == 4 and "" in {flags_of(run)[3]
                                                                    for run in quick}
    assert len({locate_run(run) for run in full}) == len(full)


# --- the prediction

def test_the_bandit_of_a_cell_has_its_flags(monkeypatch):
    """Every flag that a cell changes arrives; `rest` is a response's norm less its opener's part.

    A bandit of 640 batches gives its share once in 32, as the curves of such a run do.
    """
    habit = Habit([0.6, 0.3], own=[120.0, 100.0], others=[10.0, 20.0],
                  norms={"code": 50.0, "text": 900.0})
    asked = {}

    def play(prior, eps, batches, samples, updates, p, **options):
        asked.update(options, prior=prior, eps=eps, sizes=(batches, samples, updates), p=p)
        return np.arange(2.0 * (batches + 1)).reshape(-1, 2)

    monkeypatch.setattr(lesson, "first_arm", play)
    paths = lesson.predict_paths({"lr": 0.006, "eps_low": 0.3, "eps_high": 1e9, "p": 0.1,
                                  "loss": "grpo_masked", "max_grad_norm": 7.0}, habit)
    assert paths == [[2.0 * t for t in range(21)], [2.0 * t + 1 for t in range(21)]]
    rest, prior = asked.pop("rest"), asked.pop("prior")
    assert prior == pytest.approx((2 / 3, 1 / 3))
    # kappa = 110 - 15; |onehot - pi|^2 = 2/9 and 8/9
    assert list(rest) == pytest.approx([50 - 95 * 2 / 9, 900 - 95 * 8 / 9])
    assert asked == {"eps": 0.3, "sizes": (20, 1024, 32), "p": 0.1, "group": 16, "eps_high": 1e9,
                     "loss": "grpo_masked", "lr": 0.006, "kappa": 95.0, "max_norm": 7.0,
                     "seeds": lesson.SEEDS}
    paths = lesson.predict_paths(lesson.FRESH, habit)
    assert asked["sizes"] == (640, 32, 1) and paths[1] == [64.0 * t + 1 for t in range(21)]


def test_the_bandit_of_a_cell_draws_norms(monkeypatch):
    """By mode: the first arm is code, the others are text; nothing is told besides."""
    asked = {}

    def play(*args, **options):
        asked.update(options)
        return np.ones((21, 1))

    monkeypatch.setattr(lesson, "first_arm", play)
    habit = Habit([0.6, 0.3, 0.05], [120.0], [20.0], {"code": 50.0, "text": 900.0})
    lesson.predict_paths({}, habit, {"code": [1.0, 2.0], "text": [30.0, 40.0]})
    assert [list(own) for own in asked["norms"]] == [[1.0, 2.0], [30.0, 40.0], [30.0, 40.0]]
    assert "rest" not in asked


def test_what_is_measured(monkeypatch, tmp_path):
    """The habit first, then every cell that SGD made, with either norms; then the norms."""
    habit = Habit([0.6, 0.3, 0.05], [120.0], [20.0], {"code": 50.0, "text": 900.0})
    one = 1 / (1 + math.exp(-1))
    drawn = {"code": [1.0, 3.0], "text": [10.0, 50.0]}

    def predict(flags, h, norms=None):
        told = norms and {mode: sorted(set(squares)) for mode, squares in norms.items()}
        moves = flags.get("p") == (0.1 if told == drawn else 0.9)
        return [[0.5, one]] * 2 if moves else [[0.5] * 2]

    monkeypatch.setattr(lesson, "measure_habit", lambda base: habit)
    monkeypatch.setattr(lesson, "predict_paths", predict)
    monkeypatch.chdir(tmp_path)
    for _, path, base in lesson.evidence_commands([]):
        path.parent.mkdir(parents=True)
        p = path.parents[1].name
        rows = [f"{step},0,{mode},0.6,{square if p == 'p-0.5' else 7}" for step in (0, 1)
                for mode in drawn for square in drawn[mode][step:step + 1]]
        path.write_text("step,update,mode,share,square\n" + "\n".join(rows), encoding="utf-8")
        assert base == "good-code"
    first, *rows = lesson.measure([])
    assert first == {"cell": "habit", "arms": 3, "share": 0.6, "kappa": 100.0, "norm_code": 50.0,
                     "norm_text": 900.0}
    names = [name for name, flags in lesson.list_cells().items()
             if flags.get("optimizer") != "adamw"]
    assert [row["cell"] for row in rows[:len(names)]] == names
    found = {row["cell"]: (row["drift"], row["base_drift"]) for row in rows[:len(names)]}
    assert found["neither, p 0.1"] == (pytest.approx(1), 0)
    assert found["neither, p 0.9"] == (0, pytest.approx(1))
    by_coin = rows[len(names):]
    assert by_coin[1] == {"cell": "norms, p 0.5", "mode": "text", "runs": 8, "rows": 16,
                          "mean": 30.0, "median": 30.0, "largest": 50.0}
    assert len(by_coin) == 8 and {row["mean"] for row in by_coin[2:]} == {7.0}


def test_each_run_of_norms_has_its_own_seed_and_file():
    """Commands that write what `measure` reads, of the coin and the seed in their names."""
    commands = lesson.evidence_commands([])
    assert len({path for _, path, _ in commands}) == len(commands) == 18
    for command, path, _ in commands:
        words = dict(zip(command.split()[3::2], command.split()[4::2]))
        assert words["--out"] == path.as_posix() and words["--threads"] == "1"
        lr = f"-lr-{words['--lr']}" if "--lr" in words else ""
        assert path.parts[-3:-1] == (f"p-{words['--p']}{lr}", f"seed{words['--seed']}")


# --- table and figure, from rows made by hand

NO_PPO = "--eps-low 1e+09 --eps-high 1e+09"
CELLS = {"default, p 0.5": (1, 3, 5), "eps 0.2": (0, 4), "default, p 0": (2,)}
CODE = [0.55, 0.65, 0.45, None, 0.95, 0.75]     # the fourth writes none
DRIFTS = {"default, p 0.5": 0.1, "eps 0.2": -0.3, "default, p 0": 0.0}
T = {2: 12.706, 3: 4.303}   # Student's, by seeds, from a printed table
NUMBERS = ["accuracy", "greedy_accuracy", "code_share", "kl_to_base", "accuracy_code", "entropy"]


def make_results(evidence=True) -> report.Results:
    """Three cells, mixed: every number differs from every other one."""
    rows, curves = [], {}
    eps = "--eps-low 0.2 --eps-high 0.2"
    cells = [(eps, 2), ("", 1), ("--p 0", 1), ("", 2), (eps, 1), ("", 3)]
    for i, (flags, seed) in enumerate(cells):
        row = {"base": "good-code", "reward": "random", "loss": "grpo", "flags": flags,
               "seed": float(seed), "clip_high": 0.01 + 0.001 * i, "clip_low": 0.02 + 0.003 * i,
               "gain_switch": 0.11 * i - 0.31, "gain_within": 0.05 - 0.017 * i}
        row["gain_total"] = row["gain_switch"] + row["gain_within"]
        for j, name in enumerate(NUMBERS):
            row[f"before_{name}"] = 0.3 + 0.05 * j + 0.0001 * i
            row[f"after_{name}"] = 0.31 + 0.061 * j + 0.013 * i * (j + 1)
        row["after_accuracy_code"] = CODE[i]
        rows.append(row)
        curves[i] = [{"code_share": 0.5, "approx_kl": 0.0999},
                     {"code_share": 0.5 + 0.02 * i, "approx_kl": 0.01}]
    curves[4][1]["approx_kl"] = 0.1001     # broken by its second batch
    cells = [{"cell": "habit", "arms": 8.0, "norm_code": 61.3, "norm_text": 762.7},
             *({"cell": name, "drift": value, "error": 0.001, "base_drift": value - 0.02}
               for name, value in DRIFTS.items()),
             *({"cell": "norms, p 0.5", "mode": mode, "runs": 8.0, "rows": 10.0 * k,
                "mean": 11.0 * k, "median": 12.0 * k} for k, mode in ((1, "code"), (2, "text")))]
    return report.Results(rows, curves, cells if evidence else [])


def expected_drift(name) -> tuple[float, float]:
    """Logits moved / batches, all seeds together, from 0.5 to the share after: two batches each.

    The broken run counts one batch, to what its second one sampled.
    """
    results, n = make_results(), len(CELLS[name])
    ends = [0.58 if i == 4 else results.runs[i]["after_code_share"] for i in CELLS[name]]
    batches = [1 if i == 4 else 2 for i in CELLS[name]]
    moved = [math.log(x / (1 - x)) for x in ends]
    drift = sum(moved) / sum(batches)
    squares = sum((m - drift * t) ** 2 for m, t in zip(moved, batches))
    return drift, math.sqrt(squares * n / max(1, n - 1)) / sum(batches)


def read_table(text: str) -> tuple[list[str], dict[str, list[str]]]:
    """Head and rows, by name; cells are told apart by where the columns of the head begin."""
    head, *lines = text.splitlines()
    starts = [match.start() for match in re.finditer(r"(?<!\S)\S+(?: \S+)*", head)]
    cut = [[line[a:b].strip() for a, b in zip([0, *starts], [*starts, None])] for line in lines]
    return [head[a:b].strip() for a, b in zip(starts, [*starts[1:], None])], {
        name: cells for name, *cells in cut}


def test_every_number_of_the_table():
    """Recomputed from the rows: a wrong column, sign, seed count or cell fails."""
    results = make_results()
    rows = results.runs
    tables = [read_table(text) for text in list(split_titled(lesson.table(results)).values())[:3]]
    heads, (drifts, ends, causes) = [head for head, _ in tables], [rows for _, rows in tables]
    assert heads == [["drift", "bandit", "base's norms", "code"],
                     ["gain", "switch", "within", "greedy", "in code", "broken"],
                     ["KL", "clip high", "clip low", "entropy"]]
    assert list(drifts) == list(ends) == list(causes) == ["before", *CELLS]
    assert drifts["before"] == ["", "", "", "0.40"]
    assert ends["before"] == ["", "", "", "", "0.50", ""]
    assert causes["before"] == ["", "", "", "0.550"]
    broken = {"default, p 0.5": "0 of 3", "eps 0.2": "1 of 2", "default, p 0": "0 of 1"}
    for name, chosen in CELLS.items():
        def values(column, scale=1, chosen=chosen):
            return [scale * rows[i][column] for i in chosen]
        several = len(chosen) > 1

        def spread(values, digits=1, sign="+"):
            return f"{mean(values):{sign}.{digits}f}" + (
                f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")
        drift, error = expected_drift(name)
        greedy = [a - b for a, b in zip(values("after_greedy_accuracy", 100),
                                        values("before_greedy_accuracy", 100))]
        code = [CODE[i] for i in chosen if CODE[i] is not None]
        assert drifts[name] == [
            f"{drift:+.3f}" + (f" ± {T[len(chosen)] * error:.3f}" if several else ""),
            f"{DRIFTS[name]:+.3f}", f"{DRIFTS[name] - 0.02:+.3f}",
            spread(values("after_code_share"), 2, "")]
        assert ends[name] == [
            spread(values("gain_total", 100)), f"{100 * mean(values('gain_switch')):+.1f}",
            f"{100 * mean(values('gain_within')):+.1f}", spread(greedy), spread(code, 2, ""),
            broken[name]]
        assert causes[name] == [
            f"{mean(values('after_kl_to_base')):.2f}",
            f"{100 * mean(values('clip_high')):.3f}%", f"{100 * mean(values('clip_low')):.3f}%",
            f"{mean(values('after_entropy')):.3f}"]


def test_split_runs_are_counted():
    """Runs that end at two places have no mean in the tables, and the share's interval is last."""
    results = report.read_results(FOLDER)
    tables = split_titled(lesson.table(results))
    ends = read_table(tables["What became of the runs, by cell"])[1]
    assert ends["no norm clip, p 0.5"][0] == "4 of 8 > -10"
    assert ends["default, p 0.1"][0] == "+26.6 ± 1.3"
    assert re.search(r"\n4 +16% to 84%", tables[report.BOUNDS])


def test_where_a_path_ends():
    """Before the batch that broke the model, be it the first."""
    curve = [{"code_share": 0.1 * i, "approx_kl": 0.0} for i in range(1, 5)]
    assert lesson.read_path(curve, {"after_code_share": 0.9}) == pytest.approx(
        [0.1, 0.2, 0.3, 0.4, 0.9])
    curve[2]["approx_kl"] = curve[3]["approx_kl"] = 0.5
    assert lesson.read_path(curve, {"after_code_share": 0.9}) == pytest.approx([0.1, 0.2, 0.3])
    curve[0]["approx_kl"] = 0.5
    assert lesson.find_break(curve) == 0 and lesson.read_path(curve, {"after_code_share": 0.9}) == [
        0.1]


def test_the_table_of_widths():
    """The formula, the bandit and the runs, for the widths that were run."""
    lines = [re.split(r"  +", line) for line in
             lesson.tabulate_walls(make_results()).splitlines()]
    shown = [f"{drift:+.3f} ± {T[len(CELLS[name])] * error:.3f}"
             for name in ("default, p 0.5", "eps 0.2") for drift, error in [expected_drift(name)]]
    assert lines == [["eps", "formula", "bandit", "runs"], ["0.4", "+0.201", "+0.100", shown[0]],
                     ["0.2", "+0.048", "-0.300", shown[1]]]


def test_the_table_of_agreement(monkeypatch):
    """Predictions beyond the interval's half and within; sign, distance from it, and per cent."""
    found = {"neither, p 0.1": (0.21, 0.02), "neither, p 0.5": (0.15, 0.1),
             "neither, p 0.9": (-0.1, 0.16), "eps 0.2": (0.0, 0.02), "default, p 0": (0.0, 0.0)}
    said = {"": {"neither, p 0.1": 0.2, "neither, p 0.5": 0.11, "neither, p 0.9": 0.1,
                 "eps 0.2": 0.3, "default, p 0": 0.0, "eps 0.1": 9.0},
            "base_": {"neither, p 0.1": -0.2}}
    monkeypatch.setattr(lesson, "estimate_drifts", lambda results: found)
    monkeypatch.setattr(lesson, "read_predictions", lambda results, norms: said[norms])
    lines = [re.split(r"  +", line) for line in
             lesson.tabulate_agreement(make_results()).splitlines()]
    assert lines == [["bandit's norms", "against the interval", "cells", "sign right", "inside it",
                      "within 25%"],
                     ["in a run", "more", "3", "2", "2", "1"],
                     ["in a run", "less", "1", "0", "0", "0"],
                     ["the base's", "more", "1", "0", "0", "0"]]


def test_the_table_of_norms():
    lines = [re.split(r"  +", line) for line in
             lesson.tabulate_norms(make_results().evidence).splitlines()]
    assert lines[1][:3] == ["before RL", "61", "763"]
    assert lines[2] == ["in a run, p 0.5", "8", "10", "11", "12", "20", "22", "24"]
    assert len(lines) == 3


def test_equal_cells_are_told_apart_by_their_seeds():
    """The runs that were the reason to look, and those that decide, are two rows."""
    runs = report.read_results(FOLDER).runs
    cells = lesson.sort_cells(runs)
    first, again = cells["default, p 0.9"], cells["default, p 0.9, again"]
    assert {run["flags"] for run in first + again} == {"--p 0.9"}
    assert (len(first), len(again)) == (8, 16)
    assert len({run["seed"] for run in first + again}) == 24
    assert "default, p 0.9, again" not in lesson.sort_cells(first)


def test_without_predictions_there_are_drifts():
    """--quick plays no bandit: no column, no table of agreement."""
    parts = lesson.table(make_results(evidence=False)).split("\n\n")
    assert len(parts) == 4 and "bandit" not in "".join(parts)


def test_no_run_is_left_out_silently():
    """A row of no cell is an error, not a missing line; the loss tells cells apart."""
    for change in ({"flags": "--p 0.3"}, {"loss": "dr_grpo"}):
        results = make_results()
        results.runs[2].update(change)
        with pytest.raises(KeyError):
            lesson.table(results)


def test_cells_stand_in_the_order_of_the_lesson():
    """Whatever the order of the runs; each with its own flags."""
    runs = report.read_results(FOLDER).runs
    cells = lesson.sort_cells(runs[::-1])
    assert list(cells) == list(lesson.list_cells())
    expected = {"default, p 0.5": "", "eps 0.2": "--eps-low 0.2 --eps-high 0.2",
                "upper bound only, p 0.5": "--eps-low 1e+09", "no weight": "",
                "norm's alone, p 0.1": f"--lr 0.006 {NO_PPO} --p 0.1",
                "adamw, lr 0.0001": "--optimizer adamw --lr 0.0001"}
    assert {name: {run["flags"] for run in cells[name]} for name in expected} == {
        name: {flags} for name, flags in expected.items()}
    assert {run["loss"] for run in cells["no weight"]} == {"grpo_unweighted"}


def test_the_figure_of_the_record():
    """A dot a cell at (bandit, runs), its interval two errors long, its colour that of its p."""
    plt = pytest.importorskip("matplotlib.pyplot")
    report.can_draw()
    results = make_results()
    results.runs[0]["flags"] = results.runs[4]["flags"] = "--p 0.1"
    results.evidence[2]["cell"] = "default, p 0.1"
    [axis] = lesson.record_figure(results).axes
    dots = {bar.lines[0].get_color(): (bar.lines[0].get_xydata()[0], bar.lines[2][0].get_segments())
            for bar in axis.containers}
    assert len(axis.containers) == 2          # p = 0 is one run, which has no interval
    for color, name, cell in ((report.GREY, "default, p 0.5", "default, p 0.5"),
                              (report.BLUE, "default, p 0.1", "eps 0.2")):
        (x, y), [segment] = dots[color]
        drift, error = expected_drift(cell)
        assert (x, y) == (DRIFTS[cell], pytest.approx(drift))
        half = T[len(CELLS[cell])] * error
        assert segment[:, 1] == pytest.approx([drift - half, drift + half], rel=1e-3)
        assert name in {text.get_text() for text in axis.texts}
    diagonal = [line for line in axis.lines if line.get_color() == "black"]
    assert [list(line.get_xdata()) == list(line.get_ydata()) for line in diagonal] == [True]
    plt.close("all")


# --- the page that teaches: its table, its figure

def test_the_summary_by_hand():
    """A row for each of SHOWN that was run, in its order, with flags, seeds, interval, bandit."""
    found = lesson.summary(make_results())
    drift = {name: expected_drift(name) for name in ("default, p 0.5", "eps 0.2")}
    shown = [f"{d:+.3f} ± {T[len(CELLS[name])] * error:.3f}" for name, (d, error) in drift.items()]
    assert found.rows == [
        ["clips that are on", "p", "step", "seeds", "drift in the runs", "predicted by the bandit"],
        ["both, eps 0.4", "0.5", "0.015", "3", shown[0], "+0.100"],
        ["both, eps 0.2", "0.5", "0.015", "2", shown[1], "-0.300"]]
    assert re.search(r"in 0 of 2 rows, with neither in 0 of 0; .* ± \d\.\d{3}\.$", found.sentence)
    without = lesson.summary(make_results(evidence=False)).rows
    assert without == [row[:5] for row in found.rows]


def test_what_the_summary_concludes():
    """The sign is known beyond the interval, on either side; a cell of one seed has no interval."""
    drifts = {"eps 0.2": (0.2, 0.1), "default, p 0.5": (-0.2, 0.1),
              "norm's alone, p 0.1": (0.1, 0.3), "neither, p 0.9": (0.05, 0.1)}
    assert lesson.conclude(drifts) == ("With a clip the interval leaves out 0 in 2 of 3 rows, with "
                                       "neither in 0 of 1; the widest is ± 0.300.")
    assert "path" in lesson.conclude({"eps 0.2": (0.2, 0.0)})


def read_quick(seeds: int) -> report.Results:
    """The first stored seeds of the quick grid's cells: what it makes, on our machine."""
    stored = report.read_results(FOLDER)
    cells = lesson.sort_cells(stored.runs)
    kept = [run for name in lesson.QUICK
            for run in sorted(cells[name], key=lambda run: run["seed"])[:seeds]]
    return report.Results(kept, dict(enumerate(report.curves_of(stored, kept))))


def test_the_page_shows_what_the_quick_grid_prints():
    """Four rows of three seeds, without a bandit; and one seed alone is no crash."""
    page = (FOLDER / "README.md").read_text("utf-8")
    found = lesson.summary(read_quick(3))
    assert {(run["flags"], int(run["seed"])) for run in read_quick(3).runs} == {
        flags_of(run)[3:] for run in lesson.runs(quick=True)}
    assert len(found.rows) == 5 and {row[3] for row in found.rows[1:]} == {"3"}
    assert f"```text\n{show_summary(found)}\n```" in page
    assert "of no drift is the sign known" in lesson.summary(read_quick(1)).sentence


def test_the_walls_are_those_of_the_bandit():
    """A batch, update by update, ends where first_arm ends: the same pulls, losses and steps."""
    for eps in (0.3, bandit.OFF):
        ratios = walls.walk(eps, lr=0.02, p=0.3, seeds=7)
        assert ratios.shape == (33, 7, 8) and (ratios[0] == 1).all()
        expected = first_arm(walls.SHARES, eps, 1, 1024, 32, p=0.3, lr=0.02, kappa=walls.KAPPA,
                             seeds=7)
        assert ratios[-1, :, 0] * 0.64 == pytest.approx(expected[-1], rel=1e-9)


def test_what_is_said_of_the_walls():
    """Who was beyond them, at any time, and what the habit's log-odds moved; by hand."""
    ratios = np.ones((3, 2, 8))
    ratios[1, 0, 1], ratios[2, 1, 2], ratios[1, 1, 2] = 1.5, 0.5, 1.5
    ratios[2, :, 0] = 1.25, 1.0      # 0.64 to 0.8
    high, low = walls.meet_walls(ratios, 0.4)
    assert [high[:, 1:].sum(), low[:, 1:].sum(), high[:, 0].any()] == [2, 1, False]
    moved = walls.move_odds(ratios)
    assert moved == pytest.approx([math.log(0.8 / 0.2) - math.log(0.64 / 0.36), 0])
    cells = [re.split(r"  +", line) for line in walls.tabulate({0.4: ratios}, 0.4).splitlines()]
    mean_log = (math.log(0.5)) / 14
    assert cells[1] == ["1 +- 0.4", "14%", "7%", "14%", "7%", f"{mean_log:+.3f}",
                        f"{math.log(1.25) / 2:+.3f}",
                        f"{moved.mean():+.3f} +- {12.706 * moved.std(ddof=1) / 2 ** 0.5:.3f}"]


def test_the_walls_are_told_what_was_measured():
    """The shares and the step of good-code before RL, as in evidence.csv."""
    habit = report.read_results(FOLDER).evidence[0]
    assert walls.SHARES[0] == pytest.approx(habit["share"], abs=0.005)
    assert len(walls.SHARES) == habit["arms"] and sum(walls.SHARES) == pytest.approx(1)
    assert walls.KAPPA == round(habit["kappa"])


@pytest.mark.slow
def test_the_command_of_the_walls(monkeypatch, tmp_path, capsys):
    """Prints the record's table, and draws; the figure has the drift of its table."""
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    assert walls.main([]) == 0
    printed = capsys.readouterr().out
    assert printed.endswith("\nwrote runs/walls.png\n")
    assert printed.removesuffix("\nwrote runs/walls.png\n") in PAGE
    canvas = lesson.figure(make_results())
    texts = [text.get_text() for axis in canvas.axes for text in axis.texts]
    assert {f"drift of the habit: {drift} a batch" for drift in ("+0.18", "−0.07")} <= set(texts)
    lines = [line for axis in canvas.axes[:2] for line in axis.lines
             if line.get_color() == "black"]
    assert sorted(line.get_ydata()[0] for line in lines) == [0.6, 0.6, 1.4, 1.4]


@pytest.mark.parametrize("lr", [0.006, 0.003])
def test_smaller_steps_on_the_record(lr):
    rows = walls.tabulate(walls.play(lr=lr), walls.EPS).splitlines()[1:]
    for name, row in zip(("1 +- 0.4", "none"), rows):
        cells = re.split(r"  +", row)
        assert re.search(rf"^{lr}  {re.escape(name)} +{cells[3]} +{re.escape(cells[-1])}$", PAGE,
                         re.MULTILINE)


def test_the_norm_clips_worked_numbers():
    """R^2, and what one paid answer of either mode does to the scale, at p = 0.1."""
    habit, p, n, largest = report.read_results(FOLDER).evidence[0], 0.1, 32, 3
    norms = {mode: round(habit[f"norm_{mode}"]) for mode in ("code", "text")}   # as printed
    mixed = 1 - p ** 16 - (1 - p) ** 16
    square = mixed * (0.64 * norms["code"] + 0.36 * norms["text"]) / n
    text, code = ((1 - p) / p * norms[mode] / n ** 2 for mode in ("text", "code"))
    unpaid = p / (1 - p) * norms["text"] / n ** 2
    said = [f"{mixed:.3f}", f"{square:.1f}", f"{square ** 0.5:.1f}", f"{text:.1f}",
            f"{square + text:.1f}", f"{(square + text) ** 0.5:.1f}",
            f"{largest / (square + text) ** 0.5:.1f}", f"{code:.1f}", f"{unpaid:.1f}"]
    assert said == ["0.815", "7.7", "2.8", "6.1", "13.8", "3.7", "0.8", "0.7", "0.1"]
    assert max(square + code, square + unpaid) < largest ** 2


# --- the record

def read_prose() -> str:
    """The page without its code, its minus signs as in the tables."""
    return re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL).replace("−", "-")


def test_the_drifts_in_the_prose_are_those_of_the_table():
    """Every 'drift ± error' is some cell's; but for one, of the paths that go on when broken."""
    results = report.read_results(FOLDER)
    known = {f"{drift:+.3f} ± {half:.3f}"
             for drift, half in lesson.estimate_drifts(results).values()}
    broken = lesson.sort_cells(results.runs)["neither, p 0.5"]
    paths = [[row["code_share"] for row in results.curves[i]] + [run["after_code_share"]]
             for i, run in enumerate(results.runs) if run in broken]
    drift, error = estimate_drift(paths)
    known.add(f"{drift:+.3f} ± {find_student(len(paths)) * error:.3f}")
    found = set(re.findall(r"[+-]0\.\d{3} ± 0\.\d{3}", read_prose()))
    assert len(found) > 20 and found <= known, found - known


def test_the_gains_in_the_prose_are_those_of_the_table():
    cells = lesson.sort_cells(report.read_results(FOLDER).runs).values()
    known = {report.show_spread(values) for cell in cells
             for values in (report.gains(cell), report.greedy_gains(cell))}
    found = set(re.findall(r"[+-]\d+\.\d ± \d+\.\d", read_prose()))
    assert len(found) >= 4 and found <= known, found - known


def test_the_page_counts_what_the_last_table_counts():
    table = lesson.tabulate_agreement(report.read_results(FOLDER)).splitlines()
    cells, signs, _, near = re.split(r"  +", table[1])[2:]
    text = " ".join(read_prose().split())
    assert f"has the sign of {signs} of the {cells} drifts" in text
    assert f"{near} of them within 25%" in text
