"""Tiles of attention: the choice fits, and the traffic is what a tiled attention really moves."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.kit.errors import OrreryError
from orrery.plan.hardware import DEVICES
from orrery.plan.tiles import Tiles, choose_tiles, tile_bytes, untiled_bytes


def tiled(q, k, v, tiles: Tiles, *, causal: bool):
    """Attention of one head by tiles with a running softmax, counting numbers that go to and from main memory."""
    length, moved, steps = len(q), 0, 0
    out = torch.empty(length, v.shape[1])
    for start in range(0, length, tiles.queries):
        rows = q[start : start + tiles.queries]
        moved += rows.numel()
        best = torch.full((len(rows), 1), -math.inf)
        total, kept = torch.zeros(len(rows), 1), torch.zeros(len(rows), v.shape[1])
        for at in range(0, start + len(rows) if causal else length, tiles.keys):
            keys, values = k[at : at + tiles.keys], v[at : at + tiles.keys]
            moved += keys.numel() + values.numel()
            steps += 1
            scores = rows @ keys.T / math.sqrt(q.shape[1])
            if causal:
                hidden = torch.arange(at, at + len(keys)) > torch.arange(start, start + len(rows))[:, None]
                scores = scores.masked_fill(hidden, -math.inf)
            new = torch.maximum(best, scores.max(dim=1, keepdim=True).values)
            shrink, weights = (best - new).exp(), (scores - new).exp()
            total, kept = total * shrink + weights.sum(dim=1, keepdim=True), kept * shrink + weights @ values
            best = new
        out[start : start + len(rows)] = kept / total
        moved += kept.numel()
    return out, moved, steps


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 90), st.sampled_from([4, 8]), st.sampled_from([4, 6]), st.sampled_from([16, 32, 64]),
    st.sampled_from([16, 32, 64]), st.booleans(),
)  # fmt: skip
def test_the_traffic_is_what_a_tiled_attention_moves(
    length, key_dim, value_dim, queries, keys, causal
) -> None:
    g = torch.Generator().manual_seed(length)
    q, k, v = (torch.randn(length, width, generator=g) for width in (key_dim, key_dim, value_dim))
    tiles = Tiles(queries=queries, keys=keys, on_chip_bytes=0)
    out, moved, steps = tiled(q, k, v, tiles, causal=causal)
    want = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=causal)[0]
    torch.testing.assert_close(out, want, atol=1e-5, rtol=1e-5)
    assert tiles.steps(length, causal=causal) == steps
    widths = {"key_dim": key_dim, "value_dim": value_dim}
    assert tiles.traffic_bytes(length, number=1, causal=causal, **widths) == moved


@settings(max_examples=60, deadline=None)
@given(
    st.integers(12_000, 4_000_000),
    st.sampled_from([64, 128, 192]),
    st.sampled_from([64, 128]),
    st.sampled_from([1, 2, 4]),
)
def test_the_choice_fits_and_nothing_that_fits_moves_less(chip, key_dim, value_dim, number) -> None:
    widths = {"key_dim": key_dim, "value_dim": value_dim, "number": number}
    if tile_bytes(16, 16, **widths) > chip:
        with pytest.raises(OrreryError, match="need at least"):
            choose_tiles(chip, **widths)
        return
    chosen = choose_tiles(chip, **widths)
    assert chosen.on_chip_bytes <= chip
    moved = chosen.traffic_bytes(8192, **widths)
    for queries in (16, 32, 64, 128, 256, 512, 1024):
        if tile_bytes(queries, 16, **widths) <= chip:
            other = Tiles(queries=queries, keys=16, on_chip_bytes=0)
            assert moved <= other.traffic_bytes(8192, causal=False, **widths)
            assert chosen.queries >= queries


def test_more_room_never_means_more_traffic() -> None:
    moved = [
        choose_tiles(kib * 1024, key_dim=128, value_dim=128).traffic_bytes(4096, key_dim=128, value_dim=128, causal=False)
        for kib in (32, 64, 128, 256, 512, 1024)
    ]  # fmt: skip
    assert moved == sorted(moved, reverse=True)


def test_an_h100_by_hand() -> None:
    """Heads of 128 in bf16, 227 KiB: 256 queries take 198,656 bytes and 16 keys 24,576 more, of 232,448; twice as
    many keys or queries do not fit. 4096 tokens by 16 tiles: 16 x 4096 x 256 numbers of keys and values."""
    chip = DEVICES["h100"].on_chip_bytes or 0
    tiles = choose_tiles(chip, key_dim=128, value_dim=128)
    assert (tiles.queries, tiles.keys) == (256, 16)
    assert tiles.on_chip_bytes == 2 * (256 * 128 + 16 * 256) + 4 * (256 * 16 + 256 * 130)
    moved = tiles.traffic_bytes(4096, key_dim=128, value_dim=128, causal=False)
    assert moved == 2 * (4096 * 256 + 16 * 4096 * 256)
    whole = untiled_bytes(4096, key_dim=128, value_dim=128, causal=False)
    assert whole == 2 * (4096 * 512 + 4 * 4096**2)
    assert whole / moved == pytest.approx(3.88, abs=0.01)


def test_short_sequences_need_no_large_tiles() -> None:
    tiles = choose_tiles(1 << 20, key_dim=64, value_dim=64, length=40)
    assert (tiles.queries, tiles.keys) == (64, 64)
