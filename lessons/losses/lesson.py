"""Is negative reinforcement enough?

For pass@1 where the base can solve the problems: NSR gains 29.6 points, every other loss 29.7 to
30.0 (5 seeds, one base; NSR and GRPO alike on two more). With 2 of 7 problems out of reach it does
not keep pass@256 on three of four bases; on one 3 seeds do not decide. About 40 minutes on 2 cores.
"""

from statistics import mean, stdev

import numpy as np

from data.corpus import CORPORA
from lessons.chance import find_student, show_mean
from lessons.grid import base_grid, grid, scale_seeds
from lessons.losses.cells import (
    BOTH,
    FAMILY,
    Cell,
    group_cells,
    list_bases,
    name_column,
    raised,
)
from lessons.losses.matched import Match, count_inside, match_cells, show_ahead
from lessons.report import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    Results,
    add_bounds,
    align,
    gains,
    open_canvas,
    show_range,
    show_seeds,
    title_tables,
)
from lessons.summary import Summary

BASES = {"good-code": {"base": "good-code"},
         "tenths-code": {"base": "tenths-code", "steps": 2600},  # 1,000 possible answers
         **base_grid(base=["good-code"], seed=[3, 4])}
FIRST, TENTHS, *AGAIN = BASES   # the last have only the few cells that the claim rests on

ALL = (1, 2, 3, 4, 5, 6, 7)  # k of the mixed problems; the base can do 1 to 5
MIXED = {"num_ops": ALL, "pool": 1280, "eval_num_ops": ALL, "eval_problems": 210,
         "eval_samples": 256}
STEP = 0.0015                # at which all losses are compared: a tenth of the default
LAMBDAS = [0.03, 0.3, 1]     # of w_reinforce, beside its own 0.1; 0 is nsr
NO_CLIP = {"eps_low": 1e9, "eps_high": 1e9}
FRESH = {"steps": 640, "prompts": 2, "updates": 1}   # as many updates, each on its own rollouts
# As the authors' code: the other samples are dropped, and the mean is over the tokens of the rest.
# Their number is about seven times that of the sequences; so is the step.
KEPT = {"aggregate": "signal"}
LONGER = {"max_new_tokens": 60}                      # numbers of three tokens
SHORT = 25                   # points; a run on easy problems that gains less fell short
KS = (1, 4, 16, 64, 256)
DRAWN = (4, 8, 16, 32, 64, 128, 256)
# What the page that teaches shows: base, problems out of reach among the prompts?, loss, step.
SHOWN = [Cell("good-code", False, "grpo", 0.015), Cell("good-code", False, "nsr", 0.015),
         Cell("good-code", True, "grpo", 0.015), Cell("good-code", True, "nsr", 0.015),
         *(Cell(base, True, loss, STEP) for base in (FIRST, TENTHS) for loss in ("psr", "nsr"))]
COLORS = {"psr": BLUE, "nsr": RED}
SHAPES = {0.0005: "--", STEP: "-"}

Cells = dict[Cell, list[dict]]


def make_easy(bases, losses, seeds) -> list[dict]:
    return grid(base=bases, reward="correct", loss=losses, eval_samples=64, seed=seeds)


def make_mixed(bases, losses, lr, seeds, **flags) -> list[dict]:
    return grid(base=bases, reward="correct", loss=losses, lr=lr, **MIXED, **flags, seed=seeds)


def runs(seeds: int = 5, quick: bool = False) -> list[dict]:
    if quick:
        return [*make_easy("good-code", FAMILY, [1]),
                *make_mixed("good-code", ["psr", "nsr"], [0.0005, STEP], [1])]
    first, base = range(1, seeds + 1), "good-code"
    few, fewer = (range(1, 1 + scale_seeds(count, seeds)) for count in (3, 2))
    return [*make_easy(base, FAMILY, first),
            *make_mixed(base, FAMILY, STEP, first),
            *make_mixed(base, "w_reinforce", STEP, first, psr_weight=LAMBDAS),
            *make_mixed(base, ["psr", "nsr"], [0.0005, 0.005], first),
            *make_mixed(base, ["grpo", "nsr"], 0.015, first),
            *make_mixed(base, "nsr", STEP, first, **NO_CLIP),
            *make_mixed(base, "nsr", STEP, first, **FRESH),
            *make_mixed(base, ["psr", "nsr"], 0.01, first, **KEPT),
            *make_mixed("tenths-code", ["psr", "nsr"], [0.0005, STEP], first, **LONGER),
            *make_easy(AGAIN, ["grpo", "nsr"], fewer),
            *make_mixed(AGAIN, ["psr", "nsr"], STEP, few)]


def follows(run: dict) -> bool:
    """Whether the curve of a run is stored: not of those that only repeat on further bases."""
    return run["base"] not in AGAIN


def tabulate_easy(cells: Cells) -> str:
    """A row for each base and loss: the gain, its least, and how many runs fell short."""
    lines = [["base", "loss", "seeds", "gain", "least", "short"]]
    for cell, of_cell in cells.items():
        points = gains(of_cell)
        lines.append([cell.base, cell.loss, str(len(points)), show_seeds(points),
                      f"{min(points):+.1f}", str(sum(gain < SHORT for gain in points))])
    return align(lines)


def tabulate_mixed(base: str, cells: Cells) -> str:
    """The base's pass@k in percent, then what each loss gains; entropy and answers afterwards."""
    before = next(iter(cells.values()))[0]
    lines = [[base, *(f"pass@{k}" for k in KS), "entropy", "answers"],
             ["(before)", *(f"{100 * before[name_column('before', k)]:.1f}%" for k in KS),
              f"{before['before_entropy']:.3f}", f"{before['before_distinct_answers']:.1f}"]]
    for cell, of_cell in cells.items():
        entropy, answers = (mean(run[f"after_{name}"] for run in of_cell)
                            for name in ("entropy", "distinct_answers"))
        lines.append([cell.loss, *(show_seeds(raised(of_cell, k)) for k in KS),
                      f"{entropy:.3f}", f"{answers:.1f}"])
    return align(lines)


def tabulate_by_step(title: str, shown: dict[Cell, str]) -> str:
    """A row for each loss, a column for each step size; '' if all have the same."""
    steps = sorted({cell.step for cell in shown})
    if len(steps) < 2:
        return ""
    lines = [[title, *(f"step {step:g}" for step in steps)]]
    for loss in dict.fromkeys(cell.loss for cell in shown):
        of_loss = {cell.step: text for cell, text in shown.items() if cell.loss == loss}
        lines.append([loss, *(of_loss.get(step, "") for step in steps)])
    return align(lines)


def show_fallen(of_cell: list[dict]) -> str:
    """What pass@1 gained; in brackets how many runs ended below the base, if any did."""
    below = sum(gain < 0 for gain in raised(of_cell, 1))
    return show_seeds(raised(of_cell, 1)) + (f" ({below})" if below else "")


def show_match(match: Match) -> str:
    """Points above PSR's curve at k = 16, and over how many seeds if not all."""
    text, all_inside = show_ahead(match, 16), len(match.ahead[16]) == len(match.gains)
    return text if all_inside else f"{text} ({count_inside(match).replace(' of ', '/')})"


def table(results: Results) -> str:
    """Easy; all losses at one step, by base; pass@1 by step; ahead of PSR at the same pass@1."""
    easy, mixed = (group_cells(results.runs, mixed=mixed) for mixed in (False, True))
    parts = {}
    if easy:
        parts["Easy problems: gain of accuracy in points, by loss"] = tabulate_easy(easy)
    for base in list_bases(mixed):
        at_step = group_cells(results.runs, mixed=True, base=base, step=STEP)
        if at_step:
            title = f"Mixed problems, {base}, step {STEP:g}: pass@k in percent, then points gained"
            parts[title] = tabulate_mixed(base, at_step)
    for base in list_bases(mixed):
        parts[f"Mixed problems, {base}: points of pass@1 gained, by loss and step size"] = (
            tabulate_by_step(f"{base}, pass@1", {
                cell: show_fallen(of_cell) for cell, of_cell in mixed.items()
                if cell.base == base}))
    matches = match_cells(results.runs)
    for base in list_bases(mixed):
        parts[f"Mixed problems, {base}: points of pass@16 above PSR at the same pass@1"] = (
            tabulate_by_step(f"{base}, ahead", {
                match.cell: show_match(match) for match in matches if match.cell.base == base}))
    return add_bounds(title_tables(parts))


def find_alike(cells: Cells, cell: Cell) -> dict[str, list[dict]]:
    """{base: the runs of a cell on it}, on all bases that differ in their pretraining seed alone.
    """
    alike = [cell._replace(base=base) for base, flags in BASES.items()
             if flags["base"] == BASES[cell.base]["base"]]
    return {each.base: cells[each] for each in alike if each in cells}


def show_pass(by_base: list[list[dict]], k: int) -> str:
    """'51.3 -> 70.0': pass@k in percent before and after, mean over bases; '' if not measured."""
    if by_base[0][0].get(name_column("after", k)) is None:
        return ""
    return " -> ".join(
        f"{100 * mean(mean(run[name_column(when, k)] for run in runs) for runs in by_base):.1f}"
        for when in ("before", "after"))


def summary(results: Results) -> Summary:
    """Where NSR is enough, what it costs at the default step, and pass@k on all bases."""
    cells = group_cells(results.runs)
    rows = [["kind of base", "operations", "loss", "step size", "bases", "runs", "pass@1",
             "pass@16", "pass@256"]]
    for cell in SHOWN:
        by_base = list(find_alike(cells, cell).values())
        if by_base:
            rows.append([cell.base, "1 to 7" if cell.mixed else "1 to 5", cell.loss.upper(),
                         f"{cell.step:g}", str(len(by_base)), str(sum(map(len, by_base))),
                         *(show_pass(by_base, k) for k in (1, 16, 256))])
    title = "Problems solved by at least one of k samples, in percent, before and after training"
    return Summary(title, rows, describe_coverage(cells))


def describe_coverage(cells: Cells) -> str:
    """What NSR and PSR change pass@256 by at STEP, a line a base, with Student's 95% interval."""
    found = {base: {loss: raised(cells[cell], 256) for loss in ("nsr", "psr")
                    if (cell := Cell(base, True, loss, STEP)) in cells}
             for base in (FIRST, *AGAIN, TENTHS)}
    found = {base: of_base for base, of_base in found.items() if of_base}
    if not found:
        return "There are no runs with problems out of reach."
    seeds = {len(points) for of_base in found.values() for points in of_base.values()}
    note = (f"95% intervals over {show_range(list(seeds), 0)} seeds"
            if seeds != {1} else "one seed: enough to see it, not to claim it")
    lines = [[base, ", ".join(f"{show_mean(points)} under {loss.upper()}"
                              for loss, points in of_base.items())]
             for base, of_base in found.items()]
    return (f"Points by which training at step {STEP:g} changes pass@256 ({note}):\n"
            + align(lines).replace("\n", ";\n") + ".")


def draw_line(axis, cell: Cell, of_cell: list[dict], y: float) -> None:
    """pass@k gained against k: the mean as a line, a dot a seed, the name beside it at height y."""
    color, shape = COLORS[cell.loss], SHAPES[cell.step]
    values = np.array([raised(of_cell, k) for k in DRAWN])                    # (ks, seeds)
    face = color if shape == "-" else "white"
    axis.plot(DRAWN, values, "o", color=color, markerfacecolor=face, markersize=3.5, alpha=0.5)
    axis.plot(DRAWN, values.mean(axis=1), shape, color=color, linewidth=2)
    label = f"{cell.loss.upper()}, step {cell.step:g}\npass@1 {mean(raised(of_cell, 1)):+.1f}"
    axis.annotate(label, (DRAWN[-1], values[-1].mean()), (1.04, y), color=color, va="center",
                  fontsize=9, textcoords=axis.get_yaxis_transform(), annotation_clip=False,
                  arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.8})


def space_out(heights: list[float], least: float) -> list[float]:
    """Heights of labels, in the same order and around the same mean, at least `least` apart."""
    order = np.argsort(heights)
    spaced = np.array(heights, dtype=float)[order]
    for i in range(1, len(spaced)):
        spaced[i] = max(spaced[i], spaced[i - 1] + least)
    spaced += np.mean(heights) - spaced.mean()
    return spaced[np.argsort(order)].tolist()


def guess(base: str, k: int) -> float:
    """pass@k in percent of who guesses among the possible answers, not reading the problem."""
    answers = 10 ** CORPORA[BASES[base]["base"]].digits
    return 100 * (1 - (1 - 1 / answers) ** k)


def decorate(axis, base: str) -> None:
    """The base as a line, what guessing passes, and the ks at which that is much in grey."""
    axis.axhline(0, color="black", linewidth=1)
    lottery = [k for k in DRAWN if guess(base, k) > 25]
    if lottery:
        axis.axvspan(lottery[0] / 2, 2 * DRAWN[-1], color=GREY, alpha=0.12, linewidth=0)
    text = f"guessing passes {guess(base, 64):.0f}%\nat k = 64, {guess(base, 256):.0f}% at 256"
    axis.text(18, 0.98, text, va="top", fontsize=8, color="#555555",
              transform=axis.get_xaxis_transform())
    axis.set_xscale("log", base=2)
    axis.set_xticks(DRAWN, DRAWN)
    axis.set(title=base, xlabel="k", xlim=(3.6, 290))


def list_lambdas(cells: Cells) -> dict[str, list[dict]]:
    """{lambda as text: runs} at STEP: 0 is NSR, `PSR` has no punishment."""
    at_step = {cell.loss: of_cell for cell, of_cell in cells.items() if cell.step == STEP}
    named = {"0": "nsr", **{f"{weight:g}": f"w_reinforce-{weight:g}" for weight in LAMBDAS},
             "0.1": "w_reinforce", "1": BOTH}
    found = {weight: at_step[name] for weight, name in sorted(named.items()) if name in at_step}
    return found | ({"PSR": at_step["psr"]} if "psr" in at_step else {})


def draw_lambdas(axis, cells: Cells) -> None:
    """What pass@1 and pass@16 gain against lambda: means as lines, a dot a seed."""
    found = list_lambdas(cells)
    for k, color, above in ((1, "black", 7), (16, ORANGE, -16)):
        values = [raised(of_cell, k) for of_cell in found.values()]
        axis.plot([mean(of_cell) for of_cell in values], color=color, linewidth=2)
        for x, of_cell in enumerate(values):
            axis.plot([x] * len(of_cell), of_cell, "o", color=color, markersize=3.5, alpha=0.5)
        axis.annotate(f"pass@{k}", (len(found) - 1, mean(values[-1])), (0, above), color=color,
                      ha="right", textcoords="offset points")
    axis.axhline(0, color="black", linewidth=1)
    axis.set_xticks(range(len(found)), found)
    axis.set(title=f"good-code, step {STEP:g}", xlabel="lambda: weight of the right samples")


def draw_coverage(axis, base: str, cells: Cells) -> None:
    """What PSR and NSR gain in pass@k at STEP: means as lines, thick with a dot a seed on one base.
    """
    axis.axhline(0, color="black", linewidth=1)
    for loss, above in (("nsr", 14), ("psr", 0)):
        alike = find_alike(cells, Cell(base, True, loss, STEP))
        values = {name: np.array([raised(of_cell, k) for k in DRAWN])             # (ks, seeds)
                  for name, of_cell in alike.items()}
        for name in values.keys() - {base}:
            axis.plot(DRAWN, values[name].mean(axis=1), color=COLORS[loss], linewidth=0.8)
        if base in values:
            axis.plot(DRAWN, values[base], "o", color=COLORS[loss], markersize=3.5, alpha=0.5)
            axis.plot(DRAWN, values[base].mean(axis=1), color=COLORS[loss], linewidth=2)
            label = f"{loss.upper()}\n(k = 1: {mean(raised(alike[base], 1)):+.1f})"
            axis.annotate(label, (DRAWN[-1], values[base][-1].mean()), (8, above),
                          color=COLORS[loss], textcoords="offset points", va="center",
                          annotation_clip=False)
    axis.text(DRAWN[-1], 0.12, "before training", fontsize=9, ha="right")
    if len(alike) > 1:
        axis.text(0.03, 0.06, "thin: other bases of this kind", fontsize=9, color=GREY,
                  transform=axis.transAxes)
    axis.set_xscale("log", base=2)
    axis.set_xticks(DRAWN, DRAWN)
    axis.set(xlabel="k samples of each problem", title=f"{base}: "
             f"{10 ** CORPORA[BASES[base]['base']].digits:,} possible answers")


def count_fallen(cells: Cells, loss: str, k: int = 256) -> tuple[int, int]:
    """On how many bases pass@k falls at STEP, its 95% interval being below 0; (those, all)."""
    found = [raised(of_cell, k) for cell, of_cell in cells.items()
             if cell.mixed and cell.loss == loss and cell.step == STEP]
    halves = [find_student(len(points)) * stdev(points) / len(points) ** 0.5
              if len(points) > 1 else 0.0 for points in found]
    return sum(mean(points) + half < 0 for points, half in zip(found, halves)), len(found)


def figure(results: Results):
    """A panel a corpus: pass@k gained against k, under NSR and under PSR."""
    cells = group_cells(results.runs, mixed=True, step=STEP)
    bases = [base for base in (FIRST, TENTHS) if base in list_bases(cells)]
    canvas, axes = open_canvas(1, len(bases), figsize=(8.8, 3.4), sharey=True,
                               squeeze=False)
    for axis, base in zip(axes[0], bases):
        draw_coverage(axis, base, cells)
    axes[0, 0].set_ylabel("pass@k gained by RL (points)")
    counts = [count_fallen(cells, loss) for loss in ("nsr", "psr")]
    nsr, psr = (f"{fallen} of {bases}" for fallen, bases in counts)
    canvas.suptitle(f"After NSR 256 samples solve fewer problems than before on {nsr} bases, "
                    f"after PSR on {psr}", x=0.01, ha="left")
    return canvas


def record_figure(results: Results):
    """What PSR and NSR gain in pass@k from k = 4 on; on the right what lambda does between them."""
    cells = {cell: of_cell for cell, of_cell in group_cells(results.runs, mixed=True).items()
             if cell.loss in COLORS and cell.step in SHAPES and cell.base not in AGAIN}
    bases = list_bases(cells)
    canvas, axes = open_canvas(1, len(bases) + 1, figsize=(4.6 * len(bases) + 3.2, 3.7),
                               squeeze=False)
    for axis in axes[0, 1:-1]:
        axis.sharey(axes[0, 0])
    for axis, base in zip(axes[0], bases):
        of_base = [(cell, of_cell) for cell, of_cell in cells.items() if cell.base == base]
        ends = [mean(raised(of_cell, DRAWN[-1])) for _, of_cell in of_base]
        for (cell, of_cell), y in zip(of_base, space_out(ends, 1.4)):
            draw_line(axis, cell, of_cell, y)
        decorate(axis, base)
    draw_lambdas(axes[0, -1], group_cells(results.runs, mixed=True, base="good-code"))
    axes[0, 0].set_ylabel("pass@k gained over the base (points)")
    canvas.suptitle("problems with 1 to 7 operations, the base fails at 6 and 7; "
                    "line: mean, dot: a seed", fontsize=8, color=GREY)
    return canvas
