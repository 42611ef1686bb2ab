"""`report.html`: one file, no script, no network; light and dark."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from orrery.cli.pipeline.chart import Line, bar_chart, line_chart, smooth

if TYPE_CHECKING:
    from orrery.cli.pipeline.lessons import Lesson, Practice
    from orrery.cli.pipeline.report import Findings

STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --dim: #687083; --paper: #fbfaf7; --card: #fff; --edge: #e3e1da;
  --a: #2458c5; --b: #c2571a; --fill: #b9c3d6; --good: #1d7f5b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ee; --dim: #98a0b3; --paper: #14171d; --card: #1b1f27;
  --edge: #2d333f; --a: #7aa7ff; --b: #f0a06a; --fill: #434c5e; --good: #58c79b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 80px; }
h1 { font-size: 2rem; margin: 0 0 4px; } h2 { font-size: 1.15rem; margin: 44px 0 12px; }
.lead { font-size: 1.15rem; max-width: 62ch; }
.grid2 { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); gap: 18px; }
figure { margin: 0; padding: 14px 16px; background: var(--card); border: 1px solid var(--edge); border-radius: 10px; }
figcaption { font-weight: 600; margin-bottom: 6px; } small, .dim { color: var(--dim); font-weight: 400; }
svg { width: 100%; height: auto; display: block; }
.grid { stroke: var(--edge); } .tick { fill: var(--dim); font-size: 11px; }
.series { fill: none; stroke: var(--a); stroke-width: 1.8; stroke-linejoin: round; } .series.b { stroke: var(--b); }
.series.faint { stroke: var(--fill); stroke-width: 1; }
.key { font-weight: 400; font-size: .82rem; margin-left: 12px; color: var(--a); } .key.b { color: var(--b); } .key.faint { color: var(--dim); }
.bar { display: grid; grid-template-columns: 13em 1fr 4em; align-items: center; gap: 10px; padding: 3px 0; }
.bar .track { background: none; } .bar .fill { display: block; height: 15px; border-radius: 3px; background: var(--fill); }
.bar.strong { font-weight: 700; } .bar.strong .fill { background: var(--good); } .bar .value { text-align: right; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; width: 100%; } td { padding: 5px 8px; border-bottom: 1px solid var(--edge); vertical-align: top; }
td:first-child { color: var(--dim); white-space: nowrap; }
pre { margin: 0; padding: 12px 14px; background: var(--card); border: 1px solid var(--edge); border-radius: 10px; overflow-x: auto;
  white-space: pre-wrap; overflow-wrap: anywhere; font: 13px/1.5 ui-monospace, monospace; }
pre b { color: var(--a); font-weight: 600; } .sample { margin-bottom: 12px; } .sample .dim { font-size: .85rem; }
code { font: .9em ui-monospace, monospace; background: var(--card); padding: 1px 5px; border-radius: 4px; border: 1px solid var(--edge); }
@media (max-width: 560px) { .bar { grid-template-columns: 8em 1fr 3.5em; } main { padding: 24px 14px 60px; } }
"""


def html(findings: Findings) -> str:
    """The whole page as text."""
    from orrery.cli.pipeline.report import advice, facts, verdict

    bars = (
        bar_chart("Held-out documents", findings.ranking(), "bits per byte, less is better")
        if findings.ranking()
        else ""
    )
    numbers = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in facts(findings)
    )
    said = "".join(
        f'<div class="sample"><pre><b>{escape(item["prompt"])}</b>{escape(item["text"])}</pre></div>'
        for item in findings.generations
    )
    grown = "".join(
        f'<div class="sample"><div class="dim">step {item["step"]:,}</div><pre>{escape(item["text"])}</pre></div>'
        for item in findings.samples
    )
    taught = "".join(_lesson(lesson) for lesson in findings.lessons)
    taught += "".join(_practice(practice) for practice in findings.practices)
    answered = _answers(findings) if findings.scores else ""
    tips = "".join(f"<li>{_code(escape(tip))}</li>" for tip in advice(findings))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(findings.name)} · orrery</title><style>{STYLE}</style></head><body><main>
<h1>{escape(findings.name)}</h1>
<p class="lead">{escape(verdict(findings))}</p>
{bars}
<h2>How training went</h2><div class="grid2">{"".join(charts(findings.metrics))}</div>
{taught}{answered}
<h2>Numbers</h2><figure><table>{numbers}</table></figure>
{f"<h2>What it says</h2>{said}" if said else ""}
{f"<h2>As training went on</h2>{grown}" if grown else ""}
<h2>What to try next</h2><ul>{tips}</ul>
<p class="dim">Model: <code>{escape(str(findings.model))}</code></p>
</main></body></html>
"""


def _lesson(lesson: Lesson) -> str:
    """How one stage of teaching went."""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{before:.3f}</td><td>{after:.3f}</td></tr>"
        for name, before, after in lesson.heldout()
    )
    held = f"<figure><figcaption>Held-out examples <small>nats a supervised token, before and after</small></figcaption><table>{rows}</table></figure>"
    return f'<h2>{escape(lesson.name)}: learning from examples</h2><div class="grid2">{charts(lesson.metrics)[0]}{held}</div>'


def _practice(practice: Practice) -> str:
    """How one stage of reinforcement learning went."""
    return f'<h2>{escape(practice.name)}: learning from rewards</h2><div class="grid2">{"".join(practice_charts(practice))}</div>'


def practice_charts(practice: Practice) -> list[str]:
    """Reward (and right answers to held-out problems), KL to the start, entropy and length over rounds."""

    def lines(key: str) -> list[Line]:
        points = [(row["step"], row[key]) for row in practice.metrics if row.get(key) is not None]
        drawn = [Line(name="each round", points=points, css="faint")]
        return [*drawn, Line(name="smoothed", points=smooth(points, max(1, len(points) // 12)))]

    heldout = practice.heldout()
    right = [Line(name="right on held-out problems", points=heldout, css="b")] if heldout else []
    shown = {"kl_start": "KL to the start (nats a token)", "entropy": "Entropy (nats a token)", "length": "Length of answers (tokens)"}  # fmt: skip
    return [
        line_chart("Reward", [*lines("reward"), *right], x_label="round"),
        *(line_chart(title, lines(key), x_label="round") for key, title in shown.items()),
    ]


def _answers(findings: Findings) -> str:
    """The share of right answers stage by stage, and some answers."""
    from orrery.cli.pipeline import lessons

    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row in lessons.table(findings.scores)
    )
    bars = "".join(
        bar_chart(row.task, [(model, mean, model == list(row.means)[-1]) for model, mean in row.means.items()], "share of right answers")
        for row in lessons.rows(findings.scores) if len(row.means) > 1
    )  # fmt: skip
    said = "".join(
        f'<figure><figcaption>{escape(task)} <small>what {escape(findings.scores[-1].model)} says</small></figcaption><pre>'
        + "\n".join(
            f"{escape(record.own)}\n<b>{escape(record.answer)}</b> {'&#10003;' if lessons.right(record) else '&#10007; ' + escape(str(record.gold).strip())}\n"
            for record in shown
        )
        + "</pre></figure>"
        for task, shown in lessons.answers(findings.scores)
    )  # fmt: skip
    return (
        f'<h2>Answers, stage by stage</h2><div class="grid2">{bars}</div><figure style="margin-top:18px"><table>{body}</table>'
        f'<small>{lessons.NOTE}</small></figure><div class="grid2" style="margin-top:18px">{said}</div>'
    )


def charts(metrics: list[dict[str, Any]]) -> list[str]:
    """Loss, learning rate, gradient norm and speed over steps."""

    def series(key: str) -> list[tuple[float, float]]:
        return [(row["step"], row[key]) for row in metrics if row.get(key) is not None]

    loss = series("loss")
    window = max(1, len(loss) // 60)
    lines = [
        Line(name="each step", points=loss, css="faint"),
        Line(name="smoothed", points=smooth(loss, window)),
    ]
    validation = series("validation")
    if validation:
        lines.append(Line(name="held out", points=validation, css="b"))
    return [
        line_chart("Loss (nats a token)", lines),
        line_chart("Learning rate", [Line(name="learning rate", points=series("lr"))]),
        line_chart("Gradient norm", [Line(name="gradient norm", points=series("grad_norm"))], log_y=True),
        line_chart(
            "Tokens per second", [Line(name="tokens per second", points=smooth(series("tokens_per_s"), 5))]
        ),
    ]


def _code(text: str) -> str:
    parts = text.split("`")
    return "".join(f"<code>{part}</code>" if n % 2 else part for n, part in enumerate(parts))
