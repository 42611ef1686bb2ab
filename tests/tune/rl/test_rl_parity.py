"""The formulas that TRL has too, on the same tensors: GRPO's family, RLOO, advantages, entropy, overlong, masks."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from orrery.tune.rl.advantage import advantages
from orrery.tune.rl.aggregate import aggregate
from orrery.tune.rl.clipped_surrogate import clipped_surrogate
from orrery.tune.rl.entropy import forking_tokens, scored
from orrery.tune.rl.explain import fractions
from orrery.tune.rl.importance import off_policy_mask
from orrery.tune.rl.kl import token_kl
from orrery.tune.rl.overlong import overlong_penalty
from orrery.tune.rl.policy_loss import Kind, policy_loss
from orrery.tune.rl.responses import response_sums

pytestmark = pytest.mark.filterwarnings("ignore")
grpo_trainer = pytest.importorskip("trl.trainer.grpo_trainer")

LENGTHS = torch.tensor([5, 2, 7, 4])
WIDTH, LIMIT = 7, 16
OWNER = torch.arange(4).repeat_interleave(LENGTHS)
MASK = (torch.arange(WIDTH) < LENGTHS[:, None]).long()
ADVANTAGES = torch.tensor([1.0, -0.5, -1.2, 0.7])


def padded(seed: int, scale: float = 0.3) -> torch.Tensor:
    return scale * torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(seed)) - 1


def flat(table: torch.Tensor) -> torch.Tensor:
    return table[MASK.bool()]


class Accelerator:
    num_processes = 1
    sync_gradients = False

    def reduce(self, x: torch.Tensor, reduction: str = "sum") -> torch.Tensor:
        return x

    def gather(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def pad_across_processes(self, x: torch.Tensor, **_: Any) -> torch.Tensor:
        return x


def theirs(
    logprobs: torch.Tensor, old: torch.Tensor, **settings: Any
) -> tuple[torch.Tensor, dict[str, list[float]]]:
    """GRPOTrainer's loss with the model's numbers handed in."""
    settings = {
        "loss_type": "grpo", "importance_sampling_level": "token", "epsilon_low": 0.2, "epsilon_high": 0.2, "beta": 0.0, "delta": None,
        "bias": False, "ref": None,
    } | settings  # fmt: skip
    metrics: Any = {"train": defaultdict(list)}
    trainer = SimpleNamespace(
        **{k: settings[k] for k in ("loss_type", "importance_sampling_level", "epsilon_low", "epsilon_high", "beta")},
        args=SimpleNamespace(delta=settings["delta"], use_bias_correction_kl=settings["bias"], steps_per_generation=1),
        model=SimpleNamespace(training=True), accelerator=Accelerator(), _metrics=metrics, aux_loss_enabled=False,
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, use_vllm=False, current_gradient_accumulation_steps=1,
        max_completion_length=LIMIT, _entropy_bonus_enabled=False,
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs, torch.zeros_like(logprobs), None),
    )  # fmt: skip
    inputs = {
        "prompt_ids": torch.zeros(4, 1).long(), "prompt_mask": torch.ones(4, 1).long(), "completion_ids": MASK, "completion_mask": MASK,
        "advantages": ADVANTAGES, "old_per_token_logps": old, "num_items_in_batch": MASK.sum(), "ref_per_token_logps": settings["ref"],
    }  # fmt: skip
    return grpo_trainer.GRPOTrainer._compute_loss(trainer, None, inputs), metrics["train"]


@pytest.mark.parametrize(
    ("kind", "settings", "mine"),
    [
        ("grpo", {}, {}),
        ("grpo", {"epsilon_high": 0.28}, {"clip_high": 0.28}),
        ("ppo", {"loss_type": "bnpo"}, {}),
        ("dr-grpo", {"loss_type": "dr_grpo"}, {"max_length": LIMIT}),
        ("dapo", {"loss_type": "dapo", "epsilon_high": 0.28}, {}),
        ("cispo", {"loss_type": "cispo", "epsilon_high": 1.2}, {"clip_high": 0.2}),
        ("gspo", {"importance_sampling_level": "sequence", "epsilon_low": 3e-4, "epsilon_high": 4e-4}, {}),
        ("gspo", {"importance_sampling_level": "sequence"}, {"clip_low": 0.2, "clip_high": 0.2}),
    ],
)
def test_losses_and_gradients(kind: Kind, settings: dict[str, Any], mine: dict[str, Any]) -> None:
    logprobs, old = padded(0).requires_grad_(), padded(1)
    expected, metrics = theirs(logprobs, old, **settings)
    gradient = torch.autograd.grad(expected, logprobs)[0]
    ours = flat(logprobs).detach().requires_grad_()
    found = policy_loss(kind, ours - flat(old), ours, ADVANTAGES[OWNER], OWNER, **mine)
    torch.testing.assert_close(found.mean(), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.autograd.grad(found.mean(), ours)[0], flat(gradient), rtol=0, atol=1e-6)
    if kind not in ("cispo", "gspo"):  # theirs counts responses for gspo
        summary = fractions(found.stats)
        for name in ("low", "high"):
            assert summary[f"clip_{name}"] == pytest.approx(metrics[f"clip_ratio/{name}_mean"][0], abs=1e-6)


@pytest.mark.parametrize("unbiased", [False, True])
def test_the_kl_term(unbiased: bool) -> None:
    logprobs, old, reference = padded(0).requires_grad_(), padded(1), padded(2)
    with_kl = theirs(logprobs, old, beta=0.3, ref=reference, bias=unbiased)[0]
    ours = flat(logprobs)
    log_ratio = ours - flat(old)
    policy = policy_loss("grpo", log_ratio, ours, ADVANTAGES[OWNER], OWNER)
    kl = aggregate(
        token_kl(ours, flat(reference), log_ratio=log_ratio if unbiased else None), OWNER, "sequence-mean"
    )
    torch.testing.assert_close(policy.plus("kl", 0.3 * kl.sum).mean(), with_kl, rtol=0, atol=1e-6)


def test_the_loss_of_rloo() -> None:
    rloo_trainer = pytest.importorskip("trl.trainer.rloo_trainer")
    logprobs, old = padded(0), padded(1, 0.32)
    trainer = SimpleNamespace(
        epsilon_low=0.2, epsilon_high=0.2, aux_loss_enabled=False, model=SimpleNamespace(training=True), accelerator=Accelerator(),
        _metrics={"train": defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs, torch.zeros_like(logprobs), None),
    )  # fmt: skip
    inputs = {
        "prompt_ids": torch.zeros(4, 1).long(), "prompt_mask": torch.ones(4, 1).long(), "completion_ids": MASK, "completion_mask": MASK,
        "advantages": ADVANTAGES, "old_logps": (old * MASK).sum(1),
    }  # fmt: skip
    expected = rloo_trainer.RLOOTrainer._compute_loss(trainer, None, inputs)
    ratio = response_sums(flat(logprobs) - flat(old), OWNER).exp()  # of whole responses
    torch.testing.assert_close(clipped_surrogate(ratio, ADVANTAGES).mean(), expected, rtol=0, atol=1e-6)


def test_group_advantages() -> None:
    """Their lines are inside a method that generates; the same with their `nanstd`."""
    utils = pytest.importorskip("trl.trainer.utils")
    rewards = torch.tensor([1.0, 0, 0.5, torch.nan, 2, 2, 2, 2]).view(2, 4)
    centred = rewards - torch.nanmean(rewards, 1, keepdim=True)
    expected = (centred / (utils.nanstd(rewards, 1, keepdim=True) + 1e-4)).nan_to_num(0)
    group = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    torch.testing.assert_close(
        advantages("group", rewards.flatten(), group), expected.flatten(), rtol=0, atol=1e-6
    )
    torch.testing.assert_close(
        advantages("group-centred", rewards.flatten(), group),
        centred.nan_to_num(0).flatten(),
        rtol=0,
        atol=1e-6,
    )


def test_entropy_and_the_tokens_of_high_entropy() -> None:
    utils = pytest.importorskip("trl.trainer.utils")
    logits = torch.randn(18, 50, generator=torch.Generator().manual_seed(4))
    ours = scored(logits, lambda z: z, torch.zeros(18).long(), chunk=7)
    torch.testing.assert_close(ours.entropy, utils.entropy_from_logits(logits, 5), rtol=0, atol=1e-6)
    torch.testing.assert_close(
        ours.logprobs, utils.selective_log_softmax(logits, torch.zeros(18).long()), rtol=0, atol=1e-6
    )
    table = torch.zeros(4, WIDTH)
    table[MASK.bool()] = ours.entropy
    fake = SimpleNamespace(accelerator=Accelerator())
    expected = grpo_trainer.GRPOTrainer.get_high_entropy_mask(fake, table, MASK, 0.8)
    assert torch.equal(forking_tokens(ours.entropy, 0.2), flat(expected))


def test_overlong_punishment() -> None:
    rewards = pytest.importorskip("trl.rewards")
    lengths = list(range(0, 130, 3))
    expected = rewards.get_soft_overlong_punishment(100, 20)([[1] * n for n in lengths])
    torch.testing.assert_close(
        overlong_penalty(torch.tensor(lengths), limit=100, buffer=20), torch.tensor(expected)
    )


def test_the_off_policy_mask() -> None:
    logprobs, old = padded(0), padded(1)
    for threshold in (-0.2, 0.0, 0.1):
        expected = grpo_trainer.GRPOTrainer.get_off_policy_mask(
            ADVANTAGES[:, None], logprobs, old, MASK, threshold
        )
        found = off_policy_mask(flat(logprobs), flat(old), ADVANTAGES[OWNER], OWNER, threshold=threshold)
        assert torch.equal(found, expected.float().expand(4, WIDTH)[MASK.bool()])
