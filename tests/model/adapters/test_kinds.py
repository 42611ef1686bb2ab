"""What holds of every kind of adapter: nothing changes at the start, batches mix, learning leaves the model alone, merging is exact."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from orrery.kit.config import resolve, to_dict
from orrery.kit.errors import OrreryError
from orrery.model import Cached, Decoder, KVCache, Packed
from orrery.model.adapters import AdapterConfig, AdapterSlots, Lora, Prefix, Reft, merge_adapter, new_adapter
from orrery.model.adapters.dora import Dora
from orrery.model.adapters.low_rank import LowRank, Pissa
from orrery.model.adapters.part import Rows
from orrery.model.adapters.reft import Edit, orthonormal
from orrery.model.adapters.scaling import InputScale, OutputScale
from orrery.model.adapters.slots import slots_of_tokens
from orrery.model.adapters.vera import VeraVectors
from orrery.model.adapters.virtual import Virtual
from orrery.model.lowbit import ops
from orrery.model.probe import Probe
from orrery.model.quantised import freeze_quantised, use_native_kernels
from tests.model.adapters.kinds import (
    CHANGES_AT_ONCE,
    KINDS,
    MERGEABLE,
    adapted,
    made,
    packed,
    with_placeholders,
)
from tests.model.shapes import ids, tiny

EVERY = list(KINDS)


def all_rows(n: int) -> Rows:
    return Rows(0, None, torch.arange(n))


def test_numbers_worked_by_hand() -> None:
    x, layer = torch.tensor([[1.0, 2.0]]), nn.Linear(2, 2, bias=True)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))  # rows of length 5 and 2
        layer.bias.copy_(torch.tensor([1.0, -1.0]))
        y = layer(x)  # (11 + 1, 4 - 1)
        # DoRA: (W + B A) = ((3, 4), (0, 2) + (1, 0) * 1.5), of length 5 and 2.5; m = (10, 2.5).
        low = LowRank(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0], [1.5]]), scale=1.0)
        dora = Dora.of(layer, low, torch.tensor([10.0, 2.5]))
        torch.testing.assert_close(dora.after(x, y, all_rows(1), layer), torch.tensor([[23.0, 4.5]]))
        # VeRA: d * (A x) = 2 * (1 + 2) = 6; b * (B 6) = (0.5 * 6, 1 * -6).
        vera = VeraVectors(
            torch.ones(1, 2),
            torch.tensor([[1.0], [-1.0]]),
            inner=torch.tensor([2.0]),
            outer=torch.tensor([0.5, 1.0]),
        )
        assert vera.after(x, y, all_rows(1), layer).tolist() == [[15.0, -3.0]]
        assert OutputScale(torch.tensor([2.0, 0.5])).after(x, y, all_rows(1), layer).tolist() == [[24.0, 1.5]]
        assert InputScale(torch.tensor([2.0, 0.5])).before(x).tolist() == [[2.0, 1.0]]
        # LoReFT along the first axis: R = (1, 0), W h + b = (1 + 2) + 1, so 1 becomes 4 and 2 stays.
        edit = Edit(torch.tensor([[5.0, 0.0]]), torch.tensor([[1.0, 1.0]]), torch.tensor([1.0]))
        assert edit.after(x, x, all_rows(1), layer).tolist() == [[4.0, 2.0]]
        # Of three tokens at positions 0, 1, 2 the first two are virtual.
        virtual = Virtual(torch.tensor([[7.0], [8.0]]))
        assert virtual.after(y, torch.zeros(3, 1), all_rows(3), Probe()).tolist() == [[7.0], [8.0], [0.0]]


def test_pissa_begins_at_the_largest_directions_and_changes_nothing() -> None:
    weight = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    part = Pissa.of(weight, 2, scale=0.5)
    s = torch.linalg.svdvals(weight)
    torch.testing.assert_close(torch.linalg.svdvals(part.low.delta())[:2], s[:2])
    torch.testing.assert_close(torch.linalg.svdvals(weight - part.low.delta())[:3], s[2:])
    assert part.delta().abs().max() < 1e-6 and part.plain().rank == 4
    assert orthonormal(torch.eye(3)[:2]).equal(torch.eye(3)[:2])


@torch.no_grad()
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("shape", ["gqa", "biases", "sandwich", "scales"])
def test_at_the_beginning_the_model_is_what_it_was(name: str, shape: str) -> None:
    model, tokens = tiny(shape), ids(7)
    want = model.head(model(tokens, Packed([7])))
    got = adapted(model, new_adapter(model, KINDS[name]), tokens)
    if name in CHANGES_AT_ONCE:
        assert not torch.equal(got, want)
    else:
        torch.testing.assert_close(got, want, atol=2e-5, rtol=1e-5)
    if name not in ("pissa", "reft", "reft-first", *CHANGES_AT_ONCE):  # those compute what cancels
        assert torch.equal(got, want)


@torch.no_grad()
@pytest.mark.parametrize("shape", ["gqa", "qk-norm", "local-and-global", "learned", "alibi", "scales"])
def test_one_batch_mixes_all_kinds_and_each_is_what_it_is_alone(shape: str) -> None:
    model, slots = tiny(shape), None
    plain = model(ids(6), Packed([6]))
    slots = AdapterSlots.of(model)
    asked = [slots.add(made(model, name, seed)) for seed, name in enumerate(EVERY)] + [None]
    texts = [ids(3 + i % 5, seed=i) for i in range(len(asked))]
    tokens, lengths = with_placeholders(model, texts, asked)
    batch = model(tokens, packed(lengths, asked)).split(lengths)
    for part, want, slot, n in zip(tokens.split(lengths), batch, asked, lengths, strict=True):
        torch.testing.assert_close(model(part, packed([n], [slot])), want, atol=2e-5, rtol=1e-5)
    cache = KVCache(model, rows=len(asked), capacity=max(lengths))  # all but the last token, then that
    first = [(row, 0, n - 1) for row, n in enumerate(lengths)]
    for work, taken in (
        (first, slice(0, -1)),
        ([(r, n - 1, 1) for r, n in enumerate(lengths)], slice(-1, None)),
    ):
        ctx = Cached(cache, work)
        ctx.adapters = slots_of_tokens(asked, ctx.lengths)
        got = model(torch.cat([part[taken] for part in tokens.split(lengths)]), ctx).split(ctx.lengths)
        for mine, whole in zip(got, batch, strict=True):
            torch.testing.assert_close(mine, whole[taken], atol=2e-5, rtol=1e-5)
    for slot in asked[:-1]:
        assert slot is not None
        slots.remove(slot)
    assert torch.equal(model(ids(6), Packed([6])), plain) and model.surgery == []
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@torch.inference_mode()
@pytest.mark.parametrize("quantised", [False, True])
def test_by_our_kernels_a_row_has_the_same_bits_in_any_batch(quantised: bool) -> None:
    if not ops.plain(torch.ones(1)):
        pytest.skip("our kernel cannot be compiled on this machine")
    model = tiny()
    slots = AdapterSlots.of(model)
    adapters = [made(model, name, seed) for seed, name in enumerate(EVERY)]
    if quantised:
        freeze_quantised(model, "Q8_0")
    use_native_kernels(model)
    asked = [None, *(slots.add(adapter) for adapter in adapters)]
    tokens, lengths = with_placeholders(model, [ids(2 + i % 4, seed=i) for i in range(len(asked))], asked)
    batch = model(tokens, packed(lengths, asked)).split(lengths)
    for part, want, slot, n in zip(tokens.split(lengths), batch, asked, lengths, strict=True):
        assert torch.equal(model(part, packed([n], [slot])), want), slot


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("frozen", ["floats", "NF4"])
def test_each_lowers_a_loss_in_seconds_and_the_model_keeps_every_bit(name: str, frozen: str) -> None:
    model, text = tiny(), ids(16, seed=3)
    if frozen == "NF4":
        freeze_quantised(model, frozen)
    model.requires_grad_(False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    logits = model.head(model(text, Packed([16])))
    adapter = new_adapter(model, KINDS[name], seed=1)
    assert f"{adapter.size:,} weights learn" in adapter.share(model) and 0 < adapter.bytes == 4 * adapter.size
    slots = AdapterSlots.of(model)
    slot = slots.add(adapter)
    tokens, lengths = with_placeholders(model, [text, text], [slot, None])
    ctx, start = packed(lengths, [slot, None]), adapter.virtual_tokens
    optimizer = torch.optim.Adam(adapter.parameters(), lr=3e-2)
    losses = []
    for _ in range(40):
        made_of = model.head(model(tokens, ctx)[start : lengths[0]])
        loss = nn.functional.cross_entropy(made_of[:-1], text[1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0], losses[::8]
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in adapter.parameters())
    slots.remove(slot)
    after = model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[key], before[key]) for key in before)
    assert torch.equal(model.head(model(text, Packed([16]))), logits)


@torch.no_grad()
@pytest.mark.parametrize("name", MERGEABLE)
def test_merged_is_what_it_was_beside(name: str) -> None:
    model, tokens = tiny("biases", dtype=torch.float64), ids(9)
    adapter = made(model, name)
    want = adapted(model, adapter, tokens)
    plain = {key: value.clone() for key, value in model.state_dict().items()}
    half = copy.deepcopy(model)
    merge_adapter(model, adapter)
    torch.testing.assert_close(model.head(model(tokens, Packed([9]))), want, atol=2e-4, rtol=1e-4)
    merge_adapter(half, adapter, weight=0.5)
    for key, value in half.state_dict().items():
        torch.testing.assert_close(value, (plain[key] + model.state_dict()[key]) / 2, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", [n for n in EVERY if n not in (*MERGEABLE, "lora")])
def test_what_is_no_matrix_product_cannot_be_merged(name: str) -> None:
    model = tiny()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(OrreryError, match="cannot be merged"):
        merge_adapter(model, made(model, name))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@torch.no_grad()
def test_critical_edits_are_where_the_context_says() -> None:
    model, tokens = tiny(), ids(8)
    adapter = new_adapter(model, Reft(rank=2, layers=(1,), positions="critical"))
    for parameter in adapter.parameters():
        parameter.add_(0.3)
    slots = AdapterSlots.of(model)
    plain = model(tokens, Packed([8]))
    slots.default = slots.add(adapter)
    with pytest.raises(OrreryError, match="critical positions"):
        model(tokens, Packed([8]))
    ctx = Packed([8])
    ctx.edited = torch.tensor([False] * 5 + [True] + [False] * 2)
    changed = (model(tokens, ctx) - plain).abs().amax(1) > 1e-4
    assert changed.tolist() == [False] * 5 + [True] * 3  # what comes before cannot see it


def test_rates_of_a_and_b_differ_in_the_optimiser() -> None:
    from orrery.train.optim.build import build_optimizer
    from orrery.train.optim.config import AdamW

    model = tiny()
    adapter = new_adapter(model, Lora(rank=2, lr_ratio=16.0))
    groups = build_optimizer(adapter, AdamW(lr=1e-3)).param_groups
    rates = {group["lr_scale"]: {tuple(p.shape)[1] == 2 for p in group["params"]} for group in groups}
    assert rates == {1.0: {False}, 16.0: {True}}


def test_configs_come_back_from_plain_data_and_nonsense_is_refused() -> None:
    for cfg in KINDS.values():
        assert resolve(AdapterConfig, to_dict(cfg)) == cfg
    model = tiny()
    for wrong in (
        {"dora": True, "init": "pissa"},
        {"dora": True, "bias": True},
        {"lr_ratio": 0.0},
        {"alpha": math.inf},
    ):
        with pytest.raises(OrreryError):
            Lora(**wrong)  # type: ignore[bad-argument-type]
    with pytest.raises(OrreryError, match="no layer 3"):
        new_adapter(model, Reft(layers=(3,)))
    for shape in ("latent", "state-space", "delta-rule"):
        with pytest.raises(OrreryError, match="kind: prompt"):
            new_adapter(tiny(shape), Prefix())


@torch.no_grad()
@pytest.mark.parametrize("name", [*MERGEABLE, "prompt", "bottleneck", "reft"])
@pytest.mark.parametrize("shape", ["latent", "moe-softmax", "delta-rule", "hybrid", "parallel"])
def test_models_of_other_shapes_take_them_too(name: str, shape: str) -> None:
    model, tokens = tiny(shape), ids(6)
    plain = model.head(model(tokens, Packed([6])))
    if name in ("vera", "ia3", "rslora", "pissa") and shape in ("hybrid", "latent", "delta-rule"):
        return  # these configs name layers that such models lack
    assert (adapted(model, made(model, name), tokens) - plain).abs().max() > 1e-3


def test_a_copy_has_adapters_of_its_own() -> None:
    model: Decoder = tiny()
    slots = AdapterSlots.of(model)
    asked = [slots.add(made(model, name)) for name in EVERY]
    twin = copy.deepcopy(model)
    with torch.no_grad():
        tokens, lengths = with_placeholders(model, [ids(5)] * len(asked), asked)
        want = model(tokens, packed(lengths, asked))
        for slot in asked:
            slots.remove(slot)
        assert torch.equal(twin(tokens, packed(lengths, asked)), want)
