"""Is a skill latent in a checkpoint? Ask a reward that knows nothing: a minute or two.

    python -m lessons.probe good-code               # a base's name, or a checkpoint
    python -m lessons.probe runs/mine/model.pt --seed 10

A coin flip carries no information, so what it brings out was there: that is *latent*. An RL seed
has one of three outcomes, and the one that is claimed is the verdict:

    latent: yes       lift: a gain above 3 points
    latent: no        flat: within 3 points of 0
    latent: harmful   fall: below -3; the habit that is amplified is worse than the rest
    latent: unclear   none is claimed: the seeds disagree

An outcome is claimed if k of n seeds have it, and k of n or more heads of a fair coin are at most
5% likely: 5 of 5, 8 of 9, 12 of 16. Five seeds come first. If all agree but one, four more follow,
and the nine decide. If more differ, it is `unclear`: 7 of 9 would not do.

Counted over all sequences: an outcome that half of all seeds have is claimed by 4.1% of probes, one
that 80, 90 or 95% of them have by 50, 81 and 94%. The 95% interval of an outcome's chance holds it
in 96% of probes or more, whatever it is (simulate.py). All this speaks of seeds, not of the sample
of problems: that is the same for all of them, of the probe split, which neither training nor any
other lesson uses.
"""

import hashlib
import io
import json
import shlex
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from statistics import mean

import rlvr
from data.corpus import CORPORA
from evaluation import draw_evaluation
from lessons.chance import chance, tail
from lessons.elicit import elicit
from lessons.grid import write_flags
from lessons.report import align
from model import load_checkpoint, locate_base
from plumbing.commands import Parser, head_of, list_written, run_command, suggest
from plumbing.files import check_writable, read_text, to_json, write
from plumbing.flags import number
from plumbing.machine import DEVICE, THREADS, choose_device, keep_settings
from plumbing.messages import InputError
from plumbing.streams import EVALUATION, MAX_SEED

# The rule was fixed before any result.
MARGIN = 0.03    # a smaller gain is of no interest
LOOKS = (5, 9)   # numbers of seeds at which a verdict may be given
ERROR = 0.05     # how often one look may claim an outcome that half of all seeds have
OUTCOMES = {"lift": "yes", "flat": "no", "fall": "harmful"}  # of a seed: the verdict if claimed
VERDICTS = (*OUTCOMES.values(), "unclear")


def classify_gain(gain: float) -> str:
    """The outcome of a seed, from its gain in accuracy (0 to 1)."""
    gain = round(gain, 6)  # 0.72 - 0.69 is a little more than 0.03
    if gain > MARGIN:
        return "lift"
    return "fall" if gain < -MARGIN else "flat"


def count_outcomes(gains: list[float]) -> dict[str, int]:
    counts = Counter(map(classify_gain, gains))
    return {outcome: counts[outcome] for outcome in OUTCOMES}


def judge(gains: list[float]) -> str:
    """One of VERDICTS, from the gains in accuracy (0 to 1) of any number of seeds."""
    for outcome, count in count_outcomes(gains).items():
        if tail(count, len(gains)) <= ERROR:
            return OUTCOMES[outcome]
    return "unclear"


def wants_look(gains: list[float], look: int) -> bool:
    """Whether to go on to `look` seeds: nothing is claimed yet, and something still could be."""
    most = max(count_outcomes(gains).values()) + look - len(gains)
    return judge(gains) == "unclear" and tail(most, look) <= ERROR


def describe_outcomes(gains: list[float]) -> dict[str, dict]:
    """For each outcome its seeds, the interval of its chance, and its mean gain (None: no seed)."""
    described = {}
    for outcome, count in count_outcomes(gains).items():
        own = [gain for gain in gains if classify_gain(gain) == outcome]
        described[outcome] = {"seeds": count, "chance": list(chance(count, len(gains))),
                              "mean": mean(own) if own else None}
    return described


def show_outcomes(outcomes: dict[str, dict]) -> str:
    """A line for each that happened.

    'above +3 points on 5 of 5 seeds (chance 0.48 to 1.00), +26.8 in the mean'
    """
    points, total = f"{100 * MARGIN:.0f}", sum(row["seeds"] for row in outcomes.values())
    names = {"lift": f"above +{points} points", "flat": f"within {points} points",
             "fall": f"below -{points} points"}
    lines = []
    for outcome, row in outcomes.items():
        if row["seeds"]:
            low, high = row["chance"]
            lines.append(f"{names[outcome]} on {row['seeds']} of {total} seeds "
                         f"(chance {low:.2f} to {high:.2f}), {100 * row['mean']:+.1f} in the mean")
    return "\n".join(lines)


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
    if claim.exists() and read_text(claim) != fingerprint:
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
    return json.loads(read_text(out / f"seed{seed}" / "summary.json"))


def summarize(path: Path, modes: tuple[str, ...], ways: list[dict], runs: list[dict]) -> dict:
    """What probe.json says."""
    gains = [run["gain"]["total"] for run in runs]
    shown = ["accuracy", *(f"{mode}_share" for mode in modes)]
    untrained = {row["way"]: {"accuracy": row["accuracy"], "code_share": row["code_share"]}
                 for row in ways}
    return {"checkpoint": str(path), "latent": judge(gains), "gain": mean(gains),
            "outcomes": describe_outcomes(gains), "seeds": [run["seed"] for run in runs],
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
    latent = result["latent"]
    lines = [f"mean:   {show_moves(result['before'], result['after'], modes)}",
             show_outcomes(result["outcomes"]), f"latent: {latent}"]
    plain = result["untrained"]["T = 1"]
    rare = "forced code" if plain["code_share"] < 0.5 else "forced words"
    forced = result["untrained"].get(rare, plain)
    lift = forced["accuracy"] - plain["accuracy"]
    if latent != "yes" and lift > MARGIN:
        lines.append(f"though {rare} is right {100 * lift:.0f} points more often: a skill that is "
                     "there, but not the habit")
    return "\n".join(lines)


def flip_until_clear(config: rlvr.TrainConfig, first: int, out: Path,
                     modes: tuple[str, ...]) -> list[dict]:
    """The summaries of as many seeds as the rule asks for, the first being `first`; prints each."""
    runs = []
    for look in LOOKS:
        if not wants_look([run["gain"]["total"] for run in runs], look):
            break
        for seed in range(first + len(runs), first + look):
            run = flip_coins(config, seed, out)
            print(f"seed {seed}: {show_moves(run['before'], run['after'], modes)}", flush=True)
            runs.append(run)
    return runs


@keep_settings()
def probe(checkpoint: str, seed: int = 1, out: str | None = None, threads: int | None = None,
          device: str = "auto") -> dict:
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
    runs = flip_until_clear(config, seed, folder, corpus.modes)
    result = summarize(path, corpus.modes, ways, runs)
    write(folder / "probe.json", to_json(result))
    print(show_verdict(result, corpus.modes))
    list_written(folder / "probe.json")
    suggest(f"python -m lessons.report --html {shlex.quote(folder.as_posix())}")
    return result


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m lessons.probe", description=head_of(__doc__),
                    allow_abbrev=False)
    parser.add_argument("checkpoint", help="a base's name, or a .pt file of pretrain or train")
    parser.add_argument("--seed", type=number(int, least=0, most=MAX_SEED + 1 - LOOKS[-1]),
                        default=1, help="seed of the first run (default 1)")
    parser.add_argument("--out", help="of runs and probe.json (default: CHECKPOINT-probe)")
    parser.add_argument("--threads", help="CPU threads (default: all)",
                        type=number(int, least=1, most=THREADS.metadata["flag"].most))
    parser.add_argument("--device", choices=DEVICE.metadata["flag"].choices, default="auto",
                        help="auto takes a GPU if there is one")
    args = parser.parse_args(arguments)
    return run_command(parser.prog, lambda: probe(**vars(args)), resumes=True)

