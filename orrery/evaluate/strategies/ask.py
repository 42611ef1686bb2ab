"""A question answered by a strategy, for callers with questions of their own; tasks go through `measuring`.

found = answer("self-consistency:n=8", orrery.load(MODEL), "What is 12 * 13?", seed=1, key=last_number)
found.text, found.tokens, found.trace
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orrery.evaluate.prompts import Message
from orrery.evaluate.scorers.base import open_sandbox
from orrery.evaluate.scorers.numeric import number_key
from orrery.evaluate.strategies.beam import beam
from orrery.evaluate.strategies.budget import budget_forcing
from orrery.evaluate.strategies.config import (
    Beam,
    BestOfN,
    BudgetForcing,
    ChainOfThought,
    Direct,
    ProgramAided,
    SelfConsistency,
    SelfRefine,
    Strategy,
    Tree,
    parse,
)
from orrery.evaluate.strategies.games import game_of
from orrery.evaluate.strategies.judging import Reward, require_judge
from orrery.evaluate.strategies.play import Answer, Play, side_by_side
from orrery.evaluate.strategies.program import program_aided
from orrery.evaluate.strategies.refine import self_refine
from orrery.evaluate.strategies.sampling import best_of_n, chain_of_thought, direct, self_consistency
from orrery.evaluate.strategies.tree import tree
from orrery.evaluate.strategies.voice import Check, Key, Question, Voice
from orrery.evaluate.subject import Subject
from orrery.kit.errors import OrreryError
from orrery.serve.engine.engine import Engine
from orrery.serve.lm import LM

TOGETHER = 64
"""Questions whose strategies run side by side."""


def last_number(text: str) -> object:
    """The final number of a text, as votes count it."""
    return number_key(text, {})


def answer(
    strategy: Strategy | str,
    model: LM | Engine | Subject,
    prompt: str | Sequence[Message],
    *,
    seed: int = 0,
    max_tokens: int = 256,
    stop: tuple[str, ...] = (),
    key: Key = last_number,
    check: Check | None = None,
    reward: Reward | None = None,
) -> Answer:
    """The answer to a text, or to messages by the model's chat format.

    Args:
        key: the final answer of a text as votes count it. check: a verifier, how good a text is as an answer.
        reward: numbers for conversations that end with an answer or its beginning.
        stop: ends a base model's answer.

    Raises:
        OrreryError: the model, or what was given here, is not enough for the strategy; or the prompt leaves no room for an answer.
    """
    strategy = parse(strategy) if isinstance(strategy, str) else strategy
    talks = not isinstance(prompt, str)
    question = Question(
        text="" if talks else str(prompt), messages=tuple(prompt) if talks else None,  # type: ignore[arg-type]
        own=str(prompt[-1]["content"]) if talks else str(prompt), key=key, check=check,  # type: ignore[index]
    )  # fmt: skip
    voice = Voice(subject=Subject.of(model), max_tokens=max_tokens, stop=stop)
    ((_, found),) = answers(strategy, voice, [question], [seed], reward=reward)
    if found.fault:
        raise OrreryError(found.fault)
    return found


def answers(
    strategy: Strategy, voice: Voice, questions: Sequence[Question], seeds: Sequence[int], *, reward: Reward | None = None
) -> Iterator[tuple[int, Answer]]:  # fmt: skip
    """The answers to many questions with their places, as they become ready; each draws from its own seed.

    Raises:
        OrreryError: as `answer`; a prompt without room is told in `Answer.fault`.
    """
    for begin in range(0, len(questions), TOGETHER):
        together = list(
            zip(questions[begin : begin + TOGETHER], seeds[begin : begin + TOGETHER], strict=True)
        )
        for question, _ in together:
            require(strategy, voice, question, reward)
        plays = [play(strategy, voice, question, seed, reward) for question, seed in together]
        for place, found in side_by_side(plays, voice.subject.generate):
            yield begin + place, found


def play(strategy: Strategy, voice: Voice, question: Question, seed: int, reward: Reward | None) -> Play:
    """The strategy at work on a question."""
    match strategy:
        case Direct():
            return direct(strategy, voice, question, seed)
        case ChainOfThought():
            return chain_of_thought(strategy, voice, question, seed)
        case SelfConsistency():
            return self_consistency(strategy, voice, question, seed)
        case BestOfN():
            return best_of_n(strategy, voice, question, seed, reward)
        case Beam():
            return beam(strategy, voice, question, seed, reward)
        case Tree():
            return tree(strategy, game_of(strategy, question), voice, question, seed)
        case BudgetForcing():
            return budget_forcing(strategy, voice, question, seed)
        case SelfRefine():
            return self_refine(strategy, voice, question, seed)
        case ProgramAided():
            return program_aided(strategy, voice, question, seed)


def _needs_chat(kind: str, subject: Subject) -> str:
    what = {"budget-forcing": "holds the thinking of a chat", "self-refine": "is a conversation"}[kind]
    if subject.chat is None:
        return f"{kind} {what}, and '{subject.name}' is a base model without a chat format; choose another strategy, such as cot"
    return f"{kind} {what}; ask by the chat format, without --no-chat"


def require(strategy: Strategy, voice: Voice, question: Question, reward: Reward | None) -> None:
    """Refuse what cannot work, before anything is asked.

    Raises:
        OrreryError: says what is missing, and what to do.
    """
    match strategy:
        case SelfConsistency() if question.key is None:
            raise OrreryError(
                "self-consistency votes on final answers, and none can be read out of answers like these; choose best-of-n"
            )
        case BestOfN(by="verifier") if question.check is None:
            raise OrreryError(
                "best-of-n by verifier needs a check of answers; give one, or choose by=likelihood"
            )
        case BestOfN() | Beam():
            require_judge(strategy, reward)
        case Tree(game="thoughts", evaluator="exact"):
            raise OrreryError("nobody can tell exactly what a free thought is worth; choose evaluator=model")
        case BudgetForcing() | SelfRefine() if question.messages is None:
            raise OrreryError(_needs_chat(strategy.kind, voice.subject))
        case BudgetForcing():
            voice.marks()
        case ProgramAided():
            open_sandbox()
