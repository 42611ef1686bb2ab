"""What an engine has done, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orrery.serve.speculate.statistics import AcceptanceStatistics

if TYPE_CHECKING:
    from orrery.serve.engine.engine import Engine


@dataclass(frozen=True, kw_only=True)
class EngineStats:
    """A look at an engine.

    Attributes:
        running, waiting: sequences that run, and that wait. requests: unfinished ones.
        blocks, blocks_used, blocks_cached: of the cache, all groups of layers together.
        prefix_queries, prefix_hits: tokens looked for among cached prefixes, and found.
        steps: passes of the model. prompt_tokens: read; generated_tokens: made.
        preemptions, completed, failed, cancelled: counts since the start.
        drafted, accepted: tokens, by speculation.
    """

    running: int
    waiting: int
    requests: int
    blocks: int
    blocks_used: int
    blocks_cached: int
    prefix_queries: int
    prefix_hits: int
    steps: int
    prompt_tokens: int
    generated_tokens: int
    preemptions: int
    completed: int
    failed: int
    cancelled: int
    drafted: int
    accepted: int


@dataclass
class Counts:
    """What only goes up."""

    steps: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    preemptions: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    speculation: AcceptanceStatistics = field(default_factory=AcceptanceStatistics)


def engine_stats(engine: Engine) -> EngineStats:
    """What `engine` holds now, and has done."""
    pools, counts = engine.memory.pools, engine.counts
    return EngineStats(
        running=len(engine.turns.running),
        waiting=engine.waiting,
        requests=len(engine.jobs),
        blocks=sum(pool.n_blocks - 1 for pool in pools),
        blocks_used=sum(pool.used for pool in pools),
        blocks_cached=sum(pool.cached for pool in pools),
        prefix_queries=max((pool.queries for pool in pools), default=0),
        prefix_hits=max((pool.hits for pool in pools), default=0),
        steps=counts.steps,
        prompt_tokens=counts.prompt_tokens,
        generated_tokens=counts.generated_tokens,
        preemptions=counts.preemptions,
        completed=counts.completed,
        failed=counts.failed,
        cancelled=counts.cancelled,
        drafted=counts.speculation.nodes,
        accepted=counts.speculation.kept,
    )
