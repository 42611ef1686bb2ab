"""Losses of reward models: numbers worked by hand, and those of the reference library."""

from __future__ import annotations

import math
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from orrery.tune.reward.losses import pair_loss, ranking_loss, verdict_loss
from orrery.tune.reward.model import combined


def test_a_pair_by_hand() -> None:
    loss = pair_loss(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.0]))
    assert loss.sum.item() == pytest.approx(math.log(1 + math.exp(-1)) + math.log(2), abs=1e-6)
    assert loss.weight.item() == 2
    assert loss.stats["accuracy"].item() == 1.5 and loss.stats["margin"].item() == 1.0


def test_a_margin_asks_for_more() -> None:
    """Leading by 1 where 1 is asked for costs ln 2, as being level does where nothing is."""
    led = pair_loss(torch.tensor([1.0]), torch.tensor([0.0]), margin=torch.tensor([1.0]))
    assert led.sum.item() == pytest.approx(math.log(2), abs=1e-6)


def test_centring_prices_the_sum() -> None:
    loss = pair_loss(torch.tensor([2.0]), torch.tensor([1.0]), centre=0.1)
    assert loss.sum.item() == pytest.approx(math.log(1 + math.exp(-1)) + 0.1 * 9, abs=1e-6)
    assert loss.stats["nll"].item() == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-6)


def test_the_gradient_of_a_pair_is_the_chance_of_being_wrong() -> None:
    chosen = torch.tensor([0.3], requires_grad=True)
    pair_loss(chosen, torch.tensor([1.0])).sum.backward()
    assert chosen.grad is not None
    assert chosen.grad.item() == pytest.approx(-1 / (1 + math.exp(-0.7)), abs=1e-6)


def test_a_verdict_by_hand() -> None:
    loss = verdict_loss(torch.tensor([0.0, 2.0, -1.0]), torch.tensor([1.0, 1.0, 0.25]))
    by_hand = math.log(2) + math.log(1 + math.exp(-2)) + 0.25 * 1 + math.log(1 + math.exp(-1))
    assert loss.sum.item() == pytest.approx(by_hand, abs=1e-6)
    assert loss.weight.item() == 3 and loss.stats["accuracy"].item() == 2


def test_a_ranking_is_the_mean_of_its_pairs() -> None:
    scores, grades = torch.tensor([0.5, -0.2, 1.0]), torch.tensor([2, 0, 1])
    pairs = [(0, 1), (0, 2), (2, 1)]
    each = [math.log(1 + math.exp(float(scores[b] - scores[a]))) for a, b in pairs]
    loss = ranking_loss(scores, grades)
    assert loss.sum.item() == pytest.approx(sum(each) / 3, abs=1e-6)
    assert loss.weight.item() == 1 and loss.stats["accuracy"].item() == pytest.approx(2 / 3)
    assert ranking_loss(scores, torch.zeros(3)).weight.item() == 0


def test_members_agree() -> None:
    scores = torch.tensor([[1.0, 2.0], [3.0, 2.0]])
    assert combined(scores, "mean").tolist() == [2.0, 2.0]
    assert combined(scores, "min").tolist() == [1.0, 2.0]
    assert combined(scores, "pessimist", 0.5).tolist() == [1.5, 2.0]
    assert combined(scores[:1], "pessimist", 9.0).tolist() == [1.0, 2.0]


def test_a_verdict_is_a_choice_of_two() -> None:
    """Token classification with two classes, as the reference library trains process reward models, is the same loss."""
    scores, labels = torch.tensor([0.4, -1.2, 2.0]), torch.tensor([1, 1, 0])
    two = torch.stack([torch.zeros(3), scores], 1)
    theirs = torch.nn.functional.cross_entropy(two, labels, reduction="sum")
    assert verdict_loss(scores, labels.float()).sum.item() == pytest.approx(theirs.item(), abs=1e-6)


def test_equal_to_trl() -> None:
    """RewardTrainer's own compute_loss on the same scores: plain, with margins, centred."""
    pytest.importorskip("trl", reason="the reference library is a test extra")
    generator = torch.Generator().manual_seed(3)
    scores, margin = torch.randn(16, generator=generator), torch.rand(8, generator=generator)
    for margins, centre in ((None, None), (margin, None), (None, 0.01), (margin, 0.3)):
        theirs = trl_loss(scores, margins, centre)
        ours = pair_loss(
            scores[:8], scores[8:], margin=0.0 if margins is None else margins, centre=centre or 0.0
        ).mean()
        assert float(ours) == pytest.approx(theirs, abs=1e-6)


def trl_loss(scores: torch.Tensor, margin: torch.Tensor | None, centre: float | None) -> float:
    """What trl's RewardTrainer.compute_loss says of a batch whose model gives these scores: chosen ones, then rejected ones."""
    from trl import RewardTrainer

    def model(**_: object) -> SimpleNamespace:
        return SimpleNamespace(logits=scores[:, None])

    trainer = SimpleNamespace(
        args=SimpleNamespace(center_rewards_coefficient=centre),
        model=SimpleNamespace(training=False),
        accelerator=SimpleNamespace(gather_for_metrics=lambda x: x, gather=lambda x: x),
        _metrics={"eval": defaultdict(list)},
        _total_train_tokens=0,
    )
    inputs = {
        "input_ids": torch.zeros(16, 1, dtype=torch.int64),
        "attention_mask": torch.ones(16, 1, dtype=torch.int64),
    }
    if margin is not None:
        inputs["margin"] = margin
    return float(RewardTrainer.compute_loss(trainer, model, inputs))
