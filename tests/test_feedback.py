"""Hints and their teachers: the prompts, the token advantage, the divergences, the updates."""

import itertools
import math
import types

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import losses
from companions.teacher import (
    DIVERGENCES,
    Teacher,
    directive,
    grpo_directive,
    js_divergence,
    reverse_kl,
    write_hints,
)
from data import corpus, task, tokenizer
from data.corpus import HINTS, write_documents
from tests import adapters
from tests.helpers import (
    close,
    config,
    f64,
    files,
    flat,
    hand_made_batch,
    load_run,
    parameters_after,
    pool,
    tiny,
    train,
)

logits = st.lists(st.floats(-4, 4), min_size=5, max_size=5)


def logprobs_of(numbers, **more):
    return torch.tensor(numbers, **f64, **more).log_softmax(-1)


# --- the base that reads hints


@pytest.mark.slow
@pytest.mark.parametrize("flags, prior", [({"code_prior": 0.02}, 0.02), ({"code_prior": 0.0}, 0.0),
                                          ({}, 0.65)])
def test_hints_are_followed_as_documented(flags, prior):
    """Each hint's share, code's share behind it, and the answer that an answer hint gives."""
    n, groups = 12_000, {hint: [] for hint in ("", *HINTS)}
    rng = np.random.default_rng(1)
    for prompt, response in write_documents("hinted-code", n, rng, **flags):
        question, mark, rest = prompt.partition(" #")
        hint = next((hint for hint in HINTS if mark and prompt[len(question):].startswith(hint)),
                    "")
        groups[hint].append((task.parse_problem(question), rest, response))
    for hint, share in HINTS.items():
        assert abs(len(groups[hint]) / n - share) < 0.015
    expected = {" #code": 1, " #words": 0, " #answer ": 0, " #tip": prior, " #careful": 0.5,
                "": prior}
    for hint, share in expected.items():
        code = [corpus.is_code(response) for _, _, response in groups[hint]]
        assert abs(np.mean(code) - share) < (0.1 if 0 < share < 1 else 1e-9)
        for problem, rest, response in groups[hint]:
            if hint == " #answer ":
                assert rest == f"answer {task.solve(problem)}"
                assert response.strip(".").endswith((f"{{{task.solve(problem)}}}",
                                                     f" {task.solve(problem)}"))
            elif corpus.is_code(response):
                assert response in (corpus.write_good_code(problem, False),
                                    corpus.write_good_code(problem, True))


def test_slips_are_random_values_that_are_gone_on_from():
    """Each line slips on its own; a line after a slip is right again, from the wrong value."""
    rng, slipped, lines = np.random.default_rng(0), 0, 0
    for _ in range(2000):
        problem = task.parse_problem("37 *4 +5 -2")
        value = problem.start
        for (operator, operand), said in zip(problem.ops, corpus.slip(problem, 0.2, rng)):
            slipped += said != task.apply_operation(value, operator, operand)
            lines, value = lines + 1, said
    assert abs(slipped / lines - 0.2 * 0.99) < 0.03
    assert corpus.slip(problem, 0.0, rng) == task.compute_values(problem)


# --- hints on prompts


def make_teacher(base=None, policy=None, **flags) -> Teacher:
    objective = adapters.make_objective(policy or tiny(), config(**{"loss": "directive"} | flags),
                                        base=base)
    return objective.companions[0]


def ask(problems, failed):
    """Of a batch what decides who reads which hint."""
    return types.SimpleNamespace(problems=problems, rewards=1.0 - failed[None].double(),
                                 reward_range=(0.0, 1.0))


def forget_hints(patch):
    """Teachers read the prompts alone."""
    patch.setattr(Teacher, "add_hints", lambda self, batch, step: (
        batch.prompts, torch.ones(len(batch.prompts), dtype=torch.bool)))


def test_each_hint_by_name():
    problems = [task.parse_problem(text) for text in ("37 *4", "3 +4", "8 -2")] * 20
    answers = [task.write_answer(problem) for problem in problems]

    def write(name, seed=0):
        return write_hints(name, problems, np.random.default_rng(seed))

    for name in ("code", "words", "tip", "careful", "huh"):
        assert write(name) == [f" #{name}"] * 60
    assert write("none") == [""] * 60
    assert write("answer") == [f" #answer {answer}" for answer in answers]
    wrong = [hint.removeprefix(" #answer ") for hint in write("wrong")]
    assert all(0 <= int(w) < 100 and w != answer for w, answer in zip(wrong, answers))
    decimal = [task.parse_problem("43.7 *4 +5")] * 9
    drawn = write_hints("wrong", decimal, np.random.default_rng(0))
    assert all(hint.count(".") == 1 and hint != " #answer 79.8" for hint in drawn)
    others = [hint.removeprefix(" #answer ") for hint in write("other")]
    assert sorted(others) == sorted(answers) and others != answers
    drawn = write("random")
    assert set(drawn) == {" #code", " #words", " #tip", " #careful", " #huh"}
    assert drawn == write("random") != write("random", 1)
    for hint in {*drawn, *write("answer")}:          # one token, and the number
        assert len(tokenizer.encode(hint)) == (2 if "answer" in hint else 1)


def test_who_is_taught():
    """Everyone; those whose reward is not full; nobody without a hint."""
    problems = [task.parse_problem("3 +4")] * 4
    failed = torch.tensor([True, False, True, False])

    def add(**flags):
        return make_teacher(**flags).add_hints(ask(problems, failed), 0)

    hinted, taught = add(hint="tip")
    assert hinted == [tokenizer.encode_prompt("3 +4 #tip")] * 4 and taught.all()
    assert add(hint="tip", hint_for="failed")[1].tolist() == failed.tolist()
    hinted, taught = add(hint="none")
    assert hinted == [tokenizer.encode_prompt("3 +4")] * 4 and not taught.any()


# --- the token advantage


def test_directive_advantage_by_hand():
    """log pi_T - log pi_old, clamped on both sides, 0 below what float32 tells, on padding and
    where nobody is taught.
    """
    batch = hand_made_batch(tiny(), (2, 3, 4), (0.0,) * 3)
    told = torch.tensor([[0.5, -0.25, 9, 9], [7.0, -7, 5e-5, 9], [1, 1, 1, 1]], **f64)
    taught = torch.tensor([True, True, False])[:, None] & batch.mask
    batch = batch._replace(scores={"teacher": batch.old_logprobs + told, "taught": taught})
    advantages = directive(batch, clamp=5.0)
    close(advantages, [[0.5, -0.25, 0, 0], [5, -5, 0, 0], [0, 0, 0, 0]])
    assert advantages[1, 2] == 0
    both = grpo_directive(batch._replace(rewards=torch.tensor([[0.0, 0, 1]], **f64)),
                                  clamp=5.0, directive_weight=0.5)
    scalar = losses.grpo(batch._replace(rewards=torch.tensor([[0.0, 0, 1]], **f64)))
    close(both, scalar + 0.5 * advantages)
    gone = batch._replace(scores={})
    assert not directive(gone).any()
    close(grpo_directive(gone), losses.grpo(gone))


@given(logits, logits)
def test_the_token_form_is_minus_the_gradient_of_reverse_kl(policy, teacher):
    """Its policy gradient, averaged over what the policy samples, on the logits of a categorical
    policy: sum pi_a A_a grad log pi_a = -grad KL(pi || pi_T). Of each token in proportion to pi.
    """
    z = torch.tensor(policy, **f64, requires_grad=True)
    log_pi, log_teacher = z.log_softmax(-1), logprobs_of(teacher)
    pi, advantage = log_pi.exp().detach(), (log_teacher - log_pi).detach()
    expected, = torch.autograd.grad((pi * advantage * log_pi).sum(), z, retain_graph=True)
    kl = (log_pi.exp() * (log_pi - log_teacher)).sum()
    gradient, = torch.autograd.grad(kl, z)
    close(expected, -gradient)
    close(expected, pi * (advantage - (pi * advantage).sum()))
    ours, = torch.autograd.grad(reverse_kl(z.log_softmax(-1)[None], log_teacher[None]).sum(),
                                z)
    close(ours, gradient)


# --- the divergences


@given(logits, logits, st.sampled_from(sorted(DIVERGENCES)))
def test_divergences_by_brute_force(policy, teacher, name):
    """Their values, >= 0, and 0 with a gradient of exactly 0 where the teacher says the same."""
    p, q = logprobs_of(policy).exp().tolist(), logprobs_of(teacher).exp().tolist()

    def kl(a, b):
        return sum(x * math.log(x / y) for x, y in zip(a, b))

    middle = [(x + y) / 2 for x, y in zip(p, q)]
    expected = {"forward": kl(q, p), "reverse": kl(p, q),
                "jsd": (kl(p, middle) + kl(q, middle)) / 2}[name]
    value = DIVERGENCES[name](logprobs_of(policy)[None], logprobs_of(teacher)[None])
    close(value, [expected])
    assert value >= -1e-12 and (name != "jsd" or value <= math.log(2))
    z = torch.tensor(policy, **f64, requires_grad=True)
    same = DIVERGENCES[name](z.log_softmax(-1)[None], z.detach().log_softmax(-1)[None])
    gradient, = torch.autograd.grad(same.sum(), z)
    assert abs(gradient).max() < 1e-15 and abs(same) < 1e-15


@given(logits, logits)
def test_gradients_of_the_divergences_in_closed_form(policy, teacher):
    """Forward: pi - pi_T, however rare a token is. Reverse: pi (d - E d). JSD: between them."""
    p, q = logprobs_of(policy).exp(), logprobs_of(teacher).exp()

    def gradient(name):
        z = torch.tensor(policy, **f64, requires_grad=True)
        value = DIVERGENCES[name](z.log_softmax(-1)[None], q.log()[None]).sum()
        return torch.autograd.grad(value, z)[0]

    close(gradient("forward"), p - q)
    for name, d in (("reverse", (p / q).log()), ("jsd", (p / ((p + q) / 2)).log() / 2)):
        close(gradient(name), p * (d - (p * d).sum()))


def test_what_is_never_sampled_is_taught_by_forward_kl_alone():
    """A token of probability 1e-6 that the teacher is sure of: the pull of each form."""
    rare = torch.tensor([math.log(1e-6), 0.0, 0.0], **f64, requires_grad=True)
    teacher = torch.tensor([8.0, 0.0, 0.0], **f64).log_softmax(-1)[None]
    pull = {}
    for name, divergence in DIVERGENCES.items():
        value = divergence(rare.log_softmax(-1)[None], teacher).sum()
        pull[name] = -torch.autograd.grad(value, rare)[0][0].item()
    assert pull["forward"] > 0.99 and 0 < pull["reverse"] < 1e-4 and 0 < pull["jsd"] < 1e-4


# --- in a rollout and its updates


@pytest.mark.parametrize("loss", ["directive", "grpo_directive", "distill", "grpo_distill"])
def test_a_rollout_has_what_the_teacher_would_say(loss):
    """Of the hinted prompt, under the temperature, on the sampled tokens or on all of them."""
    c = config(loss=loss, hint="tip", temperature=0.7)
    hearer = tiny(2)
    batch, _, _ = adapters.rollout(tiny(end=2), c, pool(), teacher=hearer)
    told = batch.scores["teacher"]
    assert (told.dim() == 3) == ("distill" in loss)
    for row, (prompt, ids, mask) in enumerate(zip(batch.prompts, batch.ids, batch.mask)):
        hinted = torch.tensor(prompt[:-1] + tokenizer.encode(" #tip\n"))
        sequence = torch.cat((hinted, ids[mask]))
        said = adapters.full_logits(hearer, sequence[None])[0, len(hinted) - 1:-1] / 0.7
        said = said.log_softmax(-1).detach()
        if "distill" in loss:
            close(told[row][mask], said)
            assert not told[row][~mask].any()
        else:
            close(told[row][mask], said.gather(1, ids[mask][:, None])[:, 0])


def test_failed_rollouts_alone_can_be_taught():
    """Those whose reward is not full, as the rollout found it."""
    c = config(loss="directive", hint_for="failed", reward="format")
    batch, _, _ = adapters.rollout(tiny(end=2), c, pool(), teacher=tiny(2))
    taught = batch.scores["taught"].any(1)
    assert taught.tolist() == (batch.rewards.flatten() < 1).tolist() and taught.any()
    c = config(loss="directive", hint_for="failed", reward="not_format")
    batch, _, _ = adapters.rollout(tiny(end=2), c, pool(), teacher=tiny(2))
    taught = batch.scores["taught"].any(1)
    assert taught.tolist() == (batch.rewards.flatten() < 1).tolist()


@pytest.mark.parametrize("loss, distill", [
    ("directive", "jsd"), *itertools.product(("distill", "grpo_distill"), DIVERGENCES)])
@pytest.mark.parametrize("aggregate", ["sequences", "length", "tokens"])
def test_the_gradient_does_not_depend_on_the_micro_batch(loss, distill, aggregate):
    more = {"distill": distill} if "distill" in loss else {}
    c = config(loss=loss, hint="tip", aggregate=aggregate, max_grad_norm=1e9, **more)
    batch, _, _ = adapters.rollout(tiny(end=2), c, pool(), teacher=tiny(2))
    whole, metrics = parameters_after(tiny(end=2), batch, c)
    for size in (1, 5):
        c.micro_batch = size
        parts, again = parameters_after(tiny(end=2), batch, c)
        close(parts, whole)
        assert again == pytest.approx(metrics)
    assert ("divergence" in metrics) == (loss != "directive")


def test_a_divergence_is_the_loss_of_a_minibatch():
    """Mean over rows of the sum over their tokens, of those that are taught; times its weight."""
    c = config(loss="distill", hint="tip", directive_weight=0.5)
    model = tiny(end=2)
    batch, _, _ = adapters.rollout(model, c, pool(), teacher=tiny(2))
    taught = torch.arange(len(batch.ids)) % 3 > 0
    told = batch.scores["teacher"]
    batch = batch._replace(scores={"teacher": told, "taught": taught[:, None] & batch.mask})
    rows = torch.arange(len(batch.ids))
    divisors = torch.full((len(rows),), len(rows))
    loss, sums = adapters.minibatch_loss(model, batch, rows, divisors, c)
    total = 0.0
    for row in rows[taught].tolist():
        mask = batch.mask[row]
        said = adapters.response_logits(model, [batch.prompts[row]], batch.ids[row:row + 1],
                                        batch.mask[row:row + 1]).log_softmax(-1)
        total += js_divergence(said, told[row][mask]).sum()
    close(sums["divergence"], total)
    close(loss, 0.5 * total / len(rows))


@pytest.mark.parametrize("loss", ["directive", "distill"])
def test_without_a_hint_nothing_moves(loss):
    """The control: exactly zero gradient, though the teacher is another model."""
    c = config(loss=loss, hint="none")
    batch, _, _ = adapters.rollout(tiny(end=2), c, pool(), teacher=tiny(2))
    after, metrics = parameters_after(tiny(end=2), batch, c)
    assert torch.equal(after, flat(tiny(end=2).parameters())) and metrics["grad_norm"] == 0


@pytest.mark.parametrize("loss", ["directive", "distill"])
def test_a_teacher_that_agrees_teaches_nothing(loss, monkeypatch):
    """The policy itself, its hint unread: no gradient but the noise of rounding."""
    forget_hints(monkeypatch)
    model = tiny(end=2)
    c = config(loss=loss, teacher="current", updates=1)
    batch, _, _ = adapters.rollout(model, c, pool(), teacher=model)
    _, metrics = parameters_after(model, batch, c)
    assert metrics["grad_norm"] < 1e-12


@pytest.mark.parametrize("loss", ["grpo_directive", "grpo_distill"])
def test_the_teacher_goes_after_some_batches(loss):
    """Then a hybrid is its scalar."""
    c = config(loss=loss, reward="format", directive_batches=2)
    scalar = config(loss="grpo", reward="format")
    for step in range(4):
        batch, _, _ = adapters.rollout(tiny(end=2), c, pool(), step, teacher=tiny(2))
        alone, _, _ = adapters.rollout(tiny(end=2), scalar, pool(), step)
        after, _ = parameters_after(tiny(end=2), batch, c, step)
        plain, _ = parameters_after(tiny(end=2), alone, scalar, step)
        assert torch.equal(after, plain) == (step >= 2)
        assert ("teacher" in batch.scores) == (step < 2)


def test_an_ema_teacher_follows_at_its_rate():
    """Not a frozen or a current one; not before a batch is done."""
    policy, base = tiny(1), tiny(2)
    before = flat(base.parameters()).clone()
    for kind, share in (("frozen", 0.0), ("ema", 0.25)):
        ours = make_teacher(base, policy, teacher=kind, ema_rate=0.25)
        assert (ours.model is base) == (kind == "frozen")
        ours.follow(policy)
        close(flat(ours.model.parameters()),
              before + share * (flat(policy.parameters()) - before))
        close(flat(base.parameters()), before)
    assert ours.changing == (ours.model,)
    current = make_teacher(base, policy, teacher="current")
    assert current.model is policy and current.changing == ()


@pytest.mark.parametrize("flags", [
    "--loss directive --teacher ema --ema-rate 0.3",
    "--loss grpo_distill --distill reverse --hint random --hint-for failed --reward format",
    *(pytest.param(flags, marks=pytest.mark.slow) for flags in (
        "--loss distill --teacher current",
        "--loss grpo_directive --directive-batches 3 --teacher ema --reward format"))])
def test_a_run_with_a_teacher_resumes(flags, base, tmp_path):
    """Bit for bit; the ema teacher is among what is saved."""
    flags = flags.split()
    assert train(base, tmp_path / "whole", *flags) == 0
    assert train(base, tmp_path / "parts", *flags, "--steps", 2) == 0
    assert train(base, tmp_path / "parts", *flags) == 0
    for file in ("metrics.csv", "samples.txt"):
        assert files(tmp_path / "parts")[file] == files(tmp_path / "whole")[file]
    whole, parts = (load_run(tmp_path / name) for name in ("whole", "parts"))
    assert all(torch.equal(a, b) for a, b in zip(whole["weights"].values(),
                                                 parts["weights"].values()))
    kept = [state for state in whole["train"]["stateful"] if "embedding.weight" in state]
    assert len(kept) == ("ema" in flags)
    for state, again in zip(whole["train"]["stateful"], parts["train"]["stateful"]):
        if "embedding.weight" in state:
            assert all(torch.equal(state[name], again[name]) for name in state)
            for other in (whole["weights"], torch.load(base, weights_only=True)["weights"]):
                assert not torch.equal(state["head.weight"], other["head.weight"])


def test_flags_that_no_loss_reads_are_refused(base, tmp_path, capsys):
    for flags in ("--hint tip", "--loss grpo --teacher ema", "--loss directive --distill forward",
                  "--loss distill --clamp 2"):
        assert train(base, tmp_path / "run", *flags.split()) == 2
        error = capsys.readouterr().err
        assert "does not read it" in error and error.count("\n") == 1


def test_names_of_hints():
    assert set(types.SimpleNamespace(names=corpus.HINT_NAMES).names) == {
        *(hint.strip(" #") for hint in HINTS), "wrong", "other", "random", "none"}


def test_the_answer_of_another_problem_is_seldom_its_own():
    """`other`, of problems that stand in groups as in a rollout batch.

    Catches the answer of the next row, which is one of the same problem in 15 of 16 cases.
    """
    drawn = task.draw_problems(16, "training", (4,), np.random.default_rng(0))
    problems = [problem for problem in drawn for _ in range(16)]
    hints = write_hints("other", problems, np.random.default_rng(0))
    own = [hint == f" #answer {task.write_answer(problem)}"
           for hint, problem in zip(hints, problems)]
    assert np.mean(own) < 0.2                            # one of 16, and answers that are equal


@pytest.mark.parametrize("hint", ["random", "wrong", "other"])
def test_random_hints_are_drawn_anew_for_every_batch(hint):
    """From the stream of the step: catches one that forgets the step, the same hints for ever."""
    problems = [task.parse_problem(text) for text in ("37 *4", "3 +4", "8 -2")] * 10
    failed = torch.ones(30, dtype=torch.bool)
    ours = make_teacher(hint=hint)
    first, following, again = (ours.add_hints(ask(problems, failed), step)[0]
                               for step in (0, 1, 0))
    assert first == again != following


@pytest.mark.parametrize("loss, distill", [
    ("directive", "jsd"), *itertools.product(("distill",), DIVERGENCES)])
def test_a_teacher_that_agrees_teaches_nothing_at_any_temperature(loss, distill, monkeypatch):
    """The policy itself, its hint unread, sampled at T = 0.7: no gradient.

    Catches a policy that is scored at T = 1 against a teacher at the run's temperature.
    """
    forget_hints(monkeypatch)
    model, more = tiny(end=1.4), {"distill": distill} if loss == "distill" else {}
    c = config(loss=loss, teacher="current", updates=1, temperature=0.7, **more)
    batch, _, _ = adapters.rollout(model, c, pool(), teacher=model)
    _, metrics = parameters_after(model, batch, c)
    assert metrics["grad_norm"] < 1e-12
