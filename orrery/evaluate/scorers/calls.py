"""Function calls against the calls that would be right: the abstract-syntax match of the Berkeley function-calling leaderboard.

Patil et al. 2025, "The Berkeley Function Calling Leaderboard", ICML. A row has `function` (the schemas offered) and `ground_truth`:
for each call wanted, each parameter's accepted values; "" among them says that the parameter may be left out; an empty list says
that no call is right (irrelevance). Several calls (parallel) may come in any order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from orrery.evaluate.scorers.base import ScoreContext
from orrery.evaluate.scorers.call_text import Call, read_calls

_TYPES: dict[str, tuple[type, ...]] = {
    "integer": (int,), "float": (int, float), "number": (int, float), "string": (str,), "boolean": (bool,),
    "array": (list, tuple), "tuple": (list, tuple), "dict": (dict,), "object": (dict,),
}  # fmt: skip


def score(answer: str, row: Mapping[str, Any], context: ScoreContext, /) -> Mapping[str, float]:
    """exact_match: the calls read out of the answer are the calls wanted. An answer without a call has made no call."""
    made = read_calls(answer)
    return {"exact_match": float(made is not None and matches(made, row["ground_truth"], row["function"]))}


def matches(
    made: Sequence[Call], wanted: Sequence[Mapping[str, Any]], functions: Sequence[Mapping[str, Any]]
) -> bool:
    """Whether the calls can be paired one to one with the calls wanted."""
    if len(made) != len(wanted):
        return False
    schemas = {function["name"]: function["parameters"] for function in functions}
    fits = [[_fits(call, one, schemas) for call in made] for one in wanted]
    partner: dict[int, int] = {}  # which wanted call each call made is paired with

    def pair(one: int, tried: set[int]) -> bool:
        """Kuhn's augmenting path."""
        for at in range(len(made)):
            if fits[one][at] and at not in tried:
                tried.add(at)
                if at not in partner or pair(partner[at], tried):
                    partner[at] = one
                    return True
        return False

    return all(pair(one, set()) for one in range(len(wanted)))


def _fits(call: Call, wanted: Mapping[str, Any], schemas: Mapping[str, Mapping[str, Any]]) -> bool:
    """One call: the name (a dot may be written `_`, which some formats demand), every parameter that is needed, no other."""
    ((name, accepted),) = wanted.items()
    if call.name not in (name, name.replace(".", "_")):
        return False
    schema = schemas[name]
    properties = schema.get("properties", {})
    needed = [parameter for parameter, values in accepted.items() if "" not in values] + list(
        schema.get("required", ())
    )
    if any(parameter not in call.arguments for parameter in needed):
        return False
    return all(
        parameter in accepted and _accepted(value, accepted[parameter], properties.get(parameter, {}))
        for parameter, value in call.arguments.items()
    )


def _accepted(value: Any, accepted: Sequence[Any], schema: Mapping[str, Any]) -> bool:
    """A value of the declared type, or of an accepted value's own type, that equals one of those accepted."""
    if not _of_type(value, schema, accepted):
        return False
    return any(_equal(value, one) for one in accepted if one != "" or value == "")


def _of_type(value: Any, schema: Mapping[str, Any], accepted: Sequence[Any]) -> bool:
    """Whole numbers pass for floats, not the other way; truth is no number; items of an array have the items' type."""
    kinds = _TYPES.get(str(schema.get("type", "any")))
    if kinds is None or value is None:
        return value is not None or None in accepted
    declared = isinstance(value, kinds) and isinstance(value, bool) == (kinds == (bool,))
    if not declared:
        return any(type(value) is type(one) for one in accepted if one != "")
    items = schema.get("items")
    if isinstance(value, list | tuple) and isinstance(items, Mapping):
        inner = [one for group in accepted if isinstance(group, list) for one in group]
        return all(_of_type(item, items, inner) for item in value)
    return True


def _equal(value: Any, accepted: Any) -> bool:
    """Texts without case, spaces and marks; lists in order; in a mapping every key has its own list of accepted values."""
    if isinstance(value, str) and isinstance(accepted, str):
        return _plain(value) == _plain(accepted)
    if isinstance(value, list | tuple) and isinstance(accepted, list | tuple):
        return len(value) == len(accepted) and all(map(_equal, value, accepted))
    if isinstance(value, dict) and isinstance(accepted, dict):
        if any(key not in value and "" not in _several(options) for key, options in accepted.items()):
            return False
        return all(
            key in accepted and any(_equal(item, one) for one in _several(accepted[key]))
            for key, item in value.items()
        )
    if isinstance(value, bool) or isinstance(accepted, bool):
        return value is accepted
    return value == accepted


def _several(options: Any) -> Sequence[Any]:
    return options if isinstance(options, list) else [options]


def _plain(text: str) -> str:
    return re.sub(r"[ ,./\-_*^]", "", text).lower().replace("'", '"')
