"""`orrery doctor`: what this machine can do, and what orrery will therefore use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orrery.cli.common import print_json

if TYPE_CHECKING:
    from orrery.cli.pipeline.machine import Finding


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    quick: Annotated[bool, typer.Option(help="Leave out the speed measurements.")] = False,
) -> None:
    """Look at the machine: processor, memory and caches, versions, extras, number formats; and say what will be used and why."""
    from orrery.cli.pipeline.hierarchy import hierarchy
    from orrery.cli.pipeline.machine import examine

    findings = [*examine(measure=not quick), *hierarchy(measure=not quick), *_sandbox()]
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


def _sandbox() -> list[Finding]:
    """Which ways to run generated code work here, each tried once."""
    from orrery.cli.pipeline.machine import Finding
    from orrery.kit.sandbox import Sandbox, SandboxUnavailable

    findings = []
    used = ""
    for kind in ("bubblewrap", "landlock"):
        try:
            sandbox = Sandbox.open(kind)
        except SandboxUnavailable as error:
            findings.append(
                Finding(what=f"sandbox: {kind}", found="not usable", consequence=str(error), state="note")
            )
            continue
        keeper = "a control group" if sandbox.grouped else "limits of each process and a watch on their sum"
        if used:
            so = f"not needed while {used} works"
        elif kind == "bubblewrap":
            so = "generated code runs in a system of its own"
        else:
            so = "generated code runs sealed, and can write no file; install bubblewrap for scratch space"
        used = used or kind
        findings.append(Finding(what=f"sandbox: {kind}", found=f"works, with {keeper}", consequence=so))
    if not used:
        findings.append(
            Finding(
                what="generated code",
                found="no sandbox",
                consequence="is not run: coding tasks and code rewards refuse to start",
                state="note",
            )
        )
    return findings
