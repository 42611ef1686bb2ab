"""What an encoder made of its sources, for a decoder to read while it writes.

    memory = model.encode(source, Packed(source_lengths, causal=False))
    hidden = model(tokens, Packed(lengths, memory=memory))                       # training, scoring
    hidden = model(tokens, Cached(cache, work, memory=memory))                   # generating: row i reads source i

S tokens of all sources, H heads, K kv heads, D head dim, d model width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.model.scaled_dot_product import fast_attention

if TYPE_CHECKING:
    from orrery.model.context import Context, Site

Attend = Callable[["Site", Tensor, Tensor, Tensor], Tensor]
"""(site, q (Q, H, D), k (S, K, D), v (S, K, Dv)) -> (Q, H, Dv), each token of q seeing all of k."""


class Memory:
    """The last hidden states of an encoder, and what each layer of a decoder makes of them, computed once.

    Args:
        states: (S, d), sources end to end.
        lengths: tokens of each source; they sum to S.
        of: which source each sequence (or row of a cache) reads, where several read one (beams, samples); None: its own.

    Raises:
        OrreryError: lengths that do not sum to S.
    """

    def __init__(self, states: Tensor, lengths: Sequence[int], *, of: Sequence[int] | None = None) -> None:
        if sum(lengths) != len(states):
            raise OrreryError(f"sources of {sum(lengths)} tokens cannot have {len(states)} hidden states")
        self.states, self.lengths = states, tuple(lengths)
        self.of = tuple(range(len(lengths))) if of is None else tuple(of)
        self._made: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def readers(self, sequences: Iterable[int]) -> tuple[int, ...]:
        """The source that each of `sequences` reads.

        Raises:
            OrreryError: one that has none.
        """
        sequences = tuple(sequences)
        if max(sequences) >= len(self.of):
            raise OrreryError(
                f"sequence {max(sequences)} has no source: the memory serves {len(self.of)}; encode one for each"
            )
        return tuple(self.of[i] for i in sequences)

    def keys_values(
        self, site: nn.Module, make: Callable[[Tensor], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """`make(states)`, the keys and values of one layer: once for all passes, but anew where gradients are wanted."""
        if torch.is_grad_enabled():
            return make(self.states)
        if site not in self._made:
            self._made[site] = make(self.states)
        return self._made[site]

    def attend(
        self, site: Site, q: Tensor, k: Tensor, v: Tensor, ctx: Context, attend: Attend | None = None
    ) -> Tensor:
        """Every sequence of the pass `ctx`, q (T, H, D), to keys and values k, v (S, K, D) of its own source -> (T, H, D).

        `attend` does it for one sequence; None: by the fastest kernel.
        """
        attend = attend or attend_fast
        keys, values = k.split(self.lengths), v.split(self.lengths)
        parts = zip(q.split(ctx.lengths), ctx.readers, strict=True)
        return torch.cat([attend(site, part, keys[i], values[i]) for part, i in parts])


def attend_fast(site: Site, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(Q, H, D), (S, K, D), (S, K, Dv) -> (Q, H, Dv), every query seeing all keys."""
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    return fast_attention(site, q, k, v, None, causal=False)[0].transpose(0, 1)
