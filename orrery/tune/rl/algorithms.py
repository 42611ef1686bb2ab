"""The algorithms by name: which loss, which baseline, which clip, and whether a critic helps.

    reinforce      -A log pi, A against the batch's mean                       Williams 1992
    rloo           the same, A against the other answers to the prompt         Ahmadian et al. 2024, arXiv:2402.14740
    reinforce-pp   clipped, A whitened over the batch                          Hu 2025, arXiv:2501.03262
    ppo            clipped, A by a critic and GAE                              Schulman et al. 2017, arXiv:1707.06347
    trpo           the step of a measured KL                                   Schulman et al. 2015, arXiv:1502.05477
    grpo           clipped, A standardised within the group                    Shao et al. 2024, arXiv:2402.03300
    dr-grpo        the same without standard deviation and length              Liu et al. 2025, arXiv:2503.20783
    dapo           clip-higher, token mean, live groups only, length ramp      Yu et al. 2025, arXiv:2503.14476
    gspo           a whole response's ratio                                    Zheng et al. 2025, arXiv:2507.18071
    cispo          the weight is clipped, never the token                      MiniMax 2025, arXiv:2506.13585
    vapo           ppo with length-adaptive GAE, a warm critic, clip-higher    Yue et al. 2025, arXiv:2504.05118

An algorithm is data: the trainer reads its `Parts` and knows no names. What is not a setting of an algorithm is fixed in `FIXED`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from pydantic import Field

from orrery.kit.config import config
from orrery.tune.rl.advantage import Baseline
from orrery.tune.rl.policy_loss import Kind

Clip = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


@config
class Critic:
    """A value head on the decoder's hidden states, which learns beside the policy.

    Attributes:
        width: of its hidden layer; 0: one linear layer.
        lr_scale: its learning rate, as a multiple of the policy's.
        clip: values move at most so far from those the advantages were made with; None: freely.
        warmup: first steps in which it learns alone, so that the policy is not moved by advantages of a critic that knows nothing.
        trunk: its gradient goes on into the decoder; without, it reads the states as they are.
        coefficient: of its loss where it shares the decoder.
    """

    width: Annotated[int, Field(ge=0)] = 64
    lr_scale: Annotated[float, Field(gt=0)] = 10.0
    clip: Clip | None = 0.2
    warmup: Annotated[int, Field(ge=0)] = 0
    trunk: bool = False
    coefficient: Annotated[float, Field(gt=0)] = 1.0


@config
class Reinforce:
    """`baseline`: what a reward is compared with."""

    kind: Literal["reinforce"] = "reinforce"
    baseline: Baseline = "mean"


@config
class Rloo:
    """Nothing to set."""

    kind: Literal["rloo"] = "rloo"


@config
class ReinforcePP:
    """Advantages are whitened over all tokens of the batch, with the KL penalty inside where there is one."""

    kind: Literal["reinforce-pp"] = "reinforce-pp"
    clip_low: Clip = 0.2
    clip_high: Clip = 0.2


@config
class Ppo:
    """`gamma`, `lam`: of the advantages (see `gae`)."""

    kind: Literal["ppo"] = "ppo"
    clip_low: Clip = 0.2
    clip_high: Clip = 0.2
    dual_clip: Annotated[float, Field(gt=1)] | None = None
    gamma: Share = 1.0
    lam: Share = 0.95
    critic: Critic = Critic()


@config
class Vapo:
    """`alpha`: of the length-adaptive lambda; `critic_lam`: of the critic's targets; `positive`: weight of imitating what was right."""

    kind: Literal["vapo"] = "vapo"
    clip_low: Clip = 0.2
    clip_high: Clip = 0.28
    gamma: Share = 1.0
    alpha: Annotated[float, Field(gt=0)] = 0.05
    critic_lam: Share = 1.0
    positive: Annotated[float, Field(ge=0)] = 0.1
    critic: Critic = Critic(warmup=5)


@config
class Trpo:
    """See `trpo.trpo_step`. It takes no optimiser and no learning rate: `delta`, in nats, says how far a step goes."""

    kind: Literal["trpo"] = "trpo"
    baseline: Baseline = "group"
    delta: Annotated[float, Field(gt=0)] = 0.01
    damping: Annotated[float, Field(ge=0)] = 0.1
    iterations: Annotated[int, Field(ge=1)] = 10
    halvings: Annotated[int, Field(ge=0)] = 10


@config
class Grpo:
    """`baseline`: group, or another one on the same loss."""

    kind: Literal["grpo"] = "grpo"
    baseline: Baseline = "group"
    clip_low: Clip = 0.2
    clip_high: Clip = 0.2
    dual_clip: Annotated[float, Field(gt=1)] | None = None


@config
class DrGrpo:
    """Divided by the most tokens an answer may have, whatever it has."""

    kind: Literal["dr-grpo"] = "dr-grpo"
    clip_low: Clip = 0.2
    clip_high: Clip = 0.2


@config
class Dapo:
    """`rounds`: how often prompts are drawn anew in the place of dead groups, at most. `overlong_buffer`: the last tokens of the room, over
    which an answer pays for its length; None: nobody pays."""

    kind: Literal["dapo"] = "dapo"
    clip_low: Clip = 0.2
    clip_high: Clip = 0.28
    rounds: Annotated[int, Field(ge=1)] = 3
    overlong_buffer: Annotated[int, Field(ge=0)] | None = None


@config
class Gspo:
    """The clips of whole responses are a thousand times narrower than those of tokens."""

    kind: Literal["gspo"] = "gspo"
    clip_low: Clip = 3e-4
    clip_high: Clip = 4e-4


@config
class Cispo:
    """Weights lie between 1 - clip_low and 1 + clip_high."""

    kind: Literal["cispo"] = "cispo"
    clip_low: Clip = 1.0
    clip_high: Clip = 4.0


Method = Annotated[
    Reinforce | Rloo | ReinforcePP | Ppo | Vapo | Trpo | Grpo | DrGrpo | Dapo | Gspo | Cispo,
    Field(discriminator="kind"),
]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What an algorithm is put together from.

    Attributes:
        loss: see `policy_loss`. baseline: see `advantage`; None: a critic.
        clip_low, clip_high: None: as published. rounds, overlong_buffer: see `Dapo`. positive: see `Vapo`.
        ratio: whether it may take several updates from the same answers.
    """

    loss: Kind = "ppo"
    baseline: Baseline | None = None
    clip_low: float | None = None
    clip_high: float | None = None
    dual_clip: float | None = None
    critic: Critic | None = None
    rounds: int = 1
    overlong_buffer: int | None = None
    positive: float = 0.0
    ratio: bool = True


FIXED: dict[str, dict[str, Any]] = {
    "reinforce": {"loss": "reinforce", "ratio": False},
    "rloo": {"loss": "reinforce", "baseline": "leave-one-out", "ratio": False},
    "reinforce-pp": {"baseline": "global"},
    "ppo": {},
    "vapo": {},
    "trpo": {"ratio": False},
    "grpo": {"loss": "grpo"},
    "dr-grpo": {"loss": "dr-grpo", "baseline": "group-centred"},
    "dapo": {"loss": "dapo", "baseline": "group"},
    "gspo": {"loss": "gspo", "baseline": "group"},
    "cispo": {"loss": "cispo", "baseline": "group"},
}
"""What is not a setting."""


def parts_of(method: Method) -> Parts:
    """What is fixed and what is set, together."""
    names = {field.name for field in fields(Parts)} & {field.name for field in fields(method)}
    return Parts(**FIXED[method.kind], **{name: getattr(method, name) for name in names})
