"""The lessons' own code: against the project's loss, and the claims that their text makes."""

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import rlvr
from data.corpus import CODE_OPENER
from data.task import EASY, draw
from lessons import anatomy, bandit, elicit, kernel, matched, prior, probe
from tests import adapters

ROOT = Path(rlvr.__file__).parent
TINY = {"steps": 2, "prompts": 2, "group": 4, "updates": 2, "pool": 5, "max_new_tokens": 8, "eval_problems": 15, "eval_samples": 4, "threads": 1}


def test_bandit_is_grpo(monkeypatch):
    """Its update per arm is the project's clipped loss on the same pulls, one by one, by autograd; the second update clips."""
    monkeypatch.setattr(bandit, "SEEDS", 1)
    monkeypatch.setattr(bandit, "LR", 5.0)
    prior = (0.5, 0.3, 0.2)
    old = torch.tensor(prior, dtype=torch.float64)
    z, rng, clipped = old.log(), np.random.default_rng(0), 0
    for pulls in rng.multinomial(20, [prior], size=(4, 1)):
        wins = rng.binomial(pulls, 0.5)
        arms = torch.tensor([a for a in range(3) for _ in range(pulls[0, a])])
        rewards = torch.tensor([float(i < wins[0, a]) for a in range(3) for i in range(pulls[0, a])], dtype=torch.float64)
        advantages = adapters.advantages("grpo", rewards[None])[0]
        z = z.detach().requires_grad_()
        logprobs = z.log_softmax(-1)[arms]
        loss = adapters.policy_loss("grpo", logprobs, old.log()[arms], advantages, 0.2, 0.2).mean()
        loss.backward()
        ratio = (logprobs - old.log()[arms]).exp()
        clipped += int((((ratio > 1.2) & (advantages > 0)) | ((ratio < 0.8) & (advantages < 0))).sum())
        z = z - 5.0 * z.grad
    assert clipped > 0
    assert bandit.first_arm(prior, 0.2, 1, 80, 4)[-1, 0] == pytest.approx(z.softmax(-1)[0].item(), abs=1e-8)


def test_the_clip_feeds_the_largest_arm():
    """Up with the clip in nearly all seeds, in about half without; the smaller of two arms goes down; equal arms stay in the mean."""
    big, equal = bandit.BANDITS["0.65, 7 x 0.05"], bandit.BANDITS["8 x 0.125"]
    with_clip, without = (bandit.first_arm(big, eps) for eps in (0.2, 1e9))
    assert np.mean(with_clip[-1] > 0.65) > 0.9 > 0.6 > np.mean(without[-1] > 0.65) and with_clip[-1].mean() > 0.85
    assert np.mean(bandit.first_arm((0.35, 0.65), 0.2)[-1] > 0.35) < 0.35
    assert abs(bandit.first_arm(equal, 0.2)[-1].mean() - 0.125) < 0.06


def test_ahead_is_measured_at_the_same_pass_at_1():
    """Between two points of the curve by hand; on the curve it is 0, wherever on it."""
    curve = [{"1": 0.4, "64": 0.8}, {"1": 0.5, "64": 0.7}, {"1": 0.6, "64": 0.4}]
    assert matched.ahead({"1": 0.45, "64": 0.78}, curve, "64") == pytest.approx(3.0)
    assert matched.ahead({"1": 0.55, "64": 0.50}, curve, "64") == pytest.approx(-5.0)
    assert all(matched.ahead(point, curve, "64") == pytest.approx(0) for point in curve)


def test_matched_reads_the_committed_runs(capsys, tmp_path):
    matched.main("data/results/runs")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 2 * len(matched.OTHERS) and all("nan" not in line for line in lines)
    with pytest.raises(ValueError, match="no runs of psr"):
        matched.main(str(tmp_path))


def test_the_kernel_is_how_far_the_arms_move(base):
    """A small step along the gradient of arm b's mean logit moves that of arm a by K_ab, by central differences in float64."""
    model = rlvr.load(Path(base), torch.device("cpu"))[0].double()
    problems = draw(4, "training", EASY, np.random.default_rng(0))
    arms, shares, K = kernel.kernel(model, problems)
    prompts = [torch.tensor([rlvr.encode_prompt(rlvr.render(problem))]) for problem in problems]

    def logits():
        return torch.stack([model.head(model(prompt))[0, -1] for prompt in prompts])

    probabilities = logits().softmax(-1).mean(0)
    assert torch.allclose(shares, probabilities[arms]) and 3 < len(arms) == (probabilities > kernel.RARE).sum() and shares[0] == probabilities.max()
    for b in (0, 3):
        direction = torch.autograd.grad(logits()[:, arms[b]].mean(), list(model.parameters()))
        moved = []
        for step in (1e-5, -2e-5):                                            # to +1e-5, then back to -1e-5
            with torch.no_grad():
                for parameter, d in zip(model.parameters(), direction):
                    parameter += step * d
                moved.append(logits()[:, arms].mean(0))
        assert torch.allclose((moved[0] - moved[1]) / 2e-5, K[:, b], rtol=1e-4)
        with torch.no_grad():
            for parameter, d in zip(model.parameters(), direction):
                parameter += 1e-5 * d


def test_prior_reads_the_committed_runs(capsys, tmp_path, monkeypatch):
    """18 bases; what the README says of them: at least 0.6 of code always wins against seven openers, at most 0.2 never against one."""
    pytest.importorskip("matplotlib")
    folder = str(ROOT / "data/results/runs")
    monkeypatch.chdir(tmp_path)                                               # the figure goes to runs/ of the working directory
    prior.main(folder)
    lines = capsys.readouterr().out.splitlines()
    rows = {(int(line[:1]), float(line[9:12])): line for line in lines[1:19]}
    assert set(rows) == {(openers, p) for openers in (7, 1) for p in prior.PRIORS} and not any("nan" in line for line in lines)
    assert all("8 of 8" in rows[7, p] for p in (0.6, 0.7, 0.8, 0.9)) and all("0 of 8" in rows[1, p] for p in (0.1, 0.2))
    assert (tmp_path / "runs/prior.png").exists()
    with pytest.raises(ValueError, match="fewer than two runs"):
        prior.main(str(tmp_path))


# --- the anatomy of a gain

@given(st.integers(1, 6).flatmap(lambda P: st.integers(1, 5).flatmap(lambda n: st.tuples(*[arrays.arrays(bool, (P, n))] * 4))))
def test_the_switch_matrix_adds_up_to_the_gain(judged):
    """Against a loop over the pairs in whole numbers: each is in one cell, and nothing of the gain is lost or counted twice."""
    code_before, right_before, code_after, right_after = judged
    cells = anatomy.switch_matrix(*judged)
    n = code_before.size
    assert sum(round(n * points) for _, points in cells.values()) == int(right_after.sum()) - int(right_before.sum())
    assert sum(round(n * share) for share, _ in cells.values()) == n
    names = {False: "text", True: "code"}
    for cell, (share, points) in cells.items():
        pairs = [int(new) - int(old) for was, old, now, new in zip(*(a.flat for a in judged)) if cell == f"{names[was]}->{names[now]}"]
        assert (round(n * share), round(n * points)) == (len(pairs), sum(pairs))


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp("base") / "tiny.pt")
    rlvr.pretrain(rlvr.PretrainConfig(out=path, steps=40, batch=16, layers=1, width=16, heads=2, threads=1))
    return path


@pytest.mark.parametrize("p, split", [(0.5, "probe"), (0.0, "evaluation")])
def test_anatomy_of_a_run(base, tmp_path, p, split):
    """Its own evaluation, done again, gives the gain of summary.json exactly; where nothing was learned no answer has changed."""
    rlvr.train(rlvr.TrainConfig(base=base, out=str(tmp_path / "run"), p=p, lr=1.0, eval_split=split, **TINY))
    run = anatomy.anatomy(tmp_path / "run")
    assert sum(points for _, points in run["cells"].values()) == pytest.approx(run["gain"]["total"], abs=1e-12)
    assert run["gain"]["switch"] + run["gain"]["within"] == pytest.approx(run["gain"]["total"], abs=1e-12)
    code = run["cells"]["text->code"][0] + run["cells"]["code->code"][0]
    assert code == pytest.approx(run["after"]["code_share"], abs=1e-12)
    changed = sum(run["cells"][cell][0] for cell in ("text->code", "code->text"))
    assert (changed > 0) == (p > 0) and (p > 0 or all(points == 0 for _, points in run["cells"].values()))


def test_anatomy_prints_a_row_per_cell_and_refuses_another_model(base, tmp_path, capsys, monkeypatch):
    """Runs with other flags are other rows, not more seeds; a model.pt that is not that of summary.json is not read as if it were."""
    monkeypatch.chdir(tmp_path)
    for name, lr in (("a", 1.0), ("b", 1.0), ("c", 0.5)):
        rlvr.train(rlvr.TrainConfig(base=base, out=name, lr=lr, seed=ord(name), **TINY))
    capsys.readouterr()
    anatomy.main(["a", "b", "c"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:4]]
    assert [row[:5] for row in rows] == [["tiny", "random", "--lr", "0.5", "1"], ["tiny", "random", "--lr", "1", "2"]]
    summary = json.loads(Path("a/summary.json").read_text())
    summary["gain"]["total"] += 0.02
    Path("a/summary.json").write_text(json.dumps(summary))
    with pytest.raises(ValueError, match="one of them has changed"):
        anatomy.main(["a"])


# --- elicitation without training

def test_vote():
    """By hand: 2 problems x 4 responses in groups of 2 and of 4; no box is no vote, and the earliest of equals wins."""
    problems = draw(2, "training", (2,), np.random.default_rng(0))
    one, two = (f"\\boxed{{{rlvr.answer(problem)}}}" for problem in problems)
    wrong = "\\boxed{x}"
    responses = [one, wrong, wrong, one,   "no box", two, wrong, wrong]
    assert elicit.vote(problems, responses, 2) == 2 / 4                # right, wrong, right, wrong
    assert elicit.vote(problems, responses, 4) == 1 / 2                # a tie that `one` wins; two of three are wrong
    assert elicit.vote(problems, responses, 1) == 3 / 8


def test_a_forced_prefix_is_conditioned_on(base):
    """Texts have it, ids do not; the log-probabilities are those of the continuation after it."""
    model = rlvr.load(Path(base), torch.device("cpu"))[0]
    problems = draw(6, "training", EASY, np.random.default_rng(0))
    [(texts, rollouts)] = rlvr.respond(model, problems, 3, (0,), prefix=CODE_OPENER, max_new_tokens=8)
    assert all(text == CODE_OPENER + rlvr.decode(ids[mask].tolist()) for text, ids, mask in zip(texts, rollouts.ids, rollouts.mask))
    prompts = [rlvr.encode_prompt(rlvr.render(problem)) + rlvr.encode(CODE_OPENER) for problem in problems for _ in range(3)]
    logits = model.head(rlvr.response_hidden(model, prompts, rollouts.ids, rollouts.mask))
    expected = rlvr.token_logprobs(logits, rollouts.ids[rollouts.mask], 1.0)
    assert torch.allclose(rollouts.logprobs[rollouts.mask], expected, atol=1e-4)


def test_chunks_are_different_samples(base, monkeypatch):
    """The same problem in two chunks is answered with other random numbers, as it would be within one chunk."""
    monkeypatch.setattr(rlvr, "SAMPLED_ROWS", 8)
    model = rlvr.load(Path(base), torch.device("cpu"))[0]
    one, two = rlvr.respond(model, 2 * draw(1, "training", (3,), np.random.default_rng(0)), 8, (0,), max_new_tokens=8)
    assert len(one[0]) == len(two[0]) == 8 and one[0] != two[0]


def test_ways_to_elicit(base, monkeypatch):
    """What is sampled is what `evaluate` measures; forced code is all code, forced words none of it. (Right is code here: that does occur.)"""
    prefixes, respond = [], rlvr.respond
    monkeypatch.setattr(rlvr, "respond", lambda *args, **more: prefixes.append(more.get("prefix")) or respond(*args, **more))
    monkeypatch.setattr(rlvr.reward_functions, "is_correct", lambda problem, response: rlvr.is_code(response))
    monkeypatch.setattr(elicit, "vote", lambda problems, responses, n: (len(problems), len(responses), n))
    model = rlvr.load(Path(base), torch.device("cpu"))[0]
    problems = draw(20, "evaluation", EASY, np.random.default_rng(0))
    table = elicit.ways(model, problems, (3,))
    assert set(table) == {"T = 1", "T = 0.7", "T = 0.5", "T = 0.3", "greedy", "majority of 8", "majority of 64", "forced code", "forced words"}
    forced = [prefix for prefix in prefixes if prefix]
    for temperature in (1.0, 0.7, 0.5, 0.3):
        reference = rlvr.evaluate(model, problems, elicit.SAMPLES, [1], (3,), temperature)
        assert table[f"T = {temperature:g}"] == (reference["accuracy"], reference["code_share"])
    _, greedy, greedy_code = rlvr.judged(problems, respond(model, problems, 1, (0,), temperature=0.0))
    assert table["greedy"] == (greedy.mean(), greedy_code.mean()) and reference["greedy_accuracy"] == greedy.mean() != reference["accuracy"]
    assert all(table[f"majority of {n}"] == ((20, 20 * 64, n), None) for n in (8, 64))
    responses, _, _ = rlvr.judged(problems, respond(model, problems, elicit.SAMPLES, (3,)))
    count = {first: sum(rlvr.encode(response)[:1] == [first] for response in responses) for first in range(rlvr.VOCABULARY_SIZE)}
    count[rlvr.encode(CODE_OPENER)[0]] = 0
    assert forced == [CODE_OPENER, rlvr.decode([max(count, key=count.get)])] and max(count.values()) > 0
    assert table["forced code"][1] == 1 and table["forced words"][1] == 0


# --- the probe

def test_interval_is_students():
    """The table of quantiles against the integral of Student's density; then the width by hand."""
    for n, quantile in enumerate(probe.T95):
        if n:
            x = torch.linspace(-quantile, quantile, 200_001, dtype=torch.float64)
            density = math.gamma((n + 1) / 2) / (math.sqrt(n * math.pi) * math.gamma(n / 2)) * (1 + x ** 2 / n) ** (-(n + 1) / 2)
            assert torch.trapezoid(density, x).item() == pytest.approx(0.95, abs=5e-5)
    assert probe.interval([1.0, 2.0, 6.0]) == pytest.approx((3 - 4.303 * math.sqrt(7 / 3), 3 + 4.303 * math.sqrt(7 / 3)))


def test_interval_covers():
    """Of 95% of samples of five normal values the interval holds the mean."""
    rng = np.random.default_rng(0)
    held = [low < 0.2 < high for low, high in (probe.interval(list(rng.normal(0.2, 0.1, 5))) for _ in range(4000))]
    assert np.mean(held) == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize("gains, answer", [
    ((0.20, 0.22, 0.21), "yes"), ((-0.20, -0.22, -0.21), "harmful"), ((0.00, 0.01, -0.01), "no"), ((0.015, 0.016, 0.017), "no"),
    ((0.05, 0.051, 0.052), "yes"), ((0.3, -0.3, 0.2), "unclear"), ((0.0, 0.02, 0.04), "unclear"), ((0.029, 0.030, 0.031), "yes")])
def test_verdict(gains, answer):
    """Small and sure is no, even if it is surely not 0; wide and around 0 is not no but unclear."""
    assert probe.verdict(list(gains)) == answer
    mirrored = {"yes": "harmful", "harmful": "yes"}
    assert probe.verdict([-gain for gain in gains]) == mirrored.get(answer, answer)


def test_probe_command(base, tmp_path, monkeypatch, capsys):
    """Evidence, interval and verdict; all on the probe split; the same command again trains nothing; another checkpoint is refused."""
    splits, original = [], rlvr.draw
    monkeypatch.setattr(rlvr, "draw", lambda n, split, *more: splits.append(split) or original(n, split, *more))
    monkeypatch.setattr(rlvr.TrainConfig.__init__, "__defaults__", tuple(TINY.get(f.name, f.default) for f in dataclasses.fields(rlvr.TrainConfig)))
    command = ["probe", base, "--seeds", "3", "--seed", "5", "--threads", "1", "--out", str(tmp_path / "probe")]
    assert rlvr.main(command) == 0
    first = capsys.readouterr().out
    result = json.loads((tmp_path / "probe/probe.json").read_text())
    runs = [json.loads((tmp_path / f"probe/seed{seed}/summary.json").read_text()) for seed in (5, 6, 7)]
    assert set(splits) == {"training", "probe"} and [(run["seed"], run["reward"]) for run in runs] == [(5, "random"), (6, "random"), (7, "random")]
    assert result["gains"] == [run["gain"]["total"] for run in runs] and result["latent"] == probe.verdict(result["gains"])
    assert result["interval"] == list(probe.interval(result["gains"])) and f"latent: {result['latent']}\n" in first
    monkeypatch.setattr(rlvr, "rollout", lambda *_: pytest.fail("trains again"))
    assert rlvr.main(command) == 0 and capsys.readouterr().out.splitlines()[-1] == first.splitlines()[-1]
    other = tmp_path / "other.pt"
    rlvr.pretrain(rlvr.PretrainConfig(out=str(other), steps=1, batch=2, layers=1, width=8, heads=2, threads=1))
    assert rlvr.main([command[0], str(other), *command[2:]]) == 2 and "another checkpoint" in capsys.readouterr().err


def test_confusion_table(tmp_path, capsys):
    """By hand: three bases, of which good-code is shown and not counted; rows are the probe's verdicts, columns the other seeds'."""
    up, none, mixed = [0.2, 0.21, 0.22], [0.0, 0.001, 0.002], [0.3, -0.3, 0.1]
    for name, ours, others in (("one", up, none), ("two", none, mixed), ("good-code", up, up)):
        (tmp_path / name / "probe").mkdir(parents=True)
        (tmp_path / name / "probe/probe.json").write_text(json.dumps({
            "latent": probe.verdict(ours), "gains": ours, "before": {"accuracy": 0.5}, "untrained": {"greedy": {"accuracy": 0.6}, "forced code": {"accuracy": 0.7}}}))
        for seed, value in enumerate(others):
            (tmp_path / name / f"random/seed{seed}").mkdir(parents=True)
            (tmp_path / name / f"random/seed{seed}/summary.json").write_text(json.dumps({"gain": {"total": value}}))
    probe.main(str(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines[1:4]}
    assert rows["one"].endswith("  no") and "yes" in rows["one"] and rows["two"].endswith("  unclear") and "good-code *" in rows["good-code"]
    table = {line.split()[0]: [int(n) for n in line.split()[1:]] for line in lines[-4:]}
    assert table == {"yes": [0, 1, 0, 0], "no": [0, 0, 0, 1], "harmful": [0, 0, 0, 0], "unclear": [0, 0, 0, 0]}
    (tmp_path / "one/random/seed0/summary.json").unlink()
    (tmp_path / "one/random/seed1/summary.json").unlink()
    with pytest.raises(ValueError, match="1 finished runs"):
        probe.main(str(tmp_path))


def test_the_probe_of_the_command_line_is_the_same_program(tmp_path):
    """`python rlvr.py probe` runs a lesson that imports rlvr: bad input is still one line and exit code 2."""
    done = subprocess.run([sys.executable, ROOT / "rlvr.py", "probe", tmp_path / "none.pt"], capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "cannot read checkpoint" in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name, arguments", [("matched", ["--loss"]), ("matched", ["nowhere"]), ("prior", ["nowhere"]), ("elicit", ["nowhere"]), ("kernel", ["nowhere"]),
                                             ("probe", ["nowhere"]), ("anatomy", []), ("anatomy", ["nowhere"])])
def test_lessons_refuse_bad_input(name, arguments):
    done = subprocess.run([sys.executable, "-m", f"lessons.{name}", *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and not done.stdout
