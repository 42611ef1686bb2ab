"""`orrery lineage`: the chain of receipts behind a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orrery.cli.common import MODEL, print_json


def lineage(
    model: Annotated[Path, typer.Argument(help=MODEL)],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    step: Annotated[
        int | None, typer.Option(help="Also list the documents that this training step read.", min=0)
    ] = None,
) -> None:
    """Show what a model was made from: data, tokenizer, settings, versions, and whether all is still unchanged."""
    from orrery.cli.pipeline.lineage import documents_of_step, find_artifact, print_tree
    from orrery.kit.artifact import lineage as ancestors

    folder = find_artifact(model)
    tree = ancestors(folder)
    documents = documents_of_step(folder, step) if step is not None else None
    if json:
        print_json(
            {
                "lineage": [{k: v for k, v in vars(item).items()} for item in tree],
                **({"documents": documents} if documents is not None else {}),
            }
        )
        return
    print_tree(tree, documents, step)
