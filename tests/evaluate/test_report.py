"""The report of a results folder: its numbers, its order, and that nothing a model wrote is more than text."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest

from orrery.evaluate.figures import Curve, bars, curves, heat_map
from orrery.evaluate.record import Record
from orrery.evaluate.report import confidence, section, visible, worst_records, write_report
from orrery.evaluate.results import TaskResult, write_result
from orrery.evaluate.statistics.estimate import mean_estimate
from orrery.kit.errors import OrreryError

EVIL = (
    '</pre><script>alert(1)</script><img src=x onerror="x()">\n```\n# heading | cell\n\x1b[31m\u202edlrow\x00'
)


def records() -> list[Record]:
    rows = [
        Record(
            id=i, key=str(i), group="even" if i % 2 == 0 else "<odd>", own=f"question {i}", answer="yes" if i < 6 else EVIL,
            gold=["no"], scores={"acc": float(i < 6)}, detail={"logprobs": [-0.1 * i, -3.0]},
        )
        for i in range(9)
    ]  # fmt: skip
    return [*rows, Record(id=9, key="9", unscored="no <letter> was found")]


def result(name: str = "task|one") -> TaskResult:
    return TaskResult.of(records(), settings={"task": {"name": name, "version": 1}})


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_confidence_by_hand() -> None:
    assert confidence(
        Record(id=0, key="", detail={"logprobs": [math.log(0.2), math.log(0.6)]})
    ) == pytest.approx(0.75)
    assert confidence(Record(id=0, key="")) is None


def test_the_worst_are_the_surest_of_the_wrong() -> None:
    assert [r.id for r in section(result()).worst] == [6, 7, 8]
    longer = [Record(id=i, key="", scores={"bits_per_byte": float(i)}) for i in range(4)]
    assert [r.id for r in worst_records(longer, "bits_per_byte", 2)] == [3, 2]


def test_both_files(tmp_path: Path) -> None:
    write_result(result(), tmp_path / "one")
    write_result(result("two"), tmp_path / "two")
    paths = write_report(tmp_path)
    assert [path.name for path in paths] == ["report.md", "report.html"]
    markdown, page = (path.read_text(encoding="utf-8") for path in paths)
    assert "| task\\|one | acc | 0.6667 | [0.3542, 0.8794] | 9 |" in markdown
    assert "1 of 10 answers have no score: no \\<letter\\> was found." in markdown
    assert markdown.index("| \\<odd\\> | 0.75") > markdown.index("| even | 0.6")
    assert "````\nasked: question 6" in markdown  # the answer holds three backticks, the fence has four
    assert page.count("<section>") == 2 and "Furthest off" in page


def test_what_models_wrote_is_text(tmp_path: Path) -> None:
    write_result(result(), tmp_path)
    _, page = (path.read_text(encoding="utf-8") for path in write_report(tmp_path))
    tags = Tags(page).found
    assert not {"script", "img", "iframe", "link", "a"} & {tag for tag, _ in tags}
    assert not [
        name
        for _, attributes in tags
        for name in attributes
        if name.startswith("on") or name in ("src", "href")
    ]
    assert "&lt;script&gt;alert(1)" in page and "\\u202edlrow\\u0000" in page
    assert "\x1b" not in page and "\u202e" not in page
    policy = next(a["content"] for tag, a in tags if tag == "meta" and a.get("http-equiv"))
    assert policy is not None and policy.startswith("default-src 'none'")


def test_long_texts_keep_both_ends() -> None:
    assert visible("a" * 700 + "b" * 700, 100) == "a" * 50 + "\n[... 1,300 characters ...]\n" + "b" * 50
    assert visible("tab\tline\n \ud800") == "tab\tline\n \\ud800"


def test_no_results_is_said(tmp_path: Path) -> None:
    with pytest.raises(OrreryError, match="no results at"):
        write_report(tmp_path)


def test_figures_are_well_formed_and_escaped() -> None:
    few = mean_estimate([0.0, 1.0, 1.0])
    drawn = [
        heat_map("a < b", [[0.0, None], [1.0, 0.5]], rows=["&", "2"], columns=["<x>", "y"], x="x", y="y"),
        curves("c", [Curve(name="<n>", x=[1, 10], y=[few, 0.2])], log_x=True, threshold=0.8),
        curves("nothing", []),
        bars("d", [("<g>", few), ("none", mean_estimate([]))]),
        bars("e", [("g", mean_estimate([3.0, 5.0]))], percent=False),
    ]
    for svg in drawn:
        assert ElementTree.fromstring(svg).tag.endswith("svg")
    texts = "".join(ElementTree.fromstring(drawn[0]).itertext())
    assert "a < b" in texts and "×" in texts and "100" in texts and "50" in texts
    assert "66.7% (n=3)" in drawn[3] and "– (n=0)" in drawn[3] and "4 (n=2)" in drawn[4]
