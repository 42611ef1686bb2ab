"""Distillation as the training loop runs it: a loss with a teacher in it, and how near the student is before and after.

result = distil(loop, student=subject, teacher=lm, material=material, mode=ForwardKl(temperature=2.0), out="runs/distill")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from orrery.data.batch import Batch
from orrery.kit.config import to_dict
from orrery.kit.errors import OrreryError
from orrery.kit.log import Progress
from orrery.model.context import Context
from orrery.model.decoder import Decoder
from orrery.model.packed import Packed
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.engine import Engine
from orrery.serve.lm import LM
from orrery.serve.mode import evaluating
from orrery.train.basic_losses import kl_divergence
from orrery.train.config import TrainConfig
from orrery.train.loop import TrainResult, train
from orrery.train.loss import CHUNK_BYTES, Loss, cross_entropy
from orrery.train.objectives.apply import AUXILIARY, head_of
from orrery.train.run import Sample
from orrery.tune.distill.answers import Answering
from orrery.tune.distill.config import ForwardKl, Mode, Sampled
from orrery.tune.distill.loss import distillation_loss
from orrery.tune.distill.teacher import require_same_tokenizer, teacher_states
from orrery.tune.material import Material
from orrery.tune.measure import learned_states, without_placeholders
from orrery.tune.subject import Subject


@dataclass(frozen=True, kw_only=True)
class TaughtLoss:
    """The loss of a batch by what the teacher says there (`train.step.OwnLoss`).

    Attributes:
        hard: the share of the cross-entropy with the batch's own targets; at 1 the teacher is not asked.
        vocab_size: the tokens that both know. placeholders: ids of the student's virtual tokens, which the teacher does not read.
    """

    teacher: Decoder
    mode: Mode
    hard: float
    vocab_size: int
    placeholders: int = 0

    def context(self, batch: Batch) -> Context:
        """Whole sequences."""
        return Packed(batch.lengths, device=batch.tokens.device)

    def __call__(self, model: Decoder, batch: Batch, ctx: Context | None = None) -> Loss:
        """With what routers report to the context."""
        ctx = self.context(batch) if ctx is None else ctx
        kept = batch.weights.nonzero().squeeze(1)
        hidden = model(batch.tokens, ctx)[kept]
        targets, weights = batch.targets[kept], batch.weights[kept]
        if self.hard == 1:
            loss = cross_entropy(hidden, head_of(model), targets, weights)
        else:
            taught = teacher_states(self.teacher, without_placeholders(batch, self.placeholders))
            loss = distillation_loss(
                hidden, head_of(model), taught, self.teacher.head, targets, weights, mode=self.mode, hard=self.hard,
                vocab_size=self.vocab_size,
            )  # fmt: skip
        for name in AUXILIARY:
            for _, value in ctx.recorded.get(name, []):
                loss = loss.plus(name, value)
        return loss

    @torch.no_grad()
    def mean(self, model: Decoder, batches: Sequence[Batch]) -> float:
        """The loss a supervised token over held-out batches."""
        losses = [self(model, batch.to(model.device)) for batch in batches]
        return float(sum(loss.stats["nll"] for loss in losses) / sum(loss.weight for loss in losses))


def distil(
    loop: TrainConfig, *, student: Subject, teacher: LM, material: Material, out: str | Path, mode: Mode | None = None, hard: float = 0.0,
    on_policy: Sampled | None = None, sequence_level: Sampled | None = None, teacher_id: str = "", sample: Sample | None = None,
    progress: Progress | None = None,
) -> TrainResult:  # fmt: skip
    """Train the student in place, or go on with the run that is in `out`.

    Args:
        mode: forward KL where not given.
        hard: the share of the cross-entropy with the given (or the teacher's) answers.
        on_policy: some answers are the student's own. sequence_level: some are the teacher's.
        teacher_id: what tells this teacher from any other, so that a run is not gone on with under another.

    Raises:
        OrreryError: tokenizers that differ, settings that do not go together; as `train.loop.train`.
    """
    mode = mode or ForwardKl()
    check(loop, student, teacher, material, hard=hard, on_policy=on_policy, sequence_level=sequence_level)
    virtual = student.placeholders
    loss = TaughtLoss(
        teacher=teacher.model, mode=mode, hard=hard, vocab_size=student.tokenizer.vocab_size, placeholders=virtual
    )  # fmt: skip
    at_once = EngineConfig(max_sequences=64)
    speakers = [(Engine(student.lm(), at_once), on_policy)] if on_policy else []
    speakers += [(Engine(teacher, at_once), sequence_level)] if sequence_level else []
    validation = material.validation_batches()
    return train(
        loop,
        model=student.model,
        loader=Answering(
            material.loader, speakers, made_for=[to_dict(mode), hard, teacher_id], seed=loop.seed, placeholders=virtual
        ),
        out=out,
        validation=(lambda model: loss.mean(model, validation)) if validation else None,
        sample=sample,
        progress=progress,
        vocabulary=student.tokenizer,
        loss=loss,
    )  # fmt: skip


def check(
    loop: TrainConfig, student: Subject, teacher: LM, material: Material, *, hard: float, on_policy: Sampled | None,
    sequence_level: Sampled | None,
) -> None:  # fmt: skip
    """Refuse what does not go together.

    Raises:
        OrreryError: says what and why.
    """
    require_same_tokenizer(teacher, student.tokenizer)
    context = material.loader.config.context
    if context > teacher.context:
        raise OrreryError(
            f"loader.context={context} is longer than the teacher's context of {teacher.context}; shorten it"
        )
    if on_policy is not None and hard:
        raise OrreryError(
            "the student's own answers are no targets to imitate; set hard to 0, or leave on_policy out"
        )
    if sum(how.share for how in (on_policy, sequence_level) if how) > 1:
        raise OrreryError("the shares of on_policy and sequence_level are more than 1 together; lower one")
    if loop.compile and (on_policy or sequence_level):
        raise OrreryError(
            "a model that answers between its steps cannot be compiled for them; leave compile out of the loop"
        )


@dataclass(frozen=True)
class Nearness:
    """Of held-out tokens: the student's cross-entropy with the given answers, its distance to the teacher both ways, all in nats a token,
    and how often both find the same token likeliest."""

    loss: float
    forward_kl: float
    reverse_kl: float
    agreement: float


@torch.no_grad()
def nearness(
    student: Decoder, teacher: Decoder, batches: Sequence[Batch], *, vocab_size: int, placeholders: int = 0
) -> Nearness:
    """How near a student is to its teacher at the supervised positions of batches."""
    rows = max(1, CHUNK_BYTES // (4 * vocab_size))
    sums, count = torch.zeros(4, dtype=torch.float64), 0
    with evaluating(student):
        for batch in (batch.to(student.device) for batch in batches):
            own = learned_states(student, batch)
            taught = teacher_states(teacher, without_placeholders(batch, placeholders))
            targets = batch.targets[batch.weights > 0]
            for part in (slice(i, i + rows) for i in range(0, len(own), rows)):
                q, p = (
                    model.head(x[part]).float()[:, :vocab_size]
                    for model, x in ((student, own), (teacher, taught))
                )
                nll = q.logsumexp(-1) - q.gather(1, targets[part, None]).squeeze(1)
                same = (q.argmax(-1) == p.argmax(-1)).double()
                found = nll, kl_divergence(p, q), kl_divergence(q, p), same
                sums += torch.stack([x.double().sum() for x in found]).cpu()
            count += len(own)
    return Nearness(*(sums / max(count, 1)).tolist())


def told(before: Nearness, after: Nearness) -> dict[str, dict[str, float]]:
    """Both, number by number, for a receipt."""
    return {name: {"before": value, "after": asdict(after)[name]} for name, value in asdict(before).items()}
