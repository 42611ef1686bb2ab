"""The name of a chat format in a recipe, checked when the recipe is read and not after an hour of the stages before."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator


def _known(name: str) -> str:
    if name not in ("auto", "none"):
        from orrery.tune.templates import check_name  # which knows models

        check_name(name)
    return name


FormatName = Annotated[str, AfterValidator(_known)]
"""auto, none, a name that `tune.templates` knows, or a file with a template."""
