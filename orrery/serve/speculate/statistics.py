"""What speculation has gained: how many drafts were kept, by their place in the draft."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from orrery.serve.speculate.drafter import Draft


@dataclass
class AcceptanceStatistics:
    """Counts over passes of the model, one for each sequence in a pass.

    Attributes:
        drafted: by depth, in how many passes a draft reached there (a tree counts once for each depth).
        accepted: by depth, in how many of them a draft of that depth was kept.
        nodes: tokens drafted in all, every node of a tree.
    """

    passes: int = 0
    nodes: int = 0
    drafted: Counter[int] = field(default_factory=Counter)
    accepted: Counter[int] = field(default_factory=Counter)

    def record(self, draft: Draft, accepted: int) -> None:
        """One pass in which the first `accepted` depths of a branch of `draft` were kept."""
        self.passes += 1
        self.nodes += len(draft)
        self.drafted.update(range(max(draft.depths, default=-1) + 1))
        self.accepted.update(range(accepted))

    def add(self, other: AcceptanceStatistics) -> None:
        """Take in what was counted elsewhere."""
        self.passes += other.passes
        self.nodes += other.nodes
        self.drafted.update(other.drafted)
        self.accepted.update(other.accepted)

    @property
    def kept(self) -> int:
        """Drafted tokens that were kept."""
        return self.accepted.total()

    @property
    def mean_accepted_length(self) -> float:
        """Tokens gained a pass, the model's own included: 1 without speculation."""
        return 1 + self.kept / max(self.passes, 1)

    @property
    def rate(self) -> float:
        """Kept tokens as a share of all drafted ones."""
        return self.kept / max(self.nodes, 1)

    def by_position(self) -> tuple[float, ...]:
        """For each depth, how often a draft was kept where one was made."""
        return tuple(self.accepted[d] / self.drafted[d] for d in range(len(self.drafted)))
