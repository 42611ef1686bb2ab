"""One round: problems, answers, rewards, credit, updates; and all that is carried from a round to the next."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from orrery.data.batch import Batch
from orrery.kit.seeds import key
from orrery.model.decoder import Decoder
from orrery.train.optim.joint import JointOptimizer
from orrery.train.precision import LossScaler
from orrery.train.step import Outcome, Setup
from orrery.tune.rl.algorithms import Trpo
from orrery.tune.rl.answering import Answering, Answers
from orrery.tune.rl.config import RlConfig
from orrery.tune.rl.credit import assign
from orrery.tune.rl.curriculum import Draws
from orrery.tune.rl.entropy import adapted_coefficient
from orrery.tune.rl.kl import stepwise_beta
from orrery.tune.rl.learning import Before, Task, Updates, correct, counted, learn, room
from orrery.tune.rl.metrics import of_episodes, of_updates
from orrery.tune.rl.packing import Axis, Micro, micro_batches, minibatches
from orrery.tune.rl.problems import Problem
from orrery.tune.rl.reading import Reader
from orrery.tune.rl.recorded import Groups, plain, recorded, turn_of
from orrery.tune.rl.rewards import Answered, Learned, Length, Term, rewards, verdict_weight
from orrery.tune.rl.routing import dictated
from orrery.tune.rl.trajectory import Trajectory
from orrery.tune.rl.trust_region import take_step

Reference = Callable[[], AbstractContextManager[Decoder]]
"""Gives the model as it was at the start of the run."""


@dataclass(kw_only=True)
class Round:
    """What a run does again and again.

    Attributes:
        beta, bonus: the price of KL and the coefficient of the entropy, which may follow targets.
        ahead: answers to the next round's problems by this round's weights, where the run learns one step off policy.
        recorded: groups of episodes to learn from beside those drawn. episodes: those of the last round.
        sampled: tokens written so far. start, end: the accuracy that was measured first and last. last: the last line of metrics.
    """

    cfg: RlConfig
    setup: Setup
    draws: Draws
    answers: Answering
    reader: Reader
    reference: Reference | None
    learned: Learned | None
    virtual: int
    beta: float
    bonus: float
    recorded: Groups = ()
    ahead: list[Trajectory] | None = None
    episodes: list[Trajectory] = field(default_factory=list)
    sampled: int = 0
    start: float | None = None
    end: float | None = None
    last: dict[str, Any] = field(default_factory=dict)
    shown: str = ""
    """An episode of the last round, to be looked at."""

    CARRIED: ClassVar[tuple[str, ...]] = ("beta", "bonus", "sampled", "start", "end", "last")

    def state(self) -> dict[str, Any]:
        """JSON-able; `load` takes it back, or the nothing of a run that begins."""
        ahead = None if self.ahead is None else [plain(one) for one in self.ahead]
        carried = {name: getattr(self, name) for name in self.CARRIED}
        return carried | {"draws": self.draws.state(), "ahead": ahead}

    def load(self, state: dict[str, Any]) -> None:
        """Become what `state` described."""
        for name in self.CARRIED if state else ():
            setattr(self, name, state[name])
        ahead = state.get("ahead")
        self.ahead = None if ahead is None else [recorded(one) for one in ahead]
        self.draws.load(state.get("draws", {}))

    def go(
        self, step: int, optimizer: JointOptimizer, scaler: LossScaler, *, stop: bool, last: bool
    ) -> tuple[Outcome, list[Batch], dict[str, Any]]:
        """A round: what the updates did as one outcome, the batches that were read, and the line of metrics. `last`: none comes behind it."""
        began = time.monotonic()
        trajectories, line = self.answer(step)
        ahead = None
        if self.cfg.off_policy_steps and not last:
            ahead = self._ask(step + 1, 0, self.cfg.rollout.prompts)  # by these weights, while they learn
        answered = time.monotonic()
        axis, parts = self.pack(step, trajectories)
        every = self.cfg.kl.measure_every
        measures = bool(self.cfg.kl.beta) or (every is not None and step % every == 0)
        before = self._before(axis, parts, measures=measures)
        credit = assign(
            self.cfg, axis, trajectories, old=before.old, values=before.values, reference=before.reference,
            beta=self.beta if self.cfg.kl.place == "reward" else 0.0,
        )  # fmt: skip
        before = correct(self.cfg, axis, before, credit.advantages)
        right = torch.tensor([one.right > 0 for one in trajectories], device=axis.owner.device)[axis.owner]
        task = Task(
            axis=axis,
            parts=parts,
            before=before,
            credit=credit,
            right=right,
            beta=self.beta,
            entropy=self.bonus,
            counts=counted(self.cfg, before),
        )
        if measures and self.cfg.on_policy:
            line["served_gap"] = self._served_gap(task)
        done = self._update(step, task, optimizer, scaler, line, stop=stop)
        learned = time.monotonic()
        self.ahead = None if ahead is None else ahead()
        self.answers.weights_changed()
        line |= of_updates(self.cfg, task, done)
        if self.cfg.rollout.temperature == 1.0 and self.cfg.on_policy:
            line["engine_gap"] = _gap(done.seen if before.old is None else before.old, axis.sampler)
        self._follow(line)
        line |= {
            "sampled": self.sampled, "rollout_seconds": answered - began + time.monotonic() - learned,
            "learn_seconds": learned - answered,
        }  # fmt: skip
        batches = [micro.batch for _ in range(self.cfg.epochs) for part in parts for micro in part]
        return _together(done.outcomes), batches, line

    # --- what is learned from

    def answer(self, step: int) -> tuple[list[Trajectory], dict[str, Any]]:
        """Judged answers to the round's problems, and recorded ones. Where dead groups are replaced, others are drawn in their place."""
        wanted, rounds = self.cfg.rollout.prompts, self.cfg.parts.rounds
        kept: list[list[Trajectory]] = []
        dead: list[list[Trajectory]] = []
        for n in range(rounds):
            missing = wanted - len(kept)
            if not missing:
                break
            for group in self._groups(step, n, missing):
                alive = rounds == 1 or len({one.reward for one in group}) > 1
                (kept if alive else dead).append(group)
        drawn = len(kept) + len(dead)
        kept = kept or dead[:wanted]  # nothing to learn from: the round is done and says so
        replay, own = self.cfg.replay, sum(map(len, kept))
        if replay is not None:
            turns = turn_of(self.recorded, replay.prompts, step=step, seed=self.setup.cfg.seed)
            kept += [self.judge(group) for group in turns]
        self.shown = transcript(kept[0][0])
        self.episodes = [replace(one, group=g) for g, group in enumerate(kept) for one in group]
        self.sampled += sum(len(one.written) for one in self.episodes[:own])
        line = of_episodes(self.episodes[:own] or self.episodes, drawn)
        return self.episodes, line | ({} if replay is None else {"replayed": len(self.episodes) - own})

    def _groups(self, step: int, n: int, count: int) -> list[list[Trajectory]]:
        played, self.ahead = self.ahead or self._ask(step, n, count)(), None
        judged, each = self.judge(played), self.cfg.rollout.responses
        groups = [judged[i : i + each] for i in range(0, len(judged), each)]
        for group in groups:
            self.draws.saw(group[0].problem, [one.right for one in group])
        return groups

    def _ask(self, step: int, n: int, count: int) -> Answers:
        """The next problems; `n` counts how often any are drawn in a round."""
        rollout = self.cfg.rollout
        return self.answers.ask(
            self.draws.take(count), responses=rollout.responses, temperature=rollout.temperature,
            seed=key(self.setup.cfg.seed, "rollout", step, n),
        )  # fmt: skip

    def judge(self, trajectories: Sequence[Trajectory]) -> list[Trajectory]:
        """The same with their rewards: the environment's by turns, all other terms at the last."""
        terms: tuple[Term, ...] = self.cfg.rewards
        if self.cfg.parts.overlong_buffer is not None:
            terms = (*terms, Length(buffer=self.cfg.parts.overlong_buffer))
        answers = [
            Answered(
                text=one.turns[-1].text, raw=one.turns[-1].raw, verdict=one.verdict, tokens=one.written, conversation=one.conversation
            )
            for one in trajectories
        ]  # fmt: skip
        found = rewards(terms, answers, room=room(self.cfg), learned=self.learned)
        weight = verdict_weight(terms)
        judged = []
        for one, reward in zip(trajectories, found, strict=True):
            said = bool(one.turns[-1].text.strip())  # an episode that ends in nothing earned nothing
            turns = [weight * turn.reward * said for turn in one.turns]
            turns[-1] += reward.beside
            judged.append(one.scored(turns, reward.parts))
        return judged

    def pack(self, step: int, trajectories: Sequence[Trajectory]) -> tuple[Axis, list[list[Micro]]]:
        """The axis of what was written, and each minibatch's passes."""
        device = self.setup.device
        axis = Axis.of(trajectories, device)
        members = minibatches(
            axis.group, self.cfg.minibatches, seed=key(self.setup.cfg.seed, "minibatches", step)
        )
        parts = [
            micro_batches(
                trajectories,
                part,
                tokens=self.cfg.rollout.micro_tokens,
                device=device,
                virtual=self.virtual,
                share=not self.setup.model.state_spec(),
            )
            for part in members
        ]
        if self.cfg.router_replay:
            parts = [[dictated(m, trajectories, self.setup.model) for m in part] for part in parts]
        return axis, parts

    def _before(self, axis: Axis, parts: Sequence[Sequence[Micro]], *, measures: bool) -> Before:
        """Passes before the updates, each only where something asks for it."""
        cfg, before = self.cfg, Before()
        several = cfg.epochs * len(parts) > 1
        in_reward = bool(cfg.kl.beta) and cfg.kl.place == "reward"
        critic = cfg.parts.critic is not None
        micros = [micro for part in parts for micro in part]
        forking = cfg.entropy.forking is not None
        if several or in_reward or critic or measures or forking or cfg.correction is not None:
            before.old, before.entropy = torch.zeros_like(axis.sampler), torch.zeros_like(axis.sampler)
            before.values = torch.zeros_like(axis.sampler) if critic else None
            with self.setup.precision.autocast():
                for micro in micros:
                    read = self.reader.now(micro)
                    before.old[micro.at], before.entropy[micro.at] = read.logprobs, read.entropy
                    if before.values is not None and read.values is not None:
                        before.values[micro.at] = read.values
        if measures and self.reference is not None:
            before.reference = torch.zeros_like(axis.sampler)
            with self.reference() as start, self.setup.precision.autocast():
                reader = Reader(model=start, temperature=self.reader.temperature)
                for micro in micros:
                    before.reference[micro.at] = reader.now(micro).logprobs
        return before

    def _served_gap(self, task: Task) -> float:
        """Between the engine's log-probabilities and those of a whole pass by the same kernels, on the first batch."""
        micro = task.parts[0][0]
        return _gap(self.reader.as_served(micro)[0], task.axis.sampler[micro.at])

    # --- learning

    def _update(
        self, step: int, task: Task, optimizer: JointOptimizer, scaler: LossScaler, line: dict[str, Any], *, stop: bool
    ) -> Updates:  # fmt: skip
        algorithm = self.cfg.algorithm
        if isinstance(algorithm, Trpo):
            parameters = [p for p in self.setup.model.parameters() if p.requires_grad]
            taken, done = take_step(algorithm, task, self.reader, parameters)
            line |= {"trust_kl": taken.kl, "trust_improvement": taken.improvement, "trust_scale": taken.scale}
            tokens = sum(len(micro.batch) for part in task.parts for micro in part)
            sums = {"loss": -taken.improvement, "weight": 1.0, "tokens": float(tokens)}
            done.outcomes.append(Outcome(sums, 0.0, stop=stop))
            return done
        critic = self.cfg.parts.critic
        warming = critic is not None and step < critic.warmup
        return learn(
            self.cfg, self.setup, task, self.reader, optimizer, scaler, only_critic=warming, stop=stop
        )

    def _follow(self, line: dict[str, Any]) -> None:
        """Move beta and the entropy's coefficient towards their targets, for the next round."""
        kl, entropy = self.cfg.kl, self.cfg.entropy
        if kl.beta:
            line["beta"] = self.beta
            if kl.target is not None:
                self.beta = stepwise_beta(self.beta, line["kl_start"], target=kl.target)
        if entropy.target is not None:
            line["entropy_coefficient"] = self.bonus
            self.bonus = adapted_coefficient(
                self.bonus, line["entropy"], target=entropy.target, step=entropy.step
            )

    def accuracy(self, problems: Sequence[Problem]) -> float:
        """The share of problems whose likeliest answer is right."""
        played = self.answers.ask(problems, responses=1, temperature=0.0, seed=0)()
        return sum(one.right for one in played) / len(played)


def transcript(one: Trajectory) -> str:
    """An episode as text, with what it earned."""
    said = "\n".join(f"[{message['role']}] {message['content']}" for message in one.conversation)
    return f"{said}\n(reward {one.reward:.3g}, right answer: {one.problem.target})"


def _gap(one: Tensor, other: Tensor) -> float:
    """The largest difference."""
    return float((one - other).abs().max())


def _together(outcomes: Sequence[Outcome]) -> Outcome:
    """The updates of a round as one step: means of loss and norm, sums of tokens; skipped where all were."""
    taken = [one for one in outcomes if one.skipped is None] or outcomes
    loss = sum(one.mean("loss") for one in taken) / len(taken)
    sums = {"loss": loss, "nll": loss, "weight": 1.0, "tokens": sum(one.sums["tokens"] for one in outcomes)}
    norm = sum(one.grad_norm for one in taken) / len(taken)
    return Outcome(
        sums, norm, skipped=taken[0].skipped, overflow=all(one.overflow for one in outcomes), stop=any(one.stop for one in outcomes)
    )  # fmt: skip
