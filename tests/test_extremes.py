"""Numbers at the edges of what is accepted: the sampler's distribution, and training under it.

Logits of float32 as of a model that has gone far, temperatures and masses that no float holds.
"""

import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

import model as project
from tests.helpers import END, read_rows, run, tiny, token_logprobs, train, weights

VALUES = [0.0, -0.0, 1.0, 1.0000001, -1.0, 20.0, 88.0, -104.0, 1e-7, 1e-30, -1e-30, 1e30, -1e30,
          3e38, -3e38, -math.inf]
values = st.sampled_from(VALUES) | st.floats(-50, 50, width=32)
rows = st.lists(values, min_size=1, max_size=7).filter(lambda row: max(row) > -math.inf)
temperatures = st.sampled_from(
    [5e-324, 1e-320, 1e-45, 1e-38, 1e-30, 1e-9, 0.3, 1.0, 1.7, 1e9, 1e30, 1e300,
     math.inf]) | st.floats(1e-3, 1e3)
masses = st.none() | st.sampled_from(
    [5e-324, 1e-320, 1e-45, 1e-38, 1e-9, 0.5, 1 - 1e-9, 1.0]) | st.floats(1e-3, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16],
                         ids=str)
@given(rows, st.just(0.0) | temperatures, st.none() | st.integers(1, 9), masses)
@example([0.0, 1.0], 1e-38, None, None)
@example([30.0, 100.0], 1e-37, None, None)
@example([0.0, 2.0, 1.0], 1.0, None, 1e-320)
@example([0.0, 1e-7, 0.0], 1e30, None, 0.3)
@example([0.0, -math.inf], 1e300, None, None)
def test_whatever_is_accepted_is_a_distribution(dtype, row, temperature, top_k, top_p):
    """No NaN, mass 1, the most likely token in it, and nothing likelier cut than what is kept."""
    limit = torch.finfo(dtype).max
    logits = torch.tensor([v if v == -math.inf else min(max(v, -limit), limit) for v in row],
                          dtype=dtype)
    logprobs = project.sampling_logprobs(logits, temperature, top_k, top_p)
    exact = dtype in (torch.float32, torch.float64)
    assert not logprobs.isnan().any() and (logprobs <= 0).all()
    assert logprobs.double().exp().sum().item() == pytest.approx(1, abs=1e-5 if exact else 0.1)
    kept = logprobs > -math.inf
    assert kept[logits.argmax()]
    assert kept.all() or logits[kept].min() >= logits[~kept].max()
    if top_k is not None and temperature:
        assert logits[kept].min() >= logits.sort(descending=True).values[:top_k].min()
    uniform = torch.tensor([0.0, 0.5, 1 - 2 ** -53], dtype=torch.float64)
    tokens = project.draw_tokens(logprobs[None], torch.zeros(3, dtype=torch.long), uniform)
    assert kept[tokens].all()


def count_exactly(weights: list[int], p: Fraction) -> list[int]:
    """How many of the most likely tokens reach p, in rational numbers, for p a little less or more.

    One number, unless p is as near to a sum as the roundings of the float type, 2e-6, but is none.
    """
    sums = list(itertools.accumulate(sorted((Fraction(w, sum(weights)) for w in weights),
                                            reverse=True)))
    spread = Fraction(0) if p in sums else Fraction(2, 10 ** 6)
    return [1 + next(i for i, mass in enumerate(sums) if mass >= min(p * (1 + s), 1))
            for s in (-spread, spread)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@given(st.lists(st.integers(1, 1000), min_size=2, max_size=40), st.integers(1, 1000))
@example([3, 1, 1, 5], 800)
@example([1] * 10, 300)
@example([7, 2, 1], 900)
def test_top_p_keeps_as_many_as_rational_numbers_say(dtype, weights, thousandths):
    """.5 + .3 reaches .8, whatever the floats say of it: so does every sum that is p exactly."""
    for p in {Fraction(thousandths, 1000), Fraction(max(weights), sum(weights))}:
        logprobs = torch.tensor(weights, dtype=torch.float64).log().to(dtype)
        kept = project.sampling_logprobs(logprobs, top_p=float(p)).isfinite().sum().item()
        least, most = count_exactly(weights, p)
        assert least <= kept <= most


def test_a_mass_of_one_cuts_nothing():
    """Not what is too rare for the sum to show either."""
    logits = torch.tensor([0.0, -40.0, -80.0])
    assert project.sampling_logprobs(logits, top_p=1.0).isfinite().all()


def test_of_equal_tokens_the_first_stay_in_the_nucleus():
    """And all of them among the k most likely: as the docstring says."""
    logits = torch.tensor([0.0, 1.0, 1.0, 1.0])
    logprobs = project.sampling_logprobs(logits, top_p=0.4)
    assert logprobs.isfinite().tolist() == [False, True, True, False]
    logprobs = project.sampling_logprobs(logits, top_k=1)
    assert logprobs.isfinite().tolist() == [False, True, True, True]


def test_at_temperature_one_nothing_is_rounded_anew():
    """The stored results were made with the plain log-softmax: to the last bit."""
    logits = 10 * torch.randn(50, 200, generator=torch.Generator().manual_seed(0))
    assert torch.equal(project.sampling_logprobs(logits), logits.log_softmax(-1))


@pytest.mark.parametrize("temperature", [0.0, 1e-38, 1.0])
def test_a_diverged_model_is_seen_at_any_temperature(temperature):
    """Greedily too, where the log-probability of what is most likely is 0 whatever the logits."""
    model = tiny().float()
    with torch.no_grad():
        model.head.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="diverged"):
        project.sample_responses(model, [[3, 4]], 2, END, 3, temperature)


@pytest.mark.parametrize("temperature", [0.01, 0.3, 100.0])
def test_what_is_sampled_is_scored_the_same_at_the_ends_of_the_range(temperature):
    """In float32: within 1e-6 of the logits, divided by the temperature; gradients are numbers."""
    model, prompt = tiny(end=1.0).float(), [3, 4, 5]
    generator = torch.Generator().manual_seed(0)
    rollouts = project.sample_responses(model, [prompt], 20, END, 6, temperature,
                                        generator=generator)
    scored = [token_logprobs(model, prompt, ids[mask], temperature)
              for ids, mask in zip(rollouts.ids, rollouts.mask)]
    difference = rollouts.logprobs[rollouts.mask] - torch.cat(scored).detach()
    assert difference.abs().max() <= 3e-6 / min(temperature, 1)
    torch.cat(scored).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("temperature", ["0.01", "100"])
def test_training_works_at_the_ends_of_the_range(temperature, base, tmp_path):
    """With all terms that divide by it, the entropy bonus and KL too; at a step that fits."""
    more = "--lr 1e-5 --reward code --kl-coef 0.1 --entropy-coef 0.01 --loss ppo".split()
    assert train(base, tmp_path / "run", "--temperature", temperature, *more) == 0
    rows = read_rows(tmp_path / "run")
    assert all(math.isfinite(float(cell)) for row in rows for cell in row.values() if cell)


@pytest.mark.parametrize("temperature", ["1e-38", "1e-320", "0.0099", "101", "1e30"])
def test_no_training_where_rounding_errors_are_the_loss(temperature, capsys):
    """Refused in a line that says which temperatures are not."""
    assert run("train", "--temperature", temperature) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and ("at least 0.01" in error or "at most 100" in error)


def test_the_entropy_bonus_is_a_number_at_any_temperature():
    """Catches infinity minus infinity in a division of its own."""
    logits = torch.tensor([[1e30, 0.0, -1e30]])
    for temperature in (0.01, 1.0, 100.0):
        assert project.entropy(project.scale_logits(logits, temperature)).isfinite().all()


@pytest.mark.parametrize("flag", ["--lr-adamw", "--lr-muon"])
@pytest.mark.parametrize("rate", ["1e-30", "1e9", "1e12", "1e29"])
def test_no_base_is_written_that_is_no_numbers(flag, rate, tmp_path, capsys):
    """The last step makes weights that no loss has seen: without a look at them, exit code 0."""
    shape = "--steps 3 --batch 6 --layers 1 --width 8 --heads 2 --threads 1 --warmup 0".split()
    code = run("pretrain", "--out", tmp_path / "b.pt", *shape, flag, rate)
    error = capsys.readouterr().err.splitlines()
    assert code in (0, 1) and (tmp_path / "b.pt").exists() == (code == 0)
    if code == 0:
        assert weights(tmp_path / "b.pt").isfinite().all()
    else:
        assert "diverged" in error[-1]


def test_the_most_likely_token_stays_where_denormals_are_zero():
    """As a caller may set it on a CPU, and as a GPU's float32 is: then p = 1e-320 is no mass."""
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor keeps its denormals")
    try:
        for temperature, top_p in ((1.0, 1e-320), (1e-38, None), (1e-320, 1e-320)):
            logprobs = project.sampling_logprobs(torch.tensor([0.0, 2.0]), temperature, None, top_p)
            assert logprobs[1] > -math.inf and logprobs.exp().sum() == pytest.approx(1)
    finally:
        torch.set_flush_denormal(False)
