"""The lessons: each a question, a grid of runs that answers it, a table, a figure and a page.

    python -m lessons                       # which there are
    python -m lessons spurious              # what is missing is run; then the table and the figure
    python -m lessons spurious --quick      # a small grid, minutes
    python -m lessons spurious --stored     # the page's table from the stored results: runs nothing
    python -m lessons spurious --all        # the record: every cell, as in RESULTS.md; --stored too
    python -m lessons spurious --runs       # a line for each of the stored runs
    python -m lessons spurious --commands   # one independent command a line, for any scheduler

Runs go to runs/, tables and figures to runs/lessons/NAME; --store writes them as the reference
results into lessons/NAME instead, and the tables into its pages: README.md teaches, RESULTS.md is
the record. Interrupt it at any time: the same command goes on where it was.
"""

import ast
import importlib
import re
import shlex
import sys
import time
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from types import ModuleType

import rlvr
from lessons.grid import locate_run, place_base, write_pretrain_command, write_train_command
from lessons.jobs import Job, count_jobs, run_jobs
from lessons.news import News, announce_jobs
from lessons.page import build_page
from lessons.report import (
    Results,
    collect,
    doubt_seeds,
    draw_to,
    read_results,
    tabulate_runs,
    write_results,
)
from lessons.summary import replace_table, show_summary
from plumbing.commands import Parser, list_written, run_command, suggest
from plumbing.files import check_writable, lock, read_text, write
from plumbing.flags import number, read_config
from plumbing.messages import InputError
from plumbing.system import say
from pretrain import PretrainConfig, check_pretraining

HERE = Path(__file__).parent
NAMES = ("spurious", "clips", "prior", "scale", "losses", "consistency", "calibration",
         "honesty", "judges", "feedback", "probe")  # in the order of the story
OWN: dict[str, ModuleType] = {}  # lessons in files of a user's own, by the name of the file


def load_lesson(name: str) -> ModuleType:
    return OWN.get(name) or importlib.import_module(f"lessons.{name}.lesson")


def locate_program(lesson: ModuleType) -> str:
    """What makes the bases and runs of a lesson: rlvr.py, or the user's file that it stands in."""
    ours = lesson.__name__.startswith("lessons.")
    return "rlvr.py" if ours else shlex.quote(Path(lesson.__file__).resolve().as_posix())


def locate_stored(name: str) -> Path:
    """The folder of a lesson's stored results; of a user's own they are where its last ones are."""
    return Path("runs/lessons", name) if name in OWN else HERE / name


def list_bases(runs: list[dict]) -> list[str]:
    """The names of what some runs need pretrained: their bases, and their judges."""
    return list(dict.fromkeys(run[kind] for kind in ("base", "judge") for run in runs
                              if kind in run))


def plan_jobs(lesson: ModuleType, runs: list[dict], at_once: int = 1) -> list[Job]:
    """What is missing of a lesson: bases first, then runs.

    A run has one thread. Where bases are fewer than cores they share the cores, which changes
    nothing of a base.
    """
    jobs, slower, program = [], {}, locate_program(lesson)
    missing = sum(not place_base(name).exists() for name in list_bases(runs))
    threads = max(1, at_once // max(1, missing))
    choose_program = getattr(lesson, "choose_program", lambda run: program)
    for name in list_bases(runs):
        flags, path = lesson.BASES[name], place_base(name)
        slower[name] = (flags.get("width", 64) / 64) ** 1.5
        command = f"{write_pretrain_command(name, flags, program)} --threads {threads}"
        jobs.append(Job(f"pretrain {name}", command, path, (), path.with_suffix(".log"),
                        0.055 * flags.get("steps", 1700) * slower[name]))
    for run in runs:
        folder, needs = locate_run(run), tuple(map(place_base, list_bases([run])))
        rollouts = run.get("steps", 20) * run.get("prompts", 64) * run.get("group", 16)
        command = write_train_command(run, choose_program(run))
        jobs.append(Job(str(folder), f"{command} --threads 1",
                        folder / "summary.json", needs, folder / "log.txt",
                        18 * rollouts / 20480 * slower[run["base"]]))
    return [job for job in jobs if not job.makes.exists()]


def plan_evidence(lesson: ModuleType, runs: list[dict]) -> list[Job]:
    """What is missing of the commands that a lesson measures with beside its runs."""
    commands = getattr(lesson, "evidence_commands", lambda runs: [])(runs)
    seconds = getattr(lesson, "EVIDENCE_SECONDS", 130)
    jobs = [Job(str(makes.parent), command, makes, (place_base(base),), makes.parent / "log.txt",
                seconds)
            for command, makes, base in commands]
    return [job for job in jobs if not job.makes.exists()]


def check_bases(lesson: ModuleType, runs: list[dict]) -> None:
    """InputError if a base that is there was made with other flags than the lesson says."""
    for name in list_bases(runs):
        if place_base(name).exists():
            config = read_config(PretrainConfig, lesson.BASES[name])
            check_pretraining(config, place_base(name))


def teach(args) -> None:
    """Run what is missing of a lesson, then print its table and draw its figure."""
    lesson = load_lesson(args.name)
    if args.runs is not None:
        return show_runs(args.name, args.runs)
    if args.stored:
        return show_stored(args.name, lesson, args.all)
    runs = lesson.runs(quick=args.quick, **({"seeds": args.seeds} if args.seeds else {}))
    check_bases(lesson, runs)
    at_once = args.jobs or count_jobs()
    jobs = plan_jobs(lesson, runs, at_once)
    jobs += [] if args.quick else plan_evidence(lesson, runs)
    if args.commands:
        return print_commands(args.name, jobs)
    out, ours = locate_stored(args.name), Path("runs/lessons", args.name)
    for folder in (out, ours) if args.store else [ours]:
        check_writable(folder)
    with lock(ours / ".lock"):
        finish_lesson(args, lesson, runs, jobs, at_once, out if args.store else ours)


def show_runs(name: str, columns: list[str]) -> None:
    """A line for each stored run; what they are goes to stderr, since these are rows to read in."""
    runs = read_results(locate_stored(name)).runs
    print(tabulate_runs(runs, columns))
    say(f"{len(runs)} runs, of {(locate_stored(name) / 'runs.csv').as_posix()}, whose first line "
        "has the names for --runs COLUMN")
    suggest(f"python -m lessons {name} --stored", show=say)


def show_stored(name: str, lesson: ModuleType, whole: bool) -> None:
    """The stored results' table; and their figures, where a file may be written."""
    results, folder = read_results(locate_stored(name)), Path("runs/lessons", name)
    show_findings(lesson, results, whole)
    try:
        check_writable(folder)
    except InputError as error:
        return print(f"no figure: {error}")
    list_written(*draw_figures(folder, lesson, results, record=True))
    more = [] if whole else [f"python -m lessons {name} --stored --all"]
    suggest(*more, f"python -m lessons {name} --quick")


def show_findings(lesson: ModuleType, results: Results, whole: bool) -> None:
    """The few rows of a lesson's page and their sentence; `whole`: the record of all cells."""
    if whole or not hasattr(lesson, "summary"):
        print(lesson.table(results))
    else:
        print(show_summary(lesson.summary(results)))


def draw_figures(folder: Path, lesson: ModuleType, results: Results, record: bool) -> list[Path]:
    """figure.png, which the page explains, and of some lessons record.png, which RESULTS.md has.

    record: whether the latter too, which is of all cells; a quick grid need not have them.
    """
    written = draw_to(folder / "figure.png", lesson.figure, results)
    if written and record and hasattr(lesson, "record_figure"):
        written += draw_to(folder / "record.png", lesson.record_figure, results)
    return written


def finish_lesson(args, lesson: ModuleType, runs: list[dict], jobs: list[Job], at_once: int,
                  out: Path) -> None:
    """Do the jobs, then what `teach` promises; results go to `out`."""
    began = time.monotonic()
    if jobs:
        announce_jobs(jobs, at_once)
        tasks = sum(bool(job.needs) for job in jobs)
        run_jobs(args.name, jobs, args.jobs or count_jobs(tasks), News(runs).tell)
    evidence = lesson.measure(runs) if hasattr(lesson, "measure") and not args.quick else []
    curves = getattr(lesson, "CURVES", ())
    folders = [locate_run(run) for run in runs]
    found = drop_curves(lesson, runs, collect(folders, evidence, curves))
    write_results(out, found._replace(runs=add_base_seeds(found.runs, lesson.BASES)))
    results = read_results(out)  # what is stored is shown, to the last digit
    show_findings(lesson, results, args.all)
    if doubt := doubt_seeds(results.runs):
        print(doubt)
    if args.quick:
        recall_stored(args.name, lesson)
    if args.store:
        update_pages(out, lesson, results)
    seconds = time.monotonic() - began
    print(f"{args.name}: {len(runs)} runs, {len(jobs)} jobs done now, "
          f"{int(seconds / 60)} min {int(seconds % 60)} s")
    page = Path("runs/lessons", args.name, "page.html")
    write(page, build_page(folders, found.runs, page.parent))
    list_written(page, *draw_figures(out, lesson, results, not args.quick), out / "runs.csv")
    suggest(f"open {page.as_posix()} in a browser", *list_next(args.name, args.quick))


def recall_stored(name: str, lesson: ModuleType) -> None:
    """Beside few runs of a reader's own, the finding of all runs that are stored, if there is one.
    """
    if name not in OWN and hasattr(lesson, "summary") and (HERE / name / "runs.csv").exists():
        print("all stored runs, to compare:")
        print(lesson.summary(read_results(HERE / name)).sentence)


def list_next(name: str, quick: bool) -> list[str]:
    """The command of the lesson that follows one of ours in the story."""
    later = NAMES[NAMES.index(name) + 1:] if name in NAMES else ()
    return [f"./train.sh {following}{' --quick' if quick else ''}" for following in later[:1]]


def drop_curves(lesson: ModuleType, runs: list[dict], results: Results) -> Results:
    """Without the curves of runs that a lesson does not follow, if it says which it `follows`.

    Of those that it does, all columns, or those that it says it `keeps`.
    """
    follows = getattr(lesson, "follows", lambda run: True)
    keeps = getattr(lesson, "keeps", lambda run: None)
    curves = {}
    for i, run in enumerate(runs):
        if follows(run):
            names = keeps(run)
            curves[i] = (results.curves[i] if names is None else
                         [{name: row[name] for name in ("step", *names)}
                          for row in results.curves[i]])
    return results._replace(curves=curves)


def add_base_seeds(rows: list[dict], bases: dict[str, dict]) -> list[dict]:
    """Rows of runs.csv with the pretraining seed of each run's base, if some base says one."""
    if not any("seed" in flags for flags in bases.values()):
        return rows
    return [{"base": row["base"], "base_seed": bases[row["base"]].get("seed", 0), **row}
            for row in rows]


def print_commands(name: str, jobs: list[Job]) -> None:
    """The missing bases, or, once they are there, the missing runs: each line stands alone."""
    bases = [job for job in jobs if not job.needs]
    for job in bases or jobs:
        print(job.command)
    if bases:
        say(f"first the {len(bases)} above, which are bases; then again for the runs")
    else:
        done = f"these {len(jobs)}, in any order; then" if jobs else "nothing is missing:"
        say(f"{done} python -m lessons {name}    # the table")


def update_pages(folder: Path, lesson: ModuleType, results: Results) -> None:
    """The record's table into RESULTS.md, the few rows into README.md."""
    update_record(folder / "RESULTS.md", lesson.table(results))
    if hasattr(lesson, "summary"):
        page = folder / "README.md"
        write(page, replace_table(read_text(page), lesson.summary(results)))


def update_record(page: Path, table: str) -> None:
    """Put the table into the first text block below `## Table`."""
    text = read_text(page)
    new, count = re.subn(r"(## Table\n.*?```text\n).*?(^```$)",
                         lambda match: f"{match[1]}{table}\n{match[2]}", text, count=1,
                         flags=re.DOTALL | re.MULTILINE)
    if not count:
        raise InputError(f"{page} has no text block below '## Table'")
    write(page, new)


def list_lessons() -> None:
    """A menu: every lesson's name, its minutes on 2 cores, its question."""
    print("lesson       minutes  question")
    for name in NAMES:
        source = read_text(HERE / name / "lesson.py")  # with -OO the module has no docstring
        question, answer = ast.get_docstring(ast.parse(source)).split("\n\n")[:2]
        print(f"{name:11s}  {read_minutes(answer):>7s}  {question}")
    suggest("python -m lessons spurious --stored    # its results, in seconds",
            "python -m lessons spurious --quick     # a small part of it, run in minutes")


def read_minutes(answer: str) -> str:
    """Of "About 50 minutes on 2 cores." in a lesson's docstring; nothing where it says none."""
    found = re.search(r"(\d+) minutes on", " ".join(answer.split()))
    return found[1] if found else ""


def main_of_file(file: ModuleType) -> int:
    """The command line of a file of a user's own: rlvr.py's, and its lesson if it has one.

    `python FILE train ...` has the entries that the file adds; `python FILE lesson ...` runs its
    BASES, runs, table and figure, as `python -m lessons NAME ...` does for ours.
    """
    if sys.argv[1:2] != ["lesson"]:
        return rlvr.main()
    name = Path(file.__file__).stem
    OWN[name] = file
    return main([name, *sys.argv[2:]], f"{Path(file.__file__).name} lesson")


def main(arguments: list[str] | None = None, prog: str = "python -m lessons") -> int:
    parser = Parser(prog=prog, description=__doc__, allow_abbrev=False,
                    formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=[*NAMES, *OWN],
                        help="which lesson; none lists them")
    parser.add_argument("--quick", action="store_true", help="a small grid")
    parser.add_argument("--seeds", type=number(int, least=1), help="of a cell (the coin: 4 x)")
    parser.add_argument("--jobs", type=number(int, least=1), help="at once (default: cores)")
    parser.add_argument("--store", action="store_true", help="write the reference results")
    parser.add_argument("--stored", action="store_true", help="show the reference results")
    parser.add_argument("--all", action="store_true", help="print the record: every cell")
    parser.add_argument("--runs", nargs="*", metavar="COLUMN",
                        help="a line for each stored run: these columns of runs.csv")
    parser.add_argument("--commands", action="store_true", help="print what is missing")
    args = parser.parse_args(arguments)
    if args.name is None:
        return run_command(parser.prog, list_lessons)
    if args.quick and (args.store or args.seeds):
        parser.error("--quick is a grid of its own: not with --store or --seeds")
    if args.name in OWN and args.store:
        parser.error("--store is for lessons that have a page here; yours writes to runs/lessons")
    shows = args.stored or args.runs is not None
    if shows and (args.quick or args.store or args.seeds or args.jobs or args.commands):
        parser.error("--stored and --runs run nothing: no other flag goes with them")
    return run_command(parser.prog, lambda: teach(args), resumes=True)

