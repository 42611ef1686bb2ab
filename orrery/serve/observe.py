"""Look at activations while the model serves: the logit lens, attention and its entropy, named activations, for chosen tokens.

    observer = Observer(model, [Watched(piece=0, prompt=len(request.ids), observe=request.observe)])
    with observer.attached(ctx):
        hidden = model(tokens, ctx)
    observer.results()[0]                       # {"logit_lens": [...], ...}, one entry for each row looked at

A token is looked at where it was predicted: its entry is what the model had at the row before it, whose logits chose it. So every
token made has an entry, and with `Observe.prompt` every token read but the first. Entries are plain lists:

    logit_lens           by layer: the `top` likeliest [id, log-probability], of head(norm(stream behind the layer))
    attention            by layer, by head: weights over the keys 0 .. position (nothing where a layer is not attention)
    attention_entropy    by layer, by head: -sum w ln w over the same, nats
    (a probe, a block)   its numbers, nested as they are shaped

Nothing that is looked at changes a bit. Logit lens: nostalgebraist 2020. T tokens, n rows looked at, H heads, K kv heads,
S keys, D head dim, d model width, V vocabulary.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from orrery.kit.lm import Observe
from orrery.model.cache import Cached
from orrery.model.context import Context, Site, attention_mask
from orrery.model.decoder import Decoder
from orrery.model.packed import Whole
from orrery.model.scaled_dot_product import attention_probabilities
from orrery.serve.observable import ATTENTION, ENTROPY, LENS
from orrery.serve.steer import piece_rows

CHUNK = 32
"""Rows whose logits, or whose attention, are in memory at a time."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What one request wants to see of a pass.

    Attributes:
        piece: the place of its sequence in the pass. prompt: how many tokens its prompt has.
        seen: positions below it were looked at before and are only read again (a preempted sequence).
    """

    piece: int
    prompt: int
    observe: tuple[Observe, ...]
    seen: int = 0


@dataclass
class _View:
    """One wish at its rows of a pass. `found` is by layer what was caught there."""

    wish: Observe
    piece: int
    rows: Tensor  # (n,) of the pass
    within: Tensor  # (n,) of the piece
    layers: tuple[int, ...]
    found: dict[int, Any]


class Observer:
    """Watches one pass. `known` is how many ids the tokenizer has: a lens shows no others."""

    def __init__(self, model: Decoder, watched: Sequence[Watched], *, known: int | None = None) -> None:
        self.model, self.watched, self.known = model, tuple(watched), known
        self._views: list[list[_View]] = []

    @contextmanager
    def attached(self, ctx: Context) -> Iterator[None]:
        """Watch passes with `ctx` while the block runs; the last one counts. Attach after steering, to see what it did. The wishes
        are such as `check_observe` lets through."""
        self._views = [self._views_of(ctx, watched) for watched in self.watched]
        views = [view for group in self._views for view in group if len(view.rows)]
        handles = [
            *self._watch_streams(ctx, [v for v in views if v.wish.what == LENS]),
            *self._watch_attention(ctx, [v for v in views if v.wish.what in (ATTENTION, ENTROPY)]),
            *self._watch_named([v for v in views if v.wish.what not in (LENS, ATTENTION, ENTROPY)]),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            ctx.__dict__.pop("attend", None)

    @torch.inference_mode()
    def results(self) -> list[dict[str, list[Any]]]:
        """For each of `watched`, by `Observe.what`, one entry for each row of the pass that is looked at, in their order."""
        return [{view.wish.what: self._entries(view) for view in views} for views in self._views]

    def _views_of(self, ctx: Context, watched: Watched) -> list[_View]:
        rows = piece_rows(ctx, watched.piece)
        positions = ctx.positions[rows]
        views: list[_View] = []
        for wish in watched.observe:
            first = max(watched.seen, 0 if wish.prompt else watched.prompt - 1)
            within = (positions >= first).nonzero().flatten()
            layers = range(len(self.model.blocks)) if wish.layers is None else wish.layers
            views.append(_View(wish, watched.piece, within + rows.start, within, tuple(layers), {}))
        return views

    def _entries(self, view: _View) -> list[Any]:
        if not len(view.rows):
            return []
        match view.wish.what:
            case "logit_lens":
                by_layer = [self._lens(view.found[layer], view.wish.top) for layer in view.layers]
            case "attention" | "attention_entropy":
                attends = {layer for layer in view.layers if self.model.blocks[layer].attn is not None}
                nothing: list[Any] = [[] for _ in view.rows]
                by_layer = [view.found[layer] if layer in attends else nothing for layer in view.layers]
            case _:
                return view.found[0].tolist()
        return [list(layers) for layers in zip(*by_layer, strict=True)]

    def _lens(self, stream: Tensor, top: int) -> list[list[list[Any]]]:
        """(n, d) -> for each row the likeliest ids with their log-probabilities."""
        found: list[list[list[Any]]] = []
        for part in stream.split(CHUNK):
            logprobs = self.model.head(self.model.norm(part)).float().log_softmax(-1)[:, : self.known]
            best = logprobs.topk(min(top, logprobs.shape[1]))
            pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            found += [[list(pair) for pair in zip(*row, strict=True)] for row in pairs]
        return found

    # --- what is caught during a pass

    def _watch_streams(self, ctx: Context, views: list[_View]) -> list[Any]:
        def watch(layer: int, wanted: list[_View]) -> Any:
            def hook(block: nn.Module, inputs: tuple[Any, ...], stream: Tensor) -> None:
                if inputs[1] is ctx:
                    for view in wanted:
                        view.found[layer] = stream[view.rows]

            return self.model.blocks[layer].register_forward_hook(hook)

        layers = sorted({layer for view in views for layer in view.layers})
        return [watch(layer, [v for v in views if layer in v.layers]) for layer in layers]

    def _watch_named(self, views: list[_View]) -> list[Any]:
        thread = threading.get_ident()

        def watch(view: _View) -> Any:
            def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
                if threading.get_ident() == thread:  # a probe is told of no context
                    view.found[0] = output[view.rows].float()

            return self.model.get_submodule(view.wish.what).register_forward_hook(hook)

        return [watch(view) for view in views]

    def _watch_attention(self, ctx: Context, views: list[_View]) -> list[Any]:
        """Contexts of other kinds than these two let the layers' `pattern` probes see the weights of one sequence after another."""
        if not views:
            return []
        if isinstance(ctx, Whole | Cached):
            ctx.__dict__["attend"] = self._beside(ctx, ctx.attend, views)
            return []

        def watch(layer: int, attention: Any) -> list[Any]:
            wanted = [view for view in views if layer in view.layers]
            piece = -1

            def begin(block: nn.Module, inputs: tuple[Any, ...]) -> None:
                nonlocal piece
                piece = -1 if inputs[1] is ctx else len(ctx.lengths)

            def hook(probe: nn.Module, inputs: tuple[Any, ...], weights: Tensor) -> None:  # (H, n, S)
                nonlocal piece
                piece += 1
                for view in wanted:
                    if view.piece == piece:
                        view.found[layer] = _shown(view, weights[:, view.within], ctx.positions[view.rows])

            return [
                attention.pattern.register_forward_hook(hook),
                self.model.blocks[layer].register_forward_pre_hook(begin),
            ]

        layers = {layer for view in views for layer in view.layers}
        sites = ((layer, self.model.blocks[layer].attn) for layer in sorted(layers))
        return [handle for layer, attn in sites if attn is not None for handle in watch(layer, attn)]

    def _beside(self, ctx: Whole | Cached, attend: Any, views: list[_View]) -> Any:
        """`ctx.attend`, and the weights of the rows looked at, worked out beside it from the same queries and keys."""

        def watched(site: Site, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            out = attend(site, q, k, v)
            for view in views:
                if site.index in view.layers:
                    view.found[site.index] = _weights(site, ctx, q, _keys(ctx, site, k, view.piece), view)
            return out

        return watched


def _keys(ctx: Whole | Cached, site: Site, k: Tensor, piece: int) -> Tensor:
    """(S, K, D): the keys of a sequence of the pass from position 0 on."""
    if isinstance(ctx, Whole):
        return k[piece_rows(ctx, piece)]
    row, start, n = ctx.work[piece]
    return ctx.cache.keys[site.index][row, : start + n]


def _weights(site: Site, ctx: Context, q: Tensor, keys: Tensor, view: _View) -> list[Any]:
    """The attention of the rows looked at, by the steps that `Explicit` takes."""
    places = torch.arange(len(keys), device=keys.device)
    found: list[Any] = []
    for rows in view.rows.split(CHUNK):
        queries, positions = q[rows].transpose(0, 1)[None], ctx.positions[rows]  # (1, H, n, D)
        key = ("observed", view.piece, int(rows[0]), len(rows), len(keys))
        mask = attention_mask(site, ctx, positions, places, key, causal=ctx.causal)
        weights = attention_probabilities(site, queries, keys.transpose(0, 1)[None], mask, causal=False)[0]
        found += _shown(view, weights, positions if ctx.causal else positions * 0 + len(keys) - 1)
    return found


def _shown(view: _View, weights: Tensor, positions: Tensor) -> list[Any]:
    """(H, n, S) -> for each row, by head, its weights over keys 0 .. position, or their entropy."""
    rows = weights.float().transpose(0, 1)
    if view.wish.what == ENTROPY:
        return torch.special.entr(rows).sum(-1).tolist()
    return [row[:, : last + 1].tolist() for row, last in zip(rows, positions.tolist(), strict=True)]
