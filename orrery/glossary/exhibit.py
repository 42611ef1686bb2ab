"""What an exhibit hands back: a small measured result as a table, as curves, as a grid of shades, or several of these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orrery.kit.config import to_dict


@dataclass(frozen=True, kw_only=True)
class Series:
    """One curve: y[i] at x[i]. Values that are not finite (a diverged run) are left out of the drawing."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A matrix shown as shades, values in [0, 1]; one label a row and one a column (or none)."""

    title: str
    values: Sequence[Sequence[float]]
    rows: Sequence[str] = ()
    columns: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """The result of running one exhibit.

    `reads` says in a sentence or two what the numbers show; `columns` and `rows` are a table; `x`, `y`, `log_x` and
    `log_y` describe the axes of `series`.
    """

    title: str
    reads: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
    series: Sequence[Series] = ()
    x: str = ""
    y: str = ""
    log_x: bool = False
    log_y: bool = False
    grids: Sequence[Grid] = ()

    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.rows or self.series or self.grids)

    def to_json(self) -> dict[str, Any]:
        """Plain values; numbers JSON has no word for (a diverged loss) become null."""
        plain: dict[str, Any] = _finite(to_dict(self))
        return plain


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
