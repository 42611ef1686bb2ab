"""A report of a folder of results, for a person: `report.md`, and `report.html` with figures, one file without scripts or network.

    write_report("runs/eval/model")           # beside the tasks' folders that `orrery eval` wrote

Every number has its interval and its n. Shown of each task: the metrics; its groups; how far the probability given to the chosen answer
can be believed; and the worst answers, the surest among the wrong ones first. What models and data sets wrote is shown as text and
nothing else: escaped, control characters made visible, cut where it is long.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orrery.evaluate.metrics.calibration import Bin, ece, reliability
from orrery.evaluate.record import Record
from orrery.evaluate.results import TaskResult, read_results
from orrery.evaluate.statistics.estimate import Estimate
from orrery.evaluate.strategies.spending import COLUMNS, by_task
from orrery.kit.files import atomic_write

WORST, SHOWN = 5, 1500
"""How many answers of a task are shown, and how many characters of each text."""
LOWER_IS_BETTER = frozenset(("bits_per_byte", "byte_perplexity", "word_perplexity"))
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


@dataclass(frozen=True, kw_only=True)
class Section:
    """What is shown of one task. `main`: the metric that ranks its answers. `bins`: of tasks with choices, else empty."""

    result: TaskResult
    main: str
    bins: tuple[Bin, ...]
    ece: float
    worst: tuple[Record, ...]


def write_report(folder: str | Path) -> list[Path]:
    """Read the results in a folder (or one level below), write both reports into it; their paths.

    Raises:
        OrreryError: there are no results, or they are damaged.
    """
    from orrery.evaluate.report_html import html

    folder = Path(folder)
    sections = [section(result) for result in read_results(folder).values()]
    files = {
        folder / "report.md": markdown(sections, folder.name),
        folder / "report.html": html(sections, folder.name),
    }
    for path, text in files.items():
        atomic_write(path, text)
    return list(files)


def section(result: TaskResult, *, worst: int = WORST) -> Section:
    """What a task's result has to show."""
    main = next(iter(result.metrics), "")
    sure = [(c, r) for r in result.records if (c := confidence(r)) is not None and "acc" in r.scores]
    confidences, right = [c for c, _ in sure], [r.scores["acc"] for _, r in sure]
    return Section(
        result=result,
        main=main,
        bins=tuple(reliability(confidences, right, bins=10)) if sure else (),
        ece=ece(confidences, right, bins=10),
        worst=tuple(worst_records(result.records, main, worst)),
    )


def confidence(record: Record) -> float | None:
    """The probability of the chosen answer among the choices, softmax of their log-probabilities; None without choices."""
    logprobs = record.detail.get("logprobs")
    if not logprobs or not isinstance(logprobs, Sequence):
        return None
    most = max(logprobs)
    return 1.0 / math.fsum(math.exp(value - most) for value in logprobs)


def worst_records(records: Sequence[Record], metric: str, n: int) -> list[Record]:
    """The scored answers that are furthest off: the worst by the metric, the surest of equals first. Right answers are not among them."""
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    off = [r for r in records if metric in r.scores and (sign < 0 or r.scores[metric] < 1.0)]
    return sorted(off, key=lambda r: (sign * r.scores[metric], -(confidence(r) or 0.0), r.id))[:n]


def remarks(result: TaskResult) -> list[str]:
    """What a reader of the numbers must know, in sentences."""
    told = []
    for reason, count in result.unscored.items():
        told.append(f"{count:,} of {len(result.records):,} answers have no score: {reason}.")
    if result.truncated:
        told.append(f"{result.truncated:,} prompts were longer than the context and lost their beginning.")
    seen = result.contamination
    if seen.status == "found":
        without = result.without(frozenset(seen.ids)).metrics
        rest = ", ".join(f"{name} {estimate.mean:.4g}" for name, estimate in without.items())
        told.append(
            f"{len(seen.ids):,} of {seen.checked:,} questions stand in the training data; without them: {rest or 'nothing is left'}."
        )
    elif seen.status == "clean":
        told.append(f"None of {seen.checked:,} questions was found in {seen.texts:,} training texts.")
    else:
        told.append(f"Whether the questions were in the training data is not known: {seen.reason}.")
    return told


def markdown(sections: Sequence[Section], name: str) -> str:
    """The report as Markdown."""
    lines = [
        f"# Results: {_cell(name)}",
        "",
        "| task | metric | value | 95% interval | n |",
        "|---|---|---|---|---|",
    ]
    for part in sections:
        for metric, estimate in _rows(part.result):
            lines.append(f"| {_cell(part.result.task)} | {_cell(metric)} | {' | '.join(numbers(estimate))} |")
    for task, found in by_task(part.result for part in sections).items():
        lines += [
            "",
            f"## {_cell(task)}: strategies",
            "",
            f"| {' | '.join(COLUMNS)} |",
            "|---" * len(COLUMNS) + "|",
        ]
        lines += [f"| {' | '.join(map(_cell, one.row()))} |" for one in found]
    for part in sections:
        lines += [
            "",
            f"## {_cell(part.result.task)}",
            "",
            *(f"- {_cell(told)}" for told in remarks(part.result)),
            "",
        ]
        if part.result.groups:
            lines += [f"| group | {_cell(part.main)} | 95% interval | n |", "|---|---|---|---|"]
            lines += [
                f"| {_cell(group)} | {' | '.join(numbers(estimate))} |"
                for group, estimate in groups(part).items()
            ]
            lines.append("")
        if part.bins:
            lines += [f"Expected calibration error {part.ece:.3f} (ten bins).", ""]
        for record in part.worst:
            lines += [f"Question {record.id}, {score_line(record)}:", "", *_fenced(told_of(record)), ""]
    return "\n".join(lines) + "\n"


def groups(part: Section) -> Mapping[str, Estimate]:
    """The main metric by group, the worst first."""
    sign = -1.0 if part.main in LOWER_IS_BETTER else 1.0
    found = {name: of[part.main] for name, of in part.result.groups.items() if part.main in of}
    return dict(sorted(found.items(), key=lambda pair: sign * pair[1].mean))


def numbers(estimate: Estimate) -> tuple[str, str, str]:
    """Value, interval and n as text; what is not known is a dash."""
    if math.isnan(estimate.mean):
        return "–", "–", f"{estimate.n:,}"
    interval = "–" if math.isnan(estimate.low) else f"[{estimate.low:.4g}, {estimate.high:.4g}]"
    return f"{estimate.mean:.4g}", interval, f"{estimate.n:,}"


def score_line(record: Record) -> str:
    """The scores of one answer, and how sure it was."""
    told = [f"{name} {value:.4g}" for name, value in record.scores.items()]
    sure = confidence(record)
    return ", ".join([*told, *([] if sure is None else [f"confidence {sure:.3f}"])])


def told_of(record: Record) -> dict[str, str]:
    """Question, answer and gold as texts that can be shown."""
    gold = record.gold if isinstance(record.gold, str) else ", ".join(map(str, record.gold))
    texts = {"asked": record.own or record.prompt, "answered": record.answer, "right": gold}
    return {name: visible(text) for name, text in texts.items() if text}


def visible(text: str, most: int = SHOWN) -> str:
    """Control characters, direction marks and lone surrogates spelled out; long texts keep their beginning and end."""
    text = _HIDDEN.sub(lambda m: f"\\u{ord(m[0]):04x}", text)
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half:,} characters ...]\n{text[-half:]}"


def _rows(result: TaskResult) -> list[tuple[str, Estimate]]:
    means = [(f"{name}, mean of {len(result.groups)} groups", e) for name, e in result.macro.items()]
    return [*result.metrics.items(), *means]


def _cell(text: str) -> str:
    """Text as Markdown that says just this."""
    return re.sub(r"([\\`*_\[\]<>|#&])", r"\\\1", " ".join(visible(text).split()))


def _fenced(texts: Mapping[str, str]) -> list[str]:
    """A code block whose fence is longer than any run of backticks inside."""
    body = "\n".join(f"{name}: {text}" for name, text in texts.items())
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", body)), default=0))
    return [fence, body, fence]
