"""Which drafter an engine uses: a small tagged configuration, and from it the drafter itself.

speculation: {kind: lookup}
speculation: {kind: eagle, path: runs/drafter, tokens: 6}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from orrery.kit.config import config
from orrery.model.drafters import Eagle, Medusa, SemiAutoregressive
from orrery.serve.speculate.draft_model import DraftModelDrafter
from orrery.serve.speculate.drafter import Drafter, Rule
from orrery.serve.speculate.eagle import EagleDrafter
from orrery.serve.speculate.lookup import LookupDrafter
from orrery.serve.speculate.medusa import MedusaDrafter
from orrery.serve.speculate.open import open_drafter
from orrery.serve.speculate.own_mtp import MtpDrafter
from orrery.serve.speculate.semi_autoregressive import SemiAutoregressiveDrafter

if TYPE_CHECKING:
    from orrery.serve.lm import LM

Tokens = Annotated[int, Field(ge=1, le=64)]
Branches = Annotated[tuple[Annotated[int, Field(ge=1, le=16)], ...], Field(max_length=16)]


@config
class Speculation:
    """What all kinds share.

    Attributes:
        tokens: drafts in one pass of the model, at most.
        rule: "coupled" gives the bytes of no speculation; "rejection" keeps more drafts of sampled requests and is exact in
            distribution.
    """

    tokens: Tokens = 8
    rule: Rule = "coupled"


@config
class Lookup(Speculation):
    """Copies what followed the last occurrence of the text's end; `shortest` tokens must agree."""

    kind: Literal["lookup"] = "lookup"
    shortest: Annotated[int, Field(ge=1, le=16)] = 2


@config
class DraftModel(Speculation):
    """A smaller model with the same tokenizer. branches: how many guesses behind each node, depth by depth; () is a chain."""

    kind: Literal["draft_model"] = "draft_model"
    model: str
    tokens: Tokens = 4
    branches: Branches = ()


@config
class MedusaHeads(Speculation):
    """Trained heads on the model's last state; `tokens` is the size of the tree."""

    kind: Literal["medusa"] = "medusa"
    path: str
    tokens: Tokens = 16


@config
class EagleLayer(Speculation):
    """A trained layer that continues the model's states. branches: as of a draft model."""

    kind: Literal["eagle"] = "eagle"
    path: str
    tokens: Tokens = 4
    branches: Branches = ()


@config
class Mtp(Speculation):
    """The model's own multi-token-prediction modules: one token each."""

    kind: Literal["mtp"] = "mtp"
    tokens: Tokens = 4


@config
class Semi(Speculation):
    """A trained head that proposes a block of tokens in one pass."""

    kind: Literal["semi"] = "semi"
    path: str
    tokens: Tokens = 4


Drafting = Annotated[Lookup | DraftModel | MedusaHeads | EagleLayer | Mtp | Semi, Field(discriminator="kind")]


def make_drafter(config: Drafting, lm: LM) -> Drafter:
    """The drafter for `lm`.

    Raises:
        OrreryError: a drafter made for another model or tokenizer, a model without MTP modules, a damaged folder.
    """
    match config:
        case Lookup():
            return LookupDrafter(shortest=config.shortest)
        case DraftModel():
            from orrery.serve.lm import LM

            return DraftModelDrafter(LM.load(config.model), lm, branches=config.branches)
        case MedusaHeads():
            return MedusaDrafter(open_drafter(config.path, lm, Medusa))
        case EagleLayer():
            return EagleDrafter(open_drafter(config.path, lm, Eagle), branches=config.branches)
        case Mtp():
            return MtpDrafter(lm.model)
        case Semi():
            return SemiAutoregressiveDrafter(open_drafter(config.path, lm, SemiAutoregressive))
