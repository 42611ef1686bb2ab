"""A contiguous cache of keys and values, and the context that generates with it.

    cache = KVCache(model, rows=2, capacity=512)
    hidden = model(prompt, Cached(cache, [(0, 0, len(prompt))]))        # the whole prompt of row 0
    hidden = model(token, Cached(cache, [(0, len(prompt), 1)]))         # one more token
    hidden = model(mixed, Cached(cache, [(0, 17, 1), (1, 0, 40)]))      # a decode and a prefill in one pass

Memory: bytes per token = 2 * layers * kv heads * head dim * bytes per number (`CacheSpec` says it layer by layer).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.model.context import Context, Site, Step, attention_mask
from orrery.model.lowbit import attention as lowbit
from orrery.model.memory import Memory
from orrery.model.scaled_dot_product import fast_attention, kernel_serves

if TYPE_CHECKING:
    from orrery.model.decoder import Decoder
    from orrery.model.encoder_decoder import EncoderDecoder


@dataclass(frozen=True, kw_only=True)
class CacheSpec:
    """What one layer keeps for each token: `kv_heads` keys of `key_dim` numbers and values of `value_dim`.

    Attributes:
        window: how many of the last tokens the layer can see; None means all.
        shared: keys and values are one tensor (absorbed latent attention), kept once.
        restart_beyond: keys of up to this many tokens are of no use to a longer sequence (see `RotaryEmbedding`).
    """

    layer: int
    kv_heads: int
    key_dim: int
    value_dim: int
    window: int | None = None
    shared: bool = False
    restart_beyond: int | None = None

    @property
    def numbers_per_token(self) -> int:
        return self.kv_heads * (self.key_dim if self.shared else self.key_dim + self.value_dim)

    def bytes_per_token(self, dtype: torch.dtype = torch.float32) -> int:
        return self.numbers_per_token * dtype.itemsize


class KVCache:
    """Keys and values of `rows` sequences of up to `capacity` tokens.

    Memory is reserved at once and, on Linux, taken as it is written. `lengths[row]` tokens of a row are valid.

    Raises:
        OrreryError: rows or capacity below 1.
    """

    def __init__(self, model: Decoder | EncoderDecoder, rows: int, capacity: int) -> None:
        if rows < 1 or capacity < 1:
            raise OrreryError(
                f"a cache needs at least one row and one token, not rows={rows}, capacity={capacity}"
            )
        self.device = model.device
        self.rows, self.capacity = rows, capacity
        self.lengths = [0] * rows
        self.keys: dict[int, Tensor] = {}  # by layer: (rows, capacity, K, D)
        self.values: dict[int, Tensor] = {}
        # By recurrent layer and row: tokens seen, and the state after them.
        self.states: dict[nn.Module, list[tuple[int, Any]]] = {}
        specs = model.cache_spec()
        self.restart_beyond = min(
            (s.restart_beyond for s in specs if s.restart_beyond is not None), default=None
        )
        for spec in specs:
            shape = (rows, capacity, spec.kv_heads)
            keys = torch.empty(*shape, spec.key_dim, dtype=model.dtype, device=model.device)
            self.keys[spec.layer] = keys
            self.values[spec.layer] = keys if spec.shared else keys.new_empty(*shape, spec.value_dim)
        self.tables = torch.arange(rows, dtype=torch.int32)[:, None]  # each row as one page, for the kernel

    def serves(self, start: int, end: int) -> bool:
        """Whether a sequence of `start` cached tokens can grow to `end`, or must be read again from its first token."""
        return not start or self.restart_beyond is None or not start <= self.restart_beyond < end

    @property
    def bytes(self) -> int:
        """Reserved memory."""
        return sum(x.untyped_storage().nbytes() for x in self._tensors())

    def _tensors(self) -> list[Tensor]:
        """Each tensor once."""
        return [*self.keys.values(), *(v for i, v in self.values.items() if v is not self.keys[i])]

    def truncate(self, row: int, length: int) -> None:
        """Forget the tokens of `row` from position `length` on (a rejected draft). A recurrent state cannot go back."""
        self.lengths[row] = min(self.lengths[row], length)

    def fork(self, source: int, target: int) -> None:
        """Make row `target` a copy of row `source`."""
        n = self.lengths[source]
        for x in self._tensors():
            x[target, :n] = x[source, :n]
        for states in self.states.values():
            states[target] = states[source]
        self.lengths[target] = n

    def reorder(self, order: Sequence[int]) -> None:
        """Row i becomes what row order[i] was (beam search); rows beyond len(order) stay."""
        n = max(self.lengths[row] for row in order)
        for x in self._tensors():
            x[: len(order), :n] = x[list(order), :n]
        for states in self.states.values():
            states[: len(order)] = [states[row] for row in order]
        self.lengths[: len(order)] = [self.lengths[row] for row in order]


@dataclass(frozen=True)
class Run:
    """Neighbouring pieces of work with equal start and length: attended in one call."""

    rows: slice | list[int]
    count: int
    start: int
    length: int


class Cached(Context):
    """Any mix of prompt chunks and single tokens; each piece continues a row of the cache.

    Args:
        cache: written as the model runs; rows' lengths are set when the context is made.
        work: (row, start, n_new) for each sequence in this pass, in the order of the tokens. `start` must not lie
            beyond what the row holds; a smaller start overwrites (a rejected draft).
        memory: what an encoder made of one source for each row; give the same one in every pass of a generation.

    Raises:
        OrreryError: the work does not fit the cache.
    """

    def __init__(
        self, cache: KVCache, work: Sequence[tuple[int, int, int]], *, memory: Memory | None = None
    ) -> None:
        super().__init__()
        if len({row for row, _, _ in work}) < len(work) or not work:
            raise OrreryError(
                "one pass needs at least one piece of work, and at most one for each row of the cache"
            )
        for row, start, n in work:
            if not 0 <= row < cache.rows or n < 1 or start > cache.lengths[row]:
                raise OrreryError(
                    f"cannot put {n} tokens at position {start} of row {row}: the cache has {cache.rows} rows, "
                    f"holding {cache.lengths} tokens"
                )
            if start + n > cache.capacity:
                raise OrreryError(
                    f"row {row} would hold {start + n} tokens but the cache's capacity is {cache.capacity}; "
                    "make a larger cache or a shorter request"
                )
            if not cache.serves(start, start + n):
                raise OrreryError(
                    f"beyond {cache.restart_beyond} tokens this model (LongRoPE) turns all positions by other angles; "
                    f"read row {row} again from its first token"
                )
        for row, start, n in work:
            cache.lengths[row] = start + n
        self.cache, self.work = cache, tuple(work)
        self.lengths = tuple(n for _, _, n in work)
        self.memory = memory
        self.readers = () if memory is None else memory.readers(row for row, _, _ in work)
        self.max_length = max(start + n for _, start, n in work)
        places = groupby(work, lambda piece: piece[1:])
        self.runs = [_run([row for row, _, _ in same], *place) for place, same in places]
        self.sizes = [run.count * run.length for run in self.runs]
        self.positions = torch.cat([torch.arange(s, s + n) for _, s, n in work]).to(cache.device)
        rows, counts = torch.tensor([[row, n] for row, _, n in work]).unbind(1)
        self.owners = rows.repeat_interleave(counts).to(torch.int32)

    def attend(self, site: Site, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if kernel_serves(site, q):
            return self._attend_pages(site, q, k, v)
        parts = zip(q.split(self.sizes), k.split(self.sizes), v.split(self.sizes), self.runs, strict=True)
        out = [self._attend_run(site, *part) for part in parts]
        return out[0] if len(out) == 1 else torch.cat(out)

    def _attend_pages(self, site: Site, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """All pieces in one call: a row of the cache is a page."""
        keys, values = self.cache.keys[site.index], self.cache.values[site.index]
        own = None if values is keys else values
        lowbit.write_pages(k, v, keys, own, self.cache.tables, self.owners, self.positions)
        return lowbit.paged_attention(
            q, keys, own, self.cache.tables, self.owners, self.positions,
            value_dim=v.shape[-1], scale=site.scale, window=site.window, softcap=site.softcap, sinks=site.sinks,
        )  # fmt: skip

    def _attend_run(self, site: Site, q: Tensor, k: Tensor, v: Tensor, run: Run) -> Tensor:
        end = run.start + run.length
        q, k, v = (x.unflatten(0, (run.count, run.length)) for x in (q, k, v))  # (B, L, H or K, D)
        keys, values = self.cache.keys[site.index], self.cache.values[site.index]
        keys[run.rows, run.start : end] = k
        if values is not keys:
            values[run.rows, run.start : end] = v
        if run.start:  # a whole sequence attends to what it just made, with the very call of `Packed`
            first = max(0, end - site.window) if run.length == 1 and site.window is not None else 0
            k, v = keys[run.rows, first:end], values[run.rows, first:end]
        else:
            first = 0
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, H or K, L or S, D)
        out = fast_attention(site, q, k, v, self.mask(site, run, first), causal=True)
        return out.transpose(1, 2).flatten(0, 1)

    def mask(self, site: Site, run: Run, first: int) -> Tensor | None:
        """What hides keys first..end from the run's queries; None where causality or nothing hides."""
        end = run.start + run.length
        windowed = site.window is not None and site.window < end and run.length > 1
        continued = run.start > 0 and run.length > 1
        if site.bias is None and not windowed and not continued:
            return None
        key = (run.start, run.length, first)
        q_pos, k_pos = self.once(
            ("places", *key),
            lambda: (
                torch.arange(run.start, end, device=self.cache.device),
                torch.arange(first, end, device=self.cache.device),
            ),
        )
        return attention_mask(site, self, q_pos, k_pos, key)

    def recur(self, site: nn.Module, x: Tensor, step: Step) -> Tensor:
        states = self.cache.states.setdefault(site, [(0, None)] * self.cache.rows)
        out = []
        for part, (row, start, n) in zip(x.split(self.lengths), self.work, strict=True):
            reached, state = states[row] if start else (0, None)
            if reached != start:
                raise OrreryError(
                    f"row {row} has a recurrent state after {reached} tokens and cannot go on from {start}"
                )
            y, state = step(part, state)
            states[row] = (start + n, state)
            out.append(y)
        return torch.cat(out)


def _run(rows: list[int], start: int, length: int) -> Run:
    neighbours = rows == list(range(rows[0], rows[0] + len(rows)))
    return Run(slice(rows[0], rows[0] + len(rows)) if neighbours else rows, len(rows), start, length)
