"""The kernel of the arms: what a bandit is told of a base."""

import re

import numpy as np
import pytest
import torch

from data.corpus import CORPORA
from data.task import EASY, draw_problems, render_problem, split_of
from data.tokenizer import END, VOCABULARY_SIZE, encode_prompt
from evaluation import decode_rollouts
from lessons import gradients
from lessons.clips import kernel
from model import sample_responses, save_checkpoint
from plumbing.streams import SAMPLES, torch_rng
from tests.helpers import tiny


def some_problems(n):
    return draw_problems(n, "training", EASY, np.random.default_rng(0))


def several_openers():
    """A tiny model that begins its responses in some different ways, and in many rare ones."""
    return tiny(scale=20.0, end=0.0)


def mean_logits(model, problems):
    prompts = [torch.tensor([encode_prompt(render_problem(problem))]) for problem in problems]
    return torch.stack([model.head(model(prompt))[0, -1] for prompt in prompts])


def move(model, direction, step):
    with torch.no_grad():
        for parameter, part in zip(model.parameters(), direction):
            parameter += step * part


def test_the_kernel_is_how_far_the_arms_move():
    """Arms of too rare a token or unsorted; K of the last token but one, or not averaged.

    A small step along the gradient of arm b's mean logit moves that of arm a by K_ab, by central
    differences in float64.
    """
    model, problems = several_openers(), some_problems(4)
    arms, shares, K = kernel.measure_kernel(model, problems)
    probabilities = mean_logits(model, problems).softmax(-1).mean(0)
    assert torch.allclose(shares, probabilities[arms])
    assert shares[0].item() == pytest.approx(probabilities.max().item())
    assert 3 < len(arms) == (probabilities > kernel.RARE).sum() < VOCABULARY_SIZE
    assert K.shape == (len(arms), len(arms))
    for b in (0, 3):
        logit = mean_logits(model, problems)[:, arms[b]].mean()
        direction = torch.autograd.grad(logit, list(model.parameters()))
        moved = []
        for step in (1e-7, -2e-7):                       # to +1e-7, then back to -1e-7
            move(model, direction, step)
            moved.append(mean_logits(model, problems)[:, arms].mean(0))
        assert torch.allclose((moved[0] - moved[1]) / 2e-7, K[:, b], rtol=1e-4, atol=1e-4)
        move(model, direction, 1e-7)


def test_a_step_moves_the_arms_as_the_docstring_says(monkeypatch):
    """A wrong formula: z_a moves by lr A (K_ab - sum_c pi_c K_ac), all tokens being arms."""
    monkeypatch.setattr(kernel, "RARE", -1.0)
    model, problems = several_openers(), some_problems(1)
    arms, pi, K = kernel.measure_kernel(model, problems)
    before, lr, advantage, b = mean_logits(model, problems)[0], 1e-9, -1.7, 2
    loss = -advantage * before.log_softmax(-1)[arms[b]]
    move(model, torch.autograd.grad(loss, list(model.parameters())), -lr)
    moved = (mean_logits(model, problems)[0] - before)[arms]
    assert torch.allclose(moved, lr * advantage * (K[:, b] - K @ pi), rtol=1e-3, atol=1e-12)
    assert moved.abs().max() > 1e-7


def save(path, model):
    save_checkpoint(path, model.float(), corpus="good-code")
    return str(path)


def test_the_norms_are_those_of_whole_responses_by_mode(monkeypatch):
    """Of a token, of the mean over tokens, not squared, or of the wrong mode: all differ.

    Against float64 gradients of each response's log probability, written out token by token.
    """
    monkeypatch.setattr(gradients, "RESPONSES", 3)
    model, problems = several_openers(), some_problems(2)
    corpus = CORPORA["good-code"]._replace(mode_of=lambda text: str(len(text) % 2))
    prompts = [encode_prompt(render_problem(problem)) for problem in problems]
    rollouts = sample_responses(model, prompts, 3, END, 40, generator=torch_rng(SAMPLES, 0))
    squares = {}
    for row, text in enumerate(decode_rollouts(rollouts)):
        response = rollouts.ids[row][rollouts.mask[row]].tolist()
        prompt, total = prompts[row // 3], 0.0
        for t, token in enumerate(response):
            logits = model.head(model(torch.tensor([prompt + response[:t]])))[0, -1]
            total = total + logits.log_softmax(-1)[token]
        gradient = torch.autograd.grad(total, list(model.parameters()))
        squares.setdefault(str(len(text) % 2), []).append(
            torch.cat([part.flatten() for part in gradient]).square().sum().item())
    found = gradients.measure_norms(model, corpus, problems)
    assert len(squares) == 2 and found.keys() == squares.keys()
    assert found == {mode: pytest.approx(np.mean(values)) for mode, values in squares.items()}


def test_the_command_prints_the_habit(tmp_path, monkeypatch, capsys):
    """Own and other entries mixed up, kappa without the constant, problems of another split."""
    K, asked = torch.tensor([[500., 10, 20], [10, 800, 30], [20, 30, 1400]]), []

    def measure(model, problems):
        asked.extend(problems)
        return torch.arange(3), torch.tensor([0.6, 0.3, 0.04]), K

    def norms(model, corpus, problems):
        assert corpus is CORPORA["good-code"] and problems == asked
        return {"text": 864.4, "code": 24.6}

    monkeypatch.setattr(kernel, "measure_kernel", measure)
    monkeypatch.setattr(kernel, "measure_norms", norms)
    monkeypatch.chdir(tmp_path)
    assert kernel.main([save(tmp_path / "tiny.pt", several_openers())]) == 0
    lines = [re.split(r"\s{2,}|² ", line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [["arms", "0.60, 0.30, 0.04"], ["K_aa", "900 (500 to 1400)"],
                     ["K_ab", "20 (10 to 30)"],
                     ["lr kappa", "0.015 x 880 = 13.2, the bandit's LR is 2"],
                     ["|gradient|", "code 25, text 864"]]
    assert len(set(asked)) == 100 and {split_of(problem) for problem in asked} == {"training"}
    assert {len(problem.ops) for problem in asked} == set(EASY)


def test_the_command_reads_a_checkpoint(tmp_path, monkeypatch, capsys):
    """The whole way once, without anything replaced."""
    monkeypatch.setattr(kernel, "PROBLEMS", 3)
    assert kernel.main([save(tmp_path / "tiny.pt", several_openers())]) == 0
    printed = capsys.readouterr().out
    assert re.match(r"arms +0\.\d\d, .*\nK_aa .*\nK_ab .*\nlr kappa .*\n\|gradient\|² ", printed)


def test_the_command_takes_good_code_unless_told_otherwise(monkeypatch):
    """Another default than the page and the help say."""
    asked = []
    monkeypatch.setattr(kernel, "show_habit", asked.append)
    assert kernel.main([]) == kernel.main(["no-code"]) == 0
    assert asked == ["good-code", "no-code"]


def test_the_command_refuses_bad_input(tmp_path, monkeypatch, capsys):
    """A traceback, or a K of one arm, for a missing file, a bad flag, a model with one opener."""
    monkeypatch.chdir(tmp_path)
    sure = save(tmp_path / "sure.pt", tiny(end=300.0))    # ends at once
    for argument, message in (("nowhere", "cannot read checkpoint"), (sure, "one arm")):
        assert kernel.main([argument]) == 2
        output = capsys.readouterr()
        assert output.out == "" and message in output.err and len(output.err.splitlines()) == 1
    with pytest.raises(SystemExit) as stop:
        kernel.main(["--seeds", "3"])
    assert stop.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1
