"""`orrery doctor`: what this machine can do, and what orrery will therefore use."""

from __future__ import annotations

from typing import Annotated

import typer

from orrery.cli.common import print_json


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    quick: Annotated[bool, typer.Option(help="Leave out the speed measurements.")] = False,
) -> None:
    """Look at the machine: processor, memory and caches, versions, extras, number formats; and say what will be used and why."""
    from orrery.cli.pipeline.hierarchy import hierarchy
    from orrery.cli.pipeline.machine import examine

    findings = [*examine(measure=not quick), *hierarchy(measure=not quick)]
    if json:
        print_json([vars(finding) for finding in findings])
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table(show_header=True)
        for column in ("what", "found", "so"):
            table.add_column(column)
        marks = {"good": "green", "note": "yellow", "bad": "red"}
        for finding in findings:
            table.add_row(finding.what, f"[{marks[finding.state]}]{finding.found}[/]", finding.consequence)
        Console().print(table)
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)
