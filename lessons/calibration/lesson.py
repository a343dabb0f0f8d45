"""Does a binary reward harm calibration?

On the lengths that it trains on it neglects it: the binary reward leaves ECE on easy problems at
0.2; other problems, of which the paper speaks, were not asked. The Brier reward brings it to 0.013,
0.022 in all, if the confidence is credited apart (5 seeds, one base), for 0.7 points of accuracy.
About 45 minutes on 2 cores.
"""

from statistics import mean

from lessons.doubt import RECIPE, find_rows
from lessons.grid import base_grid, repeat_cells
from lessons.report import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    Results,
    add_bounds,
    align,
    curves_of,
    draw_mean,
    is_split,
    open_canvas,
    select_runs,
    show_seeds,
)

BASES = (base_grid(base=["humble-code"]) | base_grid(base=["humble-code"], steps=[600])
         | base_grid(base=["humble-code"], hedges=[1.0])
         | base_grid(base=["humble-code"], hedges=[0.15], steps=[600]))
FULL, UNDER, HEDGING, DOUBTFUL = BASES   # UNDER and DOUBTFUL are undertrained
CURVES = ("accuracy_easy", "accuracy_hard", "ece", "ece_easy", "ece_hard", "confidence_easy",
          "confidence_hard")

SEGMENTS = {"loss": "grpo_segments"}
REWARDS = {"correct": {"reward": "correct"}, "correct, frozen": {"reward": "correct"} | SEGMENTS,
           "brier": {"reward": "brier"}, "brier, segments": {"reward": "brier"} | SEGMENTS}
LONGER = {"brier, longer": {"reward": "brier", "steps": 80},
          "segments, slower": {"reward": "brier", "lr": 0.005, "steps": 100} | SEGMENTS}
STEPS = {"brier, lr 0.015": {"reward": "brier", "lr": 0.015},
         "that, dr_grpo": {"reward": "brier", "lr": 0.015, "loss": "dr_grpo"}}
YOUNG = {name: REWARDS[name] for name in ("correct", "brier", "brier, segments")} | {
    "with entropy": {"reward": "brier", "entropy_coef": 0.01} | SEGMENTS}
DOUBT = {"brier, segments": REWARDS["brier, segments"]}
TRAPS = {name: {"reward": name} for name in ("correct", "brier", "brier_alone", "log_score")}
KINDS = ("easy", "hard")
SHOWN = (70, 80, 90, 99)      # percentages with a column of their own


def list_cells() -> tuple[list[dict], list[dict]]:
    """The flags of every cell but its seeds: rewards on the full base, and all others."""
    main = [{"base": FULL} | RECIPE | flags for flags in (REWARDS | LONGER).values()]
    others = [(FULL, STEPS), (UNDER, YOUNG), (DOUBTFUL, DOUBT), (HEDGING, TRAPS)]
    return main, [{"base": base} | RECIPE | flags
                  for base, cells in others for flags in cells.values()]


def runs(seeds: int = 5, quick: bool = False) -> list[dict]:
    if quick:
        return repeat_cells([{"base": FULL} | RECIPE | REWARDS[name]
                             for name in ("correct", "brier")], [], 1)
    return repeat_cells(*list_cells(), seeds)


def show_cell(cell: list[dict], column: str, digits: int, spread: bool = True) -> str:
    """Mean, and spread if asked for, over the seeds that can say it; '-' if none can.

    Without a spread runs that are split have no mean either.
    """
    values = [run[column] for run in cell if run.get(column) is not None]
    if not values:
        return "-"
    if not spread:
        return "split" if is_split(values, 1) else f"{mean(values):.{digits}f}"
    return show_seeds(values, digits, "", 1)


def tabulate_calibration(results: Results, base: str, cells: dict[str, dict]) -> str:
    """Accuracy, and how far the stated confidence is from it; the last three without spread."""
    spread = {"easy accuracy": "accuracy_easy", "ECE": "ece", "easy": "ece_easy",
              "hard": "ece_hard"}
    alone = {"Brier": "brier", "AUROC": "auroc", "stated": "stated_share"}
    head = base.removeprefix("humble-code-").removesuffix("-steps600")
    lines = [[head, *spread, *alone]]
    for name, when, cell in find_rows(results, base, cells):
        lines.append([name, *(show_cell(cell, f"{when}_{column}", 3)
                              for column in spread.values()),
                      *(show_cell(cell, f"{when}_{column}", 2, spread=False)
                        for column in alone.values())])
    return align(lines)


def tabulate_own(results: Results, cells: dict[str, dict]) -> str:
    """The model's own confidence: how often its other 7 answers agree; AUROC inside a kind."""
    columns = {"own ECE": "own_ece", "easy": "own_ece_easy", "hard": "own_ece_hard",
               "own AUROC": "own_auroc", "stated, easy": "auroc_easy", "stated, hard": "auroc_hard"}
    lines = [["", *columns]]
    for name, when, cell in find_rows(results, FULL, cells):
        lines.append([name, *(show_cell(cell, f"{when}_{column}", 2)
                              for column in columns.values())])
    return align(lines)


def tabulate_stated(results: Results, cells: dict[str, dict]) -> str:
    """The share of each stated percentage among all responses to a kind; the rest state none."""
    lines = [["", "problems", "below 70%", *(f"{value}%" for value in SHOWN)]]
    for name, when, cell in find_rows(results, FULL, cells):
        for kind in KINDS:
            shares = [read_stated(run, when, kind) for run in cell]
            low = [sum(share for value, (share, _) in of_run.items() if value < SHOWN[0])
                   for of_run in shares]
            exact = [[of_run.get(value, (0.0, None))[0] for of_run in shares] for value in SHOWN]
            lines.append([name if kind == "easy" else "", kind,
                          *(show_seeds(values, 2, "", 1) for values in (low, *exact))])
    return align(lines)


def read_stated(run: dict, when: str, kind: str) -> dict[int, tuple[float, float]]:
    """{percentage: (share of the responses, accuracy among them)}; kind: all, easy or hard."""
    prefix, suffix = f"{when}_stated_{kind}_", "_share"
    found = {}
    for name, share in run.items():
        if name.startswith(prefix) and name.endswith(suffix) and share is not None:
            value = name.removeprefix(prefix).removesuffix(suffix)
            found[int(value)] = share, run[f"{prefix}{value}_accuracy"]
    return found


def table(results: Results) -> str:
    """The full base; own confidence; what is stated; traps on a hedging base; a young base."""
    parts = [tabulate_calibration(results, FULL, REWARDS | LONGER | STEPS),
             tabulate_own(results, REWARDS),
             tabulate_stated(results, REWARDS)]
    parts += [tabulate_calibration(results, base, cells)
              for base, cells in ((HEDGING, TRAPS), (UNDER, YOUNG), (DOUBTFUL, DOUBT))
              if any(run["base"] == base for run in results.runs)]
    return add_bounds(parts)


def draw_reliability(axis, rows: list[tuple[str, list]], title: str) -> None:
    """Accuracy of each stated percentage; the area of a dot is its share, a dot a seed."""
    axis.plot([0, 100], [0, 1], color=GREY, linewidth=0.8)
    for kind, color in (("easy", BLUE), ("hard", RED)):
        for when, run in rows:
            said = read_stated(run, when, kind)
            axis.scatter(list(said), [accuracy for _, accuracy in said.values()], color=color,
                         s=[300 * share + 2 for share, _ in said.values()], alpha=0.4,
                         linewidths=0)
    axis.set(title=title, xlabel="stated confidence (%)", xlim=(0, 104), ylim=(-0.05, 1.05))


def draw_curves(axis, results: Results, flags: dict, color: str, label: str) -> None:
    """ECE over training: hard prompts, a thin line a seed, their mean thick; easy dotted."""
    cell = select_runs(results.runs, {"base": FULL} | RECIPE | flags)
    curves = curves_of(results, cell)
    if not curves:
        return
    batches = [row["step"] + 1 for row in curves[0]]
    hard, easy = ([[row[f"ece_{kind}"] for row in curve] for curve in curves]
                  for kind in ("hard", "easy"))
    draw_mean(axis, batches, hard, color)
    axis.plot(batches, [mean(values) for values in zip(*easy)], ":", color=color, linewidth=2)
    last = mean(line[-1] for line in hard)
    axis.text(batches[-1] + 1, last, label, color=color, fontsize=9, va="center")


def figure(results: Results):
    """Reliability of the base, after `correct` and after `brier`; calibration over training."""
    canvas, axes = open_canvas(1, 4, figsize=(12, 3.4))
    found = {name: (when, cell) for name, when, cell in find_rows(results, FULL, REWARDS)}
    titles = {"(base)": "base", "correct": "after correct", "brier": "after brier (RLCR)"}
    for axis, (name, title) in zip(axes, titles.items()):
        when, cell = found[name]
        draw_reliability(axis, [(when, run) for run in cell], title)
    axes[0].set_ylabel("accuracy (area: share, a dot a seed)")
    axes[0].text(30, 0.92, "easy", color=BLUE)
    axes[0].text(30, 0.06, "hard", color=RED)
    drawn = {"correct": (REWARDS["correct"], GREY), "segments": (REWARDS["brier, segments"], BLUE),
             "brier": (LONGER["brier, longer"], ORANGE)}
    for name, (flags, color) in drawn.items():
        draw_curves(axes[3], results, flags, color, name)
    axes[3].set(title="ECE: hard (dotted: easy)", xlabel="rollout batches", ylim=(0, 1),
                xlim=(0, 105))
    return canvas
