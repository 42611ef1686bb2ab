"""The engine and its server on several machines, by Ray Serve (extra `cluster`): equal replicas behind a router that knows prefixes.

    serve run orrery.serve.cluster.deploy:application model=gemma-3-270m replicas=2        (Ray's command line)
    url = deploy(ClusterConfig(model="runs/quickstart", replicas=2))                             (from Python)

    caller -> Ray's HTTP proxy -> Gateway -> PrefixRouter (serve.cluster.router) -> Replica: the application of `orrery serve`

Every replica is a process with the whole model, its own engine and its own cache. MODEL must be found under the same name on every
machine. Limits, keys and errors are those of `orrery serve`; `max_requests` holds for each replica. /metrics, /health and the
like are answered by one replica, which the header x-orrery-replica names.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from orrery.kit.config import config, resolve
from orrery.kit.errors import MissingExtra, OrreryError
from orrery.serve.cluster.bridge import Head, HttpRequest, answer
from orrery.serve.cluster.router import Router
from orrery.serve.engine.config import EngineConfig
from orrery.serve.http.settings import ServerSettings

try:
    import ray
    from ray import serve
    from ray.serve.config import RequestRouterConfig
    from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica
except ModuleNotFoundError as error:
    raise MissingExtra(str(error.name), "cluster") from None

from starlette.requests import Request
from starlette.responses import StreamingResponse

REPLICA = b"x-orrery-replica"


@config
class ClusterConfig:
    """Attributes:
    model: as `orrery.load` takes it. name: what requests call it; None: as `model`.
    replicas: processes with the whole model. cpus: cores that Ray sets aside for each.
    slack: see `serve.cluster.router.choose`.
    server: limits and keys of each replica; host and port are where Ray's proxy listens.
    """

    model: str
    name: str | None = None
    replicas: int = 2
    cpus: float = 1.0
    slack: float = 1.25
    engine: EngineConfig = EngineConfig()
    server: ServerSettings = ServerSettings()

    def __post_init__(self) -> None:
        if self.replicas < 1 or self.slack < 1:
            raise OrreryError(
                f"a cluster has a replica or more and a slack of 1 or more, not {self.replicas} and {self.slack}"
            )


class PrefixRouter(RequestRouter):
    """Ray asks it for every request which replicas to try, best first."""

    def initialize_state(self, slack: float = 1.25) -> None:  # type: ignore[bad-override]
        """Once, before the first request."""
        self.prefixes = Router(slack=slack)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """The chosen one, then the others, for where it takes no more."""
        if pending_request is None:
            return [candidate_replicas]
        pending_request.routing_context.should_backoff = True  # wait between rounds in which all are full
        self.prefixes.update([_name(replica.replica_id) for replica in candidate_replicas])
        best = self.prefixes.choose(pending_request.kwargs["digests"])
        return [
            [r for r in candidate_replicas if _name(r.replica_id) == best],
            [r for r in candidate_replicas if _name(r.replica_id) != best],
        ]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        """It has gone there."""
        self.prefixes.sent(_name(replica_id), pending_request.kwargs["digests"])

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """It has ended."""
        self.prefixes.done(_name(replica_id))


class Replica:
    """A process with a model, an engine and the application of `orrery serve`."""

    def __init__(self, cluster: ClusterConfig) -> None:
        import orrery
        from orrery.serve.engine.async_engine import AsyncEngine
        from orrery.serve.engine.engine import Engine
        from orrery.serve.http.app import make_app

        self.engine = AsyncEngine(Engine(orrery.load(cluster.model), cluster.engine))
        self.app = make_app(self.engine, settings=cluster.server, name=cluster.name or cluster.model)
        self.engine.start()
        self.label = serve.get_replica_context().replica_id.unique_id.encode()

    async def handle(self, request: HttpRequest, *, digests: list[bytes]) -> AsyncIterator[Head | bytes]:
        """The answer in pieces, the head first. `digests` are the router's."""
        async with aclosing(answer(self.app, request)) as parts:  # type: ignore[bad-argument-type]
            async for part in parts:
                named = isinstance(part, Head)
                yield replace(part, headers=(*part.headers, (REPLICA, self.label))) if named else part

    def check_health(self) -> None:
        """Ray asks now and then, and replaces a replica that raises."""
        if not self.engine.alive:
            raise RuntimeError("the engine's thread has ended")


class Gateway:
    """Takes requests from Ray's proxy, and gives them to the replica that the router picks."""

    def __init__(self, replicas: Any) -> None:
        self.replicas = replicas.options(method_name="handle", stream=True)

    async def __call__(self, request: Request) -> StreamingResponse:
        """One request; what it asks is looked at by the replica alone."""
        whole = HttpRequest(
            method=request.method,
            path=request.url.path,
            query=request.url.query.encode(),
            headers=tuple(request.headers.raw),
            body=await request.body(),
        )
        parts = self.replicas.remote(whole, digests=whole.digests())
        head = await anext(parts)
        reply = StreamingResponse(parts, status_code=head.status)
        reply.raw_headers = list(head.headers)
        return reply


def application(settings: dict[str, Any] | ClusterConfig) -> Any:
    """What Ray Serve runs; its command line gives settings as texts.

    Raises:
        OrreryError: settings that mean nothing.
    """
    import yaml

    if isinstance(settings, dict):
        plain = {
            name: yaml.safe_load(value) if isinstance(value, str) else value
            for name, value in settings.items()
        }
        settings = resolve(ClusterConfig, plain, "the settings of the cluster")
    replicas = serve.deployment(
        Replica,
        num_replicas=settings.replicas,
        max_ongoing_requests=2 * settings.server.max_requests,  # the application itself refuses, and says how
        ray_actor_options={"num_cpus": settings.cpus},
        request_router_config=RequestRouterConfig(
            request_router_class=PrefixRouter, request_router_kwargs={"slack": settings.slack}
        ),
    ).bind(settings)
    gateway = serve.deployment(Gateway, max_ongoing_requests=100_000, ray_actor_options={"num_cpus": 0})
    return gateway.bind(replicas)


def deploy(cluster: ClusterConfig) -> str:
    """Start it, on the Ray cluster of this session or on this machine; returns where it listens when all replicas are ready.

    Raises:
        OrreryError: settings that mean nothing.
    """
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": cluster.server.host, "port": cluster.server.port})
    serve.run(application(cluster), name="orrery", route_prefix="/")
    return f"http://{cluster.server.host}:{cluster.server.port}"


def _name(replica: ReplicaID) -> str:
    return replica.unique_id
