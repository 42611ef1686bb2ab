"""What a scorer is: one function from an answer and its row to named numbers, or a reason why there is none.

A scorer is called once for a row. `answer` is the first sample; `context.answers` holds every sample (pass@k and majority
votes read them). The rule about what counts as a zero:

- An answer that was read and is wrong is 0.
- An output from which no answer can be read (no number, no letter, no call where one was asked for), or that cannot be judged
  here (no sandbox, a picture the model cannot see), is `Unscored` with the reason. It is counted apart and never as a 0.
- Where every text is an answer (exact text, word overlap, instructions, code that runs), an empty text is simply wrong.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Unscored:
    """This output could not be scored; `reason` is a short phrase that can be counted."""

    reason: str


class Weighted(float):
    """A row's number that counts `weight` times in the mean over rows: followed share of instructions, weighted by their count."""

    weight: float

    def __new__(cls, value: float, weight: float) -> Weighted:
        made = super().__new__(cls, value)
        made.weight = weight
        return made


@functools.cache
def open_sandbox() -> Any:
    """The sandbox shared by all scorers of this process. Raises SandboxUnavailable where the machine has none."""
    from orrery.kit.sandbox import Sandbox

    return Sandbox.open()


@dataclass(frozen=True)
class ScoreContext:
    """What a scorer may need beside the row: the rendered gold answer, all samples, and the sandbox (opened on first use).

    `saw_images` says that the pictures of the row were shown to the model.
    """

    target: str = ""
    answers: tuple[str, ...] = ()
    opener: Callable[[], Any] = open_sandbox
    saw_images: bool = False

    @property
    def sandbox(self) -> Any:
        """The sandbox for code a model wrote."""
        return self.opener()


class Scorer(Protocol):
    """`score(answer, row, context)` gives the metrics of one row, each usually 0 or 1, or Unscored."""

    def __call__(
        self, answer: str, row: Mapping[str, Any], context: ScoreContext, /
    ) -> Mapping[str, float] | Unscored: ...
