"""A conversation as ids, with a role for every id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

Message = Mapping[str, Any]


class Role(IntEnum):
    """Whose an id is. ASSISTANT ids are those the model writes: the turn's text, calls and end, not its header."""

    STRUCTURE = 0
    SYSTEM = 1
    USER = 2
    ASSISTANT = 3
    TOOL = 4


@dataclass(frozen=True)
class Rendered:
    """A conversation as ids; `roles[i]` and `turns[i]` (index of the message, -1 outside) belong to `ids[i]`."""

    ids: list[int] = field(default_factory=list)
    roles: list[Role] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    """The text, in parts."""
    mask_method: str = "ids"
    """How the assistant's ids were found: "ids" (our own format), "generation" (the template says so), "turns" (see
    `assistant_spans`)."""

    def add(self, ids: Sequence[int], role: Role, turn: int, text: str) -> None:
        """Append ids of one role, and the text they stand for."""
        self.ids.extend(ids)
        self.pieces.append(text)
        self.roles.extend([role] * len(ids))
        self.turns.extend([turn] * len(ids))

    @property
    def text(self) -> str:
        """What the ids stand for: the string that other tools would render."""
        return "".join(self.pieces)

    @property
    def assistant_mask(self) -> list[int]:
        """1 for every id the model is to write, 0 for every other."""
        return [int(role == Role.ASSISTANT) for role in self.roles]
