"""Evaluations against counts by hand; the parts of a gain; the commands `evaluate` and `sample`."""

import argparse
import doctest
import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import evaluation
import measures
import model
from data import corpus, task, tokenizer
from data.answers import is_correct
from data.corpus import CORPORA
from evaluation import PLAIN, Answers, EvaluateConfig, SampleConfig, Sampling
from model import load_checkpoint, save_checkpoint
from plumbing import streams
from tests import adapters
from tests.helpers import (
    CPU,
    END,
    close,
    describe_options,
    fake_rollouts,
    pool,
    run,
    tiny,
    token_logprobs,
    up_to,
)

CORPUS = CORPORA["good-code"]
KEY = (streams.EVALUATION, 0)


def test_options():
    """Every default, bound and choice of `sample` and `evaluate`: (default, checks)."""
    sample = {
        "temperature": (1.0, {"least": 0}), "top_k": (None, {"least": 1}),
        "top_p": (None, {"above": 0, "most": 1}), "max_new_tokens": (40, up_to(1000)),
        "seed": (0, {"least": 0, "most": 2 ** 32 - 1}),
        "threads": (None, up_to(1024)),
        "device": ("auto", {"choices": "auto cpu cuda mps"})}
    assert describe_options(SampleConfig) == sample
    assert describe_options(EvaluateConfig) == sample | {
        "samples": (64, up_to(10 ** 5)), "k": ((1,), {"many": True, "least": 1}),
        "problems": (400, {"least": 1}),
        "num_ops": ((1, 2, 3, 4, 5), {"many": True, "choices": "1 2 3 4 5 6 7"}),
        "split": ("evaluation", {"choices": "training evaluation probe"})}
    assert PLAIN == Sampling(1.0, None, None, 40)
    assert evaluation.SAMPLED_ROWS == 8192             # a chunk has its own random numbers
    assert model.SCORED_ROWS == 128


# --- pass@k


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(n):
    for c in range(n + 1):
        for k in range(1, n + 1):
            subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
            expected = sum(map(any, subsets)) / len(subsets)
            assert adapters.pass_at_k(n, c, k) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n, c, k", [(4, 2, 5), (4, 2, 0), (4, 5, 1), (4, -1, 1)])
def test_pass_at_k_refuses_the_impossible(n, c, k):
    with pytest.raises(ValueError):
        adapters.pass_at_k(n, c, k)


# --- the parts of a gain


def make_numbers(modes, shares, accuracies):
    """What an evaluation says of modes with these shares and accuracies."""
    numbers = {"accuracy": sum(s * a for s, a in zip(shares, accuracies))}
    for mode, s, a in zip(modes, shares, accuracies):
        numbers |= {f"{mode}_share": s, f"accuracy_{mode}": a if s > 0 else None}
    return numbers


unit = st.floats(0, 1)


@given(unit, unit, unit, unit, unit, unit)
def test_gain_adds_up(s0, s1, c0, c1, t0, t1):
    """switch + within == total, also where a mode does not occur.

    switch is 0 if the shares are equal, within if the accuracies are.
    """
    before = make_numbers(("code", "text"), (s0, 1 - s0), (c0, t0))
    after = make_numbers(("code", "text"), (s1, 1 - s1), (c1, t1))
    result = adapters.gain(before, after)
    assert result["total"] == pytest.approx(after["accuracy"] - before["accuracy"], abs=1e-12)
    assert result["switch"] + result["within"] == pytest.approx(result["total"], abs=1e-12)
    if s0 == s1:
        assert result["switch"] == pytest.approx(0, abs=1e-12)
    if (c0, t0) == (c1, t1):
        assert result["within"] == pytest.approx(0, abs=1e-12)


def test_gain_with_three_modes():
    """By hand: switch = sum of ds bar a, within = sum of bar s da, over all of the modes."""
    modes = ("code", "text", "steps")
    before = make_numbers(modes, (0.5, 0.3, 0.2), (0.9, 0.1, 0.4))
    after = make_numbers(modes, (0.7, 0.3, 0.0), (0.8, 0.3, 0.4))
    result = adapters.gain(before, after, modes)
    switch = 0.2 * 0.85 + 0.0 - 0.2 * 0.4       # a mode that is gone counts as it was
    within = 0.6 * -0.1 + 0.3 * 0.2 + 0.0
    assert result == {"total": pytest.approx(0.65 - 0.56), "switch": pytest.approx(switch),
                      "within": pytest.approx(within)}
    assert result["switch"] + result["within"] == pytest.approx(result["total"])
    assert adapters.gain(after, before, modes)["switch"] == pytest.approx(-switch)


def test_gain_of_a_mode_that_never_occurs():
    before = make_numbers(("code", "text"), (0.0, 1.0), (0.0, 0.25))
    after = make_numbers(("code", "text"), (0.0, 1.0), (0.0, 0.5))
    assert adapters.gain(before, after) == {"total": 0.25, "switch": 0.0, "within": 0.25}


def answers_of(correct, modes, texts=None, chunks=None):
    correct, modes = np.array(correct, bool), np.array(modes)
    problems = [problem for problem, _ in pool(len(correct))]
    return Answers(problems, texts or [""] * correct.size, chunks or [], correct, modes)


def test_switches_by_hand():
    """Six pairs, three modes: from the row's mode to the column's, and what they contribute.

    Catches before and after swapped: nothing here is symmetric.
    """
    before = answers_of([[0, 1, 0], [1, 0, 0]], [[0, 0, 1], [1, 2, 0]])
    after = answers_of([[1, 1, 1], [0, 0, 1]], [[1, 0, 1], [0, 2, 1]])
    cells = adapters.count_switches(before, after, ("a", "b", "c"))
    assert set(cells) == {f"{i}->{j}" for i in "abc" for j in "abc"}
    expected = {"a->b": [2 / 6, 2 / 6], "a->a": [1 / 6, 0], "b->b": [1 / 6, 1 / 6],
                "b->a": [1 / 6, -1 / 6], "c->c": [1 / 6, 0]}
    for name, cell in cells.items():
        assert cell == pytest.approx(expected.get(name, [0, 0])), name
    assert sum(points for _, points in cells.values()) == pytest.approx(4 / 6 - 2 / 6)


# --- answering


def recorded_sampler(monkeypatch, respond):
    """Replace the sampler by respond(prompts as text, n, temperature) -> texts; its calls."""
    calls = []

    def sample(model, prompts, n, end, max_new_tokens=None, temperature=None, top_k=None,
               top_p=None, generator=None):
        calls.append({"prompts": prompts, "n": n, "end": end, "seed": generator.initial_seed(),
                      "sampling": Sampling(temperature, top_k, top_p, max_new_tokens)})
        return fake_rollouts(respond([tokenizer.decode(prompt) for prompt in prompts], n,
                                     temperature))

    monkeypatch.setattr(evaluation, "sample_responses", sample)
    return calls


def test_answers_are_sampled_in_chunks(monkeypatch):
    """Each chunk of problems has its own stream; all comes back in the problems' order."""
    monkeypatch.setattr(evaluation, "SAMPLED_ROWS", 5)      # 2 problems of 2 samples at once
    calls = recorded_sampler(monkeypatch, lambda prompts, n, _: [
        f"{prompt.split()[0]} \\boxed{{{i}}}" for prompt in prompts for i in range(n)])
    problems = [task.parse_problem(f"{i} +2") for i in range(5)]
    sampling = Sampling(0.7, 3, 0.9, 11)
    answers = evaluation.answer_problems(None, CORPUS, problems, 2, (7, 3), sampling)
    assert [len(call["prompts"]) for call in calls] == [2, 2, 1]
    assert all(call["sampling"] == sampling and call["end"] == END for call in calls)
    seeds = [streams.torch_rng(7, 3, i).initial_seed() for i in (0, 2, 4)]
    assert [call["seed"] for call in calls] == seeds
    assert answers.texts == [f"{i} \\boxed{{{j}}}" for i in range(5) for j in range(2)]
    assert answers.problems == problems and len(answers.rollouts) == 3
    assert answers.correct.tolist() == [[False, False]] * 5     # 0 +2 is 2, and so on
    assert answers.modes.tolist() == [[1, 1]] * 5


def test_answers_know_what_is_right_and_in_which_mode(monkeypatch):
    problems = [task.parse_problem("37 *4 +5"), task.parse_problem("3 +4")]
    written = {f"{task.render_problem(p)}\n": [
        corpus.write_good_code(p, False), corpus.write_text(p, 1, False),
        f"\\boxed{{{task.solve(p)}}}"] for p in problems}
    recorded_sampler(monkeypatch, lambda prompts, n, _: [
        text for prompt in prompts for text in written[prompt]])
    answers = evaluation.answer_problems(None, CORPUS, problems, 3, KEY)
    assert answers.correct.tolist() == [[True, False, True], [True, True, True]]
    assert answers.modes.tolist() == [[0, 1, 1]] * 2


def test_a_prefix_begins_every_response(monkeypatch):
    """It follows the prompt, and is part of the text that is judged."""
    calls = recorded_sampler(monkeypatch, lambda prompts, n, _: ["2\n"] * len(prompts))
    problem = task.parse_problem("37 *4")
    answers = evaluation.answer_problems(None, CORPUS, [problem], 1, KEY,
                                         prefix=corpus.CODE_OPENER)
    prompt = tokenizer.encode_prompt("37 *4") + tokenizer.encode(corpus.CODE_OPENER)
    assert calls[0]["prompts"] == [prompt]
    assert answers.texts == [f"{corpus.CODE_OPENER}2\n"] and answers.modes.tolist() == [[0]]


def test_a_real_model_answers():
    """The sampler's ids and the texts are the same responses; the ending is no text."""
    problems = [problem for problem, _ in pool(3)]
    answers = evaluation.answer_problems(tiny(), CORPUS, problems, 4, KEY,
                                         Sampling(max_new_tokens=6))
    rollouts, = answers.rollouts
    lengths = rollouts.mask.sum(1)
    assert lengths.min() < lengths.max() == 6
    for text, ids, mask in zip(answers.texts, rollouts.ids, rollouts.mask):
        assert text == tokenizer.decode([i for i in ids[mask].tolist() if i != END])


def test_draw_evaluation():
    """By split, sizes and seed; the same each time, whatever the run."""
    drawn = evaluation.draw_evaluation(10, "probe", (6, 7))
    assert drawn == evaluation.draw_evaluation(10, "probe", (6, 7), 0)
    assert drawn != evaluation.draw_evaluation(10, "probe", (6, 7), 1)
    assert {task.split_of(problem) for problem in drawn} == {"probe"}
    assert [len(problem.ops) for problem in drawn] == [6, 7] * 5
    stream = streams.numpy_rng(streams.EVALUATION, 0)
    assert drawn == task.draw_problems(10, "probe", (6, 7), stream)


# --- scoring


@pytest.mark.parametrize("rows", [1, 5, 12, 100])
def test_scores_of_tokens(rows, monkeypatch):
    """Each row's hidden states and ids by a plain pass, whatever the chunks; 0 on padding."""
    monkeypatch.setattr(model, "SCORED_ROWS", rows)
    sizes, policy = [], tiny()
    prompts = [tokenizer.encode_prompt(task.render_problem(problem)) for problem, _ in pool(3)]
    rollouts = adapters.sample(policy, prompts, 4, END, seed=0, max_new_tokens=6)
    assert rollouts.mask.sum(1).min() < rollouts.mask.sum(1).max()
    repeated = [prompt for prompt in prompts for _ in range(4)]

    def read(hidden, ids):
        sizes.append(len(ids))
        return hidden[:, 1] + ids

    scores = model.score_tokens(policy, repeated, rollouts.ids, rollouts.mask, read)
    assert len(sizes) == -(-12 // rows) and not scores.requires_grad
    for prompt, ids, mask, row in zip(repeated, rollouts.ids, rollouts.mask, scores):
        sequence = torch.tensor(prompt + ids[mask].tolist())
        hidden = policy(sequence[None])[0, len(prompt) - 1:-1]
        close(row[mask], (hidden[:, 1] + ids[mask]).detach())
        assert not row[~mask].any()


# --- evaluating


def eight_responses():
    """Two problems and four responses to each: mode, box and rightness vary."""
    problems = [task.parse_problem("37 *4 +5"), task.parse_problem("3 +4")]
    right = [corpus.write_good_code(problem, False) for problem in problems]
    return problems, {
        "37 *4 +5\n": [right[0], corpus.write_bad_code(problems[0], False),
                       corpus.write_text(problems[0], 0, False), "The answer is 53."],
        "3 +4\n": [corpus.write_text(problems[1], 0, False),
                   corpus.write_text(problems[1], 0, True), right[1], right[1]]}


def test_evaluation_by_hand(monkeypatch):
    """Every number, recounted from eight known responses."""
    problems, table = eight_responses()
    greedy = [corpus.write_good_code(problem, False) for problem in problems]
    calls = recorded_sampler(monkeypatch, lambda prompts, n, temperature: [
        text for prompt in prompts for text in table[prompt]] if temperature else greedy)
    numbers, answers = evaluation.evaluate(None, CORPUS, problems, 4, [1, 2, 4], (8, 5),
                                           Sampling(0.7, 3, 0.9, 17))
    expected = {
        "accuracy": 4 / 8, "greedy_accuracy": 1.0, "code_share": 4 / 8, "text_share": 4 / 8,
        "greedy_code_share": 1.0, "greedy_text_share": 0.0, "accuracy_code": 3 / 4,
        "accuracy_text": 1 / 4, "format_rate": 6 / 8, "entropy": 0.7, "mean_token_prob": 0.25,
        "ended": 1.0, "distinct_answers": (3 + 1) / 2, "kl_to_base": None,
        "n_problems": 2, "n_samples": 4,
        # boxes 53, 42, 48, none and 7, none, 7, 7
        "agreement": (1 + 3) / 8, "vote_accuracy": 1.0, "top_answer_share": 3 / 8,
        # 1 and 3 of 4 are right
        "pass_at_k": {"1": 1 / 2, "2": (1 / 2 + 1) / 2, "4": 1.0}}
    assert set(numbers) == set(expected)
    for key, value in expected.items():
        assert numbers[key] == (value if value is None else pytest.approx(value)), key
    assert answers.correct.sum() == 4 and answers.texts == sum(table.values(), [])
    assert [(call["n"], call["sampling"]) for call in calls] == [
        (4, Sampling(0.7, 3, 0.9, 17)), (1, Sampling(0.0, None, None, 17))]
    assert {call["seed"] for call in calls} == {streams.torch_rng(8, 5, 0).initial_seed()}


def test_evaluation_of_a_base_with_doubts(monkeypatch):
    """Each response beside its own problem, in groups of n: as if measured by themselves."""
    problems, table = eight_responses()
    table = {prompt: [text + " 90%" for text in texts[:3]] + ["?"]
             for prompt, texts in table.items()}
    recorded_sampler(monkeypatch, lambda prompts, n, temperature: [
        text for prompt in prompts for text in table[prompt][:n]])
    humble = CORPORA["humble-code"]
    numbers, answers = evaluation.evaluate(None, humble, problems, 4, [1], KEY)
    rows = [problem for problem in problems for _ in range(4)]
    right = [is_correct(problem, text) for problem, text in zip(rows, answers.texts)]
    scored = humble, rows, answers.texts, np.array(right)
    expected = measures.measure_doubt(*scored, 4) | measures.detail_doubt(*scored)
    assert {name: numbers[name] for name in expected} == expected
    assert numbers["own_confidence"] == pytest.approx(2 / 3 / 5)     # the two 7s of five boxes
    assert numbers["abstain_share"] == 2 / 8 and numbers["stated_share"] == 6 / 8


def test_what_cannot_be_said_is_none(monkeypatch):
    """The accuracy of a mode that does not occur is None, not NaN: JSON has none."""
    problems, table = eight_responses()
    recorded_sampler(monkeypatch, lambda prompts, n, _: table["37 *4 +5\n"][:1] * n * len(prompts))
    numbers, _ = evaluation.evaluate(None, CORPUS, problems, 4, [1], KEY)
    assert numbers["accuracy_text"] is None and numbers["accuracy_code"] == 0.5
    json.dumps(numbers, allow_nan=False)


def test_averages_are_over_tokens_of_all_chunks(monkeypatch):
    """Catches a mean of means: chunks and responses of different lengths."""
    monkeypatch.setattr(evaluation, "SAMPLED_ROWS", 2)     # one problem at least
    model, problems = tiny(), [problem for problem, _ in pool(4)]
    answers = evaluation.answer_problems(model, CORPUS, problems, 3, KEY,
                                         Sampling(temperature=0.8, max_new_tokens=6))
    assert len(answers.rollouts) == 4
    numbers = evaluation.measure_answers(answers, [1])
    probabilities, entropies = [], []
    for i, rollouts in enumerate(answers.rollouts):
        prompt = tokenizer.encode_prompt(task.render_problem(problems[i]))
        logits = adapters.response_logits(model, [prompt] * 3, rollouts.ids, rollouts.mask)
        sampled = rollouts.ids[rollouts.mask][:, None]
        probabilities.append((logits / 0.8).softmax(-1).gather(1, sampled)[:, 0])
        entropies.append(adapters.entropy(logits))
    close(numbers["mean_token_prob"], torch.cat(probabilities).mean().item())
    close(numbers["entropy"], torch.cat(entropies).mean().item())


def test_the_base_is_passed_on(monkeypatch):
    asked = []
    monkeypatch.setattr(evaluation, "kl_to_base", lambda *args: asked.append(args) or 1.5)
    problems, table = eight_responses()
    recorded_sampler(monkeypatch, lambda prompts, n, _: table["3 +4\n"][:1] * n * len(prompts))
    numbers, answers = evaluation.evaluate("policy", CORPUS, problems, 2, [1], KEY, base="base")
    assert numbers["kl_to_base"] == 1.5
    (model, base, of), = asked
    assert (model, base) == ("policy", "base") and of is answers


# --- KL to the base


def test_kl_to_base_of_whole_responses():
    """With one token the exact KL at the prompt; with two, its mean over samples is of all pairs.

    That is the chain rule; a response that ended with its first token has no second. 0 to itself.
    """
    problems = [problem for problem, _ in pool(2)]
    model, base = tiny(0), tiny(1)
    for length in (1, 2):
        exact = 0.0
        for problem in problems:
            prompt = tokenizer.encode_prompt(task.render_problem(problem))
            p, q = (adapters.full_logits(m, torch.tensor([prompt]))[0, -1].log_softmax(-1)
                    for m in (model, base))
            exact += (p.exp() * (p - q)).sum().item() / 2
            if length == 2:
                after = torch.tensor([[*prompt, token] for token in range(len(p))])
                p2, q2 = (adapters.full_logits(m, after)[:, -1].log_softmax(-1)
                          for m in (model, base))
                goes_on = torch.arange(len(p)) != END
                exact += (p.exp() * (p2.exp() * (p2 - q2)).sum(-1) * goes_on).sum().item() / 2
        estimates = []
        for i in range(100 if length == 2 else 1):
            answers = evaluation.answer_problems(model, CORPUS, problems, 3, (0, i),
                                                 Sampling(max_new_tokens=length))
            estimates.append(adapters.kl_to_base(model, base, answers))
        error = np.std(estimates) / 10 if length == 2 else 1e-10
        assert abs(np.mean(estimates) - exact) < 5 * error and exact > 0.01
        close(adapters.kl_to_base(model, model, answers), 0.0)


def test_kl_is_of_the_first_response_to_each_problem(monkeypatch):
    """Row by row, by plain forward passes, over two chunks of mixed lengths."""
    monkeypatch.setattr(evaluation, "SAMPLED_ROWS", 9)
    model, base = tiny(0), tiny(1)
    problems = [problem for problem, _ in pool(5)]
    answers = evaluation.answer_problems(model, CORPUS, problems, 3, KEY,
                                         Sampling(max_new_tokens=6))
    assert [len(rollouts.ids) for rollouts in answers.rollouts] == [9, 6]
    rows = [(ids[mask]) for rollouts in answers.rollouts
            for ids, mask in zip(rollouts.ids[::3], rollouts.mask[::3])]
    assert len({len(row) for row in rows}) > 1
    total = 0.0
    for problem, ids in zip(problems, rows):
        prompt = tokenizer.encode_prompt(task.render_problem(problem))
        logits = [adapters.response_logits(m, [prompt], ids[None], torch.ones(1, len(ids)).bool())
                  .log_softmax(-1) for m in (model, base)]
        total += (logits[0].exp() * (logits[0] - logits[1])).sum().item()
    close(adapters.kl_to_base(model, base, answers), total / 5)


# --- the commands


def saved(tmp_path):
    path = tmp_path / "tiny.pt"
    save_checkpoint(path, tiny().float(), corpus="bad-code")
    return path


def recorded_devices(monkeypatch):
    """What is asked of choose_device, and on which device checkpoints are then loaded."""
    asked, chosen = [], torch.device("cpu")

    def load(path, device):
        asked.append((str(path), device is chosen))
        return load_checkpoint(path, device)

    monkeypatch.setattr(evaluation, "choose_device",
                        lambda args: asked.append((args.device, args.threads)) or chosen)
    monkeypatch.setattr(evaluation, "load_checkpoint", load)
    return asked


def test_evaluate_passes_everything_on(tmp_path, monkeypatch, capsys):
    """Each flag of `evaluate` to where it belongs, and what comes back as JSON."""
    asked, devices, path = [], recorded_devices(monkeypatch), saved(tmp_path)
    monkeypatch.setattr(evaluation, "evaluate", lambda *args, **more: (
        asked.append((args, more)) or (
            {"accuracy": 0.5, "greedy_accuracy": 1.0}, None)))
    assert run("evaluate", path, *"--samples 8 --k 8 1 8 --problems 6 --num-ops 6 2 --split probe "
               "--seed 3 --temperature 0.5 --top-k 4 --top-p 0.9 --max-new-tokens 7 --threads 1 "
               "--device cpu".split()) == 0
    (((model, of_corpus, problems, samples, ks, key, *rest), more),) = asked
    sampling, = [*rest, *more.values()]
    assert of_corpus is CORPORA["bad-code"]
    assert torch.equal(model.head.weight, load_checkpoint(path, CPU)[0].head.weight)
    assert problems == evaluation.draw_evaluation(6, "probe", (6, 2), 3)
    assert (samples, ks, key) == (8, [1, 8], (streams.EVALUATION, 3))
    assert sampling == Sampling(0.5, 4, 0.9, 7)
    assert devices == [("cpu", 1), (str(path), True)]
    out, error = capsys.readouterr()
    assert json.loads(out) == {"accuracy": 0.5, "greedy_accuracy": 1.0}
    said, following = error.splitlines()[-2:]
    assert said == "accuracy 0.500 over 8 samples of each of 6 problems, 1.000 decoded greedily"
    assert following.startswith("next: python rlvr.py sample ")


def test_evaluate_prints_what_evaluate_says(tmp_path, capsys):
    assert run("evaluate", saved(tmp_path), *"--samples 4 --k 4 1 --problems 3".split()) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert list(numbers["pass_at_k"]) == ["1", "4"] and numbers["n_samples"] == 4
    assert numbers["pass_at_k"]["1"] == pytest.approx(numbers["accuracy"])
    assert numbers["n_problems"] == 3 and numbers["kl_to_base"] is None


@pytest.mark.parametrize("flags, code", [
    ("--samples 4 --k 4", 0), ("--samples 4 --k 1 5", 2), ("--k 65", 2)])
def test_k_is_at_most_the_samples(flags, code, tmp_path, monkeypatch, capsys):
    numbers = {"accuracy": 0.5, "greedy_accuracy": 1.0}
    monkeypatch.setattr(evaluation, "evaluate", lambda *args: (numbers, None))
    assert run("evaluate", saved(tmp_path), *flags.split()) == code
    assert ("is too few" in capsys.readouterr().err) == (code == 2)


def test_sample_passes_everything_on(tmp_path, monkeypatch):
    asked, devices, path = [], recorded_devices(monkeypatch), saved(tmp_path)
    original = evaluation.sample_responses

    def sample(model, prompts, n, end, **options):
        asked.append((prompts, n, end, options.pop("generator").initial_seed(), options))
        return original(model, prompts, n, end, **options)

    monkeypatch.setattr(evaluation, "sample_responses", sample)
    assert run("sample", path, "37 *4", *"-n 3 --seed 5 --temperature 0.5 --top-k 4 "
               "--top-p 0.9 --max-new-tokens 7 --threads 1 --device cpu".split()) == 0
    seed = streams.torch_rng(streams.SAMPLES, 5).initial_seed()
    options = {"temperature": 0.5, "top_k": 4, "top_p": 0.9, "max_new_tokens": 7}
    assert asked == [([tokenizer.encode_prompt("37 *4")], 3, END, seed, options)]
    assert devices == [("cpu", 1), (str(path), True)]


def test_sample_prints_responses_and_verdicts(tmp_path, monkeypatch, capsys):
    texts = ["\\boxed{48}", "\\boxed{49}"]
    recorded_sampler(monkeypatch, lambda prompts, n, _: texts)
    assert run("sample", saved(tmp_path), "37 *4", "-n", 2) == 0
    lengths = [len(tokenizer.encode(text)) + 1 for text in texts]
    logprobs = [f"{length * math.log(0.25):.2f}" for length in lengths]
    said, following = capsys.readouterr().out.split("next: ")
    assert said == (
        f"--- 1: correct, log-probability {logprobs[0]}\n\\boxed{{48}}\n"
        f"--- 2: wrong, the answer is 48, log-probability {logprobs[1]}\n\\boxed{{49}}\n"
        "--- 1 of 2 right\n")
    assert following.startswith("python rlvr.py evaluate ") and following.count("\n") == 1


def test_sampled_log_probability_is_the_models(tmp_path, capsys):
    """The number that is printed, by a plain forward pass over what is printed."""
    path = saved(tmp_path)
    assert run("sample", path, "37 *4", "--max-new-tokens", 3, "--seed", 2) == 0
    model, _ = load_checkpoint(path, CPU)
    prompt = tokenizer.encode_prompt("37 *4")
    stream = streams.torch_rng(streams.SAMPLES, 2)
    rollouts = evaluation.sample_responses(model, [prompt], 1, END, 3, generator=stream)
    expected = token_logprobs(model, prompt, rollouts.ids[0][rollouts.mask[0]]).sum().item()
    said = capsys.readouterr().out.splitlines()[0].rpartition(" ")[2]
    assert float(said) == pytest.approx(expected, abs=0.006)


def test_read_sampling():
    args = argparse.Namespace(temperature=0.5, top_k=4, top_p=0.9, max_new_tokens=7, other=1)
    assert evaluation.read_sampling(args) == Sampling(0.5, 4, 0.9, 7)


def test_examples():
    assert doctest.testmod(evaluation).failed == 0


def test_decoding_stops_at_the_ending():
    """Padding may hold any id: it is never read."""
    rollouts = fake_rollouts(["\\boxed{48}", "7"])
    dirty = rollouts._replace(ids=torch.where(rollouts.mask, rollouts.ids, 5))
    assert evaluation.decode_rollouts(dirty) == ["\\boxed{48}", "7"]
