"""Items as ids of an exact length: the prompt's frame, the context's size, and the last few tokens of padding.

The size is the largest whose prompt is not too long, found by halving; what is still lacking is filled up with full stops behind the
context. Contexts are cut at their end and the question stands last, so that prompts over the same hay begin alike and the engine
reads what they share once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orrery.evaluate.long_context.item import Item
from orrery.kit.errors import OrreryError
from orrery.text.chat import ChatFormat
from orrery.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from orrery.serve.lm import LM

PADS = (" .", ".", "\n", " ,")
STEPS_BACK = 12
"""So many units are given up where no padding makes the length exact."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """How a question becomes ids: by the chat format, or as plain text behind BOS for a base model (`chat` None)."""

    tokenizer: Tokenizer
    chat: ChatFormat | None = None

    @classmethod
    def of(cls, lm: LM) -> Frame:
        """The frame of a loaded model."""
        return cls(tokenizer=lm.tokenizer, chat=lm.chat)

    def ids(self, item: Item, context: str) -> list[int]:
        """The whole prompt."""
        body = "\n\n".join(part for part in (item.intro, context, item.question) if part)
        if self.chat is not None:
            return self.chat.prompt([{"role": "user", "content": body}])
        bos = self.tokenizer.bos_id is not None
        return self.tokenizer.encode(f"{body}\n{item.lead}", bos=bos)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """An item as the model is asked it: `size` units of context, `ids` of the prompt, `stop` texts where the answer is over."""

    item: Item
    size: int
    ids: tuple[int, ...]
    stop: tuple[str, ...] = ()

    @property
    def length(self) -> int:
        """Tokens of the prompt."""
        return len(self.ids)


def sized(item: Item, frame: Frame, size: int) -> Trial:
    """The item over `size` units of context, however long that is."""
    return _trial(item, frame, size, frame.ids(item, item.context(size)))


def fitted(item: Item, frame: Frame, length: int) -> Trial:
    """The item as a prompt of exactly `length` tokens, frame, question and lead included.

    Raises:
        OrreryError: the item does not fit, or the tokenizer makes every padding longer or shorter than is lacking.
    """
    if (shortest := sized(item, frame, item.least).length) > length:
        raise OrreryError(
            f"an item of '{item.task}' takes {shortest} tokens at least; {length} are too few: ask for longer prompts"
        )
    low, high = item.least, item.least + length  # a unit is a token at least
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if sized(item, frame, middle).length <= length else (low, middle - 1)
    for size in range(low, max(low - STEPS_BACK, item.least) - 1, -1):
        context = item.context(size)
        lacking = length - len(frame.ids(item, context))
        for pad in PADS:
            for times in range(lacking + 1):
                ids = frame.ids(item, context + pad * times)
                if len(ids) >= length:
                    if len(ids) == length:
                        return _trial(item, frame, size, ids)
                    break
    raise OrreryError(
        f"no padding brings an item of '{item.task}' to {length} tokens with this tokenizer; ask for another length"
    )


def _trial(item: Item, frame: Frame, size: int, ids: list[int]) -> Trial:
    """A chat model ends its answer by itself."""
    return Trial(item=item, size=size, ids=tuple(ids), stop=item.stop if frame.chat is None else ())
