"""What is said where a reader of the results would otherwise be misled: responses that were cut, a
resume on another machine, a flag without effect. And that nothing is said where all is well.
"""

import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

import measures
import pretrain
import rewards
import rlvr
from companions import judges
from data import task
from data.corpus import CORPORA
from data.tokenizer import END
from evaluation import answer_problems, draw_evaluation
from lessons import elicit, report
from lessons.consistency import vote
from lessons.feedback import hints
from model import CUT, load_checkpoint, save_checkpoint
from plumbing import machine, streams
from plumbing.messages import note
from run import note_settings
from tests.helpers import (
    CPU,
    TINY_BASE,
    config,
    fake_rollouts,
    files,
    interrupt,
    load_run,
    make_pool,
    pool,
    read_json,
    read_rows,
    run,
    tiny,
    train,
)

ROOT = Path(__file__).parents[1]


def cut_rollouts(texts: list[str], cut: int):
    """Rollouts of which the first `cut` lack their ending."""
    rollouts = fake_rollouts(texts)
    for row in range(cut):
        last = int(rollouts.mask[row].sum()) - 1
        rollouts.mask[row, last] = False
        rollouts.ids[row, last] = 0
    return rollouts


def notes(capsys) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]


# --- responses that were cut


def test_what_ends_is_counted():
    """Over all chunks, by response: not by token, nor the mean of the chunks' shares."""
    chunks = [cut_rollouts(["4", "\\boxed{4}", "48"], 2), cut_rollouts(["4"], 0)]
    assert measures.measure_tokens(chunks)["ended"] == 2 / 4


def test_a_full_row_may_have_ended():
    """Its last token is the ending: catches a count of the rows that are shorter than the limit."""
    assert measures.measure_tokens([fake_rollouts(["4"])])["ended"] == 1


@pytest.mark.parametrize("cut, said", [(0, False), (2, False), (3, True)])
def test_more_than_two_percent_are_said(cut, said, capsys):
    measures.note_cut([cut_rollouts(["4"] * 100, cut)], 17)
    assert [("cut at 17 tokens" in note) for note in notes(capsys)] == [True] * said


def test_a_run_says_how_many_of_its_answers_were_cut(base, tmp_path, capsys):
    """In metrics.csv, in summary.json, on its last line, once on stderr: TINY_RUN has 12 tokens."""
    assert train(base, tmp_path / "run") == 0
    out, error = capsys.readouterr()
    after = read_json(tmp_path / "run/summary.json")["after"]
    model, _ = load_checkpoint(tmp_path / "run/model.pt", CPU)
    answers = answer_problems(model, CORPORA["good-code"], draw_evaluation(5, "evaluation",
                              task.EASY), 2, (streams.EVALUATION, 0),
                              rlvr.evaluation.Sampling(max_new_tokens=12))
    last = [ids[mask][-1] for chunk in answers.rollouts for ids, mask in zip(chunk.ids, chunk.mask)]
    assert after["ended"] == np.mean([token == END for token in last]) < 1 - CUT
    assert f"{1 - after['ended']:.1%} of the answers cut by --max-new-tokens" in out
    assert error.count("cut at 12 tokens") == 1
    rows = read_rows(tmp_path / "run")
    assert all(0 <= float(row["ended"]) <= 1 for row in rows) and float(rows[0]["ended"]) < 1


def test_rollouts_that_were_cut_are_said(tmp_path, capsys):
    """Where the evaluation is of another temperature, and all of its answers end."""
    save_checkpoint(tmp_path / "b.pt", tiny(end=30.0).float(), corpus="good-code")
    assert train(tmp_path / "b.pt", tmp_path / "run", "--temperature", 100) == 0
    assert read_json(tmp_path / "run/summary.json")["after"]["ended"] == 1
    assert capsys.readouterr().err.count("cut at 12 tokens") == 1


@pytest.mark.parametrize("work", ["command", "run"])
def test_a_second_run_in_a_process_says_it_again(work, base, tmp_path, capsys):
    """As in a notebook: what the first one said is no news of the second. A run says it once."""
    for i in range(2):
        small = {"base": base, "out": str(tmp_path / f"run{i}"), "steps": 2, "eval_problems": 2,
                 "eval_samples": 2, "threads": 1}
        if work == "run":
            rlvr.train(config(**small))
        else:
            assert train(base, tmp_path / f"run{i}") == 0
        assert len([note for note in notes(capsys) if "were cut" in note]) == 1


def test_outside_of_any_run_each_is_said(capsys):
    """Whoever calls a function of ours in his own loop hears of each call."""
    for cut in (3, 4):
        measures.note_cut([cut_rollouts(["4"] * 100, cut)], 17)
    assert len(notes(capsys)) == 2
    with machine.keep_settings(), machine.keep_settings():
        note("this")
    with machine.keep_settings():
        with machine.keep_settings():
            note("this")
        note("this")
    assert notes(capsys) == ["note: this"] * 2


def test_where_all_end_nothing_is_said(tmp_path, capsys):
    save_checkpoint(tmp_path / "b.pt", tiny(end=30.0).float(), corpus="good-code")
    assert train(tmp_path / "b.pt", tmp_path / "run", "--reward", "random") == 0
    out, error = capsys.readouterr()
    assert "cut" not in out + error
    assert read_json(tmp_path / "run/summary.json")["after"]["ended"] == 1


def test_evaluate_says_it_beside_its_json(base, tmp_path, capsys):
    capsys.readouterr()
    assert run("evaluate", base, "--problems", 4, "--samples", 2, "--max-new-tokens", 3) == 0
    out, error = capsys.readouterr()
    (tmp_path / "numbers.json").write_text(out, "utf-8")
    assert read_json(tmp_path / "numbers.json")["ended"] < 1
    assert "note: more than 2% of the answers were cut at 3 tokens (--max-new-tokens)" in error


def test_a_sample_that_was_cut_says_so(base, capsys):
    capsys.readouterr()
    assert run("sample", base, "37 *4", "--max-new-tokens", 2, "-n", 2) == 0
    heads = re.findall(r"^--- \d+: .*$", capsys.readouterr().out, re.MULTILINE)
    assert len(heads) == 2 and all(", cut at 2 tokens (--max-new-tokens)," in h for h in heads)
    assert run("sample", base, "37 *4", "--max-new-tokens", 60, "--temperature", 0) == 0
    assert "cut" not in capsys.readouterr().out


def test_verdicts_that_do_not_end_are_said(capsys):
    """60 tokens of a judge that never ends, in the middle of a training or of a lesson."""
    claims = [(task.parse_problem("37 *4"), "48")] * 3
    judges.ask_judge(tiny(end=-30.0).float(), "judge-direct", claims, 2, torch.Generator())
    assert ["judge-direct's verdicts" in note for note in notes(capsys)] == [True]
    judges.ask_judge(tiny(end=30.0).float(), "judge-direct", claims, 2, torch.Generator())
    assert not notes(capsys)


@pytest.mark.parametrize("measure", [
    lambda path, model, problems: elicit.elicit(model, CORPORA["good-code"], problems, (8, 0)),
    lambda path, model, problems: vote.measure_vote(path, (1,)),
    lambda path, model, problems: hints.measure_hint(path, "")], ids=["elicit", "vote", "hints"])
def test_what_lessons_measure_says_it_too(measure, tmp_path, monkeypatch, capsys):
    for module in (vote, hints):
        monkeypatch.setattr(module, "PROBLEMS", 3)
        monkeypatch.setattr(module, "SAMPLES", 2)
    monkeypatch.setattr(elicit, "SAMPLES", 64)
    model, problems = tiny(end=-30.0).float(), [problem for problem, _ in pool(3)]
    save_checkpoint(tmp_path / "b.pt", model, corpus="good-code")
    measure(tmp_path / "b.pt", model, problems)
    assert ["cut at 40 tokens" in note for note in notes(capsys)] == [True]


def test_whoever_samples_counts_the_endings():
    """A file that calls the sampler has to say what was cut; the bench's answers are all of one
    length."""
    for path in [*ROOT.glob("*.py"), *ROOT.glob("lessons/*/*.py")]:
        text = path.read_text("utf-8")
        samples = re.search(r"(?<!def )\b(sample_responses|answer_problems)\(", text)
        counts = re.search(r"\b(note_cut|mark_ended|measure_batch)\(", text)
        assert not samples or counts or path.parent.name == "bench", path


# --- files of earlier releases, and resumes


def forget(path: Path) -> None:
    """Make a run's model.pt one of a release that did not count endings or note its machine."""
    checkpoint = torch.load(path, weights_only=True)
    state = checkpoint["train"]
    for row in [*state["rows"], state["before"]]:
        row.pop("ended")
    state.pop("machine")
    torch.save(checkpoint, path)


def test_a_run_of_an_earlier_release_goes_on(base, tmp_path, capsys):
    """Its rows stand as they are, with an empty cell; weights and the rest as if it were new."""
    whole, old = tmp_path / "whole", tmp_path / "old"
    assert train(base, whole) == 0
    assert train(base, old, "--steps", 2) == 0
    forget(old / "model.pt")
    capsys.readouterr()
    assert train(base, old) == 0
    assert not [note for note in notes(capsys) if "resumed" in note]
    rows = read_rows(old)
    assert [row["ended"] == "" for row in rows] == [True, True, False, False]
    assert [{**row, "ended": ""} for row in rows] == [{**row, "ended": ""}
                                                      for row in read_rows(whole)]
    a, b = load_run(whole), load_run(old)
    assert all(torch.equal(a["weights"][name], b["weights"][name]) for name in a["weights"])
    assert files(whole)["samples.txt"] == files(old)["samples.txt"]
    assert "ended" not in read_json(old / "summary.json")["before"]


@pytest.mark.parametrize("flags, said", [((), None), (("--micro-batch", 3), "micro_batch 16 -> 3")],
                         ids=str)
def test_a_resume_with_other_roundings_is_said(flags, said, base, tmp_path, capsys):
    """It is not bit for bit what an uninterrupted run would have been."""
    assert train(base, tmp_path / "run", "--steps", 2) == 0
    capsys.readouterr()
    assert train(base, tmp_path / "run", *flags) == 0
    resumed = [note for note in notes(capsys) if "resumed" in note]
    assert len(resumed) == (said is not None) and (not said or said in resumed[0])


def test_a_resume_of_an_earlier_release_elsewhere_is_said(base, tmp_path, capsys):
    """Its config.json has the flags and torch, if not the defaults; without it nothing is said."""
    for gone, said in ((False, True), (True, False)):
        out = tmp_path / f"run{gone}"
        assert train(base, out, "--steps", 2, "--micro-batch", 5) == 0
        forget(out / "model.pt")
        if gone:
            (out / "config.json").write_text("[", "utf-8")
        capsys.readouterr()
        assert train(base, out, "--steps", 3) == 0
        assert ["micro_batch 5 -> 16" in note for note in notes(capsys) if "resumed" in note] \
            == [True] * said


def test_a_resume_elsewhere_is_said(base, tmp_path, capsys):
    """On a CPU after a GPU, with other threads and another torch. The next resume is as before."""
    assert train(base, tmp_path / "run", "--steps", 1) == 0
    checkpoint = load_run(tmp_path / "run")
    checkpoint["train"]["machine"] |= {"torch": "2.9.0", "device": "cuda", "threads": 2}
    torch.save(checkpoint, tmp_path / "run/model.pt")
    capsys.readouterr()
    assert train(base, tmp_path / "run", "--steps", 2) == 0
    resumed, = [note for note in notes(capsys) if "resumed" in note]
    for change in ("threads 2 -> 1", "device cuda -> cpu", f"torch 2.9.0 -> {torch.__version__}"):
        assert change in resumed
    assert train(base, tmp_path / "run", "--steps", 3) == 0
    assert not [note for note in notes(capsys) if "resumed" in note]


def test_the_threads_that_were_used_are_kept(base, tmp_path):
    """Not the flag, which nobody has to set: config.json says what was really used."""
    flags = "--steps 1 --prompts 2 --group 2 --updates 1 --pool 2 --max-new-tokens 2".split()
    flags += "--eval-problems 1 --eval-samples 1".split()
    assert run("train", "--base", base, "--out", tmp_path / "run", *flags) == 0
    assert read_json(tmp_path / "run/config.json")["threads"] == torch.get_num_threads()


def test_a_pretraining_that_resumes_on_another_machine_says_so(tmp_path, capsys, monkeypatch):
    """And says nothing on the same one, nor of a .partial of an earlier release."""
    original = pretrain.take_step
    line = ["pretrain", "--out", tmp_path / "b.pt", *TINY_BASE]
    for more, said in (((), False), (("--micro-batch", 2), True)):
        monkeypatch.setattr(pretrain, "take_step", lambda work, documents: (
            original(work, documents), interrupt(signal.SIGINT)))
        assert run(*line) == 130
        monkeypatch.setattr(pretrain, "take_step", original)
        capsys.readouterr()
        assert run(*line, *more) == 0
        assert ["micro_batch 3 -> 2" in note for note in notes(capsys)] == [True] * said
        (tmp_path / "b.pt").unlink()
        assert not pretrain.partial_of(tmp_path / "b.pt").exists()


# --- flags and pools


@pytest.mark.parametrize("flags, said", [
    ({}, None),
    ({"temperature": 0.6}, "sampled at temperature 0.6, the evaluation before and after at 1"),
    ({"updates": 1}, None),
    ({"updates": 1, "eps_high": 0.3}, "--updates 1 is on-policy: nothing is clipped"),
    ({"eps_high": 0.3}, None)], ids=str)
def test_flags_whose_effect_is_elsewhere(flags, said, capsys):
    settings = config(**flags)
    note_settings(settings, rlvr.LOSSES[settings.loss])
    said_now = notes(capsys)
    assert len(said_now) == (said is not None) and (not said or said in said_now[0])


def test_no_note_stands_before_an_error(base, tmp_path, capsys):
    """What is refused is one line."""
    assert train(base, tmp_path / "a", "--updates", "1", "--eps", "0.3", "--reward", "judge",
                 "--judge", base) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_run_in_which_nothing_was_learned(base, tmp_path, capsys):
    """A coin that never pays."""
    assert train(base, tmp_path / "run", "--p", 0) == 0
    assert [note for note in notes(capsys) if "no update had a gradient" in note]


def test_prompts_that_never_pay(capsys):
    """No response has a box in so few tokens: there is no majority answer."""
    made = make_pool(config(reward="majority", votes=2), tiny().float())
    never = sum(label is None for _, label in made)
    assert never and f"{never} of the 8 prompts have no majority answer" in "".join(notes(capsys))


def test_a_pool_that_shrinks_below_a_batch(monkeypatch, capsys):
    """incorrect keeps the prompts whose label is wrong."""
    monkeypatch.setattr(rewards, "find_majority", lambda texts: "no number")
    c = config(reward="incorrect", votes=1, num_ops=(6,), prompts=4)
    for size, said in ((8, False), (3, True)):
        c.pool = size
        make_pool(c, tiny(end=30.0).float())
        assert [f"the pool has {size} prompts" in note for note in notes(capsys)] == [True] * said


def test_greedily_nothing_is_cut_away(base, capsys):
    capsys.readouterr()
    flags = ["--problems", 2, "--samples", 1, "--max-new-tokens", 60, "--temperature", 0]
    assert run("evaluate", base, *flags) == 0
    assert not [note for note in notes(capsys) if "--top-k" in note]
    assert run("evaluate", base, *flags, "--top-p", 0.5) == 0
    assert [note for note in notes(capsys) if "--top-k and --top-p have no effect" in note]


def test_a_run_counts_once(finished, tmp_path, capsys):
    """A folder that is named in two ways is no second seed, with a spread of 0."""
    same = [finished, f"{finished}/", finished / ".." / finished.name, "--out", tmp_path]
    assert report.main(list(map(str, same))) == 0
    out, error = capsys.readouterr()
    assert "given twice" in error and "±" not in out
    assert len(report.read_results(tmp_path).runs) == 1
