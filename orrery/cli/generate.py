"""`orrery generate`: continue a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orrery.cli import sampling_options as options
from orrery.cli.common import MODEL, print_json, sampling_settings

if TYPE_CHECKING:
    from orrery.kit.lm import Completion, Grammar
    from orrery.serve.lm import LM


def generate(
    model: Annotated[Path, typer.Argument(help=MODEL)],
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", help="Text to continue (default: read standard input).")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="At most this many new tokens.", min=1)] = 128,
    stop: Annotated[list[str] | None, typer.Option(help="Stop before this text. Repeatable.")] = None,
    ignore_eos: Annotated[bool, typer.Option(help="Go on past the end-of-text token.")] = False,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    min_p: options.MinP = None,
    typical_p: options.TypicalP = None,
    xtc_probability: options.XtcProbability = None,
    xtc_threshold: options.XtcThreshold = None,
    seed: options.Seed = 0,
    repetition_penalty: options.RepetitionPenalty = None,
    presence_penalty: options.PresencePenalty = None,
    frequency_penalty: options.FrequencyPenalty = None,
    dry_multiplier: options.DryMultiplier = None,
    dry_base: options.DryBase = None,
    dry_allowed_length: options.DryAllowedLength = None,
    dry_breaker: options.DryBreaker = None,
    bad_word: options.BadWord = None,
    beams: options.Beams = 1,
    length_penalty: options.LengthPenalty = 1.0,
    contrastive_alpha: options.ContrastiveAlpha = None,
    n: options.Choices = 1,
    best_of: options.BestOf = None,
    regex: options.Regex = None,
    json_schema: options.JsonSchema = None,
    choice: options.Choice = None,
    logprobs: Annotated[
        int | None,
        typer.Option(help="Show each new token with its probability and this many alternatives.", min=0),
    ] = None,
    prompt_logprobs: Annotated[
        int | None, typer.Option(help="With --json: the same of the prompt's tokens.", min=0)
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document with ids and log-probabilities.")
    ] = False,
) -> None:
    """Continue a prompt with a model.

    Example: orrery generate runs/quickstart --prompt "def read_lines(path):"
    """
    import sys

    from orrery.cli.ranks import load
    from orrery.kit.errors import OrreryError

    if prompt is None:
        if sys.stdin.isatty():
            raise OrreryError('nothing to continue; add --prompt "some text" or pipe text in')
        prompt = sys.stdin.read()
    if prompt_logprobs is not None and not json:
        raise OrreryError("--prompt-logprobs has its place in the JSON document; add --json")
    grammar = _grammar(regex, json_schema, choice)
    lm = load(model)
    if contrastive_alpha and top_k is None:
        top_k = 4
    wanted = dict(
        temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p, typical_p=typical_p,
        xtc_probability=xtc_probability, xtc_threshold=xtc_threshold, repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty, frequency_penalty=frequency_penalty, dry_multiplier=dry_multiplier,
        dry_base=dry_base, dry_allowed_length=dry_allowed_length, dry_breakers=dry_breaker or None,
        bad_words=bad_word or None, contrastive_alpha=contrastive_alpha,
    )  # fmt: skip
    settings: dict[str, Any] = {
        **sampling_settings(lm, wanted, draws=beams == 1 and not contrastive_alpha),
        "max_tokens": max_tokens, "seed": seed, "stop": tuple(stop or ()), "ignore_eos": ignore_eos, "grammar": grammar,
    }  # fmt: skip
    if json or beams > 1 or n > 1 or best_of is not None or logprobs is not None:
        completion = lm.generate(
            prompt, num_beams=beams, length_penalty=length_penalty, n=n, best_of=best_of, logprobs=logprobs,
            prompt_logprobs=prompt_logprobs, **settings,
        )  # fmt: skip
        print_json({"prompt": prompt, **vars(completion)}) if json else _show(lm, prompt, completion)
        return
    print(prompt, end="", flush=True)
    for piece in lm.stream(prompt, **settings):
        print(piece, end="", flush=True)
    print()


def _grammar(regex: str | None, json_schema: Path | None, choice: list[str] | None) -> Grammar | None:
    import json

    from orrery.kit.errors import OrreryError
    from orrery.kit.lm import Grammar

    if sum(bool(given) for given in (regex, json_schema, choice)) > 1:
        raise OrreryError("a text has one shape: give one of --regex, --json-schema and --choice")
    if json_schema is not None:
        try:
            return Grammar(kind="json_schema", source=json_schema.read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise OrreryError(f"cannot read the schema {json_schema}: {error}") from None
    if choice:
        return Grammar(kind="choice", source=json.dumps(choice))
    return Grammar(kind="regex", source=regex) if regex else None


def _show(lm: LM, prompt: str, completion: Completion) -> None:
    """Every continuation, numbered where there are several, and what else could have been said where that was asked for."""
    import math

    several = (completion, *completion.others)
    for i, done in enumerate(several, 1):
        if len(several) > 1:
            print(f"--- {i} of {len(several)}, {sum(done.logprobs) / len(done.logprobs):.3f} nats a token")
        print(prompt + done.text)
        for id, logprob, top in zip(done.ids, done.logprobs, done.top_logprobs, strict=False):
            others = "  ".join(f"{_text(lm, other)} {math.exp(p):.1%}" for other, p in top.items())
            print(f"{_text(lm, id):>16} {math.exp(logprob):6.1%}   {others}")


def _text(lm: LM, id: int) -> str:
    return repr(lm.tokenizer.token_bytes(id).decode(errors="replace"))
