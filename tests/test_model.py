"""The transformer, its cache and the sampler, in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import adapters

END, VOCABULARY = 1, 20
PROMPTS = [[3, 4], [5, 6, 7, 8, 9, 3], [2], [3, 4]]
SAMPLINGS = [{}, {"temperature": 0.6}, {"temperature": 1.7}, {"top_k": 3}, {"top_p": 0.7}, {"temperature": 0.8, "top_k": 5, "top_p": 0.9},
             {"temperature": 0.0}]


def close(a, b, tolerance=1e-10):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def model():
    return adapters.make_model(seed=0)


def test_causal(model):
    """Catches a missing mask: a later token may not change an earlier prediction; and the earlier ones must matter."""
    ids = torch.randint(0, VOCABULARY, (3, 9))
    changed = ids.clone()
    changed[:, 5] = (changed[:, 5] + 1) % VOCABULARY
    a, b = adapters.full_logits(model, ids), adapters.full_logits(model, changed)
    close(a[:, :5], b[:, :5])
    assert (a[:, 5:] - b[:, 5:]).abs().amax(dim=(0, 2)).min() > 1e-3


def test_positions_matter():
    """Catches a RoPE that is not applied: to one layer without positions a swapped past is the same past."""
    model = adapters.make_model(seed=0, layers=1)
    a, b = (adapters.full_logits(model, torch.tensor([[2, *past, 5]]))[0, -1] for past in ([3, 4, 6], [6, 3, 4]))
    assert (a - b).abs().max() > 1e-3


def test_cache_equals_full_forward(model):
    """Catches cache errors and pads that count as positions: mixed prompt lengths, left-padded, read token by token."""
    continuation = torch.randint(0, VOCABULARY, (len(PROMPTS), 7))
    cached = adapters.cached_logits(model, PROMPTS, continuation)
    for i, prompt in enumerate(PROMPTS):
        alone = adapters.full_logits(model, torch.cat((torch.tensor(prompt), continuation[i]))[None])
        close(cached[i], alone[0, len(prompt) - 1:])


def test_left_padding_changes_nothing(model):
    """A prompt alone gives what the same prompt gives in a mixed batch."""
    one = torch.randint(0, VOCABULARY, (1, 5))
    alone = adapters.cached_logits(model, [PROMPTS[2]], one)
    mixed = adapters.cached_logits(model, PROMPTS, one.expand(len(PROMPTS), -1))
    close(mixed[2], alone[0])


@pytest.mark.parametrize("options", SAMPLINGS, ids=str)
def test_sampler_logprobs_equal_recomputed(model, options):
    """Catches scoring at T = 1 what was sampled at another T or from a truncated distribution."""
    rollouts = adapters.sample(model, PROMPTS, 3, END, seed=1, max_new_tokens=8, **options)
    prompts = [prompt for prompt in PROMPTS for _ in range(3)]
    logits = adapters.response_logits(model, prompts, rollouts.ids, rollouts.mask)
    logprobs = adapters.sampling_logprobs(logits, **options).gather(1, rollouts.ids[rollouts.mask][:, None])[:, 0]
    close(rollouts.logprobs[rollouts.mask], logprobs)
    assert torch.isfinite(logprobs).all()
    close(rollouts.entropy[rollouts.mask], adapters.entropy(logits))


def test_ending_is_an_action_and_the_last_one(model):
    """The ending has a True mask, everything after it False, zero log-probability; without an ending the row is full."""
    rollouts = adapters.sample(model, PROMPTS, 50, END, seed=2, max_new_tokens=8)
    ended = 0
    for ids, mask, logprobs in zip(rollouts.ids, rollouts.mask, rollouts.logprobs):
        length = int(mask.sum())
        assert mask[:length].all() and not mask[length:].any() and not logprobs[length:].any()
        assert END not in ids[:length - 1].tolist()
        ended += ids[length - 1] == END
        assert ids[length - 1] == END or length == 8
    assert 0 < ended < len(rollouts.ids)


def test_rows_do_not_depend_on_each_other():
    """Catches a batch in which an early ending shifts the random numbers or the cache of the other rows."""
    model = adapters.make_model(seed=3)
    together = adapters.sample(model, PROMPTS, 2, END, seed=4, max_new_tokens=10)
    never = adapters.sample(model, PROMPTS, 2, -1, seed=4, max_new_tokens=10)  # no token is the ending: no row leaves
    lengths = together.mask.sum(1)
    assert lengths.min() < lengths.max()
    for i, length in enumerate(lengths):
        assert together.ids[i, :length].tolist() == never.ids[i, :length].tolist()
        close(together.logprobs[i, :length], never.logprobs[i, :length])


def test_same_prompt_twice_gives_independent_groups(model):
    rollouts = adapters.sample(model, [[3, 4], [3, 4]], 8, END, seed=5, max_new_tokens=6)
    assert rollouts.ids[:8].tolist() != rollouts.ids[8:].tolist()


@pytest.mark.parametrize("options", [{}, {"temperature": 0.7, "top_k": 4}], ids=str)
def test_sampler_frequencies(model, options):
    """Catches a biased draw: 20,000 first tokens against the exact distribution, within 5 standard errors each."""
    n = 20_000
    rollouts = adapters.sample(model, [[3, 4, 5]], n, END, seed=6, max_new_tokens=1, **options)
    p = adapters.sampling_logprobs(adapters.full_logits(model, torch.tensor([[3, 4, 5]]))[0, -1], **options).exp()
    observed = torch.bincount(rollouts.ids[:, 0], minlength=VOCABULARY) / n
    assert ((observed - p).abs() <= 5 * (p * (1 - p) / n).sqrt()).all()  # p = 0 must never occur


def test_sampler_frequencies_of_whole_responses(model):
    """Catches rows that share a beginning and are then continued alike, or get each other's cache: 40,000 pairs of tokens."""
    n, prompts = 40_000, [[3, 4, 5], [6, 7]]
    rollouts = adapters.sample(model, prompts, n, -1, seed=9, max_new_tokens=2)
    for i, prompt in enumerate(prompts):
        first = adapters.full_logits(model, torch.tensor([prompt]))[0, -1].softmax(-1)
        second = adapters.full_logits(model, torch.tensor([[*prompt, token] for token in range(VOCABULARY)]))[:, -1].softmax(-1)
        p = (first[:, None] * second).flatten()
        pairs = rollouts.ids[i * n:(i + 1) * n]
        observed = torch.bincount(pairs[:, 0] * VOCABULARY + pairs[:, 1], minlength=len(p)) / n
        assert ((observed - p).abs() <= 5 * (p * (1 - p) / n).sqrt() + 1e-4).all()


logit_rows = st.lists(st.floats(-20, 20), min_size=2, max_size=12).map(lambda row: torch.tensor(row, dtype=torch.float64))


@given(logit_rows, st.floats(0.1, 3), st.integers(1, 12))
def test_top_k(logits, temperature, k):
    logprobs = adapters.sampling_logprobs(logits, temperature, top_k=k)
    kept = torch.isfinite(logprobs)
    assert kept.sum() >= min(k, len(logits)) and abs(logprobs.exp().sum().item() - 1) < 1e-12
    assert set(logits[kept].tolist()) == set(sorted(logits.tolist(), reverse=True)[:min(k, len(logits))])
    close(logprobs[kept], (logits[kept] / temperature).log_softmax(-1))


@given(logit_rows, st.floats(0.05, 1.0))
def test_top_p_keeps_the_smallest_set_that_reaches_p(logits, p):
    kept = torch.isfinite(adapters.sampling_logprobs(logits, top_p=p))
    probs = logits.softmax(-1)
    assert kept.any() and probs[kept].sum() >= p - 1e-9
    assert probs[kept].sum() - probs[kept].min() < p + 1e-9           # without its least likely token it would not reach p
    assert kept.all() or probs[kept].min() >= probs[~kept].max()


def test_greedy_takes_the_most_likely(model):
    rollouts = adapters.sample(model, [[3, 4, 5]], 1, -1, seed=7, max_new_tokens=5, temperature=0.0)
    ids = [3, 4, 5]
    for token in rollouts.ids[0].tolist():
        assert token == adapters.full_logits(model, torch.tensor([ids]))[0, -1].argmax()
        ids.append(token)


def test_entropy():
    """Catches minus mean log-probability under the name of entropy."""
    close(adapters.entropy(torch.zeros(2, 215, dtype=torch.float64)), torch.full((2,), math.log(215), dtype=torch.float64))
    p = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    close(adapters.entropy(p.log() + 5), -(p * p.log()).sum())


@settings(max_examples=15)
@given(st.lists(st.lists(st.integers(2, 19), min_size=1, max_size=7), min_size=1, max_size=5), st.integers(0, 1000))
def test_cached_sampling_scores_like_a_full_forward(prompts, seed):
    """The same for any mix of prompts: what the sampler says it sampled with is what a plain forward pass says."""
    model = adapters.make_model(seed=8)
    rollouts = adapters.sample(model, prompts, 2, END, seed=seed, max_new_tokens=6)
    for i, (ids, mask, logprobs) in enumerate(zip(rollouts.ids, rollouts.mask, rollouts.logprobs)):
        prompt, length = prompts[i // 2], int(mask.sum())
        logits = adapters.full_logits(model, torch.cat((torch.tensor(prompt), ids[:length]))[None])[0, len(prompt) - 1:-1]
        close(logprobs[:length], logits.log_softmax(-1).gather(1, ids[:length, None])[:, 0])
