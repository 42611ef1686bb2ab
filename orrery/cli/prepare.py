"""`orrery prepare`: text files to token shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orrery.cli.common import OVERRIDES


def prepare(
    recipe: Annotated[
        Path, typer.Argument(help="A recipe of kind `prepare` (YAML), for example recipes/prepare.yaml.")
    ],
    overrides: Annotated[list[str] | None, typer.Argument(help=OVERRIDES, metavar="[KEY=VALUE]...")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder (default: the recipe's `out`).")] = None,
) -> None:
    """Read, clean, deduplicate, split, tokenise and shard text; every token is accounted for.

    Example: orrery prepare recipes/prepare.yaml source.paths=[my/texts] tokenizer=runs/quickstart
    """
    from orrery.cli.pipeline.single import single_stage

    single_stage(recipe, overrides or [], kind="prepare", out=out)
