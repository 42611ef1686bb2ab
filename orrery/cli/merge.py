"""`orrery merge`: make adapters part of their model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orrery.cli.common import MODEL, print_json


def merge(
    base: Annotated[str, typer.Argument(help=MODEL)],
    adapter: Annotated[list[Path], typer.Argument(help="One or more folders of adapters, ours or peft's.")],
    out: Annotated[Path, typer.Argument(help="The model folder to make.")],
    weight: Annotated[
        list[float] | None,
        typer.Option("--weight", "-w", help="How much of each adapter, in their order (default: all of it)."),
    ] = None,
    type: Annotated[str, typer.Option("--type", "-t", help="f32, f16 or bf16.")] = "bf16",
    text: Annotated[Path | None, typer.Option(help="A text file to compare the models on.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON document.")] = False,
) -> None:
    """Add adapters into a model's weights and say what that changed: how far the result is from the adapted model, and from the base.

    Example: orrery merge gemma-3-270m out/adapter out/merged
    """
    from orrery.kit.errors import OrreryError
    from orrery.kit.log import console
    from orrery.tune.merge import merge as run

    weights = weight or [1.0] * len(adapter)
    if len(weights) != len(adapter):
        raise OrreryError(
            f"{len(adapter)} adapters and {len(weights)} weights were given; give --weight once for each adapter, or not at all"
        )
    probe = None if text is None else text.read_text(encoding="utf-8")
    report = run(base, list(zip(adapter, weights, strict=True)), out, kind=type, text=probe)
    if json:
        return print_json(report)
    for path, share, kl in zip(adapter, weights, report.from_adapted, strict=True):
        console.print(
            f"{path.name} x {share:g}: the model with it alone is {kl:.2e} nats a token from the merged one",
            soft_wrap=True,
            markup=False,
        )
    console.print(
        f"the merged model is {report.from_base:.2e} nats a token from the base ({report.tokens} tokens; largest difference of a logit from "
        f"the adapted model {report.largest:.2g})",
        soft_wrap=True,
    )
    console.print(
        f"wrote '{out}' as {type}; next: orrery chat {out}, or orrery convert {out} model.gguf",
        soft_wrap=True,
        markup=False,
    )
    return None
