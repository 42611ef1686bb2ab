"""`orrery quickstart`: the main job in one command, on this machine's own text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orrery.cli.common import OVERRIDES

SHARES = {"train": 0.43, "sft": 0.1, "rl": 0.47}
"""Of the minutes of training, as in the recipe."""


def quickstart(
    overrides: Annotated[list[str] | None, typer.Argument(help=OVERRIDES, metavar="[KEY=VALUE]...")] = None,
    text: Annotated[
        list[Path] | None,
        typer.Option(
            help="Your own text instead: files or folders (txt, md, jsonl, gz; parquet with the data extra). Repeatable."
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Minutes of training: 43% reading, 10% learning to answer, 47% practice (default 9.7).",
            min=0.02,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder (default: runs/quickstart).")] = None,
) -> None:
    """Make a small model that answers questions, from raw text: about eleven minutes on two cores.

    Reads the source and docstrings of this Python's standard library (nothing is downloaded), trains a tokenizer
    and a Llama-shaped decoder, compares it with n-gram models and xz on held-out documents, teaches it to answer questions
    about Python expressions and words, lets it practise on others whose answers are checked by running them, measures its
    answers before and after each, and writes a report.
    Stop it at any moment and run it again: it goes on where it was.
    """
    from orrery.cli.pipeline.runner import run_recipe

    settings = list(overrides or [])
    if text:
        import json

        settings = [
            "source.kind=files",
            "source.paths=" + json.dumps([str(path) for path in text]),
            "stages.train.sample_prompt=''",
            "stages.generate.prompts=[]",
            "stages.generate.openings=data",
            *settings,
        ]
    if minutes is not None:
        settings += [f"stages.{stage}.loop.minutes={share * minutes:g}" for stage, share in SHARES.items()]
    run_recipe("recipes/quickstart.yaml", settings, out=out)
