"""Sets of preferences from files: read, recognise, convert, limit, split by the question's hash.

cfg = PreferenceSet(paths=("pref_dpo_demo/pairs.jsonl",))
pairs = read_pairs(cfg, root=Path("data"))             # for DPO and reward models
thumbs = read_thumbs(cfg, root=Path("data"))           # for KTO, from any shape
train, heldout = divided(pairs, heldout=0.1)
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import Field

from orrery.data.split import split
from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.kit.seeds import key
from orrery.tune.dataset import SetConfig, files_of
from orrery.tune.preference.pair_shapes import PairShape, records_of
from orrery.tune.preference.records import (
    Opposed,
    Pair,
    Ranked,
    Record,
    Thumb,
    pairs_of,
    pairs_of_thumbs,
    question_of,
    thumbs_of,
)
from orrery.tune.rows import read_rows
from orrery.tune.shapes import renamed

__all__ = [
    "Divided",
    "Pair",
    "PreferenceSet",
    "Thumb",
    "divided",
    "read_pairs",
    "read_thumbs",
    "state_of_preferences",
]

R = TypeVar("R", bound=Record)


@config
class PreferenceSet:
    """One set of comparisons.

    Attributes:
        paths: files, folders or patterns, relative to the stage's `data_root`; or
        stage: an earlier stage of the run that wrote pairs.
        name: in reports; the stage's or the first file's name where not given.
        format: the shape of its rows (see `pair_shapes`); "auto" looks at each.
        fields: our names of fields -> the file's, where they differ (chosen: better).
        opposed: which answers of a ranking make a pair.
        share: of what is trained on, in proportion to the other sets' shares; None: all of it, once an epoch.
        limit: at most so many, chosen by hash.
        bad_rows: stop at a row that cannot be learned from, or leave it out and count it.
    """

    paths: tuple[str, ...] = ()
    stage: str = ""
    name: str = ""
    format: PairShape | Literal["auto"] = "auto"
    fields: dict[str, str] = field(default_factory=dict)
    opposed: Opposed = "best-worst"
    share: Annotated[float, Field(gt=0)] | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    bad_rows: Literal["error", "skip"] = "error"

    def __post_init__(self) -> None:
        if bool(self.paths) == bool(self.stage):
            raise OrreryError("a set of preferences needs either 'paths' or a 'stage', and not both")

    @property
    def called(self) -> str:
        """Its name in reports."""
        return self.name or self.stage or Path(self.paths[0]).name.split(".")[0]

    def files(self, root: Path) -> list[Path]:
        """Its files, in order.

        Raises:
            OrreryError: a path that names nothing.
        """
        return files_of(SetConfig(paths=self.paths), root)


@dataclass(frozen=True, slots=True)
class Divided(Generic[R]):
    """Records by side; no question is on both."""

    train: tuple[R, ...]
    heldout: tuple[R, ...]


def read_pairs(
    cfg: PreferenceSet, root: Path, *, seed: int = 0, reasons: list[str] | None = None
) -> list[Pair]:
    """The pairs of a set: rankings as `cfg.opposed` says, thumbs where one prompt has both kinds.

    Args:
        seed: of the choice where `cfg.limit` leaves some out.
        reasons: takes the reasons of rows that were left out (`bad_rows: skip`).

    Raises:
        OrreryError: a file or row that cannot be read (names file, line, field and fix), or no pair at all.
    """
    pairs: list[Pair] = []
    thumbs: list[Thumb] = []
    for record in _records(cfg, root, reasons):
        match record:
            case Pair():
                pairs.append(record)
            case Ranked():
                pairs += pairs_of(record, cfg.opposed)
            case Thumb():
                thumbs.append(record)
    return _limited(
        cfg, [*pairs, *pairs_of_thumbs(thumbs)], seed, "two answers to one prompt, one better than the other"
    )


def read_thumbs(
    cfg: PreferenceSet, root: Path, *, seed: int = 0, reasons: list[str] | None = None
) -> list[Thumb]:
    """The judgements of single answers in a set: a pair gives one up and one down.

    Raises:
        OrreryError: as `read_pairs`.
    """
    thumbs: list[Thumb] = []
    for record in _records(cfg, root, reasons):
        match record:
            case Thumb():
                thumbs.append(record)
            case Pair():
                thumbs += thumbs_of(record)
            case Ranked():
                thumbs += [thumb for pair in pairs_of(record, cfg.opposed) for thumb in thumbs_of(pair)]
    return _limited(cfg, thumbs, seed, "an answer with a label")


def divided(records: Sequence[R], *, heldout: float, seed: int = 0) -> Divided[R]:
    """Part the records by the hash of their question, the same in every run.

    Raises:
        OrreryError: `heldout` is not in [0, 1).
    """
    sides: dict[str, list[R]] = {"train": [], "heldout": []}
    for side, record in split(((question_of(record), record) for record in records), heldout, seed=seed):
        sides[side].append(record)
    return Divided(tuple(sides["train"]), tuple(sides["heldout"]))


def state_of_preferences(sets: Sequence[PreferenceSet], root: Path) -> list[tuple[str, int, int]]:
    """What the files are, cheaply: each one's path, size and time of change. Sets of earlier stages are known by those."""
    files = (file for cfg in sets if cfg.paths for file in cfg.files(root))
    return [(str(file.resolve()), stat.st_size, stat.st_mtime_ns) for file in files for stat in [file.stat()]]


def _records(cfg: PreferenceSet, root: Path, reasons: list[str] | None) -> list[Record]:
    found: list[Record] = []
    for row in (row for file in cfg.files(root) for row in read_rows(file)):
        try:
            found += records_of(renamed(row, cfg.fields), cfg.format)
        except OrreryError as error:
            if cfg.bad_rows == "error":
                raise OrreryError(
                    f"{error} (or set bad_rows: skip, which leaves such rows out and counts them)"
                ) from None
            if reasons is not None:
                reasons.append(str(error))
    return found


def _limited(cfg: PreferenceSet, records: list[R], seed: int, wanted: str) -> list[R]:
    if not records:
        raise OrreryError(f"the set '{cfg.called}' has nothing to learn from ({wanted}); look at its files")
    if cfg.limit is None or cfg.limit >= len(records):
        return records
    places = range(len(records))
    chosen = heapq.nsmallest(
        cfg.limit,
        places,
        key=lambda i: (key(seed, "limit", question_of(records[i]).hex(), records[i].where), i),
    )
    return [records[i] for i in sorted(chosen)]
