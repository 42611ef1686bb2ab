"""`orrery serve`: a model behind an OpenAI-compatible HTTP interface."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orrery.cli.common import MODEL

if TYPE_CHECKING:
    from socket import socket

    from orrery.serve.http.lifecycle import Server
    from orrery.serve.lm import LM


def serve(
    model: Annotated[Path, typer.Argument(help=MODEL)],
    adapter: Annotated[
        list[str] | None,
        typer.Option(help="NAME=PATH of an adapter; requests name it as their model. Repeatable."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 is every one (then set a key).")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to listen at; 0 takes a free one.", min=0, max=65535)
    ] = 8000,
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            envvar="ORRERY_API_KEY", help="Key that every request must send. Repeatable: a tenant each."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What requests call the model (default: from MODEL).")
    ] = None,
    kv_dtype: Annotated[
        str, typer.Option(help="How keys and values are stored: float32, bfloat16, int8 or float8.")
    ] = "float32",
    kv_memory: Annotated[
        float | None, typer.Option(help="MiB for keys and values (default: enough, 1024 at most).", min=0.1)
    ] = None,
    max_sequences: Annotated[int, typer.Option(help="Sequences that run at once.", min=1)] = 64,
    queue: Annotated[
        int, typer.Option(help="Requests under way at once; more are told to come back (429).", min=1)
    ] = 128,
    token_budget: Annotated[
        int,
        typer.Option(
            help="Tokens a pass of the model reads at most: fewer answer a cancel sooner, more read prompts faster.",
            min=1,
        ),
    ] = 128,
    speculate: Annotated[
        str | None,
        typer.Option(
            help="Draft tokens: 'lookup' copies from the text, 'mtp' by the model's own heads, or a model folder."
        ),
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Faster kernels; a request's bytes may then depend on its company.")
    ] = False,
    checksums: Annotated[
        bool, typer.Option("--checksums", help="Find memory that changes by itself in what is cached; slow.")
    ] = False,
    prefix_cache: Annotated[
        bool, typer.Option("--prefix-cache/--no-prefix-cache", help="Keep what prompts have in common.")
    ] = True,
    max_tokens: Annotated[
        int | None, typer.Option(help="What a request may ask for (default: the context).", min=1)
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds a request may take.", min=0.1)] = 600.0,
    drain: Annotated[
        float, typer.Option(help="Seconds that requests get to finish after SIGTERM.", min=0.0)
    ] = 30.0,
    shadow: Annotated[
        str | None,
        typer.Option(
            help="A second model that is given what users asked after they were answered; the differences are counted at /shadow and "
            "/metrics."
        ),
    ] = None,
    otel: Annotated[
        bool, typer.Option("--otel", help="Send OpenTelemetry spans to OTEL_EXPORTER_OTLP_ENDPOINT.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="A line for each request (never what it says).")
    ] = False,
    log_prompts: Annotated[
        bool,
        typer.Option("--log-prompts", help="Write what people ask and what they are answered to the log."),
    ] = False,
) -> None:
    """Serve a model: OpenAI's endpoints, and a page to talk with it at /.

    Example: orrery serve gemma-3-270m --port 8000
    """
    from orrery.cli.ranks import load
    from orrery.kit.errors import OrreryError
    from orrery.kit.log import console
    from orrery.serve.adapters import named_folders, put_beside
    from orrery.serve.http.settings import LOOPBACK

    folders = named_folders(adapter or [])
    keys = tuple(key for key in api_key or () if key)
    server_of, reserve = _server_maker()
    if not keys and host not in LOOPBACK:
        raise OrreryError(
            f"others could use a server at {host}; give it a key with --api-key or ORRERY_API_KEY, or listen at 127.0.0.1"
        )
    with reserve(host, port) as address:
        called = name or _name_of(model)
        with console.status(f"opening {model} ..."):
            lm = load(model)
            for adapter_name, folder in folders.items():
                put_beside(lm, folder, adapter_name)
            second = None if shadow is None else load(Path(shadow))
        with console.status("setting the engine up ..."):
            server = server_of(
                lm,
                called,
                engine=dict(
                    kv_dtype=kv_dtype,
                    kv_memory=None if kv_memory is None else int(kv_memory * (1 << 20)),
                    max_sequences=max_sequences,
                    max_queue=queue * 16,
                    token_budget=token_budget,
                    prefix_cache=prefix_cache,
                    fast=fast,
                    checksums=checksums,
                    speculation=_drafting(speculate),
                ),
                settings=dict(
                    host=host,
                    port=port,
                    api_keys=keys,
                    max_requests=queue,
                    max_tokens=max_tokens or lm.context,
                    request_timeout_s=timeout,
                    drain_s=drain,
                    tracing=otel,
                    log_prompts=log_prompts,
                ),
                shadow=_shadow(second, shadow, lm),
            )
        _run(server, address, lm, called, key=bool(keys), verbose=verbose or log_prompts)


def _server_maker() -> tuple[Any, Any]:
    """A function that puts engine, application and server together, and one that reserves an address.

    Raises:
        MissingExtra: the `serve` extra is not installed.
    """
    from orrery.kit.errors import MissingExtra

    try:
        from orrery.serve.http.app import make_app
        from orrery.serve.http.lifecycle import Server, reserve
    except ModuleNotFoundError as error:
        raise MissingExtra(str(error.name), "serve") from None

    def made(
        lm: LM, name: str, *, engine: dict[str, Any], settings: dict[str, Any], shadow: Any = None
    ) -> Server:
        from orrery.cli.ranks import shared
        from orrery.kit.config import resolve
        from orrery.serve.engine.async_engine import AsyncEngine
        from orrery.serve.engine.config import EngineConfig
        from orrery.serve.engine.engine import Engine
        from orrery.serve.http.settings import ServerSettings

        limits = resolve(ServerSettings, settings, "the settings of the server")
        config = resolve(EngineConfig, engine, "the settings of the engine")
        app = make_app(AsyncEngine(shared(Engine(lm, config))), settings=limits, name=name, shadow=shadow)
        return Server(app, limits)

    return made, reserve


def _shadow(lm: LM | None, name: str | None, served: LM) -> Any:
    """The second model behind the first, where one is named.

    Raises:
        OrreryError: another vocabulary, or several processes, which cannot take steps for it alone.
    """
    if lm is None or name is None:
        return None
    import os

    from orrery.kit.errors import OrreryError
    from orrery.serve.http.shadow import Shadow

    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise OrreryError("a shadow runs in one process; serve without torchrun, or without --shadow")
    return Shadow(lm, name=_name_of(Path(name)), served=served)


def _run(server: Server, address: socket, lm: LM, name: str, *, key: bool, verbose: bool) -> None:
    """Listen until a signal ends it."""
    import logging
    import threading
    import time

    from orrery.kit.log import console
    from orrery.serve.http.log import Lines

    dropped = server.app.state.service.metrics.log_dropped.inc
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[Lines(dropped)])
    if not verbose:
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # nothing about clients that speak no HTTP

    def tell() -> None:
        while not (server.started or server.should_exit):
            time.sleep(0.02)
        if server.started:
            console.print(
                _greeting(server.url, lm, name, key=key), markup=True, highlight=False, soft_wrap=True
            )

    threading.Thread(target=tell, daemon=True).start()
    server.run(sockets=[address])
    if server.forced:
        raise typer.Exit(1)


def _greeting(url: str, lm: LM, name: str, *, key: bool) -> str:
    """Where it listens, and a first request to copy."""
    header = " -H 'Authorization: Bearer KEY'" if key else ""
    if lm.chat is None:
        path, body = "completions", f'{{"model": "{name}", "prompt": "Once upon a time", "max_tokens": 64}}'
    else:
        path = "chat/completions"
        body = f'{{"model": "{name}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
    return (
        f"a page to talk with it: {url}/    OpenAI's interface: {url}/v1    what it does: {url}/metrics\n\n"
        f"    curl {url}/v1/{path}{header} -H 'Content-Type: application/json' \\\n      -d '{body}'\n\n"
        "Ctrl-C lets requests under way finish, a second one ends at once"
    )


def _name_of(model: Path) -> str:
    """gemma-3-270m, the folder's or the file's name."""
    return model.name.removesuffix(".gguf") or model.resolve().name


def _drafting(given: str | None) -> dict[str, Any] | None:
    """What --speculate says as a recipe would."""
    if given is None:
        return None
    if given in ("lookup", "mtp"):
        return {"kind": given}
    return {"kind": "draft_model", "model": given}
