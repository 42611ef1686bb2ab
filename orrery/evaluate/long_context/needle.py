"""Needles in a haystack: facts put into running text at given depths, and asked for behind it.

    one needle            a fact and a question for it: the grid of depth and length
    keys > 1              so many needles of other keys that are not asked for (RULER's multi-key)
    values > 1            so many needles of the same key, all of them wanted (multi-value)
    queries > 1           so many keys asked for at once (multi-query)

Sources: Kamradt 2023 (the grid); Hsieh et al. 2024, arXiv:2404.06654, section 3 (the variants). Wording and words are ours.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from orrery.evaluate.long_context.filler import Filler
from orrery.evaluate.long_context.item import Item
from orrery.evaluate.long_context.words import NAMES, draw, keys, numbers
from orrery.kit.errors import OrreryError
from orrery.kit.seeds import numpy_generator


def needle(
    filler: Filler,
    *,
    seed: int,
    index: int = 0,
    depth: float | None = None,
    n_keys: int = 1,
    values: int = 1,
    queries: int = 1,
    value_kind: Literal["number", "name"] = "number",
    task: str = "needle",
) -> Item:
    """An item whose needles depend on (seed, index) alone: the same needles over the same hay at every depth and length.

    Args:
        depth: where the first needle asked for stands, from 0 (start) to 1 (end); None, and all others: drawn.
        n_keys: needles of different keys, those asked for included.

    Raises:
        OrreryError: a depth outside [0, 1], or more queries than keys.
    """
    if depth is not None and not 0 <= depth <= 1:
        raise OrreryError(f"a needle's depth lies between 0 (start) and 1 (end), not at {depth}")
    if not 1 <= queries <= n_keys:
        raise OrreryError(f"{queries} keys cannot be asked for of {n_keys}; need 1 <= queries <= keys")
    named = keys(n_keys, seed, "needle", index)
    of_key = [values if i < queries else 1 for i in range(n_keys)]
    total = sum(of_key)
    drawn = (
        numbers(total, seed, "needle", index)
        if value_kind == "number"
        else draw(NAMES, total, seed, "needle", index)
    )
    told = [key for key, count in zip(named, of_key, strict=True) for _ in range(count)]
    depths = numpy_generator(seed, "depths", index).random(total).tolist()
    if depth is not None:
        depths[0] = depth
    sentences = [
        f"The secret {value_kind} of the {key} is {value}." for key, value in zip(told, drawn, strict=True)
    ]
    inserts = list(zip(depths, sentences, strict=True))
    hay = filler.without([*drawn, *named]).from_seed(seed, index)
    wanted = drawn[: sum(of_key[:queries])]
    asked = _listed([f"the {key}" for key in named[:queries]])
    many = len(wanted) > 1
    return Item(
        task=task,
        index=index,
        context=lambda n: hay.context(n, inserts),
        intro=f"A secret {value_kind} is hidden in the text below. Remember it; you will be asked for it.",
        question=f"What {f'are the secret {value_kind}s' if many else f'is the secret {value_kind}'} of {asked}? "
        f"The text says so. Answer with the {value_kind}{'s' if many else ''} alone.",
        lead=f"The secret {f'{value_kind}s of {asked} are' if many else f'{value_kind} of {asked} is'}",
        answers=tuple((value,) for value in wanted),
        max_tokens=12 + 10 * len(wanted),
        stop=("\n",) if many else (".", "\n"),
        pattern=r"\d{7}" if value_kind == "number" else f"(?i:{'|'.join(NAMES)})",
        tags={"depth": depth, "keys": n_keys, "values": values, "queries": queries},
    )


def grid(
    filler: Filler,
    *,
    seed: int,
    depths: int = 5,
    items: int = 1,
    value_kind: Literal["number", "name"] = "number",
) -> list[Item]:
    """`items` single needles at each of `depths` depths from 0 to 1, the deepest first: the others then share its beginning."""
    places = np.linspace(0, 1, depths).tolist() if depths > 1 else [0.5]
    return [
        needle(filler, seed=seed, index=index, depth=depth, value_kind=value_kind)
        for index in range(items)
        for depth in reversed(places)
    ]


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
