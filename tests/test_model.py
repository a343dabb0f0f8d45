"""The transformer, its cache and the sampler, in float64; checkpoints."""

import copy
import math
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import model as project
from data.tokenizer import VOCABULARY_HASH
from plumbing.messages import InputError
from tests import adapters
from tests.helpers import CPU, DEVICES, files_of_at_most, flat

END, VOCABULARY = 1, 20
PROMPTS = [[3, 4], [5, 6, 7, 8, 9, 3], [2], [3, 4]]
SAMPLINGS = [{}, {"temperature": 0.6}, {"temperature": 1.7}, {"top_k": 3}, {"top_p": 0.7},
             {"temperature": 0.8, "top_k": 5, "top_p": 0.9}, {"temperature": 0.0}]


def close(a, b, tolerance=1e-10):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def make(seed=0, **shape):
    return adapters.make_model(seed, **shape)


def random_tokens(*shape, seed=0):
    return torch.randint(0, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


# --- the transformer


def test_causal():
    """Catches a missing mask: a later token changes no earlier prediction; earlier ones matter."""
    model, ids = make(), random_tokens(3, 9)
    changed = ids.clone()
    changed[:, 5] = (changed[:, 5] + 1) % VOCABULARY
    a, b = adapters.full_logits(model, ids), adapters.full_logits(model, changed)
    close(a[:, :5], b[:, :5])
    assert (a[:, 5:] - b[:, 5:]).abs().amax(dim=(0, 2)).min() > 1e-3


def test_positions_matter():
    """Catches a RoPE that is not applied: without it a swapped past is the same past."""
    model = make(layers=1)
    a, b = (adapters.full_logits(model, torch.tensor([[2, *past, 5]]))[0, -1]
            for past in ([3, 4, 6], [6, 3, 4]))
    assert (a - b).abs().max() > 1e-3


def test_rope_turns_pairs_by_position():
    """2104.09864, eq. 13, by hand: pair i of a head of width D turns by t / 10000^(2i / D)."""
    D, T = 8, 5
    frequencies = make(layers=1, width=16, heads=2).frequencies.double()
    close(frequencies, 10_000.0 ** (-torch.arange(0, D, 2).double() / D), 1e-7)
    x = torch.randn(1, T, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    angles = torch.outer(torch.arange(T).double(), frequencies)
    turned = project.rotate(x, torch.polar(torch.ones_like(angles), angles))
    for t in range(T):
        for i in range(D // 2):
            angle, (a, b) = angles[t, i].item(), x[0, t, 2 * i:2 * i + 2].tolist()
            close(turned[0, t, 2 * i:2 * i + 2], torch.tensor(
                [a * math.cos(angle) - b * math.sin(angle),
                 a * math.sin(angle) + b * math.cos(angle)], dtype=torch.float64))


def test_queries_keys_and_values_turn_together():
    """In one product, v by the angle 0: bit for bit what q and k turned alone are, and v itself."""
    T, heads, D = 7, 2, 8
    qkv = torch.randn(3, T, 3 * heads * D, generator=torch.Generator().manual_seed(0))
    angles = torch.outer(torch.arange(T), 10_000.0 ** (-torch.arange(0, D, 2) / D))
    turn = torch.polar(torch.ones_like(angles), angles).repeat(1, heads)
    q, k, v = qkv.split(heads * D, dim=-1)
    together = project.rotate(qkv, torch.cat((turn, turn, torch.ones_like(turn)), dim=1))
    alone = torch.cat((project.rotate(q, turn), project.rotate(k, turn), v), dim=-1)
    assert torch.equal(together, alone)
    half = project.rotate(q.bfloat16(), turn)        # torch has no complex numbers of bfloat16
    assert half.dtype == torch.float32
    close(half, project.rotate(q, turn), 0.05)


def test_attention_by_hand():
    """One block, written out with loops over heads and positions: no shared line of code."""
    model = make(layers=1, width=8, heads=2)
    block, ids = model.blocks[0], random_tokens(1, 6)
    x = model.embedding(ids)[0]                                                    # (T, C)
    q, k, v = block.qkv(block.norm_attention(x)).split(8, dim=-1)
    angles = torch.outer(torch.arange(6).double(), model.frequencies)
    y = torch.zeros_like(x)
    for head in (slice(0, 4), slice(4, 8)):
        turned = [project.rotate(z[None, :, head], torch.polar(torch.ones_like(angles), angles))[0]
                  for z in (q, k)]
        for t in range(6):
            scores = turned[1][:t + 1] @ turned[0][t] / 2                          # sqrt(D) = 2
            y[t, head] = scores.softmax(0) @ v[:t + 1, head]
    x = x + block.proj(y)
    x = x + block.down(torch.nn.functional.gelu(block.up(block.norm_mlp(x))))
    close(adapters.full_logits(model, ids)[0], model.head(model.norm(x)))


def test_what_is_added_to_the_stream_starts_smaller():
    """As GPT-2: std 0.02, but 0.02 / sqrt(2 layers) for what goes into the residual stream."""
    torch.manual_seed(0)
    model = project.Transformer(project.ModelConfig(200, layers=8, width=64, heads=4))
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            added = name.endswith(("proj.weight", "down.weight"))
            expected = 0.02 / 4 if added else 0.02
            assert parameter.std().item() == pytest.approx(expected, rel=0.1), name
            assert abs(parameter.mean().item()) < 5 * expected / parameter.numel() ** 0.5


# --- precision


def make_single(width, heads=4, layers=2):
    """A float32 model over 20 tokens, and the same in float64."""
    single = adapters.make_model(0, VOCABULARY, layers, width, heads).float()
    return single, copy.deepcopy(single).double()


@pytest.mark.parametrize("width", [64, project.BFLOAT16_WIDTH])
def test_a_cpu_multiplies_in_float32(width):
    """Catches a bfloat16 that is meant for a GPU: three digits are not seven."""
    single, double = make_single(width)
    ids = random_tokens(3, 9)
    with torch.no_grad():
        a, b = adapters.full_logits(single, ids), adapters.full_logits(double, ids)
    assert a.dtype == torch.float32
    assert (a - b).abs().max() < 1e-4 * b.abs().max()


def test_what_leaves_a_model_in_bfloat16_is_float32(monkeypatch):
    """Its blocks in bfloat16 here, as those of a wide model are on a GPU.

    Hidden states, cache, rollouts and gradients are float32, and near those of float64. Catches
    complex bfloat16, a cache of two types, and sums of probabilities in three digits.
    """
    (single, double), original = make_single(64), torch.autocast
    with monkeypatch.context() as patch:
        patch.setattr(torch, "autocast", lambda device, dtype, enabled: original(device, dtype))
        cache, _ = adapters.make_cache(single, PROMPTS)
        rollouts = adapters.sample(single, PROMPTS, 3, END, seed=1, max_new_tokens=8)
        prompts = [prompt for prompt in PROMPTS for _ in range(3)]
        hidden = project.response_hidden(single, prompts, rollouts.ids, rollouts.mask)
    assert {t.dtype for t in (*cache.keys, *cache.values, hidden)} == {torch.float32}
    assert rollouts.logprobs.dtype == rollouts.entropy.dtype == torch.float32
    expected = project.response_hidden(double, prompts, rollouts.ids, rollouts.mask)
    assert 1e-3 < (hidden - expected).abs().max() < 0.3            # it was in bfloat16
    logprobs = double.head(expected).log_softmax(-1)
    sampled = logprobs.gather(1, rollouts.ids[rollouts.mask][:, None])[:, 0]
    assert (rollouts.logprobs[rollouts.mask] - sampled).abs().max() < 0.5
    hidden.sum().backward()
    gradients = [p.grad for p in single.blocks.parameters()]
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("cuda, width, half", [
    (True, 256, True), (True, 512, True), (True, 248, False), (False, 256, False)])
def test_bfloat16_is_for_wide_models_on_a_gpu(cuda, width, half, monkeypatch):
    """Where it is faster: not on a CPU, not in the small model whose results are on the pages."""
    asked, original = [], torch.autocast
    monkeypatch.setattr(torch, "autocast", lambda device, dtype, enabled: (
        asked.append((dtype, enabled)) or original("cpu", dtype, enabled=False)))
    ids = random_tokens(1, 3).as_subclass(OnGPU if cuda else torch.Tensor)
    make_single(width, layers=1)[0](ids)
    assert asked == [(torch.bfloat16, half)]


class OnGPU(torch.Tensor):
    """A tensor that says it is on a GPU."""

    is_cuda = True


# --- the cache


def test_cache_equals_full_forward():
    """Catches cache errors and pads that count as positions: mixed prompts, token by token."""
    model, continuation = make(), random_tokens(len(PROMPTS), 7)
    cache, logits = adapters.make_cache(model, PROMPTS)
    cached = [logits] + [adapters.continue_cache(model, cache, continuation[:, t:t + 1])[:, 0]
                         for t in range(7)]
    for i, prompt in enumerate(PROMPTS):
        sequence = torch.cat((torch.tensor(prompt), continuation[i]))
        alone = adapters.full_logits(model, sequence[None])[0, len(prompt) - 1:]
        close(torch.stack([step[i] for step in cached]), alone)


def test_cache_takes_several_tokens_at_once():
    """Catches a mask of new tokens that see each other's future, or not their past."""
    model, continuation = make(), random_tokens(len(PROMPTS), 5)
    cache, _ = adapters.make_cache(model, PROMPTS)
    cached = torch.cat((adapters.continue_cache(model, cache, continuation[:, :3]),
                        adapters.continue_cache(model, cache, continuation[:, 3:])), dim=1)
    for i, prompt in enumerate(PROMPTS):
        sequence = torch.cat((torch.tensor(prompt), continuation[i]))
        close(cached[i], adapters.full_logits(model, sequence[None])[0, len(prompt):])


def test_left_padding_changes_nothing():
    """The shortest prompt, alone or in a mixed batch: what a plain forward pass gives."""
    model, one = make(), random_tokens(1, 5)
    prompt = PROMPTS[2]
    expected = adapters.full_logits(model, torch.cat((torch.tensor([prompt]), one), dim=1))[0]
    for prompts in ([prompt], PROMPTS):
        cache, logits = adapters.make_cache(model, prompts)
        row = prompts.index(prompt)
        close(logits[row], expected[len(prompt) - 1])
        continued = adapters.continue_cache(model, cache, one.expand(len(prompts), -1))
        close(continued[row], expected[len(prompt):])


def test_which_keys_a_query_sees():
    """The mask by hand: 0 from a row's first real token to the query's own column, else -inf.

    Padding sees something: a softmax over nothing is 0 / 0. Some versions of torch make 0 of it,
    so logits would not show it.
    """
    model, starts = make(layers=1), [0, 3, 1]
    cache = project.KVCache(model.config, torch.tensor(starts), like=model.head.weight)
    for T in (4, 1, 2):
        used = cache.used + T
        mask = model.cache_mask(cache, T)
        assert mask.shape == (3, 1, T, used)
        for start, rows in zip(starts, mask[:, 0].tolist()):
            for query, row in enumerate(rows, cache.used):
                expected = [0.0 if start <= key <= query else -math.inf for key in range(used)]
                assert row == expected if query >= start else 0.0 in row
        cache.used = used


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [3, 1], [1, 1, 0, 1], [2], [1, 0, 2, 3]])
def test_selected_rows_go_on_as_themselves(rows):
    """Catches a branch that gets another row's keys, values or padding."""
    model, continuation = make(), random_tokens(len(rows), 3)
    cache, _ = adapters.make_cache(model, PROMPTS)
    adapters.select_rows(cache, torch.tensor(rows))
    logits = adapters.continue_cache(model, cache, continuation)
    for i, row in enumerate(rows):
        sequence = torch.cat((torch.tensor(PROMPTS[row]), continuation[i]))
        alone = adapters.full_logits(model, sequence[None])[0, len(PROMPTS[row]):]
        close(logits[i], alone)


# --- the sampler


@pytest.mark.parametrize("options", SAMPLINGS, ids=str)
def test_sampler_logprobs_equal_recomputed(options):
    """Catches scoring at T = 1 what was sampled at another T or from a truncated distribution."""
    model = make()
    rollouts = adapters.sample(model, PROMPTS, 3, END, seed=1, max_new_tokens=8, **options)
    prompts = [prompt for prompt in PROMPTS for _ in range(3)]
    logits = adapters.response_logits(model, prompts, rollouts.ids, rollouts.mask)
    sampled = rollouts.ids[rollouts.mask][:, None]
    logprobs = adapters.sampling_logprobs(logits, **options).gather(1, sampled)[:, 0]
    close(rollouts.logprobs[rollouts.mask], logprobs)
    assert torch.isfinite(logprobs).all()
    close(rollouts.entropy[rollouts.mask], adapters.entropy(logits))


def test_ending_is_an_action_and_the_last_one():
    """The ending has a True mask, all after it False and 0; without an ending the row is full."""
    rollouts = adapters.sample(make(), PROMPTS, 50, END, seed=2, max_new_tokens=8)
    ended = 0
    for ids, mask, logprobs, entropy in zip(*rollouts):
        length = int(mask.sum())
        assert mask[:length].all() and not mask[length:].any()
        assert not logprobs[length:].any() and not entropy[length:].any()
        assert END not in ids[:length - 1].tolist()
        ended += ids[length - 1] == END
        assert ids[length - 1] == END or length == 8
    assert 0 < ended < len(rollouts.ids)


def test_at_most_40_tokens_unless_asked():
    """The default, and that the batch is no wider than its longest row."""
    assert adapters.sample(make(), PROMPTS, 2, -1, seed=0).ids.shape == (8, 40)
    rollouts = adapters.sample(make(), PROMPTS, 2, END, seed=0, max_new_tokens=300)
    assert rollouts.ids.size(1) == rollouts.mask.sum(1).max() < 300


@pytest.mark.parametrize("device", DEVICES)
def test_rollouts_are_on_the_cpu(device):
    """Wherever the model is: what follows them (texts, rewards, tables) is not for a GPU.

    Hidden states stay where the model is. On every device that torch sees here.
    """
    model = make().float().to(device)
    rollouts = adapters.sample(model, PROMPTS, 2, END, seed=0, max_new_tokens=4)
    assert {field.device for field in rollouts} == {CPU}
    prompts = [prompt for prompt in PROMPTS for _ in range(2)]
    logits = adapters.response_logits(model, prompts, rollouts.ids, rollouts.mask)
    assert logits.device.type == device
    sampled = rollouts.ids[rollouts.mask][:, None]
    logprobs = logits.detach().cpu().log_softmax(-1).gather(1, sampled)[:, 0]
    close(rollouts.logprobs[rollouts.mask], logprobs, 1e-3)


def test_rows_do_not_depend_on_each_other():
    """Catches an early ending that shifts the random numbers or the cache of the other rows."""
    model = make(seed=3)
    together = adapters.sample(model, PROMPTS, 2, END, seed=4, max_new_tokens=10)
    never = adapters.sample(model, PROMPTS, 2, -1, seed=4, max_new_tokens=10)  # no row leaves
    lengths = together.mask.sum(1)
    assert lengths.min() < lengths.max()
    for i, length in enumerate(lengths):
        assert together.ids[i, :length].tolist() == never.ids[i, :length].tolist()
        close(together.logprobs[i, :length], never.logprobs[i, :length])


def test_rows_answer_their_own_prompt():
    """Row i answers prompt i // n: a sampled row is likely under its own prompt's logits."""
    model = make()
    rollouts = adapters.sample(model, PROMPTS, 3, -1, seed=4, max_new_tokens=1)
    for i, (token, logprob) in enumerate(zip(rollouts.ids[:, 0], rollouts.logprobs[:, 0])):
        logits = adapters.full_logits(model, torch.tensor([PROMPTS[i // 3]]))[0, -1]
        close(logprob, logits.log_softmax(-1)[token])


def test_same_prompt_twice_gives_independent_groups():
    rollouts = adapters.sample(make(), [[3, 4], [3, 4]], 8, END, seed=5, max_new_tokens=6)
    assert rollouts.ids[:8].tolist() != rollouts.ids[8:].tolist()


@pytest.mark.parametrize("options", [{}, {"temperature": 0.7, "top_k": 4}], ids=str)
def test_sampler_frequencies(options):
    """Catches a biased draw: 20,000 first tokens within 5 standard errors of the distribution."""
    model, n = make(), 20_000
    rollouts = adapters.sample(model, [[3, 4, 5]], n, END, seed=6, max_new_tokens=1, **options)
    logits = adapters.full_logits(model, torch.tensor([[3, 4, 5]]))[0, -1]
    p = (logits / options.get("temperature", 1)).softmax(-1)
    p = p * (p >= p.sort(descending=True).values[options.get("top_k", VOCABULARY) - 1])
    p = p / p.sum()
    observed = torch.bincount(rollouts.ids[:, 0], minlength=VOCABULARY) / n
    assert ((observed - p).abs() <= 5 * (p * (1 - p) / n).sqrt()).all()  # p = 0 never occurs


def test_sampler_frequencies_of_whole_responses():
    """Catches rows that share a beginning and go on alike, or with each other's cache.

    40,000 pairs of tokens to each of two prompts.
    """
    model, n, prompts = make(), 40_000, [[3, 4, 5], [6, 7]]
    rollouts = adapters.sample(model, prompts, n, -1, seed=9, max_new_tokens=2)
    for i, prompt in enumerate(prompts):
        first = adapters.full_logits(model, torch.tensor([prompt]))[0, -1].softmax(-1)
        longer = torch.tensor([[*prompt, token] for token in range(VOCABULARY)])
        second = adapters.full_logits(model, longer)[:, -1].softmax(-1)
        p = (first[:, None] * second).flatten()
        pairs = rollouts.ids[i * n:(i + 1) * n]
        observed = torch.bincount(pairs[:, 0] * VOCABULARY + pairs[:, 1], minlength=len(p)) / n
        assert ((observed - p).abs() <= 5 * (p * (1 - p) / n).sqrt() + 1e-4).all()


logit_rows = st.lists(st.floats(-20, 20) | st.integers(-1, 1).map(float), min_size=2,
                      max_size=12).map(
    lambda row: torch.tensor(row, dtype=torch.float64))


@given(logit_rows, st.floats(0.1, 3), st.integers(1, 12))
def test_top_k(logits, temperature, k):
    """The k likeliest, every one that is equal to the k-th, and what is left sums to 1."""
    logprobs = adapters.sampling_logprobs(logits, temperature, top_k=k)
    kept, k = torch.isfinite(logprobs), min(k, len(logits))
    assert kept.sum() >= k and abs(logprobs.exp().sum().item() - 1) < 1e-12
    scaled = logits / temperature            # equal after the division is a tie too
    assert set(scaled[kept].tolist()) == set(sorted(scaled.tolist(), reverse=True)[:k])
    assert kept[logits >= logits.sort(descending=True).values[k - 1]].all()
    close(logprobs[kept], scaled[kept].log_softmax(-1))


@given(logit_rows, st.floats(0.05, 1.0))
def test_top_p_keeps_the_smallest_set_that_reaches_p(logits, p):
    kept = torch.isfinite(adapters.sampling_logprobs(logits, top_p=p))
    probs = logits.softmax(-1)
    assert kept.any() and probs[kept].sum() >= p - 1e-9
    # Without its least likely token it would not reach p.
    assert probs[kept].sum() - probs[kept].min() < p + 1e-9
    assert kept.all() or probs[kept].min() >= probs[~kept].max()


def test_order_of_the_truncations():
    """Temperature first, then top-k, then top-p of what is left: by hand."""
    p = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    cold = p ** 2 / (p ** 2).sum()                                    # T = 0.5
    assert (cold[0] > 0.5 > p[0]) and (p[:3] / p[:3].sum())[:2].sum() > 0.75
    kept = torch.isfinite(adapters.sampling_logprobs(p.log(), 0.5, top_p=0.5))
    assert kept.tolist() == [True, False, False, False]
    kept = torch.isfinite(adapters.sampling_logprobs(p.log(), 1.0, top_k=3, top_p=0.75))
    assert kept.tolist() == [True, True, False, False]


def test_top_p_that_is_reached_exactly_needs_no_more():
    """Two of four equal tokens have half of the mass: a third is too many."""
    logits = torch.zeros(4, dtype=torch.float64)
    assert torch.isfinite(adapters.sampling_logprobs(logits, top_p=0.5)).sum() == 2


def test_greedy_takes_the_most_likely():
    model = make()
    rollouts = adapters.sample(model, [[3, 4, 5]], 1, -1, seed=7, max_new_tokens=5,
                               temperature=0.0)
    ids = [3, 4, 5]
    for token in rollouts.ids[0].tolist():
        assert token == adapters.full_logits(model, torch.tensor([ids]))[0, -1].argmax()
        ids.append(token)
    equal = torch.tensor([[1.0, 2.0, 2.0], [3.0, 3.0, 3.0]], dtype=torch.float64)   # the first
    assert adapters.sampling_logprobs(equal, 0.0).exp().tolist() == [[0, 1, 0], [1, 0, 0]]


def test_entropy():
    """Catches minus mean log-probability under the name of entropy."""
    uniform = torch.full((2,), math.log(215), dtype=torch.float64)
    close(adapters.entropy(torch.zeros(2, 215, dtype=torch.float64)), uniform)
    p = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    close(adapters.entropy(p.log() + 5), -(p * p.log()).sum())


def test_rare_tokens_are_drawn_in_double_precision():
    """A float32 model, a token of probability 1e-8: in float32 sums it would not exist."""
    logprobs = torch.tensor([[-1e-8, math.log(1e-8)], [math.log(0.5)] * 2])
    uniform = torch.tensor([0.0, 1 - 5e-9, 0.4, 0.6], dtype=torch.float64)
    tokens = project.draw_tokens(logprobs, torch.tensor([0, 0, 1, 1]), uniform)
    assert tokens.tolist() == [0, 1, 0, 1]


def test_draws_are_in_the_precision_of_their_numbers(monkeypatch):
    """Apple's GPU has no float64: with float32 numbers nothing may be made in it."""
    seen, original = [], torch.searchsorted
    monkeypatch.setattr(torch, "searchsorted", lambda a, b, **more: (
        seen.append((a.dtype, b.dtype)) or original(a, b, **more)))
    for dtype in (torch.float32, torch.float64):
        for of_model in (torch.float32, torch.float64):
            logprobs = torch.tensor([[0.25, 0.5, 0.25]], dtype=of_model).log()
            uniform = torch.tensor([0.1, 0.3, 0.7, 0.8, 0.999], dtype=dtype)
            tokens = project.draw_tokens(logprobs, torch.zeros(5, dtype=torch.long), uniform)
            assert tokens.tolist() == [0, 1, 1, 2, 2] and seen.pop() == (dtype, dtype)


def test_what_cannot_be_is_never_drawn():
    """Not by the least and the greatest of random numbers either: tokens 0 and 3 are cut away."""
    logprobs = torch.tensor([[-math.inf, math.log(0.5), math.log(0.5), -math.inf]])
    uniform = torch.tensor([0.0, 0.5, 1 - 2 ** -53], dtype=torch.float64)
    tokens = project.draw_tokens(logprobs, torch.tensor([0, 0, 0]), uniform)
    assert tokens.tolist() == [1, 2, 2]


def test_a_diverged_model_is_no_distribution():
    """NaN logits end in one clear error, not in token V - 1 or an index out of range."""
    model = make()
    with torch.no_grad():
        model.head.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="diverged"):
        adapters.sample(model, PROMPTS, 2, END, seed=0)


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
def test_a_model_that_diverges_on_one_token(number):
    """One row of many, some tokens in, and the other rows are fine: noticed all the same."""
    model = make()
    with torch.no_grad():
        model.embedding.weight[7].fill_(number)
    seen = [seed for seed in range(20) if 7 in adapters.sample(
        make(), PROMPTS[:1], 4, END, seed=seed, max_new_tokens=6).ids[:, :5]]
    assert seen
    for seed in seen[:3]:
        with pytest.raises(FloatingPointError, match="diverged"):
            adapters.sample(model, PROMPTS[:1], 4, END, seed=seed, max_new_tokens=6)


@settings(max_examples=15)
@given(st.lists(st.lists(st.integers(2, 19), min_size=1, max_size=7), min_size=1, max_size=5),
       st.integers(0, 1000))
def test_cached_sampling_scores_like_a_full_forward(prompts, seed):
    """For any mix of prompts the sampler says what a plain forward pass of one row says."""
    model = make(seed=8)
    rollouts = adapters.sample(model, prompts, 2, END, seed=seed, max_new_tokens=6)
    for i, (ids, mask, logprobs, _) in enumerate(zip(*rollouts)):
        prompt, length = prompts[i // 2], int(mask.sum())
        sequence = torch.cat((torch.tensor(prompt), ids[:length]))
        logits = adapters.full_logits(model, sequence[None])[0, len(prompt) - 1:-1]
        scored = logits.log_softmax(-1).gather(1, ids[:length, None])[:, 0]
        close(logprobs[:length], scored)


# --- checkpoints


def saved(path, **changes):
    torch.manual_seed(0)
    model = project.Transformer(project.ModelConfig(20, 1, 8, 2))
    project.save_checkpoint(path, model, **{"corpus": "no-code", "note": [1, "two"], **changes})
    return model


def test_checkpoint_round_trip(tmp_path):
    """The same configuration, weights and extras."""
    model = saved(tmp_path / "sub/model.pt")
    loaded, checkpoint = project.load_checkpoint(tmp_path / "sub/model.pt", CPU)
    assert asdict(loaded.config) == {"vocabulary_size": 20, "layers": 1, "width": 8, "heads": 2}
    assert torch.equal(flat(loaded.parameters()), flat(model.parameters()))
    assert checkpoint["vocabulary"] == VOCABULARY_HASH
    assert (checkpoint["corpus"], checkpoint["note"]) == ("no-code", [1, "two"])
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["model.pt"]


def test_a_disk_that_is_full(tmp_path):
    """OSError, which is one line; torch.save raises RuntimeError. The old checkpoint is whole."""
    saved(tmp_path / "model.pt")
    before = (tmp_path / "model.pt").read_bytes()
    with files_of_at_most(len(before) // 2), pytest.raises(OSError):
        saved(tmp_path / "model.pt", note="new")
    assert (tmp_path / "model.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


@pytest.mark.parametrize("damage, complaint", [
    ("missing", "cannot read checkpoint"), ("truncated", "checkpoint"),
    ("foreign", "not a checkpoint of this project"), ("text", "not a checkpoint of this project"),
    ("vocabulary", "of another vocabulary"), ("corpus", "of an unknown corpus"),
    ("layers", "have other shapes"), ("weights", "have other shapes")])
def test_damaged_checkpoints(damage, complaint, tmp_path):
    path = tmp_path / "model.pt"
    saved(path, **({"vocabulary": 1} if damage == "vocabulary" else {}),
          **({"corpus": "latin"} if damage == "corpus" else {}))
    checkpoint = torch.load(path, weights_only=True)
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-300])
    elif damage == "text":
        path.write_text("not a checkpoint", encoding="utf-8")
    elif damage == "foreign":
        torch.save({"something": torch.zeros(3)}, path)
    elif damage == "layers":
        torch.save({**checkpoint, "model": {**checkpoint["model"], "layers": 2}}, path)
    elif damage == "weights":
        torch.save({**checkpoint, "weights": torch.zeros(3)}, path)
    with pytest.raises(InputError, match=complaint) as error:
        project.load_checkpoint(path, CPU)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


class Bomb:
    """What a file of somebody else's may do when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


def test_a_checkpoint_runs_no_code(tmp_path, monkeypatch):
    """Catches weights_only=False: to look at a downloaded file must be safe."""
    monkeypatch.chdir(tmp_path)
    saved(Path("model.pt"))
    torch.save({**torch.load("model.pt", weights_only=True), "bomb": Bomb()}, "model.pt")
    with pytest.raises(InputError):
        project.load_checkpoint(Path("model.pt"), CPU)
    assert not Path("exploded").exists()


def test_locate_base(tmp_path, monkeypatch):
    """A name in runs/bases, else a path; a corpus that is not pretrained yet says how to do it."""
    monkeypatch.chdir(tmp_path)
    saved(project.BASE_FOLDER / "no-code.pt")
    saved(project.BASE_FOLDER / "mine.pt")
    for name in ("no-code", "mine"):
        assert project.locate_base(name) == project.BASE_FOLDER / f"{name}.pt"
    assert str(project.locate_base("some/file.pt")) == "some/file.pt"
    with pytest.raises(InputError, match="python rlvr.py pretrain --base good-code"):
        project.locate_base("good-code")
