"""From what a person names to where a model is: a folder, or a GGUF file.

runs/quickstart, runs/quickstart/train-1f3a   a run (its newest finished model), a model folder, a file inside one
model.gguf                                    a GGUF file
gemma-3-270m                                  a demo model (serve.demo)
Qwen/Qwen3-0.6B                               a hub id, in the local Hugging Face cache: nothing is downloaded
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

from orrery.kit.artifact import RECEIPT, read_receipt
from orrery.kit.errors import OrreryError, suggest
from orrery.kit.model_folder import ADAPTER, OWN_ADAPTER
from orrery.kit.untrusted import refuse_foreign
from orrery.serve.demo import GEMMA, demo_model

CONFIG, RUN = "config.json", "run.json"
EDGE = 1 << 20


def find_model(path: str | Path) -> Path:
    """The model folder meant by `path` (itself, the folder a file lies in, a run's newest finished model), or a GGUF file.

    Raises:
        OrreryError: nothing there, or no model in it; says what there is instead.
    """
    path = Path(path)
    if not path.exists():
        known = demo_model(str(path)) or _in_hub_cache(str(path))
        if known is not None:
            return known
        beside = path.parent.iterdir() if path.parent.is_dir() else ()
        near = [str(path.parent / item.name) for item in beside if _may_hold_model(item)]
        raise OrreryError(
            f"there is no model at '{path}'; give a model folder, a run folder, a .gguf file or {GEMMA}."
            f"{suggest(str(path), [*near, GEMMA])}"
        )
    if path.is_file():
        refuse_foreign(path)
        if path.suffix == ".gguf":
            return path
    folder = path.parent if path.is_file() else path
    if (folder / CONFIG).is_file() or is_adapter(folder):
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


def is_adapter(found: Path) -> bool:
    """Whether what `find_model` found is the folder of an adapter, which needs a model beside it."""
    files = (found / ADAPTER, found / OWN_ADAPTER)
    return any(file.is_file() for file in files) and not (found / CONFIG).is_file()


def base_of(adapter: Path) -> Path:
    """The model that an adapter was trained beside, as its receipt names it.

    Raises:
        OrreryError: there is no receipt, or the model is not there or is another now.
    """
    if not (adapter / RECEIPT).is_file():
        raise OrreryError(
            f"'{adapter}' holds an adapter without a receipt that names its model; serve it beside that: --adapter NAME={adapter}"
        )
    receipt = read_receipt(adapter)
    parent = next((parent for parent in receipt.parents if parent.role == "model"), None)
    known = receipt.data.get("base") or {}
    named = str(adapter / parent.path) if parent else str(known.get("path"))
    base = find_model(os.path.normpath(named) if parent else named)
    if identity_of(base) != (parent.id if parent else known.get("id")):
        raise OrreryError(
            f"the model '{base}' is not the one that the adapter '{adapter}' was trained beside; name that one and --adapter NAME={adapter}"
        )
    return base


def identity_of(found: Path) -> str:
    """What tells a model from any other: the id in its receipt; of somebody else's, a hash of its files' sizes, beginnings and ends."""
    if (found / RECEIPT).is_file():
        return read_receipt(found).id
    files = [found] if found.is_file() else sorted(item for item in found.iterdir() if item.is_file())
    total = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        total.update(f"{file.name if found.is_dir() else ''}\0{size}\0".encode())
        with file.open("rb") as handle:
            total.update(handle.read(EDGE))
            handle.seek(max(0, size - EDGE))
            total.update(handle.read(EDGE))
    return total.hexdigest()


def _in_hub_cache(name: str) -> Path | None:
    """The snapshot of a hub id in the local Hugging Face cache, or None where `name` cannot be a hub id.

    Raises:
        OrreryError: it can be one, and is not in the cache.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name) or Path(name).parent.exists():
        return None
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub") / f"models--{name.replace('/', '--')}"
    try:
        revision = (hub / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        revision = ""
    folder = hub / "snapshots" / revision
    if not re.fullmatch(r"[0-9a-f]{6,64}", revision) or not (folder / CONFIG).is_file():
        raise OrreryError(
            f"there is no model at '{name}', and no model of that name in the local Hugging Face cache ('{hub.parent}'); "
            f"orrery downloads nothing: get it with `hf download {name}`"
        )
    return folder


def run_stages(run: Path) -> list[tuple[str, Path]]:
    """(kind, folder) of the stages of a run, in the order in which they ran.

    Raises:
        OrreryError: the run's own list is missing or damaged, or names a folder outside the run.
    """
    try:
        stages = json.loads((run / RUN).read_text(encoding="utf-8"))["stages"]
        found = [(str(stage["kind"]), run / stage["folder"]) for stage in stages]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise OrreryError(
            f"'{run / RUN}' is missing or damaged; run the recipe again, finished stages are kept"
        ) from None
    for _, folder in found:
        if not folder.is_relative_to(run) or ".." in folder.relative_to(run).parts:
            raise OrreryError(
                f"'{run / RUN}' names '{folder}', which lies outside the run; run the recipe again"
            )
    return found


def _newest_of_run(run: Path) -> Path:
    models = [folder for kind, folder in run_stages(run) if kind in ("model", "adapter")]
    finished = [folder for folder in models if (folder / RECEIPT).is_file()]
    if not finished:
        raise OrreryError(
            f"the run '{run}' has no finished model yet; run the same command again, it goes on where it was"
        )
    return finished[-1]


def _may_hold_model(item: Path) -> bool:
    """Whether it is worth naming to somebody who looks for a model."""
    if item.is_file():
        return item.suffix == ".gguf"
    return (
        (item / CONFIG).is_file() or (item / RUN).is_file() or is_adapter(item) or bool(_models_inside(item))
    )


def _models_inside(folder: Path) -> list[Path]:
    """Finished models directly below, oldest first. Hidden folders are writes that have not ended."""
    return sorted(
        (item for item in folder.glob("[!.]*") if (item / CONFIG).is_file() and (item / RECEIPT).is_file()),
        key=lambda item: (item / RECEIPT).stat().st_mtime,
    )
