"""What a model is asked when it makes data: problems that can be checked, and prompts of any set of examples, whose answers are not read."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.kit.seeds import key
from orrery.tune.dataset import SetConfig, Split, read_set
from orrery.tune.dialogue import Passage, Sample, fingerprint
from orrery.tune.rl.problems import Problem, ProblemSet, read_problems


@dataclass(frozen=True)
class Asked:
    """One prompt.

    Attributes:
        id: a hash of it. messages: the conversation up to where the model is to answer.
        problem: how an answer is checked; None where nobody knows.
    """

    id: str
    messages: tuple[Mapping[str, Any], ...]
    problem: Problem | None = None

    @property
    def text(self) -> str:
        """The last thing that was said to the model."""
        return str(self.messages[-1]["content"])


def read_asked(
    problems: Sequence[ProblemSet], prompts: Sequence[SetConfig], *, root: Path, heldout: int = 0, limit: int | None = None, seed: int = 0
) -> list[Asked]:  # fmt: skip
    """All prompts, in an order that hashes and the seed decide; at most `limit`.

    Args:
        heldout: problems that an `rl` or `sample` stage with this seed keeps apart: they are never asked here.

    Raises:
        OrreryError: files that cannot be read, or nothing to ask.
    """
    found: dict[str, Asked] = {}
    if problems:
        known = read_problems(problems, root=root, heldout=heldout, seed=seed)
        for problem in itertools.chain.from_iterable(known.sets):
            message = {"role": "user", "content": problem.prompt}
            found.setdefault(problem.id, Asked(problem.id, (message,), problem))
    for cfg in prompts:
        for sample in read_set(cfg, root=root, parts=Split(heldout=0.0, seed=seed)).train:
            asked = _prompt(sample)
            found.setdefault(asked.id, asked)
    if not found:
        raise OrreryError("there is nothing to ask; name problems, or sets of prompts")
    return sorted(found.values(), key=lambda asked: key(seed, "asked", asked.id))[:limit]


def _prompt(sample: Sample) -> Asked:
    """What is asked before the first answer."""
    if isinstance(sample, Passage):
        raise OrreryError(
            f"{sample.where}: a plain text asks nothing; prompts are read from sets of questions and answers"
        )
    return Asked(fingerprint(sample).hex()[:16], sample.messages[: sample.learned[0]])
