from __future__ import annotations

import dataclasses
import math
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from orrery.glossary.chart import Axis, number, plot, shades
from orrery.glossary.exhibit import Exhibit, Grid, Series
from orrery.glossary.svg import page, save, svg_grid, svg_plot
from orrery.kit.errors import OrreryError

LINE = Exhibit(
    title="A <line>", reads="It rises.", columns=("x", "y"), rows=[(0, 0.5), (1, True)], x="x", y="y",
    series=[Series(name="up", x=[0, 1, 2], y=[0.0, 1.0, 2.0]), Series(name="broken", x=[0, 1], y=[math.nan, 1.0])],
)  # fmt: skip


def text(exhibit: Exhibit) -> list[str]:
    return ["".join(piece for piece, _ in line) for line in plot(exhibit, width=21, height=11)]


def test_a_rising_line_fills_the_diagonal() -> None:
    rows = [line.split("│")[-1].split("┤")[-1] for line in text(LINE)[1:12]]
    assert rows[0].rstrip().endswith("●") and rows[-1].startswith("●")
    columns = [row.index("●") for row in rows]
    assert columns == sorted(columns, reverse=True)
    assert any("up" in line for line in text(LINE)) and any("×" in line for line in text(LINE))


def test_axes_are_linear_or_logarithmic() -> None:
    assert Axis.over([0, 10], log=False).at(2.5) == 0.25
    assert Axis.over([1, 100], log=True).at(10) == pytest.approx(0.5)
    assert Axis.over([1, 100], log=True).value(0.5) == pytest.approx(10)
    assert Axis.over([0, 5], log=True).at(0) is None
    assert Axis.over([3], log=False).at(math.inf) is None


def test_numbers_are_short() -> None:
    assert [number(v) for v in (0, 0.5, 0.001234, 1234, 1e9, -0.02)] == [
        "0",
        "0.5",
        "1.23e-03",
        "1,234",
        "1.00e+09",
        "-0.02",
    ]


def test_shades_darken_with_value() -> None:
    grid = Grid(title="g", values=[[0.0, 0.4, 1.0]], rows=("r",), columns=("a", "b", "c"))
    assert shades(grid) == ["r   ▒▒██", "  a b c "]


def test_svg_and_html_are_well_formed(tmp_path: Path) -> None:
    ET.fromstring(svg_plot(LINE))
    ET.fromstring(svg_grid(Grid(title="a < b", values=[[0.5, 2.0]], rows=("r&r",), columns=("a", "b"))))
    assert "A &lt;line&gt;" in page(LINE) and "<td>yes</td>" in page(LINE)
    assert save(LINE, tmp_path / "a.html")[0].read_text().startswith("<!doctype html>")
    both = dataclasses.replace(LINE, grids=[Grid(title="g", values=[[1.0]])])
    assert [path.name for path in save(both, tmp_path / "b.svg")] == ["b.svg", "b-2.svg"]
    with pytest.raises(OrreryError, match="no drawing"):
        save(Exhibit(title="t", reads="r", columns=("a",), rows=[(1,)]), tmp_path / "a.svg")


def test_json_has_null_for_what_is_not_finite() -> None:
    assert LINE.to_json()["series"][1]["y"] == [None, 1.0]
