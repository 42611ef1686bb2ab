"""What a run of distillation is told: which divergence, and whose answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orrery.kit.config import config

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


@config
class ForwardKl:
    """KL(teacher || student): the student has to cover all that the teacher finds likely (Hinton et al. 2015, arXiv:1503.02531).

    Attributes:
        temperature: of both softmaxes; the loss is multiplied by its square, so that gradients keep their size.
        top_k: only the teacher's so many likeliest tokens, renormalised; the others count as impossible. None: all.
    """

    kind: Literal["forward-kl"] = "forward-kl"
    temperature: Positive = 1.0
    top_k: Count | None = None


@config
class ReverseKl:
    """KL(student || teacher): the student has to keep to what the teacher finds likely (Gu et al. 2024, arXiv:2306.08543), token by token.
    It looks at every token's probability with the teacher, so there is no top_k."""

    kind: Literal["reverse-kl"] = "reverse-kl"
    temperature: Positive = 1.0


@config
class JensenShannon:
    """beta KL(teacher || m) + (1 - beta) KL(student || m), m = beta teacher + (1 - beta) student: between the two (Agarwal et al. 2024,
    arXiv:2306.13649). Divided by beta it goes to forward KL for beta -> 0, by 1 - beta to reverse KL for beta -> 1."""

    kind: Literal["jsd"] = "jsd"
    beta: Annotated[float, Field(gt=0, lt=1)] = 0.5
    temperature: Positive = 1.0
    top_k: Count | None = None


Mode = Annotated[ForwardKl | ReverseKl | JensenShannon, Field(discriminator="kind")]


@config
class Sampled:
    """Answers that a model gives in place of those in the data, to the same questions.

    Attributes:
        share: of the micro-batches that are answered so.
        max_tokens: of an answer; the row's context bounds it too.
        temperature: of the draws; 0 takes the likeliest tokens.
    """

    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    max_tokens: Count = 64
    temperature: Annotated[float, Field(ge=0)] = 1.0
