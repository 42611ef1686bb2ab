"""One step: accumulation, division by the weight, clipping, and what must never be updated."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from training_run import DENSE, MOE, TinyLoader

from orrery.data.batch import Batch, batch_of
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.model.moe import Moe
from orrery.train import step as step_module
from orrery.train.config import TrainConfig
from orrery.train.loss import Loss
from orrery.train.objectives import MaskedLM
from orrery.train.optim import config as optim
from orrery.train.optim.build import build_optimizer
from orrery.train.precision import LossScaler, choose_precision
from orrery.train.step import Setup, World, draw, forward_backward, seed_everything, update

STILL = DecoderConfig(vocab_size=61, d_model=16, n_layers=2, n_heads=2, feed_forward=Mlp(d_ff=24))
STILL_MOE = DecoderConfig(
    vocab_size=61, d_model=16, n_layers=2, n_heads=2,
    feed_forward=Moe(n_experts=4, top_k=2, d_ff=16, balance_over="sequence", balance_loss=0.1, z_loss=1e-2, bias_update=1e-2),
)  # fmt: skip
FIXED = LossScaler(scale=1.0, fixed=True)


def setup_of(
    cfg: TrainConfig | None = None, model: DecoderConfig = STILL, loader: Any = None, vocabulary: Any = None
) -> Setup:
    made = Decoder(model, seed=3).train()
    return Setup(
        cfg or TrainConfig(steps=10, clip_norm=None), made, loader or TinyLoader(), World(), choose_precision("fp32"),
        torch.device("cpu"), vocabulary,
    )  # fmt: skip


def gradients(setup: Setup, step: int = 0) -> tuple[float, dict[str, Tensor]]:
    """Mean loss of a step and its gradient, divided by the weight."""
    totals = forward_backward(setup, draw(setup, step), step, FIXED)
    weight = totals.sums["weight"]
    grads = {name: p.grad / weight for name, p in setup.model.named_parameters() if p.grad is not None}
    return (totals.sums["loss"] / weight).item(), grads


def masked(batch: Batch, share: float) -> Batch:
    """Some of the tokens carry no loss, as drawn for each document; its first one does."""
    parts = []
    for piece in batch.pieces:
        keep = torch.rand(piece.length, generator=torch.Generator().manual_seed(piece.document)) > share
        keep[0] = True
        parts.append(keep.float())
    return replace(batch, weights=torch.cat(parts))


class Masked(TinyLoader):
    def batch(self, step: int, micro: int = 0) -> Batch:
        return masked(super().batch(step, micro), 0.6)


@pytest.mark.parametrize("model", [STILL, STILL_MOE], ids=["dense", "moe"])
def test_accumulation_equals_one_big_batch(model: DecoderConfig) -> None:
    """TR-10: 1 x 8, 2 x 4, 4 x 2 and 8 x 1 rows of ragged lengths with masked tokens, to 1e-6."""
    loss, big = gradients(setup_of(model=model, loader=Masked(rows=8, micro_batches=1)))
    scale = max(g.abs().max().item() for g in big.values())
    for micro in (2, 4, 8):
        other, small = gradients(setup_of(model=model, loader=Masked(rows=8 // micro, micro_batches=micro)))
        assert other == pytest.approx(loss, rel=1e-6)
        for name in big:
            assert (big[name] - small[name]).abs().max().item() < 1e-6 * scale


def test_one_big_batch_is_the_mean_over_its_tokens() -> None:
    """Against the loss as everybody writes it."""
    setup = setup_of(loader=Masked(rows=4))
    loss, grads = gradients(setup)
    batch, model = setup.loader.batch(0), setup.model
    model.zero_grad()
    rows = zip(
        batch.tokens.split(batch.lengths),
        batch.targets.split(batch.lengths),
        batch.weights.split(batch.lengths),
        strict=True,
    )
    losses = []
    for tokens, targets, weights in rows:
        ctx = step_module.context_for(setup.cfg.objective, batch_of([[*tokens.tolist(), 0]]))
        logp = model.head(model(tokens, ctx)).log_softmax(-1)
        losses += (-logp[torch.arange(len(targets)), targets])[weights > 0]
    mean = torch.stack(losses).mean()
    mean.backward()
    assert loss == pytest.approx(mean.item(), rel=1e-6)
    for name, p in model.named_parameters():
        torch.testing.assert_close(grads[name], p.grad, rtol=1e-5, atol=1e-8)


def test_routing_bias_moves_once_by_the_load_of_all_micro_batches() -> None:
    results = []
    for micro in (1, 4):
        setup = setup_of(model=STILL_MOE, loader=TinyLoader(rows=8 // micro, micro_batches=micro))
        totals = forward_backward(setup, draw(setup, 0), 0, FIXED)
        load = [value.clone() for value in totals.loads.values()]
        update(setup, build_optimizer(setup.model, optim.SGD()), FIXED, totals, tokens=1)
        biases = [block.mlp.router.expert_bias.clone() for block in setup.model.blocks]
        for counts, bias in zip(load, biases, strict=True):
            assert torch.equal(bias, 1e-2 * torch.sign(counts.float().mean() - counts))
        results.append((load, biases))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_sgd_by_hand_and_clipping() -> None:
    """w - lr g / max(1, norm / limit), with the norm of the mean gradient."""
    _, grads = gradients(setup_of())
    norm = math.sqrt(sum(g.double().square().sum().item() for g in grads.values()))
    for limit in (None, norm / 3):
        setup = setup_of(TrainConfig(steps=10, clip_norm=limit))
        before = copy.deepcopy(setup.model.state_dict())
        optimizer = build_optimizer(setup.model, optim.SGD(lr=0.1))
        outcome = update(setup, optimizer, FIXED, forward_backward(setup, draw(setup, 0), 0, FIXED), tokens=7)
        assert outcome.grad_norm == pytest.approx(norm, rel=1e-5)
        assert outcome.sums["tokens"] == 7 and outcome.skipped is None
        for name, g in grads.items():
            torch.testing.assert_close(
                setup.model.state_dict()[name],
                before[name] - 0.1 * g / (3 if limit else 1),
                rtol=1e-5,
                atol=1e-7,
            )


def test_clipping_by_value() -> None:
    setup = setup_of(TrainConfig(steps=10, clip_norm=None, clip_value=1e-4))
    optimizer = build_optimizer(setup.model, optim.SGD(lr=1.0))
    before = copy.deepcopy(setup.model.state_dict())
    update(setup, optimizer, FIXED, forward_backward(setup, draw(setup, 0), 0, FIXED), tokens=1)
    moved = max((setup.model.state_dict()[name] - value).abs().max().item() for name, value in before.items())
    assert moved == pytest.approx(1e-4, rel=1e-2)


def snapshot(setup: Setup, optimizer: Any) -> list[Tensor]:
    return [t.clone() for t in [*setup.model.state_dict().values(), *optimizer.state_tensors()[0].values()]]


@pytest.mark.parametrize("where", ["loss", "one gradient", "inf gradient", "router"])
def test_a_non_finite_step_changes_nothing(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """TR-12: weights, moments, step counts and routing bias keep every bit."""
    setup = setup_of(model=STILL_MOE)
    optimizer = build_optimizer(setup.model, optim.AdamW())
    update(setup, optimizer, FIXED, forward_backward(setup, draw(setup, 0), 0, FIXED), tokens=1)
    before = snapshot(setup, optimizer)
    compute = step_module.compute

    def poisoned(*args: Any, **kwargs: Any) -> Loss:
        loss = compute(*args, **kwargs)
        return Loss(loss.sum * math.nan, loss.weight, loss.stats) if where == "loss" else loss

    monkeypatch.setattr(step_module, "compute", poisoned)
    totals = forward_backward(setup, draw(setup, 1), 1, FIXED)
    bad = setup.model.blocks[0].mlp.router.weight if where == "router" else setup.model.embed.weight
    if where != "loss":
        assert bad.grad is not None
        bad.grad.view(-1)[3] = math.inf if where == "inf gradient" else math.nan
    outcome = update(setup, optimizer, FIXED, totals, tokens=1)
    assert (
        outcome.skipped == ("non-finite loss" if where == "loss" else "non-finite gradient")
        and not outcome.overflow
    )
    for old, new in zip(before, snapshot(setup, optimizer), strict=True):
        assert torch.equal(old, new)
    monkeypatch.undo()
    assert (
        update(setup, optimizer, FIXED, forward_backward(setup, draw(setup, 2), 2, FIXED), tokens=1).skipped
        is None
    )


def test_nothing_to_learn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """TR-11: a micro-batch without loss adds nothing; a whole step without any is skipped."""
    compute = step_module.compute
    empty: set[int] = set()

    def emptied(objective: Any, model: Any, batch: Batch, ctx: Any, **options: Any) -> Loss:
        gone = batch.pieces[0].document in empty
        object.__setattr__(batch, "weights", torch.zeros(len(batch))) if gone else None
        return compute(objective, model, batch, ctx, **options)

    monkeypatch.setattr(step_module, "compute", emptied)
    setup = setup_of(loader=TinyLoader(rows=2, micro_batches=2))
    empty.add(2)  # the first document of the second micro-batch
    loss, both = gradients(setup)
    alone, first = gradients(setup_of(loader=TinyLoader(rows=2)))
    assert loss == alone
    for name in first:
        assert torch.equal(both[name], first[name])
    empty.add(0)
    optimizer = build_optimizer(setup.model, optim.AdamW())
    before = snapshot(setup, optimizer)
    outcome = update(setup, optimizer, FIXED, forward_backward(setup, draw(setup, 0), 0, FIXED), tokens=1)
    assert outcome.skipped == "no token carries a loss" and math.isnan(outcome.mean("loss"))
    assert all(torch.equal(a, b) for a, b in zip(before, snapshot(setup, optimizer), strict=True))


def test_scaling_by_a_power_of_two_changes_no_bit_and_an_overflow_halves_it() -> None:
    plain, scaled, scaler = setup_of(), setup_of(), LossScaler(scale=2.0**12)
    for setup, used in ((plain, FIXED), (scaled, scaler)):
        update(
            setup,
            build_optimizer(setup.model, optim.SGD()),
            used,
            forward_backward(setup, draw(setup, 0), 0, used),
            tokens=1,
        )
    assert all(
        torch.equal(a, b) for a, b in zip(plain.model.parameters(), scaled.model.parameters(), strict=True)
    )
    optimizer = build_optimizer(scaled.model, optim.SGD())
    totals = forward_backward(scaled, draw(scaled, 1), 1, scaler)
    scaled.model.embed.weight.grad[0, 0] = math.inf  # type: ignore[index]
    outcome = update(scaled, optimizer, scaler, totals, tokens=1)
    assert outcome.overflow and outcome.skipped == "non-finite gradient" and scaler.factor == 2.0**11


def test_qk_clip_bounds_the_logits_it_saw() -> None:
    """Muon's update is small here, so the heads that exceeded tau come out near it."""
    cfg = TrainConfig(steps=10, optimizer=optim.Muon(lr=1e-6, qk_clip=0.01, weight_decay=0.0))
    setup = setup_of(cfg)
    optimizer = build_optimizer(setup.model, cfg.optimizer)
    batches = draw(setup, 0)
    totals = forward_backward(setup, batches, 0, FIXED)
    seen = {layer: value.clone() for layer, value in totals.largest.items()}
    assert len(seen) == 2 and max(v.max().item() for v in seen.values()) > 0.02
    update(setup, optimizer, FIXED, totals, tokens=1)
    after = forward_backward(setup, batches, 0, FIXED).largest
    first = setup.model.blocks[0].attn
    assert after[first].max().item() == pytest.approx(0.01, rel=0.05)


def test_dropout_is_a_function_of_seed_step_and_micro_batch() -> None:
    setup = setup_of(model=DENSE)
    torch.manual_seed(123)
    first, _ = gradients(setup, 4)
    torch.rand(7)
    assert gradients(setup, 4)[0] == first
    seed_everything(torch.device("cpu"), 0, "anything")
    one, two = torch.rand(2), torch.rand(2)
    seed_everything(torch.device("cpu"), 0, "anything")
    assert torch.equal(one, torch.rand(2)) and not torch.equal(one, two)


def test_two_micro_batches_have_their_own_dropout() -> None:
    class Same(TinyLoader):
        def batch(self, step: int, micro: int = 0) -> Batch:
            return super().batch(0, 0)

    setup = setup_of(model=DENSE, loader=Same(micro_batches=2))
    totals = forward_backward(setup, draw(setup, 0), 0, FIXED)
    alone = forward_backward(setup_of(model=DENSE, loader=Same()), draw(setup_of(loader=Same()), 0), 0, FIXED)
    assert totals.sums["loss"].item() != pytest.approx(2 * alone.sums["loss"].item(), rel=1e-4)


def test_objectives_that_change_the_ids_draw_from_their_own_stream() -> None:
    class Vocabulary:
        vocab_size, bos_id, eos_id = 61, None, None
        special = {"<|mask|>": 60}  # noqa: RUF012

    setup = setup_of(TrainConfig(steps=4, objective=MaskedLM(rate=0.3)), vocabulary=Vocabulary())
    (one,), (again,), (other,) = draw(setup, 0), draw(setup, 0), draw(setup, 1)
    assert torch.equal(one.tokens, again.tokens) and torch.equal(one.weights, again.weights)
    assert (one.tokens == 60).any() and 0 < one.weights.sum() < len(one)
    assert len(other.tokens) != len(one.tokens) or not torch.equal(other.weights, one.weights)


def test_the_tiny_moe_of_these_tests_routes_unevenly() -> None:
    """Otherwise the tests of the routing bias would prove nothing."""
    setup = setup_of(model=MOE)
    loads = forward_backward(setup, draw(setup, 0), 0, FIXED).loads
    assert all(load.max() > load.min() for load in loads.values())
