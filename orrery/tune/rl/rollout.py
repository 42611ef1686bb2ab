"""Rollouts: the model that learns answers problems, many at once, through the engine that serves it.

    speaker = Speaker(engine, max_tokens=32)
    trajectories = speaker.play(problems, opener(Single()), responses=8, seed=key(seed, step))

All answers to a problem share one reading of its prompt. The draws of an answer are keyed by (seed, problem's place, answer, turn) and by
nothing else, so a step that is repeated after a crash says the same again, and so do problems that are shared out over several speakers.
There is nothing to copy to the engine and nothing that could differ from it: it reads the weights that the optimiser writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orrery.evaluate.subject import text_of
from orrery.kit.errors import OrreryError
from orrery.kit.lm import Completion, GenerateRequest, Sampling
from orrery.kit.seeds import key
from orrery.serve.engine.engine import Engine
from orrery.text.rendered import Role
from orrery.tune.rl.environment import Environment, Message, Step
from orrery.tune.rl.problems import Problem
from orrery.tune.rl.trajectory import Trajectory, Turn


@dataclass(kw_only=True)
class Episode:
    """One under way."""

    place: int
    group: int
    problem: Problem
    world: Environment
    messages: list[Message]
    read: list[int]
    ids: list[int] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    over: bool = False
    truncated: bool = False

    def finished(self) -> Trajectory:
        return Trajectory(
            problem=self.problem, group=self.group, turns=tuple(self.turns), conversation=tuple(self.messages),
            truncated=self.truncated,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """The model as the one who answers.

    Attributes:
        max_tokens: of each thing said. stop: texts that end an answer, for models without a chat format.
        system: a system message in front of every conversation.
    """

    engine: Engine
    max_tokens: int
    stop: tuple[str, ...] = ()
    system: str = ""

    def play(
        self, problems: Sequence[Problem], world: Callable[[], Environment], *, responses: int, seed: int, temperature: float = 1.0,
        first: int = 0,
    ) -> list[Trajectory]:  # fmt: skip
        """`responses` episodes of each problem, in order; those of one problem make a group. `first`: the place of the first problem,
        where these are a share of more.

        Raises:
            OrreryError: a prompt leaves no room for an answer, or there are several turns and no chat format to write them in.
        """
        groups = [self._begin(n, problem, world, responses) for n, problem in enumerate(problems, first)]
        sampling = Sampling(temperature=temperature)
        requests = [
            self._request(group[0], replace(sampling, seed=key(seed, "answers", n)), responses)
            for n, group in enumerate(groups, first)
        ]
        spoken = self.engine.generate(requests)
        for group, one in zip(groups, spoken, strict=True):
            for episode, completion in zip(group, (one, *one.others), strict=True):
                self._hear(episode, completion)
        episodes = [episode for group in groups for episode in group]
        turn = 1
        while left := [episode for episode in episodes if not episode.over]:
            requests = [
                self._request(e, replace(sampling, seed=key(seed, "answers", e.group, e.place, turn)), 1)
                for e in left
            ]
            for episode, completion in zip(left, self.engine.generate(requests), strict=True):
                self._hear(episode, completion)
            turn += 1
        return [episode.finished() for episode in episodes]

    def _begin(
        self, n: int, problem: Problem, world: Callable[[], Environment], responses: int
    ) -> list[Episode]:
        worlds = [world() for _ in range(responses)]
        told = [{"role": "system", "content": self.system}] if self.system else []
        begun = [[*told, *one.reset(problem)] for one in worlds]
        read = self.prompt(begun[0])
        if len(read) + self.max_tokens > self.engine.lm.context:
            raise OrreryError(
                f"a problem of {len(read)} tokens leaves no room for {self.max_tokens} more in the model's context of "
                f"{self.engine.lm.context}; take a smaller max_tokens, or leave long problems out"
            )
        return [
            Episode(place=i, group=n, problem=problem, world=one, messages=messages, read=list(read))
            for i, (one, messages) in enumerate(zip(worlds, begun, strict=True))
        ]

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids read before the first answer: as the chat format has it, or the texts below each other behind BOS."""
        lm = self.engine.lm
        if lm.chat is not None:
            return lm.chat.prompt(messages)
        text = lm.tokenizer.encode("\n\n".join(str(message["content"]) for message in messages))
        return lm.tokenizer.wrap(text, bos=lm.tokenizer.bos_id is not None)

    def _request(self, episode: Episode, sampling: Sampling, n: int) -> GenerateRequest:
        return GenerateRequest(
            ids=[*episode.ids, *episode.read], max_tokens=self.max_tokens, sampling=sampling, n=n,
            stop=self.stop if self.engine.lm.chat is None else (),
        )  # fmt: skip

    def _hear(self, episode: Episode, completion: Completion) -> None:
        """What was said goes to the environment; what that shows is read next, if there is room for it and an answer."""
        lm, whole = self.engine.lm, completion.finish_reason == "stop"
        text = self._said(completion)
        step = episode.world.step(text)
        episode.turns.append(
            Turn(
                read=tuple(episode.read), ids=completion.ids, logprobs=completion.logprobs, text=text, raw=completion.text,
                whole=whole, reward=step.reward,
            )
        )  # fmt: skip
        episode.ids += [*episode.read, *completion.ids]
        episode.messages.append({"role": "assistant", "content": text})
        episode.over, episode.truncated = step.done or not whole, not whole
        if episode.over:
            return
        episode.read = self._shown(episode, step)
        episode.over = len(episode.ids) + len(episode.read) + self.max_tokens > lm.context
        episode.truncated = episode.over

    def _said(self, completion: Completion) -> str:
        """The text of an answer; a call of the tool `python` stands in it as the program it calls with."""
        lm = self.engine.lm
        if lm.chat is None:
            return text_of(lm.tokenizer, completion)
        message = lm.chat.parse(completion.ids)
        programs = [_program(call) for call in message.get("tool_calls") or ()]
        return str(message.get("content") or "") + "".join(
            f"\n```python\n{code}\n```" for code in programs if code
        )

    def _shown(self, episode: Episode, step: Step) -> list[int]:
        """The ids of an observation and of the header behind it: what a rendering has behind the answer's own ids."""
        chat = self.engine.lm.chat
        if chat is None:
            raise OrreryError("several turns need a chat format to write them in; choose a chat_template")
        turn = len(episode.messages) - 1
        episode.messages.append({"role": "user", "content": step.observation})
        rendered = chat.render(episode.messages, generate=True)
        own = [
            i for i, (role, of) in enumerate(zip(rendered.roles, rendered.turns, strict=True))
            if of == turn and role == Role.ASSISTANT
        ]  # fmt: skip
        if not own:
            raise OrreryError(
                "the chat format leaves an earlier answer out, so a second turn cannot be written behind it"
            )
        return rendered.ids[own[-1] + 1 :]


def _program(call: Mapping[str, Any]) -> str | None:
    """The program of a call of a tool named python, else None."""
    called = call.get("function", call)
    arguments = called.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return None
    code = arguments.get("code") if isinstance(arguments, dict) else None
    return code if called.get("name") == "python" and isinstance(code, str) else None
