"""Whatever is typed, rlvr.py ends with an exit code and, if that is 2, with one line that says why.

Half of the command lines are right ones with any flags that may stand together; the other half are
such a line with words that are wrong, missing, doubled or swapped.
"""

import contextlib
import io
import os
import shutil
from pathlib import Path
from typing import NamedTuple, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rlvr
from data.corpus import CORPORA
from data.task import SPLITS, render_problem
from model import save_checkpoint
from plumbing.flags import read_options
from rewards import REWARDS
from rlvr import LOSSES
from tests.helpers import describe_options, pool, run, tiny

CONFIGS = {"train": (rlvr.TrainConfig, LOSSES, REWARDS), "pretrain": (rlvr.PretrainConfig, CORPORA),
           "evaluate": (rlvr.evaluation.EvaluateConfig,),
           "sample": (rlvr.evaluation.SampleConfig,)}
# What follows a line with mistakes, so that a flag that is lost by them costs no minutes.
CHEAP = {"train": "--steps 1 --prompts 2 --group 2 --updates 1 --pool 2 --max-new-tokens 2 "
                  "--eval-problems 1 --eval-samples 1 --threads 1",
         "pretrain": "--steps 1 --batch 1 --layers 1 --width 8 --heads 2 --threads 1",
         "evaluate": "--problems 1 --samples 2 --max-new-tokens 2 --threads 1",
         "sample": "--max-new-tokens 2 -n 1 --threads 1"}
JUNK = ["", " ", "-1", "0", "-0", "1", "2", "+2", "1_0", "0x10", "1e400", "1e308", "1e39",
        "1e-320", "-1e-9", "nan", "-inf", "inf", "9" * 30, "9" * 5000, "\u0663", "1,5", "None", "-",
        "--", "---", "-n", "-h", "--out", "--seed", "--k", "--no-such", "--=3", "--steps=",
        "--lr=1e-3", "--st", "train", "pretrain", "sample", "random+code", "not_", "+",
        "not_not_code", "good-code", "37 *4", "37  *4", "100 *4", "37 *4\n", "a\nb", "a\r\nb",
        "a\0b", "\udcff", "\u00e9", "\u2028", "x" * 300, ".", "file", "file/x", "/proc/x",
        "/dev/null", "~", "%s", "{}"]
junk = st.sampled_from(JUNK) | st.text(st.characters(exclude_characters="/"), max_size=6)


class Field(NamedTuple):
    """A flag; `readers`: the entries that read it, none if every run does."""

    name: str
    kinds: tuple
    checks: dict
    readers: list[str]


def list_fields(command: str) -> list[Field]:
    config, *registries = CONFIGS[command]
    entries = {name: read_options(*entry.functions)
               for registry in registries for name, entry in registry.items()}
    options = read_options(config)
    for read in entries.values():
        options = read | options
    described = describe_options(*CONFIGS[command])
    return [Field(name, (option.kind, *get_args(option.kind)), described[name][1],
                  [entry for entry, read in entries.items() if name in read])
            for name, option in options.items()]


FIELDS = {command: list_fields(command) for command in CONFIGS}


def may_be(field: Field, flags: dict) -> bool:
    """Whether a flag may stand beside the ones that were chosen."""
    readers = field.readers
    terms = [term.removeprefix("not_") for term in flags.get("reward", "").split("+")]
    chosen = {flags.get("loss"), flags.get("base"), *terms}
    return not readers or bool(chosen & set(readers))


def values(field: Field) -> st.SearchStrategy:
    """Words for a flag that cost little and are within its bounds."""
    checks, kinds = field.checks, field.kinds
    if "choices" in checks:
        words = st.sampled_from(checks["choices"].split())
    elif int in kinds or "many" in checks:
        words = st.integers(checks["least"], checks["least"] + 3).map(str)
    else:
        above, most = checks.get("least", checks.get("above", 0)), checks.get("most", 2.0)
        numbers = st.floats(above + 0.001, most)
        words = (numbers | st.just(above) if "least" in checks else numbers).map(str)
    return st.lists(words, min_size=1, max_size=3) if "many" in checks else words.map(lambda w: [w])


@st.composite
def needed(draw, command: str) -> dict:
    """The flags of a right command line that depend on each other or on the machine."""
    def some(least, most):
        return draw(st.integers(least, most))

    if command == "train":
        prompts, group = some(1, 3), some(2, 3)
        reward = draw(st.sampled_from(["random", "correct", "format", "code", "majority",
                                       "not_code+random", "format+not_correct"]))
        return {"reward": reward, "loss": draw(st.sampled_from(list(LOSSES))),
                "base": "BASE", "out": "out", "steps": some(1, 2), "prompts": prompts,
                "group": group, "updates": some(1, prompts * group), "pool": some(1, 4),
                "max_new_tokens": some(1, 4), "eval_problems": some(1, 2),
                "eval_samples": some(1, 3), "threads": 1, "device": "cpu"}
    if command == "pretrain":
        heads = some(1, 2)
        return {"base": draw(st.sampled_from(list(CORPORA))), "out": "out.pt", "layers": some(1, 2),
                "heads": heads, "width": 2 * heads * some(1, 4), "steps": some(1, 2),
                "batch": some(1, 3), "threads": 1, "device": "cpu"}
    common = {"max_new_tokens": some(1, 4), "threads": 1, "device": "cpu"}
    if command == "sample":
        return common
    samples = some(1, 4)
    return {**common, "samples": samples, "problems": some(1, 2), "k": some(1, samples),
            "split": draw(st.sampled_from(SPLITS))}


@st.composite
def right_lines(draw) -> list[str]:
    """The words of a command line that does what it says, in a few milliseconds."""
    command = draw(st.sampled_from(list(CONFIGS)))
    flags = draw(needed(command))
    parts = [["--" + name.replace("_", "-"), str(value)] for name, value in flags.items()]
    for field in FIELDS[command]:
        if field.name not in flags and may_be(field, flags) and draw(st.integers(0, 3)) == 0:
            parts.append(["--" + field.name.replace("_", "-"), *draw(values(field))])
    if command == "sample":
        parts += [[render_problem(draw(st.sampled_from(pool()))[0])], ["-n", "2"]]
    parts = [["=".join(part)] if len(part) == 2 and draw(st.booleans()) and part[0][:2] == "--"
             else part for part in draw(st.permutations(parts))]
    # A flag that takes several words would take the checkpoint too.
    first = ["BASE"] if command in ("evaluate", "sample") else []
    return [command, *first, *[word for part in sorted(parts, key=lambda part: part[0][0] == "-")
                               for word in part]]


@st.composite
def wrong_lines(draw, line: list[str]) -> list[str]:
    """A line with one to three mistakes; some of them change nothing."""
    words = list(line)
    for _ in range(draw(st.integers(1, 3))):
        i = draw(st.integers(0, len(words) - 1))
        kind = draw(st.sampled_from(["junk", "flag", "insert", "lose", "double", "swap", "cut"]))
        if kind == "junk":
            words[i] = draw(junk)
        elif kind == "flag":
            field = draw(st.sampled_from(FIELDS[line[0]]))
            words += ["--" + field.name.replace("_", "-"), draw(junk)]
        elif kind == "insert":
            words.insert(i, draw(junk))
        elif kind == "lose" and len(words) > 1:
            del words[i]
        elif kind == "double":
            words[i:i] = words[i:i + 2]
        elif kind == "swap":
            j = draw(st.integers(0, len(words) - 1))
            words[i], words[j] = words[j], words[i]
        elif kind == "cut":
            words[i] = words[i][:-1]
    command = next((word for word in words if word in CHEAP), None)
    return words + (CHEAP[command].split() if command else [])


@st.composite
def pairs_of_lines(draw) -> tuple[list[str], list[str]]:
    line = draw(right_lines())
    return line, draw(wrong_lines(line))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Path:
    """A folder that may be filled; a base beside it."""
    folder = tmp_path_factory.mktemp("fuzz")
    save_checkpoint(folder / "base.pt", tiny().float(), corpus="good-code")
    return folder / "a/b/c"


def type_line(words: list[str], workshop: Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command line, typed in an empty folder."""
    if not workshop.exists() or os.listdir(workshop) != ["file"]:
        shutil.rmtree(workshop, ignore_errors=True)
        workshop.mkdir(parents=True)
        (workshop / "file").write_text("not a checkpoint", encoding="utf-8")
    base, here = str(workshop.parents[2] / "base.pt"), os.getcwd()
    out, error = io.StringIO(), io.StringIO()
    os.chdir(workshop)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            code = run(*(word.replace("BASE", base) for word in words))
    finally:
        os.chdir(here)
    return code, out.getvalue(), error.getvalue()


def check_line(words: list[str], workshop: Path) -> tuple[int, str]:
    """Exit code and stderr of what may be wrong. No exception: that is checked by getting here."""
    code, out, error = type_line(words, workshop)
    assert code in (0, 1, 2) and "Traceback" not in error
    if code == 2:
        assert out == "" and len(error.splitlines()) == 1 and error.endswith("\n"), error
    if code == 1:
        assert error.splitlines()[-1].startswith("rlvr.py: ")
    return code, error


def check_lines(lines: tuple[list[str], list[str]], workshop: Path) -> None:
    right, wrong = lines
    code, error = check_line(right, workshop)
    # With an --lr of 2 a policy may diverge, and says so.
    assert code == 0 or code == 1 and "diverged" in error
    check_line(wrong, workshop)


@settings(max_examples=30)
@given(pairs_of_lines())
def test_any_command_line(workshop, lines):
    check_lines(lines, workshop)


@pytest.mark.slow
@settings(max_examples=500)
@given(pairs_of_lines())
def test_a_thousand_command_lines(workshop, lines):
    check_lines(lines, workshop)


@pytest.mark.slow
@pytest.mark.parametrize("command", CONFIGS)
def test_every_flag_at_its_extremes(command, workshop):
    """Catches a number within the bounds that float32, or an index, cannot hold."""
    more = {"train": "--base BASE", "evaluate": "BASE", "sample": "BASE 37|*4"}.get(command, "")
    line = [word.replace("|", " ") for word in f"{command} {more} {CHEAP[command]}".split()]
    for field in FIELDS[command]:
        loss = [["--loss", reader] for reader in field.readers if reader in LOSSES][:1]
        loss = loss[0] if loss else []
        for number in ("-1", "0", "9" * 30, "1e-320", "1e29", "1e308"):
            words = [*line, *loss, "--" + field.name.replace("_", "-"), number]
            try:
                check_line(words, workshop)
            except Exception as error:
                raise AssertionError(" ".join(words)) from error
