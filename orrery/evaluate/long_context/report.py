"""What a long-context run found, as plain data, SVG figures and Markdown, and written to a folder.

long.json       estimates by task and length, effective lengths, position curves, settings
samples.jsonl   every answer
*.svg           heat map of depth and length, scores by length, scores by position
report.md       the tables
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orrery.evaluate.figures import Curve, curves, heat_map
from orrery.evaluate.long_context.effective import THRESHOLD, EffectiveLength, effective_length, over_tasks
from orrery.evaluate.long_context.middle import PositionCurve
from orrery.evaluate.long_context.run import Record, Records, estimate
from orrery.evaluate.statistics.estimate import Estimate
from orrery.kit.config import to_dict
from orrery.kit.files import atomic_write


@dataclass(frozen=True, kw_only=True)
class LongReport:
    """Everything a run found. `curves` are position sweeps by name, `sweeps` their records."""

    records: Records
    threshold: float = THRESHOLD
    curves: Mapping[str, PositionCurve] = field(default_factory=dict)
    sweeps: Mapping[str, Records] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def effective(self) -> dict[str, EffectiveLength]:
        """Effective context length by task."""
        return {
            task: effective_length(self.records.by_length(task), threshold=self.threshold)
            for task in self.records.tasks
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the answers."""
        return {
            "settings": to_dict(dict(self.settings)),
            "unscored": self.records.unscored,
            "cached_share": self.records.cached_share,
            "tasks": {
                task: {
                    "effective_length": {
                        "tokens": e.tokens,
                        "low": e.low,
                        "high": e.high,
                        "tested": e.tested,
                    },
                    "threshold": e.threshold,
                    "scores": {str(length): _plain(score) for length, score in e.scores.items()},
                }
                for task, e in self.effective().items()
            },
            "mean_over_tasks": {
                str(length): _plain(score) for length, score in over_tasks(self.records).items()
            },
            "positions": {
                name: {
                    "size": curve.size,
                    "scores": {str(p): _plain(score) for p, score in curve.scores.items()},
                    "primacy": _plain(curve.primacy),
                    "recency": _plain(curve.recency),
                    "u_shaped": curve.u_shaped,
                    "verdict": curve.verdict,
                    "unscored": curve.unscored,
                }
                for name, curve in self.curves.items()
            },
        }


def depth_grid(
    rows: tuple[Record, ...], task: str = "needle"
) -> tuple[list[float], list[int], list[list[float | None]]]:
    """Depths, lengths, and the mean score at each (depths down, lengths across); None where nothing was scored."""
    mine = [row for row in rows if row.task == task and row.tags.get("depth") is not None]
    depths = sorted({float(row.tags["depth"]) for row in mine})
    lengths = sorted({row.length for row in mine})
    table: list[list[float | None]] = []
    for depth in depths:
        cells = [[r for r in mine if r.tags["depth"] == depth and r.length == length] for length in lengths]
        found = [estimate(cell) for cell in cells]
        table.append([None if e is None else e.mean for e in found])
    return depths, lengths, table


def figures(report: LongReport) -> dict[str, str]:
    """SVG by file name."""
    made = {}
    depths, lengths, table = depth_grid(report.records.rows)
    if table:
        made["needle.svg"] = heat_map(
            "Needle in a haystack: answers found, in percent", table,
            rows=[f"{depth:.0%}" for depth in depths], columns=[f"{n:,}" for n in lengths],
            x="prompt length (tokens)", y="depth of the needle",
        )  # fmt: skip
    scored = {
        task: {n: s for n, s in e.scores.items() if s is not None} for task, e in report.effective().items()
    }
    if any(scored.values()):
        lines = [Curve(name=task, x=list(row), y=list(row.values())) for task, row in scored.items() if row]
        made["lengths.svg"] = curves(
            "Score by prompt length",
            lines,
            x="prompt length (tokens)",
            y="score",
            log_x=True,
            threshold=report.threshold,
        )
    for name, curve in report.curves.items():
        points = {p: s for p, s in curve.scores.items() if s is not None}
        if points:
            line = Curve(name=name, x=list(points), y=list(points.values()))
            made[f"positions-{name}.svg"] = curves(
                f"Score by the answer's position among {curve.size}", [line], x="position", y="score"
            )
    return made


def markdown(report: LongReport) -> str:
    """The tables and verdicts."""
    lines = ["# Long context", ""]
    found = report.effective()
    if found:
        lengths = sorted({n for e in found.values() for n in e.scores})
        lines += ["| task | " + " | ".join(f"{n:,}" for n in lengths) + " | effective length [interval] |"]
        lines += ["|---" * (len(lengths) + 2) + "|"]
        for task, e in found.items():
            cells = [_cell(e.scores.get(n)) for n in lengths]
            more = " (the longest tested)" if e.open_end else ""
            lines.append(f"| {task} | {' | '.join(cells)} | {e.tokens:,} [{e.low:,}, {e.high:,}]{more} |")
        lines += [
            "",
            f"Scores in percent with 95% intervals; a length passes at {100 * report.threshold:.1f}%.",
            "",
        ]
    for name, curve in report.curves.items():
        lines += [f"**{name}**, {curve.size} places: {curve.verdict}.", ""]
    for reason, count in report.records.unscored.items():
        lines += [f"Not scored: {count:,} ({reason}).", ""]
    lines.append(
        f"{report.records.cached_share:.0%} of the prompts' tokens were already in the engine's cache."
    )
    return "\n".join(lines) + "\n"


def write(report: LongReport, folder: str | Path) -> Path:
    """Each file whole or not at all; other files of the folder stay. Returns the folder."""
    rows = [row for records in (report.records, *report.sweeps.values()) for row in records.rows]
    files = {name: svg + "\n" for name, svg in figures(report).items()}
    files["samples.jsonl"] = "".join(json.dumps(to_dict(row), ensure_ascii=False) + "\n" for row in rows)
    files["report.md"] = markdown(report)
    files["long.json"] = json.dumps(report.to_dict(), indent=2) + "\n"
    for name, text in files.items():
        atomic_write(Path(folder) / name, text)
    return Path(folder)


def _cell(score: Estimate | None) -> str:
    if score is None:
        return "not scored"
    return f"{100 * score.mean:.0f} [{100 * score.low:.0f}, {100 * score.high:.0f}]"


def _plain(score: Estimate | None) -> dict[str, Any] | None:
    return None if score is None else score.to_dict()
