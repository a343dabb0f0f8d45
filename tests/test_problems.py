"""The problems: commands that can be typed, points, what `check` says, answers that stay here."""

import csv
import json
import math
import re
import shlex

import numpy as np
import pytest

import rlvr
from course import copies
from course.exercises.catalog import EXERCISES
from course.problems import __main__ as problems
from course.problems import catalog
from course.problems.catalog import PARTS, PROBLEMS
from lessons.report import describe_flags, select_runs
from plumbing.files import to_csv, to_json
from plumbing.flags import list_values
from tests.helpers import call

FOLDER = copies.ROOT / "course/problems"
PAGE = (FOLDER / "README.md").read_text("utf-8")
SECTIONS = {int(part.split(".")[0]): part for part in re.split(r"(?m)^### (?=\d)", PAGE)[1:]}


def play(*arguments) -> int:
    """The exit code of `python -m course.problems ...`."""
    return call(problems.main, *arguments)


def list_commands(text: str) -> list[list[str]]:
    """The words of every `python rlvr.py` line in the blocks of a page, without their comments."""
    blocks = re.findall(r"(?ms)^```console\n(.*?)^```", text)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[2:] for line in lines if "python rlvr.py" in line]


def read_flags(words: list[str]) -> dict:
    args = vars(rlvr.build_parser().parse_args(words))
    return {name: value for name, value in args.items() if name != "command"}


def find_cell(number: int, words: list[str]) -> catalog.Cell | None:
    """The cell of a problem that a `train` command makes a run of."""
    config = rlvr.make_config(**read_flags(words))
    row = {"base": config.base, "reward": config.reward, "loss": config.loss,
           "flags": describe_flags(list_values(config))}
    cells = PROBLEMS[number].cells
    return next((cell for cell in cells if select_runs([row], cell.flags)), None)


def write_run(folder, cell: catalog.Cell, index: int = 0, seed: int = 7, **changed) -> str:
    """A folder as `train` leaves it, of what a stored run of a cell was; `changed`: of its curve.
    """
    row, curve = catalog.find_runs_of(cell)[index]
    config = list_values(rlvr.make_config(**cell.flags, seed=seed))
    sides = {when: {name.removeprefix(f"{when}_"): value for name, value in row.items()
                    if name.startswith(f"{when}_")} for when in ("before", "after")}
    folder.mkdir(parents=True)
    summary = {"base": cell.flags["base"], "reward": config["reward"], "loss": config["loss"],
               "seed": seed, **sides}
    (folder / "summary.json").write_text(to_json(summary), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(config | {"command": "typed"}), encoding="utf-8")
    (folder / "metrics.csv").write_text(to_csv([point | changed | {"step": int(point["step"])}
                                                for point in curve]), encoding="utf-8")
    return str(folder)


# --- the catalog and the page

def test_points_add_up_and_parts_are_balanced():
    """A hundred, as the page says; three problems on sampling, four on clips, three, two."""
    assert sum(sum(problem.points) for problem in PROBLEMS.values()) == 100
    assert "Twelve problems, 100 points" in PAGE and list(PROBLEMS) == list(range(1, 13))
    parts = [problem.part for problem in PROBLEMS.values()]
    assert [parts.count(part) for part in PARTS] == [3, 4, 3, 2] and parts == sorted(
        parts, key=PARTS.index)


def test_the_page_has_every_problem(capsys):
    """Title, minutes and points in its index and in the list that is printed; what is asked for."""
    assert play() == 0
    printed = re.sub(" +", " ", capsys.readouterr().out)
    for number, problem in PROBLEMS.items():
        points, minutes = sum(problem.points), problem.minutes or "no run"
        assert (f"{problem.title} | {minutes} | {points} | {' + '.join(map(str, problem.points))} |"
                in PAGE)
        assert f"{number} {minutes} {points} {problem.part} {problem.title}" in printed
        section = " ".join(SECTIONS[number].split())
        assert section.startswith(f"{number}. {problem.title} ")
        for part in ("**Write down first**", "**Hand in**", f"course.problems check {number} "):
            assert part in section, (number, part)


@pytest.mark.parametrize("number", PROBLEMS)
def test_expected_numbers_are_those_of_the_stored_rows(number, capsys):
    """Of three seeds or more; on the page they are folded away."""
    folded = re.findall(r"(?ms)^<details>.*?^</details>", SECTIONS[number])
    assert len(folded) == 1 and catalog.write_expected(number) in folded[0]
    assert play("expected", number) == 0
    assert catalog.write_expected(number) in capsys.readouterr().out
    for cell in PROBLEMS[number].cells:
        assert len(catalog.find_runs_of(cell)) >= 3, cell.name


@pytest.mark.parametrize("number", PROBLEMS)
def test_commands_of_the_page_make_the_runs_of_the_problem(number):
    """All of them, one core each, and `check` would take them. Catches a flag that was renamed."""
    commands = list_commands(SECTIONS[number].split("## As a lecturer")[0])
    for words in commands:
        assert read_flags(words)["threads"] == 1
    made = [find_cell(number, words) for words in commands if words[0] == "train"]
    assert None not in made and all(cell in made for cell in PROBLEMS[number].cells)
    for cell in PROBLEMS[number].cells:
        words = shlex.split(problems.write_command(cell, number))[2:]
        assert find_cell(number, words) == cell


def test_the_bases_of_the_page_can_be_made():
    """Every base that a problem needs has its command."""
    made = {read_flags(words)["base"] for words in list_commands(PAGE.split("## Sampling")[0])}
    assert made == {cell.flags["base"] for p in PROBLEMS.values() for cell in p.cells}


def read_seconds(number: str) -> list[tuple[str, float]]:
    """Processor time of one core that was measured for a problem's commands, or for bases: ''."""
    rows = csv.DictReader((FOLDER / "seconds.csv").read_text("utf-8").splitlines())
    return [(row["what"], float(row["seconds"])) for row in rows if row["problem"] == number]


@pytest.mark.parametrize("number", PROBLEMS)
def test_a_problem_takes_at_most_three_minutes(number):
    """Of one core, without the bases: measured, and by the slowest stored run of each setting."""
    problem, measured = PROBLEMS[number], read_seconds(str(number))
    assert {cell.name for cell in problem.cells} <= {name for name, _ in measured}
    stored = sum(max(row["seconds_total"] for row, _ in catalog.find_runs_of(cell))
                 for cell in problem.cells)
    assert max(stored, sum(seconds for _, seconds in measured)) <= 60 * problem.minutes <= 180


def test_a_base_takes_two_to_three_minutes():
    """As the page says; all three were measured."""
    assert {name for name, _ in read_seconds("")} == {"good-code", "bad-code", "no-code"}
    assert {round(seconds / 60) for _, seconds in read_seconds("")} == {2, 3}
    assert "two to three minutes more" in PAGE


# --- what is expected

def test_a_new_seed_is_inside_in_95_of_100_cases():
    """Student's interval for one more value: catches that of the mean, or two deviations."""
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(4000, 5)).tolist()
    held = [catalog.expect(row[:4], -9, 9, 0).holds(row[4]) for row in drawn]
    assert abs(np.mean(held) - 0.95) < 0.012


def test_what_differs_by_factors_is_bounded_on_a_log_scale():
    """Clipped tokens: catches bounds that begin at 0. Where a value is 0 there is no logarithm."""
    low, high = catalog.expect([0.1, 0.2, 0.4], 0, 100, 0, ratios=True)[1:3]
    assert low * high == pytest.approx(0.2 ** 2) and 0 < low < 0.1
    plain = catalog.expect([0.0, 0.2], 0, 100, 0)
    assert catalog.expect([0.0, 0.2], 0, 100, 0, ratios=True) == plain
    assert catalog.expect_number(PROBLEMS[7].cells[1], catalog.CLIPPED).low > 0.1


def test_stored_seeds_left_out_in_turn_are_inside_in_95_of_100_cases():
    """Which normal numbers cannot show: shares pile up at 1, and gains are of two kinds.

    Catches Student's interval alone, which leaves out 7 of 100, and some of its own seeds.
    """
    asked = {(str(cell.flags), cell.lesson, quantity.name): (cell, quantity)
             for p in PROBLEMS.values() for cell in p.cells for quantity in p.quantities}
    held = []
    for cell, quantity in asked.values():
        runs = catalog.find_runs_of(cell)
        expected = catalog.expect_of(runs, quantity)
        assert all(map(expected.holds, expected.values)), (cell.name, quantity.name)
        held += [catalog.expect_of(runs[:i] + runs[i + 1:], quantity).holds(expected.values[i])
                 for i in range(len(runs))]
    assert len(held) == 450 and abs(np.mean(held) - 0.95) < 0.01
    seen = sum(len(p.cells) * len(p.quantities) for p in PROBLEMS.values())
    assert f"You will see {seen} such numbers" in " ".join(PAGE.split())


def test_a_gain_ends_where_accuracy_ends():
    """From 69% nobody gains 80 points: 31, and a point for a base made elsewhere."""
    lower, upper = PROBLEMS[4].cells[1], PROBLEMS[4].cells[0]
    assert catalog.expect_number(upper, catalog.SAMPLED).high == pytest.approx(32, abs=0.1)
    assert catalog.expect_number(lower, catalog.SAMPLED).low == pytest.approx(-70, abs=0.1)


def test_bounds_end_where_the_number_ends():
    """A share is at most 1; and equal seeds leave the slack of a base made elsewhere."""
    assert catalog.expect([0.9, 0.95, 1.0])[1:3] == (pytest.approx(0.7016, abs=1e-4), 1.0)
    equal = catalog.expect([0.5, 0.5, 0.5])
    assert equal[:3] == (0.5, 0.49, 0.51)
    assert [equal.holds(value) for value in (0.485, 0.495, 0.505, 0.515)] == [
        False, True, True, False]


def test_tell_apart_has_the_level_and_the_power_of_a_t_test():
    """5% without a gap; with many seeds the power of the normal formula, which is exact there."""
    assert abs(catalog.tell_apart(6, 1.0, gap=0.0) - 0.05) < 0.006
    shift = 0.4 / math.sqrt(2 / 100)
    exact = 0.5 * math.erfc((1.984 - shift) / math.sqrt(2))
    assert abs(catalog.tell_apart(100, 1.0, gap=0.4) - exact) < 0.015


# --- check

def test_check_of_a_run_as_stored(tmp_path, capsys):
    """Inside, with its curve; what is missing is named, and is not once it is there."""
    coin, masked = PROBLEMS[7].cells
    assert play("check", 7, write_run(tmp_path / "a", coin)) == 0
    printed = capsys.readouterr().out
    assert "All 2 numbers lie where a new seed lies" in printed and "OUTSIDE" not in printed
    assert "--loss grpo_masked" in printed and re.search(r"inside at (20|19) of 20", printed)
    assert play("check", 7, tmp_path / "a", write_run(tmp_path / "b", masked)) == 0
    assert "--loss grpo_masked" not in capsys.readouterr().out


def test_check_of_a_run_that_is_elsewhere(tmp_path, capsys):
    """One number of two is outside, and the curve at every point."""
    assert play("check", 6, write_run(tmp_path / "a", PROBLEMS[6].cells[2], code_share=0.05)) == 0
    printed = capsys.readouterr().out
    assert "1 of 2 numbers lie where a new seed lies in 5 of 100 cases" in printed
    assert len(re.findall("OUTSIDE$", printed, re.MULTILINE)) == 1
    assert "inside at 0 of 20" in printed and "above 0 of 8 seeds" not in printed
    assert re.search(r"0\.05 .* 0 of 8 seeds", printed)


def test_two_runs_of_one_seed_are_compared(tmp_path, capsys):
    """Problem 7: the same metrics, or where they part first; other seeds are not compared."""
    coin = PROBLEMS[7].cells[0]
    ours = write_run(tmp_path / "ours", coin)
    assert play("check", 7, ours, write_run(tmp_path / "mine", coin)) == 0
    assert "have one seed, and the same metrics throughout" in capsys.readouterr().out
    other = write_run(tmp_path / "wrong", coin, clip_low=0.5)
    assert play("check", 7, ours, other, write_run(tmp_path / "more", coin, 1, seed=8)) == 0
    printed = capsys.readouterr().out
    assert "part in batch 0, clip_low: " in printed and printed.count("have one seed") == 1


def test_check_of_numbers(capsys):
    """Problems 1 and 11: what is outside is said, and what was not given is asked for."""
    assert play("check", 11, "spread=3.76", "seeds=4") == 0
    printed = capsys.readouterr().out
    assert "1 of 2 are not what we find" in printed and "power=NUMBER" in printed
    assert play("check", 1, "programs=0.957", "accuracy=0.96") == 0
    assert "These are the numbers that we find" in capsys.readouterr().out
    assert play("check", 1, "programs=0.90", "accuracy=0.85") == 0
    printed = capsys.readouterr().out
    assert "2 of 2 are not what we find" in printed
    assert "a command's flags, and at your formula" in " ".join(printed.split())


@pytest.mark.parametrize("number, said", [
    (1, "what counts as right"), (6, "between which a run with a new seed lies in 95 of 100 cases"),
    (11, "what counts as right")])
def test_what_bounds_mean_is_said(number, said, capsys):
    """Of runs and of numbers that are worked out, which no seed has."""
    assert play("expected", number) == 0
    assert said in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("arguments, complaint", [
    (("check", 6, "{none}"), "holds no finished run"), (("check", 13, "{none}"), "13"),
    (("check", 5, "{coin}"), "is no run of problem 5: it has --base good-code --reward random"),
    (("check", 11, "seeds"), "seeds=NUMBER"), (("check", 11, "seeds=nan"), "seeds=NUMBER"),
    (("check", 11, "{coin}"), "spread=NUMBER"), (("check", 6), "RUNFOLDER"),
    (("expected", 0), "0"), (("answers",), "invalid choice")])
def test_bad_input_of_the_problems_is_one_line(arguments, complaint, tmp_path, capsys):
    """And exit code 2."""
    coin = write_run(tmp_path / "coin", PROBLEMS[6].cells[0])
    words = [str(word).format(none=tmp_path / "none", coin=coin) for word in arguments]
    assert play(*words) == 2
    error = capsys.readouterr()
    assert complaint in error.err and error.err.count("\n") == 1 and not error.out


# --- answers

def test_no_copy_has_the_answers():
    """Nor the tests that read them; the page and `check` are there."""
    answers = [path.relative_to(copies.ROOT) for path in (FOLDER / "answers").rglob("*")]
    assert len(answers) == 2
    for path in answers:   # also if the copy should once take deeper folders
        assert any(path.match(pattern) for pattern in copies.WITHHELD), path
    there = {path.as_posix() for path in copies.list_files()}
    assert not [path for path in there if "answers/" in path]
    assert "tests/test_problems.py" not in there
    assert {"course/problems/README.md", "course/problems/catalog.py",
            "course/problems/__main__.py"} <= there
    assert "](answers" not in PAGE   # it would lead nowhere in a copy


def test_every_problem_has_an_answer_and_a_rubric():
    page = (FOLDER / "answers/README.md").read_text("utf-8")
    sections = dict(re.findall(r"(?ms)^### (\d+\. .*?)\n(.*?)(?=^### |\Z)", page))
    assert list(sections) == [f"{i}. {problem.title}" for i, problem in PROBLEMS.items()]
    for number, section in enumerate(sections.values(), 1):
        assert all(part in section for part in ("**Answer.**", "**Rubric.**", "**Wrong"))
        rubric = section.split("**Rubric.**")[1].split("**Wrong")[0].split("Explanation:")[1]
        points = [int(digit) for digit in re.findall(r"\s(\d)[,.]", rubric)]
        assert sum(points) == PROBLEMS[number].points[2] or "one point a base" in rubric, number


def test_every_further_question_has_an_answer():
    """As many as a page of the exercises asks, in the exercises' order; numbers stay narrow."""
    page = (FOLDER / "answers/exercises.md").read_text("utf-8")
    sections = re.split(r"(?m)^## ", page)[1:]
    titles = {"sampling": "Sampling", "cache": "Cache", "logprobs": "Log-probabilities",
              "advantages": "Advantages", "clip": "Clip", "gae": "GAE", "signs": "Signs",
              "pass_at_k": "Pass@k", "confidence": "Confidence", "bandit": "Bandit"}
    assert [section.split("\n")[0] for section in sections] == [titles[name] for name in EXERCISES]
    for name, section in zip(EXERCISES, sections):
        asked = (copies.ROOT / f"course/exercises/{name}.md").read_text("utf-8")
        questions = re.findall(r"(?m)^- ", asked.split("## Further questions")[1])
        assert len(re.findall(r"(?m)^\*\*", section)) == len(questions), name


def test_answers_are_100_wide_and_lead_somewhere():
    for path in (FOLDER / "answers").glob("*.md"):
        text = path.read_text("utf-8")
        assert max(map(len, text.splitlines())) <= 100
        for target in re.findall(r"\]\(([^)#]+)", text):
            assert (path.parent / target).exists(), target
