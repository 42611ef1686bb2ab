"""Word vectors as text: a word and its numbers a line, separated by spaces.

    the 0.418 0.24968 -0.41242          GloVe's files: nothing else
    2 3                                 word2vec's and fastText's: first how many words and how many numbers
    the 0.418 0.24968 -0.41242

Some published files have words with spaces inside, so a line is split from its end. Nothing is believed: a line too many or
too few, a number that is none, a word twice is named with its line.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from orrery.kit.errors import OrreryError
from orrery.kit.files import atomic_file
from orrery.model.word_vectors.similarity import WordVectors

MAX_LINE = 1 << 20
"""Bytes; a vector of 40,000 numbers fits."""


def read_vectors(path: str | Path, *, repeated: Literal["error", "first"] = "error") -> WordVectors:
    """Read GloVe's or word2vec's text format, told apart by the first line: two whole numbers are a header.

    Args:
        repeated: what a second vector for a word is: a fault, or passed over.

    Raises:
        OrreryError: not this format, damaged or cut short; the message names the line.
    """
    lines = _lines(Path(path))
    words: dict[str, None] = {}
    numbers = array("f")
    rows: int | None = None
    dim = 0
    seen = 0
    for n, line in lines:
        if n == 1:
            fields = line.split(" ")
            header = _header(line)
            if header:
                rows, dim = header
                continue
            dim = len(fields) - 1
        word, values = _parse(line, dim, f"line {n} of '{path}'")
        seen += 1
        if word in words:
            if repeated == "error":
                raise OrreryError(
                    f"line {n} of '{path}' gives '{word}' a second vector; keep one, or read with repeated='first'"
                )
            continue
        words[word] = None
        numbers.extend(values)
    if not words or (rows is not None and rows != seen):
        promised = "" if rows is None else f" of the {rows} its first line promises"
        raise OrreryError(f"'{path}' has {seen} vectors{promised}; fetch or write the file again")
    matrix = np.frombuffer(numbers, dtype=np.float32).reshape(len(words), dim)
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if len(bad):
        raise OrreryError(
            f"the vector of '{list(words)[bad[0]]}' in '{path}' is not finite; remove the line or train again"
        )
    return WordVectors(tuple(words), matrix)


def write_vectors(vectors: WordVectors, path: str | Path, *, header: bool = False) -> None:
    """Write GloVe's format, or with `header` word2vec's; nine digits, so float32 comes back exactly.

    Raises:
        OrreryError: a word or number that no reader would get back, or a folder that cannot be written.
    """
    dim = vectors.matrix.shape[1]
    for word in vectors.words:
        if not word.strip(" ") or "\n" in word or (" " in word and not header):
            raise OrreryError(
                f"the word {word!r} cannot be written so that it is read back; rename it"
                + (", or write with header=True" if " " in word.strip(" ") else "")
            )
    if not np.isfinite(vectors.matrix).all() or (dim < 2 and not header) or not dim:
        raise OrreryError(
            f"vectors of {dim} numbers, or numbers that are not finite, cannot be read back from '{path}'; "
            "train again, or write single numbers with header=True"
        )
    with atomic_file(path) as append:
        if header:
            append(f"{len(vectors.words)} {dim}\n".encode())
        for word, row in zip(vectors.words, vectors.matrix, strict=True):
            append(f"{word} {' '.join(f'{x:.9g}' for x in row.tolist())}\n".encode())


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines without their end, counted from 1; only a newline ends one (words may hold other Unicode separators)."""
    n = 0
    try:
        with open(path, "rb") as handle:
            while line := handle.readline(MAX_LINE + 1):
                n += 1
                if len(line) > MAX_LINE:
                    raise OrreryError(
                        f"line {n} of '{path}' is over {MAX_LINE} bytes; this is no file of vectors"
                    )
                yield n, line.decode("utf-8").rstrip("\r\n").rstrip(" ")
    except UnicodeDecodeError as error:
        raise OrreryError(
            f"line {n} of '{path}' is not UTF-8; convert the file, or read its text version"
        ) from error
    except OSError as error:
        raise OrreryError(f"cannot read '{path}': {error.strerror}; check the path") from error


def _header(line: str) -> tuple[int, int] | None:
    fields = line.split(" ")
    if len(fields) == 2 and all(f.isascii() and f.isdigit() and len(f) < 12 for f in fields):
        rows, dim = map(int, fields)
        return (rows, dim) if rows and dim else None
    return None


def _parse(line: str, dim: int, where: str) -> tuple[str, list[float]]:
    fields = line.rsplit(" ", dim) if dim else [line]
    if len(fields) != dim + 1 or not dim or not fields[0]:
        raise OrreryError(
            f"{where} is not a word and {dim or 'some'} numbers; remove it or fetch the file again"
        )
    try:
        if "_" in "".join(fields[1:]):  # Python would read 1_0 as ten
            raise ValueError
        return fields[0], [float(field) for field in fields[1:]]
    except ValueError:
        raise OrreryError(
            f"{where} has something other than a number among its last {dim} fields; remove it or fetch the file again"
        ) from None
