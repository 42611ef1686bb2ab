"""The schema of a run: a source of text and a list of stages, each kind-tagged, whose inputs name earlier stages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

import orrery
from orrery.data.clean import CleanConfig
from orrery.data.loader import LoaderConfig
from orrery.data.source import Source, StdlibSource
from orrery.kit.config import config
from orrery.kit.errors import OrreryError, suggest
from orrery.model.config import DecoderConfig
from orrery.text.train import TokenizerConfig
from orrery.train.config import TrainConfig
from orrery.train.objectives import DraftEagle


@config
class SplitConfig:
    """Which documents are held out: decided by each document's own hash, the same for tokenizer and data."""

    heldout: float = 0.05
    seed: int = 0


@config
class TokenizerStage:
    """Train a tokenizer on the documents that are not held out."""

    kind: Literal["tokenizer"] = "tokenizer"
    name: str = "tokenizer"
    tokenizer: TokenizerConfig = TokenizerConfig()
    max_megabytes: float = 100.0
    """Train on at most this much text, evenly spread over the documents."""

    reads_source: ClassVar[bool] = True

    def inputs(self) -> dict[str, str]:
        return {}


@config
class PrepareStage:
    """Read, clean, deduplicate, split, tokenise, shard."""

    kind: Literal["prepare"] = "prepare"
    name: str = "data"
    tokenizer: str = "tokenizer"
    clean: CleanConfig = CleanConfig()
    dedup: bool = True
    start: Literal["auto", "bos", "eos", "none"] = "auto"

    reads_source: ClassVar[bool] = True

    def inputs(self) -> dict[str, str]:
        return {"tokenizer": self.tokenizer}


@config
class TrainStage:
    """Pre-train a decoder. The vocabulary size is the tokenizer's."""

    kind: Literal["train"] = "train"
    name: str = "train"
    data: str = "data"
    model: DecoderConfig = DecoderConfig()
    loader: LoaderConfig = LoaderConfig()
    loop: TrainConfig = TrainConfig(minutes=4.0)
    sample_prompt: str = ""
    """What the samples during training begin with."""

    reads_source: ClassVar[bool] = False

    def inputs(self) -> dict[str, str]:
        return {"data": self.data}


@config
class DrafterStage:
    """Train a drafter for a finished model, which stays as it is; `loop.objective` says which kind (medusa, eagle, semi)."""

    kind: Literal["drafter"] = "drafter"
    name: str = "drafter"
    base: str = "train"
    data: str = "data"
    loader: LoaderConfig = LoaderConfig()
    loop: TrainConfig = TrainConfig(minutes=4.0, objective=DraftEagle())

    reads_source: ClassVar[bool] = False

    def inputs(self) -> dict[str, str]:
        return {"model": self.base, "data": self.data}


@config
class EvaluateStage:
    """Bits per byte of held-out documents: the model, n-gram models counted on the same tokens, and xz."""

    kind: Literal["evaluate"] = "evaluate"
    name: str = "evaluate"
    model: str = "train"
    data: str = "data"
    orders: tuple[int, ...] = (1, 2, 3, 4, 5)
    smoothing: Literal["kneser-ney", "laplace", "back-off"] = "kneser-ney"
    xz: bool = True
    stride: int | None = None
    """Tokens between windows of a document longer than the context; None is half the context."""
    max_tokens: int = 300_000
    """Held-out tokens to score at most (whole documents); the rest is left out and said so."""

    reads_source: ClassVar[bool] = False

    def inputs(self) -> dict[str, str]:
        return {"model": self.model, "data": self.data}


@config
class GenerateStage:
    """Let the model speak."""

    kind: Literal["generate"] = "generate"
    name: str = "generate"
    model: str = "train"
    prompts: tuple[str, ...] = ()
    openings: str = ""
    """A data stage: the first words of three of its held-out documents are prompts too."""
    max_tokens: int = 160
    temperature: float = 0.7
    top_p: float = 0.9
    seed: int = 0

    reads_source: ClassVar[bool] = False

    def inputs(self) -> dict[str, str]:
        return {"model": self.model, **({"data": self.openings} if self.openings else {})}


Stage = Annotated[
    TokenizerStage | PrepareStage | TrainStage | DrafterStage | EvaluateStage | GenerateStage,
    Field(discriminator="kind"),
]


@config
class RunRecipe:
    """A run: its name, where its folder stands, what it reads, and its stages in order."""

    name: str
    out: str = ""
    source: Source = StdlibSource()
    split: SplitConfig = SplitConfig()
    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        if not self.stages:
            raise OrreryError("a run needs at least one stage")
        names = [stage.name for stage in self.stages]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise OrreryError(f"two stages are named '{twice}'; give one another name")
        if not self.out:
            object.__setattr__(self, "out", f"runs/{self.name}")


def find_recipe(path: str | Path) -> Path:
    """The recipe meant by `path`: a file here, or one that comes with orrery (with or without `recipes/` and `.yaml`).

    Raises:
        OrreryError: no such recipe; names the nearest.
    """
    path = Path(path)
    if path.is_file():
        return path
    package = Path(orrery.__file__).parent
    shelf = next((s for s in (package / "recipes", package.parent / "recipes") if s.is_dir()), None)
    if shelf is None:
        raise OrreryError(f"no recipe at '{path}'")
    known = {file.stem: file for file in sorted(shelf.glob("*.yaml"))}
    if path.parent.name in ("", "recipes") and path.stem in known:
        return known[path.stem]
    raise OrreryError(
        f"no recipe at '{path}'; orrery comes with {', '.join(known)}.{suggest(path.stem, known)}"
    )
