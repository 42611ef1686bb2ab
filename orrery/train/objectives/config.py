"""The objectives a recipe can name, with what each needs. Special tokens are named as the tokenizer writes
them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orrery.kit.config import config
from orrery.model.drafters import EagleConfig, MedusaConfig, SemiAutoregressiveConfig

Share = Annotated[float, Field(ge=0, le=1)]


@config
class CausalLM:
    """Predict each token from those before it."""

    kind: Literal["causal-lm"] = "causal-lm"


@config
class FillInTheMiddle:
    """Causal, on documents of which a share `rate` are rearranged so that the middle comes last.

    Args:
        spm_rate: share of the rearranged ones in the order suffix, prefix, middle; the rest are prefix,
            suffix, middle.
    """

    kind: Literal["fim"] = "fim"
    rate: Share = 0.5
    spm_rate: Share = 0.5
    prefix: str = "<|fim_prefix|>"
    suffix: str = "<|fim_suffix|>"
    middle: str = "<|fim_middle|>"


@config
class PrefixLM:
    """Read a random beginning of each document in both directions, predict the rest causally."""

    kind: Literal["prefix-lm"] = "prefix-lm"


@config
class MaskedLM:
    """Hide a share `rate` of the tokens and predict them from both sides.

    Args:
        random: share of the hidden ones shown as a random token.
        keep: share of the hidden ones shown as they are. All others are shown as `mask`.
    """

    kind: Literal["masked-lm"] = "masked-lm"
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.15
    random: Share = 0.1
    keep: Share = 0.1
    mask: str = "<|mask|>"


@config
class SpanCorruption:
    """Replace random spans by sentinels and write the spans out after the text.

    Args:
        rate: share of the tokens in spans.
        mean_length: of a span, in tokens.
        sentinel: name of the i-th sentinel, `{i}` counting from 0.
        two_way: whether the corrupted text, before the spans, is read in both directions.
    """

    kind: Literal["span-corruption"] = "span-corruption"
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.15
    mean_length: Annotated[float, Field(ge=1)] = 3.0
    sentinel: str = "<|extra_{i}|>"
    two_way: bool = True


@config
class MultiToken:
    """Causal, and each further prediction depth of the model (`mtp_heads`) adds its loss times its weight."""

    kind: Literal["multi-token"] = "multi-token"
    weights: tuple[Annotated[float, Field(ge=0)], ...] = (0.3,)


@config
class DraftMedusa:
    """Teach Medusa heads to guess for a frozen model; each further token counts `decay` times the one before."""

    kind: Literal["medusa"] = "medusa"
    net: MedusaConfig = MedusaConfig()
    decay: Share = 0.8


@config
class DraftEagle:
    """Teach an EAGLE layer a frozen model's next state.

    Args:
        classification: weight of the cross-entropy between what the head makes of both states.
        noise: half the width of the uniform noise on the states it reads.
    """

    kind: Literal["eagle"] = "eagle"
    net: EagleConfig = EagleConfig()
    classification: Annotated[float, Field(ge=0)] = 0.1
    noise: Annotated[float, Field(ge=0)] = 0.1


@config
class DraftSemi:
    """Teach a semi-autoregressive head to guess a block of tokens for a frozen model; `decay` as above."""

    kind: Literal["semi"] = "semi"
    net: SemiAutoregressiveConfig = SemiAutoregressiveConfig()
    decay: Share = 0.8


DraftObjective = DraftMedusa | DraftEagle | DraftSemi
Objective = Annotated[
    CausalLM
    | FillInTheMiddle
    | PrefixLM
    | MaskedLM
    | SpanCorruption
    | MultiToken
    | DraftMedusa
    | DraftEagle
    | DraftSemi,
    Field(discriminator="kind"),
]
