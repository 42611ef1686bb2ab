"""Encoding many texts: threads over the quick engine where there is one, else the library in parts of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import tokenizers

from orrery.text.backend import cores, explain, surrogate
from orrery.text.fast import FastEngine

_LIBRARY_CHARS = 1 << 20  # the library's own encodings take about 100 bytes a token; keep few alive at a time
_THREAD_CHARS = 1 << 16  # one thread's turn


def encode_texts(
    texts: list[str], library: tokenizers.Tokenizer, engine: FastEngine | None, threads: int | None
) -> list[np.ndarray]:
    """uint32 ids of each text; the same from the engine and from the library."""
    if engine is None:
        return [ids for part in _parts(texts, _LIBRARY_CHARS) for ids in _by_library(part, library)]
    run = partial(_by_engine, engine=engine, library=library)
    threads = threads or cores()
    if threads == 1 or len(texts) < 2:
        return run(texts)
    with ThreadPoolExecutor(threads) as pool:
        return [ids for part in pool.map(run, _parts(texts, _THREAD_CHARS)) for ids in part]


def _by_engine(texts: list[str], *, engine: FastEngine, library: tokenizers.Tokenizer) -> list[np.ndarray]:
    out: list[np.ndarray] = []
    for text in texts:
        try:
            out.append(engine.encode(text))
        except ValueError:  # a run of a million spaces is too much for its expressions, not for the library's
            out += _by_library([text], library)
    return out


def _by_library(texts: list[str], library: tokenizers.Tokenizer) -> list[np.ndarray]:
    try:
        encodings = library.encode_batch_fast(texts, add_special_tokens=False)
    except BaseException as error:
        explain(next((text for text in texts if surrogate(text) is not None), ""), error)
    return [np.array(encoding.ids, np.uint32) for encoding in encodings]


def _parts(texts: list[str], chars: int) -> Iterator[list[str]]:
    """Consecutive texts in parts of about `chars` characters."""
    part: list[str] = []
    held = 0
    for text in texts:
        part.append(text)
        held += len(text)
        if held >= chars:
            yield part
            part, held = [], 0
    if part:
        yield part
