"""An open-loop load test: requests come when they come, whether or not earlier ones are answered.

    gaps between arrivals ~ Exp(rate)     a Poisson process: many callers who know nothing of each other

A closed loop (so many callers, each waiting for its answer) slows down with the server and hides its queue. Here a request's times
count from the moment it was due. The same seed sends the same lengths at every rate, in the same order; texts differ, so that no
rate finds the prompts of another in a prefix cache.

    report = asyncio.run(load_test(Endpoint("http://127.0.0.1:8000"), rates=[2, 4, 8], requests=64))
    report.runs[0].outcomes
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

from orrery.kit.errors import OrreryError
from orrery.kit.log import Progress, Silent
from orrery.serve.load_client import Endpoint, Job, Outcome
from orrery.serve.load_lengths import Lengths


@dataclass(frozen=True, kw_only=True)
class Run:
    """One rate.

    Attributes:
        rate: requests a second, asked for. due: how many were to be sent.
        outcomes: of those that were sent, in the order of their arrival.
        seconds: from the first arrival's clock to the last answer.
    """

    rate: float
    due: int
    outcomes: tuple[Outcome, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class LoadTest:
    """All rates; `interrupted`: it was broken off, and what there is is here."""

    runs: tuple[Run, ...]
    interrupted: bool = False


def schedule(requests: int, *, rate: float, lengths: Lengths, seed: int = 0) -> list[Job]:
    """When what is sent: `requests` arrivals of a Poisson process of `rate` a second."""
    gaps, sizes = random.Random(f"{seed} arrivals"), random.Random(f"{seed} lengths")
    jobs, at = list[Job](), 0.0
    for _ in range(requests):
        at += gaps.expovariate(1.0) / rate
        prompt, answer = lengths.draw(sizes)
        jobs.append(Job(at=at, prompt=prompt, answer=answer))
    return jobs


async def load_test(
    endpoint: Endpoint,
    *,
    rates: Sequence[float],
    requests: int,
    lengths: Lengths | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> LoadTest:
    """Every rate in turn, each to its last answer. Cancelling it (Ctrl-C) ends it early, with what has come so far.

    Raises:
        OrreryError: no rates or rates that are not above 0, no requests, or an endpoint that cannot be asked.
    """
    if not rates or min(rates) <= 0 or requests < 1:
        raise OrreryError(
            f"a load test needs rates above 0 and a request or more, not {list(rates)} and {requests}"
        )
    runs: list[Run] = []
    async with endpoint:
        await endpoint.get_ready()
        for rate in rates:
            jobs = schedule(requests, rate=rate, lengths=lengths or Lengths(), seed=seed)
            run, whole = await _one_rate(endpoint, jobs, rate, seed, progress or Silent())
            runs.append(run)
            if not whole:
                return LoadTest(runs=tuple(runs), interrupted=True)
    return LoadTest(runs=tuple(runs))


async def _one_rate(
    endpoint: Endpoint, jobs: Sequence[Job], rate: float, seed: int, progress: Progress
) -> tuple[Run, bool]:
    """(the run, whether it came to its end)."""
    loop = asyncio.get_running_loop()
    texts = random.Random(f"{seed} {rate} texts")
    prompts = [endpoint.text(job.prompt, texts) for job in jobs]
    start, answered = loop.time(), 0

    async def one(job: Job, prompt: str) -> Outcome:
        nonlocal answered
        await asyncio.sleep(start + job.at - loop.time())
        outcome = await endpoint.ask(job, prompt, start + job.at)
        answered += 1
        progress.update(answered, len(jobs), rate=rate)
        return outcome

    tasks = [asyncio.create_task(one(job, prompt)) for job, prompt in zip(jobs, prompts, strict=True)]
    whole = True
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        whole = False
        for task in tasks:
            task.cancel()
    told = await asyncio.gather(*tasks, return_exceptions=True)
    if faults := [x for x in told if isinstance(x, Exception)]:
        raise faults[0]
    outcomes = tuple(
        x for x in told if isinstance(x, Outcome)
    )  # those cancelled before they were sent have none
    return Run(rate=rate, due=len(jobs), outcomes=outcomes, seconds=loop.time() - start), whole
