"""From pairs, verdicts and steps to what a reward model reads: ids, the places where a score is read, and what it should say.

pair       two answers to one prompt, a score at the last id of each
verdict    one answer, a score at its last id
steps      one answer, a score at the last id of each of its steps
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.tune.dialogue import Dialogue
from orrery.tune.examples import Example, Renderer
from orrery.tune.preference.records import Messages, Pair, Thumb
from orrery.tune.reward.config import RewardConfig, RewardLoaderConfig
from orrery.tune.reward.labelled import Stepped
from orrery.tune.reward.steps import joined, step_places


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Answers that are read together because they begin alike.

    Attributes:
        ids: each with its prompt. places: where in each a score is read.
        labels: one a score, in order; of a pair 1 and 0. margin: nats by which a pair's first should lead.
        where: the file and line.
    """

    ids: tuple[tuple[int, ...], ...]
    places: tuple[tuple[int, ...], ...]
    labels: tuple[float, ...] = ()
    margin: float = 0.0
    where: str = ""

    @property
    def common(self) -> int:
        """How many ids all begin with."""
        columns = enumerate(zip(*self.ids, strict=False))
        return next((n for n, column in columns if len(set(column)) > 1), min(map(len, self.ids)))

    @property
    def longest(self) -> int:
        """Ids of the longest answer with its prompt."""
        return max(map(len, self.ids))


def whole(
    renderer: Renderer,
    messages: Sequence[Mapping[str, Any]],
    *,
    silent: int = 0,
    where: str = "",
    tools: Any = (),
) -> Example:
    """A conversation that ends with the answer in question, up to its last id.

    Args:
        silent: messages of the prompt: no answer that is judged.

    Raises:
        OrreryError: the chat format refuses it, or leaves the answer out.
    """
    told = tuple(dict(message) for message in messages)
    dialogue = Dialogue(told, where or "a conversation", tuple(tools), frozenset(range(silent)))
    if not dialogue.learned:
        raise OrreryError(f"{dialogue.where}: there is no answer to judge; end it with the assistant's turn")
    return renderer.examples(dialogue)[-1]


Told = Pair | Thumb | Stepped
"""What somebody, or a checker, said of answers."""


def item_of(record: Told, renderer: Renderer, cfg: RewardConfig) -> Item:
    """What a reward model reads of a record.

    Raises:
        OrreryError: the chat format cannot write it (names its row).
    """
    match record:
        case Pair():
            return pair_item(record, renderer, cfg)
        case Thumb():
            return verdict_item(record, renderer)
    return steps_item(record, renderer, cfg)


def pair_item(pair: Pair, renderer: Renderer, cfg: RewardConfig) -> Item:
    """A comparison."""
    ids = tuple(_answered(renderer, pair, answer).ids for answer in (pair.chosen, pair.rejected))
    margin = cfg.margin if pair.margin is None else max(0.0, pair.margin) * cfg.margin_of_rows + cfg.margin
    return Item(
        ids=ids,
        places=tuple((len(one) - 1,) for one in ids),
        labels=(1.0, 0.0),
        margin=margin,
        where=pair.where,
    )


def verdict_item(thumb: Thumb, renderer: Renderer) -> Item:
    """An answer that is right or wrong."""
    ids = _answered(renderer, thumb, thumb.answer).ids
    return Item(ids=(ids,), places=((len(ids) - 1,),), labels=(float(thumb.up),), where=thumb.where)


def steps_item(row: Stepped, renderer: Renderer, cfg: RewardConfig) -> Item:
    """An answer whose steps are right or wrong."""
    text, ends = joined(row.steps, cfg.separator)
    answer = {"role": "assistant", "content": text}
    example = whole(renderer, [*row.messages, answer], silent=len(row.messages), where=row.where)
    places = answer_places(renderer, example, text, ends)
    return Item(ids=(example.ids,), places=(places,), labels=row.labels, where=row.where)


def answer_places(renderer: Renderer, example: Example, text: str, ends: Sequence[int]) -> tuple[int, ...]:
    """Where among an example's ids the steps of its answer end."""
    written = [place for place, weight in enumerate(example.weights) if weight]
    try:
        return step_places(renderer.tokenizer, example.ids, written, text, ends)
    except OrreryError as error:
        raise OrreryError(f"{example.where}: {error}") from None


def fitted(
    items: Sequence[Item],
    cfg: RewardLoaderConfig,
    *,
    virtual: int = 0,
    bos: int | None = None,
) -> tuple[list[Item], int]:
    """The items that fit into the context, cut where `cfg.long` says so, and how many were left out.

    Args:
        virtual: ids that stand before everything for an adapter's virtual tokens.
        bos: the id that stays in front where a beginning is cut off.

    Raises:
        OrreryError: one is too long and that is an error (names its row).
    """
    room = cfg.context - virtual
    kept: list[Item] = []
    for item in items:
        if item.longest <= room:
            kept.append(item)
        elif cfg.long == "error":
            raise OrreryError(
                f"{item.where}: {item.longest:,} tokens do not fit into loader.context={room}; raise it, or set loader.long to left, right or drop"
            )
        elif cfg.long != "drop":
            cut = cut_left(item, room, bos) if cfg.long == "left" else cut_right(item, room)
            kept += [] if cut is None else [cut]
    return kept, len(items) - len(kept)


def cut_left(item: Item, room: int, bos: int | None) -> Item | None:
    """The item without the beginning of its prompt; None where that would cut an answer, or a step that is judged."""
    keep = int(bos is not None and item.ids[0][0] == bos)
    lost = item.longest - room
    first = min(places[0] for places in item.places)
    if lost > min(item.common - 1, first) - keep:
        return None
    return replace(
        item, ids=tuple(one[:keep] + one[keep + lost :] for one in item.ids),
        places=tuple(tuple(place - lost for place in places) for places in item.places),
    )  # fmt: skip


def cut_right(item: Item, room: int) -> Item | None:
    """The item without the ends of its answers, which are then judged at their last id left; None where nothing is left to compare, or a
    step goes."""
    if any(len(places) > 1 and places[-1] >= room for places in item.places):
        return None
    ids = tuple(one[:room] for one in item.ids)
    if len(ids) > len(set(ids)):
        return None
    return replace(
        item, ids=ids, places=tuple((*places[:-1], min(places[-1], room - 1)) for places in item.places)
    )


def fingerprint_of(items: Sequence[Item]) -> str:
    """SHA-256 of all that a run learns from items."""
    total = hashlib.sha256()
    for item in items:
        total.update(repr((item.ids, item.places, item.labels, item.margin)).encode())
    return total.hexdigest()


def _answered(renderer: Renderer, record: Pair | Thumb, answer: Messages) -> Example:
    return whole(
        renderer,
        [*record.messages, *answer],
        silent=len(record.messages),
        where=record.where,
        tools=record.tools,
    )
