"""The lessons' house: grids, the runner, results as rows and back. Each lesson has its own file."""

import builtins
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from lessons import grid, report, runner, summary
from lessons import jobs as work
from plumbing.messages import InputError, WorkError
from tests.helpers import STORED

ROOT = Path(__file__).parents[1]


# --- grids and commands

def test_grid_is_the_product_of_its_lists():
    """A tuple is one value of a flag, a range several; the last flag changes fastest."""
    runs = grid.grid(base="a", reward=["x", "y"], num_ops=(1, 2), seed=range(3, 5))
    cells = [(run["reward"], run["seed"]) for run in runs]
    assert cells == [("x", 3), ("x", 4), ("y", 3), ("y", 4)]
    assert all(run["base"] == "a" and run["num_ops"] == (1, 2) for run in runs)


def test_cells_are_repeated():
    """The main ones with all seeds, the others with three of five, one at least."""
    cells = [{"base": "a", "num_ops": (1, 2)}], [{"base": "b"}]
    for seeds, few in ((5, 3), (1, 1), (10, 6)):
        runs = grid.repeat_cells(*cells, seeds)
        assert runs == [{"base": "a", "num_ops": (1, 2), "seed": s + 1} for s in range(seeds)] + [
            {"base": "b", "seed": s + 1} for s in range(few)]


def test_a_bases_name_says_its_flags():
    bases = grid.base_grid(base=["good-code"], code_prior=[0.3], text_openers=1, seed=[3], steps=9)
    assert bases == {"good-code-prior0.3-openers1-seed3-steps9": {
        "base": "good-code", "code_prior": 0.3, "text_openers": 1, "seed": 3, "steps": 9}}
    assert grid.name_base({"base": "mixed-code", "rival": "shared", "on_rival": 0.6}) == (
        "mixed-code-shared-rival0.6")


def test_rows_say_the_pretraining_seed_of_their_base():
    """Second, 0 if no flag says one; a lesson whose bases have no seeds is left as it is."""
    rows = [{"base": "a-seed2", "reward": "x", "command": "c"}, {"base": "a", "reward": "y"}]
    found = runner.add_base_seeds(rows, {"a": {"base": "a"}, "a-seed2": {"base": "a", "seed": 2}})
    assert [list(row.items())[:2] for row in found] == [
        [("base", "a-seed2"), ("base_seed", 2)], [("base", "a"), ("base_seed", 0)]]
    assert [row["reward"] for row in found] == ["x", "y"] and found[0]["command"] == "c"
    assert runner.add_base_seeds(rows, {"a": {}, "a-seed2": {"steps": 3}}) == rows


def test_a_lesson_may_keep_the_curves_of_some_runs_alone():
    """Those of other runs, or at other places; a lesson that says nothing keeps them all."""
    runs, results = [{"seed": 1}, {"seed": 2}], report.Results([{}, {}], {0: ["a"], 1: ["b"]})
    lesson = SimpleNamespace(follows=lambda run: run["seed"] == 2)
    assert runner.drop_curves(lesson, runs, results).curves == {1: ["b"]}
    assert runner.drop_curves(SimpleNamespace(), runs, results) == results
    rows = [{"step": 0, "accuracy": 0.5, "reward": 1.0}]
    lesson = SimpleNamespace(keeps=lambda run: ("accuracy",) if run["seed"] == 1 else None)
    assert runner.drop_curves(lesson, runs, report.Results([], {0: rows, 1: rows})).curves == {
        0: [{"step": 0, "accuracy": 0.5}], 1: rows}


def test_commands_have_every_flag_and_its_place():
    """Catches a flag that does not reach the command, or two cells in one folder."""
    run = {"seed": 2, "base": "b", "reward": "random", "eps_low": 1e9, "num_ops": (1, 7)}
    folder = "runs/b/random/eps-low-1e+09-num-ops-1-7/seed2"
    assert str(grid.locate_run(run)) == folder
    assert grid.write_train_command(run) == (
        "python rlvr.py train --base b --reward random --eps-low 1e+09 --num-ops 1 7 "
        f"--seed 2 --out {folder}")
    assert str(grid.locate_run({"base": "b", "reward": "r", "seed": 1})) == "runs/b/r/seed1"
    signed = [str(grid.locate_run(run | {"eps_low": low})) for low in (0.5, -0.5)]
    assert [folder.split("/")[3] for folder in signed] == [
        "eps-low-0.5-num-ops-1-7", "eps-low-minus0.5-num-ops-1-7"]
    again = dict(reversed(run.items()))               # the same flags are the same run
    assert grid.locate_run(again) == grid.locate_run(run)
    assert grid.write_pretrain_command("early", {"base": "good-code", "steps": 600}) == (
        "python rlvr.py pretrain --base good-code --steps 600 --out runs/bases/early.pt")


# --- the runner, on small programs instead of RL

def make_job(folder: Path, name: str, program: str, needs: Path | None = None,
             seconds: float = 1.0) -> work.Job:
    script = folder / f"{name}.py"
    script.write_text(program, encoding="utf-8")
    log = folder / f"{name}.log"
    return work.Job(name, f"python {script}", folder / name, (needs,) if needs else (), log,
                    seconds)


def run_job(job: work.Job) -> int:
    process = work.start_job(job)
    process.join()
    return process.exitcode


def touch(path: Path) -> str:
    return f"open({str(path)!r}, 'w').close()"


@pytest.mark.slow
def test_jobs_run_side_by_side_after_what_they_need(tmp_path):
    """Two at a time, no more; a run starts only when its base is there.

    The first two wait for each other; they give up after minutes, if nobody starts the second.
    """
    log = tmp_path / "log"
    note = ("import time\nopen({log!r}, 'a').write({name!r} + '+\\n')\nfor _ in range(3000):\n"
            "    if open({log!r}).read().count('+') > 1: break\n    time.sleep(0.1)\n{made}\n"
            "open({log!r}, 'a').write({name!r} + '-\\n')")

    def job(name: str, needs: Path | None = None) -> work.Job:
        made = touch(tmp_path / name)
        return make_job(tmp_path, name, note.format(log=str(log), name=name, made=made), needs)

    work.run_jobs("t", [job("run", tmp_path / "base"), job("base"), job("c"), job("d")], 2)
    events = log.read_text("utf-8").split()
    running, most = 0, 0
    for event in events:
        running += 1 if event.endswith("+") else -1
        most = max(most, running)
    assert most == 2 and len(events) == 8
    assert events.index("run+") > events.index("base-") - 1 and (tmp_path / "base").exists()


def test_a_failed_job_is_named_with_its_last_line(tmp_path):
    """And nothing more is started; the jobs beside it are interrupted, so that they can save."""
    saved = touch(tmp_path / "saved")
    beside = ("import signal, sys, time\n"
              f"def save(*_):\n {saved}\n sys.exit()\n"
              f"signal.signal(signal.SIGTERM, save)\n{touch(tmp_path / 'ready')}\ntime.sleep(600)")
    failing = (f"import os, sys, time\nwhile not os.path.exists({str(tmp_path / 'ready')!r}):\n"
               "    time.sleep(0.05)\nprint('x\\nthe reason\\n')\nsys.exit(3)")
    jobs = [make_job(tmp_path, "beside", beside), make_job(tmp_path, "broken", failing),
            make_job(tmp_path, "later", touch(tmp_path / "later"))]
    with pytest.raises(WorkError, match="broken failed: the reason"):
        work.run_jobs("t", jobs, 2)
    assert (tmp_path / "saved").exists() and not (tmp_path / "later").exists()


def test_a_run_whose_base_nothing_makes_is_named(tmp_path):
    """Catches a runner that waits forever."""
    work.run_jobs("t", [make_job(tmp_path, "later", "", tmp_path / "first"),
                        make_job(tmp_path, "first", touch(tmp_path / "first"))], 1)
    job = make_job(tmp_path, "run", "", tmp_path / "base")
    with pytest.raises(WorkError, match="run needs .*base, which nothing makes"):
        work.run_jobs("t", [job], 2)


@pytest.mark.slow
def test_interrupted_jobs_save_once(tmp_path):
    """Ctrl-C of the runner reaches each job as one SIGTERM, and the runner waits for them."""
    program = ("import signal, time\ncount = []\n"
               "signal.signal(signal.SIGTERM, lambda *_: count.append(1))\n"
               f"open({str(tmp_path / 'up')!r}, 'w').close()\n"
               "while not count: time.sleep(0.05)\ntime.sleep(0.5)\n"
               f"open({str(tmp_path / 'saved')!r}, 'w').write(str(len(count)))")
    job = make_job(tmp_path, "job", program)
    outer = ("import sys; sys.path.insert(0, {root!r})\nfrom pathlib import Path\n"
             "from lessons import jobs as work\nfrom plumbing.commands import run_command\n"
             "job = work.Job('job', {command!r}, Path({makes!r}), (), Path({log!r}), 1.0)\n"
             "sys.exit(run_command('x', lambda: work.run_jobs('t', [job], 1)))").format(
        root=str(ROOT), command=job.command, makes=str(job.makes), log=str(job.log))
    process = subprocess.Popen([sys.executable, "-c", outer], stderr=subprocess.PIPE,
                               encoding="utf-8", start_new_session=True)
    while not (tmp_path / "up").exists():
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)                       # as a terminal does
    _, error = process.communicate()
    assert process.returncode == 130 and "interrupted" in error and "Traceback" not in error
    assert (tmp_path / "saved").read_text("utf-8") == "1"


def test_progress_comes_from_the_last_line_of_the_log(tmp_path):
    job = make_job(tmp_path, "job", "")
    job.log.write_text("a:  10%|#| 2/20 [00:01<00:09]\na:  50%|##| 10/20 [00:05<00:05, 2.00it/s]\n",
                       encoding="utf-8")
    assert work.read_progress(job) == 0.5
    within = "sampling:  90%|##| 9/10 [00:01<00:01]\n"          # a bar within the bar
    job.log.write_text(within, encoding="utf-8")
    assert work.read_progress(job) == 0.0
    job.log.write_text("nothing yet", encoding="utf-8")
    assert work.read_progress(job) == 0.0


def test_plan_is_what_is_missing(tmp_path, monkeypatch):
    """Bases before runs; what is there is kept; the bar's seconds follow the size of the work."""
    monkeypatch.chdir(tmp_path)
    lesson = runner.load_lesson("template")
    runs = [{"base": "good-code", "reward": "code", "seed": 1},
            {"base": "good-code", "reward": "code", "seed": 2, "steps": 40, "group": 32}]
    jobs = runner.plan_jobs(lesson, runs)
    assert [job.needs for job in jobs] == [(), *[(Path("runs/bases/good-code.pt"),)] * 2]
    assert all(job.command.endswith("--threads 1") for job in jobs)
    assert jobs[0].seconds == pytest.approx(93.5) and jobs[2].seconds == 4 * jobs[1].seconds
    assert jobs[1].log == Path("runs/good-code/code/seed1/log.txt")
    monkeypatch.setattr(lesson, "BASES", {"good-code": {"base": "good-code", "steps": 170}})
    assert runner.plan_jobs(lesson, runs)[0].seconds == pytest.approx(9.35)
    alone, *others = runner.plan_jobs(lesson, runs, at_once=3)
    assert alone.command.endswith("--threads 3")
    assert all(job.command.endswith("--threads 1") for job in others)
    for done in ("runs/bases/good-code.pt", "runs/good-code/code/seed1/summary.json"):
        Path(done).parent.mkdir(parents=True, exist_ok=True)
        Path(done).touch()
    assert runner.plan_jobs(lesson, runs) == jobs[2:]


def test_what_a_lesson_measures_with_are_jobs_too(tmp_path, monkeypatch, capsys):
    """The probes of lesson 10 run side by side; --commands prints them; not in the quick door."""
    monkeypatch.chdir(tmp_path)
    lesson = runner.load_lesson("probe")
    runs = lesson.runs(seeds=5)
    jobs = runner.plan_evidence(lesson, runs)
    assert len(jobs) == len(lesson.BASES) and jobs[0].command.startswith("python -m lessons.probe")
    assert jobs[0].needs == (grid.place_base(runs[0]["base"]),)
    assert jobs[0].log.parent == jobs[0].makes.parent
    jobs[0].makes.parent.mkdir(parents=True)
    jobs[0].makes.touch()
    assert runner.plan_evidence(lesson, runs) == jobs[1:]
    assert runner.plan_evidence(runner.load_lesson("spurious"), runs) == []
    monkeypatch.setattr(lesson, "BASES", {})
    monkeypatch.setattr(lesson, "runs", lambda quick: [])
    monkeypatch.setattr(lesson, "evidence_commands", lambda runs: [("python x", Path("x"), "b")])
    assert runner.main(["probe", "--commands"]) == 0 and capsys.readouterr().out == "python x\n"
    assert runner.main(["probe", "--commands", "--quick"]) == 0 and not capsys.readouterr().out


def test_a_job_may_be_a_module(tmp_path):
    """`python -m` runs a module; anything else is a script of the project, from any folder."""
    job = work.Job("j", "python -m this", tmp_path / "x", (), tmp_path / "log", 1.0)
    assert run_job(job) == 0 and "Beautiful" in job.log.read_text("utf-8")
    job = job._replace(command="python rlvr.py --help")
    assert run_job(job) == 0 and "pretrain" in job.log.read_text("utf-8")


def test_commands_are_the_bases_then_the_runs(tmp_path, monkeypatch, capsys):
    """--commands runs nothing: the missing bases, and once they are there each missing run."""
    monkeypatch.chdir(tmp_path)
    assert runner.main(["prior", "--quick", "--commands", "--jobs", "8"]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("rlvr.py pretrain") == 4 and "rlvr.py train" not in captured.out
    assert captured.out.count("--threads 2") == 4     # of eight cores
    assert "then again" in captured.err
    Path("runs/bases").mkdir(parents=True)
    for base in runner.list_bases(runner.load_lesson("prior").runs(quick=True)):
        Path(f"runs/bases/{base}.pt").touch()
    assert runner.main(["prior", "--quick", "--commands"]) == 2      # these are no bases
    assert "good-code-prior0.2.pt" in capsys.readouterr().err
    monkeypatch.setattr(runner, "check_pretraining", lambda config, path: None)
    assert runner.main(["prior", "--quick", "--commands"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert len(lines) == 4 and all(line.startswith("python rlvr.py train") for line in lines)
    assert captured.err == "these 4, in any order; then python -m lessons prior    # the table\n"
    assert [path.name for path in Path("runs").iterdir()] == ["bases"]


def test_a_base_made_with_other_flags_is_refused(tmp_path, monkeypatch):
    """Each base of the runs that is there is held against the flags that the lesson says."""
    monkeypatch.chdir(tmp_path)
    lesson, seen = runner.load_lesson("prior"), []
    monkeypatch.setattr(runner, "check_pretraining", lambda *args: seen.append(args))
    Path("runs/bases").mkdir(parents=True)
    Path("runs/bases/good-code-prior0.4-openers1.pt").touch()
    runner.check_bases(lesson, lesson.runs())
    (config, path), = seen
    assert config.base == "good-code" and config.flags == {"code_prior": 0.4, "text_openers": 1}
    assert path == Path("runs/bases/good-code-prior0.4-openers1.pt")


def test_list_names_every_lesson(capsys):
    assert runner.main([]) == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert all(re.fullmatch(rf"{name} +\d* +\S.*\?", rows[name]) for name in runner.NAMES)
    assert max(map(len, out.splitlines())) <= 100 and "next:" in rows
    assert runner.read_minutes("It is so. About 50 minutes on\n2 cores.") == "50"


@pytest.mark.parametrize("arguments", [["nowhere"], ["--seeds", "3", "spurious", "--quick"],
                                       ["spurious", "--seeds", "0"], ["spurious", "--jobs", "0"],
                                       ["spurious", "--quick", "--store"], ["spurious", "--fast"],
                                       ["spurious", "--stored", "--seeds", "2"],
                                       ["spurious", "--quick", "--runs"],
                                       ["spurious", "--commands", "--runs", "seed"]])
def test_bad_input_is_one_line(arguments, monkeypatch, capsys):
    monkeypatch.setattr(runner, "teach", lambda args: pytest.fail("it runs"))
    with pytest.raises(SystemExit) as exit:
        runner.main(arguments)
    captured = capsys.readouterr()
    assert exit.value.code == 2 and captured.err.count("\n") == 1 and not captured.out


def test_each_run_has_a_line():
    """What makes it, but for flags that all share; the numbers asked for, nothing where there is
    none. Catches a run that is left out, and a flag taken for shared since it begins alike."""
    runs = [{"base": "a", "reward": "random", "loss": "grpo", "flags": "--lr 0.01 --p 0.1",
             "seed": 1.0, "after_accuracy": 0.123456, "gain_total": None},
            {"base": "b", "reward": "random", "loss": "grpo", "flags": "--lr 0.01 --p 0.15",
             "seed": 2.0, "after_accuracy": 1.0, "gain_total": -0.5}]
    lines = [line.split() for line in report.tabulate_runs(runs, []).splitlines()]
    assert lines == [["base", "reward", "loss", "flags", "seed", "after_accuracy"],
                     ["a", "random", "grpo", "--p", "0.1", "1", "0.1235"],
                     ["b", "random", "grpo", "--p", "0.15", "2", "1"]]
    lines = [line.split() for line in report.tabulate_runs(runs, ["gain_total"]).splitlines()]
    assert [line[5:] for line in lines] == [["gain_total"], ["1"], ["2", "-0.5"]]
    with pytest.raises(InputError, match="no column nothing"):
        report.tabulate_runs(runs, ["seed", "nothing"])


@pytest.mark.parametrize("name", STORED)
def test_each_stored_run_is_printed(name, capsys):
    """By the command that every page names."""
    assert runner.main([name, "--runs"]) == 0
    stored = report.read_results(runner.HERE / name).runs
    assert capsys.readouterr().out.count("\n") == len(stored) + 1
    command = f"`python -m lessons {name} --runs [COLUMN ...]`"
    assert command in (runner.HERE / name / "RESULTS.md").read_text("utf-8")


def write_run(folder: Path, seed: int = 1, gain: float = 0.1, steps: int = 3, **config) -> Path:
    """A finished run as `train` writes it, small enough to read."""
    folder.mkdir(parents=True)
    summary = {"base": "runs/bases/tiny.pt", "reward": "random", "loss": "grpo", "seed": seed,
               "steps": steps, "before": {"accuracy": 0.5, "pass_at_k": {"1": 0.5, "16": 0.75}},
               "after": {"accuracy": 0.5 + gain, "accuracy_text": None, "pass_at_k": {"1": 0.6}},
               "gain": {"total": gain, "switch": 0.25, "within": -0.5},
               "switches": {"text->code": [0.125, 0.0625]}, "clip": {"high": 0.001, "low": 0.002},
               "seconds": {"total": 3.5}}
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    config = {"reward": "random", "loss": "grpo", "command": f"python rlvr.py {seed}", **config}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with open(folder / "metrics.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "reward", "accuracy", "text_share", "kl"])
        writer.writerows([step, step / 4, 1 - step / 100, 0.5, 7] for step in range(steps))
    return folder


# --- rows

def test_a_lesson_may_keep_more_of_a_curve(tmp_path):
    """Beside what every lesson keeps, and nothing else."""
    folder = write_run(tmp_path / "run")
    kept = report.collect([folder]).curves[0]
    more = report.collect([folder], curves=("kl",)).curves[0]
    assert [row | {"kl": 7.0} for row in kept] == more and "kl" not in kept[0]


def test_rows_of_a_cell(tmp_path):
    """These flags and no others, whatever the seed; a default that is said is no flag."""
    folders = [write_run(tmp_path / str(i), seed=i, **flags) for i, flags in enumerate(
        ({"lr": 0.01}, {"lr": 0.01}, {"lr": 0.01, "p": 0.1}, {}))]
    rows = report.collect(folders).runs
    chosen = report.select_runs(rows, {"base": "tiny", "lr": 0.01, "p": 0.5})
    assert [row["seed"] for row in chosen] == [0, 1]
    results = report.Results(rows, {})
    cells = {"step": {"lr": 0.01}, "coin": {"lr": 0.01, "p": 0.1}, "none": {"lr": 0.3}}
    (head, before, base), *others = report.list_rows(results, {"base": "tiny"}, cells)
    assert (head, before, base) == ("(base)", "before", rows[:1])
    assert [(name, when, [row["seed"] for row in cell]) for name, when, cell in others] == [
        ("step", "after", [0, 1]), ("coin", "after", [2])]
    assert report.list_rows(results, {"base": "other"}, cells) == []


def test_a_row_holds_every_number_of_a_run(tmp_path):
    row, curve = report.read_run(write_run(tmp_path / "run", eps_low=0.2, num_ops=[1, 2], lr=0.015))
    expected = {"base": "tiny", "reward": "random", "loss": "grpo", "seed": 1,
                "flags": "--num-ops 1 2 --eps-low 0.2", "before_accuracy": 0.5,
                "before_pass_at_k_16": 0.75, "after_accuracy": 0.6, "after_accuracy_text": None,
                "after_pass_at_k_1": 0.6, "gain_total": 0.1, "gain_switch": 0.25,
                "gain_within": -0.5, "switches_text->code_share": 0.125,
                "switches_text->code_points": 0.0625, "clip_high": 0.001, "clip_low": 0.002,
                "seconds_total": 3.5, "command": "python rlvr.py 1"}
    assert {key: row[key] for key in expected} == expected
    assert curve == [{"step": step, "reward": step / 4, "accuracy": 1 - step / 100,
                      "text_share": 0.5} for step in range(3)]


def test_flags_are_those_that_are_not_at_their_default(tmp_path):
    """Catches incorrect's own default of --num-ops taken for a flag, and columns said twice."""
    row, _ = report.read_run(write_run(tmp_path / "a", num_ops=[1, 2, 3, 4, 5], seed=1, threads=1,
                                       out="x", micro_batch=3, device="cpu", eps_high=1e9))
    assert row["flags"] == "--eps-high 1e+09"
    config = {"reward": "incorrect", "loss": "grpo", "num_ops": [6, 7]}
    assert report.describe_flags(config) == ""
    assert report.describe_flags(config | {"num_ops": [1, 2]}) == "--num-ops 1 2"


@pytest.mark.parametrize("base", ["good-code-prior0.3", "runs/bases/good-code-prior0.3.pt"])
def test_a_bases_name_keeps_its_decimals(tmp_path, base):
    """Whether a run names its base or its file: good-code-prior0.3 is not good-code-prior0."""
    path = write_run(tmp_path / "run") / "summary.json"
    summary = json.loads(path.read_text("utf-8")) | {"base": base}
    path.write_text(json.dumps(summary), encoding="utf-8")
    assert report.read_run(tmp_path / "run")[0]["base"] == "good-code-prior0.3"


def test_long_runs_are_thinned_to_means(tmp_path):
    """At most 20 rows that cover the run: the mean of each part, named by its last step."""
    _, curve = report.read_run(write_run(tmp_path / "run", steps=45))
    assert len(curve) == 20 and curve[-1]["step"] == 44
    assert [row["step"] for row in curve[:3]] == [2, 5, 8]
    assert curve[0]["reward"] == pytest.approx((0 + 1 + 2) / 3 / 4)


def test_results_survive_their_files(tmp_path):
    """Five digits of every number; None stays None, text stays text, also if it looks empty."""
    runs = [write_run(tmp_path / "a", 1, 0.123456789), write_run(tmp_path / "b", 2, lr=0.5)]
    evidence = [{"base": "x", "way": "greedy", "accuracy": 0.25, "share": None}]
    results = report.collect(runs, evidence)
    report.write_results(tmp_path / "out", results)
    again = report.read_results(tmp_path / "out")
    assert again.runs[0]["gain_total"] == 0.12346
    assert again.runs[0]["after_accuracy_text"] is None
    assert [row["flags"] for row in again.runs] == ["", "--lr 0.5"]
    assert again.runs[1]["seed"] == 2 and again.runs[1]["command"] == "python rlvr.py 2"
    assert {i: len(curve) for i, curve in again.curves.items()} == {0: 3, 1: 3}
    assert again.curves[1][2] == {"step": 2, "reward": 0.5, "accuracy": 0.98, "text_share": 0.5}
    assert (tmp_path / "out/runs.csv").read_text("utf-8").splitlines()[0].endswith(",command")
    assert again.evidence == evidence


@pytest.mark.parametrize("missing", ["summary.json", "config.json", "metrics.csv"])
def test_an_unfinished_run_is_refused(tmp_path, missing):
    folder = write_run(tmp_path / "run")
    (folder / missing).unlink()
    with pytest.raises(InputError, match="no finished run"):
        report.read_run(folder)
    with pytest.raises(InputError, match="no runs.csv"):
        report.read_results(tmp_path)


# --- tables and figures

def test_spread_change_and_columns():
    assert report.show_spread([1.0, 2.0, 4.5]) == "+2.5 ± 1.8"
    assert report.show_spread([-1.0]) == "-1.0"
    rows = [{"before_x": 0.1, "after_x": 0.5}, {"before_x": 0.3, "after_x": 0.9}]
    assert report.show_change(rows, "x") == "0.20 -> 0.70"
    assert report.align([["a", "b", "c"], ["xx", "", "y"], ["z", "", ""]]) == "a   c\nxx  y\nz"


def test_runs_of_two_kinds_have_no_mean():
    """How many end above a line, which lies in the gap; of two runs, or a narrow cell, the mean."""
    assert report.show_seeds([0.03, 0.21, 0.96, 0.97, 0.97], 3, "", 1) == "3 of 5 > 0.9"
    assert report.show_seeds([-13.0, 17.0, 18.0, 19.0, 20.0]) == "4 of 5 > +10"
    assert report.show_seeds([-55.0, -7.0, -4.0, -4.0, -2.0]) == "4 of 5 > -10"
    assert report.show_seeds([0.0, 10.0, 60.0]) == "1 of 3 > +50"      # 60 is not above 60
    assert report.show_seeds([0.52, 0.53, 0.53, 0.81], 2, "", 1) == "1 of 4 > 0.8"
    for values in ([0.0, 90.0], [41.0, 41.0, 60.0], [0.0, 20.0, 50.0, 70.0, 90.0]):
        assert report.show_seeds(values) == report.show_spread(values)


def test_the_line_parts_the_runs_it_counts():
    """Of 400 cells drawn from two clumps: as many above it as it says, and no mean of a clump."""
    rng, found = np.random.default_rng(0), 0
    for _ in range(400):
        values = np.clip(rng.choice([0.2, 0.8], 7) + rng.normal(0, 0.08, 7), 0, 1).tolist()
        text = report.show_seeds(values, 2, "", 1)
        if ">" in text:
            k, n, line = re.fullmatch(r"(\d) of (\d) > (\S+)", text).groups()
            assert (int(k), int(n)) == (sum(value > float(line) for value in values), 7)
            found += 1
    assert found > 300


def test_every_share_has_its_interval():
    """Those that the tables show and no others; none where there is no share."""
    lines = report.bound_shares("3 of 5 > 0.9  1 of 3 > +20\n2 of 3  0 of 5 > 1").splitlines()
    cells = [re.split(r"  +", line) for line in lines]
    assert cells[0] == ["exact 95%", "of 3", "of 5"]
    assert [row[0] for row in cells[1:]] == list("013")
    assert cells[3] == ["3", "15% to 95%"] and cells[2] == ["1", "1% to 91%"]
    assert report.add_bounds(["a  b", "c"]) == "a  b\n\nc"
    text = report.add_bounds(["(2 of 3)"], r"(\d+) of (\d+)")
    assert text.endswith(f"\n\n{report.BOUNDS}\nexact 95%  of 3\n2          9% to 99%")


def test_titles_of_tables():
    """Above each; a table that is empty has none."""
    titled = report.title_tables({"First": "a  b\n1  2", "Nothing": "", "Last": "c"})
    assert titled == ["First\na  b\n1  2", "Last\nc"]


def test_a_table_keeps_cells_apart(tmp_path):
    """Mean and spread over seeds; runs with other flags are another cell, not more seeds."""
    runs = [write_run(tmp_path / "a", 1, 0.1), write_run(tmp_path / "b", 2, 0.3),
            write_run(tmp_path / "c", 1, -0.2, lr=0.5)]
    results = report.collect(runs)
    lines = report.tabulate(results.runs).splitlines()
    assert lines[1].split() == ["tiny", "random", "grpo", "2", "0.500", "->", "0.700", "+20.0",
                                "±", "14.1", "+10.0", "+30.0"]
    assert lines[2].split() == ["tiny", "random", "grpo", "1", "0.500", "->", "0.300", "-20.0",
                                "--lr", "0.5"]
    figure = report.draw_gains(results)
    dots = [line.get_xdata().tolist() for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [values == pytest.approx(wanted) for values, wanted in
            zip(dots, ([10, 30], [-20]), strict=True)] == [True, True]
    assert [bar.get_width() for bar in figure.axes[0].patches] == pytest.approx([20, -20])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "tiny random grpo", "tiny random grpo --lr 0.5"]
    plt.close(figure)


def test_a_cell_that_loses_in_the_mean_is_red(tmp_path):
    """Whatever its best seed does."""
    runs = [write_run(tmp_path / "a", 1, 0.1), write_run(tmp_path / "b", 2, -0.3),
            write_run(tmp_path / "c", 1, 0.2, lr=0.5)]
    figure = report.draw_gains(report.collect(runs))
    colors = [to_hex(bar.get_facecolor()).upper() for bar in figure.axes[0].patches]
    assert colors == [report.RED, report.BLUE]
    plt.close(figure)


def test_report_of_your_own_runs(tmp_path, capsys):
    runs = [str(write_run(tmp_path / "a", 1)), str(write_run(tmp_path / "b", 2, 0.2))]
    assert report.main([*runs, "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "tiny" in out and "one seed" not in out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"runs.csv", "curves.csv",
                                                                    "figure.png"}
    (tmp_path / "empty").mkdir()
    assert report.main([str(tmp_path / "empty"), "--out", str(tmp_path / "out")]) == 2
    assert report.main([*runs, "--out", str(tmp_path / "a/summary.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_without_matplotlib_there_is_the_table(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert report.main([str(write_run(tmp_path / "a")), "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "tiny" in out and "no figure" in out and not (tmp_path / "out/figure.png").exists()


# --- a whole lesson, its runs already there

@pytest.fixture
def lesson_of_two(tmp_path, monkeypatch) -> Path:
    """The template's quick grid, finished, in a project of its own."""
    monkeypatch.chdir(tmp_path)
    Path("runs/bases").mkdir(parents=True)
    Path("runs/bases/good-code.pt").touch()
    for run in runner.load_lesson("template").runs(seeds=1):
        folder = write_run(grid.locate_run(run), gain=0.2 if run["reward"] == "code" else -0.3)
        for name in ("summary", "config"):
            path = folder / f"{name}.json"
            content = json.loads(path.read_text("utf-8")) | {"reward": run["reward"]}
            for when in ("before", "after"):
                if when in content:
                    content[when]["code_share"] = 0.5
            path.write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.setattr(runner, "NAMES", ("template",))
    monkeypatch.setattr(runner, "check_pretraining", lambda config, path: None)
    return tmp_path


def test_a_finished_lesson_prints_its_table(lesson_of_two, capsys):
    assert runner.main(["template", "--seeds", "1"]) == 0
    out = capsys.readouterr().out
    assert "code      0.50 -> 0.70\n" in out and "seeds" not in out
    assert runner.main(["template", "--seeds", "1", "--all"]) == 0
    out = capsys.readouterr().out
    assert "code      1      0.500 -> 0.700  +20.0  0.50 -> 0.50" in out and "2 runs, 0 jobs" in out
    folder = Path("runs/lessons/template")
    assert {path.name for path in folder.iterdir()} == {"runs.csv", "curves.csv", "figure.png",
                                                        "page.html"}
    assert "one seed: enough to see it, not to claim it\n" in out
    assert f"wrote {folder.as_posix()}/page.html, figure.png, runs.csv\n" in out
    assert out.splitlines()[-1] == f"next: open {folder.as_posix()}/page.html in a browser"


def test_a_quick_grid_has_no_record(lesson_of_two, monkeypatch, capsys):
    """Catches a crash of the figure of all cells, some of which are not there."""
    monkeypatch.setattr(runner.load_lesson("template"), "record_figure", report.draw_gains,
                        raising=False)
    for flags, drawn in (["--quick"], False), (["--seeds", "1"], True):
        assert runner.main(["template", *flags]) == 0
        assert ("figure.png, record.png, runs.csv" in capsys.readouterr().out) == drawn
        assert Path("runs/lessons/template/record.png").exists() == drawn


def test_store_writes_the_reference_and_its_pages(lesson_of_two, monkeypatch, capsys):
    """--store changes the first text block below `## Table`, and in README.md the first table.

    Nothing else of the pages; --stored shows the few rows, and with --all the record.
    """
    page = Path("home/template/RESULTS.md")
    page.parent.mkdir(parents=True)
    rest = "```text\nkeep\n```\n"
    page.write_text(f"# T\n{rest}## Table\nwords\n```text\nold\n```\n{rest}", encoding="utf-8")
    teaching = page.parent / "README.md"
    other = "## The question\n**bold**\n\n| a |\n"
    old = "**old title**\n\n| old |\n|---|\n"
    teaching.write_text(f"{other}## The result\nwords\n\n{old}\n**rest**\n\n", encoding="utf-8")
    monkeypatch.setattr(runner, "HERE", Path("home"))
    assert runner.main(["template", "--seeds", "1", "--store"]) == 0
    table = runner.load_lesson("template").table(report.read_results(page.parent))
    assert page.read_text("utf-8") == f"# T\n{rest}## Table\nwords\n```text\n{table}\n```\n{rest}"
    found = runner.load_lesson("template").summary(report.read_results(page.parent))
    new = summary.write_markdown(found)
    assert teaching.read_text("utf-8") == (
        f"{other}## The result\nwords\n\n{new}\n\n**rest**\n\n")
    capsys.readouterr()
    assert runner.main(["template", "--stored"]) == 0
    assert capsys.readouterr().out.startswith(summary.show_summary(found))
    assert runner.main(["template", "--stored", "--all"]) == 0
    assert capsys.readouterr().out.startswith(table)
    assert Path("runs/lessons/template/figure.png").exists()


def test_the_first_table_of_a_new_page(tmp_path):
    """Catches a block that is empty yet, taken to reach to the next one; and a missing one."""
    page = tmp_path / "RESULTS.md"
    page.write_text("## Table\n```text\n```\nwords\n```text\nkeep\n```\n", encoding="utf-8")
    runner.update_record(page, "a  b")
    assert page.read_text("utf-8") == "## Table\n```text\na  b\n```\nwords\n```text\nkeep\n```\n"
    page.write_text("```text\nkeep\n```\n## Table\n", encoding="utf-8")
    with pytest.raises(InputError, match="no text block"):
        runner.update_record(page, "a")


@pytest.mark.parametrize("flags", [["--stored"], ["--runs"]])
@pytest.mark.parametrize("name", STORED)
def test_stored_results_where_nothing_can_be_written(name, flags, tmp_path, monkeypatch, capsys):
    """The table, and a line that the figure is not there; on a stream of ASCII as well."""
    monkeypatch.chdir(tmp_path)
    Path("runs").write_bytes(b"")
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert runner.main([name, *flags]) == 0
    lines = stream.buffer.getvalue().decode("ascii").splitlines()
    error = capsys.readouterr().err
    assert len(lines) > 4 and ("for --runs COLUMN" in error) == (flags == ["--runs"])
    assert lines[-1].startswith("no figure: cannot write to ") == (flags == ["--stored"])


def test_drawing_leaves_pyplot_as_it_was(tmp_path):
    """Catches a backend, a style or an open figure of a notebook that a lesson replaces."""
    results = report.collect([write_run(tmp_path / "a")])
    mine = plt.figure()
    plt.rcParams["font.size"] = 7
    try:
        before = dict(plt.rcParams.copy()), plt.get_fignums()
        report.draw_to(tmp_path / "a.png", report.draw_gains, results)
        assert (dict(plt.rcParams.copy()), plt.get_fignums()) == before and plt.gcf() is mine
        with pytest.raises(ZeroDivisionError):
            report.draw_to(tmp_path / "b.png", lambda: 1 / 0)
        assert dict(plt.rcParams.copy()) == before[0]
    finally:
        plt.rcdefaults()
        plt.close(mine)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_for_a_cache_may_be_missing(tmp_path, monkeypatch, capsys):
    """Where nothing at all may be written matplotlib cannot be imported: the table is there."""
    original = builtins.__import__

    def refuse(name, *rest):
        if name.startswith("matplotlib"):
            raise OSError("Matplotlib requires access to a writable cache directory")
        return original(name, *rest)
    monkeypatch.setattr(builtins, "__import__", refuse)
    assert not report.can_draw()
    assert capsys.readouterr().out.startswith("no figure: Matplotlib requires access")


def test_stored_results_with_the_line_ends_of_windows(tmp_path):
    """As git may have written them."""
    for name in ("runs", "curves", "evidence"):
        content = (runner.HERE / "clips" / f"{name}.csv").read_bytes()
        (tmp_path / f"{name}.csv").write_bytes(content.replace(b"\n", b"\r\n"))
    assert report.read_results(tmp_path) == report.read_results(runner.HERE / "clips")


def test_paths_in_commands_have_slashes():
    """Catches `--out runs\\b.pt`, of which shlex leaves `runsb.pt`, on Windows."""
    assert grid.write_flags({"out": PureWindowsPath("runs/bases/b.pt")}) == [
        "--out", "runs/bases/b.pt"]
    for name in runner.NAMES:
        lesson = runner.load_lesson(name)
        commands = getattr(lesson, "evidence_commands", lambda runs: [])(lesson.runs())
        assert all("\\" not in command for command, _, _ in commands)


def test_evidence_is_measured_beside_the_runs(lesson_of_two, monkeypatch):
    """Of the runs of this call; not in the quick door."""
    lesson = runner.load_lesson("template")
    monkeypatch.setattr(lesson, "measure", lambda runs: [{"n": len(runs)}], raising=False)
    assert runner.main(["template", "--seeds", "1"]) == 0
    assert report.read_results(Path("runs/lessons/template")).evidence == [{"n": 2.0}]
    Path("runs/lessons/template/evidence.csv").unlink()
    assert runner.main(["template", "--quick"]) == 0
    assert not Path("runs/lessons/template/evidence.csv").exists()
