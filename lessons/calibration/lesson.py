"""Does a binary reward harm calibration?

It neglects it: where it trains, ECE on easy problems stays at 0.2 (5 seeds, one base), and on
longer problems than it trains on ECE moves from 0.69 to 0.73 (3 bases, 3 seeds each). The Brier
reward makes the stated confidence true where it trains (ECE 0.022 if it is credited apart), and
worse than the binary reward elsewhere: 0.97. About 60 minutes on 2 cores.
"""

from statistics import mean

from data.task import EASY
from lessons.chance import show_mean
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
    list_rows,
    open_canvas,
    select_runs,
    show_seeds,
    title_tables,
)
from lessons.summary import Summary

BASES = (base_grid(base=["humble-code"]) | base_grid(base=["humble-code"], steps=[600])
         | base_grid(base=["humble-code"], hedges=[1.0])
         | base_grid(base=["humble-code"], hedges=[0.15], steps=[600])
         | base_grid(base=["humble-code"], seed=[1, 2]))
FULL, UNDER, HEDGING, DOUBTFUL, *AGAIN = BASES   # UNDER and DOUBTFUL are undertrained
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
# Trained on easy problems alone, asked easy and hard ones: does calibration hold elsewhere?
BEYOND = {"num_ops": EASY}
OUTSIDE = {name: REWARDS[name] for name in ("correct", "brier", "brier, segments")}
ORDINALS = dict(zip((FULL, *AGAIN), ("first", "second", "third")))
FOUND = "Trained on short problems alone, the Brier reward makes a model sure of what it cannot do"
KINDS = ("easy", "hard")
SHOWN = (70, 80, 90, 99)      # percentages with a column of their own


def list_cells() -> tuple[list[dict], list[dict]]:
    """The flags of every cell but its seeds: rewards on the full base, and all others."""
    main = [{"base": FULL} | RECIPE | flags for flags in (REWARDS | LONGER).values()]
    others = [(FULL, STEPS), (UNDER, YOUNG), (DOUBTFUL, DOUBT), (HEDGING, TRAPS)]
    beyond = [{"base": base} | RECIPE | BEYOND | flags
              for base in ORDINALS for flags in OUTSIDE.values()]
    return main, [{"base": base} | RECIPE | flags
                  for base, cells in others for flags in cells.values()] + beyond


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
    lines = [["own confidence", *columns]]
    for name, when, cell in find_rows(results, FULL, cells):
        lines.append([name, *(show_cell(cell, f"{when}_{column}", 2)
                              for column in columns.values())])
    return align(lines)


def tabulate_stated(results: Results, cells: dict[str, dict]) -> str:
    """The share of each stated percentage among all responses to a kind; the rest state none."""
    lines = [["share that says", "problems", "below 70%", *(f"{value}%" for value in SHOWN)]]
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


def tabulate_beyond(results: Results) -> str:
    """Trained on 1 to 5 operations, asked 1 to 7; `says`: the mean confidence. '' without runs."""
    columns = {"easy accuracy": "accuracy_easy", "ECE": "ece", "easy": "ece_easy",
               "hard": "ece_hard", "says, hard": "confidence_hard"}
    lines = [["base", "reward", *columns]]
    for base, ordinal in ORDINALS.items():
        rows = list_rows(results, {"base": base} | RECIPE | BEYOND, OUTSIDE)
        for name, when, cell in rows:
            lines.append([ordinal if when == "before" else "", name,
                          *(show_cell(cell, f"{when}_{column}", 3) for column in columns.values())])
    return align(lines)


def table(results: Results) -> str:
    """The full base; own confidence; what is stated; other bases; lengths not trained on."""
    others = {"a base that always hedges": (HEDGING, TRAPS),
              "a base of 600 steps": (UNDER, YOUNG),
              "a base of 600 steps that doubts more": (DOUBTFUL, DOUBT)}
    parts = {
        "Accuracy, and error of the stated confidence, on the main base":
            tabulate_calibration(results, FULL, REWARDS | LONGER | STEPS),
        "Error of the model's own confidence, how often its answers agree, on the main base":
            tabulate_own(results, REWARDS),
        "Share of all answers that state a percentage, on the main base":
            tabulate_stated(results, REWARDS)}
    parts |= {f"Accuracy, and error of the stated confidence, on {name}":
              tabulate_calibration(results, base, cells) for name, (base, cells) in others.items()
              if any(run["base"] == base for run in results.runs)}
    parts["The same where RL trains on 1 to 5 operations and 1 to 7 are asked, on three bases"] = (
        tabulate_beyond(results))
    return add_bounds(title_tables(parts))


def select_outside(results: Results) -> dict[tuple[str, str], dict[str, list[dict]]]:
    """{(lengths trained on, base): {reward: runs}}; lengths: 'all' or 'easy'; without the empty."""
    found = {}
    for base in ORDINALS:
        for trained, shared in (("all", RECIPE), ("easy", RECIPE | BEYOND)):
            cells = {name: select_runs(results.runs, {"base": base} | shared | flags)
                     for name, flags in OUTSIDE.items()}
            cells = {name: cell for name, cell in cells.items() if cell}
            found |= {(trained, base): cells} if cells else {}
    return dict(sorted(found.items()))  # `all` first


def summary(results: Results) -> Summary:
    """ECE on easy and on hard problems, by the problems that RL has trained on."""
    rows = [["asked", "trained on", "base", "seeds", "before", "binary", "Brier",
             "Brier by segments"]]
    cells = select_outside(results)
    for kind, asked in (("easy", "1 to 5"), ("hard", "6, 7")):
        for (trained, base), of_base in cells.items():
            first = next(iter(of_base.values()))
            rows.append([asked, "1 to 7" if trained == "all" else "1 to 5", ORDINALS[base],
                         str(len(first)), f"{first[0][f'before_ece_{kind}']:.2f}",
                         *(show_cell(of_base[name], f"after_ece_{kind}", 2)
                           if name in of_base else "" for name in OUTSIDE)])
    title = "Error of the stated confidence (ECE), by the number of operations asked and trained on"
    return Summary(title, rows, describe_outside(cells))


def describe_outside(cells: dict[tuple[str, str], dict[str, list[dict]]]) -> str:
    """How far ECE on hard problems moves where RL has trained on easy ones, a base at a time."""
    outside = {base: of_base for (trained, base), of_base in cells.items() if trained == "easy"}
    if not outside:
        return "No run has been asked for lengths that it was not trained on."
    lines = []
    for name, text in (("correct", "the binary reward"), ("brier", "Brier")):
        moved = [[run["after_ece_hard"] - run["before_ece_hard"] for run in of_base[name]]
                 for of_base in outside.values() if name in of_base]
        if moved:
            shown = ", ".join(show_mean(values, 2) for values in moved)
            lines.append(f"under {text} by {shown}")
    seeds = max(len(cell) for of_base in outside.values() for cell in of_base.values())
    return ("On 6 and 7 operations, after training on 1 to 5, the error moves\n"
            + ",\n".join(lines)
            + f"\n({len(outside)} bases; 95% intervals over {seeds} seeds of RL on each).")


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


def draw_errors(axis, cells: dict[str, dict[str, list[dict]]]) -> None:
    """ECE on hard problems: a row for the base and for each reward, a dot a run, a shape a base."""
    names = {"(base)": "before", "correct": "binary", "brier": "Brier",
             "brier, segments": "Brier by\nsegments"}
    colors = {"(base)": GREY, "correct": RED, "brier": ORANGE, "brier, segments": BLUE}
    for shift, of_base in enumerate(cells.values()):
        first = next(iter(of_base.values()))[0]
        found = {"(base)": [first["before_ece_hard"]]} | {
            name: [run["after_ece_hard"] for run in cell] for name, cell in of_base.items()}
        for name, values in found.items():
            y = list(names).index(name) + 0.22 * (shift - (len(cells) - 1) / 2)
            axis.plot(values, [y] * len(values), "os^"[shift], color=colors[name], markersize=6,
                      alpha=0.7, markeredgewidth=0)
    axis.set_yticks(range(len(names)), names.values())
    axis.set(xlim=(-0.02, 1), ylim=(len(names) - 0.5, -0.5),
             xlabel="error of the confidence on 6 and 7 operations\n(0.99: says 99%, always wrong)")
    axis.grid(axis="x", color=GREY, alpha=0.2)


def figure(results: Results):
    """ECE on the longest problems: where RL has trained on such, and where it has not."""
    cells = select_outside(results)
    panels = {"all": "after training on 1 to 7 operations",
              "easy": "after training on 1 to 5 operations"}
    drawn = {title: {base: of_base for (lengths, base), of_base in cells.items()
                     if lengths == trained} for trained, title in panels.items()}
    drawn = {title: of_base for title, of_base in drawn.items() if of_base}
    canvas, axes = open_canvas(1, len(drawn), figsize=(8.8, 3.2), sharey=True, squeeze=False)
    for axis, (title, of_base) in zip(axes[0], drawn.items()):
        draw_errors(axis, of_base)
        axis.set_title(title)
    canvas.suptitle(FOUND, x=0.01, ha="left")
    return canvas


def record_figure(results: Results):
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
