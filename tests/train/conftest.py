"""One forge of trainer processes for all tests of the loop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from forge import Forge


@pytest.fixture(scope="session")
def forge() -> Iterator[Forge]:
    """Forks children that train, to be killed, starved or counted out."""
    with Forge() as made:
        yield made
