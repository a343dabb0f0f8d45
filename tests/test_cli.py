"""The command line: the files it writes, resuming, and one clear line for bad input. All on a tiny model."""

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import rlvr

ROOT = Path(rlvr.__file__).parent
TINY_BASE = ["--steps", "3", "--batch", "8", "--layers", "1", "--width", "8", "--heads", "2", "--micro-batch", "3", "--threads", "1"]
TINY_RUN = ["--steps", "4", "--prompts", "3", "--group", "4", "--updates", "2", "--pool", "9", "--max-new-tokens", "6", "--eval-problems", "5",
            "--eval-samples", "2", "--threads", "1"]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp("base") / "tiny.pt")
    assert rlvr.main(["pretrain", "--base", "good-code", "--out", path, *TINY_BASE]) == 0
    return path


def train(base: str, out: Path, *more: str) -> int:
    return rlvr.main(["train", "--base", base, "--out", str(out), *TINY_RUN, *more])


def weights(path: Path) -> torch.Tensor:
    return torch.cat([w.flatten() for w in torch.load(path, weights_only=True)["weights"].values()])


def files(folder: Path) -> dict:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def finished(base, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "random"
    assert train(base, out) == 0
    return out


# --- what a run writes

def test_files_and_summary(finished, base):
    """The files and keys that scripts rely on; JSON without NaN; metrics for every rollout batch."""
    assert set(files(finished)) == {"config.json", "metrics.csv", "samples.txt", "model.pt", "summary.json"}
    summary = json.loads((finished / "summary.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert {"base", "reward", "loss", "seed", "steps", "before", "after", "gain", "clip", "seconds"} <= set(summary)
    for when in "before", "after":
        assert {"accuracy", "greedy_accuracy", "code_share", "accuracy_code", "accuracy_text", "format_rate", "entropy", "mean_token_prob",
                "kl_to_base", "distinct_answers", "pass_at_k", "n_problems", "n_samples"} == set(summary[when])
        assert summary[when]["n_problems"] == 5 and set(summary[when]["pass_at_k"]) == {"1", "2"}
    assert set(summary["gain"]) == {"total", "switch", "within"} and set(summary["clip"]) == {"high", "low"}
    assert {"total", "rollout", "update", "evaluate"} == set(summary["seconds"])
    with open(finished / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [0, 1, 2, 3] and set(rows[0]) == {"step", *rlvr.METRICS} - {"kl", "value_loss"}
    assert all(math.isfinite(float(value)) for row in rows for value in row.values())


def test_config_is_what_was_used(base, tmp_path):
    """Catches a logged value that is not the one in the optimizer, and defaults that are resolved but not written."""
    assert train(base, tmp_path / "run", "--lr", "0.037", "--eps", "0.11", "--optimizer", "adamw") == 0
    config = json.loads((tmp_path / "run/config.json").read_text())
    optimizer = torch.load(tmp_path / "run/model.pt", weights_only=True)["train"]["stateful"][0]
    assert config["lr"] == optimizer["param_groups"][0]["lr"] == 0.037 and "exp_avg" in optimizer["state"][0]
    assert config["eps_low"] == config["eps_high"] == 0.11 and config["num_ops"] == [1, 2, 3, 4, 5] and config["device"] in ("cpu", "cuda")
    assert config["command"].startswith("python rlvr.py train --base ")


# --- the same flags give the same run; an interrupted run resumes

def test_same_seed_same_run_and_other_seed_other_run(base, finished, tmp_path):
    assert train(base, tmp_path / "again") == 0 and train(base, tmp_path / "other", "--seed", "2") == 0
    for name in ("metrics.csv", "samples.txt"):
        assert (tmp_path / "again" / name).read_bytes() == (finished / name).read_bytes()
    assert torch.equal(weights(tmp_path / "again/model.pt"), weights(finished / "model.pt"))
    assert (tmp_path / "other/metrics.csv").read_bytes() != (finished / "metrics.csv").read_bytes()


@pytest.mark.parametrize("flags", ["--optimizer sgd", "--optimizer adamw", "--loss ppo --gae-lambda 0.9 --kl-coef 0.1", "--loss nsr --reward correct"])
def test_resume_is_bit_for_bit(base, tmp_path, flags):
    """Catches an optimizer, a critic or a random state that is not saved, and a repeated batch: n steps == k, stop, resume, n - k."""
    assert train(base, tmp_path / "whole", *flags.split()) == 0
    assert train(base, tmp_path / "parts", *flags.split(), "--steps", "1") == 0
    assert train(base, tmp_path / "parts", *flags.split()) == 0
    for name in ("metrics.csv", "samples.txt"):
        whole, parts = ((tmp_path / run / name).read_text() for run in ("whole", "parts"))
        assert whole == parts
    assert torch.equal(weights(tmp_path / "whole/model.pt"), weights(tmp_path / "parts/model.pt"))


def test_ctrl_c_saves(base, finished, tmp_path, monkeypatch, capsys):
    """Ctrl-C in the second rollout batch: exit code 130, both batches are there, and the same command completes the same run."""
    original, calls = rlvr.update, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return original(*args)

    monkeypatch.setattr(rlvr, "update", interrupted)
    assert train(base, tmp_path / "run") == 130
    assert len((tmp_path / "run/metrics.csv").read_text().splitlines()) == 3 and not (tmp_path / "run/summary.json").exists()
    monkeypatch.undo()
    assert train(base, tmp_path / "run") == 0
    assert (tmp_path / "run/metrics.csv").read_bytes() == (finished / "metrics.csv").read_bytes()


def test_kill_between_two_files_loses_nothing(base, finished, tmp_path, monkeypatch):
    """A crash right after model.pt was renamed: metrics.csv is a batch behind, and whole again after the resume."""
    original, writes = rlvr.write, []

    def crash(path, content):
        original(path, content)
        writes.append(path.name)
        if writes.count("model.pt") == 2 and path.name == "model.pt":
            raise RuntimeError("power cut")

    monkeypatch.setattr(rlvr, "write", crash)
    with pytest.raises(RuntimeError):
        train(base, tmp_path / "run")
    monkeypatch.undo()
    assert train(base, tmp_path / "run") == 0
    assert (tmp_path / "run/metrics.csv").read_bytes() == (finished / "metrics.csv").read_bytes()


def test_pretraining_resumes(base, tmp_path, monkeypatch):
    path, original, calls = str(tmp_path / "tiny.pt"), rlvr.response_hidden, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 4:   # three micro-batches a step: this is the second step
            os.kill(os.getpid(), signal.SIGINT)
        return original(*args)

    monkeypatch.setattr(rlvr, "response_hidden", interrupted)
    command = ["pretrain", "--base", "good-code", "--out", path, *TINY_BASE]
    assert rlvr.main(command) == 130 and list(files(tmp_path)) == ["tiny.pt.partial"]
    monkeypatch.undo()
    assert rlvr.main(command) == 0 and list(files(tmp_path)) == ["tiny.pt"]
    assert torch.equal(weights(Path(path)), weights(Path(base)))


def test_the_knobs_of_the_corpus_reach_it(tmp_path, monkeypatch):
    seen, original = [], rlvr.documents
    monkeypatch.setattr(rlvr, "documents", lambda base, n, prior, openers, rng: seen.append((base, n, prior, openers)) or original(base, n, prior, openers, rng))
    for name, flags in (("default", []), ("other", ["--code-prior", "0.3", "--text-openers", "2"])):
        assert rlvr.main(["pretrain", "--out", str(tmp_path / name), *TINY_BASE, *flags]) == 0
    assert seen == [("good-code", 24, 0.65, 7), ("good-code", 24, 0.3, 2)]


def test_work_from_before_a_flag_existed_is_kept(base, finished, tmp_path, capsys):
    """A base and a run whose checkpoints lack a flag have it at its default: not refused, and not taken for another value either."""
    for path, key, flag in ((Path(base), "pretrain", "text_openers"), (finished / "model.pt", "train", "eval_split")):
        old = torch.load(path, weights_only=True)
        del (old[key] if key == "pretrain" else old[key]["config"])[flag]
        (tmp_path / "run").mkdir(exist_ok=True)
        torch.save(old, tmp_path / ("run/model.pt" if key == "train" else "base.pt"))
    shutil.copy(finished / "summary.json", tmp_path / "run")
    assert rlvr.main(["pretrain", "--base", "good-code", "--out", str(tmp_path / "base.pt"), *TINY_BASE]) == 0 and train(base, tmp_path / "run") == 0
    assert "exists already" in (out := capsys.readouterr().out) and "finished already" in out
    assert rlvr.main(["pretrain", "--base", "good-code", "--out", str(tmp_path / "base.pt"), *TINY_BASE, "--text-openers", "2"]) == 2
    assert train(base, tmp_path / "run", "--eval-split", "probe") == 2


def test_a_longer_run_has_no_summary_of_the_shorter(base, finished, tmp_path, monkeypatch):
    """Interrupted in its last evaluation, it must not be taken for finished because of the summary that was there before."""
    assert train(base, tmp_path / "run", "--steps", "1") == 0
    monkeypatch.setattr(rlvr, "gain", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert train(base, tmp_path / "run") == 130
    monkeypatch.undo()
    assert train(base, tmp_path / "run") == 0
    assert json.loads((tmp_path / "run/summary.json").read_text())["steps"] == 4
    assert (tmp_path / "run/metrics.csv").read_bytes() == (finished / "metrics.csv").read_bytes()


def test_finished_work_is_kept(finished, base, capsys):
    before = files(finished)
    assert train(base, finished) == 0 and files(finished) == before
    assert rlvr.main(["pretrain", "--base", "good-code", "--out", base, *TINY_BASE]) == 0
    assert "finished already" in capsys.readouterr().out


def test_rewards_of_one_seed_see_the_same_first_batch(base, tmp_path):
    for reward in ("correct", "format+not_code"):
        assert train(base, tmp_path / reward, "--reward", reward, "--steps", "1") == 0
    a, b = (next(csv.DictReader(open(tmp_path / reward / "metrics.csv"))) for reward in ("correct", "format+not_code"))
    assert all(a[name] == b[name] for name in ("accuracy", "code_share", "entropy", "response_length"))


@pytest.mark.parametrize("loss", [loss for loss in rlvr.LOSSES if loss != "grpo"])
def test_every_loss_trains_and_says_so(base, finished, tmp_path, loss):
    """Another loss is another run of the same kind: the same first rollouts, other parameters, its own name in the summary."""
    assert train(base, tmp_path / "run", "--loss", loss) == 0
    assert json.loads((tmp_path / "run/summary.json").read_text())["loss"] == loss
    a, b = (list(csv.DictReader(open(run / "metrics.csv"))) for run in (finished, tmp_path / "run"))
    assert all(a[0][name] == b[0][name] for name in ("reward", "accuracy", "entropy", "response_length"))
    assert ("value_loss" in b[0]) == (loss == "ppo") and "kl" not in b[0]
    assert not torch.equal(weights(tmp_path / "run/model.pt"), weights(finished / "model.pt"))


def test_terms_that_are_off_unless_asked_for(base, finished, tmp_path):
    """--kl-coef, --entropy-coef and --aggregate each change the run; the KL is logged."""
    for flags in ("--kl-coef 0.5", "--entropy-coef 0.5", "--aggregate length", "--aggregate tokens"):
        out = tmp_path / flags
        assert train(base, out, *flags.split()) == 0
        assert not torch.equal(weights(out / "model.pt"), weights(finished / "model.pt"))
    kl = [float(row["kl"]) for row in csv.DictReader(open(tmp_path / "--kl-coef 0.5/metrics.csv"))]
    assert all(value > 0 for value in kl)


def test_kl_is_to_the_base_and_the_critic_learns(base, tmp_path, monkeypatch):
    """Catches a reference that follows the policy, after a resume too, and a critic without its optimizer."""
    seen, original = [], rlvr.rollout
    monkeypatch.setattr(rlvr, "rollout", lambda *args: seen.append(args) or original(*args))
    for steps in ("2", "4"):
        assert train(base, tmp_path / "run", "--loss", "ppo", "--kl-coef", "0.1", "--steps", steps) == 0
    of_base, _ = rlvr.load(Path(base), torch.device("cpu"))
    for model, _, _, _, reference, critic in seen:
        assert all(torch.equal(a, b) for a, b in zip(reference.parameters(), of_base.parameters()))
    assert len(seen) == 4 and critic.weight.any() and critic.bias.any()
    assert not torch.equal(weights(tmp_path / "run/model.pt"), weights(Path(base)))


def test_p_zero_leaves_the_base_as_it_is(base, tmp_path):
    assert train(base, tmp_path / "run", "--p", "0") == 0
    assert torch.equal(weights(tmp_path / "run/model.pt"), weights(Path(base)))


def test_divergence_is_one_line(base, tmp_path, capsys):
    """An absurd step size ends with a line and exit code 1; the last good state stays readable."""
    for updates in ("1", "2"):   # noticed by the next rollout, or by the next update
        out = tmp_path / updates
        assert train(base, out, "--lr", "1e38", "--updates", updates) == 1
        assert "diverged" in capsys.readouterr().err.splitlines()[-1]
        assert rlvr.load(out / "model.pt", torch.device("cpu")) if (out / "model.pt").exists() else updates == "2"


# --- the other commands

def test_evaluate_prints_json(base, capsys):
    assert rlvr.main(["evaluate", base, "--samples", "4", "--k", "4", "1", "--problems", "3", "--threads", "1"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert list(result["pass_at_k"]) == ["1", "4"] and result["n_samples"] == 4 and result["pass_at_k"]["1"] == pytest.approx(result["accuracy"])
    assert result["accuracy_text"] is not None


def test_sample_prints_responses(base, capsys):
    assert rlvr.main(["sample", base, "37 *4 +5 -2", "-n", "3", "--max-new-tokens", "4"]) == 0
    assert capsys.readouterr().out.count("log-probability") == 3


def test_plot_writes_table_and_figure(base, finished, tmp_path, capsys):
    assert train(base, tmp_path / "two", "--seed", "2") == 0
    assert rlvr.main(["plot", str(finished), str(tmp_path / "two"), "--out", str(tmp_path / "results")]) == 0
    assert "random" in capsys.readouterr().out
    results = json.loads((tmp_path / "results/results.json").read_text())
    gains = [100 * run["gain"]["total"] for run in results["runs"]]
    cell, = results["cells"]
    assert cell["seeds"] == 2 and cell["gain_mean"] == pytest.approx(sum(gains) / 2)
    assert cell["gain_std"] == pytest.approx(abs(gains[0] - gains[1]) / math.sqrt(2))
    assert (tmp_path / "results/results.csv").exists() and (tmp_path / "results/figure.png").stat().st_size > 10_000


def test_plot_keeps_other_flags_apart(base, finished, tmp_path, capsys):
    """Catches a mean over runs that are not repetitions of each other."""
    assert train(base, tmp_path / "wide", "--eps", "0.9") == 0
    assert rlvr.main(["plot", str(finished), str(tmp_path / "wide"), "--out", str(tmp_path / "results")]) == 0
    cells = json.loads((tmp_path / "results/results.json").read_text())["cells"]
    assert [cell["seeds"] for cell in cells] == [1, 1] and [("--eps-low 0.9 --eps-high 0.9" in cell["flags"]) for cell in cells].count(True) == 1


def test_plot_without_matplotlib_prints_the_table(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert rlvr.main(["plot", str(finished), "--out", str(tmp_path)]) == 0
    assert "random" in capsys.readouterr().out and not (tmp_path / "figure.png").exists()


def test_plot_of_many_samples_has_pass_at_k(base, tmp_path, capsys):
    """From 16 samples a problem on: the base once, each cell's gain over it, as mean and spread over the seeds; two losses stay apart."""
    runs = [tmp_path / name for name in ("grpo1", "grpo2", "nsr1")]
    for run in runs:
        assert train(base, run, "--loss", run.name[:-1], "--seed", run.name[-1], "--eval-samples", "16", "--eval-num-ops", "1", "6", "7", "--reward", "format") == 0
    capsys.readouterr()
    assert rlvr.main(["plot", *map(str, runs), "--out", str(tmp_path / "results")]) == 0
    printed = capsys.readouterr().out
    assert "pass@16" in printed and "all with --steps 4 --prompts 3" in printed and "--eval-num-ops 1 6 7" in printed
    summaries = [json.loads((run / "summary.json").read_text()) for run in runs]
    rows = json.loads((tmp_path / "results/results.json").read_text())["pass_at_k"]
    assert [(row["loss"], row["seeds"]) for row in rows if row["k"] == 16] == [(None, 1), ("grpo", 2), ("nsr", 1)]
    for row in rows:
        of = {None: [summaries[0]["before"]], "grpo": [s["after"] for s in summaries[:2]], "nsr": [summaries[2]["after"]]}[row["loss"]]
        values = [evaluation["pass_at_k"][str(row["k"])] for evaluation in of]
        assert row["pass_at_k"] == pytest.approx(sum(values) / len(values))
        assert row["gain"] == pytest.approx(100 * (row["pass_at_k"] - summaries[0]["before"]["pass_at_k"][str(row["k"])]))
        if len(values) == 2:
            assert row["pass_at_k_std"] == pytest.approx(abs(values[0] - values[1]) / math.sqrt(2))
    assert {"pass_at_k.csv", "pass_at_k.png", "figure.png"} <= set(files(tmp_path / "results"))


def test_plot_of_different_evaluations_keeps_them_apart(base, tmp_path, capsys):
    """16 samples and 32, k = 1..5 and 7: each with its own base row, none compared with another, no traceback for a missing pass@32."""
    for name, flags in {"a": "--eval-samples 16", "b": "--eval-samples 32", "c": "--eval-samples 16 --eval-num-ops 7"}.items():
        assert train(base, tmp_path / name, *flags.split(), "--steps", "1") == 0
    assert rlvr.main(["plot", *(str(tmp_path / name) for name in "abc"), "--out", str(tmp_path / "results")]) == 0
    rows = json.loads((tmp_path / "results/results.json").read_text())["pass_at_k"]
    assert len({row["panel"] for row in rows}) == 3 and sum(row["loss"] is None and row["k"] == 1 for row in rows) == 3
    assert capsys.readouterr().out.count("(before)") == 3


def test_plot_reads_runs_of_before_a_flag_existed(finished, tmp_path, capsys):
    """A config.json without a newer flag is a run at that flag's default, not a damaged one."""
    shutil.copytree(finished, tmp_path / "old")
    config = json.loads((finished / "config.json").read_text())
    (tmp_path / "old/config.json").write_text(json.dumps({key: value for key, value in config.items() if key not in ("kl_coef", "eval_num_ops")}))
    assert rlvr.main(["plot", str(finished), str(tmp_path / "old"), "--out", str(tmp_path / "results")]) == 0
    cell, = json.loads((tmp_path / "results/results.json").read_text())["cells"]
    assert cell["seeds"] == 2


# --- bad input: one line, exit code 2, nothing written

@pytest.mark.parametrize("arguments", [
    [], ["trane"], ["train", "--base", "great-code"], ["train", "--base", "no-such-file.pt"], ["train", "--reward", "corect"], ["train", "--loss", "grop"],
    ["train", "--learning-rate", "1"], ["train", "--rew", "random"], ["train", "--lr", "0"], ["train", "--lr", "nan"], ["train", "--lr", "inf"],
    ["train", "--lr", "fast"], ["train", "--eps", "-0.1"], ["train", "--eps-low", "-1"], ["train", "--eps-high", "-0.01"], ["train", "--group", "1"],
    ["train", "--group", "2.5"], ["train", "--p", "1.5"], ["train", "--p", "-0.1"], ["train", "--steps", "0"], ["train", "--seed", "-1"],
    ["train", "--temperature", "0"], ["train", "--gae-lambda", "1.1"], ["train", "--gamma", "-0.1"], ["train", "--kl-coef", "-1"],
    ["train", "--entropy-coef", "-1"], ["train", "--psr-weight", "-0.1"], ["train", "--aggregate", "mean"], ["train", "--lr-value", "0"],
    ["train", "--eps-value", "0"], ["train", "--gae-lambda", "0.9"], ["train", "--loss", "rloo", "--eps", "0.1"],
    ["train", "--loss", "psr", "--psr-weight", "0.2"], ["train", "--eval-num-ops", "9"], ["train", "--eval-problems", "5000", "--eval-num-ops", "1"], ["train", "--num-ops", "8"], ["train", "--num-ops"], ["train", "--updates", "1025"], ["train", "--prompts", "0"],
    ["train", "--out", "file"], ["train", "--out", "file/run"], ["train", "--device", "tpu"], ["train", "--threads", "0"], ["train", "--pool", "5000", "--num-ops", "1"],
    ["pretrain", "--base", "great-code"], ["pretrain", "--code-prior", "1.2"], ["pretrain", "--text-openers", "0"],
    ["pretrain", "--text-openers", "8"], ["probe"], ["probe", "nowhere.pt"], ["probe", "."], ["probe", ""], ["probe", "truncated.pt"], ["probe", "BASE", "--seeds", "2"], ["probe", "BASE", "--seeds", "11"],
    ["probe", "BASE", "--out", "file"], ["pretrain", "--base", "no-code", "--code-prior", "0.5"],
    ["pretrain", "--heads", "3"], ["pretrain", "--width", "4", "--heads", "4"], ["pretrain", "--steps", "0"], ["pretrain", "--out", "file/inside.pt"],
    ["evaluate", "no-such-file.pt"], ["evaluate", "file"], ["evaluate", "BASE", "--k", "65"], ["evaluate", "BASE", "--samples", "4", "--k", "8"],
    ["evaluate", "BASE", "--k", "0"], ["evaluate", "BASE", "--top-p", "0"], ["evaluate", "BASE", "--problems", "9999", "--num-ops", "1"],
    ["evaluate", "truncated.pt"], ["evaluate", "shape.pt"], ["evaluate", "vocabulary.pt"], ["evaluate", "foreign.pt"], ["evaluate", "."],
    ["train", "--base", "truncated.pt"], ["train", "--base", "shape.pt"],
    ["sample", "BASE", "37 /4"], ["sample", "BASE", "37 *4\u00e9"], ["sample", "BASE", ""], ["sample", "BASE"], ["sample", "BASE", "37 *4", "-n", "0"],
    ["plot"], ["plot", "."], ["plot", "no-such-folder"], ["plot", "RUN", "--out", "file"],
], ids=lambda arguments: " ".join(arguments) or "none")
def test_bad_input(arguments, base, finished, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    checkpoint = torch.load(base, weights_only=True)
    Path("file").write_text("not a checkpoint")
    Path("truncated.pt").write_bytes(Path(base).read_bytes()[:-300])
    torch.save({**checkpoint, "model": {**checkpoint["model"], "layers": 2}}, "shape.pt")
    torch.save({**checkpoint, "model": {**checkpoint["model"], "vocabulary_size": 7}}, "vocabulary.pt")
    torch.save({"something": torch.zeros(3)}, "foreign.pt")
    if arguments[:1] == ["train"] and "--base" not in arguments:
        arguments = [*arguments, "--base", base]
    before = files(tmp_path)
    try:
        code = rlvr.main([{"BASE": base, "RUN": str(finished)}.get(argument, argument) for argument in arguments])
    except SystemExit as exit:
        code = exit.code
    captured = capsys.readouterr()
    assert code == 2 and captured.out == ""
    assert captured.err.count("\n") == 1 and "error: " in captured.err and "Traceback" not in captured.err
    assert files(tmp_path) == before and not any(path.is_dir() for path in tmp_path.iterdir())


def test_unknown_reward_lists_what_exists(base, tmp_path, capsys):
    assert train(base, tmp_path / "run", "--reward", "corect") == 2
    error = capsys.readouterr().err
    assert all(name in error for name in ("corect", "correct", "majority", "incorrect", "format", "random", "code"))


def test_other_flags_in_the_same_folder_are_refused(base, finished, capsys):
    before = files(finished)
    for more in (["--lr", "0.5"], ["--seed", "9"], ["--reward", "format"], ["--steps", "2"]):
        assert train(base, finished, *more) == 2
    assert rlvr.main(["pretrain", "--base", "good-code", "--out", base, *TINY_BASE, "--seed", "5"]) == 2
    assert files(finished) == before and capsys.readouterr().err.count("\n") == 5


def test_damaged_run_is_refused_and_kept(base, finished, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / "model.pt").write_bytes((out / "model.pt").read_bytes()[:1000])
    before = files(out)
    assert train(base, out) == 2 and files(out) == before


def test_as_a_program(tmp_path):
    """The real thing once: python rlvr.py from another folder; the exit code reaches the shell."""
    run = subprocess.run([sys.executable, ROOT / "rlvr.py", "train", "--eps", "-1"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.count("\n") == 1
    assert subprocess.run([sys.executable, ROOT / "rlvr.py", "train", "--help"], cwd=tmp_path, capture_output=True).returncode == 0
