"""`orrery plan`: parameters, memory, compute and time, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

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
    device: Annotated[
        str | None,
        typer.Option(
            help="Forecast prefill and decode there: here (measured), h100, b200, tpu-v5e, rtx-4090, ..."
        ),
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(help="With --device: sequences decoded at once (repeat for several).", min=1),
    ] = None,
    weight_bits: Annotated[
        float | None,
        typer.Option(
            help="With --device: bits a weight takes (default: those of a GGUF file, else 16).", min=1, max=64
        ),
    ] = None,
    kv_dtype: Annotated[
        Literal["fp32", "bf16", "fp8"], typer.Option(help="With --device: of keys and values in the cache.")
    ] = "bf16",
    precision: Annotated[
        Literal["fp32", "tf32", "bf16", "int8", "fp8", "fp4"] | None,
        typer.Option(help="With --device: of the arithmetic (default: bf16 where the device has it)."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Size a model without allocating it: parameters, FLOPs, memory, KV-cache bytes, time; and how fast a device could run it.

    Example: orrery plan recipes/quickstart.yaml stages.train.model.n_layers=6

    Example: orrery plan gemma-3-270m --device here --context 1024
    """
    from orrery.cli.pipeline.planning import make_plan

    if device is None:
        result = make_plan(model, overrides or [], tokens=tokens, context=context, flops=flops)
    else:
        from orrery.cli.pipeline.device import make_forecast
        from orrery.plan.forecast import BATCHES

        result = make_forecast(
            model, overrides or [], device=device, context=context, batches=batch or list(BATCHES),
            weight_bits=weight_bits, kv_dtype=kv_dtype, precision=precision,
        )  # fmt: skip
    if json:
        print_json(result.to_dict())
        return
    from rich.console import Console

    Console().print(result.render())
