"""Is it latent in MY model?

On 29 bases that it had not seen, the probe's five seeds of a coin flip give 20 clear verdicts;
eight other seeds say the same on 16, and are `unclear` on 4. About 2 hours on 2 cores.
"""

import json
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from data.plumbing import InputError
from lessons.grid import base_grid, grid
from lessons.probe.probe import (
    MARGIN,
    T95,
    VERDICTS,
    claim_folder,
    interval,
    judge,
    show_interval,
)
from lessons.report import BLUE, GREY, RED, Results, align, group_runs
from model import locate_base

PRIORS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
KNOWN = ["good-code", "no-code", "bad-code"]  # known when the rule was made: not counted
BASES = (base_grid(base=["good-code"], code_prior=PRIORS)
         | base_grid(base=["good-code"], code_prior=PRIORS, text_openers=[1])
         | base_grid(base=KNOWN)
         | base_grid(base=KNOWN, seed=[3])
         | base_grid(base=["good-code"], seed=[3], code_prior=[0.4])
         | base_grid(base=["bad-code"], code_prior=[0.35])
         | base_grid(base=["bad-code"], code_prior=[0.35], text_openers=[1])
         | base_grid(base=["good-code"], steps=[100, 200, 400])
         | base_grid(base=["no-code"], steps=[300])
         | base_grid(base=["bad-code"], steps=[400]))
SEEDS, FIRST_SEED = 5, 101  # of the probe; no lesson uses these seeds


def runs(seeds: int = 8, quick: bool = False) -> list[dict]:
    """The other seeds: what the probe is compared with."""
    if not 2 <= seeds <= len(T95):
        raise InputError(f"--seeds {seeds}: the interval needs 2 to {len(T95)}")
    if quick:
        return grid(base=KNOWN[:2], reward="random", seed=range(1, 4))
    return grid(base=list(BASES), reward="random", seed=range(1, seeds + 1))


def evidence_commands(runs: list[dict]) -> list[tuple[str, Path, str]]:
    """The probe of each base: its command, the file that it makes, and the base."""
    commands = []
    for base, in group_runs(runs, "base"):
        folder = Path("runs", base, "probe")
        command = (f"python -m lessons.probe {base} --seeds {SEEDS} --seed {FIRST_SEED} "
                   f"--threads 1 --out {folder}")
        commands.append((command, folder / "probe.json", base))
    return commands


def measure(runs: list[dict]) -> list[dict]:
    """Rows (base, way, accuracy, code_share, gain, before): ways, then the probe's coin flips."""
    rows = []
    for _, path, base in evidence_commands(runs):
        claim_folder(locate_base(base), path.parent)  # refuses that of another checkpoint
        result = json.loads(path.read_text())
        for way, numbers in result["untrained"].items():
            rows.append({"base": base, "way": way, **numbers})
        before = result["before"]["accuracy"]
        for seed, after, gain in zip(result["seeds"], result["accuracies"], result["gains"]):
            rows.append({"base": base, "way": f"coin, seed {seed}", "accuracy": after,
                         "gain": gain, "before": before})
    return rows


class Case(NamedTuple):
    """A base: what it does untrained, the probe's gains and those of the other seeds, 0 to 1."""

    base: str
    ways: dict[str, float]
    probed: list[float]
    others: list[float]

    @property
    def verdicts(self) -> tuple[str, str]:
        """The probe's ('' if there was none) and the other seeds'."""
        return judge(self.probed) if self.probed else "", judge(self.others)

    @property
    def holds(self) -> bool:
        """Whether the probe's interval holds the mean of the other seeds."""
        low, high = interval(self.probed)
        return low < mean(self.others) < high


def list_cases(results: Results) -> list[Case]:
    cases = []
    for (base,), cell in group_runs(results.runs, "base").items():
        rows = [row for row in results.evidence if row["base"] == base]
        coins = [row["gain"] for row in rows if row["way"].startswith("coin")]
        ways = {row["way"]: row["accuracy"] for row in rows}
        cases.append(Case(base, ways, coins, [run["gain_total"] for run in cell]))
    return cases


def tabulate_bases(cases: list[Case]) -> str:
    """Accuracy untrained; intervals and verdicts of the probe and of the other seeds."""
    first = cases[0]
    lines = [["base", "T = 1", "greedy", "forced", f"probe, {len(first.probed)} seeds", "verdict",
              f"{len(first.others)} others", "verdict"]]
    for case in cases:
        ways = [f"{case.ways[way]:.2f}" if way in case.ways else ""
                for way in ("T = 1", "greedy", "forced code")]
        probed = show_interval(case.probed) if case.probed else ""
        ours, theirs = case.verdicts
        name = case.base + (" *" if case.base in KNOWN else "")
        lines.append([name, *ways, probed, ours, show_interval(case.others), theirs])
    return align(lines)


def tabulate_agreement(cases: list[Case]) -> str:
    """The confusion table of bases that were not known, and how often the interval held."""
    lines = [["probe \\ others", *VERDICTS]]
    for ours in VERDICTS:
        counts = [sum(case.verdicts == (ours, theirs) for case in cases) for theirs in VERDICTS]
        lines.append([ours, *map(str, counts)])
    held = sum(case.holds for case in cases)
    return (f"{align(lines)}\n\nthe probe's interval holds the mean of the others on {held} of "
            f"{len(cases)} bases")


def table(results: Results) -> str:
    """A row for each base; then how often the verdicts agree."""
    cases = list_cases(results)
    new = [case for case in cases if case.base not in KNOWN and case.probed]
    text = tabulate_bases(cases) + "\n* known before the rule was made: not counted below"
    return f"{text}\n\n{tabulate_agreement(new)}" if new else text


COLORS = {"yes": BLUE, "no": "black", "harmful": RED, "unclear": GREY, "": GREY}
WORDS_AT = 1.02, 1.15  # where the verdicts stand, in widths of the axis


def draw_case(axis, y: int, case: Case) -> None:
    """A dot for each other seed; the probe's mean and interval below them; both verdicts."""
    ours, theirs = case.verdicts
    dots = [100 * gain for gain in case.others]
    axis.plot(dots, [y - 0.17] * len(dots), "o", color=COLORS[theirs], markersize=4.5, alpha=0.6,
              markeredgewidth=0)
    if case.probed:
        bounds = [100 * bound for bound in interval(case.probed)]
        axis.plot(bounds, [y + 0.2] * 2, color=COLORS[ours], linewidth=2.5)
        axis.plot(100 * mean(case.probed), y + 0.2, "|", color=COLORS[ours], markersize=8,
                  markeredgewidth=2.5)
    weight = "bold" if ours and ours != theirs else "normal"
    if weight == "bold":
        axis.axhspan(y - 0.5, y + 0.5, color="#F9F3A8", linewidth=0)
    for x, verdict in zip(WORDS_AT, (ours, theirs)):
        axis.text(x, y, verdict, color=COLORS[verdict], weight=weight, va="center", fontsize=9,
                  transform=axis.get_yaxis_transform())


def title_figure(cases: list[Case]) -> str:
    """How many of the verdicts on new bases agree."""
    pairs = [case.verdicts for case in cases if case.base not in KNOWN and case.probed]
    agree = sum(ours == theirs for ours, theirs in pairs)
    if not pairs:
        return "the random reward's gain and verdict"
    return (f"The probe and other seeds agree on {agree} of {len(pairs)} new bases "
            f"(yellow: {len(pairs) - agree} do not)")


def figure(results: Results):
    """A row for each base, sorted by verdict and gain."""
    import matplotlib.pyplot as plt

    cases = list_cases(results)
    cases.sort(key=lambda case: (VERDICTS.index(case.verdicts[0] or case.verdicts[1]),
                                 -mean(case.probed or case.others)))
    canvas, axis = plt.subplots(figsize=(8, 1.2 + 0.235 * len(cases)), layout="constrained")
    axis.axvspan(-100 * MARGIN, 100 * MARGIN, color="0.87", linewidth=0)
    axis.axvline(0, color="black", linewidth=0.8)
    for y, case in enumerate(cases):
        draw_case(axis, y, case)
    names = [case.base + (" *" if case.base in KNOWN else "") for case in cases]
    axis.set_yticks(range(len(cases)), names, fontsize=9)
    axis.set_ylim(len(cases) - 0.4, -0.6)
    for x, head in zip(WORDS_AT, ("probe", "others")):
        axis.text(x, -1.1, head, weight="bold", va="center", fontsize=9,
                  transform=axis.get_yaxis_transform())
    axis.set_title("bar: the probe's mean and interval; dots: other seeds; *: not counted",
                   fontsize=9, color=GREY)
    axis.set_xlabel("gain under the random reward (points of accuracy); grey band: within 3")
    canvas.suptitle(title_figure(cases), fontsize=11)
    return canvas
