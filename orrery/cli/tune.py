"""`orrery tune`: teach a finished model by examples; all of it, or an adapter beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from orrery.cli.common import MODEL, OVERRIDES

ADAPTERS = "lora, vera, ia3, prefix, prompt, bottleneck or reft; without it all weights learn."
KINDS = ("tune", "prefer", "rl", "reward", "distill", "sample")
"""Stages that make a finished model into another, or rows for one to learn from."""
DATA = "A file or folder of examples (.jsonl, .json, .parquet; messages, ShareGPT, Alpaca, prompt and completion ...). Repeatable."


def tune(
    recipe: Annotated[
        Path | None,
        typer.Argument(
            help="A recipe of kind `tune`, `prefer`, `reward`, `rl`, `sample` or `distill` (YAML); or give --base and --data."
        ),
    ] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help=OVERRIDES, metavar="[KEY=VALUE]...")] = None,
    base: Annotated[str | None, typer.Option(help=MODEL)] = None,
    data: Annotated[list[Path] | None, typer.Option(help=DATA)] = None,
    adapter: Annotated[str | None, typer.Option(help=ADAPTERS)] = None,
    text: Annotated[
        bool, typer.Option(help="The data is plain text to go on learning from, not questions.")
    ] = False,
    replay: Annotated[
        list[Path] | None, typer.Option(help="Old examples, a tenth of the rows. Repeatable.")
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the data (default: 2).", min=0.0)] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after so long instead.", min=0.0)] = None,
    lr: Annotated[
        float | None, typer.Option(help="Peak learning rate (default: 2e-4, of an adapter 1e-3).")
    ] = None,
    context: Annotated[
        int | None, typer.Option(help="Tokens of a row (default: the model's, at most 1024).", min=2)
    ] = None,
    long: Annotated[
        str, typer.Option(help="Longer examples: error, drop, split, left (keep the end), right.")
    ] = "drop",
    chat_template: Annotated[
        str, typer.Option(help="auto, gemma, chatml, llama3, orrery, words, none, or a file.")
    ] = "auto",
    system: Annotated[str, typer.Option(help="A system message for examples without one.")] = "",
    out: Annotated[
        Path | None, typer.Option(help="Run folder (default: runs/tune, or the recipe's `out`).")
    ] = None,
) -> None:
    """Teach a model by examples. Stop it any time; the same command goes on, bit for bit.

    Example: orrery tune recipes/sft.yaml

    Example: orrery tune recipes/dpo.yaml loss.kind=simpo

    Example: orrery tune recipes/rl.yaml rl.algorithm.kind=rloo

    Example: orrery tune recipes/distill.yaml mode.kind=reverse-kl

    Example: orrery tune recipes/self_instruct.yaml method.instructions=200

    Example: orrery tune --base gemma-3-270m --data my/answers.jsonl --adapter lora

    Example: orrery tune --base runs/quickstart --data my/texts --text
    """
    from orrery.cli.pipeline.made import EXAMPLES
    from orrery.cli.pipeline.single import single_stage
    from orrery.kit.errors import OrreryError
    from orrery.kit.log import console
    from orrery.serve.find import find_model, is_adapter, run_stages

    if (
        base is not None and recipe is not None and "=" in str(recipe)
    ):  # the first setting stands where a recipe would
        recipe, overrides = None, [str(recipe), *(overrides or [])]
    if (recipe is None) == (base is None):
        raise OrreryError(
            "give a recipe, or --base and --data; for example: orrery tune --base gemma-3-270m --data answers.jsonl"
        )
    if recipe is None:
        assert base is not None
        if not data:
            raise OrreryError("there is nothing to learn from; name a file of examples with --data")
        given: Path | dict[str, Any] = made(
            base, data, adapter=adapter, text=text, replay=replay or [], epochs=epochs, minutes=minutes, lr=lr, context=context,
            long=long, chat_template=chat_template, system=system,
        )  # fmt: skip
    else:
        if data or adapter or replay or epochs or minutes or lr or context or text or system:
            raise OrreryError(
                f"'{recipe}' stands where a recipe does, whose settings are changed as key=value (base=runs/quickstart epochs=3); "
                f"if it is the model to teach, write --base {recipe}"
            )
        given = recipe
    run = single_stage(given, overrides or [], kind=KINDS, out=out)
    kind, folder = run_stages(run)[-1]
    if kind == "examples":
        console.print(f"wrote {folder / EXAMPLES}", highlight=False, soft_wrap=True)
        console.print(
            f"look at what was left out and why: {folder / 'account.json'}    teach it: orrery tune --base MODEL --data {folder / EXAMPLES}",
            style="dim", highlight=False, soft_wrap=True,
        )  # fmt: skip
        return
    if kind == "reward":
        console.print(f"wrote the reward model {folder}", highlight=False, soft_wrap=True)
        told = f"try it: orrery eval pairs {folder} PAIRS.jsonl    practise for it: orrery tune recipes/rl.yaml reward_model={folder}"
        console.print(
            f"{told} 'rl.rewards=[{{kind: learned}}]'",
            style="dim",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        return
    model = find_model(run)
    console.print(
        f"wrote the {'adapter' if is_adapter(model) else 'model'} {model}", highlight=False, soft_wrap=True
    )
    console.print(
        f"talk to it: orrery chat {run}    serve it: orrery serve {run}",
        style="dim",
        highlight=False,
        soft_wrap=True,
    )


def made(
    base: str, data: list[Path], *, adapter: str | None, text: bool, replay: list[Path], epochs: float | None, minutes: float | None,
    lr: float | None, context: int | None, long: str, chat_template: str, system: str,
) -> dict[str, Any]:  # fmt: skip
    """The recipe that the options describe."""
    rate = lr or (1e-3 if adapter else 2e-4)
    shape = {"format": "text"} if text else {}
    timed = {} if minutes else {"epochs": epochs or 2.0}
    return {
        "kind": "tune",
        "base": base,
        "data": [{"paths": [str(path)], **shape} for path in data],
        "replay": [{"paths": [str(path)], "name": f"replayed {path.name}", **shape} for path in replay],
        "adapter": {"kind": adapter} if adapter else None,
        "chat_template": chat_template,
        "system": system,
        "loader": {
            "context": context or context_of(base),
            "rows": 2,
            "long": "split" if text and long == "drop" else long,
        },
        "loop": {
            "minutes": minutes or 60.0,  # of no account where epochs are given
            "optimizer": {"kind": "adamw", "lr": rate, "weight_decay": 0.0},
            "schedule": {"kind": "wsd", "warmup": 0.05, "decay": 0.5},
        },
        **timed,
    }


def context_of(base: str) -> int:
    """The model's context, at most 1024."""
    from orrery.cli.pipeline.planning import model_config
    from orrery.serve.find import base_of, find_model, is_adapter

    found = find_model(base)
    while is_adapter(found):  # one may stand beside another
        found = base_of(found)
    return min(1024, model_config(found).max_positions)
