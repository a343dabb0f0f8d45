"""Lesson 10: the probe (lessons/probe/probe.py), its error rates (simulate.py), and the lesson."""

import doctest
import itertools
import json
import math
import os
import re
import subprocess
import sys
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import evaluation
import rewards
import rlvr
import run as keeper
from lessons import chance
from lessons.grid import write_pretrain_command
from lessons.probe import lesson, simulate
from lessons.probe import probe as prober
from lessons.report import Results, collect, format_csv, read_results
from plumbing.messages import InputError
from tests.helpers import read_rows, shrink_config, split_titled

ROOT = Path(rlvr.__file__).parent
FOLDER = ROOT / "lessons" / "probe"
TINY_BASE = {"steps": 8, "batch": 8, "layers": 1, "width": 16, "heads": 2, "threads": 1}
TINY_RUN = {"steps": 1, "prompts": 2, "group": 4, "updates": 2, "pool": 5, "max_new_tokens": 8,
            "eval_problems": 10, "eval_samples": 8, "lr": 0.5}
WAY = {"way": "T = 1", "accuracy": 0.25, "code_share": 0.5}
UP, FLAT, DOWN = 0.31, -0.02, -0.24  # gains, one for each outcome


@cache
def exact(k, n):
    """Clopper and Pearson's interval as quantiles of beta densities, integrated on a fine grid."""
    x = np.linspace(0, 1, 200_001)

    def quantile(a, b, q):
        density = x ** (a - 1) * (1 - x) ** (b - 1)
        mass = np.cumsum(density[1:] + density[:-1])
        return x[np.searchsorted(mass, q * mass[-1])]
    return (quantile(k, n - k + 1, 0.025) if k else 0.0,
            quantile(k + 1, n - k, 0.975) if k < n else 1.0)


cached_chance = cache(prober.chance)


def count(gains):
    """(lifts, flat, falls), in whole steps of a ten thousandth."""
    steps = [round(10_000 * gain) for gain in gains]
    lifts, falls = sum(step > 300 for step in steps), sum(step < -300 for step in steps)
    return lifts, len(steps) - lifts - falls, falls


def decide(gains):
    """The verdict by the numbers that the page has."""
    least = {5: 5, 8: 7, 9: 8, 16: 12}[len(gains)]
    won = [word for word, k in zip(("yes", "no", "harmful"), count(gains)) if k >= least]
    return won[0] if won else "unclear"


def walk(gains):
    """The first five of nine gains, or all nine: what a probe sees that may go on to nine."""
    return gains[:5] if max(count(gains[:5])) != 4 else gains


# --- the statistic


@pytest.mark.parametrize("gain, outcome", [
    (0.03, "flat"), (0.72 - 0.69, "flat"), (0.69 - 0.72, "flat"), (-0.03, "flat"), (0.0, "flat"),
    (97 / 3200, "lift"), (-97 / 3200, "fall"), (0.9, "lift"), (-0.9, "fall")])
def test_outcome_of_a_seed(gain, outcome):
    """Bounds are flat, and stay so in floating point; one answer of 3200 beyond them is not."""
    assert prober.classify_gain(gain) == outcome


def test_an_outcome_is_claimed_if_half_of_all_seeds_would_rarely_do_it():
    """By fractions, for each outcome and all counts up to 20: catches P(> k), a two-sided test, a
    point probability, < for <=, or two verdicts that changed places."""
    for n in range(1, 21):
        for k in range(n + 1):
            p = Fraction(sum(math.comb(n, i) for i in range(k, n + 1)), 2 ** n)
            for gain, verdict in ((UP, "yes"), (FLAT, "no"), (DOWN, "harmful")):
                rest = [other for other in (UP, FLAT, DOWN) if other != gain]
                gains = [gain] * k + list(itertools.islice(itertools.cycle(rest), n - k))
                assert (prober.judge(gains) == verdict) == (p <= Fraction(1, 20)), (k, n)
    claimed = [(k, n) for k, n in ((5, 5), (4, 5), (8, 9), (7, 9), (12, 16), (11, 16))
               if prober.judge([UP] * k + [DOWN] * (n - k)) == "yes"]
    assert claimed == [(5, 5), (8, 9), (12, 16)] and prober.LOOKS == (5, 9)


def test_when_four_more_seeds_follow():
    """All 243 sequences of five outcomes: never after a verdict, nor where none could come."""
    assert prober.wants_look([], 5)
    for gains in itertools.product((UP, FLAT, DOWN), repeat=5):
        assert prober.wants_look(list(gains), 9) == (max(map(gains.count, gains)) == 4)


@cache
def list_ends():
    """(lifts among nine, what a probe sees of them) for all 512 sequences of lifts and falls."""
    ends = []
    for gains in itertools.product((UP, DOWN), repeat=9):
        seen = []
        for look in (5, 9):
            if prober.wants_look(seen, look):
                seen = list(gains[:look])
        assert tuple(seen) == walk(gains)
        ends.append((gains.count(UP), seen))
    return ends


def weigh(p, measured):
    """The mean of `measured`(gains of a probe) where a seed lifts with chance p, else falls."""
    return sum(p ** lifts * (1 - p) ** (9 - lifts) * measured(seen) for lifts, seen in list_ends())


def test_error_rates():
    """Over all sequences, by fractions; the numbers in the docstring are these."""
    def rate(p):
        return weigh(p, lambda seen: prober.judge(seen) == "yes")
    assert rate(Fraction(1, 2)) == Fraction(1, 32) + Fraction(5, 32) * Fraction(1, 16)
    rates = [float(rate(p)) for p in (Fraction(8, 10), Fraction(9, 10), Fraction(95, 100))]
    assert rates == pytest.approx([0.495, 0.806, 0.940], abs=5e-4)
    text = prober.__doc__.replace("\n", " ")
    assert "by 4.1% of probes" in text and f"{float(rate(Fraction(1, 2))):.3f}" == "0.041"
    assert "80, 90 or 95% of them have by {:.0f}, {:.0f} and {:.0f}%".format(
        *(100 * rate for rate in rates)) in text


def test_interval_of_a_chance():
    """By the equations that define it, the tails by convolution; and against the beta quantiles.

    Catches one tail of 5%, a bound that leaves out k itself, or bounds that changed places.
    """
    def distribution(n, p):
        masses = np.ones(1)
        for _ in range(n):
            masses = np.convolve(masses, [1 - p, p])
        return masses
    for n in (1, 5, 9, 16):
        for k in range(n + 1):
            low, high = prober.chance(k, n)
            assert (low, high) == pytest.approx(exact(k, n), abs=1e-5)
            assert low == 0 if k == 0 else (
                distribution(n, low)[k:].sum() == pytest.approx(0.025, abs=1e-9))
            assert high == 1 if k == n else (
                distribution(n, high)[:k + 1].sum() == pytest.approx(0.025, abs=1e-9))
    assert prober.chance(5, 5) == pytest.approx((0.025 ** 0.2, 1))


def test_the_interval_covers_under_the_rule():
    """Stopping at five or nine costs no coverage: at least 96%, at each chance and beside each end
    of an interval, where coverage jumps."""
    lifts = np.array([lifts for lifts, _ in list_ends()])
    low, high = np.array([cached_chance(seen.count(UP), len(seen)) for _, seen in list_ends()]).T
    ends = {bound for n in (5, 9) for k in range(n + 1) for bound in exact(k, n)}
    chances = [*np.linspace(0.01, 0.99, 99), *(end + step for end in ends if 0 < end < 1
                                               for step in (-1e-4, 1e-4))]
    coverage = [((low <= p) & (p <= high)) @ (p ** lifts * (1 - p) ** (9 - lifts))
                for p in chances]
    assert min(coverage) == pytest.approx(0.968, abs=1e-3)
    assert "96% of probes or more" in prober.__doc__


# --- the simulation


@pytest.mark.parametrize("p", [0.5, 0.9, 0.99])
def test_simulated_rule_is_that_of_all_sequences(p):
    """Catches a weight of a path that is off, or a path that goes on after its verdict."""
    rates = simulate.rate_rule(p)
    for verdict in ("yes", "harmful", "unclear"):
        expected = weigh(p, lambda seen, verdict=verdict: decide(seen) == verdict)
        assert rates[verdict] == pytest.approx(expected, abs=1e-12)
    assert rates["seeds"] == pytest.approx(weigh(p, len))
    assert rates["holds"] == pytest.approx(weigh(p, lambda seen: (
        exact(count(seen)[0], len(seen))[0] <= p <= exact(count(seen)[0], len(seen))[1])))


def test_students_interval_covers_normal_gains_and_fewer_of_two_peaks(monkeypatch):
    """Two peaks at 1/2: it misses only if all seeds agree. One peak: 95%, which catches a wrong
    quantile or the standard deviation of a population."""
    for seeds in (3, 5):
        assert simulate.cover_mean(0.5, seeds) == pytest.approx(1 - 2 / 2 ** seeds, abs=0.01)
        assert simulate.cover_mean(0.9, seeds) < 0.6
    monkeypatch.setattr(simulate, "DOWN", simulate.UP)
    for seeds in (3, 5):
        assert simulate.cover_mean(0.9, seeds) == pytest.approx(0.95, abs=0.005)


def test_simulation_prints_a_row_for_each_chance(capsys):
    assert simulate.main([]) == 0
    printed = capsys.readouterr().out.partition("next: ")[0].strip()
    (head, *rows), = split_table(f"Rates\n{printed}")
    assert head == ["chance of a lift", "yes", "harmful", "unclear", "seeds", "interval holds",
                    "t of 3 holds", "t of 5 holds"]
    assert [float(row[0]) for row in rows] == [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]
    for row in rows:
        rates = simulate.rate_rule(float(row[0]))
        names = "yes", "harmful", "unclear", "seeds", "holds"
        assert list(map(float, row[1:6])) == pytest.approx([rates[name] for name in names],
                                                           abs=0.006)
        assert float(row[1]) + float(row[2]) + float(row[3]) == pytest.approx(1, abs=2e-3)
        for seeds, cell in zip((3, 5), row[6:]):
            assert cell == f"{simulate.cover_mean(float(row[0]), seeds):.3f}"


# --- the command


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("base") / "tiny-0.4.pt"
    rlvr.pretrain(rlvr.PretrainConfig(out=str(path), **TINY_BASE))
    return path


@pytest.fixture
def tiny_runs(monkeypatch):
    """Runs of one batch; an answer counts as right by its length, so that gains differ."""
    monkeypatch.setattr(evaluation, "is_correct", lambda _, response: len(response) % 2 == 0)
    monkeypatch.setattr(rlvr, "TrainConfig", shrink_config(**TINY_RUN))


def read_runs(folder: Path, seeds) -> list[dict]:
    return [json.loads((folder / f"seed{seed}/summary.json").read_text("utf-8")) for seed in seeds]


@pytest.mark.slow
def test_probe(base, tmp_path, monkeypatch, capsys, tiny_runs):
    """What is printed and written is that of the runs, all on the probe split; once more trains
    nothing and prints the same; the folder is refused to another checkpoint."""
    splits = []
    for module in (evaluation, keeper):
        def draw(n, split, *more, original=module.draw_problems, **named):
            splits.append(split)
            return original(n, split, *more, **named)
        monkeypatch.setattr(module, "draw_problems", draw)
    elicited, original = [], prober.elicit

    def elicit(*arguments):
        elicited.append(elicited[0] if elicited else original(*arguments))
        return elicited[-1]
    monkeypatch.setattr(prober, "elicit", elicit)
    out = tmp_path / "probe"
    command = [str(base), "--seed", "7", "--threads", "1", "--out", str(out)]
    assert prober.main(command) == 0
    first = capsys.readouterr().out.partition("\nwrote ")[0]
    result = json.loads((out / "probe.json").read_text("utf-8"))
    seeds = list(range(7, 7 + len(result["gains"])))
    runs = read_runs(out, seeds)
    assert set(splits) == {"training", "probe"}
    assert [(run["seed"], run["reward"]) for run in runs] == [(seed, "random") for seed in seeds]
    gains = [run["gain"]["total"] for run in runs]
    assert len(set(gains)) > 1
    assert len(gains) == (9 if max(count(gains[:5])) == 4 else 5) == len(list(out.glob("seed*")))
    assert result["untrained"] == {row.pop("way"): row for row in map(dict, elicited[0])}
    assert result["gains"] == gains and result["seeds"] == seeds
    assert result["accuracies"] == [run["after"]["accuracy"] for run in runs]
    assert result["gain"] == pytest.approx(np.mean(gains))
    check_outcomes(result["outcomes"], gains)
    assert result["latent"] == decide(gains) and result["before"] == runs[0]["before"]
    for key in ("accuracy", "code_share", "text_share"):
        assert result["after"][key] == pytest.approx(np.mean([r["after"][key] for r in runs]))
    check_report(first, result, runs)
    monkeypatch.setattr(rlvr, "rollout", lambda *_: pytest.fail("trains again"))
    assert prober.main(command) == 0
    assert capsys.readouterr().out.partition("\nwrote ")[0] == first
    other = tmp_path / "other.pt"
    rlvr.pretrain(rlvr.PretrainConfig(out=str(other), **TINY_BASE | {"steps": 1}))
    capsys.readouterr()
    assert prober.main([str(other), *command[1:]]) == 2
    assert "another checkpoint" in capsys.readouterr().err
    assert json.loads((out / "probe.json").read_text("utf-8")) == result


def check_outcomes(outcomes: dict, gains: list[float]) -> None:
    """Seeds, interval of the chance and mean of each; None in the place of the mean of no seed."""
    assert list(outcomes) == ["lift", "flat", "fall"]
    for (name, row), k in zip(outcomes.items(), count(gains)):
        assert row["seeds"] == k and row["chance"] == pytest.approx(exact(k, len(gains)), abs=1e-5)
        own = [gain for gain in gains if prober.classify_gain(gain) == name]
        assert row["mean"] == (pytest.approx(np.mean(own)) if own else None)


def list_lines(gains: list[float]) -> list[str]:
    """What the report says about the outcomes."""
    groups = {"above +3 points": lambda gain: gain > 0.0300001,
              "within 3 points": lambda gain: abs(gain) <= 0.0300001,
              "below -3 points": lambda gain: gain < -0.0300001}
    lines = []
    for name, belongs in groups.items():
        own = list(filter(belongs, gains))
        if own:
            low, high = exact(len(own), len(gains))
            lines.append(f"{name} on {len(own)} of {len(gains)} seeds (chance {low:.2f} to "
                         f"{high:.2f}), {100 * np.mean(own):+.1f} in the mean")
    return lines


def check_report(text: str, result: dict, runs: list[dict]) -> None:
    """Every number on it, from the runs and probe.json."""
    ways, rest = text.split("\n\nrandom reward\n")
    head, *rows = (re.split(r"\s{2,}", line) for line in ways.splitlines())
    assert head == ["as it is", "accuracy", "code share"] and len(rows) == 9
    for name, accuracy, *share in rows:
        numbers = result["untrained"][name]
        assert accuracy == f"{numbers['accuracy']:.3f}"
        expected = numbers["code_share"]
        assert share == ([] if expected is None else [f"{expected:.2f}"])
    mean = {key: np.mean([run["after"][key] for run in runs])
            for key in ("accuracy", "code_share", "text_share")}
    names = [f"seed {run['seed']}:" for run in runs] + ["mean:  "]
    for line, name, after in zip(rest.splitlines(), names, [*(r["after"] for r in runs), mean]):
        before = runs[0]["before"]
        assert line == (f"{name} accuracy {before['accuracy']:.3f} -> {after['accuracy']:.3f}, "
                        f"code {before['code_share']:.2f} -> {after['code_share']:.2f}, "
                        f"text {before['text_share']:.2f} -> {after['text_share']:.2f}")
    assert rest.splitlines()[len(names):] == [*list_lines(result["gains"]),
                                              f"latent: {result['latent']}"]


@pytest.mark.parametrize("gains, seeds, latent", [
    ([0.2, 0.2, 0.21, 0.2, 0.3], 5, "yes"), ([0.0, 0.01, -0.01, 0.02, 0.03], 5, "no"),
    ([-0.2, -0.1, -0.3, -0.04, -0.1], 5, "harmful"), ([0.2, 0.2, 0.2, -0.3, 0.01], 5, "unclear"),
    ([0.4, -0.3, 0.4, -0.3, 0.4], 5, "unclear"),
    ([0.4, 0.4, -0.3, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4], 9, "yes"),
    ([0.4, 0.4, -0.3, 0.4, 0.4, 0.4, 0.02, 0.4, 0.4], 9, "unclear"),
    ([-0.2, -0.2, 0.0, -0.2, -0.2, -0.2, -0.2, -0.2, -0.2], 9, "harmful"),
    ([0.02, 0.01, 0.0, -0.09, 0.0, 0.0, 0.0, 0.01, 0.01], 9, "no")])
def test_five_seeds_or_nine(base, tmp_path, monkeypatch, capsys, gains, seeds, latent):
    """What the rule asks for is run, in order, and no more; the report has a line for each outcome
    that happened. Nine gains where five are enough would be a run too many."""
    ran, out = [], tmp_path / "probe"

    def flip(config, seed, folder):
        assert folder == out
        state = {"accuracy": 0.4, "code_share": 0.5, "text_share": 0.5}
        ran.append(seed)
        return {"seed": seed, "before": state, "after": state,
                "gain": {"total": gains[seed - 3]}}
    monkeypatch.setattr(prober, "flip_coins", flip)
    monkeypatch.setattr(prober, "elicit", lambda *_: [WAY])
    assert prober.main([str(base), "--seed", "3", "--out", str(out)]) == 0
    assert ran == list(range(3, 3 + seeds)) and len(gains) == seeds
    result = json.loads((out / "probe.json").read_text("utf-8"))
    lines, _, written = capsys.readouterr().out.partition("\nwrote ")
    assert written.startswith(f"{out.as_posix()}/probe.json\nnext: ")
    assert result["latent"] == latent and result["gain"] == pytest.approx(np.mean(gains))
    check_outcomes(result["outcomes"], gains)
    assert lines.splitlines()[-1] == f"latent: {latent}"
    own = list_lines(gains)
    assert lines.splitlines()[-1 - len(own):-1] == own


def test_the_runs_can_be_made_again_by_their_command(base, tmp_path, monkeypatch, tiny_runs):
    """config.json has a command that leads to the same flags; the default folder is the
    checkpoint's name and -probe, a dot in it being no suffix."""
    ran = []

    def stop(config, command):
        ran.append((config, command))
        raise KeyboardInterrupt
    monkeypatch.setattr(rlvr, "train", stop)
    monkeypatch.setattr(prober, "elicit", lambda *_: [WAY])
    assert prober.main([str(base), "--seed", "9", "--threads", "1", "--device", "cpu"]) == 130
    (config, command), = ran
    words = command.split()
    assert words[:3] == ["python", "rlvr.py", "train"]
    monkeypatch.undo()
    args = vars(rlvr.build_parser().parse_args(words[2:]))
    for name in ("base", "reward", "eval_split", "seed", "out", "threads", "device"):
        assert args[name] == getattr(config, name), name
    assert (config.reward, config.eval_split, config.seed) == ("random", "probe", 9)
    assert config.out == str(base.with_name("tiny-0.4-probe") / "seed9") and config.threads == 1


@pytest.mark.parametrize("latent, code, accuracy, line", [
    ("harmful", 0.2, (0.30, 0.95, 0.10), "forced code is right 65 points"),
    ("unclear", 0.7, (0.30, 0.95, 0.40), "forced words is right 10 points"),
    ("no", 0.2, (0.30, 0.32, 0.90), None),
    ("yes", 0.2, (0.30, 0.95, 0.10), None)])
def test_a_skill_that_is_not_the_habit(latent, code, accuracy, line):
    """The rarer opener is looked at, and only where the coin flip did not bring it out."""
    gains = {"harmful": [-0.2] * 5, "unclear": [0.3, -0.3, 0.1], "no": [0.0, 0.001] * 3,
             "yes": [0.2] * 6}[latent]
    names = "T = 1", "forced code", "forced words"
    ways = [{"way": n, "accuracy": a, "code_share": code} for n, a in zip(names, accuracy)]
    state = {"accuracy": 0.3, "code_share": code}
    runs = [{"seed": 1, "gain": {"total": gain}, "before": state, "after": state}
            for gain in gains]
    result = prober.summarize(Path("x.pt"), ("code",), ways, runs)
    last = prober.show_verdict(result, ("code",)).splitlines()[-1]
    assert result["latent"] == latent
    assert last.startswith(f"though {line}") if line else last == f"latent: {latent}"


@pytest.mark.parametrize("arguments, message", [
    ([], "required"), (["none.pt"], "cannot read checkpoint"), (["."], "cannot read"),
    (["BASE", "--seeds", "5"], "unrecognized"),
    (["BASE", "--seed", "4294967288"], "at most 4294967287"),
    (["BASE", "--seed", "-1"], "at least 0"), (["BASE", "--threads", "0"], "at least 1"),
    (["BASE", "--device", "tpu"], "invalid choice"), (["BASE", "--out", "BASE"], "cannot write"),
    (["BASE", "--steps", "3"], "unrecognized")])
def test_bad_input_is_one_line(base, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    arguments = [str(base) if word == "BASE" else word for word in arguments]
    try:
        code = prober.main(arguments)
    except SystemExit as exit:
        code = exit.code
    output = capsys.readouterr()
    assert code == 2 and not output.out and not list(tmp_path.iterdir())
    assert len(output.err.splitlines()) == 1 and message in output.err


@pytest.mark.slow
def test_the_command_works_from_anywhere(tmp_path):
    """`python -m lessons.probe` is __main__.py, in any folder; nothing is left behind."""
    done = subprocess.run([sys.executable, "-m", "lessons.probe", "none.pt"], cwd=tmp_path,
                          env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True,
                          encoding="utf-8")
    assert done.returncode == 2 and not done.stdout and not list(tmp_path.iterdir())
    assert done.stderr.splitlines() == ["python -m lessons.probe: error: cannot read checkpoint "
                                        "none.pt: No such file or directory"]


# --- the grid


def test_bases():
    """The 16 names, and the flags that some of them say."""
    assert set(lesson.BASES) == {
        *(f"good-code-prior{p}" for p in (0.1, 0.3, 0.4, 0.6)),
        *(f"good-code-prior{p}-openers1" for p in (0.2, 0.5, 0.6, 0.8)),
        "good-code", "no-code", "bad-code", "good-code-seed3", "no-code-seed3", "bad-code-seed3",
        "bad-code-prior0.35", "good-code-steps200"}
    assert len(lesson.BASES) == 16 and set(lesson.KNOWN + lesson.MIRRORED) <= set(lesson.BASES)
    for name, flags in {
            "good-code-prior0.2-openers1": "--base good-code --code-prior 0.2 --text-openers 1",
            "bad-code-prior0.35": "--base bad-code --code-prior 0.35",
            "no-code-seed3": "--base no-code --seed 3",
            "good-code-steps200": "--base good-code --steps 200"}.items():
        command = write_pretrain_command(name, lesson.BASES[name])
        assert command == f"python rlvr.py pretrain {flags} --out runs/bases/{name}.pt"


def test_runs():
    """All bases with the coin, three with its mirror, the same seeds; none is the probe's."""
    runs = lesson.runs()
    assert all(set(run) == {"base", "reward", "seed"} for run in runs)
    cells = [(run["base"], run["reward"]) for run in runs]
    wanted = [*((base, "random") for base in lesson.BASES),
              *((base, "not_random") for base in (
                  "good-code-prior0.4", "good-code-prior0.5-openers1",
                  "good-code-prior0.6-openers1"))]
    assert cells == [cell for cell in wanted for _ in range(16)]
    assert [run["seed"] for run in runs] == list(range(1, 17)) * 19
    assert len(lesson.runs(seeds=5)) == 5 * 19
    assert {run["seed"] for run in lesson.runs(seeds=100)} == set(range(1, 101))
    assert lesson.FIRST_SEED == 101


def test_runs_are_those_of_the_stored_results():
    stored = read_results(FOLDER)
    assert [(row["base"], row["reward"], row["seed"], row["flags"]) for row in stored.runs] == [
        (run["base"], run["reward"], run["seed"], "") for run in lesson.runs()]
    for base in lesson.BASES:
        coins = [row for row in stored.evidence if row["base"] == base and row["way"][:4] == "coin"]
        assert [row["way"] for row in coins] == [f"coin, seed {101 + i}" for i in range(len(coins))]
        gains = [row["gain"] for row in coins]
        assert len(coins) == (9 if max(count(gains[:5])) == 4 else 5)


def test_quick_runs_and_seeds_without_a_verdict():
    assert [(run["base"], run["reward"], run["seed"]) for run in lesson.runs(quick=True)] == [
        (base, "random", seed) for base in ("good-code", "no-code") for seed in (1, 2, 3, 4, 5)]
    for seeds in (1, 4, 101):
        with pytest.raises(InputError, match="5 to 100"):
            lesson.runs(seeds=seeds)


def test_the_mirrored_coin_pays_the_rest(base, tmp_path, tiny_runs):
    """`not_random` with the same seed: the same answers in the first batch, paid 1 - r each.

    Catches another stream of coins, or of prompts, for another reward's name.
    """
    rows = []
    for reward in ("random", "not_random"):
        out = tmp_path / reward
        rlvr.train(rlvr.TrainConfig(base=str(base), reward=reward, seed=5, out=str(out), threads=1))
        rows.append(read_rows(out)[0])
    coin, mirror = (float(row["reward"]) for row in rows)
    assert coin + mirror == pytest.approx(1, abs=1e-6) and coin != 0.5
    assert rows[0]["accuracy"] == rows[1]["accuracy"] and rows[0]["entropy"] == rows[1]["entropy"]
    context = [rewards.Context(4, [None] * 64, np.random.default_rng(3)) for _ in range(2)]
    paid = [np.array(rewards.build_reward(name).score([None] * 64, [""] * 64, c))
            for name, c in zip(("random", "not_random"), context)]
    assert paid[0].tolist() == (1 - paid[1]).tolist() and 0 < paid[0].mean() < 1


# --- measure


def test_measure(tmp_path, monkeypatch, base, tiny_runs):
    """The probe's rows in the stored format, from seeds of its own in a folder of its own.

    A finished probe is read, and that of another checkpoint refused.
    """
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        path = tmp_path / f"runs/bases/{name}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base.read_bytes())
    runs = [{"base": name, "reward": "random", "seed": seed} for name in ("one", "two")
            for seed in (1, 2)]
    stored = read_results(FOLDER).evidence
    ways = [row["way"] for row in stored if row["base"] == stored[0]["base"]
            and not row["way"].startswith("coin")]
    monkeypatch.setattr(prober, "elicit", lambda *_: [
        {"way": way, "accuracy": i / 20, "code_share": None if "majority" in way else i / 30}
        for i, way in enumerate(ways, 1)])
    commands = lesson.evidence_commands(runs)
    assert commands == [
        (f"python -m lessons.probe {name} --seed 101 --threads 1 --out runs/{name}/probe",
         Path(f"runs/{name}/probe/probe.json"), name) for name in ("one", "two")]
    for command, made, _ in commands:
        assert prober.main(command.split()[3:]) == 0 and made.exists()
    rows = lesson.measure(runs)
    assert list(stored[0]) == format_csv(rows).splitlines()[0].split(",")
    ran = {name: json.loads(Path(f"runs/{name}/probe/probe.json").read_text("utf-8"))["seeds"]
           for name in ("one", "two")}
    assert [(row["base"], row["way"]) for row in rows] == [
        (name, way) for name, seeds in ran.items()
        for way in [*ways, *(f"coin, seed {seed}" for seed in seeds)]]
    assert len(ways) == 9 and all(seeds[0] == 101 for seeds in ran.values())
    for row in rows:
        folder = Path("runs", row["base"], "probe")
        if row["way"].startswith("coin"):
            run, = read_runs(folder, [row["way"].removeprefix("coin, seed ")])
            assert (row["accuracy"], row["gain"], row["before"]) == (
                run["after"]["accuracy"], run["gain"]["total"], run["before"]["accuracy"])
            assert "code_share" not in row
        else:
            untrained = json.loads((folder / "probe.json").read_text("utf-8"))["untrained"]
            assert {row["way"]: untrained[row["way"]]} == {
                row["way"]: {key: row[key] for key in ("accuracy", "code_share")}}
            assert "gain" not in row
    Path("runs/bases/two.pt").write_bytes(base.read_bytes() + b" ")
    with pytest.raises(InputError, match="another checkpoint"):
        lesson.measure(runs)


def test_a_name_with_a_dot_stays_whole(base, tmp_path, tiny_runs):
    """good-code-prior0.3 is not good-code-prior0 in runs.csv: it groups the bases."""
    rlvr.train(rlvr.TrainConfig(base=str(base), out=str(tmp_path / "run"), threads=1))
    assert collect([tmp_path / "run"]).runs[0]["base"] == "tiny-0.4"


# --- the table and the figure


SWING = (0.30, -0.30, 0.10, 0.26, -0.22)
CASES = {  # base: (T = 1, greedy, forced code), the probe's gains, the other seeds' gains
    "up-down": ((0.11, 0.22, 0.33), (0.20, 0.21, 0.24, 0.19, 0.22), (*SWING, 0.31, 0.29, -0.3)),
    "up-up": ((0.12, 0.23, 0.34), (0.10, 0.11, 0.15, -0.30, 0.12, 0.13, 0.11, 0.09, 0.14),
              (0.11, 0.12, 0.13, 0.09, 0.14, 0.15, 0.16, 0.02)),
    "good-code": ((0.13, 0.24, 0.35), (0.30, 0.31, 0.32, 0.33, 0.34), (0.37, 0.36) * 4),
    "none": ((0.14, 0.25, 0.36), (0.000, 0.002, 0.005, -0.03, 0.03), (0.010, 0.012) * 4),
    "down": ((0.15, 0.26, 0.37), (-0.20, -0.22, -0.27, -0.21, -0.19), (-0.18, -0.29) * 4),
    "chance": ((0.16, 0.27, 0.38), (0.25, -0.35, 0.05, 0.02, 0.27), (-0.18, -0.19) * 4)}
VERDICTS = {"up-down": ("yes", "unclear"), "up-up": ("yes", "yes"), "good-code": ("yes", "yes"),
            "none": ("no", "no"), "down": ("harmful", "harmful"), "chance": ("unclear", "harmful")}
MIRRORS = {  # base: gains of seeds 1, 2, ... under r, and under 1 - r
    "apart": ((0.40, -0.30, 0.42, -0.31, 0.41), (-0.31, 0.41, -0.28, 0.39, -0.25)),
    "alike": ((0.40, -0.30, 0.42, -0.31), (0.41, -0.33, 0.02, 0.44)),
    "sure": ((0.30, 0.31, 0.33), (0.32, 0.29, 0.35))}


def make_results(cases=CASES) -> Results:
    runs, evidence = [], []
    for base, (ways, probed, others) in cases.items():
        runs += [{"base": base, "reward": "random", "seed": i, "gain_total": gain,
                  "gain_switch": 9.0, "gain_within": 9.0, "before_accuracy": 0.9,
                  "after_accuracy": 0.8} for i, gain in enumerate(others, 1)]
        names = "T = 1", "T = 0.7", "greedy", "majority of 8", "forced code", "forced words"
        numbers = ways[0], 0.91, ways[1], 0.92, ways[2], 0.93
        evidence += [{"base": base, "way": name, "accuracy": number, "code_share": 0.94,
                      "gain": None, "before": None} for name, number in zip(names, numbers)]
        evidence += [{"base": base, "way": f"coin, seed {101 + i}", "accuracy": 0.95,
                      "code_share": None, "gain": gain, "before": 0.96}
                     for i, gain in enumerate(probed)]
    return Results(runs, {}, evidence)


def add_mirrors(results: Results) -> Results:
    """Runs of the mirrored coin, from the last seed to the first; one has no counterpart."""
    def row(base, reward, seed, gain):
        return {"base": base, "reward": reward, "seed": float(seed), "gain_total": gain}
    runs = list(results.runs)
    for base, (coin, mirror) in MIRRORS.items():
        runs += [row(base, "random", i, gain) for i, gain in enumerate(coin, 1)]
        rest = [row(base, "not_random", i, gain) for i, gain in enumerate(mirror, 1)]
        runs += [row(base, "not_random", 99, -0.9), *reversed(rest)]
    return results._replace(runs=runs)


def split_table(text: str) -> list[list[list[str]]]:
    return [[re.split(r"\s{2,}", line) for line in part.splitlines()]
            for part in split_titled(text).values()]


def test_table():
    """Every cell from the hand-made rows; what was known before is shown and not counted."""
    (head, *rows, note), (*confusion, held, more) = split_table(lesson.table(make_results()))
    assert head == ["base", "T = 1", "greedy", "forced", "probe", "others", "chance of a lift"]
    assert note[0].startswith("lifts/flat/falls and the verdict; *: known before")
    for row, (base, (ways, *gains)) in zip(rows, CASES.items()):
        name = "good-code *" if base == "good-code" else base
        probed, others = ("{}/{}/{} ".format(*count(values)) + verdict
                          for values, verdict in zip(gains, VERDICTS[base]))
        lifts, total = count(gains[1])[0], len(gains[1])
        share = "{:.2f} ({:.2f}-{:.2f})".format(lifts / total, *exact(lifts, total))
        assert row == [name, *(f"{way:.2f}" for way in ways), probed, others, share]
    assert len(rows) == len(CASES) and rows[0][4:6] == ["5/0/0 yes", "5/0/3 unclear"]
    assert [row[6] for row in rows[1:3]] == ["0.88 (0.47-1.00)", "1.00 (0.63-1.00)"]
    order = ["yes", "no", "harmful", "unclear"]
    assert confusion[0] == ["probe \\ others", *order]
    assert [row[0] for row in confusion[1:]] == order
    pairs = [VERDICTS[base] for base in CASES if base != "good-code"]
    for ours, *counts in confusion[1:]:
        assert counts == [str(pairs.count((ours, theirs))) for theirs in order]
    inside = []
    for base, (_, ours, others) in CASES.items():
        low, high = exact(count(ours)[0], len(ours))
        inside += [low <= count(others)[0] / len(others) <= high] if base != "good-code" else []
    assert inside == [True, True, True, True, False]
    assert " ".join(held + more) == (
        "the probe's interval for the chance of a lift holds the share of lifts among the other "
        "seeds on 4 of 5 bases; the 5 probes took 29 seeds")


def test_a_gain_or_share_at_the_end_of_an_interval_is_inside():
    """All lift, here and there: a share of 1 is in the interval up to 1."""
    assert lesson.Case("b", {}, [UP] * 5, [UP] * 16).holds
    assert lesson.Case("b", {}, [DOWN] * 5, [FLAT] * 16).holds
    assert not lesson.Case("b", {}, [UP] * 5, [UP] * 7 + [DOWN] * 9).holds


def test_table_without_the_probe():
    """--quick measures nothing: the other seeds stand alone, and nothing is counted."""
    (head, *rows, _), = split_table(lesson.table(make_results()._replace(evidence=[])))
    assert head == ["base", "others", "chance of a lift"] and len(rows) == len(CASES)
    assert rows[4][:2] == ["down", "0/0/8 harmful"]


def test_mirrored_coins():
    """Pairs are of one seed; the mirror is no case of the other tables. Catches rows paired in the
    order in which they stand, and a seed without its counterpart."""
    results = add_mirrors(make_results())
    text = lesson.table(results)
    *rest, (head, *rows) = split_table(text)
    assert head == ["base, r and 1 - r", "seeds", "correlation of gains", "same outcome",
                    "variance of a pair"]
    shown = [row[0] for row in rest[0][1:-1]]
    assert shown == ["good-code *" if base == "good-code" else base
                     for base in [*CASES, *MIRRORS]]
    assert next(row for row in rest[0] if row[0] == "apart")[1].startswith("3/0/2")
    assert rest[1:] == split_table(lesson.table(make_results()))[1:]
    for row, (base, (coin, mirror)) in zip(rows, MIRRORS.items()):
        assert row[:3] == [base, str(len(coin)), f"{np.corrcoef(coin, mirror)[0, 1]:+.2f}"]
    assert [row[3:] for row in rows] == [["0 of 5", "0.00"], ["2 of 4", "1.00"], ["3 of 3", "-"]]
    assert max(map(len, text.splitlines())) <= 100


def test_variance_of_a_pair():
    """Where both coins lift equally often: the variance of the pair's share of lifts, over that of
    two seeds that do not know of each other."""
    coin = np.array([1, 1, 1, 0, 0, 1, 0, 0.0])
    for mirror, shown in (([0, 0, 1, 1, 1, 1, 0, 0.0], "1.00"), ([1, 0, 0, 1, 1, 0, 1, 0], "0.50"),
                          (1 - coin, "0.00"), (coin, "2.00")):
        pairs = [tuple(UP if lift else FLAT for lift in pair) for pair in zip(coin, mirror)]
        row = lesson.tabulate_mirrored({"b": pairs}).splitlines()[1]
        expected = np.var((coin + mirror) / 2) / (np.var(coin) / 2)
        assert sum(mirror) == 4 and re.split(r"\s{2,}", row)[-1] == f"{expected:.2f}" == shown


def test_the_page_has_the_stored_table():
    text = lesson.table(read_results(FOLDER))
    page = (FOLDER / "RESULTS.md").read_text("utf-8")
    assert re.search(r"## Table\n.*?```text\n(.*?)\n```", page, re.DOTALL)[1] == text
    assert max(map(len, text.splitlines())) <= 100
    assert max(len(row) for part in split_table(text) for row in part) <= 8
    confusion = split_table(text)[1]
    counts = np.array([row[1:] for row in confusion[1:5]], int)
    assert counts.sum() == 13 and f"{counts.trace()} of 13 verdicts agree" in page
    clear, held = counts[:3].sum(), counts[:3].trace()      # all but `unclear`
    doc = lesson.__doc__.replace("\n", " ")
    for words in (page, doc):
        assert f"{clear} clear verdicts" in words
    assert f"say the same on {held}" in page and f"say the same on {held}" in doc
    assert "RESULT" not in doc


def test_the_page_has_the_simulation():
    page = (FOLDER / "RESULTS.md").read_text("utf-8")
    assert f"```text\n{simulate.tabulate_rates()}\n```" in page


def read_figure(results: Results) -> dict:
    """{base: (dots, ticks, words, shaded)} from the artists of the figure."""
    axis, = lesson.record_figure(results).axes
    names = [label.get_text() for label in axis.get_yticklabels()]
    rows = {name: {"dots": [], "ticks": [], "words": [], "shaded": False}
            for name in names}
    for line in axis.lines[1:]:                                # the first is the line at 0
        if not len(line.get_ydata()):
            continue
        row = rows[names[round(float(line.get_ydata()[0]))]]
        kind = {"o": "dots", "|": "ticks"}[line.get_marker()]
        assert line.get_linestyle() == "None"
        row[kind] += list(line.get_xdata())
        row[f"{kind} color"] = line.get_color()
    for text in axis.texts:
        x, y = text.get_position()
        if y >= 0:
            rows[names[round(y)]]["words"].append((x, text.get_text(), text.get_color()))
    for patch in axis.patches[1:]:                             # the first is the band of 3 points
        box = patch.get_path().transformed(patch.get_patch_transform()).get_extents()
        rows[names[round((box.y0 + box.y1) / 2)]]["shaded"] = True
    # A rectangle; of matplotlib before 3.9 a polygon.
    band = axis.patches[0].get_path().transformed(axis.patches[0].get_patch_transform())
    assert [band.get_extents().x0, band.get_extents().x1] == pytest.approx([-3, 3])
    heads = {text.get_position()[0]: text.get_text() for text in axis.texts
             if text.get_position()[1] < 0}
    return {"rows": rows, "heads": heads, "title": axis.figure.get_suptitle()}


def test_summary():
    """A row a verdict; the better of two forced openers; what is known is not counted."""
    found = lesson.summary(make_results())
    assert [row[:3] for row in found.rows[1:]] == [
        ["yes", "2", "1 of 2"], ["no", "1", "1 of 1"], ["harmful", "1", "1 of 1"],
        ["unclear", "1", "0 of 1"]]
    assert found.rows[1][3:] == ["0.62 to 0.88", "0.11 to 0.12", "0.22 to 0.23", "0.93"]
    assert "verdict on 3 of 5 bases" in found.sentence
    assert found.sentence.endswith("agree on 3 of 3.")
    flipped = dict(CASES, none=(CASES["none"][0], (0.2,) * 5, (-0.2,) * 16))
    assert lesson.summary(make_results(flipped)).sentence.endswith("agree on 2 of 3.")


def test_summary_without_the_probe():
    """--quick: a row a base, with the verdict of its own seeds."""
    found = lesson.summary(make_results()._replace(evidence=[]))
    rows = {row[0]: row[1:] for row in found.rows[1:]}
    assert rows["down"] == ["0", "0", "8", "harmful"] and len(rows) == len(CASES)
    assert "8 seeds a base" in found.sentence


def test_page_figure():
    """A dot a base in the column of its verdict; hollow where other seeds have another."""
    pytest.importorskip("matplotlib").use("Agg")
    axis, = lesson.figure(make_results()).axes
    dots = [(round(line.get_xdata()[0]), line.get_ydata()[0],
             line.get_markerfacecolor() == "none") for line in axis.lines]
    assert sorted(dots) == sorted([(0, 5 / 8, True), (0, 7 / 8, False), (1, 0, False),
                                   (2, 0, False), (3, 0, True)])


def test_figure():
    """Dots are the other seeds', ticks the probe's; words and shade say whether they agree."""
    pytest.importorskip("matplotlib").use("Agg")
    drawn = read_figure(make_results())
    mirrored = make_results().runs[:1]
    mirrored = [row | {"reward": "not_random"} for row in mirrored]
    again = make_results()
    again.runs.extend(mirrored)
    assert read_figure(again) == drawn                         # a mirrored coin is no other seed
    rows = drawn["rows"]
    assert list(rows) == ["good-code *", "up-down", "up-up", "none", "down", "chance"]
    for name, row in rows.items():
        base = name.removesuffix(" *")
        _, probed, others = CASES[base]
        assert row["dots"] == pytest.approx([100 * gain for gain in others])
        assert row["ticks"] == pytest.approx([100 * gain for gain in probed])
        (left, ours, color), (right, theirs, other) = row["words"]
        assert (ours, theirs) == VERDICTS[base] and left < right
        assert [drawn["heads"][x] for x in (left, right)] == ["probe", "others"]
        assert row["ticks color"] == color and row["dots color"] == other
        assert row["shaded"] == (ours != theirs) and (color == other) == (ours == theirs)
    assert drawn["title"] == ("The probe and other seeds agree on 3 of 5 new bases "
                              "(yellow: 2 do not)")


def test_figure_without_the_probe():
    pytest.importorskip("matplotlib").use("Agg")
    rows = read_figure(make_results()._replace(evidence=[]))["rows"]
    assert list(rows) == ["good-code *", "up-up", "none", "chance", "down", "up-down"]
    assert not any(row["ticks"] or row["shaded"] for row in rows.values())


# --- the claim, on bases of another pretraining seed: minutes


@pytest.mark.full
@pytest.mark.parametrize("base", ["good-code", "no-code"])
def test_the_probe_finds_the_latent_mode_and_only_where_it_is(pretrain_once, base):
    """`yes` on one base, never on the other, where noise may cost more than the 3 points of `no`.

    On good-code nine seeds are needed: the first loses 2 points, the other eight gain 12 to 24.
    """
    result = prober.probe(str(pretrain_once(base)), seed=21)
    assert (result["latent"] == "yes") == (base == "good-code")
    if base == "good-code":
        assert result["untrained"]["forced code"]["accuracy"] > 0.97


def test_docstring_examples():
    assert doctest.testmod(chance).failed == 0 == doctest.testmod(prober).failed
