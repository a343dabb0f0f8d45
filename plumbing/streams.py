"""Random streams: every random number comes from a generator made of (purpose, seed, step ...).

So no generator's state has to be saved for a resumed run to be the same, bit for bit on the same
machine with the same --threads and --micro-batch, and two rewards with one seed see the same
prompts.
"""

import os
import zlib
from pathlib import Path

import numpy as np
import torch

(WEIGHTS, CORPUS, POOL, ORDER, SAMPLES, REWARD, SHUFFLE, LABELS, EVALUATION, HINT,
 SHOWN) = range(11)
MAX_SEED = 2**32 - 1  # one word of a key


def seed_stream(purpose: int, seed: int, *rest: int) -> np.random.SeedSequence:
    """The 1 at the end keeps keys of different lengths apart: numpy ignores zeros at the end."""
    return np.random.SeedSequence((purpose, seed, *rest, 1))


def hash_name(base: str) -> int:
    """A base's name, however it is given (good-code, runs/bases/good-code.pt), as part of a key."""
    return zlib.crc32(os.fsencode(Path(base.removesuffix(".pt")).name))


def numpy_rng(purpose: int, seed: int, *rest: int) -> np.random.Generator:
    return np.random.default_rng(seed_stream(purpose, seed, *rest))


def torch_rng(purpose: int, seed: int, *rest: int) -> torch.Generator:
    state = seed_stream(purpose, seed, *rest).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)  # torch takes a seed below 2^63
