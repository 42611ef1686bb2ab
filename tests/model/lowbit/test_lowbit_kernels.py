"""The three kernels: near the product of the dequantised weights, equal to each other, blind to the batch."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from orrery.model.lowbit.build import BuildError
from orrery.model.lowbit.choice import Backend, backend, make_matrix
from orrery.model.lowbit.kinds import KINDS
from orrery.model.lowbit.matrix import Matrix
from orrery.model.lowbit.native import load
from orrery.model.lowbit.torch_kernel import quantize_activations
from tests.model.lowbit.rows import activations, random_bytes, weights


def _compiled() -> bool:
    try:
        load()
    except BuildError:
        return False
    return True


BACKENDS = [
    pytest.param("c++", marks=pytest.mark.skipif(not _compiled(), reason="no C++ compiler on this machine")),
    pytest.param(
        "numba",
        marks=pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed"),
    ),
    "torch",
]


@pytest.fixture(autouse=True)
def _threads_as_before() -> None:
    torch.set_num_threads(1)


def multiply(matrix: Matrix, x: Tensor, threads: int = 1) -> Tensor:
    torch.set_num_threads(threads)
    return matrix.multiply(x.contiguous())


@pytest.mark.parametrize("using", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_error_against_float_products(using: Backend, kind: str) -> None:
    """Eight-bit activations cost about half a percent, one with wild columns; the weights themselves cost nothing."""
    raw, w = weights(kind, 75, 1024)
    matrix = make_matrix(raw, kind, using=using)
    for outliers, bound in ((1.0, 0.01), (20.0, 0.02)):
        x = activations(6, 1024, outliers=outliers)
        expected = x.double() @ w.double().T
        y = multiply(matrix, x)
        assert (y - expected).norm() < bound * expected.norm()
        q, s = quantize_activations(x)
        rounded = (q * s[..., None]).flatten(1).double() @ w.double().T
        assert (y - rounded).norm() < 1e-6 * rounded.norm()
        assert (matrix.multiply(x, 2) - expected).norm() < bound / 200 * expected.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_kernels_agree(kind: str) -> None:
    raw, _ = weights(kind, 37, 768)
    x = activations(19, 768)
    first = multiply(make_matrix(raw, kind, using="torch"), x)
    for parameter in BACKENDS[:-1]:
        using = parameter.values[0]
        if any(mark.args[0] for mark in parameter.marks):
            continue
        other = multiply(make_matrix(raw, kind, using=using), x)
        assert (other - first).norm() <= 1e-6 * first.norm(), using
        finer, other = (make_matrix(raw, kind, using=u).multiply(x, 2) for u in ("torch", using))
        assert (other - finer).norm() <= 1e-6 * finer.norm(), using


@pytest.mark.parametrize("using", BACKENDS)
@pytest.mark.parametrize("kind", ["Q8_0", "Q5_0", "Q6_K", "Q2_K", "IQ4_NL"])
def test_rows_do_not_see_their_batch(using: Backend, kind: str) -> None:
    """The same bits alone or among up to 64, in any place, with one, two or three threads."""
    raw, _ = weights(kind, 100, 512)
    matrix = make_matrix(raw, kind, using=using)
    x = activations(64, 512)
    alone = torch.cat([multiply(matrix, row[None]) for row in x])
    for m in (2, 3, 4, 5, 7, 8, 11, 15, 16, 17, 31, 64):
        for threads in (1, 2, 3):
            assert torch.equal(multiply(matrix, x[:m], threads), alone[:m])
    assert torch.equal(multiply(matrix, x.flip(0)).flip(0), alone)
    two_terms = matrix.multiply(x, 2)
    assert torch.equal(
        torch.cat([matrix.multiply(x[i : i + 5].contiguous(), 2) for i in range(0, 64, 5)]), two_terms
    )


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_rows_of_any_matrix(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(KINDS)))
    n = data.draw(st.integers(1, 70))
    k = KINDS[kind].block * data.draw(st.integers(1, 4))
    raw, _ = weights(kind, n, k, seed=n)
    matrix = make_matrix(raw, kind)
    x = activations(data.draw(st.integers(1, 40)), k, seed=k)
    picked = torch.tensor(data.draw(st.lists(st.integers(0, len(x) - 1), min_size=1, max_size=50)))
    threads = data.draw(st.integers(1, 3))
    assert torch.equal(multiply(matrix, x[picked], threads), multiply(matrix, x)[picked])


@pytest.mark.parametrize("using", BACKENDS)
def test_a_product_by_hand(using: Backend) -> None:
    """Weights 2 * (0 .. 31) in Q8_0, activations 1 and 127: whole numbers all along, so the result is exact."""
    raw = torch.cat([torch.tensor([0x00, 0x40], dtype=torch.uint8), torch.arange(32, dtype=torch.uint8)])[
        None
    ]
    x = torch.ones(1, 32)
    x[0, 31] = 127
    y = multiply(make_matrix(raw, "Q8_0", using=using), x)
    assert y.tolist() == [[2.0 * (sum(range(31)) + 31 * 127)]]


@pytest.mark.parametrize("using", BACKENDS)
def test_the_largest_sums_do_not_overflow(using: Backend) -> None:
    """Codes and activations at their ends: -128 * -127 * 32 in every block, far beyond 16 bits."""
    for code, kind in ((0x80, "Q8_0"), (0x7F, "Q8_0"), (0xFF, "Q5_1"), (0xFF, "Q6_K"), (0xFF, "Q4_1")):
        raw = torch.full((3, 256 // KINDS[kind].block * KINDS[kind].size), code, dtype=torch.uint8)
        blocks = raw.view(3, -1, KINDS[kind].size)
        one = torch.tensor([0x00, 0x3C], dtype=torch.uint8)
        if kind == "Q6_K":
            blocks[..., 208:] = one
        else:
            blocks[..., :2] = one
        if kind in ("Q4_1", "Q5_1"):
            blocks[..., 2:4] = 0
        for sign in (1.0, -1.0):
            x = torch.full((2, 256), 127.0 * sign)
            value = {"Q5_1": 31, "Q6_K": -31, "Q4_1": 15}.get(kind, code - 256 if code > 127 else code)
            y = multiply(make_matrix(raw, kind, using=using), x)
            assert y.unique().tolist() == [value * 127.0 * sign * 256]


@pytest.mark.parametrize("using", BACKENDS)
def test_what_is_not_a_number_stays_in_its_row(using: Backend) -> None:
    raw, _ = weights("Q5_0", 20, 64)
    matrix = make_matrix(raw, "Q5_0", using=using)
    x = activations(5, 64)
    clean = multiply(matrix, x)
    x[1, 40], x[3, 0] = float("nan"), float("-inf")
    y = multiply(matrix, x)
    assert y[[1, 3]].isnan().all() and matrix.multiply(x, 2)[[1, 3]].isnan().all()
    assert torch.equal(y[[0, 2, 4]], clean[[0, 2, 4]])
    assert multiply(matrix, torch.zeros(1, 64)).eq(0).all()
    assert multiply(matrix, torch.full((1, 64), 1e-38)).eq(0).all()


@pytest.mark.parametrize("using", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_single_rows(using: Backend, kind: str) -> None:
    raw, w = weights(kind, 33, 512)
    ids = torch.tensor([32, 0, 5, 5, 17])
    assert torch.equal(make_matrix(raw, kind, using=using).rows(ids), w[ids])


@pytest.mark.parametrize("using", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_any_bytes_are_survived(using: Backend, kind: str) -> None:
    """Scales may be infinite or not numbers in a damaged file: a result, whatever it is, and the bytes back."""
    raw = random_bytes(kind, 5, 256)
    matrix = make_matrix(raw, kind, using=using)
    assert multiply(matrix, activations(3, 256)).shape == (3, 5)
    assert torch.equal(matrix.blocks(), raw)


def test_the_fast_kernel_is_used_where_it_can_be() -> None:
    if _compiled():
        assert backend() == "c++"
