"""The schema of a run: a source of text and a list of stages, each kind-tagged, whose inputs name earlier stages."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

import orrery
from orrery.cli.pipeline.distill_recipe import DistillStage
from orrery.cli.pipeline.made import made_by
from orrery.cli.pipeline.prefer_recipe import PreferStage
from orrery.cli.pipeline.reward_recipe import RewardStage
from orrery.cli.pipeline.sample_recipe import SampleStage
from orrery.data.clean import CleanConfig
from orrery.data.loader import LoaderConfig
from orrery.data.source import Source, StdlibSource
from orrery.evaluate.strategies.config import Strategy
from orrery.kit.config import config
from orrery.kit.errors import OrreryError, suggest
from orrery.model.adapters.config import AdapterConfig
from orrery.model.config import DecoderConfig
from orrery.text.train import TokenizerConfig
from orrery.train.config import TrainConfig
from orrery.train.objectives import DraftEagle
from orrery.train.optim.config import AdamW
from orrery.train.schedule import Constant
from orrery.tune.dataset import SetConfig
from orrery.tune.examples import Learn
from orrery.tune.format_name import FormatName
from orrery.tune.loader import ExampleLoaderConfig
from orrery.tune.longer_context import LongerContext
from orrery.tune.rl.config import RlConfig
from orrery.tune.rl.rewards import LearnedReward
from orrery.tune.vocabulary import NewTokens


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
class TuneStage:
    """Teach a finished model: to follow instructions, a domain, a longer context, new tokens; all of its weights, or an adapter.

    Attributes:
        base: an earlier stage, a model or run folder, a .gguf file, or gemma-3-270m.
        data: what it learns; data_root: where the paths of all sets begin.
        replay: sets of what it learned before, from which a share `replay_share` of the rows is drawn so that it is not forgotten.
        watch: sets that it does not learn; their loss before and after is measured, which shows what is forgotten.
        heldout: the part of the questions of each set that is held out, by hash and `split_seed`.
        chat_template: "auto" (the model's own, else the one its vocabulary has the tokens for), a name (gemma, chatml, llama3, orrery,
            words), a .jinja file, or "none": questions are continued, not answered.
        system: a system message for dialogues without one. learn: which ids carry loss (see `tune.examples`).
        adapter: what is trained beside the frozen model; None: all weights are.
        blocks: with an adapter, leave a GGUF file's weights in their blocks (QLoRA) rather than make floats of them.
        neftune: alpha of the noise on embeddings; None: none.
        epochs: passes over the data, in place of the loop's steps or minutes.
        validation_tokens: supervised tokens of each set that a validation looks at, at most.
        sample_tokens: length of the answers to held-out questions that are written down as training goes on.
    """

    kind: Literal["tune"] = "tune"
    name: str = "tune"
    base: str = "train"
    data: Annotated[tuple[SetConfig, ...], Field(min_length=1)]
    data_root: str = ""
    replay: tuple[SetConfig, ...] = ()
    replay_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    watch: tuple[SetConfig, ...] = ()
    heldout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    split_seed: int = 0
    chat_template: FormatName = "auto"
    system: str = ""
    learn: Learn = "assistant"
    longer_context: LongerContext | None = None
    new_tokens: NewTokens | None = None
    adapter: AdapterConfig | None = None
    blocks: bool = False
    neftune: Annotated[float, Field(gt=0)] | None = None
    loader: ExampleLoaderConfig = ExampleLoaderConfig()
    loop: TrainConfig = TrainConfig(minutes=4.0, optimizer=AdamW(lr=2e-4, weight_decay=0.0))
    epochs: Annotated[float, Field(gt=0)] | None = None
    validation_tokens: Annotated[int, Field(ge=1)] = 8_000
    sample_tokens: Annotated[int, Field(ge=1)] = 64

    reads_source: ClassVar[bool] = False

    def inputs(self) -> dict[str, str]:
        return {"model": self.base, **made_by(data=self.data, replay=self.replay, watch=self.watch)}

    def __post_init__(self) -> None:
        if self.adapter is not None and (self.new_tokens or self.longer_context):
            raise OrreryError(
                "an adapter leaves its model as it is; new_tokens and longer_context need all weights trained (adapter: null)"
            )
        if self.blocks and self.adapter is None:
            raise OrreryError("blocks: true keeps weights that cannot be trained; it goes with an adapter")


@config
class RlStage:
    """Let a finished model answer problems and learn from how it is judged (see `tune.rl.config`).

    Attributes:
        base, chat_template, adapter: as of a tuning stage. system: a system message in front of every problem.
        data_root: where the paths of problems begin.
        reward_model: an earlier stage or a folder of the kind `reward`; a term {kind: learned} of the rewards asks it.
    """

    kind: Literal["rl"] = "rl"
    name: str = "rl"
    base: str = "sft"
    reward_model: str = ""
    data_root: str = ""
    chat_template: FormatName = "auto"
    system: str = ""
    adapter: AdapterConfig | None = None
    rl: RlConfig
    loop: TrainConfig = TrainConfig(
        minutes=2.0,
        optimizer=AdamW(lr=1e-4, weight_decay=0.0),
        schedule=Constant(warmup=0.05),
        precision="fp32",
    )

    reads_source: ClassVar[bool] = False

    def inputs(self) -> dict[str, str]:
        return {"model": self.base, **({"reward": self.reward_model} if self.reward_model else {})}

    def __post_init__(self) -> None:
        if bool(self.reward_model) != any(isinstance(term, LearnedReward) for term in self.rl.rewards):
            raise OrreryError(
                "a learned reward needs both: a term {kind: learned} among rl.rewards, and reward_model, the stage or folder of its model"
            )


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
class EvalStage:
    """Scores on tasks (`orrery eval list`): run one behind each stage that changes the model, and its gain shows.

    Attributes:
        tasks: names, or paths of task files. data: the folder of their data sets; empty for tasks that make their own rows.
        limit: questions of each task, evenly spread. shots: demonstrations instead of the task's own number.
        chat: whether the model's chat format asks; None: as each task says.
        bos: whether BOS stands before a text; auto: as the tokenizer's files say.
        strategy: how answers are made at test time (`orrery eval strategies`); None: by one call.
    """

    kind: Literal["eval"] = "eval"
    name: str = "eval"
    model: str = "train"
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    data: str = ""
    limit: Annotated[int, Field(ge=1)] | None = None
    shots: Annotated[int, Field(ge=0)] | None = None
    chat: bool | None = None
    bos: Literal["auto", "always", "never"] = "auto"
    strategy: Strategy | None = None
    seed: int = 0

    reads_source: ClassVar[bool] = False

    def inputs(self) -> dict[str, str]:
        return {"model": self.model}


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
    TokenizerStage
    | PrepareStage
    | TrainStage
    | DrafterStage
    | TuneStage
    | RlStage
    | PreferStage
    | RewardStage
    | DistillStage
    | SampleStage
    | EvaluateStage
    | EvalStage
    | GenerateStage,
    Field(discriminator="kind"),
]


@config
class RunRecipe:
    """A run: its name, where its folder stands, what it reads, and its stages in order. `data_root`: the folder of the data sets of
    tune and eval stages that name none themselves."""

    name: str
    out: str = ""
    source: Source = StdlibSource()
    split: SplitConfig = SplitConfig()
    data_root: str = ""
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
        if self.data_root:
            object.__setattr__(self, "stages", tuple(_rooted(stage, self.data_root) for stage in self.stages))


def _rooted(stage: Stage, root: str) -> Stage:
    """The stage with the run's folder of data sets, where it names none."""
    match stage:
        case (
            TuneStage(data_root="")
            | RlStage(data_root="")
            | PreferStage(data_root="")
            | RewardStage(data_root="")
            | DistillStage(data_root="")
            | SampleStage(data_root="")
        ):
            return dataclasses.replace(stage, data_root=root)
        case EvalStage(data=""):
            return dataclasses.replace(stage, data=root)
    return stage


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
