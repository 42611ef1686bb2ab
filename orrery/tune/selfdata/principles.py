"""A written constitution: principles, each with a way to criticise an answer, to mend it, and to choose between two."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orrery.kit.config import config, read_yaml, resolve
from orrery.kit.errors import OrreryError, suggest
from orrery.tune.selfdata.speaker import question

SHIPPED = Path(__file__).with_name("constitution.yaml")


@config
class Principle:
    """What is said to the model about one principle."""

    name: str
    critique: str
    revise: str
    prefer: str


@config
class Worked:
    """A worked example: an answer, what is wrong with it by a principle (its name), and a better one."""

    principle: str
    prompt: str
    draft: str
    critique: str
    revision: str

    def turns(self, principle: Principle) -> list[Mapping[str, Any]]:
        """It as a conversation."""
        return [
            *question(self.prompt), {"role": "assistant", "content": self.draft},
            *question(principle.critique), {"role": "assistant", "content": self.critique},
            *question(principle.revise), {"role": "assistant", "content": self.revision},
        ]  # fmt: skip


@config
class Constitution:
    """Principles, and worked examples for models that need to see how it goes."""

    principles: tuple[Principle, ...]
    examples: tuple[Worked, ...] = ()

    def __post_init__(self) -> None:
        names = [principle.name for principle in self.principles]
        if not names or len(set(names)) < len(names):
            raise OrreryError("a constitution needs principles, each with a name of its own")
        unknown = next((one.principle for one in self.examples if one.principle not in names), None)
        if unknown is not None:
            raise OrreryError(
                f"a worked example names the principle '{unknown}', which there is not.{suggest(unknown, names)}"
            )

    def shown(self, n: int) -> list[Mapping[str, Any]]:
        """The turns of the first n worked examples."""
        by = {principle.name: principle for principle in self.principles}
        return [turn for worked in self.examples[:n] for turn in worked.turns(by[worked.principle])]


def read_constitution(path: str | Path = "") -> Constitution:
    """The constitution of a file; without one, that which comes with orrery.

    Raises:
        OrreryError: no such file, or it is not in the form of `constitution.yaml`.
    """
    path = Path(path) if str(path) else SHIPPED
    return resolve(Constitution, read_yaml(path), where=str(path))
