"""How much of a habit does it take?

The share of code sets the odds, and chance decides a run: against one rival 1 of 5 runs end in code
at 40%, 7 of 15 at 50%, 12 of 15 at 60%, 5 of 5 at 70%. With four times the rollouts or three times
the batches that is not significantly steeper, which rules out only a sudden switch. What a base
gains at its best step size depends on its pretraining more than on the reward, but mostly because
the youngest base gains hardly anything on new problems. About 140 minutes on 2 cores.
"""

from math import sqrt
from statistics import mean, stdev

import numpy as np

from data.corpus import OPENERS
from lessons.bandit import EPS, first_arm
from lessons.grid import base_grid, grid
from lessons.prior import heat, phase, volumes
from lessons.report import (
    BLUE,
    GREY,
    RED,
    Results,
    add_bounds,
    align,
    gains,
    group_runs,
    is_split,
    open_canvas,
    show_change,
    show_seeds,
    title_tables,
)
from lessons.summary import Summary
from rlvr import make_config

# Shares of code in the corpus: from where text should win to where code should, in either kind.
# Near the switch of each there are three bases, by their seed.
HABITS = (base_grid(base=["good-code"], code_prior=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
          | base_grid(base=["good-code"], code_prior=[0.2, 0.4, 0.5, 0.6, 0.7, 0.8],
                      text_openers=[1])
          | base_grid(base=["good-code"], code_prior=[0.3, 0.4], seed=[1, 2])
          | base_grid(base=["good-code"], code_prior=[0.5, 0.6], text_openers=[1], seed=[1, 2]))
BASES = HABITS | volumes.BASES | phase.BASES | heat.BASES
QUICK = ["good-code-prior0.2", "good-code-prior0.6",
         "good-code-prior0.2-openers1", "good-code-prior0.8-openers1"]

# What the bandit gets beside its arms: eps, batches, samples, updates.
RL = make_config()
BANDITS = {"bandit": (EPS,),
           "as RL": (RL.flags["eps_high"], RL.steps, RL.prompts * RL.group, RL.updates)}

Cells = dict[tuple[int, float], list[dict]]  # rows by (openers of the text, prior)


def runs(seeds: int = 5, quick: bool = False) -> list[dict]:
    if quick:
        return grid(base=QUICK, reward="random", seed=[1])
    return (grid(base=list(HABITS), reward="random", seed=range(1, seeds + 1))
            + volumes.runs(seeds) + phase.runs(seeds) + heat.runs(seeds))


def follows(run: dict) -> bool:
    """Whether the curve of a run is stored: not of those that only end in code or in text."""
    return "prompts" not in run


def keeps(run: dict) -> tuple[str, ...] | None:
    """The columns of its curve that are stored: of the runs of the heat map what they gain."""
    return ("accuracy",) if run.get("steps") == max(heat.VOLUMES) else None


def list_arms(openers: int, prior: float) -> tuple[float, ...]:
    """An arm for code, one for each opener of the text."""
    return prior, *[(1 - prior) / openers] * openers


def predict_share(openers: int, prior: float, *settings: float) -> float:
    """The bandit's mean final share of code."""
    return first_arm(list_arms(openers, prior), *settings)[-1].mean().item()


def predict_odds(openers: int, prior: float) -> float:
    """How many of the bandit's seeds end with more code than text, beside the runs that do."""
    return (phase.predict_shares(list_arms(openers, prior), {}) > 0.5).mean().item()


def describe_base(base: str) -> tuple[int, float]:
    """(openers of its text, share of code in its corpus)."""
    return HABITS[base].get("text_openers", OPENERS), HABITS[base]["code_prior"]


def measure(runs: list[dict]) -> list[dict]:
    """What both bandits predict for each share and kind of text, and of a phase transition."""
    asked = {}
    for run in runs:
        if run["base"] in HABITS:
            asked.setdefault(describe_base(run["base"]), run["base"])
    return [{"base": base, **{name: predict_share(*key, *settings)
                              for name, settings in BANDITS.items()},
             "p_code": predict_odds(*key)} for key, base in asked.items()] + phase.measure(runs)


def group_cells(rows: list[dict]) -> Cells:
    """The rows of all bases with one share and kind of text, of runs with no flag or of evidence.

    Bases of another kind are left out.
    """
    cells = {}
    for (base,), cell in group_runs([row for row in rows if not row.get("flags")
                                     and not row.get("setting")], "base").items():
        if base in HABITS:
            cells.setdefault(describe_base(base), []).extend(cell)
    return cells


def average_share(cell: list[dict], when: str) -> float:
    return mean(run[f"{when}_code_share"] for run in cell)


def predict_all(cells: Cells, predicted: Cells) -> dict[str, dict[tuple[int, float], float]]:
    """{prediction: {cell: mean final share of code}}: the bandits', and two simpler rules."""
    rivals = {(openers, prior): (1 - prior) / openers for openers, prior in cells}
    rules = {name: {key: predicted[key][0][name] for key in cells if key in predicted}
             for name in BANDITS}
    rules["no change"] = {key: average_share(cell, "before") for key, cell in cells.items()}
    rules["largest wins"] = {key: (1 + np.sign(key[1] - rival)) / 2
                             for key, rival in rivals.items()}
    return rules


def tabulate_shares(cells: Cells, rules: dict) -> str:
    """The share of code before and after, how many runs end in code, and what the bandits say.

    `missed by`: how far the mean of the runs is from `bandit`, in standard errors of that mean.
    """
    lines = [["openers", "prior", "bases", "code share", "above 1/2", *BANDITS, "missed by"]]
    for key, cell in cells.items():
        after = [run["after_code_share"] for run in cell]
        known = key in rules["bandit"]
        lines.append([*map(str, key), str(len({run["base"] for run in cell})),
                      f"{average_share(cell, 'before'):.2f} -> {mean(after):.2f}",
                      count_above(cell),
                      *(f"{rules[name][key]:.2f}" if known else "" for name in BANDITS),
                      f"{measure_miss(cell, rules['bandit'][key]):+.1f}" if known else ""])
    return align(lines)


def count_above(cell: list[dict]) -> str:
    """'7 of 15 (3 + 1 + 3)': how many runs end in more code than text, and on which base."""
    counts = [sum(run["after_code_share"] > 0.5 for run in of_base)
              for of_base in group_runs(cell, "base").values()]
    parts = f" ({' + '.join(map(str, counts))})" if len(counts) > 1 else ""
    return f"{sum(counts)} of {len(cell)}{parts}"


def measure_miss(cell: list[dict], share: float) -> float:
    """How far the mean final share of code is above `share`, in its standard errors."""
    after = [run["after_code_share"] for run in cell]
    if len(after) < 2 or not stdev(after):
        return 0.0
    return (mean(after) - share) / (stdev(after) / sqrt(len(after)))


def name_text(openers: int) -> str:
    return "1 opener" if openers == 1 else f"{openers} openers"


def show_accuracies(cell: list[dict]) -> str:
    """'0.57 -> 0.90'; of runs that are split there is no mean afterwards."""
    if is_split(gains(cell), 100):
        return f"{mean(run['before_accuracy'] for run in cell):.2f} -> split"
    return show_change(cell, "accuracy")


def tabulate_gains(cells: Cells) -> str:
    """A row for each prior, the two kinds of text side by side."""
    kinds = sorted({openers for openers, _ in cells}, reverse=True)
    lines = [["prior", *(f"{what}, {name_text(openers)}"
                         for openers in kinds for what in ("accuracy", "gain"))]]
    for prior in sorted({prior for _, prior in cells}):
        line = [str(prior)]
        for openers in kinds:
            cell = cells.get((openers, prior))
            line += [show_accuracies(cell), show_seeds(gains(cell))] if cell else ["", ""]
        lines.append(line)
    return align(lines)


def tabulate_misses(cells: Cells, rules: dict) -> str:
    """How far each prediction is from the mean final share of code, over the rows above.

    `rms`: the root mean square in standard errors, 1 if only chance were in it; `above 2`: of them.
    """
    lines = [["prediction", "rows", "mean miss", "largest miss", "rms in s.e.", "above 2 s.e."]]
    for name, shares in rules.items():
        misses = [abs(share - average_share(cells[key], "after")) for key, share in shares.items()]
        if misses:
            errors = [measure_miss(cells[key], share) for key, share in shares.items()]
            lines.append([name, str(len(misses)), f"{mean(misses):.2f}", f"{max(misses):.2f}",
                          f"{sqrt(mean(error ** 2 for error in errors)):.1f}",
                          str(sum(abs(error) > 2 for error in errors))])
    return align(lines)


def table(results: Results) -> str:
    """Shares of code and what the bandits say; accuracy and gain; how far predictions miss.

    Then what lengths of pretraining, rewards and numbers of batches gain; whether more rollouts or
    batches make the change from text to code steeper; gains at the best of three step sizes.
    """
    cells = group_cells(results.runs)
    rules = predict_all(cells, group_cells(results.evidence))
    parts = title_tables({
        "Share of code before and after a coin, and what the bandits expect": tabulate_shares(
            cells, rules),
        "Accuracy before and after, and gain in points": tabulate_gains(cells),
        "How far each prediction is from the mean share of code": tabulate_misses(cells, rules)})
    if any(map(volumes.is_long, results.runs)):
        parts += title_tables({f"Gain in points by steps of pretraining, reward {reward}":
                               volumes.tabulate_volumes(results, reward)
                               for reward in ("random", "correct")})
    parts += phase.tabulate(results) + heat.tabulate(results)
    return add_bounds(parts, r"(\d+) of (\d+)")


# --- for the page

TITLE = "The odds change gradually, with more data too; with enough pretraining every reward gains"
SHOWN = [(7, 0.2), (7, 0.3), (7, 0.4), (7, 0.5), (1, 0.4), (1, 0.5), (1, 0.6), (1, 0.7)]


def show_accuracy(cell: list[dict], programs: bool) -> str:
    """The mean accuracy after RL of the runs that end in programs, or of the others."""
    found = [run["after_accuracy"] for run in cell if (run["after_code_share"] > 0.5) == programs]
    return f"{mean(found):.2f}" if found else "none"


def summary(results: Results) -> Summary:
    """How a run ends, by the kind and number of rivals and the share of programs."""
    cells = group_cells(results.runs)
    odds = {key: rows[0]["p_code"] for key, rows in group_cells(results.evidence).items()}
    head = ["rivals", "programs", "bases", "runs in programs", "bandit",
            "accuracy", "if in programs", "if in words"]
    rows = []
    for openers, prior in [key for key in SHOWN if key in cells]:
        cell = cells[openers, prior]
        k, n = phase.count_code(cell)
        rows.append([str(openers), f"{prior:.0%}", str(len({run["base"] for run in cell})),
                     f"{k} of {n}", f"{odds[openers, prior]:.0%}" if odds else "",
                     f"{mean(run['before_accuracy'] for run in cell):.2f}",
                     show_accuracy(cell, True), show_accuracy(cell, False)])
    return Summary("A coin, 20 batches: how runs end, by the share of programs in pretraining",
                   [head, *rows], conclude(results, cells))


def conclude(results: Results, cells: Cells) -> str:
    """One sentence: how many runs end undecided, and whether the change becomes steeper."""
    counted = phase.count_cells(results)
    if phase.FEWEST not in counted:
        k, n = phase.count_code([run for cell in cells.values() for run in cell])
        return (f"{k} of {n} runs end in programs. For each share there are few, so its odds are "
                "known roughly.")
    rows = [run for of_prior in phase.select_cells(results.runs).values()
            for cell in of_prior.values() for run in cell]
    undecided = sum(phase.is_undecided(run["after_code_share"]) for run in rows)
    first = counted[phase.FEWEST]
    others = {name: counts for name, counts in counted.items()
              if name not in (phase.FEWEST, phase.MAIN)}
    found = ", ".join(f"{phase.show_steepness(counts)} with {name}"
                      for name, counts in others.items())
    return (f"{undecided} of {len(rows)} runs against one rival end undecided. Steepness of the "
            f"change:\n{phase.show_steepness(first)} with {phase.FEWEST},\n{found}.")


def label_curve(axis, priors: list[float], shares: list[float], text: str, side: str,
                color: str) -> None:
    """A curve's name beside the place where it first reaches 0.6."""
    x = np.interp(0.6, np.maximum.accumulate(shares), priors)
    axis.annotate(text, (x, 0.6), (8 if side == "left" else -8, 0), color=color, ha=side,
                  va="center", textcoords="offset points",
                  bbox={"facecolor": "white", "linewidth": 0, "pad": 1})


def draw_panel(axis, openers: int, cells: Cells, predicted: dict) -> None:
    """A dot for each run, their mean, the bandit's mean, and where code is as large as a rival."""
    priors = [prior for other, prior in cells if other == openers]
    means = [average_share(cells[openers, prior], "after") for prior in priors]
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    axis.text(0.73, 0.69, "no change", color=GREY)
    axis.axvline(1 / (1 + openers), color=GREY, linewidth=0.8, linestyle="--")
    axis.text(1 / (1 + openers) - 0.01, 0.82, "code = each rival", color=GREY, fontsize=8,
              rotation=90, ha="right", va="center")
    if predicted:
        shares = [predicted[openers, prior] for prior in priors]
        axis.plot(priors, shares, ":", color=RED, linewidth=2.5)
        label_curve(axis, priors, shares, "bandit", "right", RED)
    axis.plot(priors, means, color=BLUE, linewidth=2)
    label_curve(axis, priors, means, "mean of the runs", "left", BLUE)
    for prior in priors:
        after = [run["after_code_share"] for run in cells[openers, prior]]
        axis.plot([prior] * len(after), after, "o", color=BLUE, markersize=4, alpha=0.6)


def record_figure(results: Results):
    """The final share of code against the prior, a panel a kind of text; gains by pretraining."""
    cells = group_cells(results.runs)
    predicted = predict_all(cells, group_cells(results.evidence))["bandit"]
    kinds = sorted({openers for openers, _ in cells}, reverse=True)
    has_volumes = any(map(volumes.is_long, results.runs))
    panels = len(kinds) + has_volumes
    canvas, axes = open_canvas(1, panels, figsize=(3.3 * panels, 3.1), squeeze=False)
    for axis, openers in zip(axes[0], kinds):
        draw_panel(axis, openers, cells, predicted)
        axis.set(title=f"the rest is text on {name_text(openers)}", xlim=(0, 1),
                 ylim=(-0.03, 1.03), xlabel="share of code in the corpus")
    axes[0, 0].set_ylabel("share of code after RL (dot: a run)")
    if has_volumes:
        volumes.draw_volumes(axes[0, -1], results)
    return canvas


def figure(results: Results):
    """The chance to end in programs against the prior; gains by pretraining, reward and volume."""
    if not phase.select_cells(results.runs):
        return record_figure(results)   # --quick
    canvas, axes = open_canvas(1, 2, figsize=(10, 3.8), width_ratios=[3.4, 6])
    phase.draw_phase(axes[0], results)
    if heat.follow_cells(results):
        heat.draw_heat(axes[1], results)
        axes[1].set_title("gain in accuracy (points), by reward\n")
    else:
        volumes.draw_volumes(axes[1], results)
    canvas.suptitle(TITLE, x=0.01, ha="left", fontsize=12)
    return canvas
