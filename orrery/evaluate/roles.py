"""What is asked of a model here: the local model, the engine, a remote server and a script in a test all fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orrery.kit.lm import Completion, GenerateRequest, Score, ScoreRequest


class Generates(Protocol):
    """Whoever continues prompts."""

    def generate(self, requests: Sequence[GenerateRequest], /) -> list[Completion]:
        """Completions in the order of the requests."""
        ...


class Scores(Protocol):
    """Whoever tells how likely a text is."""

    def score(self, requests: Sequence[ScoreRequest], /) -> list[Score]:
        """Scores in the order of the requests."""
        ...
