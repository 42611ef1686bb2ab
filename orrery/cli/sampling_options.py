"""Options that say how tokens are chosen, for the verbs that generate text. Each help text says what the method does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DRAW, REPEAT, SEARCH, SHAPE = "How tokens are drawn", "Against repetition", "Search", "Shape of the answer"

Temperature = Annotated[
    float | None,
    typer.Option(
        help="0 is greedy; 1 the model's own distribution; between them sharper, above 1 flatter (default: its makers' "
        "advice, else 0.8).",
        min=0.0,
        rich_help_panel=DRAW,
    ),
]
TopP = Annotated[
    float | None,
    typer.Option(
        help="Nucleus: keep the smallest set of likeliest tokens with this mass (default: advice, else 0.95).",
        min=0.0,
        max=1.0,
        rich_help_panel=DRAW,
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(
        help="Keep the k likeliest tokens; 0 keeps all (default: advice, else 0).",
        min=0,
        rich_help_panel=DRAW,
    ),
]
MinP = Annotated[
    float | None,
    typer.Option(
        help="Drop tokens below this share of the likeliest one's probability; 0.05 to 0.1 lets high temperatures stay sane.",
        min=0.0,
        max=1.0,
        rich_help_panel=DRAW,
    ),
]
TypicalP = Annotated[
    float | None,
    typer.Option(
        help="Locally typical: keep this mass of the tokens whose surprise is nearest to the expected one.",
        min=0.0,
        max=1.0,
        rich_help_panel=DRAW,
    ),
]
XtcProbability = Annotated[
    float | None,
    typer.Option(
        help="XTC, exclude top choices: how often to leave out all tokens above the threshold but the least likely of "
        "them, so that something less obvious is said (0.5 is usual).",
        min=0.0,
        max=1.0,
        rich_help_panel=DRAW,
    ),
]
XtcThreshold = Annotated[
    float | None,
    typer.Option(
        help="The probability from which a token is a top choice for XTC (default 0.1; above 0.5 XTC does nothing).",
        min=0.0,
        max=1.0,
        rich_help_panel=DRAW,
    ),
]
Seed = Annotated[int, typer.Option(help="The same seed gives the same text.", rich_help_panel=DRAW)]
RepetitionPenalty = Annotated[
    float | None,
    typer.Option(
        help="Above 1 makes every token of prompt and answer less likely to come again: positive logits are divided, "
        "negative ones multiplied.",
        min=0.01,
        rich_help_panel=REPEAT,
    ),
]
PresencePenalty = Annotated[
    float | None,
    typer.Option(
        help="Subtracted once from the logit of every token already generated: new topics.",
        rich_help_panel=REPEAT,
    ),
]
FrequencyPenalty = Annotated[
    float | None,
    typer.Option(
        help="Subtracted as often as the token was generated: fewer favourite words.", rich_help_panel=REPEAT
    ),
]
DryMultiplier = Annotated[
    float | None,
    typer.Option(
        help="DRY, don't repeat yourself: how strongly to push away the token that would lengthen a repeated passage "
        "(0.8 is usual; 0 is off).",
        min=0.0,
        rich_help_panel=REPEAT,
    ),
]
DryBase = Annotated[
    float | None,
    typer.Option(
        help="By how much that push grows with every token of the passage (default 1.75).",
        min=1.0,
        rich_help_panel=REPEAT,
    ),
]
DryAllowedLength = Annotated[
    int | None,
    typer.Option(
        help="Passages of fewer tokens may repeat freely (default 2).", min=1, rich_help_panel=REPEAT
    ),
]
DryBreaker = Annotated[
    list[str] | None,
    typer.Option(
        help="No passage is seen to run over a token that holds this text, such as a line break or a colon. Repeatable.",
        rich_help_panel=REPEAT,
    ),
]
BadWord = Annotated[
    list[str] | None,
    typer.Option(
        help="Never complete this word, as the tokenizer spells it. Repeatable.", rich_help_panel=REPEAT
    ),
]
Beams = Annotated[
    int,
    typer.Option(
        help="Beam search: follow this many continuations and give the likeliest (with --temperature 0).",
        min=1,
        rich_help_panel=SEARCH,
    ),
]
LengthPenalty = Annotated[
    float,
    typer.Option(
        help="For beams: 0 compares plain log-probabilities, which favours short texts; 1 nearly the mean per token.",
        min=0.0,
        rich_help_panel=SEARCH,
    ),
]
ContrastiveAlpha = Annotated[
    float | None,
    typer.Option(
        help="Contrastive search: of the --top-k likeliest tokens (default 4) take the one that is likely and unlike what "
        "was said; how much unlikeness counts (0.6 is usual).",
        min=0.0,
        max=1.0,
        rich_help_panel=SEARCH,
    ),
]
Choices = Annotated[
    int, typer.Option("--n", help="Give this many continuations.", min=1, rich_help_panel=SEARCH)
]
BestOf = Annotated[
    int | None,
    typer.Option(help="Make this many and give the --n likeliest a token.", min=1, rich_help_panel=SEARCH),
]
Regex = Annotated[
    str | None, typer.Option(help="The text must match this regular expression.", rich_help_panel=SHAPE)
]
JsonSchema = Annotated[
    Path | None,
    typer.Option(help="The text must be JSON that fits the schema in this file.", rich_help_panel=SHAPE),
]
Choice = Annotated[
    list[str] | None,
    typer.Option(help="The text must be one of these. Repeatable.", rich_help_panel=SHAPE),
]
