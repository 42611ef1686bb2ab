"""`orrery tokenizer`: train one, look at one, and see what it does to a text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orrery.cli.common import OVERRIDES, print_json

app = typer.Typer(no_args_is_help=True, help="Train a tokenizer, report on it, or see how it cuts a text.")

TOKENIZER = "A tokenizer.json, a folder that holds one (any model folder), a run folder, a .gguf file, or gemma-3-270m."


@app.command()
def train(
    text: Annotated[
        list[Path] | None,
        typer.Option(help="Files or folders of text. Repeatable. Default: Python's standard library."),
    ] = None,
    kind: Annotated[str, typer.Option(help="bpe (byte-level), bpe-fallback, wordpiece or unigram.")] = "bpe",
    vocab_size: Annotated[int, typer.Option(help="How many tokens, special ones included.")] = 4096,
    out: Annotated[Path, typer.Option(help="Run folder to write.")] = Path("runs/tokenizer"),
    overrides: Annotated[list[str] | None, typer.Argument(help=OVERRIDES, metavar="[KEY=VALUE]...")] = None,
) -> None:
    """Train a tokenizer on text.

    Example: orrery tokenizer train --text my/texts --kind unigram --vocab-size 8000
    """
    from orrery.cli.pipeline.runner import run_recipe

    stage = {"kind": "tokenizer", "name": "tokenizer", "tokenizer": {"kind": kind, "vocab_size": vocab_size}}
    source = {"kind": "files", "paths": [str(path) for path in text]} if text else {"kind": "stdlib"}
    run_recipe({"name": "tokenizer", "source": source, "stages": [stage]}, overrides or [], out=out)


@app.command()
def report(
    tokenizer: Annotated[Path, typer.Argument(help=TOKENIZER)],
    text: Annotated[
        list[Path] | None, typer.Option(help="Texts to measure on, one label a file. Repeatable.")
    ] = None,
    by: Annotated[
        str, typer.Option(help="Label jsonl records by this field (for example id or language).")
    ] = "",
    worst: Annotated[
        int, typer.Option(help="Show only this many labels, the worst first (0: all).", min=0)
    ] = 20,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Fertility and bytes per token by language and domain, unused tokens, Zipf fit, round-trip faults.

    Example: orrery tokenizer report runs/quickstart --text udhr.jsonl.gz --by id
    """
    from orrery.cli.pipeline.texts import labelled_texts, load_tokenizer
    from orrery.text.report import tokenizer_report

    result = tokenizer_report(load_tokenizer(tokenizer), labelled_texts(text, by))
    if json:
        print_json(result.to_dict())
        return
    from rich.console import Console

    Console().print(result.table(most=worst or len(result.rows)))


@app.command()
def encode(
    tokenizer: Annotated[Path, typer.Argument(help=TOKENIZER)],
    text: Annotated[str | None, typer.Argument(help="Text to cut (default: read standard input).")] = None,
    special: Annotated[
        str, typer.Option(help="'never': special-token text is plain text; 'allow': it is parsed.")
    ] = "never",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show the tokens of a text: pieces, ids, character offsets and counts.

    Example: orrery tokenizer encode runs/quickstart "for i in range(10):"
    """
    import sys

    from orrery.cli.pipeline.texts import load_tokenizer
    from orrery.kit.errors import OrreryError

    if special not in ("never", "allow"):
        raise OrreryError(f"--special must be 'never' or 'allow', not '{special}'")
    known = load_tokenizer(tokenizer)
    text = sys.stdin.read() if text is None else text
    ids = known.encode(text, special=special)  # type: ignore[arg-type]
    pieces = [known.token_bytes(i).decode("utf-8", "backslashreplace") for i in ids]
    size = len(text.encode())
    if json:
        print_json({"ids": ids, "pieces": pieces, "tokens": len(ids), "bytes": size, "characters": len(text)})
        return
    from rich.console import Console
    from rich.text import Text

    line = Text()
    for n, piece in enumerate(pieces):
        line.append(
            piece.replace("\n", "⏎\n").replace(" ", "·"), style=("black on cyan", "black on green")[n % 2]
        )
    console = Console()
    console.print(line)
    console.print(" ".join(map(str, ids)), style="dim", highlight=False)
    console.print(
        f"{len(ids)} tokens, {size} bytes, {size / max(len(ids), 1):.2f} bytes a token", highlight=False
    )


@app.command()
def decode(
    tokenizer: Annotated[Path, typer.Argument(help=TOKENIZER)],
    ids: Annotated[list[int], typer.Argument(help="Token ids.")],
) -> None:
    """Turn ids back into text."""
    from orrery.cli.pipeline.texts import load_tokenizer

    print(load_tokenizer(tokenizer).decode(ids))
