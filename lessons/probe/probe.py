"""Is a skill latent in a checkpoint? Ask a reward that knows nothing: a minute or two.

    python -m lessons.probe good-code               # a base's name, or a checkpoint
    python -m lessons.probe runs/mine/model.pt --seeds 10

A coin flip carries no information, so what it brings out was there: that is *latent*. The verdict
is read off the nominal 95% interval of the gain over RL seeds. The first of these that holds:

    latent: no        all of it lies within 3 points of 0
    latent: yes       it lies above 0
    latent: harmful   it lies below 0: the habit that is amplified is worse than the rest
    latent: unclear   it holds 0: the seeds disagree, or are few

Nominal: it speaks of seeds, not of the sample of problems, and it takes the gains for normal. Where
chance decides which habit wins they are not, and five seeds can agree by luck (README.md). All is
measured on the probe split, which neither training nor any other lesson uses.
"""

import hashlib
import io
import json
import shlex
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import rlvr
from data.corpus import CORPORA
from data.files import check_writable, to_json, write
from data.plumbing import (
    DEVICE,
    EVALUATION,
    MAX_SEED,
    THREADS,
    InputError,
    Parser,
    choose_device,
    number,
    run_command,
)
from evaluation import draw_evaluation
from lessons.grid import write_flags
from lessons.report import align
from lessons.spurious.elicit import elicit
from model import load_checkpoint, locate_base

MARGIN = 0.03  # a smaller gain is of no interest
VERDICTS = ("yes", "no", "harmful", "unclear")
# Student's t, 97.5% quantile, by degrees of freedom
T95 = (None, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def interval(values: list[float]) -> tuple[float, float]:
    """The 95% confidence interval of the mean of 2 to 10 independent normal values (Student's t).

    >>> [round(bound, 2) for bound in interval([0.1, 0.2, 0.3])]
    [-0.05, 0.45]
    """
    half = T95[len(values) - 1] * stdev(values) / len(values) ** 0.5
    return mean(values) - half, mean(values) + half


def judge(gains: list[float]) -> str:
    """One of VERDICTS, from the gains in accuracy (0 to 1) of several seeds of a random reward."""
    low, high = interval(gains)
    if -MARGIN < low and high < MARGIN:
        return "no"
    return "yes" if low > 0 else "harmful" if high < 0 else "unclear"


def show_interval(values: list[float]) -> str:
    """'+14.2 to +28.6', in points."""
    low, high = interval(values)
    return f"{100 * low:+.1f} to {100 * high:+.1f}"


def show_ways(ways: list[dict]) -> str:
    """The rows of `elicit` as a table."""
    lines = [["as it is", "accuracy", "code share"]]
    for row in ways:
        share = "" if row["code_share"] is None else f"{row['code_share']:.2f}"
        lines.append([row["way"], f"{row['accuracy']:.3f}", share])
    return align(lines)


def claim_folder(path: Path, out: Path) -> None:
    """Write a checkpoint's fingerprint into `out`. InputError if it holds the probe of another."""
    check_writable(out)
    fingerprint, claim = hashlib.sha256(path.read_bytes()).hexdigest(), out / "checkpoint.txt"
    if claim.exists() and claim.read_text() != fingerprint:
        raise InputError(f"{out} is the probe of another checkpoint: choose another --out or "
                         "delete it")
    write(claim, fingerprint)


def flip_coins(config: rlvr.TrainConfig, seed: int, out: Path) -> dict:
    """The summary of one run of the random reward; a finished one is not run again."""
    run = replace(config, seed=seed, out=str(out / f"seed{seed}"))
    names = ["base", "reward", "eval_split", "seed", "out", "threads", "device"]
    flags = {name: getattr(run, name) for name in names if getattr(run, name) is not None}
    with redirect_stdout(io.StringIO()):  # its last line has seconds: no two would be alike
        rlvr.train(run, shlex.join(["python", "rlvr.py", "train", *write_flags(flags)]))
    return json.loads((out / f"seed{seed}" / "summary.json").read_text())


def summarize(path: Path, modes: tuple[str, ...], ways: list[dict], runs: list[dict]) -> dict:
    """What probe.json says."""
    gains = [run["gain"]["total"] for run in runs]
    shown = ["accuracy", *(f"{mode}_share" for mode in modes)]
    untrained = {row["way"]: {"accuracy": row["accuracy"], "code_share": row["code_share"]}
                 for row in ways}
    return {"checkpoint": str(path), "latent": judge(gains), "gain": mean(gains),
            "interval": list(interval(gains)), "seeds": [run["seed"] for run in runs],
            "gains": gains, "accuracies": [run["after"]["accuracy"] for run in runs],
            "before": runs[0]["before"],
            "after": {key: mean(run["after"][key] for run in runs) for key in shown},
            "untrained": untrained}


def show_moves(before: dict, after: dict, modes: tuple[str, ...]) -> str:
    """'accuracy 0.706 -> 0.920, code 0.65 -> 0.94, text 0.35 -> 0.06'."""
    moves = [f"accuracy {before['accuracy']:.3f} -> {after['accuracy']:.3f}"]
    for mode in modes:
        moves.append(f"{mode} {before[f'{mode}_share']:.2f} -> {after[f'{mode}_share']:.2f}")
    return ", ".join(moves)


def show_verdict(result: dict, modes: tuple[str, ...]) -> str:
    """The last lines of the report."""
    gains, latent = result["gains"], result["latent"]
    lines = [f"mean:   {show_moves(result['before'], result['after'], modes)}",
             f"gain {100 * mean(gains):+.1f} points, nominal 95% interval {show_interval(gains)}, "
             f"{len(gains)} seeds", f"latent: {latent}"]
    plain = result["untrained"]["T = 1"]
    rare = "forced code" if plain["code_share"] < 0.5 else "forced words"
    forced = result["untrained"].get(rare, plain)
    lift = forced["accuracy"] - plain["accuracy"]
    if latent != "yes" and lift > MARGIN:
        lines.append(f"though {rare} is right {100 * lift:.0f} points more often: a skill that is "
                     "there, but not the habit")
    return "\n".join(lines)


def probe(checkpoint: str, seeds: int = 5, seed: int = 1, out: str | None = None,
          threads: int | None = None, device: str = "auto") -> dict:
    """Print how a checkpoint answers as it is, what the coin flip makes of it, and the verdict.

    Writes `out`/probe.json, and returns what it says. What is there already is not run again.
    """
    path = locate_base(checkpoint)
    config = rlvr.TrainConfig(base=str(path), reward="random", eval_split="probe", threads=threads,
                              device=device)
    model, saved = load_checkpoint(path, choose_device(config))
    corpus, folder = CORPORA[saved["corpus"]], Path(out or path.with_name(path.stem + "-probe"))
    claim_folder(path, folder)
    problems = draw_evaluation(config.eval_problems, config.eval_split, config.eval_num_ops,
                               digits=corpus.digits)
    ways = elicit(model, corpus, problems, (EVALUATION, 0))
    print(show_ways(ways), end="\n\nrandom reward\n", flush=True)
    runs = []
    for i in range(seed, seed + seeds):
        run = flip_coins(config, i, folder)
        print(f"seed {i}: {show_moves(run['before'], run['after'], corpus.modes)}", flush=True)
        runs.append(run)
    result = summarize(path, corpus.modes, ways, runs)
    write(folder / "probe.json", to_json(result))
    print(show_verdict(result, corpus.modes))
    return result


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m lessons.probe", description=__doc__.splitlines()[0],
                    allow_abbrev=False)
    parser.add_argument("checkpoint", help="a base's name, or a .pt file of pretrain or train")
    parser.add_argument("--seeds", type=number(int, least=3, most=len(T95)), default=5,
                        help="runs of the random reward (default 5)")
    parser.add_argument("--seed", type=number(int, least=0, most=MAX_SEED - len(T95)), default=1,
                        help="seed of the first (default 1)")
    parser.add_argument("--out", help="of runs and probe.json (default: CHECKPOINT-probe)")
    parser.add_argument("--threads", help="CPU threads (default: all)",
                        type=number(int, least=1, most=THREADS.metadata["most"]))
    parser.add_argument("--device", choices=DEVICE.metadata["choices"], default="auto",
                        help="auto takes a GPU if there is one")
    args = parser.parse_args(arguments)
    return run_command(parser.prog, lambda: probe(**vars(args)))

