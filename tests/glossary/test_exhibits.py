from __future__ import annotations

import pytest

from orrery.glossary import exhibits
from orrery.glossary.check import check_exhibit
from orrery.kit.errors import OrreryError

SLOW = frozenset[str]()
"""Exhibits of more than five seconds."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in exhibits.names()],
)
def test_an_exhibit_runs_and_shows_something(name: str) -> None:
    assert check_exhibit(name) == []


def test_an_unknown_exhibit_names_the_nearest() -> None:
    with pytest.raises(OrreryError, match="Did you mean 'momentum-on-a-ravine'"):
        exhibits.run("momentum-on-ravine")


def test_every_exhibit_says_what_it_is_in_one_line() -> None:
    for name, listed in exhibits.names().items():
        assert listed.summary.endswith("."), name
