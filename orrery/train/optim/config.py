"""Which optimiser, as a recipe says it. Every field keeps the name its paper or torch gives it.

`lr` is the peak rate; the schedule multiplies it. `weight_decay` falls on weight matrices alone, on
embeddings and the head only with `decay_embeddings`, never on norms, biases and other vectors (see
`groups.py`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orrery.kit.config import config

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(ge=0, lt=1)]


@config
class SGD:
    """Stochastic gradient descent, with momentum (heavy ball or Nesterov) if it is not 0."""

    kind: Literal["sgd"] = "sgd"
    lr: Positive = 0.1
    momentum: Rate = 0.0
    nesterov: bool = False
    weight_decay: NotNegative = 0.0
    decay_embeddings: bool = False


@config
class Adagrad:
    """Adagrad: the rate of each weight falls with the sum of its squared gradients."""

    kind: Literal["adagrad"] = "adagrad"
    lr: Positive = 0.01
    eps: Positive = 1e-10
    weight_decay: NotNegative = 0.0
    decay_embeddings: bool = False


@config
class RMSprop:
    """RMSprop: as Adagrad with a moving average in place of the sum."""

    kind: Literal["rmsprop"] = "rmsprop"
    lr: Positive = 1e-3
    alpha: Rate = 0.99
    eps: Positive = 1e-8
    momentum: Rate = 0.0
    weight_decay: NotNegative = 0.0
    decay_embeddings: bool = False


@config
class Adam:
    """Adam; its weight decay is an L2 term in the gradient."""

    kind: Literal["adam"] = "adam"
    lr: Positive = 1e-3
    betas: tuple[Rate, Rate] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: NotNegative = 0.0
    decay_embeddings: bool = False


@config
class AdamW:
    """Adam with decoupled weight decay; torch's fused kernel where there is one."""

    kind: Literal["adamw"] = "adamw"
    lr: Positive = 3e-4
    betas: tuple[Rate, Rate] = (0.9, 0.95)
    eps: Positive = 1e-8
    weight_decay: NotNegative = 0.1
    decay_embeddings: bool = False
    fused: bool = True


@config
class Adafactor:
    """The second moment of a matrix as one row and one column; `relative` scales `lr` by the weights' size."""

    kind: Literal["adafactor"] = "adafactor"
    lr: Positive = 1e-2
    beta2_decay: Annotated[float, Field(lt=0)] = -0.8
    eps: tuple[NotNegative, NotNegative] = (1e-30, 1e-3)
    clip: Positive = 1.0
    relative: bool = True
    weight_decay: NotNegative = 0.0
    decay_embeddings: bool = False


@config
class Muon:
    """Muon on the hidden matrices, AdamW on embeddings, head, norms and biases.

    Args:
        lr: Muon's peak rate; `adam_lr` is AdamW's (None: the same).
        scale: "rms" makes an update as large as AdamW's (0.2 sqrt(max(rows, columns)), Liu et al. 2025), so
            that one rate serves both; "spectral" is Jordan's sqrt(max(1, out / in)).
        ns_dtype: precision of the Newton-Schulz iteration; "auto" is bfloat16 on GPUs that have it and
            float32 on CPUs.
        qk_clip: largest attention logit allowed (MuonClip's tau); None = no clipping.
    """

    kind: Literal["muon"] = "muon"
    lr: Positive = 2e-3
    adam_lr: Positive | None = None
    momentum: Rate = 0.95
    nesterov: bool = True
    ns_steps: Annotated[int, Field(ge=1, le=20)] = 5
    ns_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    scale: Literal["rms", "spectral"] = "rms"
    weight_decay: NotNegative = 0.1
    betas: tuple[Rate, Rate] = (0.9, 0.95)
    eps: Positive = 1e-8
    decay_embeddings: bool = False
    fused: bool = True
    qk_clip: Positive | None = None


OptimizerConfig = Annotated[
    SGD | Adagrad | RMSprop | Adam | AdamW | Adafactor | Muon,
    Field(discriminator="kind"),
]
