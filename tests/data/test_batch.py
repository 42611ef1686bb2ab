from __future__ import annotations

from typing import Any

import pytest
import torch

from orrery.data.batch import Batch, Piece, batch_of
from orrery.kit.errors import OrreryError


def fields(**changes: Any) -> dict[str, Any]:
    good: dict[str, Any] = {
        "tokens": torch.tensor([1, 2, 3, 4]),
        "targets": torch.tensor([2, 3, 4, 5]),
        "weights": torch.ones(4),
        "lengths": (3, 1),
    }
    return good | changes


def test_a_good_batch_is_accepted() -> None:
    assert len(Batch(**fields())) == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights": torch.zeros(4)}, "nothing to learn from"),
        ({"lengths": (3, 2)}, "sum to the 4 tokens"),
        ({"lengths": (4, 0)}, "must be positive"),
        ({"lengths": ()}, "sum to the 4 tokens"),
        ({"targets": torch.tensor([2, 3, 4])}, "one shape"),
        ({"tokens": torch.ones(2, 2, dtype=torch.int64)}, "one shape"),
        ({"tokens": torch.ones(4, dtype=torch.int32)}, "int64"),
        ({"weights": torch.ones(4, dtype=torch.float64)}, "float32"),
        ({"weights": torch.tensor([1.0, float("nan"), 1.0, 1.0])}, "finite"),
        ({"weights": torch.tensor([1.0, -1.0, 1.0, 1.0])}, "not negative"),
        ({"tokens": torch.tensor([1, -2, 3, 4])}, "cannot be negative"),
        ({"targets": torch.tensor([2, 3, 4, -1])}, "cannot carry weight"),
        ({"targets": torch.tensor([2, 3, 4, -100])}, "cannot be negative"),
        ({"pieces": (Piece(0, 0, 4),)}, "one piece per run"),
        (
            {
                "tokens": torch.zeros(0, dtype=torch.int64),
                "targets": torch.zeros(0, dtype=torch.int64),
                "weights": torch.zeros(0),
                "lengths": (),
            },
            "positive",
        ),
    ],
)
def test_a_bad_batch_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(OrreryError, match=words):
        Batch(**fields(**change))


def test_a_target_without_weight_may_be_missing() -> None:
    batch = Batch(**fields(targets=torch.tensor([2, 3, -1, 5]), weights=torch.tensor([1.0, 1.0, 0.0, 1.0])))
    assert batch.targets.tolist() == [2, 3, -1, 5]


def test_ids_beyond_the_vocabulary_are_refused() -> None:
    batch = Batch(**fields())
    batch.check_vocabulary(6)
    with pytest.raises(OrreryError, match="token id 5"):
        batch.check_vocabulary(5)


def test_batch_of_documents_predicts_the_next_token_of_each() -> None:
    batch = batch_of([[5, 6, 7], [8, 9]])
    assert batch.tokens.tolist() == [5, 6, 8]
    assert batch.targets.tolist() == [6, 7, 9]
    assert batch.lengths == (2, 1)
    with pytest.raises(OrreryError, match="at least two tokens"):
        batch_of([[5]])


def test_a_batch_moves_as_it_is() -> None:
    batch = batch_of([[5, 6, 7]])
    moved = batch.to("cpu")
    assert torch.equal(moved.tokens, batch.tokens) and moved.pieces == batch.pieces
