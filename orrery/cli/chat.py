"""`orrery chat`: a conversation in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orrery.cli.common import MODEL


def chat(
    model: Annotated[Path, typer.Argument(help=MODEL)],
    system: Annotated[str | None, typer.Option(help="A system message to begin with.")] = None,
    max_tokens: Annotated[int, typer.Option(help="At most this many tokens an answer.", min=1)] = 256,
    temperature: Annotated[float, typer.Option(help="0 is greedy.", min=0.0)] = 0.8,
    top_p: Annotated[float, typer.Option(help="Nucleus mass.", min=0.0, max=1.0)] = 0.95,
    seed: Annotated[int, typer.Option(help="The same seed gives the same answers.")] = 0,
) -> None:
    """Talk with a model, turn by turn. An empty line or /quit ends it; /reset begins anew.

    The conversation is rendered by the model's own chat format, the same that a trainer or a server uses. A model
    that was only pre-trained has never seen a conversation: expect it to continue text rather than to answer.
    """
    import sys

    import orrery
    from orrery.kit.log import console

    lm = orrery.load(model)
    first: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
    messages = list(first)
    person = sys.stdin.isatty()
    console.print("[dim]a conversation; /reset begins anew, an empty line or /quit ends it[/]")
    while True:
        if person:
            console.print("[bold cyan]you>[/] ", end="")
        line = sys.stdin.readline()
        text = line.strip()
        if text == "/reset":
            messages = list(first)
            continue
        if not text or text == "/quit":
            return
        messages.append({"role": "user", "content": text})
        if person:
            console.print("[bold green]model>[/] ", end="")
        answer = ""
        for piece in lm.stream(
            messages, max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed
        ):
            answer += piece
            print(piece, end="", flush=True)
        print()
        messages.append({"role": "assistant", "content": answer})
