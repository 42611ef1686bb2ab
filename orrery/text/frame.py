"""What a tokenizer's own description puts around a text: [CLS] text [SEP] for BERT, <s> text </s> for RoBERTa, nothing for most.

A language model's BOS and EOS are asked for (`Tokenizer.encode(bos=True)`); encoders were trained with these frames always.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Frame:
    """Ids before and after a text."""

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        return len(self.before) + len(self.after)

    def around(self, ids: Iterable[int], *, limit: int | None = None) -> list[int]:
        """The framed text, its end cut off where it would be longer than `limit` tokens with the frame."""
        inner = [int(i) for i in ids]
        return [*self.before, *inner[: None if limit is None else max(limit - self.length, 0)], *self.after]


def frame_of(tokenizer: Tokenizer) -> Frame:
    """The frame of a single text.

    Raises:
        OrreryError: a kind of post-processing we do not know.
    """
    return _frame(tokenizer.spec.get("post_processor"))


def _frame(processor: dict[str, Any] | None) -> Frame:
    match (processor or {}).get("type"):
        case None | "ByteLevel":
            return Frame()
        case "BertProcessing" | "RobertaProcessing":
            assert processor is not None
            return Frame((processor["cls"][1],), (processor["sep"][1],))
        case "TemplateProcessing":
            assert processor is not None
            return _template(processor)
        case "Sequence":
            assert processor is not None
            inner = Frame()
            for part in map(_frame, processor["processors"]):
                inner = Frame(part.before + inner.before, inner.after + part.after)
            return inner
        case kind:
            raise OrreryError(f"the tokenizer's post_processor '{kind}' is not known; known are BertProcessing, "
                              "RobertaProcessing, TemplateProcessing, ByteLevel and Sequence")  # fmt: skip


def _template(processor: dict[str, Any]) -> Frame:
    sides: tuple[list[int], list[int]] = ([], [])
    seen = False
    for piece in processor["single"]:
        if "Sequence" in piece:
            seen = True
        else:
            sides[seen].extend(processor["special_tokens"][piece["SpecialToken"]["id"]]["ids"])
    return Frame(tuple(sides[0]), tuple(sides[1]))
