"""Pages that teach: README.md, each lesson's README.md and the course speak in plain prose.

What a page must be is measured where it can be: how many numbers and how many connecting words its
prose has, that its tables are short and titled, that its terms are defined where they are first
used, and that its numbers and lines of code are those of the stored results and of the source.
"""

import importlib
import json
import re
from pathlib import Path

import pytest

import rewards
import rlvr
from lessons import report, runner, summary
from losses import LOSSES
from plumbing.flags import Option, find_flags, read_options
from tests.helpers import ROOT, STORED

# A lesson that a user has begun has no page that teaches yet.
TAUGHT = [name for name in STORED
          if "## The question" in (ROOT / "lessons" / name / "README.md").read_text("utf-8")]
SECTIONS = ["The question", "Guess first", "The setup, on one example", "Run it", "The result",
            "The mechanism", "What would have shown us wrong", "Limits", "Three changes to try"]
TEACHING = {name: ROOT / "lessons" / name / "README.md" for name in TAUGHT}
if "## Limits" in (ROOT / "README.md").read_text("utf-8"):
    TEACHING["README"] = ROOT / "README.md"
EXERCISES = {path.stem: path for path in sorted(ROOT.glob("course/exercises/[a-z]*.md"))}
COURSE = {path.relative_to(ROOT / "course").as_posix(): path for path in [
    ROOT / "course/README.md", *sorted(ROOT.glob("course/*/README.md")),
    *sorted(ROOT.glob("course/lectures/[1-9].md")), *EXERCISES.values(),
    ROOT / "course/tour.ipynb"]}
CONNECT = (r"because|since|therefore|so that|for example|for instance|that is|in other words|"
           r"which means|this means|suppose|imagine|recall|consider|note that|intuitively|"
           r"in short|we|you|your|our|us")
FRONT = (ROOT / "README.md").read_text("utf-8")
NUMBER = r"(?<![A-Za-z_\d.])[+\-−±~]?\d[\d,]*(?:\.\d+)?%?(?![A-Za-z_\d])"


def read_page(name: str) -> str:
    return (TEACHING | EXERCISES)[name].read_text("utf-8")


def read_markdown(path: Path) -> str:
    """A page; of a notebook the cells that are text."""
    text = path.read_text("utf-8")
    if path.suffix != ".ipynb":
        return text
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"]
                       if cell["cell_type"] == "markdown")


def strip_markup(text: str) -> str:
    """Prose alone: without code, formulas, tables, headings, tags, links' targets, arXiv ids."""
    text = re.sub(r"(?ms)^(`{3,4}|~~~).*?^\1\s*$", "\n", text)
    text = re.sub(r"(?s)<!--.*?-->|</?[a-z]+>", "", text)
    text = re.sub(r"(?m)^(#|\||    ).*$", "", text)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])?", r"\1", text)
    text = re.sub(r"(?m)^\S+: https?://.*$|https?://\S+|\b(arXiv:?)? ?\d{4}\.\d{5}\b", "", text)
    return re.sub(r"(?m)^(\s*)(?:[-*+]|\d+\.)\s", r"\1", text)


def list_tables(text: str) -> list[list[str]]:
    """The lines of each Markdown table, its rule left out."""
    text = re.sub(r"(?ms)^(`{3,4}|~~~).*?^\1\s*$", "", text)
    found = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    return [[line for line in table.splitlines() if not set(line) <= set("|-: ")]
            for table in found]


@pytest.mark.parametrize("name", TAUGHT)
def test_lessons_teach_in_the_same_order(name):
    sections = re.findall(r"^## (.*)$", read_page(name), re.MULTILINE)
    assert [section for section in sections if section in SECTIONS] == SECTIONS
    assert "(RESULTS.md)" in read_page(name)


def count_words(text: str) -> int:
    return len(re.findall(r"[A-Za-z][A-Za-z'’-]*", strip_markup(text)))


@pytest.mark.parametrize("path", [*TEACHING.values(), *COURSE.values()],
                         ids=lambda path: path.relative_to(ROOT).as_posix())
def test_prose_connects_and_counts_little(path):
    """Telegrams have many numbers and no `because`: at most 4.5 in 100 words, at least 1 in 100."""
    text = read_markdown(path)
    prose, words = strip_markup(text), count_words(text)
    assert 100 * len(re.findall(NUMBER, prose)) / words <= 4.5
    assert 100 * len(re.findall(rf"\b({CONNECT})\b", prose, re.IGNORECASE)) / words >= 1.0


@pytest.mark.parametrize("name", TEACHING)
def test_pages_are_read_in_one_sitting(name):
    assert count_words(read_page(name)) <= (1600 if name == "README" else 1500)


@pytest.mark.parametrize("name", TEACHING)
def test_tables_are_short(name):
    """At most eight rows below the head."""
    for lines in list_tables(read_page(name)):
        assert len(lines) - 1 <= summary.ROWS, lines[0]


@pytest.mark.parametrize("name", TAUGHT)
def test_the_table_is_that_of_the_stored_results(name):
    """And it is short, titled, and followed by one sentence where it is printed."""
    lesson = runner.load_lesson(name)
    found = lesson.summary(report.read_results(ROOT / "lessons" / name))
    assert summary.write_markdown(found) in read_page(name)
    assert len(found.rows) - 1 <= summary.ROWS and len({len(row) for row in found.rows}) == 1
    assert found.title and re.search(r"[.!]$", found.sentence)
    assert max(map(len, summary.show_summary(found).splitlines())) <= 100


@pytest.mark.parametrize("name", TEACHING)
def test_numbers_of_the_prose_are_on_record(name):
    """Every decimal, percentage and 'k of n' is in a record, in a table of the page, or its output.

    Catches a number that was typed, or that has been left behind when the runs were made anew.
    """
    page = read_page(name)
    records = [ROOT / "lessons" / each / "RESULTS.md" for each in
               (STORED if name == "README" else [name])]
    blocks = [found[0] for found in re.finditer(r"(?ms)^(`{3,4}|~~~).*?^\1\s*$", page)]
    known = "\n".join([*(path.read_text("utf-8") for path in records), *blocks,
                       *("\n".join(lines) for lines in list_tables(page))]).replace("−", "-")
    known = " ".join(known.split())
    prose = " ".join(strip_markup(page).replace("−", "-").split())
    asked = set(re.findall(r"\d+\.\d+|\d+%|\b\d+ of \d+\b", prose))
    assert not [number for number in sorted(asked)
                if not re.search(rf"(?<![\d.]){re.escape(number)}(?![\d])", known)]


def list_terms() -> list[str]:
    return re.findall(r"^## (.*)$", (ROOT / "glossary.md").read_text("utf-8"), re.MULTILINE)


def test_the_glossary_is_short():
    assert 10 <= len(list_terms()) <= 15


@pytest.mark.parametrize("name", [*TEACHING, *EXERCISES])
def test_terms_are_defined_where_they_are_first_used(name):
    """The first use of a term is bold, in the sentence that defines it, or a link to glossary.md.

    Headings, code, captions and the page's title do not count; at most six are defined on a page.
    """
    text = re.sub(r"(?ms)^(`{3,4}|~~~).*?^\1\s*$|(?s:<!--.*?-->)|!\[[^\]]*\]\([^)]*\)", "",
                  read_page(name))
    text = re.sub(r"(?m)^(#|\|).*$|`[^`\n]*`|https?://\S+", "", text)
    text = " ".join(text.split())
    defined = 0
    for term in list_terms():
        first = re.search(rf"(?i)\b{re.escape(term)}s?\b", text)
        if first:
            before, after = text[:first.start()], text[first.end():]
            bold = before.endswith("**") and after.startswith("**")
            linked = before.endswith("[") and re.match(r"\]\([./]*glossary\.md#", after)
            assert bold or linked, (term, text[max(0, first.start() - 40):first.end() + 20])
            defined += bold
    assert defined <= 6


@pytest.mark.parametrize("name", TEACHING)
def test_excerpts_of_code_are_in_the_source(name):
    """Every line of a python block, but for what is said in comments, is a line of the product."""
    code = {line.split("  #")[0].strip()
            for path in [*ROOT.glob("*.py"), *ROOT.glob("*/*.py"), *ROOT.glob("lessons/*/*.py")]
            for line in path.read_text("utf-8").splitlines()}
    for block in re.findall(r"(?ms)^```python\n(.*?)^```", strip_samples(read_page(name))):
        for line in block.splitlines():
            line = line.split("  #")[0].strip()
            assert not line or line.startswith("#") or line in code, line


def strip_samples(text: str) -> str:
    """A page without what stands in longer fences: an answer of the model is a program as well."""
    return re.sub(r"(?ms)^(````|~~~).*?^\1\s*$", "", text)


def list_flags() -> dict[str, Option]:
    """Every flag of `train` by its name, those of losses and rewards behind those of every run."""
    functions = [function for registry in (LOSSES, rewards.REWARDS) for entry in registry.values()
                 for function in entry.functions]
    options = read_options(rlvr.TrainConfig)
    for function in functions:
        options = dict(find_flags(function)) | options
    return options


def test_the_reference_has_every_flag_reward_and_loss():
    """With its default and its help; catches a flag that was added or changed since."""
    page = (ROOT / "reference.md").read_text("utf-8")
    rows = [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in page.splitlines() if line.startswith("| `--")]
    named = {row[0].strip("`"): row[1:] for row in rows}
    for name, option in list_flags().items():
        default, text = named["--" + name.replace("_", "-")][:2]
        many = option.default if isinstance(option.default, tuple) else (option.default,)
        assert default == " ".join("" if value is None else str(value) for value in many), name
        assert name == "reward" or text == option.flag.help, name
    for entry in [*LOSSES, *rewards.REWARDS]:
        assert re.search(rf"`(?:\w+_)?{entry}`", page), entry


def test_the_front_page_reads_the_code_that_is_there():
    """Each `module.function` of its reading order is a function of that module."""
    names = re.findall(r"`(rlvr|losses|rewards|evaluation|model)\.(\w+)`", FRONT)
    assert len(names) >= 6
    for module, name in names:
        assert hasattr(importlib.import_module(module), name), (module, name)


@pytest.mark.parametrize("name", TAUGHT)
def test_figures_say_what_they_found(name):
    """A figure has a title of its own, in words, and its page shows it."""
    pytest.importorskip("matplotlib")
    lesson = runner.load_lesson(name)
    canvas = lesson.figure(report.read_results(ROOT / "lessons" / name))
    title = canvas.get_suptitle() or canvas.axes[0].get_title("left")
    assert len(title.split()) >= 5, title
    assert "(figure.png)" in read_page(name)
