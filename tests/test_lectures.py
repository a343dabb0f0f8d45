"""Lectures: slides that are short, whose numbers are on the pages that they link, and whose
questions are answered.
"""

import re
from pathlib import Path

import pytest

from course import copies
from lessons import runner
from tests.test_pages import list_tables, strip_markup

FOLDER = copies.ROOT / "course/lectures"
LECTURES = ["1", "2", "3", "4"]
# Marp shows the end of a line as a break, unless it is told not to
MARP = '---\nmarp: true\npaginate: true\nstyle: "section br { display: none; }"\n---\n'
WORDS = 60
every_lecture = pytest.mark.parametrize("name", LECTURES)


def read_slides(name: str) -> list[str]:
    """The slides of a lecture, without its head: a rule between two."""
    text = (FOLDER / f"{name}.md").read_text("utf-8")
    assert text.startswith(MARP)
    return [slide.strip() for slide in text[len(MARP):].split("\n---\n")]


def list_links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", text)


def is_there(link: str, folder: Path = FOLDER) -> bool:
    """Whether a link leads to a file, or to one that copies for students lack."""
    path = (folder / link.split("#")[0]).resolve()
    return path.exists() or any(map(path.match, copies.WITHHELD))


@every_lecture
def test_slides_are_few_and_short(name):
    """One idea each: a heading, at most 60 words beside code and tables, a note for who speaks."""
    slides = read_slides(name)
    assert 12 <= len(slides) <= 18
    for slide in slides:
        assert len(re.findall(r"(?m)^##? ", re.sub(r"(?ms)^```.*?^```$", "", slide))) == 1, slide
        words = re.findall(r"[A-Za-z][A-Za-z'’-]*", strip_markup(slide))
        assert len(words) <= WORDS, (len(words), slide)
        assert all(len(lines) <= 5 for lines in list_tables(slide)), slide
        assert slide.endswith("-->") and slide.count("<!--") == 1, slide


@every_lecture
def test_questions_are_answered_on_the_next_slide(name):
    """Every few slides one is asked; an answer without a question, or the reverse, differs."""
    slides = read_slides(name)
    asked = [i for i, slide in enumerate(slides) if "**Question.**" in slide]
    answered = [i for i, slide in enumerate(slides) if "**Answer.**" in slide]
    assert answered == [i + 1 for i in asked] and len(asked) >= 2
    assert all("**Answer.**" not in slides[i] for i in asked)


@every_lecture
def test_numbers_of_slides_are_on_the_pages_that_they_link(name):
    """Every decimal, percentage and 'k of n' of prose and tables, in a linked page of a lesson."""
    slides = read_slides(name)
    for i, slide in enumerate(slides):
        # a question's numbers may be those of its answer
        linked = list_links("".join(slides[i:i + 2]) if "**Question.**" in slide else slide)
        pages = [FOLDER / link for link in linked if re.search(r"lessons/.*\.(md|html)$", link)
                 and (FOLDER / link).exists()]
        known = " ".join("\n".join(page.read_text("utf-8") for page in pages)
                         .replace("−", "-").replace("%", " %").split())
        prose = "\n".join([strip_markup(slide), *("\n".join(t) for t in list_tables(slide))])
        prose = " ".join(prose.replace("−", "-").replace("%", " %").split())
        for number in re.findall(r"\d+\.\d+|\d+ %|\b\d+ of \d+\b", prose):
            assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d])", known), (number, slide)


@every_lecture
def test_links_of_slides_lead_somewhere(name):
    links = [link for link in list_links((FOLDER / f"{name}.md").read_text("utf-8"))]
    assert not [link for link in links if not link.startswith("https://arxiv.org/abs/")
                and not is_there(link)]
    listed = re.findall(r"\((\d{4}\.\d{5})\)|\[(\d{4}\.\d{5})\]\(https://arxiv.org/abs/(\S+?)\)",
                        read_slides(name)[-1])
    assert len(listed) >= 3 and all(shown == target for _, shown, target in listed)
    known = "".join(path.read_text("utf-8") for path in
                    [*copies.ROOT.glob("*.*"), *copies.ROOT.glob("lessons/*/*.md")]
                    if path.suffix in (".md", ".py"))
    assert not [shown for _, shown, _ in listed if shown not in known]


@every_lecture
def test_something_is_shown_live(name):
    """A command that takes seconds: the stored table of a lesson that has one."""
    live = [slide for slide in read_slides(name) if slide.startswith("## Live")]
    assert len(live) == 1
    found = re.findall(r"python -m lessons (\w+) --stored", live[0])
    assert found and all(lesson in runner.NAMES for lesson in found)


def test_the_overview_names_every_lecture():
    """With its title, and links that lead somewhere."""
    page = (FOLDER / "README.md").read_text("utf-8")
    for name in LECTURES:
        assert f"[{read_slides(name)[0].splitlines()[0][2:]}]({name}.md)" in page
    for link in list_links(page):
        assert link.startswith("https://") or is_there(link), link


def test_the_course_has_all_parts():
    """Every lecture and exercise once, and the other pages of the course; links lead somewhere."""
    page = (copies.ROOT / "course/README.md").read_text("utf-8")
    assert max(map(len, page.splitlines())) <= 100
    links = list_links(page) + re.findall(r"(?m)^\[[^\]]+\]: (\S+)$", page)
    assert not [link for link in links if not is_there(link, copies.ROOT / "course")]
    assert [link for link in links if link.startswith("lectures/") and link[9].isdigit()] == [
        f"lectures/{name}.md" for name in LECTURES]
    written = " ".join(re.findall(r"(?s)\*\*Write\*\* (.*?)\n- ", page))
    for exercise in (copies.ROOT / "course/exercises").glob("[a-z]*.md"):
        assert len(re.findall(rf"\b{exercise.stem}\b", written)) == 1, exercise.stem
    for part in ("exercises", "bughunt", "problems", "own", "lectures"):
        assert f"{part}/README.md" in links
