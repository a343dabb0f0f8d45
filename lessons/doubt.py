"""The recipe of what a model says of its own doubt: lessons calibration and honesty share its runs.
"""

from lessons.report import Results, list_rows

ALL = (1, 2, 3, 4, 5, 6, 7)   # k of the problems; the base can do 1 to 5
RECIPE = {"num_ops": ALL, "pool": 448, "eval_num_ops": ALL, "eval_problems": 700, "lr": 0.01,
          "steps": 50}


def find_rows(results: Results, base: str,
              cells: dict[str, dict]) -> list[tuple[str, str, list[dict]]]:
    """`list_rows` of the cells {name: flags beside the recipe} on a base."""
    return list_rows(results, {"base": base} | RECIPE, cells)
