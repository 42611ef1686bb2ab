"""What a load test found, in numbers and as tables: latencies by percentile, throughput, goodput, and the curve over the rates.

throughput    tokens (and requests) that were answered, a second, from the first arrival to the last answer
goodput       the share of requests that were answered within the service-level objective; who was refused or failed was not
              (Zhong et al. 2024, DistServe, arXiv:2401.09670)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from orrery.serve.load import LoadTest, Run
from orrery.serve.load_client import Outcome, Status

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

BAR = 24
"""Characters of the longest bar."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a caller wants of every request, in milliseconds; None: does not matter. ITL is the request's own mean."""

    ttft_ms: float | None = None
    itl_ms: float | None = None

    def met(self, outcome: Outcome) -> bool:
        """Whether it was answered in time."""
        return (
            outcome.status == "ok"
            and (self.ttft_ms is None or 1e3 * outcome.ttft <= self.ttft_ms)
            and (self.itl_ms is None or 1e3 * outcome.itl <= self.itl_ms)
        )


@dataclass(frozen=True, kw_only=True)
class Percentiles:
    """Half, 95 and 99 of 100 are at or below these."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Percentiles | None:
        """None where there are none; between two values, linear."""
        found = list(values)
        if not found:
            return None
        p50, p95, p99 = np.percentile(found, [50, 95, 99]).tolist()
        return cls(p50=p50, p95=p95, p99=p99)


@dataclass(frozen=True, kw_only=True)
class RateReport:
    """One rate. Milliseconds; percentiles are over answered requests, of ITL over all gaps between their pieces.

    Attributes:
        counts: by status. unsent: were due when the test was broken off.
        tps: tokens a second that one reader sees. tokens_per_s: of all answers together.
        goodput: a share; None without an objective. good_per_s: requests a second that met it.
        reasons: why requests failed or were refused, with how many.
    """

    rate: float
    seconds: float
    counts: dict[Status, int]
    unsent: int
    prompt_tokens: int
    answer_tokens: int
    ttft_ms: Percentiles | None
    itl_ms: Percentiles | None
    latency_ms: Percentiles | None
    tps: Percentiles | None
    requests_per_s: float
    tokens_per_s: float
    goodput: float | None
    good_per_s: float | None
    reasons: dict[str, int]


def summarise(run: Run, objective: Objective) -> RateReport:
    """The numbers of one rate."""
    ok = [outcome for outcome in run.outcomes if outcome.status == "ok"]
    asked = objective != Objective()
    counted = [outcome for outcome in run.outcomes if outcome.status != "unfinished"]
    met = sum(objective.met(outcome) for outcome in counted)
    tokens = sum(outcome.tokens for outcome in ok)
    statuses = Counter(outcome.status for outcome in run.outcomes)
    return RateReport(
        rate=run.rate,
        seconds=run.seconds,
        counts={status: statuses[status] for status in ("ok", "refused", "failed", "unfinished")},
        unsent=run.due - len(run.outcomes),
        prompt_tokens=sum(outcome.prompt for outcome in ok),
        answer_tokens=tokens,
        ttft_ms=Percentiles.of(1e3 * outcome.ttft for outcome in ok),
        itl_ms=Percentiles.of(1e3 * gap for outcome in ok for gap in outcome.gaps),
        latency_ms=Percentiles.of(1e3 * outcome.end for outcome in ok),
        tps=Percentiles.of(outcome.tps for outcome in ok if outcome.tps is not None),
        requests_per_s=len(ok) / run.seconds,
        tokens_per_s=tokens / run.seconds,
        goodput=met / len(counted) if asked and counted else None,
        good_per_s=met / run.seconds if asked else None,
        reasons=dict(Counter(outcome.why for outcome in run.outcomes if outcome.why).most_common()),
    )


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """All rates of a test against `url`."""

    url: str
    model: str
    seed: int
    objective: Objective
    interrupted: bool
    rates: tuple[RateReport, ...]

    @classmethod
    def of(cls, test: LoadTest, *, url: str, model: str, seed: int, objective: Objective) -> LoadReport:
        """The numbers of a whole test."""
        rates = tuple(summarise(run, objective) for run in test.runs)
        return cls(url=url, model=model, seed=seed, objective=objective, interrupted=test.interrupted, rates=rates)  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def render(self) -> RenderableType:
        """A table of the rates, the throughput-latency curve, and why requests failed."""
        from rich.console import Group
        from rich.text import Text

        title = f"{self.model} at {self.url}" + (", broken off" if self.interrupted else "")
        parts: list[RenderableType] = [Text(title, style="bold"), _numbers(self), _curve(self)]
        for report in self.rates:
            for why, n in list(report.reasons.items())[:3]:
                parts.append(Text(f"at {report.rate:g}/s, {n} x {why}", style="red"))
        return Group(*parts)


def _numbers(report: LoadReport) -> Table:
    """A row a figure, a column a rate."""
    table = _table("requests a second", *(f"{rate.rate:g}" for rate in report.rates))
    rows = {
        "answered": [f"{r.counts['ok']}" for r in report.rates],
        "refused (429) / failed": [f"{r.counts['refused']} / {r.counts['failed']}" for r in report.rates],
        "TTFT ms, p50 / p95 / p99": [_three(r.ttft_ms) for r in report.rates],
        "ITL ms, p50 / p95 / p99": [_three(r.itl_ms) for r in report.rates],
        "end to end ms, p50 / p95 / p99": [_three(r.latency_ms) for r in report.rates],
        "tokens/s of one, p50": ["-" if r.tps is None else f"{r.tps.p50:,.1f}" for r in report.rates],
        "tokens/s of all": [f"{r.tokens_per_s:,.1f}" for r in report.rates],
        "answers a second": [f"{r.requests_per_s:,.2f}" for r in report.rates],
    }
    if report.objective != Objective():
        rows[f"goodput, {_wanted(report.objective)}"] = [
            "-" if r.goodput is None else f"{r.goodput:.1%}" for r in report.rates
        ]
    if report.interrupted:
        rows["unfinished / unsent"] = [f"{r.counts['unfinished']} / {r.unsent}" for r in report.rates]
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table


def _curve(report: LoadReport) -> Table:
    """Throughput against latency, a row a rate."""
    table = _table("curve", "tokens/s of all", "", "end to end p95", "", left=(2, 4))
    most = max((r.tokens_per_s for r in report.rates), default=0.0)
    slowest = max((r.latency_ms.p95 for r in report.rates if r.latency_ms), default=0.0)
    for r in report.rates:
        late = r.latency_ms.p95 if r.latency_ms else None
        table.add_row(
            f"{r.rate:g}/s",
            f"{r.tokens_per_s:,.1f}",
            f"[green]{bar(r.tokens_per_s, most)}[/]",
            "-" if late is None else f"{late / 1e3:,.2f} s",
            f"[yellow]{bar(late or 0.0, slowest)}[/]",
        )
    return table


def bar(value: float, most: float) -> str:
    """A bar as long as `value` is large, to an eighth of a character."""
    eighths = round(8 * BAR * value / most) if most else 0
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _table(first: str, *others: str, left: tuple[int, ...] = ()) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column(first, no_wrap=True)
    for i, name in enumerate(others, start=1):
        table.add_column(name, justify="left" if i in left else "right")
    return table


def _three(found: Percentiles | None) -> str:
    if found is None:
        return "-"
    return " / ".join(f"{x:,.0f}" if x >= 100 else f"{x:.1f}" for x in (found.p50, found.p95, found.p99))


def _wanted(objective: Objective) -> str:
    limits = {"TTFT": objective.ttft_ms, "ITL": objective.itl_ms}
    return ", ".join(f"{name} <= {limit:g} ms" for name, limit in limits.items() if limit is not None)
