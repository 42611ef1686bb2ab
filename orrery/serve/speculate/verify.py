"""Checking drafts against the model: which are kept, and the token after them.

The model has read the last real token and n drafts in one pass; row 0 of its logits is about what follows the last real
token, row i + 1 about what follows draft i. Both rules keep the path of drafts that holds, and add one token of the
model's own, so a pass gives at least one token and at most one more than the tree is deep.

coupled     Take what the plain sampler would take: the same function, the same uniform number of that position. Go on
            while a draft says the same. What comes out is what would have come out without drafts, byte for byte.
rejection   Keep draft x, drawn from q, with probability min(1, p(x) / q(x)); if it falls, p becomes (p - q)+ normalised
            and the next sibling is asked, drawn from its own q; after the last, draw from what p has become. Exact in
            distribution (Leviathan et al. 2023, arXiv:2211.17192, theorem 1; Chen et al. 2023, arXiv:2302.01318; trees:
            Miao et al. 2024, SpecInfer, arXiv:2305.09781, algorithm 2; siblings drawn without replacement:
            Jeon et al. 2024, arXiv:2402.14160). It keeps more drafts than any other exact rule for a chain.

V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orrery.kit.seeds import uniform
from orrery.serve.grammar.constraint import Constraint
from orrery.serve.sampling import Choice, Chooser
from orrery.serve.speculate.drafter import Draft, Rule


def verify(
    draft: Draft,
    logits: Tensor,
    chooser: Chooser,
    position: int,
    rule: Rule = "coupled",
    constraint: Constraint | None = None,
) -> tuple[list[Choice], list[int]]:
    """The tokens that the pass has settled, one more than drafts were kept, and the nodes of the kept drafts.

    Args:
        logits: (n + 1, V) float32 of the model.
        chooser: pushed forward by every choice.
        position: of the first token to choose: how many stand before it.
        constraint: moved forward by every choice; where its text is whole nothing more is chosen. Drafts that do not fit
            it are rejected like any other; do not take them out before, which the rule "rejection" would not bear.
    """
    step = _coupled if rule == "coupled" else _rejection
    kept: list[Choice] = []
    nodes: list[int] = []
    at: int | None = -1
    while at is not None:
        allowed = None if constraint is None else constraint.mask()
        choice, at = step(draft, at, logits[at + 1], chooser, position + len(kept), allowed)
        chooser.push(choice.id)
        kept.append(choice)
        if constraint is not None:
            constraint.accept(choice.id)
            if constraint.finished:
                break
        if at is not None:
            nodes.append(at)
    return kept, nodes


def _coupled(
    draft: Draft, at: int, logits: Tensor, chooser: Chooser, position: int, allowed: Tensor | None
) -> tuple[Choice, int | None]:
    """The sampler's own choice, and the child of node `at` that says the same."""
    choice = chooser.choose(logits, position, allowed)
    return choice, next((n for n in draft.children.get(at, ()) if draft.ids[n] == choice.id), None)


def _rejection(
    draft: Draft, at: int, logits: Tensor, chooser: Chooser, position: int, allowed: Tensor | None
) -> tuple[Choice, int | None]:
    """The first child of node `at` that is kept; or a token drawn from what they leave."""
    children = draft.children.get(at, ())
    if not children:
        return chooser.choose(logits, position, allowed), None
    p = chooser.distribution(logits, allowed).double()
    seed, name = chooser.sampling.seed, chooser.request_id
    for nth, node in enumerate(children):
        token = draft.ids[node]
        q = _row(draft, node, p)
        coin = uniform(seed, "accept", name, position, nth)
        if coin * float(q[token]) < float(p[token]):
            return chooser.report(logits, token), node
        p = residual(p, q)
    return chooser.report(logits, inverse(p, uniform(seed, "residual", name, position))), None


def residual(p: Tensor, q: Tensor) -> Tensor:
    """norm((p - q)+): what is left for the next to give when a token drawn from q has fallen."""
    left = (p - q).clamp_(min=0)
    total = left.sum()
    # Where p and q are equal but for rounding nothing falls but by rounding either: then p itself is as good.
    return left / total if total > 0 else p


def inverse(p: Tensor, u: float) -> int:
    """The first id at which the cumulative probability, in order of ids, exceeds u."""
    cumulative = p.cumsum(-1)
    index = int(torch.searchsorted(cumulative, u * cumulative[-1], right=True))
    return min(index, int(p.nonzero()[-1]))


def _row(draft: Draft, node: int, like: Tensor) -> Tensor:
    """The distribution that `node` was drawn from."""
    if draft.probabilities is not None:
        return draft.probabilities[node].double()
    return torch.zeros_like(like).index_fill_(0, torch.tensor(draft.ids[node]), 1.0)
