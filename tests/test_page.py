"""The page to look at runs with, and the answers that a run keeps for it.

A browser opens the page once, with a script at its end that moves the slider and notes what is
shown. Without a browser that test is skipped; what needs none is tested all the same.
"""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import pytest
import torch

import evaluation
import run as runs
from data import task, tokenizer
from data.answers import is_correct
from data.corpus import CORPORA
from evaluation import decode_rollouts
from lessons import page, report
from model import load_checkpoint, sample_responses, save_checkpoint
from plumbing import streams
from tests.helpers import (
    CPU,
    config,
    files,
    load_run,
    open_page,
    read_json,
    read_rows,
    train,
    weights,
)

NASTY = ["</script><b>bold</b>", "<!--<script>", "{{DATA}}", "</pre>\u2028'\"\\boxed{<i>}"]


def write_page(folder: Path, *runs: Path) -> str:
    """The page of some runs, written by the command into a folder; no figure, which takes time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "can_draw", lambda: False)
        assert report.main(["--html", *map(str, runs), "--out", str(folder)]) == 0
    return (folder / "page.html").read_text("utf-8")


def read_data(html: str) -> list[dict]:
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', html,
                                re.DOTALL)[1])


def steps_of(run: Path) -> list[int]:
    return [batch["step"] for batch in read_json(run / "answers.json")["batches"]]


@pytest.fixture(scope="module")
def humble(base, tmp_path_factory) -> Path:
    """A run on a base with three modes, whose policy says what would break a page."""
    folder = tmp_path_factory.mktemp("humble")
    save_checkpoint(folder / "h.pt", load_checkpoint(Path(base), CPU)[0], corpus="humble-code")
    assert train(folder / "h.pt", folder / "run") == 0
    path = folder / "run/answers.json"
    kept = read_json(path)
    for i, batch in enumerate(kept["batches"]):
        batch["texts"][:5] = [f"{i} {text}" for text in NASTY] + ["?"]
    path.write_text(json.dumps(kept), encoding="utf-8")
    return folder / "run"


@pytest.fixture(scope="module")
def both(finished, humble, tmp_path_factory) -> str:
    """The page of two runs of different corpora."""
    return write_page(tmp_path_factory.mktemp("page"), finished, humble)


# --- the answers that a run keeps


def test_an_unmoved_policy_repeats_itself(base, tmp_path):
    """The answers are those of the base, sampled by hand, in every batch.

    Catches random numbers that go on from batch to batch or are another's, a policy that is asked
    after the update instead of before it, and other problems than the evaluation's first.
    """
    assert train(base, tmp_path / "run", "--p", "0", "--seed", "5") == 0
    kept = read_json(tmp_path / "run/answers.json")
    problems = evaluation.draw_evaluation(5, "evaluation", task.EASY)[:3]
    assert kept["corpus"] == "good-code" and steps_of(tmp_path / "run") == [0, 1, 2, 3, 4]
    assert kept["problems"] == [task.render_problem(problem) for problem in problems]
    prompts = [tokenizer.encode_prompt(name) for name in kept["problems"]]
    rollouts = sample_responses(load_checkpoint(Path(base), CPU)[0], prompts, 4, tokenizer.END, 12,
                                generator=streams.torch_rng(streams.SHOWN, 0, 0))
    assert all(batch["texts"] == decode_rollouts(rollouts) for batch in kept["batches"])
    assert len(set(kept["batches"][0]["texts"])) > 3
    assert streams.SHOWN > streams.HINT == 9               # a stream of its own, after the others


def test_the_answers_of_a_batch_are_its_policys(base, tmp_path):
    """Those after k batches are what a run of k batches ends with; they do change here.

    Catches an off-by-one: answers before an update that are shown as those after it.
    """
    flags = ["--reward", "code", "--lr", "0.5"]
    for steps in ("1", "3"):
        assert train(base, tmp_path / steps, *flags, "--steps", steps) == 0
    short, long = (read_json(tmp_path / steps / "answers.json")["batches"] for steps in "13")
    assert short == long[:2] and short[0]["texts"] != short[1]["texts"]
    model, _ = load_checkpoint(tmp_path / "3/model.pt", CPU)
    prompts = [tokenizer.encode_prompt(name)
               for name in read_json(tmp_path / "3/answers.json")["problems"]]
    rollouts = sample_responses(model, prompts, 4, tokenizer.END, 12,
                                generator=streams.torch_rng(streams.SHOWN, 0, 0))
    assert long[3] == {"step": 3, "texts": decode_rollouts(rollouts)}


def test_keeping_answers_changes_nothing_else(base, finished, tmp_path, monkeypatch):
    """Weights, tables and summary of a run that keeps none: catches a shared random stream."""
    with monkeypatch.context() as patch:
        patch.setattr(runs.Run, "keep_answers", lambda self, step: self.state.update(answers=[]))
        assert train(base, tmp_path / "run") == 0
    assert torch.equal(weights(tmp_path / "run/model.pt"), weights(finished / "model.pt"))
    for name in ("metrics.csv", "samples.txt"):
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes()
    without, kept = (read_json(run / "summary.json") for run in (tmp_path / "run", finished))
    assert without | {"seconds": 0} == kept | {"seconds": 0}


def test_a_longer_run_keeps_what_one_from_the_start_does(base, tmp_path):
    """Stopped after 4 batches, and after 11, which 13 do not show.

    Catches a batch that is kept twice, or one too many.
    """
    for out, steps in (("whole", 13), ("parts", 4), ("parts", 11), ("parts", 13)):
        assert train(base, tmp_path / out, "--steps", steps) == 0
        if steps == 11:
            assert steps_of(tmp_path / out) == [0, 2, 4, 6, 8, 10, 11]
    assert steps_of(tmp_path / "parts") == [0, 2, 4, 6, 8, 10, 12, 13]
    whole, parts = ((tmp_path / out / "answers.json").read_bytes() for out in ("whole", "parts"))
    assert whole == parts
    states = [load_run(tmp_path / out)["train"]["answers"] for out in ("whole", "parts")]
    assert states[0] == states[1] == json.loads(whole)["batches"]


def test_what_is_kept_is_bounded(monkeypatch):
    """Evenly spaced, the first and the last among them, however long a run is.

    Catches a run whose model.pt grows by each batch, or that is sampled in every batch.
    """
    asked = []
    monkeypatch.setattr(runs, "answer_problems",
                        lambda *args: asked.append(args) or SimpleNamespace(texts=["x"]))
    clock = SimpleNamespace(lap=lambda name: None)
    for steps in (1, 10, 11, 20, 21, 137, 640, 2000):
        asked.clear()
        ours = runs.Run(config(steps=steps), "good-code", [], *[None] * 5, [], {}, clock)
        for step in range(steps + 1):
            ours.keep_answers(step)
            kept = [answers["step"] for answers in ours.state["answers"]]
            assert len(kept) <= 12 and kept[0] == 0
        stride = next(2 ** i for i in range(20) if steps <= 10 * 2 ** i)
        assert kept == [*range(0, steps, stride), steps]
        assert len(asked) == len(kept)  # nothing is sampled that is thrown away


def test_a_run_from_before_answers_were_kept(base, finished, tmp_path):
    """Its state has none: it resumes, is the same run, and keeps them from there on."""
    assert train(base, tmp_path / "run", "--steps", 2) == 0
    old = load_run(tmp_path / "run")
    del old["train"]["answers"]
    torch.save(old, tmp_path / "run/model.pt")
    (tmp_path / "run/answers.json").unlink()
    assert train(base, tmp_path / "run") == 0
    assert torch.equal(weights(tmp_path / "run/model.pt"), weights(finished / "model.pt"))
    kept, whole = (read_json(run / "answers.json")["batches"]
                   for run in (tmp_path / "run", finished))
    assert kept == whole[2:]
    run, = read_data(write_page(tmp_path / "out", tmp_path / "run"))
    assert [batch["step"] for batch in run["answers"]["batches"]] == [2, 3, 4]


# --- the page


def test_the_page_has_the_numbers_of_its_runs(both, finished, humble):
    """Every number and text, from the files: catches a column, a run or a group for another."""
    for run, folder in zip(read_data(both), (finished, humble), strict=True):
        rows, summary = read_rows(folder), read_json(folder / "summary.json")
        modes = list(CORPORA[read_json(folder / "answers.json")["corpus"]].modes)
        assert run["modes"] == modes and run["folder"] == str(folder)
        shares = [f"{mode}_share" for mode in modes]
        assert set(run["curves"]) == {"reward", "accuracy", "clip_high", "clip_low", "approx_kl",
                                      "grad_norm", "entropy", *shares}
        for name, curve in run["curves"].items():
            assert curve == [float(row[name]) if row[name] else None for row in rows], name
        for when in ("before", "after"):
            assert run[when] == {name: summary[when][name]
                                 for name in ("accuracy", "greedy_accuracy", *shares)}
        assert [run[name] for name in ("reward", "loss", "seed", "steps", "command")] == [
            "random", "grpo", 1, 4, read_json(folder / "config.json")["command"]]


def test_the_page_has_the_answers_of_its_runs(both, finished, humble):
    """Each text with its problem, its mode and whether it is right, by hand."""
    for run, folder in zip(read_data(both), (finished, humble), strict=True):
        kept, corpus = read_json(folder / "answers.json"), CORPORA[
            read_json(folder / "answers.json")["corpus"]]
        problems = list(map(task.parse_problem, kept["problems"]))
        assert run["answers"]["problems"] == [
            [name, str(task.solve(problem))] for name, problem in zip(kept["problems"], problems)]
        for batch, shown in zip(kept["batches"], run["answers"]["batches"], strict=True):
            assert shown["step"] == batch["step"]
            flat = [answer for group in shown["answers"] for answer in group]
            assert [answer["text"] for answer in flat] == batch["texts"]
            assert [len(group) for group in shown["answers"]] == [4, 4, 4]
            for i, answer in enumerate(flat):
                assert answer["mode"] == corpus.mode_of(answer["text"])
                assert answer["right"] == is_correct(problems[i // 4], answer["text"])
    answers = run["answers"]["batches"][0]["answers"]
    assert answers[1][0] == {"text": "?", "mode": "abstain", "right": False}


def test_what_a_policy_says_cannot_break_the_page(both):
    """No `<` in the data, no HTML made of it; nothing is fetched from anywhere."""
    template = page.TEMPLATE.read_text("utf-8")
    assert both.count("<") == template.count("<")
    assert f"0 {NASTY[0]}" in json.dumps(read_data(both))
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "src=", "url(",
                 "fetch(", "@import", "<link"):
        assert word not in template, word
    assert re.findall(r"https?://[^\"' ]+", template) == ["http://www.w3.org/2000/svg"]
    assert template.count(page.PLACEHOLDER) == 1


def test_a_run_without_answers_is_reported(finished, tmp_path):
    """Its curves are there; of the answers the page says that there are none."""
    old = shutil.copytree(finished, tmp_path / "old")
    (old / "answers.json").unlink()
    html = write_page(tmp_path / "out", old, finished)
    runs = read_data(html)
    assert runs[0]["answers"] is None and runs[1]["answers"] is not None
    assert runs[0]["curves"] == runs[1]["curves"]
    assert "This run kept no answers: it was made before runs kept them." in html


def test_a_page_links_the_files_of_its_runs(both, finished, humble, tmp_path):
    """Every file that a run has, where a browser finds it from the page's own folder; no other."""
    for run, folder in zip(read_data(both), (finished, humble), strict=True):
        there = {path.name for path in folder.iterdir()} & set(page.FILES)
        assert set(run["files"]) == there and len(there) >= 5
    odd = shutil.copytree(finished, tmp_path / "a #1 ?/run")
    run, = read_data(write_page(tmp_path / "out/pages", odd))
    for name, address in run["files"].items():
        assert not {"#", "?", " ", "\\"} & set(address)
        assert (tmp_path / "out/pages" / unquote(address)).resolve() == (odd / name).resolve()


def test_a_folder_of_runs_is_its_finished_runs(finished, tmp_path, capsys):
    """Below it, at any depth, seed 2 before seed 10, each once; one that is not finished is said.

    Catches a run that counts twice, since its folder and the one above were given.
    """
    for place in ("a/seed10", "a/seed2", "b/deep/seed1", "c/seed1"):
        shutil.copytree(finished, tmp_path / "runs" / place)
    (tmp_path / "runs/c/seed1/summary.json").unlink()
    html = write_page(tmp_path / "out", tmp_path / "runs", tmp_path / "runs/a/seed2")
    assert [run["folder"] for run in read_data(html)] == [
        str(tmp_path / "runs" / place) for place in ("a/seed2", "a/seed10", "b/deep/seed1")]
    out, error = capsys.readouterr()
    assert f"note: not finished, and left out: 1 of 4 runs in {tmp_path / 'runs'}\n" in error
    where = (tmp_path / "out").as_posix()
    assert f"wrote {where}/runs.csv, curves.csv, page.html\n" in out
    assert "one seed: enough to see it, not to claim it" in out
    (tmp_path / "empty").mkdir()
    assert report.main([str(tmp_path / "empty"), "--out", str(tmp_path / "out")]) == 2


def test_a_page_has_a_dozen_runs_at_most(tmp_path):
    """The first of each cell before the second of any, in their order; how many there are is said.
    """
    def row(base, seed):
        return {"base": base, "reward": "random", "loss": "grpo", "flags": "", "seed": seed}
    rows = [row("a", seed) for seed in range(20)] + [row("b", 1), row("b", 2)]
    assert page.choose_runs(rows) == [*range(10), 20, 21]
    assert page.choose_runs(rows[:12]) == list(range(12))
    rows = [row(str(i), 1) for i in range(13)]
    assert page.choose_runs(rows) == list(range(12))


def test_the_page_says_how_many_runs_there_are(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "SHOWN_RUNS", 1)
    second = shutil.copytree(finished, tmp_path / "second")
    run, = read_data(write_page(tmp_path / "out", finished, second))
    assert run["among"] == 2 and run["folder"] == str(finished)


@pytest.mark.parametrize("content", ["{", "[]", '{"corpus": "x", "problems": [], "batches": []}',
                                     '{"corpus": "good-code", "problems": ["1 +2"]}'])
def test_damaged_answers_are_one_line(content, finished, tmp_path, capsys, monkeypatch):
    """Exit code 2 before anything is written; without --html nobody reads them."""
    monkeypatch.setattr(report, "can_draw", lambda: False)
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "answers.json").write_text(content, encoding="utf-8")
    assert report.main(["--html", str(run), "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.err == (f"python -m lessons.report: error: {run / 'answers.json'} is not what "
                            "a run writes\n")
    assert captured.out == "" and not (tmp_path / "out").exists()
    assert report.main([str(run), "--out", str(tmp_path / "out")]) == 0
    assert "page.html" not in files(tmp_path / "out")


def test_the_template_is_100_wide():
    assert max(map(len, page.TEMPLATE.read_text("utf-8").splitlines())) <= 100


# --- in a browser

LISTEN = """<script>window.errors = [];
addEventListener("error", event => errors.push(event.message));</script>
"""
MOVE = """<script>
const texts = where => [...document.querySelectorAll(where)].map(node => node.textContent);
const seen = [], set = (id, value, event) => {
  get(id).value = value;
  get(id).dispatchEvent(new Event(event));
};
const look = () => ({when: texts("#when")[0], moves: texts("#moves")[0], files: texts("#files a"),
                     among: get("among").hidden, title: texts("h1")[0], texts: texts("pre"),
                     says: texts(".says"), curves: texts("h3"), cards: texts("dd"),
                     line: document.querySelector(".now").getAttribute("d")});
for (const i of RUNS.keys()) {
  set("run", i, "change");
  for (const step of stops.keys()) {
    set("slider", step, "input");
    seen.push(look());
  }
}
get("play").click();
setTimeout(() => {
  const note = document.createElement("i");
  note.id = "seen";
  note.textContent = encodeURIComponent(JSON.stringify(
    {seen, errors, bold: document.querySelectorAll("b").length, played: look()}));
  document.body.append(note);
}, 15000);
</script>"""


def test_the_slider_moves_what_is_shown(both, finished, humble, tmp_path):
    """At every stop the answers of that batch and its numbers; no error; play goes to the end.

    Catches a page that does not run, a slider that moves one half of it, and text taken for HTML.
    """
    (tmp_path / "page.html").write_text(
        both.replace('<script id="data"', LISTEN + '<script id="data"') + MOVE, encoding="utf-8")
    done = open_page(tmp_path / "page.html")
    found = json.loads(unquote(re.search(r'<i id="seen">(.*?)</i>', done.stdout)[1]))
    assert found["errors"] == [] and found["bold"] == 0 and "CONSOLE" not in done.stderr
    expected = [(folder, batch) for folder in (finished, humble)
                for batch in read_json(folder / "answers.json")["batches"]]
    for shown, (folder, batch) in zip(found["seen"], expected, strict=True):
        step, row = batch["step"], [*read_rows(folder), None][batch["step"]]
        assert shown["when"] == f"after {step} of 4 batches" and shown["texts"] == batch["texts"]
        summary = read_json(folder / "summary.json")
        accuracy = float(row["accuracy"]) if row else summary["after"]["accuracy"]
        assert "The same 3 problems" in shown["moves"] and "the end (4)" in shown["moves"]
        assert shown["files"] == [name for name in page.FILES if (folder / name).exists()]
        assert shown["among"]
        assert shown["curves"][0].startswith(f"accuracy {accuracy:.2f}")
        share = float(row["code_share"]) if row else summary["after"]["code_share"]
        assert shown["curves"][1].startswith(f"code {100 * share:.0f}%")
        assert shown["title"].endswith("reward random, loss grpo, seed 1")
        before, after = (100 * summary[when]["accuracy"] for when in ("before", "after"))
        assert shown["cards"][0].startswith(f"{before:.1f}% → {after:.1f}%")
        before, after = (100 * summary[when]["greedy_accuracy"] for when in ("before", "after"))
        assert shown["cards"][1].startswith(f"{before:.1f}% → {after:.1f}%")
    assert found["seen"][-1]["says"][4] == "abstain"
    marks = {"code✓ right", "code✗ wrong", "text✓ right", "text✗ wrong"}
    assert set(found["seen"][0]["says"]) <= marks
    assert len({shown["line"] for shown in found["seen"]}) == 5
    assert found["played"] == found["seen"][-1]
