"""Whether the questions were in the training data: shared n-grams of words, looked for in the shards that a model's lineage names.

A question is found again if thirteen words in a row of it (all of it, where it has fewer, but six at least) stand somewhere in what the
model was trained on. Words are compared, lower case and without what stands between them, so a line broken elsewhere or another
punctuation hides nothing. Source: Brown et al. 2020, arXiv:2005.14165, appendix C.

    clean    every training text is still there, and none has a question
    found    some do: `ids` says which, and results can be read without them
    unknown  the model has no receipt, or its data is not here any more; `reason` says which
"""

from __future__ import annotations

import glob
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from orrery.data.manifest import MANIFEST
from orrery.data.shard import Shards
from orrery.evaluate import generators
from orrery.kit.artifact import RECEIPT, Ancestor, lineage
from orrery.kit.errors import OrreryError
from orrery.kit.json_lines import read_rows
from orrery.text.tokenizer import Tokenizer

LONGEST, SHORTEST = 13, 6
TOGETHER = 1 << 20
"""Words that are looked through at a time."""
ALONE = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"  # scripts that put no space between words
WORD = re.compile(f"[{ALONE}]|[^\\W{ALONE}]+")
MIX, PRIME = np.uint64(0x9E3779B97F4A7C15), np.uint64(0x100000001B3)


@dataclass(frozen=True, kw_only=True)
class Contamination:
    """What was found. `checked`: questions that were long enough to look for. `texts`: training texts looked through."""

    status: Literal["clean", "found", "unknown"] = "unknown"
    reason: str = "it was not looked for"
    ids: tuple[int, ...] = ()
    checked: int = 0
    texts: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", tuple(self.ids))


def words(text: str) -> list[str]:
    """Lower-case words; characters of scripts without spaces stand alone."""
    return WORD.findall(text.lower())


def overlapping(
    questions: Mapping[int, str], texts: Iterable[str], *, n: int = LONGEST
) -> tuple[set[int], int, int]:
    """The ids of questions that share n words in a row with a text, how many were long enough to look for, and how many texts
    there were. A question shorter than n words must be there whole; one of fewer than six is not looked for."""
    wanted: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    checked = 0
    for id, question in questions.items():
        own = words(question)
        size = min(n, len(own))
        if size < min(SHORTEST, n):
            continue
        checked += 1
        for gram in _grams(_numbers(own), size).tolist():
            wanted[size][gram].append(id)
    sorted_grams = {size: np.sort(np.array(list(of), dtype=np.uint64)) for size, of in wanted.items()}
    found: set[int] = set()
    count = 0
    for batch in _batches(texts):
        count += len(batch)
        numbers = np.concatenate(
            [_numbers([*words(text), f"\0{i}"]) for i, text in enumerate(batch)]
        )  # a border
        for size, grams in sorted_grams.items():
            here = _grams(numbers, size)
            places = np.searchsorted(grams, here).clip(max=len(grams) - 1)
            for gram in np.unique(here[grams[places] == here]).tolist():
                found.update(wanted[size][gram])
    return found, checked, count


def contamination(questions: Mapping[int, str], folder: Path | None, tokenizer: Tokenizer) -> Contamination:
    """What a model in `folder` may have seen of these questions when it was trained."""
    if folder is None or not (folder / RECEIPT).is_file():
        return Contamination(reason="the model has no receipt that tells what it was trained on")
    try:
        sources, missing = _training_texts(lineage(folder), tokenizer)
        found, checked, count = overlapping(questions, chain.from_iterable(sources))
    except OrreryError as error:
        return Contamination(reason=str(error))
    told: dict[str, Any] = {"ids": tuple(sorted(found)), "checked": checked, "texts": count}
    if found:
        return Contamination(status="found", reason="; ".join(missing), **told)
    if missing:
        return Contamination(status="unknown", reason="; ".join(missing), **told)
    return Contamination(status="clean", reason="", **told)


def _training_texts(ancestors: list[Ancestor], tokenizer: Tokenizer) -> tuple[list[Iterator[str]], list[str]]:
    """What the model and those it descends from learned from, and what of that cannot be looked at."""
    sources: list[Iterator[str]] = []
    missing: list[str] = []
    for ancestor in ancestors:
        receipt, path = ancestor.receipt, ancestor.path
        if receipt is None:
            missing.append(f"'{path}', which it was made from, is {ancestor.state}")
        elif receipt.kind == "data" and (path / MANIFEST).is_file():
            sources.append(_shard_texts(path, tokenizer))
        elif receipt.operation == "tune":
            mine, lost = _tuning_texts(receipt.recipe)
            sources += mine
            missing += lost
        elif receipt.kind == "model" and not receipt.parents:
            missing.append(f"nothing is known of what '{path}' was trained on ({receipt.operation})")
    return sources, missing


def _shard_texts(folder: Path, tokenizer: Tokenizer) -> Iterator[str]:
    shards = Shards(folder, "train", verify=False)
    shards.require(tokenizer)
    return (tokenizer.decode(ids.tolist(), special=False) for ids in shards)


def _tuning_texts(recipe: Mapping[str, Any]) -> tuple[list[Iterator[str]], list[str]]:
    """The rows that a tuning recipe learned, every text in them: of JSON-lines files, and of generators made again."""
    sources: list[Iterator[str]] = []
    missing: list[str] = []
    root = str(recipe.get("data_root", "."))
    for one in (*recipe.get("data", ()), *recipe.get("replay", ())):
        if made := one.get("generator"):
            rows = generators.rows(
                made["name"], n=made["n"], seed=made["seed"], difficulty=made["difficulty"]
            )
            sources.append(map(_text, rows))
        for pattern in one.get("paths", ()):
            paths = [Path(path) for path in sorted(glob.glob(pattern, root_dir=root))]
            if not paths:
                missing.append(f"'{pattern}', which it was tuned on, is not there")
            for path in paths:
                if {".jsonl", ".ndjson"} & set(path.suffixes):
                    sources.append(map(_text, read_rows(root / path)))
                else:
                    missing.append(
                        f"'{path}', which it was tuned on, cannot be looked through: only JSON lines can"
                    )
    return sources, missing


def _text(value: Any) -> str:
    """All texts in a value of JSON, below each other."""
    if isinstance(value, Mapping):
        value = list(value.values())
    return "\n".join(map(_text, value)) if isinstance(value, list) else str(value)


def _numbers(own: list[str]) -> NDArray[np.uint64]:
    """A number for each word; the same word has the same one within this process."""
    return np.fromiter(map(hash, own), dtype=np.int64, count=len(own)).view(np.uint64) * MIX


def _grams(numbers: NDArray[np.uint64], size: int) -> NDArray[np.uint64]:
    """(len - size + 1,) one number for each `size` words in a row: a polynomial modulo 2^64."""
    last = len(numbers) - size + 1
    made = np.zeros(max(last, 0), dtype=np.uint64)
    for i in range(size if last > 0 else 0):
        made = made * PRIME + numbers[i : i + last]
    return made


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text) // 5
        if size > TOGETHER:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
