"""Wrong solutions of the exercise logprobs: what students write, and what each is told."""

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from course.exercises.catalog import replaces
from model import Transformer, sampling_logprobs
from plumbing.machine import upload


@replaces("model.py:response_hidden")
def read_the_token_first(model: Transformer, prompts: list[list[int]], ids: Tensor, mask: Tensor
                         ) -> Tensor:
    """Off by one: the state after a token is taken. The one before it predicts it."""
    rows = [torch.tensor(prompt + response[:length]) for prompt, response, length
            in zip(prompts, ids.tolist(), mask.sum(-1).tolist())]
    hidden = model(upload(pad_sequence(rows, batch_first=True), model.head.weight.device))
    row, t = mask.nonzero(as_tuple=True)
    return hidden[row, torch.tensor([len(prompt) for prompt in prompts])[row] + t]


@replaces("model.py:response_hidden")
def begin_where_the_first_begins(model: Transformer, prompts: list[list[int]], ids: Tensor,
                                 mask: Tensor) -> Tensor:
    """All responses are taken to begin where the first one does. Prompts differ in length."""
    rows = [torch.tensor(prompt + response[:length - 1]) for prompt, response, length
            in zip(prompts, ids.tolist(), mask.sum(-1).tolist())]
    hidden = model(upload(pad_sequence(rows, batch_first=True), model.head.weight.device))
    row, t = mask.nonzero(as_tuple=True)
    return hidden[row, (len(prompts[0]) - 1 + t).clamp(max=hidden.size(1) - 1)]


@replaces("model.py:response_hidden")
def pad_between_prompt_and_response(model: Transformer, prompts: list[list[int]], ids: Tensor,
                                    mask: Tensor) -> Tensor:
    """Padding stands between prompt and response, where it is read. It belongs behind both."""
    longest = max(map(len, prompts))
    rows = [torch.tensor(prompt + [0] * (longest - len(prompt)) + response[:-1])
            for prompt, response in zip(prompts, ids.tolist())]
    hidden = model(upload(torch.stack(rows), model.head.weight.device))
    row, t = mask.nonzero(as_tuple=True)
    return hidden[row, longest - 1 + t]


@replaces("model.py:response_hidden")
def pad_on_the_left(model: Transformer, prompts: list[list[int]], ids: Tensor, mask: Tensor
                    ) -> Tensor:
    """Padding is on the left, where every token reads it. Without a cache it is on the right."""
    longest = max(map(len, prompts))
    rows = [torch.tensor([0] * (longest - len(prompt)) + prompt + response[:-1])
            for prompt, response in zip(prompts, ids.tolist())]
    hidden = model(upload(torch.stack(rows), model.head.weight.device))
    row, t = mask.nonzero(as_tuple=True)
    return hidden[row, longest - 1 + t]


@replaces("model.py:response_hidden")
def cut_the_gradient(model: Transformer, prompts: list[list[int]], ids: Tensor, mask: Tensor
                     ) -> Tensor:
    """No gradient flows: the states are detached, so nothing is learned."""
    rows = [torch.tensor(prompt + response[:length - 1]) for prompt, response, length
            in zip(prompts, ids.tolist(), mask.sum(-1).tolist())]
    with torch.no_grad():
        hidden = model(upload(pad_sequence(rows, batch_first=True), model.head.weight.device))
    row, t = mask.nonzero(as_tuple=True)
    return hidden[row, torch.tensor([len(prompt) - 1 for prompt in prompts])[row] + t]


@replaces("model.py:response_hidden")
def forget_the_prompt(model: Transformer, prompts: list[list[int]], ids: Tensor, mask: Tensor
                      ) -> Tensor:
    """Only the prompt's last token is read before the response. All of the prompt is."""
    rows = [torch.tensor(prompt[-1:] + response[:length - 1]) for prompt, response, length
            in zip(prompts, ids.tolist(), mask.sum(-1).tolist())]
    hidden = model(upload(pad_sequence(rows, batch_first=True), model.head.weight.device))
    return hidden[mask.nonzero(as_tuple=True)]


@replaces("model.py:response_hidden")
def go_by_columns(model: Transformer, prompts: list[list[int]], ids: Tensor, mask: Tensor
                  ) -> Tensor:
    """States come column by column. The order is that of ids[mask]: row by row."""
    rows = [torch.tensor(prompt + response[:length - 1]) for prompt, response, length
            in zip(prompts, ids.tolist(), mask.sum(-1).tolist())]
    hidden = model(upload(pad_sequence(rows, batch_first=True), model.head.weight.device))
    t, row = mask.T.nonzero(as_tuple=True)
    return hidden[row, torch.tensor([len(prompt) - 1 for prompt in prompts])[row] + t]


@replaces("model.py:response_hidden")
def leave_the_ending_out(model: Transformer, prompts: list[list[int]], ids: Tensor, mask: Tensor
                         ) -> Tensor:
    """The ending has no state of its own. It is an action like any other token."""
    rows = [torch.tensor(prompt + response[:length - 1]) for prompt, response, length
            in zip(prompts, ids.tolist(), mask.sum(-1).tolist())]
    hidden = model(upload(pad_sequence(rows, batch_first=True), model.head.weight.device))
    row, t = mask.nonzero(as_tuple=True)
    t = t.minimum((mask.sum(-1) - 2).clamp(min=0)[row])
    return hidden[row, torch.tensor([len(prompt) - 1 for prompt in prompts])[row] + t]


@replaces("model.py:token_logprobs")
def score_at_temperature_one(logits: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """The temperature is left out. Score under what was sampled from: logits over T."""
    return logits.log_softmax(-1).gather(1, ids[:, None])[:, 0]


@replaces("model.py:token_logprobs")
def score_at_the_inverse_temperature(logits: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """Logits are multiplied by the temperature. They are divided by it."""
    return (logits * temperature).log_softmax(-1).gather(1, ids[:, None])[:, 0]


@replaces("model.py:token_logprobs")
def divide_after_the_softmax(logits: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """Log-probabilities are divided by T. Logits are, before the softmax."""
    return logits.log_softmax(-1).gather(1, ids[:, None])[:, 0] / temperature


@replaces("model.py:token_logprobs")
def give_probabilities(logits: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """These are probabilities. Their logarithms are asked for."""
    return sampling_logprobs(logits, temperature).exp().gather(1, ids[:, None])[:, 0]


@replaces("model.py:token_logprobs")
def give_raw_logits(logits: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """These are logits, not normalised. `log_softmax` makes log-probabilities of them."""
    return (logits / temperature).gather(1, ids[:, None])[:, 0]


@replaces("model.py:token_logprobs")
def score_the_likeliest(logits: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """The most likely token is scored. Score the one that was sampled: `ids`."""
    return sampling_logprobs(logits, temperature).max(-1).values
