"""Precision is chosen by what the hardware does; loss scaling keeps small gradients and gives way to
overflow.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from orrery.kit.errors import OrreryError
from orrery.train.precision import LossScaler, Precision, bf16_is_fast, choose_precision, fp16_is_fast


def pretend(
    monkeypatch: pytest.MonkeyPatch, *, onednn: bool, avx512: bool, amx: bool, amx_fp16: bool = False
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_amx_fp16_supported", lambda: amx_fp16)


def test_a_laptop_without_avx512_trains_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, onednn=False, avx512=False, amx=False)
    assert choose_precision("auto").dtype == torch.float32
    assert not bf16_is_fast() and not fp16_is_fast()
    for choice in ("bf16", "fp16"):
        with pytest.raises(OrreryError, match="use precision: fp32"):
            choose_precision(choice)  # type: ignore[arg-type]


def test_bf16_where_there_are_instructions_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for avx512, amx in ((True, False), (False, True)):
        pretend(monkeypatch, onednn=True, avx512=avx512, amx=amx)
        assert bf16_is_fast() and choose_precision("auto").dtype == torch.bfloat16
    pretend(monkeypatch, onednn=True, avx512=False, amx=False)  # AVX-512 that only emulates bf16
    assert not bf16_is_fast()


def test_fp16_needs_amx_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, onednn=True, avx512=True, amx=True, amx_fp16=True)
    assert choose_precision("fp16").scaler().factor == 65536


def test_float32_neither_casts_nor_scales() -> None:
    precision = Precision(torch.float32, "cpu")
    loss = torch.tensor(3.0)
    with precision.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    scaler = precision.scaler()
    assert scaler.scale(loss) is loss
    scaler.update(applied=False)
    assert scaler.factor == 1.0


def test_autocast_multiplies_in_the_chosen_format() -> None:
    with Precision(torch.bfloat16, "cpu").autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_factor_moves_as_torchs_scaler() -> None:
    """Overflows and good steps in some order give the same sequence of factors."""
    ours, theirs = (
        LossScaler(1024.0, interval=3),
        torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3),
    )
    layer = nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
    for applied in (True, True, False, True, True, True, True, False, False, True):
        layer.weight.grad = torch.tensor([[1.0 if applied else float("inf")]])
        theirs.scale(torch.ones(()))
        theirs.step(optimizer)
        theirs.update()
        ours.update(applied)
        assert ours.factor == theirs.get_scale()


def test_scaling_saves_small_gradients_in_fp16() -> None:
    """1e-5 * 1e-4 is under the smallest number of fp16."""

    def gradient(scaler: LossScaler) -> float:
        w = nn.Parameter(torch.zeros(1))
        half = w.to(torch.float16) * torch.tensor([1e-4], dtype=torch.float16)  # backward in fp16 here
        scaler.scale(half.float() * 1e-5).sum().backward()
        scaler.unscale([w])
        return w.grad.item()

    assert gradient(LossScaler(1.0)) == 0.0
    assert gradient(LossScaler()) == pytest.approx(1e-9, rel=1e-2)


def test_state_goes_on() -> None:
    scaler = LossScaler(8.0, interval=2)
    scaler.update(True)
    other = LossScaler(interval=2)
    other.load(scaler.state())
    other.update(True)
    assert other.factor == 16.0 and other.good_steps == 0
