"""A recorded step is the modules' own, bit for bit, and leaves nothing out."""

from __future__ import annotations

import pytest
import torch

from orrery.model.cache import Cached, KVCache
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.lowbit import QuantLinear, backend, ops
from orrery.model.lowbit.tape import NotRecordable, Tape
from orrery.model.mlp import Mlp
from orrery.model.positions import Alibi
from orrery.model.quant import quantize
from orrery.model.quantised import place, use_native_kernels
from orrery.model.replay import Replay

pytestmark = pytest.mark.skipif(backend() != "c++", reason="there is no compiled kernel here")


def quantised_decoder(**changes: object) -> Decoder:
    """A small model whose matrices are Q8_0, with everything between them by the kernel."""
    settings = {
        "vocab_size": 64,
        "d_model": 64,
        "n_layers": 3,
        "n_heads": 4,
        "n_kv_heads": 2,
        "feed_forward": Mlp(d_ff=96),
        "max_positions": 64,
        "window": 8,
        "layer_pattern": ("local", "global"),
        "norm": "rmsnorm",
        "qk_norm": True,
        "placement": "sandwich",
        "embedding_scale": 8.0,
        "logit_softcap": 30.0,
        "tied": True,
    } | changes
    model = Decoder(DecoderConfig(**settings), seed=1).eval()  # type: ignore[bad-argument-type]
    for name, weight in list(model.state_dict().items()):
        if weight.ndim == 2:
            place(model, name, quantize(weight, "Q8_0"), "Q8_0")
    use_native_kernels(model)
    return model


@torch.inference_mode()
def test_a_replay_is_the_modules_bit_for_bit() -> None:
    model = quantised_decoder()
    prompt = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5])
    plain, replayed = KVCache(model, 2, 64), KVCache(model, 2, 64)
    for cache in (plain, replayed):
        model(torch.cat((prompt, prompt[:4])), Cached(cache, [(0, 0, 11), (1, 0, 4)]))
    step = Replay(model, replayed, rows=[0, 1])
    for i in range(20):
        tokens = [7 + i, 50 - i]
        work = [(0, 11 + i, 1), (1, 4 + i, 1)]
        wanted = model.head(model(torch.tensor(tokens), Cached(plain, work)))
        assert torch.equal(step(tokens), wanted)
    assert step.recorded and replayed.lengths == plain.lengths == [31, 24]


@torch.inference_mode()
def test_hooks_see_every_pass_and_then_the_tape_goes_on() -> None:
    model = quantised_decoder()
    cache = KVCache(model, 1, 64)
    model(torch.tensor([1, 2, 3]), Cached(cache, [(0, 0, 3)]))
    step, seen = Replay(model, cache, rows=[0]), []
    step([4]), step([5])
    hook = model.blocks[1].residual_mid.register_forward_hook(
        lambda module, args, out: seen.append(out.clone())
    )
    step([6]), step([7])
    hook.remove()
    step([8])
    assert len(seen) == 2 and cache.lengths == [8]


@torch.inference_mode()
def test_what_cannot_be_recorded_runs_as_modules() -> None:
    model = quantised_decoder(position=Alibi())  # its bias is torch's
    cache, other = KVCache(model, 1, 64), KVCache(model, 1, 64)
    for c in (cache, other):
        model(torch.tensor([1, 2, 3]), Cached(c, [(0, 0, 3)]))
    step = Replay(model, cache, rows=[0])
    for i in range(3):
        wanted = model.head(model(torch.tensor([4 + i]), Cached(other, [(0, 3 + i, 1)])))
        assert torch.equal(step([4 + i]), wanted)
    assert not step.recorded


@pytest.mark.parametrize(
    "compute", [lambda x: x + 1, lambda x: x.mul_(2), lambda x: float(x[0, 0]), lambda x: torch.cat([x, x])]
)
@torch.inference_mode()
def test_torch_may_not_compute_while_recording(compute: object) -> None:
    x, weight = torch.randn(2, 8), torch.ones(8)
    with pytest.raises(NotRecordable), Tape().record():
        compute(ops.rms_norm(x, weight, 1e-5))  # type: ignore[not-callable]


@torch.inference_mode()
def test_a_tape_reads_what_its_inputs_hold_now() -> None:
    x, tape = torch.randn(3, 32), Tape()
    layer = QuantLinear.from_blocks(quantize(torch.randn(16, 32), "Q8_0"), "Q8_0", torch.randn(16))
    with tape.record():
        y = ops.gated("silu", layer(x).view(3, 16))
    assert len(tape) == 3
    for _ in range(3):
        x.copy_(torch.randn(3, 32))
        tape.replay()
        assert torch.equal(y, ops.gated("silu", layer(x)))


@torch.inference_mode()
def test_memory_is_used_again_within_a_step() -> None:
    x, weight, tape = torch.randn(10, 64), torch.ones(64), Tape()
    with tape.record():
        y = x
        for _ in range(50):
            y = ops.rms_norm(y, weight, 1e-5).view(10, 64)
    assert tape.nbytes <= 2 * x.nbytes
    held = [torch.randn(10, 64) for _ in range(4)]
    before = [h.clone() for h in held]
    tape.replay()
    torch.testing.assert_close(y, ops.rms_norm(x, weight, 1e-5), rtol=1e-3, atol=1e-4)
    assert all(map(torch.equal, held, before))
