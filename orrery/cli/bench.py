"""`orrery bench`: measure what runs elsewhere."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Measure a server under load.")


@app.callback()
def _bench() -> None:
    pass


@app.command()
def serve(
    url: Annotated[
        str, typer.Argument(help="An OpenAI-compatible server: http://127.0.0.1:8000, with or without /v1.")
    ],
    rate: Annotated[
        str, typer.Option(help="Requests a second, one or several: 2,4,8. Each is a run of its own.")
    ] = "1,2,4",
    requests: Annotated[int, typer.Option(help="Requests at each rate.", min=1)] = 64,
    slo_ttft_ms: Annotated[
        float | None, typer.Option(help="Objective: milliseconds to the first piece of text.", min=0)
    ] = None,
    slo_itl_ms: Annotated[
        float | None, typer.Option(help="Objective: mean milliseconds between a request's tokens.", min=0)
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model to ask for (default: the first that the server lists).")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="ORRERY_API_KEY", help="Key that every request sends.")
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat/--no-chat", help="Ask /v1/chat/completions instead of /v1/completions.")
    ] = False,
    ignore_eos: Annotated[
        bool,
        typer.Option(
            "--ignore-eos/--no-ignore-eos", help="Ask for answers of the full length (not OpenAI's own)."
        ),
    ] = True,
    prompt_mean: Annotated[
        float | None, typer.Option(help="Mean tokens of a prompt (default: ShareGPT's, 161).", min=1)
    ] = None,
    answer_mean: Annotated[
        float | None, typer.Option(help="Mean tokens of an answer (default: ShareGPT's, 338).", min=1)
    ] = None,
    longest: Annotated[
        int, typer.Option(help="Tokens of prompt and answer together: the model's context.", min=8)
    ] = 2048,
    seed: Annotated[int, typer.Option(help="The same seed sends the same requests.")] = 0,
    timeout: Annotated[
        float, typer.Option(help="Seconds to wait for a piece of an answer.", min=0.1)
    ] = 600.0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Send requests as people would, at growing rates, and tell how long they wait. Ctrl-C tells what there is.

    Example: orrery bench serve http://127.0.0.1:8000 --rate 2,4,8 --slo-ttft-ms 500
    """
    import asyncio
    from dataclasses import replace

    from orrery.cli.common import live, print_json
    from orrery.kit.errors import MissingExtra
    from orrery.serve.load_lengths import SHAREGPT_ANSWER, SHAREGPT_PROMPT, Lengths

    try:
        from orrery.serve.load import load_test
        from orrery.serve.load_client import Endpoint
        from orrery.serve.load_report import LoadReport, Objective
    except ModuleNotFoundError as error:
        raise MissingExtra(str(error.name), "serve") from None

    lengths = Lengths(
        prompt=replace(SHAREGPT_PROMPT, mean=prompt_mean or SHAREGPT_PROMPT.mean),
        answer=replace(SHAREGPT_ANSWER, mean=answer_mean or SHAREGPT_ANSWER.mean),
        longest=longest,
    )
    rates = _rates(rate)

    async def test() -> LoadReport:
        endpoint = Endpoint(
            url, model=model, api_key=api_key, chat=chat, ignore_eos=ignore_eos, timeout_s=timeout
        )
        with live("load") as progress:
            found = await load_test(
                endpoint, rates=rates, requests=requests, lengths=lengths, seed=seed, progress=progress
            )
        objective = Objective(ttft_ms=slo_ttft_ms, itl_ms=slo_itl_ms)
        return LoadReport.of(
            found, url=endpoint.url, model=endpoint.model or "", seed=seed, objective=objective
        )

    try:
        report = asyncio.run(test())
    except KeyboardInterrupt:  # before there was anything to tell
        raise typer.Exit(130) from None
    if json:
        print_json(report.to_dict())
    else:
        from rich.console import Console

        Console().print(report.render())
    if report.interrupted:
        raise typer.Exit(130)


def _rates(given: str) -> list[float]:
    """ "2,4,8" as numbers."""
    from orrery.kit.errors import OrreryError

    try:
        return [float(part) for part in given.split(",")]
    except ValueError:
        raise OrreryError(f"--rate takes numbers with commas between, as 2,4,8, not '{given}'") from None
