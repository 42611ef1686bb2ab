"""From comparisons to ids: a prompt, the answers to it that are read together, and which of their ids the model is to write.

pair     two answers: the better, the worse
thumb    one answer, up or down; and, for KTO's reference point, one that belongs to another prompt
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from orrery.kit.errors import OrreryError
from orrery.kit.seeds import key
from orrery.tune.dialogue import Dialogue
from orrery.tune.examples import Example, Renderer
from orrery.tune.preference.records import Messages, Pair, Thumb, answers_of

Long = Literal["error", "drop", "left", "right"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """What is read in one piece.

    Attributes:
        head: the ids that all its answers begin with: the prompt. tails: what follows in each.
        learned: for each tail, where in it stand the ids that the model is to write.
        up: of a thumb; None: a pair. where: the file and line.
        other: for a thumb, a further tail and its learned places: an answer to another prompt.
    """

    head: tuple[int, ...]
    tails: tuple[tuple[int, ...], ...]
    learned: tuple[tuple[int, ...], ...]
    where: str
    up: bool | None = None
    other: Item | None = field(default=None, repr=False)

    @property
    def longest(self) -> int:
        """Ids of the prompt with the longest answer."""
        return len(self.head) + max(map(len, self.tails))


@dataclass
class Fitted:
    """What lengths cost: of `items` read, `too_long` were, and `dropped` of these were left out; the others were cut."""

    context: int
    policy: Long
    items: int = 0
    too_long: int = 0
    dropped: int = 0
    longest: int = 0

    def sentence(self) -> str:
        """For a person; empty where nothing was lost."""
        if not self.too_long:
            return ""
        return (
            f"{self.too_long:,} of {self.items:,} comparisons are longer than {self.context} tokens (the longest {self.longest:,}); "
            f"'{self.policy}' left {self.dropped:,} out and cut {self.too_long - self.dropped:,}"
        )


def items_of(records: Sequence[Pair | Thumb], renderer: Renderer, fitted: Fitted) -> list[Item]:
    """The items of records, fitted to `fitted.context` tokens by `fitted.policy`, which counts what that costs.

    Raises:
        OrreryError: a record that the chat format refuses, or one that is too long where the policy is "error"; names the row.
    """
    found = []
    for record in records:
        item = fit(rendered(record, renderer), fitted)
        found += [] if item is None else [item]
    return found


def rendered(record: Pair | Thumb, renderer: Renderer) -> Item:
    """A record as ids; the head is all that its answers share before the first id to be written.

    Raises:
        OrreryError: the chat format refuses it; names the row.
    """
    silent = frozenset(range(len(record.messages)))
    read = [_whole(renderer, record.messages, answer, record, silent) for answer in answers_of(record)]
    first = min(next(i for i, weight in enumerate(one.weights) if weight and i) for one in read)
    columns = zip(*(one.ids for one in read), strict=False)
    head = next((i for i, ids in enumerate(columns) if i == first or len(set(ids)) > 1), first)
    if not head:
        raise OrreryError(
            f"{record.where}: the chat format begins the two answers differently; choose another chat_template"
        )
    return Item(
        head=read[0].ids[:head], tails=tuple(one.ids[head:] for one in read),
        learned=tuple(tuple(i - head for i, weight in enumerate(one.weights) if weight and i >= head) for one in read),
        where=record.where, up=record.up if isinstance(record, Thumb) else None,
    )  # fmt: skip


def fit(item: Item, fitted: Fitted) -> Item | None:
    """The item as it fits; None where it is left out: by policy, or because nothing would be left to learn of an answer.

    Raises:
        OrreryError: it is too long and the policy is "error".
    """
    fitted.items += 1
    fitted.longest = max(fitted.longest, item.longest)
    over = item.longest - 1 - fitted.context  # the last id is only predicted
    if over <= 0:
        return item
    fitted.too_long += 1
    if fitted.policy == "error":
        raise OrreryError(
            f"{item.where}: {item.longest:,} tokens do not fit into loader.context={fitted.context}; raise it, or choose what to do by "
            "loader.long: drop, left or right"
        )
    cut: Item | None = None
    if fitted.policy == "left" and over < len(item.head):
        cut = replace(item, head=item.head[over:])
    if fitted.policy == "right" and len(item.head) <= fitted.context:
        cut = shortened(item, fitted.context + 1 - len(item.head))
    if cut is None or not all(cut.learned):
        fitted.dropped += 1
        return None
    return cut


def shortened(item: Item, room: int) -> Item:
    """The item with the ends of its answers cut off at `room` tokens."""
    return replace(
        item, tails=tuple(tail[:room] for tail in item.tails),
        learned=tuple(tuple(i for i in places if i < room) for places in item.learned),
    )  # fmt: skip


def mismatched(items: Sequence[Item], *, context: int, seed: int) -> list[Item]:
    """Thumbs each with an answer that belongs to another prompt, the next with other ids in an order drawn by `seed`.

    Raises:
        OrreryError: all have one prompt.
    """
    order = sorted(range(len(items)), key=lambda i: key(seed, "mismatched", i))
    if len({item.head for item in items}) < 2:
        raise OrreryError("KTO's reference point needs answers to two prompts or more; add rows")
    found = list(items)
    for at, number in enumerate(order):
        item, step = items[number], 1
        while items[order[(at + step) % len(order)]].head == item.head:
            step += 1
        partner = items[order[(at + step) % len(order)]]
        begin = partner.learned[0][0]  # what stands before belongs to that prompt
        tail, places = partner.tails[0][begin:], tuple(i - begin for i in partner.learned[0])
        before = item.tails[0][: item.learned[0][0]]
        whole = replace(
            item, tails=(before + tail,), learned=(tuple(i + len(before) for i in places),), up=None, where=partner.where
        )  # fmt: skip
        found[number] = replace(item, other=shortened(whole, context + 1 - len(item.head)))
    return found


def fingerprint_of(items: Sequence[Item]) -> str:
    """SHA-256 of all that is read and learned."""
    total = hashlib.sha256()
    for item in items:
        total.update(repr((item.head, item.tails, item.learned, item.up, item.other)).encode())
    return total.hexdigest()


def _whole(
    renderer: Renderer, messages: Messages, answer: Messages, record: Pair | Thumb, silent: frozenset[int]
) -> Example:
    dialogue = Dialogue((*messages, *answer), record.where, record.tools, silent)
    made = renderer.examples(dialogue)
    return made[
        -1
    ]  # where the format rewrites earlier turns: the last answer, behind the prompt it would have
