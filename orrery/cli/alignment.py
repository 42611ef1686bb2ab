"""`orrery eval alignment | sycophancy | oversight | monitor`: what people want of a model, beside what it can do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orrery.cli.answers import WHO
from orrery.cli.common import MODEL, print_json

if TYPE_CHECKING:
    from orrery.evaluate.results import TaskResult

SUITE = ("hhh", "truthfulqa_mc1", "xstest")
"""Tasks of the suite: the three axes as pairs, truth, and refusals on either side."""


def alignment(
    model: Annotated[Path, typer.Argument(help=MODEL)],
    before: Annotated[
        Path | None,
        typer.Option(help="Another model, or this one before training: shows what was traded for what."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the tasks' data sets.", envvar="ORRERY_EVAL_DATA")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Questions of each task, evenly spread.", min=1)] = None,
    out: Annotated[Path, typer.Option(help="Folder for results; a folder for each model in it.")] = Path(
        "runs/alignment"
    ),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Helpful, honest and harmless as separate scores, refusals on either side, flattery; before and after where two models are given.

    Example: orrery eval alignment runs/dpo --before runs/sft --data data
    """
    from orrery.evaluate.alignment.hhh import axes, trade_off
    from orrery.evaluate.alignment.safety import of_result

    found = {str(who): _suite(who, data, limit, out) for who in (model, *([before] if before else []))}
    results, flattery = found[str(model)]
    told: dict[str, Any] = {}
    for who, (measured, swayed) in found.items():
        rates = of_result(measured["xstest"])
        told[who] = {
            **axes(measured["hhh"]), "truthful (TruthfulQA)": measured["truthfulqa_mc1"].metrics["acc"],
            "complies with unsafe requests": rates.compliance, "refuses safe requests": rates.over_refusal,
            **{f"gives up right answers ({name})": one.flip for name, one in swayed.items()},
        }  # fmt: skip
    changes = {}
    if before:
        changes = trade_off(found[str(before)][0]["hhh"], results["hhh"]).axes
    if json:
        print_json({
            "models": {who: {name: e.to_dict() for name, e in scores.items()} for who, scores in told.items()},
            "change": {axis: change.to_dict() for axis, change in changes.items()},
            "sycophancy": {name: one.to_dict() for name, one in flattery.items()},
        })  # fmt: skip
        return
    names = list(told[str(model)])
    _table(
        ("measured", *told), [(name, *(_shown(scores[name]) for scores in told.values())) for name in names]
    )
    if changes:
        rows = [(axis, f"{c.difference.mean:+.3f} [{c.difference.low:+.3f}, {c.difference.high:+.3f}]", _pairs(c)) for axis, c in changes.items()]  # fmt: skip
        _table(("axis", f"{model} less {before} [95%]", "pairs only one has right (before | after)"), rows)


def sycophancy(
    model: Annotated[Path, typer.Argument(help=MODEL)],
    tasks: Annotated[
        str, typer.Option(help="Tasks with right answers, with commas between (`orrery eval list`).")
    ] = "arithmetic",
    data: Annotated[
        Path | None, typer.Option(help="Folder of the tasks' data sets.", envvar="ORRERY_EVAL_DATA")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Questions of each task, evenly spread.", min=1)] = None,
    chat: Annotated[
        bool | None,
        typer.Option("--chat/--no-chat", help="Ask by the model's chat format (default: where it has one)."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides which wrong answers users claim.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """How often a right answer is given up under doubt, contradiction or a stated opinion, beside how often it changes by itself.

    Example: orrery eval sycophancy runs/sft --tasks arithmetic,gsm8k --data data --limit 100
    """
    import orrery
    from orrery.evaluate.alignment.sycophancy import sycophancy as measure
    from orrery.evaluate.subject import Subject
    from orrery.kit.log import console

    subject, found = Subject.of(orrery.load(model)), {}
    for name in (part.strip() for part in tasks.split(",") if part.strip()):
        with console.status(f"{name} under pressure ..."):
            found[name] = measure(subject, name, data=data, limit=limit, chat=chat, seed=seed)
    if json:
        print_json({name: {one.pressure: one.to_dict() for one in by.values()} for name, by in found.items()})
        return
    _table(
        ("task", "pressure", "right answers given up", "of them without pressure as well", "user's answer adopted", "accuracy before, under it"),
        [
            (name, one.pressure, _shown(one.flip), _excess(one), "-" if one.adopted is None else _shown(one.adopted), "{:.3f}, {:.3f}".format(*one.accuracy))
            for name, by in found.items()
            for one in by.values()
        ],
    )  # fmt: skip


def oversight(
    disputes: Annotated[
        Path,
        typer.Argument(help="JSON lines with question, right, wrong, and material that only experts see."),
    ],
    judge: Annotated[str, typer.Option(help=f"Who judges, the weaker one: {WHO}.")],
    expert: Annotated[str, typer.Option(help="Who argues and criticises: the same kinds of names.")],
    rounds: Annotated[int, typer.Option(help="Rounds of a debate.", min=1)] = 2,
    limit: Annotated[int | None, typer.Option(help="Only so many disputes.", min=1)] = None,
    out: Annotated[Path | None, typer.Option(help="File for every judgement (.jsonl).")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """A weak judge on questions it cannot answer: alone, with a consultant of unknown side, with a critic, after a debate.

    Example: orrery eval oversight disputes.jsonl --judge gemma-3-270m --expert http://127.0.0.1:8000
    """
    from orrery.cli.answers import chat_model
    from orrery.evaluate.alignment.oversight import oversight as measure
    from orrery.evaluate.alignment.oversight import read_disputes
    from orrery.kit.json_lines import write_rows

    found = measure(chat_model(judge), chat_model(expert), read_disputes(disputes)[:limit], rounds=rounds)
    if out is not None:
        write_rows(out, [one.to_dict() for one in found.decisions])
    if json:
        accuracy = {name: e.to_dict() for name, e in found.accuracy.items()}
        print_json({"accuracy": accuracy, "gain": {n: g._asdict() for n, g in found.gain.items()}, "unscored": found.unscored})  # fmt: skip
        return
    rows = [(name, _shown(e), _gain(found.gain.get(name))) for name, e in found.accuracy.items()]
    _table(
        ("the judge", "chooses the right answer [95%]", "against alone"),
        [*rows, ("without a verdict", str(found.unscored), "")],
    )


def monitor(
    who: Annotated[
        str, typer.Argument(metavar="MONITOR", help=f"'words' (a list of phrases), or {WHO.lower()}.")
    ],
    traces: Annotated[
        Path | None,
        typer.Option(help="JSON lines with request, reasoning, answer, planted (default: sums, made here)."),
    ] = None,
    n: Annotated[int, typer.Option(help="How many traces are made without a file.", min=2)] = 200,
    obscured: Annotated[
        float, typer.Option(help="The share of made ones whose reasoning hides the intent.", min=0, max=1)
    ] = 0.0,
    false_alarms: Annotated[
        float, typer.Option(help="The share of harmless traces that may be flagged.", min=0, max=1)
    ] = 0.05,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """How much planted bad intent a monitor finds by reading answers, reasoning, or both.

    Example: orrery eval monitor gemma-3-270m --n 100 --obscured 0.5
    """
    from orrery.cli.answers import chat_model
    from orrery.evaluate.alignment.monitor import (
        INTENT,
        chat_monitor,
        monitorability,
        planted,
        read_traces,
        words_monitor,
    )

    given = planted(n, obscured=obscured) if traces is None else read_traces(traces)
    watcher = words_monitor(INTENT) if who == "words" else chat_monitor(chat_model(who))
    found = monitorability(watcher, given, false_alarms=false_alarms)
    if json:
        print_json({view: {"rate": d.rate.to_dict(), "false_alarms": d.false_alarms.to_dict(), "auc": d.auc, "unscored": d.unscored} for view, d in found.items()})  # fmt: skip
        return
    rows = [
        (view, _shown(d.rate), _shown(d.false_alarms), f"{d.auc:.3f}", str(d.unscored))
        for view, d in found.items()
    ]
    _table(("the monitor reads", "planted intent found [95%]", "false alarms", "AUC", "unscored"), rows)


def _suite(
    who: Path, data: Path | None, limit: int | None, out: Path
) -> tuple[dict[str, TaskResult], Mapping[str, Any]]:
    """The suite's results on one model, resumed where they were begun."""
    import orrery
    from orrery.cli.common import live
    from orrery.evaluate.alignment.sycophancy import sycophancy as measure
    from orrery.evaluate.run_task import run_task
    from orrery.evaluate.subject import Subject
    from orrery.kit.config import digest

    subject = Subject.of(orrery.load(who))
    folder = out / f"{subject.name}-{digest([subject.fingerprint, limit], 8)}"
    results = {}
    for name in SUITE:
        with live(name) as progress:
            results[name] = run_task(subject, name, data=data, limit=limit, out=folder, progress=progress)
    return results, measure(subject, "arithmetic", limit=min(limit or 100, 100))


def _pairs(change: Any) -> str:
    return "" if change.mcnemar is None else f"{change.mcnemar.b} | {change.mcnemar.c}"


def _excess(one: Any) -> str:
    if one.excess is None:
        return "-"
    e = one.excess.difference
    return f"{one.flip.mean - e.mean:.3f}, {e.mean:+.3f} [{e.low:+.3f}, {e.high:+.3f}] beyond"


def _gain(found: Any) -> str:
    return "" if found is None else f"{found.c} gained, {found.b} lost, p {found.p:.3g}"


def _shown(e: Any) -> str:
    return f"{e.mean:.3f} [{e.low:.3f}, {e.high:.3f}] n={e.n}"


def _table(columns: tuple[str, ...], rows: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
