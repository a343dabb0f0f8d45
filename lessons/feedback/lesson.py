"""What does a reward throw away that a hint could say?

What to do instead. With code in 2% of a base's answers a hint over the full vocabulary is right in
0.9 after 512 rollouts, the scalar after 2,048 (5 seeds, one base); where code was never read
unasked such a divergence finds it on all seeds and on all of 3 bases, but on two of these only 0.71
of the answers end right. Imitation of right answers that the base gave with the hint is as quick (3
seeds), without a teacher that scores tokens; and a forced first token gives 0.95 at 2% without
training. About 70 minutes on 2 cores.
"""

from pathlib import Path
from statistics import mean
from textwrap import fill

from data.corpus import CODE_OPENER
from lessons.feedback.hints import measure_hint
from lessons.feedback.imitate import PROGRAM as IMITATE
from lessons.grid import base_grid, locate_run, place_base, repeat_cells, write_train_command
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
    read_run,
    select_runs,
    show_seeds,
    show_spread,
    title_tables,
)
from lessons.summary import Summary
from rlvr import LOSSES

PRIORS = (0.2, 0.02, 0.005, 0.0)
BASES = (base_grid(base=["hinted-code"], code_prior=list(PRIORS))
         | base_grid(base=["hinted-code"], code_prior=[0.02], slips=[0.05])
         | base_grid(base=["hinted-code"], code_prior=[0.0], seed=[1, 7]))
OTHERS = ("hinted-code-prior0.0-seed1", "hinted-code-prior0.0-seed7")   # pretrained anew
RARE, SLIPPING = "hinted-code-prior0.02", "hinted-code-prior0.02-slips0.05"

RECIPE = {"reward": "correct", "prompts": 32, "updates": 16, "pool": 128}
ROLLOUTS, STEPS, LONG, VERY_LONG = 512, 12, 20, 40     # of a batch; rollout batches
FORMS = {"scalar": {"loss": "grpo"}, "token": {"loss": "directive"},
         "scalar + token": {"loss": "grpo_directive"},
         "JSD": {"loss": "distill"}, "forward KL": {"loss": "distill", "distill": "forward"},
         "reverse KL": {"loss": "distill", "distill": "reverse"},
         "scalar + JSD": {"loss": "grpo_distill"},
         # Two that name the mode without a teacher's scores: a reward for every program; and
         # imitation of right answers that were sampled with the hint (imitate.py).
         "code reward": {"loss": "grpo", "reward": "code"},
         "imitation": {"loss": "distill", "directive_weight": 0.0}}
RIVALS = "code reward", "imitation"
STEP_SIZES = (0.005, 0.015, 0.045, 0.135)
# Chosen by accuracy on training prompts, over all batches of the sweep, on seeds of its own.
BEST = {
    0.2: {"scalar": 0.015, "token": 0.045, "scalar + token": 0.045, "JSD": 0.135,
          "forward KL": 0.045, "reverse KL": 0.135, "scalar + JSD": 0.015},
    0.02: {"scalar": 0.045, "token": 0.015, "scalar + token": 0.015, "JSD": 0.135,
           "forward KL": 0.045, "reverse KL": 0.045, "scalar + JSD": 0.045,
           "code reward": 0.045, "imitation": 0.135},
    0.005: {"scalar": 0.045, "token": 0.045, "scalar + token": 0.045, "JSD": 0.135,
            "forward KL": 0.045, "reverse KL": 0.045, "scalar + JSD": 0.045,
            "code reward": 0.045, "imitation": 0.135},
    0.0: {"scalar": 0.045, "token": 0.045, "scalar + token": 0.045, "JSD": 0.135,
          "forward KL": 0.015, "reverse KL": 0.045, "scalar + JSD": 0.135,
          "code reward": 0.045, "imitation": 0.135}}
SWEEP_SEEDS = (101, 102)
# Not swept, to save time: these have the step of the next larger prior.
UNSWEPT = (0.005, "imitation"), (0.0, "imitation"), (0.0, "code reward")
EVIDENCE_SECONDS = 8    # of a run of the sweep, about
BARE = {"eval_problems": 50, "eval_samples": 1}   # a sweep looks at training prompts alone
OFF = {"directive_batches": 3}                    # then the teacher goes
SHOWN = ("", " #code", " #careful", " #tip")      # hints that the table of the bases has
FORCED = "forced token"                           # no hint: the answer is made to begin a program
FORCED_ON = ("hinted-code-prior0.02", "hinted-code-prior0.005", "hinted-code-prior0.0")
CONTROLS = {"token": ("none", "huh", "tip", "words", "random", "answer", "wrong", "other"),
            "JSD": ("tip", "answer")}


def name_policy(prior: float) -> str:
    return f"hinted-code-prior{prior}"


def sweep_cell(prior: float, form: str, lr: float) -> dict:
    return {"base": name_policy(prior)} | RECIPE | FORMS[form] | {"lr": lr, "steps": STEPS} | BARE


def main_cell(prior: float, form: str, **more) -> dict:
    """A form at its best step size for a prior."""
    cell = {"base": name_policy(prior)} | RECIPE | FORMS[form]
    return cell | {"lr": BEST[prior][form], "steps": STEPS} | more


def rare_cell(form: str, **more) -> dict:
    return main_cell(0.02, form, **more)


def list_complements(base: str, **hint) -> dict[str, dict]:
    """{name: flags}: alone, together, and together until the teacher goes."""
    cells = {form: rare_cell(form) for form in ("scalar", "token", "JSD")}
    cells["scalar, slower"] = rare_cell("scalar", lr=0.015)        # and more precise
    for form in ("scalar + token", "scalar + JSD"):
        cells |= {form: rare_cell(form), f"{form}, 3 batches": rare_cell(form, **OFF)}
    hints = {name: hint if LOSSES[cell["loss"]].companions else {}
             for name, cell in cells.items()}
    return {name: cell | {"base": base, "steps": LONG} | hints[name]
            for name, cell in cells.items()}


def list_teachers() -> dict[str, dict]:
    """{name: flags} of who reads the hint, over 40 batches."""
    cells = {(form, teacher): {"teacher": teacher} for form, teacher in (
        ("token", "frozen"), ("token", "ema"), ("token", "current"), ("scalar + token", "current"),
        ("JSD", "frozen"), ("JSD", "current"))}
    return {f"{form}, {teacher}": rare_cell(form, steps=VERY_LONG, **flags)
            for (form, teacher), flags in cells.items()}


def list_controls(form: str) -> dict[str, dict]:
    """{name: flags} of hints that say something else, or are for failed rollouts alone."""
    cells = {"code": rare_cell(form), "code, failed only": rare_cell(form, hint_for="failed")}
    return cells | {hint: rare_cell(form, hint=hint) for hint in CONTROLS[form]}


def list_imitations() -> dict[str, dict]:
    """{name: flags} of what the imitated answers are: all of them, or those behind another hint."""
    return {"right": rare_cell("imitation"),
            "right, slower": rare_cell("imitation", lr=0.015),
            "all": rare_cell("imitation", reward="random", p=1.0),
            "right, tip": rare_cell("imitation", hint="tip")}


def list_others() -> list[dict]:
    named = [list_complements(SLIPPING), list_complements(RARE, hint="careful"), list_teachers(),
             list_controls("token"), list_controls("JSD")]
    anew = [main_cell(0.0, form) | {"base": base} for base in OTHERS
            for form in ("token", "JSD", "forward KL", "reverse KL")]
    return [cell for cells in named for cell in cells.values()] + anew


def runs(seeds: int = 5, quick: bool = False) -> list[dict]:
    if quick:
        return repeat_cells([rare_cell("scalar"), rare_cell("token")], [], 1)
    listed = [(prior, form) for prior in PRIORS for form in BEST[prior]]
    cells = [main_cell(prior, form) for prior, form in listed if form not in RIVALS]
    others = [cell for cell in list_others() if cell not in cells]
    others = [cell for i, cell in enumerate(others) if cell not in others[:i]]
    rivals = [main_cell(prior, form) for prior, form in listed if form in RIVALS]
    rivals += [cell for cell in list_imitations().values() if cell not in rivals]
    return repeat_cells(cells, others, seeds) + repeat_cells([], rivals, seeds)


def list_sweep() -> list[tuple[float, str, float, dict]]:
    """(prior, form, step size, run) of what the step sizes are chosen by."""
    return [(prior, form, lr, sweep_cell(prior, form, lr) | {"seed": seed}) for prior in PRIORS
            for form in BEST[prior] if (prior, form) not in UNSWEPT for lr in STEP_SIZES
            for seed in SWEEP_SEEDS]


def choose_program(run: dict) -> str:
    """What makes a run: imitation has its own updates, and the flags of no other form."""
    return IMITATE if FORMS["imitation"].items() <= run.items() else "rlvr.py"


def evidence_commands(runs: list[dict]) -> list[tuple[str, Path, str]]:
    """The runs of the sweep: the command, the file that it makes, and the base."""
    return [(f"{write_train_command(run, choose_program(run))} --threads 1",
             locate_run(run) / "summary.json", run["base"]) for _, _, _, run in list_sweep()]


def measure(runs: list[dict]) -> list[dict]:
    """Rows of the bases, by hint, and with a forced first token; of the sweep: accuracy on training
    prompts, the mean over all batches of a run.
    """
    rows = [{"base": base, "hint": hint, **measure_hint(place_base(base), hint)}
            for base in BASES for hint in SHOWN]
    rows += [{"base": base, "hint": FORCED, **measure_hint(place_base(base), "", CODE_OPENER)}
             for base in FORCED_ON]
    for prior, form, lr, run in list_sweep():
        batches = read_run(locate_run(run))[1]
        rows.append({"prior": prior, "form": form, "step": lr, "seed": run["seed"],
                     "accuracy": mean(batch["accuracy"] for batch in batches)})
    return rows


# --- the tables

def find_accuracies(results: Results, cell: list[dict]) -> list[list[float]]:
    """The accuracy of each batch, before its updates, of each run."""
    return [[row["accuracy"] for row in curve] for curve in curves_of(results, cell)]


def count_rollouts(lines: list[list[float]], level: float) -> list[int | None]:
    """After how many rollouts a batch is right in a share `level`; None: not at all."""
    return [next((ROLLOUTS * i for i, value in enumerate(line) if value >= level), None)
            for line in lines]


def show_rollouts(lines: list[list[float]], level: float) -> str:
    """'1536 ± 512', of those runs that came there; how many, if not all."""
    reached = [count for count in count_rollouts(lines, level) if count is not None]
    if not reached:
        return "never"
    share = "" if len(reached) == len(lines) else f" ({len(reached)} of {len(lines)})"
    return show_spread(reached, 0, "") + share


def show_after(cell: list[dict], name: str = "accuracy", digits: int = 2) -> str:
    return show_seeds([run[f"after_{name}"] for run in cell], digits, "", 1)


def show_point(values: list[float]) -> str:
    """The mean over seeds; how many end above a line if they are split."""
    return show_seeds(values, 2, "", 1) if is_split(values, 1) else f"{mean(values):.2f}"


def tabulate_forms(results: Results) -> str:
    """A row a prior and form, at its best step: rollouts until batches are right; evaluated."""
    lines = [["code unasked", "form", "step", "rollouts to 0.5", "to 0.9", "evaluated"]]
    for prior in PRIORS:
        for form in BEST[prior]:
            cell = select_runs(results.runs, main_cell(prior, form))
            if cell:
                accuracies = find_accuracies(results, cell)
                lines.append([f"{100 * prior:g}%" if form == "scalar" else "", form,
                              f"{BEST[prior][form]:g}",
                              *(show_rollouts(accuracies, level) for level in (0.5, 0.9)),
                              show_after(cell)])
    return align(lines)


def tabulate_seeds(results: Results) -> str:
    """Never sampled, on bases of other pretraining seeds: code comes, and how right it is."""
    lines = [["never sampled", "form", "code share", "evaluated", "seeds"]]
    for base in (name_policy(0.0), *OTHERS):
        for form in ("token", "JSD", "forward KL", "reverse KL", "imitation"):
            cell = select_runs(results.runs, main_cell(0.0, form) | {"base": base})
            if cell:
                lines.append([base.removeprefix("hinted-code-") if form == "token" else "", form,
                              show_after(cell, "code_share"), show_after(cell), str(len(cell))])
    return align(lines)


def measure_sweep(results: Results, prior: float, form: str, lr: float) -> float | None:
    """Accuracy on training prompts, the mean over all batches of the sweep's runs."""
    found = [row["accuracy"] for row in results.evidence
             if (row.get("prior"), row.get("form"), row.get("step")) == (prior, form, lr)]
    return mean(found) if found else None


def tabulate_bases(results: Results) -> str:
    """A row a base: its share of code and its accuracy, without a hint and with some."""
    shown = (*SHOWN, FORCED)
    lines = [["base: code, accuracy", *(hint.strip() or "no hint" for hint in shown)]]
    for base in BASES:
        rows = {(row["hint"] or "").strip(): row for row in results.evidence
                if row.get("base") == base}
        lines.append([base.removeprefix("hinted-code-"),
                      *(f"{row['code_share']:.4f}, {row['accuracy']:.3f}" if row else ""
                        for row in (rows.get(hint.strip()) for hint in shown))])
    return align(lines)


def tabulate_sweep(results: Results) -> str:
    """A row a prior and form, a column a step size: the sweep's accuracy; * the best."""
    lines = [["code unasked", "form", *(f"step {lr:g}" for lr in STEP_SIZES)]]
    for prior in PRIORS:
        for form in BEST[prior]:
            scores = {lr: measure_sweep(results, prior, form, lr) for lr in STEP_SIZES}
            if None not in scores.values():
                lines.append([f"{100 * prior:g}%" if form == "scalar" else "", form,
                              *(f"{score:.3f}" + "*" * (lr == BEST[prior][form])
                                for lr, score in scores.items())])
    return align(lines)


def tabulate_complements(results: Results) -> str:
    """Slipping teacher, imprecise hint: accuracy of batches 4 and 20, evaluated, share of code."""
    lines = [["teacher", "form", "step", "batch 4", "batch 20", "evaluated", "code"]]
    for name, cells in (("slips", list_complements(SLIPPING)),
                        ("imprecise", list_complements(RARE, hint="careful"))):
        for form, flags in cells.items():
            cell = select_runs(results.runs, flags)
            if cell:
                accuracies = find_accuracies(results, cell)
                lines.append([name if form == "scalar" else "", form, f"{flags['lr']:g}",
                              *(show_seeds([line[i] for line in accuracies], 2, "", 1)
                                for i in (3, 19)),
                              show_after(cell), show_after(cell, "code_share")])
    return align(lines)


def tabulate_teachers(results: Results) -> str:
    """Who reads the hint, over 40 batches: accuracy, code share, gradient norm on the way."""
    lines = [["form, teacher", "batches 1-2", "19-20", "39-40", "code", "gradient norm",
              "evaluated"]]
    for name, flags in list_teachers().items():
        cell = select_runs(results.runs, flags)
        if cell:
            curves = curves_of(results, cell)
            points = [[curve[i]["accuracy"] for curve in curves] for i in (0, 9, -1)]
            code = mean(curve[-1]["code_share"] for curve in curves)
            norms = [mean(curve[i]["grad_norm"] for curve in curves) for i in (0, -1)]
            lines.append([name, *(show_point(point) for point in points), f"{code:.2f}",
                          " -> ".join(f"{norm:.2f}" for norm in norms), show_after(cell)])
    return align(lines)


def tabulate_controls(results: Results) -> str:
    """Other hints: accuracy and code share after 12 batches, of the token form and of JSD."""
    lines = [["hint", "token: evaluated", "code share", "JSD: evaluated", "code share"]]
    token, full = list_controls("token"), list_controls("JSD")
    for hint in token:
        cells = [select_runs(results.runs, cells[hint]) if hint in cells else []
                 for cells in (token, full)]
        lines.append([hint, *(show_after(cell, name) if cell else "" for cell in cells
                              for name in ("accuracy", "code_share"))])
    return align(lines)


def tabulate_imitations(results: Results) -> str:
    """What is imitated: rollouts until batches are right, accuracy and code share after RL."""
    lines = [["imitated", "step", "rollouts to 0.5", "to 0.9", "evaluated", "code share"]]
    for name, flags in list_imitations().items():
        cell = select_runs(results.runs, flags)
        if cell:
            accuracies = find_accuracies(results, cell)
            lines.append([name, f"{flags['lr']:g}",
                          *(show_rollouts(accuracies, level) for level in (0.5, 0.9)),
                          show_after(cell), show_after(cell, "code_share")])
    return align(lines)


def table(results: Results) -> str:
    """Forms by prior; the sweep; two that complement each other; teachers; controls."""
    parts = {"Forms of feedback: rollouts until a batch is right so often, and accuracy after RL":
             tabulate_forms(results)}
    if results.evidence:
        parts |= {
            "Code never sampled, three bases: share of code and accuracy after RL":
                tabulate_seeds(results),
            "Bases before RL: share of code, and accuracy, by the hint they read":
                tabulate_bases(results),
            "The sweep of step sizes: accuracy on training prompts (* the best of its row)":
                tabulate_sweep(results),
            "Two imperfect teachers: accuracy of two batches, then accuracy and code after RL":
                tabulate_complements(results),
            "Who is the teacher: accuracy by batch, code, gradient norm, and accuracy after RL":
                tabulate_teachers(results),
            "Other hints: accuracy and share of code after RL": tabulate_controls(results),
            "Imitation of other answers: rollouts until a batch is right, then as above":
                tabulate_imitations(results)}
    return add_bounds(title_tables(parts), r"(\d+) of (\d+)")


# --- the page

# What a form learns from, in a reader's words.
HEARD = {"scalar": "right or wrong", "code reward": "program or not",
         "token": "a hint, on sampled tokens", "forward KL": "a hint, on all tokens",
         "imitation": "imitation of hinted answers"}
PAGE_ROWS = [*((0.02, form) for form in HEARD),
             *((0.0, form) for form in ("scalar", "forward KL", "imitation"))]
PAGE_PRIORS = (0.02, 0.005, 0.0)
GREEN, PURPLE = "#009E73", "#CC79A7"    # two more of Okabe and Ito's


def show_reached(results: Results, found: list[dict]) -> str:
    """The mean rollouts of those runs that came to 0.9, and how many did if not all."""
    counts = count_rollouts(find_accuracies(results, found), 0.9)
    reached = [count for count in counts if count is not None]
    share = "" if len(reached) == len(counts) else f" ({len(reached)} of {len(counts)} runs)"
    return f"{mean(reached):.0f}{share}" if reached else "never"


def summary(results: Results) -> Summary:
    """Rollouts until batches are right in 0.9, and accuracy, by what is learnt from."""
    rows = [["programs unasked", "learns from", "runs", "rollouts to 0.9", "accuracy"]]
    said = []
    for prior, form in PAGE_ROWS:
        found = select_runs(results.runs, main_cell(prior, form))
        if found:
            reached = show_reached(results, found)
            before = mean(run["before_accuracy"] for run in found)
            rows.append([f"{100 * prior:g}%", HEARD[form], str(len(found)), reached,
                         f"{before:.2f} -> {show_after(found)}"])
            said += [(HEARD[form], reached, len(found))] if prior else []
    return Summary("Mean rollouts until 0.9 of a batch is right; accuracy on new problems, before "
                   "and after", rows, say_reached(said))


def say_reached(said: list[tuple[str, str, int]]) -> str:
    """A sentence from (what is learnt from, rollouts, runs) where few answers are programs."""
    if not said:
        return "No run here is of a base that writes programs in 2% of its answers."
    parts = "; ".join(f"{heard}: {reached}" for heard, reached, _ in said)
    few, many = min(n for *_, n in said), max(n for *_, n in said)
    size = f"{few}{f' to {many}' if few < many else ''} seeds"
    size = size if many > 1 else "one seed: enough to see it, not to claim it"
    return fill("Mean rollouts until 0.9 of a batch is right, where 2% of the answers are "
                f"programs. {parts[0].upper()}{parts[1:]}. One base, {size}.", 96)


# --- the figures

SHORT_HEARD = {"scalar": ("right or wrong", GREY), "code reward": ("program or not", PURPLE),
               "token": ("hint, sampled tokens", ORANGE), "forward KL": ("hint, all tokens", BLUE),
               "imitation": ("imitation", GREEN)}
# Heights of the labels beside the last panel: those of the lines' ends, a line of text apart.
LABELS_AT = {"imitation": 1.01, "forward KL": 0.93, "code reward": 0.48, "token": 0.4,
             "scalar": 0.21}


def draw_page_panel(axis, results: Results, prior: float, labelled: bool) -> None:
    """Accuracy of each batch against the rollouts before it, for the page: five forms."""
    for form, (label, color) in SHORT_HEARD.items():
        lines = find_accuracies(results, select_runs(results.runs, main_cell(prior, form)))
        if lines:
            draw_mean(axis, [ROLLOUTS * i for i in range(len(lines[0]))], lines, color)
            if labelled:
                axis.text(5900, LABELS_AT[form], label, color=color, fontsize=9, va="center")
    axis.set(title=f"programs unasked: {100 * prior:g}%", ylim=(0, 1.08), xlabel="rollouts used",
             xticks=[0, 2000, 4000])


def figure(results: Results):
    """A panel a prior: the rarer programs are, the more a hint on all tokens saves."""
    priors = [prior for prior in PAGE_PRIORS
              if select_runs(results.runs, main_cell(prior, "scalar"))]
    canvas, axes = open_canvas(1, len(priors), figsize=(9, 3.3), sharey=True, squeeze=False)
    for axis, prior in zip(axes[0], priors):
        draw_page_panel(axis, results, prior, prior == priors[-1])
    axes[0, 0].set_ylabel("accuracy of a batch (thin: a seed)")
    canvas.suptitle("The rarer the program, the more rollouts a hint saves", fontsize=12)
    return canvas


COLORS = {"scalar": GREY, "token": ORANGE, "JSD": BLUE, "forward KL": GREEN,
          "reverse KL": RED}


def draw_forms(axis, results: Results, prior: float) -> None:
    """Accuracy of each batch against the rollouts before it, a line a form."""
    for form, color in COLORS.items():
        lines = find_accuracies(results, select_runs(results.runs, main_cell(prior, form)))
        if lines:
            draw_mean(axis, [ROLLOUTS * i for i in range(len(lines[0]))], lines, color)
    axis.set(title=f"code unasked: {100 * prior:g}%", ylim=(0, 1.02), xlabel="rollouts used")


def draw_teachers(axis, results: Results) -> None:
    """Accuracy over 40 batches of token advantages, a line a teacher."""
    styles = {"token, frozen": (BLUE, 0.9), "token, ema": (ORANGE, 0.83),
              "token, current": (RED, 0.22)}
    for name, (color, y) in styles.items():
        cell = select_runs(results.runs, list_teachers()[name])
        lines = find_accuracies(results, cell)
        if lines:
            batches = [row["step"] + 1 for row in curves_of(results, cell)[0]]
            draw_mean(axis, batches, lines, color)
            axis.text(batches[-1], y, name.removeprefix("token, "), color=color, ha="right",
                      fontsize=9)
    axis.set(title="who reads the hint (token)", xlabel="rollout batches", ylim=(0, 1.02))


def record_figure(results: Results):
    """A panel a prior: accuracy against rollouts; right: teachers over 40 batches."""
    priors = [prior for prior in PRIORS if select_runs(results.runs, main_cell(prior, "scalar"))]
    panels = len(priors) + (len(priors) > 1)     # --quick has one prior, and no teachers
    canvas, axes = open_canvas(1, panels, figsize=(2.6 * panels, 3.2), sharey=True, squeeze=False)
    for axis, prior in zip(axes[0], priors):
        draw_forms(axis, results, prior)
    axes[0, 0].set_ylabel("accuracy of a batch (thin: a seed)")
    for y, (form, color) in zip((0.46, 0.37, 0.28, 0.19, 0.1), COLORS.items()):
        axes[0, 0].text(2600, y, form, color=color, fontsize=9)
    if len(priors) > 1:
        draw_teachers(axes[0, -1], results)
    return canvas
