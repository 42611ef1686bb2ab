"""A shadow deployment: a second model is given what users asked, after they were answered, and what it would have said is counted.

    served request -> bounded queue -> the shadow's own engine, a step at a time while no user waits -> numbers

Users never wait for it: handing over is an append to a queue, what does not fit is dropped and counted, and its thread (of the
lowest priority, in small steps) runs only while no request is under way; one that comes meanwhile waits for the step at hand at most.
Its faults are counted and touch nobody. Of prompts and answers nothing but numbers is kept.

Both models must have the same vocabulary: then the same ids mean the same, the first token that differs has a place, and the shadow can
say how likely it finds the very answer that was served.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter as Count
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from orrery.kit.errors import OrreryError
from orrery.kit.lm import Completion, GenerateRequest
from orrery.serve.adapters import Adapters
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.engine import Engine

if TYPE_CHECKING:
    from orrery.serve.lm import LM

WAITING = 256
"""Answered requests that wait to be mirrored."""
TOGETHER = 8
RECENT = 100
POLL_S = 0.002
STEP = EngineConfig(max_sequences=2 * TOGETHER, token_budget=64)
"""Small steps: they are what a user may have to wait for."""
TOKENS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
NATS = (-8.0, -4.0, -2.0, -1.0, -0.5, -0.25, -0.1, -0.01, 0.0, 0.01, 0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What became of one answered request.

    Attributes:
        equal: token for token. first: place of the first token that differs (the shorter length, where one goes on), None if equal.
        served, shadow: tokens of the two answers.
        served_logprob: of the served answer under the model that gave it, nats. shadow_logprob: the same under the shadow; None where
            prompt and answer fill the context.
    """

    equal: bool
    first: int | None
    prompt: int
    served: int
    shadow: int
    served_logprob: float
    shadow_logprob: float | None

    @classmethod
    def of(
        cls, request: GenerateRequest, served: Completion, shadow: Completion, read: Completion | None
    ) -> Difference:
        """From both answers, and what the shadow said while it read prompt and served answer (`prompt_logprobs`)."""
        pairs = zip(served.ids, shadow.ids, strict=False)
        shorter = min(len(served.ids), len(shadow.ids))
        first = next((i for i, (a, b) in enumerate(pairs) if a != b), shorter)
        equal = served.ids == shadow.ids
        found = None
        if read is not None:
            told = read.prompt_logprobs[len(request.ids) - 1 :]
            found = sum(of[id] for of, id in zip(told, served.ids, strict=True))
        return cls(
            equal=equal,
            first=None if equal else first,
            prompt=len(request.ids),
            served=len(served.ids),
            shadow=len(shadow.ids),
            served_logprob=sum(served.logprobs),
            shadow_logprob=found,
        )


class Shadow:
    """Attributes:
    name: what the second model is called. recent: the last differences.
    mirrored, dropped, failed: answered requests handed over, not taken for want of room, and taken but not answered by the shadow.
    skipped: those it cannot be asked, by reason.
    """

    def __init__(self, lm: LM, *, name: str, served: LM, limit: int = WAITING) -> None:
        """
        Raises:
            OrreryError: the two models do not have the same vocabulary.
        """
        if lm.tokenizer.vocabulary != served.tokenizer.vocabulary:
            raise OrreryError(
                f"the shadow '{name}' has another vocabulary than the model that is served; give one with the same tokenizer"
            )
        self.name, self.limit = name, limit
        self.mirrored = self.dropped = self.failed = self.equal = 0
        self.skipped: Count[str] = Count()
        self.recent: deque[Difference] = deque(maxlen=RECENT)
        self._engine = Engine(lm, STEP)
        self._queue: deque[tuple[GenerateRequest, Completion]] = deque()
        self._news = threading.Condition()
        self._busy: Callable[[], bool] = lambda: False
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._sums: Count[str] = Count()
        self.registry = CollectorRegistry()
        self._metrics()

    def start(self, busy: Callable[[], bool]) -> None:
        """Begin; `busy` says whether a user waits for something."""
        self._busy, self._stopping = busy, False
        self._thread = threading.Thread(target=self._run, name="orrery-shadow", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the step at hand; what waits is forgotten."""
        with self._news:
            self._stopping = True
            self._news.notify()
        if self._thread is not None:
            self._thread.join()

    def offer(self, request: GenerateRequest, completion: Completion) -> None:
        """Mirror an answered request when there is time, or drop it. Takes no time and raises nothing."""
        reason = self._unfit(request)
        if reason:
            self.skipped[reason] += 1
            self._told["skipped"].labels(reason=reason).inc()
            return
        with self._news:
            if len(self._queue) >= self.limit:
                self.dropped += 1
                self._told["dropped"].inc()
                return
            self.mirrored += 1
            self._told["mirrored"].inc()
            self._queue.append((request, completion))
            self._news.notify()

    @property
    def waiting(self) -> int:
        """How many answered requests wait."""
        return len(self._queue)

    def report(self) -> dict[str, Any]:
        """The counts, means over what was compared, and the last differences; numbers only."""
        sums, compared = dict(self._sums), self._sums["compared"]
        differing = compared - self.equal
        scored = sums.get("scored_tokens", 0)
        return {
            "model": self.name,
            "waiting": self.waiting,
            "mirrored": self.mirrored,
            "dropped": self.dropped,
            "skipped": dict(self.skipped),
            "failed": self.failed,
            "compared": compared,
            "equal": self.equal,
            "different": differing,
            "equal_share": self.equal / compared if compared else None,
            "mean_first_difference": sums["first"] / differing if differing else None,
            "mean_length_difference": sums["length"] / compared if compared else None,
            "served_logprob_per_token": sums["served"] / scored if scored else None,
            "shadow_logprob_per_token": sums["shadow"] / scored if scored else None,
            "recent": [asdict(difference) for difference in list(self.recent)],
        }

    # --- in its own thread

    def _run(self) -> None:
        with suppress(
            OSError
        ):  # where threads have no priority of their own, waiting for an idle moment must do
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        while True:
            with self._news:
                while not (self._queue or self._stopping):
                    self._news.wait()
                if self._stopping:
                    return
                taken = [self._queue.popleft() for _ in range(min(TOGETHER, len(self._queue)))]
            self._mirror(taken)

    def _mirror(self, taken: list[tuple[GenerateRequest, Completion]]) -> None:
        """Answer and read some of them together, a step at a time."""
        wanted: dict[int, tuple[int, str]] = {}
        done: dict[tuple[int, str], Completion] = {}
        for i, (request, served) in enumerate(taken):
            for part, asked in self._asked(request, served).items():
                with suppress(Exception):  # refused: it has no completion, which is counted below
                    wanted[self._engine.add(asked)] = i, part
        while self._engine.has_work and not self._stopping:
            if self._busy():
                time.sleep(POLL_S)
                continue
            try:
                updates = self._engine.step()
            except Exception:
                for ticket in wanted:
                    self._engine.cancel(ticket)
                self._engine.updates.clear()
                break
            for update in updates:
                if update.completion is not None and update.completion.finish_reason != "cancelled":
                    done[wanted[update.ticket]] = update.completion
        if self._stopping:
            return
        for i, (request, served) in enumerate(taken):
            answer = done.get((i, "answer"))
            if answer is None:
                self.failed += 1
                self._told["failed"].inc()
            else:
                self._count(Difference.of(request, served, answer, done.get((i, "read"))))

    def _asked(self, request: GenerateRequest, served: Completion) -> dict[str, GenerateRequest]:
        """The same request, and one that reads the served answer behind its prompt."""
        ids = [*request.ids, *served.ids]
        made = {
            "answer": replace(request, n=1, best_of=None, observe=(), logprobs=None, prompt_logprobs=None)
        }
        if len(ids) <= self._engine.lm.context:
            made["read"] = GenerateRequest(
                ids=ids, max_tokens=1, prompt_logprobs=0, adapter=request.adapter, tenant=request.tenant
            )
        return made

    def _unfit(self, request: GenerateRequest) -> str:
        """Why the shadow cannot be asked this; empty if it can."""
        if request.steering:
            return "steering"
        if request.best_of is not None and request.best_of > 1:
            return "best_of"
        if request.adapter is not None and request.adapter not in Adapters.of(self._engine.lm.model).names:
            return "adapter"
        return ""

    # --- numbers

    def _count(self, found: Difference) -> None:
        self.recent.append(found)
        self.equal += found.equal
        self._sums.update({"compared": 1, "length": found.shadow - found.served, "first": found.first or 0})
        self._told["compared"].labels(result="equal" if found.equal else "different").inc()
        self._told["length"].observe(abs(found.shadow - found.served))
        if found.first is not None:
            self._told["first"].observe(found.first)
        if found.shadow_logprob is not None and found.served:
            served, shadow = found.served_logprob, found.shadow_logprob
            self._sums.update({"scored_tokens": found.served, "served": served, "shadow": shadow})
            self._told["logprob"].observe((shadow - served) / found.served)

    def _metrics(self) -> None:
        """What Prometheus reads."""
        name, to = "orrery_shadow_", {"registry": self.registry}
        self._told: dict[str, Any] = {
            "mirrored": Counter(f"{name}mirrored", "Answered requests handed to the shadow", **to),
            "dropped": Counter(f"{name}dropped", "Answered requests for which its queue had no room", **to),
            "skipped": Counter(f"{name}skipped", "Answered requests it cannot be asked", ["reason"], **to),
            "failed": Counter(f"{name}failed", "Requests that the shadow did not answer", **to),
            "compared": Counter(f"{name}compared", "Answers compared", ["result"], **to),
            "first": Histogram(f"{name}first_difference_tokens", "Place of the first token that differs", buckets=TOKENS, **to),
            "length": Histogram(f"{name}length_difference_tokens", "By how much lengths differ", buckets=TOKENS, **to),
            "logprob": Histogram(
                f"{name}logprob_difference_nats",
                "Of the served answer, a token: under the shadow less under the model that gave it",
                buckets=NATS,
                **to,
            ),
        }  # fmt: skip
        Gauge(f"{name}queue", "Answered requests that wait", **to).set_function(lambda: len(self._queue))
