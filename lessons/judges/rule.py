"""What a rule says of a run before RL, and how often it is right: of runs, and of who pays them.

A payer is a dict: its name, its edge, and the accuracies `after` of the runs that it paid.
"""

LIFTED = 0.9     # accuracy on bad-code from which on a run counts as lifted; the base has 0.45


def says_edge(payer: dict) -> bool:
    """Whether a judge lifts, by the rule of this lesson."""
    return payer["edge"] > 0


def says_kind(payer: dict) -> bool:
    """By a rule that measures nothing: a judge that reasons lifts, one that does not does not."""
    return not payer["name"].startswith("direct")


def count_held(payers: list[dict], says=says_edge, lifted: float = LIFTED) -> tuple[int, int]:
    """Of how many runs a rule says whether they are lifted; (held, all)."""
    held = [(accuracy >= lifted) == says(payer)
            for payer in payers for accuracy in payer["after"]]
    return sum(held), len(held)


def count_judges(payers: list[dict], says=says_edge, lifted: float = LIFTED) -> tuple[int, int]:
    """Of how many judges a rule says it of every run; (held, all).

    The runs of a judge share its errors, so that an interval has to count judges.
    """
    counts = [count_held([payer], says, lifted) for payer in payers]
    return sum(held == n for held, n in counts), len(counts)
