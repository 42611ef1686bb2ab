"""Named activations."""

from __future__ import annotations

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.model import Packed, Probe, record

from .shapes import ids, tiny


def test_a_probe_gives_back_the_very_tensor() -> None:
    x = torch.ones(3)
    assert Probe()(x) is x


@torch.no_grad()
def test_the_residual_stream_adds_up() -> None:
    model, tokens = tiny(), ids(5)
    names = ["embed", "blocks.0.attn", "blocks.0.residual_mid", "blocks.0.mlp", "blocks.0"]
    names.append("blocks.1.attn_norm:input")
    with record(model, names) as seen:
        model(tokens, Packed([5]))
    embed, attn, mid, mlp, out, after = (seen[name][0] for name in names)
    assert torch.equal(mid, embed + attn) and torch.equal(out, mid + mlp) and torch.equal(after, out)


@torch.no_grad()
def test_what_goes_into_a_module() -> None:
    model = tiny()
    with record(model, ["blocks.1.mlp.down_proj:input", "blocks.1.mlp:output"]) as seen:
        model(ids(5), Packed([5]))
    inner = seen["blocks.1.mlp.down_proj:input"][0]
    assert inner.shape == (5, 40)
    torch.testing.assert_close(inner @ model.blocks[1].mlp.down_proj.weight.T, seen["blocks.1.mlp:output"][0])


def test_recorded_tensors_carry_gradients() -> None:
    model = tiny()
    with record(model, ["blocks.0"]) as seen:
        hidden = model(ids(5), Packed([5]))
    (gradient,) = torch.autograd.grad(hidden.sum(), seen["blocks.0"][0])
    assert gradient.shape == (5, 32) and gradient.any()


def test_hooks_leave_with_the_block() -> None:
    model = tiny()
    with pytest.raises(RuntimeError, match="stop"), record(model, ["norm"]) as seen:
        model(ids(2), Packed([2]))
        raise RuntimeError("stop")
    model(ids(2), Packed([2]))
    assert len(seen["norm"]) == 1


def test_a_wrong_name_is_mended() -> None:
    model = tiny()
    says = r"no activation 'blocks.1.attn.patern'. Did you mean 'blocks.1.attn.pattern'"
    with pytest.raises(OrreryError, match=says), record(model, ["blocks.0", "blocks.1.attn.patern"]):
        raise AssertionError("not reached")
    assert not model.blocks[0]._forward_hooks
    with pytest.raises(OrreryError, match="no activation"), record(model, ["norm:inside"]):
        raise AssertionError("not reached")
