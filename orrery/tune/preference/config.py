"""What a run of preference learning is told, beside the loop's own settings (`train.config`).

loss: {kind: dpo, beta: 0.1}
loader: {context: 512, pairs: 8}
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.tune.rl.problems import ProblemSet

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Smoothing = Annotated[float, Field(ge=0, lt=0.5)]
Count = Annotated[int, Field(ge=1)]


@config
class Dpo:
    """Direct preference optimization.

    Attributes:
        beta: the price of a nat of KL to the reference; small moves far.
        label_smoothing: the share of labels taken to be wrong. per_token: log-ratios are means over tokens (beta is then about 5).
        imitate: so much of the better answers' nats a token beside it, where their likelihood should not fall.
    """

    kind: Literal["dpo"] = "dpo"
    beta: Positive = 0.1
    label_smoothing: Smoothing = 0.0
    per_token: bool = False
    imitate: NotNegative = 0.0


@config
class Robust:
    """DPO that knows that a share `flipped` of the labels is wrong."""

    kind: Literal["robust"] = "robust"
    beta: Positive = 0.1
    flipped: Smoothing = 0.1


@config
class Ipo:
    """Identity preference optimization: the margin goes to 1 / (2 beta). per_token: of means over tokens, as in the paper's experiments."""

    kind: Literal["ipo"] = "ipo"
    beta: Positive = 0.1
    per_token: bool = True


@config
class Hinge:
    """The margin is pushed up to 1 / beta."""

    kind: Literal["hinge"] = "hinge"
    beta: Positive = 0.1


@config
class Apo:
    """Anchored preference optimization. towards: "zero" where the better answers are better than the model's own, else "down"."""

    kind: Literal["apo"] = "apo"
    beta: Positive = 0.1
    towards: Literal["zero", "down"] = "zero"


@config
class Kto:
    """Learning from thumbs, up and down; pairs give one of each. desirable, undesirable: what an up and a down weigh."""

    kind: Literal["kto"] = "kto"
    beta: Positive = 0.1
    desirable: Positive = 1.0
    undesirable: Positive = 1.0


@config
class Orpo:
    """Odds ratio preference optimization; no reference. weight: the paper's lambda."""

    kind: Literal["orpo"] = "orpo"
    weight: NotNegative = 0.1


@config
class Simpo:
    """Simple preference optimization; no reference. gamma: by how much the better answer should lead."""

    kind: Literal["simpo"] = "simpo"
    beta: Positive = 2.0
    gamma: NotNegative = 1.0
    label_smoothing: Smoothing = 0.0


@config
class Cpo:
    """Contrastive preference optimization; no reference. alpha: of the term that learns the better answers."""

    kind: Literal["cpo"] = "cpo"
    beta: Positive = 0.1
    alpha: NotNegative = 1.0
    label_smoothing: Smoothing = 0.0


PreferenceLoss = Annotated[
    Dpo | Robust | Ipo | Hinge | Apo | Kto | Orpo | Simpo | Cpo, Field(discriminator="kind")
]


def needs_reference(loss: PreferenceLoss) -> bool:
    """Whether a loss compares with the model as it was."""
    return not isinstance(loss, Orpo | Simpo | Cpo)


@config
class PairLoaderConfig:
    """How batches are drawn.

    Attributes:
        context: tokens of a prompt with an answer, at most.
        pairs: comparisons (or thumbs) in a micro-batch; micro_batches: micro-batches in a step.
        long: what is longer is an error, is left out (and counted), loses the beginning of its prompt (left) or its end (right).
        share: the answers to a prompt are read behind one reading of it; the numbers are the same without, to rounding.
    """

    context: Annotated[int, Field(ge=2)] = 512
    pairs: Count = 8
    micro_batches: Count = 1
    long: Literal["error", "drop", "left", "right"] = "drop"
    share: bool = True
    seed: int = 0


@config
class Online:
    """The model answers, a judge ranks, and the best answer to each question is learned against the worst (Guo et al. 2024, arXiv:2402.04792).

    Attributes:
        problems: what is asked (`tune.rl.problems`); their checkers judge, unless there is a reward model.
        reward_model: an earlier stage or a folder of the kind `reward`, which then judges.
        heldout: problems kept apart to measure with.
        prompts: problems of a round, answers: to each. every: steps that learn from a round (1: on policy; many: iterative DPO).
        reference: the model at the start of the run, or at the start of each round.
        max_tokens, temperature, stop: of the answers, as in `tune.rl.config.Rollout`.
    """

    problems: Annotated[tuple[ProblemSet, ...], Field(min_length=1)]
    reward_model: str = ""
    heldout: Annotated[int, Field(ge=0)] = 64
    prompts: Count = 16
    answers: Annotated[int, Field(ge=2)] = 4
    every: Count = 4
    reference: Literal["start", "round"] = "start"
    max_tokens: Count = 64
    temperature: Positive = 1.0
    stop: tuple[str, ...] = ()


@config
class PreferenceConfig:
    """One run: the loss, how batches are drawn, and, if the model is to answer itself, how."""

    loss: PreferenceLoss = Dpo()
    loader: PairLoaderConfig = PairLoaderConfig()
    online: Online | None = None

    def __post_init__(self) -> None:
        if self.online is not None and isinstance(self.loss, Kto):
            raise OrreryError(
                "online learning ranks answers against each other, and kto learns from single ones; take another loss"
            )
