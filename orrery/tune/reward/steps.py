"""The steps of an answer: where each ends in the text and among the ids, and what their scores come to.

first line . second line . third line         a score is read at the last id of each
min, product, last                            of their probabilities of being right (Lightman et al. 2023, arXiv:2305.20050, appendix F)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.text.tokenizer import Tokenizer
from orrery.tune.reward.config import Aggregate


def step_ends(text: str, separator: str) -> list[int]:
    """Where each step of a text ends, in characters; what is only space is no step, and spaces behind a step are not part of it."""
    ends: list[int] = []
    at = 0
    for part in text.split(separator):
        if part.strip():
            ends.append(at + len(part.rstrip()))
        at += len(part) + len(separator)
    return ends


def joined(steps: Sequence[str], separator: str) -> tuple[str, list[int]]:
    """Steps as one text, and where each ends in it."""
    text, ends = "", []
    for n, step in enumerate(steps):
        text += separator * bool(n) + step
        ends.append(len(text.rstrip()))
    return text, ends


def step_places(
    tokenizer: Tokenizer, ids: Sequence[int], written: Sequence[int], text: str, ends: Sequence[int]
) -> tuple[int, ...]:
    """The place among `ids` of the last id of each step.

    Args:
        written: the places of the ids that the answer was written with.
        text: the answer. ends: where its steps end, in characters.

    Raises:
        OrreryError: the chat format has changed the answer, so that its steps are not to be found again.
    """
    own = [ids[place] for place in written]
    said = tokenizer.decode_bytes(own)
    begin = said.find(text.strip().encode())
    if begin < 0:
        raise OrreryError(
            "the chat format changes the answer as it writes it, so its steps cannot be found; choose another chat_template"
        )
    lead = len(text) - len(text.lstrip())
    goals = [begin + len(text[lead:end].encode()) for end in ends]
    places: list[int] = []
    for k, place in enumerate(written):
        reached = len(tokenizer.decode_bytes(own[: k + 1]))
        while len(places) < len(goals) and reached >= goals[len(places)]:
            places.append(place)
    return tuple(places)


def aggregate_steps(scores: Tensor, how: Aggregate) -> Tensor:
    """(steps,) logits of the steps of one answer -> a probability, (); 0 of no steps."""
    right = torch.sigmoid(scores)
    if not len(right):
        return right.new_zeros(())
    return {"min": right.min, "product": right.prod, "last": lambda: right[-1]}[how]()
