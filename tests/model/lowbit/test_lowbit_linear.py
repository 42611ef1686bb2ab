"""The layers: shapes, types, what they refuse, and the one copy of a tied table."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
import torch
import torch.nn.functional as F

from orrery.kit.errors import OrreryError
from orrery.model.lowbit import (
    QuantEmbedding,
    QuantLinear,
    Speed,
    measure_bandwidth,
    set_activation_bits,
    speed_report,
)
from orrery.model.quant import quantize
from tests.model.lowbit.rows import activations, weights


def test_a_linear_layer() -> None:
    raw, w = weights("Q4_K", 48, 512)
    bias = torch.randn(48)
    layer = QuantLinear.from_blocks(raw, "Q4_K", bias)
    assert (layer.in_features, layer.out_features, layer.weight_kind) == (512, 48, "Q4_K")
    x = activations(10, 512)
    y, expected = layer(x), F.linear(x, w, bias)
    assert y.shape == (10, 48) and y.dtype == torch.float32
    assert (y - expected).norm() < 0.01 * expected.norm()
    assert torch.equal(layer.dequantized(), w)
    assert torch.equal(layer.blocks(), raw)
    assert torch.equal(layer(x.view(2, 5, 512)), y.view(2, 5, 48))
    assert torch.equal(layer(x.T.contiguous().T), y)
    assert layer(x[:0]).shape == (0, 48)
    assert layer(x.bfloat16()).dtype == torch.bfloat16
    assert "512, 48, Q4_K" in repr(layer)


def test_sixteen_bits_are_as_good_as_float32() -> None:
    raw, w = weights("Q8_0", 48, 512)
    x = activations(10, 512, outliers=20)
    model = torch.nn.ModuleList(
        [QuantLinear.from_blocks(raw, "Q8_0"), QuantEmbedding.from_blocks(raw, "Q8_0")]
    )
    set_activation_bits(model, 16)
    expected = x.double() @ w.double().T
    for y in (model[0](x), model[1].as_linear(x)):
        assert (y - expected).norm() < 1e-4 * expected.norm()


def test_weights_are_no_state() -> None:
    """A model with such layers cannot be mistaken for one with the tensors of its config."""
    layer = QuantLinear.from_blocks(weights("Q8_0", 4, 64)[0], "Q8_0", torch.zeros(4))
    assert not layer.state_dict() and not list(layer.parameters()) and not list(layer.buffers())
    layer.half()  # touches nothing
    assert layer(torch.ones(1, 64)).dtype == torch.float32


def test_the_rows_given_are_copied() -> None:
    raw, _ = weights("Q5_0", 8, 64)
    before = raw.clone()
    layer = QuantLinear.from_blocks(raw, "Q5_0")
    raw.zero_()
    assert torch.equal(layer.blocks(), before)


def test_inputs_get_gradients_and_weights_none() -> None:
    layer = QuantLinear.from_blocks(weights("Q8_0", 4, 64)[0], "Q8_0")
    x = torch.randn(2, 64, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None and not list(layer.parameters())
    torch.testing.assert_close(x.grad[0], layer.dequantized().sum(0))


def test_what_it_refuses() -> None:
    raw, _ = weights("Q8_0", 4, 64)
    layer = QuantLinear.from_blocks(raw, "Q8_0")
    with pytest.raises(OrreryError, match="width 32 do not fit a weight of 64"):
        layer(torch.ones(1, 32))
    with pytest.raises(OrreryError, match="run on the CPU"):
        layer(torch.ones(1, 64, device="meta"))
    with pytest.raises(OrreryError, match="68 bytes are not whole Q4_K blocks of 144"):
        QuantLinear.from_blocks(raw, "Q4_K")
    with pytest.raises(OrreryError, match="uint8"):
        QuantLinear.from_blocks(raw.float(), "Q8_0")
    with pytest.raises(OrreryError):
        QuantLinear.from_blocks(raw, "Q9_9")


def test_an_embedding_and_its_tied_head_are_one_table() -> None:
    raw, w = weights("Q8_0", 300, 64)
    table = QuantEmbedding.from_blocks(raw, "Q8_0")
    ids = torch.tensor([[0, 299, 7], [7, 7, 1]])
    assert torch.equal(table(ids), w[ids])
    assert table(ids[:0]).shape == (0, 3, 64)
    x = activations(3, 64)
    logits = table.as_linear(x)
    assert torch.equal(logits, QuantLinear.from_blocks(raw, "Q8_0")(x))
    assert table.matrix.nbytes <= raw.numel() * 1.1
    assert torch.equal(table.dequantized(), w) and torch.equal(table.blocks(), raw)
    for bad in (torch.tensor([300]), torch.tensor([-1])):
        with pytest.raises(OrreryError, match="outside a table of 300"):
            table(bad)


def test_ternary_and_plain_floats() -> None:
    """TQ1_0 becomes TQ2_0's layout, F16 becomes dense: the numbers and the bytes given back stay."""
    x = torch.randn(6, 256)
    for kind in ("TQ1_0", "F16"):
        raw = quantize(x, kind)
        layer = QuantLinear.from_blocks(raw, kind)
        expected = F.linear(x, layer.dequantized())
        assert (layer(x) - expected).norm() < 0.01 * expected.norm()
        assert torch.equal(layer.blocks(), raw)
    assert torch.equal(layer.dequantized(), x.half().float())


def test_several_python_threads_at_once() -> None:
    """A generation server may call from many threads; each gets its own, right numbers."""
    raw, _ = weights("Q5_0", 2048, 640)
    layer = QuantLinear.from_blocks(raw, "Q5_0")
    xs = [activations(1 + i % 5, 640, seed=i) for i in range(8)]
    torch.set_num_threads(2)
    try:
        expected = [layer(x) for x in xs]
        wrong: list[int] = []

        def work(i: int) -> None:
            for _ in range(50):
                if not torch.equal(layer(xs[i]), expected[i]):
                    wrong.append(i)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(xs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
    finally:
        torch.set_num_threads(1)


FORK = """
import os, torch
from orrery.model.lowbit import QuantLinear
torch.manual_seed(0)
layer = QuantLinear.from_blocks(torch.randint(0, 48, (2048, 440), dtype=torch.uint8), "Q5_0")
x = torch.randn(3, 640)
torch.set_num_threads(2)
y = layer(x)
child = os.fork()
if not child:
    os._exit(0 if torch.equal(layer(x), y) else 1)
assert os.waitpid(child, 0)[1] == 0 and torch.equal(layer(x), y)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_goes_on_without_the_helpers() -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], check=True, timeout=60)


def test_speed_is_a_measurement() -> None:
    speed = speed_report(repeats=1)
    assert isinstance(speed, Speed) and speed.kernel_gb_s > 0 and speed.memory_gb_s > 0
    assert f"{speed.memory_gb_s:.1f} GB/s" in str(speed)
    assert measure_bandwidth(2**22, repeats=1) > 0
