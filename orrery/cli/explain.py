"""`orrery explain TERM`: what a term of the field means, its formula, and the lines of code that make it run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def explain(
    term: Annotated[
        list[str] | None, typer.Argument(help="A term, an alias or something near it.", show_default=False)
    ] = None,
    run: Annotated[
        bool, typer.Option("--run", help="Run the term's exhibits and show what they measure.")
    ] = False,
    save: Annotated[
        Path | None,
        typer.Option(
            help="With --run: also write the exhibit to this .svg or .html file.", show_default=False
        ),
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="List the terms (of --area, or all).")] = False,
    area: Annotated[str, typer.Option(help="Only this area.", show_default=False)] = "",
    coverage: Annotated[
        bool, typer.Option("--coverage", help="How many terms of each area have an entry.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Explain a term: definition, formula, code, related terms, and (--run) an exhibit measured on the spot."""
    from orrery.cli.common import print_json
    from orrery.kit.errors import OrreryError

    if coverage:
        from orrery.glossary.coverage import coverage as count

        rows = [row for row in count() if area in ("", row.area)]
        if not rows:
            from orrery.glossary.explain import listing as listed

            listed(area)
        print_json(rows) if json else _show("coverage", rows)
    elif listing or (area and not term):
        from orrery.glossary.explain import listing as listed

        found = listed(area)
        print_json(found) if json else _show("terms", found)
    elif not term:
        raise OrreryError(
            "say which term to explain, for example: orrery explain attention; --list shows them all"
        )
    else:
        _explain(" ".join(term), run=run, save=save, json=json)


def _explain(words: str, *, run: bool, save: Path | None, json: bool) -> None:
    from orrery.cli.common import print_json
    from orrery.glossary import exhibits
    from orrery.glossary.explain import explain as look_up
    from orrery.kit.config import to_dict
    from orrery.kit.errors import OrreryError

    said = look_up(words)
    if (run or save) and not said.exhibits:
        raise OrreryError(f"'{said.slug}' has no exhibit to run; orrery explain {said.slug} shows its entry")
    results = {shown.name: exhibits.run(shown.name) for shown in said.exhibits} if run or save else {}
    if json:
        print_json(
            to_dict(said)
            | ({"results": {name: result.to_json() for name, result in results.items()}} if results else {})
        )
    else:
        _show("explanation", said)
        for result in results.values():
            _show("exhibit", result)
    if save is not None:
        from orrery.glossary.svg import save as write
        from orrery.kit.log import console

        for i, result in enumerate(results.values(), start=1):
            for path in write(result, save if i == 1 else save.with_stem(f"{save.stem}-exhibit-{i}")):
                console.print(f"wrote {path}", highlight=False)


def _show(what: str, value: object) -> None:
    from rich.console import Console

    from orrery.glossary import render

    Console().print("", getattr(render, what)(value), "", sep="\n", highlight=False)
