"""Search over steps, led by a score of beginnings: of `width` beginnings `expand` next steps each are drawn, and the best are kept.

With a process reward model this is beam search of Snell et al. 2024, arXiv:2408.03314, section 5.2. A step ends at `delimiter`, an answer
where the model ends it.
"""

from __future__ import annotations

from dataclasses import dataclass

from orrery.evaluate.strategies.config import Beam
from orrery.evaluate.strategies.judging import Reward, best, scores
from orrery.evaluate.strategies.play import Found, Play, Trace
from orrery.evaluate.strategies.voice import Question, Said, Voice
from orrery.kit.lm import Completion
from orrery.kit.seeds import key


@dataclass(frozen=True, kw_only=True)
class _Beginning:
    """An answer so far: its ids behind the prompt, their log-probabilities, and whether it is whole."""

    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    done: bool = False
    score: float = 0.0


def beam(cfg: Beam, voice: Voice, question: Question, seed: int, reward: Reward | None) -> Play:
    """The best whole answer, or the best beginning where none came to its end in `steps` steps."""
    asked = question.with_instruction(cfg.instruction)
    prompt = voice.prompt(asked)
    stop = (cfg.delimiter, *(text for text in voice.stop if text.strip() and asked.messages is None))
    beams, trace = [_Beginning()], Trace()
    for depth in range(cfg.steps):
        open_ = [one for one in beams if not one.done]
        if not open_:
            break
        requests = [
            voice.request(
                [*prompt, *one.ids], seed=key(seed, "beam", depth, i), temperature=cfg.temperature, n=cfg.expand,
                max_tokens=cfg.max_tokens, stop=stop,
            )
            for i, one in enumerate(open_)
        ]  # fmt: skip
        completions = yield requests
        grown = {one.ids: one for one in beams if one.done}
        for one, first in zip(open_, completions, strict=True):
            for more in (first, *first.others):
                next_ = _longer(voice, cfg, one, more)
                grown.setdefault(next_.ids, next_)
        said = [_said(voice, asked, one) for one in grown.values()]
        values = scores(cfg.by, asked, said, reward)
        scored = [_Beginning(ids=b.ids, logprobs=b.logprobs, done=b.done, score=v) for b, v in zip(grown.values(), values, strict=True)]  # fmt: skip
        beams = sorted(scored, key=lambda one: -one.score)[: cfg.width]
        trace.append({"step": "keep", "depth": depth, "of": len(scored), "beams": [_told(voice, one) for one in beams]})  # fmt: skip
    final = [one for one in beams if one.done] or beams
    chosen = final[best([one.score for one in final])]
    return Found(_said(voice, asked, chosen).text, trace)


def _longer(voice: Voice, cfg: Beam, one: _Beginning, more: Completion) -> _Beginning:
    """The beginning with one more step. An answer is whole where it ended otherwise than by the delimiter."""
    tokenizer = voice.subject.tokenizer
    step = tokenizer.decode(list(more.ids))
    at_delimiter = more.finish_reason == "stop" and step[len(more.text) :].startswith(cfg.delimiter)
    blank = at_delimiter and not more.text.strip() and bool(one.ids)
    ids = (*one.ids, *more.ids)
    done = blank or (more.finish_reason == "stop" and not at_delimiter) or len(ids) >= voice.context
    return _Beginning(ids=ids, logprobs=(*one.logprobs, *more.logprobs), done=done)


def _said(voice: Voice, question: Question, one: _Beginning) -> Said:
    done = Completion(
        text=voice.subject.tokenizer.decode(list(one.ids), special=False), ids=one.ids, logprobs=one.logprobs,
        finish_reason="stop" if one.done else "length",
    )  # fmt: skip
    (said,) = voice.hear(question, done)
    return said


def _told(voice: Voice, one: _Beginning) -> dict[str, object]:
    text = voice.subject.tokenizer.decode(list(one.ids), special=False)
    told: dict[str, object] = {"text": text, "score": one.score}
    return told | ({"whole": True} if one.done else {})
