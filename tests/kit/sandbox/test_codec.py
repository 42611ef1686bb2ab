"""Plain values survive the way through JSON exactly; nothing else gets through as more than a number."""

from __future__ import annotations

import math
import os
from collections import Counter, OrderedDict, deque
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.kit.sandbox.inside.checker import free_names, used_as_module
from orrery.kit.sandbox.inside.codec import Broken, decode, encode, receive, send

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
    | st.complex_numbers(allow_nan=False) | st.fractions()
)  # fmt: skip
HASHED = st.recursive(
    SCALARS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=5
)
VALUES = st.recursive(
    HASHED,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(HASHED, inner, max_size=4) | st.sets(HASHED, max_size=4)
    ),
    max_leaves=20,
)


def _none(value: Any) -> Any:
    raise AssertionError(f"{value!r} is plain")


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_a_plain_value_comes_back_equal_and_of_the_same_class(value: Any) -> None:
    reader, writer = os.pipe()
    try:
        send(writer, encode(value, _none))
        back = decode(receive(reader), _none)
    finally:
        os.close(reader)
        os.close(writer)
    assert back == value and type(back) is type(value)
    assert repr(back) == repr(value) or isinstance(value, set | frozenset | dict | tuple | list)


@pytest.mark.parametrize(
    ("value", "back"),
    [
        (math.inf, math.inf), (Decimal("1.10"), Decimal("1.10")), (Fraction(1, 3), Fraction(1, 3)), (range(1, 9, 2), range(1, 9, 2)),
        (deque([1, 2]), deque([1, 2])), (bytearray(b"x"), bytearray(b"x")), (int, int), (10**4000, 10**4000),
        (Counter("aab"), {"a": 2, "b": 1}), (OrderedDict(a=1), {"a": 1}),
    ],
)  # fmt: skip
def test_other_kinds_of_python_s_own(value: Any, back: Any) -> None:
    assert decode(encode(value, _none), _none) == back


def test_subclasses_arrive_as_their_base_whatever_they_claim() -> None:
    class Sly(float):
        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 0

        def __float__(self) -> float:
            return 3.0

    class Long(list):
        def __iter__(self):
            return iter([1, 2, 3])

        def __len__(self) -> int:
            return 99

    assert encode(Sly(1.5), _none) == 1.5 and type(encode(Sly(1.5), _none)) is float
    assert decode(encode(Long([7]), _none), _none) == [7]


def test_objects_are_numbers_on_the_other_side() -> None:
    kept: list[Any] = []
    form = encode({"a": [object()]}, lambda value: ["far", kept.append(value) or len(kept) - 1])
    assert decode(form, lambda number: ("stand-in", number)) == {"a": [("stand-in", 0)]}


@pytest.mark.parametrize("form", [["what"], ["type", "Popen"], [], ["int", 5], ["far", "x"], ["complex", 1]])
def test_forms_of_nothing_known_are_refused(form: Any) -> None:
    with pytest.raises(Broken):
        decode(form, _none)


@pytest.mark.parametrize("data", [b"", b"\0\0", b"\xff\xff\xff\xff", b"\0\0\0\2{]", b"\0\0\0\5[1"])
def test_broken_frames_are_refused(data: bytes) -> None:
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    with pytest.raises(Broken):
        receive(reader)
    os.close(reader)


def test_which_names_of_a_test_program_are_asked_for() -> None:
    import ast

    tree = ast.parse(
        "import re\ndef check(f):\n    x = g(1)\n    return math.isclose(x, f(2)) and queue(3) == queue.n"
    )
    assert free_names(tree) == {"g", "math", "x", "f", "queue"}
    assert used_as_module(tree, "math") and not used_as_module(tree, "queue")
