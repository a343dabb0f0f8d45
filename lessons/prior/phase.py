"""Is it a phase transition? The coin against one rival, with more rollouts and with more batches.

Were it one, P(more code than text) would climb more steeply from prior to prior the more rollouts a
batch has, or the more batches there are. A crossover keeps its width.
"""

from lessons.grid import base_grid, grid, own_seeds

PRIORS = 0.4, 0.5, 0.6, 0.7
BASES = base_grid(base=["good-code"], code_prior=list(PRIORS), text_openers=[1])
SETTINGS = {"512 rollouts, 20 batches": {"prompts": 32},
            "2,048 rollouts, 20 batches": {"prompts": 128},
            "512 rollouts, 60 batches": {"prompts": 32, "steps": 60}}
FIRST_SEED = 10   # of own_seeds: no other cell of the lesson has these


def runs(seeds: int) -> list[dict]:
    """Seed by seed over all cells, so that what has been done is balanced wherever it stops."""
    count = max(1, 8 * seeds // 5)
    cells = [(base, flags) for flags in SETTINGS.values() for base in BASES]
    listed = [grid(base=base, reward="random", **flags, seed=own_seeds(FIRST_SEED + i, count))
              for i, (base, flags) in enumerate(cells)]
    return [run for of_seed in zip(*listed) for run in of_seed]
