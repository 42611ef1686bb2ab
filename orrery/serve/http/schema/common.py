"""Fields that endpoints share: how to sample, what to stop at, what to look at, and tools."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from orrery.kit.lm import Sampling

TokenId = Annotated[int, Field(ge=0, lt=1 << 31)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Count = Annotated[int, Field(ge=1, le=1 << 31)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Share = Annotated[float, Field(ge=0, le=1)]
Layer = Annotated[int, Field(ge=0, lt=10_000)]
Number = Annotated[float, Field(ge=-1e30, le=1e30)]
FunctionName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Label = Annotated[str, StringConstraints(max_length=512)]
Json = dict[str, Any]


def _false(value: Any) -> Any:
    if value is not False:
        raise ValueError("only false is possible here")
    return value


OnlyFalse = Annotated[Literal[False], BeforeValidator(_false)]
"""A plain Literal[False] takes 0 too."""


class Body(BaseModel):
    """Known fields only, of the very type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class SamplingFields(Body):
    """OpenAI's, then ours. What is null is as the model's makers advise, else as OpenAI's default."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = Field(
        None, description="The same request with the same seed gives the same answer; null is seed 0."
    )
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: (
        Annotated[
            dict[
                Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}$")],
                Annotated[float, Field(ge=-100, le=100)],
            ],
            Field(max_length=1024),
        ]
        | None
    ) = None
    top_k: Annotated[int, Field(ge=0, lt=1 << 31)] | None = None
    min_p: Share | None = None
    typical_p: Annotated[float, Field(gt=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    xtc_probability: Share | None = None
    xtc_threshold: Share | None = None
    dry_multiplier: Annotated[float, Field(ge=0, le=100)] | None = None
    dry_base: Annotated[float, Field(ge=1, le=100)] | None = None
    dry_allowed_length: Annotated[int, Field(ge=1, le=10_000)] | None = None
    dry_breakers: Annotated[list[TokenId], Field(max_length=1024)] | None = None
    contrastive_alpha: Share | None = None

    def sampling(self, defaults: Json) -> Sampling:
        """As the engine takes it; `defaults` (the makers' advice) where the caller has no wish."""
        names = Sampling.__dataclass_fields__.keys() & set(SamplingFields.model_fields) - {
            "logit_bias",
            "dry_breakers",
        }
        asked: dict[str, Any] = {name: value for name in names if (value := getattr(self, name)) is not None}
        bias = {int(i): float(b) for i, b in (self.logit_bias or {}).items()}
        known = {name: value for name, value in defaults.items() if name in Sampling.__dataclass_fields__}
        asked |= {"logit_bias": bias, "dry_breakers": tuple(self.dry_breakers or ())}
        return Sampling(**(known | asked))


class ObserveField(Body):
    """`kit.lm.Observe`: what to look at."""

    what: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    layers: Annotated[list[Layer], Field(max_length=1024)] | None = None
    top: Annotated[int, Field(ge=1, le=100)] = 5
    prompt: bool = False


class SteeringField(Body):
    """`kit.lm.Steering`: a vector, or two texts whose difference (of mean residuals behind the layer) is one."""

    layer: Layer
    vector: Annotated[list[Number], Field(min_length=1, max_length=65_536)] | None = None
    toward: Annotated[str, StringConstraints(min_length=1, max_length=4096)] | None = None
    away: Annotated[str, StringConstraints(min_length=1, max_length=4096)] | None = None
    strength: Annotated[float, Field(ge=-1e6, le=1e6)] = 1.0

    @model_validator(mode="after")
    def _one_of_both(self) -> SteeringField:
        texts = self.toward is not None and self.away is not None
        if texts == (self.vector is not None) or (self.toward is None) != (self.away is None):
            raise ValueError("give either a vector, or both toward and away")
        return self


class OrreryField(Body):
    """What OpenAI has no words for."""

    observe: Annotated[list[ObserveField], Field(max_length=16)] = Field(default_factory=list)
    steering: Annotated[list[SteeringField], Field(max_length=16)] = Field(default_factory=list)
    adapter: Label | None = None
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    speculate: bool = True
    cache_prefix: bool = True


class GenerationFields(SamplingFields):
    """What chat and completions share."""

    model: Label | None = Field(None, description="The model, or one of its adapters; null is the model.")
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=64)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    ignore_eos: bool = False
    stop_token_ids: Annotated[list[TokenId], Field(max_length=64)] | None = None
    bad_words: Annotated[list[Stop], Field(max_length=64)] | None = None
    num_beams: Annotated[int, Field(ge=1, le=16)] = 1
    length_penalty: Annotated[float, Field(ge=-10, le=10)] = 1.0
    user: Label | None = None
    orrery: OrreryField | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """Stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class StreamOptions(Body):
    """include_usage: one more chunk with the usage, before the end."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = Field(None, description="Accepted; nothing is obfuscated.")


class Function(Body):
    """A function that the model may call."""

    name: FunctionName
    description: str | None = None
    parameters: Json | None = None
    strict: bool | None = None


class Tool(Body):
    """A tool as chat takes it."""

    type: Literal["function"]
    function: Function


class NamedFunction(Body):
    """A function by its name."""

    name: FunctionName


class NamedTool(Body):
    """The one tool that is to be called."""

    type: Literal["function"]
    function: NamedFunction


class JsonSchema(Body):
    """A schema and its name."""

    name: FunctionName
    description: str | None = None
    schema_: Json = Field(alias="schema")
    strict: bool | None = None


class TextFormat(Body):
    """Anything."""

    type: Literal["text"]


class JsonObjectFormat(Body):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchemaFormat(Body):
    """JSON that the schema allows."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class RegexFormat(Body):
    """Text that matches (ours, not OpenAI's)."""

    type: Literal["regex"]
    pattern: Annotated[str, StringConstraints(min_length=1)]


class ChoiceFormat(Body):
    """One of these texts (ours)."""

    type: Literal["choice"]
    choices: Annotated[
        list[Annotated[str, StringConstraints(min_length=1)]], Field(min_length=1, max_length=10_000)
    ]


class LarkFormat(Body):
    """Text of a context-free grammar (ours)."""

    type: Literal["lark"]
    grammar: Annotated[str, StringConstraints(min_length=1)]


ResponseFormat = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat | RegexFormat | ChoiceFormat | LarkFormat,
    Field(discriminator="type"),
]


class Usage(BaseModel):
    """Tokens read and made."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: dict[str, int] | None = None
    completion_tokens_details: dict[str, int] | None = None


class ErrorInside(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """Every answer that is no success."""

    error: ErrorInside


GenerationFields.model_rebuild()
