"""`orrery eval long`: how much of a long prompt a model uses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orrery.cli.common import MODEL, live, print_json


def long(
    model: Annotated[Path, typer.Argument(help=MODEL)],
    lengths: Annotated[str, typer.Option(help="Prompt lengths in tokens, with commas.")] = "512,1024,2048",
    tasks: Annotated[
        str, typer.Option(help="Tasks with commas, or 'ruler' or 'all'; see the list below.")
    ] = "needle",
    items: Annotated[int, typer.Option(help="Items a task (of needle: at every depth).", min=1)] = 5,
    depths: Annotated[int, typer.Option(help="Depths of the needle, evenly from start to end.", min=1)] = 5,
    middle: Annotated[
        int,
        typer.Option(
            help="Also move the answer among so many pairs and documents (lost in the middle).", min=0
        ),
    ] = 0,
    text: Annotated[
        list[Path] | None, typer.Option(help="Texts to make the haystack of (made-up sentences if none).")
    ] = None,
    threshold: Annotated[
        float, typer.Option(help="The score at which a length passes.", min=0, max=1)
    ] = 0.856,
    seed: Annotated[int, typer.Option(help="Decides the items.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for report.md, figures, numbers and answers.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Measure long context: needles in a haystack, RULER-like tasks, effective context length, lost in the middle.

    Tasks: needle, multi-key, multi-value, multi-query, nolima, nolima-2, tracing, common-words, frequent-words, qa.

    Example: orrery eval long gemma-3-270m --lengths 512,1024 --tasks needle,tracing --out runs/long
    """
    import orrery
    from orrery.data.source import FilesSource, read_documents
    from orrery.evaluate.long_context.documents import made_up_lives, multi_document
    from orrery.evaluate.long_context.filler import Filler
    from orrery.evaluate.long_context.fit import Frame
    from orrery.evaluate.long_context.key_values import key_values
    from orrery.evaluate.long_context.middle import spread, sweep
    from orrery.evaluate.long_context.report import LongReport, markdown, write
    from orrery.evaluate.long_context.run import run_lengths
    from orrery.evaluate.long_context.tasks import RULER, TASKS
    from orrery.evaluate.long_context.tasks import items as items_of
    from orrery.serve.engine.engine import Engine

    wanted = {"ruler": RULER, "all": TASKS}.get(tasks, tuple(_listed(tasks)))
    sizes = [_whole(part) for part in _listed(lengths)]
    hay = Filler.made_up(seed=seed)
    if text:
        source = FilesSource(paths=tuple(str(path) for path in text))
        hay = Filler.of(document.text for document in read_documents(source))
    made = [item for task in wanted for item in items_of(task, n=items, seed=seed, depths=depths, filler=hay)]
    lm = orrery.load(model)
    engine, frame = Engine(lm), Frame.of(lm)
    settings = {
        "model": str(model),
        "chat": lm.chat is not None,
        "items": items,
        "seed": seed,
        "text": text or [],
    }
    found, sweeps = {}, {}
    with live("long context") as progress:
        records = run_lengths(engine, made, sizes, frame=frame, context=lm.context, progress=progress)
        if middle:
            lives = made_up_lives(8 * middle, seed=seed)
            makers = {
                "key-values": lambda index, position: key_values(seed=seed, index=index, position=position),
                "documents": lambda index, position: multi_document(
                    lives, seed=seed, index=index, position=position
                ),
            }
            for name, make in makers.items():
                found[name], sweeps[name] = sweep(
                    engine, make, n=items, size=middle, positions=spread(middle, min(5, middle)), frame=frame,
                    context=lm.context, progress=progress,
                )  # fmt: skip
    report = LongReport(records=records, threshold=threshold, curves=found, sweeps=sweeps, settings=settings)
    if out is not None:
        write(report, out)
    if json:
        print_json(report.to_dict())
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    console.print(Markdown(markdown(report)))
    if out is not None:
        console.print(
            f"wrote {out}/report.md, its figures, long.json and samples.jsonl",
            highlight=False,
            soft_wrap=True,
        )


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _whole(text: str) -> int:
    from orrery.kit.errors import OrreryError

    if not text.isdecimal():
        raise OrreryError(f"'{text}' is no prompt length; write whole numbers with commas, as 512,1024")
    return int(text)
