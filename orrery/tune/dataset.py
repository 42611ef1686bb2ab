"""Sets of examples from files: read, recognise, split by hash, render, fit to length; every row is accounted for.

    data = read_set(SetConfig(paths=("gsm8k/train.jsonl.gz",)), root=Path("data"), split=Split(heldout=0.05))
    train, account = render_set(data.train, renderer, name=data.name, context=512, policy="drop")

The split looks at the hash of the question, so it is the same in every run, with every base model, and no question is on both sides.
"""

from __future__ import annotations

import glob
import heapq
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from orrery.data.reader import kind_of, read_file
from orrery.data.split import split
from orrery.kit.config import config
from orrery.kit.errors import OrreryError, suggest
from orrery.kit.seeds import key
from orrery.text.truncation import Policy
from orrery.tune.dialogue import Passage, Sample, fingerprint
from orrery.tune.example_set import ExampleSet
from orrery.tune.examples import Example, Renderer
from orrery.tune.lengths import LengthAccount, fit
from orrery.tune.rows import Row, has_rows, read_rows
from orrery.tune.shapes import Shape, renamed, samples_of

SKIPPED_TOLD = 5


@config
class Generated:
    """Questions and answers made by a generator of `orrery.evaluate.generators`, never those that it keeps for tests.

    worked: answers are taught with the steps that lead to them, as the reasoning of the chat format.
    """

    name: str
    n: Annotated[int, Field(ge=1)] = 1000
    seed: int = 0
    difficulty: Annotated[int, Field(ge=1, le=5)] = 1
    kinds: tuple[str, ...] = ()
    worked: bool = False


@config
class SetConfig:
    """One set of examples.

    Attributes:
        paths: files, folders or patterns, relative to the stage's `data_root`; or
        generator: rows that are made; or
        stage: an earlier stage of the run that wrote examples (of the kind `sample`).
        name: in reports; the first file's name where not given.
        format: the shape of its rows; "auto" looks at each. "text" reads plain text files too.
        fields: our names of fields -> the file's, where they differ (prompt: query).
        share: of the rows of training that come from this set, in proportion to the others' shares.
        limit: at most so many dialogues, chosen by hash.
        bad_rows: stop at a row that cannot be taught, or leave it out and count it.
    """

    paths: tuple[str, ...] = ()
    generator: Generated | None = None
    stage: str = ""
    name: str = ""
    format: Shape | Literal["auto"] = "auto"
    fields: dict[str, str] = field(default_factory=dict)
    share: Annotated[float, Field(gt=0)] | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    bad_rows: Literal["error", "skip"] = "error"

    def __post_init__(self) -> None:
        if bool(self.paths) + (self.generator is not None) + bool(self.stage) != 1:
            raise OrreryError(
                "a set of examples needs 'paths' or a 'generator' or a 'stage', and only one of them"
            )

    @property
    def called(self) -> str:
        """Its name in reports."""
        if self.generator is not None:
            return self.name or self.generator.name
        return self.name or self.stage or Path(self.paths[0]).name.split(".")[0]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which part of the questions is held out."""

    heldout: float = 0.05
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Samples:
    """A set before it becomes ids. `skipped` rows could not be taught; `reasons` tells of the first."""

    name: str
    train: tuple[Sample, ...]
    heldout: tuple[Sample, ...]
    skipped: int = 0
    reasons: tuple[str, ...] = ()


def read_set(cfg: SetConfig, *, root: Path, parts: Split) -> Samples:
    """Read a set and divide it.

    Raises:
        OrreryError: a file or row that cannot be read (names file, line, field and fix), or no row at all.
    """
    reasons: list[str] = []
    samples = list(_taught(cfg, root, reasons))
    if not samples:
        raise OrreryError(f"the set '{cfg.called}' has no row to learn from; look at its files")
    hashes = {id(sample): fingerprint(sample) for sample in samples}
    if cfg.limit is not None and cfg.limit < len(samples):
        chosen = heapq.nsmallest(
            cfg.limit,
            range(len(samples)),
            key=lambda i: (key(parts.seed, "limit", hashes[id(samples[i])].hex()), i),
        )
        samples = [samples[i] for i in sorted(chosen)]
    sides: dict[str, list[Sample]] = {"train": [], "heldout": []}
    for side, sample in split(((hashes[id(s)], s) for s in samples), parts.heldout, seed=parts.seed):
        sides[side].append(sample)
    return Samples(
        name=cfg.called, train=tuple(sides["train"]), heldout=tuple(sides["heldout"]), skipped=len(reasons),
        reasons=tuple(reasons[:SKIPPED_TOLD]),
    )  # fmt: skip


def render_set(
    samples: Iterable[Sample], renderer: Renderer, *, name: str, context: int, policy: Policy, placeholders: int = 0,
) -> tuple[ExampleSet, LengthAccount]:  # fmt: skip
    """The examples of samples, fitted to `context` positions, and what that lost.

    Raises:
        OrreryError: a sample that cannot be rendered, one that is too long where the policy is "error", or nothing is left.
    """
    account = LengthAccount(policy=policy, context=context - placeholders)
    try:
        return ExampleSet.of(
            rendered(samples, renderer, account, placeholders=placeholders), name=name
        ), account
    except OrreryError as error:
        lost = account.sentence()
        raise OrreryError(f"{error} ({lost})" if lost else str(error)) from None


def rendered(
    samples: Iterable[Sample], renderer: Renderer, account: LengthAccount, *, placeholders: int = 0
) -> Iterator[Example]:
    """Examples as they fit, what is lost counted in `account`.

    Args:
        placeholders: ids put before each example for an adapter's virtual tokens; they take room and carry no loss.

    Raises:
        OrreryError: as `render_set`.
    """
    before = (0,) * placeholders, (0.0,) * placeholders
    for sample in samples:
        for example in renderer.examples(sample):
            for part in fit(example, account):
                yield Example(before[0] + part.ids, before[1] + part.weights, part.where)


def files_of(cfg: SetConfig, root: Path) -> list[Path]:
    """The files that a set's paths name, in order, each once.

    Raises:
        OrreryError: a path that names nothing.
    """
    found: dict[Path, None] = {}
    text = cfg.format == "text"
    for given in cfg.paths:
        path = root / Path(given).expanduser()
        if path.is_dir():
            inside = [
                file for file in sorted(path.rglob("*")) if file.is_file() and not file.name.startswith(".")
            ]
            matches = [file for file in inside if has_rows(file) or (text and kind_of(file, strict=False))]
        elif glob.has_magic(given):
            matches = [
                Path(name) for name in sorted(glob.glob(str(path), recursive=True)) if Path(name).is_file()
            ]
        else:
            matches = [path] if path.is_file() else []
        if not matches:
            siblings = os.listdir(path.parent) if path.parent.is_dir() else []
            raise OrreryError(f"no file of examples at '{path}'.{suggest(path.name, siblings)}")
        found |= dict.fromkeys(matches)
    return list(found)


def state_of_files(sets: Sequence[SetConfig], root: Path) -> list[tuple[str, int, int]]:
    """What the files are, cheaply: each one's path, size and time of change."""
    files = (file for cfg in sets for file in files_of(cfg, root))
    return [(str(file.resolve()), stat.st_size, stat.st_mtime_ns) for file in files for stat in [file.stat()]]


def _taught(cfg: SetConfig, root: Path, reasons: list[str]) -> Iterator[Sample]:
    for row in _rows(cfg, root):
        if isinstance(row, Passage):
            yield row
            continue
        try:
            yield from samples_of(renamed(row, cfg.fields), cfg.format)
        except OrreryError as error:
            if cfg.bad_rows == "error":
                raise OrreryError(
                    f"{error} (or set bad_rows: skip, which leaves such rows out and counts them)"
                ) from None
            reasons.append(str(error))


def _rows(cfg: SetConfig, root: Path) -> Iterator[Row | Passage]:
    if cfg.generator is not None:
        from orrery.evaluate.generators import rows
        from orrery.evaluate.generators.worked import reasoned

        wanted = cfg.generator
        made = rows(
            wanted.name,
            n=wanted.n,
            seed=wanted.seed,
            difficulty=wanted.difficulty,
            split="train",
            kinds=wanted.kinds,
        )
        for number, fields in enumerate(made):
            told = {"messages": reasoned(fields)} if wanted.worked else fields
            yield Row(f"{wanted.name} question {number}", told)
        return
    for file in files_of(cfg, root):
        if cfg.format == "text" and not has_rows(file):
            yield from (
                Passage(document.text, f"'{document.id}'")
                for document in read_file(file)
                if document.text.strip()
            )
        else:
            yield from read_rows(file)
