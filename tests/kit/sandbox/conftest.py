"""The sandboxes of this machine."""

from __future__ import annotations

import pytest

from orrery.kit.sandbox import Sandbox, SandboxUnavailable


@pytest.fixture(scope="module", params=["bubblewrap", "landlock"])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    """Each kind that can be had here."""
    try:
        return Sandbox.open(request.param)
    except SandboxUnavailable as error:
        pytest.skip(str(error))
