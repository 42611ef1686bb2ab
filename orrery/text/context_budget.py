"""Context engineering: what of instructions, history, retrieved passages and tool outputs goes into a prompt of limited length.

    made = assemble(chat, question="...", instructions="...", history=messages, passages=[Passage(text=..., score=0.8)], limit=4096)
    made.ids, made.messages         # the prompt, at most 4096 tokens by the chat format's own count
    made.fates                      # what became of everything: kept, compacted, dropped, repeated

Instructions and question are always there. The rest is ranked: history from the newest exchange backwards, passages by score. Each kind
first fills its share of the room, then takes what others do not need. What does not fit is made shorter or dropped, and either is told. An
exchange (a user's message with all that answers it, tool calls and results too) stays or goes as a whole, and history has no holes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from orrery.kit.errors import OrreryError
from orrery.text.chat import ChatFormat, Message
from orrery.text.compaction import extract, head_and_tail
from orrery.text.tokenizer import Tokenizer

Kind = Literal["history", "retrieved", "tool"]
Action = Literal["kept", "compacted", "dropped", "repeated"]
Compact = Callable[[str, str, int, Tokenizer], str]
"""(text, question, tokens, tokenizer) -> at most so many tokens of it, "" where that makes no sense."""
KINDS: tuple[Kind, ...] = ("history", "retrieved", "tool")
SHARES: Mapping[Kind, float] = MappingProxyType({"history": 0.4, "retrieved": 0.4, "tool": 0.2})
COMPACT: Mapping[str, Compact] = MappingProxyType({"retrieved": extract, "tool": head_and_tail})
LEAST = 24
"""Passages are not cut to fewer tokens than this; they are dropped."""


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A piece of text from outside; of a higher `score` it is wanted more."""

    text: str
    name: str = ""
    score: float = 0.0
    kind: Literal["retrieved", "tool"] = "retrieved"


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What became of one candidate: its tokens as it was given, and those of what stands in the prompt."""

    kind: Kind
    name: str
    action: Action
    tokens: int
    kept: int


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """The prompt, and the report: one fate for every exchange and passage, in the order they were given."""

    messages: tuple[Message, ...]
    ids: tuple[int, ...]
    fates: tuple[Fate, ...]
    limit: int

    @property
    def lost_tokens(self) -> int:
        """Tokens that were given and do not stand in the prompt."""
        return sum(fate.tokens - fate.kept for fate in self.fates)


@dataclass(frozen=True)
class _Draft:
    """A prompt in the making: exchanges newest first, passages best first."""

    instructions: str
    question: str
    exchanges: tuple[tuple[Message, ...], ...] = ()
    passages: tuple[Passage, ...] = ()
    edges: bool = False

    def messages(self) -> list[Message]:
        system = [{"role": "system", "content": self.instructions}] if self.instructions else []
        history = [message for exchange in reversed(self.exchanges) for message in exchange]
        parts = []
        for kind, heading in (("retrieved", "Documents"), ("tool", "Results of tools")):
            mine = [p for p in self.passages if p.kind == kind]
            if self.edges:  # the best first, the second best last, the worst in the middle
                mine = mine[::2] + mine[1::2][::-1]
            if mine:
                told = (
                    f"[{i}] {p.name + ': ' if p.name else ''}{p.text}" for i, p in enumerate(mine, start=1)
                )
                parts.append(f"{heading}:\n" + "\n".join(told))
        return [*system, *history, {"role": "user", "content": "\n\n".join([*parts, self.question])}]


def assemble(
    chat: ChatFormat,
    *,
    question: str,
    limit: int,
    instructions: str = "",
    history: Sequence[Message] = (),
    passages: Sequence[Passage] = (),
    shares: Mapping[Kind, float] = SHARES,
    compact: Mapping[str, Compact] = COMPACT,
    order: Literal["rank", "edges"] = "rank",
) -> Assembled:
    """A prompt of at most `limit` tokens, counted on the ids the model reads.

    Args:
        shares: of the room that instructions and question leave, what each kind may fill before the others have had theirs.
        compact: how passages of a kind are made shorter.
        order: "rank" puts the best passage first, "edges" the best at both ends and the worst in the middle.

    Raises:
        OrreryError: instructions and question alone are too long; or history that does not begin with a user's message.
    """
    tokenizer = chat.tokenizer
    exchanges = _exchanges(history)
    draft = _Draft(instructions, question, edges=order == "edges")

    def length(made: _Draft) -> int:
        return len(chat.prompt(made.messages()))

    least = length(draft)
    if least > limit:
        raise OrreryError(
            f"instructions and question take {least} tokens, more than the limit of {limit}; shorten them"
        )
    fates: dict[tuple[Kind, int], Fate] = {}

    def settle(kind: Kind, i: int, action: Action, text: str, kept: str = "") -> None:
        name = passages[i].name if kind != "history" else f"exchange {i + 1}"
        fates[kind, i] = Fate(
            kind=kind,
            name=name,
            action=action,
            tokens=len(tokenizer.encode(text)),
            kept=len(tokenizer.encode(kept)),
        )

    waiting: dict[Kind, list[int]] = {
        "history": list(range(len(exchanges)))[::-1],
        "retrieved": [],
        "tool": [],
    }
    seen: list[str] = []
    for i in sorted(range(len(passages)), key=lambda i: (-passages[i].score, i)):
        plain = " ".join(passages[i].text.split())
        if any(plain in other for other in seen):
            settle(passages[i].kind, i, "repeated", passages[i].text)
        else:
            seen.append(plain)
            waiting[passages[i].kind].append(i)

    share = {kind: int(shares.get(kind, 0.0) * (limit - least)) for kind in KINDS}
    for last in (False, True):
        for n, kind in enumerate(KINDS):
            start = length(draft)
            others = sum(share[later] for later in KINDS[n + 1 :] if waiting[later])
            ceiling = limit - others if last else min(limit, start + share[kind])
            while waiting[kind]:
                i = waiting[kind][0]
                text = _text(exchanges[i]) if kind == "history" else passages[i].text
                larger = _with(draft, exchanges[i] if kind == "history" else passages[i])
                if length(larger) <= ceiling:
                    draft = larger
                    settle(kind, i, "kept", text, text)
                elif not last:
                    break
                elif kind == "history":  # the older ones go too
                    for older in waiting[kind]:
                        settle(kind, older, "dropped", _text(exchanges[older]))
                    waiting[kind] = []
                    break
                else:
                    shorter = _shortened(draft, passages[i], ceiling, length, compact[kind], tokenizer)
                    if shorter is None:
                        settle(kind, i, "dropped", text)
                    else:
                        draft = _with(draft, shorter)
                        settle(kind, i, "compacted", text, shorter.text)
                waiting[kind].pop(0)
            share[kind] = max(
                0, share[kind] - (length(draft) - start)
            )  # what is left of it, for the second round
    given: list[tuple[Kind, int]] = [("history", i) for i in range(len(exchanges))]
    given += [(passage.kind, i) for i, passage in enumerate(passages)]
    messages = draft.messages()
    return Assembled(
        messages=tuple(messages),
        ids=tuple(chat.prompt(messages)),
        fates=tuple(fates[key] for key in given),
        limit=limit,
    )


def _with(draft: _Draft, more: tuple[Message, ...] | Passage) -> _Draft:
    if isinstance(more, Passage):
        ranked = sorted([*draft.passages, more], key=lambda p: -p.score)
        return replace(draft, passages=tuple(ranked))
    return replace(draft, exchanges=(*draft.exchanges, more))


def _shortened(
    draft: _Draft,
    passage: Passage,
    limit: int,
    length: Callable[[_Draft], int],
    compact: Compact,
    tokenizer: Tokenizer,
) -> Passage | None:
    """The passage made to fit, None where too little of it would be left."""
    room = limit - length(_with(draft, replace(passage, text="")))
    while room >= LEAST:
        text = compact(passage.text, draft.question, room, tokenizer)
        if not text:
            return None
        made = replace(passage, text=text)
        over = length(_with(draft, made)) - limit
        if over <= 0:
            return made
        room -= over  # tokens at the seams
    return None


def _exchanges(history: Sequence[Message]) -> list[tuple[Message, ...]]:
    """Each user's message with what follows it up to the next."""
    exchanges: list[list[Message]] = []
    for i, message in enumerate(history):
        if message.get("role") == "user":
            exchanges.append([message])
        elif not exchanges:
            raise OrreryError(
                f"history begins with a message of role {message.get('role')!r} (message {i}); it should begin with a user's, "
                "and instructions belong into `instructions`"
            )
        else:
            exchanges[-1].append(message)
    return [tuple(exchange) for exchange in exchanges]


def _text(exchange: Sequence[Message]) -> str:
    return "\n".join(str(message.get("content") or "") for message in exchange)
