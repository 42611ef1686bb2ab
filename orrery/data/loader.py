"""Batches as a pure function of (seed, step): there is no iterator, so there is no state to save or to lose.

    loader = Loader(Shards("data"), LoaderConfig(context=256, rows=16))
    loader.batch(step=1000)            # the same in every process, whatever was asked before

A step reads `rows * micro_batches * world` consecutive rows of an endless numbered sequence. Row number -> corpus by
the mixture -> epoch and row within it -> that epoch's order of rows -> documents by a search in cumulative lengths.
Ranks and micro-batches divide the rows of a step, they do not change them: a run may go on with other numbers of both
as long as their product with `rows` stays the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch

from orrery.data.accounting import EpochAccount
from orrery.data.batch import Batch, Piece
from orrery.data.mixture import Mixture, temperature_weights
from orrery.data.packing import BestFitPacking, Long, Packing, StreamPacking
from orrery.data.shard import Shards
from orrery.data.shuffle import shuffled, shuffled_array
from orrery.kit.config import config, digest
from orrery.kit.errors import OrreryError
from orrery.kit.seeds import key


@config
class LoaderConfig:
    """How rows are made and drawn.

    Attributes:
        context: tokens a row holds at most.
        rows: rows in a micro-batch.
        micro_batches: micro-batches in a step (gradient accumulation).
        packing: "stream" wastes no room and cuts documents at row ends; "best-fit" cuts only those longer than a row.
        long: with best-fit packing, what to do with documents longer than `context` tokens. With rows=1, context as
            the token budget and long="error" or "drop", batches hold whole documents only.
        weights: one per shard set; None: in proportion to their tokens.
        temperature: without weights, 1 is in proportion to tokens, larger evens the shares out.
    """

    context: int = 256
    rows: int = 16
    micro_batches: int = 1
    packing: Literal["stream", "best-fit"] = "stream"
    long: Long = "split"
    seed: int = 0
    weights: tuple[float, ...] | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        for name in ("context", "rows", "micro_batches"):
            if getattr(self, name) < 1:
                raise OrreryError(f"the loader's '{name}' must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A run of tokens in a step's batch: which document of which corpus, and its tokens [start, stop) that were targets."""

    micro: int
    corpus: str
    id: str
    path: str
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class Realised:
    """What a corpus has given after a number of steps; `share` is its part of all targets so far, `wanted` the goal."""

    corpus: str
    rows: int
    targets: int
    share: float
    wanted: float
    epochs: float


class Loader:
    """Batches over one shard set or a mixture of several.

    Args:
        rank, world: this process's number among those that share every step's rows.

    Raises:
        OrreryError: shard sets of different tokenizers, weights that do not fit, or nothing to learn from.
    """

    def __init__(
        self, shards: Shards | Sequence[Shards], config: LoaderConfig, *, rank: int = 0, world: int = 1
    ) -> None:
        self.shards = (shards,) if isinstance(shards, Shards) else tuple(shards)
        self.config, self.rank, self.world = config, rank, world
        if not 0 <= rank < world:
            raise OrreryError(f"the rank must be between 0 and {world - 1}, not {rank}")
        if not self.shards:
            raise OrreryError("a loader needs at least one prepared data set")
        for other in self.shards[1:]:
            if other.tokenizer != self.shards[0].tokenizer:
                raise OrreryError(
                    f"'{self.shards[0].folder}' and '{other.folder}' were prepared with different tokenizers; "
                    "prepare both with one"
                )
        self._packings = tuple(self._pack(i, part) for i, part in enumerate(self.shards))
        self.weights = self._weights()
        self._mixture = Mixture(self.weights, seed=config.seed)
        self._row_key = cache(lambda corpus, epoch: key(config.seed, "rows", corpus, epoch))

    @property
    def rows_per_step(self) -> int:
        """Rows of one optimiser step over all micro-batches and ranks."""
        return self.config.rows * self.config.micro_batches * self.world

    @property
    def steps_per_epoch(self) -> float:
        """Steps that draw as many rows as all shard sets hold together."""
        return sum(packing.rows for packing in self._packings) / self.rows_per_step

    @property
    def fingerprint(self) -> str:
        """Names the whole sequence of steps: equal fingerprints give equal batches (over all ranks and micro-batches)."""
        drawn = (
            self.config.context,
            self.config.packing,
            self.config.long,
            self.config.seed,
            self.weights,
            self.rows_per_step,
        )
        return digest([drawn, [part.fingerprint for part in self.shards]])

    def batch(self, step: int, micro: int = 0) -> Batch:
        """The batch of a step, numbered from 0: at most rows * context tokens, every one with a target."""
        pieces = self._pieces(step, micro, self.rank)
        inputs, targets = [], []
        for piece in pieces:
            ids = self.shards[piece.corpus][piece.document][piece.start : piece.start + piece.length + 1]
            inputs.append(ids[:-1])
            targets.append(ids[1:])
        tokens = torch.from_numpy(np.concatenate(inputs, dtype=np.int64))
        return Batch(
            tokens=tokens,
            targets=torch.from_numpy(np.concatenate(targets, dtype=np.int64)),
            weights=torch.ones(len(tokens)),
            lengths=tuple(piece.length for piece in pieces),
            pieces=tuple(pieces),
        )

    def lineage(self, step: int) -> list[Origin]:
        """Every document that the step learned from, over all micro-batches and ranks, in the batch's order."""
        origins = []
        for micro in range(self.config.micro_batches):
            for rank in range(self.world):
                for piece in self._pieces(step, micro, rank):
                    info = self.shards[piece.corpus].info(piece.document)
                    origins.append(
                        Origin(
                            micro=micro,
                            corpus=self.shards[piece.corpus].name,
                            id=info.id,
                            path=info.path,
                            start=piece.start + 1,
                            stop=piece.start + 1 + piece.length,
                        )
                    )
        return origins

    def realised(self, steps: int) -> list[Realised]:
        """The mixture as it was drawn in the first `steps` steps."""
        drawn = self._mixture.drawn(steps * self.rows_per_step)
        targets = [self._targets(k, rows) for k, rows in enumerate(drawn)]
        return [
            Realised(
                corpus=part.name,
                rows=drawn[k],
                targets=targets[k],
                share=targets[k] / max(1, sum(targets)),
                wanted=self.weights[k] / sum(self.weights),
                epochs=drawn[k] / max(1, self._packings[k].rows),
            )
            for k, part in enumerate(self.shards)
        ]

    def epochs(self, step: int) -> float:
        """Passes over the data before `step`, by rows, all shard sets together."""
        return step / self.steps_per_epoch

    def account(self) -> list[EpochAccount]:
        """Where every token of every shard set goes in one epoch; the sums are checked."""
        return [
            EpochAccount(
                corpus=part.name,
                tokens=part.n_tokens,
                first=part.n_documents,
                targets=packing.positions,
                dropped=packing.dropped,
                slots=packing.rows * self.config.context,
                padding=packing.padding,
            )
            for part, packing in zip(self.shards, self._packings, strict=True)
        ]

    def _pieces(self, step: int, micro: int, rank: int) -> list[Piece]:
        if step < 0 or not 0 <= micro < self.config.micro_batches:
            raise OrreryError(
                f"there is no micro-batch {micro} of step {step}; a step has {self.config.micro_batches}"
            )
        first = step * self.rows_per_step + (micro * self.world + rank) * self.config.rows
        pieces = []
        for number in range(first, first + self.config.rows):
            corpus, drawn = self._mixture.draw(number)
            packing = self._packings[corpus]
            epoch, nth = divmod(drawn, packing.rows)
            row = shuffled(nth, packing.rows, self._row_key(corpus, epoch))
            pieces += [Piece(*run, corpus) for run in packing.row(epoch, row)]
        return pieces

    def _targets(self, corpus: int, rows: int) -> int:
        packing = self._packings[corpus]
        if not rows:
            return 0
        epochs, rest = divmod(rows, packing.rows)
        begun = shuffled_array(np.arange(rest), packing.rows, self._row_key(corpus, epochs))
        return epochs * packing.positions + int(packing.sizes(begun).sum())

    def _weights(self) -> tuple[float, ...]:
        if self.config.weights is None:
            return tuple(
                temperature_weights([part.n_tokens for part in self.shards], self.config.temperature)
            )
        if len(self.config.weights) != len(self.shards):
            raise OrreryError(
                f"the mixture has {len(self.config.weights)} weights for {len(self.shards)} data sets; give one each"
            )
        return self.config.weights

    def _pack(self, number: int, part: Shards) -> Packing:
        lengths = np.maximum(part.lengths() - 1, 0)
        seed = key(self.config.seed, "packing", number)
        packing: Packing
        if self.config.packing == "stream":
            packing = StreamPacking(lengths, self.config.context, seed=seed)
        else:
            packing = BestFitPacking(lengths, self.config.context, seed=seed, long=self.config.long)
        if packing.rows == 0:
            raise OrreryError(
                f"'{part.folder}' has nothing to learn from: no document of its '{part.split}' split can be used"
            )
        return packing
