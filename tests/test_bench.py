"""The measurements of bench: what they count, and that ours is what others compute.

No test looks at a time. What needs trl and transformers is skipped where they are not installed.
"""

import copy
import json
import re
import sys
from pathlib import Path

import pytest
import torch

import model
import rlvr
from bench import bench, bound, check, llama, peers
from data.tokenizer import END, VOCABULARY_SIZE
from pretrain import PretrainConfig
from tests import adapters, helpers
from tests.helpers import close, f64, flat

FOLDER = Path(bench.__file__).parent
SHAPE = model.ModelConfig(VOCABULARY_SIZE, 2, 16, 2)
TINY = {"prompts": 4, "group": 4, "updates": 2, "max_new_tokens": 6, "pool": 8, "lr": 0.1}


def tiny_work() -> bench.Work:
    """A tiny model with documents, a config and a pool, as `load_work` makes them of a base."""
    documents = [("37 *4", "48"), ("5 +2", "The answer is 7."), ("1 +1 +1", "3")]
    pretraining = PretrainConfig(batch=2, micro_batch=2, layers=1, width=8, heads=2)
    model, training = helpers.tiny().float(), helpers.config()
    task, objective = bench.set_training(training, model, rlvr.CORPORA["good-code"])
    return bench.Work(model, task, pretraining, documents, training, objective)


def need_peers():
    """The peers, imported as the command imports them; or the test is skipped."""
    pytest.importorskip("transformers")
    pytest.importorskip("trl")
    llama.import_peers()


# --- what is counted


def test_padding_is_not_counted():
    """Right padding of a training batch, left padding of prompts; a sampled 0 is a real token."""
    assert bound.count_real(torch.tensor([[5, 0, 6, 0], [7, 0, 0, 0], [1, 2, 3, 4]])) == 3 + 1 + 4
    assert bound.count_real(torch.tensor([[0, 0, 9], [0, 8, 9]])) == 1 + 2
    assert bound.count_real(torch.tensor([[0], [3]])) == 2


def test_the_products_of_an_update_are_those_of_its_real_tokens():
    """Six operations a weight and token: padding, or a forgotten backward product, would change it.

    Row i has a prompt and all but the last of its response in the blocks, the response in the head.
    """
    transformer = helpers.tiny()
    lengths = (2, 4, 3, 6)
    batch = helpers.hand_made_batch(transformer, lengths, (1.0, -1.0, 1.0, -1.0))
    config = helpers.config(updates=2, micro_batch=2)
    with bound.record_calls(transformer) as calls:
        adapters.update(transformer, [torch.optim.SGD(transformer.parameters(), lr=0.1)], batch,
                        config)
    read = sum(len(prompt) + length - 1 for prompt, length in zip(batch.prompts, lengths))
    assert sum(rows for place, rows in calls if place == "blocks") == read
    assert sum(rows for place, rows in calls if place == "head") == sum(lengths)
    blocks = sum(p.numel() for p in transformer.blocks.parameters() if p.dim() == 2)
    wanted = 6 * (read * blocks + sum(lengths) * transformer.head.weight.numel())
    products = bound.list_products(transformer.float(), calls, backward=True)
    assert bound.count_flops(products) == wanted
    assert bound.count_flops(bound.list_products(transformer, calls, False)) * 3 == wanted


def test_the_hooks_are_gone_afterwards():
    """Or the timed runs would count as well, and be slower for it."""
    transformer = helpers.tiny()
    with bound.record_calls(transformer) as calls:
        pass
    transformer.head(transformer(torch.tensor([[1, 2]])))
    assert not calls


def test_the_endless_model_is_endless_and_shares_nothing():
    """Every response is as long as asked for, of many tokens, none of them END or the padding."""
    transformer = bench.make_endless(SHAPE)
    out = adapters.sample(transformer, [[37, 10], [5, 10]], 64, END, seed=0, max_new_tokens=8)
    assert out.mask.all() and out.mask.shape == (128, 8)
    assert not torch.isin(out.ids, torch.tensor([END, bound.PADDING])).any()
    assert len(set(map(tuple, out.ids[:, :3].tolist()))) == 128


def test_a_fresh_models_sequences_have_one_length():
    """Prompts, documents and responses: where nothing is padded, all tokens are real."""
    work = bench.make_work(SHAPE, helpers.CPU, batch=32)
    phases = bench.list_phases(work)
    rows = [bench.measure_phase(phase, helpers.CPU, 1) for phase in phases]
    assert [row["phase"] for row in rows] == list(bench.PHASES)
    assert {row["tokens"] for row in rows} == {32 * 27}
    assert rows[0]["read"] == rows[2]["read"] == 32 * (12 + 26)
    assert rows[1]["read"] <= 2 * 12 + 32 * 26


# --- what is measured


def test_phases_leave_their_model_alone():
    """Each repeat starts from the same weights: a trained one would answer at other lengths."""
    work = tiny_work()
    before = flat(work.model.parameters()).clone()
    rows = [bench.measure_phase(phase, helpers.CPU, 2) for phase in bench.list_phases(work)]
    assert torch.equal(flat(work.model.parameters()), before)
    assert rows[1]["tokens"] == rows[2]["tokens"] >= rows[1]["read"] - 4 * 12
    assert rows[0]["tokens"] == 2 + 4 + 2  # a number; an opener, a number, a dot; each with END
    for row in rows:
        assert row["seconds"] <= row["median"] and row["peak_mib"] > 50


def test_numbers_go_where_they_are_asked_for(monkeypatch, capsys, tmp_path):
    """--json -: standard output is JSON and nothing else; a file is as whole. None of it is NaN."""
    monkeypatch.setattr(bench, "load_work", lambda base, device: tiny_work())
    assert bench.main(["--repeats", "1", "--threads", "1", "--json", "-", "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    assert [row["phase"] for row in json.loads(out)["phases"]] == list(bench.PHASES)
    assert "tokens/s" in err
    path = tmp_path / "made" / "bench.json"
    assert bench.main(["--repeats", "1", "--json", str(path), "--device", "cpu"]) == 0
    result = helpers.read_json(path)
    assert result["machine"]["torch"] == torch.__version__ and result["bf16_rate"] is None
    assert [row["what"] for row in result["counts"]][-1] == "run of 20 batches"
    out = capsys.readouterr().out
    assert out.count("\n") == 4 + 1 + 11 + 2  # two tables
    assert out.endswith(f"wrote {path.as_posix()}\nnext: python -m bench --sweep\n")


@pytest.mark.slow
def test_a_sweep_has_a_row_for_every_cell(monkeypatch, capsys, tmp_path):
    """Widths and batches in every combination, a phase after the other; and a figure of them."""
    monkeypatch.setattr(bench, "WIDTHS", (16, 32))
    monkeypatch.setattr(bench, "BATCHES", (16, 32))
    monkeypatch.setattr(bench, "load_work", lambda base, device: tiny_work())
    arguments = ["--repeats", "1", "--sweep", "--json", str(tmp_path / "bench.json"),
                 "--figure", str(tmp_path / "figure.png"), "--device", "cpu"]
    assert bench.main(arguments) == 0
    rows = helpers.read_json(tmp_path / "bench.json")["sweep"]
    assert [(row["phase"], row["width"], row["batch"]) for row in rows] == [
        (phase, width, batch) for phase in bench.PHASES for width in (16, 32)
        for batch in (16, 32)]
    assert "batch 16" in capsys.readouterr().out


@pytest.mark.parametrize("arguments, text", [
    (["--base", "nowhere"], "nowhere"), (["--width", "30", "--heads", "4"], "--width 30"),
    (["--json", "/proc/nowhere/bench.json"], "/proc/nowhere")])
def test_bad_input_is_one_line(arguments, text, capsys):
    """Exit code 2 before any work."""
    assert bench.main([*arguments, "--device", "cpu"]) == 2
    err = capsys.readouterr().err
    assert text in err and err.count("\n") == 1


# --- the page


def stored() -> dict:
    return json.loads((FOLDER / "bench.json").read_text("utf-8"))


@pytest.mark.parametrize("table", [lambda: bench.tabulate_phases(stored()["phases"]),
                                   lambda: bench.tabulate_sweep(stored()["sweep"]),
                                   lambda: bench.tabulate_counts(stored()["counts"])])
def test_the_page_shows_the_stored_numbers(table):
    """No number of these tables is typed."""
    page = (FOLDER / "README.md").read_text("utf-8")
    blocks = re.findall(r"```text\n(.*?)\n```", page, re.DOTALL)
    assert table() in "\n\n".join(blocks).split("\n\n")


# --- the peers, where they are not installed


def test_missing_peers_are_one_line(monkeypatch, capsys):
    """Exit code 2, and what to install."""
    monkeypatch.setitem(sys.modules, "trl", None)
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert peers.main([]) == 2
    err = capsys.readouterr().err
    assert "pip install trl==" in err and err.count("\n") == 1


def test_the_reordered_pairs_turn_alike():
    """Pairs side by side against pairs half a head apart: a wrong order changes q k."""
    H, D, T = 3, 8, 5
    rows = [check.draw_normal(seed, H * D, H * D) for seed in (0, 1)]
    x = check.draw_normal(2, 1, T, H * D)
    angles = torch.outer(torch.arange(T, **f64), 10_000.0 ** (-torch.arange(0, D, 2, **f64) / D))
    turn = torch.polar(torch.ones_like(angles), angles).repeat(1, H)
    q, k = (model.rotate(x @ weight.T, turn).view(T, H, D) for weight in rows)
    cos, sin = (f(torch.cat((angles, angles), 1))[:, None] for f in (torch.cos, torch.sin))

    def turn_halves(weight):
        y = (x @ llama.halve_pairs(weight, H).T).view(T, H, D)
        return y * cos + torch.cat((-y[..., D // 2:], y[..., :D // 2]), -1) * sin

    q_halves, k_halves = map(turn_halves, rows)
    close(torch.einsum("thd,shd->hts", q, k), torch.einsum("thd,shd->hts", q_halves, k_halves))


def test_formulas_agree_with_their_sources():
    """The losses, GAE, k3 and pass@k as CleanRL, the papers and human-eval write them."""
    for row in check.check_formulas():
        assert row.difference < 1e-8 and row.size > 0.5, row


def test_a_difference_is_seen():
    """-inf in one place only is the largest difference there is; -inf in both is none."""
    low = -torch.inf
    assert check.check("", "", torch.tensor([1.0, low]), torch.tensor([1.5, low])).difference == 0.5
    assert check.check("", "", torch.tensor([1.0, low]), torch.tensor([1.0, 3.0])).difference > 1e9


# --- and where they are


@pytest.mark.parametrize("gated", [True, False])
def test_logits_are_a_llamas(gated):
    """Every part: rotation, order of the heads, norms and their eps, GELU, the head."""
    need_peers()
    transformer = adapters.make_model(0, VOCABULARY_SIZE, 2, 16, 2)
    ids = torch.randint(VOCABULARY_SIZE, (3, 12), generator=torch.Generator().manual_seed(0))
    theirs = llama.make_llama(transformer, gated)(ids).logits
    close(adapters.full_logits(transformer, ids).detach(), theirs.detach(), 1e-9)


def test_the_frequencies_are_a_llamas():
    """Another base of RoPE: the comparison in float64 takes ours, and would not see it."""
    need_peers()
    row, = check.check_rotation(adapters.make_model(0, VOCABULARY_SIZE, 1, 16, 2).float())
    assert row.difference < 1e-7 and row.size == 1


@pytest.mark.parametrize("loss_type, flags", [
    ("luspo", {}),
    ("grpo", {"aggregate": "length", "eps_low": 0.01, "eps_high": 0.02, "max_grad_norm": 0.5}),
    ("bnpo", {"aggregate": "tokens", "kl_coef": 0.1, "entropy_coef": 0.01, "temperature": 1.5})])
def test_trl_ends_at_the_same_weights(loss_type, flags):
    """A batch of ours trained on by TRL's loop: divisors, clip, KL, entropy, norm, temperature."""
    need_peers()
    *inputs, updates = check.check_updates(helpers.tiny(), loss_type, **TINY, **flags)
    assert max(row.difference for row in inputs) < 1e-6  # TRL keeps rewards in float32
    assert updates.difference < 1e-12 and updates.size > 1e-3


def test_another_divisor_is_another_result():
    """The comparison is not blind: TRL with the divisor of another --aggregate ends elsewhere."""
    need_peers()
    *_, updates = check.check_updates(helpers.tiny(), "grpo", **TINY)
    assert updates.difference > 1e-4


def test_sampling_cuts_what_transformers_cuts():
    """Top-k and top-p alone and together, each over the temperature."""
    need_peers()
    for row in check.check_sampler():
        assert row.difference < 1e-12, row


def test_both_sides_take_turns():
    """As many timed rollout batches of each, all from the same weights: TRL's tokens repeat."""
    need_peers()
    transformer = helpers.tiny().float()
    before = copy.deepcopy(transformer.state_dict())
    task = peers.make_task("tiny", transformer, **TINY)
    theirs, ours = peers.take_turns(task, 2, gated=False)
    assert len(theirs) == len(ours) == 2
    assert ours[0]["tokens"] == ours[1]["tokens"] and theirs[0]["tokens"] == theirs[1]["tokens"]
    assert all(torch.equal(before[name], weight)
               for name, weight in transformer.state_dict().items())
    table = peers.tabulate_peers({"tiny": (theirs, ours)})
    assert len(table.splitlines()) == 4 and "ratio" in table
