"""Orrery: the whole life of a language model in one readable PyTorch package.

    lm = orrery.load("runs/quickstart")            # open a trained model
    lm.generate("def main(", max_tokens=64).text   # talk to it
    orrery.run("recipes/quickstart.yaml")          # raw text in, a model and a report out

Importing `orrery` costs nothing: torch is imported by the first call that needs it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orrery.serve.lm import LM

__version__ = "0.1.0"
__all__ = ["load", "run", "train"]


def load(path: str | Path) -> LM:
    """Open a model (a folder, a run, a .gguf file, `gemma-3-270m`) and return it with its tokenizer and chat format.

    Raises:
        OrreryError: the path does not exist, or what lies there is not a model.
    """
    # Torch's threads spin between its operations and would hold up those that multiply quantised weights. The C library
    # reads this once, when torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    from orrery.serve.lm import LM

    return LM.load(path)


def train(recipe: str | Path | dict[str, Any], overrides: list[str] | None = None, **kwargs: Any) -> Path:
    """Run one `train` recipe (a YAML path or the same as a dict); returns the folder of the trained model."""
    from orrery.cli.pipeline.single import train_recipe

    return train_recipe(recipe, overrides or [], **kwargs)


def run(recipe: str | Path | dict[str, Any], overrides: list[str] | None = None, **kwargs: Any) -> Path:
    """Run a list of stages (a YAML path or the same as a dict); returns the run folder.

    Finished stages whose settings and inputs did not change are not run again.
    """
    from orrery.cli.pipeline.runner import run_recipe

    return run_recipe(recipe, overrides or [], **kwargs)
