"""Wrong solutions of the exercise confidence: what students write, and what each is told."""

import math

from course.exercises.catalog import replaces
from data.answers import parse_confidence
from data.corpus import ABSTENTION
from data.task import Problem
from rewards import LEAST_CONFIDENCE, Context, Payment, brier_alone, correct, is_correct


@replaces("rewards.py:brier_alone")
def score_by_the_distance(problems: list[Problem], responses: list[str], context: Context
                          ) -> list[float]:
    """The distance |q - c| is not squared: then 99% or 1% pays most, never the truth."""
    return [-1.0 if q is None else -abs(q - c)
            for q, c in zip(map(parse_confidence, responses),
                            correct(problems, responses, context))]


@replaces("rewards.py:brier_alone")
def pay_the_squared_error(problems: list[Problem], responses: list[str], context: Context
                          ) -> list[float]:
    """The minus is missing: a larger error is paid more."""
    return [-1.0 if q is None else (q - c) ** 2
            for q, c in zip(map(parse_confidence, responses),
                            correct(problems, responses, context))]


@replaces("rewards.py:brier_alone")
def forgive_silence(problems: list[Problem], responses: list[str], context: Context
                    ) -> list[float]:
    """Without a confidence 0 is paid, the most there is: silence wins. It pays -1."""
    return [0.0 if q is None else -(q - c) ** 2
            for q, c in zip(map(parse_confidence, responses),
                            correct(problems, responses, context))]


@replaces("rewards.py:brier_alone")
def subtract_from_one(problems: list[Problem], responses: list[str], context: Context
                      ) -> list[float]:
    """1 is added: this is 1 - (q - c)^2."""
    return [0.0 if q is None else 1 - (q - c) ** 2
            for q, c in zip(map(parse_confidence, responses),
                            correct(problems, responses, context))]


@replaces("rewards.py:brier")
def leave_correctness_out(problems: list[Problem], responses: list[str], context: Context
                          ) -> list[float]:
    """c is missing: this is `brier_alone`, under which a wrong answer can pay more."""
    return brier_alone(problems, responses, context)


@replaces("rewards.py:brier")
def score_right_ones_alone(problems: list[Problem], responses: list[str], context: Context
                           ) -> list[float]:
    """Wrong answers are paid 0, whatever they claim. They are paid -q^2."""
    return [c * (1 + score) for c, score in zip(correct(problems, responses, context),
                                                brier_alone(problems, responses, context))]


@replaces("rewards.py:brier")
def subtract_the_score(problems: list[Problem], responses: list[str], context: Context
                       ) -> list[float]:
    """The Brier score is subtracted. It has its minus already: it is added."""
    return [c - score for c, score in zip(correct(problems, responses, context),
                                          brier_alone(problems, responses, context))]


@replaces("rewards.py:brier")
def pay_nothing_for_silence(problems: list[Problem], responses: list[str], context: Context
                            ) -> list[float]:
    """Without a confidence 0 is paid, as the paper does. Here it is c - 1."""
    return [0.0 if parse_confidence(response) is None else c + score
            for response, c, score in zip(responses, correct(problems, responses, context),
                                          brier_alone(problems, responses, context))]


@replaces("rewards.py:log_score")
def take_the_log_of_q_always(problems: list[Problem], responses: list[str], context: Context
                             ) -> list[float]:
    """ln q is paid for wrong answers too. They are paid ln(1 - q)."""
    return [c + math.log(LEAST_CONFIDENCE if q is None else q)
            for q, c in zip(map(parse_confidence, responses),
                            correct(problems, responses, context))]


@replaces("rewards.py:log_score")
def leave_c_out_of_the_log_score(problems: list[Problem], responses: list[str],
                                 context: Context) -> list[float]:
    """c is missing: a right answer is paid 1 more than the logarithm."""
    return [math.log(LEAST_CONFIDENCE if q is None else q if c else 1 - q)
            for q, c in zip(map(parse_confidence, responses),
                            correct(problems, responses, context))]


@replaces("rewards.py:log_score")
def forgive_silence_in_logs(problems: list[Problem], responses: list[str], context: Context
                            ) -> list[float]:
    """Without a confidence only c is paid, so silence wins. It pays c + ln 0.01."""
    return [c + (0.0 if q is None else math.log(q if c else 1 - q))
            for q, c in zip(map(parse_confidence, responses),
                            correct(problems, responses, context))]


@replaces("rewards.py:log_score")
def take_the_log_to_base_two(problems: list[Problem], responses: list[str], context: Context
                             ) -> list[float]:
    """The logarithm is to base 2. It is the natural one."""
    return [c + math.log2(LEAST_CONFIDENCE if q is None else q if c else 1 - q)
            for q, c in zip(map(parse_confidence, responses),
                            correct(problems, responses, context))]


@replaces("rewards.py:ternary")
def pay_wrong_answers_nothing(problems: list[Problem], responses: list[str], context: Context, *,
                              abstain_reward: Payment = 0.0) -> list[float]:
    """A wrong answer is paid 0. It is paid -1, less than to abstain."""
    return [1.0 if is_correct(problem, response)
            else abstain_reward if response == ABSTENTION else 0.0
            for problem, response in zip(problems, responses)]


@replaces("rewards.py:ternary")
def find_a_question_mark_anywhere(problems: list[Problem], responses: list[str],
                                  context: Context, *, abstain_reward: Payment = 0.0
                                  ) -> list[float]:
    """A `?` anywhere abstains. Only a response that is `?` and nothing else does."""
    return [1.0 if is_correct(problem, response)
            else abstain_reward if ABSTENTION in response else -1.0
            for problem, response in zip(problems, responses)]


@replaces("rewards.py:ternary")
def strip_before_comparing(problems: list[Problem], responses: list[str], context: Context, *,
                           abstain_reward: Payment = 0.0) -> list[float]:
    """Blanks around a `?` are ignored. Only a response that is `?` and nothing else abstains."""
    return [1.0 if is_correct(problem, response)
            else abstain_reward if response.strip() == ABSTENTION else -1.0
            for problem, response in zip(problems, responses)]


@replaces("rewards.py:ternary")
def pay_an_abstention_zero(problems: list[Problem], responses: list[str], context: Context, *,
                           abstain_reward: Payment = 0.0) -> list[float]:
    """An abstention is paid 0. It is paid `abstain_reward`."""
    return [1.0 if is_correct(problem, response) else 0.0 if response == ABSTENTION else -1.0
            for problem, response in zip(problems, responses)]


@replaces("rewards.py:ternary")
def take_silence_for_abstention(problems: list[Problem], responses: list[str],
                                context: Context, *, abstain_reward: Payment = 0.0
                                ) -> list[float]:
    """An empty response abstains too. Only `?` does: to say nothing is wrong."""
    return [1.0 if is_correct(problem, response)
            else abstain_reward if response in (ABSTENTION, "") else -1.0
            for problem, response in zip(problems, responses)]
