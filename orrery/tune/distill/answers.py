"""Batches whose answers a model gives anew: the student itself (on-policy), or the teacher (sequence level).

    on-policy        a student learns on its own beginnings what the teacher would have said next, so that it meets in training what it
                     will meet in use (Agarwal et al. 2024, arXiv:2306.13649, algorithm 1)
    sequence level   what the teacher says takes the place of what the data says (Kim & Rush 2016, arXiv:1606.07947)

The questions are those of the batch that would have been drawn. Who answers a micro-batch, and every draw of an answer, is keyed by
(seed, step, micro-batch) and reads the weights as they are, so a run that goes on after a crash asks and hears the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from orrery.data.batch import Batch
from orrery.kit.config import digest, to_dict
from orrery.kit.lm import GenerateRequest, Sampling
from orrery.kit.seeds import key, uniform
from orrery.model.adapters.virtual import PLACEHOLDER
from orrery.serve.engine.engine import Engine
from orrery.tune.distill.config import Sampled
from orrery.tune.loader import ExampleLoader


class Answering:
    """A loader (`train.step.Batches`) over another: some micro-batches are answered by models.

    Args:
        speakers: who answers, each with its share; what is left keeps the given answers.
        made_for: what else decides on the run, for the fingerprint (the teacher, the loss).
        placeholders: ids before every example that stand for the student's virtual tokens.
    """

    def __init__(
        self, inner: ExampleLoader, speakers: Sequence[tuple[Engine, Sampled]], *, made_for: Any, seed: int, placeholders: int = 0
    ) -> None:  # fmt: skip
        self.inner, self.speakers, self.made_for = inner, tuple(speakers), made_for
        self.seed, self.placeholders = seed, placeholders
        self.rank, self.world, self.config = inner.rank, inner.world, inner.config

    @property
    def fingerprint(self) -> str:
        """Names the data, who answers, and what the answers are compared with."""
        return digest([self.inner.fingerprint, [to_dict(how) for _, how in self.speakers], self.made_for])

    def batch(self, step: int, micro: int = 0) -> Batch:
        """Micro-batch `micro` of `step`, a pure function of the two and the weights."""
        batch = self.inner.batch(step, micro)
        place = micro * self.world + self.rank
        drawn = uniform(self.seed, "who answers", step, place)
        for engine, how in self.speakers:
            if drawn < how.share:
                return answered(
                    batch, engine, how, seed=key(self.seed, "answers", step, place), placeholders=self.placeholders,
                    context=self.config.context,
                )  # fmt: skip
            drawn -= how.share
        return batch


def answered(
    batch: Batch, engine: Engine, how: Sampled, *, seed: int, context: int, placeholders: int = 0
) -> Batch:
    """The questions of a batch (each run up to the first id that is learned) with answers by the engine's model, which alone carry loss.

    Args:
        context: positions of a run at most. placeholders: ids at the beginning of every run that the engine puts there itself.
    """
    tokens, weights = (x.split(batch.lengths) for x in (batch.tokens, batch.weights))
    asked = [
        ids[placeholders : int((w > 0).nonzero()[0]) + 1].tolist()
        for ids, w in zip(tokens, weights, strict=True)
    ]
    requests = [
        GenerateRequest(
            ids=ids, max_tokens=min(how.max_tokens, context - placeholders - len(ids) + 1),
            sampling=Sampling(temperature=how.temperature, seed=key(seed, n)),
        )
        for n, ids in enumerate(asked)
    ]  # fmt: skip
    engine.weights_changed()
    said = [list(completion.ids) for completion in engine.generate(requests)]
    before = [[PLACEHOLDER] * placeholders + ids for ids in asked]
    runs = [ids + answer for ids, answer in zip(before, said, strict=True)]
    learned = [
        torch.arange(1, len(run)) >= len(ids) for ids, run in zip(before, runs, strict=True)
    ]  # of the targets run[1:]
    return Batch(
        tokens=torch.tensor([id for run in runs for id in run[:-1]]),
        targets=torch.tensor([id for run in runs for id in run[1:]]),
        weights=torch.cat(learned).float(),
        lengths=tuple(len(run) - 1 for run in runs),
    )
