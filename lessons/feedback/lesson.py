"""What does a scalar throw away that a hint could say?

ANSWER. About 30 minutes on 2 cores.
"""

from statistics import mean

from lessons.grid import base_grid
from lessons.report import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    Results,
    align,
    curves_of,
    draw_mean,
    gains,
    select_runs,
    show_change,
    show_spread,
)

PRIORS = (0.2, 0.02, 0.005, 0.0)
BASES = (base_grid(base=["hinted-code"], code_prior=list(PRIORS))
         | base_grid(base=["hinted-code"], code_prior=[0.02], slips=[0.05]))
RARE, SLIPPING = "hinted-code-prior0.02", "hinted-code-prior0.02-slips0.05"
CURVES = ("divergence",)

RECIPE = {"reward": "correct", "prompts": 32, "updates": 16, "pool": 128}   # 512 rollouts a batch
STEPS, LONG, VERY_LONG = 12, 20, 48        # rollout batches
FORMS = {"scalar": {"loss": "grpo"}, "token": {"loss": "directive"},
         "hybrid, token": {"loss": "grpo_directive"},
         "JSD": {"loss": "distill"}, "forward KL": {"loss": "distill", "distill": "forward"},
         "reverse KL": {"loss": "distill", "distill": "reverse"},
         "hybrid, JSD": {"loss": "grpo_distill"}}
STEP_SIZES = (0.005, 0.015, 0.045)
SWEEP_SEEDS = (101, 102)                    # a step size is chosen on other seeds than it is shown
BARE = {"eval_problems": 50, "eval_samples": 1}   # ... and by training prompts alone
OFF = {"directive_batches": 3}              # the teacher goes after them


def name_policy(prior: float) -> str:
    return f"hinted-code-prior{prior}"


def sweep_cells() -> list[dict]:
    return [{"base": name_policy(prior)} | RECIPE | form | {"lr": lr, "steps": STEPS} | BARE
            for prior in PRIORS for form in FORMS.values() for lr in STEP_SIZES]


def runs(seeds: int = 5, quick: bool = False) -> list[dict]:
    return [cell | {"seed": seed} for cell in sweep_cells() for seed in SWEEP_SEEDS]


def table(results: Results) -> str:
    return ""


def figure(results: Results):
    raise NotImplementedError
