"""Pretraining, reward or volume? Each cell at its best of three step sizes.

What is best is chosen on training prompts.
"""

from lessons.grid import base_grid, grid, own_seeds

BASES = (base_grid(base=["good-code"], steps=[400, 800]) | base_grid(base=["good-code"]))
REWARDS = "random", "format", "majority", "correct"
LRS = 0.005, 0.01, 0.015
VOLUMES = 10, 20, 40   # rollout batches
FIRST_SEED = 30   # of own_seeds: no other cell of the lesson has these


def runs(seeds: int) -> list[dict]:
    """Seed by seed over all cells, so that what has been done is balanced wherever it stops.

    The three step sizes of a cell share their seeds.
    """
    count = max(1, 2 * seeds // 5)
    cells = [(base, reward) for base in BASES for reward in REWARDS]
    listed = [grid(base=base, reward=reward, lr=[lr], steps=max(VOLUMES),
                   seed=own_seeds(FIRST_SEED + i, count))
              for i, (base, reward) in enumerate(cells) for lr in LRS]
    return [run for of_seed in zip(*listed) for run in of_seed]
