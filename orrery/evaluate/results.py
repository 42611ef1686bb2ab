"""What a task measured: numbers with their uncertainty, every answer, and all that is needed to measure it again.

    runs/eval/model/gsm8k/
        results.json      metrics, groups, counts, settings
        samples.jsonl     a record a row

n counts the rows that were scored; those that could not be are counted beside it, by reason, and are in no mean.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orrery.evaluate.contamination import Contamination
from orrery.evaluate.record import Record
from orrery.evaluate.statistics.estimate import Estimate, mean_estimate, normal_estimate, ratio_estimate
from orrery.evaluate.statistics.proportion import wilson
from orrery.kit.config import to_dict
from orrery.kit.errors import OrreryError
from orrery.kit.files import atomic_folder, write_file
from orrery.kit.json_lines import line_of, read_rows

RESULTS, SAMPLES = "results.json", "samples.jsonl"


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """One task, measured on one model.

    Attributes:
        metrics: over all scored rows. groups: the same for each group. macro: the mean of the groups, each counting once.
        unscored: reasons, and how many rows each. truncated: how many rows' prompts were cut.
        settings: the task, the model, the data's hashes, the versions: what a repetition needs.
    """

    task: str
    version: int | str
    metrics: Mapping[str, Estimate]
    groups: Mapping[str, Mapping[str, Estimate]]
    macro: Mapping[str, Estimate]
    unscored: Mapping[str, int]
    truncated: int
    contamination: Contamination
    settings: Mapping[str, Any]
    records: tuple[Record, ...]

    @property
    def n(self) -> int:
        """Rows that were scored."""
        return len(self.records) - sum(self.unscored.values())

    @property
    def spent(self) -> dict[str, Estimate]:
        """Of a test-time strategy: tokens made and read for an answer, and completions, scored or not; empty without one."""
        asked = [record.detail for record in self.records if "calls" in record.detail]
        names = ("tokens", "read", "calls") if asked else ()
        return {name: mean_estimate(np.array([float(detail[name]) for detail in asked])) for name in names}

    @classmethod
    def of(
        cls,
        records: Sequence[Record],
        *,
        settings: Mapping[str, Any],
        contamination: Contamination | None = None,
    ) -> TaskResult:
        """The numbers that these records give."""
        task = settings["task"]
        grouped: dict[str, list[Record]] = defaultdict(list)
        for record in records:
            if record.group:
                grouped[record.group].append(record)
        groups = {name: estimates(of) for name, of in sorted(grouped.items())}
        return cls(
            task=task["name"], version=task["version"], metrics=estimates(records), groups=groups, macro=macro(groups),
            unscored=dict(Counter(r.unscored for r in records if r.unscored).most_common()),
            truncated=sum(r.truncated > 0 for r in records),
            contamination=contamination or Contamination(), settings=settings,
            records=tuple(sorted(records, key=lambda r: r.id)),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """What results.json holds."""
        return {
            "task": self.task, "version": self.version, "n": self.n, "unscored": dict(self.unscored),
            "truncated": self.truncated, "metrics": _plain(self.metrics), "macro": _plain(self.macro),
            "groups": {name: _plain(group) for name, group in self.groups.items()},
            "contamination": to_dict(self.contamination), "settings": self.settings,
            **({"spent": _plain(spent)} if (spent := self.spent) else {}),
        }  # fmt: skip

    def without(self, ids: frozenset[int]) -> TaskResult:
        """The same measured without these rows."""
        kept = [record for record in self.records if record.id not in ids]
        return replace(TaskResult.of(kept, settings=self.settings), contamination=self.contamination)


def estimates(records: Sequence[Record]) -> dict[str, Estimate]:
    """Each metric over the records that were scored.

    Rights and wrongs have Wilson's interval, other numbers the normal one; bits per byte are a ratio of sums, and perplexities its
    exponentials.
    """
    scored = [record for record in records if not record.unscored]
    if scored and "nats" in scored[0].detail:
        return _of_texts(scored)
    names = dict.fromkeys(name for record in scored for name in record.scores)
    return {name: _metric(name, [record for record in scored if name in record.scores]) for name in names}


def _metric(name: str, records: Sequence[Record]) -> Estimate:
    values = np.array([record.scores[name] for record in records])
    if any(name in record.weights for record in records):
        weights = np.array([record.weights.get(name, 1.0) for record in records])
        return ratio_estimate(values * weights, weights)
    return mean_of_scores(values)


def mean_of_scores(values: NDArray[np.float64]) -> Estimate:
    """The mean over rows, with Wilson's interval for rights and wrongs."""
    estimate = mean_estimate(values)
    if np.isin(values, (0, 1)).all():
        interval = wilson(int(values.sum()), len(values))
        return replace(estimate, low=interval.low, high=interval.high)
    return estimate


def _of_texts(records: Sequence[Record]) -> dict[str, Estimate]:
    nats, size, words = (np.array([r.detail[name] for r in records]) for name in ("nats", "bytes", "words"))
    return {
        "bits_per_byte": ratio_estimate(nats / math.log(2), size),
        "byte_perplexity": _exponential(ratio_estimate(nats, size)),
        "word_perplexity": _exponential(ratio_estimate(nats, words)),
    }


def _exponential(x: Estimate) -> Estimate:
    """exp of an estimate: the interval's ends are carried over, the error to first order."""
    mean, low, high = (math.exp(min(value, 700.0)) for value in (x.mean, x.low, x.high))
    return Estimate(mean=mean, standard_error=mean * x.standard_error, low=low, high=high, n=x.n)


def macro(groups: Mapping[str, Mapping[str, Estimate]]) -> dict[str, Estimate]:
    """The mean over groups of each metric; groups are taken as given, so the error is that of their own errors alone."""
    names = dict.fromkeys(name for group in groups.values() for name in group)
    found = {}
    for name in names:
        of = [group[name] for group in groups.values() if name in group]
        error = math.sqrt(sum(e.standard_error**2 for e in of)) / len(of)
        found[name] = normal_estimate(sum(e.mean for e in of) / len(of), error, sum(e.n for e in of))
    return found


def _plain(metrics: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.to_dict() for name, estimate in metrics.items()}


# --- on disk


def write_result(result: TaskResult, folder: Path) -> None:
    """Write the folder of one result, whole or not at all."""
    with atomic_folder(folder) as new:
        put_result(result, new)


def put_result(result: TaskResult, folder: Path) -> None:
    """Write the files of one result into a folder that is being made."""
    write_file(folder / RESULTS, json.dumps(result.to_dict(), indent=2, ensure_ascii=False) + "\n")
    write_file(folder / SAMPLES, "".join(line_of(record.to_dict()) for record in result.records))


def read_result(folder: Path) -> TaskResult:
    """The result in a folder; its numbers are computed from the records.

    Raises:
        OrreryError: there is none, or it is damaged.
    """
    if not (folder / RESULTS).is_file():
        raise OrreryError(f"no result at '{folder}'; `orrery eval MODEL --tasks ... --out DIR` writes one")
    try:
        told = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        records = [Record.from_dict(row) for row in read_rows(folder / SAMPLES)]
        contamination = Contamination(**told["contamination"])
        return TaskResult.of(records, settings=told["settings"], contamination=contamination)
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, OrreryError):
            raise
        raise OrreryError(f"the result in '{folder}' is damaged; measure it again") from None


def read_results(folder: Path) -> dict[str, TaskResult]:
    """All results in a folder or one level below it, by task.

    Raises:
        OrreryError: there is none.
    """
    places = (
        [folder] if (folder / RESULTS).is_file() else sorted(p.parent for p in folder.glob(f"*/{RESULTS}"))
    )
    if not places:
        raise OrreryError(
            f"no results at '{folder}'; `orrery eval MODEL --tasks ... --out {folder}` writes them"
        )
    return {result.task: result for result in map(read_result, places)}
