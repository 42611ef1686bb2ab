"""Budget forcing: thinking that is ended at a most, and made to go on before a least. Muennighoff et al. 2025 (s1), arXiv:2501.19393.

prompt <think> ... thinking ... [the model ends it early: "Wait" ... thinking ...] </think> answer
"""

from __future__ import annotations

from orrery.evaluate.strategies.config import BudgetForcing
from orrery.evaluate.strategies.play import Found, Play
from orrery.evaluate.strategies.voice import Question, Voice
from orrery.kit.lm import Completion
from orrery.kit.seeds import key
from orrery.serve.grammar.syntax import in_reasoning


def budget_forcing(cfg: BudgetForcing, voice: Voice, question: Question, seed: int) -> Play:
    """The answer behind thinking of at least `min_thinking` and at most `budget` tokens, the words put in by us among them."""
    marks, chat, tokenizer = voice.marks(), voice.subject.chat_format(), voice.subject.tokenizer
    asked = question.with_instruction(cfg.instruction)
    ids = voice.prompt(asked)
    if not in_reasoning(chat, ids):
        ids = [*ids, *tokenizer.encode(marks.opening, special="allow")]
    closing = tokenizer.encode(marks.closing, special="allow")
    answering = [*closing, *tokenizer.encode(marks.answer, special="allow")]
    answer_tokens = cfg.max_tokens or voice.max_tokens
    budget = min(
        cfg.budget, voice.context - len(ids) - len(answering) - min(answer_tokens, voice.context // 4)
    )
    thought: list[int] = []
    waits, ended = 0, False
    while len(thought) < budget:
        request = voice.request(
            [*ids, *thought], seed=key(seed, "think", waits), temperature=cfg.temperature, max_tokens=budget - len(thought),
            stop=() if len(closing) == 1 else (marks.closing,), stop_ids=(*chat.stop_ids, closing[0]) if len(closing) == 1 else chat.stop_ids,
        )  # fmt: skip
        (done,) = yield [request]
        thought += _thinking(voice, done)
        ended = done.finish_reason == "stop"
        if not ended or len(thought) >= cfg.min_thinking or waits == cfg.waits:
            break
        wait = tokenizer.encode(cfg.wait, special="never")
        if len(thought) + len(wait) >= budget:
            break
        thought += wait
        waits += 1
    request = voice.request(
        [*ids, *thought, *answering],
        seed=key(seed, "answer"),
        temperature=cfg.temperature,
        max_tokens=answer_tokens,
    )
    (done,) = yield [request]
    _, text = voice.parts(done.ids, ())
    trace = [
        {"step": "think", "thought": tokenizer.decode(thought), "tokens": len(thought), "waits": waits, "forced": not ended},
        {"step": "answer", "text": text, "tokens": len(done.ids)},
    ]  # fmt: skip
    return Found(text, trace)


def _thinking(voice: Voice, done: Completion) -> list[int]:
    """The ids of the thinking, without the mark or the stop id that ended it."""
    if done.finish_reason != "stop":
        return list(done.ids)
    tokenizer = voice.subject.tokenizer
    whole = tokenizer.decode(list(done.ids))
    if done.ids and whole == done.text + tokenizer.decode(list(done.ids[-1:])):
        return list(done.ids[:-1])
    return tokenizer.encode(done.text, special="never")
