"""A reward model learns a planted preference, shares prompts without changing a number, resumes to the same bits, and is saved whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.kit.files import atomic_folder
from orrery.model.adapters import Lora
from orrery.train.config import CheckpointConfig
from orrery.tune.reward import RewardEnsemble, RewardModel, load_reward, save_reward
from orrery.tune.reward.batches import RewardLoader, batch_of_items
from orrery.tune.reward.config import RewardConfig, RewardLoaderConfig
from orrery.tune.reward.folder import Described, describe, member
from orrery.tune.reward.head import RewardLoss, put_head, scores_of, take_head
from orrery.tune.reward.items import Item, cut_left, cut_right, fitted, pair_item
from orrery.tune.reward.trainer import RewardMaterial, RewardResult, train_reward
from orrery.tune.subject import Subject

from .start import loop, pairs, renderer, subject

CFG = RewardConfig()
LOADER = RewardLoaderConfig(context=64, rows=8)


def items(of: Subject, count: int, seed: int = 0) -> list[Item]:
    return [pair_item(pair, renderer(of), CFG) for pair in pairs(count, seed)]


def trained(of: Subject, out: Path, steps: int = 40, **changes: object) -> RewardResult:
    material = RewardMaterial(sets=[items(of, 96)], heldout=items(of, 64, seed=1), virtual=of.placeholders)
    how = {"loop": loop(steps), **changes}
    return train_reward(
        how.pop("loop"),
        model=of.model,
        material=material,
        level="pair",
        out=out,
        cfg=CFG,
        loader=LOADER,
        **how,
    )  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Subject, RewardResult]:
    of = subject()
    return of, trained(of, tmp_path_factory.mktemp("run"))


def test_it_learns_a_planted_preference(learned: tuple[Subject, RewardResult]) -> None:
    """An untrained head says nothing of cats and dogs; a trained one tells held-out pairs apart, far beyond chance."""
    _, result = learned
    assert result.before is not None and result.after is not None
    assert abs(result.before.accuracy.mean - 0.5) < 0.25
    assert result.after.accuracy.low > 0.8
    assert result.after.nll < result.before.nll and result.after.margin > 1
    assert 0 <= result.after.ece <= 0.3


def test_an_adapter_learns_it_too(tmp_path: Path) -> None:
    of = subject(adapter=Lora(rank=4))
    frozen = of.model.embed.weight.detach().clone()
    result = trained(of, tmp_path, loop=loop(60, 1e-2))
    assert result.after is not None and result.after.accuracy.low > 0.6
    assert torch.equal(frozen, of.model.embed.weight)


def test_a_shared_prompt_changes_nothing() -> None:
    of = subject()
    head = put_head(of.model, seed=3)
    some = items(of, 6)
    shared, whole = batch_of_items(some), batch_of_items(some, share=False)
    assert len(shared) < len(whole) and torch.equal(shared.labels, whole.labels)
    with torch.no_grad():
        assert torch.allclose(scores_of(of.model, head, shared), scores_of(of.model, head, whole), atol=1e-6)
    grads = []
    for batch in (shared, whole):
        of.model.zero_grad()
        RewardLoss(CFG, "pair")(of.model, batch).sum.backward()
        grads.append(of.model.embed.weight.grad.clone())  # type: ignore[union-attr]
    assert torch.allclose(*grads, atol=1e-6)


def test_the_score_is_read_at_the_end_of_the_answer() -> None:
    """A batch's rows are the last ids of each answer, behind its own prompt."""
    of = subject()
    some = items(of, 5)
    batch = batch_of_items(some, virtual=0)
    ends = [one[-1] for item in some for one in item.ids]
    assert batch.tokens[batch.rows].tolist() == ends
    assert set(ends) <= set(of.lm().stop_ids)
    assert (batch.weights > 0).sum() == len(set(batch.rows.tolist()))


def test_batches_are_a_function_of_seed_and_step() -> None:
    of = subject()
    loader = RewardLoader([items(of, 20), items(of, 10, seed=5)], LOADER, shares=[1, 3], purpose="a")
    again = RewardLoader([items(of, 20), items(of, 10, seed=5)], LOADER, shares=[1, 3], purpose="b")
    assert torch.equal(loader.batch(7).tokens, again.batch(7).tokens)
    assert loader.fingerprint != again.fingerprint
    assert not torch.equal(loader.batch(7).tokens, loader.batch(8).tokens)
    parts = [piece.corpus for step in range(40) for piece in loader.batch(step).pieces]
    assert 0.6 < sum(parts) / len(parts) < 0.9
    one = RewardLoader([items(of, 16)], LOADER)
    assert one.steps_per_epoch == 2
    seen = {piece.document for step in range(2) for piece in one.batch(step).pieces}
    assert seen == set(range(16))


def test_what_is_too_long_loses_the_beginning_of_its_prompt() -> None:
    long = Item(ids=((1, 5, 6, 7, 8), (1, 5, 6, 9)), places=((4,), (3,)), labels=(1.0, 0.0))
    cut = cut_left(long, 4, bos=1)
    assert cut is not None and cut.ids == ((1, 6, 7, 8), (1, 6, 9)) and cut.places == ((3,), (2,))
    assert cut_left(long, 2, bos=1) is None
    kept, lost = fitted(
        [long, replace(long, ids=((1, 2), (1, 3)), places=((1,), (1,)))], RewardLoaderConfig(context=2)
    )
    assert len(kept) == 1 and lost == 1
    with pytest.raises(OrreryError, match="do not fit into"):
        fitted([long], RewardLoaderConfig(context=3, long="error"))
    assert fitted([long], RewardLoaderConfig(context=2, long="drop")) == ([], 1)
    right = cut_right(long, 4)
    assert right is not None and right.ids == ((1, 5, 6, 7), (1, 5, 6, 9)) and right.places == ((3,), (3,))
    assert cut_right(long, 3) is None  # nothing is left that differs
    stepped = Item(ids=((1, 5, 6, 7, 8),), places=((2, 4),), labels=(1.0, 0.0))
    assert cut_right(stepped, 4) is None


def test_stopped_and_gone_on_with_it_ends_in_the_same_bits(tmp_path: Path) -> None:
    whole, broken = subject(), subject()
    every = CheckpointConfig(every_steps=3, every_seconds=None, keep_last=9)
    straight = trained(whole, tmp_path / "whole", loop=replace(loop(9), checkpoint=every))
    trained(broken, tmp_path / "broken", loop=replace(loop(9), checkpoint=every))
    for step in (9, 6):  # as if it had been killed before these were written
        for path in sorted((tmp_path / "broken" / "checkpoints").glob(f"step-*{step}")):
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
    fresh = subject(seed=9)
    result = trained(fresh, tmp_path / "broken", loop=replace(loop(9), checkpoint=every))
    assert result.run.resumed_from == 3
    assert torch.equal(result.head.weight, straight.head.weight)
    assert all(
        torch.equal(a, b) for a, b in zip(whole.model.parameters(), fresh.model.parameters(), strict=True)
    )


def test_another_loss_does_not_go_on_with_it(tmp_path: Path) -> None:
    of = subject()
    trained(of, tmp_path, 3)
    with pytest.raises(OrreryError):
        train_reward(
            loop(3), model=subject().model, material=RewardMaterial(sets=[items(of, 96)]), level="pair", out=tmp_path,
            cfg=RewardConfig(centre=0.1), loader=LOADER,
        )  # fmt: skip


def test_saved_and_opened_it_says_the_same(learned: tuple[Subject, RewardResult], tmp_path: Path) -> None:
    of, result = learned
    with atomic_folder(tmp_path / "reward") as new:
        save_reward(of, result.head, new, Described())
    model = load_reward(tmp_path / "reward")
    assert isinstance(model, RewardModel)
    said = [
        [*pair.messages, *answer] for pair in pairs(12, seed=1) for answer in (pair.chosen, pair.rejected)
    ]
    scores = model.score(said)
    assert scores.shape == (24,)
    assert torch.allclose(scores, result.scores[:24], atol=1e-5)
    alone = torch.cat([model.score([one]) for one in said])
    assert torch.allclose(scores, alone, atol=1e-5)
    assert model.score([]).shape == (0,)
    with pytest.raises(OrreryError, match="no answer to judge"):
        model.score([[{"role": "user", "content": "hen"}]])
    with pytest.raises(OrreryError, match="no reward model"):
        load_reward(tmp_path)
    (tmp_path / "reward" / "reward.safetensors").write_bytes(b"nothing")
    with pytest.raises(OrreryError):
        load_reward(tmp_path / "reward")


def test_longer_than_the_context_it_keeps_the_answer(learned: tuple[Subject, RewardResult]) -> None:
    of, result = learned
    model = RewardModel(lm=of.lm(), head=result.head)
    long = {"role": "user", "content": "the small green garden " * 30}
    cat, dog = ({"role": "assistant", "content": f"the hen saw the {word}"} for word in ("cat", "dog"))
    better, worse = model.score([[long, cat], [long, dog]])
    assert better > worse
    scores = model.score([[long, cat], [long, {"role": "assistant", "content": "a hen " * 90}], [long, dog]])
    assert scores.isnan().tolist() == [False, True, False]
    assert torch.allclose(scores[[0, 2]], torch.stack([better, worse]), atol=1e-5)


def test_without_a_chat_format(tmp_path: Path) -> None:
    of = subject(chat=False)
    result = trained(of, tmp_path, 3)
    model = RewardModel(lm=of.lm(), head=result.head)
    said = [[*pair.messages, *pair.chosen] for pair in pairs(3, seed=1)]
    assert torch.allclose(model.score(said), result.scores[:6:2], atol=1e-5)


def test_an_ensemble_is_saved_by_members(tmp_path: Path) -> None:
    cfg = RewardConfig(members=2, combine="pessimist", k=0.5)
    with atomic_folder(tmp_path / "reward") as new:
        for number in range(2):
            of = subject(seed=number)
            head = put_head(of.model, seed=number)
            take_head(of.model)
            member(new, number + 1).mkdir()
            save_reward(of, head, member(new, number + 1), Described(reward=cfg))
        describe(new, Described(reward=cfg))
    model = load_reward(tmp_path / "reward")
    assert isinstance(model, RewardEnsemble) and len(model.members) == 2
    said = [[*pair.messages, *pair.chosen] for pair in pairs(4)]
    each = torch.stack([one.score(said) for one in model.members])
    assert torch.allclose(model.score(said), each.mean(0) - 0.5 * each.std(0, correction=0))


def test_a_training_loop_with_a_loss_of_its_own_takes_no_objective(tmp_path: Path) -> None:
    with pytest.raises(OrreryError, match="a loss of its own"):
        trained(subject(), tmp_path, loop=replace(loop(3), label_smoothing=0.1))
