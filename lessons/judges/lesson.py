"""Do judges gain from reasoning first, and what is a judge worth as a reward?

ANSWER. About 60 minutes on 2 cores.
"""

import json
from pathlib import Path
from statistics import mean

from lessons.grid import base_grid, grid
from lessons.report import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    Results,
    align,
    curves_of,
    draw_mean,
    select_runs,
    show_change,
    show_spread,
)

# A direct judge's documents have 11.8 tokens, a reasoning one's 29.3: as many tokens in all.
SAME, MORE = {"base": "judge-direct", "steps": 2490}, {"base": "judge-direct", "steps": 7470}
REASONS = {"base": "judge-reasoning", "steps": 1000}
FIRST = {"direct": base_grid(**SAME, seed=[0, 1, 2]),
         "direct, 3 x tokens": base_grid(**MORE, seed=[0, 1, 2]),
         "reasoning": base_grid(**REASONS, seed=[0, 1, 2]),
         "shares the bug": base_grid(**REASONS, seed=[0], judge_program=["bad"])}
# Judges that no run had seen when the rule below was written down.
NEW = {"direct": base_grid(**SAME, seed=[3, 4, 5]),
       "young reasoning": base_grid(base="judge-reasoning", steps=[300, 400, 500], seed=[3, 4])}
POLICIES = base_grid(base=["good-code", "bad-code", "no-code"])
BASES = POLICIES | {name: flags for kinds in (FIRST, NEW) for judges in kinds.values()
                    for name, flags in judges.items()}
CURVES = ("reward_right", "reward_wrong", "reward_gap", "reward_code", "reward_text")

TPR, FPRS = 0.53, (0.53, 0.48, 0.45, 0.43, 0.38)   # of oracles: a direct judge's TPR
LIFTED = 0.9     # accuracy on bad-code from which on a run counts as lifted; the base has 0.45
WAYS = ("majority", "mean", "tuned")
KINDS = ("right", "near miss", "text guess", "habit's bug", "random", "not a number")
COLORS = {"direct": ORANGE, "direct, 3 x tokens": RED, "reasoning": BLUE, "shares the bug": GREY}


def pay_by(judge: str) -> dict:
    """The flags of a run that a judge pays."""
    reward = "judge" if judge.startswith("judge-direct") else "reasoning_judge"
    return {"reward": reward, "judge": judge}


def list_rewards() -> dict[str, dict]:
    """{name: flags} of what is compared on all three bases; of each kind of judge the first."""
    judges = {kind: pay_by(next(iter(FIRST[kind])))
              for kind in ("direct", "direct, 3 x tokens", "reasoning")}
    return {"correct": {"reward": "correct"}, "random": {"reward": "random"}} | judges


def list_oracles() -> list[dict]:
    return grid(reward=["noisy_oracle", "fixed_oracle"], tpr=TPR, fpr=list(FPRS))


def runs(seeds: int = 5, quick: bool = False) -> list[dict]:
    if quick:
        return [{"base": "bad-code", "seed": 1} | reward
                for reward in ({"reward": "correct"}, pay_by(next(iter(FIRST["reasoning"]))))]
    few = max(1, 3 * seeds // 5)
    cells = [({"base": base} | flags, seeds) for base in POLICIES
             for flags in list_rewards().values()]
    cells += [({"base": "bad-code"} | pay_by(judge), seeds)
              for judges in FIRST.values() for judge in judges]
    cells += [({"base": "bad-code"} | pay_by(judge), few)
              for judges in NEW.values() for judge in judges]
    cells += [({"base": "bad-code"} | oracle, few) for oracle in list_oracles()]
    cells += [({"base": "bad-code", "verdict": "soft"} | pay_by(next(iter(FIRST[kind]))), few)
              for kind in ("direct", "reasoning")]
    cells = [cell for i, cell in enumerate(cells) if cell not in cells[:i]]
    return [flags | {"seed": seed} for flags, n in cells for seed in range(1, n + 1)]


def list_judges(runs: list[dict]) -> list[str]:
    return list(dict.fromkeys(run["judge"] for run in runs if "judge" in run))


def evidence_commands(runs: list[dict]) -> list[tuple[str, Path, str]]:
    """What is measured of each judge: its command, the file that it makes, and the judge."""
    places = {judge: Path("runs", judge, "judge.json") for judge in list_judges(runs)}
    return [(f"python -m lessons.judges.measure {judge} --out {path}", path, judge)
            for judge, path in places.items()]


def measure(runs: list[dict]) -> list[dict]:
    """Rows of every judge: its belief and its gap; and of its votes."""
    rows = []
    for _, path, judge in evidence_commands(runs):
        found = json.loads(path.read_text())
        rows.append({"judge": judge, "what": "belief", **found["belief"], **found["gap"]})
        rows += [{"judge": judge, "what": f"votes{noise}", **row}
                 for noise, votes in found["voting"].items() for row in votes]
    return rows


def table(results: Results) -> str:
    return ""


def figure(results: Results):
    raise NotImplementedError
