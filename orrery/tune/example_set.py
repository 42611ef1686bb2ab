"""Many examples in three flat arrays: a list of tuples would take twenty times the memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from orrery.kit.errors import OrreryError
from orrery.tune.examples import Example


@dataclass(frozen=True, kw_only=True, eq=False)
class ExampleSet:
    """Examples end to end: `ids` (T,), `weights` (T,), and where each begins, `starts` (N + 1,).

    Attributes:
        rows: the place of each example in its file.
    """

    name: str
    ids: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]
    starts: npt.NDArray[np.int64]
    rows: tuple[str, ...]

    @classmethod
    def of(cls, examples: Iterable[Example], *, name: str) -> ExampleSet:
        """
        Raises:
            OrreryError: there is no example, or one with nothing to learn (names its row).
        """
        ids, weights, lengths, rows = [], [], [], []
        for example in examples:
            if not example.supervised:
                raise OrreryError(
                    f"{example.where or name}: this example has nothing to learn; no target has a weight"
                )
            ids.append(np.array(example.ids, dtype=np.int32))
            weights.append(np.array(example.weights, dtype=np.float32))
            lengths.append(len(example.ids))
            rows.append(example.where)
        if not ids:
            raise OrreryError(
                f"'{name}' has nothing to learn from: no example is left; look at its account of lengths and at the rows left out"
            )
        return cls(
            name=name, ids=np.concatenate(ids), weights=np.concatenate(weights),
            starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), rows=tuple(rows),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.starts) - 1

    def lengths(self) -> npt.NDArray[np.int64]:
        """Ids of each example, (N,)."""
        return np.diff(self.starts)

    def __getitem__(self, i: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Ids and weights of example i."""
        here = slice(int(self.starts[i]), int(self.starts[i + 1]))
        return self.ids[here], self.weights[here]

    @cached_property
    def supervised(self) -> npt.NDArray[np.int64]:
        """How many targets of each example are learned, (N,)."""
        learned = (self.weights > 0).astype(np.int64)
        learned[self.starts[:-1]] = 0  # a first id is never predicted
        return np.add.reduceat(learned, self.starts[:-1])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of ids, weights and borders."""
        total = hashlib.sha256()
        for array in (self.ids, self.weights, self.starts):
            total.update(array.tobytes())
        return total.hexdigest()
