"""Attention over pages against the definition, and the promise that a query's numbers depend on nothing else in the call."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from orrery.model.lowbit import backend
from orrery.model.lowbit.attention import paged_attention, write_pages

pytestmark = pytest.mark.skipif(backend() != "c++", reason="there is no compiled kernel here")

HEADS, GROUPS = 4, 2


def definition(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    seen: Tensor,
    *,
    scale: float,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """q (T, H, D) of one sequence with keys (S, K, D); seen (T, S)."""
    k, v = (x.double().repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = torch.einsum("thd,shd->hts", q.double(), k) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~seen, -torch.inf)
    if sinks is not None:
        scores = torch.cat((scores, sinks.double()[:, None, None].expand(-1, len(q), 1)), -1)
    weights = scores.softmax(-1)[..., : k.shape[0]]
    return torch.einsum("hts,shd->thd", weights, v).float()


class Case:
    """Some sequences in pages of `block` tokens, in a shuffled order, among pages that hold NaN."""

    def __init__(
        self,
        lengths: list[int],
        *,
        block: int,
        width: int = 32,
        value_width: int = 32,
        kind: torch.dtype = torch.float32,
    ) -> None:
        make = torch.Generator().manual_seed(sum(lengths) + block + width)
        self.lengths, self.block = lengths, block
        self.k = [torch.randn(n, GROUPS, width, generator=make) for n in lengths]
        self.v = [torch.randn(n, GROUPS, value_width, generator=make) for n in lengths]
        self.q = [torch.randn(n, HEADS, width, generator=make) for n in lengths]
        counts = [-(-n // block) for n in lengths]
        pages = torch.randperm(sum(counts) + 3, generator=make).int().split([*counts, 3])
        self.tables = torch.zeros(len(lengths), max(counts), dtype=torch.int32)
        for row, mine in zip(self.tables, pages, strict=False):
            row[: len(mine)] = mine
        total = sum(counts) + 3
        fill = torch.nan if kind in (torch.float32, torch.bfloat16) else 1
        self.keys = torch.full((total, block, GROUPS, width), 0.0).to(kind)
        self.values = torch.full((total, block, GROUPS, value_width), 0.0).to(kind)
        if kind in (torch.float32, torch.bfloat16):
            self.keys.fill_(fill), self.values.fill_(fill)
        scales = kind in (torch.int8, torch.float8_e4m3fn)
        self.key_scales = torch.full((total, block, GROUPS), torch.nan) if scales else None
        self.value_scales = torch.full((total, block, GROUPS), torch.nan) if scales else None
        everything = [(row, range(n)) for row, n in enumerate(lengths)]
        owner, places = self.places(everything)
        write_pages(
            torch.cat(self.k), torch.cat(self.v), self.keys, self.values, self.tables, owner, places,
            key_scales=self.key_scales, value_scales=self.value_scales,
        )  # fmt: skip

    @staticmethod
    def places(work: list[tuple[int, range]]) -> tuple[Tensor, Tensor]:
        owner = torch.tensor([row for row, places in work for _ in places], dtype=torch.int32)
        return owner, torch.tensor([place for _, places in work for place in places])

    def attend(self, work: list[tuple[int, range]], **options: Any) -> list[Tensor]:
        owner, places = self.places(work)
        q = torch.cat([self.q[row][list(where)] for row, where in work])
        out = paged_attention(
            q, self.keys, self.values, self.tables, owner, places, value_dim=self.values.shape[-1],
            key_scales=self.key_scales, value_scales=self.value_scales, **options,
        )  # fmt: skip
        return list(out.split([len(where) for _, where in work]))


@pytest.mark.parametrize("block", [1, 4, 16, 100])
@pytest.mark.parametrize("window", [None, 1, 7])
@pytest.mark.parametrize("extras", ["plain", "softcap", "sinks"])
@torch.inference_mode()
def test_it_is_the_definition(block: int, window: int | None, extras: str) -> None:
    case = Case([37, 1, 64], block=block)
    softcap = 5.0 if extras == "softcap" else None
    sinks = torch.tensor([0.5, -1.0, 2.0, 0.0]) if extras == "sinks" else None
    work = [(row, range(n)) for row, n in enumerate(case.lengths)]
    found = case.attend(work, scale=0.2, window=window, softcap=softcap, sinks=sinks)
    for row, n in enumerate(case.lengths):
        distance = torch.arange(n)[:, None] - torch.arange(n)
        seen = (distance >= 0) & (distance < (window or n))
        wanted = definition(
            case.q[row], case.k[row], case.v[row], seen, scale=0.2, softcap=softcap, sinks=sinks
        )
        torch.testing.assert_close(found[row], wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("width,value_width", [(8, 8), (40, 24), (128, 128), (256, 256), (20, 100)])
@torch.inference_mode()
def test_any_width(width: int, value_width: int) -> None:
    case = Case([50], block=16, width=width, value_width=value_width)
    (found,) = case.attend([(0, range(50))], scale=width**-0.5)
    seen = torch.ones(50, 50).tril().bool()
    wanted = definition(case.q[0], case.k[0], case.v[0], seen, scale=width**-0.5, softcap=None, sinks=None)
    torch.testing.assert_close(found, wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("window", [None, 9])
@torch.inference_mode()
def test_a_query_does_not_notice_what_else_is_in_the_call(window: int | None) -> None:
    case = Case([70, 33, 18, 5], block=4, width=64, value_width=64)
    whole = case.attend([(row, range(n)) for row, n in enumerate(case.lengths)], scale=0.1, window=window)
    alone = [
        case.attend([(row, range(n))], scale=0.1, window=window)[0] for row, n in enumerate(case.lengths)
    ]
    assert all(map(torch.equal, whole, alone))
    single = torch.cat([case.attend([(0, range(i, i + 1))], scale=0.1, window=window)[0] for i in range(70)])
    assert torch.equal(single, whole[0])
    chunks = [
        case.attend([(3, range(2, 5)), (0, range(a, b))], scale=0.1, window=window)[1]
        for a, b in ((0, 11), (11, 64), (64, 70))
    ]
    assert torch.equal(torch.cat(chunks), whole[0])
    other = Case([70, 33, 18, 5], block=16, width=64, value_width=64)
    other.q, other.k, other.v = case.q, case.k, case.v
    owner, places = case.places([(0, range(70))])
    write_pages(case.k[0], case.v[0], other.keys, other.values, other.tables, owner, places)
    assert torch.equal(other.attend([(0, range(70))], scale=0.1, window=window)[0], whole[0])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if before > 1 else 2)
        assert torch.equal(case.attend([(0, range(70))], scale=0.1, window=window)[0], whole[0])
        assert torch.equal(case.attend([(0, range(69, 70))], scale=0.1, window=window)[0], whole[0][69:])
    finally:
        torch.set_num_threads(before)


@torch.inference_mode()
def test_a_tree_of_drafts_sees_its_ancestors() -> None:
    # Places 10..14 hold a tree: 10 and 11 follow the sequence, 12 follows 10, 13 follows 11, 14 follows 12.
    parents = {10: None, 11: None, 12: 10, 13: 11, 14: 12}
    case = Case([15], block=4)
    own, depth = [], []
    for place in range(10, 15):
        line, at = [], place
        while at is not None:
            line.append(at)
            at = parents[at]
        own.append((10, sum(1 << (i - 10) for i in line)))
        depth.append(9 + len(line))
    out = paged_attention(
        case.q[0][10:], case.keys, case.values, case.tables, torch.zeros(5, dtype=torch.int32), torch.tensor(depth),
        value_dim=32, scale=0.3, window=8, own=torch.tensor(own),
    )  # fmt: skip
    for i, place in enumerate(range(10, 15)):
        line = [j for j in range(10) if depth[i] - j < 8] + [
            j for j in range(10, 15) if own[i][1] >> (j - 10) & 1
        ]
        seen = torch.zeros(1, 15, dtype=torch.bool)
        seen[0, line] = True
        wanted = definition(
            case.q[0][place : place + 1], case.k[0], case.v[0], seen, scale=0.3, softcap=None, sinks=None
        )
        torch.testing.assert_close(out[i : i + 1], wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    "kind,bound", [(torch.bfloat16, 0.02), (torch.int8, 0.03), (torch.float8_e4m3fn, 0.1)]
)
@torch.inference_mode()
def test_smaller_numbers_in_the_pages(kind: torch.dtype, bound: float) -> None:
    exact, small = Case([40, 9], block=8), Case([40, 9], block=8, kind=kind)
    work = [(0, range(40)), (1, range(9))]
    for a, b in zip(exact.attend(work, scale=0.2), small.attend(work, scale=0.2), strict=True):
        assert 0 < float((a - b).abs().max()) < bound * float(a.abs().max())


@torch.inference_mode()
def test_what_the_pages_hold_is_rounded_as_torch_rounds() -> None:
    x = torch.cat([torch.randn(500, 1, 8), torch.zeros(1, 1, 8), torch.randn(20, 1, 8) * 1e-4])
    table, owner, places = (
        torch.zeros(1, 1, dtype=torch.int32),
        torch.zeros(len(x), dtype=torch.int32),
        torch.arange(len(x)),
    )
    keys, values = (torch.empty(1, len(x), 1, 8, dtype=torch.bfloat16) for _ in range(2))
    write_pages(x, x, keys, values, table, owner, places)
    assert torch.equal(keys[0], x.to(torch.bfloat16))
    scales = [torch.empty(1, len(x), 1) for _ in range(2)]
    keys, values = (torch.empty(1, len(x), 1, 8, dtype=torch.float8_e4m3fn) for _ in range(2))
    write_pages(x, x, keys, values, table, owner, places, key_scales=scales[0], value_scales=scales[1])
    most = x.abs().amax(-1, keepdim=True)
    wanted = torch.where(most > 0, x * (448 / most), 0).to(torch.float8_e4m3fn)
    assert torch.equal(keys[0].float(), wanted.float())
    torch.testing.assert_close(scales[0][0], most[..., 0] / 448)


@torch.inference_mode()
def test_values_that_are_the_beginning_of_the_keys() -> None:
    case = Case([30], block=8, width=48, value_width=48)
    owner, places = case.places([(0, range(30))])
    shared = paged_attention(case.q[0], case.keys, None, case.tables, owner, places, value_dim=32, scale=0.2)
    copied = paged_attention(
        case.q[0],
        case.keys,
        case.keys[..., :32].contiguous(),
        case.tables,
        owner,
        places,
        value_dim=32,
        scale=0.2,
    )
    assert torch.equal(shared, copied)
