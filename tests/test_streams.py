"""Random streams: distinct, repeatable, pinned."""

import zlib

import numpy as np
import torch

from plumbing import streams


def test_purposes_are_distinct():
    purposes = [getattr(streams, name) for name in (
        "WEIGHTS", "CORPUS", "POOL", "ORDER", "SAMPLES", "REWARD", "SHUFFLE", "LABELS",
        "EVALUATION", "HINT", "SHOWN")]
    assert len(set(purposes)) == len(purposes)
    assert streams.MAX_SEED == 2 ** 32 - 1


def test_no_two_streams_meet():
    """All keys of two to four words over some ranges, zeros at the end too, and the extremes.

    Catches (4, 8) and (4, 8, 0), which numpy takes for the same: the run of seed 8 once drew what
    the evaluation did.
    """
    words = (0, 1, 2, 8)
    keys = [(purpose, seed) for purpose in range(9) for seed in (*range(40), streams.MAX_SEED)]
    keys += [(purpose, seed, step) for purpose in range(9) for seed in words
             for step in range(40)]
    keys += [(purpose, seed, a, b) for purpose in range(9) for seed in words for a in words
             for b in words]
    for rng in (lambda key: streams.numpy_rng(*key).integers(2 ** 63, size=2).tolist(),
                lambda key: torch.randint(2 ** 62, (2,), generator=streams.torch_rng(*key))
                .tolist()):
        first = [tuple(rng(key)) for key in keys]
        assert len(set(first)) == len(set(keys)) == len(keys)


def test_streams_repeat():
    for _ in range(2):
        assert streams.numpy_rng(3, 1, 2).random() == streams.numpy_rng(3, 1, 2).random()
        a, b = (torch.rand(3, generator=streams.torch_rng(3, 1, 2)) for _ in range(2))
        assert torch.equal(a, b)


def test_the_name_of_a_base_is_part_of_a_key():
    """The same however it is given; two bases have different ones; pinned, as results rest on it.

    A name may be whatever a file may be called, bytes that are no text too.
    """
    given = ("good-code", "good-code.pt", "runs/bases/good-code.pt", "/else/where/good-code.pt")
    assert {streams.hash_name(name) for name in given} == {zlib.crc32(b"good-code")}
    others = ("no-code", "bad-code", "good-code.pt.pt", "good-code/model.pt", "other.model.pt",
              "\udcff.pt", "")
    assert len({streams.hash_name(name) for name in (*others, "good-code")}) == len(others) + 1
    assert all(0 <= streams.hash_name(name) < 2 ** 32 for name in others)


def test_numbers_of_a_stream_are_pinned():
    """Results in the README rest on them: another stream is another table."""
    key = np.random.SeedSequence((4, 1, 2, 1))
    expected = np.random.default_rng(key).random(2)
    assert np.array_equal(streams.numpy_rng(4, 1, 2).random(2), expected)
    state = int(key.generate_state(1, np.uint64)[0] >> np.uint64(1))
    expected = torch.rand(2, generator=torch.Generator().manual_seed(state))
    assert torch.equal(torch.rand(2, generator=streams.torch_rng(4, 1, 2)), expected)
