"""The transformer, its KV cache, batched sampling, checkpoints.

A small modern decoder: RMSNorm before each sublayer, rotary positions (RoPE, 2104.09864), causal
attention through torch's SDPA, a GELU MLP, no biases, an untied head.

Shapes: B rows, T tokens, C width, H heads, D = C / H, V vocabulary.
"""

import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable, NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from data.corpus import CORPORA
from data.tokenizer import VOCABULARY_HASH, decode
from plumbing.files import write
from plumbing.machine import upload
from plumbing.messages import InputError
from plumbing.system import explain_error

BASE_FOLDER = Path("runs/bases")
SCORED_ROWS = 128     # in a forward pass without gradient; of 1,024, 1.7 times as slow
CUT = 0.02            # where more responses than this are cut before their end, a line says so
BFLOAT16_WIDTH = 256  # from here on a GPU multiplies in bfloat16; what is kept is float32


@dataclass(frozen=True)
class ModelConfig:
    vocabulary_size: int
    layers: int = 3
    width: int = 64
    heads: int = 4


class KVCache:
    """Keys and values of every layer for the tokens read so far.

    `start` (B,) is the column of each row's first real token; what is left of it is padding.
    """

    def __init__(self, config: ModelConfig, start: Tensor, like: Tensor):
        empty = like.new_empty(len(start), config.heads, 0, config.width // config.heads)
        self.keys = [empty] * config.layers      # a (B, H, used, D) per layer
        self.values = [empty] * config.layers
        self.start, self.used = start, 0

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k, v (B, H, T, D) behind what is there; all of the layer's: (B, H, used + T, D)."""
        self.keys[layer] = torch.cat((self.keys[layer], k), dim=2)
        self.values[layer] = torch.cat((self.values[layer], v), dim=2)
        return self.keys[layer], self.values[layer]

    def select(self, rows: Tensor) -> None:
        """Keep the chosen rows, in that order; one may be chosen several times (once a branch).

        rows, on the host: the host knows without asking a GPU whether there is anything to do.
        """
        if torch.equal(rows, torch.arange(len(self.start))):
            return
        rows = upload(rows, self.start.device)
        self.keys = [keys.index_select(0, rows) for keys in self.keys]
        self.values = [values.index_select(0, rows) for values in self.values]
        self.start = self.start[rows]


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """RoPE (2104.09864, eq. 13): turn each pair (x[2i], x[2i + 1]), a complex number, by an angle.

    x (B, T, ...) with pairs in its last dimension; turn (T, x[0, 0].numel() / 2), modulus 1.
    """
    x = x.to(turn.real.dtype)  # there are no complex numbers of bfloat16
    pairs = torch.view_as_complex(x.reshape(*x.shape[:2], -1, 2))
    return torch.view_as_real(pairs * turn).view_as(x)


class Block(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        C = config.width
        self.heads = config.heads
        self.norm_attention, self.norm_mlp = nn.RMSNorm(C), nn.RMSNorm(C)
        self.qkv, self.proj = nn.Linear(C, 3 * C, bias=False), nn.Linear(C, C, bias=False)
        self.up, self.down = nn.Linear(C, 4 * C, bias=False), nn.Linear(4 * C, C, bias=False)

    def forward(self, x: Tensor, turn: Tensor, mask: Tensor | None, cache: KVCache | None,
                layer: int) -> Tensor:
        B, T, C = x.shape
        qkv = rotate(self.qkv(self.norm_attention(x)), turn)                       # (B, T, 3C)
        q, k, v = qkv.view(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)         # (B, H, T, D)
        if cache is not None:
            k, v = cache.append(layer, k, v)
        y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None and T > 1)
        x = x + self.proj(y.transpose(1, 2).reshape(B, T, C))
        return x + self.down(F.gelu(self.up(self.norm_mlp(x))))


class Transformer(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary_size, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width)
        self.head = nn.Linear(config.width, config.vocabulary_size, bias=False)
        D = config.width // config.heads
        frequencies = 10_000.0 ** (-torch.arange(0, D, 2) / D)
        self.register_buffer("frequencies", frequencies, persistent=False)
        # As GPT-2: what is added to the residual stream starts smaller, or depth blows it up.
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                added = name.endswith(("proj.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * config.layers) ** 0.5 if added else 0.02)

    def forward(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Token ids (B, T) to last hidden states (B, T, C); `head` makes them logits (B, T, V).

        Without a cache rows start in column 0; padding, if any, is on the right, where a causal
        model cannot see it. With a cache the tokens continue it, and left padding is masked.
        """
        T, used = ids.size(1), cache.used if cache is not None else 0
        # Padding shifts all positions of a row alike: RoPE sees only differences, nothing changes.
        positions = torch.arange(used, used + T, device=ids.device)
        angles = torch.outer(positions, self.frequencies)                          # (T, D/2)
        turn = torch.polar(torch.ones_like(angles), angles)
        turn = turn.repeat(1, self.config.heads)
        turn = torch.cat((turn, turn, torch.ones_like(turn)), dim=1)               # v stays
        mask = None if cache is None else self.cache_mask(cache, T)
        x = self.embedding(ids)
        half = ids.is_cuda and self.config.width >= BFLOAT16_WIDTH
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=half):
            for layer, block in enumerate(self.blocks):
                x = block(x, turn, mask, cache, layer)
        if cache is not None:
            cache.used += T
        return self.norm(x)

    def cache_mask(self, cache: KVCache, T: int) -> Tensor:
        """Which keys T new tokens may see, as 0 or -inf: (B, 1, T, used + T)."""
        key = torch.arange(cache.used + T, device=cache.start.device)
        query = key[cache.used:, None]
        seen = (key <= query) & (key >= cache.start[:, None, None])  # causal, and not the padding
        seen |= key == query                      # padding sees itself: an empty softmax is NaN
        return self.frequencies.new_zeros(seen.shape).masked_fill(~seen, -torch.inf)[:, None]


def scale_logits(logits: Tensor, temperature: float) -> Tensor:
    """Logits (..., V) over a temperature above 0, up to a constant: finite, whatever it is."""
    if temperature == 1:
        return logits
    highest = logits.detach().amax(-1, keepdim=True)    # it becomes 0, which nothing makes infinite
    limits = torch.finfo(logits.dtype)
    return (logits - highest) / min(max(temperature, limits.tiny), limits.max)


def sampling_logprobs(logits: Tensor, temperature: float = 1.0, top_k: int | None = None,
                      top_p: float | None = None) -> Tensor:
    """Log-probabilities (..., V) that are sampled from: temperature, then top-k, then top-p.

    temperature 0 is greedy: all mass on the most likely token, the first of equals. top-k keeps all
    ties at the k-th place; top-p (nucleus, 1904.09751) the smallest set of most likely tokens whose
    mass reaches p, of equals the first. A mass that lacks 8 roundings of the logits' type reaches
    p: .5 + .3 is .8. What is cut away has log-probability -inf; the most likely token never is.
    """
    if temperature == 0:
        best = logits.argmax(-1, keepdim=True)
        return torch.full_like(logits, -torch.inf).scatter(-1, best, 0.0)
    scaled = scale_logits(logits, temperature)
    if top_k is not None and top_k < logits.size(-1):
        kth = logits.topk(top_k).values[..., -1:]
        scaled = scaled.masked_fill(logits < kth, -torch.inf)
    if top_p is not None and top_p < 1:
        # Sorted before a high temperature makes them equal; summed so that a thousand tails count.
        index = logits.argsort(dim=-1, descending=True, stable=True)
        wide = torch.float32 if logits.device.type == "mps" else torch.float64
        mass = scaled.gather(-1, index).to(wide).softmax(-1)
        reached = top_p * (1 - 8 * torch.finfo(logits.dtype).eps)
        beyond = mass.cumsum(-1) - mass >= reached                   # the more likely ones reach p
        beyond[..., 0] = False                                       # p may be below all numbers
        cut = torch.empty_like(beyond).scatter(-1, index, beyond)
        scaled = scaled.masked_fill(cut, -torch.inf)
    return scaled.log_softmax(-1)


def entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of softmax(logits), over the full vocabulary: (..., V) -> (...)."""
    logprobs = logits.log_softmax(-1)
    return -(logprobs.exp() * logprobs).sum(-1)


class Rollouts(NamedTuple):
    """Responses, on the CPU, padded behind their ending; row i answers prompt i // n."""

    ids: Tensor       # (N, T) the sampled ids, ending included
    mask: Tensor      # (N, T) bool, True on every sampled token
    logprobs: Tensor  # (N, T) under the distribution sampled from, 0 on padding
    entropy: Tensor   # (N, T) nats, of the full softmax at temperature 1, 0 on padding


def decode_rollouts(rollouts: Rollouts) -> list[str]:
    """The N responses as text, for the rewards; training keeps the ids."""
    lengths = rollouts.mask.sum(1).tolist()
    return [decode(ids[:length]) for ids, length in zip(rollouts.ids.tolist(), lengths)]


def mark_ended(rollouts: Rollouts, end: int) -> Tensor:
    """Which responses say themselves that they are over, (N,) bool; max_new_tokens cut the others.
    """
    last = rollouts.mask.sum(1, keepdim=True) - 1
    return rollouts.ids.gather(1, last)[:, 0] == end


def collect_rollouts(ids: Tensor, mask: Tensor, noted: list[tuple[Tensor, ...]]) -> Rollouts:
    """With what was noted at each of T positions: (index in ids, log-probability, entropy).

    Raises FloatingPointError if one of these is no number.
    """
    index, *numbers = (torch.cat(parts).cpu() for parts in zip(*noted))
    if not all(values.isfinite().all() for values in numbers):
        raise FloatingPointError("the model has diverged: its logits are not numbers")
    laid_out = [values.new_zeros(ids.numel()).index_put((index,), values).view(ids.shape)
                for values in numbers]
    return Rollouts(*(field[:, :len(noted)] for field in (ids, mask, *laid_out)))


def draw_tokens(logprobs: Tensor, beginning: Tensor, uniform: Tensor) -> Tensor:
    """One token for each of R rows by inverse CDF: (R,), in the precision of `uniform` (R,).

    logprobs (S, V); beginning (R,) says which of the S a row has; uniform is in [0, 1).
    """
    cumulative = logprobs.to(uniform.dtype).exp().cumsum(-1)[beginning]      # (R, V)
    # The first token whose cumulative probability exceeds u: one of probability 0 never does.
    threshold = uniform[:, None] * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, threshold, right=True)[:, 0]
    return tokens.clamp(max=logprobs.size(-1) - 1)                           # beyond: NaN


def read_prompts(model: Transformer, prompts: list[list[int]]) -> tuple[KVCache, Tensor]:
    """A cache that holds the P prompts, and the hidden state after each: (P, 1, C)."""
    weight, rows = model.head.weight, list(map(torch.tensor, prompts))
    ids = pad_sequence(rows, batch_first=True, padding_side="left")
    start = torch.tensor([ids.size(1) - len(prompt) for prompt in prompts])
    cache = KVCache(model.config, upload(start, weight.device), like=weight)
    return cache, model(upload(ids, weight.device), cache)[:, -1:]


@torch.no_grad()
def sample_responses(model: Transformer, prompts: list[list[int]], n: int, end: int,
                     max_new_tokens: int = 40, temperature: float = 1.0, top_k: int | None = None,
                     top_p: float | None = None, generator: torch.Generator | None = None
                     ) -> Rollouts:
    """Sample n responses to each prompt (ids, of any lengths) until `end` or max_new_tokens.

    Rows with the same tokens so far share one row of the model and its cache: each prompt is read
    once, and n rollouts of a sure model cost little more than their few different beginnings. All
    uniform numbers are drawn before the first token, one per row and position, so a row's tokens do
    not depend on the other rows. Raises FloatingPointError if the logits are no numbers. Which rows
    go on is known to the host: for that it waits for a GPU, once a token.
    """
    device = model.head.weight.device
    N, V = len(prompts) * n, model.config.vocabulary_size
    uniform = torch.rand(N, max_new_tokens, generator=generator, dtype=torch.float64)
    uniform = uniform.float() if device.type == "mps" else uniform
    cache, hidden = read_prompts(model, prompts)   # hidden (S, 1, C): S beginnings of responses
    alive = torch.arange(N)                        # the rows that have not ended
    beginning = alive // n                         # (alive,) which of the S each of them has
    ids, mask = (torch.zeros(N, max_new_tokens, dtype=kind) for kind in (torch.long, torch.bool))
    noted = []
    for t in range(max_new_tokens):
        logits = model.head(hidden[:, -1])                                   # (S, V)
        logprobs = sampling_logprobs(logits, temperature, top_k, top_p)      # (S, V)
        source = upload(beginning, device)                                   # (alive,)
        tokens = draw_tokens(logprobs, source, upload(uniform[alive, t], device))
        noted.append((alive * max_new_tokens + t,
                      logprobs[source, tokens],
                      entropy(logits)[source]))
        tokens = tokens.cpu()                                                # (alive,)
        ids[alive, t], mask[alive, t] = tokens, True
        going = (tokens != end).nonzero()[:, 0]
        if len(going) == 0 or t + 1 == max_new_tokens:
            break
        alive = alive[going]
        branches = beginning[going] * V + tokens[going]
        branches, beginning = torch.unique(branches, return_inverse=True)
        cache.select(branches // V)
        hidden = model(upload(branches[:, None] % V, device), cache)
    return collect_rollouts(ids, mask, noted)


def response_hidden(model: Transformer, prompts: list[list[int]], ids: Tensor,
                    mask: Tensor) -> Tensor:
    """Hidden states (R, C) that predict the R response tokens, in the order of ids[mask].

    `ids`, `mask` (B, T) are responses as in Rollouts, row i to prompts[i]. Differentiable. What
    comes after (the head, a critic) runs on response tokens alone: model.head gives (R, V).
    """
    rows = [prompt + response[:length - 1]                                 # the last predicts none
            for prompt, response, length in zip(prompts, ids.tolist(), mask.sum(-1).tolist())]
    padded = pad_sequence(list(map(torch.tensor, rows)), batch_first=True)
    device = model.head.weight.device
    hidden = model(upload(padded, device))                                 # (B, prompt + T - 1, C)
    row, t = mask.nonzero(as_tuple=True)
    first = torch.tensor([len(prompt) - 1 for prompt in prompts])
    return hidden[upload(row, device), upload(first[row] + t, device)]


def token_logprobs(logits: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """log pi of the sampled tokens, under what they were sampled from: (R, V), (R,) -> (R,)."""
    return sampling_logprobs(logits, temperature).gather(1, ids[:, None])[:, 0]


@torch.no_grad()
def score_tokens(model: Transformer, prompts: list[list[int]], ids: Tensor, mask: Tensor,
                 read: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """read(hidden (R, C), ids (R,)) -> (R, ...) on all rollouts, as (N, T, ...): 0 on padding."""
    scores = None
    for i in range(0, len(prompts), SCORED_ROWS):
        rows = slice(i, i + SCORED_ROWS)
        hidden = response_hidden(model, prompts[rows], ids[rows], mask[rows])      # (R, C)
        sampled = upload(ids[rows][mask[rows]], hidden.device)                     # (R,)
        numbers = read(hidden, sampled).cpu()                                      # (R, ...)
        if scores is None:
            scores = numbers.new_zeros(*mask.shape, *numbers.shape[1:])
        scores[rows][mask[rows]] = numbers
    return scores


# --- checkpoints

def locate_base(base: str) -> Path:
    """The checkpoint of a base, given by its name (runs/bases/NAME.pt) or by its path."""
    named = BASE_FOLDER / f"{base}.pt"
    if base in CORPORA and not named.exists():
        raise InputError(f"base {base} is not pretrained: python rlvr.py pretrain --base {base}")
    return named if named.exists() else Path(base)


def save_checkpoint(path: Path, model: Transformer, **extra) -> None:
    content = io.BytesIO()  # not a file: torch.save makes a RuntimeError of a full disk
    torch.save({"model": asdict(model.config), "weights": model.state_dict(),
                "vocabulary": VOCABULARY_HASH, **extra}, content)
    write(path, content.getvalue())


def load_checkpoint(path: Path, device: torch.device) -> tuple[Transformer, dict]:
    """The model of a checkpoint and all that was saved with it.

    Raises InputError for a file that is not one of ours, whole, and of this vocabulary.
    """
    try:
        # To the host: an optimizer puts its own state where it needs it, and counts its steps here.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        config, weights = ModelConfig(**checkpoint["model"]), checkpoint["weights"]
    except OSError as error:
        reason = explain_error(error)
        raise InputError(f"cannot read checkpoint {path}: {reason}") from None
    except Exception:  # torch.load raises many kinds for a truncated or foreign file
        raise InputError(f"{path} is not a checkpoint of this project, or is truncated") from None
    if checkpoint.get("vocabulary") != VOCABULARY_HASH:
        raise InputError(f"{path} is of another vocabulary: pretrain its base again")
    if checkpoint.get("corpus") not in CORPORA:
        raise InputError(f"{path} is of an unknown corpus, not of {', '.join(CORPORA)}")
    model = Transformer(config)
    try:
        model.load_state_dict(weights)
    except (RuntimeError, AttributeError, TypeError):
        raise InputError(f"{path}: the weights have other shapes than {asdict(config)}") from None
    return model.to(device), checkpoint
