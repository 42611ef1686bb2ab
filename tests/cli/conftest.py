"""A small run, made once, that the command-line tests look at."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Orrery = Callable[..., subprocess.CompletedProcess[str]]

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "saw",
    "the",
    "dog",
    "that",
    "ran",
    "to",
    "see",
    "the",
    "old",
    "red",
    "hen",
    "in",
    "her",
    "small",
    "green",
    "garden",
]


def small_text(folder: Path, files: int = 24) -> Path:
    """Files of simple, learnable, distinct text."""
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(files):
        words = [WORDS[(n * 7 + i * (1 + n % 3)) % len(WORDS)] for i in range(400)]
        lines = [" ".join(words[i : i + 10]) for i in range(0, 400, 10)]
        (folder / f"{n:02d}.txt").write_text(f"Story number {n}.\n" + "\n".join(lines) + "\n")
    return folder


def small_recipe(text: Path, out: Path, **loop: Any) -> dict[str, Any]:
    """All stages of the quickstart, in seconds."""
    return {
        "name": "small",
        "out": str(out),
        "source": {"kind": "files", "paths": [str(text)]},
        "split": {"heldout": 0.1},
        "stages": [
            {"kind": "tokenizer", "tokenizer": {"kind": "bpe", "vocab_size": 384}},
            {"kind": "prepare", "name": "data"},
            {
                "kind": "train",
                "model": {
                    "d_model": 32, "n_layers": 2, "n_heads": 2, "feed_forward": {"kind": "mlp", "d_ff": 64}, "max_positions": 64,
                },
                "loader": {"context": 64, "rows": 4},
                "loop": {"steps": 12, "checkpoint": {"every_steps": 4, "every_seconds": None}, **loop},
            },
            {"kind": "evaluate", "orders": [1, 2]},
            {"kind": "generate", "prompts": ["the cat"], "max_tokens": 8},
        ],
    }  # fmt: skip


@pytest.fixture(scope="session")
def orrery() -> Orrery:
    """Run the command in a process of its own, as a person does."""

    def run(*arguments: str | Path, **kwargs: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from orrery.cli import main; main()", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, **kwargs)

    return run


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run folder."""
    import orrery

    base = tmp_path_factory.mktemp("small")
    return orrery.run(small_recipe(small_text(base / "text"), base / "run"))
