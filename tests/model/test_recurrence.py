"""The state-space recurrence and the delta rule: chunks against one token at a time against the definition."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from orrery.model.decay import decay_between, into_chunks
from orrery.model.delta_rule import delta_rule, delta_step
from orrery.model.short_conv import ShortConv
from orrery.model.ssd import ssd, ssd_step

Inputs = tuple[Tensor, ...]


def ssd_inputs(length: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Inputs:
    """x, dt, A, B, C, state: 4 heads of width 3 in 2 groups, state of width 5."""
    g = torch.Generator().manual_seed(seed)
    x, B, C = (torch.randn(length, *shape, generator=g, dtype=dtype) for shape in ((4, 3), (2, 5), (2, 5)))
    dt = torch.rand(length, 4, generator=g, dtype=dtype) * 0.5
    A = -torch.rand(4, generator=g, dtype=dtype) * 8
    return x, dt, A, B, C, torch.randn(4, 3, 5, generator=g, dtype=dtype)


def delta_inputs(length: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Inputs:
    """q, k, v, log_decay, beta, state: 2 heads, keys of width 4 and length 1, values of width 3."""
    g = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(length, 2, n, generator=g, dtype=dtype) for n in (4, 4, 3))
    log_decay = -torch.rand(length, 2, generator=g, dtype=dtype) * 2
    beta = torch.rand(length, 2, generator=g, dtype=dtype)
    k = torch.nn.functional.normalize(k, dim=-1)
    return q, k, v, log_decay, beta, torch.randn(2, 4, 3, generator=g, dtype=dtype)


def ssd_slowly(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The definition, number by number."""
    y, S = torch.zeros_like(x), state.clone()
    for t in range(len(x)):
        for h in range(x.shape[1]):
            g = h // (x.shape[1] // B.shape[1])
            for p in range(x.shape[2]):
                S[h, p] = math.exp(dt[t, h] * A[h]) * S[h, p] + dt[t, h] * x[t, h, p] * B[t, g]
                y[t, h, p] = S[h, p] @ C[t, g]
    return y, S


def delta_slowly(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The paper's own form, S_t = S_{t-1} a_t (I - b_t k_t k_t^T) + b_t v_t k_t^T, with (V, K) states."""
    out, S = torch.zeros_like(v), state.transpose(1, 2).clone()
    for t in range(len(q)):
        for h in range(q.shape[1]):
            a, b, key = log_decay[t, h].exp(), beta[t, h], k[t, h]
            erase = torch.eye(len(key), dtype=q.dtype) - b * torch.outer(key, key)
            S[h] = a * S[h] @ erase + b * torch.outer(v[t, h], key)
            out[t, h] = S[h] @ q[t, h]
    return out, S.transpose(1, 2)


FORMS = {
    "ssd": (ssd_inputs, ssd, ssd_step, ssd_slowly),
    "delta": (delta_inputs, delta_rule, delta_step, delta_slowly),
}


def stretch(name: str, inputs: Inputs, start: int, end: int) -> Inputs:
    """The tokens start..end of what runs over time (A of the state-space layer does not)."""
    return tuple(t if name == "ssd" and i == 2 else t[start:end] for i, t in enumerate(inputs[:-1]))


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 16, 21])
@pytest.mark.parametrize("chunk", [1, 4, 8, 64])
def test_chunks_and_steps_are_the_definition(name: str, length: int, chunk: int) -> None:
    make, whole, step, slowly = FORMS[name]
    inputs = make(length)
    want, end = slowly(*inputs)
    y, state = whole(*inputs, chunk=chunk)
    torch.testing.assert_close((y, state), (want, end), atol=1e-12, rtol=1e-12)
    state, out = inputs[-1], []
    for t in range(length):
        tokens = [
            x[0] if x.ndim and not (name == "ssd" and i == 2) else x
            for i, x in enumerate(stretch(name, inputs, t, t + 1))
        ]
        y, state = step(*tokens, state)
        out.append(y)
    torch.testing.assert_close((torch.stack(out), state), (want, end), atol=1e-12, rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.data(), st.sampled_from(list(FORMS)))
def test_a_sequence_may_be_cut_anywhere(data: st.DataObject, name: str) -> None:
    make, whole, _, _ = FORMS[name]
    cuts = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=6))
    inputs = make(sum(cuts), seed=len(cuts), dtype=torch.float32)
    want, end = whole(*inputs, chunk=data.draw(st.sampled_from([4, 64])))
    state, out, start = inputs[-1], [], 0
    for n in cuts:
        y, state = whole(
            *stretch(name, inputs, start, start + n), state, chunk=data.draw(st.sampled_from([1, 3, 8]))
        )
        out.append(y)
        start += n
    torch.testing.assert_close((torch.cat(out), state), (want, end), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", FORMS)
def test_gradients_of_chunks(name: str) -> None:
    """Numerical against autograd, and equal to the gradient of one step after another."""
    make, whole, step, _ = FORMS[name]
    inputs = tuple(t.requires_grad_() for t in make(7))
    assert torch.autograd.gradcheck(lambda *x: whole(*x, chunk=3), inputs)

    def one_by_one(*inputs: Tensor) -> Tensor:
        state, out = inputs[-1], []
        for t in range(7):
            tokens = stretch(name, inputs, t, t + 1)
            y, state = step(*(x if name == "ssd" and i == 2 else x[0] for i, x in enumerate(tokens)), state)
            out.append(y)
        return torch.stack(out)

    weight = torch.randn(
        one_by_one(*inputs).shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5)
    )
    want = torch.autograd.grad((one_by_one(*inputs) * weight).sum(), inputs)
    got = torch.autograd.grad((whole(*inputs, chunk=3)[0] * weight).sum(), inputs)
    torch.testing.assert_close(got, want, atol=1e-10, rtol=1e-10)


def test_by_hand() -> None:
    """One head, all widths 1. A = -log 2 and dt = 1: the state halves. Inputs 1, 2 with B = C = 1 -> 1, 2.5.

    The delta rule with k = q = 1, decay 1/2, b = 1/2 and values 4, 8: 0 -> 2; then 1 + (8 - 1) / 2 = 4.5.
    """
    one = torch.ones(2, 1, 1, dtype=torch.float64)
    x, zero = (
        torch.tensor([1.0, 2.0], dtype=torch.float64).view(2, 1, 1),
        torch.zeros(1, 1, 1, dtype=torch.float64),
    )
    A = -torch.tensor([math.log(2)], dtype=torch.float64)
    y, state = ssd(x, one[..., 0], A, one, one, zero, chunk=8)
    assert y.flatten().tolist() == pytest.approx([1.0, 2.5]) and state.item() == pytest.approx(2.5)
    half = 0.5 * one[..., 0]
    y, state = delta_rule(one, one, 4 * x, half.log(), half, zero, chunk=8)
    assert y.flatten().tolist() == pytest.approx([2.0, 4.5]) and state.item() == pytest.approx(4.5)


def test_the_delta_rule_replaces_what_a_key_held() -> None:
    """Without decay and with b = 1 the last value written for a key is what is read, and other keys are untouched."""
    k = torch.eye(3, dtype=torch.float64)[[0, 1, 0, 2]][:, None]  # (4, 1, 3)
    v = torch.tensor([[1.0], [2.0], [7.0], [3.0]], dtype=torch.float64)[:, None]
    still, full = torch.zeros(4, 1, dtype=torch.float64), torch.ones(4, 1, dtype=torch.float64)
    _, state = delta_rule(k, k, v, still, full, torch.zeros(1, 3, 1, dtype=torch.float64), chunk=2)
    assert state.flatten().tolist() == pytest.approx([7.0, 2.0, 3.0])


def test_segment_sums_keep_the_digits_of_small_sums() -> None:
    """Far into a chunk of strong decay, what lies between neighbours is as exact as at the start."""
    log_decay = torch.full((256,), -10.1)
    log_decay[255] = -1e-3
    assert decay_between(log_decay)[255, 254].item() == pytest.approx(math.exp(-1e-3), rel=1e-6)
    between = decay_between(torch.tensor([0.5, -1.0, -2.0]))
    assert torch.equal(between.triu(1), torch.zeros(3, 3)) and torch.equal(between.diagonal(), torch.ones(3))
    assert between[2, 0].item() == pytest.approx(math.exp(-3))


def test_chunks_are_filled_up_with_zeros() -> None:
    chunks = into_chunks(torch.arange(1.0, 6).unsqueeze(-1), 3)
    assert chunks.squeeze(-1).tolist() == [[1, 2, 3], [4, 5, 0]]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("taps", [1, 2, 4])
def test_short_convolution_is_torchs(taps: int, bias: bool) -> None:
    """And the same however the sequence is cut."""
    g = torch.Generator().manual_seed(0)
    conv, x = ShortConv(6, taps, bias=bias), torch.randn(11, 6, generator=g)
    conv.reset_parameters(g)
    with torch.no_grad():
        padded = torch.nn.functional.pad(x.t()[None], (taps - 1, 0))
        want = torch.nn.functional.silu(torch.nn.functional.conv1d(padded, conv.weight, conv.bias, groups=6))[
            0
        ].t()
        y, state = conv(x, None)
        torch.testing.assert_close(y, want)
        assert torch.equal(state, x[len(x) - taps + 1 :])
        for cut in range(1, 11):
            first, middle = conv(x[:cut], None)
            second, end = conv(x[cut:], middle)
            torch.testing.assert_close(torch.cat((first, second)), y, atol=1e-6, rtol=1e-6)
            assert torch.equal(end, state)
