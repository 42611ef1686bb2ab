"""A context says where each token sits and what it may see; the model only says what is computed.

All tokens of a batch lie end to end on one flat axis. Legend for this folder: T tokens, H heads, K kv heads, D head
dim, d model width, V vocabulary, B sequences of equal length L, Q queries, S keys.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.model.probe import Probe

if TYPE_CHECKING:
    from orrery.model.memory import Memory

Made = TypeVar("Made")
Step = Callable[[Tensor, Any], tuple[Tensor, Any]]
"""One chunk of one sequence: (x (n, ...), state or None at the start) -> (y (n, ...), state after it).

A function of tensors alone that writes to none of them: a context may run it on many sequences at once, and keep a state twice.
"""


class Site(Protocol):
    """The attention layer that asks: what a context may read of it.

    scale and softcap are of the scores; sinks (H,) are logits that take part in the softmax and carry no value;
    bias(q_pos (Q,), k_pos (S,)) -> (H, Q, S) is added to the scores; dropout is the probability now (0 in eval);
    pattern is the probe that sees the probabilities under `Explicit`; native asks for our compiled kernel.
    """

    index: int
    window: int | None
    scale: float
    softcap: float | None
    sinks: Tensor | None
    pattern: Probe
    native: bool

    @property
    def bias(self) -> nn.Module | None: ...

    @property
    def dropout(self) -> float: ...


class Context(ABC):
    """One forward pass over sequences laid end to end.

    Attributes:
        positions: (T,) int64, each token's place in its own sequence.
        lengths: new tokens of each sequence in this pass; they sum to T.
        max_length: the longest sequence, cached tokens included.
        spans: how long each sequence is as far as known, where the pass reads a part of a prompt; None: up to its last token here.
        recorded: what layers reported in this pass (auxiliary losses, loads), by name. Read it before backward:
            activation checkpointing reports again while it recomputes.
        choices: experts dictated to a mixture-of-experts layer instead of its router's pick, (T, k) ids by layer
            (replaying a rollout's routing while training on it).
        causal: whether a token sees none after it.
        memory: what cross-attention reads; None without an encoder.
        readers: for each sequence of the pass, the sequence of the memory that it reads.
        adapters: (T,) which of the model's adapters each token goes through, -1 for none (see `adapters`); None: the model's default.
        edited: (T,) bool at which tokens an adapter edits representations, for those that leave the choice to whoever runs the pass.
    """

    positions: Tensor
    lengths: tuple[int, ...]
    max_length: int
    spans: tuple[int, ...] | None = None
    causal: bool = True
    memory: Memory | None = None
    readers: Sequence[int] = ()
    adapters: Tensor | None = None
    edited: Tensor | None = None

    def __init__(self) -> None:
        self.recorded: dict[str, list[tuple[nn.Module, Tensor]]] = {}
        self.choices: dict[nn.Module, Tensor] = {}
        self._made: dict[Any, Any] = {}

    def begin(self) -> None:
        """Forget the last pass; `Decoder.forward` calls it, so that one context can serve many passes."""
        self.recorded = {}
        self._made = {}

    def once(self, key: Any, make: Callable[[], Made]) -> Made:
        """The value of `make()`, computed once in a pass however many layers ask (rotary tables, masks)."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def record(self, site: nn.Module, name: str, value: Tensor) -> None:
        """Report `value` from layer `site` to whoever runs the pass."""
        self.recorded.setdefault(name, []).append((site, value))

    def replay(self, site: nn.Module) -> Tensor | None:
        """The experts dictated to layer `site`, or None where its router is to choose."""
        return self.choices.get(site)

    @abstractmethod
    def attend(self, site: Site, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention: q (T, H, D), k (T, K, D), v (T, K, Dv), positions already in q and k -> (T, H, Dv)."""

    def attend_memory(self, site: Site, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Cross-attention: q (T, H, D) of this pass over all keys k (S, K, D) and values v (S, K, Dv) that the memory has
        for a token's sequence -> (T, H, Dv)."""
        return self.read_memory().attend(site, q, k, v, self)

    def read_memory(self) -> Memory:
        """The memory.

        Raises:
            OrreryError: there is none.
        """
        if self.memory is None:
            raise OrreryError(
                "this model reads what an encoder made; give its context a memory, which `encode` makes"
            )
        return self.memory

    @abstractmethod
    def recur(self, site: nn.Module, x: Tensor, step: Step) -> Tensor:
        """Run a layer with state over time: x (T, ...) -> (T, ...), `step` once for each sequence's chunk."""


def visible(q_pos: Tensor, k_pos: Tensor, *, window: int | None, causal: bool = True) -> Tensor:
    """Which keys each query may see, (Q, S) bool: none after it (if causal) and none `window` or more tokens away."""
    distance = q_pos[:, None] - k_pos
    seen = distance >= 0 if causal else torch.ones_like(distance, dtype=torch.bool)
    return seen if window is None else seen & (distance.abs() < window)


def attention_mask(
    site: Site, ctx: Context, q_pos: Tensor, k_pos: Tensor, key: tuple[Any, ...], *, causal: bool = True
) -> Tensor:
    """What is added to or masks the scores of `site`: (Q, S) bool, or (H, Q, S) float where the site has a bias.

    `key` names this pair of position ranges within the pass, so that all layers of one kind share one mask.
    """

    def make() -> Tensor:
        seen = visible(q_pos, k_pos, window=site.window, causal=causal)
        return seen if site.bias is None else site.bias(q_pos, k_pos).masked_fill(~seen, -torch.inf)

    return ctx.once(("mask", site.window, site.bias is not None, *key), make)
