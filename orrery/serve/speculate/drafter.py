"""What proposes tokens, and what it proposes.

    ids ... x          all tokens so far; the model has read all but the last
    drafts             a chain d0 -> d1 -> d2, or a tree whose roots follow x
    verify             the model reads x and all drafts in one pass; the tokens it agrees with are kept, and one more

A drafter is never trusted: a bad one costs time and changes nothing of what comes out (`verify`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

from torch import Tensor

from orrery.serve.sampling import Chooser

Rule = Literal["coupled", "rejection"]
"""How drafts are checked, see `verify`."""


@dataclass(frozen=True, kw_only=True)
class DraftView:
    """A sequence as a drafter sees it.

    Attributes:
        ids: the prompt and all tokens made so far. The model has read all but the last.
        chooser: how this sequence's tokens are chosen, after the last of `ids`. A drafter works on clones of it.
        room: how many drafts in a row can be of use before the sequence must end.
        hidden: (d,) the model's last state (after the last norm), from which ids[-1] was chosen; None unless the
            drafter `reads_hidden`.
    """

    ticket: int
    ids: Sequence[int]
    chooser: Chooser
    room: int
    hidden: Tensor | None = None
    rule: Rule = "coupled"


@dataclass(frozen=True, eq=False)
class Draft:
    """Proposed tokens: a chain, or a tree in which a node stands behind its parent.

    Attributes:
        parents: the node before each node, -1 for the last real token; None is a chain.
        probabilities: (n, known) row i: the distribution that node i was drawn from, given that its earlier siblings were
            drawn before it; None where nothing was drawn at random (each node is a point mass).
    """

    ids: tuple[int, ...]
    parents: tuple[int, ...] | None = None
    probabilities: Tensor | None = None

    def __post_init__(self) -> None:
        assert self.parents is None or all(-1 <= p < i for i, p in enumerate(self.parents))

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def children(self) -> dict[int, tuple[int, ...]]:
        """The nodes behind each node, in the order in which they were drawn; -1 is the last real token."""
        found: dict[int, list[int]] = {}
        for node, parent in enumerate(range(-1, len(self) - 1) if self.parents is None else self.parents):
            found.setdefault(parent, []).append(node)
        return {parent: tuple(nodes) for parent, nodes in found.items()}

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """How many drafts stand before each node."""
        if self.parents is None:
            return tuple(range(len(self)))
        depths: list[int] = []
        for parent in self.parents:
            depths.append(0 if parent < 0 else depths[parent] + 1)
        return tuple(depths)

    def only(self, nodes: Sequence[int]) -> Draft:
        """The tree of these nodes alone, which must hold the parent of each and, of siblings, the first ones."""
        new = {-1: -1} | {node: i for i, node in enumerate(nodes)}
        parents = None if self.parents is None else tuple(new[self.parents[node]] for node in nodes)
        rows = None if self.probabilities is None else self.probabilities[list(nodes)]
        return Draft(tuple(self.ids[node] for node in nodes), parents, rows)

    def first(self, n: int) -> Draft:
        """The first n nodes: still a tree."""
        return self if n >= len(self) else self.only(range(max(n, 0)))

    def first_branch(self) -> Draft:
        """The chain of first children: what is left of a tree where only a chain can be verified."""
        if self.parents is None:
            return self
        nodes: list[int] = []
        at = -1
        while at in self.children:
            at = self.children[at][0]
            nodes.append(at)
        chain = self.only(nodes)
        return Draft(chain.ids, None, chain.probabilities)


NOTHING = Draft(())


class Drafter(Protocol):
    """Proposes tokens for sequences, each known by its ticket.

    `reads_hidden`: whether it needs the model's states, in `DraftView.hidden` and in `accepted`.
    """

    reads_hidden: bool

    def propose(self, views: Sequence[DraftView], limit: int) -> list[Draft]:
        """A draft of at most `limit` nodes for each view, none deeper than its room; an empty one where it has no idea."""

    def accepted(self, ticket: int, ids: Sequence[int], hidden: Tensor | None) -> None:
        """The model has read `ids` for good, after all it read before: parts of the prompt, then the last token with the
        drafts behind it that were kept. hidden (len(ids), d): its last states for them, after the last norm; None unless
        `reads_hidden`, or where they are not known (a cached prefix), which may only be at the beginning."""

    def forget(self, ticket: int) -> None:
        """The sequence has ended, or was preempted and will be told of again from its first token; unknown tickets are
        no fault."""
