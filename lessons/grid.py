"""What a lesson runs: grids of flags, where each run lives, and the command that makes it.

A run is a dict of `train`'s flags, `base` being the name of one of the lesson's bases; the same
flags in two lessons are the same run in the same folder.

>>> run, = grid(base="good-code", reward="random", eps_low=0.2, seed=[3])
>>> str(locate_run(run))
'runs/good-code/random/eps-low-0.2/seed3'
>>> print(write_train_command(run))       # doctest: +NORMALIZE_WHITESPACE
python rlvr.py train --base good-code --reward random --eps-low 0.2 --seed 3
    --out runs/good-code/random/eps-low-0.2/seed3
"""

import itertools
from pathlib import Path, PurePath

from model import BASE_FOLDER

SHORT = {"code_prior": "prior", "text_openers": "openers", "code_on_sums": "sums",
         "code_on_products": "products", "rival": "", "on_rival": "rival"}  # in a base's name
# How 2506.10947 updates, but for the step size; what else a lesson keeps is our own.
PAPER_SHAPE = {"optimizer": "adamw", "updates": 8, "eps_low": 0.2, "eps_high": 0.2,
               "max_grad_norm": 1.0}


def as_list(value) -> list:
    """A list or range as a list, anything else as one value (a tuple is the value of one flag)."""
    return list(value) if isinstance(value, (list, range)) else [value]


def grid(**flags) -> list[dict]:
    """All combinations of flags, of which some are lists; the last one changes fastest."""
    combinations = itertools.product(*map(as_list, flags.values()))
    return [dict(zip(flags, values)) for values in combinations]


def own_seeds(index: int, count: int) -> range:
    """Seeds that no other cell of a lesson has: from 1 for the first cell, from 101, from 201."""
    first = 1 + 100 * index
    return range(first, first + count)


def scale_seeds(count: int, seeds: int) -> int:
    """How many seeds a cell has that has `count` where a lesson is asked for 5; at least one."""
    return max(1, count * seeds // 5)


def repeat_cells(main: list[dict], others: list[dict], seeds: int) -> list[dict]:
    """Runs of cells (flags without a seed): seeds 1, 2, ... of the main ones, 3 for 5 of others."""
    few = scale_seeds(3, seeds)
    return [run for cells, n in ((main, seeds), (others, few)) for cell in cells
            for run in grid(**cell, seed=range(1, n + 1))]


def name_base(flags: dict) -> str:
    """'good-code-prior0.3-openers1' for --base good-code --code-prior 0.3 --text-openers 1."""
    knobs = [f"-{SHORT.get(flag, flag)}{value}" for flag, value in flags.items() if flag != "base"]
    return flags["base"] + "".join(knobs)


def base_grid(**flags) -> dict[str, dict]:
    """{name: flags of pretrain} for all combinations."""
    return {name_base(combination): combination for combination in grid(**flags)}


def write_flags(flags: dict) -> list[str]:
    """{'eps_low': 0.2, 'num_ops': (1, 2)} -> ['--eps-low', '0.2', '--num-ops', '1', '2']."""
    words = []
    for flag, value in flags.items():
        values = value if isinstance(value, tuple) else (value,)
        words.append("--" + flag.replace("_", "-"))
        words += map(write_value, values)
    return words


def write_value(value) -> str:
    """Of a flag; a path with slashes, since a command is taken apart as a shell does it."""
    if isinstance(value, PurePath):
        return value.as_posix()
    return f"{value:g}" if isinstance(value, float) else str(value)


def place_base(name: str) -> Path:
    return BASE_FOLDER / f"{name}.pt"


def locate_run(run: dict) -> Path:
    """runs/BASE/REWARD/OTHER-FLAGS/seedN."""
    others = {flag: run[flag] for flag in sorted(run) if flag not in ("base", "reward", "seed")}
    words = (word.removeprefix("--") for word in write_flags(others))
    cell = "-".join(f"minus{word[1:]}" if word.startswith("-") else word for word in words)
    return Path("runs", run["base"], run["reward"], *([cell] if cell else []), f"seed{run['seed']}")


def write_pretrain_command(name: str, flags: dict, program: str = "rlvr.py") -> str:
    return " ".join([f"python {program} pretrain", *write_flags(flags | {"out": place_base(name)})])


def write_train_command(run: dict, program: str = "rlvr.py") -> str:
    order = {"base": 0, "reward": 1, "seed": 3}
    flags = dict(sorted(run.items(), key=lambda item: order.get(item[0], 2)))
    return " ".join([f"python {program} train", *write_flags(flags | {"out": locate_run(run)})])
