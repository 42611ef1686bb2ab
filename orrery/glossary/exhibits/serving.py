"""Exhibits of serving, all from the real engine: what paging saves, what batching and cached prefixes gain, what a long prompt does to
everybody else."""

from __future__ import annotations

import functools
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any

from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _prepared, _tiny
from orrery.kit.lm import Completion, GenerateRequest, Sampling
from orrery.model.decoder import Decoder
from orrery.serve.engine.blocks import BlockPool
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.engine import Engine
from orrery.serve.engine.tables import BlockTables
from orrery.serve.lm import LM
from orrery.train.init import initialize


@functools.cache
def _lm() -> LM:
    """A small model over a small tokenizer, not trained: what is measured here does not depend on what it says."""
    tokenizer = _prepared.tokenizer()
    model = Decoder(
        _tiny.shape(vocab_size=tokenizer.vocab_size, d_model=64, n_layers=4, max_positions=2048)
    ).eval()
    initialize(model, "xavier")
    return LM(model=model, tokenizer=tokenizer)


def _request(length: int, new: int, *, seed: int = 0, start: Sequence[int] = ()) -> GenerateRequest:
    rng = random.Random(seed)
    ids = [*start, *(rng.randrange(300, 900) for _ in range(length - len(start)))]
    return GenerateRequest(ids=ids, max_tokens=new, ignore_eos=True, sampling=Sampling(temperature=0))


def _engine(**settings: Any) -> Engine:
    chosen: dict[str, Any] = {"prefix_cache": False, "kv_memory": 64 << 20} | settings
    return Engine(_lm(), EngineConfig(**chosen))


def _run(engine: Engine, requests: list[GenerateRequest]) -> tuple[list[Completion], float, int]:
    """Completions, seconds, passes of the model."""
    before, begun = engine.stats().steps, time.perf_counter()
    done = engine.generate(requests)
    return done, time.perf_counter() - begun, engine.stats().steps - before


def fragmentation() -> Exhibit:
    """Cache that holds nothing, for 64 sequences of mixed lengths: rows reserved for the longest, and pages of three sizes."""
    rng = random.Random(0)
    lengths = [min(1024, int(rng.lognormvariate(5.0, 0.9)) + 1) for _ in range(64)]
    used, rows = sum(lengths), []
    reserved = 1024 * len(lengths)
    rows.append(("one row of 1024 each", reserved, reserved - used, f"{1 - used / reserved:.1%}", "-"))
    for size in (128, 16, 1):
        pool = BlockPool(reserved // size + 1, size)
        for length in lengths:
            BlockTables([pool]).grow(length)
        held = pool.used * size
        rows.append(
            (f"pages of {size}", held, held - used, f"{1 - used / held:.1%}", f"{(held - used) / 64:.1f}")
        )
    return Exhibit(
        title=f"64 sequences, {used} tokens in all, the longest {max(lengths)}",
        columns=("allocator", "places held", "of them empty", "waste", "empty a sequence"),
        rows=rows,
        reads="Rows must be as long as a sequence may become, so most of each stays empty; pages are taken as tokens come, "
        "and only the last one of a sequence is partly empty: less than a page each, half of one on average.",
    )


def prefix_cache_savings() -> Exhibit:
    """Twenty requests with one long beginning in common, with and without the prefix cache: tokens read, time, and whether answers differ."""
    start = _request(320, 1).ids
    requests = [_request(340, 4, seed=i, start=start) for i in range(20)]
    rows, answers = [], []
    for cached in (False, True):
        engine = _engine(prefix_cache=cached)
        done: list[Completion] = []
        first: list[float] = []
        for request in requests:
            (one,), seconds, _ = _run(engine, [request])
            done.append(one)
            first.append(seconds)
        stats = engine.stats()
        answers.append([one.ids for one in done])
        share = stats.prefix_hits / max(stats.prefix_queries, 1)
        rows.append(
            ("on" if cached else "off", stats.prompt_tokens, f"{share:.0%}", 1e3 * statistics.median(first))
        )
    same = "the same" if answers[0] == answers[1] else "NOT the same"
    return Exhibit(
        title="20 prompts of 340 tokens, the first 320 shared, 4 new tokens each",
        columns=("prefix cache", "prompt tokens read", "hit rate", "median ms a request"),
        rows=rows,
        reads=f"The shared blocks are read once and then found by their hash: the answers are {same}, for a fraction of the work.",
    )


def throughput_by_batch() -> Exhibit:
    """Decoding 1 to 32 sequences at once: tokens a second in all, and how long each one waits for its next token."""
    sizes = (1, 2, 4, 8, 16, 32)
    total, gap, rows = [], [], []
    for size in sizes:
        engine = _engine(max_sequences=size)
        requests = [_request(32, 24, seed=i) for i in range(size)]
        _run(engine, requests[:1])
        _, seconds, steps = _run(engine, requests)
        total.append(24 * size / seconds)
        gap.append(1e3 * seconds / steps)
        rows.append((size, total[-1], gap[-1], total[-1] / total[0]))
    return Exhibit(
        title="prompts of 32, 24 new tokens each",
        columns=("sequences", "tokens/s in all", "ms a step", "times the throughput of one"),
        rows=rows,
        series=(Series(name="tokens/s in all", x=sizes, y=total),),
        reads="A step reads every weight once for all sequences, so throughput rises with the batch while each step takes only a "
        "little longer; when arithmetic fills the time, throughput levels off and only waiting grows.",
    )


def static_and_continuous() -> Exhibit:
    """Forty requests of very different lengths, eight at a time: batches that wait for their longest, and an engine that does not."""
    rng = random.Random(1)
    wanted = [rng.choice((2, 4, 8, 64)) for _ in range(40)]
    requests = [_request(16, new, seed=i) for i, new in enumerate(wanted)]
    passes, answers = 0, []
    begun = time.perf_counter()
    for at in range(0, len(requests), 8):
        done, _, steps = _run(_engine(max_sequences=8), requests[at : at + 8])
        answers += [one.ids for one in done]
        passes += steps
    apart = time.perf_counter() - begun
    done, seconds, steps = _run(_engine(max_sequences=8), requests)
    same = answers == [one.ids for one in done]
    rows = [
        ("static batches of 8", passes, sum(wanted) / passes, 1e3 * apart),
        ("continuous, 8 at once", steps, sum(wanted) / steps, 1e3 * seconds),
    ]
    return Exhibit(
        title=f"40 requests for {sum(wanted)} tokens, 2 to 64 each",
        columns=("batching", "passes of the model", "tokens a pass", "ms"),
        rows=rows,
        reads="A static batch runs until its longest member is done, and the others' places stay empty; here whoever is done leaves "
        f"at once and the next one joins. Answers are {'the same' if same else 'NOT the same'}.",
    )


def chunked_prefill_spike() -> Exhibit:
    """A sequence is decoding when a prompt of 1500 tokens arrives: the longest wait for its next token, by the budget of a step."""
    rows = []
    for budget in (2048, 512, 128, 32):
        engine = _engine(token_budget=budget)
        engine.generate([_request(16, 2)])
        ticket = engine.add(_request(16, 40))
        for _ in range(5):
            engine.step()
        engine.add(_request(1500, 2, seed=1))
        gaps, last, first = [], time.perf_counter(), None
        arrived = last
        while engine.has_work:
            for update in engine.step():
                now = time.perf_counter()
                if update.ticket == ticket and update.ids:
                    gaps.append(now - last)
                    last = now
                elif update.ids and first is None:
                    first = now - arrived
        rows.append((budget, 1e3 * max(gaps), 1e3 * statistics.median(gaps), 1e3 * (first or 0)))
    return Exhibit(
        title="time between tokens of the decoding sequence, and time to the newcomer's first",
        columns=("tokens a step", "longest gap ms", "median gap ms", "newcomer's first token ms"),
        rows=rows,
        reads="Read in one pass, a long prompt stops everybody for its whole length. Cut into chunks that share their steps with the "
        "decoding ones, it takes a little longer itself, and nobody else waits long.",
    )


def scheduling_under_pressure() -> Exhibit:
    """Thirty requests in a cache that holds about five: who is preempted, how often, and that every answer is what it is alone."""
    requests = [_request(48, 40, seed=i) for i in range(30)]
    alone = [one.ids for one in _engine().generate(requests)]
    size = 5 * 96 * sum(spec.bytes_per_token() for spec in _lm().model.cache_spec())
    rows = []
    for way in ("recompute", "swap"):
        engine = _engine(kv_memory=size, preemption=way)
        done, seconds, steps = _run(engine, requests)
        stats = engine.stats()
        rows.append(
            (way, stats.preemptions, steps, 1e3 * seconds, "yes" if [d.ids for d in done] == alone else "NO")
        )
        engine.check()
    return Exhibit(
        title=f"30 requests of 48 + 40 tokens, {size // 1024} KiB of cache",
        columns=("preemption", "times", "passes", "ms", "same answers"),
        rows=rows,
        reads="Sequences are admitted while blocks last; when running ones need more than there is, the latest gives its blocks up and "
        "comes back later, by reading its tokens again or by copying its blocks back. Nobody is lost and no answer changes.",
    )
