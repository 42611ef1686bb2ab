"""Bytes of a file -> fields -> packed panels, and back without the loss of a bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.model.lowbit.formats import join, split, tq2_from_tq1
from orrery.model.lowbit.kinds import KINDS
from orrery.model.lowbit.pack import pack
from orrery.model.lowbit.torch_kernel import dequantize as definition
from orrery.model.quant import dequantize, quantize
from tests.model.lowbit.rows import random_bytes, weights


@pytest.mark.parametrize("kind", KINDS)
def test_fields_hold_every_bit(kind: str) -> None:
    raw = random_bytes(kind, 7, 768)
    assert torch.equal(join(split(raw, kind), kind), raw)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(
    rows=st.integers(1, 40),
    blocks=st.integers(1, 3),
    layout=st.sampled_from([(1, 4), (4, 4), (8, 4), (16, 4), (64, 1)]),
)
def test_packing_is_a_bijection(kind: str, rows: int, blocks: int, layout: tuple[int, int]) -> None:
    raw = random_bytes(kind, rows, blocks * KINDS[kind].block, seed=rows)
    for bits in (None, 8):
        packed = pack(raw, kind, panel=layout[0], quad=layout[1], bits=bits)
        assert torch.equal(packed.blocks(), raw)


def test_packing_in_pieces_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = random_bytes("Q6_K", 50, 512)
    whole = pack(raw, "Q6_K", panel=8, quad=4)
    monkeypatch.setattr("orrery.model.lowbit.pack.CHUNK", 512 * 8)
    pieces = pack(raw, "Q6_K", panel=8, quad=4)
    assert all(torch.equal(getattr(whole, x), getattr(pieces, x)) for x in ("codes", "d", "sub"))
    assert torch.equal(pieces.blocks(), raw)


@pytest.mark.parametrize("kind", KINDS)
def test_it_takes_the_memory_of_the_file(kind: str) -> None:
    raw = random_bytes(kind, 64, 1024)
    assert pack(raw, kind, panel=16, quad=4).nbytes <= raw.numel() * (
        1.25 if kind in ("Q2_K", "TQ2_0") else 1.06
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_definition_of_a_kind(kind: str) -> None:
    raw, expected = weights(kind, 9, 512)
    assert torch.equal(definition(split(raw, kind), KINDS[kind]), expected)
    packed = pack(raw, kind, panel=4, quad=4)
    ids = torch.tensor([8, 0, 3, 3])
    assert torch.equal(definition(packed.select(ids), KINDS[kind]), expected[ids])


def test_a_block_by_hand() -> None:
    """Q4_0: scale 0.5, byte i holds weight i low and weight i + 16 high, each less 8."""
    block = torch.tensor([0x00, 0x38, *range(0x10, 0x20)], dtype=torch.uint8)[None]  # 0x3800 = 0.5
    fields = split(block, "Q4_0")
    assert fields.codes[0].tolist() == [*range(16), *[1] * 16]
    expected = [0.5 * (code - 8) for code in range(16)] + [-3.5] * 16
    assert definition(fields, KINDS["Q4_0"])[0].tolist() == expected
    # Two rows, quads of 4: register v holds quad v in its low halves and quad v + 4 in its high ones, row after row.
    packed = pack(block.repeat(2, 1), "Q4_0", panel=2, quad=4)
    assert packed.codes[0, 0, 1].tolist() == [0x14, 0x15, 0x16, 0x17] * 2


def test_fp4_scales_reach_both_ends() -> None:
    """The exponents of MXFP4 go beyond what a 16-bit half float holds, down to the two subnormal ones."""
    raw = torch.zeros(1, 17 * 4, dtype=torch.uint8)
    raw[0, ::17] = torch.tensor([0, 1, 2, 254], dtype=torch.uint8)
    raw.view(4, 17)[:, 1] = 7  # 12 = twice six
    values = definition(split(raw, "MXFP4"), KINDS["MXFP4"])[0, ::32]
    assert values.tolist() == [12 * 2.0**-128, 12 * 2.0**-127, 12 * 2.0**-126, float("inf")]
    assert torch.equal(join(split(raw, "MXFP4"), "MXFP4"), raw)


def test_ternary_digits_change_their_packing_only() -> None:
    raw = quantize(torch.randn(5, 512), "TQ1_0")
    assert torch.equal(dequantize(tq2_from_tq1(raw), "TQ2_0"), dequantize(raw, "TQ1_0"))
