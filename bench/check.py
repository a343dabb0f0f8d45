"""Is the arithmetic the same? Our code against TRL's, transformers' and written-out formulas.

The heart of it: one rollout batch of ours is handed to TRL's GRPOTrainer, which scores it, computes
advantages and trains a Llama on it with its own loop and loss. In float64 both end at the same
weights. For that, what TRL and transformers compute in float32 whatever the weights are is replaced
(norms, rotary tables, the fused head); a row in float32 has all of theirs as it is.
"""

import copy
import tempfile
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import losses
import rlvr
from bench.contest import Contest, list_prompts, make_contest
from bench.llama import make_llama, make_trainer
from evaluation import pass_at_k
from lessons.report import align
from model import Transformer, load_checkpoint, locate_base, sampling_logprobs
from plumbing import progress
from run import make_optimizers


class Comparison(NamedTuple):
    what: str
    against: str
    precision: str         # of our side
    difference: float      # the largest, absolute
    size: float            # the largest absolute value of what is compared


def check(what: str, against: str, ours, theirs) -> Comparison:
    """Compare two tensors or lists of numbers; -inf in one only is an infinite difference."""
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (ours, theirs))
    difference = torch.where(a == b, 0.0, (a - b).abs()).max().item()
    precision = str(getattr(ours, "dtype", torch.float64)).removeprefix("torch.")
    return Comparison(what, against, precision, difference, a[a.isfinite()].abs().max().item())


def draw_normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- a batch through TRL

def list_minibatches(config: rlvr.TrainConfig) -> list[Tensor]:
    """The rows of every update on the first batch."""
    return rlvr.split_minibatches(config, config.prompts * config.group, 0)


def score_double(trainer, model: nn.Module, ids: Tensor, attention_mask: Tensor, keep: int,
                 batch_size: int | None = None, **others) -> tuple[Tensor, Tensor, None]:
    """Log-probabilities and entropies (B, keep) in float64: TRL's fused head rounds to float32."""
    hidden = model.model(input_ids=ids, attention_mask=attention_mask,
                         use_cache=False).last_hidden_state
    logits = model.lm_head(hidden)[:, -keep - 1:-1] / trainer.temperature          # (B, keep, V)
    logprobs = logits.log_softmax(-1)
    chosen = logprobs.gather(-1, ids[:, -keep:, None])[..., 0]
    return chosen, -(logprobs.exp() * logprobs).sum(-1), None


def define_replay(batch: losses.Batch, config: rlvr.TrainConfig, double: bool) -> type:
    """A GRPOTrainer that samples what we sampled, and takes the rows in our order."""
    from trl import GRPOTrainer

    class Replay(GRPOTrainer):
        scored = None      # TRL's batch: its advantages, its old log-probabilities

        def _generate_single_turn(self, prompt_ids, *others):
            assert prompt_ids == batch.prompts
            lengths = batch.mask.sum(1).tolist()
            return [ids[:n] for ids, n in zip(batch.ids.tolist(), lengths)], None

        def _prepare_inputs(self, inputs):
            if self.scored is None:
                self.scored = self._generate_and_score_completions(inputs)
            rows = list_minibatches(config)[self._step]
            return {name: value[rows] if value.dim() else value
                    for name, value in self.scored.items()}

        def _get_per_token_logps_and_entropies(self, *arguments, **options):
            if double:
                return score_double(self, *arguments, **options)
            return super()._get_per_token_logps_and_entropies(*arguments, **options)

    return Replay


def replay_batch(contest: Contest, batch: losses.Batch, loss_type: str):
    """The trainer after TRL has trained on our batch, its Llama in it."""
    llama, rewards = make_llama(contest.model, gated=True), batch.rewards.flatten().tolist()
    config, double = contest.config, contest.model.head.weight.dtype == torch.float64
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(define_replay(batch, config, double), llama, config,
                               list_prompts(contest), lambda **others: rewards, 1, folder,
                               loss_type)
        if config.kl_coef:
            trainer.beta, trainer.ref_model = config.kl_coef, make_llama(contest.model, gated=True)
        trainer.train()
    return trainer


def train_ours(contest: Contest) -> tuple[losses.Batch, Transformer]:
    """A rollout batch, and the model after all updates on it."""
    model = copy.deepcopy(contest.model)
    batch = rlvr.rollout(model, contest.task, contest.config, 0, contest.objective)
    optimizers = make_optimizers(contest.config, model, ())
    rlvr.update(model, optimizers, batch, contest.config, 0, contest.objective)
    return batch, model


def flatten_weights(llama: nn.Module) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in llama.state_dict().values()])


def check_updates(model: Transformer, loss_type: str, **flags) -> list[Comparison]:
    """A rollout batch and its updates, both ways: advantages, log-probabilities, final weights.

    The size of the last is how far the updates have moved a weight.
    """
    contest = make_contest("check", model, loss="dr_grpo", **flags)
    batch, trained = train_ours(contest)
    trainer = replay_batch(contest, batch, loss_type)
    before, ours = (flatten_weights(make_llama(m, gated=True)) for m in (model, trained))
    theirs, scored = flatten_weights(trainer.model), trainer.scored
    mask, old = scored["completion_mask"], scored["old_per_token_logps"]
    return [check("advantages r - mean", "TRL, unscaled",
                  batch.advantages[:, 0], scored["advantages"]),
            check("log-probabilities of samples", "TRL's second pass",
                  batch.old_logprobs, old * mask),
            check(f"{contest.config.updates} updates, {contest.config.aggregate}",
                  f"TRL's loop, {loss_type}", ours - before, theirs - before)]


# --- the model, the sampler

def check_logits(model: Transformer) -> list[Comparison]:
    """Logits of random tokens, (4, 40, V)."""
    ids = torch.randint(model.config.vocabulary_size, (4, 40),
                        generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = make_llama(model, gated=True)(ids).logits
        return [check("logits", "transformers' Llama", model.head(model(ids)), theirs)]


def check_rotation(model: Transformer) -> list[Comparison]:
    """The frequencies of RoPE, (D / 2,), of a model in float32: rows in float64 share ours."""
    theirs = make_llama(model).model.rotary_emb.inv_freq
    return [check("frequencies of the rotation", "transformers' Llama", model.frequencies, theirs)]


def check_sampler() -> list[Comparison]:
    """Temperature, top-k and top-p on random logits (256, 221)."""
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = 3 * draw_normal(1, 256, 221)
    warm = TemperatureLogitsWarper(0.7)(None, logits)
    top_k, top_p = TopKLogitsWarper(20), TopPLogitsWarper(0.8)
    return [check("sampling, top-k 20, T = 0.7", "transformers' warpers",
                  sampling_logprobs(logits, 0.7, top_k=20), top_k(None, warm).log_softmax(-1)),
            check("sampling, top-p 0.8, T = 0.7", "transformers' warpers",
                  sampling_logprobs(logits, 0.7, top_p=0.8), top_p(None, warm).log_softmax(-1)),
            check("sampling, top-k 20 and top-p 0.8", "transformers' warpers",
                  sampling_logprobs(logits, 1.0, 20, 0.8),
                  top_p(None, top_k(None, logits)).log_softmax(-1))]


# --- formulas, written out once more from their sources

def clip_as_cleanrl(logprobs: Tensor, old: Tensor, advantages: Tensor, eps_low: float,
                    eps_high: float) -> Tensor:
    """cleanrl/ppo.py: the larger of two losses, where ours is minus the smaller of two gains."""
    ratio = (logprobs - old).exp()
    free = -advantages * ratio
    bounded = -advantages * torch.clamp(ratio, 1 - eps_low, 1 + eps_high)
    return torch.max(free, bounded)


def value_as_cleanrl(values: Tensor, old: Tensor, returns: Tensor, eps: float) -> Tensor:
    """cleanrl/ppo.py, clip_vloss."""
    near = old + torch.clamp(values - old, -eps, eps)
    return 0.5 * torch.max((values - returns) ** 2, (near - returns) ** 2)


def sum_gae(rewards: list[float], values: Tensor, lengths: list[int], gamma: float,
            gae_lambda: float) -> Tensor:
    """1506.02438, eq. 16, as the sum it is: A_t = sum over l of (gamma lambda)^l delta_(t+l)."""
    advantages = torch.zeros_like(values)
    for row, (reward, length) in enumerate(zip(rewards, lengths)):
        v = values[row, :length].tolist() + [0.0]
        deltas = [reward * (t == length - 1) + gamma * v[t + 1] - v[t]
                  for t in range(length)]
        for t in range(length):
            advantages[row, t] = sum((gamma * gae_lambda) ** (u - t) * deltas[u]
                                     for u in range(t, length))
    return advantages


def estimate_as_human_eval(n: int, c: int, k: int) -> float:
    """human_eval/evaluation.py, estimate_pass_at_k."""
    if n - c < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))


def check_gae() -> Comparison:
    """64 responses of 1 to 40 tokens."""
    lengths = torch.randint(1, 41, (64,), generator=torch.Generator().manual_seed(2))
    mask = torch.arange(40) < lengths[:, None]
    values, rewards = draw_normal(3, 64, 40) * mask, draw_normal(4, 64)
    batch = losses.Batch([], mask.long(), mask, values, rewards[:, None],
                         scores={"values": values})
    return check("GAE", "1506.02438, eq. 16", losses.gae(batch, gamma=0.97, gae_lambda=0.9),
                 sum_gae(rewards.tolist(), values, lengths.tolist(), 0.97, 0.9))


def check_formulas() -> list[Comparison]:
    """Losses, estimators and advantages on random numbers, in float64."""
    new, old, advantages, returns = (draw_normal(seed, 4096) for seed in range(5, 9))
    rewards = draw_normal(9, 64, 16)
    batch = losses.Batch([], torch.zeros(1024, 1), torch.ones(1024, 1, dtype=torch.bool),
                         torch.zeros(1024, 1), rewards)
    numbers = rewards.numpy()
    grpo = (numbers - numbers.mean(1, keepdims=True)) / numbers.std(1, keepdims=True)
    counts = [(n, c, k) for n in (1, 8, 64) for c in range(n + 1) for k in (1, 2, 8, 64) if k <= n]
    return [check("clipped loss of PPO and GRPO", "CleanRL",
                  losses.clipped(new, old, advantages, None, eps_low=0.2, eps_high=0.3)[0],
                  clip_as_cleanrl(new, old, advantages, 0.2, 0.3)),
            check("value loss of PPO", "CleanRL",
                  losses.value_loss(new, old, returns, 0.2),
                  value_as_cleanrl(new, old, returns, 0.2)),
            check_gae(),
            check("k3", "r - 1 - log r", losses.kl_k3(new, old),
                  (old.exp() / new.exp()) - 1 - (old - new)),
            check("advantages of grpo", "numpy's std",
                  losses.grpo(batch)[:, 0], grpo.flatten()),
            check("pass@k", "human-eval", [pass_at_k(*count) for count in counts],
                  [estimate_as_human_eval(*count) for count in counts])]


# --- the table

def check_batches(model: Transformer) -> list[Comparison]:
    """A full rollout batch and 32 updates: at the defaults, and with every term on.

    With the defaults few tokens meet the clip, and no gradient its bound: the others have tighter
    ones.
    """
    tight = {"eps_low": 0.05, "eps_high": 0.1, "max_grad_norm": 0.5}
    terms = {"kl_coef": 0.1, "entropy_coef": 0.01, "temperature": 0.8}
    length = check_updates(model, "grpo", aggregate="length", **tight)[-1]
    tokens = check_updates(model, "bnpo", aggregate="tokens", **tight, **terms)[-1]
    return [*check_updates(model, "luspo"),
            length._replace(what=length.what + ", tight"),
            tokens._replace(what=tokens.what + ", tight, KL, entropy, T 0.8")]


def check_all(base: str) -> list[Comparison]:
    """All checks; half a minute on one core."""
    model, _ = load_checkpoint(locate_base(base), torch.device("cpu"))
    double = copy.deepcopy(model).double()
    works = [lambda: check_logits(double), lambda: check_batches(double),
             lambda: check_rotation(model), lambda: check_logits(model),
             lambda: check_updates(model, "luspo"),
             check_sampler, check_formulas]
    return [row for work in progress.progress_bar(iterable=works, desc="check", leave=False)
            for row in work()]


def tabulate_checks(checks: list[Comparison]) -> str:
    """The largest difference of each, and the largest of the numbers compared."""
    lines = [["what", "against", "ours in", "difference", "size"]]
    for row in checks:
        lines.append([*row[:3], f"{row.difference:.1e}", f"{row.size:.1e}"])
    return align(lines)
