"""`orrery score`: how surprised a model is by a text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from orrery.cli.common import MODEL, print_json


def score(
    model: Annotated[Path, typer.Argument(help=MODEL)],
    files: Annotated[list[Path], typer.Argument(help="Text files to score ('-' is standard input).")],
    stride: Annotated[
        int | None,
        typer.Option(help="Tokens between windows of a long text (default: half the context).", min=1),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Score texts: log-probability, bits per byte and perplexity; lower is less surprised.

    Example: orrery score runs/quickstart README.md
    """
    import sys

    import orrery
    from orrery.data.source import read_text
    from orrery.evaluate.bits import score_text

    lm = orrery.load(model)
    rows: list[dict[str, Any]] = []
    for path in files:
        text = sys.stdin.read() if str(path) == "-" else read_text(path)
        result = score_text(lm, text, stride=stride)
        rows.append(
            {
                "file": str(path),
                "nats": result.nats,
                "tokens": result.tokens,
                "bytes": result.bytes,
                "bits_per_byte": result.bits_per_byte,
                "perplexity": result.perplexity,
            }
        )
    if json:
        print_json(rows)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in ("file", "bytes", "tokens", "bits per byte", "perplexity", "log-probability (nats)"):
        table.add_column(column, justify="left" if column == "file" else "right")
    for row in rows:
        table.add_row(
            row["file"], f"{row['bytes']:,}", f"{row['tokens']:,}",
            f"{row['bits_per_byte']:.4f}", f"{row['perplexity']:,.2f}", f"{-row['nats']:,.1f}",
        )  # fmt: skip
    Console().print(table)
