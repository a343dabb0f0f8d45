"""Which cell of the grid a row of runs.csv belongs to, and what its pass@k gained."""

from typing import NamedTuple

from losses import w_reinforce
from plumbing.flags import read_defaults
from rlvr import TrainConfig

FAMILY = ["grpo", "dr_grpo", "rloo", "reinforce", "ppo", "psr", "nsr", "w_reinforce"]
BOTH = "psr+nsr"             # w_reinforce at lambda = 1
ORDER = [*FAMILY, BOTH]      # of the rows of every table
VARIANTS = {"eps_high": "no clip", "updates": "fresh", "aggregate": "kept"}  # by their flag


class Cell(NamedTuple):
    base: str
    mixed: bool              # whether problems that the base cannot solve are among the prompts
    loss: str                # a name of ORDER, or one of another lambda, or of a variant
    step: float              # --lr


def parse_flags(text: str) -> dict[str, str]:
    """The column `flags` as a dict; a flag at its default is not in it.

    >>> parse_flags("--num-ops 6 7 --lr 0.005")
    {'num_ops': '6 7', 'lr': '0.005'}
    """
    parts = (part.partition(" ") for part in f" {text}".split(" --")[1:])
    return {name.replace("-", "_"): value for name, _, value in parts}


def find_cell(run: dict) -> Cell:
    flags = parse_flags(run["flags"])
    loss = run["loss"]
    if loss == "w_reinforce" and "psr_weight" in flags:
        weight = float(flags["psr_weight"])
        loss = BOTH if weight == 1 else f"{loss}-{weight:g}"
    loss = ", ".join([loss, *(name for flag, name in VARIANTS.items() if flag in flags)])
    return Cell(run["base"], "num_ops" in flags, loss, float(flags.get("lr", TrainConfig.lr)))


def split_loss(name: str) -> tuple[str, float, str]:
    """The loss, its lambda and its variant.

    >>> split_loss("w_reinforce-0.3"), split_loss("nsr, fresh")
    (('w_reinforce', 0.3, ''), ('nsr', 0.1, 'fresh'))
    """
    loss, _, variant = name.partition(", ")
    loss, _, weight = loss.partition("-")
    return loss, float(weight or read_defaults(w_reinforce)["psr_weight"]), variant


def rank(cell: Cell) -> tuple:
    """Sorts cells: good-code first, losses in ORDER, then by lambda, variant, step size."""
    loss, *rest = split_loss(cell.loss)
    return (not cell.base.startswith("good-code"), cell.base, ORDER.index(loss), *rest, cell.step)


def group_cells(runs: list[dict], **wanted) -> dict[Cell, list[dict]]:
    """{cell: its runs} of the cells whose fields are as wanted: `base="good-code", mixed=True`."""
    cells = {}
    for run in runs:
        cell = find_cell(run)
        if all(getattr(cell, name) == value for name, value in wanted.items()):
            cells.setdefault(cell, []).append(run)
    return {cell: cells[cell] for cell in sorted(cells, key=rank)}


def list_bases(cells: dict[Cell, list[dict]]) -> list[str]:
    return list(dict.fromkeys(cell.base for cell in cells))


def name_column(when: str, k: int) -> str:
    """The column of runs.csv that has pass@k; when: before or after."""
    return f"{when}_pass_at_k_{k}"


def raised(runs: list[dict], k: int) -> list[float]:
    """What pass@k gained over the base in each run, in points."""
    return [100 * (run[name_column("after", k)] - run[name_column("before", k)]) for run in runs]
