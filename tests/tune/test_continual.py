"""A second task wipes out the first; replay and held weights keep it."""

from __future__ import annotations

import pytest
import torch

from orrery.data.batch import batch_of
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.model.packed import Packed
from orrery.tune.continual import Retention, Task, learn_in_turn
from orrery.tune.ewc import anchored
from orrery.tune.example_set import ExampleSet
from orrery.tune.examples import Example
from orrery.tune.loader import ExampleLoaderConfig
from orrery.tune.measure import (
    batches_of,
    heldout_loss,
    learned_states,
    mean_kl,
    states,
    without_placeholders,
)

N = 12
SHAPE = DecoderConfig(
    vocab_size=32, d_model=32, n_layers=1, n_heads=2, feed_forward=Mlp(d_ff=64), max_positions=8
)


def task(name: str, mark: int, factor: int) -> Task:
    """[task, key] -> value: a rule a task, over the same keys and values."""
    rows = [(mark, 2 + key, 2 + N + (key * factor + 1) % N) for key in range(N)]
    examples = ExampleSet.of((Example(row, (0.0, 0.0, 1.0), name) for row in rows), name=name)
    return Task(name=name, train=examples, heldout=list(batches_of(examples, positions=1000)))


def retention(**settings: float) -> Retention:
    loader = ExampleLoaderConfig(context=2, rows=8)
    return learn_in_turn(
        Decoder(SHAPE, seed=0), [task("a", 0, 1), task("b", 1, 5)], steps=60, loader=loader, **settings
    )  # type: ignore[bad-argument-type]


def test_the_matrix_by_hand() -> None:
    made = Retention(tasks=("a", "b"), values=((3.0, 3.5), (0.5, 3.0), (2.0, 0.25)))
    assert made.forgetting == (1.5,) and made.learned == (0.5, 0.25)


def test_replay_keeps_the_first_task() -> None:
    plain, replayed = retention(), retention(replay_share=0.3)
    assert plain.learned[0] < 0.5 and plain.learned[1] < 0.5
    assert plain.forgetting[0] > 1.0
    assert replayed.forgetting[0] < 0.4 * plain.forgetting[0]
    assert plain.values[0] == replayed.values[0] and plain.values[1] == replayed.values[1]


def test_held_weights_trade_the_new_task_for_the_old() -> None:
    plain, held = retention(), retention(ewc=3e4)
    assert held.forgetting[0] < plain.forgetting[0]
    assert held.learned[1] > plain.learned[1]


def test_the_fisher_diagonal_is_the_mean_squared_gradient() -> None:
    model = Decoder(SHAPE, seed=0)
    examples = [batch_of([[0, 3, 9]]), batch_of([[1, 4, 8]])]
    anchor = anchored(model, examples)
    wanted = torch.zeros_like(model.embed.weight)
    for batch in examples:
        model.zero_grad()
        logits = model.head(model(batch.tokens, Packed(batch.lengths)))
        torch.nn.functional.cross_entropy(logits, batch.targets, reduction="sum").backward()
        wanted += model.embed.weight.grad.square() / 2  # type: ignore[union-attr]
    torch.testing.assert_close(anchor.fisher["embed.weight"], wanted, rtol=1e-4, atol=1e-8)
    assert float(anchor.distance(model).detach()) == 0
    with torch.no_grad():
        model.embed.weight += 0.5
    assert float(anchor.distance(model).detach()) == pytest.approx(0.25 * float(wanted.sum()), rel=1e-4)


def test_divergence_and_loss_by_another_way() -> None:
    a, b = Decoder(SHAPE, seed=0).eval(), Decoder(SHAPE, seed=1).eval()
    batches = task("a", 0, 1).heldout
    assert mean_kl(
        lambda x: (learned_states(a, x), learned_states(a, x)), (a.head, a.head), batches, vocab_size=32
    ) == pytest.approx(0, abs=1e-6)
    (batch,) = batches
    with torch.no_grad():
        p, q = (m.head(states(m, batch))[batch.weights > 0].log_softmax(-1) for m in (a, b))
    wanted = torch.nn.functional.kl_div(q, p, log_target=True, reduction="sum") / len(p)
    assert mean_kl(
        lambda x: (learned_states(a, x), learned_states(b, x)), (a.head, b.head), batches, vocab_size=32
    ) == pytest.approx(float(wanted), rel=1e-5)
    nll = torch.nn.functional.nll_loss(p, batch.targets[batch.weights > 0])
    assert heldout_loss(a, batches) == pytest.approx(float(nll), rel=1e-5)


def test_placeholders_are_taken_away() -> None:
    examples = ExampleSet.of(
        (Example((0, 0, *ids), (0.0, 0.0, 0.0, *[1.0] * (len(ids) - 1))) for ids in ((5, 6, 7), (8, 9))),
        name="x",
    )
    (batch,) = batches_of(examples, positions=100)
    plain = without_placeholders(batch, 2)
    assert (
        plain.tokens.tolist() == [5, 6, 8] and plain.targets.tolist() == [6, 7, 9] and plain.lengths == (2, 1)
    )
    assert plain.weights.sum() == batch.weights.sum() == 3 and without_placeholders(batch, 0) is batch
