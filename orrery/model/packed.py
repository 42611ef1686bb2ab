"""Whole sequences laid end to end: the context of training, scoring and embedding.

No padding and no attention across sequences, so a batch of any lengths costs what its tokens cost, and what one
sequence holds cannot change a bit of another's result.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.model.context import Context, Site, Step, attention_mask
from orrery.model.lowbit.attention import paged_attention
from orrery.model.memory import Memory
from orrery.model.scaled_dot_product import fast_attention, kernel_serves


class Whole(Context):
    """Sequences that begin at position 0 and are all here; a child says how one run of equal lengths attends."""

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        causal: bool = True,
        device: torch.device | str | None = None,
        memory: Memory | None = None,
    ) -> None:
        super().__init__()
        self.lengths = tuple(int(n) for n in lengths)
        if not self.lengths or min(self.lengths) < 1:
            raise OrreryError(
                f"every sequence needs at least one token, but the lengths are {list(self.lengths)}"
            )
        self.causal, self.memory = causal, memory
        self.readers = () if memory is None else memory.readers(range(len(self.lengths)))
        self.max_length = max(self.lengths)
        self.runs = self._runs()
        self.sizes = [count * length for count, length in self.runs]
        self.positions = torch.cat([torch.arange(n, device=device).repeat(count) for count, n in self.runs])

    def _runs(self) -> tuple[tuple[int, int], ...]:
        """(count, length) of neighbours that are attended in one call."""
        return tuple((len(list(same)), length) for length, same in groupby(self.lengths))

    def attend(self, site: Site, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if len(self.runs) == 1:
            return self._attend_run(site, q, k, v, self.runs[0])
        parts = zip(q.split(self.sizes), k.split(self.sizes), v.split(self.sizes), self.runs, strict=True)
        return torch.cat([self._attend_run(site, *part) for part in parts])

    @abstractmethod
    def _attend_run(self, site: Site, q: Tensor, k: Tensor, v: Tensor, run: tuple[int, int]) -> Tensor:
        """Attention within `count` sequences of `length` tokens that lie end to end."""

    def mask(self, site: Site, length: int) -> Tensor | None:
        """What hides keys from queries in a sequence of `length`; None where the causal flag says it all."""
        windowed = site.window is not None and site.window < length
        if site.bias is None and not windowed:
            return None
        places = self.once(("places", length), lambda: torch.arange(length, device=self.positions.device))
        return attention_mask(site, self, places, places, (length,), causal=self.causal)

    def recur(self, site: nn.Module, x: Tensor, step: Step) -> Tensor:
        parts = zip(x.split(self.sizes), self.runs, strict=True)
        return torch.cat([_recur_run(part, step, run) for part, run in parts])


class Packed(Whole):
    """Attention by the fastest kernel that serves; neighbours of equal length go in one call.

    Under torch.compile every new tuple of lengths is compiled anew: compile where batches repeat their lengths.

    Args:
        lengths: tokens of each sequence; they sum to T.
        causal: False lets every token see its whole sequence (encoders, masked language models).
        device: where `positions` are made.
        memory: what an encoder made of one source for each sequence (encoder-decoders).

    Raises:
        OrreryError: a length below 1, or none.
    """

    def attend(self, site: Site, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if not self.causal or not kernel_serves(site, q):
            return super().attend(site, q, k, v)
        owners, starts = self.once("owners", self._owners)
        return paged_attention(
            q, k.contiguous(), v.contiguous(), starts, owners, self.positions,
            value_dim=v.shape[-1], scale=site.scale, window=site.window, softcap=site.softcap, sinks=site.sinks,
        )  # fmt: skip

    def _owners(self) -> tuple[Tensor, Tensor]:
        """(T,) each token's sequence and (B, 1) where the sequences start, int32."""
        lengths = torch.tensor(self.lengths)
        starts = lengths.cumsum(0) - lengths
        return torch.arange(len(lengths)).repeat_interleave(lengths).int(), starts.int()[:, None]

    def _attend_run(self, site: Site, q: Tensor, k: Tensor, v: Tensor, run: tuple[int, int]) -> Tensor:
        q, k, v = (x.unflatten(0, run).transpose(1, 2) for x in (q, k, v))  # (B, H or K, L, D), views
        out = fast_attention(site, q, k, v, self.mask(site, run[1]), causal=self.causal)
        return out.transpose(1, 2).flatten(0, 1)  # (B * L, H, Dv)


def _recur_run(x: Tensor, step: Step, run: tuple[int, int]) -> Tensor:
    """`count` sequences of `length` tokens that lie end to end, all in one call."""
    if run[0] == 1:
        return step(x, None)[0]
    return torch.vmap(lambda sequence: step(sequence, None)[0])(x.unflatten(0, run)).flatten(0, 1)
