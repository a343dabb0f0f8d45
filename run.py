"""A run on disk: begun or resumed, saved after every rollout batch, finished with a comparison.

Nothing here is RL. `state` is what model.pt keeps beside the weights, so that the same command goes
on where it was, bit for bit on a CPU.
"""

import copy
import hashlib
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, NamedTuple

import numpy as np
import torch

from companions.judges import open_judge
from data.corpus import CORPORA, Corpus
from data.task import Problem, draw_problems, parse_problem, render_problem, write_answer
from evaluation import (
    Answers,
    Sampling,
    answer_problems,
    count_switches,
    draw_evaluation,
    evaluate,
    gain,
)
from losses import Companion, Loss, Objective, bind_loss
from measures import note_cut, note_ended
from model import CUT, Transformer, load_checkpoint, locate_base, save_checkpoint
from plumbing import files
from plumbing.commands import suggest
from plumbing.flags import bind, list_values, read_defaults, show_differences
from plumbing.machine import MACHINE, choose_device, describe_machine, note_changes
from plumbing.messages import InputError, note
from plumbing.progress import Clock, progress_bar, stop_signals
from plumbing.streams import EVALUATION, LABELS, POOL, SHOWN, numpy_rng
from rewards import REWARDS, Reward, build_reward, split_name

if TYPE_CHECKING:
    from rlvr import TrainConfig

MICRO_BATCH = 16     # on a CPU, where it keeps a forward pass in the cache

Pool = list[tuple[Problem, str | None]]  # training prompts with their frozen labels


class Task(NamedTuple):
    """What is asked in a run, and who pays: it stays the same throughout."""

    corpus: Corpus
    pool: Pool
    reward: Reward
    judge: Transformer | None = None


@dataclass
class Run:
    """A run in progress."""

    config: "TrainConfig"
    corpus: str                        # name of the base's
    problems: list[Problem]            # of the evaluation
    base: Transformer
    policy: Transformer
    reward: Reward                     # its flags, and those of the objective, bound
    judge: Transformer | None
    objective: Objective
    optimizers: list[torch.optim.Optimizer]
    state: dict
    clock: Clock

    @property
    def task(self) -> Task:
        pool = [(parse_problem(problem), label) for problem, label in self.state["pool"]]
        return Task(CORPORA[self.corpus], pool, self.reward, self.judge)

    @property
    def stateful(self) -> list:
        return [*self.optimizers, *(module for companion in self.objective.companions
                                    for module in companion.changing)]

    def steps(self) -> Iterator[int]:
        """The rollout batches that are left; each is saved when the next one is asked for."""
        config, done = self.config, self.state["step"]
        bar = progress_bar(total=config.steps, initial=done, desc=f"{config.base} {config.reward}")
        with stop_signals() as stopped, bar:
            for step in range(done, config.steps):
                self.keep_answers(step)
                yield step
                self.save()
                self.clock.lap("update")
                shown = {name: f"{self.state['rows'][-1][name]:.3f}"
                         for name in ("reward", "accuracy")}
                bar.set_postfix(shown, refresh=False)
                bar.update()
                if stopped:
                    raise KeyboardInterrupt

    def record(self, step: int, metrics: dict, readable: list[str]) -> None:
        note_ended(metrics["ended"], self.config.max_new_tokens)
        self.state["rows"].append({"step": step, **metrics})
        self.state["samples"] += readable if step % 5 == 0 else []
        self.state["step"] = step + 1

    def evaluate(self) -> tuple[dict, Answers]:
        """The evaluation of the policy as it is now, on the same random numbers each time."""
        config = self.config
        ks = [2 ** i for i in range(config.eval_samples.bit_length())]
        sampling = Sampling(max_new_tokens=config.max_new_tokens)
        return evaluate(self.policy, CORPORA[self.corpus], self.problems, config.eval_samples, ks,
                        (EVALUATION, 0), sampling, self.base)

    def keep_answers(self, step: int) -> None:
        """Keep how the policy answers three problems after `step` batches, on the same numbers."""
        wanted = list_kept_steps(self.config.steps)
        kept = [entry for entry in self.state.get("answers", [])
                if entry["step"] < step and entry["step"] in wanted]
        if step in wanted:
            sampling = Sampling(max_new_tokens=self.config.max_new_tokens)
            answers = answer_problems(self.policy, CORPORA[self.corpus], self.problems[:3], 4,
                                      (SHOWN, 0), sampling)
            kept.append({"step": step, "texts": answers.texts})
        self.state["answers"] = kept
        self.clock.lap("evaluate")

    def save(self) -> None:
        """Write all that a resume needs; the tables come last, they can be made again."""
        self.state["seconds"] = dict(self.clock.booked)
        self.state["stateful"] = [thing.state_dict() for thing in self.stateful]
        out = Path(self.config.out)
        save_checkpoint(out / "model.pt", self.policy, corpus=self.corpus, train=self.state)
        files.write(out / "metrics.csv", files.to_csv(self.state["rows"]))
        files.write(out / "samples.txt", "\n".join(self.state["samples"]))
        shown = {"corpus": self.corpus, "problems": list(map(render_problem, self.problems[:3]))}
        files.write(out / "answers.json",
                    files.to_json(shown | {"batches": self.state["answers"]}))

    def finish(self) -> None:
        """Evaluate, compare with before, write summary.json."""
        config, state, modes = self.config, self.state, CORPORA[self.corpus].modes
        after, answers = self.evaluate()
        self.keep_answers(config.steps)
        self.save()
        then = answers._replace(correct=np.array(state["correct"]), modes=np.array(state["modes"]))
        before, seconds = state["before"], state["seconds"]
        clip = {side: float(np.mean([row[f"clip_{side}"] for row in state["rows"]]))
                for side in ("high", "low")}
        summary = {"base": config.base, "reward": config.reward, "loss": config.loss,
                   "seed": config.seed, "steps": config.steps, "before": before, "after": after,
                   "gain": gain(before, after, modes),
                   "switches": count_switches(then, answers, modes),
                   "clip": clip, "seconds": {"total": sum(seconds.values()), **seconds}}
        files.write(Path(config.out) / "summary.json", files.to_json(summary))
        if all(row["grad_norm"] == 0 for row in state["rows"]):
            note("no update had a gradient: nothing was learned")
        self.say_result(before, after)

    def say_result(self, before: dict, after: dict) -> None:
        """The last lines of a run: what was found, what was written where, what to do next."""
        config = self.config
        moved = [f"{name} {before[key]:.3f} -> {after[key]:.3f}" for name, key in
                 [("accuracy", "accuracy"), ("greedy", "greedy_accuracy"),
                  *((mode, f"{mode}_share") for mode in CORPORA[self.corpus].modes)]]
        if after["ended"] < 1 - CUT:
            moved.append(f"{1 - after['ended']:.1%} of the answers cut by --max-new-tokens")
        print(f"{config.base}, reward {config.reward}, loss {config.loss}, seed {config.seed}: "
              f"{', '.join(moved)}, {sum(self.state['seconds'].values()):.0f} s")
        print(f"This is one seed: enough to see an effect, not to claim it. Wrote {config.out}: "
              "metrics.csv\nhas a row for each rollout batch, samples.txt answers to read, "
              "summary.json all that is above.")
        out = shlex.quote(Path(config.out).as_posix())
        suggest(f"python -m lessons.report --html {out}",
                f"python rlvr.py sample {out}/model.pt '37 *4 +5 -2' -n 3")


def list_kept_steps(steps: int) -> list[int]:
    """After which batches of a run its answers are kept: evenly spaced, at most 12, the last too.

    A longer run keeps some of a shorter one's: every batch up to 10, every second up to 20 ...
    """
    stride = 1 << max(0, (steps - 1) // 10).bit_length()
    return [*range(0, steps, stride), steps]


# --- its beginning, or its going on

def open_run(config: "TrainConfig", loss: Loss, command: str) -> Run | None:
    """A run before its next batch, new or resumed; None if it is finished."""
    device, out = choose_device(config), Path(config.out)
    policy, state = load_state(config, loss, out, device)
    if state and state["step"] == config.steps and (out / "summary.json").exists():
        return None
    base, checkpoint = load_checkpoint(locate_kept(config, "base"), device)
    corpus = CORPORA[checkpoint["corpus"]]
    if corpus.judges:
        raise InputError(f"--base {config.base} is a judge: it answers no problem")
    problems = draw_evaluation(config.eval_problems, config.eval_split, config.eval_num_ops,
                               digits=corpus.digits)
    policy = copy.deepcopy(base) if policy is None else policy
    policy.blocks.requires_grad_(config.trained == "all")
    reward, objective = bind_entries(config, loss, base, policy)
    judge = load_judge(config, reward, device)
    note_settings(config, loss)   # not before what is refused in one line
    run = Run(config, checkpoint["corpus"], problems, base, policy, reward, judge, objective,
              make_optimizers(config, policy, objective.companions), state, Clock(device))
    run.state = state or begin_state(run)
    run.clock.booked.update(run.state["seconds"])  # adds them
    saved = run.state["stateful"]
    if saved and len(saved) != len(run.stateful):
        raise InputError(f"{out} was saved with {len(saved)} optimizers and models that change, "
                         f"and this loss has {len(run.stateful)}")
    for thing, state in zip(run.stateful, saved):
        thing.load_state_dict(state)
    write_config(run, device, command)
    if run.state["step"] < config.steps:
        (out / "summary.json").unlink(missing_ok=True)  # it is of a shorter run
    return run


def note_settings(config: "TrainConfig", loss: Loss) -> None:
    """Say of flags what their numbers in metrics.csv and summary.json do not."""
    if config.temperature != 1:
        note(f"rollouts are sampled at temperature {config.temperature:g}, the evaluation "
             "before and after at 1")
    bounds = {name: default for name, default in
              read_defaults(*loss.functions).items()
              if name in ("eps_low", "eps_high")}
    if config.updates == 1 and bounds != {name: config.flags.get(name, default)
                                          for name, default in bounds.items()}:
        note("--updates 1 is on-policy: nothing is clipped, whatever --eps is")


def bind_entries(config: "TrainConfig", loss: Loss, base: Transformer,
                 policy: Transformer) -> tuple[Reward, Objective]:
    """The reward and the loss of a run, with their flags and what else of a run they take."""
    values = list_values(config)
    reward = build_reward(config.reward, **values)
    return reward, bind_loss(loss, values | {"base": base, "policy": policy, "reward": reward})


def write_config(run: Run, device: torch.device, command: str) -> None:
    """config.json: what is really used; and copies of the checkpoints that the run reads."""
    config, out = run.config, Path(run.config.out)
    machine = describe_machine(config, device, MICRO_BATCH)
    note_changes(run.state.get("machine", {}), machine)
    run.state["machine"] = machine
    used = {**list_values(config), **machine,
            "parameters": sum(p.numel() for p in run.policy.parameters()), "command": command}
    for name in ("base", *(["judge"] if run.judge else [])):   # to resume where they are gone
        used[f"{name}_fingerprint"] = fingerprint(locate_kept(config, name))
        files.keep_file(locate_kept(config, name), out / f"{name}.pt")
    files.write(out / "config.json", files.to_json(used))


def begin_state(run: Run) -> dict:
    """The state of a run that has done nothing yet: its pool, and how its base answers."""
    pool = make_pool(run.config, run.policy, CORPORA[run.corpus], run.reward)
    run.clock.lap("rollout")
    before, answers = run.evaluate()
    run.clock.lap("evaluate")
    return {"config": identity(run.config), "step": 0, "rows": [], "samples": [], "stateful": [],
            "pool": [(render_problem(problem), label) for problem, label in pool],
            "seconds": {}, "before": before, "correct": answers.correct.tolist(),
            "modes": answers.modes.tolist()}


def locate_kept(config: "TrainConfig", name: str) -> Path:
    """A checkpoint that a run needs: what the flag says, or what the run has kept of it."""
    begun, kept = Path(config.out, "model.pt").exists(), Path(config.out, f"{name}.pt")
    return kept if begun and kept.exists() else locate_base(list_values(config)[name])


def fingerprint(path: Path) -> str:
    """Which file it was: the beginning of its SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def load_judge(config: "TrainConfig", reward: Reward,
               device: torch.device) -> Transformer | None:
    """The frozen judge, if the reward asks one."""
    if not reward.judges:
        return None
    return bind(open_judge, list_values(config))(
        reward.judges, lambda name: load_checkpoint(locate_kept(config, "judge"), device))


def make_pool(config: "TrainConfig", model: Transformer, corpus: Corpus, reward: Reward) -> Pool:
    """The training prompts with their labels (None where the reward needs none).

    Raises InputError if the reward needs prompts with a wrong one and there are none.
    """
    rng = numpy_rng(POOL, config.seed)
    problems = draw_problems(config.pool, "training", config.num_ops, rng, digits=corpus.digits)
    if not reward.labels:
        return [(problem, None) for problem in problems]

    def answer(n: int) -> list[str]:
        answers = answer_problems(model, corpus, problems, n, (LABELS, config.seed),
                                  Sampling(max_new_tokens=config.max_new_tokens))
        note_cut(answers.rollouts, config.max_new_tokens)
        return answers.texts

    labels = reward.labels(answer)
    pool = list(zip(problems, labels))
    if not reward.wrong_only:
        if None in labels:
            note(f"{labels.count(None)} of the {len(pool)} prompts have no majority answer, since "
                 "no response had a box: they never pay")
        return pool
    wrong = [(problem, label) for problem, label in pool
             if label not in (None, write_answer(problem))]
    if not wrong:
        raise InputError(f"reward {config.reward}: the base's majority answer is right on all "
                         f"{config.pool} prompts of the pool; take a larger --pool or a harder "
                         "--num-ops")
    if len(wrong) < config.prompts:
        note(f"the pool has {len(wrong)} prompts, of {config.pool}, whose majority answer is "
             "wrong: fewer than --prompts, so that a batch has some twice")
    return wrong


def make_optimizers(config: "TrainConfig", policy: Transformer,
                    companions: tuple[Companion, ...]) -> list[torch.optim.Optimizer]:
    """The policy's, and those of its companions."""
    kind = torch.optim.SGD if config.optimizer == "sgd" else torch.optim.AdamW
    return [kind(policy.parameters(), lr=config.lr),
            *(optimizer for companion in companions for optimizer in companion.optimizers)]


def identity(config: "TrainConfig") -> dict:
    """The flags that make a run what it is; it may be longer, or elsewhere (`note_changes`)."""
    return {name: value for name, value in list_values(config).items()
            if name not in ("out", "steps", *MACHINE)}


def list_defaults(config: "TrainConfig", loss: Loss) -> dict:
    """Every flag that a run with these entries reads, at its default."""
    entries = loss, *(REWARDS[term] for term, _ in split_name(config.reward))
    return read_defaults(type(config), *(function for entry in entries
                                         for function in entry.functions))


def load_state(config: "TrainConfig", loss: Loss, out: Path,
               device: torch.device) -> tuple[Transformer | None, dict]:
    """Model and state of a run that is there to be resumed, or None and {}.

    Raises InputError if it is another run, or a longer one.
    """
    if not (out / "model.pt").exists():
        return None, {}
    model, checkpoint = load_checkpoint(out / "model.pt", device)
    state = checkpoint.get("train")
    differs = show_differences(state and state["config"], identity(config),
                               list_defaults(config, loss))
    if differs:
        raise InputError(f"{out} holds a run with other flags ({differs}): choose another --out "
                         "or delete it")
    if state["step"] > config.steps:
        raise InputError(f"{out} has {state['step']} rollout batches already, more than --steps "
                         f"{config.steps}")
    state.setdefault("machine", recall_machine(out))
    return model, state


def recall_machine(out: Path) -> dict:
    """What config.json says of the machine, of a run whose model.pt does not; {} if it is gone."""
    try:
        return dict(json.loads(files.read_text(out / "config.json")))
    except (OSError, ValueError, TypeError):
        return {}
