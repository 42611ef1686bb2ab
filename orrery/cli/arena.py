"""`orrery arena`: people compare the answers of models, blind, in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orrery.cli.answers import ANSWERER
from orrery.cli.common import print_json


def arena(
    models: Annotated[list[str], typer.Argument(help=f"Two or more of: {ANSWERER}")],
    questions: Annotated[
        Path, typer.Option(help="JSON lines with turns (or prompt), as MT-Bench's question.jsonl.")
    ],
    votes: Annotated[
        Path, typer.Option(help="Where votes are kept; run the same command again to go on.")
    ] = Path("votes.jsonl"),
    limit: Annotated[int | None, typer.Option(help="Only so many questions.", min=1)] = None,
    rubric: Annotated[
        str | None,
        typer.Option(help="Rate each answer too: 'helpful', or a YAML file with criteria, low and high."),
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="At most this many tokens a turn.", min=1)] = 512,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 is every one (then set a key).")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to listen at; 0 takes a free one.", min=0, max=65535)
    ] = 8080,
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            envvar="ORRERY_API_KEY",
            help="Password that browsers ask for (any name goes with it). Repeatable.",
        ),
    ] = None,
    results: Annotated[
        bool, typer.Option("--results", help="Print what the votes say so far, as JSON, and end.")
    ] = False,
) -> None:
    """Have people say which of two answers is better: a page with random sides, names shown at the end only.

    The answers are made first and kept beside the votes. Votes are on the disk as soon as they are given.

    Example: orrery arena runs/base runs/sft --questions question.jsonl
    """
    from orrery.evaluate.arena.ballot import Arena
    from orrery.evaluate.arena.votes import read_votes
    from orrery.evaluate.judge.questions import read_questions

    if results:
        from orrery.evaluate.arena.tally import tally
        from orrery.evaluate.judge.summary import plain

        print_json(plain(tally(read_votes(votes))))
        return
    given = read_questions(questions)[:limit]
    made = Arena(given, _kept(models, given, votes, max_tokens), votes, rubric=_rubric(rubric))
    try:
        _serve(made, host, port, tuple(key for key in api_key or () if key), votes)
    finally:
        made.close()


def _kept(models, questions, votes: Path, max_tokens: int):
    """The answers, made once: a second start shows the very texts that people have voted on."""
    from orrery.cli.answers import answers_of
    from orrery.evaluate.judge.questions import read_answers, write_answers
    from orrery.kit.errors import OrreryError

    paths = [votes.with_name(f"{votes.stem}-answers-{i}.jsonl") for i in range(1, len(models) + 1)]
    if all(path.is_file() for path in paths) and votes.is_file():
        return [read_answers(path) for path in paths]
    if votes.is_file() and votes.stat().st_size:
        raise OrreryError(
            f"'{votes}' has votes, but the answers they are about are not beside it; give --votes another file"
        )
    made = answers_of(models, questions, max_tokens=max_tokens)
    for path, answers in zip(paths, made, strict=True):
        write_answers(path, answers)
    return made


def _rubric(given: str | None):
    if given is None:
        return None
    from orrery.evaluate.judge.grading import HELPFUL, Rubric
    from orrery.kit.config import load

    return HELPFUL if given == "helpful" else load(Rubric, given)


def _serve(made, host: str, port: int, keys: tuple[str, ...], votes: Path) -> None:
    """Listen until a signal ends it."""
    import logging
    import threading
    import time

    from orrery.kit.errors import MissingExtra, OrreryError
    from orrery.kit.log import console

    try:
        from orrery.evaluate.arena.app import make_arena_app
        from orrery.serve.http.lifecycle import Server, reserve
        from orrery.serve.http.settings import LOOPBACK, ServerSettings
    except ModuleNotFoundError as error:
        raise MissingExtra(str(error.name), "serve") from None
    if not keys and host not in LOOPBACK:
        raise OrreryError(
            f"others could vote at {host}; give a password with --api-key or ORRERY_API_KEY, or listen at 127.0.0.1"
        )
    settings = ServerSettings(host=host, port=port, api_keys=keys, drain_s=2.0)
    with reserve(host, port) as address:
        server = Server(make_arena_app(made, settings=settings), settings)
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)

        def tell() -> None:
            while not (server.started or server.should_exit):
                time.sleep(0.02)
            if server.started:
                console.print(
                    f"people vote at {server.url}/    votes: {votes}\nCtrl-C ends; the same command goes on, "
                    "with --results it tells what the votes say",
                    highlight=False,
                    soft_wrap=True,
                )

        threading.Thread(target=tell, daemon=True).start()
        server.run(sockets=[address])
