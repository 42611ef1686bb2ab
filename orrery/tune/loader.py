"""Batches of examples as a pure function of (seed, step): nothing to save, nothing to lose.

    loader = ExampleLoader([instructions, replay], ExampleLoaderConfig(context=512, rows=4, shares=(0.9, 0.1)))
    loader.batch(step=100)

Best-fit packing (Ding et al. 2024, arXiv:2404.10830) puts whole examples into rows of `context` positions, each example a run of its
own that sees no other: on the flat token axis there is no padding, and a row that is not quite full costs nothing. Several sets
are mixed by rows in exact shares, which is what replay needs: a share of every block of rows is old data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from orrery.data.batch import Batch, Piece
from orrery.data.packing import BestFitPacking
from orrery.data.set_draws import SetDraws
from orrery.kit.config import config, digest
from orrery.kit.errors import OrreryError
from orrery.kit.seeds import key
from orrery.text.truncation import Policy
from orrery.tune.example_set import ExampleSet


@config
class ExampleLoaderConfig:
    """How rows are made and drawn.

    Attributes:
        context: positions a row holds at most.
        rows: rows in a micro-batch; micro_batches: micro-batches in a step.
        packing: "best-fit" fills rows with whole examples, "none" gives each a row of its own.
        long: what to do with examples that no row holds (see `tune.lengths`).
    """

    context: Annotated[int, Field(ge=2)] = 512
    rows: Annotated[int, Field(ge=1)] = 4
    micro_batches: Annotated[int, Field(ge=1)] = 1
    packing: Literal["best-fit", "none"] = "best-fit"
    long: Policy = "error"
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What a set has given after a number of steps. `share` is its part of the rows, `wanted` the goal, in epochs `epochs`."""

    name: str
    rows: int
    examples: int
    supervised: int
    share: float
    wanted: float
    epochs: float


class ExampleLoader:
    """Batches over one set or several in shares (`train.step.Batches`).

    Args:
        shares: one a set, in proportion to which their rows are drawn; None: each as often as its rows are many.

    Raises:
        OrreryError: no set, shares that do not fit, or an example longer than a row.
    """

    def __init__(
        self, sets: Sequence[ExampleSet], config: ExampleLoaderConfig, *, shares: Sequence[float] | None = None,
        rank: int = 0, world: int = 1,
    ) -> None:  # fmt: skip
        if not sets:
            raise OrreryError("a loader needs at least one set of examples")
        if shares is not None and len(shares) != len(sets):
            raise OrreryError(f"the mixture has {len(shares)} shares for {len(sets)} sets; give one each")
        self.sets, self.config, self.rank, self.world = tuple(sets), config, rank, world
        self._rows = tuple(self._pack(number, part) for number, part in enumerate(self.sets))
        self.shares = tuple(float(x) for x in (shares or [len(rows) for rows in self._rows]))
        self._draws = SetDraws(
            [len(rows) for rows in self._rows], self.shares, seed=config.seed, purpose="rows"
        )

    @property
    def rows_per_step(self) -> int:
        """Rows of one step over all micro-batches and ranks."""
        return self.config.rows * self.config.micro_batches * self.world

    @property
    def steps_per_epoch(self) -> float:
        """Steps that draw as many rows as all sets hold together."""
        return sum(len(rows) for rows in self._rows) / self.rows_per_step

    @property
    def fingerprint(self) -> str:
        """Names the whole sequence of steps."""
        drawn = (self.config.context, self.config.packing, self.config.seed, self.shares, self.rows_per_step)
        return digest([drawn, [part.fingerprint for part in self.sets]])

    def batch(self, step: int, micro: int = 0) -> Batch:
        """Micro-batch `micro` of `step` for this rank.

        Raises:
            OrreryError: it has nothing to learn from (names its rows).
        """
        if step < 0 or not 0 <= micro < self.config.micro_batches:
            raise OrreryError(
                f"there is no micro-batch {micro} of step {step}; a step has {self.config.micro_batches}"
            )
        first = step * self.rows_per_step + (micro * self.world + self.rank) * self.config.rows
        pieces = [
            Piece(int(example), 0, len(self.sets[corpus][example][0]) - 1, corpus)
            for corpus, row in map(self._draws.at, range(first, first + self.config.rows))
            for example in self._rows[corpus][row]
        ]
        return self._batch(pieces)

    def drawn(self, steps: int) -> list[Drawn]:
        """The mixture as it was drawn in the first `steps` steps."""
        rows = self._draws.mixture.drawn(steps * self.rows_per_step)
        counted = [self._counts(corpus, count) for corpus, count in enumerate(rows)]
        return [
            Drawn(
                name=part.name, rows=rows[k], examples=counted[k][0], supervised=counted[k][1],
                share=rows[k] / max(1, sum(rows)), wanted=self.shares[k] / sum(self.shares), epochs=rows[k] / len(self._rows[k]),
            )
            for k, part in enumerate(self.sets)
        ]  # fmt: skip

    @property
    def fill(self) -> float:
        """The part of the rows' room that examples take, in an epoch."""
        room = self.config.context * sum(len(rows) for rows in self._rows)
        return sum(int((part.lengths() - 1).sum()) for part in self.sets) / room

    def _counts(self, corpus: int, rows: int) -> tuple[int, int]:
        """Examples and supervised targets of the first `rows` rows drawn of a set."""
        epochs, rest = divmod(rows, len(self._rows[corpus]))
        part = self.sets[corpus]
        begun = [
            e
            for n in range(rest)
            for e in self._rows[corpus][self._draws.nth(corpus, epochs * len(self._rows[corpus]) + n)]
        ]
        return epochs * len(part) + len(begun), epochs * int(part.supervised.sum()) + int(
            part.supervised[begun].sum()
        )

    def _pack(self, number: int, part: ExampleSet) -> list[list[int]]:
        """The examples of each row."""
        positions = part.lengths() - 1
        if int(positions.max()) > self.config.context:
            worst = int(positions.argmax())
            raise OrreryError(
                f"{part.rows[worst] or part.name}: {int(positions[worst]) + 1:,} tokens do not fit into a row of {self.config.context}; "
                "fit the examples first, by `lengths.fit`"
            )
        if self.config.packing == "none":
            return [[example] for example in range(len(part))]
        packed = BestFitPacking(
            positions, self.config.context, seed=key(self.config.seed, "packing", number), long="error"
        )
        return [[document for document, _, _ in packed.row(0, row)] for row in range(packed.rows)]

    def _batch(self, pieces: list[Piece]) -> Batch:
        chosen = [self.sets[piece.corpus][piece.document] for piece in pieces]
        weights = np.concatenate([weights[1:] for _, weights in chosen])
        if not (weights > 0).any():
            rows = ", ".join(self.sets[piece.corpus].rows[piece.document] for piece in pieces[:3])
            raise OrreryError(
                f"a batch has nothing to learn from: no token of {rows} is a target with weight"
            )
        return Batch(
            tokens=torch.from_numpy(np.concatenate([ids[:-1] for ids, _ in chosen], dtype=np.int64)),
            targets=torch.from_numpy(np.concatenate([ids[1:] for ids, _ in chosen], dtype=np.int64)),
            weights=torch.from_numpy(weights),
            lengths=tuple(piece.length for piece in pieces),
            pieces=tuple(pieces),
        )
