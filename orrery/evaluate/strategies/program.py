"""Program-aided: the model writes Python, the sandbox runs it, its last line of output is the answer. Gao et al. 2022, arXiv:2211.10435."""

from __future__ import annotations

from dataclasses import replace

from orrery.evaluate.scorers.base import open_sandbox
from orrery.evaluate.scorers.code import LIMITS, code_block
from orrery.evaluate.strategies.config import ProgramAided
from orrery.evaluate.strategies.play import Found, Play
from orrery.evaluate.strategies.voice import Question, Voice

FENCE = "```"


def program_aided(cfg: ProgramAided, voice: Voice, question: Question, seed: int) -> Play:
    """What the program prints last; nothing where it fails, with its error in the trace. A base model is given the opening of the code."""
    asked = question.with_instruction(cfg.instruction)
    base = asked.messages is None
    if base:
        asked = replace(asked, text=f"{asked.text}\n{FENCE}python\n")
    request = voice.request(
        voice.prompt(asked),
        seed=seed,
        temperature=cfg.temperature,
        max_tokens=cfg.max_tokens,
        stop=(FENCE,) if base else (),
    )
    (done,) = yield [request]
    (said,) = voice.hear(asked, done)
    code = code_block(said.text) or said.text
    outcome = open_sandbox().run(code, limits=LIMITS)
    printed = [line.strip() for line in outcome.stdout.splitlines() if line.strip()]
    text = printed[-1] if printed and outcome.status == "ok" else ""
    trace = [
        {"step": "program", "text": code, "tokens": said.tokens},
        {"step": "run", "status": outcome.status, "printed": "\n".join(printed[-5:])}
        | ({"error": outcome.detail} if outcome.detail else {}),
    ]
    return Found(text, trace)
