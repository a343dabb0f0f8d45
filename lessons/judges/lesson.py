"""Do judges gain from reasoning first, and what is a judge worth as a reward?

At equal training tokens a judge that reasons is right in 0.97, one that does not in 0.51. As a
reward what counts is its edge on what the policy does: its sign foretold every run of 9 of 10 new
judges, the rule that those that reason lift of 7 of 10. About 95 minutes on 2 cores.
"""

import json
from pathlib import Path
from statistics import mean
from textwrap import fill

import torch

from lessons.chance import chance
from lessons.grid import base_grid, grid, locate_run, place_base, scale_seeds
from lessons.judges import policies
from lessons.judges.measure import SIZES, measure_answers_given
from lessons.judges.rule import LIFTED, count_held, count_judges, says_edge, says_kind
from lessons.report import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    Results,
    add_bounds,
    align,
    curves_of,
    draw_gains,
    draw_mean,
    open_canvas,
    select_runs,
    show_range,
    show_seeds,
    title_tables,
)
from lessons.summary import Summary
from model import load_checkpoint
from plumbing.files import read_text

# A direct judge's documents have 11.8 tokens, a reasoning one's 29.3: as many tokens in all.
SAME, MORE = {"base": "judge-direct", "steps": 2490}, {"base": "judge-direct", "steps": 7470}
REASONS = {"base": "judge-reasoning", "steps": 1000}
FIRST = {"direct": base_grid(**SAME, seed=[0, 1, 2]),
         "direct, 3 x tokens": base_grid(**MORE, seed=[0, 1, 2]),
         "reasoning": base_grid(**REASONS, seed=[0, 1, 2]),
         "shares the bug": base_grid(**REASONS, seed=[0], judge_program=["bad"])}
# Judges that no run had seen when the rule below was written down.
NEW = {"direct": base_grid(**SAME, seed=[3, 4]),
       "young reasoning": base_grid(base="judge-reasoning", steps=[300, 400, 500], seed=[3, 4]),
       "shares the bug": base_grid(**REASONS, seed=[1, 2], judge_program=["bad"])}
POLICIES = base_grid(base=["good-code", "bad-code", "no-code"])
BASES = POLICIES | policies.BASES | {name: flags for kinds in (FIRST, NEW)
                                     for judges in kinds.values() for name, flags in judges.items()}
EVIDENCE_SECONDS = 50   # to measure a judge, about
CURVES = ("reward_right", "reward_wrong", "reward_gap", "reward_code", "reward_text")

TPR, FPRS = 0.53, (0.48, 0.43, 0.38)   # of oracles: a direct judge's TPR
ORACLE = {"reward": "noisy_oracle", "tpr": TPR, "fpr": FPRS[1]}   # a coin that favours the right
WAYS = ("majority", "mean", "tuned")
KINDS = ("right", "near miss", "text guess", "habit's bug", "random", "not a number")
COLORS = {"direct": ORANGE, "direct, 3 x tokens": RED, "reasoning": BLUE, "shares the bug": GREY}


def pay_by(judge: str) -> dict:
    """The flags of a run that a judge pays."""
    reward = "judge" if judge.startswith("judge-direct") else "reasoning_judge"
    return {"reward": reward, "judge": judge}


def list_rewards() -> dict[str, dict]:
    """{name: flags} of what is compared on all three bases; of each kind of judge the first."""
    judges = {kind: pay_by(next(iter(FIRST[kind]))) for kind in ("direct", "reasoning")}
    return {"correct": {"reward": "correct"}, "random": {"reward": "random"}} | judges


def list_oracles() -> list[dict]:
    return grid(reward=["noisy_oracle", "fixed_oracle"], tpr=TPR, fpr=list(FPRS))


def name_other_payers() -> dict[str, dict]:
    """{name: flags} of what pays the policies of other pretraining seeds; of judges the first."""
    judges = {kind: pay_by(next(iter(FIRST[kind])))
              for kind in ("direct", "reasoning", "shares the bug")}
    return {"right or wrong": {"reward": "correct"}, "coin": {"reward": "random"}, **judges,
            "coin for the right": ORACLE}


def runs(seeds: int = 5, quick: bool = False) -> list[dict]:
    if quick:
        return [{"base": "bad-code", "seed": 1} | reward
                for reward in ({"reward": "correct"}, pay_by(next(iter(FIRST["reasoning"]))))]
    few, pair = scale_seeds(3, seeds), scale_seeds(2, seeds)
    cells = [({"base": base} | flags, seeds) for base in POLICIES
             for flags in list_rewards().values()]
    cells += [({"base": "bad-code"} | pay_by(judge), seeds if judge == next(iter(judges)) else few)
              for judges in FIRST.values() for judge in judges]
    cells += [({"base": "bad-code"} | pay_by(judge), pair)
              for judges in NEW.values() for judge in judges]
    cells += [({"base": "bad-code"} | oracle, few) for oracle in list_oracles()]
    cells += [({"base": "bad-code", "verdict": "soft"} | pay_by(next(iter(FIRST[kind]))), few)
              for kind in ("direct", "reasoning")]
    known = [flags for flags, _ in cells]
    cells = [cell for i, cell in enumerate(cells) if cell[0] not in known[:i]]
    return ([flags | {"seed": seed} for flags, n in cells for seed in range(1, n + 1)]
            + policies.runs(name_other_payers(), seeds))


def follows(run: dict) -> bool:
    """Whether the curve of a run is stored: not on policies of other pretraining seeds."""
    return run["base"] not in policies.BASES


def list_judges(runs: list[dict]) -> list[str]:
    return list(dict.fromkeys(run["judge"] for run in runs if "judge" in run))


def evidence_commands(runs: list[dict]) -> list[tuple[str, Path, str]]:
    """What is measured of each judge: its command, the file that it makes, and the judge.

    Of new ones no votes: they are there for what their edge says.
    """
    return measure_commands(runs) + policies.evidence_commands(runs)


def measure_commands(runs: list[dict]) -> list[tuple[str, Path, str]]:
    """What is measured of each judge itself, and on the first policy."""
    places = {judge: Path("runs", judge, "judge.json") for judge in list_judges(runs)}
    first = {judge for judges in FIRST.values() for judge in judges}
    return [(f"python -m lessons.judges.measure {judge} --out {path.as_posix()}"
             + (" --votes" if judge in first else ""), path, judge)
            for judge, path in places.items()]


def measure(runs: list[dict]) -> list[dict]:
    """Rows of every judge: its belief and its gap; and of its votes."""
    rows = []
    for _, path, judge in measure_commands(runs):
        found = json.loads(read_text(path))
        rows.append({"judge": judge, "what": "belief", **found["belief"], **found["gap"]})
        rows += [{"judge": judge, "what": f"votes{noise}", **row}
                 for noise, votes in found["voting"].items() for row in votes]
    return rows + policies.measure(runs) + measure_hacking(runs)


def measure_hacking(runs: list[dict]) -> list[dict]:
    """Rows of no-code's answers, before and after RL on a direct judge."""
    flags = {"base": "no-code"} | list_rewards()["direct"]
    judge, checkpoint = load_checkpoint(place_base(flags["judge"]), torch.device("cpu"))
    policies = [(0, place_base("no-code"))]
    policies += [(run["seed"], locate_run(run) / "model.pt") for run in runs
                 if run == flags | {"seed": run["seed"]}]
    return [{"judge": flags["judge"], "what": "answers", "seed": seed,
             **measure_answers_given(path, judge, checkpoint["corpus"])}
            for seed, path in policies]


# --- without training

def show_mean(values: list[float], digits: int = 3) -> str:
    return show_seeds(values, digits, "", 1) if values else ""


def find_beliefs(results: Results, kinds: dict[str, dict]) -> dict[str, list[dict]]:
    """{kind: the belief of each of its judges that was measured}."""
    rows = {row["judge"]: row for row in results.evidence if row["what"] == "belief"}
    found = {kind: [rows[judge] for judge in judges if judge in rows]
             for kind, judges in kinds.items()}
    return {kind: beliefs for kind, beliefs in found.items() if beliefs}


def tabulate_beliefs(results: Results) -> str:
    """A row a kind of judge: how right it is, and what it accepts of all numbers, even and odd."""
    names = {"accuracy": "accuracy", "at k = 1": "accuracy at k = 1",
             "at k = 5": "accuracy at k = 5", "AUROC": "auroc", "of all 100": "accepts of all 100",
             "even": "accepts even", "odd": "accepts odd"}
    lines = [["judge", *names]]
    for kind, rows in find_beliefs(results, FIRST).items():
        means = {title: f"{mean(row[name] for row in rows):.2f}" for title, name in names.items()}
        means["accuracy"] = show_mean([row["accuracy"] for row in rows])
        lines.append([kind, *means.values()])
    return align(lines)


def tabulate_candidates(results: Results) -> str:
    """A row a kind of judge: what share of each kind of answer it accepts."""
    lines = [["accepts", *KINDS]]
    for kind, rows in find_beliefs(results, FIRST).items():
        lines.append([kind, *(show_mean([row[f"accepts {name}"] for row in rows], 2)
                              for name in KINDS)])
    return align(lines)


def find_votes(results: Results, judges, noise: str = "") -> dict[tuple[str, int], list[dict]]:
    """{(way, k): the rows of the judges, one each}."""
    found = {}
    for row in results.evidence:
        if row["judge"] in judges and row["what"] == f"votes{noise}":
            found.setdefault((row["way"], int(row["k"])), []).append(row)
    return found


def list_voters(results: Results) -> dict[str, dict]:
    """{name: votes} of both kinds at equal tokens, of more tokens, and of a noisy judge."""
    voters = {kind: find_votes(results, FIRST[kind]) for kind in list(FIRST)[:3]}
    voters["reasoning, T = 2.2"] = find_votes(results, FIRST["reasoning"], ", T = 2.2")
    return {name: votes for name, votes in voters.items() if votes}


def tabulate_votes(results: Results) -> str:
    """Balanced accuracy of k verdicts; the last lines: two, and two more where they differ."""
    lines = [["judge", "verdict by", *(f"k = {k}" for k in SIZES)]]
    for name, votes in list_voters(results).items():
        for way in WAYS:
            lines.append([name if way == WAYS[0] else "", way,
                          *(f"{mean(row['accuracy'] for row in votes[way, k]):.3f}"
                            for k in SIZES)])
    return align(lines)


def tabulate_adaptive(results: Results) -> str:
    """Accuracy and tokens of one, two, four verdicts, and of two that become four if they differ.
    """
    lines = [["accuracy (tokens)", "1 verdict", "2", "4", "2, and 2 more if they differ"]]
    for name, votes in list_voters(results).items():
        cells = [votes["majority", k] for k in (1, 2, 4)] + [votes["adaptive", 4]]
        lines.append([name, *(f"{mean(row['accuracy'] for row in cell):.3f} "
                              f"({mean(row['tokens'] for row in cell):.1f})" for cell in cells)])
    return align(lines)


# --- as rewards

def find_cell(results: Results, base: str, flags: dict) -> list[dict]:
    return select_runs(results.runs, {"base": base} | flags)


def show_course(results: Results, cell: list[dict], name: str) -> str:
    """'0.43 -> 0.54': the first and the last row of the curves, the mean over seeds."""
    curves = [[row[name] for row in curve if row.get(name) is not None]
              for curve in curves_of(results, cell)]
    curves = [curve for curve in curves if curve]
    if not curves:
        return ""
    return f"{mean(curve[0] for curve in curves):.2f} -> {mean(curve[-1] for curve in curves):.2f}"


def tabulate_rewards(results: Results) -> str:
    """A row a base and reward: true accuracy, and what was paid: in all, if right, if wrong."""
    lines = [["base", "paid by", "seeds", "accuracy", "paid", "if right", "if wrong"]]
    soft = {f"{kind}, soft": {"verdict": "soft"} | pay_by(next(iter(FIRST[kind])))
            for kind in ("direct", "reasoning")}
    shared = {"shares the bug": pay_by(next(iter(FIRST["shares the bug"])))}
    for base in POLICIES:
        extra = soft | shared if base == "bad-code" else {}
        for name, flags in (list_rewards() | extra).items():
            cell = find_cell(results, base, flags)
            if cell:
                accuracy = (f"{cell[0]['before_accuracy']:.2f} -> "
                            + show_seeds([run["after_accuracy"] for run in cell], 2, "", 1))
                known = any(line[0] == base for line in lines)
                lines.append(["" if known else base, name, str(len(cell)), accuracy,
                              *(show_course(results, cell, column)
                                for column in ("reward", "reward_right", "reward_wrong"))])
    return align(lines)


def tabulate_hacking(results: Results) -> str:
    """No-code before and after RL on a direct judge: what became of its answers."""
    rows = [row for row in results.evidence if row["what"] == "answers"]
    names = {"right": "right", "with a box": "box", "boxed: accepted": "accepted",
             "boxed: even": "even"}
    lines = [["no-code, paid by direct", *names]]
    for name, chosen in (("before", [row for row in rows if not row["seed"]]),
                         ("after", [row for row in rows if row["seed"]])):
        if chosen:
            lines.append([name, *(show_mean([row[column] for row in chosen], 2)
                                  for column in names.values())])
    return align(lines)


# --- what the gap says

def measure_edge(results: Results, tpr: float, fpr: float) -> float:
    """The edge of an oracle on the first policy."""
    row = next(row for row in results.evidence if row["what"] == "belief")
    return policies.compute_edge(row, tpr, fpr)


def list_payers(results: Results, kinds: dict[str, dict]) -> list[dict]:
    """A dict for each judge with runs on bad-code: kind, name, gap, edge, final accuracies."""
    payers = []
    for kind, rows in find_beliefs(results, kinds).items():
        for row in rows:
            cell = find_cell(results, "bad-code", pay_by(row["judge"]))
            if cell:
                payers.append({"kind": kind, "name": shorten_judge(row["judge"]),
                               "gap": row["gap"], "edge": row["edge"],
                               "after": [run["after_accuracy"] for run in cell]})
    return payers


def shorten_judge(name: str) -> str:
    """'direct, 2490 steps, seed 0' for its file's name."""
    words = name.removeprefix("judge-").split("-")
    kind = "buggy" if "judge_programbad" in words else words[0]
    return f"{kind}, {words[1].removeprefix('steps')} steps, seed {words[2][4:]}"


def list_oracle_payers(results: Results) -> list[dict]:
    payers = []
    for flags in list_oracles():
        cell = find_cell(results, "bad-code", flags)
        if cell:
            kind = flags["reward"].replace("_", " ")
            payers.append({"kind": kind, "name": f"{kind}, FPR {flags['fpr']}",
                           "gap": flags["tpr"] - flags["fpr"],
                           "edge": measure_edge(results, flags["tpr"], flags["fpr"]),
                           "after": [run["after_accuracy"] for run in cell]})
    return payers


def tabulate_payers(payers: list[dict], title: str) -> str:
    """A row a judge or oracle: its gap and edge, whether that promises a lift, what came of it."""
    lines = [[title, "gap", "edge", "says", "accuracy after", "lifted", "held"]]
    for payer in payers:
        held, n = count_held([payer])
        lifted = sum(accuracy >= LIFTED for accuracy in payer["after"])
        lines.append([payer["name"], f"{payer['gap']:+.3f}", f"{payer['edge']:+.3f}",
                      "lift" if payer["edge"] > 0 else "no lift",
                      show_seeds(payer["after"], 2, "", 1), f"{lifted} of {n}", f"{held} of {n}"])
    kind = title.removeprefix("new ")
    rules = {"": says_edge} | ({"by kind alone, ": says_kind} if kind == "judge" else {})
    for rule, says in rules.items():
        lines.append([f"{rule}runs", "", "", "", "", "",
                      "{} of {}".format(*count_held(payers, says))])
        held, n = count_judges(payers, says)
        low, high = chance(held, n)
        lines.append([f"{rule}{kind}s", "", "", "", "", "",
                      f"{held} of {n} ({low:.0%}-{high:.0%})"])
    return align(lines)


def table(results: Results) -> str:
    """Judges before any training; as rewards; what their edge promised and what came."""
    parts = {
        "Single verdicts: how often they are right, and the share of all numbers accepted":
            tabulate_beliefs(results),
        "Share of answers of each kind that a judge accepts": tabulate_candidates(results),
        "Accuracy of k verdicts, by judge and by what makes them one": tabulate_votes(results),
        "Accuracy of a majority, and in brackets the tokens that it costs":
            tabulate_adaptive(results)} if results.evidence else {}
    parts |= {"Judges as rewards: accuracy before -> after RL, and the share of answers they pay":
              tabulate_rewards(results)}
    if results.evidence:
        parts |= {
            "Answers of no-code before and after RL on a direct judge, as shares":
                tabulate_hacking(results),
            "What the edge of each judge says of bad-code, and what became of it":
                tabulate_payers(list_payers(results, FIRST), "judge"),
            "What the edge of each oracle says of bad-code, and what became of it":
                tabulate_payers(list_oracle_payers(results), "oracle"),
            "What the edge of judges that no run had seen says of bad-code, and what became of it":
                tabulate_payers(list_payers(results, NEW), "new judge"),
            "What the edge says of policies of two more pretraining seeds, and what became of them":
                policies.tabulate(results, name_other_payers())}
    return add_bounds(title_tables(parts))


# --- the page

ANSWERS_AT_ONCE = [*FIRST["direct"], *NEW["direct"]]
PAYERS = {"judge that answers at once": ANSWERS_AT_ONCE,
          "at once, 3 x the tokens": list(FIRST["direct, 3 x tokens"]),
          "judge that reasons first": list(FIRST["reasoning"]),
          "reasons first, pretrained less": list(NEW["young reasoning"]),
          "reasons, with the policy's bug": [*FIRST["shares the bug"], *NEW["shares the bug"]]}


def show_payer(results: Results, name: str, cells: list[dict], beliefs: list[dict]) -> list[str]:
    """A row of the page: what pays, its judges, their verdicts and edges, what becomes of runs."""
    found = [run for flags in cells for run in find_cell(results, "bad-code", flags)]
    if not found:
        return []
    after = [run["after_accuracy"] for run in found]
    return [name, str(len(beliefs) or ""), str(len(found)),
            show_range([row["accuracy"] for row in beliefs]) if beliefs else "",
            show_range([row["edge"] for row in beliefs], sign="+") if beliefs else "",
            f"{found[0]['before_accuracy']:.2f} -> {mean(after):.2f}",
            f"{sum(value >= LIFTED for value in after)} of {len(after)}"]


def summary(results: Results) -> Summary:
    """What pays a policy whose habit is wrong, how right it is, its edge, and what comes of it."""
    rows = [show_payer(results, "right or wrong", [{"reward": "correct"}], []),
            show_payer(results, "coin flip", [{"reward": "random"}], [])]
    known = {row["judge"]: row for row in results.evidence if row["what"] == "belief"}
    for name, judges in PAYERS.items():
        rows.append(show_payer(results, name, [pay_by(judge) for judge in judges],
                               [known[judge] for judge in judges if judge in known]))
    if known:
        belief = {"accuracy": (TPR + 1 - ORACLE["fpr"]) / 2,
                  "edge": measure_edge(results, TPR, ORACLE["fpr"])}
        rows.append(show_payer(results, "coin that favours the right", [ORACLE], [belief]))
        rows[-1][1:2] = [""] if rows[-1] else []   # it is no judge
    head = ["paid by", "judges", "runs", "right verdicts", "edge", "accuracy", "lifted"]
    return Summary("A policy whose habit is wrong, by who pays it: accuracy before and after RL",
                   [head, *filter(None, rows)], say_edges(results))


def say_edges(results: Results) -> str:
    """What the sign of the edge said, of judges known and new, and what needs no measurement."""
    known, new = (list_payers(results, kinds) for kinds in (FIRST, NEW))
    if not known or not new:
        return "Too few runs to say what an edge is worth: one seed shows a path, and no more."
    parts = ["{} of {} {} ({:.0%} to {:.0%})".format(held, n, word, *chance(held, n))
             for payers, word in ((known, "judges"), (new, "new ones"))
             for held, n in [count_judges(payers)]]
    plain = ["{} of {}".format(*count_judges(payers, says_kind)) for payers in (known, new)]
    pairs = policies.count_pairs(policies.list_cells(results, name_other_payers()))
    return fill("The sign of the edge, measured before RL, was right on every run of "
                f"{' and of '.join(parts)}; exact 95% intervals. The rule that judges that reason "
                f"lift, and no others, held on {' and '.join(plain)}."
                + (" On two more policies the sign was right on {} of {} pairs of a judge and a "
                   "policy.".format(*pairs) if pairs[1] else ""), 96)


# --- the figures

def list_groups(results: Results) -> list[tuple[str, str, list[dict]]]:
    """(label, colour, payers): the dots of the page's figure."""
    known, new = (list_payers(results, kinds) for kinds in (FIRST, NEW))
    at_once = [payer for payer in known + new if payer["kind"].startswith("direct")]
    return [("answer at once", ORANGE, at_once),
            ("reason first", BLUE, [payer for payer in known if payer["kind"] == "reasoning"]),
            ("reason, pretrained less", "#56B4E9",
             [payer for payer in new if payer["kind"] == "young reasoning"]),
            ("reason with the\npolicy's bug", RED,
             [payer for payer in known + new if payer["kind"] == "shares the bug"]),
            ("no judge: coins that\nfavour right answers", GREY, list_oracle_payers(results))]


LABELS_AT = ((-0.13, 0.34), (0.4, 0.9), (0.12, 0.8), (-0.4, 0.14), (-0.11, 0.66))


def figure(results: Results):
    """Accuracy after RL against the edge, a dot a run: above an edge of 0 the policy is lifted."""
    if not results.evidence:   # of --quick
        return draw_gains(results)
    canvas, axis = open_canvas(figsize=(8, 3.5))
    axis.axvline(0, color="black", linewidth=0.8)
    for (label, color, payers), (x, y) in zip(list_groups(results), LABELS_AT):
        for payer in payers:
            axis.plot([payer["edge"]] * len(payer["after"]), payer["after"], "o", color=color,
                      alpha=0.7, markersize=5, linewidth=0)
        axis.text(x, y, label, color=color, fontsize=9, ha="center", va="center")
    before = find_cell(results, "bad-code", {"reward": "correct"})[0]["before_accuracy"]
    axis.axhline(before, color=GREY, linewidth=0.8, linestyle=":")
    axis.text(0.95, before + 0.02, "before RL", color=GREY, fontsize=9, ha="right")
    axis.set(xlabel="edge: what the judge pays words above programs (log scale beyond 0.05)",
             ylabel="accuracy after RL (a dot a run)", ylim=(0, 1.06), xlim=(-1, 1))
    axis.set_xscale("symlog", linthresh=0.05)
    axis.set_xticks([-0.5, -0.05, 0, 0.05, 0.5], ["-0.5", "-0.05", "0", "+0.05", "+0.5"])
    axis.minorticks_off()
    canvas.suptitle("A judge lifts the policy if it pays words more than programs")
    return canvas


def draw_votes(axis, results: Results) -> None:
    """Balanced accuracy against tokens spent, a line a judge: verdicts by their mean or threshold.
    """
    styles = {"majority": ":", "tuned": "-"}
    for name, votes in list_voters(results).items():
        color = COLORS.get(name, "#56B4E9")
        for way, style in styles.items():
            cells = [votes[way, k] for k in SIZES]
            tokens = [mean(row["tokens"] for row in cell) for cell in cells]
            heights = [mean(row["accuracy"] for row in cell) for cell in cells]
            axis.plot(tokens, heights, style, color=color, marker=".", linewidth=1.5)
        below = name in ("direct", "reasoning, T = 2.2")
        axis.text(tokens[0], heights[0] + (-0.04 if below else 0.02 + 0.05 * ("3" in name)), name,
                  color=color, fontsize=9)
    axis.set(xscale="log", xlabel="tokens a judgement (1 to 32 verdicts)", ylim=(0.45, 1.04),
             title="balanced accuracy (line: tuned, dots: majority)")


def draw_edges(axis, results: Results) -> None:
    """Final accuracy on bad-code against the edge, a dot a run; filled: judges, hollow: oracles."""
    new = [payer | {"kind": "new judges"} for payer in list_payers(results, NEW)]
    oracles = list_oracle_payers(results)
    for payer in list_payers(results, FIRST) + new + oracles:
        color = COLORS.get(payer["kind"], "black" if payer in new else "#009E73")
        hollow = payer in oracles
        axis.plot([payer["edge"]] * len(payer["after"]), payer["after"],
                  "s" if payer["kind"] == "fixed oracle" else "o", color=color, alpha=0.6,
                  markersize=4, markerfacecolor="none" if hollow else color, linewidth=0)
    axis.axvline(0, color=GREY, linewidth=0.8)
    axis.axhline(LIFTED, color=GREY, linewidth=0.8, linestyle=":")
    axis.set(xlabel="edge: pay of the right mode minus pay of the habit", ylim=(0, 1.04),
             title="bad-code: accuracy after RL (a dot a run)")
    axis.set_xscale("symlog", linthresh=0.05)
    axis.set_xticks([-0.5, -0.05, 0, 0.05, 0.5], ["-0.5", "-0.05", "0", "0.05", "0.5"])
    axis.minorticks_off()
    axis.text(-0.9, 0.72, "hollow: oracles (square: fixed)\nblack: new judges", fontsize=9)
    for name, (x, y) in {"direct": (-0.09, 0.34), "shares the bug": (-0.9, 0.12),
                         "reasoning": (0.2, 0.93)}.items():
        axis.text(x, y, name, color=COLORS[name], fontsize=9)


def draw_hacking(axis, results: Results) -> None:
    """No-code under a direct judge: what it accepts, and what is right."""
    cell = find_cell(results, "no-code", list_rewards()["direct"])
    curves = curves_of(results, cell)
    batches = [row["step"] + 1 for row in curves[0]]
    for name, color, label, y in (("reward", ORANGE, "judged right", 0.62),
                                  ("accuracy", BLUE, "right", 0.3)):
        lines = [[row[name] for row in curve] for curve in curves]
        draw_mean(axis, batches, lines, color)
        axis.text(batches[-1], y, label, color=color, ha="right", fontsize=9)
    axis.set(xlabel="rollout batches", ylim=(0, 1), title="no-code, paid by a direct judge")


def record_figure(results: Results):
    """Accuracy against tokens; what the edge says; a judge that is hacked."""
    if not results.evidence:   # of --quick
        return draw_gains(results)
    canvas, axes = open_canvas(1, 3, figsize=(12, 3.6), width_ratios=(1.3, 1.3, 1))
    draw_votes(axes[0], results)
    draw_edges(axes[1], results)
    draw_hacking(axes[2], results)
    return canvas
