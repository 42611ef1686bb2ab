"""What Prometheus reads at /metrics: how long, how many, how full.

Counters and histograms are fed as updates pass by; what the engine holds is asked for when somebody reads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orrery.kit.lm import Completion

FIRST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
BETWEEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
WHOLE = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
SPEED = (1, 2.5, 5, 10, 25, 50, 75, 100, 150, 250, 500, 1000)


class Metrics:
    """The numbers of one server, in a registry of its own."""

    def __init__(self, stats: Callable[[], Any], gate: Any, *others: CollectorRegistry) -> None:
        """`stats` gives the engine's EngineStats; `gate` counts the requests under way; `others` are told after these."""
        self.registry = registry = CollectorRegistry()
        self._others = others
        name = "orrery_"
        self.first = Histogram(
            f"{name}time_to_first_token_seconds", "Request to first token", registry=registry, buckets=FIRST
        )
        self.between = Histogram(
            f"{name}inter_token_seconds", "Between tokens of a choice", registry=registry, buckets=BETWEEN
        )
        self.whole = Histogram(
            f"{name}request_seconds", "Request to its last token", registry=registry, buckets=WHOLE
        )
        self.speed = Histogram(
            f"{name}tokens_per_second",
            "Tokens of a choice over the time they took",
            registry=registry,
            buckets=SPEED,
        )
        self.prompt = Counter(f"{name}prompt_tokens", "Tokens read", registry=registry)
        self.cached = Counter(f"{name}cached_prompt_tokens", "Of these, taken from cache", registry=registry)
        self.made = Counter(f"{name}generated_tokens", "Tokens made", registry=registry)
        self.drafted = Counter(f"{name}drafted_tokens", "Tokens proposed by speculation", registry=registry)
        self.accepted = Counter(f"{name}accepted_tokens", "Of these, kept", registry=registry)
        self.finished = Counter(
            f"{name}finished", "Requests by how they ended", ["reason"], registry=registry
        )
        self.refused = Counter(f"{name}refused", "Requests answered with 429", registry=registry)
        self.log_dropped = Counter(
            f"{name}log_dropped", "Lines of the log that could not be written", registry=registry
        )
        self.answers = Counter(f"{name}http_answers", "Answers by status", ["status"], registry=registry)
        registry.register(_Engine(stats, gate))

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return b"".join(generate_latest(registry) for registry in (self.registry, *self._others))

    def watch(self) -> Watch:
        """The clock of one request, started."""
        return Watch(self)


@dataclass
class Watch:
    """Times of one request as its updates pass."""

    metrics: Metrics
    started: float = field(default_factory=time.perf_counter)
    first_s: float | None = None
    """Seconds to the first token."""
    last: dict[int, float] = field(default_factory=dict)

    def tokens(self, choice: int, count: int) -> None:
        """`count` more tokens of a choice are known."""
        if not count:
            return
        now = time.perf_counter()
        if self.first_s is None:
            self.first_s = now - self.started
            self.metrics.first.observe(self.first_s)
        if choice in self.last:
            for _ in range(count):
                self.metrics.between.observe((now - self.last[choice]) / count)
        self.last[choice] = now

    def end(self, reason: str, prompt: int, completion: Completion | None) -> None:
        """The request ended; `completion` is None where it did so early."""
        m, taken = self.metrics, time.perf_counter() - self.started
        m.finished.labels(reason=reason).inc()
        m.prompt.inc(prompt)
        if completion is None:
            return
        choices = (completion, *completion.others)
        m.whole.observe(taken)
        m.cached.inc(completion.cached_tokens)
        m.made.inc(sum(len(choice.ids) for choice in choices))
        m.drafted.inc(sum(choice.drafted for choice in choices))
        m.accepted.inc(sum(choice.accepted for choice in choices))
        for choice in choices:
            m.speed.observe(len(choice.ids) / max(taken, 1e-9))


class _Engine(Collector):
    """Gauges of what the engine holds at the moment."""

    def __init__(self, stats: Callable[[], Any], gate: Any) -> None:
        self._stats, self._gate = stats, gate

    def collect(self) -> Iterator[Metric]:
        stats = self._stats()
        gauges = {
            "requests_under_way": ("Requests let in and not yet answered", self._gate.running),
            "queue": ("Sequences that wait", stats.waiting),
            "running": ("Sequences that run", stats.running),
            "kv_blocks_used": ("Blocks of the cache in use", stats.blocks_used),
            "kv_blocks": ("Blocks of the cache", stats.blocks),
            "kv_use_ratio": ("Share of the cache in use", stats.blocks_used / max(stats.blocks, 1)),
        }
        for name, (told, value) in gauges.items():
            yield GaugeMetricFamily(f"orrery_{name}", told, value=value)
        counters = {
            "prefix_cache_hit_tokens": ("Prompt tokens found in the cache", stats.prefix_hits),
            "prefix_cache_query_tokens": ("Prompt tokens looked for in the cache", stats.prefix_queries),
            "preemptions": ("Sequences set aside for others", stats.preemptions),
        }
        for name, (told, value) in counters.items():
            yield CounterMetricFamily(f"orrery_{name}", told, value=value)
