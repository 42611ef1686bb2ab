"""Where everything that was made has gone: kept, or left out and why; and the rows themselves.

drawn == kept + sum(filtered)          always: `Account.balanced`
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Account:
    """What became of what was drawn.

    Attributes:
        drawn: candidates (answers, instructions, conversations: what the method makes). kept: those in the examples.
        filtered: by reason, those left out.
        numbers: what was measured on the way (pass rates, rewards, agreement).
    """

    drawn: int = 0
    kept: int = 0
    filtered: Counter[str] = field(default_factory=Counter)
    numbers: dict[str, float | None] = field(default_factory=dict)

    def keep(self, n: int = 1) -> None:
        """Count candidates that are kept."""
        self.drawn += n
        self.kept += n

    def drop(self, reason: str, n: int = 1) -> None:
        """Count candidates that are left out."""
        self.drawn += n
        self.filtered[reason] += n

    @property
    def balanced(self) -> bool:
        """Whether nothing is missing."""
        return self.drawn == self.kept + self.filtered.total()

    def to_dict(self) -> dict[str, Any]:
        """For account.json and the receipt."""
        return {
            "drawn": self.drawn, "kept": self.kept, "filtered": dict(self.filtered.most_common()), "numbers": dict(self.numbers),
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a method made: conversations to learn, pairs of a better and a worse answer, and the account of it all."""

    examples: tuple[Mapping[str, Any], ...]
    account: Account
    pairs: tuple[Mapping[str, Any], ...] = ()


def example(messages: Sequence[Mapping[str, Any]], answer: Mapping[str, Any]) -> dict[str, Any]:
    """A row to learn: what was asked, and what was said."""
    return {"messages": [*map(dict, messages), {"role": "assistant", **answer}]}


def pair(messages: Sequence[Mapping[str, Any]], chosen: str, rejected: str, **more: Any) -> dict[str, Any]:
    """A row of a preference; `more` tells how sure it is."""
    return {"messages": [*map(dict, messages)], "chosen": chosen, "rejected": rejected, **more}


def mean(values: Sequence[float]) -> float | None:
    """The mean; None of nothing."""
    return sum(values) / len(values) if values else None
