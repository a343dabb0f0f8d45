"""What a lesson says while it works and when it has ended, and the first run of all.

A lesson of seconds stands in a file of its own, since jobs are processes that no test can patch.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pretrain
from data.task import parse_problem, split_of
from lessons import jobs as work
from lessons import news, runner
from lessons.report import read_results
from lessons.spurious import lesson as spurious
from lessons.spurious import trio
from plumbing import commands
from plumbing.progress import progress_bar, say_above
from tests.helpers import TINY_BASE, run, weights

ROOT = Path(__file__).parents[1]
LESSON = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from lessons.grid import base_grid, grid
from lessons.report import draw_gains, tabulate
from lessons.runner import main_of_file

BASES = base_grid(base=["mixed-code", "mixed-none"], steps=25, batch=8, layers=1, width=8, heads=2)

def runs(seeds=2, quick=False):
    return grid(base=list(BASES), reward=["random", "correct"], steps=2, prompts=3, group=4,
                updates=2, pool=9, max_new_tokens=12, eval_problems=5, eval_samples=2,
                seed=range(1, 2 if quick else seeds + 1))

def table(results):
    return "the table\\n" + tabulate(results.runs)

figure = draw_gains

if __name__ == "__main__":
    sys.exit(main_of_file(sys.modules["__main__"]))
"""


@pytest.fixture
def small(tmp_path) -> Path:
    (tmp_path / "small.py").write_text(LESSON, "utf-8")
    return tmp_path


def call_small(folder: Path, *words) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "small.py", "lesson", *words], cwd=folder,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")


# --- while bases are made


@pytest.mark.parametrize("steps", [25, 20])
def test_an_answer_that_is_shown_changes_no_base(steps, tmp_path, monkeypatch, capsys):
    """Weights bit for bit: catches a sample that takes numbers of the base's own streams."""
    flags = ["--steps", steps, *TINY_BASE[2:]]
    assert run("pretrain", "--out", tmp_path / "shown.pt", *flags) == 0
    shown = news.list_answers(capsys.readouterr().err)
    assert [re.search(r"after (\d+) of", text)[1] for text in shown] == (
        ["20", "25"] if steps == 25 else ["20"])
    monkeypatch.setattr(pretrain, "show_answer", lambda work: torch.rand(0))
    assert run("pretrain", "--out", tmp_path / "quiet.pt", *flags) == 0
    assert not news.list_answers(capsys.readouterr().err)
    assert torch.equal(weights(tmp_path / "shown.pt"), weights(tmp_path / "quiet.pt"))


def test_showing_an_answer_draws_nothing(base, capsys):
    """Catches a sampler on torch's global generator, which pretraining may come to use."""
    config = pretrain.PretrainConfig(base="good-code", steps=9)
    device = torch.device("cpu")
    model = pretrain.load_checkpoint(Path(base), device)[0]
    before = torch.random.get_rng_state()
    pretrain.show_answer(pretrain.Pretraining(config, model, [], [], step=3))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(p.grad is None for p in model.parameters())
    head, *lines = capsys.readouterr().err.splitlines()
    said = r"good-code, after 3 of 9 steps, answers 37 -2 \+5 \((right|wrong).*\)"
    assert re.fullmatch(said, head)
    assert lines and all(line.startswith("    ") and len(line) <= 84 for line in lines)
    assert split_of(parse_problem(pretrain.EXAMPLE)) == "training"


@pytest.mark.parametrize("name", ["judge-direct", "tenths-code"])
def test_a_base_that_cannot_be_asked_shows_no_answer(name, tmp_path, capsys):
    assert run("pretrain", "--base", name, "--out", tmp_path / "b.pt", *TINY_BASE) == 0
    assert "answers" not in capsys.readouterr().err


def test_what_a_model_says_moves_no_bar(tmp_path):
    """Catches '3/0 [' in an answer that is taken for progress."""
    log = tmp_path / "log"
    log.write_text("a:  10%|#| 2/20 [00:01<00:09]\nb, after 2 of 20 steps, answers 1 +1 (right)\n"
                   "    9/10 [ 3/0 [\n", encoding="utf-8")
    assert work.read_progress(work.Job("j", "", tmp_path, (), log, 1.0)) == 0.1


def write_summary(path: Path, greedy: float) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({when: {"greedy_accuracy": greedy + more, "accuracy": 0.5}
                                for when, more in (("before", 0), ("after", 0.125))}), "utf-8")


def test_news_are_told_once(tmp_path, monkeypatch, capsys):
    """The newest answer of each base, a row as a run ends; nothing that was told, nor of runs that
    were there before."""
    monkeypatch.chdir(tmp_path)
    runs = [{"base": "b", "reward": "random", "steps": 2, "seed": 1, "p": p} for p in (0.5, 0.25)]
    tell = news.News(runs).tell
    making = work.Job("pretrain b", "", Path("b.pt"), (), Path("b.log"), 1.0)
    train = [work.Job(str(news.locate_run(run)), "", news.locate_run(run) / "summary.json",
                      (Path("b.pt"),), Path("r.log"), 1.0) for run in runs]
    answers = [f"b, after {n} of 9 steps, answers 1 +1 (right)\n    {n}\n    x" for n in (1, 2, 3)]
    Path("b.log").write_text("bar\n", "utf-8")
    tell([making], [])
    assert capsys.readouterr().err == ""
    Path("b.log").write_text("\n".join(["bar", *answers[:2], "bar", ""]), "utf-8")
    tell([making], [])
    tell([making], [])
    assert capsys.readouterr().err == answers[1] + "\n"
    Path("b.log").write_text("\n".join(["bar", *answers, "done"]), "utf-8")
    tell([], [making])
    assert capsys.readouterr().err == answers[2] + "\n"
    write_summary(train[1].makes, 0.25)
    Path("r.log").write_text(answers[0], "utf-8")          # a run's log has no news of a base
    tell([train[0]], [train[1]])
    assert capsys.readouterr().err == (
        "b  random  seed 1  --p 0.25  greedy 0.250 -> 0.375, sampled 0.500 -> 0.500\n")


def test_rows_of_runs_are_aligned():
    """A flag that all have is left out; one of a single run is not."""
    runs = [{"base": "a", "reward": "random", "seed": 10, "steps": 3},
            {"base": "long", "reward": "x", "seed": 2, "steps": 3, "num_ops": (1, 2)}]
    assert news.describe_runs(runs) == ["a     random  seed 10",
                                        "long  x       seed 2   --num-ops 1 2"]
    assert news.describe_runs([]) == []


@pytest.mark.parametrize("bases, runs, said", [
    (3, 6, "3 bases to pretrain and 6 runs to train, 2 at a time: about 5 minutes"),
    (1, 0, "1 base to pretrain, 2 at a time: about 2 minutes"),
    (0, 2, "2 runs to train, 2 at a time: about 1 minute")])
def test_what_will_be_done_is_said_first(bases, runs, said, capsys):
    """And about how long it takes, by the jobs' own seconds on so many cores."""
    job = work.Job("", "", Path(), (), Path(), 127.5)
    news.announce_jobs([job] * bases + [job._replace(needs=(Path(),), seconds=27.0)] * runs, 2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == said and len(lines) == 1 + (bases > 0)


def test_a_line_above_a_bar(monkeypatch, capsys):
    """In a file as it is: no carriage return beside it."""
    with progress_bar(total=2) as bar:
        say_above("news\nand more")
        bar.update(2)
    error = capsys.readouterr().err
    assert "\nnews\nand more\n" in error and "\r" not in error


# --- a whole lesson


@pytest.mark.slow
def test_a_lesson_from_nothing_in_a_file(small):
    """What is to do, answers, rows, table, doubt, what was written, what is next, in this order."""
    done = call_small(small, "--quick", "--jobs", "2")
    assert done.returncode == 0, done.stdout
    assert "\r" not in done.stdout and "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0] == "2 bases to pretrain and 4 runs to train, 2 at a time: about 1 minute"
    assert len(news.list_answers(done.stdout)) >= 2
    rows = [i for i, line in enumerate(lines) if re.match(r"mixed-\w+-\S+ +\w+ +seed 1 ", line)]
    table, = (i for i, line in enumerate(lines) if line == "the table")
    assert len(rows) == 4 and max(rows) < table
    assert lines[-4:] == ["one seed: enough to see it, not to claim it", lines[-3],
                          "wrote runs/lessons/small/page.html, figure.png, runs.csv",
                          "next: open runs/lessons/small/page.html in a browser"]
    assert re.fullmatch(r"small: 4 runs, 6 jobs done now, 0 min \d+ s", lines[-3])
    assert (small / "runs/lessons/small/page.html").exists()
    again = call_small(small, "--quick").stdout.splitlines()
    assert again[0] == "the table" and "4 runs, 0 jobs done now" in again[-3]


def list_commands(folder: Path) -> list[str]:
    """What --commands prints on stdout, to be run by the Python of the tests."""
    done = subprocess.run([sys.executable, "small.py", "lesson", "--quick", "--commands"],
                          cwd=folder, stdout=subprocess.PIPE, encoding="utf-8", check=True)
    assert all(line.startswith("python ") for line in done.stdout.splitlines())
    return [line.replace("python", shlex.quote(sys.executable), 1)
            for line in done.stdout.splitlines()]


def read_way(way: str) -> str:
    """What reference.md has to be typed for a list runs.txt, by GNU parallel or for a Slurm array.
    """
    page = (ROOT / "reference.md").read_text("utf-8")
    if way == "parallel":
        return re.search(r"^parallel .* < runs\.txt$", page, re.MULTILINE)[0]
    return re.search(r"^sbatch --array=1-\$\(wc -l < runs\.txt\) --wrap '(.*)'$", page,
                     re.MULTILINE)[1]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["slurm", "parallel"])
def test_commands_for_a_scheduler(way, small):
    """As reference.md has it, first the bases, then the runs; then the lesson has nothing to do.

    What Slurm would run as task i is run here, one after the other.
    """
    if shutil.which("parallel" if way == "parallel" else "bash") is None:
        pytest.skip(f"not here: {way}")
    for count in (2, 4):
        lines = list_commands(small)
        assert len(lines) == count
        (small / "runs.txt").write_text("".join(f"{line}\n" for line in lines), "utf-8")
        for i in range(1, 2 if way == "parallel" else count + 1):
            subprocess.run(["bash", "-c", read_way(way)], cwd=small, check=True,
                           capture_output=True, env=os.environ | {"SLURM_ARRAY_TASK_ID": str(i)})
    assert list_commands(small) == []
    assert "4 runs, 0 jobs done now" in call_small(small, "--quick").stdout


# --- the quick door


def test_the_quick_door_is_a_part_of_the_full_grid():
    """The first seeds of each cell on its first base, whatever they gave."""
    quick, full = spurious.runs(quick=True), spurious.runs()
    assert all(run in full for run in quick)
    assert [(run["base"], run["reward"], run["seed"]) for run in quick] == [
        ("mixed-code", "random", 1001), ("mixed-code", "random", 1002),
        ("mixed-code", "random", 1003), ("mixed-code", "correct", 1901)]
    for chosen in quick:
        seeds = [other["seed"] for other in full if chosen | {"seed": other["seed"]} == other]
        assert chosen["seed"] in sorted(seeds)[:3]
    assert sum(trio.QUICK.values()) == len(quick)


def test_the_base_has_all_cores(tmp_path, monkeypatch, capsys):
    """It is the one job that there is at first."""
    monkeypatch.chdir(tmp_path)
    assert runner.main(["spurious", "--quick", "--commands", "--jobs", "2"]) == 0
    line, = capsys.readouterr().out.splitlines()
    assert line.split()[4] == "mixed-code" and line.endswith("--threads 2")


def test_few_runs_are_set_beside_all_stored_ones(capsys):
    """The finding of the stored rows; nothing for a lesson that has none."""
    runner.recall_stored("spurious", spurious)
    said = capsys.readouterr().out
    stored = spurious.summary(read_results(ROOT / "lessons/spurious"))
    assert said == f"all stored runs, to compare:\n{stored.sentence}\n"
    runner.recall_stored("template", runner.load_lesson("template"))
    assert capsys.readouterr().out == ""


def test_train_sh_speaks_at_once():
    """Before Python has loaded anything."""
    text = (ROOT / "train.sh").read_text("utf-8")
    door = text[text.index('"")'):]
    assert door.index("echo") < door.index("exec $python -m lessons spurious --quick")


# --- last lines


@pytest.mark.parametrize("words", ["pretrain", "train", "evaluate", "sample"])
def test_every_command_says_what_is_next(words, base, tmp_path, monkeypatch, capsys):
    """From the project's folder: the last line is a command, on stderr where stdout is JSON."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "ROOT", Path.cwd())
    small = ("--eval-problems 2 --eval-samples 2 --steps 1 --prompts 2 --group 2 --updates 1 "
             "--pool 2")
    typed = {"pretrain": ["--out", "b.pt", *TINY_BASE], "sample": [base, "37 *4", "-n", "2"],
             "train": ["--base", base, "--out", "r", "--max-new-tokens", "4", *small.split()],
             "evaluate": [base, "--problems", "2", "--samples", "2"]}
    assert run(words, *typed[words]) == 0
    out, error = capsys.readouterr()
    lines = (error if words == "evaluate" else out).splitlines()
    i, = (i for i, line in enumerate(lines) if line.startswith("next: "))
    assert i >= len(lines) - 2 and i > 0
    if words == "evaluate":
        json.loads(out)
    if words == "sample":
        assert re.fullmatch(r"--- \d of 2 right", lines[i - 1])


def test_written_files_are_listed_by_folder(capsys):
    commands.list_written(Path("a/x.html"), Path("a/y.png"), Path("b/z.csv"))
    commands.list_written()
    assert capsys.readouterr().out == "wrote a/x.html, y.png\nwrote b/z.csv\n"


def test_the_next_lesson_is_that_of_the_story():
    assert runner.list_next("spurious", True) == ["./train.sh clips --quick"]
    assert runner.list_next("spurious", False) == ["./train.sh clips"]
    assert runner.list_next(runner.NAMES[-1], True) == runner.list_next("mine", True) == []
