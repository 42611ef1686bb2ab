"""`orrery chat`: a conversation in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orrery.cli.common import MODEL, sampling_settings

if TYPE_CHECKING:
    from orrery.serve.lm import LM

HELP = """\
/system TEXT   what the model is told before the conversation (without TEXT: nothing)
/reset         begin anew
/save FILE     write the conversation as JSON
/help          this
Ctrl-C stops an answer; Ctrl-D or /quit leaves"""


def chat(
    model: Annotated[Path, typer.Argument(help=MODEL)],
    system: Annotated[str | None, typer.Option(help="A system message to begin with.")] = None,
    max_tokens: Annotated[int, typer.Option(help="At most this many tokens an answer.", min=1)] = 256,
    temperature: Annotated[
        float | None,
        typer.Option(help="0 is greedy (default: the advice of the model's makers, else 0.8).", min=0.0),
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Nucleus mass (default: advice, else 0.95).", min=0.0, max=1.0)
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same answers.")] = 0,
) -> None:
    """Talk with a model, turn by turn. /help lists what else can be typed; Ctrl-D leaves.

    The conversation is rendered by the model's own chat format, the same that a trainer or a server uses. When it grows
    longer than the model's context, its oldest turns are left out, and this says so.
    """
    import sys

    import orrery
    from orrery.kit.errors import OrreryError
    from orrery.kit.log import console

    lm = orrery.load(model)
    if lm.chat is None:
        raise lm._chat_fault or OrreryError(
            f"'{model}' has no chat format: it is a base model, which continues text and answers nobody; "
            f"use: orrery generate {model} --prompt '...'"
        )
    wanted = {"temperature": temperature, "top_p": top_p}
    settings: dict[str, Any] = {**sampling_settings(lm, wanted), "max_tokens": max_tokens, "seed": seed}
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    person = sys.stdin.isatty()
    console.print("[dim]a conversation; /help says what can be typed, Ctrl-D leaves[/]")
    while True:
        if person:
            console.print("[bold cyan]you>[/] ", end="")
        try:
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            console.print("\n[dim]Ctrl-D leaves[/]")
            continue
        text = line.strip()
        if not line or text == "/quit":
            return
        if text.startswith("/"):
            messages = _command(text, messages)
        elif text:
            if person:
                console.print("[bold green]model>[/] ", end="")
            messages = _turn(lm, [*messages, {"role": "user", "content": text}], settings)


def _turn(lm: LM, messages: list[dict[str, Any]], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Stream an answer; the conversation with it, or without the question where the model cannot be asked it."""
    from orrery.kit.errors import OrreryError
    from orrery.kit.log import console

    assert lm.chat is not None
    answer, kept = "", messages
    try:
        kept = _fitting(lm, messages, settings["max_tokens"])
        if left := len(messages) - len(kept):
            console.print(
                f"[dim]the conversation is longer than the context: {left} old messages are left out[/]"
            )
        for piece in lm.stream(kept, **settings):
            answer += piece
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        console.print("[dim] (stopped)[/]", end="")
    except OrreryError as error:
        console.print(f"[red]{error}[/]", markup=True, highlight=False)
        return messages[:-1]
    print(flush=True)
    return [*kept, lm.chat.parse(lm.tokenizer.encode(answer, special="allow"))]


def _fitting(lm: LM, messages: list[dict[str, Any]], max_tokens: int) -> list[dict[str, Any]]:
    """The system message and as many of the last turns as leave room for an answer (at most half the context)."""
    assert lm.chat is not None
    first = [message for message in messages[:1] if message["role"] == "system"]
    turns = messages[len(first) :]
    room = lm.context - min(max_tokens, lm.context // 2)
    while len(lm.chat.prompt([*first, *turns])) > room:
        later = [at for at, message in enumerate(turns) if at and message["role"] == "user"]
        if not later:
            break  # the question alone is too long: the model says so
        turns = turns[later[0] :]
    return [*first, *turns]


def _command(text: str, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The conversation after a line that begins with a slash."""
    import json

    from orrery.kit.errors import OrreryError, suggest
    from orrery.kit.files import atomic_write
    from orrery.kit.log import console

    word, _, rest = text.partition(" ")
    rest = rest.strip()
    first = [message for message in messages[:1] if message["role"] == "system"]
    match word:
        case "/reset":
            return first
        case "/system":
            return [*([{"role": "system", "content": rest}] if rest else []), *messages[len(first) :]]
        case "/save" if rest:
            try:
                atomic_write(rest, json.dumps(messages, ensure_ascii=False, indent=1) + "\n")
                console.print(f"[dim]{len(messages)} messages written to {rest}[/]")
            except OrreryError as error:
                console.print(f"[red]{error}[/]")
        case "/help":
            console.print(HELP, markup=False, highlight=False)
        case _:
            known = ("/system", "/reset", "/save FILE", "/help", "/quit")
            console.print(
                f"{word} is not known here.{suggest(word, known)} /help lists what is.", markup=False
            )
    return messages
