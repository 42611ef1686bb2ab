"""Exhibits of attention that leaves pairs out by a fixed pattern."""

from __future__ import annotations

from typing import Any

import torch

from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _tiny
from orrery.model.context import visible
from orrery.model.decoder import Decoder
from orrery.model.packed import Packed
from orrery.plan.kv_cache import kv_bytes
from orrery.train.init import initialize

PATTERNS: dict[str, dict[str, Any]] = {
    "dense": {},
    "window 16, one layer in 4 global": {
        "window": 16,
        "layer_pattern": ("local", "local", "local", "global"),
    },
    "window 16": {"window": 16, "layer_pattern": ("local",)},
}


def scored_pairs() -> Exhibit:
    """Windows in none, three and all of four layers: pairs scored by length, cache kept, and whether the last token still hears of the first."""
    lengths, rows, series = [16, 64, 256, 1024], [], []
    for name, changes in PATTERNS.items():
        cfg = _tiny.shape(n_layers=4, **changes)
        pairs = []
        for n in lengths:
            at = torch.arange(n)
            masks = [visible(at, at, window=cfg.layer_window(layer)) for layer in range(cfg.n_layers)]
            pairs.append(sum(int(mask.sum()) for mask in masks))
        model, ids = Decoder(cfg).eval(), _tiny.text_ids()[:256]
        initialize(model, "xavier")
        other = ids.clone()
        other[0] = (ids[0] + 1) % 256
        with torch.no_grad():
            change = model(other, Packed([256]))[-1] - model(ids, Packed([256]))[-1]
        rows.append(
            (name, *pairs, kv_bytes(cfg, 1024, bytes_per_number=4) / 1024, bool(change.abs().max() > 0))
        )
        series.append(Series(name=name, x=lengths, y=pairs))
    return Exhibit(
        title="4 layers, pairs of a head counted from the masks; cache in fp32",
        columns=(
            "pattern",
            *(f"{n:,} tokens" for n in lengths),
            "KiB for 1,024",
            "token 1 reaches token 256",
        ),
        rows=rows,
        series=series,
        x="tokens",
        y="pairs",
        log_x=True,
        log_y=True,
        reads="Dense work grows with the square of the length, a window's with the length. Through windows alone news travel 15 tokens a layer, so what "
        "stands further back is lost; one global layer brings it back and sets the growth again.",
    )
