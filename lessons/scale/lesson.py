"""Does the effect survive a larger model?

Yes, to 14 times the parameters: a coin gains 26.0, 27.6 and 28.0 points at widths 64, 128 and 256
(3 seeds each), the correct reward 30.5. With AdamW in the paper's shape no width gains. About 45
minutes on 2 cores.
"""

from statistics import mean

from data.tokenizer import VOCABULARY_SIZE
from lessons.grid import base_grid, grid
from lessons.report import (
    BLUE,
    ORANGE,
    Results,
    align,
    gains,
    greedy_gains,
    group_runs,
    open_canvas,
    show_change,
    show_seeds,
    title_tables,
)
from lessons.scale import adamw
from lessons.summary import Summary

SGD = adamw.WIDTHS | base_grid(base=["no-code"], width=[128])
BASES = SGD | adamw.MIXED
WIDTH = 64   # of a base that says nothing else
TITLE = "With SGD a coin gains as much in a larger model; with AdamW it gains at no width"


def runs(seeds: int = 3, quick: bool = False) -> list[dict]:
    """The recipe stays as it is; what varies is the width, by which the parameters grow 4 times.

    Then AdamW in the paper's shape, at three step sizes.
    """
    if quick:
        return grid(base="good-code", reward=["random", "correct"], seed=[1])
    return (grid(base=list(SGD), reward=["random", "correct"], seed=range(1, seeds + 1))
            + adamw.runs(seeds))


def follows(run: dict) -> bool:
    """Whether the curve of a run is stored: not of AdamW's."""
    return "optimizer" not in run


def find_width(base: str) -> int:
    return BASES[base].get("width", WIDTH)


def count_parameters(width: int) -> int:
    """Three blocks of 12 C^2 and two gains of C each; a last gain; embedding and head."""
    return 3 * (12 * width ** 2 + 2 * width) + width + 2 * VOCABULARY_SIZE * width


def group_main(results: Results) -> dict[tuple[str, str], list[dict]]:
    """{(base, reward): rows} of the main recipe, without flags."""
    return group_runs([run for run in results.runs if not run.get("flags")], "base", "reward")


def table(results: Results) -> str:
    """The main recipe, then AdamW's."""
    main = title_tables({"The same recipe at every width, plain SGD": tabulate_main(results)})
    return "\n\n".join([*main, *adamw.tabulate(results)])


def tabulate_main(results: Results) -> str:
    """A row for each base and reward; means over seeds, ± their standard deviation."""
    lines = [["base", "reward", "size", "accuracy", "gain", "greedy gain", "code share",
              "in code"]]
    for (base, reward), cell in group_main(results).items():
        in_code = [run["after_accuracy_code"] for run in cell]
        millions = count_parameters(find_width(base)) / 1e6
        lines.append([base, reward, f"{millions:.2f}M", show_change(cell, "accuracy", 3),
                      show_seeds(gains(cell)), show_seeds(greedy_gains(cell)),
                      show_change(cell, "code_share"),
                      "" if None in in_code or base.startswith("no-code")
                      else f"{mean(in_code):.3f}"])
    return align(lines)


# --- for the page


def show_after(cell: list[dict], greedy: str = "") -> str:
    """The mean accuracy after RL and its spread over seeds; of split runs, how many are above."""
    return show_seeds([run[f"after_{greedy}accuracy"] for run in cell], 3, "", 1)


def list_adamw(results: Results) -> list[list[str]]:
    """A row for each width, and for mixed-code greedily: AdamW at its best step size."""
    rows = []
    for base, (lr, cell) in adamw.pick_best(results).items():
        greedy, name = ("greedy_", f"{base}, greedy") if base in adamw.MIXED else ("", "good-code")
        before = mean(run[f"before_{greedy}accuracy"] for run in cell)
        rows.append([name, str(find_width(cell[0]["base"])), f"AdamW, {lr:g}", str(len(cell)),
                     f"{before:.3f}", show_after(cell, greedy), "not run",
                     f"{adamw.rate_cell(base, cell)[1]:.3f}"])
    return rows


def summary(results: Results) -> Summary:
    """A row for each model and optimizer: accuracy before, after a coin, after the right reward."""
    rows = [["base", "width", "optimizer", "runs", "before", "coin", "correct", "in programs"]]
    cells = group_main(results)
    for base in [base for base in SGD if (base, "random") in cells]:
        coin, correct = cells[base, "random"], cells.get((base, "correct"), [])
        in_code = [run["after_accuracy_code"] for run in coin]
        rows.append([base.split("-width")[0], str(find_width(base)), "SGD", str(len(coin)),
                     f"{mean(run['before_accuracy'] for run in coin):.3f}", show_after(coin),
                     show_after(correct) if correct else "not run",
                     "none" if None in in_code or base.startswith("no-code")
                     else f"{mean(in_code):.3f}"])
    return Summary("Accuracy before, and after a coin or the correct reward, by width",
                   rows + list_adamw(results), conclude(results))


def conclude(results: Results) -> str:
    """The coin's gain by width, and where AdamW leaves a step size at which it gains."""
    found = [(find_width(base), cell) for (base, reward), cell in group_main(results).items()
             if base in adamw.WIDTHS and reward == "random"]
    points = ", ".join(f"{mean(gains(cell)):.1f}" for _, cell in found)
    widths = ", ".join(str(width) for width, _ in found)
    seeds = len(found[0][1]) if found else 0
    text = f"With SGD a coin gains {points} points at width {widths} (seeds each: {seeds})."
    if adamw.sort_cells(results.runs):
        windows = adamw.list_windows(results)
        reached = (f"gains over {adamw.GAIN} points and keeps over {adamw.INTACT} of the programs "
                   "right")
        text += (f"\nWith AdamW some step size {reached} on {', '.join(windows)}." if windows else
                 f"\nWith AdamW no step size {reached}.") + show_nearest(results)
    return text


def show_nearest(results: Results) -> str:
    """How far AdamW comes on mixed-code, whose rule is about greedy accuracy."""
    if "mixed-code" not in adamw.pick_best(results):
        return ""
    lr, cell = adamw.pick_best(results)["mixed-code"]
    gained = greedy_gains(cell)
    return (f"\nmixed-code, greedily: {mean(gained):+.1f} points on average at {lr:g} "
            f"({show_seeds(gained)}; {len({run['base'] for run in cell})} bases).")


def draw_widths(axis, results: Results) -> None:
    """The gain of each seed by width, for the coin and the correct reward."""
    cells = group_main(results)
    bases = [base for base in adamw.WIDTHS if (base, "random") in cells]
    for reward, color, offset in (("random", ORANGE, -0.1), ("correct", BLUE, 0.1)):
        for x, base in enumerate(bases):
            values = gains(cells.get((base, reward), []))
            axis.plot([x + offset] * len(values), values, "o", color=color, markersize=5)
    axis.annotate("a coin", (-0.1, 22), color=ORANGE, ha="center", va="top")
    axis.annotate("the correct reward", (0.1, 32), color=BLUE, va="bottom")


def figure(results: Results):
    """Gains by width, a dot a seed: SGD, and AdamW at three step sizes if there are such runs."""
    has_adamw = bool(adamw.sort_cells(results.runs))
    canvas, axes = open_canvas(1, 1 + has_adamw, figsize=(8.5, 3.6), sharey=True, squeeze=False)
    draw_widths(axes[0, 0], results)
    axes[0, 0].set(ylabel="gain in accuracy (points)", title="SGD, our recipe")
    if has_adamw:
        adamw.draw_adamw(axes[0, 1], results)
        axes[0, 1].set_title("AdamW as in the paper, a coin (hollow: broken)")
    for axis in axes[0]:
        axis.axhline(0, color="black", linewidth=0.8)
        names = [f"{width}\n{count_parameters(width) / 1e6:.2f}M"
                 for width in map(find_width, adamw.WIDTHS)]
        axis.set_xticks(range(len(names)), names)
        axis.set(xlim=(-0.5, len(names) - 0.5), xlabel="width, and parameters")
    axes[0, 0].set_ylim(top=37)
    canvas.suptitle(TITLE, x=0.01, ha="left", fontsize=12)
    return canvas
