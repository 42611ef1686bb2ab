"""Objectives: rearrangements by hand and undone, and losses on a small decoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.data.batch import Batch, batch_of
from orrery.kit.config import resolve
from orrery.kit.errors import OrreryError
from orrery.kit.seeds import numpy_generator
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.model.packed import Packed
from orrery.model.positions import Alibi, Rope
from orrery.train.loss import LinearHead
from orrery.train.objectives import (
    CausalLM,
    FillInTheMiddle,
    MaskedLM,
    MultiToken,
    Objective,
    PrefixLM,
    SpanCorruption,
)
from orrery.train.objectives.apply import compute, context_for, head_of, prefixes, transform
from orrery.train.objectives.fill_in_the_middle import FimTokens, rearrange
from orrery.train.objectives.fill_in_the_middle import restore as restore_fim
from orrery.train.objectives.masked import mask_tokens
from orrery.train.objectives.multi_token import shifted
from orrery.train.objectives.prefix import PrefixPacked
from orrery.train.objectives.span_corruption import corrupt, draw_spans, longest_text
from orrery.train.objectives.span_corruption import restore as restore_spans

PRE, MID, SUF, MASK, EXTRA = 90, 91, 92, 93, 70
FIM = FimTokens(prefix=PRE, suffix=SUF, middle=MID)


@dataclass
class FakeVocabulary:
    """Ids below 60 are words; 60 begins and 61 ends a document; the rest are control tokens."""

    vocab_size: int = 100
    bos_id: int | None = 60
    eos_id: int | None = 61
    special: dict[str, int] = field(
        default_factory=lambda: {
            "<s>": 60,
            "</s>": 61,
            "<|fim_prefix|>": PRE,
            "<|fim_middle|>": MID,
            "<|fim_suffix|>": SUF,
            "<|mask|>": MASK,
            **{f"<|extra_{i}|>": EXTRA + i for i in range(20)},
        }
    )


def rng(seed: int = 0) -> np.random.Generator:
    return numpy_generator(seed, "objective")


def documents(*lengths: int, seed: int = 0) -> Batch:
    draw = rng(seed)
    return batch_of([[60, *draw.integers(0, 60, n).tolist(), 61] for n in lengths])


def full(batch: Batch) -> list[list[int]]:
    """Inputs and last target of each run."""
    runs = zip(batch.tokens.split(batch.lengths), batch.targets.split(batch.lengths), strict=True)
    return [[*tokens.tolist(), int(targets[-1])] for tokens, targets in runs]


def decoder(**changes: Any) -> Decoder:
    cfg = DecoderConfig(
        vocab_size=100,
        d_model=16,
        n_layers=2,
        n_heads=2,
        feed_forward=Mlp(d_ff=24),
        max_positions=64,
        **changes,
    )
    return Decoder(cfg, seed=1)


# --- fill in the middle


def test_rearranged_by_hand() -> None:
    ids = np.arange(1, 7)
    assert rearrange(ids, 2, 4, FIM).tolist() == [PRE, 1, 2, SUF, 5, 6, MID, 3, 4]
    assert rearrange(ids, 2, 4, FIM, "spm").tolist() == [PRE, SUF, 5, 6, MID, 1, 2, 3, 4]
    assert rearrange(ids, 0, 0, FIM).tolist() == [PRE, SUF, 1, 2, 3, 4, 5, 6, MID]


@given(
    ids=st.lists(st.integers(0, 59), min_size=0, max_size=30),
    cuts=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_rearranging_is_undone(ids: list[int], cuts: tuple[float, float]) -> None:
    first, second = sorted(round(cut * len(ids)) for cut in cuts)
    document = np.array(ids, dtype=np.int64)
    for order in ("psm", "spm"):
        changed = rearrange(document, first, second, FIM, order)
        assert len(changed) == len(ids) + 3
        assert restore_fim(changed, FIM).tolist() == ids


def test_fim_batch_keeps_lengths_ends_and_words() -> None:
    batch = documents(20, 9, 1)
    changed = transform(FillInTheMiddle(rate=1.0), batch, FakeVocabulary(), rng())
    assert changed.lengths == batch.lengths and torch.equal(changed.weights, batch.weights)
    before, after = full(batch), full(changed)
    for old, new in zip(before[:2], after[:2], strict=True):
        assert new[0] == 60 and new[-1] == 61  # the middle is followed by the end of the document
        assert restore_fim(np.array(new[1:-1]), FIM).tolist() == old[1:-4]  # all but three words
    assert after[2] == before[2]  # too short
    assert torch.equal(changed.tokens[1:20], changed.targets[:19])


def test_fim_rate_and_order() -> None:
    batch = documents(*[12] * 400)
    changed = transform(FillInTheMiddle(rate=0.5, spm_rate=0.25), batch, FakeVocabulary(), rng())
    runs = full(changed)
    rearranged = [run for run in runs if PRE in run]
    spm = [run for run in rearranged if run[1:3] == [PRE, SUF]]  # PSM with an empty prefix looks the same
    assert 160 < len(rearranged) < 240
    assert 0.2 * len(rearranged) < len(spm) < 0.5 * len(rearranged)
    assert transform(FillInTheMiddle(rate=0.0), batch, FakeVocabulary(), rng()).tokens.equal(batch.tokens)


def test_fim_is_a_function_of_the_seed() -> None:
    batch, fim = documents(15, 15), FillInTheMiddle(rate=1.0)
    one, two, other = (transform(fim, batch, FakeVocabulary(), rng(seed)).tokens for seed in (3, 3, 4))
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_missing_special_token() -> None:
    with pytest.raises(
        OrreryError, match=r"no special token '<\|fim_prefx\|>'.*Did you mean '<\|fim_prefix\|>'"
    ):
        transform(FillInTheMiddle(prefix="<|fim_prefx|>"), documents(9), FakeVocabulary(), rng())


# --- masked


def test_masking_shares() -> None:
    ids = np.arange(20_000) % 60
    ordinary = np.arange(60)
    shown, chosen = mask_tokens(ids, rng(), mask=MASK, ordinary=ordinary, rate=0.15)
    assert chosen.sum() == 3000 and (shown[~chosen] == ids[~chosen]).all()
    masked, same = (shown[chosen] == MASK).mean(), (shown[chosen] == ids[chosen]).mean()
    assert masked == pytest.approx(0.8, abs=0.03)
    assert same == pytest.approx(0.1 + 0.1 / 60, abs=0.03)


def test_masked_batch() -> None:
    batch = documents(30, 4)
    changed = transform(MaskedLM(rate=0.3, random=0.0, keep=0.0), batch, FakeVocabulary(), rng())
    chosen = changed.weights > 0
    assert chosen.sum() == 9 + 1  # 0.3 of 30 words, 0.3 of 4; bos is never hidden
    assert (changed.tokens[chosen] == MASK).all()
    assert torch.equal(changed.targets[chosen], batch.tokens[chosen])  # itself, not the next token
    assert torch.equal(changed.tokens[~chosen], batch.tokens[~chosen])
    assert (changed.targets[~chosen] == -1).all() and not chosen[batch.tokens == 60].any()


def test_masked_lm_sees_both_sides() -> None:
    model, batch = decoder(), documents(8)
    changed = transform(MaskedLM(), batch, FakeVocabulary(), rng())
    later = changed.tokens.clone()
    later[-1] = (later[-1] + 1) % 60
    first = [model(tokens, context_for(MaskedLM(), changed))[0] for tokens in (changed.tokens, later)]
    assert not torch.allclose(*first)


# --- span corruption


def test_t5_example() -> None:
    """Thank you [for inviting] me to your party [last] week."""
    ids = np.arange(10)
    inputs, targets = corrupt(ids, [(2, 4), (8, 9)], [100, 101, 102])
    assert inputs.tolist() == [0, 1, 100, 4, 5, 6, 7, 101, 9]
    assert targets.tolist() == [100, 2, 3, 101, 8, 102]


@settings(deadline=None)
@given(
    length=st.integers(2, 200), seed=st.integers(0, 1000), rate=st.floats(0.05, 0.9), mean_length=st.floats(1, 8)
)  # fmt: skip
def test_spans_are_apart_exact_in_number_and_undone(
    length: int, seed: int, rate: float, mean_length: float
) -> None:
    spans = draw_spans(length, rng(seed), rate=rate, mean_length=mean_length)
    hidden = min(max(round(length * rate), 1), length - 1)
    assert sum(stop - start for start, stop in spans) == hidden
    assert len(spans) == min(max(round(hidden / mean_length), 1), length - hidden)
    edges = [edge for span in spans for edge in span]
    assert edges == sorted(set(edges)) and edges[0] > 0 and edges[-1] <= length
    ids, sentinels = np.arange(length), list(range(1000, 1001 + len(spans)))
    inputs, targets = corrupt(ids, spans, sentinels)
    assert len(inputs) + len(targets) == length + 2 * len(spans) + 1
    assert restore_spans(inputs, targets, sentinels).tolist() == ids.tolist()


def test_span_batch() -> None:
    batch = documents(40, 1, 25)
    objective = SpanCorruption()
    changed = transform(objective, batch, FakeVocabulary(), rng())
    assert len(changed.lengths) == 2  # one run was too short
    sentinels = list(range(EXTRA, EXTRA + 20))
    for run, old, prefix, weights in zip(
        full(changed),
        [full(batch)[0], full(batch)[2]],
        prefixes(changed),
        changed.weights.split(changed.lengths),
        strict=True,
    ):
        assert len(run) <= len(old) and len(run) >= len(old) - 3
        text, answer = np.array(run[:prefix]), np.array(run[prefix:])
        assert answer[0] == EXTRA and weights.tolist() == [0.0] * (prefix - 1) + [1.0] * len(answer)
        back = restore_spans(text, answer, sentinels).tolist()
        assert back == old[: len(back)] and len(back) == longest_text(len(old), rate=0.15, mean_length=3.0)
    assert isinstance(context_for(objective, changed), PrefixPacked)
    assert isinstance(context_for(SpanCorruption(two_way=False), changed), Packed)
    with pytest.raises(OrreryError, match="too short for span corruption"):
        transform(objective, documents(1), FakeVocabulary(), rng())


# --- prefix


def test_prefix_batch_and_what_it_sees() -> None:
    batch = documents(9, 14)
    changed = transform(PrefixLM(), batch, FakeVocabulary(), rng())
    assert torch.equal(changed.tokens, batch.tokens)
    cuts = prefixes(changed)
    for weights, cut in zip(changed.weights.split(changed.lengths), cuts, strict=True):
        assert weights.tolist() == [0.0] * (cut - 1) + [1.0] * (len(weights) - cut + 1)
    model = decoder()
    ctx = PrefixPacked([10], [4])
    tokens = torch.arange(10)
    before = model(tokens, ctx)
    for place in range(10):
        other = tokens.clone()
        other[place] = 50
        moved = [i for i in range(10) if not torch.equal(model(other, ctx)[i], before[i])]
        assert moved == list(range(10)) if place < 4 else moved == list(range(place, 10))


@pytest.mark.parametrize("position", [Rope(), Alibi()])
def test_a_prefix_of_one_is_causal(position: Any) -> None:
    model, tokens = decoder(position=position), torch.arange(12)
    causal, prefix = model(tokens, Packed([5, 7])), model(tokens, PrefixPacked([5, 7], [1, 1]))
    torch.testing.assert_close(prefix, causal, atol=1e-6, rtol=1e-5)


# --- losses


def reference(model: Decoder, batch: Batch, ctx: Any) -> torch.Tensor:
    logits = model.head(model(batch.tokens, ctx))
    return F.cross_entropy(logits, batch.targets, ignore_index=-1, reduction="sum")


@pytest.mark.parametrize("changes", [{}, {"tied": False}, {"logit_scale": 0.5, "logit_softcap": 8.0}])
def test_causal_loss_is_cross_entropy_of_the_logits(changes: dict[str, Any]) -> None:
    model, batch = decoder(**changes), documents(7, 12)
    loss = compute(CausalLM(), model, batch)
    torch.testing.assert_close(loss.sum, reference(model, batch, Packed(batch.lengths)), rtol=1e-6, atol=1e-5)
    assert loss.weight.item() == len(batch) and isinstance(head_of(model), LinearHead)


def test_an_adapter_around_the_head_is_respected() -> None:
    class Doubled(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    model, batch = decoder(tied=False), documents(7)
    doubled = Doubled(16, 100, bias=False)
    doubled.weight = model.lm_head.weight
    model.lm_head = doubled
    assert compute(CausalLM(), model, batch).sum.item() == pytest.approx(
        reference(model, batch, Packed(batch.lengths)).item()
    )


@pytest.mark.parametrize(
    "objective", [CausalLM(), FillInTheMiddle(rate=1.0), PrefixLM(), MaskedLM(), SpanCorruption()]
)
def test_every_objective_can_be_learned(objective: Objective) -> None:
    """Twenty steps on one batch bring the loss down."""
    model = decoder()
    batch = transform(objective, documents(14, 14), FakeVocabulary(), rng())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    losses = []
    for _ in range(20):
        loss = compute(objective, model, batch, label_smoothing=0.01, z_loss=1e-4).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_shifted_stops_at_the_end_of_each_run() -> None:
    values = torch.tensor([1, 2, 3, 4, 5])
    assert shifted(values, (3, 2), 1, -1).tolist() == [2, 3, -1, 5, -1]
    assert shifted(values, (3, 2), 0, -1).tolist() == [1, 2, 3, 4, 5]
    assert shifted(values, (3, 2), 3, -1).tolist() == [-1] * 5


def test_multi_token_loss_by_definition() -> None:
    """Depth k at place i reads token i + k and is scored on token i + k + 1, within the document."""
    model, batch = decoder(mtp_heads=2), documents(6, 4)
    loss = compute(MultiToken(weights=(0.3, 0.1)), model, batch)
    ctx = Packed(batch.lengths)
    hidden = model(batch.tokens, ctx)
    expected = F.cross_entropy(model.head(hidden), batch.targets, reduction="sum")
    runs = full(batch)
    for k, (module, weight) in enumerate(zip(model.mtp, (0.3, 0.1), strict=True), start=1):
        following = [(run + [0] * 5)[k : k + len(run) - 1] for run in runs]
        hidden = module.predict(hidden, torch.tensor(list(chain(*following))), ctx)
        goals = torch.tensor(list(chain(*([*run[k + 1 :], *[-1] * k] for run in runs))))
        expected = expected + weight * F.cross_entropy(
            model.head(hidden), goals, ignore_index=-1, reduction="sum"
        )
    torch.testing.assert_close(loss.sum, expected, rtol=1e-6, atol=1e-5)
    assert loss.weight.item() == len(batch) and set(loss.stats) == {"nll", "depth_1", "depth_2"}
    with pytest.raises(OrreryError, match="mtp_heads=2"):
        compute(MultiToken(), model, batch)


def test_router_losses_are_added() -> None:
    feed_forward = {"kind": "moe", "n_experts": 4, "top_k": 2, "d_ff": 8, "balance_loss": 0.1, "z_loss": 0.01}
    cfg = resolve(
        DecoderConfig,
        {"vocab_size": 100, "d_model": 16, "n_layers": 2, "n_heads": 2, "feed_forward": feed_forward},
    )
    model, batch = Decoder(cfg).train(), documents(9)
    loss = compute(CausalLM(), model, batch)
    assert {"balance_loss", "router_z_loss"} <= set(loss.stats)
    extra = loss.stats["balance_loss"] + loss.stats["router_z_loss"]
    assert loss.sum.item() == pytest.approx((loss.stats["nll"] + extra).item(), rel=1e-6)
    loss.sum.backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "router" in name)


def test_recipes_name_objectives() -> None:
    assert resolve(Objective, {"kind": "fim", "rate": 0.9}) == FillInTheMiddle(rate=0.9)
    with pytest.raises(OrreryError, match="kinds: causal-lm, fim"):
        resolve(Objective, {"kind": "causal"})
    with pytest.raises(OrreryError, match="rate"):
        resolve(Objective, {"kind": "masked-lm", "rate": 2})
