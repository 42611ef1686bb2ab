"""`report.html` of a folder of results: one file, no script, nothing loaded from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from orrery.evaluate.figures import bars
from orrery.evaluate.metrics.reliability_plot import reliability_svg
from orrery.evaluate.report import (
    LOWER_IS_BETTER,
    Section,
    groups,
    numbers,
    remarks,
    score_line,
    told_of,
    visible,
)
from orrery.evaluate.strategies.spending import COLUMNS, by_task, figure

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #111827; background: white; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { padding: .25rem .75rem; border-bottom: 1px solid #e5e7eb; text-align: right; }
th:first-child, td:first-child, td:nth-child(2), th:nth-child(2) { text-align: left; }
figure { margin: 1rem 0; } svg { max-width: 100%; height: auto; }
details { margin: .5rem 0; border: 1px solid #e5e7eb; border-radius: 6px; padding: .5rem .75rem; } summary { cursor: pointer; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: 13px/1.5 ui-monospace, monospace; margin: .5rem 0; }
.dim { color: #6b7280; }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
MOST_GROUPS = 60


def html(sections: Sequence[Section], name: str) -> str:
    """The whole page as text."""
    title = escape(f"Results: {visible(name)}")
    rows = "".join(_table_rows(part) for part in sections)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width"><title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>'
        "<table><thead><tr><th>task</th><th>metric</th><th>value</th><th>95% interval</th><th>n</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>{_strategies(sections)}{''.join(map(_section, sections))}</body></html>\n"
    )


def _strategies(sections: Sequence[Section]) -> str:
    """Of each task that strategies were measured on: the figure of accuracy against tokens, and its numbers."""
    parts = []
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    for task, found in by_task(part.result for part in sections).items():
        rows = "".join(
            f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in one.row())}</tr>" for one in found
        )
        parts.append(
            f"<section><h2>{_text(task)}: strategies</h2><figure>{figure(visible(task), found)}</figure>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></section>"
        )
    return "".join(parts)


def _table_rows(part: Section) -> str:
    result = part.result
    lines = [
        *result.metrics.items(),
        *((f"{m}, mean of {len(result.groups)} groups", e) for m, e in result.macro.items()),
    ]
    return "".join(
        f"<tr><td>{_text(result.task)}</td><td>{_text(metric)}</td>{''.join(f'<td>{x}</td>' for x in numbers(estimate))}</tr>"
        for metric, estimate in lines
    )


def _section(part: Section) -> str:
    told = "".join(f"<li>{_text(line)}</li>" for line in remarks(part.result))
    parts = [f"<section><h2>{_text(part.result.task)}</h2><ul>{told}</ul>"]
    if part.result.groups:
        found = list(groups(part).items())
        percent = part.main not in LOWER_IS_BETTER and all(0 <= e.mean <= 1 for _, e in found)
        shown = [(visible(name, 60), estimate) for name, estimate in found[:MOST_GROUPS]]
        parts.append(
            f"<figure>{bars(f'{part.main} by group, the worst first', shown, percent=percent)}</figure>"
        )
    if part.bins:
        parts.append(
            f"<figure>{reliability_svg(part.bins, title=f'Reliability, expected error {part.ece:.3f}')}</figure>"
        )
    if part.worst:
        parts.append("<h3>Furthest off</h3>")
    for record in part.worst:
        texts = "".join(
            f'<pre><span class="dim">{name}</span>\n{escape(text)}</pre>'
            for name, text in told_of(record).items()
        )
        parts.append(
            f"<details><summary>Question {record.id}: {_text(score_line(record))}</summary>{texts}</details>"
        )
    return "".join([*parts, "</section>"])


def _text(text: str) -> str:
    return escape(visible(text))
