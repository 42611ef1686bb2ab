"""Drafts for the sequences that decode, and what the drafter is told of them."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Many

from torch import Tensor

from orrery.serve.engine.runner import Work
from orrery.serve.engine.sequence import Sequence
from orrery.serve.lm import LM
from orrery.serve.speculate.config import Drafting, make_drafter
from orrery.serve.speculate.drafter import Draft, DraftView, Rule

FORCED = 16
"""At most so many tokens that a grammar forces are read at once."""


class Drafts:
    """Where drafts come from: what a grammar forces, and the configured drafter. Without a configuration only the former.

    Args:
        enabled: False where the model cannot take drafts back.
    """

    def __init__(self, config: Drafting | None, lm: LM, *, enabled: bool) -> None:
        self.enabled = enabled
        self.drafter = None if config is None else make_drafter(config, lm)
        self.rule: Rule = "coupled" if config is None else config.rule
        self.most = FORCED if config is None else config.tokens

    def propose(self, running: Iterable[Sequence]) -> dict[int, Draft]:
        """By ticket, for those that one token is pending of."""
        drafts: dict[int, Draft] = {}
        views: list[DraftView] = []
        for sequence in running if self.enabled else ():
            room = sequence.reply.room - 1
            wanted = sequence.request.speculate and sequence.job.beams is None
            if sequence.remaining != 1 or not wanted or room < 1 or sequence.forks:
                continue
            if sequence.constraint is not None and (forced := sequence.constraint.forced()):
                drafts[sequence.ticket] = Draft(tuple(forced[: min(room, self.most)]))
            elif self.drafter is not None:
                views.append(
                    DraftView(
                        ticket=sequence.ticket,
                        ids=sequence.ids,
                        chooser=sequence.chooser,
                        room=room,
                        hidden=sequence.hidden,
                        rule=self.rule,
                    )
                )
        if self.drafter is not None and views:
            for view, draft in zip(views, self.drafter.propose(views, self.most), strict=True):
                drafts[view.ticket] = draft
        return {ticket: draft for ticket, draft in drafts.items() if len(draft)}

    def begin(self, sequence: Sequence) -> None:
        """It begins behind tokens that were read for another one, whose states are not known."""
        if self.drafter is not None and sequence.computed and sequence.request.speculate:
            self.drafter.accepted(sequence.ticket, sequence.ids[: sequence.computed], None)

    def read(self, item: Work, hidden: Tensor, nodes: Many[int]) -> None:
        """The pass (T, d) has read these tokens of it for good, and these nodes of its draft."""
        sequence = item.sequence
        if self.drafter is None or not sequence.request.speculate:
            return
        behind = item.first + item.n
        rows = [*range(item.first, behind), *(behind + node for node in nodes)]
        states = hidden[rows] if self.drafter.reads_hidden else None
        self.drafter.accepted(sequence.ticket, sequence.ids[item.start : item.start + len(rows)], states)
        sequence.hidden = None if states is None else states[-1]

    def forget(self, sequence: Sequence) -> None:
        """It has ended, or is read again from its first token."""
        sequence.hidden = None
        if self.drafter is not None:
            self.drafter.forget(sequence.ticket)
