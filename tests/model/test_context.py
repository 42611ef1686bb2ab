"""Sequences on one flat axis: they do not touch each other, and every context computes the same."""

from __future__ import annotations

import pytest
import torch
import torch.utils.checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.model import Explicit, Packed
from orrery.model.context import visible

from .shapes import SHAPES, VOCAB, ids, tiny


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_a_document_cannot_change_a_bit_of_another(name: str) -> None:
    model = tiny(name)
    lengths = (6, 6, 9, 5)
    tokens = ids(26)
    hidden = model(tokens, Packed(lengths))
    logits = model.head(hidden)
    for first, last in ((0, 6), (6, 12), (12, 21), (21, 26)):
        other = tokens.clone()
        other[first:last] = (other[first:last] + 1 + ids(last - first, seed=1) % (VOCAB - 1)) % VOCAB
        changed = model.head(model(other, Packed(lengths)))
        same = torch.ones(26, dtype=torch.bool)
        same[first:last] = False
        assert torch.equal(changed[same], logits[same])
        assert not torch.equal(changed[~same], logits[~same])


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_packed_alone_and_explicit_agree(name: str) -> None:
    model = tiny(name)
    lengths = (3, 8, 8, 1, 8)
    tokens = ids(28)
    packed = model(tokens, Packed(lengths))
    alone = torch.cat([model(part, Packed([len(part)])) for part in tokens.split(lengths)])
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model(tokens, Explicit(lengths)), packed, rtol=1e-5, atol=1e-5)
    exact = tiny(name, dtype=torch.float64)
    torch.testing.assert_close(
        exact(tokens, Explicit(lengths)), exact(tokens, Packed(lengths)), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_the_future_is_hidden(name: str) -> None:
    model = tiny(name)
    tokens = ids(10)
    hidden = model(tokens, Packed([10]))
    other = tokens.clone()
    other[6:] = (other[6:] + 1) % VOCAB
    changed = model(other, Packed([10]))
    assert torch.equal(changed[:6], hidden[:6]) and not torch.equal(changed[6:], hidden[6:])
    if not model.cache_spec():
        return  # a recurrence has one direction
    seen = model(other, Packed([10], causal=False))[:6]
    assert not torch.equal(seen, model(tokens, Packed([10], causal=False))[:6])


@torch.no_grad()
def test_a_window_bounds_what_a_layer_sees() -> None:
    model = tiny("sliding-window", n_layers=1)
    tokens = ids(10)
    hidden = model(tokens, Packed([10]))
    other = tokens.clone()
    other[4] = (other[4] + 1) % VOCAB
    touched = (model(other, Packed([10])) != hidden).any(-1)
    assert touched.nonzero().flatten().tolist() == [4, 5, 6]  # a window of 3, its own token included
    both = (model(other, Packed([10], causal=False)) != model(tokens, Packed([10], causal=False))).any(-1)
    assert both.nonzero().flatten().tolist() == [2, 3, 4, 5, 6]


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    name=st.sampled_from(["gqa", "local-and-global", "t5"]),
)
@torch.no_grad()
def test_any_lengths(lengths: list[int], name: str) -> None:
    model = MODELS[name]
    tokens = ids(sum(lengths))
    packed = model(tokens, Packed(lengths))
    alone = torch.cat([model(part, Packed([len(part)])) for part in tokens.split(lengths)])
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-5)


MODELS = {name: tiny(name) for name in ("gqa", "local-and-global", "t5")}


def test_gradients_agree() -> None:
    grads = []
    for context in (Packed((4, 4, 7)), Explicit((4, 4, 7))):
        model = tiny("local-and-global", dtype=torch.float64)
        model(ids(15), context).square().sum().backward()
        grads.append([p.grad for p in model.parameters()])
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["local-and-global", "moe-softmax"])
def test_activation_checkpointing_changes_nothing(name: str) -> None:
    grads = []
    for run in (lambda block, x, ctx: block(x, ctx), checkpointed):
        model, ctx = tiny(name, dtype=torch.float64).train(), Packed((4, 4, 7))
        ctx.begin()
        x = model.embed_tokens(ids(15))
        for block in model.blocks:
            x = run(block, x, ctx)
        loss = model.norm(x).square().sum()
        for _, value in ctx.recorded.get("balance_loss", []):
            loss = loss + value
        loss.backward()
        grads.append([p.grad for p in model.parameters()])
    for ours, theirs in zip(*grads, strict=True):
        assert torch.equal(ours, theirs)


def checkpointed(block: nn.Module, x: Tensor, ctx: Packed) -> Tensor:
    return torch.utils.checkpoint.checkpoint(block, x, ctx, use_reentrant=False)


def test_places() -> None:
    ctx = Packed((3, 1, 1, 2))
    assert ctx.positions.tolist() == [0, 1, 2, 0, 0, 0, 1]
    assert (ctx.lengths, ctx.max_length, ctx.runs) == ((3, 1, 1, 2), 3, ((1, 3), (2, 1), (1, 2)))
    for lengths in ([], [3, 0]):
        with pytest.raises(OrreryError, match="at least one token"):
            Packed(lengths)


def test_visible_by_hand() -> None:
    q, k = torch.tensor([2, 3]), torch.arange(4)
    assert visible(q, k, window=None).tolist() == [[True, True, True, False], [True] * 4]
    assert visible(q, k, window=2).tolist() == [[False, True, True, False], [False, False, True, True]]
    assert visible(q, k, window=2, causal=False).tolist() == [
        [False, True, True, True],
        [False, False, True, True],
    ]


def test_tables_are_made_once_a_pass() -> None:
    model, ctx = tiny("local-and-global"), Packed((9, 4))
    calls: list[str] = []
    once = ctx.once

    def counted(key, make):
        return once(key, lambda: calls.append(str(key)) or make())

    ctx.once = counted
    for _ in range(2):
        calls.clear()
        model(ids(13), ctx)
        assert len(calls) == len(set(calls))
        # two rotary tables; one window's mask for each of the two lengths, and their places
        assert sorted(key.split("'")[1] for key in calls) == ["mask"] * 2 + ["places"] * 2 + ["rotary"] * 2


def test_equal_lengths_go_to_the_kernel_in_one_call_without_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = tiny(), []
    kernel = torch.nn.functional.scaled_dot_product_attention

    def spy(q, k, v, **options):
        calls.append((q, options))
        return kernel(q, k, v, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    model(ids(24), Packed([8, 8, 8]))
    assert len(calls) == 3
    for q, options in calls:
        assert (
            q.shape == (3, 4, 8, 8) and q._is_view() and options["attn_mask"] is None and options["is_causal"]
        )


def test_layers_report_and_a_new_pass_forgets() -> None:
    model, ctx = tiny("moe-softmax").train(), Packed((5, 5))
    for _ in range(2):
        model(ids(10), ctx)
        sites = [site for site, _ in ctx.recorded["balance_loss"]]
        assert sites == [block.mlp for block in model.blocks]
        loads = [load.sum().item() for _, load in ctx.recorded["expert_load"]]
        assert loads == [20, 20, 20]  # two of four experts for each of ten tokens


@torch.no_grad()
def test_a_choice_of_experts_can_be_replayed() -> None:
    model = tiny("moe-softmax")
    tokens = ids(10)
    ctx = Packed([10])
    hidden = model(tokens, ctx)
    replayed = Packed([10])
    replayed.choices = dict(ctx.recorded["expert_ids"])
    assert torch.equal(model(tokens, replayed), hidden)
    replayed.choices = {site: (chosen + 1) % 4 for site, chosen in ctx.recorded["expert_ids"]}
    assert not torch.equal(model(tokens, replayed), hidden)


class Decay(nn.Module):
    """s_t = s_(t-1) / 2 + x_t: the simplest layer with state."""

    def forward(self, x: Tensor, ctx: Packed) -> Tensor:
        return ctx.recur(self, x, self.step)

    def step(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        state = torch.zeros_like(x[0]) if state is None else state
        out = []
        for row in x:
            state = state / 2 + row
            out.append(state)
        return torch.stack(out), state


def test_layers_with_state_start_anew_in_each_sequence() -> None:
    x = torch.tensor([1.0, 2.0, 4.0, 1.0, 1.0])
    assert Decay()(x, Packed((3, 2))).tolist() == [1.0, 2.5, 5.25, 1.0, 1.5]
    assert Decay()(x, Explicit((3, 2))).tolist() == [1.0, 2.5, 5.25, 1.0, 1.5]
