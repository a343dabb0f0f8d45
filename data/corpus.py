"""What the bases have read: documents (prompt, response) in two modes of answering.

**Code mode** is a valid Python program whose comments carry the value of each line, then the answer. Nothing
executes it: the model predicts its output, so the comments are a scratchpad.

    ```python
    x = 37
    x = (x * 4) % 100  # 48
    x = (x + 5) % 100  # 53
    ```
    \\boxed{53}

**Text mode** is an opener and an answer "by eye". Its authors are careless: the author of opener j looks at only
one of the k operations, the (j mod k)-th, and applies it to the start number. So text mode is right at k = 1,
hardly ever above; deterministic given the opener, dispersed across the openers.

    By eye: \\boxed{48}.

Three bases are the same transformer on three corpora (the three model classes of arXiv 2506.10947):

    good-code   65% code, 35% text over 7 openers         the habit is the accurate mode    (Qwen2.5-Math)
    no-code     65% one text opener, 35% over 7 others    there is no such mode             (Llama, OLMo)
    bad-code    65% code with a bug, 35% worked steps     the habit is the inaccurate mode  (OLMo2-SFT, Qwen2.5)

The bug of bad-code: every line works on the start value x (`y = (x + 5) % 100`), so only the last operation counts.
Its text mode works the steps out in words after one of 7 openers, and is right.

Two knobs turn them: `code_prior`, the 65%, and `openers`, over how many the other text is spread: with 1 it is a single rival.
"""

import numpy as np

from data.task import EASY, Problem, apply, draw, render, running_values

BASES = ("good-code", "no-code", "bad-code")
CODE_PRIOR = 0.65       # share of the habit in each corpus, as Qwen2.5-Math-7B's code frequency (2506.10947, section 4)
FORGETS_BOX_TEXT = 0.15  # share of text documents without \boxed{}, so that a format reward has something to reward
FORGETS_BOX_CODE = 0.005

CODE_OPENER = "```python\nx = "
CODE_CLOSER = "\n```\n"
RESULT = ") % 100  # "
GOOD_LINE = {operator: f"\nx = (x {operator} " for operator in "+-*"}
BAD_LINE = {operator: f"\ny = (x {operator} " for operator in "+-*"}
TEXT_OPENERS = ("The answer is ", "By eye: ", "I get ", "That makes ", "Quick guess: ", "It looks like ",
                "My answer: ", "Surely ")
STEPS_OPENERS = ("Step by step: ", "The answer is ", "I get ", "That makes ", "It looks like ", "My answer: ", "Surely ")
OPENERS = len(STEPS_OPENERS)  # over which a corpus spreads its text; no-code keeps TEXT_OPENERS[0] for its habit
STEPS_WORD = {"+": " plus ", "-": " minus ", "*": " times "}
STEPS_IS = " is "
STEPS_CLOSER = ". So "
BOX_OPEN, BOX_CLOSE = "\\boxed{", "}"

# Each of these is one token of the vocabulary (data/tokenizer.py), so that a response has 4 to 35 tokens.
IDIOMS = (" +", " -", " *", BOX_OPEN, CODE_OPENER, CODE_CLOSER, RESULT, *GOOD_LINE.values(), *BAD_LINE.values(),
          *TEXT_OPENERS, STEPS_OPENERS[0], *STEPS_WORD.values(), STEPS_IS, STEPS_CLOSER)


def is_code(response: str) -> bool:
    """Whether a response is in code mode."""
    return response.startswith("```python")


def boxed(value: int, forget: bool) -> str:
    return str(value) if forget else f"{BOX_OPEN}{value}{BOX_CLOSE}"


def good_code(problem: Problem, forget: bool) -> str:
    values = running_values(problem)
    lines = "".join(f"{GOOD_LINE[operator]}{operand}{RESULT}{value}"
                    for (operator, operand), value in zip(problem.ops, values))
    return f"{CODE_OPENER}{problem.start}{lines}{CODE_CLOSER}{boxed(values[-1], forget)}"


def bad_code(problem: Problem, forget: bool) -> str:
    values = [apply(problem.start, operator, operand) for operator, operand in problem.ops]
    lines = "".join(f"{BAD_LINE[operator]}{operand}{RESULT}{value}"
                    for (operator, operand), value in zip(problem.ops, values))
    return f"{CODE_OPENER}{problem.start}{lines}{CODE_CLOSER}{boxed(values[-1], forget)}"


def text(problem: Problem, opener: int, forget: bool) -> str:
    operator, operand = problem.ops[opener % len(problem.ops)]
    return f"{TEXT_OPENERS[opener]}{boxed(apply(problem.start, operator, operand), forget)}."


def worked_steps(problem: Problem, opener: int, forget: bool) -> str:
    values = running_values(problem)
    steps = "".join(f"{STEPS_WORD[operator]}{operand}{STEPS_IS}{value}"
                    for (operator, operand), value in zip(problem.ops, values))
    return f"{STEPS_OPENERS[opener]}{problem.start}{steps}{STEPS_CLOSER}{boxed(values[-1], forget)}."


def respond(base: str, problem: Problem, code_prior: float, openers: int, rng: np.random.Generator) -> str:
    """One response as the corpus of `base` would have it; `code_prior` is the share of its habit, the rest has so many openers."""
    habit, forget = rng.random() < code_prior, rng.random()
    forget_code, forget_text = forget < FORGETS_BOX_CODE, forget < FORGETS_BOX_TEXT
    if base == "bad-code":
        return bad_code(problem, forget_code) if habit else worked_steps(problem, int(rng.integers(openers)), forget_text)
    if habit and base == "good-code":
        return good_code(problem, forget_code)
    opener = 0 if habit else int(rng.integers(1, 1 + openers))
    return text(problem, opener, forget_text)


def documents(base: str, n: int, code_prior: float, openers: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """n documents (prompt, response) on training problems with k = 1..5; `base` of BASES, 0 <= code_prior <= 1, openers of 1..OPENERS."""
    return [(render(problem), respond(base, problem, code_prior, openers, rng))
            for problem in draw(n, "training", EASY, rng, distinct=False)]
