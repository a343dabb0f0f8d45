"""Every command on a GPU, by simulation: bench/away.py has a device that is not there.

What is left on the CPU fails as it would on a GPU; how often the host waits is counted. The tests
at the end plant bugs of both kinds, and each is seen.
"""

import inspect
import sys
import textwrap
from functools import partial
from itertools import cycle

import pytest
import torch

import evaluation
import losses
import model
import plumbing.machine
import pretrain
import rewards
import rlvr
import run as runs
from bench import bench, counts
from bench.away import AWAY, HOST, simulate
from companions import judges, teacher
from companions.teacher import DIVERGENCES
from data import answers
from data.corpus import CORPORA
from lessons import elicit, gradients
from lessons.clips import kernel
from lessons.consistency import vote
from lessons.feedback import hints
from lessons.judges import measure
from lessons.probe import probe
from plumbing import streams
from rewards import REWARDS
from rlvr import LOSSES
from tests import adapters
from tests.helpers import (
    END,
    TINY_BASE,
    call,
    config,
    hand_made_batch,
    load_run,
    read_rows,
    run,
    shrink_config,
    tiny,
    train,
)

SMALL = ("--prompts 2 --group 2 --updates 2 --max-new-tokens 2 --eval-problems 1 --eval-samples 1 "
         "--steps 1").split()
PPO = "--loss ppo --kl-coef 0.1 --entropy-coef 0.1 --optimizer adamw".split()
# The functions that may wait for the device; how often they do is tested further down.
WAITING = set("""
    sample_responses collect_rollouts score_tokens kl_to_base update average_metrics open_run
    load_checkpoint save_checkpoint load_run accumulate_gradient open_pretraining
    finish_pretraining make_work small_work count_real count_on
    """.split())


@pytest.fixture
def machine():
    """Whatever runs on it waits in no other function, nor in a loss, a reward, a helper."""
    with simulate() as machine:
        yield machine
    hidden = {place for place in machine.places
              if place.split()[0] not in WAITING and "(test_" not in place}
    assert not hidden


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """{corpus: a checkpoint}, of tiny models that have learnt nothing."""
    folder = tmp_path_factory.mktemp("bases")
    for corpus in CORPORA:
        model.save_checkpoint(folder / f"{corpus}.pt", tiny().float(), corpus=corpus)
    return {corpus: folder / f"{corpus}.pt" for corpus in CORPORA}


def train_small(base, out, *flags) -> int:
    """Every response has a box, for a judge; every second is right, so that each group trains."""
    right = cycle((True, False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rewards, "is_correct", lambda problem, response: next(right))
        for module in (answers, rewards):
            patch.setattr(module, "parse_box", lambda response: str(len(response) % 100))
        return train(base, out, *SMALL, *flags)


# --- the device

def ones(*shape) -> torch.Tensor:
    return torch.ones(shape).to(AWAY)


@pytest.mark.parametrize("mixed", [
    lambda: ones(2) + torch.ones(2), lambda: torch.stack([ones(), torch.tensor(0.0)]),
    lambda: torch.cat([ones(2), torch.ones(2)]), lambda: torch.ones(2)[ones(1).long()],
    lambda: ones(2, 2) @ torch.ones(2, 2), lambda: ones(2).index_select(0, torch.tensor([0])),
    lambda: torch.ones(2).add_(ones(2)), lambda: torch.zeros(()).add_(ones()),
    lambda: ones(3).index_put_((ones(2).long(),), torch.ones(2)),
    lambda: torch.rand(2, device=AWAY, generator=torch.Generator()),
    lambda: ones(2).normal_(generator=torch.Generator()),
    lambda: ones(2).numpy(), lambda: ones(2).pin_memory(),
    lambda: ones(2).to("cpu", non_blocking=True), lambda: torch.ones(2, 2) @ torch.ones(2, 2)])
def test_it_refuses(mixed, machine):
    """As CUDA does; the last two, which CUDA does not, are mistakes all the same."""
    with pytest.raises(AssertionError):
        mixed()


@pytest.mark.parametrize("kernels, waits, uploads, work", [
    (1, 0, 0, lambda x, host: x + 1), (0, 0, 0, lambda x, host: x.view(4)[:2]),
    (1, 0, 0, lambda x, host: x * torch.tensor(2.0)), (0, 1, 0, lambda x, host: x[0, 0].item()),
    (1, 1, 0, lambda x, host: bool((x[0] > 0)[0])), (0, 1, 0, lambda x, host: x.tolist()),
    (0, 1, 0, lambda x, host: x.cpu()), (0, 1, 1, lambda x, host: host.to(AWAY)),
    (0, 1, 1, lambda x, host: host.to(AWAY, non_blocking=True)),
    (0, 1, 1, lambda x, host: host.pin_memory().to(AWAY)),
    (0, 0, 1, lambda x, host: host.pin_memory().to(AWAY, non_blocking=True)),
    (0, 0, 1, lambda x, host: plumbing.machine.upload(host, AWAY)),
    (1, 1, 0, lambda x, host: x.nonzero()), (2, 1, 0, lambda x, host: x[x > 0]),
    (1, 1, 0, lambda x, host: x.unique()), (1, 1, 1, lambda x, host: x[torch.tensor([0])]),
    (0, 1, 1, lambda x, host: torch.tensor([1.0], device=AWAY)),
    (0, 1, 1, lambda x, host: x.new_tensor([1.0])), (0, 1, 1, lambda x, host: x.copy_(host)),
    (0, 1, 0, lambda x, host: host.copy_(x)), (2, 1, 1, lambda x, host: setitem(x)),
    (1, 0, 0, lambda x, host: torch.zeros(2, device=AWAY)), (1, 0, 0, lambda x, host: x.double()),
    (1, 0, 0, lambda x, host: torch.nn.functional.rms_norm(x, (2,)))])
def test_it_counts(kernels, waits, uploads, work, machine):
    """What CUDA would launch, wait for and copy; a number that is set somewhere is a copy too."""
    x, host = ones(2, 2), torch.ones(2, 2)
    machine.counts.clear()
    work(x, host)
    counted = tuple(machine.counts[name] for name in counts.COUNTED)
    assert counted == (kernels, waits, uploads), machine.places


def setitem(x):
    x[torch.arange(2, device=AWAY), 0] = True


def test_the_numbers_are_those_of_the_cpu(bases, tmp_path):
    """The same command gives the same weights, but for what a GPU's micro-batches round."""
    flags = ["--reward", "correct", "--lr", 0.1, "--micro-batch", 4]
    assert train_small(bases["good-code"], tmp_path / "cpu", *flags, "--device", "cpu") == 0
    with simulate():
        assert train_small(bases["good-code"], tmp_path / "away", *flags) == 0
    here, there = (load_run(tmp_path / name)["weights"] for name in ("cpu", "away"))
    before = torch.load(bases["good-code"], weights_only=True)["weights"]
    assert not torch.equal(here["head.weight"], before["head.weight"])
    for name, weight in here.items():
        torch.testing.assert_close(weight, there[name], rtol=1e-5, atol=1e-6)


# --- the commands

@pytest.mark.slow
def test_every_command(machine, tmp_path, monkeypatch):
    """A pretraining that is stopped and resumed, a run that is resumed and finished, the rest."""
    monkeypatch.chdir(tmp_path)
    base = ["pretrain", "--base", "hinted-code", "--out", "b.pt", *TINY_BASE]
    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "stop_signals", partial(stop_after, work=1))
        assert run(*base) == 130
    assert run(*base) == 0
    for steps in (1, 2, 2):
        assert train_small("b.pt", "run", *PPO, "--steps", steps) == 0
    assert run("evaluate", "run/model.pt", "--problems", 1, "--samples", 2) == 0
    assert run("sample", "run/model.pt", "37 *4", "--top-k", 3, "--top-p", 0.9) == 0


class stop_after:
    """In place of stop_signals: as if the first signal had come already."""

    def __init__(self, work):
        self.work = work

    def __enter__(self):
        return [self.work]

    def __exit__(self, *error):
        return None


@pytest.mark.slow
@pytest.mark.parametrize("loss, flags", [
    *((loss, "") for loss in LOSSES if loss != "ppo"), ("ppo", "--gae-lambda 0.9"),
    ("grpo", "--kl-coef 0.1 --entropy-coef 0.1 --aggregate length --trained ends"),
    ("ppo", "--kl-coef 0.1 --aggregate tokens"), ("psr", "--aggregate signal"),
    ("directive", "--teacher current --hint random"),
    ("grpo_directive", "--teacher frozen --hint wrong --kl-coef 0.1"),
    ("distill", "--teacher current --distill forward --hint other"),
    ("grpo_distill", "--teacher frozen --distill reverse --hint-for failed"),
    ("grpo_distill", "--directive-batches 0 --temperature 0.7")])
def test_every_loss(loss, flags, machine, bases, tmp_path):
    """With its companions, each in its kinds, on the base that reads hints; there is a gradient."""
    flags = ["--loss", loss, "--reward", "correct", *flags.split()]
    assert train_small(bases["hinted-code"], tmp_path, *flags) == 0
    assert float(read_rows(tmp_path)[0]["grad_norm"]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("reward", [*REWARDS, "not_code", "code+format"])
def test_every_reward(reward, machine, bases, tmp_path, monkeypatch):
    """With its judge, its labels; on the base that states how sure it is."""
    monkeypatch.setattr(rewards, "find_majority", lambda texts: "no number")  # wrong, where one is
    kinds = rewards.build_reward(reward, seed=1).judges
    judge = [flag for kind in kinds for flag in ("--judge", bases[kind])]
    flags = ["--reward", reward, "--loss", "grpo_segments", *judge]
    assert train_small(bases["humble-code"], tmp_path, *flags) == 0


@pytest.mark.parametrize("corpus", ["tenths-code", "mixed-code"])
def test_other_bases(corpus, machine, bases, tmp_path):
    """With three digits, with kinds of problems; hinted-code and humble-code are above."""
    assert train_small(bases[corpus], tmp_path, "--reward", "soft_consensus") == 0
    assert run("evaluate", tmp_path / "model.pt", "--problems", 2, "--samples", 2) == 0


@pytest.mark.slow
@pytest.mark.parametrize("flags", [
    "--loss ppo", "--loss grpo_distill --teacher ema --optimizer adamw",
    "", "--optimizer adamw --trained ends", "--loss ppo --optimizer adamw",
    "--loss directive --teacher ema"])
def test_every_state_is_resumed(flags, bases, tmp_path, machine):
    """It ends where a run without a stop does, and the host waits no more often than in that."""
    waits = {}
    for out, steps in (("whole", 2), ("parts", 1), ("parts", 2)):
        machine.counts.clear()
        machine.places.clear()
        assert train_small(bases["hinted-code"], tmp_path / out, "--lr", 0.1, "--reward", "correct",
                           *flags.split(), "--steps", steps) == 0
        waits[out, steps] = sum(count for place, count in machine.places.items()
                                if "_local_scalar_dense" in place)
    whole, parts = (load_run(tmp_path / out) for out in ("whole", "parts"))
    assert all(torch.equal(weight.here, parts["weights"][name].here)
               for name, weight in whole["weights"].items())
    assert waits["parts", 2] <= waits["whole", 2]


def test_a_minibatch_without_any_advantage():
    """It has no gradient, and torch says that the norm of none is a 0 on the CPU."""
    batch = hand_made_batch(tiny(), advantages=(1.0, 0.0))
    with simulate():
        policy = tiny().float().to(AWAY)
        metrics = adapters.update(policy, [torch.optim.SGD(policy.parameters())], batch, config())
    assert metrics["grad_norm"] > 0


# --- the lessons

def test_a_probe(machine, bases, tmp_path, monkeypatch):
    """Its runs and its table of what a base gives without any."""
    small = {"prompts": 2, "group": 2, "updates": 2, "steps": 1, "max_new_tokens": 3, "pool": 4,
             "eval_problems": 2, "eval_samples": 2}
    monkeypatch.setattr(rlvr, "TrainConfig", shrink_config(**small))
    monkeypatch.setattr(probe, "LOOKS", (1, 2))
    monkeypatch.setattr(probe, "ERROR", 0.6)  # one seed decides
    monkeypatch.setattr(elicit, "SAMPLES", 4)
    monkeypatch.setattr(elicit, "VOTERS", (2,))
    base = bases["good-code"]
    assert call(probe.main, base, "--out", tmp_path, "--threads", 1) == 0


def test_a_bench(machine, monkeypatch, tmp_path, bases):
    """All three phases are timed where the model is: a base, or a fresh one."""
    shape = model.ModelConfig(221, 1, 8, 2)
    for work in (bench.load_work(str(bases["good-code"]), AWAY), bench.make_work(shape, AWAY, 16)):
        assert work.model.head.weight.device == AWAY
    monkeypatch.setattr(bench, "load_work", lambda base, device: small_work(device))
    assert call(bench.main, "--repeats", 1, "--threads", 1) == 0


def small_work(device) -> bench.Work:
    """A model of one layer, its documents and settings, as `load_work` makes them of a base."""
    settings = config(eval_problems=3, eval_samples=2, max_new_tokens=10, updates=4)
    documents = [("37 *4", "48"), ("5 +2", "The answer is 7."), ("1 +1 +1", "3")]
    policy = tiny(end=-20.0).float().to(device)
    task, objective = bench.set_training(settings, policy, CORPORA["good-code"])
    pretraining = pretrain.PretrainConfig(batch=3, micro_batch=1, layers=1, width=8, heads=2)
    return bench.Work(policy, task, pretraining, documents, settings, objective)


def few(monkeypatch):
    """The measurements of lessons, on a few problems."""
    for module, sizes in ((elicit, {"SAMPLES": 4, "VOTERS": (2,)}),
                          (vote, {"PROBLEMS": 2, "SAMPLES": 4}),
                          (hints, {"PROBLEMS": 2, "SAMPLES": 2}),
                          (measure, {"PROBLEMS": 6, "SAMPLES": 4, "GAP_PROBLEMS": 4,
                                     "SIZES": (1, 2)}),
                          (kernel, {"PROBLEMS": 2}), (gradients, {"RESPONSES": 2})):
        for name, size in sizes.items():
            monkeypatch.setattr(module, name, size)


@pytest.mark.parametrize("work", [
    lambda bases: vote.measure_vote(bases["good-code"], sizes=(1, 2)),
    lambda bases: hints.measure_hint(bases["hinted-code"], " #code"),
    lambda bases: measure.measure_judge(bases["judge-direct"], votes=True),
    lambda bases: kernel.measure_kernel(tiny(), evaluation.draw_evaluation(2, "training", (1,))),
    lambda bases: gradients.measure_norms(tiny(), CORPORA["good-code"],
                                          evaluation.draw_evaluation(2, "training", (1,)))],
    ids=["vote", "hint", "judge", "kernel", "norms"])
def test_measurements_stay_on_the_cpu(work, bases, monkeypatch):
    """Where a GPU would be chosen, what lessons measure by themselves is still of the CPU."""
    few(monkeypatch)
    monkeypatch.setattr(measure, "locate_base", lambda name: bases[name])
    monkeypatch.setattr(measure, "balance", lambda kinds: kernel.np.ones(len(kinds)))
    with simulate(host_computes=True) as machine:
        work(bases)
    assert not machine.counts


def test_measurements_of_a_model_that_is_away(machine, bases, monkeypatch):
    """Those that take a model take it where it is."""
    few(monkeypatch)
    policy, judge = (tiny().float().to(AWAY) for _ in range(2))
    problems = evaluation.draw_evaluation(2, "evaluation", (1, 2))
    elicit.elicit(policy, CORPORA["good-code"], problems, (streams.EVALUATION, 0))
    measure.measure_gap(judge, "judge-direct", policy)
    measure.measure_taste(judge, "judge-direct")
    assert machine.counts["kernels"] > 1000


# --- how often the host waits

@pytest.fixture(scope="module")
def counted() -> dict[str, dict]:
    """What the bench prints, of a model of one layer and ten tokens."""
    return {row["what"]: row for row in counts.count_work(small_work(HOST))}


def test_the_host_waits_once_a_token(counted):
    """For no micro-batch and no update; for a rollout batch twice at its end, for updates once a
    number that they report.
    """
    waits = {what: row["waits"] for what, row in counted.items()}
    assert waits["decoded token"] == 1 and waits["micro-batch"] == 0
    assert waits["rollout batch"] == 10 + 2 and waits["updates of a batch"] <= 5
    assert waits["answers kept once"] == 10 + 2 and waits["pretraining step"] == 1
    assert waits["evaluation"] == 2 * (10 + 2) + 1 and waits["files of a batch"] == 9


@pytest.mark.parametrize("sampling", [
    {"temperature": 0.0}, {"temperature": 0.7}, {"top_k": 3}, {"top_p": 0.9},
    {"temperature": 1.3, "top_k": 9, "top_p": 0.5}], ids=str)
def test_every_way_to_sample_waits_once_a_token(sampling, machine):
    policy, prompts = tiny(end=-20.0).float().to(AWAY), [[37, 10], [40, 41, 10]]
    counted = counts.count_away(lambda: model.sample_responses(policy, prompts, 3, END, 6,
                                                               **sampling))
    assert counted["waits"] == 6 + 2, machine.places


@pytest.mark.slow
@pytest.mark.parametrize("settings", [
    *({"loss": loss} for loss in LOSSES), *({"loss": "distill", "distill": name}
                                            for name in DIVERGENCES),
    {"kl_coef": 0.1, "entropy_coef": 0.1, "temperature": 0.7}, {"aggregate": "signal"},
    {"loss": "ppo", "kl_coef": 0.1, "entropy_coef": 0.1, "trained": "ends"}], ids=str)
def test_updates_are_waited_for_once(settings):
    """In any number of updates and micro-batches: only at the end, for the metrics."""
    batch = hand_made_batch(tiny(), (2, 4, 3, 5), (1.0, -1.0, 1.0, -1.0))
    c, waits = config(**settings), {}
    uniform = torch.zeros(*batch.mask.shape, len(tiny().head.weight)).log_softmax(-1)
    scores = {"values": batch.old_logprobs, "base": batch.old_logprobs, "taught": batch.mask,
              "teacher": uniform if "distill" in c.loss else batch.old_logprobs}
    batch = batch._replace(scores=scores)
    with simulate() as machine:
        policy = tiny().float().to(AWAY)
        policy.blocks.requires_grad_(c.trained == "all")
        objective = adapters.make_objective(policy, c, torch.nn.Linear(8, 1, device=AWAY))
        optimizers = runs.make_optimizers(c, policy, objective.companions)
        for c.updates, c.micro_batch in ((1, 4), (1, 1), (4, 1)):
            counted = counts.count_away(lambda: rlvr.update(policy, optimizers, batch, c, 0,
                                                            objective))
            waits[c.updates, c.micro_batch] = counted["waits"]
    assert len(set(waits.values())) == 1 and waits[1, 1] <= 8, machine.places


def test_a_teacher_follows_without_a_wait(machine):
    policy, base = (tiny().float().to(AWAY) for _ in range(2))
    ema, = adapters.make_objective(policy, config(loss="distill", teacher="ema"),
                                   base=base).companions
    counted = counts.count_away(lambda: ema.follow(policy))
    assert counted["waits"] == 0 < counted["kernels"]


@pytest.mark.parametrize("loss, more", [("grpo", 0), ("ppo", 1), ("distill", 1),
                                        ("directive", 1)])
def test_what_is_scored_is_waited_for_once(loss, more, machine):
    """Once for critic, base or teacher, as long as a batch is one forward pass."""
    policy, settings = tiny(end=-20.0).float().to(AWAY), config(loss=loss, kl_coef=0.1)
    task, objective = bench.set_training(settings, policy, CORPORA["good-code"])
    counted = counts.count_away(lambda: rlvr.rollout(policy, task, settings, 0, objective))
    assert counted["waits"] == settings.max_new_tokens + 2 + more + 1, machine.places


def test_a_judge_waits_once_a_token(machine):
    judge = tiny(end=-20.0).float().to(AWAY)
    claims = [(problem, "48") for problem in evaluation.draw_evaluation(3, "training", (1,))]
    counted = counts.count_away(lambda: judges.ask_judge(
        judge, "judge-direct", claims, 2, streams.torch_rng(0, 0)))
    assert counted["waits"] == judges.MAX_TOKENS + 2


def test_kernels_are_no_more_than_they_were(counted):
    """A tenth above what stands, of a model of one layer."""
    kernels = {what: row["kernels"] for what, row in counted.items()}
    most = {"decoded token": 53, "micro-batch": 160, "update": 175, "pretraining step": 445}
    assert {what for what, limit in most.items() if kernels[what] > limit} == set(), kernels


# --- bugs of devices, planted

def judged(bases, out):
    """A run with a critic, KL, entropy and a judge; evaluated before and after."""
    assert train_small(bases["good-code"], out, *PPO, "--reward", "judge",
                       "--judge", bases["judge-direct"]) == 0


def by_response(bases, out):
    """A run whose loss has one ratio for a whole response."""
    flags = ["--loss", "gspo", "--reward", "correct"]
    assert train_small(bases["good-code"], out, *flags) == 0


def taught(bases, out):
    """A run whose teacher, an average of the policy, scores all tokens, and which is resumed."""
    flags = "--loss grpo_distill --teacher ema --optimizer adamw --reward correct".split()
    for steps in (1, 2):
        assert train_small(bases["hinted-code"], out, *flags, "--steps", steps) == 0


def pretrained(bases, out):
    """A base, which answers."""
    assert run("pretrain", "--base", "good-code", "--out", out / "b.pt", *TINY_BASE) == 0
    assert run("sample", out / "b.pt", "37 *4", "--top-p", 0.9, "--max-new-tokens", 3) == 0


def plant(monkeypatch, owner, name: str, edits) -> None:
    """Put a function with a changed source wherever it is called from."""
    original, made = getattr(owner, name), {}
    source = textwrap.dedent(inspect.getsource(original))
    for old, new in edits:
        assert source.count(old) == 1, f"{name} has no longer: {old}"
        source = source.replace(old, new)
    exec(source, vars(sys.modules[original.__module__]), made)
    for place in [owner, *list(sys.modules.values())]:
        if vars(place).get(name) is original:
            monkeypatch.setattr(place, name, made[name])


USUAL = {}  # how often the host waits in each piece of work, without a bug


def wait_as_usual(work, bases, out) -> None:
    """A piece of work on the device. It fails where something is left behind, or waited for."""
    with simulate() as machine:
        work(bases, out)
    places = machine.places
    usual = USUAL.setdefault(work, places)
    assert sum(places.values()) <= sum(usual.values()), places


BUGS = {
    # a tensor without `device=`
    "positions": (model.Transformer, "forward", judged, ", device=ids.device", ""),
    "keys of the mask": (model.Transformer, "cache_mask", judged,
                         ", device=cache.start.device", ""),
    "critic": (losses.Critic, "__post_init__", judged, ", device=self.base.head.weight.device", ""),
    "norms": (rlvr, "update", judged, "policy.head.weight.new_zeros(config.updates)",
              "torch.zeros(config.updates)"),
    # what was left behind: a field, divisors, ids, indices
    "picked fields": (rlvr, "minibatch_loss", judged,
                      "upload(field[rows, :T][mask], hidden.device)", "field[rows, :T][mask]"),
    "divisors": (rlvr, "minibatch_loss", judged, "upload(per_token, loss.device)", "per_token"),
    "prompts": (model, "read_prompts", judged, "upload(ids, weight.device)", "ids"),
    "padding": (model, "read_prompts", judged, "upload(start, weight.device)", "start"),
    "sequences": (model, "response_hidden", judged, "upload(padded, device)", "padded"),
    "row index": (model, "response_hidden", judged, "upload(row, device)", "row"),
    "time index": (model, "response_hidden", judged,
                   "upload(first[row] + t, device)", "first[row] + t"),
    "rows of the cache": (model.KVCache, "select", judged,
                          "upload(rows, self.start.device)", "rows"),
    "source of a token": (model, "sample_responses", judged, "upload(beginning, device)",
                          "beginning"),
    "uniform numbers": (model, "sample_responses", judged, "upload(uniform[alive, t], device)",
                        "uniform[alive, t]"),
    "next tokens": (model, "sample_responses", judged, "upload(branches[:, None] % V, device)",
                    "branches[:, None] % V"),
    "response of a token": (rlvr, "minibatch_loss", by_response, "upload(owners, hidden.device)",
                            "owners"),
    "scored ids": (model, "score_tokens", judged, "upload(ids[rows][mask[rows]], hidden.device)",
                   "ids[rows][mask[rows]]"),
    "targets": (pretrain, "sum_cross_entropy", pretrained,
                "upload(ids[ids != PAD], logits.device)", "ids[ids != PAD]"),
    # what should have come back
    "drawn tokens": (model, "sample_responses", judged, "tokens = tokens.cpu()", "pass"),
    "scores": (model, "score_tokens", judged, ".cpu()", ""),
    "numpy": (model, "sample_responses", judged, "tokens.cpu()",
              "torch.from_numpy(tokens.numpy())"),
    "not there yet": (model, "sample_responses", judged, "tokens.cpu()",
                      'tokens.to("cpu", non_blocking=True)'),
    # a generator of the other device
    "generator": (model, "sample_responses", judged, "dtype=torch.float64)\n",
                  "dtype=torch.float64, device=device)\n"),
    # a model or a state in the wrong place
    "base": (model, "load_checkpoint", judged, "model.to(device)", "model"),
    "judge": (runs, "load_judge", judged, '"judge"), device)', '"judge"), torch.device("cpu"))'),
    "teacher": (teacher.Teacher, "__post_init__", taught, "copy.deepcopy(self.base)\n",
                "copy.deepcopy(self.base).cpu()\n"),
    "fresh model": (pretrain, "open_pretraining", pretrained, "Transformer(shape).to(device)",
                    "Transformer(shape)"),
    "checkpoint": (model, "load_checkpoint", taught, 'map_location="cpu", ', ""),
    "steps of AdamW": (model, "load_checkpoint", taught, 'map_location="cpu"',
                       "map_location=device"),
    "state of AdamW": (runs, "open_run", taught, "thing.load_state_dict(state)",
                       'thing.load_state_dict(state) if not hasattr(thing, "state") else '
                       'thing.state.update(zip(thing.param_groups[0]["params"], '
                       'state["state"].values()))'),
    # hidden waits
    "memory that is not pinned": (plumbing.machine, "upload", judged, "tensor.pin_memory()",
                                  "tensor"),
    "blocking": (plumbing.machine, "upload", judged, ", non_blocking=True", ""),
    "a number on its way": (model, "entropy", judged, ".sum(-1)",
                            ".sum(-1).clamp(min=torch.tensor(0.0, device=logits.device))"),
    "a number set": (model.Transformer, "forward", judged, "cache.used += T",
                     "cache.used += T; x[torch.arange(1, device=x.device), 0, 0] = 0.0"),
    "a question": (model, "draw_tokens", judged, "max=logprobs.size(-1) - 1",
                   "max=int(tokens.max())"),
    "a mask as index": (rlvr, "diagnose", judged, "kl_k3(old_logprobs, logprobs)",
                        "kl_k3(old_logprobs, logprobs)[dropped]"),
    "a metric a micro-batch": (rlvr, "update", judged, "sums.update(more)",
                               "sums.update({name: float(n) for name, n in more.items()})"),
    "a norm an update": (rlvr, "update", judged, "config.max_grad_norm)",
                         "config.max_grad_norm).item()"),
    "a loss a micro-batch": (pretrain, "accumulate_gradient", pretrained, "loss.detach()",
                             "loss.item()"),
}


FIRST = "positions", "divisors", "numpy", "steps of AdamW", "a metric a micro-batch"


@pytest.mark.parametrize("bug", [*FIRST, *(pytest.param(bug, marks=pytest.mark.slow)
                                           for bug in BUGS if bug not in FIRST)])
def test_planted_bugs_are_seen(bug, bases, tmp_path, monkeypatch):
    """One change in one line of a function: all else passes, on the CPU too."""
    owner, name, work, old, new = BUGS[bug]
    if work not in USUAL:
        (tmp_path / "usual").mkdir()
        wait_as_usual(work, bases, tmp_path / "usual")
    plant(monkeypatch, owner, name, [(old, new)])
    with pytest.raises(AssertionError):
        wait_as_usual(work, bases, tmp_path / "out")


def test_norms_that_are_stacked_are_seen(bases, monkeypatch):
    """As it was: the norm of a minibatch without signal stood on the CPU among the others."""
    plant(monkeypatch, rlvr, "update", [
        ("norms = policy.head.weight.new_zeros(config.updates)", "norms = []"),
        ("norms[i] = nn.utils.clip_grad_norm_(policy.parameters(), config.max_grad_norm)",
         "norms.append(nn.utils.clip_grad_norm_(policy.parameters(), config.max_grad_norm))"),
        ("norms.tolist()", "torch.stack(norms).tolist()")])
    with pytest.raises(AssertionError, match="stack.*left on the CPU"):
        test_a_minibatch_without_any_advantage()
