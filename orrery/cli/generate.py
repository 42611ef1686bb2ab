"""`orrery generate`: continue a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from orrery.cli.common import MODEL, print_json, sampling_settings


def generate(
    model: Annotated[Path, typer.Argument(help=MODEL)],
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", help="Text to continue (default: read standard input).")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="At most this many new tokens.", min=1)] = 128,
    temperature: Annotated[
        float | None,
        typer.Option(
            help="0 is greedy; 1 the model's own distribution (default: its makers' advice, else 0.8).",
            min=0.0,
        ),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            help="Nucleus: keep the smallest set with this mass (default: advice, else 0.95).",
            min=0.0,
            max=1.0,
        ),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(help="Keep the k likeliest tokens, 0: all (default: advice, else 0).", min=0)
    ] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Drop tokens below this share of the likeliest.", min=0.0, max=1.0)
    ] = None,
    repetition_penalty: Annotated[
        float | None, typer.Option(help="Above 1 discourages tokens already used.", min=0.01)
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same text.")] = 0,
    stop: Annotated[list[str] | None, typer.Option(help="Stop before this text. Repeatable.")] = None,
    beams: Annotated[int, typer.Option(help="Beam search of this width (with --temperature 0).", min=1)] = 1,
    ignore_eos: Annotated[bool, typer.Option(help="Go on past the end-of-text token.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document with ids and log-probabilities.")
    ] = False,
) -> None:
    """Continue a prompt with a model.

    Example: orrery generate runs/quickstart --prompt "def read_lines(path):"
    """
    import sys

    import orrery
    from orrery.kit.errors import OrreryError

    if prompt is None:
        if sys.stdin.isatty():
            raise OrreryError('nothing to continue; add --prompt "some text" or pipe text in')
        prompt = sys.stdin.read()
    lm = orrery.load(model)
    wanted = dict(
        temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p, repetition_penalty=repetition_penalty
    )  # fmt: skip
    settings: dict[str, Any] = {
        **sampling_settings(lm, wanted, beams=beams),
        "max_tokens": max_tokens, "seed": seed, "stop": tuple(stop or ()), "ignore_eos": ignore_eos,
    }  # fmt: skip
    if json or beams > 1:
        completion = lm.generate(prompt, num_beams=beams, **settings)
        print_json({"prompt": prompt, **vars(completion)}) if json else print(prompt + completion.text)
        return
    print(prompt, end="", flush=True)
    for piece in lm.stream(prompt, **settings):
        print(piece, end="", flush=True)
    print()
