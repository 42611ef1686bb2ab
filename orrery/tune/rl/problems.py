"""Problems with answers that can be checked: rows of a generator or of files, asked by a template and judged by a scorer.

    problems = read_problems(ProblemSet(generator=Generated(name="python_expression", n=2000)), ...)

A problem whose own right answer does not pass its scorer is left out and counted: nothing could be learned from it, and much
unlearned.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from orrery.evaluate import generators
from orrery.evaluate.scorers import ScoreContext, Unscored, find
from orrery.evaluate.template import check_template, render
from orrery.kit.config import config, digest
from orrery.kit.errors import OrreryError
from orrery.kit.json_lines import read_rows
from orrery.kit.seeds import key
from orrery.tune.dataset import Generated


@config
class ProblemSet:
    """One set of problems.

    Attributes:
        generator: rows of `evaluate.generators`, from the side that its tests are not on; or
        paths: JSON-lines files below the stage's `data_root`, patterns allowed.
        name: in reports.
        prompt, target: templates over the row's fields: what is asked, and the right answer.
        score: the scorer that judges (`evaluate.scorers`): verbatim, numeric, math, mbpp, ...; "" for open questions, which no checker
            judges, and a reward model may.
        limit: at most so many problems, chosen by hash.
    """

    generator: Generated | None = None
    paths: tuple[str, ...] = ()
    name: str = ""
    prompt: str = "{{ question }}"
    target: str = "{{ answer }}"
    score: str = "verbatim"
    limit: Annotated[int, Field(ge=1)] | None = None

    def __post_init__(self) -> None:
        if bool(self.paths) == (self.generator is not None):
            raise OrreryError("a set of problems needs either 'paths' or a 'generator', and not both")
        check_template(self.prompt)
        if self.score:
            check_template(self.target)
            find(self.score)

    @property
    def called(self) -> str:
        """Its name in reports."""
        if self.generator is not None:
            return self.name or f"{self.generator.name} {self.generator.difficulty}"
        return self.name or Path(self.paths[0]).name.split(".")[0]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One question.

    Attributes:
        prompt, target: as the set's templates write them. score: the scorer's name.
        part: the number of its set. id: a hash of the row, by which its pass rate is kept.
    """

    row: Mapping[str, Any] = field(hash=False)
    prompt: str
    target: str
    score: str
    part: int = 0
    id: str = ""

    def judge(self, answer: str) -> float:
        """How right an answer is, 0 to 1, by the first number of the scorer. What says nothing is 0, and so is what cannot be read.

        Raises:
            OrreryError: it cannot be judged on this machine, which is no fault of the answer.
        """
        if not answer.strip() or not self.score:
            return 0.0
        found = find(self.score)(answer, self.row, ScoreContext(target=self.target, answers=(answer,)))
        if isinstance(found, Unscored):
            if found.reason.startswith("no sandbox"):
                raise OrreryError(f"answers cannot be judged: {found.reason}")
            return 0.0
        return float(next(iter(found.values())))


@dataclass(frozen=True, kw_only=True)
class Problems:
    """All problems of a run: those to learn from by set, those held out, and how many had a right answer that does not pass."""

    sets: tuple[tuple[Problem, ...], ...]
    heldout: tuple[Problem, ...]
    unsound: int = 0

    @property
    def fingerprint(self) -> str:
        """Names them and their order."""
        return digest([[problem.id for problem in part] for part in (*self.sets, self.heldout)], 16)


def read_problems(sets: Sequence[ProblemSet], *, root: Path, heldout: int, seed: int = 0) -> Problems:
    """Read every set; `heldout` problems in all are kept apart: of a generator from the side of its tests, of files by hash.

    Raises:
        OrreryError: files that are missing or damaged, a template that does not fit, or a set of no sound problem.
    """
    learned: list[tuple[Problem, ...]] = []
    apart: list[Problem] = []
    unsound = 0
    for part, cfg in enumerate(sets):
        share = heldout * (part + 1) // len(sets) - heldout * part // len(sets)
        read = [_problem(cfg, part, row) for row in _rows(cfg, root)]
        sound = [problem for problem in read if _passes(problem)]
        unsound += len(read) - len(sound)
        sound.sort(key=lambda problem: key(seed, "problem", problem.id))
        if cfg.generator is not None:
            of = cfg.generator
            tests = generators.rows(
                of.name, n=share, seed=seed, difficulty=of.difficulty, split="test", kinds=of.kinds
            )
            apart += [_problem(cfg, part, row) for row in tests]
        else:
            share = min(share, len(sound) // 2)
            apart += sound[:share]
            sound = sound[share:]
        if not sound:
            raise OrreryError(
                f"the set '{cfg.called}' has no problem whose own answer passes the scorer '{cfg.score}'; look at its prompt, target and score"
            )
        learned.append(tuple(sound[: cfg.limit]))
    return Problems(sets=tuple(learned), heldout=tuple(apart), unsound=unsound)


def _rows(cfg: ProblemSet, root: Path) -> Iterator[Mapping[str, Any]]:
    if cfg.generator is not None:
        of = cfg.generator
        yield from generators.rows(
            of.name, n=of.n, seed=of.seed, difficulty=of.difficulty, split="train", kinds=of.kinds
        )
    for file in files_of(cfg, root):
        yield from read_rows(file)


def files_of(cfg: ProblemSet, root: Path) -> list[Path]:
    """The files of a set, in order.

    Raises:
        OrreryError: a path that names nothing.
    """
    found: list[Path] = []
    for pattern in cfg.paths:
        files = [Path(name) for name in sorted(glob.glob(str(root / Path(pattern).expanduser())))]
        if not files:
            raise OrreryError(f"there is no file of problems at '{root / pattern}'")
        found += files
    return found


def state_of_problems(sets: Sequence[ProblemSet], root: Path) -> list[tuple[str, int, int]]:
    """What the files are, cheaply: each one's path, size and time of change."""
    files = (file for cfg in sets for file in files_of(cfg, root))
    return [(str(file.resolve()), stat.st_size, stat.st_mtime_ns) for file in files for stat in [file.stat()]]


def _problem(cfg: ProblemSet, part: int, row: Mapping[str, Any]) -> Problem:
    text = json.dumps(row, sort_keys=True, ensure_ascii=False, default=str)
    return Problem(
        row=row, prompt=render(cfg.prompt, row), target=render(cfg.target, row) if cfg.score else "", score=cfg.score, part=part,
        id=digest([cfg.score, text], 16),
    )  # fmt: skip


def _passes(problem: Problem) -> bool:
    return not problem.score or problem.judge(problem.target) == 1.0
