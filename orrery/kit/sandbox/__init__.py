"""Run generated code safely: bubblewrap first, Landlock second, refuse otherwise. Evaluation, rewards and agents share it."""

from __future__ import annotations

from orrery.kit.sandbox.outcome import Limits, Outcome, SandboxUnavailable
from orrery.kit.sandbox.sandbox import Sandbox

__all__ = ["Limits", "Outcome", "Sandbox", "SandboxUnavailable"]
