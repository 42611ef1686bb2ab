"""Low-rank adapters: hand-worked numbers, several in one batch, merging, coming and going, learning."""

from __future__ import annotations

import copy
import json
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.model import Cached, Decoder, KVCache, Packed
from orrery.model.adapters import Adapter, Lora, merge_adapter, new_adapter
from orrery.model.adapters.low_rank import LowRank
from orrery.model.adapters.part import Rows, product_in_blocks, rows_product
from orrery.model.adapters.slots import NONE, Adapted, AdapterSlots, Using, slots_of_tokens
from orrery.model.lowbit import QuantLinear, ops
from orrery.model.quantised import use_native_kernels

from ..shapes import ids, tiny


def made(model: Decoder, seed: int, **config: object) -> Adapter:
    """An adapter whose B is not zero."""
    adapter = new_adapter(model, Lora(**{"rank": 3, "alpha": 6.0, **config}), seed=seed)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.requires_grad_(False).add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return adapter


def test_numbers_worked_by_hand() -> None:
    """x = (1, 2): x A^T = (1 + 4) = 5; times B = (3, -1) is (15, -5); times scale 2 is (30, -10); plus bias (1, 1)."""
    low = LowRank(
        torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [-1.0]]), scale=2.0, bias=torch.tensor([1.0, 1.0])
    )
    x = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            assert low(x).tolist() == [[31.0, -9.0], [1.0, 1.0]]
    assert low.delta().tolist() == [[6.0, 12.0], [-2.0, -4.0]]
    assert Lora(rank=4, alpha=8).scale() == 2.0 and Lora(rank=4, alpha=8, rslora=True).scale() == 4.0


def test_targets_are_ends_of_names_or_patterns() -> None:
    names = new_adapter(tiny(), Lora(rank=1, targets=("q_proj", "blocks.1.mlp.*"))).parts.keys()
    assert names == {
        *(f"blocks.{i}.attn.q_proj" for i in range(3)),
        *(f"blocks.1.mlp.{x}_proj" for x in ("gate", "up", "down")),
    }
    assert len(new_adapter(tiny("untied"), Lora(rank=1)).parts) == 21  # the head is not among them
    with pytest.raises(OrreryError, match="no linear layer"):
        new_adapter(tiny(), Lora(targets=("proj_q",)))
    with pytest.raises(OrreryError, match="rank"):
        Lora(rank=0)


@settings(max_examples=60, deadline=None)
@given(
    width=st.sampled_from([1, 7, 16, 48, 640]),
    out=st.sampled_from([1, 3, 8, 16, 33, 64, 256]),
    n=st.integers(1, 70),
    at=st.integers(0, 30),
)
def test_a_row_of_a_product_is_the_same_bits_in_any_company(width: int, out: int, n: int, at: int) -> None:
    generator = torch.Generator().manual_seed(width * 1000 + out)
    x, weight = (torch.randn(rows, width, generator=generator) for rows in (101, out))
    with torch.no_grad():
        for product in (rows_product, product_in_blocks):
            together = product(x[at : at + n], weight)
            alone = torch.cat([product(row[None], weight) for row in x[at : at + n]])
            assert torch.equal(together, alone)
            torch.testing.assert_close(together, x[at : at + n] @ weight.t(), atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", ["gqa", "latent", "moe-sigmoid", "delta-rule", "hybrid", "parallel"])
def test_several_adapters_in_a_batch_equal_each_alone(name: str) -> None:
    model, lengths = tiny(name), (5, 1, 9, 4)
    tokens = ids(sum(lengths))
    slots = AdapterSlots.of(model)
    assert AdapterSlots.of(model) is slots
    plain = model(tokens, Packed(lengths))
    targets = ("in_proj",) if name == "hybrid" else ("blocks.*",)
    numbers = [slots.add(made(model, seed, targets=targets, bias=seed == 1)) for seed in (1, 2)]
    assert torch.equal(model(tokens, Packed(lengths)), plain)  # none is asked for
    asked = [numbers[0], None, numbers[1], numbers[0]]
    ctx = Packed(lengths)
    ctx.adapters = slots_of_tokens(asked, lengths)
    batch = model(tokens, ctx).split(lengths)
    for part, want, slot, n in zip(tokens.split(lengths), batch, asked, lengths, strict=True):
        alone = Packed([n])
        alone.adapters = slots_of_tokens([slot], [n])
        torch.testing.assert_close(model(part, alone), want, atol=2e-5, rtol=1e-5)
        assert slot is None or (want - model(part, Packed([n]))).abs().max() > 1e-3
    cache = KVCache(model, rows=4, capacity=9)
    cached = Cached(cache, [(row, 0, n) for row, n in enumerate(lengths)])
    cached.adapters = ctx.adapters
    torch.testing.assert_close(model(tokens, cached), torch.cat(batch), atol=2e-5, rtol=1e-5)


@torch.inference_mode()
def test_with_our_kernels_a_batch_of_adapters_is_each_alone_bit_for_bit() -> None:
    if not ops.plain(torch.ones(1)):
        pytest.skip("our kernel cannot be compiled on this machine")
    model, lengths = tiny(), (5, 1, 19, 4)
    use_native_kernels(model)
    slots = AdapterSlots.of(model)
    numbers = [slots.add(made(model, seed)) for seed in (1, 2)]
    asked, tokens = [numbers[0], None, numbers[1], numbers[0]], ids(29)
    ctx = Packed(lengths)
    ctx.adapters = slots_of_tokens(asked, lengths)
    batch = model(tokens, ctx).split(lengths)
    for part, want, slot, n in zip(tokens.split(lengths), batch, asked, lengths, strict=True):
        alone = Packed([n])
        alone.adapters = slots_of_tokens([slot], [n])
        assert torch.equal(model(part, alone), want)


@torch.no_grad()
def test_over_a_quantised_layer_a_token_is_the_same_bits_in_any_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    raw = torch.randint(0, 2**8, (48, 34), generator=generator, dtype=torch.uint8)
    raw[:, 1] = 0x20  # a sane scale
    using = Using()
    layer = Adapted(QuantLinear.from_blocks(raw, "Q8_0"), using)
    for slot in range(3):
        layer.beside.parts[str(slot)] = LowRank(
            torch.randn(5, 32, generator=generator), torch.randn(48, 5, generator=generator), scale=0.5
        )
    x = torch.randn(23, 32, generator=generator)
    whose = torch.arange(23) % 4
    using.rows = tuple(Rows(slot, (whose == slot).nonzero().flatten(), torch.arange(23)) for slot in range(3))
    together = layer(x)
    for i in range(23):
        using.rows = (Rows(i % 4, None, torch.arange(1)),) if i % 4 < 3 else ()
        assert torch.equal(layer(x[i : i + 1])[0], together[i])


@torch.no_grad()
def test_adapters_come_and_go_and_leave_no_trace() -> None:
    model, tokens = tiny(), ids(6)
    before, types = model(tokens, Packed([6])), [type(m) for m in model.modules()]
    slots = AdapterSlots.of(model)
    first = slots.add(made(model, 1, targets=("q_proj",)))
    second = slots.add(made(model, 2, targets=("q_proj", "up_proj")))
    assert [entry["operation"] for entry in model.surgery] == ["lora", "lora"]
    assert json.loads(json.dumps(model.surgery)) == model.surgery
    slots.default = second
    assert not torch.equal(model(tokens, Packed([6])), before)
    slots.remove(second)
    assert slots.default is None and isinstance(model.blocks[0].attn.q_proj, Adapted)
    assert type(model.blocks[0].mlp.up_proj) is nn.Linear
    ctx = Packed([6])
    ctx.adapters = slots_of_tokens([second], [6])
    with pytest.raises(OrreryError, match="removed"):
        model(tokens, ctx)
    slots.remove(first)
    assert [type(m) for m in model.modules()] == types and model.surgery == []
    assert torch.equal(model(tokens, Packed([6])), before)
    assert slots.add(made(model, 1)) not in (first, second)


@torch.no_grad()
def test_merged_is_what_it_was_beside_the_model() -> None:
    model, tokens = tiny("biases", dtype=torch.float64), ids(8)
    slots, adapter = AdapterSlots.of(model), made(model, 3, targets=("attn.q_proj", "attn.o_proj"), bias=True)
    slots.default = slot = slots.add(adapter)
    want = model(tokens, Packed([8]))
    merge_adapter(model, adapter)  # while it is beside the model: the weights underneath
    slots.remove(slot)
    torch.testing.assert_close(model(tokens, Packed([8])), want, atol=1e-5, rtol=1e-5)


def test_what_does_not_fit_is_refused_before_anything_is_changed() -> None:
    model, other = tiny(), tiny(d_model=16)
    slots = AdapterSlots.of(model)
    weights = [p.clone() for p in model.parameters()]
    a, b = torch.ones(1, 32), torch.ones(61, 1)
    missing = Adapter(Lora(rank=1), {"blocks.9.attn.q_proj": LowRank(a, b, scale=1.0)})
    for wrong in (made(other, 1), missing):
        for put in (slots.add, lambda adapter: merge_adapter(model, adapter)):
            with pytest.raises(OrreryError, match="another model's"):
                put(wrong)
    head = Adapter(Lora(rank=1), {"lm_head": LowRank(a, b, scale=1.0)})
    untied = tiny("untied")
    with pytest.raises(OrreryError, match="merge it"):
        AdapterSlots.of(untied).add(head)
    merge_adapter(untied, head)
    biased = made(model, 1, targets=("q_proj",), bias=True)
    with pytest.raises(OrreryError, match="has none to merge"):
        merge_adapter(model, biased)
    assert all(torch.equal(p, w) for p, w in zip(model.parameters(), weights, strict=True))
    assert model.surgery == []


def test_absorbed_latent_attention_does_not_lose_an_adapter_silently() -> None:
    model = tiny("latent")
    slots = AdapterSlots.of(model)
    slots.default = slots.add(made(model, 1, targets=("kv_b_proj",)))
    for block in model.blocks:
        block.attn.absorbed = True
    with torch.no_grad(), pytest.raises(OrreryError, match="adapted layer"):
        model(ids(4), Packed([4]))


def test_an_adapter_learns_while_the_model_stands_still() -> None:
    model, tokens = tiny(), ids(12)
    model.requires_grad_(False)
    slots, adapter = AdapterSlots.of(model), new_adapter(model, Lora(rank=4, alpha=8.0, dropout=0.1), seed=0)
    slots.default = slots.add(adapter)
    frozen = [p.clone() for name, p in model.named_parameters() if ".beside." not in name]
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=1e-2)
    model.train()
    losses: list[float] = []
    for _ in range(30):
        logits = model.head(model(tokens, Packed([12])))
        loss = nn.functional.cross_entropy(logits[:-1], tokens[1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    after = [p for name, p in model.named_parameters() if ".beside." not in name]
    assert all(torch.equal(p, w) for p, w in zip(after, frozen, strict=True))


@torch.no_grad()
def test_threads_and_copies_do_not_see_each_others_adapters() -> None:
    model, tokens = tiny(), ids(6)
    slots = AdapterSlots.of(model)
    plain = model(tokens, Packed([6]))
    slot = slots.add(made(model, 1))
    twin = copy.deepcopy(model)
    ctx = Packed([6])
    ctx.adapters = slots_of_tokens([slot], [6])
    changed = model(tokens, ctx)
    seen: list[Tensor] = []

    def other_thread() -> None:
        with torch.no_grad():
            seen.append(plain)
            seen[0] = model(tokens, Packed([6]))

    def in_the_middle(block: nn.Module, inputs: object) -> None:
        """Another thread runs the whole model between two layers of this pass."""
        if not seen:
            thread = threading.Thread(target=other_thread)
            thread.start()
            thread.join()

    hook = model.blocks[1].attn.register_forward_pre_hook(in_the_middle)
    disturbed = model(tokens, ctx)
    hook.remove()
    assert torch.equal(disturbed, changed)
    assert torch.equal(seen[0], plain) and not torch.equal(changed, plain)
    again = Packed([6])
    again.adapters = ctx.adapters
    assert torch.equal(twin(tokens, again), changed)
    AdapterSlots.of(twin).remove(slot)
    assert torch.equal(twin(tokens, Packed([6])), plain) and torch.equal(model(tokens, again), changed)


def test_slots_are_spread_over_tokens() -> None:
    spread = slots_of_tokens([4, None, 0], [2, 1, 3])
    assert spread is not None and spread.tolist() == [4, 4, NONE, 0, 0, 0]
    assert slots_of_tokens([None, None], [2, 5]) is None
