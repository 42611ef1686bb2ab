"""The engine: many requests over one model, a step at a time.

    engine = Engine(lm)
    ticket = engine.add(request)
    while engine.has_work:
        for update in engine.step(): ...          # text and tokens, as they become certain
    engine.generate(requests)                     # the same, offline

    step = plan -> make room -> read (one pass of the model) -> choose -> give back

A request's bytes are the same alone and among others, cut into chunks or not, preempted or not, cached or not: attention, choosing
and the grammar look at nothing but the sequence itself.

V vocabulary, d model width.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from collections.abc import Sequence as Many
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.kit.lm import Completion, EmbedRequest, GenerateRequest, Score, ScoreRequest
from orrery.model.lowbit.ops import all_finite
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.determinism import settle_kernels
from orrery.serve.engine.drafting import Drafts
from orrery.serve.engine.features import Support
from orrery.serve.engine.memory import Memory
from orrery.serve.engine.offline import run_all
from orrery.serve.engine.prepare import make_job
from orrery.serve.engine.runner import ROWS, Runner, Work
from orrery.serve.engine.sequence import Job, Sequence, Update
from orrery.serve.engine.statistics import Counts, EngineStats, engine_stats
from orrery.serve.engine.turns import Turns
from orrery.serve.finite import check_finite
from orrery.serve.lm import LM
from orrery.serve.mode import evaluating
from orrery.serve.speculate.verify import verify


class QueueFull(OrreryError):
    """As many requests wait as may."""


class Engine:
    """Implements `kit.lm.LanguageModel`. One thread at a time may use it; `AsyncEngine` serves many callers.

    Attributes:
        mode: whether the same request gives the same bytes in any company (`determinism`).
        support: what this model and configuration can do, and why not the rest.
        jobs: unfinished requests by ticket. turns: which of their sequences run, and which wait.
        updates: what the next step hands over.
        weights: the version of the model's weights (`weights_changed`).

    Raises:
        OrreryError: the configuration does not fit the model.
    """

    def __init__(self, lm: LM, config: EngineConfig | None = None) -> None:
        self.lm, self.config = lm, config or EngineConfig()
        self.mode = settle_kernels(lm.model, fast=self.config.fast)
        self.support = Support.of(lm.model, self.config)
        self.memory = Memory(lm.model, self.config)
        self.runner = Runner(lm.model, self.memory.store, self.memory.rows, known=lm.tokenizer.vocab_size)
        self.drafts = Drafts(self.config.speculation, lm, enabled=self.support.speculation)
        self.counts = Counts()
        self.turns = Turns(
            self.config, self.memory, self.drafts, self.counts, recompute=self.support.recompute
        )
        self.jobs: dict[int, Job] = {}
        self.asides: dict[int, Iterator[Update]] = {}
        self.updates: list[Update] = []
        self.weights = 0
        self._tickets = itertools.count()

    # --- requests

    def add(self, request: GenerateRequest) -> int:
        """Queue a request; returns the ticket that its updates carry.

        Raises:
            OrreryError: it asks for what is refused (`features.check_request`). QueueFull: too many wait.
        """
        job = self.prepare(request)
        self.enqueue(job)
        return job.ticket

    def prepare(self, request: GenerateRequest) -> Job:
        """All that can be done for a request before it is queued; from any thread.

        Raises:
            OrreryError: it asks for what is refused, or its grammar cannot be held to.
        """
        return make_job(self, request)

    def next_ticket(self) -> int:
        """A number that names one sequence."""
        return next(self._tickets)

    def enqueue(self, job: Job) -> None:
        """Queue what `prepare` made.

        Raises:
            QueueFull: too many wait.
        """
        waiting = self.waiting
        if waiting >= self.config.max_queue:
            raise QueueFull(f"{waiting} requests wait already; try again later, or raise max_queue")
        self.jobs[job.ticket] = job
        if job.aside is not None:
            self.asides[job.ticket] = job.aside
        else:
            self.turns.queue(job)

    @property
    def waiting(self) -> int:
        """How many requests and preempted sequences wait."""
        return len(self.turns.waiting) + max(len(self.asides) - 1, 0)

    def cancel(self, ticket: int) -> None:
        """End a request now: its blocks are free when this returns, and the next step tells of it. Unknown tickets are no fault."""
        job = self.jobs.get(ticket)
        if job is None:
            return
        self.counts.cancelled += 1
        if job.beams is not None or job.aside is not None:
            self._answer(job, Completion(text="", ids=(), logprobs=(), finish_reason="cancelled"))
            return
        for sequence in job.sequences:
            if not sequence.ended:
                self._say(sequence, sequence.reply.cancel(), 0, {})
                self._end(sequence)

    @property
    def has_work(self) -> bool:
        """Whether a step would do something."""
        return bool(self.jobs or self.updates)

    # --- a step

    @torch.inference_mode()
    def step(self) -> list[Update]:
        """One pass of the model over what the scheduler picks; what has become certain by it."""
        self._step_aside()
        for sequence in list(self.turns.running.values()):
            if sequence.job.ticket in self.jobs and (fault := self.runner.fault(sequence, self.memory)):
                self._fail(sequence.job.ticket, OrreryError(fault))
        work = self.turns.next(self.drafts.propose(self.turns.running.values()))
        if work:
            try:
                hidden = self.runner.read(work)
                self.counts.steps += 1
                self._settle(work, hidden)
            except Exception as error:
                for ticket in {item.sequence.job.ticket for item in work} & self.jobs.keys():
                    self._fail(ticket, error)
        for sequence in self.turns.hopeless:
            self._fail(
                sequence.job.ticket, OrreryError("the cache is too small for this request; raise kv_memory")
            )
        updates, self.updates = self.updates, []
        return updates

    # --- after the pass

    def _settle(self, work: Many[Work], hidden: Tensor) -> None:
        """Report on prompts, choose where a sequence was read to its end, and give back what is not needed."""
        batch: list[Work] = []
        for item in work:
            sequence = item.sequence
            if sequence.request.prompt_logprobs is not None and sequence.choice == 0:
                self.runner.score_prompt(item, hidden)
            self.counts.prompt_tokens += max(min(item.start + item.n, sequence.prompt) - item.start, 0)
            if not item.whole:
                self.drafts.read(item, hidden, ())
                sequence.look(item.seen, item.start + item.n)
                self.memory.settle(sequence, item.start + item.n)
                continue
            if sum(len(other.rows) for other in batch) + len(item.rows) > ROWS:
                self._choose(batch, hidden)
                batch = []
            batch.append(item)
        if batch:
            self._choose(batch, hidden)

    def _choose(self, batch: Many[Work], hidden: Tensor) -> None:
        """A token, or more where drafts hold, for each sequence of the batch."""
        rows = [row for item in batch for row in item.rows]
        found = self.runner.logits(hidden, rows)
        sound = all_finite(found)  # one look at all of them; whose are not is asked only then
        parts = found.split([len(item.rows) for item in batch])
        for item, logits in zip(batch, parts, strict=True):
            sequence = item.sequence
            if sequence.job.ticket not in self.jobs:  # another continuation of the request has failed
                continue
            try:
                if not sound:
                    check_finite(logits, len(sequence.ids))
                if sequence.job.beams is not None:
                    self._advance_beams(item, logits[0])
                    continue
                twins = self._fork(item)
                nodes = self._advance(item, logits)
                for twin in twins:
                    self._advance(replace(item, sequence=twin), logits)
            except Exception as error:
                self._fail(sequence.job.ticket, error)
                continue
            if not sequence.ended:
                self.drafts.read(item, hidden, nodes)
            for one in (sequence, *twins):
                if one.ended:
                    self._end(one)

    def _fork(self, item: Work) -> list[Sequence]:
        """The request's other continuations begin where its prompt ends, in the same blocks."""
        sequence = item.sequence
        if not (twins := sequence.forks):
            return []
        sequence.job.unforked = []
        self.memory.settle(sequence, item.start + item.n)
        for twin in twins:
            self.memory.fork(sequence, twin)
            self.turns.running[twin.ticket] = twin
            twin.look(sequence.observed, sequence.looked)
            self.drafts.begin(twin)
        return twins

    def _advance(self, item: Work, logits: Tensor) -> list[int]:
        """Verify and choose for one sequence, logits (n + 1, V) for n drafts; returns the accepted nodes that count."""
        sequence, draft, constraint = item.sequence, item.draft, item.sequence.constraint
        position = len(sequence.ids)
        choices, nodes = verify(draft, logits, sequence.chooser, position, self.drafts.rule, constraint)
        text, made = "", 0
        for made, choice in enumerate(choices, start=1):
            whole = constraint is not None and made == len(choices) and constraint.finished
            text += sequence.push(choice, whole=whole)
            if sequence.ended:
                break
        nodes = nodes[: made - 1]
        self.counts.generated_tokens += made
        if draft:
            self.counts.speculation.record(draft, len(nodes))
            sequence.drafted += len(draft)
            sequence.accepted += len(nodes)
        if nodes and draft.parents is not None:
            self.memory.keep_path(sequence, item.start + item.n, nodes)
        seen = item.entries(nodes)
        computed = item.start + item.n + len(nodes)
        sequence.look(seen, computed)
        self.memory.settle(sequence, computed)
        if self.support.restarts(position, len(sequence.ids)):
            self.memory.restart(sequence)
            self.drafts.forget(sequence)
        self._say(sequence, text, made, seen)
        return nodes

    def _advance_beams(self, item: Work, logits: Tensor) -> None:
        """(V,) logits behind one beam; with the last of them the search takes a step."""
        sequence, job, beams = item.sequence, item.sequence.job, item.sequence.job.beams
        assert beams is not None
        self.memory.settle(sequence, item.start + item.n)
        beams.take(sequence, logits)
        if not beams.ready:
            return
        length = len(sequence.ids)
        move = beams.advance(self.memory, self.next_ticket, self.lm.tokenizer.vocab_size)
        if move is None:
            read = tuple(job.prompt_logprobs)
            done = replace(beams.completion, prompt_logprobs=read, cached_tokens=sequence.cached)
            self.counts.generated_tokens += len(done.ids)
            self._answer(job, done)
            return
        forks, over = move
        for one in over:
            self.turns.running.pop(one.ticket, None)
        self.turns.running.update({fork.ticket: fork for fork in forks})
        job.sequences = list(beams.live)
        for one in beams.live:
            if self.support.restarts(length, length + 1):
                self.memory.restart(one)

    def _step_aside(self) -> None:
        """A piece of text of the oldest request that runs beside the pool."""
        for ticket, updates in list(self.asides.items())[:1]:
            try:
                with evaluating(self.lm.model):
                    update = next(updates)
            except Exception as error:
                self._fail(ticket, error)
                continue
            if update.completion is not None:
                self._answer(self.jobs[ticket], update.completion)
            else:
                self.updates.append(update)

    def _say(self, sequence: Sequence, text: str, made: int, seen: dict[str, list[Any]]) -> None:
        """An update about the last `made` tokens. Which continuations best_of keeps is known at the end only: those are silent."""
        if sequence.job.request.best_of is not None:
            return
        reply, of = sequence.reply, slice(len(sequence.reply.ids) - made, None)
        self.updates.append(
            Update(
                ticket=sequence.job.ticket,
                choice=sequence.choice,
                text=text,
                ids=tuple(reply.ids[of]),
                logprobs=tuple(reply.logprobs[of]),
                top_logprobs=tuple(reply.top_logprobs[of]),
                observed=seen,
                finish_reason=reply.finish,
            )
        )

    # --- the end

    def _end(self, sequence: Sequence) -> None:
        """A continuation is over: its blocks go back, and with the last one the request is answered."""
        self.turns.leave(sequence)
        job = sequence.job
        job.done[sequence.choice] = sequence.complete()
        if (completion := job.completion) is not None:
            self._answer(job, completion)

    def _answer(self, job: Job, completion: Completion) -> None:
        """The request is over, and nothing of it stays."""
        self._remove(job.ticket)
        self.counts.completed += completion.finish_reason != "cancelled"
        self.updates.append(
            Update(ticket=job.ticket, finish_reason=completion.finish_reason, completion=completion)
        )

    def _remove(self, ticket: int) -> None:
        self.asides.pop(ticket, None)
        job = self.jobs.pop(ticket)
        for sequence in job.sequences:
            self.turns.leave(sequence)
        job.sequences, job.unforked, job.beams = [], [], None  # nothing in a circle: it is freed at once

    def _fail(self, ticket: int, error: Exception) -> None:
        """A request cannot go on; the others do."""
        self._remove(ticket)
        self.counts.failed += 1
        self.updates.append(Update(ticket=ticket, error=error))

    # --- offline

    def generate(self, requests: Many[GenerateRequest]) -> list[Completion]:
        """All of them, in their order (`run_all`).

        Raises:
            OrreryError: the first request that is refused, before anything runs; or that failed, when the others have ended.
        """
        return run_all(self, requests)

    def score(self, requests: Many[ScoreRequest]) -> list[Score]:
        """Log-probabilities of given tokens: whole sequences packed, without the cache."""
        return self.lm.score(list(requests))

    def embed(self, requests: Many[EmbedRequest]) -> list[Any]:
        """One vector for each, as `LM.embed`."""
        return self.lm.embed(requests)

    def weights_changed(self) -> None:
        """Say so after every change of the model's weights: what is cached was computed with the old ones.

        Raises:
            OrreryError: requests are under way, whose tokens would be of two models.
        """
        if self.jobs:
            raise OrreryError(f"{len(self.jobs)} requests are under way; change weights when all have ended")
        self.weights += 1
        self.runner.forget()

    # --- looking at it

    def stats(self) -> EngineStats:
        """What runs, what waits, what is cached, and the counts so far."""
        return engine_stats(self)

    def check(self) -> None:
        """The ledger: every block is free, cached, or held by exactly the sequences that name it.

        Raises:
            AssertionError: names the block.
        """
        self.memory.check(sequence for job in self.jobs.values() for sequence in job.sequences)
