"""The command line: one small file a verb, in the order of a model's life.

Nothing here imports torch at import time: `orrery --help` answers at once. Mistakes a person can mend are one
sentence; `ORRERY_TRACEBACK=1` shows where in the code they were found.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

import typer
from typer.exceptions import TyperException

import orrery
from orrery.cli import (
    arena,
    bench,
    chat,
    convert,
    doctor,
    eval,
    explain,
    generate,
    lineage,
    merge,
    plan,
    prepare,
    quickstart,
    run,
    score,
    serve,
    tokenizer,
    train,
    tune,
)
from orrery.kit.errors import OrreryError

app = typer.Typer(
    name="orrery",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    help="The whole life of a language model: raw text in, a talking model out. Start with **orrery quickstart**.",
)

SIZE, PREPARE, LEARN, INFER, EXPLAIN, WHOLE = (
    "Look before you run", "Prepare", "Learn", "Use", "Understand", "The whole life",
)  # fmt: skip


class Interrupted(Exception):
    """Ctrl-C inside a verb, after it has put its things in order."""


def _guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except KeyboardInterrupt as interrupt:
            raise Interrupted(str(interrupt)) from None

    return guarded


def _verb(name: str, function: Callable[..., Any], panel: str) -> None:
    app.command(name, rich_help_panel=panel)(_guarded(function))


def _verbs(name: str, group: typer.Typer, panel: str) -> None:
    for command in group.registered_commands:
        assert command.callback is not None
        command.callback = _guarded(command.callback)
    app.add_typer(group, name=name, rich_help_panel=panel)


_verb("quickstart", quickstart.quickstart, WHOLE)
_verb("run", run.run, WHOLE)
_verb("doctor", doctor.doctor, SIZE)
_verb("plan", plan.plan, SIZE)
_verbs("tokenizer", tokenizer.app, PREPARE)
_verb("prepare", prepare.prepare, PREPARE)
_verb("train", train.train, LEARN)
_verb("tune", tune.tune, LEARN)
_verb("merge", merge.merge, LEARN)
_verb("convert", convert.convert, INFER)
_verb("generate", generate.generate, INFER)
_verb("chat", chat.chat, INFER)
_verb("serve", serve.serve, INFER)
_verbs("bench", bench.app, INFER)
_verb("score", score.score, INFER)
_verbs("eval", eval.app, INFER)
_verb("arena", arena.arena, INFER)
_verb("explain", explain.explain, EXPLAIN)
_verb("lineage", lineage.lineage, EXPLAIN)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"orrery {orrery.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


def main() -> None:
    """The `orrery` command. Exit status: 0 done, 1 a mistake to mend, 2 wrong usage, 130 interrupted."""
    try:
        code = app(standalone_mode=False)
    except (Interrupted, KeyboardInterrupt) as interrupt:
        _say(str(interrupt) or "interrupted; run the same command to go on", title="stopped")
        code = 130
    except TyperException as error:
        error.show()  # type: ignore[missing-attribute]
        code = getattr(error, "exit_code", 2)
    except BrokenPipeError:
        code = 0
    except (OrreryError, OSError, MemoryError) as error:
        if os.environ.get("ORRERY_TRACEBACK"):
            raise
        _say(_sentence(error), title="error")
        code = 1
    except Exception as error:
        if os.environ.get("ORRERY_TRACEBACK"):
            raise
        _say(
            f"{type(error).__name__}: {error} (a fault in orrery, not in what you typed; "
            "ORRERY_TRACEBACK=1 shows where: please report it)",
            title="error",
        )
        code = 70
    sys.exit(code if isinstance(code, int) else 0)


def _sentence(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.strerror}: '{error.filename}'"
    return str(error) or type(error).__name__


def _say(text: str, *, title: str) -> None:
    style = {"error": "bold red", "stopped": "bold yellow"}[title]
    from orrery.kit.log import console

    console.print(f"[{style}]{title}:[/] ", end="")
    console.print(text, markup=False, highlight=False, soft_wrap=True)
