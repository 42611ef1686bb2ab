"""Losses of drafters against the same maths written out place by place."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from orrery.data.batch import Batch, batch_of
from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.drafters import EagleConfig, MedusaConfig, SemiAutoregressiveConfig, make_net
from orrery.model.mlp import Mlp
from orrery.model.moe import Moe
from orrery.model.packed import Packed
from orrery.train.objectives import DraftEagle, DraftMedusa, DraftSemi
from orrery.train.objectives import drafting as module
from orrery.train.objectives.apply import compute
from orrery.train.objectives.drafting import RANKS, Drafted, accuracy, soft_cross_entropy

BATCH = batch_of([[1, 2, 3, 4, 5, 6, 7], [8, 9, 1], [4, 4, 2, 11, 3, 9, 30, 5, 8]])
OBJECTIVES = {
    "medusa": DraftMedusa(net=MedusaConfig(heads=3, layers=2)),
    "medusa with heads of its own": DraftMedusa(net=MedusaConfig(heads=2, own_head=True), decay=0.5),
    "eagle": DraftEagle(net=EagleConfig(d_ff=20), noise=0.0, classification=0.3),
    "semi": DraftSemi(net=SemiAutoregressiveConfig(block=3, d_ff=20)),
}


def model(**changes) -> Decoder:
    shape = {"vocab_size": 31, "d_model": 16, "n_layers": 2, "n_heads": 2, "feed_forward": Mlp(d_ff=24)}
    made = Decoder(DecoderConfig(**{**shape, **changes}), seed=2).eval().requires_grad_(False)
    for parameter in made.parameters():
        parameter.mul_(8.0 if parameter.ndim > 1 else 1.0)
    return made


def drafted(kind: str, **changes) -> Drafted:
    net = make_net(OBJECTIVES[kind].net, model(**changes))
    net.reset_parameters(3)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return Drafted(net)


def number(tensor: torch.Tensor) -> float:
    return tensor.detach().item()


def documents(batch: Batch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(zip(batch.tokens.split(batch.lengths), batch.targets.split(batch.lengths), strict=True))


@pytest.mark.parametrize("kind", ["medusa", "medusa with heads of its own", "semi"])
def test_guesses_place_by_place(kind: str) -> None:
    objective, trained = OBJECTIVES[kind], drafted(kind)
    net, total, places = trained.net, 0.0, 0
    for tokens, targets in documents(BATCH):
        hidden = net.model(tokens, Packed([len(tokens)]))
        said = net.model.head(hidden).argmax(-1)
        for i in range(len(tokens)):
            for k in range(3 if "own" not in kind else 2):
                if i + 1 + k >= len(tokens):
                    continue
                if kind == "semi":
                    logits = net.head(net(hidden[i : i + 1], targets[i : i + 1])[0, k])
                else:
                    logits = net.logits(k, net(hidden[i : i + 1])[k])[0]
                total += objective.decay**k * number(F.cross_entropy(logits, said[i + 1 + k]))
            places += i + 1 < len(tokens)
    loss = compute(objective, trained, BATCH)
    assert number(loss.sum) == pytest.approx(total, rel=1e-4)
    assert number(loss.weight) == places == 5 + 1 + 7
    assert number(loss.stats["nll"]) == number(loss.sum)


def test_eagle_place_by_place() -> None:
    objective, trained = OBJECTIVES["eagle"], drafted("eagle")
    net, near, same, places = trained.net, 0.0, 0.0, 0
    for tokens, targets in documents(BATCH):
        hidden = net.model(tokens, Packed([len(tokens)]))
        made = net(hidden, targets, Packed([len(tokens)]))
        for i in range(len(tokens) - 1):
            gap = (made[i] - hidden[i + 1]).abs()
            near += number(torch.where(gap < 1, gap**2 / 2, gap - 0.5).mean())
            p, q = (net.model.head(state).softmax(-1) for state in (hidden[i + 1], made[i]))
            same -= number((p * q.log()).sum())
            places += 1
    loss = compute(objective, trained, BATCH)
    assert number(loss.sum) == pytest.approx(near + 0.3 * same, rel=1e-4)
    assert number(loss.weight) == places
    assert number(loss.stats["state"]) == pytest.approx(near, rel=1e-4)
    assert number(loss.stats["guess"]) == pytest.approx(0.3 * same, rel=1e-4)


def test_eagles_noise_is_in_training_only() -> None:
    trained = drafted("eagle")
    noisy = DraftEagle(net=EagleConfig(d_ff=20), noise=0.5, classification=0.3)
    still = number(compute(OBJECTIVES["eagle"], trained, BATCH).sum)
    assert number(compute(noisy, trained.eval(), BATCH).sum) == still
    assert number(compute(noisy, trained.train(), BATCH).sum) != still


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_chunks_of_the_vocabulary_change_nothing(kind: str, monkeypatch) -> None:
    found = []
    for size in (module.CHUNK_BYTES, 4 * 31 * 3):
        monkeypatch.setattr(module, "CHUNK_BYTES", size)
        trained = drafted(kind)
        loss = compute(OBJECTIVES[kind], trained, BATCH)
        loss.sum.backward()
        found.append((number(loss.sum), [p.grad for p in trained.parameters()]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for whole, pieces in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(whole, pieces, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_only_the_drafter_learns(kind: str) -> None:
    trained = drafted(kind, feed_forward=Moe(n_experts=4, top_k=2, d_ff=16, bias_update=1e-2))
    ctx = Packed(BATCH.lengths)
    compute(OBJECTIVES[kind], trained, BATCH, ctx).sum.backward()
    assert all(p.grad is not None for p in trained.parameters())
    assert all(p.grad is None for p in trained.net.model.parameters())
    assert not ctx.recorded  # else the loop would balance the frozen model's experts


@pytest.mark.parametrize("kind", ["medusa", "semi"])
def test_accuracy_counts_by_rank(kind: str) -> None:
    trained = drafted(kind)
    net = trained.net
    right, total = torch.zeros(3, RANKS), torch.zeros(3)
    for tokens, targets in documents(BATCH):
        hidden = net.model(tokens, Packed([len(tokens)]))
        said = net.model.head(hidden).argmax(-1)
        for k in range(3):
            states = net(hidden)[k] if kind == "medusa" else net(hidden, targets)[:, k]
            for i in range(len(tokens) - 1 - k):
                best = net.head(states[i]).topk(RANKS).indices.tolist()
                total[k] += 1
                if int(said[i + 1 + k]) in best:
                    right[k, best.index(int(said[i + 1 + k]))] += 1
    torch.testing.assert_close(accuracy(net, [BATCH, BATCH]), right / total[:, None])


def test_soft_cross_entropy_by_hand() -> None:
    logits, teacher = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[math.log(2), 0.0]])
    wanted = -(2 / 3 * math.log(1 / 4) + 1 / 3 * math.log(3 / 4))
    assert float(soft_cross_entropy(logits, teacher)) == pytest.approx(wanted)


def test_what_a_drafter_has_no_use_for_is_refused() -> None:
    with pytest.raises(OrreryError, match="label_smoothing"):
        compute(OBJECTIVES["eagle"], drafted("eagle"), BATCH, label_smoothing=0.1)
