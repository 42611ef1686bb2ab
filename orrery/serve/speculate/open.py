"""From a path to a trained drafter: its folder, or a run that made one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from orrery.kit.artifact import RECEIPT
from orrery.kit.errors import OrreryError
from orrery.model.drafter_folder import load_drafter
from orrery.model.drafters import DraftNet
from orrery.serve.find import RUN, run_stages

if TYPE_CHECKING:
    from orrery.serve.lm import LM

N = TypeVar("N", bound=DraftNet)


def find_drafter(path: str | Path) -> Path:
    """The drafter's folder: `path` itself, or the newest finished one of a run.

    Raises:
        OrreryError: there is none.
    """
    path = Path(path)
    if not (path / RUN).is_file():
        return path
    made = [folder for kind, folder in run_stages(path) if kind == "drafter" and (folder / RECEIPT).is_file()]
    if not made:
        raise OrreryError(f"the run '{path}' has no finished drafter; run it to the end first")
    return made[-1]


def open_drafter(path: str | Path, lm: LM, kind: type[N]) -> N:
    """The drafter at `path`, for `lm`.

    Raises:
        OrreryError: there is none, it is damaged, of another kind, or was trained for another model.
    """
    folder = find_drafter(path)
    net = load_drafter(folder, lm.model, tokenizer=lm.tokenizer.fingerprint)
    if not isinstance(net, kind):
        raise OrreryError(
            f"the drafter in '{folder}' is of kind '{net.cfg.kind}'; name that kind in the engine's speculation"
        )
    return net
