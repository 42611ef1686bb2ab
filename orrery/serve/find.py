"""From what a person names (a model, a run, a file inside one) to the folder of a model."""

from __future__ import annotations

import json
from pathlib import Path

from orrery.kit.artifact import RECEIPT
from orrery.kit.errors import OrreryError, suggest

CONFIG, RUN = "config.json", "run.json"


def find_model(path: str | Path) -> Path:
    """The model folder meant by `path`: itself, the folder a file lies in, or a run's newest finished model.

    Raises:
        OrreryError: nothing there, or no model in it; says what there is instead.
    """
    path = Path(path)
    if not path.exists():
        near = (
            [str(path.parent / item.name) for item in path.parent.iterdir()] if path.parent.is_dir() else []
        )
        raise OrreryError(
            f"there is no model at '{path}'; give a model folder or a run folder.{suggest(str(path), near)}"
        )
    folder = path.parent if path.is_file() else path
    if (folder / CONFIG).is_file():
        return folder
    if (folder / RUN).is_file():
        return _newest_of_run(folder)
    inside = _models_inside(folder)
    if inside:
        return inside[-1]
    if path.is_file():
        raise OrreryError(
            f"'{path}' does not lie in a model folder (there is no {CONFIG} beside it); give a model folder"
        )
    if (folder / "tokenizer.json").is_file():
        raise OrreryError(f"'{folder}' holds a tokenizer but no model; give a model folder or a run folder")
    raise OrreryError(
        f"'{folder}' holds no finished model; train one there, for example with: orrery quickstart"
    )


def _newest_of_run(run: Path) -> Path:
    try:
        stages = json.loads((run / RUN).read_text(encoding="utf-8"))["stages"]
        models = [run / stage["folder"] for stage in stages if stage["kind"] == "model"]
    except (OSError, ValueError, KeyError, TypeError):
        raise OrreryError(
            f"'{run / RUN}' is damaged; run the recipe again, finished stages are kept"
        ) from None
    finished = [folder for folder in models if (folder / RECEIPT).is_file()]
    if not finished:
        raise OrreryError(
            f"the run '{run}' has no finished model yet; run the same command again, it goes on where it was"
        )
    return finished[-1]


def _models_inside(folder: Path) -> list[Path]:
    """Finished models directly below, oldest first. Hidden folders are writes that have not ended."""
    return sorted(
        (item for item in folder.glob("[!.]*") if (item / CONFIG).is_file() and (item / RECEIPT).is_file()),
        key=lambda item: (item / RECEIPT).stat().st_mtime,
    )
