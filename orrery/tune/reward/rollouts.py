"""Labels without people: answers that the model draws itself, judged by the problem's checker; steps by what comes of them.

    outcome    right or wrong                                     Cobbe et al. 2021, arXiv:2110.14168
    step k     continue steps 1..k to the end, N times            Wang et al. 2023, arXiv:2312.08935 (Math-Shepherd)
               hard: some continuation is right;   soft: the share that is

A step is judged by whether the problem can still be solved behind it, so no step after the first mistake counts as right unless the
model mends it. The last step is judged by the answer itself. What was written is continued as ids: nothing is encoded a second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orrery.kit.lm import Completion, GenerateRequest, Sampling
from orrery.kit.seeds import key
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.engine import Engine
from orrery.serve.lm import LM
from orrery.tune.preference.records import Thumb
from orrery.tune.reward.config import SelfLabelled
from orrery.tune.reward.labelled import Stepped
from orrery.tune.reward.steps import step_ends
from orrery.tune.rl.environment import Single, opener
from orrery.tune.rl.problems import Problem, Problems
from orrery.tune.rl.rollout import Speaker
from orrery.tune.rl.trajectory import Trajectory

SEQUENCES = 64
"""Answers under way at once."""


@dataclass(frozen=True, kw_only=True)
class Labeller:
    """A model that answers problems, and what its answers are worth.

    Attributes:
        separator: what stands between steps. system: a system message in front of every problem.
    """

    lm: LM
    cfg: SelfLabelled
    separator: str = "\n"
    system: str = ""
    seed: int = 0

    def verdicts(self, problems: Sequence[Problem]) -> list[Thumb]:
        """Answers to every problem, right or wrong; those without a word are left out."""
        return [
            Thumb(messages=tuple(dict(m) for m in one.conversation[:-1]), answer=(dict(one.conversation[-1]),), up=one.right > 0,
                  where=f"problem {one.problem.id}")
            for one in self._answers(self._speaker(), problems)
        ]  # fmt: skip

    def steps(self, problems: Sequence[Problem]) -> list[Stepped]:
        """Answers to every problem with a label on each step; those without a word, and those that call tools, are left out."""
        speaker = self._speaker()
        answers = [one for one in self._answers(speaker, problems) if _said(self.lm, one) >= 0]
        beginnings = [_beginnings(speaker.engine.lm, one, self.separator) for one in answers]
        requests = [
            self._request(one, ids, key(self.seed, "rollouts", n, k))
            for n, (one, begun) in enumerate(zip(answers, beginnings, strict=True))
            for k, ids in enumerate(begun)
        ]
        spoken = iter(speaker.engine.generate(requests) if requests else ())
        found = []
        for one, begun in zip(answers, beginnings, strict=True):
            labels = [self._label(speaker, one.problem, ids, next(spoken)) for ids in begun]
            text = one.turns[-1].text
            ends = step_ends(text, self.separator)
            steps = [text[a:b].strip() for a, b in zip([0, *ends], ends, strict=False)]
            messages = tuple(dict(message) for message in one.conversation[:-1])
            labels.append(float(one.right > 0))
            found.append(
                Stepped(messages=messages, steps=tuple(steps), labels=tuple(labels), where=f"problem {one.problem.id}")
            )  # fmt: skip
        return found

    def _answers(self, speaker: Speaker, problems: Sequence[Problem]) -> list[Trajectory]:
        played = speaker.play(
            problems, opener(Single()), responses=self.cfg.responses, temperature=self.cfg.temperature,
            seed=key(self.seed, "answers"),
        )  # fmt: skip
        return [one for one in played if one.turns[-1].text.strip()]

    def _speaker(self) -> Speaker:
        engine = Engine(self.lm, EngineConfig(max_sequences=SEQUENCES))
        return Speaker(engine=engine, max_tokens=self.cfg.max_tokens, stop=self.cfg.stop, system=self.system)

    def _request(self, one: Trajectory, begun: Sequence[int], seed: int) -> GenerateRequest:
        return GenerateRequest(
            ids=[*one.turns[-1].read, *begun], max_tokens=max(1, self.cfg.max_tokens - len(begun)), n=self.cfg.rollouts,
            sampling=Sampling(temperature=self.cfg.temperature, seed=seed), stop=self.cfg.stop if self.lm.chat is None else (),
        )  # fmt: skip

    def _label(self, speaker: Speaker, problem: Problem, begun: Sequence[int], spoken: Completion) -> float:
        right = [problem.judge(self._whole(begun, one)) > 0 for one in (spoken, *spoken.others)]
        return float(any(right)) if self.cfg.estimate == "hard" else sum(right) / len(right)

    def _whole(self, begun: Sequence[int], spoken: Completion) -> str:
        """The beginning and its continuation, as text."""
        ids = [*begun, *spoken.ids]
        if self.lm.chat is not None:
            return str(self.lm.chat.parse(ids).get("content") or "")
        return self.lm.tokenizer.decode(list(begun)) + spoken.text


def _beginnings(lm: LM, one: Trajectory, separator: str) -> list[list[int]]:
    """For each step but the last, the ids of the answer up to and with the separator behind it."""
    turn = one.turns[-1]
    text, lead = turn.text, _said(lm, one)
    ends = step_ends(text, separator)[:-1]
    goals = [lead + len((text[:end] + _gap(text, end, separator)).encode()) for end in ends]
    reached = [len(lm.tokenizer.decode_bytes(list(turn.ids[: k + 1]))) for k in range(len(turn.ids))]
    cuts = [next(k + 1 for k, size in enumerate(reached) if size >= goal) for goal in goals]
    return [list(turn.ids[:cut]) for cut in cuts]


def _said(lm: LM, one: Trajectory) -> int:
    """Where in the bytes that were written the answer's text begins; -1 where the format took it apart."""
    return lm.tokenizer.decode_bytes(list(one.turns[-1].ids)).find(one.turns[-1].text.encode())


def _gap(text: str, end: int, separator: str) -> str:
    """What stands between a step's end and the next step's beginning."""
    return text[end : text.index(separator, end) + len(separator)]


def chosen(problems: Problems, limit: int) -> list[Problem]:
    """The first problems of every set, as evenly as the sets allow."""
    longest = max(map(len, problems.sets))
    return [part[n] for n in range(longest) for part in problems.sets if n < len(part)][:limit]
