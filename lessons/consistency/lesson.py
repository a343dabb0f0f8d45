"""Does rewarding a model's agreement with itself last?

Not for long where the step is large for the base: accuracy rises from 0.42 to 0.56, then falls to
0.46 while agreement stays; so on two of three bases (5 seeds each). All of the rise is more code;
no label makes it more right, and frozen votes only wear it less. About 40 minutes on 2 cores.
"""

from statistics import mean

from lessons.chance import show_mean
from lessons.consistency.vote import measure_vote
from lessons.grid import base_grid, place_base, repeat_cells
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
    gains,
    is_split,
    open_canvas,
    select_runs,
    show_seeds,
    title_tables,
)
from lessons.summary import Summary

BASES = (base_grid(base=["good-code"], steps=[300, 450, 550, 600]) | base_grid(base=["good-code"])
         | base_grid(base=["good-code"], steps=[550], seed=[1, 2]))
HALF = "good-code-steps550"
HALVES = {HALF: "first", f"{HALF}-seed1": "second", f"{HALF}-seed2": "third"}  # half competent
YOUNG = ("good-code-steps300", "good-code-steps450", HALF, "good-code-steps600", "good-code")
CURVES = ("agreement", "vote_accuracy")   # kept in curves.csv, beside what every lesson keeps

# Every prompt is seen once: accuracy on training prompts is accuracy on problems never seen.
RECIPE = {"lr": 0.01, "prompts": 32, "updates": 16, "pool": 1536, "steps": 48}
LABELS = {"consensus": {"reward": "consensus"}, "frozen": {"reward": "majority", "votes": 16},
          "correct": {"reward": "correct"}, "random": {"reward": "random"}}
PAID = {"consensus": "own votes, now", "frozen": "own votes, frozen", "correct": "right answer",
        "random": "a coin"}
VARIANTS = {"soft": {"reward": "soft_consensus"},
            "dr_grpo": {"reward": "consensus", "loss": "dr_grpo"},
            "no norm clip": {"reward": "consensus", "max_grad_norm": 1e9},
            "k = 1, 2 only": {"reward": "consensus", "num_ops": (1, 2)},
            "half the step": {"reward": "consensus", "lr": 0.005},
            "8 batches": {"reward": "consensus", "steps": 8}}
STEPS = (0.0025, 0.005, 0.01, 0.02)
COLORS = {"agreement": ORANGE, "accuracy": BLUE, "label right": RED, "top answer": GREY}
COLUMNS = {"agreement": "agreement", "accuracy": "accuracy", "label right": "vote_accuracy",
           "top answer": "top_answer_share"}


def list_cells() -> tuple[list[dict], list[dict]]:
    """The flags of every cell but its seeds: of all labels on all half competent bases; others."""
    main = [{"base": base} | RECIPE | flags for base in HALVES for flags in LABELS.values()]
    others = [{"base": HALF} | RECIPE | flags for flags in VARIANTS.values()]
    others += [phase_cell(base, lr) for base in YOUNG for lr in STEPS]
    return main, [cell for i, cell in enumerate(others) if cell not in main + others[:i]]


def phase_cell(base: str, lr: float) -> dict:
    return {"base": base} | RECIPE | {"reward": "consensus", "lr": lr}


def runs(seeds: int = 5, quick: bool = False) -> list[dict]:
    if quick:
        return repeat_cells([{"base": HALF} | RECIPE | flags for flags in LABELS.values()], [], 1)
    return repeat_cells(*list_cells(), seeds)


def measure(runs: list[dict]) -> list[dict]:
    """What a vote of each base gives without training."""
    bases = dict.fromkeys(run["base"] for run in runs)
    return [{"base": base, "votes": votes, "accuracy": accuracy}
            for base in bases for votes, accuracy in measure_vote(place_base(base)).items()]


def read_curve(results: Results, cell: list[dict], name: str) -> tuple[float, float, list[float]]:
    """First and best of the mean curve; last of each seed's, the mean of its last three rows.

    Not the mean of each seed's best: the best of 20 noisy points is too high.
    """
    curves = [[row[name] for row in curve] for curve in curves_of(results, cell)]
    means = [mean(values) for values in zip(*curves)]
    return means[0], max(means), [mean(curve[-3:]) for curve in curves]


def show_course(results: Results, cell: list[dict], name: str) -> str:
    """'0.28 -> 0.19': first and last."""
    first, _, last = read_curve(results, cell, name)
    return f"{first:.2f} -> {mean(last):.2f}"


def show_accuracy(results: Results, cell: list[dict]) -> str:
    """'0.28 -> 0.43 -> 0.19 ± 0.05': first, best and last."""
    first, best, last = read_curve(results, cell, "accuracy")
    return f"{first:.2f} -> {best:.2f} -> {show_seeds(last, 2, '', 1)}"


def tabulate_labels(results: Results, base: str, cells: dict[str, dict]) -> str:
    """A row for each reward: over training on the left, on the evaluation problems on the right."""
    lines = [[base.removeprefix("good-code-"), "accuracy: first, best, last", "label right",
              "agreement", "top answer", "evaluated"]]
    for name, flags in cells.items():
        cell = select_runs(results.runs, {"base": base} | RECIPE | flags)
        if cell:
            lines.append([name, show_accuracy(results, cell),
                          *(show_course(results, cell, COLUMNS[column])
                            for column in ("label right", "agreement", "top answer")),
                          show_seeds(gains(cell))])
    return align(lines)


def tabulate_code(results: Results) -> str:
    """What a gain is made of: more code, or more right answers inside code. `(base)`: before RL."""
    lines = [["base", "reward", "code share", "right in code", "gain by switching", "within modes"]]
    for base in HALVES:
        cells = {name: select_runs(results.runs, {"base": base} | RECIPE | flags)
                 for name, flags in LABELS.items()}
        found = [cell for cell in cells.values() if cell]
        if found:
            first = found[0][0]
            lines.append([base.removeprefix("good-code-"), "(base)",
                          *(f"{first[f'before_{name}']:.3f}"
                            for name in ("code_share", "accuracy_code")), "", ""])
        for name, cell in cells.items():
            if cell:
                shares, right = ([run[f"after_{column}"] for run in cell]
                                 for column in ("code_share", "accuracy_code"))
                lines.append(["", name, show_seeds(shares, 3, "", 1), show_seeds(right, 3, "", 1),
                              *(show_seeds(gains(cell, part)) for part in ("switch", "within"))])
    return align(lines)


def tabulate_phases(results: Results) -> str:
    """Gains on the evaluation problems by base and step size; how many seeds ended lower."""
    lines = [["base", "T = 1", *(f"step {lr:g}" for lr in STEPS)]]
    for base in YOUNG:
        cells = [select_runs(results.runs, phase_cell(base, lr)) for lr in STEPS]
        if any(cells):
            before = next(cell for cell in cells if cell)[0]["before_accuracy"]
            lines.append([base, f"{before:.2f}", *(show_phase(cell) for cell in cells)])
    return align(lines)


def show_phase(cell: list[dict]) -> str:
    """'-12.0 ± 3.1 (5)': the gain, and of how many seeds it is a loss."""
    return f"{show_seeds(gains(cell))} ({sum(gain < 0 for gain in gains(cell))})" if cell else ""


def tabulate_votes(results: Results) -> str:
    """Without training: what n votes of a base give; with: the best and last that training gave."""
    lines = [["base", "1 sample", "16 votes", "64 votes", "consensus: best", "last",
              "its 16 votes"]]
    for base in dict.fromkeys((*YOUNG, *HALVES)):
        voted = {row["votes"]: row["accuracy"] for row in results.evidence if row["base"] == base}
        cell = select_runs(results.runs, {"base": base} | RECIPE | LABELS["consensus"])
        if voted and cell:
            _, best, last = read_curve(results, cell, "accuracy")
            _, votes, _ = read_curve(results, cell, "vote_accuracy")
            lines.append([base, *(f"{voted[n]:.3f}" for n in (1, 16, 64)), f"{best:.2f}",
                          show_seeds(last, 2, "", 1), f"{votes:.2f}"])
    return align(lines)


def table(results: Results) -> str:
    """Labels on all half competent bases; how much is code; variants; the condition; votes."""
    parts = {f"Labels on {base}: training prompts by batch, and the gain in points":
             tabulate_labels(results, base, LABELS) for base in HALVES
             if any(run["base"] == base for run in results.runs)}
    if any(run["base"] != HALF for run in results.runs):
        parts |= {
            "What the gains are made of: share of code, accuracy inside it, and points of the gain":
                tabulate_code(results),
            f"Variants of consensus on {HALF}: training prompts by batch, and the gain in points":
                tabulate_labels(results, HALF, VARIANTS),
            "Consensus by base and step size: gain in points (seeds that ended below the base)":
                tabulate_phases(results),
            "Accuracy of votes without training, and of consensus on training prompts, by base":
                tabulate_votes(results)}
    return add_bounds(title_tables(parts))


def show_ends(cell: list[dict], name: str) -> str:
    """'0.42 -> 0.58': means before and after; of runs that end far apart how many are above a line.
    """
    before, after = ([run[f"{when}_{name}"] for run in cell] for when in ("before", "after"))
    shown = show_seeds(after, 2, "", 1) if is_split(after, 1) else f"{mean(after):.2f}"
    return f"{mean(before):.2f} -> {shown}"


def select_labels(results: Results) -> dict[tuple[str, str], list[dict]]:
    """{(base, label): runs} of the main experiment, without those that have not been run."""
    cells = {(base, name): select_runs(results.runs, {"base": base} | RECIPE | flags)
             for base in HALVES for name, flags in LABELS.items()}
    return {key: cell for key, cell in cells.items() if cell}


def summary(results: Results) -> Summary:
    """What each label does to agreement, and to the truth: votes on each base, others on all."""
    columns = {"accuracy": "accuracy", "agreement": "agreement", "programs": "code_share",
               "programs right": "accuracy_code"}
    rows, cells = [["paid for", "base", "runs", *columns]], select_labels(results)
    for name, paid in PAID.items():
        found = {HALVES[base]: cell for (base, label), cell in cells.items() if label == name}
        if len(found) > 1 and name not in ("consensus", "frozen"):
            found = {f"all {len(found)}": [run for cell in found.values() for run in cell]}
        for where, cell in found.items():
            rows.append([paid, where, str(len(cell)),
                         *(show_ends(cell, column) for column in columns.values())])
    title = "Shares on 400 problems that no training has used, before and after RL"
    return Summary(title, rows, describe_gains(cells))


def describe_gains(cells: dict[tuple[str, str], list[dict]]) -> str:
    """The gain of accuracy under each label, with Student's 95% interval, a line a base."""
    lines = []
    short = {"consensus": "votes now", "frozen": "frozen votes", "correct": "right answer"}
    for base, where in HALVES.items():
        parts = [f"{text} {show_mean(gains(cells[base, name]))}"
                 for name, text in short.items() if (base, name) in cells]
        lines += [f"{where} base: {', '.join(parts)}"] if parts else []
    sizes = sorted({len(cell) for cell in cells.values()}, reverse=True)
    note = ("one seed: enough to see it, not to claim it" if sizes == [1]
            else f"95% intervals over {' and '.join(map(str, sizes))} seeds")
    return f"Points of accuracy gained ({note}):\n" + ";\n".join(lines) + "."


def draw_course(axis, results: Results, cell: list[dict], names=tuple(COLUMNS)) -> None:
    """The mean over seeds of each quantity, thick, and every seed, thin."""
    curves = curves_of(results, cell)
    batches = [row["step"] + 1 for row in curves[0]]
    for label in names:
        lines = [[row[COLUMNS[label]] for row in curve] for curve in curves]
        draw_mean(axis, batches, lines, COLORS[label])


def figure(results: Results):
    """Agreement, accuracy and label over training: votes that move beside votes that are frozen."""
    cells = select_labels(results)
    panels = {"consensus": "paid for its own votes, now",
              "frozen": "paid for its own votes, taken before RL"}
    drawn = {title: cells[HALF, name] for name, title in panels.items() if (HALF, name) in cells}
    canvas, axes = open_canvas(1, len(drawn), figsize=(8.8, 3.5), sharey=True, squeeze=False)
    for axis, (title, cell) in zip(axes[0], drawn.items()):
        draw_course(axis, results, cell, ("label right", "agreement", "accuracy"))
        axis.plot(0, cell[0]["before_accuracy"], "o", color=BLUE, fillstyle="none", clip_on=False)
        axis.set(title=title, xlabel="rollout batches (ring: before RL)", ylim=(0.3, 0.95),
                 xlim=(0, 49))
    for label, color, x, y in (("majority right", RED, 12, 0.81), ("agreement", ORANGE, 7, 0.61),
                               ("accuracy", BLUE, 13, 0.42)):
        axes[0, 0].text(x, y, label, color=color)
    axes[0, 0].set_ylabel("share (thin: a seed)")
    found = "Paid for agreeing with itself, the model goes on agreeing while accuracy decays"
    canvas.suptitle(found, x=0.01, ha="left")
    return canvas


def record_figure(results: Results):
    """A panel a reward, and consensus on a younger base: agreement rises while truth falls."""
    titles = {"consensus": "own votes, now", "frozen": "16 votes before RL",
              "correct": "the right answer", "random": "a coin"}
    panels = [(titles[name], {"base": HALF} | flags) for name, flags in LABELS.items()]
    panels += [("own votes, younger base", {"base": YOUNG[1]} | LABELS["consensus"])]
    found = [(title, select_runs(results.runs, RECIPE | flags)) for title, flags in panels]
    found = [(title, cell) for title, cell in found if cell]
    canvas, axes = open_canvas(1, len(found), figsize=(2.4 * len(found), 3.2), sharey=True)
    for axis, (title, cell) in zip(axes, found):
        draw_course(axis, results, cell)
        axis.set(title=title, xlabel="rollout batches", ylim=(0, 1), xlim=(0, 49))
    for label, (x, y) in {"agreement": (3, 0.645), "label right": (4, 0.93),
                          "accuracy": (4, 0.36), "top answer": (10, 0.09)}.items():
        axes[0].text(x, y, label, color=COLORS[label], fontsize=9)
    axes[0].set_ylabel("share (thin: a seed)")
    return canvas
