"""Key-value retrieval: a JSON object of random keys and values; give the value of one key.

Nothing but matching is needed, so what fails fails at looking there. The key asked for is moved through the object while all other pairs
stay as they are.

Source: Liu et al. 2023, arXiv:2307.03172, section 3.
"""

from __future__ import annotations

from functools import lru_cache

from orrery.evaluate.long_context.item import Item
from orrery.kit.errors import OrreryError
from orrery.kit.seeds import key


def key_values(
    *, seed: int, index: int = 0, position: int, digits: int = 8, task: str = "key-values"
) -> Item:
    """An object of `size` pairs, the one asked for at place `position` (from 0). Keys and values are `digits` hexadecimal digits.

    Raises:
        OrreryError: a context of no more pairs than `position` is asked for.
    """
    gold = (_hex(digits, seed, index, "gold key"), _hex(digits, seed, index, "gold value"))

    @lru_cache(maxsize=2)
    def context(size: int) -> str:
        if not 0 <= position < size:
            raise OrreryError(f"{size} pairs have no place {position}")
        pairs = [
            (_hex(digits, seed, index, "key", i), _hex(digits, seed, index, "value", i))
            for i in range(size - 1)
        ]
        pairs.insert(position, gold)
        return "{" + ",\n ".join(f'"{name}": "{value}"' for name, value in pairs) + "}"

    return Item(
        task=task,
        index=index,
        context=context,
        intro="Below is a JSON object. Give the value of the key that is asked for.",
        question=f'Key: "{gold[0]}"',
        lead="Value:",
        answers=((gold[1],),),
        least=position + 1,
        max_tokens=2 * digits + 8,
        stop=("\n",),
        tags={"position": position},
    )


def _hex(digits: int, seed: int, *parts: int | str) -> str:
    return f"{key(seed, 'key-values', *parts):016x}"[-digits:]
