r"""What the bases have read: documents (prompt, response) in several modes of answering.

**Code mode** is a valid Python program whose comments carry the value of each line, then the
answer. Nothing executes it: the model predicts its output, so the comments are a scratchpad.

    ```python
    x = 37
    x = (x * 4) % 100  # 48
    x = (x + 5) % 100  # 53
    ```
    \boxed{53}

**Text mode** is an opener and an answer "by eye". Its authors are careless: the author of opener j
looks at only one of the k operations, the (j mod k)-th, and applies it to the start number. So text
mode is right at k = 1, hardly ever above; deterministic given the opener, dispersed across them.

    By eye: \boxed{48}.

Three bases are the same transformer on three corpora (the three model classes of 2506.10947):

    good-code   65% code, 35% text over 7 openers      the habit is accurate     (Qwen2.5-Math)
    no-code     65% one text opener, 35% over 7 more   there is no such mode     (Llama, OLMo)
    bad-code    65% code with a bug, 35% worked steps  the habit is inaccurate   (OLMo2-SFT)

The bug of bad-code: every line works on the start value x (`y = (x + 5) % 100`), so only the last
operation counts. Its text mode works the steps out in words after one of 7 openers, and is right.

Three more are the same three of which the likelier mode depends on the prompt: the habit has 85%
where the first operator is + or - (2 of 3 prompts), 30% where it is *. The rest is 50% on one of
the 7 openers, 50% over all of them. Which one is the prompt's own, by its first operand; or with
`--rival shared` the first of them on all prompts. So greedy decoding answers a third of the prompts
otherwise than by habit, and on these prompts begins in seven ways, or in one.

    mixed-code  code, right; text by eye                   mixed-bad  code with a bug; worked steps
    mixed-none  one text opener; seven others

humble-code is good-code whose authors say how sure they are, `\boxed{51} 90%`, or that they do not
know: then `?` is all of the response. They doubt long problems more, whether or not they are right.

hinted-code has read prompts that end in a hint, one token, and answers to them: ` #code` is
answered in code, ` #words` in text, ` #answer 51` by that number in text, ` #careful` in code half
of the time, ` #tip` as if it were not there. Without a hint it is good-code.

judge-direct and judge-reasoning answer no problem: they say whether an answer is right, y or n. One
at once; the other after a scratchpad of its own and the question again with what it worked out:

    37 *4 +5 -2=51?        37 *4 +5 -2=51:
    y                      ```python ... 51 ...```
                           51=51?
                           y

To add a base: a function that writes one document, whose keyword-only arguments are its flags, and
an entry in CORPORA.
"""

from functools import wraps
from typing import Annotated, Callable, NamedTuple

import numpy as np

from data.task import (
    EASY,
    OPERANDS,
    Problem,
    apply_operation,
    compute_values,
    draw_problems,
    render_problem,
    solve,
    write_number,
)
from plumbing.flags import flag

CODE_PRIOR = 0.65         # the habit's share: Qwen2.5-Math-7B's code frequency (2506.10947)
SURE = {70: 0.08, 80: 0.19, 90: 0.53, 99: 0.20}   # percent that a humble-code author states, mostly
UNSURE = {1: 0.25, 10: 0.15, 20: 0.12, 30: 0.12, 40: 0.12, 50: 0.14, 60: 0.1}   # if in doubt
ON_SUMS, ON_PRODUCTS = 0.85, 0.3   # the habit's share in a mixed base, by the first operator
ON_RIVAL = 0.5            # share of a mixed base's rest on one opener, so that greedy may be it
FORGETS_BOX_TEXT = 0.15   # text documents without \boxed{}, so that a format reward has work to do
FORGETS_BOX_CODE = 0.005

CODE_OPENER = "```python\nx = "
CODE_CLOSER = "\n```\n"
RESULT = ") % 100  # "
GOOD_LINE = {operator: f"\nx = (x {operator} " for operator in "+-*"}
BAD_LINE = {operator: f"\ny = (x {operator} " for operator in "+-*"}
TEXT_OPENERS = ("The answer is ", "By eye: ", "I get ", "That makes ", "Quick guess: ",
                "It looks like ", "My answer: ", "Surely ")
STEPS_OPENERS = ("Step by step: ", "The answer is ", "I get ", "That makes ", "It looks like ",
                 "My answer: ", "Surely ")
OPENERS = len(STEPS_OPENERS)  # of the rare text; no-code keeps TEXT_OPENERS[0] for its habit
STEPS_WORD = {"+": " plus ", "-": " minus ", "*": " times "}
STEPS_IS = " is "
STEPS_CLOSER = ". So "
BOX_OPEN, BOX_CLOSE = "\\boxed{", "}"
ABSTENTION = "?"  # as the whole response: I do not know
# At the end of a prompt, one token each, and their share of hinted-code; ` #huh` it never reads.
HINTS = {" #code": 0.3, " #words": 0.04, " #answer ": 0.05, " #tip": 0.04, " #careful": 0.05,
         " #huh": 0.0}
HINTED_CODE = {" #code": 1.0, " #words": 0.0, " #answer ": 0.0, " #careful": 0.5}  # code's share
HINT_NAMES = ("code", "words", "answer", "tip", "careful", "huh",    # what a teacher may read;
              "wrong", "other", "random", "none")                    # and controls
CLAIM_ENDS = {"judge-direct": "?", "judge-reasoning": ":"}   # one judge cannot pass for the other

# Each of these is one token of the vocabulary (tokenizer.py): a response has 4 to 35 tokens.
IDIOMS = (" +", " -", " *", BOX_OPEN, CODE_OPENER, CODE_CLOSER, RESULT, *GOOD_LINE.values(),
          *BAD_LINE.values(), *TEXT_OPENERS, STEPS_OPENERS[0], *STEPS_WORD.values(), STEPS_IS,
          STEPS_CLOSER, *HINTS)


class Corpus(NamedTuple):
    """A base as a record: what its documents say, and how its modes of answering are told apart."""

    write: Callable[..., tuple[str, str]]   # problem, rng, *, flags -> prompt, response
    modes: tuple[str, ...]             # every mode of answering
    mode_of: Callable[[str], str]      # response -> its mode
    digits: int = 2                    # of its numbers
    kinds: tuple[str, ...] = ()        # of problems, if the habit depends on the problem
    kind_of: Callable[[Problem], str] | None = None
    states_confidence: bool = False    # whether its responses end in one, such as ' 90%'
    judges: bool = False               # whether it says if an answer is right, and gives none

    @property
    def functions(self) -> tuple[Callable, ...]:
        """Whose arguments are its flags."""
        return (self.write,)


# Flags of `pretrain`: their type, bounds and help; a function says its default.
Prior = Annotated[float, flag("share of code in the corpus", least=0, most=1)]
Openers = Annotated[int, flag("openers that the text is spread over; 1: one rival",
                              least=1, most=OPENERS)]
Sums = Annotated[float, flag("share of code if the first operator is + or -", least=0, most=1)]
Products = Annotated[float, flag("share of code if the first operator is *", least=0, most=1)]
Rival = Annotated[str, flag("the likeliest opener but the habit's: each prompt's own, or one for "
                            "all", choices=("own", "shared"))]
OnRival = Annotated[float, flag("share of the rest that begins with that opener", least=0, most=1)]
# Per operation. A model that cannot find `?` cannot learn to say it: keep it in sight.
Abstains = Annotated[float, flag("P(document is `?`), for each operation", least=0, most=0.2)]
Hedges = Annotated[float, flag("P(low confidence), for each operation", least=0, most=1)]
Doubt = Annotated[str, flag("flat: the same for every problem", choices=("length", "flat"))]
Slips = Annotated[float, flag("P(a line of code has a random value)", least=0, most=1)]
Comparisons = Annotated[float, flag("share of claims with nothing to work out", least=0, most=1)]
Program = Annotated[str, flag("bad: the judge has bad-code's bug", choices=("good", "bad"))]


def is_code(response: str) -> bool:
    """Whether a response is in code mode."""
    return response.startswith("```python")


def code_or_text(response: str) -> str:
    return "code" if is_code(response) else "text"


def abstain_or_answer(response: str) -> str:
    return "abstain" if response == ABSTENTION else code_or_text(response)


def write_box(number: str, forget: bool) -> str:
    return number if forget else f"{BOX_OPEN}{number}{BOX_CLOSE}"


def write_program(line: dict[str, str], problem: Problem, values: list[int], forget: bool) -> str:
    """A program whose comments carry `values`; `line` says how a line begins, by its operator."""
    numbers = [write_number(value, problem.digits) for value in values]
    scratchpad = write_scratchpad(line, problem, numbers)
    return f"{scratchpad}{write_box(numbers[-1], forget)}"


def write_scratchpad(line: dict[str, str], problem: Problem, numbers: list[str]) -> str:
    """A program without what comes after it."""
    lines = [f"{line[operator]}{operand}{RESULT}{number}"
             for (operator, operand), number in zip(problem.ops, numbers)]
    start = write_number(problem.start, problem.digits)
    return f"{CODE_OPENER}{start}{''.join(lines)}{CODE_CLOSER}"


def write_good_code(problem: Problem, forget: bool) -> str:
    return write_program(GOOD_LINE, problem, compute_values(problem), forget)


def write_bad_code(problem: Problem, forget: bool) -> str:
    values = [apply_operation(problem.start, *op, problem.digits) for op in problem.ops]
    return write_program(BAD_LINE, problem, values, forget)


def write_text(problem: Problem, opener: int, forget: bool) -> str:
    operator, operand = problem.ops[opener % len(problem.ops)]
    value = apply_operation(problem.start, operator, operand, problem.digits)
    return f"{TEXT_OPENERS[opener]}{write_box(write_number(value, problem.digits), forget)}."


def write_steps(problem: Problem, opener: int, forget: bool) -> str:
    values = problem.start, *compute_values(problem)
    start, *numbers = [write_number(value, problem.digits) for value in values]
    steps = [f"{STEPS_WORD[operator]}{operand}{STEPS_IS}{number}"
             for (operator, operand), number in zip(problem.ops, numbers)]
    answer = write_box(numbers[-1], forget)
    return f"{STEPS_OPENERS[opener]}{start}{''.join(steps)}{STEPS_CLOSER}{answer}."


def draw_style(habit_share: float, rng: np.random.Generator) -> tuple[bool, bool, bool]:
    """Whether a document follows the habit, and whether it forgets the box if it is code / text."""
    habit, forget = rng.random() < habit_share, rng.random()
    return habit, forget < FORGETS_BOX_CODE, forget < FORGETS_BOX_TEXT


def good_code(problem: Problem, rng: np.random.Generator, *, code_prior: Prior = CODE_PRIOR,
              text_openers: Openers = OPENERS) -> str:
    habit, forget_code, forget_text = draw_style(code_prior, rng)
    if habit:
        return write_good_code(problem, forget_code)
    return write_text(problem, int(rng.integers(1, 1 + text_openers)), forget_text)


def no_code(problem: Problem, rng: np.random.Generator, *, text_openers: Openers = OPENERS) -> str:
    habit, _, forget_text = draw_style(CODE_PRIOR, rng)
    opener = 0 if habit else int(rng.integers(1, 1 + text_openers))
    return write_text(problem, opener, forget_text)


def bad_code(problem: Problem, rng: np.random.Generator, *, code_prior: Prior = CODE_PRIOR,
             text_openers: Openers = OPENERS) -> str:
    habit, forget_code, forget_text = draw_style(code_prior, rng)
    if habit:
        return write_bad_code(problem, forget_code)
    return write_steps(problem, int(rng.integers(text_openers)), forget_text)


def first_operation(problem: Problem) -> str:
    return "products" if problem.ops[0][0] == "*" else "sums"


def own_opener(problem: Problem, openers: int = OPENERS) -> int:
    """Which of the rare openers, from 0, is a prompt's own: by its first operand."""
    return (problem.ops[0][1] - OPERANDS[0]) % openers


def draw_mixed(problem: Problem, rng: np.random.Generator, shares: dict[str, float], rival: str,
               on_rival: float, openers: int) -> tuple[int | None, bool, bool]:
    """The rare opener of a document, from 0, None for the habit; whether it forgets the box.

    `shares`: the habit's, by kind. The box: if the document is code, and if it is text.
    """
    habit, forget_code, forget_text = draw_style(shares[first_operation(problem)], rng)
    if habit:
        return None, forget_code, forget_text
    one = own_opener(problem, openers) if rival == "own" else 0
    opener = one if rng.random() < on_rival else int(rng.integers(openers))
    return opener, forget_code, forget_text


def mixed_code(problem: Problem, rng: np.random.Generator, *, code_on_sums: Sums = ON_SUMS,
               code_on_products: Products = ON_PRODUCTS, rival: Rival = "own",
               on_rival: OnRival = ON_RIVAL, text_openers: Openers = OPENERS) -> str:
    shares = {"sums": code_on_sums, "products": code_on_products}
    opener, forget_code, forget_text = draw_mixed(problem, rng, shares, rival, on_rival,
                                                  text_openers)
    if opener is None:
        return write_good_code(problem, forget_code)
    return write_text(problem, 1 + opener, forget_text)


def mixed_none(problem: Problem, rng: np.random.Generator, *, rival: Rival = "own") -> str:
    shares = {"sums": ON_SUMS, "products": ON_PRODUCTS}
    opener, _, forget_text = draw_mixed(problem, rng, shares, rival, ON_RIVAL, OPENERS)
    return write_text(problem, 0 if opener is None else 1 + opener, forget_text)


def mixed_bad(problem: Problem, rng: np.random.Generator, *, rival: Rival = "own") -> str:
    shares = {"sums": ON_SUMS, "products": ON_PRODUCTS}
    opener, forget_code, forget_text = draw_mixed(problem, rng, shares, rival, ON_RIVAL, OPENERS)
    if opener is None:
        return write_bad_code(problem, forget_code)
    return write_steps(problem, opener, forget_text)


def easy_or_hard(problem: Problem) -> str:
    return "easy" if len(problem.ops) in EASY else "hard"


def write_confidence(doubt: bool, rng: np.random.Generator) -> str:
    weights = UNSURE if doubt else SURE
    return f" {rng.choice(list(weights), p=list(weights.values()))}%"


def humble_code(problem: Problem, rng: np.random.Generator, *, code_prior: Prior = CODE_PRIOR,
                text_openers: Openers = OPENERS, abstains: Abstains = 0.02,
                hedges: Hedges = 0.06, doubt: Doubt = "length") -> str:
    """Doubt grows with k, or is that of the mean k everywhere; it never depends on being right."""
    k = len(problem.ops) if doubt == "length" else np.mean(EASY)
    if rng.random() < abstains * k:
        return ABSTENTION
    answer = good_code(problem, rng, code_prior=code_prior, text_openers=text_openers)
    return answer + write_confidence(rng.random() < hedges * k, rng)


def draw_hint(rng: np.random.Generator) -> str:
    """One of HINTS by its share, or none."""
    none = 1 - sum(HINTS.values())
    return str(rng.choice(["", *HINTS], p=[none, *HINTS.values()]))


def slip(problem: Problem, slips: float, rng: np.random.Generator) -> list[int]:
    """The values of a program whose author, on each line, may write any number and go on from it.
    """
    values, value = [], problem.start
    for operator, operand in problem.ops:
        value = apply_operation(value, operator, operand)
        value = int(rng.integers(100)) if rng.random() < slips else value
        values.append(value)
    return values


def hinted_code(problem: Problem, rng: np.random.Generator, *, code_prior: Prior = CODE_PRIOR,
                text_openers: Openers = OPENERS, slips: Slips = 0.0) -> tuple[str, str]:
    hint = draw_hint(rng)
    share = HINTED_CODE.get(hint, code_prior)
    habit, forget_code, forget_text = draw_style(share, rng)
    opener = int(rng.integers(1, 1 + text_openers))
    prompt = render_problem(problem) + hint
    if habit:
        return prompt, write_program(GOOD_LINE, problem, slip(problem, slips, rng), forget_code)
    if hint == " #answer ":
        answer = write_number(solve(problem), problem.digits)
        return prompt + answer, f"{TEXT_OPENERS[opener]}{write_box(answer, forget_text)}."
    return prompt, write_text(problem, opener, forget_text)


def write_claim(problem: Problem, answer: str, judge: str) -> str:
    """The prompt by which a judge, direct or reasoning, is asked whether an answer is right."""
    return f"{render_problem(problem)}={answer}{CLAIM_ENDS[judge]}"


def read_verdict(response: str) -> str:
    """yes, no, or none: a judge's last character decides."""
    return {"y": "yes", "n": "no"}.get(response[-1:], "none")


def work_out(problem: Problem, program: str) -> tuple[dict[str, str], list[int]]:
    """How a judge's lines begin, and their values: right ones, or those of bad-code's bug."""
    if program == "bad":
        return BAD_LINE, [apply_operation(problem.start, *op) for op in problem.ops]
    return GOOD_LINE, compute_values(problem)


def write_judgement(problem: Problem, kind: str, rng: np.random.Generator, comparisons: float,
                    program: str) -> tuple[str, str]:
    """A claim, which is right half of the time and else any other number, and the verdict on it."""
    if rng.random() < comparisons:   # nothing to work out: two numbers to compare
        problem = Problem(solve(problem), ())
    line, values = work_out(problem, program)
    value = [problem.start, *values][-1]
    right = rng.random() < 0.5
    answer = value if right else (value + int(rng.integers(1, 100))) % 100
    verdict = "y" if right else "n"
    if kind == "judge-reasoning":
        scratchpad = write_scratchpad(line, problem, list(map(str, values)))
        verdict = f"{scratchpad}{value}={answer}?\n{verdict}"
    return write_claim(problem, str(answer), kind), verdict


def judge_direct(problem: Problem, rng: np.random.Generator, *, comparisons: Comparisons = 0.2,
                 judge_program: Program = "good") -> tuple[str, str]:
    return write_judgement(problem, "judge-direct", rng, comparisons, judge_program)


def judge_reasoning(problem: Problem, rng: np.random.Generator, *, comparisons: Comparisons = 0.2,
                    judge_program: Program = "good") -> tuple[str, str]:
    return write_judgement(problem, "judge-reasoning", rng, comparisons, judge_program)


def alone(write: Callable[..., str]) -> Callable[..., tuple[str, str]]:
    """Documents of a base whose prompt is the problem alone, from what writes its responses."""
    @wraps(write)   # its flags too
    def write_document(problem: Problem, rng: np.random.Generator, **flags) -> tuple[str, str]:
        return render_problem(problem), write(problem, rng, **flags)
    return write_document


CORPORA = {
    "good-code": Corpus(alone(good_code), ("code", "text"), code_or_text),
    "no-code": Corpus(alone(no_code), ("code", "text"), code_or_text),
    "bad-code": Corpus(alone(bad_code), ("code", "text"), code_or_text),
    # good-code with a decimal: 1,000 possible answers, so that pass@k is not soon a lottery. Its
    # responses have up to 53 tokens: --max-new-tokens 60.
    "tenths-code": Corpus(alone(good_code), ("code", "text"), code_or_text,
                          digits=3),
    # Greedy decoding has headroom. Lesson 1.
    **{name: Corpus(alone(write), ("code", "text"), code_or_text, kinds=("sums", "products"),
                    kind_of=first_operation)
       for name, write in (("mixed-code", mixed_code), ("mixed-none", mixed_none),
                           ("mixed-bad", mixed_bad))},
    # Two ways to say that it does not know. Lessons 6 and 7 ask k = 1..7.
    "humble-code": Corpus(alone(humble_code), ("code", "text", "abstain"),
                          abstain_or_answer, kinds=("easy", "hard"), kind_of=easy_or_hard,
                          states_confidence=True),
    # Lesson 9: what a hint makes of it teaches it without.
    "hinted-code": Corpus(hinted_code, ("code", "text"), code_or_text),
    # Lesson 8: not for training by RL, but rewards for it.
    "judge-direct": Corpus(judge_direct, ("yes", "no", "none"), read_verdict, judges=True),
    "judge-reasoning": Corpus(judge_reasoning, ("yes", "no", "none"), read_verdict,
                              judges=True),
}


def write_documents(base: str, n: int, rng: np.random.Generator, **flags) -> list[tuple[str, str]]:
    """n documents (prompt, response) on training problems with k = 1..5, of an entry of CORPORA."""
    corpus = CORPORA[base]
    problems = draw_problems(n, "training", EASY, rng, distinct=False, digits=corpus.digits)
    return [corpus.write(problem, rng, **flags) for problem in problems]
