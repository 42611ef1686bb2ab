"""The trainer's side of its workers: started, asked, started again where one has died, and ended; Ray is met here and nowhere else.

    with workers(cfg, lm) as who:
        answers = who.ask(problems, responses=8, seed=1)
        ...                                                    they are answering
        answers()

Weights are put into Ray's object store once for each version; a worker fetches them with the first share that asks for that version.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch

from orrery.kit.errors import MissingExtra, OrreryError
from orrery.kit.log import console
from orrery.serve.engine.determinism import settle_kernels
from orrery.serve.lm import LM
from orrery.tune.rl.answering import Answers, copied
from orrery.tune.rl.config import RlConfig
from orrery.tune.rl.problems import Problem
from orrery.tune.rl.trajectory import Trajectory
from orrery.tune.rl.workers.config import Cluster
from orrery.tune.rl.workers.shares import Share, shares
from orrery.tune.rl.workers.worker import Setting, Weights, Worker

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray is imported
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
try:
    import ray
    from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError
except ModuleNotFoundError as error:
    raise MissingExtra(str(error.name), "cluster") from None

LEAST_STORE = 128 << 20
"""Bytes of the object store on this machine, at least."""


class Actor:
    """A worker as Ray runs it."""

    def __init__(self, setting: Setting) -> None:
        torch.set_num_threads(setting.cfg.cluster.threads)
        self.worker = Worker(setting)

    def answer(self, share: Share, version: int, weights: list[Any]) -> list[Trajectory]:
        """See `Worker.answer`. The reference comes in a list, so that Ray does not fetch what the worker may have."""
        return self.worker.answer(share, version, lambda: ray.get(weights[0]))


@dataclass
class Asked:
    """A share that is being answered: by the worker of a number, with weights of a version."""

    share: Share
    number: int
    version: int
    weights: Any
    actor: Any = None
    answer: Any = None


class Workers:
    """See `answering.Answering`."""

    def __init__(self, cfg: RlConfig, lm: LM, *, system: str, virtual: int, deterministic: bool) -> None:
        self.cluster, self.model, self.version = cfg.cluster, lm.model, 0
        spoken = copy(lm)
        spoken.model = copied(lm.model).cpu()
        self.setting = ray.put(
            Setting(lm=spoken, cfg=cfg, system=system, virtual=virtual, deterministic=deterministic)
        )
        self.weights: Any = None
        self.actors = [self._start() for _ in range(cfg.workers)]

    def ask(
        self, problems: Sequence[Problem], *, responses: int, seed: int, temperature: float = 1.0, first: int = 0
    ) -> Answers:  # fmt: skip
        """A share for each worker, of the weights as they are now."""
        if self.weights is None:
            self.weights = ray.put(Weights.of(self.model, self.version))
        parts = shares(
            problems, len(self.actors), responses=responses, seed=seed, temperature=temperature, first=first
        )
        asked = [Asked(share, n, self.version, self.weights) for n, share in enumerate(parts)]
        for one in asked:
            self._send(one)
        return lambda: [trajectory for one in asked for trajectory in self._wait(one)]

    def weights_changed(self) -> None:
        """The next who is asked gets new ones."""
        self.version, self.weights = self.version + 1, None

    def end(self) -> None:
        """End them all."""
        for actor in self.actors:
            ray.kill(actor)

    def _start(self) -> Any:
        options = {"num_cpus": self.cluster.threads, "num_gpus": self.cluster.gpus, "max_restarts": 0}
        return ray.remote(**options)(Actor).remote(self.setting)

    def _send(self, one: Asked) -> None:
        one.actor = self.actors[one.number]
        one.answer = one.actor.answer.remote(one.share, one.version, [one.weights])

    def _wait(self, one: Asked) -> list[Trajectory]:
        """The answers to a share, whoever gives them in the end.

        Raises:
            OrreryError: what went wrong with an answer; or workers died or were late too often.
        """
        for _ in range(self.cluster.restarts + 1):
            try:
                return ray.get(one.answer, timeout=self.cluster.timeout_s)
            except RayTaskError as error:
                raise error.cause if isinstance(error.cause, OrreryError) else error from None
            except (RayActorError, GetTimeoutError) as error:
                why = (
                    f"took more than {self.cluster.timeout_s:g} s"
                    if isinstance(error, GetTimeoutError)
                    else "died"
                )
                last = str(error).strip().splitlines()[-1]
            console.print(
                f"worker {one.number} {why}; another one answers in its place",
                style="yellow", highlight=False, soft_wrap=True,
            )  # fmt: skip
            if self.actors[one.number] is one.actor:
                ray.kill(one.actor)
                self.actors[one.number] = self._start()
            self._send(one)
        raise OrreryError(
            f"worker {one.number} {why} {self.cluster.restarts + 1} times over the same problems ({last}); give workers more memory or "
            "time (rl.cluster.timeout_s), or run without (rl.workers=0)"
        )


@contextmanager
def workers(
    cfg: RlConfig, lm: LM, *, system: str = "", virtual: int = 0, deterministic: bool = True
) -> Iterator[Workers]:
    """Workers for as long as the block is entered. A Ray that runs in this process already is used and left as it is.

    Raises:
        OrreryError: there is no cluster at the address.
    """
    settle_kernels(lm.model, fast=False)  # the trainer has no engine, and is compared with theirs
    with connected(cfg.cluster, cfg.workers, model_bytes(lm)):
        who = Workers(cfg, lm, system=system, virtual=virtual, deterministic=deterministic)
        try:
            yield who
        finally:
            who.end()


@contextmanager
def connected(cluster: Cluster, count: int, size: int) -> Iterator[None]:
    """Ray, quiet. On this machine it listens to this machine only, and ends with the block or with this process, however that ends."""
    if ray.is_initialized():
        yield
        return
    here: dict[str, Any] = {}
    if cluster.address == "local":
        here = {
            "num_cpus": count * cluster.threads, "object_store_memory": max(LEAST_STORE, 4 * size), "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",
        }  # fmt: skip
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        knock(cluster.address)
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR, **here)
    except (OSError, RuntimeError, ValueError) as error:
        raise OrreryError(f"there is no Ray at '{cluster.address}': {error}") from None
    try:
        if main:
            signal.signal(signal.SIGTERM, before)  # Ray puts its own in the place of what was there
        yield
    finally:
        ray.shutdown()
        if main:
            signal.signal(signal.SIGTERM, before)


def knock(address: str) -> None:
    """Whether anything listens at host:port; Ray itself tries for minutes.

    Raises:
        OSError: nothing does.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def model_bytes(lm: LM) -> int:
    """Of all weights."""
    return sum(p.numel() * p.element_size() for p in lm.model.parameters())
