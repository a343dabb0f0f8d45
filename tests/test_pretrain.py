"""Pretraining: its loss, its optimizers and schedule, what it writes and how it resumes."""

import copy
import errno
import itertools
import re
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

import pretrain as pretraining
from data import task, tokenizer
from data.corpus import CORPORA, write_documents
from model import load_checkpoint
from plumbing import streams
from plumbing.messages import InputError
from pretrain import PretrainConfig
from tests import adapters
from tests.helpers import (
    CPU,
    END,
    TINY_BASE,
    assert_options,
    close,
    describe_options,
    files,
    flat,
    interrupt,
    run,
    tiny,
    token_logprobs,
    up_to,
    weights,
)

COMMAND = ["pretrain", "--base", "good-code", *TINY_BASE]


def documents(n=7):
    return write_documents("good-code", n, streams.numpy_rng(0, 0))


def test_options():
    """Every default, bound and choice of `pretrain`: (default, checks)."""
    whole, positive = {"least": 1}, {"above": 0}
    expected = {
        "base": ("good-code", {"choices": "good-code no-code bad-code tenths-code mixed-code "
                                         "mixed-none mixed-bad humble-code hinted-code "
                                         "judge-direct judge-reasoning"}),
        "seed": (0, {"least": 0, "most": 2 ** 32 - 1}),
        "out": (None, {}),
        "preset": ("small", {"choices": "small medium large"}),
        "layers": (None, up_to(100)), "width": (None, up_to(8192)), "heads": (None, up_to(1024)),
        "steps": (1700, up_to(10 ** 6)), "batch": (96, up_to(10 ** 5)),
        "lr_muon": (0.02, positive), "lr_adamw": (0.008, positive),
        "warmup": (50, {"least": 0}), "decay": (0.9, {"above": 0, "most": 1}),
        "micro_batch": (None, whole), "threads": (None, up_to(1024)),
        "device": ("auto", {"choices": "auto cpu cuda mps"}),
        "code_prior": (0.65, {"least": 0, "most": 1}),
        "text_openers": (7, {"least": 1, "most": 7}),
        "code_on_sums": (0.85, {"least": 0, "most": 1}),
        "code_on_products": (0.3, {"least": 0, "most": 1}),
        "on_rival": (0.5, {"least": 0, "most": 1}),
        "rival": ("own", {"choices": "own shared"}),
        "abstains": (0.02, {"least": 0, "most": 0.2}), "hedges": (0.06, {"least": 0, "most": 1}),
        "doubt": ("length", {"choices": "length flat"}),
        "slips": (0.0, {"least": 0, "most": 1}), "comparisons": (0.2, {"least": 0, "most": 1}),
        "judge_program": ("good", {"choices": "good bad"}),
    }
    assert_options(expected, PretrainConfig, CORPORA)


@pytest.mark.parametrize("flags, shape, parameters", [
    ({}, (3, 64, 4), 175_000), ({"preset": "small"}, (3, 64, 4), 175_000),
    ({"preset": "medium"}, (4, 256, 8), 3.26e6), ({"preset": "large"}, (8, 512, 8), 25.4e6),
    ({"preset": "medium", "layers": 1}, (1, 256, 8), 0.9e6),
    ({"width": 32, "heads": 2}, (3, 32, 2), 51_000),
    ({"preset": "large", "layers": 1, "width": 8, "heads": 2}, (1, 8, 2), 4_400)])
def test_presets(flags, shape, parameters):
    """How large a model is; a flag of its own wins over the preset."""
    c = PretrainConfig(**flags)
    assert (c.layers, c.width, c.heads) == shape
    with torch.device("meta"):
        model = pretraining.Transformer(pretraining.ModelConfig(tokenizer.VOCABULARY_SIZE, *shape))
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(parameters, rel=0.03)


def test_a_preset_is_what_it_stands_for(tmp_path, capsys):
    """The same shape, said in another way, is the same base; another shape is another."""
    out = ["pretrain", "--out", tmp_path / "a.pt", "--steps", 1, "--batch", 1]
    shape = ["--layers", 1, "--width", 8, "--heads", 2]
    assert run(*out, "--preset", "medium", *shape) == 0
    capsys.readouterr()
    assert run(*out, "--preset", "large", *shape) == 0 and run(*out, *shape) == 0
    assert capsys.readouterr().out.count("exists already") == 2
    assert run(*out) == 2 and run(*out, "--preset", "medium", *shape[2:]) == 2
    checkpoint = torch.load(tmp_path / "a.pt", weights_only=True)
    flags = checkpoint["pretrain"]
    assert (flags["layers"], flags["width"], flags["heads"]) == (1, 8, 2)


# --- the loss


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 100])
def test_gradient_is_of_the_mean_over_response_tokens(micro_batch):
    """Whatever the micro-batch: -log pi summed over all response tokens, the ending included.

    It is divided by their number. Catches a mean per micro-batch or per row, padding that counts,
    a prompt that is learned too, and an ending that is not.
    """
    model, total, tokens = tiny(), 0.0, 0
    for prompt, response in documents():
        ids = torch.tensor(tokenizer.encode(response) + [END])
        total = total - token_logprobs(model, tokenizer.encode_prompt(prompt), ids).sum()
        tokens += len(ids)
    expected = torch.autograd.grad(total / tokens, list(model.parameters()))
    loss = pretraining.accumulate_gradient(model, documents(), micro_batch)
    close(flat(p.grad for p in model.parameters()), flat(expected))
    close(loss, (total / tokens).item())
    pretraining.accumulate_gradient(model, documents(), micro_batch)
    close(flat(p.grad for p in model.parameters()), 2 * flat(expected))     # it adds


# --- optimizers and schedule


def test_muon_has_the_matrices_in_blocks_and_adamw_the_rest():
    model = tiny().float()
    (muon, adamw), _ = pretraining.make_pretraining_optimizers(
        model, PretrainConfig(lr_muon=0.3, lr_adamw=0.4, warmup=0, decay=1.0))
    assert type(muon) is pretraining.Muon and type(adamw) is torch.optim.AdamW
    names = {id(p): name for name, p in model.named_parameters()}
    owned = [{names[id(p)] for group in optimizer.param_groups for p in group["params"]}
             for optimizer in (muon, adamw)]
    matrices = {f"blocks.0.{name}.weight" for name in ("qkv", "proj", "up", "down")}
    assert owned == [matrices, set(names.values()) - matrices]
    of_muon, of_adamw = muon.param_groups[0], adamw.param_groups[0]
    assert (of_muon["lr"], of_muon["weight_decay"]) == (0.3, 0.01)
    assert (of_adamw["lr"], of_adamw["weight_decay"]) == (0.4, 0.01)
    assert of_adamw["betas"] == (0.9, 0.95)


@pytest.mark.parametrize("shape", [(5, 5), (7, 4), (4, 7), (1, 6)])
def test_orthogonalize_moves_singular_values_alone(shape):
    """Each as the polynomial says, in float64; the vectors stay. Zeros stay zeros."""
    matrix = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    s = s / s.norm()
    for steps in (1, 2, 3):
        s = 3.4445 * s - 4.775 * s ** 3 + 2.0315 * s ** 5
        close(pretraining.orthogonalize(matrix, steps), u @ s.diag() @ vt)
    assert not pretraining.orthogonalize(torch.zeros(shape), 3).any()


def test_muon_is_that_of_torch_up_to_its_rounding():
    """Three steps, with momentum and decay. Torch's rounds to bfloat16, three digits."""
    torch.manual_seed(0)
    start = [torch.randn(shape) for shape in ((6, 3), (3, 6), (4, 4))]
    grads = [[torch.randn_like(p) for p in start] for _ in range(3)]

    def move(kind):
        parameters = [torch.nn.Parameter(p.clone()) for p in start]
        optimizer = kind(parameters, lr=0.1, weight_decay=0.5, ns_steps=3)
        for of_step in grads:
            for parameter, gradient in zip(parameters, of_step):
                parameter.grad = gradient.clone()
            optimizer.step()
        return flat(parameters) - flat(start), optimizer.state_dict()

    (ours, state), (theirs, expected) = move(pretraining.Muon), move(torch.optim.Muon)
    assert (ours - theirs).abs().max() < 0.01 * theirs.abs().max()
    assert state["param_groups"] == expected["param_groups"]
    for i, kept in state["state"].items():
        close(kept["momentum_buffer"], expected["state"][i]["momentum_buffer"])


def rates(steps, warmup, decay):
    """(steps,) rates of Muon and of AdamW, each as a share of its peak."""
    config = PretrainConfig(steps=steps, warmup=warmup, decay=decay, lr_muon=2.0, lr_adamw=3.0)
    optimizers, schedules = pretraining.make_pretraining_optimizers(tiny().float(), config)
    seen = []
    for _ in range(steps):
        seen.append([o.param_groups[0]["lr"] / peak for o, peak in zip(optimizers, (2.0, 3.0))])
        for optimizer, schedule in zip(optimizers, schedules):
            optimizer.step()
            schedule.step()
    assert all(muon == pytest.approx(adamw) for muon, adamw in seen)
    return [muon for muon, _ in seen]


def test_schedule():
    """A linear rise over the warm-up, the peak, a linear fall over the last `decay` to 1 step."""
    assert rates(10, 3, 0.5) == pytest.approx(
        [1 / 4, 2 / 4, 3 / 4, 1, 1, 1, 4 / 5, 3 / 5, 2 / 5, 1 / 5])
    assert rates(4, 0, 1.0) == pytest.approx([1, 3 / 4, 2 / 4, 1 / 4])
    assert rates(5, 0, 0.2) == pytest.approx([1] * 5)
    assert rates(4, 9, 1.0) == pytest.approx([1 / 10, 2 / 10, 3 / 10, 1 / 4])


def test_a_step_moves_everything_once():
    """Catches an optimizer that is not stepped, a gradient that is kept, a schedule at rest."""
    model = tiny().float()
    c = PretrainConfig(steps=10, warmup=4, micro_batch=2)
    work = pretraining.Pretraining(c, model, *pretraining.make_pretraining_optimizers(model, c))
    expected = pretraining.accumulate_gradient(copy.deepcopy(model), documents(), 100)
    for step in (1, 2):
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        pretraining.take_step(work, documents())
        assert all(not torch.equal(before[name], p) for name, p in model.named_parameters())
        assert all(p.grad is None or not p.grad.any() for p in model.parameters())
        assert work.step == step
        for optimizer, peak in zip(work.optimizers, (c.lr_muon, c.lr_adamw)):
            assert optimizer.param_groups[0]["lr"] == pytest.approx(peak * (step + 1) / 5)
        if step == 1:
            assert work.loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("asked, expected", [(3, [3, 3, 3, 3, 3, 3, 3, 3, 2]), (None, [24, 2])])
def test_micro_batch_of_the_flag_is_used(asked, expected, monkeypatch):
    """Or 24, on a CPU."""
    sizes, original = [], pretraining.sum_cross_entropy
    monkeypatch.setattr(pretraining, "sum_cross_entropy", lambda model, prompts, responses: (
        sizes.append(len(prompts)) or original(model, prompts, responses)))
    model, c = tiny().float(), PretrainConfig(steps=10, micro_batch=asked)
    work = pretraining.Pretraining(c, model, *pretraining.make_pretraining_optimizers(model, c))
    pretraining.take_step(work, documents(26))
    assert sizes == expected


# --- the run


def test_checkpoint(tmp_path, capsys):
    """The model as asked for, its corpus and its flags; nothing else is left in the folder."""
    path = tmp_path / "sub/tiny.pt"
    assert run(*COMMAND, "--out", path, "--seed", 3, "--layers", 2) == 0
    model, checkpoint = load_checkpoint(path, CPU)
    assert asdict(model.config) == {"vocabulary_size": tokenizer.VOCABULARY_SIZE, "layers": 2,
                                    "width": 8, "heads": 2}
    assert checkpoint["corpus"] == "good-code"
    flags = checkpoint["pretrain"]
    machine = {"threads", "device", "micro_batch"}
    of_corpus = {"code_prior", "text_openers"}
    own = set(describe_options(PretrainConfig)) - {"out", "preset"} - machine
    assert set(flags) == own | of_corpus
    assert (flags["seed"], flags["steps"], flags["warmup"]) == (3, 3, 50)
    assert list(files(tmp_path)) == ["sub/tiny.pt"]
    out = capsys.readouterr().out
    assert out.startswith("good-code: loss ") and f", wrote {path}\nnext: python " in out


def test_where_a_base_goes(tmp_path, monkeypatch):
    """runs/bases/BASE.pt, from where `train --base BASE` finds it."""
    monkeypatch.chdir(tmp_path)
    assert run("pretrain", "--base", "no-code", *TINY_BASE) == 0
    assert list(files(tmp_path)) == ["runs/bases/no-code.pt"]
    assert load_checkpoint(Path("runs/bases/no-code.pt"), CPU)[1]["corpus"] == "no-code"


def record_steps(monkeypatch):
    """The documents of each step that is taken."""
    seen, original = [], pretraining.take_step
    monkeypatch.setattr(pretraining, "take_step", lambda work, documents: (
        seen.append(documents) or original(work, documents)))
    return seen


def test_each_step_reads_fresh_documents(tmp_path, monkeypatch):
    """In order, --batch at a time, drawn from the seed's stream and by the corpus's own flags."""
    seen = record_steps(monkeypatch)
    flags = ["--seed", 5, "--code-prior", 0.3, "--text-openers", 2]
    assert run(*COMMAND, "--out", tmp_path / "a.pt", *flags) == 0
    stream = streams.numpy_rng(streams.CORPUS, 5)
    expected = write_documents("good-code", 24, stream, code_prior=0.3, text_openers=2)
    assert seen == [expected[:8], expected[8:16], expected[16:]]


def test_the_loop_is_its_parts(tmp_path):
    """The weights of three steps, replayed by hand from the seed's first weights."""
    assert run(*COMMAND, "--out", tmp_path / "a.pt", "--seed", 5) == 0
    torch.manual_seed(int(streams.numpy_rng(streams.WEIGHTS, 5).integers(2 ** 31)))
    c = PretrainConfig(seed=5, steps=3, micro_batch=3)
    shape = pretraining.ModelConfig(tokenizer.VOCABULARY_SIZE, 1, 8, 2)
    model = pretraining.Transformer(shape)
    work = pretraining.Pretraining(c, model, *pretraining.make_pretraining_optimizers(model, c))
    drawn = write_documents("good-code", 24, streams.numpy_rng(streams.CORPUS, 5))
    for first in (0, 8, 16):
        pretraining.take_step(work, drawn[first:first + 8])
    expected = flat(model.state_dict().values())
    torch.testing.assert_close(weights(tmp_path / "a.pt"), expected, rtol=1e-4, atol=1e-6)


def test_the_seed_decides_weights_and_documents(tmp_path, monkeypatch):
    seen, results = record_steps(monkeypatch), []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run(*COMMAND, "--out", tmp_path / name, "--seed", seed) == 0
        results.append(weights(tmp_path / name))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])
    assert seen[0] == seen[3] != seen[6]


@pytest.mark.parametrize("flag, value", [
    ("lr_muon", 0.1), ("lr_adamw", 0.1), ("warmup", 0), ("decay", 0.4), ("code_prior", 0.1),
    ("text_openers", 1)])
def test_flags_reach_the_weights(flag, value, tmp_path):
    for name, more in (("a", []), ("b", [f"--{flag.replace('_', '-')}", value])):
        assert run(*COMMAND, "--warmup", 1, "--out", tmp_path / name, *more) == 0
    assert not torch.equal(weights(tmp_path / "a"), weights(tmp_path / "b"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_resume_is_bit_for_bit(number, tmp_path, monkeypatch, capsys):
    """A signal in the second step: that step is done and kept, and the same command goes on.

    Catches optimizers or schedules that are not saved, and documents that are read twice.
    """
    command = [*COMMAND, "--warmup", 1, "--out"]
    assert run(*command, tmp_path / "whole.pt") == 0
    seen, taking = record_steps(monkeypatch), pretraining.take_step
    monkeypatch.setattr(pretraining, "take_step", lambda *args: (
        len(seen) == 1 and interrupt(number), taking(*args)))
    assert run(*command, tmp_path / "parts.pt") == 130
    assert set(files(tmp_path)) == {"whole.pt", "parts.pt.partial"}
    capsys.readouterr()
    half = torch.load(tmp_path / "parts.pt.partial", weights_only=True)
    assert half["step"] == 2 and half["loss"] > 0 and len(half["stateful"]) == 4
    assert run(*command, tmp_path / "parts.pt") == 0
    assert set(files(tmp_path)) == {"whole.pt", "parts.pt"}
    error = capsys.readouterr().err
    assert "pretrain good-code" in error and "2/3" in error and "loss=" in error
    stream = streams.numpy_rng(streams.CORPUS, 0)
    read = list(itertools.chain(*seen))
    assert read == write_documents("good-code", 24, stream)
    whole, parts = (torch.load(tmp_path / name, weights_only=True)
                    for name in ("whole.pt", "parts.pt"))
    assert torch.equal(weights(tmp_path / "whole.pt"), weights(tmp_path / "parts.pt"))
    assert whole["pretrain"] == parts["pretrain"]


def test_a_schedule_goes_on_where_it_was(tmp_path, monkeypatch):
    """Interrupted in the first of five steps, three of which are warm-up: bit for bit.

    Catches schedules that are not loaded. The next step has its optimizer's own rate all the same,
    so it takes two steps after the resume to see the warm-up begin again.
    """
    command = [*COMMAND, "--steps", 5, "--warmup", 3, "--out"]
    assert run(*command, tmp_path / "whole.pt") == 0
    seen, taking = record_steps(monkeypatch), pretraining.take_step
    monkeypatch.setattr(pretraining, "take_step", lambda *args: (
        len(seen) == 0 and interrupt(signal.SIGINT), taking(*args)))
    assert run(*command, tmp_path / "parts.pt") == 130 and len(seen) == 1
    assert run(*command, tmp_path / "parts.pt") == 0 and len(seen) == 5
    assert torch.equal(weights(tmp_path / "whole.pt"), weights(tmp_path / "parts.pt"))


def test_a_signal_in_the_last_step(tmp_path, monkeypatch, capsys):
    """Nothing is left to do but to write the base: with the loss it had, not with none."""
    assert run(*COMMAND, "--out", tmp_path / "whole.pt") == 0
    loss = re.search(r"loss (\d\S+),", capsys.readouterr().out)[1]
    seen, taking = record_steps(monkeypatch), pretraining.take_step
    monkeypatch.setattr(pretraining, "take_step", lambda *args: (
        len(seen) == 2 and interrupt(signal.SIGINT), taking(*args)))
    assert run(*COMMAND, "--out", tmp_path / "parts.pt") == 130
    assert torch.load(tmp_path / "parts.pt.partial", weights_only=True)["step"] == 3
    assert run(*COMMAND, "--out", tmp_path / "parts.pt") == 0
    assert f"loss {loss}," in capsys.readouterr().out
    assert torch.equal(weights(tmp_path / "whole.pt"), weights(tmp_path / "parts.pt"))


def test_progress_survives_a_kill(tmp_path, monkeypatch):
    """Every 100 steps there is something to resume from, written before the next step begins."""
    steps, original = [], pretraining.save_checkpoint
    monkeypatch.setattr(pretraining, "save_checkpoint", lambda path, model, **extra: (
        steps.append((path.name, extra.get("step"))), original(path, model, **extra)))
    monkeypatch.setattr(pretraining, "take_step",
                        lambda work, documents: setattr(work, "step", work.step + 1))
    monkeypatch.setattr(pretraining, "write_documents", lambda *_, **flags: [])
    assert run("pretrain", *TINY_BASE, "--steps", 250, "--out", tmp_path / "a.pt") == 0
    assert steps == [("a.pt.partial", 100), ("a.pt.partial", 200), ("a.pt", None)]


def test_finished_work_is_kept(tmp_path, capsys):
    """The same command says so; where and on what it ran does not matter; other flags do."""
    path = tmp_path / "a.pt"
    assert run(*COMMAND, "--out", path) == 0
    before = files(tmp_path)
    capsys.readouterr()
    assert run(*COMMAND, "--out", path, "--threads", 2, "--device", "cpu", "--micro-batch", 4) == 0
    assert capsys.readouterr().out == f"{path} exists already\n"
    for more in (["--seed", 5], ["--steps", 4], ["--code-prior", 0.5], ["--layers", 2]):
        assert run(*COMMAND, "--out", path, *more) == 2
        assert "was pretrained with other flags" in capsys.readouterr().err
    assert files(tmp_path) == before


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_a_base_does_not_depend_on_the_threads(threads, tmp_path):
    """Nor on when it is interrupted: the same weights, bit for bit, and torch's settings as before.

    Catches threads inside an operation, and gradients that are added as they come.
    """
    flags = ["--base", "good-code", "--steps", 6, "--batch", 20, "--micro-batch", 3, "--layers", 2,
             "--width", 32, "--heads", 2, "--warmup", 1]
    before = torch.get_num_threads(), sys.getswitchinterval()
    for name, count in (("one", 1), ("many", threads)):
        assert run("pretrain", *flags, "--threads", count, "--out", tmp_path / f"{name}.pt") == 0
    one, many = weights(tmp_path / "one.pt"), weights(tmp_path / "many.pt")
    assert torch.equal(one, many)
    assert (torch.get_num_threads(), sys.getswitchinterval()) == before


def test_a_base_goes_on_with_other_micro_batches(tmp_path, monkeypatch):
    """They are the machine's: a partial base is resumed, and is the same but for rounding."""
    assert run(*COMMAND, "--warmup", 1, "--out", tmp_path / "whole.pt") == 0
    seen, taking = record_steps(monkeypatch), pretraining.take_step
    monkeypatch.setattr(pretraining, "take_step", lambda *args: (
        len(seen) == 1 and interrupt(signal.SIGINT), taking(*args)))
    more = ["--warmup", 1, "--out", tmp_path / "parts.pt", "--micro-batch"]
    assert run(*COMMAND, *more, 2) == 130
    assert run(*COMMAND, *more, 8, "--threads", 2) == 0 and len(seen) == 3
    torch.testing.assert_close(weights(tmp_path / "parts.pt"), weights(tmp_path / "whole.pt"),
                               rtol=1e-3, atol=1e-4)


def test_other_flags_do_not_resume_a_partial_base(tmp_path, capsys):
    """Nor do they delete it."""
    assert run(*COMMAND, "--out", tmp_path / "a.pt") == 0
    (tmp_path / "a.pt").rename(tmp_path / "a.pt.partial")
    before = files(tmp_path)
    assert run(*COMMAND, "--out", tmp_path / "a.pt", "--seed", 1) == 2
    assert files(tmp_path) == before and "a.pt.partial was" in capsys.readouterr().err


def test_a_base_from_before_a_flag_existed(tmp_path, capsys):
    """It has the flag at its default: not refused, and not taken for another value either."""
    path = tmp_path / "a.pt"
    assert run(*COMMAND, "--out", path) == 0
    old = torch.load(path, weights_only=True)
    del old["pretrain"]["text_openers"]
    torch.save(old, path)
    assert run(*COMMAND, "--out", path) == 0 and run(*COMMAND, "--out", path,
                                                     "--text-openers", 2) == 2


def test_device_and_threads_are_used(tmp_path, monkeypatch):
    asked, original = [], pretraining.choose_device
    monkeypatch.setattr(pretraining, "choose_device", lambda config: (
        asked.append((config.device, config.threads)) or original(config)))
    assert run(*COMMAND, "--out", tmp_path / "a.pt", "--device", "cpu") == 0
    assert asked == [("cpu", 1)]


@pytest.mark.parametrize("width, heads, fine", [(8, 2, True), (8, 4, True), (9, 3, False),
                                                (8, 3, False), (8, 8, False), (64, 4, True)])
def test_heads_divide_the_width_evenly(width, heads, fine, tmp_path):
    """RoPE turns pairs: a head has an even width."""
    c = PretrainConfig(width=width, heads=heads)
    if fine:
        pretraining.check_pretraining(c, tmp_path / "a")
        return
    with pytest.raises(InputError, match="heads of even width"):
        pretraining.check_pretraining(c, tmp_path / "a")


def test_a_finished_base_needs_no_writable_folder(tmp_path, monkeypatch, capsys):
    """What is there already is only read; what is not is refused before any work."""
    assert run(*COMMAND, "--out", tmp_path / "a.pt") == 0

    def refuse(*_, **more):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(pretraining, "take_step", None)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "NamedTemporaryFile", refuse)
        assert run(*COMMAND, "--out", tmp_path / "a.pt") == 0
        assert run(*COMMAND, "--out", tmp_path / "b.pt") == 2
    assert f"'{tmp_path}/b.pt': Read-only file system" in capsys.readouterr().err
    assert run(*COMMAND, "--out", tmp_path / ("x" * 300)) == 2
    assert "File name too long" in capsys.readouterr().err and list(files(tmp_path)) == ["a.pt"]


def test_divergence_is_one_line(tmp_path, capsys):
    """An absurd step size: exit code 1, and no base that answers nothing."""
    assert run(*COMMAND, "--out", tmp_path / "a.pt", "--lr-adamw", 1e30, "--warmup", 0) == 1
    assert "pretraining diverged at step" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "a.pt").exists()


def test_a_short_pretraining_learns(request):
    """The session's base: both modes, boxes and endings, after 100 steps of a small model."""
    model, checkpoint = load_checkpoint(Path(request.getfixturevalue("base")), CPU)
    problem = task.parse_problem("37 *4 +5")
    prompt = tokenizer.encode_prompt(task.render_problem(problem))
    rollouts = adapters.sample(model, [prompt], 100, END, seed=0)
    texts = [tokenizer.decode(ids[mask].tolist())
             for ids, mask in zip(rollouts.ids, rollouts.mask)]
    mode_of = CORPORA[checkpoint["corpus"]].mode_of
    assert 10 < sum(mode_of(text) == "code" for text in texts) < 90
    assert sum("\\boxed{" in text for text in texts) > 40
    assert (rollouts.mask.sum(1) < 40).float().mean() > 0.5
