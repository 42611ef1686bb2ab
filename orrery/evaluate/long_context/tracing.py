"""Variable tracing: chains of assignments scattered through the text; which names hold the value at the end?

    VAR KLM = 48213 ... VAR PQR = VAR KLM ... VAR XYZ = VAR PQR        wanted: KLM, PQR and XYZ

The links stand in order, so that one reading forwards is enough; other chains with other values are there to confuse.

Source: Hsieh et al. 2024, arXiv:2404.06654, section 3.2 (multi-hop tracing).
"""

from __future__ import annotations

import itertools
import string

from orrery.evaluate.long_context.filler import Filler
from orrery.evaluate.long_context.item import Item
from orrery.evaluate.long_context.words import numbers
from orrery.kit.errors import OrreryError
from orrery.kit.seeds import numpy_generator


def variable_tracing(
    filler: Filler, *, seed: int, index: int = 0, hops: int = 4, chains: int = 1, task: str = "tracing"
) -> Item:
    """`chains` chains of `hops` + 1 names each; asked for are the names of the first.

    Raises:
        OrreryError: hops or chains below 1.
    """
    if hops < 1 or chains < 1:
        raise OrreryError(f"tracing needs a chain and a hop at least, not {chains} of {hops}")
    rng = numpy_generator(seed, "tracing", index)
    names = _names(rng.permutation(26**3)[: chains * (hops + 1)].tolist())
    values = numbers(chains, seed, "tracing", index, digits=5)
    inserts: list[tuple[float, str]] = []
    for chain, value in enumerate(values):
        links = names[chain * (hops + 1) : (chain + 1) * (hops + 1)]
        told = [f"VAR {links[0]} = {value}."]
        told += [f"VAR {later} = VAR {sooner}." for sooner, later in itertools.pairwise(links)]
        inserts += zip(sorted(rng.random(hops + 1).tolist()), told, strict=True)
    inserts.sort(key=lambda insert: insert[0])
    hay = filler.without(names).from_seed(seed, index)
    return Item(
        task=task,
        index=index,
        context=lambda n: hay.context(n, inserts),
        intro="Variables are assigned in the text below. Follow the chains of assignments.",
        question=f"Which variables hold the value {values[0]}? Answer with all their names, {hops + 1} of them, and nothing else.",
        lead=f"The {hops + 1} variables that hold the value {values[0]} are:",
        answers=tuple((name,) for name in names[: hops + 1]),
        max_tokens=16 + 6 * (hops + 1),
        pattern="(?!VAR)[A-Z]{3}",
        tags={"hops": hops, "chains": chains},
    )


def _names(numbers: list[int]) -> list[str]:
    """Numbers below 26^3 as three letters."""
    letters = string.ascii_uppercase
    return [letters[n // 676] + letters[n // 26 % 26] + letters[n % 26] for n in numbers]
