"""The command line: the files it writes, what it passes on, and one clear line for bad input."""

import functools
import json
import locale
import math
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

import rlvr
import run as runs
from lessons import report
from losses import LOSSES
from plumbing import machine
from plumbing.flags import read_config
from plumbing.messages import InputError
from plumbing.system import lock_file
from tests.helpers import (
    DEVICES,
    ROOT,
    TINY_BASE,
    TINY_RUN,
    describe_options,
    files,
    files_of_at_most,
    interrupt,
    read_json,
    read_rows,
    run,
    train,
    weights,
)

FILES = {"config.json", "metrics.csv", "samples.txt", "answers.json", "model.pt", "summary.json",
         "base.pt"}

# --- what a run writes


def test_files_and_summary(finished):
    """The files and keys that scripts rely on; JSON without NaN; metrics for every batch."""
    assert set(files(finished)) == FILES
    summary = read_json(finished / "summary.json")
    assert set(summary) >= {"base", "reward", "loss", "seed", "steps", "before", "after", "gain",
                            "switches", "clip", "seconds"}
    for when in ("before", "after"):
        assert set(summary[when]) >= {
            "accuracy", "greedy_accuracy", "code_share", "text_share", "greedy_code_share",
            "greedy_text_share", "accuracy_code", "accuracy_text", "format_rate", "entropy",
            "mean_token_prob", "kl_to_base", "distinct_answers", "pass_at_k", "n_problems",
            "n_samples", "agreement", "vote_accuracy", "top_answer_share", "ended"}
        assert (summary[when]["n_problems"], summary[when]["n_samples"]) == (5, 2)
        assert set(summary[when]["pass_at_k"]) == {"1", "2"}
    assert set(summary["gain"]) == {"total", "switch", "within"}
    assert set(summary["switches"]) == {"code->code", "code->text", "text->code", "text->text"}
    assert set(summary["clip"]) == {"high", "low"}
    assert set(summary["seconds"]) == {"total", "rollout", "update", "evaluate"}
    rows = read_rows(finished)
    assert [int(row["step"]) for row in rows] == [0, 1, 2, 3]
    known = ["step", "reward", "reward_right", "reward_wrong", "reward_gap",
             "reward_code", "reward_text", "accuracy", "code_share", "text_share",
             "format_rate", "agreement", "vote_accuracy", "top_answer_share",
             "entropy", "mean_token_prob", "ended", "response_length",
             "no_signal", "clip_high", "clip_low", "approx_kl", "grad_norm"]
    assert [name for name in rows[0] if name in known] == known   # and what a user adds
    assert all(math.isfinite(float(value)) for row in rows for value in row.values() if value)
    lengths = {row["response_length"] for row in rows}
    assert len(lengths) > 1 and min(map(float, lengths)) < 12        # responses do end


def test_progress_in_a_log_is_lines(base, tmp_path, monkeypatch, capsys):
    """One line now and then with reward and accuracy, no carriage returns; a resume goes on."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(base, "b.pt")
    assert train("b.pt", "run", "--reward", "code", "--steps", 1) == 0
    capsys.readouterr()
    assert train("b.pt", "run", "--reward", "code") == 0
    error = capsys.readouterr().err
    assert "b.pt code" in error and "1/4" in error and "4/4" in error and "\r" not in error
    last = read_rows(tmp_path / "run")[-1]
    assert f"reward={float(last['reward']):.3f}" in error
    assert f"accuracy={float(last['accuracy']):.3f}" in error


# --- each flag to its field


REGISTRIES = {"train": (rlvr.TrainConfig, rlvr.LOSSES, rlvr.REWARDS),
              "pretrain": (rlvr.PretrainConfig, rlvr.CORPORA)}


def options_of(command: str) -> dict:
    return describe_options(*REGISTRIES[command])


TRAIN = {
    "base": "b", "reward": "correct", "loss": "ppo", "seed": 5, "steps": 6, "out": "o",
    "prompts": 7, "group": 8, "temperature": 0.5, "max_new_tokens": 9, "pool": 10,
    "num_ops": (2, 6), "updates": 11, "optimizer": "adamw", "lr": 0.25, "max_grad_norm": 0.75,
    "trained": "ends", "aggregate": "tokens", "kl_coef": 0.125, "entropy_coef": 0.375,
    "eval_problems": 12, "eval_samples": 13, "eval_split": "probe", "eval_num_ops": (3, 7),
    "micro_batch": 14, "threads": 1, "device": "cpu", "eps_low": 0.2, "eps_high": 0.3,
    "gamma": 0.9, "gae_lambda": 0.8, "lr_value": 0.7, "eps_value": 0.6, "psr_weight": 0.4, "p": 0.1,
    "votes": 15, "abstain_reward": -0.25, "judge": "j", "verdict": "soft", "tpr": 0.95, "fpr": 0.05,
    "hint": "tip", "hint_for": "failed", "teacher": "ema", "ema_rate": 0.35,
    "directive_batches": 16, "clamp": 1.5, "directive_weight": 0.45, "distill": "forward"}
PRETRAIN = {
    "base": "bad-code", "seed": 5, "out": "o", "preset": "medium", "layers": 6, "width": 8,
    "heads": 2, "steps": 9, "batch": 10, "lr_muon": 0.25, "lr_adamw": 0.75, "warmup": 11,
    "decay": 0.5, "micro_batch": 12, "threads": 1, "device": "cpu", "code_prior": 0.3,
    "text_openers": 4, "code_on_sums": 0.2, "code_on_products": 0.9, "rival": "shared",
    "on_rival": 0.4, "abstains": 0.05, "hedges": 0.15, "doubt": "flat", "slips": 0.01,
    "comparisons": 0.35, "judge_program": "bad"}


def type_flags(values: dict) -> list[str]:
    typed = []
    for name, value in values.items():
        many = value if isinstance(value, tuple) else (value,)
        typed += ["--" + name.replace("_", "-"), *map(str, many)]
    return typed


@pytest.mark.parametrize("command, values", [("train", TRAIN), ("pretrain", PRETRAIN)])
def test_every_flag_reaches_its_field(command, values, monkeypatch):
    """Each at a value that no other has: nothing is parsed and lost, or put in the wrong place."""
    seen = []
    monkeypatch.setattr(rlvr, command, lambda config, *more: seen.append((config, more)))
    monkeypatch.setattr(rlvr, "check_config", lambda config: None)   # no run reads them all
    config = {"train": rlvr.TrainConfig, "pretrain": rlvr.PretrainConfig}[command]
    # an entry that a user adds may bring flags of its own
    assert set(describe_options(config)) <= set(values) <= set(options_of(command))
    assert run(command) == 0 and run(command, *type_flags(values)) == 0
    assert [given for given, _ in seen] == [config(), read_config(config, values)]
    if command == "train":
        assert seen[1][1] == (f"python rlvr.py train {' '.join(type_flags(values))}",)


def test_eps_sets_both_clips(monkeypatch):
    """With none of the two beside it; each of these alone leaves the other."""
    seen = []
    monkeypatch.setattr(rlvr, "train", lambda config, command: seen.append(config))
    for flags in ("--eps 0.1", "--eps-low 0.2", "--eps-high 0.3", "--eps 0"):
        assert run("train", *flags.split()) == 0
    assert [(c.flags["eps_low"], c.flags["eps_high"]) for c in seen] == [
        (0.1, 0.1), (0.2, 0.4), (0.4, 0.3), (0, 0)]


@pytest.mark.parametrize("flag", ["--eps-low", "--eps-high"])
def test_eps_is_not_said_twice(flag, monkeypatch, capsys):
    monkeypatch.setattr(rlvr, "train", None)
    assert run("train", "--eps", 0.1, flag, 0.2) == 2
    assert "--eps is both clips at once" in capsys.readouterr().err


def test_command_line_is_quoted(monkeypatch):
    """What config.json says can be pasted."""
    seen = []
    monkeypatch.setattr(rlvr, "train", lambda config, command: seen.append(command))
    monkeypatch.setattr(sys, "argv", ["rlvr.py", "train", "--out", "my runs"])
    assert rlvr.main() == 0 and rlvr.main(["train", "--out", "a b"]) == 0
    assert seen == ["python rlvr.py train --out 'my runs'", "python rlvr.py train --out 'a b'"]


@pytest.mark.parametrize("error, code", [(InputError("x"), 2), (KeyboardInterrupt(), 130),
                                         (FloatingPointError("x"), 1)])
def test_exit_codes_reach_the_caller(error, code, monkeypatch):
    def fail(*_):
        raise error
    monkeypatch.setattr(rlvr, "train", fail)
    monkeypatch.setattr(rlvr, "pretrain", fail)
    assert run("train") == run("pretrain") == code


# --- the same flags give the same run


def test_same_seed_same_run_and_other_seed_other_run(base, finished, tmp_path):
    assert train(base, tmp_path / "again") == 0
    assert train(base, tmp_path / "other", "--seed", 2) == 0
    for name in ("metrics.csv", "samples.txt"):
        assert (tmp_path / "again" / name).read_bytes() == (finished / name).read_bytes()
        assert (tmp_path / "other" / name).read_bytes() != (finished / name).read_bytes()
    assert torch.equal(weights(tmp_path / "again/model.pt"), weights(finished / "model.pt"))


def test_what_a_killed_process_left_is_removed(base, tmp_path):
    """Temporary files of a run, or of a base, that were never renamed; nothing of anybody else."""
    out = tmp_path / "run"
    out.mkdir()
    for name in ("model.pt.123.tmp", "model.pt", "notes.tmp", "a.b.tmp"):
        (out / name).write_text("", encoding="utf-8")
    (out / "model.pt").unlink()
    assert train(base, out, "--steps", 1) == 0
    assert {path.name for path in out.glob("*.tmp")} == {"notes.tmp", "a.b.tmp"}
    for name in ("own.pt.9.tmp", "own.pt.partial.9.tmp", "own.pt2.9.tmp", ".5.tmp"):
        (tmp_path / name).write_text("", encoding="utf-8")
    flags = "--steps 1 --batch 1 --layers 1 --width 8 --heads 1 --warmup 0 --threads 1"
    assert run("pretrain", "--out", tmp_path / "own.pt", *flags.split()) == 0
    assert {path.name for path in tmp_path.glob("*.tmp")} == {"own.pt2.9.tmp", ".5.tmp"}


def test_rewards_of_one_seed_see_the_same_first_batch(base, tmp_path):
    for reward in ("format", "not_format"):
        assert train(base, tmp_path / reward, "--reward", reward, "--steps", 1) == 0
    a, b = (read_rows(tmp_path / reward)[0] for reward in ("format", "not_format"))
    assert all(a[name] == b[name]
               for name in ("accuracy", "code_share", "entropy", "response_length"))
    assert a["reward"] != b["reward"] and float(a["reward"]) + float(b["reward"]) == 1


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss != "grpo"])
def test_every_loss_trains_and_says_so(base, finished, tmp_path, loss):
    """Another loss is another run of the same kind: the same first rollouts, other parameters."""
    assert train(base, tmp_path / "run", "--loss", loss) == 0
    assert read_json(tmp_path / "run/summary.json")["loss"] == loss
    a, b = (read_rows(out)[0] for out in (finished, tmp_path / "run"))
    assert all(a[name] == b[name]
               for name in ("reward", "accuracy", "entropy", "response_length"))
    assert ("value_loss" in b) == (loss == "ppo") and "kl" not in b
    assert not torch.equal(weights(tmp_path / "run/model.pt"), weights(finished / "model.pt"))


@pytest.fixture(scope="module")
def short_run(base, tmp_path_factory):
    """The folder of a run of two batches with some flags; each is made once."""
    @functools.cache
    def make(flags: str) -> Path:
        out = tmp_path_factory.mktemp("short") / "run"
        assert train(base, out, "--lr", 0.05, "--steps", 2, *flags.split()) == 0
        return out
    return make


@pytest.mark.parametrize("flags", [
    "--kl-coef 0.5", "--entropy-coef 0.5", "--aggregate length", "--aggregate tokens",
    "--aggregate signal",
    "--eps 0.001", "--eps-low 0.001", "--eps-high 0.001", "--max-grad-norm 0.01",
    "--temperature 0.7", "--updates 3", "--optimizer adamw", "--lr 0.1", "--num-ops 6", "--pool 5",
    "--group 3", "--prompts 2", "--p 0.2", "--max-new-tokens 5", "--loss ppo --gamma 0.9",
    "--loss ppo --gae-lambda 0.5", "--loss ppo --lr-value 0.5", "--loss ppo --eps-value 0.001",
    "--loss w_reinforce --psr-weight 2"])
def test_every_flag_changes_the_run(short_run, flags):
    """Catches a flag that is read and not used; of one loss it is compared with that loss."""
    plain = " ".join(flags.split()[:2]) if flags.startswith("--loss") else ""
    out = short_run(flags)
    first, other = ((read_rows(run), weights(run / "model.pt")) for run in (out, short_run(plain)))
    names = ("--lr-value", "--eps-value")            # the critic alone, in two batches
    if any(name in flags for name in names):
        assert first[0][1]["value_loss"] != other[0][1]["value_loss"]
    else:
        assert not torch.equal(first[1], other[1])
    if "--kl-coef" in flags:
        assert all(float(row["kl"]) > 0 for row in first[0])


def test_a_machine_is_no_other_run(base, finished, tmp_path, capsys):
    """Micro-batches, threads and device do not matter: a run goes on with others, as itself.

    What a run used stands in its config.json.
    """
    out = tmp_path / "run"
    assert read_json(finished / "config.json")["micro_batch"] in (16, 512)
    assert train(base, out, "--steps", 2, "--micro-batch", 2) == 0
    assert read_json(out / "config.json")["micro_batch"] == 2
    half = [*read_rows(out)]
    assert train(base, out, "--micro-batch", 5, "--threads", 2, "--device", "cpu") == 0
    said = read_json(out / "config.json")
    assert (said["micro_batch"], said["threads"], said["device"]) == (5, 2, "cpu")
    assert read_rows(out)[:2] == half and len(read_rows(out)) == 4
    torch.testing.assert_close(weights(out / "model.pt"), weights(finished / "model.pt"),
                               rtol=1e-3, atol=1e-5)
    before = files(out)
    assert train(base, out, "--micro-batch", 3) == 0 and files(out) == before
    assert "is finished already" in capsys.readouterr().out


@pytest.mark.parametrize("device", DEVICES)
def test_every_command_on_every_device(device, tmp_path, monkeypatch, capsys):
    """Those that torch sees here; what is written is of no device."""
    monkeypatch.chdir(tmp_path)
    here = ["--device", device]
    assert run("pretrain", "--base", "good-code", "--out", "b.pt", *TINY_BASE, *here) == 0
    for loss in ("grpo", "ppo"):
        flags = ["--loss", loss, "--kl-coef", 0.1, "--entropy-coef", 0.1, "--steps", 2, *here]
        assert train("b.pt", loss, *flags) == 0
        assert read_json(Path(loss, "config.json"))["device"] == device
        assert train("b.pt", loss, *flags, "--steps", 3) == 0       # resumed there
        assert len(read_rows(Path(loss))) == 3
        assert weights(f"{loss}/model.pt").isfinite().all()
    capsys.readouterr()
    assert run("evaluate", "ppo/model.pt", "--problems", 2, "--samples", 2, *here) == 0
    assert json.loads(capsys.readouterr().out)["n_problems"] == 2
    assert run("sample", "ppo/model.pt", "37 *4", "-n", 2, "--top-k", 3, "--top-p", 0.9, *here) == 0
    assert capsys.readouterr().out.count("log-probability") == 2


@pytest.mark.parametrize("device", ["cuda", "mps"])
@pytest.mark.parametrize("command", ["train --out new --base", "pretrain --out new.pt --base",
                                     "evaluate", "sample"])
def test_a_device_that_is_not_there(device, command, base, tmp_path, monkeypatch, capsys):
    """Offered by all four commands, refused in one line before anything is written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    words = command.split() + ["good-code" if "pretrain" in command else base]
    more = ["37 *4"] if command == "sample" else []
    assert run(*words, *more, "--device", device) == 2
    captured = capsys.readouterr()
    assert captured.err == f"rlvr.py: error: --device {device}: torch sees none here\n"
    assert captured.out == "" and not list(tmp_path.iterdir())


def test_train_by_name(base, tmp_path, monkeypatch):
    """--base good-code is runs/bases/good-code.pt here, and the default folder is runs/train."""
    monkeypatch.chdir(tmp_path)
    Path("runs/bases").mkdir(parents=True)
    shutil.copy(base, "runs/bases/good-code.pt")
    assert run("train", *TINY_RUN, "--steps", 1) == 0
    assert read_json(tmp_path / "runs/train/summary.json")["base"] == "good-code"


def test_trained_models_are_checkpoints(finished, capsys):
    """evaluate and sample take a run's model.pt; and it can be a base itself."""
    assert run("evaluate", finished / "model.pt", *"--samples 2 --problems 2".split()) == 0
    assert run("sample", finished / "model.pt", "37 *4") == 0
    assert capsys.readouterr().out.count("log-probability") == 1


# --- what a run keeps, so that it can go on


@pytest.fixture
def as_good_code(base, tmp_path, monkeypatch):
    """Our base as runs/bases/good-code.pt of an empty folder, in which the test runs."""
    monkeypatch.chdir(tmp_path)
    Path("runs/bases").mkdir(parents=True)
    return Path(shutil.copy(base, "runs/bases/good-code.pt"))


def put_another(path: Path) -> Path:
    """Another base in the place of one: `cp` writes into the file that is there."""
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["weights"] = {name: weight + 0.01 * torch.randn(
        weight.shape, generator=torch.Generator().manual_seed(0))
        for name, weight in checkpoint["weights"].items()}
    torch.save(checkpoint, path.with_name("another"))
    path.write_bytes(path.with_name("another").read_bytes())
    path.with_name("another").unlink()
    return path


@pytest.mark.parametrize("change", [Path.unlink, put_another])
def test_a_run_keeps_its_base(change, as_good_code, capsys):
    """It goes on, bit for bit, after the base's file was deleted or overwritten.

    Catches a KL, an evaluation or labels of a base that is another by now. A fresh run takes what
    is there.
    """
    flags = ["--kl-coef", 0.1, "--reward", "format"]
    assert train("good-code", "whole", *flags) == 0 and train("good-code", "parts", *flags,
                                                              "--steps", 2) == 0
    content = as_good_code.read_bytes()
    change(as_good_code)
    assert train("good-code", "parts", *flags) == 0
    assert Path("parts/base.pt").read_bytes() == content == Path("whole/base.pt").read_bytes()
    for name in ("metrics.csv", "samples.txt"):
        assert Path("parts", name).read_bytes() == Path("whole", name).read_bytes()
    assert torch.equal(weights("parts/model.pt"), weights("whole/model.pt"))
    summaries = [read_json(Path(out, "summary.json")) for out in ("whole", "parts")]
    for summary in summaries:
        del summary["seconds"]
    assert summaries[0] == summaries[1]
    assert train("good-code", "parts", *flags) == 0                  # finished, and it says so
    capsys.readouterr()
    code = train("good-code", "fresh", *flags)
    if change is put_another:
        assert code == 0 and Path("fresh/base.pt").read_bytes() == as_good_code.read_bytes()
        assert Path("fresh/metrics.csv").read_bytes() != Path("whole/metrics.csv").read_bytes()
    else:
        assert code == 2 and "base good-code is not pretrained" in capsys.readouterr().err


def test_a_fresh_start_takes_the_flags_base(base, finished, tmp_path):
    """What an earlier try has left as base.pt does not matter while there is no model.pt."""
    (tmp_path / "run").mkdir()
    put_another(Path(shutil.copy(base, tmp_path / "run/base.pt")))
    assert train(base, tmp_path / "run") == 0
    assert (tmp_path / "run/base.pt").read_bytes() == Path(base).read_bytes()
    metrics = (tmp_path / "run/metrics.csv").read_bytes()
    assert metrics == (finished / "metrics.csv").read_bytes()


def test_a_run_from_before_bases_were_kept(base, finished, tmp_path):
    """It has no base.pt: the flag's is taken, and kept from then on."""
    assert train(base, tmp_path / "run", "--steps", 2) == 0
    (tmp_path / "run/base.pt").unlink()
    assert train(base, tmp_path / "run") == 0
    assert torch.equal(weights(tmp_path / "run/model.pt"), weights(finished / "model.pt"))
    assert (tmp_path / "run/base.pt").read_bytes() == Path(base).read_bytes()


def test_coins_belong_to_a_base(as_good_code):
    """By its name, however that is given: two bases with one seed have coins of their own."""
    other = shutil.copy(as_good_code, "runs/bases/mine.pt")
    for out, name in (("a", "good-code"), ("b", str(as_good_code)), ("c", other), ("d", "mine")):
        assert train(name, out) == 0
    metrics = [Path(out, "metrics.csv").read_bytes() for out in "abcd"]
    assert metrics[0] == metrics[1] != metrics[2] == metrics[3]
    a, c = (read_rows(Path(out))[0] for out in "ac")
    assert a["entropy"] == c["entropy"]               # the first rollouts are those of the seed


# --- what the caller set stays set


def test_ignored_signals_do_not_end_a_run(base, finished, tmp_path, monkeypatch):
    """nohup, then a hang-up; a shell's `command &`, then a Ctrl-C meant for another."""
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP")
               if hasattr(signal, name)]
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    original = rlvr.update
    monkeypatch.setattr(rlvr, "update", lambda *args: [
        original(*args), *map(interrupt, numbers)][0])
    try:
        assert train(base, tmp_path / "run") == 0
        assert all(signal.getsignal(number) is signal.SIG_IGN for number in numbers)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    metrics = (tmp_path / "run/metrics.csv").read_bytes()
    assert metrics == (finished / "metrics.csv").read_bytes()


def read_settings() -> dict:
    """What belongs to a notebook, not to a function that it calls."""
    umask = os.umask(0)
    os.umask(umask)
    return {"threads": torch.get_num_threads(), "dtype": torch.get_default_dtype(),
            "random": torch.get_rng_state().tolist(), "numpy": repr(np.random.get_state()),
            "python": random.getstate(), "gradients": torch.is_grad_enabled(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "environment": dict(os.environ), "folder": os.getcwd(), "umask": umask,
            "path": list(sys.path), "arguments": list(sys.argv), "hook": sys.excepthook,
            "streams": (sys.stdout, sys.stderr, sys.stdout.errors),
            "locale": locale.setlocale(locale.LC_ALL), "warnings": list(warnings.filters),
            "signals": [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]}


@contextmanager
def own_torch():
    """A caller's torch with nothing in it as it was at its start."""
    torch.set_default_dtype(torch.float64)
    try:
        with (torch.inference_mode(), torch.device("meta"), torch.autocast("cpu", torch.bfloat16)):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_caller_with_a_torch_of_its_own(base, finished, tmp_path):
    """Neither a traceback nor, which is worse, another result; afterwards all is as it was."""
    def settings():
        return (torch.get_default_dtype(), torch.get_default_device().type,
                torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"))
    shape = {"steps": 1, "batch": 2, "layers": 1, "width": 8, "heads": 2, "threads": 1}
    with own_torch():
        rlvr.pretrain(rlvr.PretrainConfig(out=str(tmp_path / "theirs.pt"), **shape))
        assert train(base, tmp_path / "run") == 0
        assert settings() == (torch.float64, "meta", True, True)
    rlvr.pretrain(rlvr.PretrainConfig(out=str(tmp_path / "ours.pt"), **shape))
    assert torch.equal(weights(tmp_path / "theirs.pt"), weights(tmp_path / "ours.pt"))
    metrics = (tmp_path / "run/metrics.csv").read_bytes()
    assert metrics == (finished / "metrics.csv").read_bytes()


@pytest.mark.parametrize("in_thread", [False, True])
def test_a_library_leaves_all_as_it_was(base, tmp_path, in_thread):
    """rlvr.pretrain and rlvr.train from a notebook, or a thread of a server; and the command.

    Catches threads that stay set, a seed of torch's own stream, handlers outside the main thread.
    """
    flags = dict(zip([flag[2:].replace("-", "_") for flag in TINY_RUN[::2]],
                     map(int, TINY_RUN[1::2]))) | {"steps": 1, "threads": 2}
    shape = {"steps": 1, "batch": 2, "layers": 1, "width": 8, "heads": 2, "threads": 2}
    config = rlvr.TrainConfig(base=base, out=str(tmp_path / "run"), **flags)

    def work():
        try:
            rlvr.pretrain(rlvr.PretrainConfig(out=str(tmp_path / "b.pt"), **shape))
            rlvr.train(config)
            assert run("sample", base, "37 *4", "--threads", 2) == 0
        except Exception as error:
            failed.append(error)

    failed, thread, before = [], threading.Thread(target=work), read_settings()
    thread.start() if in_thread else work()
    if in_thread:
        thread.join()
    after = read_settings()
    assert not failed and {key for key in before if before[key] != after[key]} == set()
    assert read_json(tmp_path / "run/config.json")["threads"] == 2
    assert (tmp_path / "run/summary.json").exists() and (tmp_path / "b.pt").exists()


@pytest.mark.parametrize("name", ["a b\n\u00fc'\"$(x)", "\udcff"])
def test_any_name_of_a_folder(name, base, tmp_path, capsys):
    """As its files, its command and its report say it; also one that is no text."""
    out = tmp_path / name / "run"
    Path(shutil.copy(base, tmp_path / "b.pt")).rename(tmp_path / f"{name}.pt")
    base = str(tmp_path / f"{name}.pt")
    for code, more in ((0, []), (0, []), (2, ["--seed", 9])):
        assert train(base, out, "--steps", 1, *more) == code
    if name != "\udcff":
        assert shlex.split(read_json(out / "config.json")["command"])[6] == str(out)
    capsys.readouterr()
    assert run("evaluate", tmp_path / name / "none.pt") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert report.main([str(out), "--html", "--out", str(tmp_path / name / "report")]) == 0
    assert report.read_results(tmp_path / name / "report").runs[0]["seed"] == 1


# --- one process in a folder


@contextmanager
def another_process(path: Path):
    """Somebody else holds the lock."""
    with open(path, "w", encoding="utf-8") as file:
        lock_file(file)
        yield


def test_a_second_process_is_refused(base, finished, tmp_path, capsys):
    """One line, nothing written; after the first one's end the same command goes on."""
    out, path = tmp_path / "run", tmp_path / "b.pt"
    assert train(base, out, "--steps", 2) == 0
    capsys.readouterr()
    for lock, command in ((out / ".lock", lambda: train(base, out)),
                          (tmp_path / ".b.pt.lock", lambda: run("pretrain", "--base", "good-code",
                                                                "--out", path, *TINY_BASE))):
        before = files(tmp_path)
        with another_process(lock):
            assert command() == 2
            captured = capsys.readouterr()
            assert captured.out == "" and captured.err == (
                f"rlvr.py: error: another process is at work in {lock.parent}; "
                "wait for its end\n")
            assert files(tmp_path) == {**before, str(lock.relative_to(tmp_path)): b""}
        assert command() == 0 and not lock.exists()        # the other was killed: its file stayed
        capsys.readouterr()
    assert (out / "metrics.csv").read_bytes() == (finished / "metrics.csv").read_bytes()
    with another_process(tmp_path / ".c.pt.lock"):         # other bases may be made meanwhile
        path.unlink()
        assert run("pretrain", "--base", "good-code", "--out", path, *TINY_BASE) == 0


def read_time(path: Path) -> int:
    """When a file was written, 0 if it is not there."""
    return path.stat().st_mtime_ns if path.exists() else 0


@pytest.mark.slow
def test_any_moment_is_fine_for_a_kill(base, tmp_path):
    """kill -9 at ten random moments of a run, each time the same command again.

    Weights, state, tables and summary are, to the last bit, those of a run that nobody killed.
    """
    flags = [*TINY_RUN, "--loss", "ppo", "--kl-coef", "0.1", "--reward", "format", "--optimizer",
             "adamw", "--lr", "0.001", "--steps", "200"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"

    def start(out: Path) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, ROOT / "rlvr.py", "train", "--base", base, "--out",
                                 out, *flags], stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)

    def wait_until(holds) -> float:
        """The seconds until something of the process is there."""
        begun = time.monotonic()
        while not holds():
            assert process.poll() is None
            time.sleep(0.001)
        return time.monotonic() - begun

    rng, done, opening = random.Random(), set(), 0.0
    for life in range(10):
        (parts / ".lock").unlink(missing_ok=True)
        before = read_time(parts / "model.pt")
        process = start(parts)
        wait_until((parts / ".lock").exists)               # from here on it works
        if life % 2 == 0:                                  # somewhere in its batches
            opening = wait_until(lambda before=before: read_time(parts / "model.pt") != before)
            time.sleep(rng.uniform(0, 0.1))
        else:                                              # or before the first of them
            time.sleep(rng.uniform(0, opening))
        assert process.poll() is None, "it finished: too few steps for this machine"
        process.kill()
        process.wait()
        done.add(torch.load(parts / "model.pt", weights_only=True)["train"]["step"])
    assert len(done) > 3, done
    for out in (whole, parts):
        assert start(out).wait() == 0
    for name in ("metrics.csv", "samples.txt", "base.pt"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()
    assert torch.equal(weights(parts / "model.pt"), weights(whole / "model.pt"))
    summaries = [read_json(out / "summary.json") for out in (whole, parts)]
    states = [torch.load(out / "model.pt", weights_only=True)["train"] for out in (whole, parts)]
    for kept in (*summaries, *states):
        del kept["seconds"]
    assert summaries[0] == summaries[1] and repr(states[0]) == repr(states[1])
    assert set(files(parts)) >= FILES and not (parts / ".lock").exists()


# --- a disk that is full


def test_a_full_disk_is_one_line(base, finished, tmp_path, capsys):
    """In the middle of saving: exit code 1, what was saved is whole, the same command goes on.

    The system itself refuses, as torch.save does not raise OSError for it.
    """
    out = tmp_path / "run"
    assert train(base, out, "--steps", 2) == 0
    before, size = files(out), (out / "model.pt").stat().st_size
    assert size > (out / "base.pt").stat().st_size
    capsys.readouterr()
    with files_of_at_most(size - 1):
        assert train(base, out) == 1
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("rlvr.py: ") and "Traceback" not in error
    assert error.endswith("; what was saved before is whole\n")
    after = files(out)
    for name in ("model.pt", "metrics.csv", "samples.txt", "base.pt"):
        assert after[name] == before[name]
    assert set(after) == FILES - {"summary.json"}
    assert train(base, out) == 0
    assert (out / "metrics.csv").read_bytes() == (finished / "metrics.csv").read_bytes()
    assert torch.equal(weights(out / "model.pt"), weights(finished / "model.pt"))
    with files_of_at_most(1000):
        assert train(base, tmp_path / "new") == 1
        assert run("pretrain", "--base", "good-code", "--out", tmp_path / "b.pt", *TINY_BASE) == 1
    assert not (tmp_path / "new/model.pt").exists() and not (tmp_path / "b.pt").exists()
    assert not list(tmp_path.rglob("*.tmp"))


# --- bad input: one line, exit code 2, nothing written

BAD = """
none
trane
train --base great-code
train --base no-such-file.pt
train --base no\rsuch|file.pt
train --base no\0file.pt
train --reward corect
train --loss grop
train --learning-rate 1
train --rew random
train --lr 0
train --lr nan
train --lr inf
train --lr fast
train --eps -0.1
train --eps-low -1
train --eps-high -0.01
train --group 1
train --group 2.5
train --p 1.5
train --p -0.1
train --steps 0
train --seed -1
train --seed 4294967296
train --temperature 0
train --gae-lambda 1.1
train --gamma -0.1
train --kl-coef -1
train --entropy-coef -1
train --psr-weight -0.1
train --aggregate mean
train --lr-value 0
train --eps-value 0
train --max-grad-norm 0
train --gae-lambda 0.9
train --loss rloo --eps 0.1
train --loss psr --psr-weight 0.2
train --reward correct --p 0.2
train --eval-num-ops 9
train --eval-problems 5000 --eval-num-ops 1
train --num-ops 8
train --num-ops
train --updates 1025
train --prompts 0
train --out file
train --out file/run
train --out a\0b
train --out a\0b/c
train --out /proc/x
train --device tpu
train --threads 0
train --pool 5000 --num-ops 1
train --base truncated.pt
train --base shape.pt
pretrain --base great-code
pretrain --code-prior 1.2
pretrain --text-openers 0
pretrain --text-openers 8
pretrain --base no-code --code-prior 0.5
pretrain --heads 3
pretrain --width 4 --heads 4
pretrain --steps 0
pretrain --out file/inside.pt
pretrain --out .
pretrain --out a\0b.pt
pretrain --out a/\0b/c.pt
pretrain --out /proc/x.pt
pretrain --preset huge
pretrain --preset medium --width 8
pretrain --seed 4294967296
pretrain --decay 0
evaluate no-such-file.pt
evaluate no\0file.pt
evaluate file
evaluate BASE --k 65
evaluate BASE --samples 4 --k 8
evaluate BASE --k 0
evaluate BASE --top-p 0
evaluate BASE --split test
evaluate BASE --problems 9999 --num-ops 1
evaluate truncated.pt
evaluate shape.pt
evaluate vocabulary.pt
evaluate foreign.pt
evaluate .
sample BASE
sample BASE 37|/4
sample BASE 37|*4\u00e9
sample BASE ''
sample BASE 37|*4 -n 0
probe BASE
plot .
""".strip().split("\n")


def unpack(line: str, base: str) -> list[str]:
    """The arguments of a line of BAD: | stands for a space."""
    words = [] if line == "none" else line.split(" ")
    replaced = {"BASE": base, "''": ""}
    arguments = [replaced.get(word, word.replace("|", " ")) for word in words]
    if words[:1] == ["train"] and "--base" not in words:
        arguments += ["--base", base]
    return arguments


@pytest.mark.parametrize("line", BAD)
def test_bad_input(line, base, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    checkpoint = torch.load(base, weights_only=True)
    Path("file").write_text("not a checkpoint", encoding="utf-8")
    Path("truncated.pt").write_bytes(Path(base).read_bytes()[:-300])
    torch.save({**checkpoint, "model": {**checkpoint["model"], "layers": 2}}, "shape.pt")
    torch.save({**checkpoint, "model": {**checkpoint["model"], "vocabulary_size": 7}},
               "vocabulary.pt")
    torch.save({"something": torch.zeros(3)}, "foreign.pt")
    before = files(tmp_path)
    code = run(*unpack(line, base))
    captured = capsys.readouterr()
    assert code == 2 and captured.out == ""
    assert captured.err.count("\n") == 1 and "error: " in captured.err
    assert "Traceback" not in captured.err
    assert files(tmp_path) == before and not any(path.is_dir() for path in tmp_path.iterdir())


def test_unknown_reward_lists_what_exists(base, tmp_path, capsys):
    assert train(base, tmp_path / "run", "--reward", "corect") == 2
    error = capsys.readouterr().err
    assert all(name in error for name in ("corect", "correct", "majority", "incorrect", "format",
                                          "random", "code"))


def test_other_flags_in_the_same_folder_are_refused(base, finished, capsys):
    before = files(finished)
    for more in (["--lr", 0.5], ["--seed", 9], ["--reward", "format"], ["--eval-split", "probe"],
                 ["--aggregate", "tokens"], ["--num-ops", 6], ["--p", 0.4]):
        assert train(base, finished, *more) == 2
        assert "holds a run with other flags" in capsys.readouterr().err
    assert train(base, finished, "--steps", 2) == 2
    assert "4 rollout batches already, more than --steps 2" in capsys.readouterr().err
    assert files(finished) == before


def test_a_run_from_before_a_flag_existed_is_kept(base, finished, tmp_path, capsys):
    """It has the flag at its default: not refused, and not taken for another value either."""
    shutil.copytree(finished, tmp_path / "run")
    old = torch.load(finished / "model.pt", weights_only=True)
    del old["train"]["config"]["eval_split"]
    torch.save(old, tmp_path / "run/model.pt")
    assert train(base, tmp_path / "run") == 0
    assert "finished already" in capsys.readouterr().out
    assert train(base, tmp_path / "run", "--eval-split", "probe") == 2


def test_a_base_is_no_run(base, tmp_path, capsys):
    """A checkpoint without the state of a run in --out is not resumed, nor overwritten."""
    (tmp_path / "run").mkdir()
    shutil.copy(base, tmp_path / "run/model.pt")
    before = files(tmp_path)
    assert train(base, tmp_path / "run") == 2 and files(tmp_path) == before
    assert "holds a run with other flags" in capsys.readouterr().err


def test_damaged_run_is_refused_and_kept(base, finished, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / "model.pt").write_bytes((out / "model.pt").read_bytes()[:1000])
    before = files(out)
    assert train(base, out) == 2 and files(out) == before


def test_device_and_threads_are_used(base, tmp_path, monkeypatch):
    asked, original = [], machine.choose_device
    monkeypatch.setattr(runs, "choose_device", lambda config: (
        asked.append((config.device, config.threads)) or original(config)))
    assert train(base, tmp_path / "run", "--steps", 1, "--device", "cpu") == 0
    assert asked == [("cpu", 1)]
    assert read_json(tmp_path / "run/config.json")["device"] == "cpu"


@pytest.mark.slow
def test_as_a_program(base, tmp_path):
    """The real thing: python rlvr.py from another folder; the exit code reaches the shell.

    An output that cannot be written is one line too, and not a second one when Python ends.
    """
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")

    def start(words: list, out) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, ROOT / "rlvr.py", *words], cwd=tmp_path,
                                stdout=out, stderr=subprocess.PIPE, encoding="utf-8")

    with open("/dev/full", "w", encoding="utf-8") as full:
        programs = [start(["train", "--eps", "-1"], subprocess.DEVNULL),
                    start(["sample", base, "37 *4"], full)]
    errors = [program.communicate()[1] for program in programs]
    assert [program.returncode for program in programs] == [2, 1]
    assert [error.count("\n") for error in errors] == [1, 1] and not files(tmp_path)
    assert errors[1] == "rlvr.py: No space left on device; what was saved before is whole\n"


@pytest.mark.parametrize("command", ["train", "pretrain", "evaluate", "sample"])
def test_help_names_every_flag(command, capsys):
    assert run(command, "--help") == 0
    text = capsys.readouterr().out
    names = options_of(command) if command in REGISTRIES else ("seed", "temperature")
    for name in names:
        assert "--" + name.replace("_", "-") in text, name
