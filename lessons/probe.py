"""Is a skill latent in a checkpoint? `python rlvr.py probe CHECKPOINT` asks a reward that knows nothing. Here: how, and how well it works.

    python rlvr.py probe runs/bases/good-code.pt      # a minute or two
    python -m lessons.probe [FOLDER]                  # its verdicts beside other seeds: the confusion table, from what ./train.sh probe left

A gain under a random reward can only come from what the checkpoint does already: a skill is *latent* if such a reward brings it out. The
verdict is read off the 95% interval of that gain over RL seeds. The first of these that holds:

    latent: no        all of it lies within 3 points of 0
    latent: yes       it lies above 0
    latent: harmful   it lies below 0: the habit that is amplified is worse than the rest
    latent: unclear   the seeds disagree

The 95% are nominal: they speak of RL seeds (not of the sample of problems, the same for all) whose gains are about normal. Where chance decides which
habit wins they are not, and five seeds can agree by luck. Everything is measured on the probe split, which neither training nor other tables use.
"""

import hashlib
import json
import shlex
from pathlib import Path
from statistics import mean, stdev

import rlvr
from data.corpus import BASES
from data.files import check_writable, to_json, write
from data.options import lesson
from data.task import InputError
from lessons.elicit import ways

MARGIN = 0.03  # below this a gain is of no interest
VERDICTS = ("yes", "no", "harmful", "unclear")
T95 = (None, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # Student's t, 97.5% quantile, by degrees of freedom


def interval(values: list[float]) -> tuple[float, float]:
    """The 95% confidence interval of the mean of 2 to 10 independent values (Student's t).

    >>> [round(bound, 2) for bound in interval([0.1, 0.2, 0.3])]
    [-0.05, 0.45]
    """
    half = T95[len(values) - 1] * stdev(values) / len(values) ** 0.5
    return mean(values) - half, mean(values) + half


def verdict(gains: list[float]) -> str:
    """One of VERDICTS, from the gains in accuracy of several seeds under a random reward."""
    low, high = interval(gains)
    return "no" if -MARGIN < low and high < MARGIN else "yes" if low > 0 else "harmful" if high < 0 else "unclear"


def points(low: float, high: float) -> str:
    return f"{100 * low:+.1f} to {100 * high:+.1f}"


def probe(checkpoint: str, seeds: int, seed: int, out: str | None, threads: int | None, device: str) -> None:
    """Print how a checkpoint answers as it is, what `seeds` runs of a random reward make of it, and the verdict; write `out`/probe.json."""
    config = rlvr.TrainConfig(reward="random", eval_split="probe", threads=threads, device=device)
    path = rlvr.base_path(checkpoint)
    model, _ = rlvr.load(path, rlvr.start(config))
    out = Path(out or path.with_name(path.stem + "-probe"))
    check_writable(out)
    fingerprint = hashlib.sha256(path.read_bytes()).hexdigest()
    of = out / "checkpoint.txt"
    if of.exists() and of.read_text() != fingerprint:
        raise InputError(f"{out} is the probe of another checkpoint: choose another --out or delete it")
    write(of, fingerprint)

    problems = rlvr.evaluation_problems(config.eval_problems, config.eval_split, config.eval_num_ops)
    untrained = ways(model, problems, (rlvr.EVALUATION, 0))
    print(f"{'as it is':14s}  accuracy  code share")
    for way, (accuracy, share) in untrained.items():
        print(f"{way:14s}  {accuracy:.3f}     {'' if share is None else f'{share:.2f}'}".rstrip(), flush=True)
    runs = []
    for i in range(seed, seed + seeds):
        config.base, config.seed, config.out = str(path), i, str(out / f"seed{i}")
        flags = {"--base": config.base, "--reward": "random", "--eval-split": "probe", "--seed": str(i), "--out": config.out}
        rlvr.train(config, shlex.join(["python", "rlvr.py", "train", *(text for pair in flags.items() for text in pair)]))
        runs.append(json.loads((out / f"seed{i}" / "summary.json").read_text()))
    gains = [run["gain"]["total"] for run in runs]
    before, after = runs[0]["before"], {key: mean(run["after"][key] for run in runs) for key in ("accuracy", "code_share")}
    answer, (low, high) = verdict(gains), interval(gains)
    write(out / "probe.json", to_json({
        "checkpoint": str(path), "latent": answer, "gain": mean(gains), "interval": [low, high], "gains": gains,
        "before": before, "after": after, "untrained": {way: {"accuracy": a, "code_share": c} for way, (a, c) in untrained.items()}}))
    print(f"random reward: accuracy {before['accuracy']:.3f} -> {after['accuracy']:.3f}, code share {before['code_share']:.2f} -> "
          f"{after['code_share']:.2f}; gain {100 * mean(gains):+.1f} points, 95% interval {points(low, high)} over {seeds} seeds")
    print(f"latent: {answer}")
    rare = "forced code" if untrained["T = 1"][1] < 0.5 else "forced words"
    if answer != "yes" and (lift := untrained.get(rare, (0.0,))[0] - untrained["T = 1"][0]) > MARGIN:
        print(f"though {rare} is right {100 * lift:.0f} points more often: a skill that is there, but not the habit")


def main(folder: str) -> None:
    """For each base: the probe's verdict, and the one that the same rule gives to other seeds on other problems; then the confusion table.

    The three main bases were known when the rule was made, so the table does not count them. Seed k has the same coin flips on every base: the
    rows are not independent.
    """
    found = sorted(Path(folder).glob("*/probe/probe.json"))
    if not found:
        raise InputError(f"no */probe/probe.json in {folder}: ./train.sh probe makes them")
    counts = {(ours, truth): 0 for ours in VERDICTS for truth in VERDICTS}
    print(f"{'base':28s}  accuracy  greedy  forced code  probe: gain, 95% interval  verdict  other seeds              verdict")
    for path in found:
        name, result = path.parts[-3], json.loads(path.read_text())
        gains = [json.loads(run.read_text())["gain"]["total"] for run in sorted(path.parents[1].glob("random/seed*/summary.json"))]
        if not 2 <= len(gains) <= 10:
            raise InputError(f"{path.parents[1]} has {len(gains)} finished runs random/seed*, not 2 to 10: ./train.sh probe makes 8")
        truth = verdict(gains)
        before = [result["before"]["accuracy"], *(result["untrained"][way]["accuracy"] for way in ("greedy", "forced code"))]
        ours, others = (f"{100 * mean(values):+5.1f} ({points(*interval(values))})" for values in (result["gains"], gains))
        print(f"{name + (' *' if name in BASES else ''):28s}  {before[0]:<8.2f}  {before[1]:<6.2f}  {before[2]:<11.2f}  "
              f"{ours:26s}  {result['latent']:7s}  {others:23s}  {truth}")
        counts[result["latent"], truth] += name not in BASES
    print("* not counted below\n\nprobe \\ other seeds  " + "  ".join(f"{truth:7s}" for truth in VERDICTS).rstrip())
    for ours in VERDICTS:
        print(f"{ours:19s}  " + "  ".join(f"{counts[ours, truth]:<7d}" for truth in VERDICTS).rstrip())


if __name__ == "__main__":
    lesson("probe", __doc__, main, folder=dict(nargs="?", default="data/results/runs"))
