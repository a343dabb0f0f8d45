"""The command line: the files it writes, what it passes on, and one clear line for bad input."""

import functools
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import rlvr
from data import plumbing
from losses import LOSSES
from tests.helpers import (
    ROOT,
    TINY_RUN,
    files,
    read_json,
    read_rows,
    run,
    train,
    weights,
)

# --- what a run writes


def test_files_and_summary(finished):
    """The files and keys that scripts rely on; JSON without NaN; metrics for every batch."""
    assert set(files(finished)) == {"config.json", "metrics.csv", "samples.txt", "model.pt",
                                    "summary.json"}
    summary = read_json(finished / "summary.json")
    assert set(summary) == {"base", "reward", "loss", "seed", "steps", "before", "after", "gain",
                            "switches", "clip", "seconds"}
    for when in ("before", "after"):
        assert set(summary[when]) == {
            "accuracy", "greedy_accuracy", "code_share", "text_share", "greedy_code_share",
            "greedy_text_share", "accuracy_code", "accuracy_text", "format_rate", "entropy",
            "mean_token_prob", "kl_to_base", "distinct_answers", "pass_at_k", "n_problems",
            "n_samples"}
        assert (summary[when]["n_problems"], summary[when]["n_samples"]) == (5, 2)
        assert set(summary[when]["pass_at_k"]) == {"1", "2"}
    assert set(summary["gain"]) == {"total", "switch", "within"}
    assert set(summary["switches"]) == {"code->code", "code->text", "text->code", "text->text"}
    assert set(summary["clip"]) == {"high", "low"}
    assert set(summary["seconds"]) == {"total", "rollout", "update", "evaluate"}
    rows = read_rows(finished)
    assert [int(row["step"]) for row in rows] == [0, 1, 2, 3]
    assert list(rows[0]) == ["step", "reward", "accuracy", "code_share", "text_share",
                             "format_rate", "entropy", "mean_token_prob", "response_length",
                             "no_signal", "clip_high", "clip_low", "approx_kl", "grad_norm"]
    assert all(math.isfinite(float(value)) for row in rows for value in row.values())
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


def flags_of(config: type) -> list[str]:
    return ["--" + name.replace("_", "-") for name in config.__dataclass_fields__]


TRAIN = {
    "base": "b", "reward": "correct", "loss": "ppo", "seed": 5, "steps": 6, "out": "o",
    "prompts": 7, "group": 8, "temperature": 0.5, "max_new_tokens": 9, "pool": 10,
    "num_ops": (2, 6), "updates": 11, "optimizer": "adamw", "lr": 0.25, "max_grad_norm": 0.75,
    "aggregate": "tokens", "kl_coef": 0.125, "entropy_coef": 0.375, "eval_problems": 12,
    "eval_samples": 13, "eval_split": "probe", "eval_num_ops": (3, 7), "micro_batch": 14,
    "threads": 1, "device": "cpu", "eps_low": 0.2, "eps_high": 0.3, "gamma": 0.9,
    "gae_lambda": 0.8, "lr_value": 0.7, "eps_value": 0.6, "psr_weight": 0.4, "p": 0.1}
PRETRAIN = {
    "base": "bad-code", "seed": 5, "out": "o", "layers": 6, "width": 8, "heads": 2, "steps": 9,
    "batch": 10, "lr_muon": 0.25, "lr_adamw": 0.75, "warmup": 11, "decay": 0.5, "micro_batch": 12,
    "threads": 1, "device": "cpu", "code_prior": 0.3, "text_openers": 4}


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
    config = {"train": rlvr.TrainConfig, "pretrain": rlvr.PretrainConfig}[command]
    assert set(values) == set(config.__dataclass_fields__)
    assert run(command) == 0 and run(command, *type_flags(values)) == 0
    assert [given for given, _ in seen] == [config(), config(**values)]
    if command == "train":
        assert seen[1][1] == (f"python rlvr.py train {' '.join(type_flags(values))}",)


def test_eps_sets_both_clips(monkeypatch):
    """Whatever else is said; alone neither."""
    seen = []
    monkeypatch.setattr(rlvr, "train", lambda config, command: seen.append(config))
    for flags in ("--eps 0.1", "--eps-low 0.2", "--eps-high 0.3", "--eps 0"):
        assert run("train", *flags.split()) == 0
    assert [(c.eps_low, c.eps_high) for c in seen] == [(0.1, 0.1), (0.2, 0.4), (0.4, 0.3), (0, 0)]


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


@pytest.mark.parametrize("error, code", [(plumbing.InputError("x"), 2), (KeyboardInterrupt(), 130),
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


def test_rewards_of_one_seed_see_the_same_first_batch(base, tmp_path):
    for reward in ("correct", "format+not_code"):
        assert train(base, tmp_path / reward, "--reward", reward, "--steps", 1) == 0
    a, b = (read_rows(tmp_path / reward)[0] for reward in ("correct", "format+not_code"))
    assert all(a[name] == b[name]
               for name in ("accuracy", "code_share", "entropy", "response_length"))
    assert a["reward"] != b["reward"]


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


def test_micro_batches_change_no_run(base, finished, tmp_path):
    """Nor do threads and where it runs: what is not in the way of the numbers."""
    assert train(base, tmp_path / "run", "--micro-batch", 2) == 0
    torch.testing.assert_close(weights(tmp_path / "run/model.pt"), weights(finished / "model.pt"),
                               rtol=1e-3, atol=1e-5)


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


# --- bad input: one line, exit code 2, nothing written

BAD = """
none
trane
train --base great-code
train --base no-such-file.pt
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
pretrain --seed 4294967296
pretrain --decay 0
evaluate no-such-file.pt
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
    Path("file").write_text("not a checkpoint")
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
                 ["--micro-batch", 3], ["--num-ops", 6], ["--p", 0.4]):
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
    asked, original = [], plumbing.choose_device
    monkeypatch.setattr(plumbing, "choose_device", lambda config: (
        asked.append((config.device, config.threads)) or original(config)))
    assert train(base, tmp_path / "run", "--steps", 1, "--device", "cpu") == 0
    assert asked == [("cpu", 1)]
    assert read_json(tmp_path / "run/config.json")["device"] == "cpu"


def test_as_a_program(tmp_path):
    """The real thing once: python rlvr.py from another folder; the exit code reaches the shell."""
    command = [sys.executable, ROOT / "rlvr.py", "train", "--eps", "-1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and not files(tmp_path)


@pytest.mark.parametrize("command", ["train", "pretrain", "evaluate", "sample"])
def test_help_names_every_flag(command, capsys):
    assert run(command, "--help") == 0
    text = capsys.readouterr().out
    config = {"train": rlvr.TrainConfig, "pretrain": rlvr.PretrainConfig}.get(command)
    for flag in flags_of(config) if config else ("--seed", "--temperature", "checkpoint"):
        assert flag in text, flag
