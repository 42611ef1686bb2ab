"""AR-16 to AR-20: checkpoints of a run that are damaged, incomplete, of another version, or not alone in their folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from orrery.kit.config import digest
from tests.hostile.case import Case, Opens
from tests.hostile.seeds import checkpoint_folder

STEP = "step-00000005"


def two(change: Callable[[Path], Any]) -> Callable[[Path], Iterator[Opens]]:
    """Checkpoints after steps 3 and 5; the newer one (or the folder around it) is changed."""

    def build(folder: Path) -> Iterator[Opens]:
        checkpoint_folder(folder / "run", 3)
        checkpoint_folder(folder / "run", 5)
        change(folder / "run")
        yield "checkpoint", folder / "run"

    return build


def flipped(run: Path) -> None:
    path = run / STEP / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def manifest(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Iterator[Opens]]:
    """The newer checkpoint's manifest changed, and its own digest made to agree."""

    def altered(run: Path) -> None:
        path = run / STEP / "manifest.json"
        content = json.loads(path.read_text())
        change(content)
        content["sha256"] = digest({"format": content["format"], "files": content["files"]})
        path.write_text(json.dumps(content))

    return two(altered)


def pointer(run: Path) -> None:
    (run / "latest").symlink_to("/nowhere/step-00000009")
    (run / "latest.txt").write_text("../../outside")
    (run / "step-00000099").symlink_to("/nowhere")


def other_model(folder: Path) -> Iterator[Opens]:
    yield "other_model", checkpoint_folder(folder / "run")


CASES = [
    Case(id="AR-16", build=two(flipped), accepted=r"^3\|.*step-00000005/model.safetensors' is not what was written"),
    Case(id="AR-17", build=two(lambda run: (run / STEP / "manifest.json").unlink()), accepted=r"^3\|.*manifest.json"),
    Case(id="AR-18", build=two(pointer), accepted=r"^5\|"),
    Case(id="AR-19", build=manifest(lambda content: content["files"].pop("optimizer.safetensors")), accepted=r"^3\|.*should hold"),
    Case(id="AR-19 extra", build=two(lambda run: (run / STEP / "extra.safetensors").write_bytes(b"")), accepted=r"^3\|.*should hold"),
    Case(id="AR-19 names", build=manifest(lambda content: content["files"].update({"../../x.safetensors": {"bytes": 1, "sha256": ""}})), accepted=r"^3\|"),
    Case(id="AR-20", build=manifest(lambda content: content.update(format=2)), refused="written by another version"),
    Case(id="AR-20 shape", build=other_model, refused="another model"),
]  # fmt: skip
