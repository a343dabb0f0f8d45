"""Lesson feedback: its grid, the step sizes that it chose, its tables and figure."""

from pathlib import Path
from statistics import mean

import pytest
import torch

import rlvr
import run
from data import tokenizer
from data.corpus import CODE_OPENER, CORPORA, is_code
from lessons import report
from lessons.feedback import imitate, lesson
from lessons.feedback.hints import measure_hint
from lessons.grid import locate_run
from lessons.report import Results, read_results
from tests import adapters
from tests.helpers import ROOT, close, config, flat, pool, split_titled, tiny
from tests.test_lesson_consistency import check_stored_grid, make_row, split_lines

FOLDER = ROOT / "lessons/feedback"


def list_swept() -> list[tuple[float, str]]:
    """(prior, form) of all that has a sweep of step sizes."""
    return [(prior, form) for prior, best in lesson.BEST.items() for form in best
            if (prior, form) not in lesson.UNSWEPT]


def test_the_grid_is_that_of_the_stored_runs():
    check_stored_grid(lesson, FOLDER)


def test_cells():
    """Every form at every prior with five seeds, the two rivals with three where programs are rare;
    none of these seeds chose a step; no run twice.
    """
    runs = lesson.runs()
    assert len({locate_run(run) for run in runs}) == len(runs)
    for prior, best in lesson.BEST.items():
        for form in best:
            flags = lesson.main_cell(prior, form)
            seeds = [run["seed"] for run in runs if run == flags | {"seed": run["seed"]}]
            assert seeds == ([1, 2, 3] if form in lesson.RIVALS else [1, 2, 3, 4, 5])
            assert not set(seeds) & set(lesson.SWEEP_SEEDS)
    assert [set(lesson.FORMS) - set(best) for best in lesson.BEST.values()] == (
        [set(lesson.RIVALS)] + 3 * [set()])
    for cells in (lesson.list_controls("token"), lesson.list_controls("JSD"),
                  lesson.list_complements(lesson.SLIPPING), lesson.list_teachers(),
                  lesson.list_imitations()):
        for flags in cells.values():
            assert len([run for run in runs if run == flags | {"seed": run["seed"]}]) >= 3
    assert len(lesson.runs(quick=True)) == 2
    swept = [run for *_, run in lesson.list_sweep()]
    assert len(swept) == 2 * len(lesson.STEP_SIZES) * len(list_swept())
    assert len({locate_run(run) for run in swept + runs}) == len(swept + runs)
    assert {run["seed"] for run in swept} == set(lesson.SWEEP_SEEDS)
    commands = lesson.evidence_commands(runs)
    assert commands[0][1] == locate_run(swept[0]) / "summary.json"
    assert f"--out {locate_run(swept[0])} --threads 1" in commands[0][0]
    programs = {(lesson.IMITATE in command, "--directive-weight 0" in command)
                for command, _, _ in commands}
    assert programs == {(False, False), (True, True)}


def test_each_step_size_is_the_best_on_training_prompts():
    """Recomputed from the stored sweep."""
    results = read_results(FOLDER)
    for prior, form in list_swept():
        scores = {lr: lesson.measure_sweep(results, prior, form, lr) for lr in lesson.STEP_SIZES}
        assert None not in scores.values()
        assert lesson.BEST[prior][form] == max(scores, key=scores.get), (prior, form)
    for prior, form in lesson.UNSWEPT:
        larger = lesson.PRIORS[lesson.PRIORS.index(prior) - 1]
        assert lesson.BEST[prior][form] == lesson.BEST[larger][form]


def make_results() -> Results:
    """Two forms at one prior, two seeds; the second form is right sooner."""
    rows, curves = [], {}
    for form, jump in (("scalar", 5), ("token", 1)):
        for seed in (1, 2):
            curves[len(rows)] = [{"step": i, "accuracy": 0.1 if i < jump + seed else 0.95,
                                  "code_share": 0.5, "grad_norm": 1.0}
                                 for i in range(lesson.STEPS)]
            rows.append(make_row(lesson.main_cell(0.02, form), seed, before_accuracy=0.1,
                                 after_accuracy=0.9 + seed / 100, after_code_share=0.97))
    return Results(rows, curves)


def test_rollouts_until_a_batch_is_right():
    """Those before it; never is not a number; how many came there."""
    lines = [[0.1, 0.5, 0.9], [0.5, 0.2, 0.1], [0.1, 0.2, 0.3]]
    assert lesson.count_rollouts(lines, 0.5) == [512, 0, None]
    assert lesson.show_rollouts(lines, 0.5) == "256 ± 362 (2 of 3)"
    assert lesson.show_rollouts(lines, 0.9) == "1024 (1 of 3)"
    assert lesson.show_rollouts(lines, 0.95) == "never"


def test_table_by_hand():
    shown, = split_titled(lesson.table(make_results())).values()
    head, scalar, token = split_lines(shown)
    assert head[3:] == ["rollouts to 0.5", "to 0.9", "evaluated"]
    reached = [512 * 6, 512 * 7]
    assert scalar[:3] == ["2%", "scalar", "0.045"]
    assert scalar[3] == scalar[4] == f"{mean(reached):.0f} ± 362"
    assert token[:2] == ["", "token"] and token[3] == f"{512 * 2.5:.0f} ± 362"
    assert token[5] == "0.92 ± 0.01"


def test_summary_of_few_runs():
    """Only what was run has a row, and one seed claims nothing."""
    found = lesson.summary(make_results())
    assert [row[:3] for row in found.rows[1:]] == [
        ["2%", lesson.HEARD[form], "2"] for form in ("scalar", "token")]
    assert found.rows[1][3:] == ["3328", "0.10 -> 0.92 ± 0.01"]
    assert "One base, 2 seeds" in found.sentence
    results = make_results()
    one = Results([results.runs[0]], {0: results.curves[0]})
    assert lesson.summary(one).sentence.endswith("not to claim it.")
    assert len(lesson.summary(one).rows) == 2 and len(lesson.summary(Results([], {})).rows) == 1


def test_summary_of_the_stored_results():
    """Eight rows; where not all runs came to 0.9 a row says how many; seeds are not all five."""
    found = lesson.summary(read_results(FOLDER))
    rows = {(row[0], row[1]): row[2:4] for row in found.rows[1:]}
    assert len(rows) == 8 and rows["2%", "program or not"] == ["3", "2048 (2 of 3 runs)"]
    assert "3 to 5 seeds" in " ".join(found.sentence.split())


def test_figure_of_few_runs():
    """A panel for each share of programs that was run, labelled once."""
    pytest.importorskip("matplotlib")
    report.can_draw()
    axis, = lesson.figure(make_results()).axes
    assert {text.get_text() for text in axis.texts} == {"right or wrong", "hint, sampled tokens"}
    panels = lesson.figure(read_results(FOLDER)).axes
    assert [len(panel.texts) for panel in panels] == [0, 0, 5]


def test_record_figure_of_one_prior():
    pytest.importorskip("matplotlib")
    report.can_draw()
    axis, = lesson.record_figure(make_results()).axes
    thick = [line for line in axis.lines if line.get_linewidth() == 2]
    assert len(thick) == 2 and list(thick[0].get_xdata())[:3] == [0, 512, 1024]
    assert {text.get_text() for text in axis.texts} == set(lesson.COLORS)


def test_record_figure_of_the_stored_results():
    """A panel a prior, and the teachers."""
    pytest.importorskip("matplotlib")
    report.can_draw()
    axes = lesson.record_figure(read_results(FOLDER)).axes
    assert len(axes) == len(lesson.PRIORS) + 1
    assert {text.get_text() for text in axes[-1].texts} == {"frozen", "ema", "current"}


# --- imitation, and a forced first token


def score_rows(model, prompts, batch) -> list[torch.Tensor]:
    """log pi of each row's response, token by token, by a plain forward pass of one row."""
    rows = []
    for prompt, ids, mask in zip(prompts, batch.ids, batch.mask):
        sequence = torch.cat((torch.tensor(prompt), ids[mask]))
        logits = adapters.full_logits(model, sequence[None])[0, len(prompt) - 1:-1]
        rows.append(logits.log_softmax(-1).gather(1, ids[mask][:, None])[:, 0])
    return rows


def test_imitation_is_cross_entropy_on_what_is_paid():
    """An update by hand: the answers are the base's behind hinted prompts; the policy learns those
    that the reward pays, behind the prompts without the hint, and nothing of its own.
    """
    c = config(reward="random", loss="distill", hint="tip", directive_weight=0.0, updates=1,
               max_grad_norm=1e9)
    policy, hearer = tiny(1), tiny(2)
    reward, objective = run.bind_entries(c, rlvr.LOSSES[c.loss], hearer, policy)
    task = run.Task(CORPORA["good-code"], pool(), reward)
    measured = imitate.measure_policy(policy, task, c, 0, objective)
    for logprobs, row, mask in zip(score_rows(policy, measured.prompts, measured),
                                   measured.old_logprobs, measured.mask):
        close(row[mask], logprobs)
    said = imitate.sample_teacher(objective.companions[0], measured, c, 0)
    hinted = [prompt[:-1] + tokenizer.encode(" #tip\n") for prompt in said.prompts]
    for logprobs, row, mask in zip(score_rows(hearer, hinted, said), said.old_logprobs, said.mask):
        close(row[mask], logprobs)
    paid = rlvr.pay_rewards(said, task, c, 0, 1).rewards.flatten()
    assert 0 < paid.sum() < len(paid)
    rows = score_rows(policy, said.prompts, said)
    loss = -sum(logprobs.sum() for logprobs, right in zip(rows, paid) if right) / len(paid)
    expected = flat(policy.parameters()) - c.lr * flat(
        torch.autograd.grad(loss, list(policy.parameters())))
    optimizer = torch.optim.SGD(policy.parameters(), lr=c.lr)
    imitate.update_on_teacher(policy, [optimizer], measured, c, 0, objective)
    close(flat(policy.parameters()), expected)


def test_imitation_refuses_what_it_is_not(capsys):
    """In one line, before any work."""
    train = ["train", "--base", "none"]
    for arguments, said in ((train, "--loss distill"), (["evaluate", "none"], "one command"),
                            ([*train, "--loss", "distill"], "--directive-weight 0")):
        try:
            code = imitate.main(arguments)
        except SystemExit as end:
            code = end.code
        error = capsys.readouterr().err
        assert code == 2 and said in error and error.count("\n") == 1


def test_an_answer_is_made_to_begin_a_program(base):
    """Every answer is code then; without the opener the small base says other things, too."""
    shares = [measure_hint(Path(base), "", opener)["code_share"] for opener in ("", CODE_OPENER)]
    assert shares[0] < shares[1] == 1 and is_code(CODE_OPENER)
