"""Lesson 10: the probe (lessons/probe/probe.py), and its table and figure (lesson.py)."""

import json
import math
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import evaluation
import rlvr
from data.plumbing import InputError
from lessons.grid import write_pretrain_command
from lessons.probe import lesson
from lessons.probe import probe as prober
from lessons.report import Results, collect, format_csv, read_results

ROOT = Path(rlvr.__file__).parent
FOLDER = ROOT / "lessons" / "probe"
TINY_BASE = {"steps": 8, "batch": 8, "layers": 1, "width": 16, "heads": 2, "threads": 1}
TINY_RUN = {"steps": 1, "prompts": 2, "group": 4, "updates": 2, "pool": 5, "max_new_tokens": 8,
            "eval_problems": 10, "eval_samples": 8, "lr": 0.5}
WAY = {"way": "T = 1", "accuracy": 0.25, "code_share": 0.5}
T975 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # by number of seeds; from a printed table


def student(gains):
    """The bounds in points, by numpy."""
    gains = 100 * np.array(gains)
    half = T975[len(gains)] * gains.std(ddof=1) / np.sqrt(len(gains))
    return gains.mean() - half, gains.mean() + half


# --- the statistic


def test_interval_is_students():
    """The quantiles against the integral of Student's density, then the width by hand: catches a
    normal quantile, a shifted row of the table, or the standard deviation of a population."""
    for n, quantile in enumerate(prober.T95):
        if n:
            x = torch.linspace(-quantile, quantile, 200_001, dtype=torch.float64)
            scale = math.gamma((n + 1) / 2) / (math.sqrt(n * math.pi) * math.gamma(n / 2))
            density = scale * (1 + x ** 2 / n) ** (-(n + 1) / 2)
            assert torch.trapezoid(density, x).item() == pytest.approx(0.95, abs=5e-5)
    half = 4.303 * math.sqrt(7 / 3)
    assert prober.interval([1.0, 2.0, 6.0]) == pytest.approx((3 - half, 3 + half))


def cover(draw, truth, trials=1500):
    return np.mean([low < truth < high for low, high in
                    (prober.interval(list(draw())) for _ in range(trials))])


def test_interval_covers_normal_values_and_fewer_of_two_peaks():
    """95% where gains are normal; the page's numbers where chance decides which habit wins."""
    rng = np.random.default_rng(0)
    normal = cover(lambda: rng.normal(0.2, 0.1, 5), 0.2)
    assert normal == pytest.approx(0.95, abs=0.015)
    page = (FOLDER / "README.md").read_text()
    found = re.search(r"three seeds holds the true mean in (\d+)% of 20,000 trials, of five in "
                      r"(\d+)%.\n  With seven of eight up it holds it in (\d+)% and (\d+)%", page)
    for said, (n, up) in zip(found.groups(), [(3, 6 / 8), (5, 6 / 8), (3, 7 / 8), (5, 7 / 8)]):
        def draw(n=n, up=up):
            return rng.normal(np.where(rng.random(n) < up, 0.40, -0.30), 0.03)
        assert cover(draw, 0.40 * up - 0.30 * (1 - up)) == pytest.approx(int(said) / 100, abs=0.04)


@pytest.mark.parametrize("gains, verdict", [
    ((0.20, 0.22, 0.21), "yes"), ((-0.20, -0.22, -0.21), "harmful"), ((0.00, 0.01, -0.01), "no"),
    ((0.015, 0.016, 0.017), "no"), ((0.05, 0.051, 0.052), "yes"), ((0.3, -0.3, 0.2), "unclear"),
    ((0.0, 0.02, 0.04), "unclear"), ((0.029, 0.030, 0.031), "yes")])
def test_verdict(gains, verdict):
    """Small and sure is no, even if surely not 0; wide and around 0 is not no but unclear."""
    assert prober.judge(list(gains)) == verdict
    mirrored = {"yes": "harmful", "harmful": "yes"}
    assert prober.judge([-gain for gain in gains]) == mirrored.get(verdict, verdict)


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
    monkeypatch.setattr(rlvr, "TrainConfig", partial(rlvr.TrainConfig, **TINY_RUN))


def read_runs(folder: Path, seeds) -> list[dict]:
    return [json.loads((folder / f"seed{seed}/summary.json").read_text()) for seed in seeds]


def test_probe(base, tmp_path, monkeypatch, capsys, tiny_runs):
    """What is printed and written is that of the runs, all on the probe split; once more trains
    nothing and prints the same; the folder is refused to another checkpoint."""
    splits = []
    for module in (evaluation, rlvr):
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
    command = [str(base), "--seeds", "3", "--seed", "5", "--threads", "1", "--out", str(out)]
    assert prober.main(command) == 0
    first = capsys.readouterr().out
    result, runs = json.loads((out / "probe.json").read_text()), read_runs(out, (5, 6, 7))
    assert set(splits) == {"training", "probe"}
    assert [(run["seed"], run["reward"]) for run in runs] == [(s, "random") for s in (5, 6, 7)]
    gains = [run["gain"]["total"] for run in runs]
    assert len(set(gains)) > 1
    assert result["untrained"] == {row.pop("way"): row for row in map(dict, elicited[0])}
    assert result["gains"] == gains and result["seeds"] == [5, 6, 7]
    assert result["accuracies"] == [run["after"]["accuracy"] for run in runs]
    assert result["gain"] == pytest.approx(np.mean(gains))
    assert [100 * x for x in result["interval"]] == pytest.approx(student(gains))
    assert result["latent"] == prober.judge(gains) and result["before"] == runs[0]["before"]
    for key in ("accuracy", "code_share", "text_share"):
        assert result["after"][key] == pytest.approx(np.mean([r["after"][key] for r in runs]))
    check_report(first, result, runs)
    monkeypatch.setattr(rlvr, "rollout", lambda *_: pytest.fail("trains again"))
    assert prober.main(command) == 0 and capsys.readouterr().out == first
    other = tmp_path / "other.pt"
    rlvr.pretrain(rlvr.PretrainConfig(out=str(other), **TINY_BASE | {"steps": 1}))
    capsys.readouterr()
    assert prober.main([str(other), *command[1:]]) == 2
    assert "another checkpoint" in capsys.readouterr().err
    assert json.loads((out / "probe.json").read_text()) == result


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
    low, high = student(result["gains"])
    assert rest.splitlines()[4:6] == [
        f"gain {100 * result['gain']:+.1f} points, nominal 95% interval {low:+.1f} to {high:+.1f}, "
        "3 seeds", f"latent: {result['latent']}"]


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
    gains = {"harmful": [-0.2, -0.21, -0.22], "unclear": [0.3, -0.3, 0.1], "no": [0.0, 0.001, 0.0],
             "yes": [0.2, 0.21, 0.22]}[latent]
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
    (["BASE", "--seeds", "2"], "at least 3"), (["BASE", "--seeds", "11"], "at most 10"),
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


def test_the_command_works_from_anywhere(tmp_path):
    """`python -m lessons.probe` is __main__.py, in any folder; nothing is left behind."""
    done = subprocess.run([sys.executable, "-m", "lessons.probe", "none.pt"], cwd=tmp_path,
                          env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True,
                          text=True)
    assert done.returncode == 2 and not done.stdout and not list(tmp_path.iterdir())
    assert done.stderr.splitlines() == ["python -m lessons.probe: error: cannot read checkpoint "
                                        "none.pt: No such file or directory"]


# --- the grid


def test_bases():
    """The 32 names, and the flags that some of them say."""
    priors = [f"good-code-prior0.{i}" for i in range(1, 10)]
    assert set(lesson.BASES) == {
        *priors, *(f"{name}-openers1" for name in priors), "good-code", "no-code", "bad-code",
        "good-code-seed3", "no-code-seed3", "bad-code-seed3", "good-code-seed3-prior0.4",
        "bad-code-prior0.35", "bad-code-prior0.35-openers1", "good-code-steps100",
        "good-code-steps200", "good-code-steps400", "no-code-steps300", "bad-code-steps400"}
    for name, flags in {
            "good-code-prior0.3-openers1": "--base good-code --code-prior 0.3 --text-openers 1",
            "good-code-seed3-prior0.4": "--base good-code --seed 3 --code-prior 0.4",
            "bad-code-steps400": "--base bad-code --steps 400"}.items():
        command = write_pretrain_command(name, lesson.BASES[name])
        assert command == f"python rlvr.py pretrain {flags} --out runs/bases/{name}.pt"


def test_runs_are_those_of_the_stored_results():
    rows = read_results(FOLDER).runs
    assert [(row["base"], row["reward"], row["seed"], row["flags"]) for row in rows] == [
        (run["base"], run["reward"], run["seed"], "") for run in lesson.runs()]
    assert all(set(run) == {"base", "reward", "seed"} for run in lesson.runs())
    assert len(rows) == 32 * 8 and len(lesson.runs(seeds=3)) == 32 * 3
    probed = {row["way"] for row in read_results(FOLDER).evidence if row["way"][:4] == "coin"}
    assert probed == {f"coin, seed {seed}" for seed in
                      range(lesson.FIRST_SEED, lesson.FIRST_SEED + lesson.SEEDS)}
    assert not {run["seed"] for run in lesson.runs(seeds=10)} & set(range(101, 106))


def test_quick_runs_and_seeds_without_an_interval():
    assert [(run["base"], run["reward"], run["seed"]) for run in lesson.runs(quick=True)] == [
        (base, "random", seed) for base in ("good-code", "no-code") for seed in (1, 2, 3)]
    for seeds in (1, 11):
        with pytest.raises(InputError, match="2 to 10"):
            lesson.runs(seeds=seeds)


# --- measure


def test_measure(tmp_path, monkeypatch, base, tiny_runs):
    """The probe's rows in the stored format, from five seeds of its own in a folder of its own.

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
    monkeypatch.setattr(prober, "elicit", lambda *_: [
        {"way": row["way"], "accuracy": i / 20, "code_share": i / 30 if row["code_share"] else None}
        for i, row in enumerate(stored[:9], 1)])
    commands = lesson.evidence_commands(runs)
    assert commands == [
        (f"python -m lessons.probe {name} --seeds 5 --seed 101 --threads 1 --out runs/{name}/probe",
         Path(f"runs/{name}/probe/probe.json"), name) for name in ("one", "two")]
    for command, made, _ in commands:
        assert prober.main(command.split()[3:]) == 0 and made.exists()
    rows = lesson.measure(runs)
    assert list(stored[0]) == format_csv(rows).splitlines()[0].split(",")
    assert [(row["base"], row["way"]) for row in rows] == [
        (name, row["way"]) for name in ("one", "two") for row in stored[:14]]
    for row in rows:
        folder = Path("runs", row["base"], "probe")
        if row["way"].startswith("coin"):
            run, = read_runs(folder, [row["way"].removeprefix("coin, seed ")])
            assert (row["accuracy"], row["gain"], row["before"]) == (
                run["after"]["accuracy"], run["gain"]["total"], run["before"]["accuracy"])
            assert "code_share" not in row
        else:
            untrained = json.loads((folder / "probe.json").read_text())["untrained"]
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


CASES = {  # base: (T = 1, greedy, forced code), the probe's gains, the other seeds' gains
    "up-down": ((0.11, 0.22, 0.33), (0.20, 0.21, 0.24), (0.30, -0.30, 0.10, 0.26)),
    "up-up": ((0.12, 0.23, 0.34), (0.10, 0.11, 0.15), (0.11, 0.12, 0.13, 0.09)),
    "good-code": ((0.13, 0.24, 0.35), (0.30, 0.31, 0.32), (0.37, 0.36, 0.35, 0.38)),
    "none": ((0.14, 0.25, 0.36), (0.000, 0.002, 0.005), (0.010, 0.012, 0.011, 0.019)),
    "down": ((0.15, 0.26, 0.37), (-0.20, -0.22, -0.27), (-0.18, -0.29, -0.25, -0.23)),
    "chance": ((0.16, 0.27, 0.38), (0.25, -0.35, 0.05), (-0.18, -0.19, -0.20, -0.26))}
VERDICTS = {"up-down": ("yes", "unclear"), "up-up": ("yes", "yes"), "good-code": ("yes", "yes"),
            "none": ("no", "no"), "down": ("harmful", "harmful"), "chance": ("unclear", "harmful")}


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


def split_table(text: str) -> list[list[list[str]]]:
    return [[re.split(r"\s{2,}", line) for line in part.splitlines()]
            for part in text.split("\n\n")]


def test_table():
    """Every cell from the hand-made rows; what was known before is shown and not counted."""
    (head, *rows, note), confusion, ((held,),) = split_table(lesson.table(make_results()))
    assert head == ["base", "T = 1", "greedy", "forced", "probe, 3 seeds", "verdict", "4 others",
                    "verdict"]
    assert note == ["* known before the rule was made: not counted below"]
    for row, (base, (ways, *gains)) in zip(rows, CASES.items()):
        name = "good-code *" if base == "good-code" else base
        probed, others = ("{:+.1f} to {:+.1f}".format(*student(values)) for values in gains)
        assert row == [name, *(f"{way:.2f}" for way in ways), probed, VERDICTS[base][0], others,
                       VERDICTS[base][1]]
    assert len(rows) == len(CASES)
    order = ["yes", "no", "harmful", "unclear"]
    assert confusion[0] == ["probe \\ others", *order]
    assert [row[0] for row in confusion[1:]] == order
    pairs = [VERDICTS[base] for base in CASES if base != "good-code"]
    for ours, *counts in confusion[1:]:
        assert counts == [str(pairs.count((ours, theirs))) for theirs in order]
    inside = [student(ours)[0] < 100 * np.mean(others) < student(ours)[1]
              for base, (_, ours, others) in CASES.items() if base != "good-code"]
    assert inside == [False, True, False, True, True]
    assert held == "the probe's interval holds the mean of the others on 3 of 5 bases"


def test_table_without_the_probe():
    """--quick measures nothing: the other seeds stand alone, and nothing is counted."""
    (head, *rows, _), = split_table(lesson.table(make_results()._replace(evidence=[])))
    assert head == ["base", "4 others", "verdict"] and len(rows) == len(CASES)
    assert rows[4][0] == "down" and rows[4][2] == "harmful"


def test_the_page_has_the_stored_table():
    text = lesson.table(read_results(FOLDER))
    page = (FOLDER / "README.md").read_text()
    assert re.search(r"## Table\n.*?```text\n(.*?)\n```", page, re.DOTALL)[1] == text
    assert max(map(len, text.splitlines())) <= 100
    assert max(len(row) for part in split_table(text) for row in part) <= 8
    _, confusion, _ = split_table(text)
    counts = np.array([row[1:] for row in confusion[1:]], int)
    assert counts.sum() == 29 and f"{counts.trace()} of 29 verdicts agree" in page
    clear, held = counts[:3].sum(), counts[:3].trace()      # all but `unclear`
    for text in (page, lesson.__doc__.replace("\n", " "), (ROOT / "README.md").read_text()):
        assert f"{clear} clear verdicts" in text
    assert f"{held} of its {clear} clear verdicts" in text
    assert f"say the same on {held}" in page and f"say the same on {held}" in lesson.__doc__


def read_figure(results: Results) -> dict:
    """{base: (dots, interval, mean, words, shaded)} from the artists of the figure."""
    axis, = lesson.figure(results).axes
    names = [label.get_text() for label in axis.get_yticklabels()]
    rows = {name: {"dots": [], "interval": [], "mean": [], "words": [], "shaded": False}
            for name in names}
    for line in axis.lines[1:]:                                # the first is the line at 0
        row = rows[names[round(float(line.get_ydata()[0]))]]
        kind = {"o": "dots", "|": "mean"}.get(line.get_marker(), "interval")
        row[kind] += list(line.get_xdata())
        row[f"{kind} color"] = line.get_color()
    for text in axis.texts:
        x, y = text.get_position()
        if y >= 0:
            rows[names[round(y)]]["words"].append((x, text.get_text(), text.get_color()))
    for patch in axis.patches[1:]:                             # the first is the band of 3 points
        rows[names[round(patch.get_y() + patch.get_height() / 2)]]["shaded"] = True
    band = axis.patches[0]
    assert [band.get_x(), band.get_x() + band.get_width()] == pytest.approx([-3, 3])
    heads = {text.get_position()[0]: text.get_text() for text in axis.texts
             if text.get_position()[1] < 0}
    return {"rows": rows, "heads": heads, "title": axis.figure.get_suptitle()}


def test_figure():
    """Dots are the other seeds', the bar the probe's; words and shade say whether they agree."""
    pytest.importorskip("matplotlib").use("Agg")
    drawn = read_figure(make_results())
    rows = drawn["rows"]
    assert list(rows) == ["good-code *", "up-down", "up-up", "none", "down", "chance"]
    for name, row in rows.items():
        base = name.removesuffix(" *")
        _, probed, others = CASES[base]
        assert row["dots"] == pytest.approx([100 * gain for gain in others])
        assert row["interval"] == pytest.approx(student(probed))
        assert row["mean"] == pytest.approx([100 * np.mean(probed)])
        (left, ours, color), (right, theirs, other) = row["words"]
        assert (ours, theirs) == VERDICTS[base] and left < right
        assert [drawn["heads"][x] for x in (left, right)] == ["probe", "others"]
        assert row["interval color"] == color and row["dots color"] == other
        assert row["shaded"] == (ours != theirs) and (color == other) == (ours == theirs)
    assert drawn["title"] == ("The probe and other seeds agree on 3 of 5 new bases "
                              "(yellow: 2 do not)")


def test_figure_without_the_probe():
    pytest.importorskip("matplotlib").use("Agg")
    rows = read_figure(make_results()._replace(evidence=[]))["rows"]
    assert list(rows) == ["good-code *", "up-up", "none", "chance", "down", "up-down"]
    assert not any(row["interval"] or row["mean"] or row["shaded"] for row in rows.values())


# --- the claim, on bases of another pretraining seed: minutes


@pytest.mark.slow
@pytest.mark.parametrize("base", ["good-code", "no-code"])
def test_the_probe_finds_the_latent_mode_and_only_where_it_is(tmp_path, base):
    """`yes` on one base, never on the other, where noise may cost more than the 3 points of `no`.

    With the default five seeds: on good-code the first of them loses 2 points, its arithmetic worn,
    and three seeds were `unclear`.
    """
    path = tmp_path / f"{base}.pt"
    rlvr.pretrain(rlvr.PretrainConfig(base=base, seed=7, out=str(path)))
    result = prober.probe(str(path), seed=21)
    assert (result["latent"] == "yes") == (base == "good-code")
    if base == "good-code":
        assert result["untrained"]["forced code"]["accuracy"] > 0.97
