"""Is the skill latent in my own model?

On 13 bases that the rule had not seen the probe's seeds of a coin flip give 9 clear verdicts; 16
other seeds say the same on 8, and are `unclear` on 1. About 75 minutes on 2 cores.
"""

import json
from pathlib import Path
from statistics import StatisticsError, correlation, mean
from textwrap import fill
from typing import NamedTuple

from lessons.grid import base_grid, grid
from lessons.probe.probe import (
    LOOKS,
    MARGIN,
    VERDICTS,
    chance,
    claim_folder,
    classify_gain,
    count_outcomes,
    judge,
)
from lessons.report import (
    BLUE,
    GREY,
    RED,
    Results,
    align,
    group_runs,
    open_canvas,
    show_range,
    title_tables,
)
from lessons.summary import Summary
from model import locate_base
from plumbing.files import read_text
from plumbing.messages import InputError

KNOWN = ["good-code", "no-code", "bad-code"]  # known when the rule was made: not counted
BASES = (base_grid(base=["good-code"], code_prior=[0.1, 0.3, 0.4, 0.6])
         | base_grid(base=["good-code"], code_prior=[0.2, 0.5, 0.6, 0.8], text_openers=[1])
         | base_grid(base=KNOWN)
         | base_grid(base=KNOWN, seed=[3])
         | base_grid(base=["bad-code"], code_prior=[0.35])
         | base_grid(base=["good-code"], steps=[200]))
# Near the switch. `not_random` pays 1 - r, where `random` with the same seed pays r.
MIRRORED = ["good-code-prior0.4", "good-code-prior0.5-openers1", "good-code-prior0.6-openers1"]
FIRST_SEED = 101  # of the probe; no lesson uses its seeds


def runs(seeds: int = 16, quick: bool = False) -> list[dict]:
    """The other seeds: what the probe is compared with. Then the mirrored coins.

    Quick: five seeds of two bases, the least that has a verdict, and no mirrored coins.
    """
    if not LOOKS[0] <= seeds < FIRST_SEED:
        raise InputError(f"--seeds {seeds}: take {LOOKS[0]} to {FIRST_SEED - 1}; fewer have no "
                         "verdict, and more are the probe's own")
    if quick:
        return grid(base=KNOWN[:2], reward="random", seed=range(1, LOOKS[0] + 1))
    others = range(1, seeds + 1)
    return (grid(base=list(BASES), reward="random", seed=others)
            + grid(base=MIRRORED, reward="not_random", seed=others))


def evidence_commands(runs: list[dict]) -> list[tuple[str, Path, str]]:
    """The probe of each base: its command, the file that it makes, and the base."""
    commands = []
    for base, in group_runs(runs, "base"):
        folder = Path("runs", base, "probe")
        command = (f"python -m lessons.probe {base} --seed {FIRST_SEED} --threads 1 "
                   f"--out {folder.as_posix()}")
        commands.append((command, folder / "probe.json", base))
    return commands


def measure(runs: list[dict]) -> list[dict]:
    """Rows (base, way, accuracy, code_share, gain, before): ways, then the probe's coin flips."""
    rows = []
    for _, path, base in evidence_commands(runs):
        claim_folder(locate_base(base), path.parent)  # refuses that of another checkpoint
        result = json.loads(read_text(path))
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
    def name(self) -> str:
        return self.base + (" *" if self.base in KNOWN else "")

    @property
    def verdicts(self) -> tuple[str, str]:
        """The probe's ('' if there was none) and the other seeds'."""
        return judge(self.probed) if self.probed else "", judge(self.others)

    @property
    def holds(self) -> bool:
        """Whether the probe's interval for a lift's chance holds the other seeds' share of them."""
        low, high = bound_lift(self.probed)
        return low <= share_lifts(self.others) <= high


def share_lifts(gains: list[float]) -> float:
    return count_outcomes(gains)["lift"] / len(gains)


def bound_lift(gains: list[float]) -> tuple[float, float]:
    """The exact interval of the chance of a lift."""
    return chance(count_outcomes(gains)["lift"], len(gains))


def list_cases(results: Results) -> list[Case]:
    cases = []
    coins = [run for run in results.runs if run["reward"] == "random"]
    for (base,), cell in group_runs(coins, "base").items():
        rows = [row for row in results.evidence if row["base"] == base]
        probed = [row["gain"] for row in rows if row["way"].startswith("coin")]
        ways = {row["way"]: row["accuracy"] for row in rows}
        cases.append(Case(base, ways, probed, [run["gain_total"] for run in cell]))
    return cases


def show_counts(gains: list[float]) -> str:
    """'5/0/0 yes': lifts, flat, falls, and the verdict."""
    return "/".join(map(str, count_outcomes(gains).values())) + " " + judge(gains)


def tabulate_bases(cases: list[Case]) -> str:
    """Accuracy untrained; outcomes of the probe and of the other seeds; their chance of a lift."""
    lines = [["base", "T = 1", "greedy", "forced", "probe", "others", "chance of a lift"]]
    for case in cases:
        ways = [f"{case.ways[way]:.2f}" if way in case.ways else ""
                for way in ("T = 1", "greedy", "forced code")]
        low, high = bound_lift(case.others)
        lines.append([case.name, *ways, show_counts(case.probed) if case.probed else "",
                      show_counts(case.others),
                      f"{share_lifts(case.others):.2f} ({low:.2f}-{high:.2f})"])
    return align(lines)


def tabulate_agreement(cases: list[Case]) -> str:
    """The confusion table of bases that were not known, and how often the interval held."""
    lines = [["probe \\ others", *VERDICTS]]
    for ours in VERDICTS:
        counts = [sum(case.verdicts == (ours, theirs) for case in cases) for theirs in VERDICTS]
        lines.append([ours, *map(str, counts)])
    held, seeds = sum(case.holds for case in cases), sum(len(case.probed) for case in cases)
    return (f"{align(lines)}\nthe probe's interval for the chance of a lift holds the share of "
            f"lifts\namong the other seeds on {held} of {len(cases)} bases; "
            f"the {len(cases)} probes took {seeds} seeds")


def pair_coins(results: Results) -> dict[str, list[tuple[float, float]]]:
    """{base: gains under r and under 1 - r, of each seed that has both}."""
    gains = {(run["base"], run["reward"], run["seed"]): run["gain_total"] for run in results.runs}
    pairs = {}
    for (base, reward, seed), mirrored in gains.items():
        if reward == "not_random" and (base, "random", seed) in gains:
            pairs.setdefault(base, []).append((gains[base, "random", seed], mirrored))
    return pairs


def correlate(pairs: list[tuple[float, float]]) -> float | None:
    """Pearson's correlation; None where one side never changes."""
    try:
        return correlation(*zip(*pairs))
    except StatisticsError:
        return None


def tabulate_mirrored(paired: dict[str, list[tuple[float, float]]]) -> str:
    """How alike a coin and its mirror end.

    The variance is that of the share of lifts in a pair, in units of two independent seeds': below
    1, a pair says more than two seeds do.
    """
    lines = [["base, r and 1 - r", "seeds", "correlation of gains", "same outcome",
              "variance of a pair"]]
    for base, pairs in paired.items():
        outcomes = [tuple(map(classify_gain, pair)) for pair in pairs]
        lifts = [(float(ours == "lift"), float(theirs == "lift")) for ours, theirs in outcomes]
        alike, same = correlate(pairs), correlate(lifts)
        lines.append([base, str(len(pairs)), "-" if alike is None else f"{alike:+.2f}",
                      f"{sum(ours == theirs for ours, theirs in outcomes)} of {len(pairs)}",
                      "-" if same is None else f"{1 + same:.2f}"])
    return align(lines)


def table(results: Results) -> str:
    """A row for each base; how often the verdicts agree; what mirrored coins do."""
    cases, paired = list_cases(results), pair_coins(results)
    new = [case for case in cases if case.base not in KNOWN and case.probed]
    note = ("lifts/flat/falls and the verdict; *: known before the rule was made, not counted "
            "below")
    return "\n\n".join(title_tables({
        "Accuracy untrained, verdicts of the probe and of other seeds, and their chance of a lift":
            f"{tabulate_bases(cases)}\n{note}",
        "On how many new bases the probe says one verdict and the other seeds another":
            tabulate_agreement(new) if new else "",
        "The coin and its mirror: how alike the two runs of a seed end":
            tabulate_mirrored(paired)}))


# --- the page

def list_new(results: Results) -> list[Case]:
    """The cases that the rule had not seen, and that were probed."""
    return [case for case in list_cases(results) if case.base not in KNOWN and case.probed]


def find_best_opener(case: Case) -> float:
    """Accuracy if the better of two openers is put into its mouth: what is there, habit or not."""
    return max(case.ways[way] for way in ("forced code", "forced words") if way in case.ways)


def summary(results: Results) -> Summary:
    """By verdict: what other seeds say, how many of them lift, and what is there untrained."""
    new = list_new(results)
    if not new:
        return summarize_few(list_cases(results))
    rows = [["the probe says", "bases", "others agree", "others that lift", "sampled", "greedy",
             "opener forced"]]
    for verdict in VERDICTS:
        cases = [case for case in new if case.verdicts[0] == verdict]
        if cases:
            numbers = ([share_lifts(case.others) for case in cases],
                       [case.ways["T = 1"] for case in cases],
                       [case.ways["greedy"] for case in cases], list(map(find_best_opener, cases)))
            agree = sum(case.verdicts[1] == verdict for case in cases)
            rows.append([verdict, str(len(cases)), f"{agree} of {len(cases)}",
                         *map(show_range, numbers)])
    return Summary("Bases by the probe's verdict: 16 other seeds, and accuracy before any training",
                   rows, say_agreement(new))


def say_agreement(new: list[Case]) -> str:
    """On how many bases other seeds have the same verdict; then without those that are unclear."""
    pairs = [case.verdicts for case in new]
    clear = [pair for pair in pairs if "unclear" not in pair]
    agree, agree_clear = (sum(ours == theirs for ours, theirs in found) for found in (pairs, clear))
    return fill("Other seeds have the probe's verdict on {} of {} bases (exact 95% interval {:.0%} "
                "to {:.0%}). Where neither verdict is unclear they agree on {} of {}.".format(
                    agree, len(pairs), *chance(agree, len(pairs)), agree_clear, len(clear)), 96)


def summarize_few(cases: list[Case]) -> Summary:
    """Of --quick, which probes nothing: a row a base, with its seeds' own verdict."""
    rows = [["base", "lift", "flat", "fall", "verdict"]]
    for case in cases:
        counts = count_outcomes(case.others).values()
        rows.append([case.base, *map(str, counts), case.verdicts[1]])
    seeds = max((len(case.others) for case in cases), default=0)
    return Summary("What seeds of a coin flip do to each base, and the verdict", rows,
                   f"{seeds} seeds a base: a verdict says what most seeds do, not what all do.")


COLORS = {"yes": BLUE, "no": "black", "harmful": RED, "unclear": GREY, "": GREY}
WORDS_AT = 1.02, 1.15  # where the verdicts stand, in widths of the axis


def draw_case(axis, y: int, case: Case) -> None:
    """A dot for each other seed, a tick below for each of the probe's; both verdicts."""
    ours, theirs = case.verdicts
    dots, ticks = ([100 * gain for gain in gains] for gains in (case.others, case.probed))
    axis.plot(dots, [y - 0.17] * len(dots), "o", color=COLORS[theirs], markersize=4.5, alpha=0.6,
              markeredgewidth=0)
    axis.plot(ticks, [y + 0.22] * len(ticks), "|", color=COLORS[ours], markersize=7,
              markeredgewidth=1.6)
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
    """By verdict, a dot a base: the share of other seeds that lift it."""
    new = list_new(results)
    if not new:
        return record_figure(results)
    canvas, axis = open_canvas(figsize=(8, 3.4))
    for x, verdict in enumerate(VERDICTS):
        cases = [case for case in new if case.verdicts[0] == verdict]
        cases.sort(key=lambda case: share_lifts(case.others))
        for i, case in enumerate(cases):
            at = x + 0.14 * (i - (len(cases) - 1) / 2)
            agrees = case.verdicts[1] == verdict
            axis.plot([at], [share_lifts(case.others)], "o", color=COLORS[verdict], markersize=9,
                      markerfacecolor=COLORS[verdict] if agrees else "none", markeredgewidth=1.6)
    names = [f"{verdict}\n{sum(case.verdicts[0] == verdict for case in new)} bases"
             for verdict in VERDICTS]
    axis.set_xticks(range(len(VERDICTS)), names)
    axis.set(ylim=(-0.06, 1.08), xlim=(-0.5, len(VERDICTS) - 0.5),
             ylabel="share of 16 other seeds that lift")
    axis.text(0.98, 0.55, "a dot: a base\nhollow: other seeds\nhave another verdict", fontsize=9,
              color=GREY, ha="center", va="center")
    axis.set_xlabel("what the probe says, from five or nine seeds of its own")
    canvas.suptitle("Where the probe says yes, most other seeds lift; where no or harmful, hardly "
                    "any")
    return canvas


def record_figure(results: Results):
    """A row for each base, sorted by verdict and gain."""
    cases = list_cases(results)
    cases.sort(key=lambda case: (VERDICTS.index(case.verdicts[0] or case.verdicts[1]),
                                 -mean(case.probed or case.others)))
    canvas, axis = open_canvas(figsize=(8, 1.2 + 0.235 * len(cases)))
    axis.axvspan(-100 * MARGIN, 100 * MARGIN, color="0.87", linewidth=0)
    axis.axvline(0, color="black", linewidth=0.8)
    for y, case in enumerate(cases):
        draw_case(axis, y, case)
    axis.set_yticks(range(len(cases)), [case.name for case in cases], fontsize=9)
    axis.set_ylim(len(cases) - 0.4, -0.6)
    for x, head in zip(WORDS_AT, ("probe", "others")):
        axis.text(x, -1.1, head, weight="bold", va="center", fontsize=9,
                  transform=axis.get_yaxis_transform())
    axis.set_title("ticks: the probe's seeds; dots: other seeds; *: not counted",
                   fontsize=9, color=GREY)
    axis.set_xlabel("gain under the random reward (points of accuracy); grey band: within 3")
    canvas.suptitle(title_figure(cases), fontsize=11)
    return canvas
