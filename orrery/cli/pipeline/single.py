"""One stage on its own: a recipe with `kind: prepare` or `kind: train` (or `drafter`) is a run of that one stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orrery.cli.pipeline.recipe import Stage, find_recipe
from orrery.cli.pipeline.runner import run_recipe, stage_folder
from orrery.kit.config import override, read_yaml, resolve
from orrery.kit.errors import OrreryError

RUN_KEYS = ("out", "source", "split")


def single_stage(
    recipe: str | Path | dict[str, Any],
    overrides: list[str],
    *,
    kind: str | tuple[str, ...],
    out: Path | None = None,
) -> Path:
    """Run the one stage a recipe describes, which is of this kind or one of these; returns the run folder.

    Raises:
        OrreryError: the recipe is of another kind, or a setting is wrong.
    """
    data = recipe if isinstance(recipe, dict) else read_yaml(find_recipe(recipe))
    data = override(data, overrides)
    if "stages" in data:
        raise OrreryError(f"'{recipe}' is a list of stages; run it with: orrery run {recipe}")
    kinds = (kind,) if isinstance(kind, str) else kind
    if data.get("kind") not in kinds:
        known = " or ".join(f"'{name}'" for name in kinds)
        raise OrreryError(f"'{recipe}' is a recipe of kind '{data.get('kind')}', not {known}")
    resolve(
        Stage, {key: value for key, value in data.items() if key not in RUN_KEYS}
    )  # faults by the names that it has here
    whole: dict[str, Any] = {key: data.pop(key) for key in RUN_KEYS if key in data}
    name = data.setdefault("name", data["kind"])
    return run_recipe({"name": name, "stages": [data], **whole}, [], out=out)


def train_recipe(
    recipe: str | Path | dict[str, Any], overrides: list[str], *, out: Path | None = None
) -> Path:
    """`orrery.train`: run a train recipe and return the folder of the finished model."""
    return stage_folder(single_stage(recipe, overrides, kind="train", out=out), "model")
