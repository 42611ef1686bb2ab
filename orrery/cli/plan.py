"""`orrery plan`: parameters, memory, compute and time, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orrery.cli.common import OVERRIDES, print_json


def plan(
    model: Annotated[
        Path, typer.Argument(help="A model or run folder, a config.json, or a train or run recipe (YAML).")
    ],
    overrides: Annotated[list[str] | None, typer.Argument(help=OVERRIDES, metavar="[KEY=VALUE]...")] = None,
    tokens: Annotated[
        float | None, typer.Option(help="Training tokens to plan for (default: 20 a parameter).", min=1)
    ] = None,
    context: Annotated[
        int | None, typer.Option(help="Sequence length (default: the model's).", min=1)
    ] = None,
    flops: Annotated[
        float | None, typer.Option(help="Sustained FLOP/s (default: measured on this machine).", min=1)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Size a model without allocating it: parameters, FLOPs, memory, KV-cache bytes, time.

    Example: orrery plan recipes/quickstart.yaml stages.train.model.n_layers=6
    """
    from orrery.cli.pipeline.planning import make_plan

    result = make_plan(model, overrides or [], tokens=tokens, context=context, flops=flops)
    if json:
        print_json(result.to_dict())
        return
    from rich.console import Console

    Console().print(result.render())
