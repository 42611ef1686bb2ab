"""Message passing: a node's next state is made of its own and of what its neighbours send (Gilmer et al. 2017,
arXiv:1704.01212).

    m_v = sum (or mean, max) over edges u -> v of W_m h_u
    h_v <- activation(W_s h_v + m_v + b)

A layer carries information along one edge, so after K layers a node has heard from exactly the nodes within K hops. Nothing
depends on the order of nodes or edges: renumber the nodes, and the answers are renumbered alike. Several graphs are one graph
whose parts do not touch.

V nodes, E edges, d width.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.model.he import draw_he
from orrery.model.mlp import ACTIVATIONS, Activation

Aggregate = Literal["sum", "mean", "max"]


def edges_of(pairs: Iterable[tuple[int, int]]) -> Tensor:
    """Undirected edges as (2, E) int64, sources above targets: each pair once in both directions, a loop u-u once."""
    both = sorted({edge for u, v in pairs for edge in ((u, v), (v, u))})
    return torch.tensor(both, dtype=torch.int64).reshape(-1, 2).T.contiguous()


def aggregate(messages: Tensor, targets: Tensor, nodes: int, how: Aggregate) -> Tensor:
    """(E, d) messages with the node each goes to, (E,) -> (nodes, d); a node that gets none has zeros.

    sum counts neighbours, mean does not know how many there are, max not how often (Xu et al. 2019, arXiv:1810.00826).
    """
    out = messages.new_zeros(nodes, messages.shape[1])
    if how == "sum":
        return out.index_add(0, targets, messages)
    reduce = "mean" if how == "mean" else "amax"
    return out.scatter_reduce(0, targets[:, None].expand_as(messages), messages, reduce, include_self=False)


class MessagePassing(nn.Module):
    """One layer: neighbours' states through one matrix, aggregated, plus the node's own through another."""

    def __init__(
        self, width: int, out: int, *, how: Aggregate = "mean", activation: Activation | None = "relu"
    ) -> None:
        super().__init__()
        self.how: Aggregate = how
        self.activation = ACTIVATIONS[activation] if activation else None
        self.message = nn.Linear(width, out, bias=False)
        self.own = nn.Linear(width, out)

    def forward(self, h: Tensor, edges: Tensor) -> Tensor:
        """(V, width) states, (2, E) edges from source to target -> (V, out)."""
        sources, targets = edges
        received = aggregate(self.message(h)[sources], targets, len(h), self.how)
        update = self.own(h) + received
        return update if self.activation is None else self.activation(update)


@config
class GraphNetConfig:
    """A graph network.

    Attributes:
        features: of each node, what comes in.
        classes: logits a node.
        width: of the states between layers.
        layers: hops that information travels; 0: a node is judged by its own features.
    """

    features: int
    classes: int
    width: int = 32
    layers: int = 2
    how: Aggregate = "mean"
    activation: Activation = "relu"


class GraphNet(nn.Module):
    """Layers of message passing between an embedding of the features and a linear head, weights drawn from `seed`."""

    def __init__(self, cfg: GraphNetConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.cfg = cfg
        self.embed = nn.Linear(cfg.features, cfg.width)
        self.layers = nn.ModuleList(
            MessagePassing(cfg.width, cfg.width, how=cfg.how, activation=cfg.activation)
            for _ in range(cfg.layers)
        )
        self.head = nn.Linear(cfg.width, cfg.classes)
        draw_he(self, seed)

    def forward(self, features: Tensor, edges: Tensor) -> Tensor:
        """(V, features), (2, E) edges -> (V, classes) logits.

        Raises:
            OrreryError: an edge names a node that is not there.
        """
        if edges.numel() and not 0 <= int(edges.min()) <= int(edges.max()) < len(features):
            raise OrreryError(
                f"an edge joins node {int(edges.min())} or {int(edges.max())}, but the nodes are 0 to "
                f"{len(features) - 1}; give features for every node, or drop the edge"
            )
        return self.head(self.states(features, edges))

    def states(self, features: Tensor, edges: Tensor) -> Tensor:
        """(V, features), (2, E) -> (V, width), before the head."""
        h = self.embed(features)
        for layer in self.layers:
            h = layer(h, edges)
        return h
