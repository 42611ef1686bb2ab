"""Self-refine: a draft, a critique of it, a revision, and again until the critic is content. Madaan et al. 2023, arXiv:2303.17651."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from orrery.evaluate.prompts import Message
from orrery.evaluate.scorers.equations import equations
from orrery.evaluate.strategies.config import SelfRefine
from orrery.evaluate.strategies.play import Found, Play, Trace
from orrery.evaluate.strategies.voice import Question, Voice
from orrery.kit.lm import Completion, GenerateRequest
from orrery.kit.seeds import key


def self_refine(cfg: SelfRefine, voice: Voice, question: Question, seed: int) -> Play:
    """The last revision. It stops when the critic accepts, when a revision says the same again, or after `rounds`."""
    asked = question.with_instruction(cfg.instruction)
    assert asked.messages is not None  # `require` saw to it
    messages: list[Message] = [*asked.messages]
    trace = Trace()
    draft = yield from _say(cfg, voice, messages, key(seed, "draft"))
    trace.append({"step": "draft", "text": draft})
    for turn in range(cfg.rounds):
        if cfg.critic == "model":
            messages.append({"role": "user", "content": cfg.critique})
            said = yield from _say(cfg, voice, messages, key(seed, "critique", turn))
            messages.append({"role": "user", "content": cfg.revise})
        else:
            said = false_equation(draft) or cfg.accept
            messages.append({"role": "user", "content": f"{said}\n{cfg.revise}"})
        trace.append({"step": "critique", "text": said})
        if cfg.accept.lower() in said.lower():
            break
        revised = yield from _say(cfg, voice, messages, key(seed, "revise", turn))
        trace.append({"step": "revise", "text": revised})
        same, draft = revised.strip() == draft.strip(), revised
        if same:
            break
    return Found(draft, trace)


def false_equation(text: str) -> str:
    """What a calculator says of a text: its first equation that does not hold; nothing where all do."""
    return next((f"{equation} is wrong." for equation, holds in equations(text) if not holds), "")


Say = Generator[Sequence[GenerateRequest], Sequence[Completion], str]


def _say(cfg: SelfRefine, voice: Voice, messages: list[Message], seed: int) -> Say:
    """One turn of the model; what it says is added to the conversation."""
    asked = Question(text="", messages=tuple(messages))
    (done,) = yield [voice.ask(asked, seed=seed, temperature=cfg.temperature, max_tokens=cfg.max_tokens)]
    (said,) = voice.hear(asked, done)
    messages.append({"role": "assistant", "content": said.text})
    return said.text
