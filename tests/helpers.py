"""What several test files share: tiny models, hand-made batches, runs of the command line."""

import copy
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import field, make_dataclass
from pathlib import Path
from typing import Callable, get_args, get_origin

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

import rewards
import rlvr
import run as runs
from data import task, tokenizer
from data.corpus import CORPORA
from lessons import runner
from losses import Batch
from model import Rollouts
from plumbing.flags import list_values, read_config, read_options
from plumbing.streams import numpy_rng
from tests import adapters

END = tokenizer.END
ROOT = Path(rlvr.__file__).parent
# Lessons whose results are here: one that a user adds has none at first.
STORED = [name for name in runner.NAMES if (ROOT / "lessons" / name / "runs.csv").exists()]
CPU = torch.device("cpu")
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else []),
           *(["mps"] if torch.backends.mps.is_available() else [])]
f64 = {"dtype": torch.float64}


def split_titled(text: str) -> dict[str, str]:
    """{title: table} of what a lesson's `table` returns."""
    return dict(block.split("\n", 1) for block in text.split("\n\n"))


def close(a, b, tolerance=1e-10):
    a, b = torch.as_tensor(a, **f64), torch.as_tensor(b, **f64)
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


# --- models, pools, batches


def tiny(seed=0, scale=4.0, end=2.0):
    """A tiny model over the project's vocabulary, whose END has a probability near 0.2.

    The first coordinate of every embedding is the same: what the head's END row reads there is a
    bias, `end`. At another temperature T, end = 2 T gives about as many endings.
    """
    model = adapters.make_model(seed, tokenizer.VOCABULARY_SIZE, 1, 8, 2, scale)
    with torch.no_grad():
        model.embedding.weight[:, 0] = 0.3
        model.head.weight[END, 0] += end
    return model


def config(**changes) -> rlvr.TrainConfig:
    """A run of 4 x 4 rollouts of at most 6 tokens."""
    return read_config(rlvr.TrainConfig, {
        "prompts": 4, "group": 4, "updates": 2, "max_new_tokens": 6, "num_ops": task.EASY,
        "pool": 8, "lr": 0.1, **changes})


def shrink_config(**defaults) -> type:
    """TrainConfig with other defaults."""
    known = rlvr.TrainConfig.__dataclass_fields__
    small = [(name, known[name].type, field(default=value, metadata=known[name].metadata))
             for name, value in defaults.items()]
    return make_dataclass("TrainConfig", small, bases=(rlvr.TrainConfig,))


def pool(n=8):
    drawn = task.draw_problems(n, "training", task.EASY, numpy_rng(0, 0))
    return [(problem, None) for problem in drawn]


def make_pool(c, model):
    """The training prompts of a run on good-code, with their labels."""
    reward = rewards.build_reward(c.reward, **list_values(c))
    return runs.make_pool(c, model, CORPORA["good-code"], reward)


def flat(tensors) -> torch.Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def forward_logits(model, prompt, ids):
    """Logits (T, V) that predict the response `ids` (T,), by a plain forward pass of one row."""
    sequence = torch.cat((torch.tensor(prompt), ids))
    return adapters.full_logits(model, sequence[None])[0, len(prompt) - 1:-1]


def token_logprobs(model, prompt, ids, temperature=1.0):
    """log pi (T,) of a response, by a plain forward pass of one row; differentiable."""
    logprobs = (forward_logits(model, prompt, ids) / temperature).log_softmax(-1)
    return logprobs.gather(1, ids[:, None])[:, 0]


def hand_made_batch(model, lengths=(2, 4), advantages=(1.0, -1.0), ending=END):
    """Responses of given lengths to prompts of two lengths, scored by plain forward passes."""
    generator = torch.Generator().manual_seed(0)
    prompts = ([[37, 100, 10], [40, 41, 42, 43, 10]] * len(lengths))[:len(lengths)]
    rows = [torch.cat((torch.randint(0, END, (length - 1,), generator=generator),
                       torch.tensor([ending]))) for length in lengths]
    ids = pad_sequence(rows, batch_first=True)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    old = pad_sequence([token_logprobs(model, prompt, row).detach()
                        for prompt, row in zip(prompts, rows)], batch_first=True)
    rewards = torch.zeros(1, len(lengths), **f64)
    return Batch(prompts, ids, mask, old, rewards,
                 advantages=torch.tensor(advantages, **f64)[:, None] * mask)


def parameters_after(model, batch, c, step=0):
    """(parameters after all updates of a batch by SGD, metrics); the model stays as it is."""
    copied = copy.deepcopy(model)
    optimizer = torch.optim.SGD(copied.parameters(), lr=c.lr)
    metrics = adapters.update(copied, [optimizer], batch, c, step)
    return flat(copied.parameters()), metrics


def fake_rollouts(responses: list[str]) -> Rollouts:
    """What the sampler would return had it sampled these: probability 1/4, entropy 0.7 a token."""
    ids = [torch.tensor(tokenizer.encode(response) + [END]) for response in responses]
    mask = pad_sequence([torch.ones(len(row), dtype=torch.bool) for row in ids], batch_first=True)
    per_token = mask.double()
    quarter = torch.tensor(0.25, **f64).log()
    return Rollouts(pad_sequence(ids, batch_first=True), mask, quarter * per_token,
                    0.7 * per_token)


# --- the command line

TINY_BASE = ("--steps 3 --batch 8 --layers 1 --width 8 --heads 2 --micro-batch 3 "
             "--threads 1").split()
SMALL_BASE = ("--steps 100 --batch 48 --layers 1 --width 32 --heads 2 --warmup 5 "
              "--threads 1").split()
TINY_RUN = ("--steps 4 --prompts 3 --group 4 --updates 2 --pool 9 --max-new-tokens 12 "
            "--eval-problems 5 --eval-samples 2 --threads 1").split()


def call(main, *arguments) -> int:
    """The exit code of a command, bad flags included."""
    try:
        return main(list(map(str, arguments)))
    except SystemExit as exit:
        return exit.code


def run(*arguments) -> int:
    """The exit code of `python rlvr.py ...`."""
    return call(rlvr.main, *arguments)


def train(base, out, *more) -> int:
    return run("train", "--base", base, "--out", out, *TINY_RUN, *more)


def make_once(made: Path, *arguments) -> Path:
    """`python rlvr.py ...`, unless what it makes is there; waits where another worker makes it."""
    command = [sys.executable, ROOT / "rlvr.py", *map(str, arguments), "--threads", "1"]
    claim = made.parent.with_name(f"{made.parent.name}-{made.name}.claim")
    claim.parent.mkdir(parents=True, exist_ok=True)
    while not made.exists():
        try:
            claim.touch(exist_ok=False)
        except FileExistsError:
            time.sleep(0.1)
            continue
        try:
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                  encoding="utf-8")
        finally:
            claim.unlink()
        assert done.returncode == 0, done.stderr
    return made


def on_each(things: list, name: Callable):
    """Makes a check of one thing a single test of all: a thousand tests cost more than they do."""
    def wrap(check):
        def test():
            for thing in things:
                try:
                    check(thing)
                except AssertionError as fault:
                    raise AssertionError(f"{name(thing)}: {fault}") from fault
        test.__doc__ = check.__doc__
        return test
    return wrap


def load_run(out: Path) -> dict:
    return torch.load(out / "model.pt", weights_only=True)


def weights(path) -> torch.Tensor:
    return flat(torch.load(path, weights_only=True)["weights"].values())


def files(folder: Path) -> dict:
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}


@contextmanager
def files_of_at_most(size: int):
    """The system refuses to write more, in the middle of a file, as on a disk that is full.

    Skips the test on Windows.
    """
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def read_rows(folder: Path) -> list[dict]:
    """metrics.csv."""
    return list(csv.DictReader((folder / "metrics.csv").read_text("utf-8").splitlines()))


def read_json(path: Path) -> dict:
    def refuse(name):
        raise AssertionError(f"{name} in JSON")
    return json.loads(path.read_text("utf-8"), parse_constant=refuse)


def describe_options(config: type, *registries: dict) -> dict:
    """{flag: (default, bounds and choices)} of a config, and of all entries of some registries."""
    options = read_options(config)
    for entry in [entry for registry in registries for entry in registry.values()]:
        options = read_options(*entry.functions) | options
    described = {}
    for name, (kind, default, said) in options.items():
        checks = {key: value for key, value in said._asdict().items()
                  if key not in ("help", "group") and value is not None}
        if "choices" in checks:
            checks["choices"] = " ".join(map(str, checks["choices"]))
        if tuple in map(get_origin, (kind, *get_args(kind))):
            checks["many"] = True
        described[name] = (default, checks)
    return described


def assert_options(expected: dict, config: type, *registries: dict) -> None:
    """Every flag of a config, and of the entries of registries: {flag: (default, checks)}.

    An entry that a user adds may bring flags of its own, and is a choice more.
    """
    new = set(describe_options(config)) - set(expected)
    assert not new, f"new options: say their defaults and checks in this test: {new}"
    entries = [" ".join(registry) for registry in registries]
    for name, found in describe_options(config, *registries).items():
        default, checks = expected.get(name, found)
        if found[1].get("choices") in entries:
            assert set(checks["choices"].split()) <= set(found[1]["choices"].split()), name
            checks = checks | {"choices": found[1]["choices"]}
        assert found == (default, checks), name
    assert set(expected) <= set(describe_options(config, *registries))


def up_to(most: int, least: int = 1) -> dict:
    """The checks of a whole number with both bounds."""
    return {"least": least, "most": most}


def interrupt(number) -> None:
    """Send this process a signal, as Ctrl-C does."""
    os.kill(os.getpid(), number)


# --- pages in a browser

BROWSERS = "chromium", "chromium-browser", "google-chrome", "chrome"
HEADLESS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom"]


def open_page(path: Path, anchor: str = "") -> subprocess.CompletedProcess:
    """What a page is after its scripts have run: stdout; the browser's log: stderr.

    Skips the test where there is no browser.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on PATH")
    command = [browser, *HEADLESS, f"--user-data-dir={path.parent / 'profile'}",
               path.as_uri() + anchor]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=600)
