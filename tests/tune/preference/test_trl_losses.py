"""The numbers of TRL's own loss functions on the same log-probabilities, to 1e-6."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from orrery.train.loss import Loss
from orrery.tune.preference.direct import apo_down, apo_zero, dpo, hinge, ipo, robust_dpo
from orrery.tune.preference.kto import kto, reference_point
from orrery.tune.preference.reference_free import cpo, orpo, simpo

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
pytest.importorskip("trl")

PAIRS, LENGTH = 5, 9


class Accelerator:
    """One process."""

    device = torch.device("cpu")

    def gather_for_metrics(self, x: Tensor) -> Tensor:
        return x

    gather = gather_for_metrics


class Spoken:
    """A model that says what it is told: log-probabilities of tokens (B, L)."""

    training = True

    def __init__(self, logprobs: Tensor) -> None:
        self.logprobs = logprobs

    def __call__(self, **_: Any) -> SimpleNamespace:
        like = torch.zeros_like(self.logprobs)
        return SimpleNamespace(
            log_probs=self.logprobs, entropy=like, mean_logits=like, is_top1=like > 1, aux_loss=None
        )


@pytest.fixture(scope="module")
def numbers() -> dict[str, Tensor]:
    """Answers of several lengths, better ones first, with what policy and reference say of their tokens."""
    torch.manual_seed(3)
    lengths = torch.tensor([3, 5, 2, 8, 6, 4, 1, 7, 8, 2])
    mask = torch.arange(LENGTH) < lengths[:, None]
    policy, reference = (-2 * torch.rand(2 * PAIRS, LENGTH) * mask for _ in range(2))
    return {"mask": mask, "lengths": lengths.float(), "policy": policy, "reference": reference.sum(1)}


def theirs(numbers: dict[str, Tensor], kind: str, **settings: Any) -> tuple[float, dict[str, list[float]]]:
    from trl import DPOTrainer

    metrics: dict[str, Any] = {"train": defaultdict(list)}
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True), accelerator=Accelerator(), aux_loss_enabled=False, ld_alpha=None,
        precompute_ref_logps=True, f_divergence_type="reverse_kl", loss_types=[kind], loss_weights=[1.0], use_weighting=False,
        _metrics=metrics, _total_train_tokens=0, _tp_size=1, **{"beta": 0.3, "label_smoothing": 0.0, **settings},
    )  # fmt: skip
    completion = torch.cat([torch.zeros(2 * PAIRS, 1), numbers["mask"]], 1).long()
    inputs = {
        "input_ids": torch.zeros_like(completion), "attention_mask": torch.ones_like(completion), "completion_mask": completion,
        "ref_chosen_logps": numbers["reference"][:PAIRS], "ref_rejected_logps": numbers["reference"][PAIRS:],
    }  # fmt: skip
    loss = DPOTrainer._compute_loss(trainer, Spoken(numbers["policy"]), inputs, False)
    return float(loss), metrics["train"]


def four(numbers: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    policy = numbers["policy"].sum(1)
    return policy[:PAIRS], policy[PAIRS:], numbers["reference"][:PAIRS], numbers["reference"][PAIRS:]


def lengths(numbers: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    return numbers["lengths"][:PAIRS], numbers["lengths"][PAIRS:]


def test_losses_with_a_reference(numbers: dict[str, Tensor]) -> None:
    f, n = four(numbers), lengths(numbers)
    cases: list[tuple[Loss, str, dict[str, Any]]] = [
        (dpo(*f, beta=0.3), "sigmoid", {}),
        (dpo(*f, beta=0.3, lengths=n), "sigmoid_norm", {}),
        (ipo(*f, beta=0.3, lengths=n), "ipo", {}),
        (hinge(*f, beta=0.3), "hinge", {}),
        (robust_dpo(*f, beta=0.3, flipped=0.2), "robust", {"label_smoothing": 0.2}),
        (apo_zero(*f, beta=0.3), "apo_zero", {}),
        (apo_down(*f, beta=0.3), "apo_down", {}),
    ]
    for ours, kind, settings in cases:
        loss, metrics = theirs(numbers, kind, **settings)
        assert float(ours.mean()) == pytest.approx(loss, abs=1e-6), kind
        if kind not in ("sigmoid_norm", "ipo"):  # whose rewards they log as sums all the same
            for name, stat in (
                ("chosen", "reward_chosen"),
                ("rejected", "reward_rejected"),
                ("margins", "margin"),
            ):
                assert float(ours.stats[stat]) / PAIRS == pytest.approx(
                    metrics[f"rewards/{name}"][0], abs=1e-6
                )
            assert float(ours.stats["accuracy"]) / PAIRS == pytest.approx(metrics["rewards/accuracies"][0])


def test_losses_without_one(numbers: dict[str, Tensor]) -> None:
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

    chosen, rejected, *_ = four(numbers)
    n = lengths(numbers)
    plain = SimpleNamespace(
        alpha=0.0, beta=0.3, label_smoothing=0.1, loss_type="sigmoid", accelerator=Accelerator()
    )
    losses, won, _ = CPOTrainer.cpo_loss(plain, chosen, rejected)
    ours = cpo(chosen, rejected, n, beta=0.3, alpha=0.0, label_smoothing=0.1)
    assert float(ours.mean()) == pytest.approx(float(losses.mean()), abs=1e-6)
    assert float(ours.stats["reward_chosen"]) == pytest.approx(float(won.sum()), abs=1e-5)
    learned = cpo(chosen, rejected, n, beta=0.3, alpha=0.7, label_smoothing=0.1)
    assert float(learned.mean() - ours.mean()) == pytest.approx(
        float(-0.7 * (chosen / n[0]).mean()), abs=1e-6
    )

    means = chosen / n[0], rejected / n[1]
    simple = SimpleNamespace(
        **{**vars(plain), "loss_type": "simpo", "simpo_gamma": 0.5, "beta": 2.0, "label_smoothing": 0.0}
    )
    losses, won, _ = CPOTrainer.cpo_loss(simple, *means)
    ours = simpo(chosen, rejected, n, beta=2.0, gamma=0.5)
    assert float(ours.mean()) == pytest.approx(float(losses.mean()), abs=1e-6)
    assert float(ours.stats["reward_chosen"]) == pytest.approx(float(won.sum()), abs=1e-5)

    odds = SimpleNamespace(beta=0.25, accelerator=Accelerator())
    losses, won, _, _, ratio = ORPOTrainer.odds_ratio_loss(odds, *means)
    ours = orpo(chosen, rejected, n, weight=0.25)
    assert float(ours.mean()) == pytest.approx(float(-losses.mean() - means[0].mean()), abs=1e-6)
    assert float(ours.stats["log_odds_ratio"]) / PAIRS == pytest.approx(float(ratio), abs=1e-6)


def test_kto_with_its_reference_point(numbers: dict[str, Tensor]) -> None:
    from trl import KTOTrainer

    policy = numbers["policy"].sum(1)
    others, known = policy.roll(1) + 0.8, numbers["reference"].roll(1)
    label = torch.tensor([True, True, False, True, False, False, True, False, True, True])
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True), accelerator=Accelerator(), aux_loss_enabled=False, precompute_ref_logps=True,
        calculate_KL=True, loss_type="kto", beta=0.3, desirable_weight=1.0, undesirable_weight=1.3, _tp_size=1,
        _metrics={"train": defaultdict(list)}, _total_train_tokens=0, _compute_kl_logps=lambda *_: others,
    )  # fmt: skip
    completion = torch.cat([torch.zeros(2 * PAIRS, 1), numbers["mask"]], 1).long()
    inputs = {
        "input_ids": torch.zeros_like(completion), "attention_mask": torch.ones_like(completion), "completion_mask": completion,
        "label": label, "ref_logps": numbers["reference"], "ref_KL_logps": known,
    }  # fmt: skip
    loss = KTOTrainer._compute_loss(trainer, Spoken(numbers["policy"]), inputs, False)
    point = reference_point(others, known)
    assert float(point) == pytest.approx(trainer._metrics["train"]["kl"][0], abs=1e-6) and float(point) > 0
    ours = kto(policy, numbers["reference"], label, point, beta=0.3, undesirable=1.3)
    assert float(ours.mean()) == pytest.approx(float(loss), abs=1e-6)
    ups = trainer._metrics["train"]["rewards/chosen"][0]
    assert float(ours.stats["reward_up"] / ours.stats["ups"]) == pytest.approx(ups, abs=1e-6)
